"""Slices gathered into bands as deep as the chunks of a file, so that each chunk is compressed and written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Band", "chunks_for"]

BAND_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20
FLAT_BYTES = 4 * CHUNK_BYTES
EDGE = 256


def chunks_for(shape: tuple[int, int, int], itemsize: int) -> tuple[int, int, int]:
    """Chunks (Z, Y, X) of about a mebibyte, or up to four where a band of them may have a single slice.

    Where deep ones would take too much memory they are flatter, and wider instead: each may be a file.
    """
    depth, height, width = shape
    rows, columns = min(height, EDGE), min(width, EDGE)
    deep = min(CHUNK_BYTES // (rows * columns * itemsize), BAND_BYTES // (height * width * itemsize))
    deep = max(1, min(depth, deep))
    most = FLAT_BYTES if deep == 1 else CHUNK_BYTES
    while 4 * deep * rows * columns * itemsize <= most and (rows, columns) != (height, width):
        rows, columns = min(height, 2 * rows), min(width, 2 * columns)
    return deep, rows, columns


class Band:
    """Takes slices in order and gives them on as bands.

    Args:
        shape: (Z, Y, X) of the whole.
        dtype: As which the slices are kept.
        depth: Slices of a band.
        put: Called with the number of the first slice and the slices (n, Y, X), which are not kept.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        depth: int,
        put: Callable[[int, npt.NDArray[Any]], None],
    ) -> None:
        self._slices = np.empty((min(depth, shape[0]), *shape[1:]), dtype)
        self._put, self._first, self._held = put, 0, 0

    def add(self, slab: npt.NDArray[Any]) -> None:
        """Append slices (n, Y, X)."""
        taken = 0
        while taken < len(slab):
            count = min(len(self._slices) - self._held, len(slab) - taken)
            self._slices[self._held : self._held + count] = slab[taken : taken + count]
            self._held += count
            taken += count
            if self._held == len(self._slices):
                self.flush()

    def flush(self) -> None:
        """Give on what is held."""
        if self._held:
            self._put(self._first, self._slices[: self._held])
            self._first, self._held = self._first + self._held, 0
