"""Neighbouring slices as the channels of an image, which is how a network of slices sees more than one (2.5D)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_channels"]


def as_channels(slices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Slices (B, Z, Y, X) as images (B, Y, X, Z)."""
    return np.ascontiguousarray(np.moveaxis(slices, 1, -1))
