"""Trainings that cannot end well, told early: labels that are not there, networks that say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deepscem_tui.engine.metrics import Confusion
from deepscem_tui.engine.trainer import Scores
from deepscem_tui.engine.validation import Validated

__all__ = ["Problem", "epoch_problems", "label_problems"]

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


def epoch_problems(epoch: int, names: Sequence[str], learned: Scores, validated: Validated | None) -> Iterator[Problem]:
    """What an epoch shows of a network that learns nothing.

    Args:
        epoch: Its number, from 1.
        learned: Scores of the training data on the way.
        validated: What the validation found, if there was one.
    """
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
    return f"{100 * (count.tp + count.fn) / (count.tp + count.fp + count.fn + count.tn):.2g} %"
