"""The Textual application: modes, keys, themes, signals, quitting. What is done lies in the engine, how in `jobs`."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.filter import LineFilter
from textual.screen import Screen
from textual.signal import Signal
from textual.timer import Timer
from textual.worker import WorkerFailed

from deepscem_tui.characters import choose_pictures
from deepscem_tui.console import Console
from deepscem_tui.engine import actions
from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.parameters import Parameters
from deepscem_tui.engine.runs import runs, watching
from deepscem_tui.engine.words import counted
from deepscem_tui.harmless import Harmless
from deepscem_tui.jobs import Detached, Job, Jobs, detached_words, start_detached
from deepscem_tui.modes import SCREENS
from deepscem_tui.outcome import Bug, report
from deepscem_tui.screens.base import WorkScreen
from deepscem_tui.settings import Settings
from deepscem_tui.themes import THEMES

if TYPE_CHECKING:
    from deepscem_tui.render.scenes import PictureStyle

_OWN_SCREENS = {"train": "training", "predict": "prediction", "evaluate": "evaluation"}
_QUICK_SECONDS = 3.0  # after this long a result no longer opens by itself: its owner does something else by now


def _screen(mode: str) -> Callable[[], Screen[Any]]:
    """What makes a mode's screen; its module is imported when it is shown first."""

    def make() -> Screen[Any]:
        from importlib import import_module

        module = import_module(f"deepscem_tui.screens.{mode}")
        made = getattr(module, f"{mode.capitalize()}Screen")()
        assert isinstance(made, Screen)
        return made

    return make


def _preferences(parameters: Parameters) -> dict[str, Any]:
    """What a form shows again the next time: what was chosen otherwise than the default, and does not go by the data.

    Arguments, and what has no default since it depends on the data, belong to the data of that time.
    """
    shown = parameters.model_dump(mode="json")
    return {
        name: shown[name]
        for name, field in type(parameters).model_fields.items()
        if not actions.is_argument(field) and not field.is_required() and name not in ("dry_run", "overwrite")
        if field.get_default() not in (None, ()) and getattr(parameters, name) != field.get_default()
    }


