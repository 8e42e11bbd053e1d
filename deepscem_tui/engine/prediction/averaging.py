"""Test-time averaging: the mean of what a network says of a tile and of its mirror images and quarter turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["averaged", "symmetries"]

Array = npt.NDArray[np.float32]
Symmetry = tuple[int, tuple[int, ...]]  # quarter turns in Y and X, then axes of (B, Z, Y, X) to mirror


def symmetries(tile: Sequence[int], dimension: int) -> list[Symmetry]:
    """How a tile (Z, Y, X) can be turned and mirrored so that it keeps its shape; the first leaves it as it is.

    Quarter turns where Y and X are equally long; mirrored along Z with networks for volumes.
    """
    turns = (0, 1) if tile[1] == tile[2] else (0,)
    along_z = ((), (1,)) if dimension == 3 else ((),)
    return [
        (turn, (*z, *yx)) for turn in turns for z in along_z for yx in ((), (2,), (3,), (2, 3))
    ]  # fmt: skip


def averaged(network: Callable[[Array], Array], dimension: int) -> Callable[[Array], Array]:
    """A network that gives the mean over :func:`symmetries`, computed one after the other."""

    def compute(images: Array) -> Array:
        total: Array | None = None
        chosen = symmetries(images.shape[1:], dimension)
        for turn, axes in chosen:
            given = np.flip(np.rot90(images, turn, (2, 3)), axes)
            said = np.rot90(np.flip(network(np.ascontiguousarray(given)), axes), -turn, (2, 3))
            total = np.array(said) if total is None else np.add(total, said, out=total)
        assert total is not None
        total /= len(chosen)
        return total

    return compute
