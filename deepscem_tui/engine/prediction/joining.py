"""Tiles put together to slabs: each voxel from the tile that owns it, or the mean of all that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.prediction.plan import SamplePlan
from deepscem_tui.engine.prediction.tiling import AxisPlan, Layer, Tile
from deepscem_tui.engine.prediction.values import Values

__all__ = ["Blending", "Joining", "joining"]

_SIGMA = 1 / 12  # of a tile's side: 1/8 gave 2.6 times the mean difference of crop to one piece


def joining(plan: SamplePlan, values: Values) -> Joining:
    """What puts the tiles of a plan together."""
    return Blending(plan, values) if plan.tiles.join == "blend" else Joining(plan, values)


class Joining:
    """Every voxel from the tile that owns it.

    Attributes:
        carries: Whether a slab needs what the tiles of the one before said of it.
        keeps_parts: Whether a slab that is begun can be gone on with from its labels alone.
    """

    carries = False
    keeps_parts = True

    def __init__(self, plan: SamplePlan, values: Values) -> None:
        self._plan, self._values = plan, values

    def begin(self, layer: Layer) -> npt.NDArray[Any]:
        """Room for the labels of a slab, (labels, Z, Y, X): 0 where anybody sees it before it is full."""
        shape = (self._values.n_labels, layer.own[1] - layer.own[0], *self._plan.tiles.shape[1:])
        made = np.empty if len(layer.tiles) <= self._plan.batch else np.zeros
        return made(shape, self._values.dtype)

    def place(self, labels: npt.NDArray[Any], layer: Layer, tile: Tile, said: npt.NDArray[np.float32]) -> None:
        """Put the voxels that a tile owns, of what the network says of it (Z, Y, X, outputs), where they belong."""
        (first, last), y, x = tile.core
        first, last = max(first, layer.own[0]), min(last, layer.own[1])
        core = ((first, max(first, last)), y, x)
        inside = tuple(slice(a - start, b - start) for (a, b), start in zip(core, tile.start, strict=True))
        z = slice(core[0][0] - layer.own[0], core[0][1] - layer.own[0])
        self._values.store(said[inside], labels[:, z, slice(*y), slice(*x)])

    def complete(self, labels: npt.NDArray[Any], layer: Layer) -> None:
        """Called when all tiles of a slab are placed."""


@dataclass
class _Sums:
    """Weighted sums (Z, Y, X, labels) and weights (Z, Y, X) of the slices from ``first`` on."""

    first: int
    values: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


class Blending(Joining):
    """The mean of all tiles that hold a voxel, by weights that fall from a tile's middle to its ends as Gauss' curve.

    Until a slab is complete its labels are those of :class:`Joining`.
    """

    keeps_parts = False

    def __init__(self, plan: SamplePlan, values: Values) -> None:
        super().__init__(plan, values)
        self.carries = plan.tiles.dimension == 3
        z, y, x = (_weights(axis) for axis in plan.tiles.axes)
        self._weights = z[:, None, None] * y[:, None] * x
        self._sums: _Sums | None = None
        self._carried: _Sums | None = None

    def begin(self, layer: Layer) -> npt.NDArray[Any]:
        plan = self._plan.tiles
        end = min(layer.tiles[-1].start[0] + plan.tile[0], plan.shape[0])
        shape = (end - layer.own[0], *plan.shape[1:])
        self._sums = _Sums(
            layer.own[0], np.zeros((*shape, self._values.n_labels), np.float32), np.zeros(shape, np.float32)
        )
        if self._carried is not None and self._carried.first == layer.own[0]:
            length = len(self._carried.values)
            self._sums.values[:length] = self._carried.values
            self._sums.weights[:length] = self._carried.weights
        return super().begin(layer)

    def place(self, labels: npt.NDArray[Any], layer: Layer, tile: Tile, said: npt.NDArray[np.float32]) -> None:
        super().place(labels, layer, tile, said)
        assert self._sums is not None
        ends = [min(start + side, size) for start, side, size in self._boxes(tile)]
        inside = tuple(slice(0, end - start) for end, start in zip(ends, tile.start, strict=True))
        first = tile.start[0] - self._sums.first
        where = (
            slice(first, first + inside[0].stop),
            *(slice(a, b) for a, b in zip(tile.start[1:], ends[1:], strict=True)),
        )
        weights = self._weights[inside]
        self._sums.values[where] += weights[..., None] * said[inside][..., : self._values.n_labels]
        self._sums.weights[where] += weights

    def complete(self, labels: npt.NDArray[Any], layer: Layer) -> None:
        sums = self._sums
        assert sums is not None
        own = layer.own[1] - layer.own[0]
        self._values.store(sums.values[:own] / sums.weights[:own, ..., None], labels)
        self._carried = (
            _Sums(layer.own[1], sums.values[own:].copy(), sums.weights[own:].copy()) if self.carries else None
        )
        self._sums = None

    def _boxes(self, tile: Tile) -> zip[tuple[int, int, int]]:
        return zip(tile.start, self._plan.tiles.tile, self._plan.tiles.shape, strict=True)


def _weights(axis: AxisPlan) -> npt.NDArray[np.float32]:
    """Of a tile's voxels along an axis; all the same where there is one tile."""
    if len(axis.starts) == 1:
        return np.ones(axis.tile, np.float32)
    places = (np.arange(axis.tile) + 0.5) / axis.tile - 0.5
    weights: npt.NDArray[np.float32] = np.exp(-0.5 * (places / _SIGMA) ** 2).astype(np.float32)
    return weights
