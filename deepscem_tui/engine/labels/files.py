"""The label files of a sample: which labels they hold, read slab by slab.

A label has a file of its own, or several that are added up (``a.tif+b.tif``); or one file holds all of them: classes,
colours, ids (see :mod:`deepscem_tui.engine.labels.encodings`). A file may be a folder or a pattern of slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats.slice_files import ColourVolume, open_slices
from deepscem_tui.engine.formats.volumes import LabelValues, Volume
from deepscem_tui.engine.labels.encodings import (
    Above,
    Boundaries,
    Encoding,
    Named,
    Shares,
    look_at,
    named,
    proposed,
    value_text,
)

__all__ = ["Found", "LabelOptions", "LabelSource", "OpenedLabels", "label_paths", "open_labels"]

_EXAMPLE = "Give one file for each, in order"


@dataclass(frozen=True)
class LabelOptions:
    """What label files mean.

    Args:
        classes: Names of labels and the values, or colours 0xRRGGBB, that they have in the only file; None for a file a
            label.
        colours: Whether these are colours.
        threshold: Above which a voxel is foreground; None for above 0.
        instances: Whether values are ids: ``"foreground"`` for any of them, ``"boundaries"`` for a second label where
            two ids touch.
        ignore_value: Value where nothing is labelled.
    """

    classes: tuple[tuple[str, int], ...] | None = None
    colours: bool = False
    threshold: float | None = None
    instances: Literal["none", "foreground", "boundaries"] = "none"
    ignore_value: int | None = None

    @property
    def one_file(self) -> bool:
        """Whether one file holds all labels."""
        return self.classes is not None or self.instances == "boundaries"


@dataclass
class Found:
    """What was found of a label while it was read.

    Attributes:
        foreground: Voxels.
        shown: For each slice whether it has any.
    """

    foreground: int = 0
    shown: list[bool] = field(default_factory=list)


class LabelSource:
    """Files that some labels are made of.

    Attributes:
        volumes: One, or several that are added up.
        labels: Numbers of the labels.
        ids: Whether values are ids of objects.
        values: Of the voxels that were read.
        shares: How many of these have each value, where they are of 8 bits.
        ignored: How many had the value that stands for no label.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        labels: Sequence[int],
        encoding: Encoding,
        ignore_value: int | None,
        ids: bool = False,
    ) -> None:
        self.volumes, self.labels, self.encoding, self.ids = tuple(volumes), tuple(labels), encoding, ids
        self.values, self.shares, self.ignored = LabelValues(), Shares(), 0
        self._ignore_value = ignore_value

    @property
    def name(self) -> str:
        """Of the files, for messages."""
        return "+".join(str(volume.path) for volume in self.volumes)

    @property
    def file_names(self) -> str:
        """Without their folders."""
        return "+".join(volume.name for volume in self.volumes)

    @property
    def nbytes(self) -> int:
        return sum(volume.nbytes for volume in self.volumes)

    @property
    def coloured(self) -> bool:
        """Whether values are colours."""
        return isinstance(self.volumes[0], ColourVolume)

    @property
    def values_text(self) -> str:
        """The values that were found, such as ``0, 1, 2``."""
        if not self.coloured:
            return str(self.values)
        more = " and more" if self.values.more else ""
        return ", ".join(value_text(int(value), True) for value in self.values.values) + more

    def read(self, z0: int, z1: int, found: Sequence[Found]) -> list[npt.NDArray[np.uint8]]:
        """The labels of slices z0:z1, each (n, Y, X), 0 and 1, in the order of :attr:`labels`.

        Args:
            z0, z1: Slices; each is to be read once.
            found: Of all labels of the sample, to be added to.

        Raises:
            VolumeError: a file is damaged.
        """
        margin, depth = self.encoding.margin, self.volumes[0].shape[0]
        first, last = max(0, z0 - margin), min(depth, z1 + margin)
        inner = slice(z0 - first, z1 - first)
        masks: list[npt.NDArray[np.bool_]] = []
        for volume in self.volumes:
            slab = volume.read(first, last)
            if self._ignore_value is not None:
                left_out = slab == self._ignore_value
                self.ignored += int(np.count_nonzero(left_out[inner]))
                slab = np.where(left_out, slab.dtype.type(0), slab)
            self.values.update(slab[inner])
            if slab.dtype == np.uint8:
                self.shares.add(slab[inner])
            made = [mask[inner] for mask in self.encoding.masks(slab)]
            masks = [one | other for one, other in zip(masks, made, strict=True)] if masks else made
        for label, mask in zip(self.labels, masks, strict=True):
            found[label].foreground += int(np.count_nonzero(mask))
            found[label].shown += [bool(slice_.any()) for slice_ in mask]
        return [mask.view(np.uint8) for mask in masks]

    def ignored_in(self, z0: int, z1: int) -> npt.NDArray[np.bool_]:
        """Which voxels of slices (n, Y, X) have the value that stands for no label in any file."""
        result: npt.NDArray[np.bool_] = np.any(
            [volume.read(z0, z1) == self._ignore_value for volume in self.volumes], axis=0
        )
        return result

    def warnings(self, names: Sequence[str]) -> list[str]:
        """What is unusual in what was read, to be said after the files' name.

        Args:
            names: Of all labels of the sample.
        """
        name = names[self.labels[0]]
        if isinstance(self.encoding, Named):
            return self._of_classes()
        if isinstance(self.encoding, Above) and self.encoding.threshold:
            share = f"{self.shares.between:,} voxels ({100 * self.shares.between / max(1, self.values.voxels):.3g} %)"
            between = f"{share} lie between 0 and {max(self.shares.counts, default=0)}; " if self.shares.between else ""
            return [f"{between}those above {self.encoding.threshold:g} are {name}"]
        if isinstance(self.encoding, Boundaries) or self.ids or self.values.usual:
            return []
        text = f"it has the values {self.values_text}; every voxel above 0 is {name}"
        if self.shares.soft:
            most = max(self.shares.counts)
            text += (
                f". {self.shares.between:,} voxels lie between 0 and {most}, as at soft edges: "
                f"--label-threshold {most // 2} takes the brighter half of these"
            )
        return [text]

    def _of_classes(self) -> list[str]:
        assert isinstance(self.encoding, Named)
        wanted = [value for values in self.encoding.values for value in values]
        others = [int(value) for value in self.values.values if value and value not in wanted]
        missing = [value for value in wanted if value not in self.values.values and not self.values.more]
        texts = []
        if others:
            more = " and more" if self.values.more else ""
            listed = ", ".join(value_text(value, self.coloured) for value in others)
            texts.append(f"its values {listed}{more} are no label: they become background")
        if missing:
            listed = ", ".join(value_text(value, self.coloured) for value in missing)
            texts.append(f"no voxel has the value {listed} of --classes")
        return texts


