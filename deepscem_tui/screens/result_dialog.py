"""The result of an action: its tables and its summary, to be read at leisure."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Static

from deepscem_tui.jobs import Job
from deepscem_tui.texts import cell, safe
from deepscem_tui.widgets.footer import Footer


class ResultDialog(ModalScreen[None]):
    """Shows what an action gave back, until it is left."""

    AUTO_FOCUS = ""  # which would scroll the summary away
    HELP = "What came of an action. Arrows move in its tables; `escape` or `enter` closes it. `F8` lists all jobs."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "leave", "Close")]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def compose(self) -> ComposeResult:
        result = self._job.result
        assert result is not None
        with VerticalScroll(classes="dialog wide", can_focus=False):
            yield Static(safe(self._job.title), markup=False, classes="title")
            yield Static(safe(result.summary), markup=False, classes="summary")
            for text in self._job.warnings:
                yield Static(f"! {safe(text)}", markup=False, classes="warning")
            for table in result.shown_tables:
                grid: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=True)
                grid.add_columns(*(Text(safe(column)) for column in table.columns))
                missing = [table.stands_for_none(column) for column in table.columns]
                for row in table.rows:
                    grid.add_row(*(Text(safe(cell(*pair))) for pair in zip(row, missing, strict=True)))
                yield grid
        yield Footer()

    def on_mount(self) -> None:
        for table in self.query(DataTable).results():
            table.focus(scroll_visible=False)
            return

    def action_leave(self) -> None:
        """Close."""
        self.dismiss()
