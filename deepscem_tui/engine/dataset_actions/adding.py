"""The action `add-sample`: image and label files become a sample, slab by slab."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import (
    ChangedDataset,
    MemberWriter,
    Sample,
    change_dataset,
    open_dataset,
    real_path,
)
from deepscem_tui.engine.datasets.ignoring import Ignored, Slabs, write_ignored
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.errors import DatasetError, ParameterError, VolumeError
from deepscem_tui.engine.formats.slice_files import open_slices
from deepscem_tui.engine.formats.volumes import Volume
from deepscem_tui.engine.labels.encodings import Named, value_text
from deepscem_tui.engine.labels.files import Found, LabelOptions, LabelSource, OpenedLabels, open_labels
from deepscem_tui.engine.labels.labelled import check_size, given_boxes, left_out, none_shown, runs_of
from deepscem_tui.engine.labels.placing import placed
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.slabs import slab_depth
from deepscem_tui.engine.sources.normalisation import MIN_MAX, TYPE_RANGE, Greys, Normalisation, find_greys, type_range
from deepscem_tui.engine.system.files import missing_hint
from deepscem_tui.engine.system.space import check_room

__all__ = [
    "Noted",
    "Sources",
    "Written",
    "add_sample",
    "find_grey_values",
    "open_sources",
    "remark",
    "write_sample",
]

_SOON_BYTES = 2**27  # of label files that a dry run reads, too


class Noted:
    """Passes warnings on and keeps them for the result."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        if text in self.texts:  # of a file that is opened for each pass
            return
        self.texts.append(text)
        self._context.report.warning(text)


def add_sample(parameters: p.AddSample, context: Context) -> Result:
    """Add an image and its labels to a data set as a new sample, holding a slab at a time.

    Raises:
        ParameterError: the number of labels is wrong, or the image's type has no range of its own.
        DataError: a file cannot be read, shapes differ, or the name is taken.
        ResourceError: the disk is full.
        Stopped: on request; the data set is as it was.
    """
    noted = Noted(context)
    if not parameters.file.exists():
        hint = missing_hint(parameters.file, "Make it with: deepscem-tui run create-dataset")
        raise DatasetError(f"There is no data set {parameters.file}", hint, "file")
    with ExitStack() as files:
        with open_dataset(parameters.file) as dataset:
            dataset.check_new(parameters.name)
            names, named = dataset.label_names, bool(dataset.aliases) or len(dataset.samples) > 0
        sources = open_sources(parameters, names, named, files, noted, context)
        check_room({real_path(parameters.file): sources.image_bytes})
        if parameters.dry_run:
            if context.measuring:
                _look_into(sources, noted, context)
            summary = f"Would add sample {parameters.name!r} {words.sizes(sources.image.shape)} to {parameters.file}"
            return Result(summary, _facts(parameters, sources, noted))
        greys = find_grey_values(parameters, sources.image, noted, context)
        with change_dataset(parameters.file) as changed:
            written = write_sample(changed, parameters, sources, greys, context)
            if written.nothing_shown(parameters):
                raise none_shown(parameters.name)
    more = remark(parameters, sources, written, noted, context)
    rows = [_row(sources, label, share) for label, share in enumerate(written.shares)]
    if parameters.ignore_value is not None and not sources.ignores_any:
        noted.warn(f"No label file has the value {parameters.ignore_value} of --ignore-value")
    facts = _facts(parameters, sources, noted) | {"foreground": {name: share for name, _, share, _ in rows}} | more
    tables = [Table("labels", ("label", "source", "foreground", "values"), rows)] if rows else []
    what = f"sample {parameters.name!r} {words.sizes(sources.image.shape)} with {words.counted(len(rows), 'label')}"
    return Result(f"Added {what} to {parameters.file}", facts, tables)


