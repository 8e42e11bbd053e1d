"""The action `predict`: checks, one plan a sample, the network on every tile, the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import run_preview, words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.devices import device_summary, tensorflow
from deepscem_tui.engine.errors import ParameterError, ResourceError
from deepscem_tui.engine.memory import memory_limit
from deepscem_tui.engine.model_files import ModelInfo, load_model
from deepscem_tui.engine.model_info import read_network
from deepscem_tui.engine.networks.geometry import step_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.prediction_output import Output, check_output, open_output, output_files
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources import InputImage, open_images, same_file
from deepscem_tui.engine.tiled import InHand, Network, Sink, predict_sample
from deepscem_tui.engine.tiling import TilePlan, plan_tiles
from deepscem_tui.engine.tiling_deepscem import plan_as_deepscem

__all__ = ["default_batch", "network_function", "predict", "predict_sample"]

# Voxels in a call of the network where --batch-size is not given: larger tiles come one at a time.
_BATCH_VOXELS = 2**20
_MOST_TILES = 32
_EVENT_SECONDS = 0.5
_PREVIEW_SECONDS = 1.0  # between two slices for whoever watches
_PREVIEW_SHARE = 0.02  # of the time that they take, at most


def predict(parameters: p.Predict, context: Context) -> Result:
    """Predict the labels of a data set's samples, or of an image file.

    Raises:
        ParameterError: for parameters that do not fit each other, the model or the input.
        DataError: for a model or an input that cannot be used.
        ResourceError: for tiles that do not fit the memory.
        Stopped: on request; nothing is left of the output.
    """
    info, graph = read_network(parameters.model)
    _check_paths(parameters)
    with ExitStack() as files:
        images = files.enter_context(open_images(parameters.input, parameters.sample, context))
        check_output(parameters, [image.source.name for image in images], info.label_names)
        works = [_Work(image, _plan(parameters, image, info)) for image in images]
        _say_plan(works, info, context)
        if parameters.dry_run:
            _check_memory(parameters, works, graph)
            return _planned(parameters, works)
        _check_memory(parameters, works, graph, device_summary().startswith("CPU"))
        model, info = load_model(parameters.model)
        context.report.event("started", device=device_summary(), plans=[work.facts() for work in works])
        for work in works:
            work.image = work.image.measured(context)
        network = network_function(model)
        output = files.enter_context(open_output(parameters, info, images))
        _predict_all(parameters, context, info, network, works, output)
    return _result(parameters, info, works)


def network_function(model: Any) -> Network:
    """A Keras model as a function of batches of tiles, traced once for every size of batch and tile.

    Raises (when called):
        ResourceError: a batch does not fit the memory.
    """
    tf = tensorflow()
    rank = len(model.inputs[0].shape) - 1  # without the channel
    any_size = tf.TensorSpec([None] * rank, tf.float32)

    forward = tf.function(
        lambda images: tf.cast(model(images[..., None], training=False), tf.float32),
        input_signature=[any_size],
        autograph=False,
    )

    def compute(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        try:
            values = forward(tf.constant(images[:, 0] if rank == 3 else images)).numpy()
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise ResourceError(
                f"The memory does not suffice for {len(images)} tiles of {words.sizes(images.shape[1:])} voxels",
                "Use a smaller --patch-size, or --batch-size 1.",
            ) from None
        result: npt.NDArray[np.float32] = values[:, None] if rank == 3 else values
        return result

    return compute


def default_batch(plan: TilePlan) -> int:
    """Tiles in a call of the network where none is asked for."""
    return max(1, min(_MOST_TILES, _BATCH_VOXELS // plan.tile_voxels, plan.n_tiles))


# ------------------------------------------------------------------------------------------------ checks and plan


@dataclass
class _Work:
    """A sample, how it is predicted, and what came of it."""

    image: InputImage
    plan: TilePlan
    seconds: float = 0.0
    foreground: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def name(self) -> str:
        return self.image.source.name

    @property
    def voxels(self) -> int:
        return prod(self.plan.shape)

    def facts(self) -> dict[str, Any]:
        return {"sample": self.name, **self.plan.as_json()}


def _check_paths(parameters: p.Predict) -> None:
    for name, path in (("INPUT", parameters.input), ("MODEL", parameters.model)):
        if same_file(parameters.out, path):
            raise ParameterError(f"OUT is {name} itself, {parameters.out}", "Give the result a file of its own.", "out")


def _plan(parameters: p.Predict, image: InputImage, info: ModelInfo) -> TilePlan:
    network = (info.dimension, info.divisor, info.receptive_radius)
    match parameters.join:
        case "crop" | "none" as join:
            return plan_tiles(image.source.shape, *network, parameters.patch_size, join)
        case "deepscem" | "deepscem-no-overlap" as join:
            return plan_as_deepscem(image.source.shape, *network, parameters.patch_size, join == "deepscem")


def _check_memory(parameters: p.Predict, works: Sequence[_Work], graph: Graph, on_cpu: bool | None = None) -> None:
    """Raise :class:`ResourceError` where a call of the network cannot fit, rather than be killed in the middle."""
    limit = memory_limit(on_cpu)
    if limit is None or limit.gpu:  # a GPU says so itself, at the first call
        return
    for work in works:
        plan, batch = work.plan, parameters.batch_size or default_batch(work.plan)
        needed = step_bytes(graph, plan.tile[3 - plan.dimension :], batch, training=False)
        if needed > limit.size:
            raise ResourceError(
                f"{batch} tiles of {words.sizes(plan.tile)} voxels need about {needed / 2**30:.1f} GiB of memory, "
                f"and {limit.words}",
                "Use a smaller --patch-size, or --batch-size 1.",
                "batch_size" if batch > 1 else "patch_size",
            )


def _say_plan(works: Sequence[_Work], info: ModelInfo, context: Context) -> None:
    """What is unusual about the plans, each thing once."""
    for note in dict.fromkeys(note for work in works for note in work.plan.notes):
        context.report.message(note)
    for shortfall in dict.fromkeys(work.plan.shortfall for work in works):
        if shortfall:
            context.report.warning(shortfall)
    flat = [work.name for work in works if work.plan.shape[0] == 1]
    if info.dimension == 3 and flat:
        context.report.warning(f"A 3D network was made for volumes, but {', '.join(map(repr, flat))} is a single slice")


def _planned(parameters: p.Predict, works: Sequence[_Work]) -> Result:
    """What `--dry-run` says."""
    columns = ("sample", "shape", "tile", "margin", "batch", "tiles", "wasted")
    rows = [
        (
            work.name, words.sizes(work.plan.shape), words.sizes(work.plan.tile), words.sizes(work.plan.margin),
            parameters.batch_size or default_batch(work.plan), work.plan.n_tiles, round(work.plan.wasted, 4),
        )
        for work in works
    ]  # fmt: skip
    n_tiles = sum(work.plan.n_tiles for work in works)
    facts = {"plans": [work.facts() for work in works]}
    samples = words.counted(len(works), "sample")
    summary = f"Would predict {samples}, {n_tiles} tiles, into {parameters.out} ({_kind(parameters)})"
    return Result(summary, facts, (Table("samples", columns, rows),))


# ------------------------------------------------------------------------------------------------ the work


def _predict_all(
    parameters: p.Predict, context: Context, info: ModelInfo, network: Network, works: Sequence[_Work], output: Output
) -> None:
    total = sum(work.plan.n_tiles for work in works)
    before = 0
    for index, work in enumerate(works):
        began = time.monotonic()
        sink, preview = output.sink(work.image), _Preview(context, index, work, info.label_names)
        predict_sample(
            network,
            work.image.source,
            work.plan,
            _counting(work, info.n_labels, parameters.threshold, sink, preview.take),
            n_labels=info.n_labels,
            batch=parameters.batch_size or default_batch(work.plan),
            threshold=None if parameters.probabilities else parameters.threshold,
            before_batch=_Progress(context, work, before, total),
            after_batch=preview.fill_in,
        )
        preview.end()
        work.seconds = time.monotonic() - began
        before += work.plan.n_tiles


class _Progress:
    """Says how far a sample is, and ends it on request; called before each batch."""

    def __init__(self, context: Context, work: _Work, before: int, total: int) -> None:
        self._context = context
        self._work = work
        self._before, self._total = before, total
        self._began = time.monotonic()
        self._last_event = 0.0

    def __call__(self, done: int) -> None:
        self._context.stop.check()
        work, now = self._work, time.monotonic()
        rate = work.voxels * done / work.plan.n_tiles / (now - self._began) if done else 0.0
        note = f"{work.name}, {_rate(rate)}" if done else work.name
        self._context.report.progress("Predicting", self._before + done, self._total, "tiles", note)
        if done == work.plan.n_tiles or now - self._last_event >= _EVENT_SECONDS:
            self._last_event = now
            facts = {"done": done, "total": work.plan.n_tiles, "voxels_per_second": round(rate)}
            self._context.report.event("tiles", sample=work.name, **facts)


def _counting(work: _Work, n_labels: int, threshold: float, sink: Sink, preview: Sink) -> Sink:
    """A sink that counts foreground on the way."""
    work.foreground = np.zeros(n_labels, np.int64)

    def take(first: int, labels: npt.NDArray[Any], voxels: npt.NDArray[Any]) -> None:
        level = threshold if labels.dtype.kind == "f" else 0
        work.foreground += [np.count_nonzero(label > level) for label in labels]
        sink(first, labels, voxels)
        preview(first, labels, voxels)

    return take


class _Preview:
    """Shows a sample in the run folder, for whoever watches: the slice in hand as it fills in, at last the middle one.

    There is one file a sample, ``preview/NNN-SAMPLE.npz``, replaced each time.
    """

    def __init__(self, context: Context, index: int, work: _Work, names: Sequence[str]) -> None:
        self._context = context
        self._file = f"preview/{index:03d}-{words.file_name(work.name)}.npz"
        self._work, self._names = work, names
        self._middle: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
        self._next = time.monotonic() + _PREVIEW_SECONDS

    def fill_in(self, in_hand: InHand) -> None:
        """Show the slice in the middle of the tile that was computed last, as far as it is known."""
        began = time.monotonic()
        if self._context.folder is None or began < self._next:
            return
        first, tiles = in_hand.layer.own[0], in_hand.layer.tiles[: in_hand.done]
        thick = tiles[-1].core[0]
        z = sum(thick) // 2
        known = np.zeros(in_hand.voxels.shape[1:], bool)
        for tile in tiles:
            if tile.core[0] == thick:
                known[slice(*tile.core[1]), slice(*tile.core[2])] = True
        prediction = np.where(known, in_hand.labels[:, z - first], 0)
        self._write(z, in_hand.voxels[z - first], prediction, known)
        ended = time.monotonic()
        self._next = ended + max(_PREVIEW_SECONDS, (ended - began) / _PREVIEW_SHARE)

    def take(self, first: int, labels: npt.NDArray[Any], voxels: npt.NDArray[Any]) -> None:
        """Keep the sample's middle slice, of a slab that is computed."""
        z = self._work.plan.shape[0] // 2
        if self._context.folder is not None and first <= z < first + len(voxels):
            self._middle = voxels[z - first].copy(), labels[:, z - first].copy()

    def end(self) -> None:
        if self._middle is not None:
            self._write(self._work.plan.shape[0] // 2, *self._middle)

    def _write(
        self, z: int, voxels: npt.NDArray[Any], prediction: npt.NDArray[Any], known: npt.NDArray[np.bool_] | None = None
    ) -> None:
        assert self._context.folder is not None
        image, name = self._work.image.source.normalised(voxels), self._work.name
        run_preview.write(self._context.folder / self._file, image, prediction, self._names, name, z, known=known)
        self._context.report.event("preview", sample=name, z=z, file=self._file)


# ------------------------------------------------------------------------------------------------ the result


def _result(parameters: p.Predict, info: ModelInfo, works: Sequence[_Work]) -> Result:
    samples = Table(
        "samples",
        ("sample", "shape", "tiles", "voxels_per_second"),
        [
            (work.name, words.sizes(work.plan.shape), work.plan.n_tiles, round(work.voxels / max(work.seconds, 1e-9)))
            for work in works
        ],
    )
    labels = Table(
        "labels",
        ("sample", "label", "foreground"),
        [
            (work.name, name, round(int(count) / work.voxels, 6))
            for work in works
            for name, count in zip(info.label_names, work.foreground, strict=True)
        ],
    )
    files = [str(path) for path in output_files(parameters.out, info.label_names)]
    facts = {"files": files, "plans": [work.facts() for work in works]}
    what = f"Predicted {words.counted(len(works), 'sample')} into {', '.join(files)} ({_kind(parameters)})"
    return Result(what, facts, (samples, labels))


def _kind(parameters: p.Predict) -> str:
    return "probabilities" if parameters.probabilities else "masks"


def _rate(rate: float) -> str:
    return f"{rate / 1e6:.2f} Mvoxel/s" if rate >= 1e6 else f"{rate / 1e3:.1f} kvoxel/s"
