"""Functions of voxels of at most two bytes, looked up in a table of all the values that there are.

Measured on 4 Mi voxels: bytes to float16 in 2.6 ms where arithmetic takes 10, and float16 to float32 in 2.7 instead
of 5. From whole numbers to float32, arithmetic is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["has_table", "look_up"]

_BLOCK = 2**18  # voxels looked up together: what the library makes of their numbers stays in the processor's cache


def has_table(dtype: np.dtype[Any]) -> bool:
    """Whether there are few enough values of a type."""
    return dtype.kind in "biuf" and dtype.itemsize <= 2


def look_up(
    voxels: npt.NDArray[Any], of: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], out: npt.NDArray[Any]
) -> None:
    """Write ``of(voxels)`` to ``out``, calling the function on all values of the type instead where they are fewer.

    Args:
        voxels: Of a type that has a table.
        of: A function of each voxel by itself, whose result has the type of ``out``.
        out: Contiguous, of the same shape.
    """
    unsigned = np.dtype(f"u{voxels.dtype.itemsize}")
    if voxels.size < 256**unsigned.itemsize:
        out[...] = of(voxels)
        return
    every = np.arange(256**unsigned.itemsize, dtype=unsigned)
    table = of(every.view(voxels.dtype))
    numbers, target = np.ascontiguousarray(voxels).reshape(-1).view(unsigned), out.reshape(-1)
    for start in range(0, numbers.size, _BLOCK):
        table.take(numbers[start : start + _BLOCK], out=target[start : start + _BLOCK], mode="clip")
