"""What a prediction stores of each label and voxel: masks, or probabilities in a type of one's choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.models.info import ModelInfo

__all__ = ["BYTE_SCALE", "Values", "values_of"]

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

    def store(self, said: npt.NDArray[np.float32], out: npt.NDArray[Any]) -> None:
        """Write values of the network (Z, Y, X, outputs), of which the labels come first, as they are stored.

        Args:
            out: Of :attr:`dtype`, (labels, Z, Y, X).
        """
        for index, threshold in enumerate(self.thresholds):
            label = said[..., index]
            if self.kind == "mask":
                np.greater(label, np.float32(threshold), out=out[index].view(np.bool_))
            elif self.kind == "uint8":
                out[index] = np.rint(np.clip(label, 0, 1) * np.float32(BYTE_SCALE))
            else:
                out[index] = label

    def stored(self, said: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the network says (labels, Z, Y, X) as it is stored, in the same shape."""
        out = np.empty(said.shape, self.dtype)
        self.store(np.moveaxis(said, 0, -1).astype(np.float32, copy=False), out)
        return out

    def foreground(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Voxels of each label's foreground in what is stored (labels, Z, Y, X)."""
        if self.kind == "mask":
            return np.array([np.count_nonzero(label) for label in stored])
        scale = BYTE_SCALE if self.kind == "uint8" else 1
        return np.array(
            [
                np.count_nonzero(label > threshold * scale)
                for label, threshold in zip(stored, self.thresholds, strict=True)
            ]
        )


def values_of(parameters: p.Predict, info: ModelInfo) -> Values:
    """What a result is to hold."""
    kind = parameters.probability_type if parameters.probabilities else "mask"
    return Values(_thresholds(parameters, info), kind)


def _thresholds(parameters: p.Predict, info: ModelInfo) -> tuple[float, ...]:
    """Of each label: the one that was asked for, else the model's own, else 0.5."""
    if parameters.threshold is None and info.thresholds is not None:
        return info.thresholds
    return (0.5 if parameters.threshold is None else parameters.threshold,) * info.n_labels
