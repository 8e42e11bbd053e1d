"""How far the outlines of a segmentation are from those of its reference.

Distances reach from any outline to any other, so this takes the whole box that holds both, which is looked at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import edt
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.objects.components import Mask, Watch, slabs
from deepscem_tui.engine.system.devices import available_cores, available_memory

__all__ = ["SURFACE_PASSES", "SurfaceScore", "score_surfaces"]

Size = tuple[float, float, float]
Bools = npt.NDArray[np.bool_]

BYTES_PER_VOXEL = 12  # measured: masks, their outlines, distances
_DISTANCES = 4  # passes through the volume that one way takes as long as, measured
SURFACE_PASSES = 3 + 2 * _DISTANCES  # that are told of: one for the box, one for each outline, and the distances
_PERCENTILE = 95


@dataclass(frozen=True)
class SurfaceScore:
    """Distances between outlines, in the unit of the voxels' sides.

    Args:
        hd95: The larger of the two 95th percentiles of the distances from each outline to the nearest voxel of the
            other (Hausdorff distance, 95 %).
        assd: The mean of all these distances (average symmetric surface distance).
    """

    hd95: float
    assd: float


def score_surfaces(
    reference: Mask, segmentation: Mask, unknown: Mask | None, sides: Size, what: str, watch: Watch
) -> SurfaceScore | None:
    """Measure between the outlines of two masks.

    An outline is made of foreground voxels that share a face with the background; where the volume ends, or where
    nobody has annotated, there is none.

    Args:
        unknown: What is left out of both.
        sides: Of a voxel, Z, Y, X.
        what: The sample and label, for messages.
        watch: Told of :data:`SURFACE_PASSES` passes.

    Returns:
        None where one of them has no outline.

    Raises:
        ResourceError: memory does not suffice.
        Stopped: on request.
    """
    voxels = prod(reference.shape)
    box = _box_of_both(reference, segmentation, unknown, watch)
    if box is None:
        watch.advance((SURFACE_PASSES - 1) * voxels)
        return None
    shape = tuple(side.stop - side.start for side in box)
    needed, free = prod(shape) * BYTES_PER_VOXEL, available_memory()
    if needed > free:
        raise ResourceError(
            f"Distances between the surfaces of {what} need the box of both, {' x '.join(map(str, shape))} voxels: "
            f"{needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} are free",
            "Leave --surfaces out, crop it, or use a machine with more memory.",
        )
    known = None if unknown is None else ~_whole(unknown, box)
    outlines = []
    for mask in (reference, segmentation):
        outlines.append(_outline(_whole(mask, box), known))
        watch.advance(voxels)
    there = all(outline.any() for outline in outlines)
    found = []
    for start, end in (outlines, outlines[::-1]):
        if there:
            found.append(_distances(start, end, sides))
        watch.advance(_DISTANCES * voxels)
    if not there:
        return None
    largest = max(float(np.percentile(distances, _PERCENTILE)) for distances in found)
    return SurfaceScore(largest, float(np.concatenate(found).mean(dtype=np.float64)))


def _box_of_both(
    reference: Mask, segmentation: Mask, unknown: Mask | None, watch: Watch
) -> tuple[slice, slice, slice] | None:
    """The box that holds both masks, as far as they are known, with a voxel around it; None if there is nothing."""
    low, high = np.array(reference.shape), np.zeros(3, np.int64)
    for z0, z1 in slabs(reference.shape, max(reference.depth, segmentation.depth)):
        either = reference.read(z0, z1) | segmentation.read(z0, z1)
        if unknown is not None:
            either &= ~unknown.read(z0, z1)
        watch.advance(either.size)
        for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
            there = np.flatnonzero(either.any(axis=others)) + (z0 if axis == 0 else 0)
            if len(there):
                low[axis], high[axis] = min(low[axis], there[0]), max(high[axis], there[-1] + 1)
    if not high.any():
        return None
    ends = zip(low.tolist(), high.tolist(), reference.shape, strict=True)
    z, y, x = (slice(max(0, a - 1), min(b + 1, size)) for a, b, size in ends)
    return z, y, x


def _whole(mask: Mask, box: tuple[slice, slice, slice]) -> Bools:
    """A mask's box in memory."""
    z, y, x = box
    found = np.empty([side.stop - side.start for side in box], np.bool_)
    for z0, z1 in slabs(mask.shape, mask.depth):
        first, last = max(z0, z.start), min(z1, z.stop)
        if first < last:
            found[first - z.start : last - z.start] = mask.read(first, last)[:, y, x]
    return found


def _outline(inside: Bools, known: Bools | None) -> Bools:
    """Foreground voxels that share a face with known background."""
    outside = ~inside if known is None else ~inside & known
    beside = np.zeros_like(inside)
    for axis in range(3):
        ahead: list[Any] = [slice(None)] * 3
        behind: list[Any] = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        beside[tuple(ahead)] |= outside[tuple(behind)]
        beside[tuple(behind)] |= outside[tuple(ahead)]
    beside &= inside
    return beside if known is None else beside & known


def _distances(start: Bools, end: Bools, sides: Size) -> npt.NDArray[np.float32]:
    """From each voxel of an outline to the nearest of another."""
    others = (~end).view(np.uint8)
    found = edt.edt(others, anisotropy=sides, black_border=False, parallel=available_cores())
    return np.asarray(found[start], np.float32)
