"""Sizes of voxels: in words, compared with those that a model learned from, and the action `set-voxel-size`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import ChangedDataset, Dataset, Sample, change_dataset, open_dataset
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats.tiff_metadata import METRES
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources.inputs import InputImage

__all__ = [
    "common_size",
    "say_other_sizes",
    "say_voxel_sizes",
    "set_voxel_size",
    "times_as_long",
    "times_seen",
]

Size = tuple[float, float, float]

_ALIKE = 1.1  # times as long: a network learned from mirrored, turned and somewhat scaled patches sees no difference


def in_words(size: Size | None, unit: str) -> str:
    """Such as ``30 x 8 x 8 nm``."""
    return f"{words.sizes(size)} {unit}".rstrip() if size else "not known"


def times_as_long(size: Size | None, unit: str, other: Size | None, other_unit: str) -> Size | None:
    """How many times as long a voxel is as another along Z, Y, X; None if that cannot be told."""
    if size is None or other is None or (unit != other_unit and not {unit, other_unit} <= METRES.keys()):
        return None
    scale = 1.0 if unit == other_unit else METRES[unit] / METRES[other_unit]
    z, y, x = (here * scale / there for here, there in zip(size, other, strict=True))
    return z, y, x


def times_seen(size: Size | None, unit: str, info: ModelInfo) -> Size | None:
    """How many times as long a voxel is as those that a model learned from, as far as it sees: see `times_as_long`.

    To a network of single slices their distance makes no difference: 1 along Z.
    """
    times = times_as_long(size, unit, info.voxel_size, info.voxel_unit)
    if times is None or info.dimension == 3 or info.context:
        return times
    return 1.0, times[1], times[2]


def _alike(times: Size) -> bool:
    return all(1 / _ALIKE <= factor <= _ALIKE for factor in times)


def common_size(samples: Sequence[Sample], info: ModelInfo) -> tuple[Size | None, str]:
    """The voxel size of samples, as far as it is known, and its unit: the median, None if a model sees them differ."""
    known = [(sample.voxel_size, sample.voxel_unit) for sample in samples if sample.voxel_size]
    if not known:
        return None, ""
    first, unit = known[0]
    assert first is not None
    times = [times_as_long(size, its, first, unit) for size, its in known]
    if None in times:
        return None, ""
    z, y, x = (float(length) for length in np.median(np.array(times) * first, axis=0))
    found = replace(info, voxel_size=(z, y, x), voxel_unit=unit)
    if any((seen := times_seen(size, its, found)) is None or not _alike(seen) for size, its in known):
        return None, ""
    return (z, y, x), unit


def say_other_sizes(samples: Sequence[Sample], info: ModelInfo, report: Reporter) -> None:
    """Warn where samples to train and validate with differ in voxel size from each other, or from what a model knows.

    The first that does is told.
    """
    if info.training is None or info.voxel_size is None:
        first = next((sample for sample in samples if sample.voxel_size), None)
        if first is None:
            return
        info = replace(info, voxel_size=first.voxel_size, voxel_unit=first.voxel_unit)
        those = f"those of {first.what}"
    else:
        those = "those that the model learned from"
    for sample in samples:
        times = times_seen(sample.voxel_size, sample.voxel_unit, info)
        if times is not None and not _alike(times):
            here, there = in_words(sample.voxel_size, sample.voxel_unit), in_words(info.voxel_size, info.voxel_unit)
            report.warning(f"Voxels of {sample.what} are {here}, {those} {there}: things have another size")
            return


def say_voxel_sizes(parameters: p.Predict, info: ModelInfo, images: Sequence[InputImage], context: Context) -> None:
    """Warn where images have voxels of another size than those that the model learned from; say where nobody knows.

    Raises:
        ParameterError: ``--rescale`` is wanted where a size is not known.
    """
    for image in images:
        name = image.source.name
        times = times_seen(image.voxel_size, image.voxel_unit, info)
        if times is None:
            here, there = in_words(image.voxel_size, image.voxel_unit), in_words(info.voxel_size, info.voxel_unit)
            text = f"Voxel sizes cannot be compared: that of {name!r} is {here}, that of the model {there}"
            if parameters.rescale:
                hint = "Give the data set's with set-voxel-size, or leave --rescale out."
                raise ParameterError(text, hint, "rescale")
            if image.voxel_size or info.voxel_size:
                context.report.message(text)
        elif not parameters.rescale and not _alike(times):
            here, there = in_words(image.voxel_size, image.voxel_unit), in_words(info.voxel_size, info.voxel_unit)
            context.report.warning(
                f"Voxels of {name!r} are {here}, those that the model learned from {there}: things have another size. "
                "--rescale predicts at the model's voxel size and brings the result back"
            )


def set_voxel_size(parameters: p.SetVoxelSize, context: Context) -> Result:
    """Say how large the voxels of samples are, in place of what was said before.

    Raises:
        DatasetError: there is no such sample, or the data set cannot be changed.
        ResourceError: the disk is full.
    """
    context.stop.check()
    assert parameters.voxel_size is not None
    z, y, x, unit = parameters.voxel_size
    new = in_words((z, y, x), unit)
    opened: AbstractContextManager[Dataset] = (open_dataset if parameters.dry_run else change_dataset)(parameters.file)
    with opened as dataset:
        names = list(parameters.sample) or list(dataset.samples)
        before = [_before(dataset, name) for name in names]
        if isinstance(dataset, ChangedDataset):
            for name in names:
                dataset.set_attributes({"voxel_size": (z, y, x), "voxel_unit": unit}, sample=name)
    table = Table("samples", ("sample", "before", "now"), [(n, old, new) for n, old in zip(names, before, strict=True)])
    facts = {"file": str(parameters.file), "voxel_size": [z, y, x], "voxel_unit": unit}
    done = "Would give" if parameters.dry_run else "Gave"
    what = f"{done} {words.counted(len(names), 'sample')} of {parameters.file} voxels of {new}"
    return Result(what, facts, [table])


def _before(dataset: Dataset, name: str) -> str | None:
    sample = dataset.sample(name)
    return in_words(sample.voxel_size, sample.voxel_unit) if sample.voxel_size else None
