"""An image predicted tile by tile: slabs in, slabs out, whatever computes the tiles.

Reading, computing and writing meet here and nowhere else; none of them knows of the others. They overlap: tiles are cut
and normalised in one thread, joined and written in another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.prediction import pipeline
from deepscem_tui.engine.prediction.joining import Joining, joining
from deepscem_tui.engine.prediction.plan import SamplePlan
from deepscem_tui.engine.prediction.slabs import SlabStore
from deepscem_tui.engine.prediction.tiling import Layer, Tile, cut
from deepscem_tui.engine.prediction.values import Values
from deepscem_tui.engine.sources.source import Source

__all__ = ["ImageSink", "InHand", "Network", "Sink", "predict_sample"]

# float32 (B, Z, Y, X), 0 to 1 -> float32 (B, Z, Y, X, labels); of neighbouring slices only the middle one has a result
Network = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

# First slice; labels (labels, Z, Y, X); the image's voxels there (Z, Y, X) as they are stored.
Sink = Callable[[int, npt.NDArray[Any], npt.NDArray[Any]], None]

# First slice; the image's voxels from there on (Z, Y, X), as they are stored.
ImageSink = Callable[[int, npt.NDArray[Any]], None]


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


def predict_sample(
    network: Network,
    source: Source,
    plan: SamplePlan,
    sink: Sink,
    *,
    values: Values,
    before_batch: Callable[[int], None],
    after_batch: Callable[[InHand], None] = lambda _: None,
    store: SlabStore | None = None,
    waits: pipeline.Waits | None = None,
    only: range | None = None,
    image_sink: ImageSink = lambda _, __: None,
) -> None:
    """Predict an image, slab by slab along Z.

    Args:
        network: What computes a batch of tiles; its label axis may be longer than the labels.
        source: The image.
        plan: Where its tiles lie, and how many are computed at a time.
        sink: Takes each slab of the result, in ascending order and without gap, in a thread of its own.
        values: What the result holds.
        before_batch: Called with the number of tiles that are done, before each batch and at the end. What it raises
            ends the prediction, after what is computed is kept.
        after_batch: Called after each batch with the slab in hand; what it is given changes later.
        store: Where finished slabs are kept, and are taken from instead of being computed.
        waits: Counted on while it runs.
        only: Numbers of the slabs to make; all if not given.
        image_sink: Takes the image of each slab while it is computed, in the same order, in the thread that reads.
    """
    slabs = _Slabs(plan, values, sink, store)
    done = 0

    def compute(item: _Batch) -> _Computed:
        nonlocal done
        before_batch(done)
        said = network(item.images) if item.images is not None else None
        if not item.again:
            done += len(item.tiles)
        if slabs.in_hand is not None:
            after_batch(slabs.in_hand)
        return _Computed(item, said)

    try:
        wanted = range(len(plan.layers)) if only is None else only
        batches = _batches(source, plan, store, slabs.joining, wanted, image_sink)
        pipeline.run(batches, compute, slabs.take, waits or pipeline.Waits())
    except BaseException:
        slabs.keep_part()
        raise
    before_batch(done)


@dataclass(frozen=True)
class _Batch:
    """Some tiles of a slab, cut out and normalised.

    Args:
        index: Number of the slab.
        begin: Number of the first tile.
        images: float32 (B, Z, Y, X), with the slices around that the network takes, filled up to the batch's size; None
            where these tiles are computed already.
        own: The image's voxels that the slab owns, as they are stored (Z, Y, X).
        again: Whether the slab is finished, and computed for what its tiles say of the next one.
    """

    index: int
    begin: int
    tiles: tuple[Tile, ...]
    images: npt.NDArray[np.float32] | None
    own: npt.NDArray[Any]
    again: bool = False


@dataclass(frozen=True)
class _Computed:
    """The same with what the network says, float32 (B, Z, Y, X, labels)."""

    batch: _Batch
    said: npt.NDArray[np.float32] | None


def _batches(
    source: Source,
    plan: SamplePlan,
    store: SlabStore | None,
    joining: Joining,
    wanted: range,
    image_sink: ImageSink,
) -> Iterator[_Batch]:
    """What is to be computed, in order, and what need not be."""
    missing = {index for index in wanted if store is None or not store.has(index)}
    for index, layer in enumerate(plan.layers):
        end = layer.tiles[-1].start[0] + plan.tiles.tile[0]
        reached = any(later > index and plan.layers[later].own[0] < end for later in missing)
        again = joining.carries and index not in missing and reached
        if index in wanted and index not in missing:
            own = source.read(*layer.own)
            yield _Batch(index, 0, layer.tiles, None, own)
            image_sink(layer.own[0], own)
        if index not in missing and not again:
            continue
        slab = source.read(*layer.read)
        own = slab[layer.own[0] - layer.read[0] : layer.own[1] - layer.read[0]]
        begun = store.part(index) if store is not None and not again else None
        first = begun[1] if begun is not None else 0
        if first:
            yield _Batch(index, 0, layer.tiles[:first], None, own)
        for begin in range(first, len(layer.tiles), plan.batch):
            tiles = layer.tiles[begin : begin + plan.batch]
            images = np.empty((plan.batch, *plan.tiles.given), np.float32)  # one shape, so that all is traced once
            for image, tile in zip(images, tiles, strict=False):
                source.normalised(cut(slab, layer.read[0], tile, plan.tiles), out=image)
            images[len(tiles) :] = 0
            yield _Batch(index, begin, tiles, images, own, again)
        if not again:
            image_sink(layer.own[0], own)


class _Slabs:
    """Takes tiles, and keeps the slabs that they make and passes them on.

    Attributes:
        joining: Puts the tiles together.
        in_hand: The slab that is being computed, for whoever shows it; None before there is one.
    """

    def __init__(self, plan: SamplePlan, values: Values, sink: Sink, store: SlabStore | None) -> None:
        self._plan, self._sink, self._store = plan, sink, store
        self._labels: npt.NDArray[Any] | None = None
        self._index = 0
        self._masks = values.kind == "mask"
        self.joining = joining(plan, values)
        self.in_hand: InHand | None = None

    def take(self, computed: _Computed) -> None:
        batch, layer = computed.batch, self._plan.layers[computed.batch.index]
        self._index = batch.index
        done = batch.begin + len(batch.tiles)
        if computed.said is None:
            assert self._store is not None
            if self._store.has(batch.index):
                self._sink(layer.own[0], self._store.read(batch.index), batch.own)
                return
            begun = self._store.part(batch.index)
            assert begun is not None
            self._labels = begun[0]
        if self._labels is None:
            self._labels = self.joining.begin(layer)
        for tile, said in zip(batch.tiles, computed.said if computed.said is not None else (), strict=False):
            self.joining.place(self._labels, layer, tile, said)
        if done == len(layer.tiles):
            self.joining.complete(self._labels, layer)
        if not batch.again:
            self.in_hand = InHand(layer, done, self._labels, batch.own)
        if done == len(layer.tiles):
            labels, self._labels = self._labels, None
            if batch.again:
                return
            if self._store is None:
                self._sink(layer.own[0], labels, batch.own)
                return
            with ThreadPoolExecutor(1, "predict-keep") as keeper:  # one waits for the disk, the other compresses
                kept = keeper.submit(self._store.keep, batch.index, labels, self._masks)
                self._sink(layer.own[0], labels, batch.own)
                kept.result()

    def keep_part(self) -> None:
        """Keep a slab that is begun."""
        kept = self._store is not None and self.joining.keeps_parts
        if kept and self._labels is not None and self.in_hand is not None:
            assert self._store is not None
            self._store.keep_part(self._index, self._labels, self.in_hand.done)
