"""Whether the tiles of a prediction show."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.prediction.tiling import TilePlan

__all__ = ["Seams"]


class Seams:
    """Compares neighbours across the borders of tiles with those elsewhere, in one or two slices of each slab."""

    def __init__(self, plan: TilePlan) -> None:
        self._borders = [[first for first, _ in axis.cores[1:]] for axis in plan.axes]
        self._thick = plan.dimension == 3  # else every two slices are of different tiles
        self._last: npt.NDArray[np.float32] | None = None
        self._sums = np.zeros((3, 2, 2))  # an axis: at borders, everywhere; sum of differences, number

    def take(self, labels: npt.NDArray[Any]) -> None:
        """Look at a slab (labels, Z, Y, X); slabs come in ascending order, and with 3D networks tiles end with them."""
        image = labels[0, 0].astype(np.float32)
        for axis in (0, 1):
            differences = np.abs(np.diff(image, axis=axis)).mean(axis=1 - axis)
            at = [border - 1 for border in self._borders[1 + axis]]
            self._add(1 + axis, differences[at], differences)
        if self._thick:
            self._take_along_z(image, labels[0])

    def _take_along_z(self, first: npt.NDArray[np.float32], label: npt.NDArray[Any]) -> None:
        border = [] if self._last is None else [np.abs(first - self._last).mean()]
        inside = [np.abs(label[1] - first).mean()] if len(label) > 1 else []
        self._add(0, np.array(border), np.array(border + inside))
        self._last = label[-1].astype(np.float32)

    def _add(self, axis: int, borders: npt.NDArray[Any], everywhere: npt.NDArray[Any]) -> None:
        self._sums[axis] += [[borders.sum(), borders.size], [everywhere.sum(), everywhere.size]]

    @property
    def score(self) -> float | None:
        """Differences at borders over those elsewhere along the same axes: near 1 if tiles do not show.

        None where there are no borders.
        """
        found = expected = 0.0
        n_borders = 0
        for (at, n_at), (total, n_total) in self._sums:
            if n_at and n_total > n_at:
                n_borders += int(n_at)
                found += at
                expected += n_at * (total - at) / (n_total - n_at)
        if not n_borders:
            return None
        if expected == 0:
            return 1.0 if found == 0 else None
        return float(found / expected)
