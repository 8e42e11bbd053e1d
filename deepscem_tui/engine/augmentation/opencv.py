"""OpenCV, one thread a call: the threads that make patches are enough, and more would fight with the network's."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["as_float32", "cv2"]

cv2.setNumThreads(1)


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """An array as a contiguous one of float32; the same if it is one. Of float16, in a fifth of NumPy's time."""
    array = np.ascontiguousarray(array)
    if array.dtype != np.float16 or not array.size:
        return array.astype(np.float32, copy=False)
    result = np.empty(array.shape, np.float32)
    width = array.shape[-1]
    cv2.add(array.reshape(-1, width), 0.0, dst=result.reshape(-1, width), dtype=cv2.CV_32F)
    return result
