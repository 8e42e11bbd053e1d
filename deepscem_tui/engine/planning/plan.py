"""The action `plan`: a network and a training proposed for a data set, with reasons, memory and time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from deepscem_tui.engine import actions, words
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, open_dataset
from deepscem_tui.engine.datasets.survey import Survey, survey
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.planning.proposal import Machine, Proposal, propose
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.system.devices import available_cores
from deepscem_tui.engine.system.files import refuse_existing, write_text
from deepscem_tui.engine.system.memory import memory_limit

__all__ = ["plan", "seconds_a_step"]

_LEAST_SECONDS = 3.0  # that steps are measured for


def plan(parameters: p.Plan, context: Context) -> Result:
    """Propose a network and a training.

    Raises:
        DatasetError: the data set cannot be read, or has nothing to learn.
        ParameterError: for a file to make that exists or does not end in .toml.
        ResourceError: the step that is measured does not fit the memory.
        Stopped: on request.
    """
    out = parameters.out
    if out is not None:
        if out.suffix != ".toml":
            raise ParameterError(f"{out} does not end in .toml", "Name it so, as in plan.toml.", "out")
        refuse_existing(out, parameters.overwrite)
    with open_dataset(parameters.dataset) as dataset:
        if parameters.valid is not None:
            _check_valid(parameters.valid, dataset)
        found = survey(dataset, context)
    machine = Machine(memory_limit(), available_cores())
    made = propose(found, machine, parameters.dimension)
    for text in found.warnings:
        context.report.warning(text)
    if made.memory > machine.budget:
        context.report.warning(f"Even this does not fit well: {machine}")
    seconds = None
    if parameters.measure and not parameters.dry_run:
        context.report.message("Measuring a step of the training")
        seconds = made.steps * seconds_a_step(made, found, context)
    if out is not None and not parameters.dry_run:
        write_text(out, _toml(parameters, made, seconds))
    return _result(parameters, found, machine, made, seconds)


def _check_valid(path: Path, dataset: Dataset) -> None:
    """Raise where the training would refuse its validation data."""
    with open_dataset(path) as valid:
        if valid.n_labels != dataset.n_labels:
            has = f"{path} has {words.counted(valid.n_labels, 'label')}, and {dataset.path} {dataset.n_labels}"
            raise ParameterError(has, "Choose validation data with the same labels.", "valid")


def seconds_a_step(made: Proposal, found: Survey, context: Context) -> float:
    """Time that a step takes here, measured on patches of noise; without what reading and validation take.

    Where there is no GPU on one patch, times the patches of a batch.
    """
    from deepscem_tui.engine.networks.assemble import assemble
    from deepscem_tui.engine.networks.learning import learning_network
    from deepscem_tui.engine.patches import Batch
    from deepscem_tui.engine.system.devices import best_precision, gpu_names, memory_kept_for_reuse
    from deepscem_tui.engine.training.distribution import distribution
    from deepscem_tui.engine.training.losses import make_loss
    from deepscem_tui.engine.training.trainer import Optimisation, State, Trainer

    n_labels, sides = len(found.labels), made.patch[3 - made.dimension :]
    n = made.batch_size if gpu_names() else 1
    random = np.random.default_rng(0)
    images = random.random((n, *sides, 1), np.float32)
    batch = Batch(images, (random.random((n, *sides, n_labels)) < 0.2).astype(np.uint8))
    precision = best_precision()
    trainer = Trainer(
        lambda: learning_network(made.graph, precision), assemble(made.graph, seed=0),
        make_loss("dice-cross-entropy", "sigmoid", n_labels, n_labels), n_labels, Optimisation(),
        distribution("auto" if gpu_names() else "cpu"),
    )  # fmt: skip
    state = State()
    measured: list[float] = []
    with memory_kept_for_reuse():
        trainer.step(batch, 0.0, state)  # traced
        while sum(measured) < _LEAST_SECONDS:
            context.stop.check()
            began = time.monotonic()
            trainer.step(batch, 0.0, state)
            measured.append(time.monotonic() - began)
    return float(np.median(measured)) * made.batch_size / n


# ------------------------------------------------------------------------------------------------ what is said


def _files(dataset: Path) -> tuple[Path, Path]:
    """What the network and the trained model are called: beside the data set."""
    return dataset.with_name(f"{dataset.stem}-new.keras"), dataset.with_name(f"{dataset.stem}-trained.keras")


def _command(parameters: p.Plan, made: Proposal) -> str:
    """How to make the network."""
    network = made.network(_files(parameters.dataset)[0], parameters.dataset)
    return actions.command_line(actions.ACTIONS["create-model"], network)


def _values(parameters: p.Plan, made: Proposal) -> dict[str, Any]:
    """The parameters of `train`."""
    model, out = map(str, _files(parameters.dataset))
    valid = {"valid": str(parameters.valid)} if parameters.valid else {}
    return {"model": model, "out": out, "train": str(parameters.dataset), **valid, **made.training}


def _toml(parameters: p.Plan, made: Proposal, seconds: float | None) -> str:
    """The parameters of `train`, each with its reason.

    Raises:
        ParameterError: a file's name is no Unicode, which TOML cannot hold.
    """
    lines = [
        f"# Proposed for {parameters.dataset}; {_needs(made, seconds)}.",
        "# Make the network first:",
        f"#     {_command(parameters, made)}",
        "# then train it; parameters given on the command line go before those here:",
        f"#     deepscem-tui run train --from {parameters.out}",
    ]
    for name, value in _values(parameters, made).items():
        reason = made.reasons.get(name)
        given = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f"{name} = {given}" + (f"  # {reason}" if reason else ""))
    text = "".join(f"{_one_line(line)}\n" for line in lines)
    if not _is_unicode(text):
        raise ParameterError("A name with bytes that are no text cannot be kept in TOML", "Rename the file first.")
    return text


def _one_line(text: str) -> str:
    """What stands in a comment stays there, though a file's name may hold line breaks."""
    return "".join(
        character if character.isprintable() or "\ud800" <= character <= "\udfff" else "?" for character in text
    )


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _needs(made: Proposal, seconds: float | None) -> str:
    text = f"about {words.amount(made.memory, 'B')} of memory a step"
    if seconds is None:
        return text
    return f"{text} and, as a step was measured, {words.duration(seconds)} for {made.steps:,} steps"


