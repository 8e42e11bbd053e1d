"""The training loop: steps, validation, learning rate, best model, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import EngineError, RunError, Stopped
from deepscem_tui.engine.evaluation.metrics import Confusion
from deepscem_tui.engine.evaluation.thresholds import UNTUNED
from deepscem_tui.engine.patches import Batch, Batches, PatchSampler
from deepscem_tui.engine.training.checkpoints import Checkpoints
from deepscem_tui.engine.training.checks import Problem, epoch_problems
from deepscem_tui.engine.training.learning_rate import RateSchedule
from deepscem_tui.engine.training.trainer import Scores, State, StepResult, Trainer
from deepscem_tui.engine.training.validation import Validated

PLATEAU_EPOCHS = 3
_SMALLEST_RATE = 1e-6
_BAD_STEPS = 3  # in a row, after which the last good state is restored
_RECOVERIES = 1  # after which the training ends
_STEP_SECONDS = 0.5  # between two facts about steps
PREVIEW_SECONDS = 20.0
_PREVIEW_SHARE = 0.02  # of the time, at most


@dataclass(frozen=True)
class Schedule:
    """How long to train, and what to do on the way.

    Args:
        rates: The learning rate of each step.
        checkpoint_seconds: Time after which the state is saved within an epoch.
    """

    steps_per_epoch: int
    epochs: int
    early_stopping: bool
    rates: RateSchedule
    checkpoint_seconds: float

    @property
    def patience(self) -> int:
        """Epochs without improvement after which early stopping ends the training."""
        return max(5, self.epochs // 20)


class _Speed:
    """Patches a second, and the share of the time that is spent waiting for them."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._began = time.monotonic()
        self._waited, self.steps = 0.0, 0

    def add(self, waited: float) -> None:
        self._waited += waited
        self.steps += 1

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def facts(self) -> dict[str, float | None]:
        seconds = self.seconds
        known = self.steps > 0 and seconds > 0  # not when only the validation was left to do
        return {
            "patches_per_second": self.steps * self._batch_size / seconds if known else None,
            "waiting_for_data": self._waited / seconds if known else None,
        }


