"""The action `predict`: checks, the plan, the network on every tile, the result."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.averaging import averaged, symmetries
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.devices import (
    allow_tensor_float_32,
    best_precision,
    device_summary,
    gpu_names,
    memory_kept_for_reuse,
)
from deepscem_tui.engine.errors import ParameterError, ResourceError, RunError
from deepscem_tui.engine.memory import Limit, memory_limit
from deepscem_tui.engine.model_files import ModelInfo
from deepscem_tui.engine.model_info import read_network
from deepscem_tui.engine.networks.geometry import step_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.pipeline import Waits
from deepscem_tui.engine.prediction_output import (
    Output,
    check_output,
    open_output,
    output_bytes,
    output_files,
    thresholds,
)
from deepscem_tui.engine.prediction_plan import (
    PredictionPlan,
    SamplePlan,
    make_plan,
    plan_file,
    read_plan,
    write_plan,
)
from deepscem_tui.engine.prediction_quality import Seams
from deepscem_tui.engine.prediction_values import Values
from deepscem_tui.engine.prediction_watch import Preview, Progress
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.shards import agreed_plan, parts, shards_folder
from deepscem_tui.engine.slabs import SlabStore
from deepscem_tui.engine.sources import InputImage, open_images, same_file
from deepscem_tui.engine.tiled import Network, Sink, predict_sample
from deepscem_tui.engine.tiling import Layer, Shape

__all__ = ["predict"]

_MEASURED = {2: (1, 256, 256), 3: (64, 64, 64)}  # tile that the speed is measured with


def predict(parameters: p.Predict, context: Context) -> Result:
    """Predict the labels of a data set's samples, or of an image file.

    Raises:
        ParameterError: for parameters that do not fit each other, the model or the input.
        DataError: for a model or an input that cannot be used.
        ResourceError: for tiles that do not fit the memory.
        Stopped: on request; nothing is left of the output, and what is computed is kept in the run.
    """
    info, graph = read_network(parameters.model)
    _check_paths(parameters)
    values = _values(parameters, info)
    with ExitStack() as files:
        images = files.enter_context(open_images(parameters.input, parameters.sample, context))
        shapes = {image.source.name: image.source.shape for image in images}
        check_output(parameters, list(shapes), info.label_names)
        if parameters.dry_run:
            return _dry_run(parameters, context, info, graph, images)
        home = shards_folder(parameters.out) if parameters.shard else context.folder  # of plan and slabs
        kept = _kept_plan(home, shapes)
        on_cpu = device_summary().startswith("CPU")
        devices, limit = max(1, len(gpu_names())), memory_limit(on_cpu)
        plan = kept or make_plan(parameters, shapes, info, graph, limit, devices)
        _say_plan(plan, info, context)
        _check_memory(plan, graph, limit, devices)
        precision = plan.precision if plan.precision != "auto" else _precision(parameters)
        plan = PredictionPlan(plan.samples, precision, plan.version)
        if parameters.shard:
            plan = agreed_plan(parameters, plan)
        from deepscem_tui.engine.prediction_network import OutOfMemory, load_network

        allow_tensor_float_32(not _as_deepscem(parameters))
        network: Network = load_network(parameters.model, plan.precision)
        if parameters.tta:
            network = averaged(network, info.dimension)
        _report_start(context, plan, resumed=kept is not None)
        images = [image.measured(context) for image in images]
        files.enter_context(memory_kept_for_reuse())
        while True:
            slabs = parts(plan, parameters.shard)
            works = [_Work(*facts) for facts in zip(images, plan.samples, slabs, strict=True)]
            try:
                with ExitStack() as made:
                    output = None if parameters.shard else made.enter_context(open_output(parameters, info, images))
                    _predict_all(context, info, network, works, output, values, home)
                break
            except OutOfMemory as error:
                if parameters.shard:  # the plan is not this process's alone
                    raise
                most = max(sample.batch * sample.tiles.tile_voxels for sample in plan.samples) // 2
                smaller = make_plan(parameters, shapes, info, graph, limit, devices, most, plan.version + 1)
                plan = _replace_plan(plan, smaller, error, context)
    if parameters.shard:
        return _shard_result(parameters, works, plan)
    for index in range(len(works)):
        if (store := _store(home, index)) is not None:
            store.clear()
    return _result(parameters, info, works, plan)


# ------------------------------------------------------------------------------------------------ checks and plan


@dataclass
class _Work:
    """A sample, how it is predicted, and what came of it."""

    image: InputImage
    plan: SamplePlan
    slabs: range
    seconds: float = 0.0
    waits: Waits = field(default_factory=Waits)
    foreground: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    seam_score: float | None = None

    @property
    def name(self) -> str:
        return self.image.source.name

    @property
    def voxels(self) -> int:
        depth = sum(layer.own[1] - layer.own[0] for layer in self.layers)
        return depth * prod(self.image.source.shape[1:])

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The slabs that are computed here."""
        return self.plan.layers[self.slabs.start : self.slabs.stop]

    @property
    def n_tiles(self) -> int:
        return sum(len(layer.tiles) for layer in self.layers)

    def diagnostics(self) -> dict[str, Any]:
        """How it went: shares of the time, 0 to 1, and the seam score of :class:`Seams`."""
        seconds = max(self.seconds, 1e-9)
        return {
            "sample": self.name,
            "seconds": round(self.seconds, 3),
            "voxels_per_second": round(self.voxels / seconds),
            "waiting_for_data": round(self.waits.before / seconds, 4),
            "waiting_for_disk": round(self.waits.after / seconds, 4),
            "seam_score": None if self.seam_score is None else round(self.seam_score, 4),
        }


