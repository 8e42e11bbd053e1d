"""Where the labelled voxels of a sample are, so that one can be drawn without reading more than a small block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.axes import Shape

__all__ = ["BLOCK", "Foreground"]


BLOCK: Shape = (8, 32, 32)  # voxels that are counted together; parts of the chunks that data sets have


class Foreground:
    """Counts of foreground voxels by label and block, filled slab by slab.

    Args:
        shape: Of the sample, (Z, Y, X).
        n_labels: Labels that are counted.
    """

    def __init__(self, shape: Shape, n_labels: int) -> None:
        self._shape = shape
        self._blocks = tuple(-(-n // side) for n, side in zip(shape, BLOCK, strict=True))
        self._counts = np.zeros((n_labels, *self._blocks), np.int64)
        self.by_slice = np.zeros((n_labels, shape[0]), np.int64)
        self._ends: list[NDArray[np.int64]] | None = None

    @classmethod
    def of(cls, labels: Sequence[Any], shape: Shape) -> Foreground:
        """Count labels (Z, Y, X) that lie in memory."""
        found = cls(shape, len(labels))
        for index, label in enumerate(labels):
            for z in range(0, shape[0], BLOCK[0]):
                found.add(index, z, 0, label[z : z + BLOCK[0]])
        return found

    def add(self, label: int, z: int, y: int, slab: NDArray[Any]) -> None:
        """Count what is not 0 in slices and rows of a label.

        Args:
            label: Its number.
            z, y: Where they begin, multiples of a block's sides.
            slab: The slices and rows (n, m, X), of any type.
        """
        self._ends = None
        mask = slab != 0
        self.by_slice[label, z : z + len(slab)] += [np.count_nonzero(slice_) for slice_ in mask]
        firsts = [range(0, n, side) for n, side in zip(slab.shape, BLOCK, strict=True)]
        # The least types that hold the sums: most of the work is on bytes.
        counts = np.add.reduceat(mask.view(np.uint8), firsts[0], axis=0, dtype=np.uint8)
        counts = np.add.reduceat(counts, firsts[1], axis=1, dtype=np.uint16)
        counts = np.add.reduceat(counts, firsts[2], axis=2, dtype=np.int64)
        first, row = z // BLOCK[0], y // BLOCK[1]
        self._counts[label, first : first + counts.shape[0], row : row + counts.shape[1]] = counts

    @property
    def totals(self) -> NDArray[np.int64]:
        """Foreground voxels by label, int64 (L)."""
        totals: NDArray[np.int64] = self.by_slice.sum(axis=1)
        return totals

    def draw(self, index: int, label: Any, rng: np.random.Generator) -> Shape:
        """A foreground voxel of a label that has some, each as likely as any other.

        Args:
            index: Of the label.
            label: Its mask (Z, Y, X); one block of it is read.
            rng: Source of the choice.
        """
        if self._ends is None:
            self._ends = [np.cumsum(counts) for counts in self._counts]
        ends = self._ends[index]
        rank = int(rng.integers(ends[-1]))
        block = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[block - 1]) if block else 0
        start = [int(n) * side for n, side in zip(np.unravel_index(block, self._blocks), BLOCK, strict=True)]
        mask = label[tuple(slice(s, min(s + side, n)) for s, side, n in zip(start, BLOCK, self._shape, strict=True))]
        found = np.unravel_index(int(np.flatnonzero(mask)[rank]), mask.shape)
        z, y, x = (s + int(offset) for s, offset in zip(start, found, strict=True))
        return z, y, x
