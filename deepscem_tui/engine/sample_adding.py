"""The action `add-sample`: image and label files become a sample, slab by slab."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.dataset_tree import member_name
from deepscem_tui.engine.datasets import ChangedDataset, MemberWriter, change_dataset, open_dataset, real_path
from deepscem_tui.engine.errors import DatasetError, ParameterError, ResourceError, VolumeError
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.volumes import LabelValues, Volume, open_volume, value_range

__all__ = [
    "Grey",
    "Noted",
    "Sources",
    "add_sample",
    "check_space",
    "find_grey",
    "open_sources",
    "remark",
    "write_sample",
]

SLAB_BYTES = 64 * 2**20
_BLOCK = 2**20  # voxels normalised together: what is made of them stays in the processor's cache


@dataclass(frozen=True)
class Grey:
    """How grey values become 0 to 1.

    Args:
        low: Value that becomes 0.
        high: Value that becomes 1; if it is ``low``, everything becomes 0.
    """

    low: float
    high: float

    def normalise(self, slab: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Values as ``dtype``, 0 to 1; what is not finite becomes 0."""
        out = np.empty(slab.shape, dtype)
        source, target = slab.reshape(-1), out.reshape(-1)
        if slab.dtype.kind in "biu" and slab.dtype.itemsize <= 2:
            # A table is several times faster than arithmetic, for float16 above all.
            unsigned = np.dtype(f"u{slab.dtype.itemsize}")
            every = np.arange(256**unsigned.itemsize, dtype=unsigned).view(slab.dtype)
            table = self._exactly(every).astype(dtype)
            source = source.view(unsigned)
            for start in range(0, source.size, _BLOCK):
                table.take(source[start : start + _BLOCK], out=target[start : start + _BLOCK], mode="clip")
            return out
        for start in range(0, source.size, _BLOCK):
            target[start : start + _BLOCK] = self._exactly(source[start : start + _BLOCK])
        return out

    def _exactly(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        exact = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.where(np.isfinite(values), np.clip(exact, 0, 1), 0.0)


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
    with ExitStack() as files:
        with open_dataset(parameters.file) as dataset:
            dataset.check_new(parameters.name)
            names = dataset.label_names
        sources = open_sources(parameters, names, files, noted, context)
        check_space(parameters.file, sources.image_bytes)
        if parameters.dry_run:
            summary = f"Would add sample {parameters.name!r} {words.sizes(sources.image.shape)} to {parameters.file}"
            return Result(summary, _facts(parameters, sources, noted))
        grey = find_grey(parameters, sources.image, noted, context)
        with change_dataset(parameters.file) as changed:
            found = write_sample(changed, parameters, sources, grey, context)
    remark(sources, found, noted, context)
    rows = [
        (name, str(path) if path else "blank", values.foreground / max(1, values.voxels), str(values) or None)
        for name, path, values in zip(sources.names, sources.paths, found, strict=True)
    ]
    facts = _facts(parameters, sources, noted) | {"foreground": {name: share for name, _, share, _ in rows}}
    tables = [Table("labels", ("label", "source", "foreground", "values"), rows)] if rows else []
    what = f"sample {parameters.name!r} {words.sizes(sources.image.shape)} with {words.counted(len(rows), 'label')}"
    return Result(f"Added {what} to {parameters.file}", facts, tables)


@dataclass(frozen=True)
class Sources:
    """The files that a sample is made of, checked against the data set and each other.

    Args:
        names: Of the labels.
        paths: Of the labels; None for a blank one.
        labels: Opened.
        stored: Type of the image in the data set.
    """

    image: Volume
    names: Sequence[str]
    paths: Sequence[Path | None]
    labels: Sequence[Volume | None]
    stored: np.dtype[Any]

    @property
    def image_bytes(self) -> int:
        """Bytes of the image in the data set."""
        return prod(self.image.shape) * self.stored.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all files, uncompressed."""
        return sum(volume.nbytes for volume in (self.image, *filter(None, self.labels)))


def open_sources(
    parameters: p.AddSample, names: Sequence[str], files: ExitStack, noted: Noted, context: Context
) -> Sources:
    """Open everything and check all that can be checked before anything is written.

    Args:
        names: Of the data set's labels.
        files: Closes them.

    Raises:
        ParameterError: the number of labels is wrong, or the image's type has no range of its own.
        VolumeError: a file cannot be read, or shapes differ.
    """
    paths = _label_files(parameters, names, context)
    image = files.enter_context(open_volume(parameters.image))
    labels = [files.enter_context(open_volume(path)) if path else None for path in paths]
    _check_volumes(image, labels, noted)
    _type_range(parameters, image)
    stored = np.dtype(np.float16 if image.dtype.itemsize == 1 else np.float32)
    return Sources(image, names, paths, labels, stored)


def write_sample(
    changed: ChangedDataset, parameters: p.AddSample, sources: Sources, grey: Grey, context: Context
) -> list[LabelValues]:
    """The second pass: the files become a sample of a data set that is being changed; the values of each label."""
    image, found = sources.image, [LabelValues() for _ in sources.labels]
    members = {"image": sources.stored}
    members |= {member_name("label", index): np.dtype(np.uint8) for index in range(len(found))}
    if changed.n_labels != len(found):
        raise DatasetError(f"{parameters.file} was replaced meanwhile", "Try again.")
    attributes = _provenance(image, sources.paths, grey)
    sample = changed.add_sample(parameters.name, image.shape, members, attributes)
    copying = _Copying(context, parameters.name, sources.nbytes)
    if grey.low != grey.high:
        copying.copy(image, sample["image"], lambda slab: grey.normalise(slab, sources.stored))
    for index, (label, values) in enumerate(zip(sources.labels, found, strict=True)):
        if label is not None:
            copying.copy(label, sample[member_name("label", index)], partial(_mask, values))
    texts = tuple(str(values) for values in found)
    changed.set_attributes({"label_values": texts or None}, sample=parameters.name)
    return found


def _label_files(parameters: p.AddSample, label_names: Sequence[str], context: Context) -> list[Path | None]:
    """The file of each label, None for a blank one."""
    given, n_labels = parameters.labels, len(label_names)
    if not given and n_labels:
        context.report.message(f"No labels are given: those of {parameters.name!r} will be blank")
        return [None] * n_labels
    if len(given) != n_labels:
        names = f" ({', '.join(label_names)})" if n_labels else ""
        what = f"{parameters.file} has {words.counted(n_labels, 'label')} a sample{names}, but {len(given)} were given"
        hint = 'Give one file for each, in order; "" for a blank one.' if n_labels else ""
        raise ParameterError(what, hint, "labels")
    return [Path(label) if label else None for label in given]


def _check_volumes(image: Volume, labels: Sequence[Volume | None], noted: Noted) -> None:
    for volume in (image, *labels):
        if volume is None:
            continue
        for text in volume.warnings:
            noted.warn(f"{volume.path}: {text}")
        if volume.shape != image.shape:
            here, there = words.sizes(volume.shape), words.sizes(image.shape)
            what = f"The label {volume.path} is {here}, but the image {image.path} {there}"
            raise VolumeError(what, "Image and labels must have the same size (Z x Y x X).", "labels")
        known = volume.voxel_size and image.voxel_size and volume.voxel_unit == image.voxel_unit
        if known and not np.allclose(volume.voxel_size or (), image.voxel_size or (), rtol=1e-3):
            noted.warn(f"{volume.path} has voxels of another size than {image.path}: that of the image is kept")


def check_space(path: Path, needed: int) -> None:
    """Raise before hours of copying rather than at their end: images are stored as they are, without compression."""
    free = shutil.disk_usage(real_path(path).parent).free
    if needed > free:
        what = f"{needed:,} bytes are needed beside {path}, and {free:,} are free"
        raise ResourceError(what, "Free some space, or move the data set to another disk.")


def _type_range(parameters: p.AddSample, image: Volume) -> Grey | None:
    """The range of the image's type, if that is wanted."""
    if parameters.range == "data":
        return None
    if image.dtype.kind == "b":
        return Grey(0, 1)
    if image.dtype.kind not in "iu":
        what = f"{image.path} has voxels of type {image.dtype}, which has no range of its own"
        raise ParameterError(what, "Leave --range type out.", "range")
    limits = np.iinfo(image.dtype)
    return Grey(limits.min, limits.max)


def find_grey(parameters: p.AddSample, image: Volume, noted: Noted, context: Context) -> Grey:
    """Range of grey values: of the type, or found in a first pass over the image."""
    of_type = _type_range(parameters, image)
    if of_type is not None:
        return of_type
    found = value_range(image, context.report, context.stop)
    if found.non_finite:
        noted.warn(f"{image.path}: {found.non_finite} of {found.voxels} voxels are NaN or infinite: they become 0")
    if found.constant:
        noted.warn(f"{image.path}: all voxels are {found.low:g}: they become 0")
    return Grey(found.low, found.high)


def _provenance(image: Volume, paths: Sequence[Path | None], grey: Grey) -> dict[str, Any]:
    return {
        "source": _encodable(image.path.name),
        "source_type": image.dtype.name,
        "source_range": (float(grey.low), float(grey.high)),
        "label_sources": tuple(_encodable(path.name) if path else "" for path in paths) or None,
        "added": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "voxel_size": image.voxel_size,
        "voxel_unit": image.voxel_unit if image.voxel_size else None,
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

    def copy(self, volume: Volume, writer: MemberWriter, convert: Callable[[Any], Any]) -> None:
        """Fill a member with what ``convert`` makes of a volume's slabs."""
        plane = prod(volume.shape[1:]) * max(volume.dtype.itemsize, writer.dtype.itemsize)
        step = max(1, SLAB_BYTES // plane // writer.depth) * writer.depth
        for z0 in range(0, volume.shape[0], step):
            self._context.stop.check()
            z1 = min(z0 + step, volume.shape[0])
            slab = volume.read(z0, z1)
            self._done += slab.nbytes
            slab = convert(slab)
            writer[z0:z1] = slab
            self._context.report.progress(self._task, self._done, self._total, "B")


def _mask(values: LabelValues, slab: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    values.update(slab)
    return (slab > 0).view(np.uint8)


def remark(sources: Sources, found: Sequence[LabelValues], noted: Noted, context: Context) -> None:
    """Say what is unusual in the labels that were written."""
    for source, name, values in zip(sources.paths, sources.names, found, strict=True):
        if source is None:
            continue
        if not values.usual:
            noted.warn(f"{source}: it has the values {values}; every voxel above 0 is {name}")
        if not values.foreground:
            context.report.message(f"{source}: no voxel is {name}, all are background")


def _facts(parameters: p.AddSample, sources: Sources, noted: Noted) -> dict[str, Any]:
    return {
        "file": str(parameters.file),
        "sample": parameters.name,
        "shape": list(sources.image.shape),
        "warnings": list(noted.texts),
    }
