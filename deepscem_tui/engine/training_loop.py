"""The training loop: steps, validation, learning rate, best model, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import EngineError, Stopped
from deepscem_tui.engine.metrics import Confusion
from deepscem_tui.engine.patches import Batch, PatchSampler, prefetched
from deepscem_tui.engine.thresholds import UNTUNED
from deepscem_tui.engine.trainer import Scores, State, Trainer
from deepscem_tui.engine.training_checks import Problem, epoch_problems, weight_sums
from deepscem_tui.engine.validation import Validated

PLATEAU_EPOCHS = 3
_SMALLEST_RATE = 1e-6
_CHECKPOINT_SECONDS = 600.0
_STEP_SECONDS = 0.5  # between two facts about steps
PREVIEW_SECONDS = 20.0
_PREVIEW_SHARE = 0.02  # of the time, at most


@dataclass(frozen=True)
class Schedule:
    """How long to train, and what to do on the way."""

    steps_per_epoch: int
    epochs: int
    early_stopping: bool
    workers: int

    @property
    def patience(self) -> int:
        """Epochs without improvement after which early stopping ends the training."""
        return max(5, self.epochs // 20)


class _Speed:
    """Patches a second, and the share of the time that is spent waiting for them."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._began = time.monotonic()
        self._waited, self._steps = 0.0, 0

    def add(self, waited: float) -> None:
        self._waited += waited
        self._steps += 1

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def facts(self) -> dict[str, float | None]:
        seconds = self.seconds
        known = self._steps > 0 and seconds > 0  # not when only the validation was left to do
        return {
            "patches_per_second": self._steps * self._batch_size / seconds if known else None,
            "waiting_for_data": self._waited / seconds if known else None,
        }


