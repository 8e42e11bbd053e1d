"""The list of runs: one row a run, brought up to date in place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text
from textual.message import Message
from textual.widgets import DataTable

from deepscem_tui.console import safe
from deepscem_tui.engine import words
from deepscem_tui.engine.watching import RunSummary

__all__ = ["RunTable", "cells", "matches", "ordered", "short_name"]

_COLUMNS = (
    ("mark", " "), ("state", "State"), ("action", "Action"), ("name", "Name"), ("began", "Began"), ("took", "Took"),
    ("far", "How far, or how well"),
)  # fmt: skip
_STATES = {
    "running": "● running",
    "finished": "finished",
    "stopped": "■ stopped",
    "failed": "! failed",
    "dead": "! dead",
}
_STYLES = {"running": "bold green", "failed": "bold red", "dead": "bold red"}


class RunTable(DataTable[Text]):
    """The runs of the folder, those that go on first."""

    HELP = """\
The **runs** of this folder, whoever started them: those that go on first, then the newest.

- `enter` shows the chosen run in full, `escape` the list again; `/` filters the list.
- `x` stops a run (its state is saved), `X` ends it at once, `R` resumes it, `e` continues a training for more epochs.
- `space` marks runs, `c` compares those that are marked.
- `d` starts the like again, `y` copies its command, `delete` removes the folder of an ended run.
"""

    class Moved(Message):
        """Another run is chosen, or none."""

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True)
        self.runs: list[RunSummary] = []
        self._marked: frozenset[Path] = frozenset()
        self._last: Path | None = None

    def on_mount(self) -> None:
        for key, label in _COLUMNS:
            self.add_column(Text(label), key=key)

    @property
    def chosen(self) -> RunSummary | None:
        """The run that the cursor is on."""
        return self.runs[self.cursor_row] if 0 <= self.cursor_row < len(self.runs) else None

    def show(self, runs: Sequence[RunSummary], marked: frozenset[Path], now: float) -> None:
        """Show these runs; the cursor stays on its run."""
        chosen = self.chosen
        same = [run.folder for run in runs] == [run.folder for run in self.runs]
        before, self.runs, was_marked, self._marked = self.runs, list(runs), self._marked, marked
        if same:
            for old, run in zip(before, runs, strict=True):
                if old != run or run.running or (run.folder in marked) != (run.folder in was_marked):
                    for (key, _), text in zip(_COLUMNS, cells(run, run.folder in marked, now), strict=True):
                        if self.get_cell(str(run.folder), key) != text:
                            self.update_cell(str(run.folder), key, text, update_width=True)
        else:
            with self.prevent(DataTable.RowHighlighted):
                self.clear()
                for run in runs:
                    self.add_row(*cells(run, run.folder in marked, now), key=str(run.folder))
            self.choose(chosen.folder if chosen else None)
        self._tell()

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


def cells(run: RunSummary, marked: bool, now: float) -> list[Text]:
    """A run's row.

    Args:
        now: Seconds since the epoch.
    """
    end = run.ended if run.ended is not None else max(run.latest, now if run.running else run.latest)
    row: list[tuple[str, Any]] = [
        ("*" if marked else " ", "bold"),
        (_STATES.get(run.state, run.state), _STYLES.get(run.state, "")),
        (run.action, ""),
        (short_name(run), ""),
        (time.strftime("%m-%d %H:%M", time.localtime(run.began)), ""),
        (words.duration(max(0.0, end - run.began)), ""),
        (_how_far(run), ""),
    ]
    return [Text(safe(text), style, no_wrap=True) for text, style in row]


def _how_far(run: RunSummary) -> str:
    score = f"F1 {run.f1:.3f}" if run.f1 is not None else f"loss {run.loss:.4g}" if run.loss is not None else ""
    epochs = f"{run.epoch}/{run.epochs} epochs" if run.epochs else ""
    if run.running:
        progress = f"{100 * run.progress.share:.0f} %" if run.progress else ""
        return "  ".join(part for part in (progress, epochs, score) if part)
    if run.action == "train":
        return "  ".join(part for part in (epochs, score) if part) or run.text
    return run.text.splitlines()[0] if run.text else ""
