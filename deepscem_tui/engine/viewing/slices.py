"""What a viewer shows of a volume: a part of one plane with the labels and predictions in it, and values at a voxel.

Everything here opens the file, reads, and closes it; what is given is immutable. Only what is shown is read, reduced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import AXES, Plane
from deepscem_tui.engine.datasets.dataset import open_dataset, real_path
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in, mask_file
from deepscem_tui.engine.datasets.samples import Dataset, Sample
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.errors import DataError, DatasetError, EngineError, LockedError, ResourceError
from deepscem_tui.engine.evaluation.thresholds import UNTUNED
from deepscem_tui.engine.formats.slice_files import open_slices, volume_name
from deepscem_tui.engine.sources.inputs import is_image_file
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.lock import holder
from deepscem_tui.engine.viewing.slice_sources import MemberVoxels, Part, VolumeVoxels, Voxels, uncached

__all__ = [
    "ArraySlices",
    "FileSlices",
    "Layer",
    "Part",
    "SliceData",
    "SliceFacts",
    "SliceSource",
    "SliceTarget",
]

LayerKind = Literal["label", "prediction", "distance", "reference", "ignored"]

_IMAGE = "image"
IGNORED = "ignored"  # the layer of what nobody has labelled


@dataclass(frozen=True)
class SliceTarget:
    """What to look at.

    Args:
        path: A data set or an image file.
        sample: Of the data set; its first if not given.
        reference: A data set with the true labels: of the sample of that name, or of its only sample.
    """

    path: Path
    sample: str | None = None
    reference: Path | None = None


@dataclass(frozen=True)
class Layer:
    """Something that is drawn on the image.

    Args:
        key: Name of the array, such as ``label_0000``; ``reference_0000`` for the true labels.
        name: Its alias, and what kind it is where that is not plain.
        kind: Of the array.
        probability: Whether it holds values from 0 to 1 to be cut at a threshold.
        threshold: Where it is cut unless somebody chooses otherwise; a layer stays the same when it changes.
    """

    key: str
    name: str
    kind: LayerKind
    probability: bool = False
    threshold: float = field(default=UNTUNED, compare=False)

    @property
    def usual(self) -> bool:
        """Whether it is drawn unless it is switched off."""
        return self.kind in ("label", "prediction", "ignored")


@dataclass(frozen=True)
class SliceFacts:
    """What is known of a volume.

    Args:
        title: Name of the sample or of the file.
        shape: (Z, Y, X).
        voxel_size: Z, Y, X in ``voxel_unit``; None if not known.
        voxel_unit: Such as "nm"; empty if not known.
        stored: Type of the image's voxels, such as "float16"; empty where there is no image.
        layers: In the order in which they are drawn.
        compared: Pairs of a layer and its reference, by their keys, with the label's name.
        no_comparison: Why there are no such pairs.
        notes: What is unusual about the file.
    """

    title: str
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float] | None = None
    voxel_unit: str = ""
    stored: str = ""
    layers: tuple[Layer, ...] = ()
    compared: tuple[tuple[str, str, str], ...] = ()
    no_comparison: str = ""
    notes: tuple[str, ...] = ()

    @property
    def has_image(self) -> bool:
        """Whether there are grey values."""
        return bool(self.stored)

    def aspect(self, plane: Plane) -> float:
        """Height of a voxel divided by its width, as the plane is drawn."""
        _, down, across = AXES[plane]
        return self.voxel_size[down] / self.voxel_size[across] if self.voxel_size else 1.0

    def fitted(self, part: Part) -> Part:
        """The part moved into the volume: it may have become smaller since."""
        fixed, down, across = (self.shape[axis] for axis in AXES[part.plane])
        rows, columns = _within(part.rows, down), _within(part.columns, across)
        return replace(part, index=min(max(part.index, 0), fixed - 1), rows=rows, columns=columns)


@dataclass(frozen=True)
class SliceData:
    """A part of a plane as it was read.

    Args:
        facts: Of the volume at that time.
        part: What was read, within the volume.
        image: Grey values (rows, columns), of the type in which they are stored; None where there is no image.
        masks: Values (rows, columns) of the layers that were asked for, by their keys; each array may have a size of
            its own, and stands for the same part.
        sampled: Whether some voxels were left out rather than averaged.
    """

    facts: SliceFacts
    part: Part
    image: npt.NDArray[Any] | None
    masks: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    sampled: bool = False


class SliceSource(Protocol):
    """Where slices come from. Every call may be made from another thread, one at a time."""

    def facts(self) -> SliceFacts:
        """What is known of the volume."""

    def read(self, part: Part, layers: Sequence[str], stop: Stop | None = None) -> SliceData:
        """A part of a plane; of the layers, those that (still) exist.

        Raises:
            Stopped: on request, when nobody wants it any more.
        """

    def values(self, voxel: tuple[int, int, int]) -> dict[str, float]:
        """Values at (z, y, x): of ``image``, if there is one, and of every layer, by key."""


class FileSlices:
    """Slices of a sample of a data set, or of an image file, which is open only while something is read.

    Every method raises :class:`LockedError` at once while the data set is being changed, and another
    :class:`EngineError` if the file cannot be used.
    """

    def __init__(self, target: SliceTarget) -> None:
        self.target = target

    def facts(self) -> SliceFacts:
        with self._opened() as (facts, _):
            return facts

    def read(self, part: Part, layers: Sequence[str], stop: Stop | None = None) -> SliceData:
        with self._opened() as (facts, opened):
            part, stop = facts.fitted(part), stop or Stop()
            image, sampled = opened.voxels(_IMAGE).image(part, stop) if facts.has_image else (None, False)
            masks = {}
            for layer in facts.layers:
                if layer.key in layers:
                    masks[layer.key], less = opened.voxels(layer.key).mask(part, stop)
                    sampled |= less
            return SliceData(facts, part, image, masks, sampled)

    def values(self, voxel: tuple[int, int, int]) -> dict[str, float]:
        with self._opened() as (facts, opened):
            if any(not 0 <= index < size for index, size in zip(voxel, facts.shape, strict=True)):
                return {}
            keys = [_IMAGE] * facts.has_image + [layer.key for layer in facts.layers]
            return {key: opened.voxels(key).at(voxel) for key in keys}

    @contextmanager
    def _opened(self) -> Iterator[tuple[SliceFacts, _Opened]]:
        path = self.target.path
        try:
            with ExitStack() as files:
                yield _open_image(files, path) if is_image_file(path) else _open_sample(files, self.target)
        except EngineError:
            raise
        except MemoryError as error:
            raise ResourceError(f"There is not enough memory to show {path}", "Zoom in to see a part of it.") from error
        except (OSError, RuntimeError, KeyError) as error:  # h5py's, of a file that changes under it
            raise DataError(f"{path} cannot be read: {words.reason(error)}", "Try again.") from error


class ArraySlices:
    """A slice that is in memory already.

    Args:
        image: (Y, X), uint8 or float; None for plain grey.
        masks: (L, Y, X): masks (bool, or 0 and 1), or probabilities as floats from 0 to 1 or uint8 from 0 to 255.
        names: Of the labels, one a mask.
        reference: True masks (L, Y, X), if known.
        title: What is shown.
        probabilities: Whether uint8 masks are probabilities; floats always are.
        thresholds: Where these are cut, one a mask; none for 0.5.
    """

    def __init__(
        self,
        image: npt.NDArray[Any] | None,
        masks: Sequence[npt.NDArray[Any]],
        names: Sequence[str],
        reference: Sequence[npt.NDArray[Any]] | None = None,
        title: str = "",
        probabilities: bool = False,
        thresholds: Sequence[float] = (),
    ) -> None:
        true = () if reference is None else tuple(reference)
        shapes = {np.shape(array) for array in (*(() if image is None else (image,)), *masks, *true)}
        if len(shapes) != 1 or len(names) != len(masks) or len(true) not in (0, len(masks)):
            raise ValueError(f"an image, {len(masks)} masks and {len(names)} names of shapes {sorted(shapes)}")
        height, width = shapes.pop()
        self._image = image
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        layers = []
        for index, (mask, name) in enumerate(zip(masks, names, strict=True)):
            floating = mask.dtype.kind == "f" or (probabilities and mask.dtype == np.uint8)
            key = member_name("prediction", index)
            self._arrays[key] = mask / np.float32(255) if floating and mask.dtype == np.uint8 else mask
            layers.append(Layer(key, name, "prediction", floating, thresholds[index] if thresholds else UNTUNED))
        for index, mask in enumerate(true):
            self._arrays[_reference_key(index)] = mask
            layers.append(Layer(_reference_key(index), f"true {names[index]}", "reference"))
        pairs = tuple((member_name("prediction", i), _reference_key(i), names[i]) for i in range(len(true)))
        self._facts = SliceFacts(
            title,
            (1, height, width),
            stored="" if image is None else str(image.dtype),
            layers=tuple(layers),
            compared=pairs,
            no_comparison="" if pairs else "There is no reference to compare with",
        )

    def facts(self) -> SliceFacts:
        return self._facts

    def read(self, part: Part, layers: Sequence[str], stop: Stop | None = None) -> SliceData:  # noqa: ARG002
        part = self._facts.fitted(replace(part, plane="xy", coarse=False))
        box = slice(*part.rows), slice(*part.columns)
        masks = {key: array[box] for key, array in self._arrays.items() if key in layers}
        return SliceData(self._facts, part, None if self._image is None else self._image[box], masks)

    def values(self, voxel: tuple[int, int, int]) -> dict[str, float]:
        place = voxel[1:]
        image = {} if self._image is None else {_IMAGE: float(self._image[place])}
        return image | {key: float(array[place]) for key, array in self._arrays.items()}


# ------------------------------------------------------------------------------------------------ opening


class _Opened:
    """The arrays of a volume while its file is open; one that is not asked for is not opened."""

    def __init__(
        self,
        places: Mapping[str, tuple[Dataset, str, str]],
        volume: Voxels | None = None,
        ignored: Ignored | None = None,
    ) -> None:
        self._places, self._volume, self._ignored = places, volume, ignored

    def voxels(self, key: str) -> Voxels:
        if self._volume is not None and key == _IMAGE:
            return self._volume
        if self._ignored is not None and key == IGNORED:
            return MemberVoxels(self._ignored)
        dataset, sample, member = self._places[key]
        return MemberVoxels(uncached(dataset, sample, member, f"Sample {sample!r} of {dataset.path}, {member},"))


def _open_image(files: ExitStack, path: Path) -> tuple[SliceFacts, _Opened]:
    volume = files.enter_context(open_slices(path, colours=False))
    facts = SliceFacts(
        volume_name(path),
        volume.shape,
        volume.voxel_size,
        volume.voxel_unit,
        str(volume.dtype),
        no_comparison="An image file has no labels to compare",
        notes=volume.warnings,
    )
    return facts, _Opened({}, VolumeVoxels(volume))


def _open_sample(files: ExitStack, target: SliceTarget) -> tuple[SliceFacts, _Opened]:
    dataset = _open_unlocked(files, target.path)
    sample = _sample(dataset, target.sample)
    layers = _layers(dataset, sample)
    places = {key: (dataset, sample.name, key) for key in (_IMAGE, *(layer.key for layer in layers))}
    found = [layer for layer in layers if layer.kind == "prediction"]
    pairs, problem = _own_pairs(layers), "There is no reference to compare with"
    if target.reference is not None:
        found = found or [layer for layer in layers if layer.kind == "label"]
        true, problem = _reference(files, target.reference, sample, len(found))
        for index, (layer, place) in enumerate(zip(found, true, strict=False)):
            key, name = _reference_key(index), _name(dataset, index)
            layers.append(Layer(key, f"true {name}", "reference"))
            places[key] = place
            pairs = [*(pairs if index else []), (layer.key, key, name)]
    ignored, note = _ignored(sample if target.reference is None or not pairs else _true_sample(places, pairs))
    if ignored is not None:
        layers.append(Layer(IGNORED, "not labelled", "ignored"))
    image = sample.members.get(_IMAGE)
    facts = SliceFacts(
        sample.name,
        sample.shape,
        sample.voxel_size,
        sample.voxel_unit,
        str(image.dtype) if image is not None else "",
        tuple(layers),
        tuple(pairs),
        "" if pairs else problem,
        (note,) if note else (),
    )
    return facts, _Opened(places, ignored=ignored)


def _true_sample(places: Mapping[str, tuple[Dataset, str, str]], pairs: Sequence[tuple[str, str, str]]) -> Sample:
    """The sample that the true labels are from."""
    dataset, name, _ = places[pairs[0][1]]
    return dataset.sample(name)


def _ignored(sample: Sample) -> tuple[Ignored | None, str]:
    """What of a sample is not labelled; or none, and why: the sample is shown all the same."""
    try:
        ignored = ignored_in(sample)
        if ignored is not None and ignored.mask:
            changing = holder(mask_file(sample.path))
            if changing is not None:
                raise LockedError(f"{mask_file(sample.path)} is being changed by {changing}", "It is shown again then.")
            ignored.check()
    except LockedError:
        raise
    except EngineError as error:
        return None, error.what
    return ignored, ""


def _open_unlocked(files: ExitStack, path: Path) -> Dataset:
    """Open a data set; a viewer tells at once that it is being changed, and comes again later."""
    changing = holder(real_path(path))
    if changing is not None:
        raise LockedError(f"{path} is being changed by {changing}", "It is shown again when that has finished.")
    return files.enter_context(open_dataset(path))


def _sample(dataset: Dataset, name: str | None) -> Sample:
    if name is not None:
        return dataset.sample(name)
    first = next(iter(dataset.samples), None)
    if first is None:
        raise DatasetError(f"{dataset.path} has no samples", "Add one.")
    return dataset.sample(first)


def _layers(dataset: Dataset, sample: Sample) -> list[Layer]:
    layers = [Layer(member_name("label", i), _name(dataset, i), "label") for i in range(len(sample.labels))]
    for index, member in enumerate(sample.predictions):
        name = _name(dataset, index) + (", predicted" if sample.labels else "")
        layers.append(Layer(member_name("prediction", index), name, "prediction", member.dtype.kind == "f"))
    for index in range(len(sample.labels)):
        if member_name("dt", index) in sample.members:
            layers.append(Layer(member_name("dt", index), f"{_name(dataset, index)}, distance", "distance"))
    return layers


def _name(dataset: Dataset, index: int) -> str:
    names = dataset.label_names
    return names[index] if index < len(names) else member_name("label", index)


def _own_pairs(layers: Sequence[Layer]) -> list[tuple[str, str, str]]:
    """Predictions and labels of one sample can be compared with each other."""
    labels = [layer for layer in layers if layer.kind == "label"]
    found = [layer for layer in layers if layer.kind == "prediction"]
    if len(labels) != len(found):
        return []
    return [(one.key, other.key, other.name) for one, other in zip(found, labels, strict=True)]


def _reference(
    files: ExitStack, path: Path, sample: Sample, n_found: int
) -> tuple[list[tuple[Dataset, str, str]], str]:
    """Data set, sample and member of each true label; or none, and why: the sample is shown all the same."""
    try:
        dataset = _open_unlocked(files, path)
        names = list(dataset.samples)
        true = dataset.sample(names[0] if len(names) == 1 else sample.name)
    except LockedError:
        raise
    except EngineError as error:
        return [], error.what
    if true.shape != sample.shape or len(true.labels) != n_found:
        what = (
            f"Sample {true.name!r} of {dataset.path} has {words.counted(len(true.labels), 'label')} of "
            f"{words.sizes(true.shape)} voxels, not {n_found} of {words.sizes(sample.shape)}"
        )
        return [], what
    return [(dataset, true.name, member_name("label", index)) for index in range(n_found)], ""


def _reference_key(index: int) -> str:
    return f"reference_{index:04d}"


def _within(span: tuple[int, int], size: int) -> tuple[int, int]:
    """A span moved, and if need be cut, to lie in ``0:size``; never empty."""
    length = min(max(1, span[1] - span[0]), size)
    first = min(max(span[0], 0), size - length)
    return first, first + length
