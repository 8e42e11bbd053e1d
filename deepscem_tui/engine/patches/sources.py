"""A sample to draw patches from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.patches.foreground import Foreground
from deepscem_tui.engine.patches.labels import PackedLabels, pack

__all__ = ["Shape", "Source"]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """A sample to draw from: arrays in memory, or on disk where they do not fit; all (Z, Y, X).

    Args:
        foreground: Foreground voxels by label and slice, int64 (L, Z).
        held_bytes: Memory that its arrays take; 0 if they are on disk.
        where: Where the foreground is, if that is known.
        shareable: Whether other processes can read it too.
    """

    name: str
    shape: Shape
    voxel_size: tuple[float, float, float] | None
    image: Any
    labels: Sequence[Any]
    foreground: NDArray[np.int64]
    held_bytes: int = 0
    where: Foreground | None = None
    shareable: bool = False

    def read(self, box: tuple[slice, slice, slice]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """The image of a box (Z, Y, X) in the type it is stored in, and its labels as bits (P, Z, Y, X)."""
        image = self.image[box]
        if isinstance(self.labels, PackedLabels):
            return image, self.labels.planes[(slice(None), *box)]
        return image, pack([label[box] for label in self.labels], image.shape)
