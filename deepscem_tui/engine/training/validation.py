"""Validation: what the network says of whole samples, computed as prediction computes it and judged in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets.dataset import Sample
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in
from deepscem_tui.engine.evaluation.metrics import ThresholdCurve
from deepscem_tui.engine.evaluation.thresholds import UNTUNED, tuned_threshold
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.prediction.network import OutOfMemory, TileNetwork
from deepscem_tui.engine.prediction.plan import PredictionPlan, SamplePlan
from deepscem_tui.engine.prediction.tiled import Network, Sink, predict_sample
from deepscem_tui.engine.prediction.tiling import DEFAULT_VOXELS, Tile, plan_tiles
from deepscem_tui.engine.prediction.values import Values
from deepscem_tui.engine.sources.source import Source
from deepscem_tui.engine.system.devices import tensorflow
from deepscem_tui.engine.training.losses import Loss
from deepscem_tui.engine.training.trainer import Scores

__all__ = ["Part", "Validated", "Validator", "choose_parts"]

Box = tuple[slice, slice, slice]

_PIECE_VOXELS = 2**20  # that are judged at a time


@dataclass(frozen=True)
class Validated:
    """What a validation found.

    Args:
        loss: Over all that was validated at once, as if it were one batch.
        curves: One a label.
        thresholds: One a label, tuned on this validation, or :data:`UNTUNED`.
        spreads: Of each label the difference between the greatest and the smallest value that the network said.
        losses: One a label, see :attr:`~deepscem_tui.engine.training.losses.Loss.each`.
    """

    loss: float
    curves: Sequence[ThresholdCurve]
    thresholds: tuple[float, ...]
    spreads: tuple[float, ...]
    losses: tuple[float, ...]

    @cached_property
    def scores(self) -> Scores:
        """At the thresholds."""
        found = zip(self.curves, self.thresholds, strict=True)
        return Scores(self.loss, [curve.at(threshold) for curve, threshold in found])

    @cached_property
    def untuned(self) -> Scores:
        """At 0.5."""
        return Scores(self.loss, [curve.at(UNTUNED) for curve in self.curves])


@dataclass(frozen=True)
class Part:
    """A box of a sample that is validated.

    Args:
        sample: Name of the sample.
        box: What the network sees.
        plan: How that is predicted.
        core: What is judged of it, in voxels of the sample.
    """

    sample: str
    box: Box
    plan: SamplePlan
    core: Box

    @property
    def voxels(self) -> int:
        """That are judged."""
        return prod(side.stop - side.start for side in self.core)


def choose_parts(plan: PredictionPlan, most: int, ignored: Mapping[str, Ignored] = MappingProxyType({})) -> list[Part]:
    """What to validate on: the samples as a whole; where that is too much, tiles of them, evenly spread.

    Args:
        plan: How the samples are predicted, in tiles that do not overlap what others own.
        most: Voxels that the network may be given in a validation.
        ignored: What is not annotated, of samples by name: no part is a tile without an annotated voxel.

    Returns:
        Parts that are always the same: one of each run of so many tiles, in which it is picked at random so that they
        do not all lie in one column. What a tile owns is judged and is just what the whole prediction has there.
    """
    everything = sum(sample.computed_voxels for sample in plan.samples if sample.sample not in ignored)
    tiles = [
        (sample, tile)
        for sample in plan.samples
        for layer in sample.layers
        for tile in layer.tiles
        if sample.sample not in ignored or ignored[sample.sample].anything_in(*_box(slice(*s) for s in tile.core))
    ]
    partly = [(sample, tile) for sample, tile in tiles if sample.sample in ignored]
    if everything + sum(sample.tiles.tile_voxels for sample, _ in partly) <= most:
        wholes = [sample for sample in plan.samples if sample.sample not in ignored]
        boxes = [_box(slice(0, side) for side in sample.tiles.shape) for sample in wholes]
        whole_parts = [Part(sample.sample, box, sample, box) for sample, box in zip(wholes, boxes, strict=True)]
        return whole_parts + [_tile_part(sample, tile) for sample, tile in partly]
    total = sum(sample.tiles.tile_voxels for sample, _ in tiles)
    count = max(1, min(len(tiles), len(tiles) * most // total))
    runs = np.linspace(0, len(tiles), count + 1).astype(int)
    rng = np.random.default_rng(0)
    parts = []
    for first, end in pairwise(runs):
        picked = int(rng.integers(first, end))
        for sample, tile in (*tiles[picked:end], *tiles[first:picked]):
            if _annotated(tile, ignored.get(sample.sample)):
                parts.append(_tile_part(sample, tile))
                break
    return parts


def _annotated(tile: Tile, ignored: Ignored | None) -> bool:
    """Whether what a tile owns has an annotated voxel; only masks have to be read for it."""
    return ignored is None or not ignored.mask or not ignored[_box(slice(*side) for side in tile.core)].all()


def _tile_part(sample: SamplePlan, tile: Tile) -> Part:
    """What a tile owns, with all that it sees."""
    whole = sample.tiles
    reach = (whole.context, 0, 0)
    seen = [
        slice(max(0, start - more), min(start + side + more, size))
        for start, side, size, more in zip(tile.start, whole.tile, whole.shape, reach, strict=True)
    ]
    shape: Shape = tuple(side.stop - side.start for side in seen)  # type: ignore[assignment]
    one = plan_tiles(
        shape, whole.dimension, whole.divisor, whole.radius, most_voxels=whole.tile_voxels, sees_all=whole.sees_all
    )
    return Part(sample.sample, _box(seen), SamplePlan(sample.sample, one, 1), _box(slice(*side) for side in tile.core))


def _box(sides: Any) -> Box:
    z, y, x = sides
    return z, y, x


class Validator:
    """Validates a model on samples: no augmentation, the tiles and the code of `predict`, always the same voxels.

    Counts of hits and errors at every threshold, and with them all scores, come from one histogram a label. The loss is
    that of all voxels at once, from sums (see :class:`~deepscem_tui.engine.training.losses.Loss`): as of one batch as
    large as the validation, so that it depends neither on tiles nor on which of them happen to hold a label.

    Args:
        samples: With an image and labels, by name.
        info: Of the model.
        loss: Its loss.
        planned: Plans their prediction; takes the most voxels of a call of the network.
        most: Voxels that the network may be given in a validation, see :func:`choose_parts`.
        tune: Whether thresholds are tuned; else they are 0.5.
        check: Called before each batch of tiles; what it raises ends the validation.
    """

    def __init__(
        self,
        samples: Mapping[str, Sample],
        info: ModelInfo,
        loss: Loss,
        planned: Callable[[int], PredictionPlan],
        most: int,
        *,
        tune: bool,
        check: Callable[[], None],
    ) -> None:
        self._samples = samples
        found = {name: ignored_in(sample) for name, sample in samples.items()}
        self._ignored = {name: ignored for name, ignored in found.items() if ignored is not None}
        self._info, self._loss, self._tune, self._check = info, loss, tune, check
        self._planned, self._most = planned, most
        self._plan = planned(DEFAULT_VOXELS[info.dimension])
        self.parts = choose_parts(self._plan, most, self._ignored)
        self._model: Any = None
        self._network: TileNetwork | None = None

    def words(self, path: Path) -> str:
        """A sentence on what of a data set is validated on, and how."""
        whole = sum(
            self._ignored[sample.sample].annotated if sample.sample in self._ignored else prod(sample.tiles.shape)
            for sample in self._plan.samples
        )
        judged = sum(self._annotated(part) for part in self.parts)
        kind = "labelled voxels" if self._ignored else "voxels"
        how = "each label at its best threshold" if self._tune else f"at a threshold of {UNTUNED:g}"
        if judged == whole:
            return f"Validating on all {kind} of {path}, {how}"
        tiles = words.counted(len(self.parts), "tile")
        return (
            f"Validating on {tiles} of {path}, always the same {100 * judged / whole:.2g} % of its {kind}, {how}; "
            "more --validation-steps for more"
        )

    def _annotated(self, part: Part) -> int:
        """Annotated voxels that a part is judged by."""
        if part.sample not in self._ignored:
            return part.voxels
        return part.voxels - int(np.count_nonzero(self._ignored[part.sample][part.core]))

    def __call__(self, model: Any) -> Validated:
        """Validate a model as it is.

        Raises:
            ResourceError: not even its smallest tiles fit the memory.
        """
        if self._network is None or model is not self._model:  # kept, since it is traced once
            self._model, self._network = model, TileNetwork(lambda: model)
        while True:
            try:
                return self._validated(self._network)
            except OutOfMemory:
                most = max(sample.batch * sample.tiles.tile_voxels for sample in self._plan.samples) // 2
                smaller = self._planned(most)
                if smaller == self._plan:
                    raise
                self._plan, self.parts = smaller, choose_parts(smaller, self._most, self._ignored)

    def _validated(self, network: Network) -> Validated:
        tally = _Tally(self._info, self._loss)
        for part in self.parts:
            sample = self._samples[part.sample]
            predict_sample(
                network,
                Source(part.sample, part.plan.tiles.shape, _reader(sample, part.box)),
                part.plan,
                tally.sink(sample, part, self._ignored.get(part.sample)),
                values=Values((UNTUNED,) * self._info.n_labels, "float32"),
                before_batch=lambda _: self._check(),
            )
        return tally.result(self._tune)


def _reader(sample: Sample, box: Box) -> Callable[[int, int], npt.NDArray[Any]]:
    z, y, x = box
    return lambda first, end: sample.image[z.start + first : z.start + end, y, x]


class _Tally:
    """Adds up what is told of the parts of a validation."""

    def __init__(self, info: ModelInfo, loss: Loss) -> None:
        self._info, self._loss = info, loss
        self._curves: list[ThresholdCurve | None] = [None] * info.n_labels
        self._sums: list[npt.NDArray[np.float64]] = []
        self._low, self._high = np.full(info.n_labels, np.inf), np.full(info.n_labels, -np.inf)

    def sink(self, sample: Sample, part: Part, ignored: Ignored | None) -> Sink:
        """Takes what the network says of a part, slab by slab."""
        z, y, x = part.core
        step = max(1, _PIECE_VOXELS // ((y.stop - y.start) * (x.stop - x.start)))

        def take(first: int, said: npt.NDArray[np.float32], _: npt.NDArray[Any]) -> None:
            first += part.box[0].start  # in slices of the sample
            within = tuple(
                slice(core.start - box.start, core.stop - box.start)
                for core, box in zip((y, x), part.box[1:], strict=True)
            )
            for start in range(max(z.start, first), min(z.stop, first + said.shape[1]), step):
                stop = min(start + step, z.stop, first + said.shape[1])
                true = np.stack([label[start:stop, y, x] != 0 for label in sample.labels])
                known = None if ignored is None else ignored[start:stop, y, x] == 0
                self._add(true, said[:, start - first : stop - first, within[0], within[1]], known)

        return take

    def _add(
        self, true: npt.NDArray[np.bool_], said: npt.NDArray[np.float32], known: npt.NDArray[np.bool_] | None
    ) -> None:
        """Judge some voxels, both (L, Z, Y, X), of which those that are known (Z, Y, X) count."""
        for index, (mask, values) in enumerate(zip(true, said, strict=True)):
            judged = (mask, values) if known is None else (mask[known], values[known])
            self._curves[index] = ThresholdCurve.of(*judged) + self._curves[index]
        self._low = np.minimum(self._low, said.min(axis=(1, 2, 3)))
        self._high = np.maximum(self._high, said.max(axis=(1, 2, 3)))
        targets, outputs = np.moveaxis(true, 0, -1), np.moveaxis(said, 0, -1)
        if self._info.background:  # which prediction leaves out: softmax shares 1
            outputs = np.concatenate([outputs, 1 - outputs.sum(axis=-1, keepdims=True)], axis=-1)
        with tensorflow().device("CPU"):  # this is not the thread that knows what to do when a GPU's memory is full
            counts = None if known is None else known[..., None]
            sums = [np.asarray(some, np.float64) for some in self._loss.sums(targets, outputs, counts)]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums

    def result(self, tune: bool) -> Validated:
        curves = [curve for curve in self._curves if curve is not None]
        thresholds = tuple(tuned_threshold(curve) if tune else UNTUNED for curve in curves)
        spreads = tuple(float(high - low) for low, high in zip(self._low, self._high, strict=True))
        losses = tuple(map(float, self._loss.each(self._sums)))
        return Validated(float(self._loss.value(self._sums)), curves, thresholds, spreads, losses)
