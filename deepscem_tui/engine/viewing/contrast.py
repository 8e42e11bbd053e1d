"""Which grey values become black and white, and that from slice to slice they hardly change."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Range", "contrast", "settled", "stretched"]

Range = tuple[float, float]

_LOOKED_AT = 2**16  # voxels whose percentiles are taken
_SETTLED = 0.25  # share of the contrast range by which a slice's own may differ before it is followed


def contrast(image: npt.NDArray[Any]) -> Range | None:
    """The values that become black and white: all but half a percent of the voxels at either end lie between.

    Args:
        image: A slice (rows, columns) of any numeric type.

    Returns:
        None where no voxel is finite; equal values where all are the same.
    """
    step = max(1, int((image.size / _LOOKED_AT) ** 0.5))
    values = image[::step, ::step].astype(np.float32)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = np.percentile(values, (0.5, 99.5))
    if low == high:  # nearly all of it is the same
        low, high = values.min(), values.max()
    return float(low), float(high)


def settled(previous: Range | None, own: Range | None) -> Range | None:
    """The contrast to use after a step: the one before as long as the slice's own is much like it, so that nothing
    flickers from slice to slice.
    """
    if previous is None or own is None or previous[0] >= previous[1]:
        return own if own is not None else previous
    room = _SETTLED * (previous[1] - previous[0])
    near = all(abs(new - old) <= room for new, old in zip(own, previous, strict=True))
    return previous if near else own


def stretched(image: npt.NDArray[Any], span: Range | None) -> npt.NDArray[np.float32]:
    """Values as grey from 0 to 1. A span of one value is middle grey, NaN black.

    Args:
        image: Of any number of axes.
        span: The values that become 0 and 1.
    """
    values = image.astype(np.float32)
    if span is None:
        return np.zeros(values.shape, np.float32)
    low, high = span
    if not low < high:
        return np.where(np.isfinite(values), np.float32(0.5), np.float32(0))
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (values - np.float32(low)) / np.float32(high - low)
    grey: npt.NDArray[np.float32] = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
    return grey
