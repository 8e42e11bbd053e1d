"""What is known of a run at one moment: immutable, for whoever shows it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "Gpu", "Preview", "Progress", "RunSnapshot", "RunSummary", "Said", "StepFacts", "Tiles", "Usage", "mean_score",
]  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far a task is.

    Args:
        share: 0 to 1.
        rate: Units a second since it began or was resumed; None before that is known.
        seconds_left: None before that is known.
    """

    task: str
    done: float
    total: float
    unit: str = ""
    note: str = ""
    rate: float | None = None

    @property
    def share(self) -> float:
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 1.0

    @property
    def seconds_left(self) -> float | None:
        return max(0.0, self.total - self.done) / self.rate if self.rate else None


@dataclass(frozen=True)
class StepFacts:
    """The latest step of a training.

    Args:
        epoch: Under way, from 1.
        step: Finished in it.
        loss: Of this step.
        mean_loss: Of the epoch so far.
        waiting_for_data: Share of the time since the last such fact, 0 to 1.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    epochs: int
    loss: float | None = None
    mean_loss: float | None = None
    learning_rate: float | None = None
    patches_per_second: float | None = None
    waiting_for_data: float | None = None


@dataclass(frozen=True)
class Gpu:
    """A GPU: name, share of time in use in %, bytes in use and in all; None for what it does not tell."""

    name: str
    percent: float | None = None
    memory: float | None = None
    memory_total: float | None = None


@dataclass(frozen=True)
class Usage:
    """What the run takes of its machine.

    Args:
        cpu: Cores that its process keeps busy, such as 3.5.
        cores: That it may use.
        machine_percent: Of all of the machine's cores that anybody keeps busy.
        memory: Resident bytes of the process.
        memory_available: Bytes that it may still take.
    """

    cpu: float | None = None
    cores: float | None = None
    machine_percent: float | None = None
    memory: float | None = None
    memory_available: float | None = None
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Said:
    """A message or warning: when, seconds since the epoch, ``"message"`` or ``"warning"``, and its text."""

    t: float
    kind: str
    text: str


@dataclass(frozen=True)
class Preview:
    """A preview slice: its file, to be read with :func:`deepscem_tui.engine.runs.preview.read`, and when it was made.

    A newer one may have the same name: compare ``t`` too.
    """

    path: Path
    t: float


@dataclass(frozen=True)
class Tiles:
    """How far the prediction of a sample is, in tiles."""

    sample: str
    done: int
    total: int
    voxels_per_second: float | None = None


@dataclass(frozen=True)
class RunSnapshot:
    """What a run folder said when it was looked at.

    Args:
        state: ``running``, ``finished``, ``stopped``, ``failed``, ``dead`` (its process is gone without a word) or
            ``gone`` (the folder is).
        began, latest, ended: First, last and ending event, seconds since the epoch by the clock of the run's machine;
            ended is None while it runs.
        paused: Seconds between sessions of a run that was resumed.
        looked: ``time.monotonic()`` here when the latest event was read.
        epochs: The facts of each finished epoch: ``epoch``, ``learning_rate``, ``loss``, ``f1_LABEL``, ``iou_LABEL``,
            and the same with ``validation_`` before them; a score is None where a label is absent.
        losses: (epochs gone by, loss), thinned to a bounded number of points that are means of their steps.
        device: What it computes on, in words.
        said: The last messages and warnings.
        log: The last lines of what libraries printed.
        tiles: How far each sample of a prediction is, in the order in which they were begun.
        samples: Samples of a prediction in all.
        checkpoint: When the last one was written.
        result: What a finished run gave, by name.
        error: Why it stopped or failed.
    """

    folder: Path
    state: str
    action: str = ""
    command: str = ""
    host: str = ""
    pid: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    began: float | None = None
    latest: float | None = None
    ended: float | None = None
    paused: float = 0.0
    looked: float = 0.0
    epochs: tuple[Mapping[str, float | None], ...] = ()
    losses: tuple[tuple[float, float], ...] = ()
    step: StepFacts | None = None
    progress: Progress | None = None
    usage: Usage | None = None
    device: str = ""
    said: tuple[Said, ...] = ()
    log: tuple[str, ...] = ()
    preview: Preview | None = None
    checkpoint: float | None = None
    tiles: tuple[Tiles, ...] = ()
    samples: int = 0
    result: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"

    def seconds(self, now: float | None = None) -> float:
        """How long the run has worked, without the pauses; ``now`` is a ``time.monotonic()``."""
        if self.began is None or self.latest is None:
            return 0.0
        total = (self.ended or self.latest) - self.began - self.paused
        if self.running:
            total += max(0.0, (time.monotonic() if now is None else now) - self.looked)
        return max(0.0, total)

    @property
    def n_epochs(self) -> int:
        """Epochs that a training is to have; 0 if this is none."""
        asked = self.parameters.get("epochs")
        return asked if isinstance(asked, int) else self.step.epochs if self.step else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that epochs have scores of."""
        return tuple(key[3:] for key in self.epochs[-1] if key.startswith("f1_")) if self.epochs else ()

    def curve(self, key: str) -> tuple[tuple[float, float], ...]:
        """(epoch, value) of a fact, such as ``"validation_f1_mitochondria"``; NaN where it is None."""
        return tuple(
            (float(epoch["epoch"] or 0), math.nan if (value := epoch[key]) is None else value)
            for epoch in self.epochs
            if key in epoch
        )

    def score(self, measure: str = "f1", validation: bool = True) -> float | None:
        """The last epoch's mean over the labels that are present."""
        return mean_score(self.epochs[-1], measure, validation) if self.epochs else None