@dataclass
class TrainingLoop:
    """Trains until the epochs are over, or nothing improves any more.

    Args:
        validation: Validates a model after each epoch; None if there is nothing to validate on.
        checkpoint: File that the training is resumed from if it exists, and saved to.
        on_epoch: Called after each epoch with the state, its validation, and whether this is the best so far.
        on_preview: Called after the first step and every now and then within long epochs, for whoever watches.
    """

    trainer: Trainer
    sampler: PatchSampler
    validation: Callable[[Any], Validated] | None
    schedule: Schedule
    checkpoint: Path
    label_names: Sequence[str]
    context: Context
    on_epoch: Callable[[State, Validated | None, bool], None]
    on_preview: Callable[[], None] = lambda: None
    _next_preview: float = 0.0

    def run(self) -> State:
        """Train, from the checkpoint if there is one.

        Raises:
            Stopped: on request, after the checkpoint is written.
            EngineError: when the loss is no longer a number.
        """
        state = State()
        if self.checkpoint.exists():
            state = self.trainer.restore(self.checkpoint)
            self.context.report.message(f"Going on after epoch {state.epoch}, step {state.step}")
        if state.asked != self.schedule.epochs:  # early stopping begins anew where more epochs are asked for
            state.asked, state.continued, state.ended_early = self.schedule.epochs, state.epoch, False
        self.context.report.message("Compiling the network: the first step takes longer")
        while state.epoch < self.schedule.epochs and not state.ended_early:
            weights = weight_sums(self.trainer.model) if state.step < self.schedule.steps_per_epoch else None
            try:
                speed = self._steps(state)
                validated = self.validation(self.trainer.model) if self.validation else None
            except Stopped:
                self.trainer.save(self.checkpoint, state)
                where = f"after {words.counted(state.epoch, 'epoch')} and {words.counted(state.step, 'step')}"
                raise Stopped(f"Training stopped {where} ({self.context.stop.reason})") from None
            self._end_epoch(state, validated, speed, moved=weights != weight_sums(self.trainer.model))
            self.trainer.save(self.checkpoint, state)
            self.context.report.event("checkpoint", epoch=state.epoch)
        return state

    def _steps(self, state: State) -> dict[str, float | None]:
        """The steps of an epoch that are still to do; gives their speed."""
        saved = time.monotonic()
        whole, lately = _Speed(self.sampler.batch_size), _Speed(self.sampler.batch_size)
        batches = prefetched(self._makers(state), self.schedule.workers)
        try:
            while state.step < self.schedule.steps_per_epoch:
                self.context.stop.check()
                asked = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - asked
                loss = self._step(state, batch)
                whole.add(waited)
                lately.add(waited)
                if lately.seconds >= _STEP_SECONDS or state.step == self.schedule.steps_per_epoch:
                    self._report_step(state, loss, lately)
                    lately = _Speed(self.sampler.batch_size)
                self._preview_if_due()
                if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                    self.trainer.save(self.checkpoint, state)
                    saved = time.monotonic()
        finally:
            batches.close()
        return whole.facts()

    def _report_step(self, state: State, loss: float, speed: _Speed) -> None:
        self.context.report.event(
            "step",
            epoch=state.epoch + 1,
            step=state.step,
            steps_per_epoch=self.schedule.steps_per_epoch,
            epochs=self.schedule.epochs,
            loss=loss,
            mean_loss=state.loss_sum / state.step,
            learning_rate=self.trainer.learning_rate,
            **speed.facts(),
        )

    def _preview_if_due(self) -> None:
        began = time.monotonic()
        if began >= self._next_preview:
            first = self._next_preview == 0.0  # which traces the network: that takes longer once
            self.on_preview()
            ended = time.monotonic()
            self._next_preview = ended + (
                PREVIEW_SECONDS if first else max(PREVIEW_SECONDS, (ended - began) / _PREVIEW_SHARE)
            )

    def _makers(self, state: State) -> Iterator[Callable[[], Batch]]:
        first = state.epoch * self.schedule.steps_per_epoch
        return (partial(self.sampler.batch, first + step) for step in range(state.step, self.schedule.steps_per_epoch))

    def _step(self, state: State, batch: Batch) -> float:
        loss, counts = self.trainer.step(batch)
        _refuse_non_finite(loss, f"loss is {loss} in epoch {state.epoch + 1}, step {state.step + 1}")
        state.step += 1
        state.loss_sum += loss
        state.counts = (counts + (np.array(state.counts) if state.counts else 0)).tolist()
        done = state.epoch * self.schedule.steps_per_epoch + state.step
        total = self.schedule.epochs * self.schedule.steps_per_epoch
        note = f"epoch {state.epoch + 1}/{self.schedule.epochs}, loss {state.loss_sum / state.step:.4f}"
        self.context.report.progress("Training", done, total, "steps", note)
        return loss

    def _end_epoch(
        self, state: State, validated: Validated | None, speed: dict[str, float | None], moved: bool
    ) -> None:
        """Choose the best, adapt the learning rate, and report."""
        learned = Scores(state.loss_sum / state.step, [Confusion(*row) for row in state.counts])
        judged = validated.scores if validated else learned
        _refuse_non_finite(judged.loss, f"validation loss is {judged.loss} after epoch {state.epoch + 1}")
        state.epoch += 1
        state.step, state.loss_sum, state.counts = 0, 0.0, []
        state.smoothed_f1 = smoothed(state.smoothed_f1, judged.mean_f1, state.epoch)
        rank = _rank(state, judged)
        improved = state.best is None or rank > state.best
        if improved:
            state.best, state.best_f1, state.best_epoch = rank, judged.mean_f1, state.epoch
        if (
            self.schedule.early_stopping
            and state.epoch - max(state.best_epoch, state.continued) >= self.schedule.patience
        ):
            state.ended_early = True
            self.context.report.message(f"Nothing has improved since epoch {state.best_epoch}: ending early")
        self._report(state, learned, validated, speed, improved)
        self._warn(state, epoch_problems(state.epoch, self.label_names, learned, validated, moved))
        self.on_epoch(state, validated, improved)
        self._next_preview = max(self._next_preview, time.monotonic() + PREVIEW_SECONDS)
        self._follow_plateau(state, judged.loss)

    def _warn(self, state: State, problems: Iterable[Problem]) -> None:
        """Say what is wrong with what was learned, each thing once in a training."""
        for problem in problems:
            if problem.about not in state.warned:
                state.warned.append(problem.about)
                self.context.report.warning(problem.text)

    def _follow_plateau(self, state: State, loss: float) -> None:
        """Halve the rate when the loss has not fallen for a few epochs."""
        if loss < state.plateau_loss - 1e-4:
            state.plateau_loss, state.plateau_epochs = loss, 0
            return
        state.plateau_epochs += 1
        if state.plateau_epochs >= PLATEAU_EPOCHS:
            state.plateau_epochs = 0
            if self.trainer.learning_rate / 2 >= _SMALLEST_RATE:
                self.trainer.learning_rate /= 2

    def _report(
        self,
        state: State,
        learned: Scores,
        validated: Validated | None,
        speed: dict[str, float | None],
        improved: bool,
    ) -> None:
        facts: dict[str, Any] = {"epoch": state.epoch, "learning_rate": self.trainer.learning_rate}
        facts |= _score_facts("", self.label_names, learned)
        text = f"Epoch {state.epoch}/{self.schedule.epochs}: loss {learned.loss:.4f}, F1 {learned.mean_f1:.3f}"
        if validated is not None:
            facts |= _score_facts("validation_", self.label_names, validated.scores)
            found = zip(self.label_names, validated.thresholds, validated.untuned.labels, strict=True)
            for name, threshold, label in found:
                facts |= {f"validation_threshold_{name}": threshold, f"validation_untuned_f1_{name}": label.f1}
            facts["validation_smoothed_f1"] = state.smoothed_f1
            text += f"; validation loss {validated.loss:.4f}, F1 {validated.scores.mean_f1:.3f}"
            if any(threshold != UNTUNED for threshold in validated.thresholds):
                text += f" ({validated.untuned.mean_f1:.3f} at a threshold of {UNTUNED:g})"
            text += f", smoothed {state.smoothed_f1:.3f}{' (best)' if improved else ''}"
        self.context.report.event("epoch", **facts, **speed, best=improved)
        self.context.report.message(text)


