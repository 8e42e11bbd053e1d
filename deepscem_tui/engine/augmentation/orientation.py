"""Mirrors and quarter turns, which lose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.augmentation.opencv import cv2

__all__ = ["Orientation", "allowed_orders", "draw_orientation"]

Order = tuple[int, int, int]

_UNTURNED: Order = (0, 1, 2)
_IN_PLANE: Order = (0, 2, 1)


def allowed_orders(patch: Sequence[int], voxel_size: Sequence[float] | None) -> list[Order]:
    """The orders of the axes Z, Y, X that leave a patch's shape and voxel size as they are.

    Together with mirrors they make up every quarter turn that the data allow. Where the voxel size is unknown, rows and
    columns are taken to be alike, and slices not.

    Args:
        patch: Shape (Z, Y, X), voxels.
        voxel_size: (Z, Y, X) in any unit, or None.
    """
    size = tuple(voxel_size) if voxel_size is not None else (0.0, 1.0, 1.0)
    return [
        (a, b, c)
        for a, b, c in permutations(range(3))
        if all(
            patch[old] == patch[new] and (old == new or np.isclose(size[old], size[new], rtol=0.01, atol=0))
            for new, old in enumerate((a, b, c))
        )
    ]


@dataclass(frozen=True)
class Orientation:
    """A new order of the axes, then mirrors along some of the new ones."""

    order: Order = _UNTURNED
    mirrored: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array (Z, Y, X) turned and mirrored; a view of it where that is no slower to read."""
        steps = tuple(slice(None, None, -1 if mirrored else 1) for mirrored in self.mirrored)
        if self.order == _IN_PLANE:
            return _transposed(array)[steps]
        return array.transpose(self.order)[steps]


def _transposed(array: NDArray[Any]) -> NDArray[Any]:
    """Rows and columns exchanged; NumPy takes ten times as long."""
    depth, height, width = array.shape
    result = np.empty((depth, width, height), array.dtype)
    whole = np.dtype(f"u{array.dtype.itemsize}") if array.dtype.itemsize <= 2 else array.dtype
    for slice_, target in zip(array.view(whole), result.view(whole), strict=True):
        cv2.transpose(slice_, target)
    return result


def draw_orientation(orders: Sequence[Order], mirror: float, turn: float, rng: np.random.Generator) -> Orientation:
    """A random orientation.

    Args:
        orders: As :func:`allowed_orders` gives them.
        mirror: Strength of mirrors: at 1 and above all are equally likely.
        turn: Strength of turns.
        rng: Source of the choice.
    """
    chances = rng.random(2)
    chosen, mirrored = int(rng.integers(len(orders))), rng.integers(2, size=3).astype(bool)
    order = orders[chosen] if chances[0] < turn else _UNTURNED
    z, y, x = (bool(flag) and bool(chances[1] < mirror) for flag in mirrored)
    return Orientation(order, (z, y, x))
