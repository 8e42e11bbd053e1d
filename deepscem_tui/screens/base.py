"""What the screens have in common: the bar of screens above, the bar of jobs and the keys below."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding
from textual.events import Click
from textual.screen import Screen
from textual.widgets import Static

from deepscem_tui.engine import words
from deepscem_tui.jobs import Job
from deepscem_tui.modes import SCREENS
from deepscem_tui.texts import safe, shortened
from deepscem_tui.widgets.footer import Footer

if TYPE_CHECKING:
    from deepscem_tui.app import DeepscemApp

_POLL_SECONDS = 0.25
_FIRST = ("turn", "stop", "resume")  # what the footer shows first, behind the way back
_BAR = 16
_SHORTEST_TITLE = 12


class WorkScreen(Screen[None]):
    """A screen of the application; subclasses give its content.

    Args (class variables):
        MODE: Its name in :data:`deepscem_tui.modes.SCREENS`.
    """

    MODE: ClassVar[str]
    app: DeepscemApp
    _in_footer: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        yield ModeBar(self.MODE)
        yield from self.compose_content()
        yield JobBar()
        yield Footer()

    def compose_content(self) -> ComposeResult:
        """The widgets between the bars."""
        raise NotImplementedError

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """Those of the screen, the way back first, so that it is in every footer, then what is needed most.

        Keys that mean nothing now, as a part's ``fits(action)`` says, are not in the footer, but say why when pressed.
        """
        found = super().active_bindings
        for key, active in found.items():
            fits = getattr(active.node, "fits", None)
            if active.binding.show and fits is not None and not fits(active.binding.action):
                found[key] = active._replace(binding=replace(active.binding, show=False))
        return dict(sorted(found.items(), key=lambda item: _rank(item[0], item[1].binding.action)))

    def refresh_footer(self) -> None:
        """Draw the footer anew if other keys fit now."""
        in_footer = tuple(key for key, active in self.active_bindings.items() if active.binding.show)
        if in_footer != self._in_footer:
            self._in_footer = in_footer
            self.refresh_bindings()

    def shows(self, job: Job) -> bool:  # noqa: ARG002
        """Whether the screen itself shows how a job ended, so that nothing else need say so."""
        return False


def _rank(key: str, action: str) -> int:
    """The place of a key in the footer; those of the same rank stay in their order."""
    return 0 if key == "escape" else 1 + (_FIRST.index(action) if action in _FIRST else len(_FIRST))


class ModeBar(Static):
    """The screens with their keys, the present one marked; a click switches."""

    app: DeepscemApp
    can_focus = False

    def __init__(self, mode: str) -> None:
        super().__init__(markup=False)
        self._mode = mode

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def on_click(self, event: Click) -> None:
        for mode, start, stop in self._places:
            if start <= event.x < stop:
                self.app.switch_mode(mode)

    def _draw(self) -> None:
        styles = [
            [f" {key.upper()} {title} " for key, title, _ in SCREENS.values()],
            [f" {key.upper()} {short} " for key, _, short in SCREENS.values()],
            [f"{key.upper()} {short} " for key, _, short in SCREENS.values()],
        ]
        labels = next((one for one in styles if len("".join(one)) <= self.size.width), styles[-1])
        text = Text(no_wrap=True, overflow="ellipsis")
        self._places: list[tuple[str, int, int]] = []
        for mode, label in zip(SCREENS, labels, strict=True):
            start = len(text)
            text.append(label, "reverse bold" if mode == self._mode else "")
            self._places.append((mode, start, len(text)))
        self.update(text)


class JobBar(Static):
    """One line about the job in hand; away while there is none."""

    app: DeepscemApp
    can_focus = False

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._shown = ""

    def on_mount(self) -> None:
        self.display = False
        self.set_interval(_POLL_SECONDS, self._look)

    def on_click(self) -> None:
        self.app.action_jobs()

    def _look(self) -> None:
        live = self.app.jobs.live()
        self.display = bool(live)
        if live and self.screen.is_current:
            line = job_line(live, time.monotonic(), self.size.width, self.app.leaves_when_done)
            if line != self._shown:
                self._shown = line
                self.update(line)


def job_line(live: list[Job], now: float, width: int, then_quits: bool = False) -> str:
    """The job in hand in one line: what, how far, time left, and how many wait; its name gets what room is left."""
    at_work = [job for job in live if job.state != "queued"]
    job = (at_work or live)[0]
    others = f"+{len(live) - 1} more  " if len(live) > 1 else ""
    rest = f"  {described(job, now)}  {others}{'then quits  ' if then_quits else ''}(F8)"
    return f"● {shortened(safe(job.title), max(_SHORTEST_TITLE, width - len(rest) - 2))}{rest}"


def described(job: Job, now: float) -> str:
    """How far a job is, in words."""
    if job.state == "stopping":
        return "stopping: what is in hand is saved first"
    progress = job.progress
    if job.state != "running" or progress is None:
        last = job.messages[-1] if job.messages and job.live else ""
        return safe(last.strip().splitlines()[0]) if last.strip() else job.state
    filled = round(_BAR * progress.share)
    text = f"{safe(progress.task)} {'━' * filled}{'╌' * (_BAR - filled)} {100 * progress.share:.0f} %"
    left = progress.seconds_left(now)
    return f"{text}  {words.duration(left)} left" if left is not None and progress.share < 1 else text
