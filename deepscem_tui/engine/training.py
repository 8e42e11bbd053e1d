"""The action `train`: checks, the loop, the result, the test."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets import Dataset, open_dataset
from deepscem_tui.engine.devices import available_cores, available_memory, device_summary
from deepscem_tui.engine.errors import DatasetError, ModelError, ParameterError, ResourceError
from deepscem_tui.engine.evaluation import evaluate
from deepscem_tui.engine.files import check_writable, published, refuse_existing
from deepscem_tui.engine.losses import Loss, make_loss
from deepscem_tui.engine.model_files import ModelInfo, check_suffix, load_model, read_info, save_model
from deepscem_tui.engine.networks.geometry import activation_bytes
from deepscem_tui.engine.patches import (
    Batch,
    PatchSampler,
    Shape,
    Source,
    assemble,
    covering_boxes,
    cut,
    fixed_batches,
    load_sources,
)
from deepscem_tui.engine.prediction import predict
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.trainer import Scores, State, Trainer
from deepscem_tui.engine.training_loop import Schedule, TrainingLoop

_DEFAULT_PATCH = {2: (1, 256, 256), 3: (32, 128, 128)}
_DEFAULT_BATCH = {2: 8, 3: 2}


def train(parameters: p.Train, context: Context) -> Result:
    """Train a model on a data set.

    Raises:
        ParameterError: for a patch that does not fit the samples or the network.
        DatasetError, ModelError: for files that cannot be used, or that do not fit each other.
        ResourceError: for a batch that does not fit the memory.
        EngineError: when the loss is no longer a number.
        Stopped: on request; the run can be resumed.
    """
    resuming = context.folder is not None and _checkpoint(context.folder).exists()
    if not resuming:  # a resumed run's result is its own
        refuse_existing(parameters.out, parameters.overwrite)
    check_suffix(parameters.out)
    check_writable(parameters.out.parent)
    info = read_info(parameters.model)
    with ExitStack() as files:
        learn = files.enter_context(open_dataset(parameters.train))
        valid = files.enter_context(open_dataset(parameters.valid)) if parameters.valid else None
        test = files.enter_context(open_dataset(parameters.test)) if parameters.test else None
        for dataset in (learn, valid, test):
            if dataset is not None:
                _check_labels(dataset, info, context.report)
        if parameters.validation_steps == 0:
            valid = None
        plan = _plan(parameters, info, learn, valid, context.report)
        _check_memory(plan)
        if parameters.dry_run:
            return Result(f"Would train {parameters.model} for {parameters.epochs} epochs", plan.facts)
        context.report.event("started", resumed=resuming, device=device_summary(), **plan.facts)
        assert context.folder is not None
        session = _Session(parameters, context, context.folder, plan, learn, valid)
        state = session.run()
    chosen = context.folder / ("best.keras" if valid is not None and parameters.keep_best else "last.keras")
    save_model(*load_model(chosen), parameters.out, overwrite=parameters.overwrite or resuming)
    tables = _test(parameters, chosen, context) if test is not None else ()
    return _result(parameters, state, chosen.stem, tables)


@dataclass(frozen=True)
class _Plan:
    """What was left open in the parameters, decided."""

    model: Any
    info: ModelInfo
    loss: Loss
    patch: Shape
    batch_size: int

    @property
    def step_bytes(self) -> int:
        """Memory that a step takes."""
        return activation_bytes(self.model, self.patch[3 - self.info.dimension :], self.batch_size, training=True)

    @property
    def facts(self) -> dict[str, Any]:
        return {"patch_size": list(self.patch), "batch_size": self.batch_size}


def _plan(parameters: p.Train, info: ModelInfo, learn: Dataset, valid: Dataset | None, report: Reporter) -> _Plan:
    samples = [*learn.samples.values(), *(valid.samples.values() if valid else ())]
    patch = fitting_patch(parameters.patch_size, info.dimension, info.divisor, {s.name: s.shape for s in samples})
    asked = parameters.patch_size or ()
    if info.dimension == 2 and len(asked) == 3 and asked[0] != 1:
        report.message("The network is 2D: Z of --patch-size does not count")
    batch_size = parameters.batch_size or _DEFAULT_BATCH[info.dimension]
    model, info = load_model(parameters.model)
    loss = make_loss(parameters.loss, info.activation, info.n_labels, info.n_outputs)
    return _Plan(model, info, loss, patch, batch_size)


def _check_memory(plan: _Plan) -> None:
    free, needed = available_memory(), plan.step_bytes
    if needed > free and device_summary().startswith("CPU"):  # what a GPU has left, only trying tells
        fits = int(plan.batch_size * free / needed)
        hint = f"A --batch-size of {fits} would fit." if fits else "Use a smaller --patch-size."
        what = f"A step on {plan.batch_size} patches of {words.sizes(plan.patch)} voxels needs about"
        raise ResourceError(f"{what} {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free", hint)


def fitting_patch(
    asked: tuple[int, ...] | None, dimension: int, divisor: int, shapes: Mapping[str, Sequence[int]]
) -> Shape:
    """The patch to train with: the one asked for, or the default, shrunk to the smallest sample.

    Args:
        asked: Y, X or Z, Y, X, or None.
        dimension: Of the network. With 2 a patch is one slice thick, and a Z that was asked for does not count.
        divisor: What the sides must be multiples of.
        shapes: (Z, Y, X) of each sample by its name.

    Returns:
        Z, Y, X.

    Raises:
        ParameterError: if the one asked for does not suit the network or a sample.
        DatasetError: if a sample is smaller than any patch can be.
    """
    if asked is not None and dimension == 3 and len(asked) == 2:
        raise ParameterError("--patch-size has two sizes, and the network is 3D", "Give three: Z,Y,X.")
    sizes = list(_DEFAULT_PATCH[dimension] if asked is None else asked if len(asked) == 3 else (1, *asked))
    first = 0 if dimension == 3 else 1
    sizes[:first] = [1] * first
    for axis in range(first, 3):
        name, smallest = min(((name, shape[axis]) for name, shape in shapes.items()), key=lambda item: item[1])
        about = f"sample {name!r} has {smallest} voxels along {'ZYX'[axis]}"
        if smallest < divisor:
            hint = "Use larger samples, or a model with fewer levels (create-model --depth)."
            raise DatasetError(f"The network needs patches of at least {divisor} voxels a side, and {about}", hint)
        if asked is None:
            sizes[axis] = min(sizes[axis], smallest) // divisor * divisor
        elif sizes[axis] > smallest:
            hint = f"{smallest // divisor * divisor} is the most that fits."
            raise ParameterError(f"--patch-size is {sizes[axis]} along {'ZYX'[axis]}, but {about}", hint)
        elif sizes[axis] % divisor:
            lower = sizes[axis] // divisor * divisor
            near = " or ".join(str(size) for size in (lower, lower + divisor) if 0 < size <= smallest)
            raise ParameterError(
                f"--patch-size along {'ZYX'[axis]} must be a multiple of {divisor} (it is {sizes[axis]})",
                f"Use {near}.",
            )
    return sizes[0], sizes[1], sizes[2]


def _check_labels(dataset: Dataset, info: ModelInfo, report: Reporter) -> None:
    """Whether a data set can train, validate or test the model."""
    if not dataset.samples:
        raise DatasetError(f"{dataset.path} has no samples", "Add some with: deepscem-tui run add-sample")
    if dataset.n_labels != info.n_labels:
        has = words.counted(dataset.n_labels, "label")
        what = f"{dataset.path} has {has} a sample, and the model {info.n_labels}"
        raise ModelError(what, f"Make one with: deepscem-tui run create-model OUT --like {dataset.path}")
    for sample in dataset.samples.values():
        if len(sample.labels) != dataset.n_labels:
            raise DatasetError(
                f"Sample {sample.name!r} of {dataset.path} has {len(sample.labels)} of {dataset.n_labels} labels",
                "Is it a data set of predictions? Labels are needed here.",
            )
    if dataset.aliases and info.named and tuple(dataset.aliases) != tuple(info.label_names):
        ours, theirs = ", ".join(dataset.aliases), ", ".join(info.label_names)
        report.warning(f"The labels of {dataset.path} are named {ours}; those of the model {theirs}")


# ------------------------------------------------------------------------------------------------ the training


@dataclass
class _Session:
    """One training: the loop with its data, and what is kept of each epoch."""

    parameters: p.Train
    context: Context
    folder: Path
    plan: _Plan
    learn: Dataset
    valid: Dataset | None

    def run(self) -> State:
        parameters, plan, info = self.parameters, self.plan, self.plan.info
        flat = info.dimension == 2
        free = available_memory()
        memory = min(free // 2, max(0, free - plan.step_bytes))  # for samples: half of it at most, and a step must fit
        sources = self._sources(self.learn, memory)
        memory -= sum(source.held_bytes for source in sources)
        held_out = self._sources(self.valid, memory) if self.valid else []
        self._names = list(self.learn.label_names)
        self._warn_of_blank_labels(sources)
        most = parameters.validation_steps * plan.batch_size
        boxes = covering_boxes(held_out, plan.patch, most) if held_out else []
        self._preview = self._preview_patch(held_out or sources)
        self._trainer = Trainer(plan.model, plan.loss, info.n_labels, parameters.learning_rate)
        loop = TrainingLoop(
            trainer=self._trainer,
            sampler=PatchSampler(
                sources,
                plan.patch,
                plan.batch_size,
                focus=parameters.label_focus / 100,
                turns=parameters.augmentation == "flips",
                flat=flat,
                seed=parameters.seed,
            ),
            validation=fixed_batches(held_out, boxes, plan.patch, plan.batch_size, flat),
            schedule=Schedule(
                parameters.steps_per_epoch, parameters.epochs, parameters.early_stopping, min(4, available_cores())
            ),
            checkpoint=_checkpoint(self.folder),
            label_names=self._names,
            context=self.context,
            on_epoch=self._keep,
        )
        return loop.run()

    def _sources(self, dataset: Dataset, memory: int) -> list[Source]:
        return load_sources(list(dataset.samples.values()), memory, self.context.report, self.context.stop)

    def _warn_of_blank_labels(self, sources: Sequence[Source]) -> None:
        for index, name in enumerate(self._names):
            if not any(source.foreground[index].any() for source in sources):
                self.context.report.warning(f"Label {name!r} is blank in every sample of {self.learn.path}")

    def _keep(self, state: State, scores: Scores | None, best: bool) -> None:
        """Write the models of an epoch, and a slice of what the network says."""
        info = self._described(state, scores)
        save_model(self.plan.model, info, self.folder / "last.keras", overwrite=True)
        if best and scores is not None:
            save_model(self.plan.model, info, self.folder / "best.keras", overwrite=True)
        self._write_preview(state.epoch)

    def _described(self, state: State, scores: Scores | None) -> ModelInfo:
        parameters = self.parameters
        training: dict[str, Any] = {
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "epochs": state.epoch,
            "steps": state.epoch * parameters.steps_per_epoch,
            "batch_size": self.plan.batch_size,
            "loss": parameters.loss,
            "data_set": self.learn.name,
            "run": self.folder.name,
        }
        if scores is not None:
            training |= {"validation_loss": scores.loss, "validation_f1": scores.mean_f1}
        info = replace(self.plan.info, patch_size=self.plan.patch, training=training)
        voxels = {(sample.voxel_size, sample.voxel_unit) for sample in self.learn.samples.values()}
        if len(voxels) == 1:
            voxel_size, voxel_unit = voxels.pop()
            info = replace(info, voxel_size=voxel_size, voxel_unit=voxel_unit)
        if info.named or not self.learn.aliases:
            return info
        return replace(info, label_names=tuple(self.learn.aliases), named=True)

    def _preview_patch(self, sources: Sequence[Source]) -> Batch:
        """The middle of the first sample, of a size that the network takes."""
        source, patch = sources[0], self.plan.patch
        start = tuple((n - size) // 2 for n, size in zip(source.shape, patch, strict=True))
        return assemble([cut(source, (start[0], start[1], start[2]), patch)], self.plan.info.dimension == 2)

    def _write_preview(self, epoch: int) -> None:
        """One slice: the image (Y, X), the labels and what the network says of it (L, Y, X), all uint8."""
        outputs = self._trainer.predict(self._preview)[0, ..., : self.plan.info.n_labels]
        image, labels = self._preview.images[0, ..., 0], self._preview.labels[0]
        if image.ndim == 3:
            middle = len(image) // 2
            image, labels, outputs = image[middle], labels[middle], outputs[middle]
        path = self.folder / "preview" / f"epoch-{epoch:04}.npz"
        with published(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                image=(image.clip(0, 1) * 255).astype(np.uint8),
                labels=np.moveaxis(labels, -1, 0),
                prediction=np.moveaxis((outputs.clip(0, 1) * 255).astype(np.uint8), -1, 0),
            )
        self.context.report.event("preview", epoch=epoch, file=f"preview/{path.name}")


def _checkpoint(folder: Path) -> Path:
    return folder / "checkpoint" / "training.npz"


# ------------------------------------------------------------------------------------------------ the end


class _Talk(Reporter):
    """Passes on what an action inside this one says, but not its events: they would be taken for the run's own."""

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner

    def message(self, text: str) -> None:
        self._inner.message(text)

    def warning(self, text: str) -> None:
        self._inner.warning(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        self._inner.progress(task, done, total, unit, note)


def _test(parameters: p.Train, model: Path, context: Context) -> Sequence[Table]:
    """Predict and score the test data set; the prediction and the scores stay in the run."""
    assert context.folder is not None
    assert parameters.test is not None
    quiet = Context(_Talk(context.report), context.stop)
    predicted, scores = context.folder / "test.hdf5", context.folder / "test.csv"
    predict(p.Predict(model=model, input=parameters.test, out=predicted, image=False, overwrite=True), quiet)
    result = evaluate(p.Evaluate(reference=parameters.test, segmentation=predicted, csv=scores, overwrite=True), quiet)
    context.report.event("test", **result.as_json())
    return result.tables


def _result(parameters: p.Train, state: State, chosen: str, tables: Sequence[Table]) -> Result:
    facts: dict[str, Any] = {"model": str(parameters.out), "epochs": state.epoch}
    if chosen == "best" and state.best is not None:
        facts |= {"best_epoch": state.best_epoch, "validation_f1": state.best[0], "validation_loss": -state.best[1]}
    return Result(f"Trained {parameters.out} ({chosen} of {state.epoch} epochs)", facts, tables)