def smoothed(before: float, f1: float, epoch: int) -> float:
    """The mean of the F1 of all epochs so far, each counting half of the one that follows it.

    As nnU-Net chooses its best epoch by a running mean of its pseudo Dice, so that one lucky epoch is not taken for the
    best; that is of patches drawn at random in a thousand epochs, and the last counts a tenth. This one is of whole
    samples, and must suit ten epochs. Early on it is the mean of what there is, not of that and 0.

    Args:
        before: What this gave after the epoch before; anything after the first.
        f1: Of the epoch.
        epoch: Its number, from 1.
    """
    return before + (f1 - before) * 0.5 / (1 - 0.5**epoch)


def _rank(state: State, scores: Scores) -> tuple[float, float]:
    """The greater the better: by the smoothed F1, then by the loss."""
    return round(state.smoothed_f1, 6), -scores.loss


def _score_facts(prefix: str, names: Sequence[str], scores: Scores) -> dict[str, float | None]:
    """Loss and each label's scores as facts of an epoch."""
    facts: dict[str, float | None] = {f"{prefix}loss": scores.loss}
    for name, label in zip(names, scores.labels, strict=True):
        facts |= {f"{prefix}f1_{name}": label.f1, f"{prefix}iou_{name}": label.iou}
        facts |= {f"{prefix}precision_{name}": label.precision, f"{prefix}recall_{name}": label.recall}
    return facts


def _refuse_non_finite(loss: float, what: str) -> None:
    """Raise before weights that are no numbers any more are kept."""
    if not math.isfinite(loss):
        raise EngineError(f"The {what}", "Use a lower --learning-rate.")
