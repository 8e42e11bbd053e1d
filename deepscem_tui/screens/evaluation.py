"""The screen of evaluation: the form, the table of scores, F1 against the threshold, and a look at the errors."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher, DataTable

from deepscem_tui.engine.evaluation.evaluate import ALL, MEAN, as_csv
from deepscem_tui.engine.objects.score_tables import wide
from deepscem_tui.engine.parameters import Evaluate
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.system.files import write_text
from deepscem_tui.jobs import Job
from deepscem_tui.render.chart import Series
from deepscem_tui.screens.form_screen import FORM, VIEW, FormScreen
from deepscem_tui.screens.look import LookPane
from deepscem_tui.screens.proposals import free
from deepscem_tui.texts import cell, safe
from deepscem_tui.widgets.line_chart import LineChart
from deepscem_tui.widgets.refilled_table import RefilledTable
from deepscem_tui.widgets.slice_view import SliceView

_LOOK = "look"
_NUMBERS_FROM = 2  # columns that hold numbers: after label and sample


class ScoreTable(RefilledTable):
    """Scores by label and sample."""

    HELP = """\
**Scores** of each label in each sample, of each label over all samples (`all`), and their mean over the labels.
A label that is not in the reference is *absent*: nothing can be found there, so it has no score.
With *Objects* or *Surfaces* ticked in the form, columns further right score single objects and outlines.

