"""Trainings that cannot end well, told early: labels that are not there, networks that say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deepscem_tui.engine.datasets.dataset import Dataset
from deepscem_tui.engine.datasets.leaks import find_overlaps
from deepscem_tui.engine.evaluation.metrics import Confusion
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.training.trainer import Scores
from deepscem_tui.engine.training.validation import Validated

__all__ = ["Problem", "epoch_problems", "label_problems", "leak_problems"]

_OPTIONS = {"validation": "valid", "test": "test"}
_LEAST_SPREAD = 1e-4  # of what a network says, below which it says the same everywhere


@dataclass(frozen=True)
class Problem:
    """Something to warn of.

    Args:
        about: What it is about, the same whenever it is found again.
        text: What is wrong, and what to do.
    """

    about: str
    text: str


def label_problems(names: Sequence[str], learned: Sequence[int], validated: Sequence[int] | None) -> Iterator[Problem]:
    """Labels that are missing.

    Args:
        names: Of the labels.
        learned: Voxels of each in the training data.
        validated: The same of the validation data, if there are any.
    """
    for index, name in enumerate(names):
        there = validated[index] if validated is not None else 0
        if not learned[index]:
            text = f"Label {name!r} is blank in all training data: it cannot be learned"
            if there:
                text += f", but {there:,} voxels of the validation data are. Add samples that show it."
            yield Problem(f"blank {name}", text)
        elif validated is not None and not there:
            text = "it has no part in choosing the best model, and its threshold stays at 0.5"
            yield Problem(f"unseen {name}", f"Label {name!r} is blank in all validation data: {text}")


def leak_problems(learned: tuple[str, Dataset], judged: tuple[str, Dataset], stop: Stop) -> Iterator[Problem]:
    """Data that are judged by, and chosen or learned from before.

    Args:
        learned: What data these are, such as ``"training"``, and the data set.
        judged: The same of those that should be others.

    Raises:
        Stopped: on request.
    """
    (before, first), (after, second) = learned, judged
    if first.path.samefile(second.path):
        text = f"The {after} data are the {before} data, {first.path}: scores of them do not hold for other images"
        yield Problem(f"leak {after}", f"{text}. Give --{_OPTIONS[after]} a data set of its own.")
        return
    for overlap in find_overlaps(first, second, stop):
        box = ", ".join(f"{axis} {start}:{end}" for axis, (start, end) in zip("ZYX", overlap.box, strict=True))
        what = "is" if overlap.whole else "overlaps with"
        yield Problem(
            f"leak {after} {overlap.other}",
            f"Sample {overlap.other!r} of {second.path} {what} {box} of {overlap.one!r} of {first.path}: the {after} "
            f"data are in part {before} data, and their scores too good. Learn and judge on separate samples.",
        )


def epoch_problems(
    epoch: int, names: Sequence[str], learned: Scores, validated: Validated | None, moved: bool
) -> Iterator[Problem]:
    """What an epoch shows of a network that learns nothing.

    Args:
        epoch: Its number, from 1.
        learned: Scores of the training data on the way.
        validated: What the validation found, if there was one.
        moved: Whether any weight changed.
    """
    if not moved:
        yield Problem(
            "still",
            f"No weight of the network changed in epoch {epoch}: it learns nothing. Train anew with a higher "
            "--learning-rate, or from a new model.",
        )
    if validated is not None and max(validated.spreads) < _LEAST_SPREAD:
        yield Problem(
            "dead",
            f"After epoch {epoch} the network says the same of every voxel: it is dead. Stop it, and train anew with a "
            "lower --learning-rate, or from a new model with --normalization batchnorm or another --seed.",
        )
        return
    scores, where = (validated.scores, "validation") if validated is not None else (learned, "training")
    for name, count in zip(names, scores.labels, strict=True):
        if not count.absent and count.tp + count.fp == 0:
            yield Problem(
                f"silent {name}",
                f"After epoch {epoch} the network marks no voxel of {name!r}, though {_share(count)} of the {where} "
                "voxels are. If that stays so: more steps, a higher --label-focus, --loss dice-cross-entropy, or a "
                "look at whether labels and image fit (run preview).",
            )


def _share(count: Confusion) -> str:
    """The label's share of all voxels."""
    return f"{100 * (count.tp + count.fn) / count.voxels:.2g} %"
