"""The labels of a sample as bits: eight of them in the memory of one, and read, warped and turned as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.augmentation.opencv import cv2

__all__ = ["PackedLabels", "n_planes", "pack", "unpack"]

Bits = NDArray[np.uint8]

_EACH = 8  # labels in a plane
_MERGED = 64  # labels up to which OpenCV interleaves them, in half of NumPy's time


def n_planes(n_labels: int) -> int:
    """Planes of bits that labels take."""
    return -(-n_labels // _EACH)


def pack(masks: Sequence[NDArray[Any]], shape: Sequence[int]) -> Bits:
    """Masks of one shape (above or below 0 is foreground: of others they may be 0 and 255) as bits (P, *shape)."""
    planes = np.zeros((n_planes(len(masks)), *shape), np.uint8)
    for index, mask in enumerate(masks):
        planes[index // _EACH] |= (np.asarray(mask) != 0).view(np.uint8) << np.uint8(index % _EACH)
    return planes


def unpack(planes: Sequence[Bits], masks: Bits) -> None:
    """Fill contiguous masks (*shape, L), 0 or 1, from bits, P of (*shape)."""
    n_labels, width = masks.shape[-1], masks.shape[-2]
    if n_labels <= 1:
        masks[...] = planes[0][..., None] if n_labels else 0
        return
    rows = [np.ascontiguousarray(plane).reshape(-1, width) for plane in planes]
    channels = [(rows[n // _EACH] >> np.uint8(n % _EACH)) & np.uint8(1) for n in range(n_labels)]
    target = masks.reshape(-1, width, n_labels)
    if n_labels <= _MERGED:
        cv2.merge(channels, target)
    else:
        for index, channel in enumerate(channels):
            target[..., index] = channel


class _Label:
    """One label, read by slicing as a file's are."""

    def __init__(self, planes: Any, index: int) -> None:
        self._planes, self._index = planes, index

    def __getitem__(self, key: Any) -> Bits:
        key = key if isinstance(key, tuple) else (key,)
        bits: Bits = self._planes[(self._index // _EACH, *key)]
        return (bits >> np.uint8(self._index % _EACH)) & np.uint8(1)


class PackedLabels(Sequence[Any]):
    """Labels that are held as bits; as a sequence, each of them by itself.

    Args:
        planes: uint8 (P, Z, Y, X), an array or what is sliced like one.
        n_labels: How many there are; the bits after theirs are no labels.
    """

    def __init__(self, planes: Any, n_labels: int) -> None:
        self.planes = planes
        self._labels = [_Label(planes, index) for index in range(n_labels)]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: Any) -> Any:
        return self._labels[index]

    def after(self) -> Any:
        """The bit after those of the labels, sliced as a label is."""
        return _Label(self.planes, len(self))