class DeepscemApp(App[int]):
    """The terminal application on one folder.

    Args:
        folder: Whose data sets, models and runs are shown; files made are put there.
        runs_folder: Where runs are kept.
        settings: Preferences of the user.
        ascii_only: Whether the terminal shows ASCII characters only.
        driver_class: Textual's driver.
    """

    TITLE = "deepscem-tui"
    CSS_PATH = Path(__file__).with_name("app.tcss")
    ENABLE_COMMAND_PALETTE = True
    HELP = "Keys of the focused part are listed below. **F2** to **F7** switch screens, **ctrl+p** finds any action."
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {mode: _screen(mode) for mode in SCREENS}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", show=False, tooltip="Explain the focused part and list its keys", priority=True),
        *(
            Binding(key, f"switch_mode('{mode}')", title, show=False, id=f"mode.{mode}", priority=True)
            for mode, (key, title, _) in SCREENS.items()
        ),
        Binding("escape", "hide_help", "Close help", show=False, priority=True),
        Binding("f8", "jobs", "Jobs", show=False, tooltip="What is being done, waits, or is over", priority=True),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
        # Before the focused part sees them: what is typed ahead then goes to the next field, not to this one.
        Binding("tab", "app.focus_next", "Next part", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Previous part", show=False, priority=True),
    ]

    def __init__(
        self,
        folder: Path | None = None,
        runs_folder: Path | None = None,
        settings: Settings | None = None,
        ascii_only: bool = False,
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(driver_class=driver_class)
        self._harmless = Harmless()
        self.folder = folder or Path()
        self.runs_folder = runs_folder or runs.default_folder()
        self.settings = settings or Settings.load()
        self.ascii_only = ascii_only
        self.jobs = Jobs(ended=self._ended_in_its_thread)
        self.job_ended: Signal[Job] = Signal(self, "job ended")
        self.detached: list[Detached] = []
        self.open_datasets: list[Path] = []  # opened by the user from anywhere; safe mode compares with them
        self._failed: dict[str, dict[str, Any]] = {}  # by action: what its form was sent with, to be mended
        self._leaving = False
        self._waiting: Timer | None = None
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.settings.theme if self.settings.theme in self.available_themes else Settings().theme

    @property
    def pictures(self) -> PictureStyle:
        """How slices are drawn here: ``blocks`` or ``ascii``."""
        return choose_pictures(self.settings.pictures, self.ascii_only, self.console.color_system, self.no_color)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What every line passes before it is drawn."""
        return [*super().get_line_filters(), self._harmless]

    # -------------------------------------------------------------------------------------------- starting

    @property
    def mistake(self) -> Exception | None:
        """What nobody foresaw and ended the application; Textual's own report may be in a run's log."""
        error = self._exception
        return error.error if isinstance(error, WorkerFailed) and isinstance(error.error, Exception) else error

    async def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        self._watch_signals()
        await self.switch_mode("datasets")

    def _keep_theme(self, theme: Any) -> None:
        if theme.name != self.settings.theme:
            self.settings.theme = theme.name
            self.settings.save()

    def get_system_commands(self, screen: Screen[Any]) -> Iterator[SystemCommand]:
        """The palette: every screen, every action, every setting."""
        for mode, (key, title, _) in SCREENS.items():
            yield SystemCommand(title, f"Show the screen ({key.upper()})", lambda mode=mode: self.switch_mode(mode))
        for action in actions.ACTIONS.values():
            first = action.help.splitlines()[0]
            yield SystemCommand(action.name, first, lambda name=action.name: self.ask(name))
        yield from self._keys_of(screen)
        yield SystemCommand(
            f"Switch safe mode {'off' if self.settings.safe_mode else 'on'}",
            "Safe mode refuses data sets and models whose numbers of labels differ",
            self.toggle_safe_mode,
        )
        yield SystemCommand(
            f"Switch the bell {'off' if self.settings.bell else 'on'}", "It rings when a job ends", self.toggle_bell
        )
        for style, words in (("auto", "as the terminal allows"), ("blocks", "half blocks"), ("ascii", "characters")):
            yield SystemCommand(
                f"Draw slices: {words}", "How slices are drawn", lambda style=style: self.draw_slices(style)
            )
        yield SystemCommand("Quit", "Leave; what is being done can be saved or waited for (^q)", self.action_quit)
        for command in super().get_system_commands(screen):
            if command.title != "Quit":  # which would not ask
                yield command

    def _keys_of(self, screen: Screen[Any]) -> Iterator[SystemCommand]:
        """What the keys of the focused part, of the screen and of the application do now; each says so in a tooltip."""
        found = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.enabled and active.tooltip and (active.node, binding.action) not in found:
                found.add((active.node, binding.action))
                text = f"{active.tooltip} ({self.get_key_display(binding)})"
                do = partial(self.run_action, binding.action, active.node)
                yield SystemCommand(binding.description, text, do)

    # -------------------------------------------------------------------------------------------- doing

    def ask(self, name: str, values: Mapping[str, Any] | None = None, hidden: tuple[str, ...] = ()) -> None:
        """Open the form of an action, in a dialog or on its own screen, and carry the action out when it is sent.

        Args:
            values: What the form shows at first, besides what was typed last time in this folder.
            hidden: Parameters that are settled by ``values`` and not shown.
        """
        if name in _OWN_SCREENS:
            self.fill_form(_OWN_SCREENS[name], values or {})
            return
        from deepscem_tui.screens.action_dialog import ActionDialog

        action = actions.ACTIONS[name]

        def answered(answer: tuple[Parameters, bool] | None) -> None:
            if answer is not None:
                if name != "demo":  # its images and the whole of it are asked for by different keys
                    self.settings.remember(self.folder, name, _preferences(answer[0]))
                self.start(action, *answer)

        failed = self._failed.pop(name, {})
        if any(str(failed.get(key)) != str(value) for key, value in (values or {}).items()):
            failed = {}  # it was about something else
        given = dict(values or {})
        first = {**self.settings.remembered(self.folder, name), **failed, **given}
        self.push_screen(ActionDialog(action, first, hidden, recommended=given), answered)

    def start(self, action: actions.Action, parameters: Parameters, detached: bool = False) -> Job | None:
        """Carry out an action, in a worker thread or detached; nothing begins any more once the application ends."""
        if self._leaving:
            return None
        if detached:
            self._start_detached(detached_words(action, parameters), action.name)
            return None
        job = self.jobs.submit(action, parameters, self.runs_folder)
        ahead = len(self.jobs.live(job.lane)) - 1
        if ahead:
            self.notify(f"{job.title} waits for {counted(ahead, 'other job')} (F8)", markup=False)
        return job

    def resume(self, folder: Path, epochs: int | None = None, detached: bool = False) -> Job | None:
        """Go on with a run."""
        if self._leaving:
            return None
        if detached:
            words = ["runs", "resume", str(folder.absolute()), *(["--epochs", str(epochs)] if epochs else [])]
            self._start_detached(words, "resume")
            return None
        return self.jobs.resume(folder, epochs)

    def _start_detached(self, words: list[str], what: str) -> None:
        try:
            detached = start_detached(words, self.runs_folder)
        except OSError as error:
            self.notify(f"{what} could not be started: {error.strerror}", severity="error", markup=False)
            return
        self.detached.append(detached)
        self.notify(f"{what} started detached; it appears under Runs (F7)", markup=False)
        self._look_after(detached, what)

    def _look_after(self, detached: Detached, what: str) -> None:
        def look() -> None:
            code = detached.process.poll()
            if code is None:
                return
            timer.stop()
            self.ring()
            if code not in (0, 75):
                self.notify(f"{what}: {detached.complaint}", severity="error", timeout=20, markup=False)
            with suppress(OSError):
                detached.output.unlink()

        timer = self.set_interval(0.5, look)

    # -------------------------------------------------------------------------------------------- what is over

    def _ended_in_its_thread(self, job: Job) -> None:
        with suppress(RuntimeError):  # the application is over already
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.call_later, self._job_ended, job)

    def _job_ended(self, job: Job) -> None:
        if self._leaving:
            return
        if job.action in ("train", "predict", "resume", "demo"):
            self.ring()
        screen = self.screen
        if isinstance(screen, WorkScreen) and screen.shows(job):
            self.job_ended.publish(job)
            return
        quick = job.began is not None and job.ended is not None and job.ended - job.began < _QUICK_SECONDS
        if job.result is not None and job.result.shown_tables and quick and not job.folder:
            from deepscem_tui.screens.result_dialog import ResultDialog

            self.push_screen(ResultDialog(job))
        elif job.result is not None:
            more = "; F8 shows its tables" if job.result.shown_tables and not job.folder else ""
            self.notify(f"{job.result.summary}{more}", markup=False)
        elif job.error is not None:
            bad = job.state == "failed"
            if bad and job.parameters is not None:
                self._failed[job.action] = job.parameters.model_dump(mode="json")
            hint = job.error.hint if bad else ""
            text = f"{job.error.what}. {hint}" if hint else job.error.what
            self.notify(text, title=job.title, severity="error" if bad else "information", timeout=20, markup=False)
        self.job_ended.publish(job)

    def ring(self) -> None:
        """Ring the terminal's bell, since a run has ended, unless it is switched off."""
        if self.settings.bell:
            self.bell()

    def fill_form(self, mode: str, values: Mapping[str, Any]) -> None:
        """Go to a screen that is a form, and fill it in."""
        from deepscem_tui.screens.form_screen import FormScreen

        self.switch_mode(mode)
        screen = self.screen_stack[0]
        if isinstance(screen, FormScreen):
            screen.fill(values)

    def show_run(self, folder: Path) -> None:
        """Show a run's live view on the screen of runs."""
        from deepscem_tui.screens.runs import RunsScreen

        self.switch_mode("runs")
        screen = self.screen_stack[0]
        if isinstance(screen, RunsScreen):
            screen.show_run(folder)

    # -------------------------------------------------------------------------------------------- keys

    def get_key_display(self, binding: Binding) -> str:
        """What a key is called in the footer and in lists of keys; by its name where its sign is not ASCII."""
        shown = super().get_key_display(binding)
        return shown if shown.isascii() or not self.ascii_only else binding.key

    def action_help(self) -> None:
        """Show or hide the panel that explains the focused part."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    def action_hide_help(self) -> None:
        """Hide the panel that explains; only where it is shown does escape do so."""
        self.action_hide_help_panel()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "hide_help":
            return self._running and bool(self.screen.query("HelpPanel"))
        return super().check_action(action, parameters)

    def action_jobs(self) -> None:
        """Show what is being done, or go back from there."""
        from deepscem_tui.screens.jobs import JobsScreen

        if isinstance(self.screen, JobsScreen):
            self.screen.dismiss()
        else:
            self.push_screen(JobsScreen())

    def toggle_safe_mode(self) -> None:
        """Switch safe mode, and keep the choice."""
        self.settings.safe_mode = not self.settings.safe_mode
        self.settings.save()
        self.notify(f"Safe mode is {'on' if self.settings.safe_mode else 'off'}")

    def toggle_bell(self) -> None:
        """Switch the bell, and keep the choice."""
        self.settings.bell = not self.settings.bell
        self.settings.save()
        self.notify(f"The bell is {'on' if self.settings.bell else 'off'}")

    def draw_slices(self, style: Any) -> None:
        """Choose how slices are drawn, and keep the choice."""
        self.settings.pictures = style
        self.settings.save()
        from deepscem_tui.widgets.slice_view import SliceView

        for mode in SCREENS:
            with suppress(KeyError):  # a screen that was not shown yet
                for screen in self.get_screen_stack(mode):
                    for view in screen.query(SliceView):
                        view.draw_as(self.pictures)

    # -------------------------------------------------------------------------------------------- leaving

    async def action_quit(self) -> None:
        """Leave, after asking what shall become of what is being done."""
        live = self.jobs.live()
        if not live:
            self.exit(0)
            return
        from deepscem_tui.screens.quit import QuitDialog

        if not isinstance(self.screen, QuitDialog):
            self.push_screen(QuitDialog(live))

    def leave(self, reason: str) -> None:
        """Ask every job to save its state and end; leave when they have."""
        self._leaving = True
        self.jobs.stop_all(reason)
        self.leave_when_done()

    def leave_when_done(self) -> None:
        """Leave as soon as no job is left; :meth:`stay` takes it back."""
        if self._waiting is None:
            self._waiting = self.set_interval(0.1, self._leave_if_done)

    @property
    def leaves_when_done(self) -> bool:
        return self._waiting is not None

    def stay(self) -> None:
        """Do not leave when the jobs are done."""
        if self._waiting is not None and not self._leaving:
            self._waiting.stop()
            self._waiting = None

    def _leave_if_done(self) -> None:
        if not self.jobs.live():
            self.exit(75 if any(job.state == "stopped" for job in self.jobs.all) else 0)

    def _watch_signals(self) -> None:
        """Signals through the event loop, so that jobs are saved and the terminal is put in order."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; tests in other threads
                    loop.add_signal_handler(number, self._signalled, name)

    def _signalled(self, name: str) -> None:
        """Leave when the jobs are saved; at once on a second SIGINT."""
        if name == "SIGINT" and self._leaving and self._driver is not None:
            self._driver.stop_application_mode()
            os._exit(128 + signal.SIGINT)
        self.call_later(self.leave, f"{name} received")

    def terminal_gone(self) -> None:
        """The terminal cannot be read any more; called from the driver's thread."""
        with suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.call_later, self.leave, "the terminal is gone")


