"""The samples of a prediction, one after the other: the network on their tiles, the result, what is told of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.context import Context
from deepscem_tui.engine.models.files import ModelInfo
from deepscem_tui.engine.prediction.orthogonal import Mean, ReadSlab, across, kept_type
from deepscem_tui.engine.prediction.output import Output
from deepscem_tui.engine.prediction.pipeline import Waits
from deepscem_tui.engine.prediction.plan import SamplePlan
from deepscem_tui.engine.prediction.rescaling import Resampling
from deepscem_tui.engine.prediction.seams import Seams
from deepscem_tui.engine.prediction.slabs import SlabStore
from deepscem_tui.engine.prediction.tiled import ImageSink, Network, predict_sample
from deepscem_tui.engine.prediction.tiling import Layer
from deepscem_tui.engine.prediction.values import Values
from deepscem_tui.engine.prediction.watch import Preview, Progress
from deepscem_tui.engine.sources.inputs import InputImage
from deepscem_tui.engine.sources.source import Source

__all__ = ["Predicting", "Work", "by_sample", "diagnostics", "slab_store"]


@dataclass
class Work:
    """A sample or a plane of it, how it is predicted, and what came of it."""

    image: InputImage
    plan: SamplePlan
    slabs: range
    seconds: float = 0.0
    computed_voxels: int = 0  # by this process, and in how many of the seconds
    computing: float = 0.0
    waits: Waits = field(default_factory=Waits)
    foreground: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    seam_score: float | None = None

    @property
    def voxels(self) -> int:
        depth = sum(layer.own[1] - layer.own[0] for layer in self.layers)
        return depth * prod(self.plan.tiles.shape[1:])

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The slabs that are computed here."""
        return self.plan.layers[self.slabs.start : self.slabs.stop]

    @property
    def n_tiles(self) -> int:
        return sum(len(layer.tiles) for layer in self.layers)


def by_sample(works: Sequence[Work]) -> list[list[Work]]:
    """The works of each sample: one, or one for each plane, that along Z at last."""
    return [list(group) for _, group in groupby(works, key=lambda work: work.plan.sample)]


def diagnostics(works: Sequence[Work]) -> dict[str, Any]:
    """How a sample went: shares of the time, 0 to 1, and the seam score of :class:`Seams`.

    The speed is of what this process computed; None if that is nothing.
    """
    seconds = max(sum(work.seconds for work in works), 1e-9)
    computed = sum(work.computed_voxels for work in works) / len(works)
    computing = max(sum(work.computing for work in works), 1e-9)
    score = works[-1].seam_score
    return {
        "sample": works[-1].plan.sample,
        "seconds": round(seconds, 3),
        "voxels_per_second": round(computed / computing) if computed else None,
        "waiting_for_data": round(sum(work.waits.before for work in works) / seconds, 4),
        "waiting_for_disk": round(sum(work.waits.after for work in works) / seconds, 4),
        "seam_score": None if score is None else round(score, 4),
    }


def slab_store(home: Path | None, index: int) -> SlabStore | None:
    """Where the slabs of the plan's entry of this number are kept; None if they are not."""
    return SlabStore(home / "slabs", index) if home is not None else None


