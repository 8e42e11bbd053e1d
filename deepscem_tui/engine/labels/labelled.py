"""Which part of a sample is labelled: as it is given, as its slices show it, and the action `set-labelled`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Sample, change_dataset, open_dataset
from deepscem_tui.engine.datasets.ignoring import Box, Slabs, forget_mask, mask_id, write_ignored
from deepscem_tui.engine.errors import DatasetError, ParameterError, VolumeError
from deepscem_tui.engine.formats.slice_files import open_slices
from deepscem_tui.engine.formats.volumes import Volume
from deepscem_tui.engine.results import Result

__all__ = ["check_size", "given_boxes", "left_out", "none_shown", "runs_of", "set_labelled"]

Bounds = tuple[int | None, int | None]
Ranges = tuple[Bounds, ...] | Literal["auto"]

_SLAB_VOXELS = 2**26
_LOOKED_AT = 2**30  # voxels of labels that are read only to say what would be done


def set_labelled(parameters: p.SetLabelled, context: Context) -> Result:
    """Say which part of a sample is labelled.

    Raises:
        ParameterError: a range leaves the sample, or no slice shows a label.
        DataError: there is no such sample, the mask cannot be read or has another size, or nothing may be changed.
        ResourceError: the disk is full.
        Stopped: on request; the data set is as it was.
    """
    path, name = parameters.file, parameters.sample
    with ExitStack() as files:
        given = parameters.ignore_mask
        mask = files.enter_context(open_slices(given, colours=False)) if given else None
        with open_dataset(path) as dataset:
            sample = dataset.sample(name)
            before = mask_id(sample)
            if not sample.labels:
                raise DatasetError(f"{sample.what} has no labels", "Only labels can be missing in parts.", "sample")
            if mask is not None:
                check_size(mask, sample.shape, "ignore_mask")
            if parameters.dry_run and parameters.labelled_z == "auto" and _too_many(sample):
                return Result(f"Would take as labelled, of sample {name!r} of {path}: slices in which a label shows")
            boxes = _boxes(parameters, sample, context)
        if parameters.dry_run:
            return Result(f"Would take as labelled, of sample {name!r} of {path}: {_planned(boxes, parameters)}")
        if parameters.labelled_z not in (None, "auto"):
            with open_dataset(path) as dataset:
                text = left_out(parameters.labelled_z, _shown(dataset.sample(name), context))
            if text:
                context.report.warning(f"{name!r}: {text}")
        with change_dataset(path) as changed:
            ignored = write_ignored(changed, name, boxes, _slabs(mask, name, context) if mask else None)
    forget_mask(path, before)
    facts: dict[str, Any] = {"file": str(path), "sample": name}
    if ignored is None:
        return Result(f"All of sample {name!r} of {path} is labelled", facts | {"labelled_share": 1.0})
    summary = f"Labelled of sample {name!r} of {path}: {ignored}; the rest is left out"
    return Result(summary, facts | {"labelled_share": ignored.share})


def given_boxes(z: Ranges | None, y: Bounds | None, x: Bounds | None, shape: Sequence[int]) -> tuple[Box, ...] | None:
    """Boxes that are labelled, from the ranges that are given; None for everything.

    Raises:
        ParameterError: a range leaves the sample.
    """
    if z is None and y is None and x is None:
        return None
    assert z != "auto"
    sides = [
        [_within(bounds, size, f"labelled_{axis}") for bounds in given]
        for axis, given, size in zip(
            "zyx", (((None, None),) if z is None else z, (y or (None, None),), (x or (None, None),)), shape, strict=True
        )
    ]
    return tuple((slices, sides[1][0], sides[2][0]) for slices in sides[0])


def runs_of(shown: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Ranges of the slices that are set, from a bool (Z,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shown, [False]]).astype(np.int8))).tolist()
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def none_shown(name: str) -> ParameterError:
    """Of a sample in which ``auto`` finds nothing."""
    return ParameterError(f"No slice of {name!r} shows a label", "Give the slices that are labelled.", "labelled_z")


def left_out(z: Ranges | None, shown: npt.NDArray[np.bool_]) -> str:
    """Say which slices show a label but are not among those that are given as labelled; empty if none does."""
    if z is None or z == "auto":
        return ""
    left = shown.copy()
    for start, stop in z:
        left[slice(start, stop)] = False
    if not left.any():
        return ""
    return (
        f"labels in slices {words.ranges(runs_of(left))} are left out, which --labelled-z does not name; "
        "slices count from 0, those of Fiji from 1"
    )


def check_size(mask: Volume, shape: Sequence[int], parameter: str) -> None:
    """Raise :class:`VolumeError` if a mask has another size than its sample."""
    if tuple(mask.shape) != tuple(shape):
        what = f"The mask {mask.path} is {words.sizes(mask.shape)}, but the sample {words.sizes(shape)}"
        raise VolumeError(what, "Both must have the same size (Z x Y x X).", parameter)


def _within(bounds: Bounds, size: int, parameter: str) -> tuple[int, int]:
    start, stop = bounds[0] or 0, size if bounds[1] is None else bounds[1]
    if not 0 <= start < stop <= size:
        option = parameter.replace("_", "-")
        what = f"--{option} {start}:{stop} is not inside the sample, which has {size} voxels along it"
        raise ParameterError(what, f"0:{size} is all of it.", parameter)
    return start, stop


def _boxes(parameters: p.SetLabelled, sample: Sample, context: Context) -> tuple[Box, ...] | None:
    z: Any = parameters.labelled_z
    if z == "auto":
        z = runs_of(_shown(sample, context))
        if not z:
            raise none_shown(sample.name)
    return given_boxes(z, parameters.labelled_y, parameters.labelled_x, sample.shape)


def _too_many(sample: Sample) -> bool:
    """Whether looking for slices with labels takes longer than somebody waits for what a form says."""
    return len(sample.labels) * prod(sample.shape) > _LOOKED_AT


def _shown(sample: Sample, context: Context) -> npt.NDArray[np.bool_]:
    """Slices in which any label has a voxel, bool (Z,)."""
    shown = np.zeros(sample.shape[0], bool)
    step = max(1, _SLAB_VOXELS // prod(sample.shape[1:]) // 8) * 8
    total = len(sample.labels) * sample.shape[0]
    for index, label in enumerate(sample.labels):
        for z in range(0, sample.shape[0], step):
            context.stop.check()
            slab = label[z : z + step]
            shown[z : z + step] |= (slab != 0).any(axis=(1, 2))
            done = index * sample.shape[0] + min(z + step, sample.shape[0])
            context.report.progress(f"Looking at {sample.name}", done, total, "slices")
    return shown


def _planned(boxes: Sequence[Box] | None, parameters: p.SetLabelled) -> str:
    if parameters.ignore_mask is not None:
        return f"what {parameters.ignore_mask} leaves"
    return "everything" if boxes is None else f"slices {words.ranges(box[0] for box in boxes)}"


def _slabs(mask: Volume, name: str, context: Context) -> Slabs:
    """What a mask says is not labelled, slab by slab."""

    def slab(_: object, z0: int, z1: int) -> npt.NDArray[np.bool_]:
        context.stop.check()
        context.report.progress(f"Writing {name}", z1, mask.shape[0], "slices")
        result: npt.NDArray[np.bool_] = mask.read(z0, z1) > 0
        return result

    return slab
