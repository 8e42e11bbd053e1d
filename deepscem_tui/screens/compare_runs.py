"""The comparison of several runs: their curves in one chart, and a table of where they differ and what they gave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from deepscem_tui.engine import words
from deepscem_tui.engine.runs.comparing import Compared, RunsComparison, differing, measures
from deepscem_tui.engine.runs.snapshots import model_f1
from deepscem_tui.render.chart import Series
from deepscem_tui.texts import cell, safe
from deepscem_tui.widgets.line_chart import LineChart
from deepscem_tui.widgets.refilled_table import RefilledTable

__all__ = ["CompareRuns"]

_LOOK_SECONDS = 1.0
_WIDEST = 40  # characters of a value in the table


class CompareRuns(Vertical):
    """Curves of several runs in one chart, and a table of their results and of the parameters that differ."""

    HELP = """\
**Comparison** of the marked runs.

- `m` and `M` switch what is compared: F1, losses, learning rate, each label's scores.
- `a` switches between epochs and minutes along the chart.
- `y`, `w`, `r` on the chart: logarithmic, smoothed, only its end.

*F1 of the model* is that of the model that a training kept; after the last epoch while it has kept none.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "measure(1)", "Measure", tooltip="Compare by something else: F1, loss, a label's scores"),
        Binding("M", "measure(-1)", "Previous measure", show=False),
        Binding("a", "axis", "Epoch/time", tooltip="Along the chart: epochs, or minutes"),
    ]
    DEFAULT_CSS = """
    CompareRuns #what { height: 1; padding: 0 1; }
    CompareRuns LineChart { height: 3fr; min-height: 6; }
    CompareRuns RefilledTable { height: 2fr; min-height: 4; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._comparison: RunsComparison | None = None
        self._runs: tuple[Compared, ...] = ()
        self._measure = ""
        self._by_time = False
        self._looking = False

    def compose(self) -> ComposeResult:
        yield Static(id="what", markup=False)
        yield LineChart()
        yield RefilledTable()

    def on_mount(self) -> None:
        self.set_interval(_LOOK_SECONDS, self._look_if_shown)

    @property
    def measure(self) -> str:
        """What the runs are compared by."""
        return self._measure

    def compare(self, folders: Sequence[Path]) -> None:
        """Compare these runs."""
        if self._comparison is None or self._comparison.folders != tuple(folders):
            self._comparison, self._runs = RunsComparison(folders), ()
            self.query_one("#what", Static).update("Reading the runs ...")
        self._look()

    def enter(self) -> None:
        """Focus the chart."""
        self.query_one(LineChart).focus()

    def _look_if_shown(self) -> None:
        if self.is_on_screen and any(run.snapshot.running for run in self._runs):
            self._look()

    def _look(self) -> None:
        if not self._looking and self._comparison is not None:
            self._looking = True
            self.run_worker(self._poll(self._comparison), group="compare")

    async def _poll(self, comparison: RunsComparison) -> None:
        try:
            runs = await asyncio.to_thread(comparison.poll)
        finally:
            self._looking = False
        if comparison is not self._comparison:
            self._look()
        elif self.is_attached and runs != self._runs:
            self._runs = runs
            self._show()

    # ---------------------------------------------------------------------------------------------- what is shown

    def _show(self) -> None:
        known = measures(self._runs)
        if self._measure not in known:
            self._measure = known[0] if known else ""
        along = "minutes" if self._by_time else "epoch"
        title = safe(_title(self._measure)) if self._measure else "no epochs yet"
        place = f" ({known.index(self._measure) + 1} of {len(known)})" if self._measure else ""
        self.query_one("#what", Static).update(
            f"{words.counted(len(self._runs), 'run')}: {title}{place} by {along}   m: measure   a: epochs or time"
        )
        chart = self.query_one(LineChart)
        chart.set_titles(title, along)
        names = _names(self._runs)
        chart.set_series(
            [Series(name, run.curve(self._measure, self._by_time)) for name, run in zip(names, self._runs, strict=True)]
            if self._measure
            else []
        )
        self._fill(names)

    def _fill(self, names: Sequence[str]) -> None:
        table = self.query_one(RefilledTable)
        facts = [*_results(self._runs, self._measure), *differing(self._runs)]
        rows = [(None, [Text(safe(title)), *map(_value, values)]) for title, values in facts]
        table.refill([(None, safe(title)) for title in ("", *names)], rows, table.cursor_row)

    # ---------------------------------------------------------------------------------------------- keys

    def action_measure(self, by: int) -> None:
        """Compare by something else."""
        known = measures(self._runs)
        if not known:
            self.app.notify("These runs have no epochs to compare", severity="warning")
            return
        self._measure = known[(known.index(self._measure) + by) % len(known)]
        self._show()

    def action_axis(self) -> None:
        """Epochs or minutes along the chart."""
        self._by_time = not self._by_time
        self._show()


def _title(measure: str) -> str:
    return measure.replace("validation_", "validation ").replace("f1", "F1").replace("iou", "IoU").replace("_", " ")


def _names(runs: Sequence[Compared]) -> list[str]:
    """The runs' names without the time that they have in front, where that tells them apart."""
    short = [run.name.split("-", 3)[-1] if run.name[:8].isdigit() else run.name for run in runs]
    return [name if short.count(name) == 1 else run.name for name, run in zip(short, runs, strict=True)]


def _results(runs: Sequence[Compared], measure: str) -> list[tuple[str, tuple[Any, ...]]]:
    """State, epochs, time and scores of each run."""
    rows: list[tuple[str, tuple[Any, ...]]] = [
        ("state", tuple(run.snapshot.state for run in runs)),
        ("epochs done", tuple(len(run.snapshot.epochs) for run in runs)),
        ("time", tuple(words.duration(run.snapshot.seconds()) for run in runs)),
    ]
    f1 = tuple(model_f1(run.snapshot.epochs, run.snapshot.result) for run in runs)
    if any(value is not None for value in f1):
        rows.append(("F1 of the model", f1))
    for name in dict.fromkeys((measure, "validation_loss", "loss")):
        best = tuple(run.best(name) for run in runs) if name not in ("", "validation_f1") else ()
        if any(value is not None for value in best):
            rows.append((f"best {_title(name)}", best))
    return rows


def _value(value: Any) -> Text:
    text = cell(value) if not isinstance(value, list | tuple | dict) else str(value)
    return Text(safe(text if len(text) <= _WIDEST else f"...{text[-_WIDEST + 3 :]}"))
