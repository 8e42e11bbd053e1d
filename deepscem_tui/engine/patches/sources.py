"""A sample to draw patches from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.patches.foreground import Foreground
from deepscem_tui.engine.patches.labels import PackedLabels, pack

__all__ = ["Annotated", "Blank", "Source"]


@dataclass(frozen=True)
class Source:
    """A sample to draw from: arrays in memory, or on disk where they do not fit; all (Z, Y, X).

    Args:
        foreground: Foreground voxels by label and slice, int64 (L, Z); of those that are annotated.
        held_bytes: Memory that its arrays take; 0 if they are on disk.
        where: Where the foreground is, if that is known.
        ignored: Above 0 where nobody has annotated; None where no sample of the data set has such voxels.
        annotated: Where the annotated voxels are, as the only label; None where all are.
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
    ignored: Any = None
    annotated: Foreground | None = None
    shareable: bool = False

    @property
    def n_annotated(self) -> int:
        """Voxels that are annotated."""
        return int(np.prod(self.shape) if self.annotated is None else self.annotated.totals[0])

    def read(self, box: tuple[slice, slice, slice]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """The image of a box (Z, Y, X) in the type it is stored in, and bits (P, Z, Y, X).

        These are of the labels and, where there is ``ignored``, of that after them.
        """
        image = self.image[box]
        if isinstance(self.labels, PackedLabels):
            return image, self.labels.planes[(slice(None), *box)]
        masks = [label[box] for label in self.labels]
        return image, pack(masks if self.ignored is None else [*masks, self.ignored[box]], image.shape)


class Annotated:
    """A label, or everything, without what nobody has annotated; sliced as an array is.

    Args:
        ignored: Above 0 where nobody has annotated.
        label: None for everything.
    """

    def __init__(self, ignored: Any, label: Any = None) -> None:
        self._ignored, self._label = ignored, label

    def __getitem__(self, key: Any) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = self._ignored[key] == 0
        return known if self._label is None else known & (self._label[key] != 0)


class Blank:
    """An array (Z, Y, X) of which all is 0, and that takes no memory; sliced as one is."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        part: NDArray[np.uint8] = np.broadcast_to(np.uint8(0), self._shape)[key]
        return part