def _result(parameters: p.Plan, found: Survey, machine: Machine, made: Proposal, seconds: float | None) -> Result:
    settings = made.network(_files(parameters.dataset)[0], parameters.dataset)
    network = {name: getattr(settings, name) for name in ("dimension", "depth", "filters", "anisotropy")}
    shown = network | made.training
    if made.dimension == 2:
        del shown["anisotropy"]
    rows = [(name, value if isinstance(value, int | float) else str(value), made.reasons.get(name))
            for name, value in shown.items()]  # fmt: skip
    samples = [
        (
            sample.name, list(sample.shape), list(sample.voxel_size) if sample.voxel_size else None,
            round(sample.grey, 3), round(sample.spread, 3), *(round(share, 5) for share in sample.fractions),
        )
        for sample in found.samples
    ]  # fmt: skip
    names = [f"share of {name}" for name in found.labels]
    tables = (
        Table("samples", ("sample", "shape", "voxel_size", "grey", "spread", *names), samples),
        Table("proposal", ("what", "value", "reason"), rows, blank=("reason",)),
    )
    facts: dict[str, Any] = {
        "network": network,
        "training": _values(parameters, made),
        "machine": str(machine),
        "memory_bytes": made.memory,
        "seconds": None if seconds is None else round(seconds, 1),
        "steps": made.steps,
        "create_model": _command(parameters, made),
        "warnings": found.warnings,
        "out": str(parameters.out) if parameters.out else None,
    }
    summary = f"On {machine}, it takes {_needs(made, seconds)}. Make the network: {facts['create_model']}"
    if parameters.out is None:
        return Result(f"{summary}; --out FILE.toml keeps the rest", facts, tables)
    would = "Would write" if parameters.dry_run else "Wrote"
    train = f"deepscem-tui run train --from {parameters.out}"
    return Result(f"{would} {parameters.out}. {summary}; train it: {train}", facts, tables)