def _check_paths(parameters: p.Predict) -> None:
    for name, path in (("INPUT", parameters.input), ("MODEL", parameters.model)):
        if same_file(parameters.out, path):
            raise ParameterError(f"OUT is {name} itself, {parameters.out}", "Give the result a file of its own.", "out")


def _values(parameters: p.Predict, info: ModelInfo) -> Values:
    kind = parameters.probability_type if parameters.probabilities else "mask"
    return Values(thresholds(parameters, info), kind)


def _precision(parameters: p.Predict) -> str:
    """The precision that is asked for, or the best there is; what repeats DeepSCEM's predictions is exact."""
    if parameters.precision != "auto":
        return parameters.precision
    return "float32" if _as_deepscem(parameters) else best_precision()


def _as_deepscem(parameters: p.Predict) -> bool:
    return parameters.join in ("deepscem", "deepscem-no-overlap")


def _kept_plan(folder: Path | None, shapes: Mapping[str, Shape]) -> PredictionPlan | None:
    """The plan of a prediction that is resumed; None if this is a new one.

    Raises:
        RunError: the input has changed since.
    """
    if folder is None or not plan_file(folder).exists():
        return None
    plan = read_plan(folder)
    if {sample.sample: sample.tiles.shape for sample in plan.samples} != dict(shapes):
        raise RunError(
            f"The input has other samples or shapes than when {folder} began",
            "Predict it anew, or give the run its input back.",
        )
    return plan


