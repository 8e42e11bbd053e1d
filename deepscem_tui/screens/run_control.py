"""What can be done to a run wherever it is shown: stop it, end it at once, go on with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Input, Static

from deepscem_tui.engine.errors import EngineError
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.runs.runs import RunState
from deepscem_tui.screens.confirm import Answer, Confirm
from deepscem_tui.texts import safe
from deepscem_tui.widgets.footer import Footer
from deepscem_tui.widgets.run_view import RunView

if TYPE_CHECKING:
    from deepscem_tui.app import DeepscemApp
    from deepscem_tui.jobs import Job

_MORE_EPOCHS = 16
RESUMABLE = ("stopped", "failed", "dead")


class RunControl(Screen[None]):
    """Part of the screens that show runs: answers what a :class:`RunView` asks for, and the screens' own keys."""

    app: DeepscemApp

    @on(RunView.StopAsked)
    def _stop_asked(self, event: RunView.StopAsked) -> None:
        event.stop()
        self.stop_run(event.folder)

    @on(RunView.StopNowAsked)
    def _stop_now_asked(self, event: RunView.StopNowAsked) -> None:
        event.stop()
        self.stop_run_now(event.folder)

    @on(RunView.ContinueAsked)
    def _continue_asked(self, event: RunView.ContinueAsked) -> None:
        event.stop()
        self.continue_run(event.folder)

    @on(RunView.Ended)
    def _ring_for(self, event: RunView.Ended) -> None:
        """Ring where a run of another process has ended; those of this application have rung."""
        folder = event.folder.absolute()
        if not any(job.folder is not None and job.folder.absolute() == folder for job in self.app.jobs.all):
            self.app.ring()

    def run_goes_on(self, job: Job | None, folder: Path) -> None:
        """A run of the past was taken up again, as a job of this process or, if None, detached."""

    # ---------------------------------------------------------------------------------------------- what is done

    def stop_run(self, folder: Path) -> None:
        """Ask a run to save its state and end, whoever carries it out."""
        job = self.app.jobs.carrying_out(folder)
        if job is not None:
            self.app.jobs.stop(job)  # the bar of jobs says so
            return

        async def ask() -> None:
            try:
                await asyncio.to_thread(runs.ask_to_stop, folder)
            except (EngineError, OSError) as error:
                self._refuse(error)
            else:
                self._say(f"{folder.name} is asked to stop: it saves its state first")

        self.run_worker(ask(), group="ask to stop")

    def stop_run_now(self, folder: Path) -> None:
        """End a run of another process at once, after asking; one of this process as soon as it can be."""
        job = self.app.jobs.carrying_out(folder)
        if job is not None:
            self._say("It runs in this application's own process: it ends at its next step, with its state saved")
            self.app.jobs.stop(job)
            return

        def answered(answer: str | None) -> None:
            if answer == "end":
                self.run_worker(end(), group="stop now")

        async def end() -> None:
            try:
                run = await asyncio.to_thread(runs.stop_now, folder)
            except (EngineError, OSError) as error:
                self._refuse(error)
            else:
                self._say(f"{folder.name} has ended: {run.state}")

        question = (
            f"End {folder.name} at once?\n\nIt may have no time to save. Then what came since its last checkpoint is "
            "lost: of a training the epoch in hand, of a prediction the slices in hand."
        )
        go_on, end_it = Answer("stay", "b", "Back, let it go on"), Answer("end", "n", "End it now")
        self.app.push_screen(Confirm(question, (go_on, end_it)), answered)

    def continue_run(self, folder: Path) -> None:
        """Go on with a training for more epochs, after asking for how many."""
        self._ask_to_go_on(folder, more_epochs=True)

    def resume_run(self, folder: Path) -> None:
        """Go on with a run that was stopped, failed or died, after asking where."""
        self._ask_to_go_on(folder, more_epochs=False)

    def _ask_to_go_on(self, folder: Path, more_epochs: bool) -> None:
        async def look() -> None:
            try:
                run = await asyncio.to_thread(runs.read, folder)
                _check_can_go_on(run, more_epochs)
            except (EngineError, OSError) as error:
                self._refuse(error)
                return
            if self.app.jobs.carrying_out(folder) is not None:
                self._say(f"{folder.name} is waiting or at work already (F8)", "warning")
                return
            self.app.push_screen(GoOnDialog(run, more_epochs), lambda answer: self._go_on(folder, answer))

        self.run_worker(look(), group="go on")

    def _go_on(self, folder: Path, answer: tuple[int | None, bool] | None) -> None:
        if answer is not None:
            epochs, detached = answer
            self.run_goes_on(self.app.resume(folder, epochs, detached), folder)

    def _refuse(self, error: Exception) -> None:
        self._say(str(error), "error")

    def _say(self, text: str, severity: str = "information") -> None:
        self.app.notify(safe(text), severity=severity, markup=False)  # type: ignore[arg-type]