- `1` to `9`, or a click on a heading, sort by that column; again in the other direction.
- `enter` looks at the sample: hits, misses and false alarms.
"""


class EvaluationScreen(FormScreen):
    """Scores a segmentation, and shows where its errors are."""

    MODE = "evaluation"
    ACTION = "evaluate"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "save", "Save CSV", tooltip="Write the table to a CSV file"),
        Binding("enter,L", "look", "Look", tooltip="Look at the chosen sample: hits, misses, false alarms"),
        Binding("escape", "page('view')", "Back", tooltip="Back to the scores"),
        *(Binding(str(n), f"sort({n - 1})", "Sort", show=n == 1, key_display="1-9") for n in range(1, 10)),
    ]
    VIEW_ACTIONS: ClassVar[frozenset[str]] = FormScreen.VIEW_ACTIONS | {"save", "look", "sort"}
    DEFAULT_CSS = """
    EvaluationScreen #scores { height: 1fr; }
    EvaluationScreen ScoreTable { height: auto; max-height: 60%; min-height: 4; }
    EvaluationScreen LineChart { height: 1fr; min-height: 6; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._table: Table | None = None
        self._result: Result | None = None  # that the table is of
        self._shown: list[tuple[Any, ...]] = []
        self._sorted: tuple[int, bool] | None = None
        self._paths: tuple[Path, Path] | None = None  # segmentation and reference

    def compose_view(self) -> ComposeResult:
        with Vertical(id="scores"):
            yield ScoreTable()
            yield LineChart("F1 against threshold", "threshold")

    async def on_mount(self) -> None:
        await self.query_one(ContentSwitcher).add_content(LookPane(id=_LOOK))
        self.query_one(ScoreTable).display = self.query_one(LineChart).display = False

    # ---------------------------------------------------------------------------------------------- the result

    def follow(self, job: Job) -> None:
        self._table = self._result = None
        self.query_one(ScoreTable).display = self.query_one(LineChart).display = False
        super().follow(job)

    def show_job(self, job: Job, ended: bool) -> None:  # noqa: ARG002
        if job.result is None or not job.result.tables or self._result is job.result:
            return
        assert isinstance(job.parameters, Evaluate)
        self._result = job.result
        best = [table for table in job.result.tables if table.name == "best_thresholds"]
        self._table, self._sorted = wide([table for table in job.result.tables if table not in best]), None
        self._paths = (job.parameters.segmentation, job.parameters.reference)
        self._shown = [tuple(row) for row in self._table.rows]
        table = self.query_one(ScoreTable)
        self._fill()
        table.display = True
        chart, series = self.query_one(LineChart), _series(job.result.facts.get("curve") or (), best)
        chart.display = bool(series)
        chart.set_series(series)
        self.call_after_refresh(self._enter)

    def _fill(self) -> None:
        assert self._table is not None
        missing = [self._table.stands_for_none(column) for column in self._table.columns]
        rows = [(None, [_text(*pair) for pair in zip(row, missing, strict=True)]) for row in self._shown]
        names = self._table.columns
        columns = [
            (name, Text(name, justify="left" if place < _NUMBERS_FROM else "right")) for place, name in enumerate(names)
        ]
        self.query_one(ScoreTable).refill(columns, rows)

    def offers(self, job: Job | None) -> str:
        return (
            "\nEnter looks at a sample's errors, s saves the table." if job and job.result and job.result.tables else ""
        )

    def status(self) -> tuple[str, bool]:
        text, bad = super().status()
        if self.job is None or self.job.result is None:
            return text, bad
        given = self.job.parameters
        assert isinstance(given, Evaluate)
        return f"{given.segmentation} against {given.reference}, threshold {given.threshold:g}\n{text}", bad

    def fits(self, action: str) -> bool:
        """Whether a key means something: there must be a table."""
        return self._table is not None or not action.startswith(("save", "look", "sort"))

    def enter_view(self) -> None:
        if self.page == _LOOK:
            self.query_one(SliceView).focus()
        elif self.query_one(ScoreTable).display:
            self.query_one(ScoreTable).focus()
        else:
            self.set_focus(None)

    # ---------------------------------------------------------------------------------------------- keys

    def action_sort(self, column: int) -> None:
        """Sort by a column; again in the other direction."""
        if self._table is None:
            return
        descending = column >= _NUMBERS_FROM  # scores: the best first
        if self._sorted is not None and self._sorted[0] == column:
            descending = not self._sorted[1]
        self._sorted = (column, descending)
        ordered = sorted(
            (row for row in self._shown if row[column] is not None), key=lambda row: row[column], reverse=descending
        )
        ordered += [row for row in self._shown if row[column] is None]
        self._shown = sorted(ordered, key=lambda row: row[1] in (ALL, MEAN))  # the totals last
        self._fill()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        event.stop()
        self.action_sort(event.column_index)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self.action_look()

    def action_look(self) -> None:
        """Look at the sample of the chosen row."""
        if self._paths is None or not self._shown:
            self.app.notify("There is nothing to look at yet", severity="warning")
            return
        _, sample = self._shown[min(self.query_one(ScoreTable).cursor_row, len(self._shown) - 1)][:2]
        self.query_one(LookPane).look(*self._paths, None if sample in (ALL, MEAN) else str(sample))
        self.action_page(_LOOK)

    def action_save(self) -> None:
        """Write the table to a CSV file beside the segmentation."""
        if self._table is None or self._paths is None:
            self.app.notify("There is no table to save yet", severity="warning")
            return
        self.run_worker(self._save(self._table, self._paths[0]), group="save")

    async def _save(self, table: Table, segmentation: Path) -> None:
        def write() -> Path:
            path = free(segmentation.with_name(f"{segmentation.stem}-scores.csv"))
            write_text(path, as_csv(table))
            return path

        try:
            path = await asyncio.to_thread(write)
        except OSError as error:
            self.app.notify(safe(f"Not saved: {error}"), severity="error", markup=False)
        else:
            self.app.notify(safe(f"Wrote {path}"), markup=False)

    def action_turn(self) -> None:
        self.action_page(VIEW if self.page == FORM else FORM)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        if action == "page" and parameters == (VIEW,):
            return self.page == _LOOK
        if self.page == _LOOK and action in ("look", "save", "sort"):
            return False
        return super().check_action(action, parameters)


def _text(value: Any, missing: str) -> Text:
    number = isinstance(value, int | float)
    shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if number else cell(value, missing)
    return Text(safe(shown), justify="right" if number else "left")


def _series(curves: Any, best: Any) -> list[Series]:
    """A line for each label, named with its best threshold."""
    bests = {row[0]: row for table in best for row in table.rows}
    found = []
    for curve in curves:
        if curve["f1"] is None:
            continue
        name = safe(curve["label"])
        if curve["label"] in bests:
            name += f" (best {bests[curve['label']][2]:.3f} at {bests[curve['label']][1]:.2f})"
        found.append(Series(name, tuple(zip(curve["threshold"], curve["f1"], strict=True))))
    return found
