"""An image predicted tile by tile: slabs in, slabs out, whatever computes the tiles.

Reading, computing and writing meet here and nowhere else; none of them knows of the others. They overlap: tiles are cut
and normalised in one thread, joined and written in another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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

__all__ = ["Done", "ImageSink", "InHand", "Network", "Sink", "predict_sample"]

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


@dataclass(frozen=True)
class Done:
    """How far a prediction is, in tiles.

    Args:
        kept: Computed before, by a process that was stopped or killed.
        taken: Those of them that are passed on already.
        computed: Computed since.
    """

    kept: int
    taken: int = 0
    computed: int = 0


def predict_sample(
    network: Network,
    source: Source,
    plan: SamplePlan,
    sink: Sink,
    *,
    values: Values,
    before_batch: Callable[[Done], None],
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
        before_batch: Told how far it is, before each batch and at the end. What it raises ends the prediction, after
            what is computed is kept.
        after_batch: Called after each batch with the slab in hand; what it is given changes later.
        store: Where finished slabs are kept, and are taken from instead of being computed.
        waits: Counted on while it runs.
        only: Numbers of the slabs to make; all if not given.
        image_sink: Takes the image of each slab while it is computed, in the same order, in the thread that reads.
    """
    slabs = _Slabs(plan, values, sink, store)
    steps = _steps(plan, store, slabs.joining, range(len(plan.layers)) if only is None else only)
    done = Done(sum(step.kept for step in steps))

    def compute(item: _Batch) -> _Computed:
        nonlocal done
        before_batch(done)
        if item.images is None:
            done = replace(done, taken=done.taken + len(item.tiles))
            return _Computed(item, None)
        said = network(item.images)
        if not item.step.again:
            done = replace(done, computed=done.computed + len(item.tiles))
        if slabs.in_hand is not None:
            after_batch(slabs.in_hand)
        return _Computed(item, said)

    try:
        batches = _batches(source, plan, steps, image_sink)
        pipeline.run(batches, compute, slabs.take, waits or pipeline.Waits())
    except BaseException:
        slabs.keep_part()
        raise
    before_batch(done)


@dataclass(frozen=True)
class _Step:
    """What is to be done about a slab.

    Args:
        index: Its number.
        kept: How many of its tiles, from the first on, are computed already.
        finished: Whether it is whole, and only passed on.
        again: Whether it is computed once more for what its tiles say of the next one.
    """

    index: int
    kept: int = 0
    finished: bool = False
    again: bool = False


def _steps(plan: SamplePlan, store: SlabStore | None, joining: Joining, wanted: range) -> list[_Step]:
    """What is to be done, in order."""
    missing = {index for index in wanted if store is None or not store.has(index)}
    steps = []
    for index, layer in enumerate(plan.layers):
        if index in missing:
            steps.append(_Step(index, 0 if store is None else store.part_done(index)))
            continue
        if index in wanted:
            steps.append(_Step(index, len(layer.tiles), finished=True))
        end = layer.tiles[-1].start[0] + plan.tiles.tile[0]
        if joining.carries and any(later > index and plan.layers[later].own[0] < end for later in missing):
            steps.append(_Step(index, again=True))
    return steps


@dataclass(frozen=True)
class _Batch:
    """Some tiles of a slab, cut out and normalised.

    Args:
        step: What is done about the slab.
        begin: Number of the first tile.
        images: float32 (B, Z, Y, X), with the slices around that the network takes, filled up to the batch's size; None
            where these tiles are computed already.
        own: The image's voxels that the slab owns, as they are stored (Z, Y, X).
    """

    step: _Step
    begin: int
    tiles: tuple[Tile, ...]
    images: npt.NDArray[np.float32] | None
    own: npt.NDArray[Any]


@dataclass(frozen=True)
class _Computed:
    """The same with what the network says, float32 (B, Z, Y, X, labels)."""

    batch: _Batch
    said: npt.NDArray[np.float32] | None


def _batches(source: Source, plan: SamplePlan, steps: Sequence[_Step], image_sink: ImageSink) -> Iterator[_Batch]:
    """What is to be computed, in order, and what need not be."""
    for step in steps:
        layer = plan.layers[step.index]
        slab = source.read(*(layer.own if step.finished else layer.read))
        own = slab if step.finished else slab[layer.own[0] - layer.read[0] : layer.own[1] - layer.read[0]]
        if step.kept:
            yield _Batch(step, 0, layer.tiles[: step.kept], None, own)
        for begin in range(step.kept, len(layer.tiles), plan.batch):
            tiles = layer.tiles[begin : begin + plan.batch]
            images = np.empty((plan.batch, *plan.tiles.given), np.float32)  # one shape, so that all is traced once
            for image, tile in zip(images, tiles, strict=False):
                source.normalised(cut(slab, layer.read[0], tile, plan.tiles), out=image)
            images[len(tiles) :] = 0
            yield _Batch(step, begin, tiles, images, own)
        if not step.again:
            image_sink(layer.own[0], own)


class _Slabs:
    """Takes tiles, and keeps the slabs that they make and passes them on.

    Attributes:
        joining: Puts the tiles together.
        in_hand: The slab that is being computed, for whoever shows it; None before there is one.
    """

    def __init__(self, plan: SamplePlan, values: Values, sink: Sink, store: SlabStore | None) -> None:
        self._plan, self._sink, self._store = plan, sink, store
        self._masks = values.kind == "mask"
        self._labels: npt.NDArray[Any] | None = None  # of the slab that is being computed
        self._index = self._done = 0  # its number, and how many of its tiles are in the labels
        self.joining = joining(plan, values)
        self.in_hand: InHand | None = None

    def take(self, computed: _Computed) -> None:
        batch, layer = computed.batch, self._plan.layers[computed.batch.step.index]
        if batch.step.finished:
            assert self._store is not None
            self._sink(layer.own[0], self._store.read(batch.step.index), batch.own)
            return
        if batch.begin == 0:
            self._begin(batch, layer)
        labels = self._labels
        assert labels is not None
        for tile, said in zip(batch.tiles, computed.said if computed.said is not None else (), strict=False):
            self.joining.place(labels, layer, tile, said)
        self._done = batch.begin + len(batch.tiles)
        complete = self._done == len(layer.tiles)
        if complete:
            self.joining.complete(labels, layer)
        if not batch.step.again:
            self.in_hand = InHand(layer, self._done, labels, batch.own)
        if complete:
            self._labels = None
            if not batch.step.again:
                self._finish(batch, layer, labels)

    def _begin(self, batch: _Batch, layer: Layer) -> None:
        self._index, self._done = batch.step.index, 0
        if batch.images is not None:
            self._labels = self.joining.begin(layer)
            return
        assert self._store is not None
        begun = self._store.part(batch.step.index)
        assert begun is not None
        self._labels = begun[0]

    def _finish(self, batch: _Batch, layer: Layer, labels: npt.NDArray[Any]) -> None:
        """Keep a slab, and pass it on."""
        if self._store is None:
            self._sink(layer.own[0], labels, batch.own)
            return
        with ThreadPoolExecutor(1, "predict-keep") as keeper:  # one waits for the disk, the other compresses
            kept = keeper.submit(self._store.keep, batch.step.index, labels, self._masks)
            self._sink(layer.own[0], labels, batch.own)
            kept.result()

    def keep_part(self) -> None:
        """Keep a slab that is begun."""
        if self._store is not None and self.joining.keeps_parts and self._labels is not None and self._done:
            self._store.keep_part(self._index, self._labels, self._done)
