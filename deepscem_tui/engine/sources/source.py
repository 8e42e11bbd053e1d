"""An image as it is read, slab by slab, and as a network sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.sources.lookup import has_table, look_up

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """An image, such as one to predict.

    Args:
        name: What to call it.
        shape: Z, Y, X.
        read: Slices ``(start, stop)`` as they are stored, (Z, Y, X).
        low: Stored value that the network sees as 0.
        high: Stored value that it sees as 1.
    """

    name: str
    shape: Shape
    read: Callable[[int, int], npt.NDArray[Any]]
    low: float = 0.0
    high: float = 1.0

    def normalised(
        self, voxels: npt.NDArray[Any], out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Stored voxels as the network sees them: float32, 0 to 1, and 0 for what is no number.

        Args:
            out: Where to write them, contiguous; made if not given.
        """
        result = np.empty(voxels.shape, np.float32) if out is None else out
        if voxels.dtype == np.float16:
            look_up(voxels, lambda every: self._computed(every, np.empty(every.shape, np.float32)), result)
            return result
        return self._computed(voxels, result)

    def normalised_as(self, voxels: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The same in another type."""
        if not has_table(voxels.dtype):
            return self.normalised(voxels).astype(dtype, copy=False)
        result = np.empty(voxels.shape, dtype)
        look_up(voxels, lambda every: self.normalised(every).astype(dtype), result)
        return result

    def _computed(self, voxels: npt.NDArray[Any], out: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        scale = np.float32(1 / (self.high - self.low) if self.high > self.low else 0)
        with np.errstate(invalid="ignore"):  # of what is no number, which is dealt with below
            np.subtract(voxels, np.float32(self.low), out=out, dtype=np.float32, casting="unsafe")
            out *= scale
        if voxels.dtype.kind == "f" and not np.isfinite(out).all():  # to look is a twentieth of the work
            np.nan_to_num(out, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        return out
