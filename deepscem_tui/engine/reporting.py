"""How an action tells what it does: to a terminal, to a run folder, to a screen, or to nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Reporter:
    """Receives what an action has to say; this base class ignores all of it.

    Methods may be called from the thread that carries out the action only.
    """

    def began(self, folder: Path) -> None:
        """The run's folder is made: whoever carries out the action can watch it from now on."""

    def message(self, text: str) -> None:
        """Say in one line what is being done, or was found."""

    def warning(self, text: str) -> None:
        """Say in one line what is unusual and what was done about it."""

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        """Say how far a task is.

        Call it as often as convenient: whoever shows it decides how often to draw.

        Args:
            task: What is being done; a new text is a new task.
            done: Units finished so far.
            total: Units in all; the task has ended when ``done`` reaches it.
            unit: What is counted, in the plural (``"slices"``); ``"B"`` for bytes.
            note: A few words on the present state, such as a loss.
        """

    def event(self, kind: str, **facts: Any) -> None:
        """Record a fact for whoever watches the run (JSON types only)."""


class Part(Reporter):
    """Reports the progress of one step as that of a longer task that it is a part of; passes on what is said.

    Args:
        whole: Who hears of the longer task.
        task: The longer task.
        before: Units finished before this step.
        units: Units of this step.
        total: Units in all.
        unit: What is counted.
    """

    def __init__(self, whole: Reporter, task: str, before: float, units: float, total: float, unit: str) -> None:
        self._whole, self._task, self._unit = whole, task, unit
        self._before, self._units, self._total = before, units, total
        self._finished = 0.0

    def message(self, text: str) -> None:
        self._whole.message(text)

    def warning(self, text: str) -> None:
        self._whole.warning(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:  # noqa: ARG002
        self._finished = max(self._finished, done / total if total else 1)  # a step may be of several tasks
        finished = self._before + self._units * self._finished
        self._whole.progress(self._task, finished, self._total, self._unit, note)


class Spoken(Reporter):
    """Passes on what is said, but no events: those of an action inside another would be taken for the run's own.

    Args:
        inner: Who hears.
    """

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner

    def message(self, text: str) -> None:
        self._inner.message(text)

    def warning(self, text: str) -> None:
        self._inner.warning(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        self._inner.progress(task, done, total, unit, note)
