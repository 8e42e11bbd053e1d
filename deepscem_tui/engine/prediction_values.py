"""What a prediction stores of each label and voxel: masks, or probabilities in a type of one's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BYTE_SCALE", "Values"]

BYTE_SCALE = 255  # a probability of 1 as uint8


@dataclass(frozen=True)
class Values:
    """How what the network says becomes what is stored.

    Args:
        thresholds: One a label; a value above it is foreground.
        kind: ``"mask"`` for uint8 0 and 1; ``"float32"``, ``"float16"``, or ``"uint8"`` for probabilities, the last as
            0 to 255.
    """

    thresholds: tuple[float, ...]
    kind: str = "mask"

    @property
    def n_labels(self) -> int:
        return len(self.thresholds)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("uint8" if self.kind == "mask" else self.kind)

    def of(self, said: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Values of the network (Z, Y, X, outputs), of which the labels come first, as stored (labels, Z, Y, X)."""
        labels = np.moveaxis(said[..., : self.n_labels], -1, 0)
        result: npt.NDArray[Any]
        if self.kind == "mask":
            result = (labels > _by_label(self.thresholds)).astype(np.uint8)
        elif self.kind == "uint8":
            result = np.rint(np.clip(labels, 0, 1) * np.float32(BYTE_SCALE)).astype(np.uint8)
        else:
            result = labels.astype(self.kind)
        return result

    def foreground(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Voxels of each label's foreground in what is stored (labels, Z, Y, X)."""
        scale = {"mask": 0.0, "uint8": float(BYTE_SCALE)}.get(self.kind, 1.0)
        levels = (threshold * scale for threshold in self.thresholds)
        return np.array([np.count_nonzero(label > level) for label, level in zip(stored, levels, strict=True)])


def _by_label(numbers: Sequence[float]) -> npt.NDArray[np.float32]:
    return np.array(numbers, np.float32)[:, None, None, None]
