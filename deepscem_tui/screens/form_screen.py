"""A screen that is the form of an action and, on a second page, what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher, Static

from deepscem_tui.engine import actions, words
from deepscem_tui.jobs import Job
from deepscem_tui.screens.base import WorkScreen, described
from deepscem_tui.screens.file_dialog import browse
from deepscem_tui.screens.proposals import Proposer, still_there
from deepscem_tui.texts import safe
from deepscem_tui.widgets.action_form import ActionForm
from deepscem_tui.widgets.path_input import PathInput

_POLL_SECONDS = 0.25
FORM, VIEW = "form", "view"


class FormScreen(WorkScreen):
    """The form of an action; what comes of it is on the second page, below a line that says how it stands.

    Args (class variables):
        ACTION: Its name.
    """

    ACTION: ClassVar[str]
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f9", "turn", "Form/view", tooltip="Switch between the form and what comes of it"),
        Binding("f", "page('form')", "Form", show=False, tooltip="Back to the form"),
    ]
    VIEW_ACTIONS: ClassVar[frozenset[str]] = frozenset({"page"})  # letters, which are for typing in the form
    DEFAULT_CSS = """
    FormScreen #pages, FormScreen .page { height: 1fr; }
    FormScreen #status { height: auto; max-height: 6; padding: 0 1; }
    FormScreen #status.-fault { color: $text-error; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.job: Job | None = None
        self._given: dict[str, Any] = {}
        self._proposed: dict[str, str] = {}  # what the folder suggested last
        self._stale = self._proposing = False

    def compose_content(self) -> ComposeResult:
        with ContentSwitcher(initial=FORM, id="pages"):
            with Vertical(id=FORM, classes="page"):
                yield from self.compose_above()
                yield Static("Looking what the folder holds ...", id="waiting")
            with Vertical(id=VIEW, classes="page"):
                yield Static(id="status", markup=False)
                yield from self.compose_view()

    def compose_above(self) -> ComposeResult:
        """What stands above the form."""
        yield from ()

    def compose_view(self) -> ComposeResult:
        """What comes of the action."""
        raise NotImplementedError

    def show_job(self, job: Job, ended: bool) -> None:
        """A job of this screen has come further, or has ended."""

    async def on_mount(self) -> None:
        self.app.job_ended.subscribe(self, self._job_ended)
        self.set_interval(_POLL_SECONDS, self._look_if_shown)
        self._proposer = Proposer(actions.ACTIONS[self.ACTION], self.app.folder)
        self.run_worker(self._make_form(), group="form")
        self._tell()

    # ---------------------------------------------------------------------------------------------- the form

    async def _make_form(self) -> None:
        action = actions.ACTIONS[self.ACTION]
        given = dict(self._given)
        last = {**still_there(action, self.app.settings.remembered(self.app.folder, self.ACTION)), **given}
        self._proposed = await asyncio.to_thread(self._proposer.propose, last)
        recommended = await asyncio.to_thread(self._proposer.propose, given)
        if not self.is_attached:
            return
        form = ActionForm(
            action,
            {**last, **self._proposed, **self._given},
            recommended={**recommended, **self._given},
            open_datasets=lambda: self.app.open_datasets,
            safe_mode=lambda: self.app.settings.safe_mode,
        )
        await self.query_one(f"#{FORM}").mount(form)
        await self.query_one("#waiting").remove()
        if self.page == FORM:
            form.enter()

    def on_screen_resume(self) -> None:
        self._propose_anew()

    def _propose_anew(self) -> None:
        """Propose anew what nobody touched, and check the form: the folder may hold something else by now."""
        self._stale = True
        if not self._proposing and self.is_mounted and self.page == FORM and self.query(ActionForm):
            self._proposing = True
            self.run_worker(self._renew(), group="propose")

    async def _renew(self) -> None:
        try:
            while self._stale:
                self._stale = False
                form = self.query_one(ActionForm)
                settled = {name: value for name, value in form.values().items() if value != self._proposed.get(name)}
                proposed = await asyncio.to_thread(self._proposer.propose, settled)
                if not self.is_attached:
                    return
                form.propose(proposed, self._proposed)
                self._proposed = proposed
        finally:
            self._proposing = False

    def fill(self, values: Mapping[str, Any]) -> None:
        """Set fields of the form, and show it."""
        self._given |= values
        if self.is_mounted:
            for form in self.query(ActionForm):
                form.fill(values)
            self.action_page(FORM)

    def on_path_input_browse(self, event: PathInput.Browse) -> None:
        browse(event)

    @on(ActionForm.Submitted)
    def _submitted(self, event: ActionForm.Submitted) -> None:
        event.stop()
        self.app.settings.remember(self.app.folder, self.ACTION, event.form.values())
        job = self.app.start(event.action, event.parameters, event.detached)
        if job is not None:
            self.follow(job)
        else:
            self.follow_detached()

    def follow(self, job: Job) -> None:
        """Show what comes of a job."""
        self.job = job
        self.action_page(VIEW)
        self._look()

    def follow_detached(self) -> None:
        """Show what comes of what was started detached just now."""

    # ---------------------------------------------------------------------------------------------- pages

    @property
    def page(self) -> str:
        return self.query_one(ContentSwitcher).current or FORM

    def action_page(self, page: str) -> None:
        """Show a page, and focus what is on it."""
        self.query_one(ContentSwitcher).current = page
        self._propose_anew()
        self.call_after_refresh(self._enter)
        self.refresh_bindings()

    def action_turn(self) -> None:
        """Show the other page."""
        self.action_page(VIEW if self.page == FORM else FORM)

    def _enter(self) -> None:
        if self.page == FORM:
            for form in self.query(ActionForm):
                form.enter()
        else:
            self.enter_view()

    def enter_view(self) -> None:
        """Focus what there is to see."""
        self.set_focus(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Letters are for typing in the form."""
        return not (action in self.VIEW_ACTIONS and self.is_mounted and self.page == FORM)

    # ---------------------------------------------------------------------------------------------- the job

    def _look_if_shown(self) -> None:
        if self.job is not None and self.job.live and self.is_current:
            self._look()

    def _look(self) -> None:
        if self.job is not None:
            self.show_job(self.job, not self.job.live)
        self._tell()

    def _job_ended(self, job: Job) -> None:
        if job is self.job:
            self._look()
        if self.is_current:
            self._propose_anew()

    def shows(self, job: Job) -> bool:
        return job is self.job and self.page == VIEW

    def _tell(self) -> None:
        text, fault = self.status()
        status = self.query_one("#status", Static)
        status.display = bool(text)
        status.set_class(fault, "-fault")
        status.update(safe(text))
        self.refresh_footer()

    def status(self) -> tuple[str, bool]:
        """How it stands, and whether that is bad."""
        job = self.job
        if job is None:
            return "Nothing was started here yet: f goes back to the form.", False
        if job.state == "queued":
            ahead = [other for other in self.app.jobs.live(job.lane) if other.number < job.number]
            titles = ", ".join(other.title for other in ahead[:2])
            count = words.counted(len(ahead), "other job")
            return f"{job.title} waits for {count}: {titles}. F8 lists them.", False
        if job.live:
            return f"{job.title}: {described(job, time.monotonic())}", False
        warnings = "".join(f"\n! {text}" for text in list(job.warnings)[-2:])
        if job.result is not None:
            return f"{job.result.summary}{warnings}{self.offers(job)}", False
        if job.error is not None:
            bad = job.state == "failed"
            return f"{job.error if bad else job.error.what}{warnings}", bad
        return f"{job.title}: {job.state}", False

    def offers(self, job: Job | None) -> str:  # noqa: ARG002
        """What can be done next, said after a success."""
        return ""
