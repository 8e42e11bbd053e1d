"""What a training will be, decided and checked before anything is loaded: patch, batch, memory. No TensorFlow."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets.dataset import Dataset
from deepscem_tui.engine.datasets.ignoring import ignored_in
from deepscem_tui.engine.errors import DatasetError, ModelError, ParameterError, ResourceError
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.networks.geometry import step_bytes, weight_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.sources.normalisation import normalisation_in
from deepscem_tui.engine.sources.voxel_sizes import say_other_sizes
from deepscem_tui.engine.system.memory import memory_limit
from deepscem_tui.engine.training.losses import check_loss

__all__ = [
    "Plan",
    "check_labels",
    "check_memory",
    "common_normalisation",
    "disk_bytes",
    "fitting_patch",
    "plan_training",
    "usual_patch",
]

_log = logging.getLogger(__name__)

_DEFAULT_PATCH = {2: (1, 256, 256), 3: (32, 128, 128)}
_DEFAULT_BATCH = {2: 8, 3: 2}


@dataclass(frozen=True)
class Plan:
    """What was left open in the parameters, decided.

    Args:
        patch: Z, Y, X in voxels.
        batch_size: Patches in a step.
    """

    info: ModelInfo
    graph: Graph
    patch: Shape
    batch_size: int

    @property
    def step_bytes(self) -> int:
        """Memory that a step takes."""
        return step_bytes(self.graph, self.patch[3 - self.info.dimension :], self.batch_size, training=True)

    @property
    def facts(self) -> dict[str, Any]:
        return {"patch_size": list(self.patch), "batch_size": self.batch_size}

    def __str__(self) -> str:
        patches = f"{self.batch_size} patches of {words.sizes(self.patch)} voxels a step"
        return f"{patches}, about {self.step_bytes / 2**30:.1f} GiB"


def plan_training(
    parameters: p.Train, info: ModelInfo, graph: Graph, learn: Dataset, valid: Dataset | None, report: Reporter
) -> Plan:
    """Decide what the parameters leave open.

    Raises:
        ParameterError: the patch or the loss does not suit the network or a sample to train with.
        DatasetError: a sample to train with is smaller than any patch can be.
    """
    samples = [*learn.samples.values(), *(valid.samples.values() if valid else ())]
    # Of the samples to validate with, too small ones are padded, as prediction does.
    patch = fitting_patch(parameters.patch_size, info.dimension, info.divisor, learn)
    asked = parameters.patch_size or ()
    if info.dimension == 2 and len(asked) == 3 and asked[0] != 1:
        report.message("The network is 2D: Z of --patch-size does not count")
    say_other_sizes(samples, info, report)
    check_loss(parameters.loss, info.activation, info.n_labels, info.n_outputs)
    plan = Plan(info, graph, patch, parameters.batch_size or _DEFAULT_BATCH[info.dimension])
    _log.debug("%s", plan)
    return plan


def check_memory(plan: Plan, on_cpu: bool | None = None) -> None:
    """Refuse a batch that cannot fit, rather than be killed in the first step.

    Args:
        on_cpu: See :func:`~deepscem_tui.engine.system.memory.memory_limit`.

    Raises:
        ResourceError: with a batch that would fit.
    """
    limit, needed = memory_limit(on_cpu), plan.step_bytes
    if limit is None or needed <= limit.size:
        return
    weights = weight_bytes(plan.graph, training=True)
    fits = max(0, int(plan.batch_size * (limit.size - weights) / (needed - weights)))
    raise ResourceError(
        f"A step on {plan.batch_size} patches of {words.sizes(plan.patch)} voxels needs about "
        f"{needed / 2**30:.1f} GiB of memory, and {limit.words}",
        f"A --batch-size of {fits} would fit."
        if fits
        else "Use a smaller --patch-size."
        if limit.size > weights
        else "Use a model with fewer --filters or less --depth (create-model).",
        "batch_size" if fits else "patch_size" if limit.size > weights else "model",
    )


def disk_bytes(plan: Plan, folder: Path, out: Path) -> dict[Path, int]:
    """Bytes that a training takes on the disk: models and checkpoints, whose optimizer keeps two numbers a weight.

    Of each kind one more is there while it is written, and the average of the weights counts as they do.

    Args:
        folder: Of the run.
        out: The result.
    """
    weights = 4 * plan.graph.n_parameters
    models, checkpoints = 3 * weights, 3 * 4 * weights
    return {folder: models + checkpoints, out: weights}


def usual_patch(dimension: int) -> tuple[Shape, int]:
    """The patch (Z, Y, X) and the batch where none are asked for and samples are large."""
    return _DEFAULT_PATCH[dimension], _DEFAULT_BATCH[dimension]


def fitting_patch(asked: tuple[int, ...] | None, dimension: int, divisor: Shape, dataset: Dataset) -> Shape:
    """The patch to train with: the one asked for, or the default, shrunk to the smallest sample.

    Args:
        asked: Y, X or Z, Y, X, or None.
        dimension: Of the network. With 2 a patch is one slice thick, and a Z that was asked for does not count.
        divisor: What the sides, Z, Y, X, must be multiples of.
        dataset: With the samples that patches are cut from, at least one.

    Returns:
        Z, Y, X.

    Raises:
        ParameterError: if the one asked for does not suit the network or a sample.
        DatasetError: if a sample is smaller than any patch can be.
    """
    if asked is not None and dimension == 3 and len(asked) == 2:
        raise ParameterError("--patch-size has two sizes, and the network is 3D", "Give three: Z,Y,X.", "patch_size")
    sizes = list(_DEFAULT_PATCH[dimension] if asked is None else asked if len(asked) == 3 else (1, *asked))
    first = 0 if dimension == 3 else 1
    sizes[:first] = [1] * first
    for axis in range(first, 3):
        step = divisor[axis]
        sample = min(dataset.samples.values(), key=lambda sample: sample.shape[axis])
        smallest = sample.shape[axis]
        about = f"sample {sample.name!r} of {dataset.path} has {smallest} voxels along {'ZYX'[axis]}"
        if smallest < step:
            hint = "Use larger samples, or a model with fewer levels (create-model --depth)."
            raise DatasetError(
                f"The network needs patches of at least {step} voxels along {'ZYX'[axis]}, and {about}", hint, "model"
            )
        if asked is None:
            sizes[axis] = min(sizes[axis], smallest) // step * step
        elif sizes[axis] > smallest:
            hint = f"{smallest // step * step} is the most that fits."
            raise ParameterError(f"--patch-size is {sizes[axis]} along {'ZYX'[axis]}, but {about}", hint, "patch_size")
        elif sizes[axis] % step:
            lower = sizes[axis] // step * step
            near = " or ".join(str(size) for size in (lower, lower + step) if 0 < size <= smallest)
            raise ParameterError(
                f"--patch-size along {'ZYX'[axis]} must be a multiple of {step} (it is {sizes[axis]})",
                f"Use {near}.",
                "patch_size",
            )
    return sizes[0], sizes[1], sizes[2]


def check_labels(parameter: str, dataset: Dataset, info: ModelInfo, report: Reporter) -> None:
    """Whether a data set can train, validate or test the model."""
    if not dataset.samples:
        raise DatasetError(f"{dataset.path} has no samples", "Add some with: deepscem-tui run add-sample", parameter)
    fits = all(len(sample.labels) == info.n_labels for sample in dataset.samples.values())
    if dataset.n_labels != info.n_labels and not fits:
        has = words.counted(dataset.n_labels, "label")
        what = f"{dataset.path} has {has} a sample, and the model {info.n_labels}"
        raise ModelError(what, f"Make one with: deepscem-tui run create-model OUT --like {dataset.path}", parameter)
    for sample in dataset.samples.values():
        if len(sample.labels) != info.n_labels:
            raise DatasetError(
                f"Sample {sample.name!r} of {dataset.path} has {len(sample.labels)} of {dataset.n_labels} labels",
                "Is it a data set of predictions? Labels are needed here.",
                parameter,
            )
    _check_annotated(parameter, dataset, report)
    ways = sorted({normalisation_in(sample) for sample in dataset.samples.values()})
    if info.training is not None and ways != [info.normalization]:
        learned = f"and the model has learned on images normalised by {info.normalization}"
        report.warning(f"The samples of {dataset.path} are normalised by {'; '.join(ways)}, {learned}")
    elif len(ways) > 1:
        report.warning(f"The samples of {dataset.path} are normalised in different ways: {'; '.join(ways)}")
    if dataset.aliases and info.named and tuple(dataset.aliases) != tuple(info.label_names):
        ours, theirs = ", ".join(dataset.aliases), ", ".join(info.label_names)
        report.warning(f"The labels of {dataset.path} are named {ours}; those of the model {theirs}")


def _check_annotated(parameter: str, dataset: Dataset, report: Reporter) -> None:
    """Say what is left out because nobody has annotated it."""
    found = [ignored_in(sample) for sample in dataset.samples.values()]
    for ignored in filter(None, found):
        report.message(f"{ignored.what} is labelled in part: {ignored}. The rest is left out")
    if all(ignored is not None and not ignored.annotated for ignored in found):
        hint = "Say which slices are: deepscem-tui run set-labelled"
        raise DatasetError(f"Nothing of {dataset.path} is labelled", hint, parameter)


def common_normalisation(dataset: Dataset) -> str:
    """How most samples of a data set are normalised."""
    return Counter(normalisation_in(sample) for sample in dataset.samples.values()).most_common(1)[0][0]
