"""The jobs of this application: what is being done, what waits, what is over and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from deepscem_tui.jobs import Job
from deepscem_tui.screens.result_dialog import ResultDialog
from deepscem_tui.texts import safe, shortened
from deepscem_tui.widgets.footer import Footer
from deepscem_tui.widgets.refilled_table import RefilledTable
from deepscem_tui.widgets.wrapped_log import WrappedLog

if TYPE_CHECKING:
    from deepscem_tui.app import DeepscemApp

_POLL_SECONDS = 0.5
_USED = 36  # cells of the columns beside the title
_SHORTEST_TITLE = 20


class JobsScreen(ModalScreen[None]):
    """Lists the jobs; the chosen one's messages are below."""

    app: DeepscemApp
    HELP = """\
The **jobs** of this application. Computing and changing files are done beside each other, each one at a time.

- `enter` shows a job's run or its result; below is what it said.
- `x` saves its state and ends it; one that waits is cancelled.
- Detached runs are on the screen of runs (F7).
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f8", "leave", "Close"),
        Binding("x", "stop", "Stop", tooltip="Save its state and end it; one that waits is cancelled"),
        Binding("enter", "open", "Show", tooltip="Its run, or its result", priority=True),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static("Jobs of this application: one at a time in each lane, the others wait", classes="title")
            yield RefilledTable()
            yield WrappedLog()
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one(RefilledTable)
        for key, label in (("number", "#"), ("title", "Job"), ("lane", "Lane"), ("state", "State")):
            table.add_column(label, key=key)
        self._said: tuple[int, list[str]] = (0, [])
        self.call_after_refresh(self._first_look)
        self.set_interval(_POLL_SECONDS, self._look)
        table.focus()

    def _first_look(self) -> None:
        """List the jobs, now that there is a width, and choose the one in hand, or else the newest."""
        self._look()
        at_work = [row for row, job in enumerate(self.app.jobs.all) if job.live]
        self.query_one(RefilledTable).move_cursor(row=at_work[0] if at_work else len(self.app.jobs.all) - 1)

    def on_refilled_table_resized(self) -> None:
        self._look()

    def _look(self) -> None:
        table = self.query_one(RefilledTable)
        for job in self.app.jobs.all:
            key, share = str(job.number), job.progress.share if job.progress is not None else None
            state = f"running, {100 * share:.0f} %" if share is not None and job.state == "running" else job.state
            title = shortened(safe(job.title), max(_SHORTEST_TITLE, table.size.width - _USED))
            if key not in table.rows:
                table.add_row(*map(Text, (key, title, job.lane, state)), key=key)
            for column, text in (("title", title), ("state", state)):
                table.change(key, column, Text(text))
        self._tell()

    def _tell(self) -> None:
        """The messages of the chosen job, when there are new ones."""
        job, log = self._chosen(), self.query_one(WrappedLog)
        if job is None:
            return
        lines = list(job.messages)
        end = job.error or (job.result.summary if job.result else None)
        lines += [str(end)] if end else []
        if (job.number, lines) != self._said:
            self._said = (job.number, lines)
            log.clear()
            for line in lines:
                log.add(Text(safe(line)))

    def on_data_table_row_highlighted(self) -> None:
        self._tell()

    def _chosen(self) -> Job | None:
        jobs, row = self.app.jobs.all, self.query_one(RefilledTable).cursor_row
        return jobs[row] if 0 <= row < len(jobs) else None

    def action_stop(self) -> None:
        """Stop the chosen job."""
        job = self._chosen()
        if job is None or not job.live:
            self.app.notify("There is nothing to stop")
        else:
            self.app.jobs.stop(job)
            self._look()

    def action_open(self) -> None:
        """Show the chosen job's run, or its result."""
        job = self._chosen()
        if job is None:
            return
        if job.folder is not None:
            self.dismiss()
            self.app.show_run(job.folder)
        elif job.result is not None:
            self.app.push_screen(ResultDialog(job))

    def action_leave(self) -> None:
        """Close."""
        self.dismiss()
