"""An image predicted tile by tile: slabs in, slabs out, whatever computes the tiles.

Reading, computing and writing meet here and nowhere else; none of them knows of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.tiling import Layer, Shape, TilePlan, cut

__all__ = ["InHand", "Network", "Sink", "Source", "predict_sample"]

# float32 (B, Z, Y, X), 0 to 1 -> float32 (B, Z, Y, X, labels)
Network = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

# First slice; labels (labels, Z, Y, X); the image's voxels there (Z, Y, X) as they are stored.
Sink = Callable[[int, npt.NDArray[Any], npt.NDArray[Any]], None]


@dataclass(frozen=True)
class InHand:
    """A slab that is being computed.

    Args:
        layer: Its tiles.
        done: How many of them are computed.
        labels: What is known, (labels, Z, Y, X); anything where no tile is computed yet.
        voxels: The image's there, as they are stored (Z, Y, X).
    """

    layer: Layer
    done: int
    labels: npt.NDArray[Any]
    voxels: npt.NDArray[Any]


# Voxels of a slab of slices; with networks for volumes a slab is as thick as its tiles.
SLAB_VOXELS = 2**24


@dataclass(frozen=True)
class Source:
    """An image to predict.

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

    def normalised(self, voxels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Stored voxels as the network sees them: float32, 0 to 1, and 0 for what is no number."""
        result = voxels.astype(np.float32)
        if (self.low, self.high) != (0.0, 1.0):
            result -= np.float32(self.low)
            result *= np.float32(1 / (self.high - self.low) if self.high > self.low else 0)
        if voxels.dtype.kind == "f":
            np.nan_to_num(result, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        return result


def predict_sample(
    network: Network,
    source: Source,
    plan: TilePlan,
    sink: Sink,
    *,
    n_labels: int,
    batch: int,
    threshold: float | None,
    before_batch: Callable[[int], None],
    after_batch: Callable[[InHand], None] = lambda _: None,
) -> None:
    """Predict an image, slab by slab along Z.

    Args:
        network: What computes a batch of tiles; its label axis may be longer than ``n_labels``.
        source: The image.
        plan: Where its tiles lie.
        sink: Takes each slab of the result, in ascending order and without gap: uint8 0 or 1 with a threshold,
            float32 as the network gives it without.
        batch: Most tiles in a call of the network.
        threshold: Values above it are foreground; None to keep the values.
        before_batch: Called with the number of tiles that are done, before each batch and at the end. What it raises
            ends the prediction.
        after_batch: Called after each batch with the slab in hand; what it is given changes later.
    """
    done = 0
    for layer in plan.layers(SLAB_VOXELS):
        slab = source.read(*layer.read)
        first, last = layer.own
        own = slab[first - layer.read[0] : last - layer.read[0]]
        labels = np.empty((n_labels, last - first, *source.shape[1:]), np.float32 if threshold is None else np.uint8)
        for begin in range(0, len(layer.tiles), batch):
            before_batch(done)
            _predict_batch(network, source, plan, layer, slice(begin, begin + batch), slab, labels, threshold)
            some = min(batch, len(layer.tiles) - begin)
            done += some
            after_batch(InHand(layer, begin + some, labels, own))
        sink(first, labels, own)
    before_batch(done)


def _predict_batch(
    network: Network,
    source: Source,
    plan: TilePlan,
    layer: Layer,
    chosen: slice,
    slab: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    threshold: float | None,
) -> None:
    """Compute some of a layer's tiles, and put the voxels that each owns into ``labels`` (labels, Z, Y, X)."""
    tiles = layer.tiles[chosen]
    images = np.stack([source.normalised(cut(slab, layer.read[0], tile, plan)) for tile in tiles])
    for tile, values in zip(tiles, network(images), strict=True):
        inside = tuple(slice(a - start, b - start) for (a, b), start in zip(tile.core, tile.start, strict=True))
        z, y, x = tile.core
        target = labels[:, z[0] - layer.own[0] : z[1] - layer.own[0], slice(*y), slice(*x)]
        owned = np.moveaxis(values[inside][..., : len(labels)], -1, 0)
        target[...] = owned if threshold is None else owned > threshold
