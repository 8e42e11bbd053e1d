"""The list of runs: one row a run, brought up to date in place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from deepscem_tui.engine import words
from deepscem_tui.engine.runs.watching import RunSummary
from deepscem_tui.texts import safe, shortened
from deepscem_tui.widgets.refilled_table import RefilledTable

__all__ = ["RunTable", "cells", "matches", "ordered", "short_name"]

_COLUMNS = (
    ("mark", " "), ("state", "State"), ("action", "Action"), ("name", "Name"), ("began", "Began"), ("took", "Took"),
    ("far", "How far, or how well"),
)  # fmt: skip
_USED, _TOOK = 60, 13  # cells of the other columns, and of `took`, which is the first to go
_SHORTEST_NAME = 12
_STATES = {
    "running": "● running",
    "finished": "finished",
    "stopped": "■ stopped",
    "failed": "! failed",
    "dead": "! dead",
}
_STYLES = {"running": "bold green", "failed": "bold red", "dead": "bold red"}


class RunTable(RefilledTable):
    """The runs of the folder, those that go on first."""

    HELP = """\
The **runs** of this folder, whoever started them: those that go on first, then the newest.

- `enter` shows the chosen run in full, `escape` the list again; `/` filters the list.
- `x` stops a run (its state is saved), `X` ends it at once, `R` resumes it, `e` continues a training for more epochs.
- `space` marks runs, `c` compares those that are marked.
- `d` starts the like again, `y` copies its command, `delete` removes the folder of an ended run.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Full view", tooltip="Show the chosen run alone"),
    ]

    class Moved(Message):
        """Another run is chosen, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[RunSummary] = []
        self._marked: frozenset[Path] = frozenset()
        self._last: Path | None = None
        self._now = 0.0
        self._name_width = 0
        self._shown: tuple[tuple[str, str], ...] = ()

    def on_resize(self) -> None:
        """Give the names what room there is; how long a run took goes where there is little."""
        room = self.size.width - _USED
        with_took = room - _TOOK >= _SHORTEST_NAME
        name_width = max(_SHORTEST_NAME, room - _TOOK * with_took)
        if name_width != self._name_width:
            self._name_width = name_width
            self._shown = tuple(column for column in _COLUMNS if with_took or column[0] != "took")
            self._fill(self.cursor_row)

    @property
    def chosen(self) -> RunSummary | None:
        """The run that the cursor is on."""
        return self.runs[self.cursor_row] if 0 <= self.cursor_row < len(self.runs) else None

    def show(self, runs: Sequence[RunSummary], marked: frozenset[Path], now: float) -> None:
        """Show these runs; the cursor stays on its run."""
        chosen = self.chosen
        same = [run.folder for run in runs] == [run.folder for run in self.runs]
        before, self.runs, was_marked, self._marked = self.runs, list(runs), self._marked, marked
        self._now = now
        if same:
            for old, run in zip(before, runs, strict=True):
                if old != run or run.running or (run.folder in marked) != (run.folder in was_marked):
                    for (key, _), text in zip(self._shown, self._row(run) if self._shown else (), strict=True):
                        self.change(str(run.folder), key, text)
        else:
            places = [index for index, run in enumerate(runs) if chosen is not None and run.folder == chosen.folder]
            row = places[0] if places else min(self.cursor_row, len(runs) - 1)
            self._fill(row if chosen is not None else 0)
        self._tell()

    def _fill(self, cursor: int) -> None:
        rows = [(str(run.folder), self._row(run)) for run in self.runs] if self._shown else []
        self.refill(self._shown, rows, max(0, cursor))

    def _row(self, run: RunSummary) -> list[Text]:
        row = cells(run, run.folder in self._marked, self._now, self._name_width)
        return [text for text, column in zip(row, _COLUMNS, strict=True) if column in self._shown]

    def choose(self, folder: Path | None) -> bool:
        """Move the cursor to a run; to the first one if it is not there."""
        places = [index for index, run in enumerate(self.runs) if run.folder == folder]
        self.move_cursor(row=places[0] if places else 0)
        return bool(places)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._tell()

    def _tell(self) -> None:
        folder = self.chosen.folder if self.chosen else None
        if folder != self._last:
            self._last = folder
            self.post_message(self.Moved())


def ordered(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Those that go on first, then the newest."""
    return sorted(runs, key=lambda run: (not run.running, -run.began, run.name))


def matches(run: RunSummary, wanted: str) -> bool:
    """Whether every word of a filter is in a run's name, action, state or result."""
    text = f"{run.name} {run.action} {run.state} {run.text} {run.command}".casefold()
    return all(word in text for word in wanted.casefold().split())


def short_name(run: RunSummary) -> str:
    """The name without its time and action, which have columns of their own."""
    _, found, rest = run.name.partition(f"-{run.action}-")
    return rest if found and rest else run.name


def cells(run: RunSummary, marked: bool, now: float, name_width: int) -> list[Text]:
    """A run's row, one cell for each column.

    Args:
        now: Seconds since the epoch.
        name_width: Characters of its name that are shown.
    """
    end = run.ended if run.ended is not None else max(run.latest, now if run.running else run.latest)
    row: list[tuple[str, Any]] = [
        ("*" if marked else " ", "bold"),
        (_STATES.get(run.state, run.state), _STYLES.get(run.state, "")),
        (run.action, ""),
        (shortened(short_name(run), name_width), ""),
        (time.strftime("%m-%d %H:%M", time.localtime(run.began)), ""),
        (words.duration(max(0.0, end - run.began - run.paused)), ""),
        (_how_far(run), ""),
    ]
    return [Text(safe(text), style, no_wrap=True) for text, style in row]


def _how_far(run: RunSummary) -> str:
    score = f"F1 {run.f1:.3f}" if run.f1 is not None else f"loss {run.loss:.4g}" if run.loss is not None else ""
    epochs = f"{run.epoch}/{run.epochs} epochs" if run.epochs else ""
    if run.running:
        progress = f"{100 * run.progress.share:.0f} %" if run.progress else ""
        if run.progress and epochs and run.progress.task != "Training":  # before its steps, and between them
            progress = f"{run.progress.task.lower()} {progress}"
        return "  ".join(part for part in (epochs, score, progress) if part)
    text = run.text.splitlines()[0] if run.text else ""
    if run.action != "train":
        return text
    return "  ".join(part for part in (epochs, score, text if run.state == "failed" else "") if part) or text