def _check_can_go_on(run: RunState, more_epochs: bool) -> None:
    """Refuse what cannot be gone on with, with the reason."""
    if run.state == "running":
        raise EngineError(f"{run.folder.name} is running", "x stops it first")
    if more_epochs and run.action != "train":
        raise EngineError(f"{run.folder.name} is no training", "Only a training has epochs")
    if not more_epochs and run.state not in RESUMABLE:
        hint = "e continues it for more epochs" if run.action == "train" else "There is nothing left to do"
        raise EngineError(f"{run.folder.name} is {run.state}", hint)


class GoOnDialog(ModalScreen["tuple[int | None, bool] | None"]):
    """Asks where a run shall go on and, for a training, until which epoch.

    Gives the epochs in all (None for as many as it was meant to have) and whether it goes on detached.
    """

    HELP = "`enter` goes on in this application, `ctrl+t` detached: in a process of its own that outlives this window."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel"),
        Binding("ctrl+s", "go_on(False)", "Go on", tooltip="In this application"),
        Binding("ctrl+t", "go_on(True)", "Detached", tooltip="In a process of its own, which outlives this window"),
    ]
    DEFAULT_CSS = """
    GoOnDialog #row { height: 1; margin-bottom: 1; }
    GoOnDialog #row Static { width: auto; padding-right: 1; }
    GoOnDialog Input { width: 12; }
    GoOnDialog #fault { color: $text-error; }
    GoOnDialog #buttons { height: 1; }
    GoOnDialog #buttons Button { min-width: 0; margin-right: 2; }
    """

    def __init__(self, run: RunState, more_epochs: bool) -> None:
        super().__init__()
        self._run, self._more = run, more_epochs
        self._done = int(run.epoch["epoch"]) if run.epoch else 0

    def compose(self) -> ComposeResult:
        asked = int(self._run.parameters.get("epochs") or 0)
        with Vertical(classes="dialog"):
            yield Static(f"Go on with {safe(self._run.folder.name)}", classes="title", markup=False)
            if self._more:
                yield Static(f"{self._done} of {asked} epochs are done.", markup=False)
                with Horizontal(id="row"):
                    yield Static("Epochs in all")
                    first = asked if asked > self._done else asked + _MORE_EPOCHS
                    yield Input(str(first), type="integer", compact=True, max_length=6)
            else:
                yield Static(f"It is {safe(self._run.state)}: it goes on from its last checkpoint.", markup=False)
            yield Static("", id="fault", markup=False)
            with Horizontal(id="buttons"):
                yield Button(Content("[ Go on ]"), "primary", id="here", compact=True, tooltip="In this application")
                yield Button(Content("[ Detached ]"), id="detached", compact=True, tooltip="Outlives this window")
                yield Button(Content("[ Cancel ]"), id="cancel", compact=True)
        yield Footer()

    def on_input_submitted(self) -> None:
        self.action_go_on(False)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "cancel":
            self.dismiss(None)
        else:
            self.action_go_on(event.button.id == "detached")

    def action_go_on(self, detached: bool) -> None:
        """Go on, if the number of epochs can be right."""
        epochs: int | None = None
        if self._more:
            typed = self.query_one(Input).value
            epochs = int(typed) if typed.isdecimal() else 0
            if epochs <= self._done:
                self.query_one("#fault", Static).update(f"! Give more than {self._done}: so many are done")
                return
        self.dismiss((epochs, detached))

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)
