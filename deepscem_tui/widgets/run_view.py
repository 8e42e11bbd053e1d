"""The live view of a run: state, bars, curves, facts, log, and a slice with its current prediction."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget

from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.runs import preview as run_preview
from deepscem_tui.engine.runs.preview import RunPreview
from deepscem_tui.engine.runs.watching import Preview, RunSnapshot, RunWatcher
from deepscem_tui.render.chart import shown
from deepscem_tui.render.run_text import Bar, bars, draw_bar, facts, state_line
from deepscem_tui.widgets.line_chart import Cells, LineChart
from deepscem_tui.widgets.run_parts import log_line, score_table, series
from deepscem_tui.widgets.slice_view import SliceView
from deepscem_tui.widgets.wrapped_log import WrappedLog

__all__ = ["RunView"]

_POLL_SECONDS = 0.25
_IDLE_SECONDS = 1.0  # for a run that has ended, or that nobody sees
_MEASURES = {"loss": "loss", "f1": "F1", "iou": "IoU", "learning_rate": "learning rate"}
_TABS = {"curves": "Curves", "slice": "Slice", "log": "Scores and log"}
_FACT_LINES, _ERROR_LINES = 2, 4
_CAN_CONTINUE = ("finished", "stopped", "failed", "dead")
_NO_RUN = "No run is chosen"
_WARNING, _FAINT, _PLAIN = Style(color="yellow"), Style(dim=True), Style()


class RunView(Widget):
    """Shows a run as it goes on, whoever carries it out; None for no run."""

    HELP = """
    ## Run

    A run as it goes on, read from its folder: it may run here, in another terminal, or on another machine.

    - `x` asks it to save its state and end, `X` ends it at once.
    - `e` continues a training for more epochs.
    - `v` shows the curves, the slice with its current prediction, or scores and log, where not all fit.
    - `n` shows the next curve: loss, F1, IoU, learning rate. Those of the validation are at each label's own
      threshold, *above* which a voxel counts as the label in predictions too, unless it was not to be tuned.
    - `o` shows what the run said, or what its libraries printed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "next_tab", "View", tooltip="Curves, slice, scores and log"),
        Binding("x", "stop", "Stop", tooltip="Ask the run to save its state and end"),
        Binding("n", "next_measure", "Curve", tooltip="Loss, F1, IoU, learning rate"),
        Binding("o", "switch_log", "Log", tooltip="Messages, or what libraries printed"),
        Binding("e", "continue", "More epochs", tooltip="Go on with a training for more epochs"),
        Binding("X", "stop_now", "Stop now", key_display="X", tooltip="End the run without waiting for it"),
    ]

    DEFAULT_CSS = """
    RunView { layout: vertical; height: 1fr; }
    RunView #head { height: 1; }
    RunView #tabs { height: 1; }
    RunView #panes { height: 1fr; }
    RunView #curves { width: 3fr; layout: grid; grid-size: 1; }
    RunView #side { width: 2fr; layout: vertical; }
    RunView.-four #side { width: 3fr; }
    RunView.-plain #side { width: 1fr; layout: horizontal; }
    RunView SliceView { height: 3fr; width: 1fr; }
    RunView #words { height: 2fr; width: 1fr; }
    RunView.-plain SliceView, RunView.-plain #words { height: 1fr; }
    RunView #scores { height: 3; padding-left: 1; }
    RunView #log { height: 1fr; min-height: 3; background: $surface; border-left: blank; scrollbar-size: 1 1; }
    RunView #log:focus { border-left: outer $accent; }
    RunView.-one SliceView, RunView.-one #words { height: 1fr; }
    RunView #facts { height: 1; color: $text-muted; }
    """

    class _About(Message):
        def __init__(self, folder: Path) -> None:
            super().__init__()
            self.folder = folder

    class StopAsked(_About):
        """The user wants the run to save its state and end."""

    class StopNowAsked(_About):
        """The user wants the run to end at once."""

    class ContinueAsked(_About):
        """The user wants the run to go on, for more epochs than it was asked to."""

    class Ended(Message):
        """A run that was seen running has ended: ``finished``, ``stopped``, ``failed``, ``dead`` or ``gone``."""

        def __init__(self, folder: Path, state: str) -> None:
            super().__init__()
            self.folder = folder
            self.state = state

    def __init__(
        self,
        folder: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.folder = folder
        self.snapshot: RunSnapshot | None = None
        self._clock = clock
        self._watcher = RunWatcher(folder) if folder else None
        self._trouble = "" if folder else _NO_RUN
        self._looking = False
        self._looked = float("-inf")
        self._preview: Preview | None = None
        self._tab, self._measure = "curves", 0
        self._prints = False
        self._fitting: tuple[bool, ...] = ()
        self._logged: tuple[object, ...] = ()

    def watch_run(self, folder: Path | None) -> None:
        """Show another run, or none."""
        if folder == self.folder:
            return
        self.folder, self.snapshot, self._preview = folder, None, None
        self._watcher = RunWatcher(folder) if folder else None
        self._trouble = "" if folder else _NO_RUN
        self._looked = float("-inf")
        self._tab, self._logged = "curves", ()
        if self.is_mounted:
            self._log.clear()
            self._slice.show(None)
            for chart in self.query(LineChart):
                chart.set_series([])
            for part in self.query(Cells):
                part.redraw()
            self._arrange()
            self._poll()

    # ---------------------------------------------------------------------------------------------- looking

    def compose(self) -> ComposeResult:
        self._head = Cells(self._draw_head, id="head")
        self._tabs = _Tabs(self._draw_tabs, id="tabs")
        self._scores = Cells(self._draw_scores, id="scores")
        self._facts = Cells(self._draw_facts, id="facts")
        self._slice = SliceView(pictures=getattr(self.app, "pictures", "auto"))
        self._log = WrappedLog(id="log")
        yield self._head
        yield self._tabs
        with Horizontal(id="panes"):
            with Container(id="curves"):
                for key, title in _MEASURES.items():
                    yield LineChart(title, "epoch", id=key)
            with Container(id="side"):
                yield self._slice
                with Vertical(id="words"):
                    yield self._scores
                    yield self._log
        yield self._facts

    def on_mount(self) -> None:
        self._arrange()
        self._poll()
        self.set_interval(_POLL_SECONDS, self._poll)

    def on_resize(self) -> None:
        self._arrange()

    def _poll(self) -> None:
        seen = self.app.screen is self.screen and (self.snapshot is None or self.snapshot.running)
        due = time.monotonic() - self._looked >= (0 if seen else _IDLE_SECONDS)
        if self._watcher is not None and due and not self._looking:
            self._looking = True
            self.run_worker(self._look(self._watcher), group="watch run")

    async def _look(self, watcher: RunWatcher) -> None:
        try:
            snapshot, preview = await asyncio.to_thread(_read, watcher, self._preview)
        except RunError as error:
            if watcher is self._watcher:
                self._trouble = str(error)
                self._head.redraw()
            return
        finally:
            self._looking = False
            self._looked = time.monotonic()
        if watcher is self._watcher and self.is_mounted:  # no other run was chosen meanwhile
            self._take(snapshot)
            self._show_preview(snapshot, preview)

    def _take(self, snapshot: RunSnapshot) -> None:
        before, self.snapshot = self.snapshot, snapshot
        self._trouble = ""
        if before is None or snapshot is not before:
            self._show_curves(snapshot)
            self._show_log()
            self._scores.redraw()
            self._facts.redraw()
            self._arrange()
        self._head.redraw()
        if before is not None and before.running and not snapshot.running:
            self.post_message(self.Ended(snapshot.folder, snapshot.state))

    # ---------------------------------------------------------------------------------------------- showing

    def _show_curves(self, snapshot: RunSnapshot) -> None:
        for key in _MEASURES:
            self.query_one(f"#{key}", LineChart).set_series(series(snapshot, key))

    def _show_preview(self, snapshot: RunSnapshot, preview: RunPreview | None) -> None:
        if preview is None:
            return
        self._preview = snapshot.preview
        image = preview.image
        if preview.known is not None:  # darker where nothing is computed yet
            image = np.where(preview.known > 0, image, image // 2).astype(np.uint8)
        title = f"{shown(preview.sample)} {preview.axis} {preview.z}"
        self._slice.show_arrays(
            image,
            list(preview.prediction),
            preview.names,
            None if preview.labels is None else list(preview.labels),
            title=title,
            probabilities=True,
            thresholds=preview.thresholds,
        )

    def _show_log(self) -> None:
        """Messages or printed lines; what was there before is not written again."""
        if self.snapshot is None:
            return
        wanted: tuple[object, ...] = self.snapshot.log if self._prints else self.snapshot.said
        if wanted == self._logged:
            return
        new = wanted[len(self._logged) :] if self._logged == wanted[: len(self._logged)] else None
        if new is None:
            last = self._logged[-1] if self._logged else None
            new = wanted[wanted.index(last) + 1 :] if not self._prints and last in wanted else None
        if new is None:
            self._log.clear()
            new = wanted
        self._logged = wanted
        for line in new:
            self._log.add(log_line(line))

    def _arrange(self) -> None:
        """Show what there is room for."""
        width, height = self.size
        if not width:
            return
        mode = "four" if width >= 150 and height >= 40 else "two" if width >= 100 and height >= 26 else "one"
        for name in ("one", "two", "four"):
            self.set_class(name == mode, f"-{name}")
        curves = self._has_curves
        tab = self._tab if curves or self._tab != "curves" else "slice"
        one = mode == "one"
        self._tabs.display = one
        self.query_one("#curves").display = curves and (not one or tab == "curves")
        self.query_one("#side").display = not one or tab != "curves"
        self._slice.display = not one or tab == "slice"
        self.query_one("#words").display = not one or tab == "log"
        self.set_class(not curves and not one, "-plain")
        count = {"one": 1, "two": 2, "four": 4}[mode]
        keys = list(_MEASURES)
        chosen = {keys[(self._measure + index) % len(keys)] for index in range(count)}
        for key in keys:
            self.query_one(f"#{key}").display = key in chosen
        grid = self.query_one("#curves").styles
        grid.grid_size_columns, grid.grid_size_rows = 1, {"one": 1, "two": 2, "four": 4}[mode]
        self._head.styles.height = 1 + len(bars(self.snapshot)) if self.snapshot else 3
        self._facts.styles.height = max(1, len(self._fact_lines(width)))
        self._scores.styles.height = min(max(1, self._score_lines()), max(3, height // 4))
        self._tabs.redraw()
        focused = self.screen.focused
        if focused is not None and self in focused.ancestors and not all(w.display for w in _within(self, focused)):
            self._first_shown().focus()  # what is not shown must not have the focus
        fitting = tuple(self.fits(action) for action in ("stop", "continue", "next_tab", "next_measure", "switch_log"))
        if fitting != self._fitting:
            self._fitting = fitting
            self.screen.refresh_bindings()

    def fits(self, action: str) -> bool:
        """Whether a key means something for what is shown; what does not is not in the footer."""
        run = self.snapshot
        match action:
            case "stop" | "stop_now":
                return run is not None and run.running
            case "continue":
                return run is not None and run.state in _CAN_CONTINUE and bool(run.n_epochs)
            case "next_tab":
                return run is not None and self.has_class("-one")
            case "next_measure":
                return bool(self._shown_charts()) and not self.has_class("-four")
            case "switch_log":
                return run is not None and self.query_one("#words").display and self.query_one("#side").display
        return True

    def enter(self) -> None:
        """Focus the first part that is shown and takes keys."""
        for part in (*self.query(LineChart), self._slice, self._log):
            if all(widget.display for widget in _within(self, part)):
                part.focus()
                return

    def _first_shown(self) -> Widget:
        return self._slice if not self._has_curves or not self._shown_charts() else self._shown_charts()[0]

    @property
    def _has_curves(self) -> bool:
        return self.snapshot is None or bool(self.snapshot.n_epochs)

    def _score_lines(self) -> int:
        if self.snapshot is None:
            return 0
        return 1 + len(self.snapshot.labels) if self.snapshot.n_epochs else len(self.snapshot.tiles)

    # ---------------------------------------------------------------------------------------------- drawing

    @property
    def _ascii(self) -> bool:
        return bool(getattr(self.app, "ascii_only", False))

    def _draw_head(self, width: int, _: int) -> Text:
        if self.snapshot is None:
            return Text("\n".join(textwrap.wrap(shown(self._trouble or "Reading the run"), max(10, width))), end="")
        line = state_line(self.snapshot, self._clock())
        where = " on ".join(filter(None, (shown(self.snapshot.device), shown(self.snapshot.host))))
        gap = width - len(line) - len(where)
        if gap >= 2:
            line.append(" " * gap + where, _FAINT)
        return Text("\n", end="").join([line, *(draw_bar(bar, width, self._ascii) for bar in bars(self.snapshot))])

    def _draw_tabs(self, _: int, __: int) -> Text:
        text = Text(end="")
        for key, name in self._shown_tabs().items():
            chosen = key == self._tab or (key == "slice" and self._tab == "curves" and not self._has_curves)
            text.append(f" {name} ", Style(reverse=True) if chosen else _PLAIN)
            text.append(" ", _PLAIN)
        return text

    def _shown_tabs(self) -> dict[str, str]:
        return {key: name for key, name in _TABS.items() if self._has_curves or key != "curves"}

    def _draw_scores(self, width: int, height: int) -> Text:
        if self.snapshot is None:
            return Text(end="")
        lines = score_table(self.snapshot, width) if self.snapshot.n_epochs else self._tile_bars(width)
        if len(lines) > height:
            lines = [*lines[: height - 1], Text(f"and {len(lines) - height + 1} more", style=_FAINT)]
        return Text("\n", end="").join(lines)

    def _tile_bars(self, width: int) -> list[Text]:
        assert self.snapshot is not None
        return [
            draw_bar(Bar(t.sample, t.done / t.total if t.total else 1.0, f"{t.done:,}/{t.total:,}"), width, self._ascii)
            for t in reversed(self.snapshot.tiles)  # the one in hand first
        ]

    def _draw_facts(self, width: int, _: int) -> Text:
        failed = self.snapshot is not None and bool(self.snapshot.error)
        return Text("\n".join(self._fact_lines(width)), style=_WARNING if failed else _PLAIN, end="")

    def _fact_lines(self, width: int) -> list[str]:
        """Why the run ended badly, else what it does a second and takes of its machine; on a few lines."""
        if self.snapshot is None:
            return []
        if self.snapshot.error:
            return textwrap.wrap(shown(self.snapshot.error), max(10, width))[:_ERROR_LINES]
        lines: list[str] = []
        for fact in filter(None, facts(self.snapshot)):
            if lines and (len(lines) == _FACT_LINES or len(lines[-1]) + 3 + len(fact) <= width):
                lines[-1] += f"   {fact}"
            else:
                lines.append(fact)
        return lines

    # ---------------------------------------------------------------------------------------------- keys

    def action_stop(self) -> None:
        if self.folder is not None and self._is("running"):
            self.post_message(self.StopAsked(self.folder))

    def action_stop_now(self) -> None:
        if self.folder is not None and self._is("running"):
            self.post_message(self.StopNowAsked(self.folder))

    def action_continue(self) -> None:
        if self.snapshot is not None and not self.snapshot.n_epochs:
            self._refuse("Only a training can have more epochs")
        elif self.folder is not None and self._is(*_CAN_CONTINUE):
            self.post_message(self.ContinueAsked(self.folder))

    def _is(self, *states: str) -> bool:
        """Whether the run is in one of these states; says it if not."""
        if self.snapshot is None:
            self._refuse(self._trouble or "The run is being read")
        elif self.snapshot.state in states:
            return True
        else:
            self._refuse(f"The run is {self.snapshot.state}")
        return False

    def _refuse(self, why: str) -> None:
        self.notify(shown(why), severity="warning", markup=False)

    def action_next_tab(self) -> None:
        tabs = list(self._shown_tabs())
        place = tabs.index(self._tab) if self._tab in tabs else 0
        self.show_tab(tabs[(place + 1) % len(tabs)])

    def show_tab(self, key: str) -> None:
        """Show ``curves``, ``slice`` or ``log``, and focus it."""
        self._tab = key
        self._arrange()
        target: Widget = self._log if key == "log" else self._slice if key == "slice" else self._first_shown()
        target.focus()

    def _shown_charts(self) -> list[LineChart]:
        return [chart for chart in self.query(LineChart) if chart.display and self.query_one("#curves").display]

    def action_next_measure(self) -> None:
        focused = isinstance(self.screen.focused, LineChart) and self.screen.focused in self._shown_charts()
        self._measure = (self._measure + 1) % len(_MEASURES)
        self._arrange()
        if focused:
            self.query_one(f"#{list(_MEASURES)[self._measure]}").focus()

    def action_switch_log(self) -> None:
        self._prints = not self._prints
        self._logged = ()
        self._log.clear()
        self._show_log()

    def on__tabs_chosen(self, event: _Tabs.Chosen) -> None:
        event.stop()
        end = 0
        for key, name in self._shown_tabs().items():
            end += len(name) + 3
            if event.x < end:
                self.show_tab(key)
                return


class _Tabs(Cells):
    """A line of names to click on."""

    class Chosen(Message):
        def __init__(self, x: int) -> None:
            super().__init__()
            self.x = x

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Chosen(event.x))


def _within(view: Widget, part: Widget) -> Iterator[Widget]:
    """A part of a view, and what it lies in."""
    for node in part.ancestors_with_self:
        if node is view:
            return
        if isinstance(node, Widget):
            yield node


def _read(watcher: RunWatcher, known: Preview | None) -> tuple[RunSnapshot, RunPreview | None]:
    """Look at a run, and at its preview if it is a new one; outside the event loop."""
    snapshot = watcher.poll()
    if snapshot.preview is None or snapshot.preview == known:
        return snapshot, None
    try:
        return snapshot, run_preview.read(snapshot.preview.path)
    except RunError:  # torn, or gone already: the next one will do
        return snapshot, None
