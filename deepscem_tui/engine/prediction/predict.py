"""The action `predict`: checks, the plan, the network on every tile, the result."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ParameterError, ResourceError, RunError
from deepscem_tui.engine.formats import place_of
from deepscem_tui.engine.models.files import ModelInfo
from deepscem_tui.engine.models.info import read_network
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.prediction.averaging import averaged
from deepscem_tui.engine.prediction.orthogonal import check_planes
from deepscem_tui.engine.prediction.outlook import (
    as_deepscem,
    check_disk,
    check_memory,
    chosen_precision,
    disk_bytes,
    dry_run,
    say_plan,
)
from deepscem_tui.engine.prediction.output import check_output, kind_in_words, open_output, output_files
from deepscem_tui.engine.prediction.plan import PredictionPlan, make_plan, plan_file, read_plan, write_plan
from deepscem_tui.engine.prediction.rescaling import rescaled
from deepscem_tui.engine.prediction.shards import agreed_plan, parts, shards_folder
from deepscem_tui.engine.prediction.tiled import Network
from deepscem_tui.engine.prediction.values import Values, values_of
from deepscem_tui.engine.prediction.work import Predicting, Work, by_sample, diagnostics, slab_store
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.runs.own_results import is_own
from deepscem_tui.engine.sources.inputs import InputImage, open_images, refuse_among_slices, same_file
from deepscem_tui.engine.sources.inversion import say_inverted
from deepscem_tui.engine.sources.voxel_sizes import say_voxel_sizes
from deepscem_tui.engine.system.devices import (
    allow_tensor_float_32,
    device_summary,
    gpu_names,
    memory_kept_for_reuse,
    say_device,
)
from deepscem_tui.engine.system.lock import locked
from deepscem_tui.engine.system.memory import Limit, memory_limit
from deepscem_tui.engine.system.space import free_bytes

__all__ = ["predict"]


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
    values = values_of(parameters, info)
    results = output_files(parameters.out, info.label_names)
    there = [path for path in results if place_of(path).file.exists()]
    # Those of a run that was ended just then are its own.
    ours = bool(there) and all(is_own(context.folder, place_of(path).file) for path in there)
    if ours:
        parameters = parameters.model_copy(update={"overwrite": True})
    with ExitStack() as files:
        images = files.enter_context(open_images(parameters.input, parameters.sample, context))
        say_voxel_sizes(parameters, info, images, context)
        if parameters.rescale:
            images = [rescaled(image, info) for image in images]
            _say_rescaled(images, context)
        shapes = {image.source.name: image.source.shape for image in images}
        check_output(parameters, list(shapes), info.label_names, context.report)
        check_planes(parameters, info, images, context)
        if parameters.dry_run:
            return dry_run(parameters, context, info, graph, images)
        home = shards_folder(parameters.out) if parameters.shard else context.folder  # of plan and slabs
        if home is None and parameters.ortho:
            home = Path(files.enter_context(TemporaryDirectory()))
        kept = _kept_plan(home, shapes)
        if kept and ours and there == results:
            return _made_before(parameters, results, kept, context)
        planner = _Planner(parameters, shapes, info, graph)
        plan = planner.plan(kept, context)
        if parameters.shard:
            plan = agreed_plan(parameters, plan, images)
        check_disk(parameters, info, images, plan, parts(plan, parameters.shard), home)
        network = _network(parameters, info, plan.precision)
        _report_start(context, plan, resumed=kept is not None)
        if parameters.ortho:
            _say_disk(parameters, info, images, plan, home, context)
        measured = _measured(parameters, info, images, context)
        files.enter_context(memory_kept_for_reuse())
        works, plan = _computed(planner, network, values, measured, plan, home, context)
    if parameters.shard:
        return _shard_result(parameters, works, plan)
    for index in range(len(works)):
        if (store := slab_store(home, index)) is not None:
            store.clear()
    return _result(parameters, info, works, plan)


def _network(parameters: p.Predict, info: ModelInfo, precision: str) -> Network:
    """What computes tiles."""
    from deepscem_tui.engine.prediction.network import load_network

    allow_tensor_float_32(not as_deepscem(parameters))
    network: Network = load_network(parameters.model, precision)
    return averaged(network, info.dimension) if parameters.tta else network


def _measured(
    parameters: p.Predict, info: ModelInfo, images: Sequence[InputImage], context: Context
) -> dict[str, InputImage]:
    """The images by name, with what their grey values become."""
    measured = [image.result.measured(info.normalization, context) for image in images]
    say_inverted(info, measured, context)
    names = [image.source.name for image in measured]
    if parameters.rescale:
        measured = [rescaled(image, info) for image in measured]
    return dict(zip(names, measured, strict=True))


def _computed(
    planner: _Planner,
    network: Network,
    values: Values,
    images: Mapping[str, InputImage],
    plan: PredictionPlan,
    home: Path | None,
    context: Context,
) -> tuple[list[Work], PredictionPlan]:
    """Compute what is planned, by smaller tiles where the memory of a GPU does not suffice, and make the result.

    Returns:
        What was done, by the plan that it was done by at last.
    """
    from deepscem_tui.engine.prediction.network import OutOfMemory

    parameters, info = planner.parameters, planner.info
    while True:
        slabs = parts(plan, parameters.shard)
        works = [Work(images[sample.sample], sample, part) for sample, part in zip(plan.samples, slabs, strict=True)]
        try:
            with ExitStack() as made:
                output = None
                if not parameters.shard:
                    output = made.enter_context(open_output(parameters, info, list(images.values()), context.folder))
                Predicting(context, info, network, values, plan.precision, output, home).predict(works)
            return works, plan
        except OutOfMemory as error:
            if parameters.shard:  # the plan is not this process's alone
                raise
            plan = _replace_plan(plan, planner.smaller(plan), error, context, home)


# ------------------------------------------------------------------------------------------------ checks and plan


def _check_paths(parameters: p.Predict) -> None:
    for name, path in (("INPUT", parameters.input), ("MODEL", parameters.model)):
        if same_file(parameters.out, path):
            raise ParameterError(f"OUT is {name} itself, {parameters.out}", "Give the result a file of its own.", "out")
    refuse_among_slices("INPUT", parameters.input, parameters.out)


@dataclass(frozen=True)
class _Planner:
    """Plans a prediction for this machine."""

    parameters: p.Predict
    shapes: Mapping[str, Shape]
    info: ModelInfo
    graph: Graph

    def plan(self, kept: PredictionPlan | None, context: Context) -> PredictionPlan:
        """The plan that was kept, else a new one.

        Raises:
            ResourceError: what is planned does not fit the memory.
        """
        limit, devices = self._machine()
        plan = kept or make_plan(self.parameters, self.shapes, self.info, self.graph, limit, devices)
        say_plan(plan, self.info, context)
        check_memory(self.parameters, plan, self.info, self.graph, limit, devices)
        precision = plan.precision if plan.precision != "auto" else chosen_precision(self.parameters)
        return PredictionPlan(plan.samples, precision, plan.version)

    def smaller(self, plan: PredictionPlan) -> PredictionPlan:
        """One whose batches have half the voxels."""
        most = max(sample.batch * sample.tiles.tile_voxels for sample in plan.samples) // 2
        limit, devices = self._machine()
        return make_plan(self.parameters, self.shapes, self.info, self.graph, limit, devices, most, plan.version + 1)

    def _machine(self) -> tuple[Limit | None, int]:
        """What memory may be used, and how many devices there are."""
        on_cpu = device_summary().startswith("CPU")
        return memory_limit(on_cpu), max(1, len(gpu_names()))


def _say_rescaled(images: Sequence[InputImage], context: Context) -> None:
    for image in images:
        here, there = words.sizes(image.result.source.shape), words.sizes(image.source.shape)
        context.report.message(f"{image.source.name!r} is predicted as {there} voxels of the model's size, not {here}")


def _kept_plan(folder: Path | None, shapes: Mapping[str, Shape]) -> PredictionPlan | None:
    """The plan of a prediction that is resumed; None if this is a new one.

    Raises:
        RunError: the input has changed since.
    """
    if folder is None or not plan_file(folder).exists():
        return None
    plan = read_plan(folder)
    if plan.shapes != dict(shapes):
        raise RunError(
            f"The input has other samples or shapes than when {folder} began",
            "Predict it anew, or give the run its input back.",
        )
    return plan


def _report_start(context: Context, plan: PredictionPlan, resumed: bool) -> None:
    if context.folder is not None:
        write_plan(context.folder, plan)
    facts = plan.as_json()
    device = device_summary()
    say_device(device, plan.precision, context.report)
    context.report.event("started", device=device, precision=plan.precision, resumed=resumed, plans=facts["samples"])


def _say_disk(
    parameters: p.Predict,
    info: ModelInfo,
    images: Sequence[InputImage],
    plan: PredictionPlan,
    home: Path | None,
    context: Context,
) -> None:
    """What is kept until all planes are averaged, and where; warn where there is less room."""
    assert home is not None
    by_name = {image.source.name: image for image in images}
    needed = sum(disk_bytes(parameters, info, by_name[entry.sample], entry.plane) for entry in plan.samples)
    free = free_bytes(home)
    say = context.report.message if free > needed else context.report.warning
    say(
        f"--ortho keeps what the network says of three planes in {home} until the result is made: with it at most "
        f"{words.amount(needed, 'B')}; {words.amount(free, 'B')} are free"
    )


def _replace_plan(
    plan: PredictionPlan, smaller: PredictionPlan, error: ResourceError, context: Context, home: Path | None
) -> PredictionPlan:
    """Go over to a plan with smaller tiles, for those samples that are not finished.

    Raises:
        ResourceError: there is nothing smaller.
    """
    samples = []
    for index, (old, new) in enumerate(zip(plan.samples, smaller.samples, strict=True)):
        store = slab_store(home, index)
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


# ------------------------------------------------------------------------------------------------ the result


def _result(parameters: p.Predict, info: ModelInfo, works: Sequence[Work], plan: PredictionPlan) -> Result:
    groups = by_sample(works)
    about = [diagnostics(group) for group in groups]
    samples = Table(
        "samples",
        ("sample", "shape", "tiles", "voxels_per_second"),
        [
            (
                facts["sample"], list(group[-1].image.result.source.shape), sum(work.n_tiles for work in group),
                facts["voxels_per_second"],
            )
            for group, facts in zip(groups, about, strict=True)
        ],
    )  # fmt: skip
    labels = Table(
        "labels",
        ("sample", "label", "foreground"),
        [
            (group[-1].plan.sample, name, round(int(count) / _voxels(group[-1]), 6))
            for group in groups
            for name, count in zip(info.label_names, group[-1].foreground, strict=True)
        ],
    )
    files = [str(path) for path in output_files(parameters.out, info.label_names)]
    plans = plan.as_json()
    facts = {"files": files, "precision": plan.precision, "plans": plans["samples"], "diagnostics": about}
    what = f"Predicted {words.counted(len(groups), 'sample')} into {', '.join(files)} ({kind_in_words(parameters)})"
    return Result(what, facts, (samples, labels))


def _voxels(work: Work) -> int:
    """Voxels of a sample's result, or of a part of it."""
    return work.voxels if work.image.original is None else prod(work.image.result.source.shape)


