"""A slice at the size at which it is drawn: areas averaged, masks kept visible."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt


def fit(shape: tuple[int, int], columns: int, rows: int | None = None, aspect: float = 1.0) -> tuple[int, int]:
    """Height and width in square pixels of a slice drawn into a width, and a height if one is given.

    A terminal's cell is about twice as high as wide, so it holds two such pixels; the height is even.

    Args:
        shape: Y, X of the slice.
        columns: Cells that the picture may be wide.
        rows: Cells that it may be high; twice its width if not given.
        aspect: Height of a voxel divided by its width.
    """
    height, width = shape
    tall = height * aspect / width
    most = 2 * max(1, 2 * columns if rows is None else rows)
    across = min(max(1, columns), most / tall)
    down = min(max(2, 2 * round(across * tall / 2)), most)
    return down, max(1, round(across))


def area_mean(image: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """An image (Y, X) reduced or enlarged to a shape: each pixel is the mean of the area that it covers."""
    return _along_columns(_along_rows(image.astype(np.float32), shape[0]), shape[1])


def cover(mask: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """A mask (Y, X) reduced so that nothing vanishes, or enlarged by the nearest voxel.

    A pixel is set where the mask covers half a voxel of it, or half of it where voxels are larger than pixels.
    """
    least = 0.5 * min(1.0, shape[0] * shape[1] / (mask.shape[0] * mask.shape[1]))
    result: npt.NDArray[np.bool_] = area_mean(mask != 0, shape) >= least * (1 - 1e-4)
    return result


def edge(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of a mask (Y, X) that touch a pixel outside it; the picture's border is no edge."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _along_rows(image: npt.NDArray[np.float32], target: int) -> npt.NDArray[np.float32]:
    """The means of ``target`` equal parts of the first axis.

    A reduction adds whole voxels and corrects for those that a border cuts: a product with all weights, nearly all of
    which are 0, would take ten times as long.
    """
    size = len(image)
    if target >= size:
        return image if target == size else _weights(size, target) @ image
    borders = np.arange(target + 1) * (size / target)
    first = np.floor(borders).astype(np.intp)
    inside = (borders - first).astype(np.float32)[:, None]
    cut = inside * image[np.minimum(first, size - 1)]
    cut[-1] = 0  # nothing lies behind the last border, which rounding may put before the end
    result: npt.NDArray[np.float32] = np.add.reduceat(image, first[:-1], axis=0) - cut[:-1] + cut[1:]
    return result * np.float32(target / size)


def _along_columns(image: npt.NDArray[np.float32], target: int) -> npt.NDArray[np.float32]:
    return _along_rows(image.T, target).T


@lru_cache(16)
def _weights(size: int, target: int) -> npt.NDArray[np.float32]:
    """The share (target, size) that each voxel has in each pixel along one axis; rows sum to 1."""
    borders = np.arange(target + 1) * (size / target)
    voxels = np.arange(size)
    stops = np.minimum(borders[1:, None], voxels + 1)
    starts = np.maximum(borders[:-1, None], voxels)
    shares: npt.NDArray[np.float32] = (np.clip(stops - starts, 0, None) * (target / size)).astype(np.float32)
    return shares