@dataclass(frozen=True)
class OpenedLabels:
    """The label files of a sample.

    Args:
        sources: Of the labels that are not blank.
        names: Of all labels.
        new_names: Whether the data set has to be given these.
    """

    sources: tuple[LabelSource, ...]
    names: tuple[str, ...]
    new_names: bool = False

    def source_of(self, label: int) -> LabelSource | None:
        """Where a label comes from; None if it is blank."""
        return next((source for source in self.sources if label in source.labels), None)


def label_paths(given: str) -> list[Path]:
    """The files that are named, ``a.tif+b.tif`` for two of a label, unless a file is called so."""
    if "+" not in given or Path(given).exists():
        return [Path(given)]
    return [Path(part.strip()) for part in given.split("+") if part.strip()]


def open_labels(
    given: Sequence[str], names: Sequence[str], named_already: bool, options: LabelOptions, files: ExitStack, owner: str
) -> OpenedLabels:
    """Open the label files of a sample.

    Args:
        given: One for each label, "" for a blank one; or one file that holds all.
        names: Of the data set's labels.
        named_already: Whether the data set has names of its own, or samples: if not, those of the classes become its.
        options: What the files mean.
        files: Closes them.
        owner: The data set, for messages.

    Raises:
        ParameterError: there are too many files or too few, with what could be meant; or a name is no label's.
        VolumeError: a file cannot be read.
    """
    wanted = [item for item in given if item]

    def opened(item: str) -> list[Volume]:
        slices = (open_slices(path, colours=True, tables=options.colours) for path in label_paths(item))
        return [files.enter_context(volume) for volume in slices]

    if options.one_file:
        if len(wanted) != 1:
            option = "classes" if options.classes is not None else "instances"
            what = f"--{option} is for one file with all labels, but {words.counted(len(wanted), 'file')} are given"
            raise ParameterError(what, "Give one.", "labels")
        return _of_one_file(opened(wanted[0]), names, named_already, options, owner)
    if len(given) != len(names):
        listed = f" ({', '.join(names)})" if names else ""
        were = "was" if len(given) == 1 else "were"
        what = f"{owner} has {words.counted(len(names), 'label')} a sample{listed}, but {len(given)} {were} given"
        hint = f'{_EXAMPLE}; "" for a blank one.' if names else ""
        if len(wanted) == 1 and names:
            shares = look_at(opened(wanted[0])[0])
            hint += f" {wanted[0]} has the values {shares}: if these are the labels, {proposed(shares, names)}"
        raise ParameterError(what, hint, "labels")
    encoding = Above(options.threshold or 0)
    sources = []
    for index, item in enumerate(given):
        if item:
            volumes = opened(item)
            ids = options.instances == "foreground"
            if isinstance(volumes[0], ColourVolume) and not ids:
                _refuse_colours(volumes[0], names[index : index + 1], options.ignore_value)
            sources.append(LabelSource(volumes, [index], encoding, options.ignore_value, ids))
    return OpenedLabels(tuple(sources), tuple(names))


