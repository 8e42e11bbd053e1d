"""Label files that hold only the labelled slices of a volume: placed where these are, with nothing in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from deepscem_tui.engine.formats.volumes import Volume

__all__ = ["placed"]


class _Placed:
    """Some slices of a volume, 0 in all others.

    Args:
        volume: Holds the slices, one after the other.
        numbers: Of the slices in the whole, in order.
        depth: Slices of the whole.
    """

    def __init__(self, volume: Volume, numbers: Sequence[int], depth: int) -> None:
        self._volume = volume
        self._place = {number: index for index, number in enumerate(numbers)}
        self.shape = (depth, *volume.shape[1:])
        self.dtype, self.scale = volume.dtype, volume.scale
        self.voxel_size, self.voxel_unit = volume.voxel_size, volume.voxel_unit
        self.warnings = (*volume.warnings, f"its {volume.shape[0]} slices are taken as those of --labelled-z")

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (n, Y, X) with the slices from ``z0`` on."""
        for index in range(len(out)):
            place = self._place.get(z0 + index)
            out[index] = 0 if place is None else self._volume.read(place, place + 1)[0]


def placed(volume: Volume, slices: Sequence[tuple[int, int]], shape: Sequence[int]) -> Volume:
    """A label file as the size of its image: itself, or placed if it is just as many slices as are labelled.

    Args:
        slices: Ranges of those that are labelled.
        shape: Of the image, (Z, Y, X).
    """
    numbers = [number for start, stop in slices for number in range(start, stop)]
    if volume.shape[0] == shape[0] or volume.shape != (len(numbers), *shape[1:]):
        return volume
    return type(volume)(volume.path, _Placed(volume, numbers, shape[0]))