@dataclass
class TrainingLoop:
    """Trains until the epochs are over, or nothing improves any more.

    Args:
        sampler: Where patches come from.
        batches: Makes batches of them, a few ahead.
        validation: Validates a model after each epoch; None if there is nothing to validate on.
        checkpoints: What the training is resumed from if there is one, and saved to.
        on_epoch: Called after each epoch with the state, its validation, and whether this is the best so far.
        on_preview: Called after the first step and every now and then within long epochs, for whoever watches.
    """

    trainer: Trainer
    sampler: PatchSampler
    batches: Batches
    validation: Callable[[Any], Validated] | None
    schedule: Schedule
    checkpoints: Checkpoints
    label_names: Sequence[str]
    context: Context
    on_epoch: Callable[[State, Validated | None, bool], None]
    on_preview: Callable[[], None] = lambda: None
    _next_preview: float = 0.0
    _bad: list[int] = field(default_factory=list)  # steps in a row whose loss or gradients were no numbers

    def run(self) -> State:
        """Train, from the checkpoint if there is one.

        Raises:
            Stopped: on request, after the checkpoint is written.
            EngineError: when the loss is no longer a number, though the last good state was tried again.
        """
        state = self.checkpoints.restore(self.trainer, self.context.report)
        if state is None:
            state = State()
            self._save(state)  # what is gone back to before the first epoch is over
        else:
            self.context.report.message(f"Going on after epoch {state.epoch}, step {state.step}")
        self._check_workers_agree(state)
        if state.asked != self.schedule.epochs:  # early stopping begins anew where more epochs are asked for
            state.asked, state.continued, state.ended_early = self.schedule.epochs, state.epoch, False
        self.context.report.message("Compiling the network: the first step takes longer")
        while state.epoch < self.schedule.epochs and not state.ended_early:
            updates, weights = state.updates, self.trainer.weight_sums()
            try:
                speed = self._steps(state)
                validated = self.validation(self.trainer.model) if self.validation else None
            except _Bad as bad:
                state = self._recovered(bad)
                continue
            except Stopped:
                self._save(state)
                where = f"after {words.counted(state.epoch, 'epoch')} and {words.counted(state.step, 'step')}"
                raise Stopped(f"Training stopped {where} ({self.context.stop.reason})") from None
            moved = state.updates == updates or self.trainer.weight_sums() != weights
            self._end_epoch(state, validated, speed, moved)
            self._save(state)
            self.context.report.event("checkpoint", epoch=state.epoch)
        return state

    def _save(self, state: State) -> None:
        self.checkpoints.save(self.trainer, state)

    def _steps(self, state: State) -> dict[str, float | None]:
        """The steps of an epoch that are still to do; gives their speed."""
        saved = time.monotonic()
        whole, lately = _Speed(self.sampler.batch_size), _Speed(self.sampler.batch_size)
        batches = self._batches(state)
        made: StepResult | None = None
        try:
            while state.step < self.schedule.steps_per_epoch:
                self._check_stop()
                asked = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - asked
                made = self._step(state, batch)
                whole.add(waited)
                lately.add(waited)
                if lately.seconds >= _STEP_SECONDS or state.step == self.schedule.steps_per_epoch:
                    self._report_step(state, made, lately)
                    lately = _Speed(self.sampler.batch_size)
                self._preview_if_due()
                if time.monotonic() - saved > self.schedule.checkpoint_seconds and not self._bad:
                    self._save(state)
                    saved = time.monotonic()
        except Stopped:
            if made is not None and lately.steps:  # the last one, for whoever looks at the run
                self._report_step(state, made, lately)
            raise
        finally:
            batches.close()
        return whole.facts()

    def _report_step(self, state: State, made: StepResult, speed: _Speed) -> None:
        self.context.report.event(
            "step",
            epoch=state.epoch + 1,
            step=state.step,
            steps_per_epoch=self.schedule.steps_per_epoch,
            epochs=self.schedule.epochs,
            loss=_number(made.loss),
            mean_loss=_number(_mean_loss(state)),
            learning_rate=self._rate(state, state.step - 1),
            gradient_norm=_number(made.norm),
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

    def _batches(self, state: State) -> Generator[Batch, None, None]:
        """What is left of an epoch."""
        first = state.epoch * self.schedule.steps_per_epoch
        share = self.trainer.distribution.share(self.sampler.batch_size)
        return self.batches(range(first + state.step, first + self.schedule.steps_per_epoch), share)

    def _step(self, state: State, batch: Batch) -> StepResult:
        made = self.trainer.step(batch, self._rate(state, state.step), state)
        done = state.epoch * self.schedule.steps_per_epoch + state.step + 1
        if not made.finite:
            self._skip(state, done - 1, made)
        else:
            self._bad.clear()
            state.loss_sum += made.loss
            state.losses += 1
            state.counts = (made.counts + (np.array(state.counts) if state.counts else 0)).tolist()
        state.step += 1
        total = self.schedule.epochs * self.schedule.steps_per_epoch
        note = f"epoch {state.epoch + 1}/{self.schedule.epochs}, loss {_mean_loss(state):.4f}"
        self.context.report.progress("Training", done, total, "steps", note)
        return made

    def _rate(self, state: State, step: int) -> float:
        """The learning rate of a step of the epoch under way."""
        return self.schedule.rates.rate(state.epoch * self.schedule.steps_per_epoch + step) * state.rate_factor

    # ---------------------------------------------------------------------------------------------- bad steps

    def _skip(self, state: State, number: int, made: StepResult) -> None:
        """Go on without a step that would make the weights no numbers; not for ever."""
        self._bad.append(number)
        what = "loss" if not math.isfinite(made.loss) else "gradient"
        where = f"epoch {state.epoch + 1}, step {state.step + 1}"
        self.context.report.warning(f"The {what} is not a number in {where}: the step is left out")
        if len(self._bad) >= _BAD_STEPS:
            raise _Bad(where)

    def _recovered(self, bad: _Bad) -> State:
        """The last good state, to go on from at half the rate.

        Raises:
            EngineError: that was tried already, with the sample and the box at fault.
        """
        fault = self._fault(self._bad[-1])
        state = self.checkpoints.restore(self.trainer, self.context.report)
        self._bad.clear()
        assert state is not None
        if state.recoveries >= _RECOVERIES:
            raise EngineError(
                f"The loss was not a number in {_BAD_STEPS} steps in a row, again, up to {bad.where}: {fault}",
                "Look at that place (deepscem-tui run preview), or use a lower --learning-rate, or --gradient-clip 1.",
            )
        state.recoveries += 1
        state.rate_factor /= 2
        self.context.report.warning(
            f"{_BAD_STEPS} steps in a row were no numbers: going back to epoch {state.epoch}, step {state.step}, "
            f"with half the learning rate ({fault})"
        )
        self._save(state)
        return state

    def _fault(self, step: int) -> str:
        """Which patch of a step is at fault, in words."""
        batch = self.sampler.batch(step)
        for position, loss in enumerate(self.trainer.losses(batch)):
            if not math.isfinite(loss):
                return f"patch {self.sampler.place(step, position)} alone gives {loss}"
        return f"no patch of it alone, the first was {self.sampler.place(step, 0)}"

    # ---------------------------------------------------------------------------------------------- several processes

    def _check_stop(self) -> None:
        """Raise :class:`Stopped` if anybody asks for it; of several processes all do, at the same step."""
        if self.trainer.distribution.n_workers > 1 and any(
            self.trainer.distribution.agreed(float(self.context.stop.requested))
        ):
            self.context.stop.request("asked of one of the processes")
        self.context.stop.check()

    def _check_workers_agree(self, state: State) -> None:
        distribution = self.trainer.distribution
        place = (float(state.epoch), float(state.step))
        if distribution.agreed(*place) != tuple(value * distribution.n_workers for value in place):
            raise RunError(
                "The processes would not go on from the same step; "
                f"this one is at epoch {state.epoch}, step {state.step}",
                "Resume the runs of all of them that were stopped together, or start anew.",
            )

    def _judged(self, scores: Scores) -> tuple[float, float]:
        """Mean F1 and loss, the same in all processes: each validates by itself, and machines round differently."""
        distribution = self.trainer.distribution
        f1, loss = distribution.agreed(scores.mean_f1, scores.loss)
        return f1 / distribution.n_workers, loss / distribution.n_workers

    # ---------------------------------------------------------------------------------------------- epochs

    def _end_epoch(
        self, state: State, validated: Validated | None, speed: dict[str, float | None], moved: bool
    ) -> None:
        """Choose the best, adapt the learning rate, and report."""
        learned = Scores(_mean_loss(state), [Confusion(*row) for row in state.counts])
        judged = validated.scores if validated else learned
        f1, loss = self._judged(judged)
        _refuse_non_finite(loss, f"validation loss is {loss} after epoch {state.epoch + 1}")
        state.epoch += 1
        rate = self._rate(state, -1)  # of the epoch's last step
        state.step, state.loss_sum, state.losses, state.counts = 0, 0.0, 0, []
        state.smoothed_f1 = smoothed(state.smoothed_f1, f1, state.epoch)
        rank = _rank(state, loss)
        improved = state.best is None or rank > state.best
        if improved:
            state.best, state.best_f1, state.best_epoch = rank, f1, state.epoch
        if (
            self.schedule.early_stopping
            and state.epoch - max(state.best_epoch, state.continued) >= self.schedule.patience
        ):
            state.ended_early = True
            self.context.report.message(f"Nothing has improved since epoch {state.best_epoch}: ending early")
        self._report(state, learned, validated, rate, speed, improved)
        self._warn(state, epoch_problems(state.epoch, self.label_names, learned, validated, moved))
        self.on_epoch(state, validated, improved)
        self._next_preview = max(self._next_preview, time.monotonic() + PREVIEW_SECONDS)
        if self.schedule.rates.kind == "plateau":
            self._follow_plateau(state, loss)

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
            if self.schedule.rates.base * state.rate_factor / 2 >= _SMALLEST_RATE:
                state.rate_factor /= 2

    def _report(
        self,
        state: State,
        learned: Scores,
        validated: Validated | None,
        rate: float,
        speed: dict[str, float | None],
        improved: bool,
    ) -> None:
        facts: dict[str, Any] = {"epoch": state.epoch, "learning_rate": rate}
        facts |= _score_facts("", self.label_names, learned)
        text = f"Epoch {state.epoch}/{self.schedule.epochs}: loss {learned.loss:.4f}, F1 {learned.mean_f1:.3f}"
        if validated is not None:
            facts |= _score_facts("validation_", self.label_names, validated.scores)
            found = zip(self.label_names, validated.losses, validated.thresholds, validated.untuned.labels, strict=True)
            for name, loss, threshold, label in found:
                facts |= {f"validation_loss_{name}": loss, f"validation_threshold_{name}": threshold}
                facts |= {f"validation_untuned_f1_{name}": label.f1}
            facts["validation_smoothed_f1"] = state.smoothed_f1
            text += f"; validation loss {validated.loss:.4f}, F1 {validated.scores.mean_f1:.3f}"
            if any(threshold != UNTUNED for threshold in validated.thresholds):
                text += f" ({validated.untuned.mean_f1:.3f} at a threshold of {UNTUNED:g})"
            text += f", smoothed {state.smoothed_f1:.3f}{' (best)' if improved else ''}"
        self.context.report.event("epoch", **facts, **speed, best=improved)
        self.context.report.message(text)


class _Bad(Exception):
    """Several steps in a row whose loss or gradients were no numbers."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


def _mean_loss(state: State) -> float:
    """Of the finite losses of the epoch under way."""
    return state.loss_sum / state.losses if state.losses else math.nan


def _number(value: float) -> float | None:
    """A number that JSON has."""
    return value if math.isfinite(value) else None


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


def _rank(state: State, loss: float) -> tuple[float, float]:
    """The greater the better: by the smoothed F1, then by the loss."""
    return round(state.smoothed_f1, 6), -loss


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
