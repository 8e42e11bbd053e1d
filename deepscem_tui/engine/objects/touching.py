"""Objects that touch, divided at their necks: watershed on the distance to the background, object by object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import edt
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.context import Context
from deepscem_tui.engine.objects.components import Components, labelled, numbered
from deepscem_tui.engine.objects.statistics import Statistics, measured
from deepscem_tui.engine.system.devices import available_cores, available_memory

__all__ = ["Split", "split"]

Size = tuple[float, float, float]
Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint32]

_BYTES_PER_VOXEL = 90  # of an object's box, measured: reconstruction by dilation sorts its voxels
_ROUNDING = 1e-3  # of the depth


@dataclass(frozen=True)
class Split:
    """Objects after division.

    Args:
        divided: Objects that were divided.
        too_large: Those left as they are, for want of memory.
    """

    components: Components
    divided: int
    too_large: int


def split(
    found: Components,
    depth: float,
    sides: Size,
    connectivity: int,
    context: Context,
    probabilities: Callable[[int, int], npt.NDArray[Any]] | None = None,
) -> Split:
    """Divide objects at necks whose half width is less than that of the parts beside them by ``depth`` or more.

    An object that memory does not suffice for is left as it is.

    Args:
        depth: In the unit of ``sides``.
        sides: Of a voxel, Z, Y, X.
        connectivity: Through which the objects were found.
        probabilities: As they were counted.

    Raises:
        Stopped: on request.
    """
    shape, statistics = found.shape, found.statistics
    next_id = len(found.number)
    kept = np.ones(len(found), bool)
    parts: list[Statistics] = []
    too_large = 0
    candidates = np.flatnonzero(_farthest(statistics, sides, shape) > depth)
    for done, index in enumerate(candidates):
        context.stop.check()
        context.report.progress("Dividing", done, len(candidates), "objects")
        low, high = statistics.low[index], statistics.high[index]
        box = [slice(max(0, a - 1), min(b + 1, size)) for a, b, size in zip(low, high, shape, strict=True)]
        if prod(side.stop - side.start for side in box) * _BYTES_PER_VOXEL > available_memory():
            too_large += 1
            continue
        ids = found.ids.read_box(box)
        ids[ids >= len(found.number)] = 0  # parts of objects that were divided before
        inside = found.number[ids] == index + 1
        pieces, count = pieces_of(inside, depth, sides, connectivity)
        if count < 2:
            continue
        origin = (box[0].start, box[1].start, box[2].start)
        values = None
        if probabilities is not None:
            z = range(box[0].start, box[0].stop)
            values = np.concatenate([probabilities(at, at + 1)[:, box[1], box[2]] for at in z])
        parts.append(measured(pieces, count, origin, shape, values))
        found.ids.change_box(box, inside, pieces + np.uint32(next_id - 1))
        next_id += count
        kept[index] = False
    context.report.progress("Dividing", len(candidates), len(candidates), "objects")
    if not parts:
        return Split(found, 0, too_large)
    return Split(_with_parts(found, kept, Statistics.joined(parts)), int(np.count_nonzero(~kept)), too_large)


def _farthest(statistics: Statistics, sides: Size, shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """What no distance of an object's voxels to the background exceeds, told by its box: (n,)."""
    low, high = statistics.low, statistics.high
    through = (low == 0) & (high == np.array(shape))  # from border to border: no background along this axis
    return np.asarray(np.where(through, np.inf, (high - low + 1) * np.array(sides)).min(axis=1))


def _with_parts(found: Components, kept: Bools, parts: Statistics) -> Components:
    """The objects that were kept, and the parts of the others, which have the numbers after all others in the file."""
    place = np.cumsum(kept) - 1  # of a kept object; of others, no voxel is left in the file
    old = np.where(found.number > 0, np.where(kept, place, 0)[found.number.astype(np.int64) - 1], 0)[1:]
    group = np.concatenate([old, np.count_nonzero(kept) + np.arange(len(parts))])
    return numbered(found.ids, Statistics.joined([found.statistics[kept], parts]), group)


def pieces_of(inside: Bools, depth: float, sides: Size, connectivity: int) -> tuple[Ids, int]:
    """Divide one object.

    Seeds are the maxima of the distance that no way to a higher one leads from without going down by less than
    ``depth`` (h-maxima: P. Soille, Morphological Image Analysis, 2003, chapter 6.3.4).

    Args:
        inside: (Z, Y, X) with a voxel of background around it, but where the volume ends.

    Returns:
        uint32 (Z, Y, X) of numbers from 1 in the order of their seeds, 0 outside; how many there are.
    """
    from scipy.ndimage import generate_binary_structure
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed

    filled = bool(inside.all())  # then the border of the volume counts as background
    distance = edt.edt(inside.view(np.uint8), anisotropy=sides, black_border=filled, parallel=available_cores())
    if distance.max() <= depth:
        return inside.astype(np.uint32), 1
    rest = distance - reconstruction(distance - np.float32(depth), distance, footprint=np.ones((3, 3, 3)))
    domes, count = labelled(rest > _ROUNDING * depth, 26)
    seeds = np.unique(domes[rest >= (1 - _ROUNDING) * depth])
    seeds = seeds[seeds > 0]
    if len(seeds) < 2:
        return inside.astype(np.uint32), 1
    lookup = np.zeros(count + 1, np.int32)
    lookup[seeds] = np.arange(1, len(seeds) + 1)
    neighbours = generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    parts = watershed(-distance, lookup[domes], connectivity=neighbours, mask=inside)
    return parts.astype(np.uint32), len(seeds)
