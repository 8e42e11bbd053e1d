"""Surfaces of objects by the Crofton formula, slab by slab.

How often lines along 13 directions of the grid (in a slice, 4) leave an object tells its surface: S = 4 times the mean,
over directions, of the area that lines of one direction see, each line counted as often as it leaves. Objects that the
border of the volume cuts end there.

Source: D. Legland, K. Kiêu, M.-F. Devaux, "Computation of Minkowski measures on 2D and 3D binary images", Image
Analysis & Stereology 26 (2007), 83-92.
"""

from __future__ import annotations

from itertools import product
from math import pi, prod

import numpy as np
import numpy.typing as npt

__all__ = ["SurfaceCounter"]

Size = tuple[float, float, float]
Floats = npt.NDArray[np.float64]

_VOXELS = 2**20  # looked at together
_POINTS = 50_000  # on the sphere, by which it is divided among the directions


class SurfaceCounter:
    """Counts where lines leave objects.

    Args:
        count: Of the objects.
        sides: Of a voxel, Z, Y, X.
        flat: Whether this is one slice: lengths of outlines are counted then.
    """

    def __init__(self, count: int, sides: Size, flat: bool) -> None:
        self._sides, self._flat = np.array(sides), flat
        self._steps = _directions(flat)
        self._leaving = np.zeros((len(self._steps), count + 1), np.int64)

    def add(self, slab: npt.NDArray[np.uint32], following: npt.NDArray[np.uint32] | None) -> None:
        """Count a slab.

        Args:
            slab: (n, Y, X) numbers of objects, 0 in the background.
            following: (Y, X) the slice after it; None if there is none.
        """
        depth, height, width = slab.shape
        padded = np.zeros((depth + 1, height + 2, width + 2), np.uint32)
        padded[:depth, 1:-1, 1:-1] = slab
        if following is not None:
            padded[depth, 1:-1, 1:-1] = following
        flat = padded.reshape(-1)
        inside = np.flatnonzero(flat[: depth * (height + 2) * (width + 2)])
        offsets = [(dz * (height + 2) + dy) * (width + 2) + dx for dz, dy, dx in self._steps]
        for start in range(0, len(inside), _VOXELS):
            here = inside[start : start + _VOXELS]
            numbers = flat[here]
            for index, offset in enumerate(offsets):
                leaving = numbers[flat[here + offset] != numbers]
                np.add.at(self._leaving[index], leaving, 1)

    @property
    def surfaces(self) -> Floats:
        """(n,) in the square of the sides' unit; of one slice the lengths of the outlines."""
        lengths = np.linalg.norm(self._steps * self._sides, axis=1)
        space = prod(self._sides[1:]) if self._flat else prod(self._sides)
        seen = (space / lengths)[:, None] * self._leaving[:, 1:]
        return np.asarray((pi if self._flat else 4) * (_weights(self._steps * self._sides, self._flat) @ seen))


def _directions(flat: bool) -> npt.NDArray[np.int64]:
    """Steps to neighbours, of each two that are opposite the one that goes forward: 13 in a volume, 4 in a slice."""
    steps = [step for step in product((0, 1), (-1, 0, 1), (-1, 0, 1)) if step > (0, 0, 0)]
    return np.array([step for step in steps if not flat or step[0] == 0], np.int64)


def _weights(directions: Floats, flat: bool) -> Floats:
    """The share of all directions that each of these is nearest to, both ways."""
    units = directions / np.linalg.norm(directions, axis=1)[:, None]
    k = np.arange(_POINTS) + 0.5
    if flat:
        points = np.stack([0 * k, np.sin(pi * k / _POINTS), np.cos(pi * k / _POINTS)], axis=1)
    else:
        height, angle = 1 - 2 * k / _POINTS, pi * (1 + 5**0.5) * k
        radius = np.sqrt(1 - height * height)
        points = np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    nearest = np.argmax(np.abs(points @ units.T), axis=1)
    return np.bincount(nearest, minlength=len(units)) / _POINTS