def _left_behind(jobs: Sequence[Job]) -> Iterator[str]:
    """What to say, after the application has ended, of the runs that it stopped."""
    for folder in dict.fromkeys(job.folder for job in jobs if job.state == "stopped" and job.folder is not None):
        with suppress(RunError):
            run = watching.summary(folder)
            far = f" after {run.how_far}" if run.how_far else ""
            if run.left:  # and was not gone on with since
                go_on = shlex.join(["deepscem-tui", "runs", "resume", run.name])
                yield f"{run.name} was stopped{far}, and is saved. Go on with: {go_on}"


def run(folder: Path | None = None, runs_folder: Path | None = None) -> int:
    """Show the application until its user leaves, and give the exit status.

    Raises:
        Bug: a mistake of this program ended it; what was being done was saved first.
    """
    from deepscem_tui.characters import is_utf8
    from deepscem_tui.settings import log_file
    from deepscem_tui.terminal import driver_on, own_terminal

    ascii_only = not is_utf8()
    with own_terminal(log_file(), ascii_only) as terminal:
        app: DeepscemApp | None = None

        def gone() -> None:
            if app is not None:
                app.terminal_gone()

        app = DeepscemApp(folder, runs_folder, ascii_only=ascii_only, driver_class=driver_on(terminal, gone))
        value = app.run()
        if app.jobs.live():  # it ended by a mistake of ours: its threads' work must not be lost
            terminal.write("Saving what was being done ...\r\n")
            app.jobs.stop_all("the application ended")
            app.jobs.wait()
    console = Console()
    for line in _left_behind(app.jobs.all):
        console.message(line)
    if app.mistake is not None:
        raise Bug("A bug in deepscem-tui ended the application", report(app.mistake))
    return app.return_code or value or 0
