"""The labels of a sample as bits: eight of them in the memory of one, and read, warped and turned as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedLabels", "n_planes", "pack", "unpack"]

Bits = NDArray[np.uint8]

_EACH = 8  # labels in a plane


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
    """Fill masks (*shape, L), 0 or 1, from bits, P of (*shape)."""
    n_labels = masks.shape[-1]
    for index in range(n_labels):
        plane = planes[index // _EACH]
        if n_labels == 1:
            masks[..., 0] = plane
        else:
            masks[..., index] = (plane >> np.uint8(index % _EACH)) & np.uint8(1)


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
        n_labels: How many there are.
    """

    def __init__(self, planes: Any, n_labels: int) -> None:
        self.planes = planes
        self._labels = [_Label(planes, index) for index in range(n_labels)]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: Any) -> Any:
        return self._labels[index]