@dataclass(frozen=True)
class RunSummary:
    """A run in short.

    Args:
        name: Of its folder.
        state: As in :class:`RunSnapshot`.
        working_folder: Where it was started; None if it does not say.
        epoch: Finished, of a training.
        f1: As :func:`model_f1`.
        loss: Of the last epoch, likewise.
        text: How it ended: the result's summary, or the error.
    """

    folder: Path
    name: str
    action: str
    state: str
    command: str
    host: str
    pid: int
    began: float
    latest: float
    ended: float | None = None
    paused: float = 0.0
    progress: Progress | None = None
    epoch: int = 0
    epochs: int = 0
    f1: float | None = None
    loss: float | None = None
    text: str = ""
    working_folder: Path | None = None

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def left(self) -> bool:
        """Whether it ended before it was done, and not by a fault: it waits to be resumed."""
        return self.state in ("stopped", "dead")

    @property
    def how_far(self) -> str:
        """Such as ``3 of 12 epochs``; empty if that is not known."""
        if self.epochs:
            return f"{self.epoch} of {self.epochs} epochs"
        return f"{100 * self.progress.share:.0f} %" if self.progress else ""


def model_f1(epochs: Sequence[Mapping[str, float | None]], result: Mapping[str, Any] | None) -> float | None:
    """The mean F1 over the labels of the model that a training keeps; after the last epoch until that is known.

    The kept model is chosen by a smoothed F1: another epoch may have scored higher by chance.

    Args:
        epochs: The facts of each finished epoch.
        result: What a finished run gave.
    """
    kept = (result or {}).get("validation_f1")
    if isinstance(kept, (int, float)) and math.isfinite(kept):
        return kept
    return mean_score(epochs[-1]) if epochs else None


def mean_score(epoch: Mapping[str, float | None], measure: str = "f1", validation: bool = True) -> float | None:
    """The mean over labels that are present of an epoch's scores; the training's where there is no validation."""
    prefixes = (f"validation_{measure}_", f"{measure}_") if validation else (f"{measure}_",)
    for prefix in prefixes:
        found = [value for key, value in epoch.items() if key.startswith(prefix)]
        if found:
            present = [value for value in found if value is not None]
            return sum(present) / len(present) if present else None
    return None
