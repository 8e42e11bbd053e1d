"""A screen whose action is a run: its live view is beside the form, whoever carries it out."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher, Static

from deepscem_tui.engine.errors import EngineError
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.runs.runs import RunState
from deepscem_tui.engine.runs.watching import RunsIndex, RunSummary
from deepscem_tui.jobs import Detached, Job
from deepscem_tui.screens.form_screen import FORM, VIEW, FormScreen
from deepscem_tui.screens.run_control import RESUMABLE, RunControl
from deepscem_tui.texts import safe
from deepscem_tui.widgets.run_view import RunView

_LOOK_SECONDS = 1.0


class RunScreen(RunControl, FormScreen):
    """The form of an action that keeps a run folder, and the live view of the run that was started or found."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", "Stop", tooltip="Save its state and end it"),
        Binding("X", "stop_now", "Stop now", tooltip="End it at once, without waiting"),
        Binding("R", "resume", "Resume", tooltip="Go on with a run that was stopped, failed or died"),
    ]
    VIEW_ACTIONS: ClassVar[frozenset[str]] = FormScreen.VIEW_ACTIONS | {"stop", "stop_now", "resume"}
    DEFAULT_CSS = """
    RunScreen RunView { height: 1fr; }
    RunScreen #left { display: none; height: auto; padding: 0 1; background: $warning-muted; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path | None = None
        self.run: RunState | None = None  # as it was when it ended
        self._detached: Detached | None = None
        self._index: RunsIndex | None = None
        self._finding = False
        self._offered: Path | None = None  # a run that waits to be resumed, shown because there was nothing else

    def compose_above(self) -> ComposeResult:
        yield Static(id="left", markup=False)

    def compose_view(self) -> ComposeResult:
        yield RunView()

    async def on_mount(self) -> None:
        self._index = RunsIndex(self.app.runs_folder)
        self.query_one(RunView).display = False
        self.set_interval(_LOOK_SECONDS, self._find_if_shown)

    def on_screen_resume(self) -> None:
        self._find_if_shown()

    # ---------------------------------------------------------------------------------------------- which run

    def watch_folder(self, folder: Path | None) -> None:
        """Show a run, or none."""
        self.folder, self.run, self._offered = folder, None, None
        view = self.query_one(RunView)
        view.display = folder is not None
        view.watch_run(folder)

    def show_run(self, folder: Path) -> None:
        """Show a run of the past, or of another process."""
        self.job, self._detached = self.app.jobs.carrying_out(folder), None
        self.watch_folder(folder)
        self.action_page(VIEW)
        self._tell()

    def follow(self, job: Job) -> None:
        """Show what comes of a job; one of the same kind that is at work before it is shown until it is over."""
        self._detached = None
        before = self.job
        if job.state == "queued" and before is not None and before.live and before.folder is not None:
            self.action_page(VIEW)
            return
        self.watch_folder(job.folder)
        super().follow(job)

    def follow_detached(self) -> None:
        if self.app.detached:
            self.job, self._detached = None, self.app.detached[-1]
            self.watch_folder(None)
            self.action_page(VIEW)
            self._tell()

    def run_goes_on(self, job: Job | None, folder: Path) -> None:
        if job is not None:
            self.follow(job)
        else:
            self.show_run(folder)

    def _job_ended(self, job: Job) -> None:
        super()._job_ended(job)
        waiting = [other for other in self.app.jobs.live() if other.action == self.ACTION]
        if job is self.job and waiting:
            if self.page == VIEW:
                self.app.notify(safe(job.result.summary if job.result else f"{job.title}: {job.state}"), markup=False)
            self.job = waiting[0]
            self.watch_folder(self.job.folder)
            self._look()

    def show_job(self, job: Job, ended: bool) -> None:
        if job.folder is not None and job.folder != self.folder:
            self.watch_folder(job.folder)
            self.call_after_refresh(self._enter)
        if ended and self.folder is not None and self.run is None:
            self.run_worker(self._read_end(self.folder), group="end")

    def _find_if_shown(self) -> None:
        """Look for the run of a detached process, for one that goes on elsewhere, or one that can be resumed."""
        if self.is_current and not self._finding and self.is_mounted:
            self._finding = True
            self.run_worker(self._find(), group="find")

    @property
    def _settled(self) -> bool:
        """Whether there is a run to show, or a job that will have one."""
        return (self.folder is not None and self._offered is None) or (self.job is not None and self.job.live)

    async def _find(self) -> None:
        try:
            detached = self._detached
            folder, left = await asyncio.to_thread(self._found, detached)
        finally:
            self._finding = False
        if not self.is_attached:
            return
        if not self._settled and detached is self._detached:
            self._take(folder, left)
        self._tell_left(left)

    def _take(self, folder: Path | None, left: RunSummary | None) -> None:
        """Show what was found."""
        detached = self._detached
        if folder is not None:
            self.job = None
            self.watch_folder(folder)
            if detached is not None or not self._typing():
                self.action_page(VIEW)
        elif detached is not None and detached.process.poll() is not None:
            self._detached = None
        elif left is not None and self.job is None and detached is None and left.folder != self.folder:
            self.watch_folder(left.folder)
            self._offered = left.folder
            self.run_worker(self._read_end(left.folder), group="end")
        self._tell()

    def _found(self, detached: Detached | None) -> tuple[Path | None, RunSummary | None]:
        """The run to show, and the newest one if it is of this folder and waits to be resumed."""
        assert self._index is not None
        found = [run for run in self._index.poll() if run.action == self.ACTION]
        here = [run for run in found if _same(run.working_folder, self.app.folder)]
        left = here[-1] if here and here[-1].left else None
        if detached is not None:
            return detached.folder(self.app.runs_folder), left
        live = [run.folder for run in found if run.running]
        return (live[-1] if live else None), left

    def _tell_left(self, left: RunSummary | None) -> None:
        """Say above the form that there is a run to go on with: the form would begin another."""
        if self.job is not None and self.job.live:
            left = None
        line = self.query_one("#left", Static)
        line.display = left is not None
        if left is not None:
            how = "was stopped" if left.state == "stopped" else "has died"
            far = f" after {left.how_far}" if left.how_far else ""
            key = "F9" if left.folder == self.folder else "F7"
            line.update(safe(f"{left.name} {how}{far}: {key}, then R resumes it."))

    def _typing(self) -> bool:
        """Whether somebody is at work on the form."""
        return any(field.touched for form in self.query("ActionForm") for field in form.query("Field"))  # type: ignore[attr-defined]

    # ---------------------------------------------------------------------------------------------- its end

    @on(RunView.Ended)
    def _run_ended(self, event: RunView.Ended) -> None:
        if event.folder != self.folder:
            return
        if event.state == "gone":
            self._say(f"{event.folder.name} is gone: its folder was removed", "warning")
            self._detached = None
            self.watch_folder(None)
            self._tell()
        else:
            self.run_worker(self._read_end(event.folder), group="end")

    async def _read_end(self, folder: Path) -> None:
        with suppress(EngineError, OSError):
            run = await asyncio.to_thread(runs.read, folder)
            if folder == self.folder and run.state != "running":
                self.run = run
                self._tell()

    def status(self) -> tuple[str, bool]:
        job = self.job
        if job is not None:
            shown = self.query_one(RunView).snapshot
            running = job.state == "running" or (not job.live and shown is not None and shown.running)
            if running and self.folder is not None:
                return "", False  # the live view says it, and says a moment later that it has ended
            text, bad = super().status()
            return (f"{text}{self.offers(job)}" if job.state == "stopped" else text), bad
        if self.folder is None:
            if self._detached is not None:
                return "Started in a process of its own; its run folder comes when it has loaded TensorFlow", False
            return super().status()
        if self.run is None:
            return "", False
        end = self.run.end or {}
        result = end.get("result")
        if isinstance(result, dict):
            return f"{result.get('summary', 'Finished')}{self.offers(None)}", False
        said = str(end.get("error") or "Its process is gone without a word: R goes on from its last checkpoint")
        return f"{self.run.state}: {said}{self.offers(None)}", self.run.state in ("failed", "dead")

    def made(self) -> Path | None:
        """What a finished run made."""
        return self._parameter("out") if self.run is not None and self.run.state == "finished" else None

    def _parameter(self, name: str) -> Path | None:
        value: Any = self.run.parameters.get(name) if self.run is not None else None
        if not isinstance(value, str) or self.run is None:
            return None
        path = self.run.working_folder / value
        with suppress(ValueError):
            return path.relative_to(Path.cwd())
        return path

    def enter_view(self) -> None:
        if self.folder is not None:
            self.query_one(RunView).enter()
        else:
            self.set_focus(None)

    # ---------------------------------------------------------------------------------------------- keys

    def action_stop(self) -> None:
        """Save its state and end it; a job that waits is cancelled."""
        if self.job is not None and self.job.live:
            self.app.jobs.stop(self.job)
            self._look()
        elif folder := self._folder_to("stop"):
            self.stop_run(folder)

    def action_stop_now(self) -> None:
        """End it at once."""
        if folder := self._folder_to("end"):
            self.stop_run_now(folder)

    def action_resume(self) -> None:
        """Go on with it."""
        if folder := self._folder_to("go on with"):
            self.resume_run(folder)

    def fits(self, action: str) -> bool:
        """Whether a key means something for the run that is shown."""
        ended = self.run.state if self.run is not None else ""
        running = self.job.live if self.job is not None else self.folder is not None and not ended
        match action:
            case "stop":
                return running
            case "stop_now":
                return running and self.folder is not None
            case "resume":
                return ended in RESUMABLE
            case "more_epochs":
                return bool(ended)
            case "predict" | "look" | "evaluate" | "objects" | "clean":
                return self.made() is not None
        return True

    def _folder_to(self, do: str) -> Path | None:
        if self.folder is None:
            self.app.notify(f"There is no run to {do}: f goes back to the form", severity="warning", markup=False)
        return self.folder

    @property
    def pages(self) -> ContentSwitcher:
        return self.query_one("#pages", ContentSwitcher)


def _same(one: Path | None, other: Path) -> bool:
    with suppress(OSError, ValueError):  # what a run says of itself may be anything
        return one is not None and one.resolve() == other.resolve()
    return False


__all__ = ["FORM", "VIEW", "RunScreen"]