def _check_memory(plan: PredictionPlan, graph: Graph, limit: Limit | None, devices: int = 1) -> None:
    """Raise :class:`ResourceError` where a call of the network cannot fit, rather than be killed in the middle."""
    if limit is None or limit.gpu:  # a GPU says so itself, and tiles become smaller
        return
    for sample in plan.samples:
        tile, batch = sample.tiles.tile, -(-sample.batch // devices)
        needed = step_bytes(graph, tile[3 - sample.tiles.dimension :], batch, training=False)
        if needed > limit.size:
            raise ResourceError(
                f"{batch} tiles of {words.sizes(tile)} voxels need about {needed / 2**30:.1f} GiB of memory, "
                f"and {limit.words}",
                "Use a smaller --patch-size, or --batch-size 1.",
                "batch_size" if batch > 1 else "patch_size",
            )


def _say_plan(plan: PredictionPlan, info: ModelInfo, context: Context) -> None:
    """What is unusual about the plans, each thing once."""
    for note in dict.fromkeys(note for sample in plan.samples for note in sample.tiles.notes):
        context.report.message(note)
    for shortfall in dict.fromkeys(sample.tiles.shortfall for sample in plan.samples):
        if shortfall:
            context.report.warning(shortfall)
    flat = [sample.sample for sample in plan.samples if sample.tiles.shape[0] == 1]
    if info.dimension == 3 and flat:
        context.report.warning(f"A 3D network was made for volumes, but {', '.join(map(repr, flat))} is a single slice")


def _report_start(context: Context, plan: PredictionPlan, resumed: bool) -> None:
    facts = plan.as_json()
    context.report.event(
        "started", device=device_summary(), precision=plan.precision, resumed=resumed, plans=facts["samples"]
    )
    if context.folder is not None:
        write_plan(context.folder, plan)


def _replace_plan(
    plan: PredictionPlan, smaller: PredictionPlan, error: ResourceError, context: Context
) -> PredictionPlan:
    """Go over to a plan with smaller tiles, for those samples that are not finished.

    Raises:
        ResourceError: there is nothing smaller.
    """
    samples = []
    for index, (old, new) in enumerate(zip(plan.samples, smaller.samples, strict=True)):
        store = _store(context.folder, index)
        if store is not None and all(store.has(number) for number in range(len(old.layers))):
            new = old
        elif store is not None:
            store.clear()
        samples.append(new)
    if tuple(samples) == plan.samples:
        raise error
    tile = min((sample.tiles.tile for sample in samples), key=prod)
    context.report.warning(f"{error.what}: a new plan goes on with tiles of {words.sizes(tile)} voxels")
    made = PredictionPlan(tuple(samples), plan.precision, smaller.version)
    context.report.event("plan", **made.as_json())
    if context.folder is not None:
        write_plan(context.folder, made)
    return made


# ------------------------------------------------------------------------------------------------ the dry run


def _dry_run(
    parameters: p.Predict, context: Context, info: ModelInfo, graph: Graph, images: Sequence[InputImage]
) -> Result:
    """What `--dry-run` says."""
    limit = memory_limit()
    plan = make_plan(parameters, {image.source.name: image.source.shape for image in images}, info, graph, limit)
    _say_plan(plan, info, context)
    _check_memory(plan, graph, limit)
    memory = [
        step_bytes(graph, sample.tiles.tile[3 - sample.tiles.dimension :], sample.batch, training=False)
        for sample in plan.samples
    ]
    disk = [output_bytes(parameters, info, image) for image in images]
    columns = ("sample", "shape", "tile", "margin", "batch", "tiles", "wasted", "memory_gib", "disk_gib")
    rows = [
        (
            sample.sample, words.sizes(sample.tiles.shape), words.sizes(sample.tiles.tile),
            words.sizes(sample.tiles.margin), sample.batch, sample.tiles.n_tiles, round(sample.wasted, 4),
            round(needed / 2**30, 2), round(taken / 2**30, 2),
        )
        for sample, needed, taken in zip(plan.samples, memory, disk, strict=True)
    ]  # fmt: skip
    facts: dict[str, Any] = {"plans": plan.as_json()["samples"], "memory_bytes": max(memory), "disk_bytes": sum(disk)}
    n_tiles = sum(sample.tiles.n_tiles for sample in plan.samples)
    summary = f"Would predict {words.counted(len(images), 'sample')}, {n_tiles} tiles, into {parameters.out}"
    summary += f" ({_kind(parameters)})"
    if context.measuring:
        facts["seconds"] = round(_estimated_seconds(parameters, plan, info), 1)
        summary += f", in about {words.duration(facts['seconds'])}"
    return Result(summary, facts, (Table("samples", columns, rows),))


def _estimated_seconds(parameters: p.Predict, plan: PredictionPlan, info: ModelInfo) -> float:
    """Time that the network takes for a plan, by the speed that it has on a small tile."""
    from deepscem_tui.engine.prediction_network import load_network

    precision = _precision(parameters)
    network = load_network(parameters.model, precision)
    largest = max((sample.tiles.tile for sample in plan.samples), key=prod)
    sizes = zip(largest, _MEASURED[info.dimension], info.divisor, strict=True)
    sides = (max(step, min(side, most) // step * step) for side, most, step in sizes)
    tile = np.zeros((1, *sides), np.float32)
    network(tile)  # traced
    began = time.monotonic()
    network(tile)
    seconds = time.monotonic() - began
    turns = [len(symmetries(sample.tiles.tile, info.dimension)) if parameters.tta else 1 for sample in plan.samples]
    voxels = sum(sample.computed_voxels * n for sample, n in zip(plan.samples, turns, strict=True))
    return seconds / tile.size * voxels


# ------------------------------------------------------------------------------------------------ the work


def _store(home: Path | None, index: int) -> SlabStore | None:
    return SlabStore(home / "slabs", index) if home is not None else None


def _predict_all(
    context: Context,
    info: ModelInfo,
    network: Network,
    works: Sequence[_Work],
    output: Output | None,
    values: Values,
    home: Path | None,
) -> None:
    total = sum(work.n_tiles for work in works)
    before = 0
    for index, work in enumerate(works):
        if not work.slabs:  # all of it belongs to other shards
            continue
        began = time.monotonic()
        sink = output.sink(work.image) if output is not None else _nowhere
        preview = Preview(context, index, work.image.source, info.label_names, values.kind)
        seams = Seams(work.plan.tiles)
        predict_sample(
            network,
            work.image.source,
            work.plan,
            _counting(work, values, seams, sink, preview.take),
            values=values,
            before_batch=Progress(context, work.name, work.n_tiles, work.voxels, before, total),
            after_batch=preview.fill_in,
            store=_store(home, index),
            waits=work.waits,
            only=work.slabs,
        )
        preview.end()
        work.seconds = time.monotonic() - began
        work.seam_score = seams.score
        context.report.event("diagnostics", **work.diagnostics())
        before += work.n_tiles


def _nowhere(_: int, __: npt.NDArray[Any], ___: npt.NDArray[Any]) -> None:
    """The sink of a shard, whose slabs are kept for `merge`."""


def _counting(work: _Work, values: Values, seams: Seams, sink: Sink, preview: Sink) -> Sink:
    """A sink that counts foreground on the way, and looks at the seams."""
    work.foreground = np.zeros(values.n_labels, np.int64)

    def take(first: int, labels: npt.NDArray[Any], voxels: npt.NDArray[Any]) -> None:
        work.foreground += values.foreground(labels)
        seams.take(labels)
        sink(first, labels, voxels)
        preview(first, labels, voxels)

    return take


# ------------------------------------------------------------------------------------------------ the result


def _result(parameters: p.Predict, info: ModelInfo, works: Sequence[_Work], plan: PredictionPlan) -> Result:
    diagnostics = [work.diagnostics() for work in works]
    samples = Table(
        "samples",
        ("sample", "shape", "tiles", "voxels_per_second"),
        [
            (work.name, words.sizes(work.image.source.shape), work.plan.tiles.n_tiles, about["voxels_per_second"])
            for work, about in zip(works, diagnostics, strict=True)
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
    plans = plan.as_json()
    facts = {"files": files, "precision": plan.precision, "plans": plans["samples"], "diagnostics": diagnostics}
    what = f"Predicted {words.counted(len(works), 'sample')} into {', '.join(files)} ({_kind(parameters)})"
    return Result(what, facts, (samples, labels))


def _shard_result(parameters: p.Predict, works: Sequence[_Work], plan: PredictionPlan) -> Result:
    assert parameters.shard is not None
    (number, of), folder = parameters.shard, shards_folder(parameters.out)
    n_slabs = sum(len(work.slabs) for work in works)
    facts = {
        "shards": str(folder),
        "slabs": n_slabs,
        "precision": plan.precision,
        "plans": plan.as_json()["samples"],
        "diagnostics": [work.diagnostics() for work in works if work.slabs],
    }
    then = shlex.join(["deepscem-tui", "run", "merge", str(parameters.out), str(folder)])
    return Result(f"Computed part {number} of {of}, {words.counted(n_slabs, 'slab')}; when all are: {then}", facts)


def _kind(parameters: p.Predict) -> str:
    return "probabilities" if parameters.probabilities else "masks"