def _made_before(parameters: p.Predict, files: Sequence[Path], plan: PredictionPlan, context: Context) -> Result:
    """The result of a run that was ended after it had made all of its files."""
    context.report.event("started", device="", precision=plan.precision, resumed=True, plans=plan.as_json()["samples"])
    for index in range(len(plan.samples)):
        if (store := slab_store(context.folder, index)) is not None:
            store.clear()
    for path in files:
        with locked(path):  # which clears away the lock of the process that was ended
            pass
    named = [str(path) for path in files]
    return Result(f"{', '.join(named)} was made already ({kind_in_words(parameters)})", {"files": named})


def _shard_result(parameters: p.Predict, works: Sequence[Work], plan: PredictionPlan) -> Result:
    assert parameters.shard is not None
    (number, of), folder = parameters.shard, shards_folder(parameters.out)
    n_slabs = sum(len(work.slabs) for work in works)
    facts = {
        "shards": str(folder),
        "slabs": n_slabs,
        "precision": plan.precision,
        "plans": plan.as_json()["samples"],
        "diagnostics": [diagnostics(group) for group in by_sample(works) if any(work.slabs for work in group)],
    }
    then = shlex.join(["deepscem-tui", "run", "merge", str(parameters.out), str(folder)])
    before = n_slabs > 0 and not any(work.computed_voxels for work in works)
    what = f"Part {number} of {of} was computed already" if before else f"Computed part {number} of {of}"
    return Result(f"{what}, {words.counted(n_slabs, 'slab')}; when all are: {then}", facts)
