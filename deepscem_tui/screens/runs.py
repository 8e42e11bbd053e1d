"""The screen of runs: every run of the folder, the chosen one live, and several compared."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.widgets import ContentSwitcher, DataTable, Input, Static

from deepscem_tui.engine import actions
from deepscem_tui.engine.errors import EngineError
from deepscem_tui.engine.runs import removal as run_removal
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.runs.watching import RunsIndex, RunSummary
from deepscem_tui.jobs import Job
from deepscem_tui.screens.base import WorkScreen
from deepscem_tui.screens.compare_runs import CompareRuns
from deepscem_tui.screens.confirm import Answer, Confirm
from deepscem_tui.screens.run_control import RESUMABLE, RunControl
from deepscem_tui.screens.run_table import RunTable, matches, ordered
from deepscem_tui.texts import safe
from deepscem_tui.widgets.run_view import RunView

_LOOK_SECONDS = 1.0
_MOST_COMPARED = 8
_LIST, _COMPARE = "list", "compare"
_NONE = "There are no runs in {}. Trainings (F4) and predictions (F5) keep theirs there."


class RunsScreen(RunControl, WorkScreen):
    """Lists the runs once a second; what is asked of a run goes through its folder, whoever carries it out."""

    MODE = "runs"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (170, "-wide")]  # noqa: RUF012 (as the base declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="Back to the list"),
        Binding("enter", "full", "Full view", tooltip="Show the chosen run alone", priority=False),
        Binding("x", "stop", "Stop", tooltip="Save its state and end it"),
        Binding("R", "resume", "Resume", tooltip="Go on with a run that was stopped, failed or died"),
        Binding("space", "mark", "Mark", tooltip="Mark or unmark it for the comparison"),
        Binding("c", "compare", "Compare", tooltip="Compare the marked runs"),
        Binding("slash", "filter", "Filter", key_display="/", tooltip="Show only runs that have these words"),
        Binding("e", "more_epochs", "More epochs", tooltip="Continue a training for more epochs"),
        Binding("d", "again", "Again", tooltip="The form of the like with its values, to start here or detached"),
        Binding("delete", "remove", "Delete", tooltip="Remove an ended run's folder, after asking"),
        Binding("y", "copy", "Copy command", tooltip="Copy the command that does the same"),
        Binding("X", "stop_now", "Stop now", tooltip="End it at once, without waiting"),
    ]
    _OF_LIST = frozenset({"full", "mark", "compare", "filter", "again", "copy", "remove"})
    DEFAULT_CSS = """
    RunsScreen #pages { height: 1fr; }
    RunsScreen #runs { height: 1fr; layout: vertical; }
    RunsScreen #chooser { height: 2fr; min-height: 4; }
    RunsScreen #chooser RunTable { height: 1fr; }
    RunsScreen #chooser Input { display: none; height: 1; }
    RunsScreen #chooser.-filtering Input { display: block; }
    RunsScreen #said { height: auto; max-height: 2; padding: 0 1; color: $text-muted; }
    RunsScreen RunView { height: 3fr; border-top: solid $primary-muted; }
    RunsScreen.-wide #runs { layout: horizontal; }
    RunsScreen.-wide #chooser { width: 9fr; height: 100%; }
    RunsScreen.-wide RunView { width: 10fr; height: 100%; border-top: none; border-left: solid $primary-muted; }
    RunsScreen.-full #chooser { display: none; }
    RunsScreen.-full RunView { border: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._index: RunsIndex | None = None
        self._all: list[RunSummary] = []
        self._marked: frozenset[Path] = frozenset()
        self._wanted: Path | None = None
        self._looking = self._looked = False

    def compose_content(self) -> ComposeResult:
        with ContentSwitcher(initial=_LIST, id="pages"):
            with Container(id=_LIST), Container(id="runs"):
                with Vertical(id="chooser"):
                    yield Input(placeholder="words to find; enter keeps them, escape shows all", compact=True)
                    yield RunTable()
                    yield Static("Looking for runs ...", id="said", markup=False)
                yield RunView()
            yield CompareRuns(id=_COMPARE)

    def on_mount(self) -> None:
        self._index = RunsIndex(self.app.runs_folder)
        self.query_one(RunTable).focus()
        self.set_interval(_LOOK_SECONDS, self._look_if_shown)
        self.app.job_ended.subscribe(self, lambda _: self.look())
        self.look()

    def on_screen_resume(self) -> None:
        self.look()

    # ---------------------------------------------------------------------------------------------- the list

    def _look_if_shown(self) -> None:
        if self.is_current:
            self.look()

    def look(self) -> None:
        """Look at all runs, in a thread."""
        if not self._looking and self._index is not None:
            self._looking = True
            self.run_worker(self._look(self._index), group="look")

    async def _look(self, index: RunsIndex) -> None:
        try:
            found = await asyncio.to_thread(index.poll)
        finally:
            self._looking = False
        if self.is_attached:
            self._all, self._looked = ordered(found), True
            self._marked &= {run.folder for run in found}
            self._show()

    def _show(self) -> None:
        wanted = self.query_one(Input).value
        shown = [run for run in self._all if matches(run, wanted)]
        table = self.query_one(RunTable)
        before = table.chosen
        table.show(shown, self._marked, time.time())
        if before is not None and self.has_class("-full") and before.folder not in {run.folder for run in self._all}:
            self._say(f"{before.name} is gone: its folder was removed", "warning")
            self.action_back()  # the keys would go to another run
        if self._wanted is not None and table.choose(self._wanted):
            self._wanted = None
        self._say_about()
        self.refresh_footer()

    def _say_about(self) -> None:
        """The chosen run's whole name, and how many are not shown."""
        table, said = self.query_one(RunTable), self.query_one("#said", Static)
        if not self._all:
            said.update(_NONE.format(safe(self.app.runs_folder)) if self._looked else "Looking for runs ...")
            return
        hidden = len(self._all) - len(table.runs)
        parts = [table.chosen.name] if table.chosen else ["No run has these words: escape shows all"]
        parts += [f"{len(self._marked)} marked"] if self._marked else []
        parts += [f"{hidden} not shown"] if hidden else []
        said.update(safe("   ".join(parts)))

    @on(RunTable.Moved)
    def _moved(self) -> None:
        chosen = self.query_one(RunTable).chosen
        self.query_one(RunView).watch_run(chosen.folder if chosen else None)
        self._say_about()
        self.refresh_footer()

    def show_run(self, folder: Path) -> None:
        """Choose a run and show it in full."""
        self._wanted = _same(folder, self.app.runs_folder)
        if not self.is_mounted:
            self.call_later(self.show_run, folder)
            return
        self.query_one(Input).value = ""
        self._to_page(_LIST)
        table = self.query_one(RunTable)
        if table.choose(self._wanted):
            self._wanted = None
        else:
            self.query_one(RunView).watch_run(folder)
            self.look()
        self.action_full()

    def run_goes_on(self, job: Job | None, folder: Path) -> None:  # noqa: ARG002
        self.look()

    # ---------------------------------------------------------------------------------------------- pages

    def _to_page(self, page: str) -> None:
        self.query_one(ContentSwitcher).current = page
        self.refresh_bindings()

    @property
    def _page(self) -> str | None:
        return self.query_one(ContentSwitcher).current

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        if isinstance(event.data_table, RunTable):
            self.action_full()

    def action_full(self) -> None:
        """Show the chosen run alone."""
        self.add_class("-full")
        self.call_after_refresh(self.query_one(RunView).enter)
        self.refresh_bindings()

    def action_back(self) -> None:
        """From the comparison, the full view or the filter back to the list."""
        if self._page == _COMPARE:
            self._to_page(_LIST)
        elif self.has_class("-full"):
            self.remove_class("-full")
        else:
            self.query_one(Input).value = ""
            self.query_one("#chooser").remove_class("-filtering")
            self._show()
        self.query_one(RunTable).focus()
        self.refresh_bindings()

    def action_filter(self) -> None:
        """Show only runs that have some words."""
        self.query_one("#chooser").add_class("-filtering")
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value:
            self.query_one("#chooser").remove_class("-filtering")
        self.query_one(RunTable).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Only what means something on the page."""
        if not self.is_mounted:
            return True
        if self._page == _COMPARE:
            return action not in (self._OF_LIST | {"stop", "stop_now", "resume", "more_epochs"})
        return not (self.has_class("-full") and action in ("full", "mark", "compare", "filter"))

    def fits(self, action: str) -> bool:
        """Whether a key means something for the chosen run and the page."""
        run = self.query_one(RunTable).chosen if self.is_mounted else None
        if action in ("stop", "stop_now"):
            return run is not None and run.running
        if action in ("resume", "more_epochs", "remove"):
            resumable = run is not None and run.state in RESUMABLE
            return (
                resumable
                if action == "resume"
                else run is not None and not run.running and (action == "remove" or run.action == "train")
            )
        if action == "back":
            return self._page == _COMPARE or self.has_class("-full") or bool(self.query_one(Input).value)
        if action == "compare":
            return len(self._marked) > 1
        return run is not None

    # ---------------------------------------------------------------------------------------------- keys

    def _chosen(self) -> RunSummary | None:
        chosen = self.query_one(RunTable).chosen
        if chosen is None:
            self._say("There is no run here", "warning")
        return chosen

    def action_stop(self) -> None:
        """Ask the chosen run to save its state and end."""
        if run := self._chosen():
            self.stop_run(run.folder)

    def action_stop_now(self) -> None:
        """End the chosen run at once, after asking."""
        if run := self._chosen():
            if run.running:
                self.stop_run_now(run.folder)
            else:
                self._say(f"{run.name} is not running: it is {run.state}", "warning")

    def action_resume(self) -> None:
        """Go on with the chosen run."""
        if run := self._chosen():
            self.resume_run(run.folder)

    def action_more_epochs(self) -> None:
        """Continue the chosen training for more epochs."""
        if run := self._chosen():
            self.continue_run(run.folder)

    def action_mark(self) -> None:
        """Mark the chosen run for the comparison, or take the mark away."""
        if run := self._chosen():
            self._marked ^= {run.folder}
            self._show()
            self.query_one(RunTable).action_cursor_down()

    def action_compare(self) -> None:
        """Compare the marked runs."""
        folders = [run.folder for run in self._all if run.folder in self._marked]
        if len(folders) < 2:
            self._say("Mark two runs or more with space, then compare them with c", "warning")
        elif len(folders) > _MOST_COMPARED:
            self._say(
                f"{len(folders)} are marked, and {_MOST_COMPARED} lines are the most one can tell apart", "warning"
            )
        else:
            self._to_page(_COMPARE)
            compare = self.query_one(CompareRuns)
            compare.compare(folders)
            self.call_after_refresh(compare.enter)

    def action_copy(self) -> None:
        """Copy the command that does the same as the chosen run."""
        if run := self._chosen():
            self.app.copy_to_clipboard(run.command)
            self._say("The command is copied, if the terminal allows it (in tmux: set -g set-clipboard on)")

    def action_again(self) -> None:
        """Open the form of the chosen run's action with its values."""
        run = self._chosen()
        if run is None:
            return

        async def ask() -> None:
            try:
                values = (await asyncio.to_thread(runs.read, run.folder)).parameters
            except EngineError as error:
                self._refuse(error)
                return
            if run.action in actions.ACTIONS:
                self.app.ask(run.action, {name: value for name, value in values.items() if name != "dry_run"})
            else:
                self._say(f"This version has no action {run.action}", "warning")

        self.run_worker(ask(), group="again")

    def action_remove(self) -> None:
        """Remove an ended run's folder, after asking."""
        if run := self._chosen():
            if self.app.jobs.carrying_out(run.folder) is not None:
                self._say(f"{run.name} is waiting or at work (F8): stop it first", "warning")
            else:
                self.run_worker(self._ask_to_remove(run), group="remove")

    async def _ask_to_remove(self, run: RunSummary) -> None:
        try:
            held = await asyncio.to_thread(run_removal.contents, run.folder)
        except (EngineError, OSError) as error:
            self._refuse(error)
            return

        def answered(answer: str | None) -> None:
            if answer == "remove":
                self.run_worker(self._remove(run), group="remove")

        question = f"Delete {run.folder}?\n\n{held}"
        keep, remove = Answer("keep", "k", "Keep it"), Answer("remove", "d", "Delete it for good")
        self.app.push_screen(Confirm(question, (keep, remove)), answered)

    async def _remove(self, run: RunSummary) -> None:
        try:
            await asyncio.to_thread(run_removal.remove, run.folder)
        except (EngineError, OSError) as error:
            self._refuse(error)
        else:
            self._say(f"{run.name} is deleted")
        self.look()


def _same(folder: Path, runs_folder: Path) -> Path:
    """A run's folder as the index names it."""
    beside = runs_folder / folder.name
    return beside if beside.absolute() == folder.absolute() else folder