def _refuse_colours(volume: Volume, names: Sequence[str], ignore_value: int | None) -> None:
    """Raise if a picture has colours of which it is not plain what they stand for: more than one besides black."""
    shares = look_at(volume)
    if len(set(shares.counts) - {0, ignore_value}) > 1:
        what = f"{volume.path} is a colour image with the colours {shares}"
        raise ParameterError(what, f"Say which are labels, such as {proposed(shares, names)}", "labels")


def _of_one_file(
    volumes: Sequence[Volume], names: Sequence[str], named_already: bool, options: LabelOptions, owner: str
) -> OpenedLabels:
    has = f"{owner} has {words.counted(len(names), 'label')} a sample ({', '.join(names)})"
    if options.classes is None:
        if len(names) != 2:
            what = f"--instances boundaries makes two labels, the ids and their boundaries, but {has}"
            raise ParameterError(what, "Use a data set of two labels, or --instances foreground.", "instances")
        return OpenedLabels((LabelSource(volumes, [0, 1], Boundaries(), options.ignore_value),), tuple(names))
    if options.colours != isinstance(volumes[0], ColourVolume):
        shares = look_at(volumes[0])
        kind = "colours, such as mito=#ff0000" if not options.colours else "values, such as mito=1"
        what = f"{volumes[0].path} has the {'colours' if shares.coloured else 'values'} {shares}"
        raise ParameterError(what, f"--classes must be {kind}: {proposed(shares, names)}", "classes")
    given = tuple(dict.fromkeys(name for name, _ in options.classes))
    new_names = not named_already and len(given) == len(names) and not set(given) <= set(names)
    known = given if new_names else tuple(names)
    strange = [name for name in given if name not in known]
    if strange:
        raise ParameterError(f"--classes names {words.listed(strange)}, but {has}", "Use these names.", "classes")
    encoding = named(options.classes, known)
    return OpenedLabels(
        (LabelSource(volumes, range(len(known)), encoding, options.ignore_value),), known, new_names
    )  # fmt: skip
