"""What is counted of objects slab by slab, exactly: sums that come out the same whatever the slabs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import Shape

__all__ = ["Statistics", "measured"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_PROBABILITY_STEPS = 2.0**24  # float32 from 0 to 1 in these steps is a whole number, whose sums are exact
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # of axes
NUMBER_BYTES = 18 * 8  # of an object's statistics


@dataclass(frozen=True)
class Statistics:
    """Of n objects; lengths are in voxels, axes Z, Y, X.

    Args:
        voxels: (n,)
        first: (n,) place of the first voxel in the volume, counted along X, then Y, then Z.
        low: (n, 3) where the box begins.
        high: (n, 3) where it ends; not included.
        sums: (n, 3) of the coordinates.
        products: (n, 6) sums of ZZ, YY, XX, ZY, ZX, YX.
        probability: (n,) sum of the probabilities, 0 where there are none.
    """

    voxels: Ints
    first: Ints
    low: Ints
    high: Ints
    sums: Floats
    products: Floats
    probability: Floats

    def __len__(self) -> int:
        return len(self.voxels)

    def __getitem__(self, key: Any) -> Statistics:
        """Some of the objects, as an array is indexed."""
        return Statistics(*(getattr(self, field.name)[key] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Statistics]) -> Statistics:
        """One after the other."""
        if not parts:
            return measured(np.zeros((0, 1, 1), np.uint32), 0, (0, 0, 0), (0, 1, 1))
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def merged(self, group: npt.NDArray[Any], count: int) -> Statistics:
        """Objects that belong together made one.

        Args:
            group: (n,) number of each one's group, from 0.
            count: Of the groups.
        """
        first = np.full(count, np.iinfo(np.int64).max)
        low, high = np.full((count, 3), np.iinfo(np.int64).max), np.zeros((count, 3), np.int64)
        np.minimum.at(first, group, self.first)
        for axis in range(3):
            np.minimum.at(low[:, axis], group, self.low[:, axis])
            np.maximum.at(high[:, axis], group, self.high[:, axis])
        return Statistics(
            _added(group, self.voxels, count).astype(np.int64), first, low, high,
            np.stack([_added(group, column, count) for column in self.sums.T], axis=1),
            np.stack([_added(group, column, count) for column in self.products.T], axis=1),
            _added(group, self.probability, count),
        )  # fmt: skip

    def touches_edge(self, shape: Shape) -> npt.NDArray[np.bool_]:
        """Which objects reach the border of a volume; of one slice, the border of the slice."""
        axes = [axis for axis, size in enumerate(shape) if axis > 0 or size > 1]
        ends = np.array(shape)[axes]
        return np.asarray(((self.low[:, axes] == 0) | (self.high[:, axes] == ends)).any(axis=1))

    @property
    def centroids(self) -> Floats:
        """(n, 3), of the voxels' coordinates."""
        return self.sums / self.voxels[:, None]

    @property
    def mean_probability(self) -> Floats:
        """(n,), from 0 to 1."""
        return self.probability / self.voxels

    @property
    def covariances(self) -> Floats:
        """(n, 3, 3) of the places in an object, with the extent of its voxels: a single one has 1/12."""
        result = np.empty((len(self), 3, 3))
        centre = self.centroids
        for place, (a, b) in enumerate(_PAIRS):
            spread = self.products[:, place] / self.voxels - centre[:, a] * centre[:, b]
            result[:, a, b] = result[:, b, a] = spread + (1 / 12 if a == b else 0)
        return result


def _added(group: npt.NDArray[Any], values: npt.NDArray[Any], count: int) -> Floats:
    return np.asarray(np.bincount(group, weights=values, minlength=count), np.float64)


def measured(
    labels: npt.NDArray[Any],
    count: int,
    origin: Shape,
    shape: Shape,
    probabilities: npt.NDArray[Any] | None = None,
) -> Statistics:
    """Count objects of a part of a volume, by the runs of their voxels along X.

    Args:
        labels: (Z, Y, X) numbers from 1 to ``count``, each there, 0 elsewhere.
        origin: Where the part begins.
        shape: Of the volume.
        probabilities: Of each voxel, 0 to 1.

    Returns:
        Statistics of the numbers 1, 2 ... in order.
    """
    runs = _Runs.of(labels)
    z, y = (runs.row // labels.shape[1] + origin[0]), (runs.row % labels.shape[1] + origin[1])
    x0, x1 = runs.start + origin[2], runs.stop + origin[2]
    group = runs.label.astype(np.int64) - 1
    length = (x1 - x0).astype(np.float64)
    along = length * (x0 + x1 - 1) / 2
    squares = _squares(x1 - 1) - _squares(x0 - 1)
    fz, fy = z.astype(np.float64), y.astype(np.float64)
    first = np.zeros(count, np.int64)
    first[group[::-1]] = ((z * shape[1] + y) * shape[2] + x0)[::-1]  # of several the last is kept, which is the first
    low, high = np.full((count, 3), np.iinfo(np.int64).max), np.zeros((count, 3), np.int64)
    for axis, (a, b) in enumerate(((z, z + 1), (y, y + 1), (x0, x1))):
        np.minimum.at(low[:, axis], group, a)
        np.maximum.at(high[:, axis], group, b)

    def total(weights: Floats) -> Floats:
        return _added(group, weights, count)

    columns = (fz * fz * length, fy * fy * length, squares, fz * fy * length, fz * along, fy * along)
    return Statistics(
        total(length).astype(np.int64), first, low, high,
        np.stack([total(fz * length), total(fy * length), total(along)], axis=1),
        np.stack([total(column) for column in columns], axis=1),
        np.zeros(count) if probabilities is None else total(runs.sums(labels, probabilities)) / _PROBABILITY_STEPS,
    )  # fmt: skip


def _squares(n: Ints) -> Floats:
    """0 + 1 + 4 + ... + n * n"""
    value = n.astype(np.float64)
    return value * (value + 1) * (2 * value + 1) / 6


@dataclass(frozen=True)
class _Runs:
    """Voxels of one label side by side in a row, in the order of the volume."""

    label: npt.NDArray[Any]
    row: Ints
    start: Ints
    stop: Ints

    @classmethod
    def of(cls, labels: npt.NDArray[Any]) -> _Runs:
        width = labels.shape[2]
        rows = labels.reshape(-1, width)
        inside, change = rows != 0, np.ones((len(rows), width + 1), bool)
        np.not_equal(rows[:, 1:], rows[:, :-1], out=change[:, 1:-1])
        starts = np.flatnonzero(inside & change[:, :-1])
        stops = np.flatnonzero(inside & change[:, 1:])
        return cls(rows.reshape(-1)[starts], starts // width, starts % width, stops % width + 1)

    def sums(self, labels: npt.NDArray[Any], values: npt.NDArray[Any]) -> Floats:
        """Of probabilities over each run, in whole steps."""
        if not len(self.row):
            return np.zeros(0)
        inside = np.clip(np.nan_to_num(values[labels != 0].astype(np.float64)), 0, 1)
        lengths = self.stop - self.start
        return np.add.reduceat(np.rint(inside * _PROBABILITY_STEPS), np.cumsum(lengths) - lengths)