@dataclass(frozen=True)
class Predicting:
    """What all samples of a prediction have in common.

    Args:
        values: What the result holds.
        precision: Of the network.
        output: Takes the result; None to keep the slabs for `merge`.
        home: Where slabs are kept; must be given where planes are averaged.
    """

    context: Context
    info: ModelInfo
    network: Network
    values: Values
    precision: str
    output: Output | None
    home: Path | None

    def predict(self, works: Sequence[Work]) -> None:
        """Predict samples, in the order of the plan; what comes of each is written to its work.

        Raises:
            EngineError: as the network, the images and the output say.
            Stopped: on request.
        """
        total = sum(work.n_tiles for work in works)
        before = index = 0
        for of_sample in by_sample(works):
            planes: list[tuple[SamplePlan, ReadSlab]] = []
            kept = self.values
            if len(of_sample) > 1 or of_sample[0].image.original is not None:
                kept = Values(self.values.thresholds, kept_type(self.precision))
            for work in of_sample:
                store = slab_store(self.home, index)
                if work.slabs:  # else all of it belongs to other shards
                    began = time.monotonic()
                    progress = Progress(self.context, work.plan.title, work.n_tiles, work.voxels, before, total)
                    self._predict(work, index, store, kept, Mean(planes, self.values) if planes else None, progress)
                    work.seconds, work.computing = time.monotonic() - began, progress.computing
                    work.computed_voxels = progress.computed_voxels
                    before += work.n_tiles
                if len(of_sample) > 1 and store is not None:
                    planes.append((work.plan, store.read))
                index += 1
            if any(work.slabs for work in of_sample):
                self.context.report.event("diagnostics", **diagnostics(of_sample))

    def _predict(
        self, work: Work, index: int, store: SlabStore | None, kept: Values, mean: Mean | None, progress: Progress
    ) -> None:
        """Predict a sample, or a plane of it.

        Args:
            kept: What its slabs hold.
            mean: Makes the result of them where planes are averaged.
        """
        with self._opened(work, index, store) as (source, wanted):
            take, take_image = self._sinks(work, kept, mean)
            preview = Preview(self.context, index, source, self.info.label_names, self.values, work.plan.plane)
            skipped = sum(len(layer.tiles) for layer in work.layers[: wanted.start - work.slabs.start])
            predict_sample(
                self.network,
                source,
                work.plan,
                lambda first, labels, voxels: preview.take(first, take(first, labels, voxels), voxels),
                values=kept,
                before_batch=lambda done: progress(done, skipped),
                after_batch=preview.fill_in,
                store=store,
                waits=work.waits,
                only=wanted,
                image_sink=take_image,
            )
            preview.end()

    @contextmanager
    def _opened(self, work: Work, index: int, store: SlabStore | None) -> Iterator[tuple[Source, range]]:
        """The image as the plan's plane shows it, and the slabs that are to be made of it."""
        plan, image = work.plan, work.image.source
        if plan.plane == "xy":
            yield image, work.slabs
            return
        assert store is not None
        assert self.home is not None
        source = replace(image, name=plan.title)
        first = next((number for number in work.slabs if not store.has(number)), work.slabs.stop)
        wanted = range(first, work.slabs.stop)
        if not wanted:
            yield source, wanted
            return
        span = plan.layers[wanted[0]].read[0], plan.layers[wanted[-1]].read[1]
        path = self.home / "turned" / f"{index:04}-{work.slabs.start:07}"  # no two shards have this slab
        with across(source, plan.plane, span, path, self.context) as turned:
            yield turned, wanted

    def _sinks(self, work: Work, kept: Values, mean: Mean | None) -> tuple[_Taking, ImageSink]:
        """Where slabs go, and their image: into the result, where this is one's last plane.

        Foreground and seams are looked at on the way. The first gives what it made of a slab.
        """
        if work.image.original is not None and self.output is not None:
            return self._back(work, work.image.original, self.output), lambda _, __: None
        if work.plan.plane != "xy":
            return lambda _, labels, __: labels, lambda _, __: None
        sink, image_sink = (_nowhere, lambda _, __: None) if self.output is None else self.output.sinks(work.image)
        values = kept if self.output is None else self.values
        seams = Seams(work.plan.tiles)
        work.foreground = np.zeros(values.n_labels, np.int64)

        def take(first: int, labels: npt.NDArray[Any], voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
            if mean is not None and self.output is not None:
                labels = mean.of(first, labels)
            work.foreground += values.foreground(labels)
            seams.take(labels)
            work.seam_score = seams.score
            sink(first, labels, voxels)
            return labels

        return take, image_sink

    def _back(self, work: Work, original: InputImage, output: Output) -> _Taking:
        """Where slabs at the model's voxel size go: into the result at the image's, a slice at a time."""
        sink, image_sink = output.sinks(original)
        resampling = Resampling(work.plan.shape, original.source.shape)
        seams = Seams(work.plan.tiles)
        work.foreground = np.zeros(self.values.n_labels, np.int64)

        def take(_: int, labels: npt.NDArray[Any], __: npt.NDArray[Any]) -> npt.NDArray[Any]:
            for z, said in resampling.feed(labels):
                stored = self.values.stored(said[:, None])
                work.foreground += self.values.foreground(stored)
                sink(z, stored, stored[0])
                if output.has_image:
                    image_sink(z, original.source.read(z, z + 1))
            shown = self.values.stored(labels)
            seams.take(shown)
            work.seam_score = seams.score
            return shown

        return take


# First slice; labels (labels, Z, Y, X) of a slab as it is kept; the image's voxels -> labels as they are in the result.
_Taking = Callable[[int, npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]


def _nowhere(_: int, __: npt.NDArray[Any], ___: npt.NDArray[Any]) -> None:
    """The sink of a shard, whose slabs are kept for `merge`."""
