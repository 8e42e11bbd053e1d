"""The action `train`: checks, the loop, the result, the test."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from operator import ge
from pathlib import Path
from typing import Any

import numpy as np

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.augmentation import recipes
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, open_dataset
from deepscem_tui.engine.evaluation.evaluate import evaluate
from deepscem_tui.engine.models.files import ModelInfo, check_format, check_suffix, load_model, save_model
from deepscem_tui.engine.models.info import GREY_VALUES, read_network
from deepscem_tui.engine.patches import (
    HELD_BYTES,
    Cache,
    PatchSampler,
    Source,
    by_processes,
    by_threads,
    load_sources,
    opened_cache,
)
from deepscem_tui.engine.prediction.plan import make_plan
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.reporting import Reporter, Spoken
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.runs import preview as run_preview
from deepscem_tui.engine.runs.own_results import is_own, noting
from deepscem_tui.engine.sources.inversion import grey_values
from deepscem_tui.engine.sources.voxel_sizes import common_size
from deepscem_tui.engine.system.devices import (
    available_cores,
    available_memory,
    be_deterministic,
    device_summary,
    forget_networks,
    memory_kept_for_reuse,
    say_device,
)
from deepscem_tui.engine.system.files import check_writable, refuse_existing
from deepscem_tui.engine.system.memory import memory_limit
from deepscem_tui.engine.system.space import check_room
from deepscem_tui.engine.training.checkpoints import Checkpoints, has_checkpoint
from deepscem_tui.engine.training.checks import label_problems, leak_problems
from deepscem_tui.engine.training.devices import chosen_devices, chosen_precision
from deepscem_tui.engine.training.distribution import Distribution
from deepscem_tui.engine.training.learning_rate import RateSchedule
from deepscem_tui.engine.training.loop import Schedule, TrainingLoop
from deepscem_tui.engine.training.losses import make_loss
from deepscem_tui.engine.training.plan import (
    Plan,
    check_labels,
    check_memory,
    common_normalisation,
    disk_bytes,
    plan_training,
)
from deepscem_tui.engine.training.preview import PreviewPatch, choose_preview
from deepscem_tui.engine.training.tensorboard import FOLDER, TensorBoard
from deepscem_tui.engine.training.trainer import Optimisation, State, Trainer
from deepscem_tui.engine.training.validation import Validated, Validator

_MOST_WORKERS = 8  # that make patches: more than one GPU takes up


def train(parameters: p.Train, context: Context) -> Result:
    """Train a model on a data set.

    Raises:
        ParameterError: for a patch that does not fit the samples or the network.
        DatasetError, ModelError: for files that cannot be used, or that do not fit each other.
        ResourceError: for a batch that does not fit the memory.
        EngineError: when the loss is no longer a number.
        Stopped: on request; the run can be resumed.
    """
    resuming = context.folder is not None and has_checkpoint(context.folder)
    ours = is_own(context.folder, parameters.out)
    if not ours:  # a run may replace its own result
        refuse_existing(parameters.out, parameters.overwrite)
    check_suffix(parameters.out)
    check_writable(parameters.out.parent)
    info, graph = read_network(parameters.model)
    check_format(parameters.out, graph)
    with ExitStack() as files:
        learn = files.enter_context(open_dataset(parameters.train))
        valid = files.enter_context(open_dataset(parameters.valid)) if parameters.valid else None
        test = files.enter_context(open_dataset(parameters.test)) if parameters.test else None
        for name, dataset in (("train", learn), ("valid", valid), ("test", test)):
            if dataset is not None:
                check_labels(name, dataset, info, context.report)
        if parameters.validation_steps == 0:
            valid = None
        plan = plan_training(parameters, info, graph, learn, valid, context.report)
        if parameters.dry_run:
            check_memory(plan)
            if context.measuring:  # which takes some seconds
                _warn_of_leaks(learn, valid, test, context)
            return Result(f"Would train {parameters.model} for {parameters.epochs} epochs: {plan}", plan.facts)
        if parameters.deterministic:
            be_deterministic()
        if context.folder is not None:
            check_room(disk_bytes(plan, context.folder, parameters.out))
        shared = chosen_devices(parameters, plan)
        device = device_summary(parameters.devices)
        check_memory(plan, device.startswith("CPU"))
        precision = chosen_precision(parameters, plan, context.report)
        say_device(device, precision, context.report)
        context.report.event(
            "started", resumed=resuming, device=device, precision=precision, devices=shared.n_replicas,
            **plan.facts,
        )  # fmt: skip
        folder = context.folder
        assert folder is not None
        if parameters.tensorboard and shared.chief:
            curves = TensorBoard(
                folder / FOLDER, context.report, learn.names_for(info.n_labels), parameters.steps_per_epoch
            )
            context = replace(context, report=curves)
        if not resuming:
            _warn_of_leaks(learn, valid, test, context)
        forget_networks()
        model, _ = load_model(parameters.model)
        with opened_cache(folder / "cache", context.report) as cache, memory_kept_for_reuse():
            session = _Session(parameters, context, folder, plan, model, learn, valid, shared, device, precision, cache)
            state = session.run()
    if not shared.chief:
        return Result(f"Trained along, as process {shared.worker}; the first one, 0, keeps the model", {})
    chosen = folder / ("best.keras" if valid is not None and parameters.keep_best else "last.keras")
    noted = noting(folder, parameters.out)
    save_model(*load_model(chosen), parameters.out, overwrite=parameters.overwrite or ours, before=noted)
    tables = _test(parameters, chosen, context) if test is not None else ()
    return _result(parameters, state, chosen.stem, tables, device)


def _warn_of_leaks(learn: Dataset, valid: Dataset | None, test: Dataset | None, context: Context) -> None:
    """Say which data are judged by, though they were learned or chosen from before."""
    used: list[tuple[str, Dataset]] = [("training", learn)]
    for name, dataset in (("validation", valid), ("test", test)):
        if dataset is not None:
            for before in used:
                for problem in leak_problems(before, (name, dataset), context.stop):
                    context.report.warning(problem.text)
            used.append((name, dataset))


# ------------------------------------------------------------------------------------------------ the training


@dataclass
class _Session:
    """One training: the loop with its data."""

    parameters: p.Train
    context: Context
    folder: Path
    plan: Plan
    model: Any
    learn: Dataset
    valid: Dataset | None
    shared: Distribution
    device: str
    precision: str
    cache: Cache

    def run(self) -> State:
        parameters, plan, info = self.parameters, self.plan, self.plan.info
        flat = info.dimension == 2
        free = available_memory()
        memory = min(HELD_BYTES, free // 2, max(0, free - plan.step_bytes))  # for samples: a step must fit beside them
        # Of flat patches processes make more than threads; but beside a network on the CPU no core is left for them.
        apart = os.name == "posix" and flat and not self.device.startswith("CPU")
        sources = self._sources(self.learn, memory, shared=apart)
        memory -= sum(source.held_bytes for source in sources)
        held_out = self._sources(self.valid, memory) if self.valid else []
        names = self.learn.names_for(info.n_labels)
        self._warn(names, sources, held_out)
        large = [source for source in held_out if all(map(ge, source.shape, plan.patch))]
        preview = choose_preview(large or sources, plan.patch, flat, info.context)
        trainer = self._made_trainer()
        keeper = _Keeper(
            parameters, self.context.report, self.folder, plan, self.learn, names, grey_values(self.learn),
            self.shared.chief, trainer, preview,
        )  # fmt: skip
        sampler = PatchSampler(
            sources,
            plan.patch,
            plan.batch_size * parameters.accumulation,
            focus=parameters.label_focus / 100,
            augmentation=recipes.strengths(parameters.augmentation, parameters.augment),
            flat=flat,
            seed=parameters.seed,
            weights=parameters.sample_weights,
            context=info.context,
        )
        validation = self._validator(self.valid) if self.valid else None
        n_workers = min(_MOST_WORKERS, available_cores())
        apart = apart and all(source.shareable for source in sources)
        made = by_processes(sampler, n_workers, self.cache.folder) if apart else by_threads(sampler, n_workers)
        with made as batches:
            return TrainingLoop(
                trainer=trainer,
                sampler=sampler,
                batches=batches,
                validation=validation,
                schedule=self._schedule(),
                checkpoints=Checkpoints(self.folder, parameters.steps_per_epoch),
                label_names=names,
                context=self.context,
                on_epoch=keeper.keep,
                on_preview=keeper.write_preview,
            ).run()

    def _made_trainer(self) -> Trainer:
        from deepscem_tui.engine.networks.learning import learning_network

        parameters, info, graph = self.parameters, self.plan.info, self.plan.graph
        return Trainer(
            lambda: learning_network(
                graph,
                self.precision,
                frozen_encoder=parameters.freeze == "encoder",
                supervised=parameters.deep_supervision,
            ),
            self.model,
            make_loss(parameters.loss, info.activation, info.n_labels, info.n_outputs, parameters.label_smoothing),
            info.n_labels,
            Optimisation(
                parameters.optimizer,
                parameters.weight_decay,
                parameters.gradient_clip,
                parameters.accumulation,
                parameters.ema,
                parameters.seed,
                parameters.xla,
            ),
            self.shared,
        )

    def _schedule(self) -> Schedule:
        parameters = self.parameters
        steps = parameters.steps_per_epoch * parameters.epochs
        warm_up = min(parameters.warm_up, steps // 2)
        return Schedule(
            parameters.steps_per_epoch,
            parameters.epochs,
            parameters.early_stopping,
            RateSchedule(parameters.schedule, parameters.learning_rate, warm_up, steps),
            60 * parameters.checkpoint_minutes,
        )

    def _sources(self, dataset: Dataset, memory: int, shared: bool = False) -> list[Source]:
        samples = list(dataset.samples.values())
        return load_sources(samples, memory, self.context.report, self.context.stop, self.cache, shared)

    def _validator(self, valid: Dataset) -> Validator:
        """What validates: with the tiles that `predict` has by itself."""
        parameters, plan, info = self.parameters, self.plan, self.plan.info
        predicting = p.Predict(model=parameters.model, input=valid.path, out=parameters.out)
        limit = memory_limit(self.device.startswith("CPU"))
        samples = dict(valid.samples)
        shapes = {name: sample.shape for name, sample in samples.items()}
        validator = Validator(
            samples,
            info,
            make_loss(parameters.loss, info.activation, info.n_labels, info.n_outputs),
            lambda most: make_plan(predicting, shapes, info, plan.graph, limit, most_voxels=most),
            parameters.validation_steps * plan.batch_size * prod(plan.patch),
            tune=parameters.tune_thresholds,
            # Of several processes none may leave the others waiting: they stop together, at a step.
            check=self.context.stop.check if self.shared.n_workers == 1 else lambda: None,
        )
        self.context.report.message(validator.words(valid.path))
        return validator

    def _warn(self, names: Sequence[str], sources: Sequence[Source], held_out: Sequence[Source]) -> None:
        """Say what is wrong with the data, before hours are spent on them."""
        learned = _voxels_by_label(sources)
        validated = _voxels_by_label(held_out) if held_out else None
        for problem in label_problems(names, learned, validated):
            self.context.report.warning(problem.text)


@dataclass
class _Keeper:
    """Writes the models of each epoch, and slices of what the network says.

    Args:
        names: Of the labels.
        grey_values: Shares of them in what is learned from, see :func:`grey_values`.
        chief: Whether this process keeps the models.
        preview: What these slices are of.
        thresholds: Of the last validation.
    """

    parameters: p.Train
    report: Reporter
    folder: Path
    plan: Plan
    learn: Dataset
    names: Sequence[str]
    grey_values: Sequence[float]
    chief: bool
    trainer: Trainer
    preview: PreviewPatch
    thresholds: tuple[float, ...] | None = None

    def keep(self, state: State, validated: Validated | None, best: bool) -> None:
        """Write the models of an epoch, and a slice of what the network says."""
        info = self._described(state, validated)
        self.thresholds = info.thresholds
        if self.chief:
            save_model(self.trainer.model, info, self.folder / "last.keras", overwrite=True)
            if best and validated is not None:
                save_model(self.trainer.model, info, self.folder / "best.keras", overwrite=True)
        self.write_preview(state.epoch)

    def _described(self, state: State, validated: Validated | None) -> ModelInfo:
        parameters = self.parameters
        training: dict[str, Any] = {
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "epochs": state.epoch,
            "steps": state.epoch * parameters.steps_per_epoch,
            "batch_size": self.plan.batch_size,
            "loss": parameters.loss,
            "data_set": self.learn.name,
            "run": self.folder.name,
            GREY_VALUES: self.grey_values,
        }
        thresholds = None
        if validated is not None:
            training |= {"validation_loss": validated.loss, "validation_f1": validated.scores.mean_f1}
            thresholds = validated.thresholds if parameters.tune_thresholds else None
        info = replace(self.plan.info, patch_size=self.plan.patch, training=training, thresholds=thresholds)
        info = replace(info, normalization=common_normalisation(self.learn))
        voxel_size, voxel_unit = common_size(list(self.learn.samples.values()), info)
        info = replace(info, voxel_size=voxel_size, voxel_unit=voxel_unit)
        if info.named or not self.learn.aliases:
            return info
        return replace(info, label_names=tuple(self.learn.aliases), named=True)

    def write_preview(self, epoch: int | None = None) -> None:
        """The slice for whoever watches: of an epoch, which is kept, or of now, which the next one replaces."""
        batch, box = self.preview.batch, self.preview
        outputs = self.trainer.predict(batch)[0, ..., : self.plan.info.n_labels]
        image, labels = batch.images[0, ..., self.plan.info.context], batch.labels[0]
        if image.ndim == 3:
            middle = len(image) // 2
            image, labels, outputs = image[middle], labels[middle], outputs[middle]
        file = "preview/now.npz" if epoch is None else f"preview/epoch-{epoch:04}.npz"
        prediction, true = np.moveaxis(outputs, -1, 0), np.moveaxis(labels, -1, 0)
        slice_ = image, prediction, self.names, box.sample, box.z
        if run_preview.write(self.folder / file, *slice_, labels=true, thresholds=self.thresholds):
            self.report.event("preview", epoch=epoch, file=file, sample=box.sample, z=box.z)


def _voxels_by_label(sources: Sequence[Source]) -> list[int]:
    return [sum(int(source.foreground[index].sum()) for source in sources) for index in range(len(sources[0].labels))]


# ------------------------------------------------------------------------------------------------ the end


def _test(parameters: p.Train, model: Path, context: Context) -> Sequence[Table]:
    """Predict and score the test data set; the prediction and the scores stay in the run."""
    assert context.folder is not None
    assert parameters.test is not None
    quiet = Context(Spoken(context.report), context.stop)
    predicted, scores = context.folder / "test.hdf5", context.folder / "test.csv"
    predict(p.Predict(model=model, input=parameters.test, out=predicted, image=False, overwrite=True), quiet)
    result = evaluate(p.Evaluate(reference=parameters.test, segmentation=predicted, csv=scores, overwrite=True), quiet)
    context.report.event("test", **result.as_json())
    return result.tables


def _result(parameters: p.Train, state: State, chosen: str, tables: Sequence[Table], device: str) -> Result:
    facts: dict[str, Any] = {"model": str(parameters.out), "epochs": state.epoch, "device": device}
    if chosen == "best" and state.best is not None:
        facts |= {"best_epoch": state.best_epoch, "validation_f1": state.best_f1, "validation_loss": -state.best[1]}
    return Result(f"Trained {parameters.out} ({chosen} of {words.counted(state.epoch, 'epoch')})", facts, tables)
