"""The action `distance-transform`: how far each label voxel is from the background."""

from __future__ import annotations

from math import prod
from typing import Any

import edt
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import ChangedDataset, Dataset, Sample, change_dataset, open_dataset
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.errors import DatasetError, ParameterError, ResourceError
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.system.devices import available_cores, available_memory

__all__ = ["distance_transform", "distances"]

# uint8 mask, float32 result, and what edt makes for itself.
_BYTES_PER_VOXEL = 10


def distance_transform(parameters: p.DistanceTransform, context: Context) -> Result:
    """Add ``label_0000_dt`` ... to every sample: distances to the background, one label in memory at a time.

    They are in the unit of the voxel size where that is known, else in voxels.

    Raises:
        ParameterError: there are distance transforms already.
        DatasetError: there are no labels, or the data set is damaged or cannot be changed.
        ResourceError: memory or disk do not suffice.
        Stopped: on request; the data set is as it was.
    """
    path = parameters.file
    with open_dataset(path) as dataset:
        count = _check(dataset, parameters.overwrite)
        facts = {"file": str(path), "samples": len(dataset.samples), "arrays": count}
    what = f"{words.counted(count, 'distance transform')} to {path}"
    if parameters.dry_run:
        return Result(f"Would add {what}", facts)
    with change_dataset(path) as changed:
        _check(changed, parameters.overwrite)
        done = 0
        for name in list(changed.samples):
            sample = changed.samples[name]
            for index in range(len(sample.labels)):
                context.report.progress("Distance transform", done, count, "labels", note=name)
                context.stop.check()
                _add(changed, sample, index, context)
                done += 1
        context.report.progress("Distance transform", done, count, "labels")
    context.report.warning(f"DeepSCEM cannot train on {path} as long as it holds distance transforms")
    return Result(f"Added {what}", facts)


def _check(dataset: Dataset, overwrite: bool) -> int:
    """How many arrays there will be."""
    samples = list(dataset.samples.values())
    count = sum(len(sample.labels) for sample in samples)
    if not count:
        raise DatasetError(f"{dataset.path} has no labels", "Distances are computed from labels.")
    have = [sample.name for sample in samples if sample.distance_transforms]
    if have and not overwrite:
        what = f"{dataset.path} has distance transforms already, in {', '.join(map(repr, have[:5]))}"
        raise ParameterError(what, "Use --overwrite to compute them again.", "overwrite")
    needed, free = max(prod(sample.shape) for sample in samples) * _BYTES_PER_VOXEL, available_memory()
    if needed > free:
        what = f"The largest sample needs {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} are free"
        raise ResourceError(what, "Crop it, or use a machine with more memory.")
    return count


def _add(changed: ChangedDataset, sample: Sample, index: int, context: Context) -> None:
    mask = sample.labels[index][...] > 0
    writer = changed.add_member(sample.name, member_name("dt", index), np.float32)
    if mask.any():
        if mask.all():
            what = f"{sample.what}: label {index} fills it: distances are those to its border"
            context.report.warning(what)
        writer[:] = distances(mask, sample.voxel_size)
    unit = sample.voxel_unit or "voxel size" if sample.voxel_size else "voxels"
    changed.set_attributes({"distance_unit": unit}, sample=sample.name)


def distances(mask: npt.NDArray[np.bool_], voxel_size: tuple[float, float, float] | None) -> npt.NDArray[Any]:
    """Euclidean distance of each foreground voxel to the nearest background voxel, centre to centre.

    Args:
        mask: (Z, Y, X). Where all is foreground, what lies around the array counts as background.
        voxel_size: Z, Y, X; 1 if None.

    Returns:
        float32 (Z, Y, X), 0 in the background.
    """
    anisotropy = voxel_size or (1.0, 1.0, 1.0)
    found: npt.NDArray[Any] = edt.edt(
        np.ascontiguousarray(mask).view(np.uint8),
        anisotropy=anisotropy,
        black_border=bool(mask.all()),
        parallel=available_cores(),
    )
    return found
