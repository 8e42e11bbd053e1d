"""What is done to a patch before a network learns from it: mirrors and quarter turns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Order = tuple[int, int, int]


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


def mirror_and_turn(
    arrays: Sequence[NDArray[np.generic]], orders: Sequence[Order], rng: np.random.Generator
) -> list[NDArray[np.generic]]:
    """Apply one random mirror and turn to every array alike.

    Args:
        arrays: Each (Z, Y, X), all of one shape.
        orders: As :func:`allowed_orders` gives them.
        rng: Source of the choice.

    Returns:
        Views of the arrays, each (Z, Y, X).
    """
    order = orders[int(rng.integers(len(orders)))]
    steps = tuple(slice(None, None, -1 if mirrored else 1) for mirrored in rng.integers(2, size=3))
    return [array.transpose(order)[steps] for array in arrays]
