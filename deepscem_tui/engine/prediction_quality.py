"""Whether the tiles of a prediction show."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.tiling import TilePlan

__all__ = ["Seams"]


class Seams:
    """Compares neighbours along Y and X across the borders of tiles with those elsewhere, in one slice of each slab."""

    def __init__(self, plan: TilePlan) -> None:
        self._borders = [[first for first, _ in axis.cores[1:]] for axis in plan.axes]
        self._sums = np.zeros((2, 2))  # at borders, everywhere; sum of differences, number

    def take(self, labels: npt.NDArray[Any]) -> None:
        """Look at a slab (labels, Z, Y, X)."""
        image = labels[:, 0].astype(np.float32)
        for axis in (1, 2):
            differences = np.abs(np.diff(image, axis=axis)).mean(axis=(0, 3 - axis))
            at = [border - 1 for border in self._borders[axis]]
            self._add(differences[at], differences)

    def _add(self, borders: npt.NDArray[Any], everywhere: npt.NDArray[Any]) -> None:
        self._sums += [[borders.sum(), borders.size], [everywhere.sum(), everywhere.size]]

    @property
    def score(self) -> float | None:
        """Mean difference at borders over that elsewhere: near 1 if tiles do not show; None without borders."""
        (at, n_at), (total, n_total) = self._sums
        if not n_at or n_total == n_at:
            return None
        elsewhere = (total - at) / (n_total - n_at)
        if elsewhere == 0:
            return 1.0 if at == 0 else None
        return float(at / n_at / elsewhere)
