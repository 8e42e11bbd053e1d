"""Voxels that two data sets have in common: a score on what was learned from means nothing.

Told in two ways. By where samples come from, as `crop-sample` and `rename-sample` note it and DeepSCEM names its crops:
the same source, and boxes that overlap. And by their voxels: whether a voxel is brighter than its left neighbour is the
same however an image was normalised, and 64 such signs, 32 in a row and 32 below, hardly occur twice. These codes are
taken at some places of one data set and looked for at every place of the other. Three of them at one distance are an
overlap, and the distance says which box it is.

So overlaps are found that are thicker than 1/32 of a sample, and wider than about 65 voxels and 1/64 of it. Copies that
are mirrored, turned, scaled or filtered are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.datasets.dataset import Dataset, Sample
from deepscem_tui.engine.datasets.ignoring import ignored_in
from deepscem_tui.engine.datasets.origins import Box, origin_of
from deepscem_tui.engine.stop import Stop

__all__ = ["Overlap", "find_overlaps", "neighbours"]

Codes = npt.NDArray[np.uint64]

_SIGNS = 32  # in a row
_GROUPS, _ALONG = 32, 64  # groups of slices, and places along Y and X, in which a sample's codes are taken, at most
_STEP = 32  # voxels between places along Y and X, at least
_MOST_PLACES = 1 << 20
_MOST_VOXELS = 1 << 25  # that are looked through
_MOST_HITS = 4096  # in a slice that are counted: a pattern may be everywhere
_MATCHES = 3
_TABLE_BITS = 22
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: spreads codes over a table


@dataclass(frozen=True)
class Overlap:
    """Two samples that share voxels.

    Args:
        one: Name of a sample of the first data set.
        other: Name of a sample of the second.
        box: What they share, in voxels of the first.
        whole: Whether that is all of the second.
    """

    one: str
    other: str
    box: Box
    whole: bool


def find_overlaps(first: Dataset, second: Dataset, stop: Stop) -> list[Overlap]:
    """The samples of two data sets that share voxels; one overlap at most for each sample of the second."""
    samples, others = list(first.samples.values()), list(second.samples.values())
    stride = _stride(others)
    places: _Places | None = None
    found = []
    for other in others:
        overlap = next(filter(None, (_by_origin(one, other) for one in samples)), None)
        if overlap is None:
            places = places or _places(samples, stride, stop)
            overlap = _by_voxels(samples, places, other, stride, stop)
        if overlap is not None:
            found.append(overlap)
    return found


def neighbours(samples: Sequence[Sample], gap: int, stop: Stop) -> list[list[int]]:
    """Groups of samples that share voxels or are crops of one volume that lie near each other.

    Args:
        gap: Voxels along each axis; crops that are no farther apart are near.

    Returns:
        Numbers of the samples, each in one group, in ascending order.
    """
    group = list(range(len(samples)))

    def join(one: int, other: int) -> None:
        new, old = sorted((group[one], group[other]))
        group[:] = [new if number == old else number for number in group]

    origins = [origin_of(sample) for sample in samples]
    for one, other in combinations(range(len(samples)), 2):
        if origins[one][0] == origins[other][0] and _near(origins[one][1], origins[other][1], gap):
            join(one, other)
    stride = _stride(samples)
    places = _places(samples, stride, stop)
    for own, sample in enumerate(samples):
        for (other, *offset), count in _distances(places, sample, stride, stop, own).most_common():
            if count < _MATCHES:
                break
            if group[own] != group[other] and _shared(samples[other], sample, offset) is not None:
                join(own, other)
    return [[number for number, of in enumerate(group) if of == first] for first in sorted(set(group))]


def _stride(samples: Sequence[Sample]) -> int:
    """Slices of which one is looked through."""
    return max(1, -(-sum(prod(sample.shape) for sample in samples) // _MOST_VOXELS))


# ------------------------------------------------------------------------------------------------ by origin


def _near(one: Box, other: Box, gap: int) -> bool:
    boxes = zip(one, other, strict=True)
    return all(max(here[0], there[0]) - min(here[1], there[1]) <= gap for here, there in boxes)


def _by_origin(one: Sample, other: Sample) -> Overlap | None:
    """By the sample that both come from and the boxes of it, if the voxels do not contradict: names may be alike."""
    (name, box), (other_name, other_box) = origin_of(one), origin_of(other)
    if name != other_name:
        return None
    offset = [there[0] - here[0] for here, there in zip(box, other_box, strict=True)]
    overlap = _overlap(one, other, offset)
    return overlap if overlap is not None and _same_voxels(one, other, overlap.box, offset) else None


def _same_voxels(one: Sample, other: Sample, box: Box, offset: Sequence[int]) -> bool:
    """Whether the middle slice of what two samples share is the same, however it was normalised."""
    middle = (box[0][0] + box[0][1]) // 2
    (y0, y1), (x0, x1) = box[1:]
    ours = _brighter(one.image[middle, y0:y1, x0:x1])
    dz, dy, dx = offset
    theirs = _brighter(other.image[middle - dz, y0 - dy : y1 - dy, x0 - dx : x1 - dx])
    return bool(ours.any()) and np.array_equal(ours, theirs)


def _shared(one: Sample, other: Sample, offset: Sequence[int]) -> Box | None:
    """The box that two samples share, annotated or not, in voxels of the first; None if there is none."""
    box = tuple(
        (max(0, apart), min(size, apart + length))
        for apart, size, length in zip(offset, one.shape, other.shape, strict=True)
    )
    return box if all(start < stop for start, stop in box) else None


def _overlap(one: Sample, other: Sample, offset: Sequence[int]) -> Overlap | None:
    """What two samples share whose first voxels are so far apart; None if nothing."""
    box = _shared(one, other, offset)
    if box is None or not _both_annotated(one, other, box, offset):
        return None
    whole = all(stop - start == size for (start, stop), size in zip(box, other.shape, strict=True))
    return Overlap(one.name, other.name, box, whole)


def _both_annotated(one: Sample, other: Sample, box: Box, offset: Sequence[int]) -> bool:
    """Whether a voxel that two samples share is annotated in both: what is left out of either is no leak."""
    ignored = [(ignored_in(one), (0, 0, 0)), (ignored_in(other), offset)]
    if all(found is None for found, _ in ignored):
        return True
    (z0, z1), (y0, y1), (x0, x1) = box
    for z in range(z0, z1):
        known = np.ones((y1 - y0, x1 - x0), bool)
        for found, (dz, dy, dx) in ignored:
            if found is not None:
                known &= found[z - dz, y0 - dy : y1 - dy, x0 - dx : x1 - dx] == 0
        if known.any():
            return True
    return False


# ------------------------------------------------------------------------------------------------ by voxels


@dataclass(frozen=True)
class _Places:
    """Codes in ascending order, uint64 (N,), and where each is: number of the sample, Z, Y, X, int64 (N, 4)."""

    codes: Codes
    where: npt.NDArray[np.int64]


def _places(samples: Sequence[Sample], together: int, stop: Stop) -> _Places:
    """Codes at some places of samples.

    Args:
        together: Slices next to each other in each group.
    """
    groups = max(1, min(_GROUPS, _MOST_PLACES // (len(samples) * _ALONG**2)))
    codes, where = [], []
    for index, sample in enumerate(samples):
        depth, height, width = sample.shape
        step_y, step_x = max(_STEP, -(-height // _ALONG)), max(_STEP, -(-width // _ALONG))
        apart = max(together, -(-depth // groups))
        for z in (z for first in range(0, depth, apart) for z in range(first, min(first + together, depth))):
            stop.check()
            found = _codes(sample.image[z])[::step_y, ::step_x]
            ys, xs = np.nonzero(_telling(found))
            codes.append(found[ys, xs])
            where.append(np.stack([np.full_like(ys, index), np.full_like(ys, z), ys * step_y, xs * step_x], axis=1))
    everything = np.concatenate(codes)
    order = np.argsort(everything, kind="stable")
    return _Places(everything[order], np.concatenate(where)[order])


def _by_voxels(samples: Sequence[Sample], places: _Places, other: Sample, stride: int, stop: Stop) -> Overlap | None:
    """By codes of the samples that are found in the other one, of which every ``stride``-th slice is looked through."""
    distances = _distances(places, other, stride, stop)
    if not distances:
        return None
    (index, *offset), count = distances.most_common(1)[0]
    return _overlap(samples[index], other, offset) if count >= _MATCHES else None


def _distances(
    places: _Places, sample: Sample, stride: int, stop: Stop, own: int | None = None
) -> Counter[tuple[int, ...]]:
    """How often codes of a sample are found at places, by the number of the sample there and the distance.

    Args:
        own: Number of the sample itself among those of the places, if it is.
    """
    distances: Counter[tuple[int, ...]] = Counter()
    if not len(places.codes):
        return distances
    table = np.zeros(1 << _TABLE_BITS, bool)
    table[_slots(places.codes)] = True
    for z in range(0, sample.shape[0], stride):
        stop.check()
        codes = _codes(sample.image[z])
        ys, xs = np.nonzero(table[_slots(codes)])
        looked = codes[ys, xs]
        at = np.minimum(np.searchsorted(places.codes, looked), len(places.codes) - 1)
        hits = np.flatnonzero((places.codes[at] == looked) & (places.where[at, 0] != own))[:_MOST_HITS]
        here = np.stack([np.zeros_like(hits), np.full_like(hits, z), ys[hits], xs[hits]], axis=1)
        distances.update(map(tuple, (places.where[at[hits]] - here).tolist()))
    return distances


def _telling(codes: Codes) -> npt.NDArray[np.bool_]:
    """Whether codes are of more than an even area or a slope: of 32 signs at least 8 are of either kind."""
    halves = np.ascontiguousarray(codes)[..., None].view(np.uint8).reshape(*codes.shape, 2, 4)
    ones = np.unpackbits(halves, axis=-1).sum(axis=-1)
    result: npt.NDArray[np.bool_] = ((ones >= _SIGNS // 4) & (ones <= 3 * _SIGNS // 4)).all(axis=-1)
    return result


def _codes(image: npt.NDArray[Any]) -> Codes:
    """The code at every place of a slice (Y, X) that has 32 voxels to its right and a row below; uint64."""
    grey = np.asarray(image, np.float32)
    if grey.shape[0] < 2 or grey.shape[1] <= _SIGNS:
        return np.zeros((0, 0), np.uint64)
    rows = _brighter(grey).astype(np.uint64)
    length = 1
    while length < _SIGNS:  # codes of twice the length from two of them
        rows = (rows[:, :-length] << np.uint64(length)) | rows[:, length:]
        length *= 2
    return (rows[:-1] << np.uint64(_SIGNS)) | rows[1:]


def _brighter(image: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which voxels of a slice (Y, X) are brighter than their left neighbours, (Y, X - 1)."""
    result: npt.NDArray[np.bool_] = image[:, 1:] > image[:, :-1]
    return result


def _slots(codes: Codes) -> npt.NDArray[np.intp]:
    """Where codes are in a table."""
    return ((codes * _MIX) >> np.uint64(64 - _TABLE_BITS)).astype(np.intp)