def _look_into(sources: Sources, noted: Noted, context: Context) -> None:
    """Say what is unusual in label files that are soon read, as adding them does."""
    labels = sources.labels
    for source in labels.sources:
        if source.nbytes <= _SOON_BYTES:
            found = [Found() for _ in labels.names]
            depth = source.volumes[0].shape[0]
            step = slab_depth(source.nbytes // depth)
            for z in range(0, depth, step):
                context.stop.check()
                source.read(z, min(z + step, depth), found)
            _say_unusual(source, labels.names, found, noted, context)


@dataclass(frozen=True)
class Sources:
    """The files that a sample is made of, checked against the data set and each other.

    Args:
        stored: Type of the image in the data set.
        mask: Above 0 where nothing is labelled; None if there is no such file.
    """

    image: Volume
    labels: OpenedLabels
    stored: np.dtype[Any]
    mask: Volume | None = None

    @property
    def image_bytes(self) -> int:
        """Bytes of the image in the data set."""
        return prod(self.image.shape) * self.stored.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all files that the second pass reads, uncompressed."""
        return self.image.nbytes + sum(source.nbytes for source in self.labels.sources)

    @property
    def ignores_any(self) -> bool:
        """Whether a label file that was read has the value that stands for no label."""
        return any(source.ignored for source in self.labels.sources)


def open_sources(
    parameters: p.AddSample, names: Sequence[str], named: bool, files: ExitStack, noted: Noted, context: Context
) -> Sources:
    """Open everything and check all that can be checked before anything is written.

    Args:
        names: Of the data set's labels.
        named: Whether the data set has these, or samples: if not, those of ``classes`` may become its.
        files: Closes them.

    Raises:
        ParameterError: the number of labels is wrong, or the image's type has no range of its own.
        VolumeError: a file cannot be read, or shapes differ.
    """
    labels = _labels(parameters, tuple(names), named, files, context)
    image = files.enter_context(open_slices(parameters.image, colours=False))
    if parameters.labelled_z not in (None, "auto"):
        boxes = given_boxes(parameters.labelled_z, None, None, image.shape) or ()
        for source in labels.sources:
            source.volumes = tuple(placed(volume, [box[0] for box in boxes], image.shape) for volume in source.volumes)
    _check_volumes(image, [volume for source in labels.sources for volume in source.volumes], noted)
    mask = files.enter_context(open_slices(parameters.ignore_mask, colours=False)) if parameters.ignore_mask else None
    if mask is not None:
        check_size(mask, image.shape, "ignore_mask")
    _check_labelled(parameters, image)
    _check_type(parameters, image)
    stored = np.dtype(np.float16 if image.dtype.itemsize == 1 else np.float32)
    return Sources(image, labels, stored, mask)


def _check_labelled(parameters: p.AddSample, image: Volume) -> None:
    """Raise before anything is written if what is said to be labelled cannot be."""
    if parameters.labelled_z != "auto":
        given_boxes(parameters.labelled_z, parameters.labelled_y, parameters.labelled_x, image.shape)
    if not parameters.labels and (parameters.labelled_z == "auto" or parameters.ignore_value is not None):
        raise ParameterError("There are no label files to look for labelled slices in", "Give them.", "labels")


@dataclass(frozen=True)
class Written:
    """What was found of each label of a sample, what is not labelled, and the labels' shares of what is, 0 to 1."""

    found: Sequence[Found]
    ignored: Ignored | None
    shares: tuple[float, ...]

    def nothing_shown(self, parameters: p.AddSample) -> bool:
        """Whether labelled slices were looked for, and there is none."""
        return parameters.labelled_z == "auto" and not any(any(label.shown) for label in self.found)


def write_sample(
    changed: ChangedDataset, parameters: p.AddSample, sources: Sources, greys: Greys, context: Context
) -> Written:
    """The second pass: the files become a sample of a data set that is being changed."""
    image, labels = sources.image, sources.labels
    found = [Found() for _ in labels.names]
    members = {"image": sources.stored}
    members |= {member_name("label", index): np.dtype(np.uint8) for index in range(len(found))}
    if changed.n_labels != len(found):
        raise DatasetError(f"{parameters.file} was replaced meanwhile", "Try again.")
    if labels.new_names:
        changed.set_aliases(labels.names)
    attributes = _provenance(parameters, image, labels, greys)
    sample = changed.add_sample(parameters.name, image.shape, members, attributes)
    copying = _Copying(context, parameters.name, sources.nbytes)
    if not greys.constant:
        copying.copy(
            image.nbytes, [sample["image"]], lambda z0, z1: [greys.normalise(z0, image.read(z0, z1), sources.stored)]
        )
    for source in labels.sources:
        writers = [sample[member_name("label", label)] for label in source.labels]
        copying.copy(source.nbytes, writers, partial(source.read, found=found))
    texts = tuple(_values(labels, label) for label in range(len(found)))
    changed.set_attributes({"label_values": texts or None}, sample=parameters.name)
    z: Any = parameters.labelled_z
    if z == "auto":
        z = runs_of(_shown(found))
    boxes = given_boxes(z, parameters.labelled_y, parameters.labelled_x, image.shape)
    slabs = _ignored_slabs(parameters, sources, context)
    if boxes is None and slabs is None:
        return Written(found, None, tuple(label.foreground / prod(image.shape) for label in found))
    ignored = write_ignored(changed, parameters.name, boxes, slabs)
    return Written(found, ignored, _shares(changed.sample(parameters.name), ignored, context))


def _shares(sample: Sample, ignored: Ignored | None, context: Context) -> tuple[float, ...]:
    """What part of the labelled voxels of a sample each label has; 0 where none is labelled."""
    depth, plane = sample.shape[0], prod(sample.shape[1:])
    step = slab_depth(plane, 8)
    counts = [0] * len(sample.labels)
    for z0 in range(0, depth, step):
        context.stop.check()
        z1 = min(z0 + step, depth)
        known = None if ignored is None else ignored[z0:z1] == 0
        for index, label in enumerate(sample.labels):
            mask = label[z0:z1] != 0
            counts[index] += int(np.count_nonzero(mask if known is None else mask & known))
        context.report.progress(f"Counting labels of {sample.name}", z1, depth, "slices")
    voxels = prod(sample.shape) if ignored is None else ignored.annotated
    return tuple(count / max(1, voxels) for count in counts)


def _shown(found: Sequence[Found]) -> npt.NDArray[np.bool_]:
    """Slices in which any label has foreground, bool (Z,)."""
    shown: npt.NDArray[np.bool_] = np.any([label.shown for label in found if label.shown], axis=0)
    return shown


def _ignored_slabs(parameters: p.AddSample, sources: Sources, context: Context) -> Slabs | None:
    """Which voxels are not labelled by a mask, or by a value in any label file; None if neither is given."""
    mask, value = sources.mask, parameters.ignore_value
    if mask is None and value is None:
        return None
    labels = sources.labels.sources if value is not None else ()

    def slab(_: object, z0: int, z1: int) -> npt.NDArray[np.bool_]:
        context.stop.check()
        ignored = np.zeros((z1 - z0, *sources.image.shape[1:]), bool) if mask is None else mask.read(z0, z1) > 0
        for label in labels:
            ignored |= label.ignored_in(z0, z1)
        context.report.progress("Writing what is not labelled", z1, sources.image.shape[0], "slices")
        return ignored

    return slab


def _remark_on_slices(
    parameters: p.AddSample, found: Sequence[Found], ignored: Ignored | None, context: Context
) -> dict[str, Any]:
    """Say what is left out; or which slices show no label, in case nobody looked there."""
    if ignored is not None:
        context.report.message(f"Labelled of {parameters.name!r}: {ignored}; the rest is left out")
        return {"labelled_share": ignored.share}
    said = (parameters.labelled_z, parameters.labelled_y, parameters.labelled_x, parameters.ignore_mask)
    if any(value is not None for value in said) or not any(label.shown for label in found):
        return {}
    empty = runs_of(~_shown(found))
    if not empty or sum(stop - start for start, stop in empty) == len(_shown(found)):
        return {}
    command = shlex.join(["deepscem-tui", "run", "set-labelled", str(parameters.file), parameters.name])
    context.report.message(
        f"No label has a voxel in slices {words.ranges(empty)}. If nobody labelled them, have them left out: "
        f"{command} --labelled-z auto"
    )
    return {"slices_without_label": [list(run) for run in empty]}


def _labels(
    parameters: p.AddSample, names: tuple[str, ...], named: bool, files: ExitStack, context: Context
) -> OpenedLabels:
    """The label files, opened."""
    if not parameters.labels and names:
        context.report.message(f"No labels are given: those of {parameters.name!r} will be blank")
        return OpenedLabels((), names)
    colours = parameters.classes is not None and any(value.startswith("#") for _, value in parameters.classes)
    options = LabelOptions(
        None if parameters.classes is None else tuple((name, _number(value)) for name, value in parameters.classes),
        colours,
        parameters.label_threshold,
        parameters.instances,
        parameters.ignore_value,
    )
    return open_labels(parameters.labels, names, named, options, files, str(parameters.file))


def _number(value: str) -> int:
    """A value of ``--classes``, or a colour as 0xRRGGBB."""
    return int(value[1:], 16) if value.startswith("#") else int(value)


def _check_volumes(image: Volume, labels: Sequence[Volume], noted: Noted) -> None:
    for volume in (image, *labels):
        for text in volume.warnings:
            noted.warn(f"{volume.path}: {text}")
        if volume.shape != image.shape:
            here, there = words.sizes(volume.shape), words.sizes(image.shape)
            what = f"The label {volume.path} is {here}, but the image {image.path} {there}"
            hint = "Image and labels must have the same size (Z x Y x X)."
            if volume.shape[1:] == image.shape[1:] and volume.shape[0] < image.shape[0]:
                hint += " If it holds only the labelled slices, say which with --labelled-z, as many as it has."
            raise VolumeError(what, hint, "labels")
        known = volume.voxel_size and image.voxel_size and volume.voxel_unit == image.voxel_unit
        if known and not np.allclose(volume.voxel_size or (), image.voxel_size or (), rtol=1e-3):
            noted.warn(f"{volume.path} has voxels of another size than {image.path}: that of the image is kept")


def _check_type(parameters: p.AddSample, image: Volume) -> None:
    """Raise before anything is read if the range of the image's type is wanted, and there is none."""
    if parameters.range == "type":
        try:
            type_range(image)
        except VolumeError as error:
            raise ParameterError(error.what, "Leave --range type out.", "range") from None


def find_grey_values(parameters: p.AddSample, image: Volume, noted: Noted, context: Context) -> Greys:
    """What grey values become: by the type, or as found in a first pass over the image."""
    found = find_greys(image, _wanted(parameters), context.report, context.stop)
    if found.non_finite:
        of = f"{found.non_finite} of {prod(image.shape)} voxels"
        noted.warn(f"{image.path}: {of} are NaN or infinite: they become 0")
    if found.constant:
        noted.warn(f"{image.path}: all voxels are {found.each[0].low:g}: they become 0")
    return found


def _wanted(parameters: p.AddSample) -> Normalisation:
    if parameters.range == "type":
        return TYPE_RANGE
    return Normalisation(parameters.normalization, parameters.per_slice)


def _provenance(parameters: p.AddSample, image: Volume, labels: OpenedLabels, greys: Greys) -> dict[str, Any]:
    size, unit = image.voxel_size, image.voxel_unit
    if parameters.voxel_size is not None:
        *given, unit = parameters.voxel_size
        size = (given[0], given[1], given[2])
    sources = [labels.source_of(label) for label in range(len(labels.names))]
    return {
        "source": _encodable(image.name),
        "source_type": image.dtype.name,
        "normalization": str(_wanted(parameters)) if _wanted(parameters) != MIN_MAX else None,
        "source_range": (float(greys.each[0].low), float(greys.each[0].high)) if len(greys.each) == 1 else None,
        "label_sources": tuple(_encodable(source.file_names) if source else "" for source in sources) or None,
        "added": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "voxel_size": size,
        "voxel_unit": unit if size else None,
    }


def _encodable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


class _Copying:
    """The second pass: volumes into members, with progress over all of them."""

    def __init__(self, context: Context, name: str, total: int) -> None:
        self._context = context
        self._task = f"Writing {name}"
        self._total = total
        self._done = 0

    def copy(self, nbytes: int, writers: Sequence[MemberWriter], read: Callable[[int, int], Sequence[Any]]) -> None:
        """Fill members with what ``read`` gives of slices z0:z1, one array (n, Y, X) a member.

        Args:
            nbytes: Of the files that it reads.
        """
        depth, plane = writers[0].shape[0], prod(writers[0].shape[1:])
        step = slab_depth(max(plane * writers[0].dtype.itemsize, nbytes // depth), writers[0].depth)
        for z0 in range(0, depth, step):
            self._context.stop.check()
            z1 = min(z0 + step, depth)
            for writer, slab in zip(writers, read(z0, z1), strict=True):
                writer[z0:z1] = slab
            self._done += nbytes * (z1 - z0) // depth
            self._context.report.progress(self._task, self._done, self._total, "B")


def remark(
    parameters: p.AddSample, sources: Sources, written: Written, noted: Noted, context: Context
) -> dict[str, Any]:
    """Say what is unusual in labels that were written, and which part is labelled; what of it is a fact."""
    labels = sources.labels
    for source in labels.sources:
        _say_unusual(source, labels.names, written.found, noted, context)
    if labels.sources and (text := left_out(parameters.labelled_z, _shown(written.found))):
        noted.warn(f"{parameters.name!r}: {text}")
    return _remark_on_slices(parameters, written.found, written.ignored, context)


def _say_unusual(
    source: LabelSource, names: Sequence[str], found: Sequence[Found], noted: Noted, context: Context
) -> None:
    for text in source.warnings(names):
        noted.warn(f"{source.name}: {text}")
    for label in source.labels:
        if not found[label].foreground:
            context.report.message(f"{source.name}: no voxel is {names[label]}, all are background")


def _row(sources: Sources, label: int, share: float) -> tuple[Any, ...]:
    """A label as a line of the table, with its share of the labelled voxels."""
    labels, source = sources.labels, sources.labels.source_of(label)
    name = source.name if source else "blank"
    return labels.names[label], name, share, _values(labels, label) or None


def _values(labels: OpenedLabels, label: int) -> str:
    """The values of a label's file, or those of them that are this label."""
    source = labels.source_of(label)
    if source is None:
        return ""
    if isinstance(source.encoding, Named):
        values = source.encoding.values[source.labels.index(label)]
        return ", ".join(value_text(value, source.coloured) for value in values)
    return source.values_text


def _facts(parameters: p.AddSample, sources: Sources, noted: Noted) -> dict[str, Any]:
    return {
        "file": str(parameters.file),
        "sample": parameters.name,
        "shape": list(sources.image.shape),
        "warnings": list(noted.texts),
    }
