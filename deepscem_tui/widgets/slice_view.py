"""The slice view: a volume looked at slice by slice in the terminal, with labels and predictions on it."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import EngineError, LockedError
from deepscem_tui.engine.slices import (
    AXES,
    ArraySlices,
    FileSlices,
    Part,
    Plane,
    SliceFacts,
    SliceSource,
    SliceTarget,
)
from deepscem_tui.render.cells import Row, with_cursor
from deepscem_tui.render.scenes import PictureStyle, choose_style
from deepscem_tui.render.viewport import Viewport
from deepscem_tui.widgets import slice_lines as lines
from deepscem_tui.widgets.slice_picture import (
    ALL_LABELS,
    Look,
    Picture,
    layers_of,
    legend,
    make_picture,
    save_png,
)

__all__ = ["SliceView"]

Voxel = tuple[int, int, int]

_PLANES: tuple[Plane, ...] = ("xy", "xz", "yz")
_ZOOM = 1.5
_SAY_READING = 0.3  # seconds after which a read is told
_RETRY = 1.0  # seconds until a data set that is being changed is tried again
_FAR = 10
_NOTICE = Style(bold=True)
_SCREEN = Style(color="#ffffff", bgcolor="#000000")  # of a picture in characters, whatever the theme


@dataclass(frozen=True)
class _Job:
    """What the screen should show: read, or made of what was read before."""

    source: SliceSource
    part: Part | None  # None: only the facts are asked for
    viewport: Viewport | None
    look: Look
    layers: tuple[str, ...]
    follow: bool


class SliceView(Widget, can_focus=True):
    """A slice of a volume, moved through, zoomed and compared with keys or the mouse.

    Nothing is read in the event loop; while something is read only the newest wish is kept.

    Args:
        pictures: ``"blocks"`` or ``"ascii"``; ``"auto"`` chooses blocks where there are 256 colours and UTF-8.
        folder: Where screenshots go; the current folder if not given.
    """

    DEFAULT_CSS = """
    SliceView { height: 1fr; width: 1fr; min-height: 5; }
    SliceView > Input { dock: bottom; display: none; height: 1; }
    SliceView.-asking > Input { display: block; }
    """

    HELP: ClassVar[str] = """
## Slice view

A volume, slice by slice, with its labels and predictions.

| key | what |
|---|---|
| `.` `,` or `j` `k`, wheel | next, previous slice; Page Down, Page Up: ten; Home, End |
| `g` | go to a slice: a number, or `50%` |
| arrows, click | move the cursor; with Shift, or dragging: move the picture |
| `+` `-`, Ctrl and wheel | zoom about the cursor; `0` shows all |
| `p` | xy, xz, yz through the cursor |
| `l`, `1` to `9` | all overlays, or one of them, on and off |
| `m` | compare with the true labels: hits, misses, false alarms; all labels, then one by one |
| `t` `T` | threshold of probabilities up, down |
| `c` | automatic contrast; `[` `]` darker, brighter; `{` `}` less, more contrast |
| `b` | half blocks or characters |
| `s` | save what is shown as a PNG file at full resolution |

A label is drawn as an outline in its colour, or its letter; the pattern tells labels apart without colour.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("full_stop,j", "step(1)", "Next", key_display=".", tooltip="Next slice (or j, or the mouse wheel)"),
        Binding("comma,k", "step(-1)", "Previous", key_display=",", tooltip="Previous slice (or k, or the wheel)"),
        Binding("pagedown", f"step({_FAR})", "Ten on", show=False, tooltip="Ten slices on"),
        Binding("pageup", f"step({-_FAR})", "Ten back", show=False, tooltip="Ten slices back"),
        Binding("home", "end(0)", "First", show=False, tooltip="First slice"),
        Binding("end", "end(1)", "Last", show=False, tooltip="Last slice"),
        Binding("g", "ask", "Go to", tooltip="Go to a slice by its number, or as a percentage"),
        Binding("up", "cursor(-1,0)", "Cursor up", show=False, tooltip="Move the cursor up"),
        Binding("down", "cursor(1,0)", "Cursor down", show=False, tooltip="Move the cursor down"),
        Binding("left", "cursor(0,-1)", "Cursor left", show=False, tooltip="Move the cursor to the left"),
        Binding("right", "cursor(0,1)", "Cursor right", show=False, tooltip="Move the cursor to the right"),
        Binding("shift+up", "pan(-1,0)", "Pan up", show=False, tooltip="Show what is above"),
        Binding("shift+down", "pan(1,0)", "Pan down", show=False, tooltip="Show what is below"),
        Binding("shift+left", "pan(0,-1)", "Pan left", show=False, tooltip="Show what is to the left"),
        Binding("shift+right", "pan(0,1)", "Pan right", show=False, tooltip="Show what is to the right"),
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", key_display="+", tooltip="Larger, about the cursor"),
        Binding("minus", "zoom(-1)", "Out", key_display="-", tooltip="Smaller, about the cursor"),
        Binding("0", "fit", "Fit", show=False, tooltip="Show the whole slice"),
        Binding("p", "plane", "Plane", tooltip="xy, xz or yz through the cursor"),
        Binding("l", "overlays", "Overlays", tooltip="All labels and predictions on or off; 1 to 9 for each"),
        *(
            Binding(str(n), f"overlay({n})", f"Overlay {n}", show=False, tooltip=f"Overlay {n} on or off")
            for n in range(1, 10)
        ),
        Binding("m", "compare", "Compare", tooltip="Hits, misses and false alarms: all labels, one by one, off"),
        Binding("t", "threshold(1)", "Threshold up", show=False, tooltip="Higher threshold of probabilities"),
        Binding("T", "threshold(-1)", "Threshold down", show=False, tooltip="Lower threshold of probabilities"),
        Binding("c", "contrast", "Contrast", tooltip="Automatic contrast again; [ ] brightness, { } contrast by hand"),
        Binding("left_square_bracket", "stretch(-1,0)", "Darker", show=False, key_display="[", tooltip="Darker"),
        Binding("right_square_bracket", "stretch(1,0)", "Brighter", show=False, key_display="]", tooltip="Brighter"),
        Binding("left_curly_bracket", "stretch(0,-1)", "Softer", show=False, key_display="{", tooltip="Less contrast"),
        Binding("right_curly_bracket", "stretch(0,1)", "Harder", show=False, key_display="}", tooltip="More contrast"),
        Binding("b", "style", "Blocks", show=False, tooltip="Half blocks or characters"),
        Binding("s", "save", "Save PNG", tooltip="Save what is shown as a PNG file at full resolution"),
    ]

    class Saved(Message):
        """A screenshot was written."""

        def __init__(self, path: Path) -> None:
            self.path = path
            super().__init__()

    def __init__(
        self,
        *,
        pictures: Literal["auto", "blocks", "ascii"] = "auto",
        folder: Path | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._pictures = pictures
        self._folder = folder
        self._source: SliceSource | None = None
        self._facts: SliceFacts | None = None
        self._plane: Plane = "xy"
        self._cursor: Voxel = (0, 0, 0)
        self._views: dict[Plane, tuple[float, tuple[float, float]]] = {}  # zoom and centre of each plane
        self._look = Look("ascii")
        self._picture: Picture | None = None
        self._values: tuple[Voxel, dict[str, float]] | None = None
        self._hover: tuple[int, int] | None = None  # voxel of the plane
        self._drag: tuple[int, int] | None = None
        self._dragged = False
        self._notice = ""
        self._wanted: _Job | None = None
        self._wanted_values: Voxel | None = None
        self._working = False
        self._timer: Timer | None = None
        self._retry: Timer | None = None

    # -------------------------------------------------------------------------------------------- what is shown

    def show(self, target: SliceTarget | None) -> None:
        """Show a volume, or nothing; the same one again is read anew and keeps the place, zoom and overlays."""
        same = isinstance(self._source, FileSlices) and self._source.target == target
        self._show(None if target is None else FileSlices(target), same)

    def show_arrays(
        self,
        image: npt.NDArray[Any] | None,
        masks: Sequence[npt.NDArray[Any]],
        names: Sequence[str],
        reference: Sequence[npt.NDArray[Any]] | None = None,
        title: str = "",
        probabilities: bool = False,
    ) -> None:
        """Show a slice that is in memory; one of the same size and labels as before keeps zoom and overlays.

        Args:
            image: (Y, X), uint8 or float; None for plain grey.
            masks: (L, Y, X): masks, or probabilities as floats 0 to 1 or, if ``probabilities``, uint8 0 to 255.
            names: Of the labels, one a mask.
            reference: True masks (L, Y, X), if known: then ``m`` compares.
            title: What is shown.
            probabilities: Whether uint8 masks are probabilities.
        """
        source = ArraySlices(image, masks, names, reference, title, probabilities)
        old, new = self._facts, source.facts()
        same = isinstance(self._source, ArraySlices) and old is not None
        self._show(source, same and old is not None and (old.shape, old.layers) == (new.shape, new.layers))

    @property
    def facts(self) -> SliceFacts | None:
        """What is known of the volume that is shown."""
        return self._facts

    @property
    def plane(self) -> Plane:
        """Which axes are seen."""
        return self._plane

    @property
    def cursor(self) -> Voxel:
        """The voxel (z, y, x) under the crosshair."""
        return self._cursor

    @property
    def index(self) -> int:
        """Which slice of the plane is wanted."""
        return self._cursor[AXES[self._plane][0]]

    @property
    def look(self) -> Look:
        """How it is shown."""
        return self._look

    @property
    def picture(self) -> Picture | None:
        """What is on the screen."""
        return self._picture

    @property
    def busy(self) -> bool:
        """Whether something is being read, or waits for it."""
        return self._working

    def go_to(self, index: int) -> None:
        """Show a slice of the present plane, or the nearest there is."""
        if self._facts is None:
            return
        axis = AXES[self._plane][0]
        cursor = list(self._cursor)
        cursor[axis] = min(max(0, index), self._facts.shape[axis] - 1)
        self._move((cursor[0], cursor[1], cursor[2]), follow=True)

    def _show(self, source: SliceSource | None, same: bool) -> None:
        self._source = source
        self._notice = ""
        if not same:
            self._facts = self._picture = self._values = self._hover = None
            self._views.clear()
            self._plane = "xy"
            self._look = Look(self._look.style, threshold=self._look.threshold)
            self.remove_class("-asking")
        if source is None:
            self._wanted = None
        self._want()
        self.refresh()

    # -------------------------------------------------------------------------------------------- reading

    def _want(self, follow: bool = False) -> None:
        """Ask for the picture that belongs to the present state; older wishes are forgotten."""
        if self._source is None or not self.is_mounted:
            return
        viewport = self._viewport()
        part = None
        if viewport is not None:
            part = Part(self._plane, self.index, viewport.rows, viewport.columns, viewport.shape)
        follow = follow or (self._wanted is not None and self._wanted.follow)
        layers = () if self._facts is None else tuple(layers_of(self._facts, self._look))
        self._wanted = _Job(self._source, part, viewport, self._look, layers, follow)
        self._work()

    def _work(self) -> None:
        if not self._working and self.is_mounted:
            self._working = True
            self.run_worker(self._read_newest(), group="slices", exit_on_error=True)

    async def _read_newest(self) -> None:
        """Read what is wanted until nothing is wanted any more: one thing at a time, always the newest."""
        self._timer = self.set_timer(_SAY_READING, self._say_reading)
        try:
            while self._wanted is not None or self._wanted_values is not None:
                job, self._wanted = self._wanted, None
                if job is None:
                    await self._read_values()
                else:
                    await self._read_picture(job)
        finally:
            self._working = False
            self._timer.stop()
            self._reading_said(False)

    async def _read_picture(self, job: _Job) -> None:
        try:
            made = await asyncio.to_thread(_carry_out, job, self._picture)
        except EngineError as error:
            if job.source is self._source:
                self._failed(error)
            return
        if job.source is not self._source:
            return
        self._notice = ""
        if isinstance(made, Picture):
            self._picture = made
            self._adopt(made.data.facts)
            self._ask_values()
            self.refresh()
        else:
            self._adopt(made)

    async def _read_values(self) -> None:
        voxel, self._wanted_values, source = self._wanted_values, None, self._source
        if voxel is None or source is None:
            return
        try:
            values = await asyncio.to_thread(source.values, voxel)
        except EngineError:
            return  # the picture's reading tells what is wrong
        if source is self._source:
            self._values = voxel, values
            self._refresh_row(-1)

    def _failed(self, error: EngineError) -> None:
        self._notice = str(error)
        if isinstance(error, LockedError):
            if self._retry is not None:
                self._retry.stop()
            self._retry = self.set_timer(_RETRY, self._want)
        else:
            self._picture = None
        self.refresh()

    def _adopt(self, facts: SliceFacts) -> None:
        """Take up what is known of the volume: at first, and when it has changed."""
        old, self._facts = self._facts, facts
        if old is not None and (old.shape, old.layers) == (facts.shape, facts.layers):
            return
        if old is None:
            z, y, x = (size // 2 for size in facts.shape)
            self._cursor = z, y, x
        else:
            z, y, x = (min(at, size - 1) for at, size in zip(self._cursor, facts.shape, strict=True))
            self._cursor = z, y, x
        known = {layer.key for layer in old.layers} if old is not None else set()
        new = {layer.key for layer in facts.layers if layer.kind in ("label", "prediction")} - known
        kept = self._look.overlays & {layer.key for layer in facts.layers}
        comparison = self._look.comparison if facts.compared else None
        self._look = replace(self._look, overlays=kept | new, comparison=comparison)
        self._want(follow=True)
        self.refresh()

    def _ask_values(self) -> None:
        """Ask for the values under the pointer or cursor; pictures come first."""
        voxel = self._pointed()
        if self._values is not None and self._values[0] == voxel and not self._is_array:
            return
        self._wanted_values = voxel
        self._work()

    @property
    def _is_array(self) -> bool:
        return isinstance(self._source, ArraySlices)

    def _say_reading(self) -> None:
        if self._working:
            self._reading_said(True)

    def _reading_said(self, reading: bool) -> None:
        if self.has_class("-reading") != reading:
            self.set_class(reading, "-reading")
            self._refresh_row(0)

    # -------------------------------------------------------------------------------------------- state

    @property
    def _canvas(self) -> tuple[int, int]:
        """Cells of the picture, down and across: all but the header, the legend and the status."""
        return self.size.height - 3, self.size.width

    def _viewport(self) -> Viewport | None:
        facts = self._facts
        if facts is None or min(self._canvas) < 1:
            return None
        _, down, across = AXES[self._plane]
        size = facts.shape[down], facts.shape[across]
        zoom, centre = self._views.get(self._plane, (1.0, (size[0] / 2, size[1] / 2)))
        return Viewport(size, self._canvas, facts.aspect(self._plane), zoom, centre)

    def _keep(self, viewport: Viewport) -> None:
        self._views[self._plane] = viewport.zoom, viewport.centre

    def _place(self) -> tuple[int, int]:
        """The cursor in the plane, down and across."""
        _, down, across = AXES[self._plane]
        return self._cursor[down], self._cursor[across]

    def _pointed(self) -> Voxel:
        """The voxel that the status line tells of: under the mouse, else under the cursor."""
        return self._cursor if self._hover is None else self._with_place(self._hover)

    def _with_place(self, place: tuple[int, int]) -> Voxel:
        _, down, across = AXES[self._plane]
        cursor = list(self._cursor)
        cursor[down], cursor[across] = place
        return cursor[0], cursor[1], cursor[2]

    def _move(self, cursor: Voxel, follow: bool = False) -> None:
        if cursor == self._cursor:
            return
        old, self._cursor = self._cursor, cursor
        viewport = self._viewport()
        assert viewport is not None
        shown = viewport.showing(self._place())
        moved = shown != viewport
        if moved:
            self._keep(shown)
        fixed = AXES[self._plane][0]
        if moved or old[fixed] != cursor[fixed]:
            self._want(follow)
        else:
            self._ask_values()
        self.refresh()

    def _change(self, look: Look) -> None:
        if look != self._look:
            self._look = look
            self._want()
            self.refresh()

    def _zoom_by(self, factor: float, about: tuple[int, int]) -> None:
        viewport = self._viewport()
        if viewport is not None:
            self._keep(viewport.zoomed(factor, about))
            self._want()
            self.refresh()

    # -------------------------------------------------------------------------------------------- keys

    def action_step(self, by: int) -> None:
        self.go_to(self.index + by)

    def action_end(self, last: int) -> None:
        if self._facts is not None:
            self.go_to(self._facts.shape[AXES[self._plane][0]] - 1 if last else 0)

    def action_ask(self) -> None:
        if self._facts is None:
            return
        count = self._facts.shape[AXES[self._plane][0]]
        if count == 1:
            self._say("There is one slice only")
            return
        asked = self.query_one(Input)
        asked.placeholder = f"Go to slice 0 to {count - 1}, or 50%"
        asked.value = ""
        self.add_class("-asking")
        asked.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._facts is None:
            return
        index = _slice_number(event.value, self._facts.shape[AXES[self._plane][0]])
        if index is None:
            self._say(f"{event.value!r} is no slice: give a number such as 12, or 50%")
            return
        self.focus()
        self.go_to(index)

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" and self.has_class("-asking"):
            event.stop()
            self.focus()

    def on_descendant_blur(self) -> None:
        self.remove_class("-asking")

    def action_cursor(self, down: int, across: int) -> None:
        """Move the crosshair by a pixel, or by a voxel where that is larger."""
        viewport = self._viewport()
        if viewport is None:
            return
        by = (
            down * max(1, round(2 / (viewport.scale * viewport.aspect))),
            across * max(1, round(1 / viewport.scale)),
        )
        place = [
            min(max(0, at + step), size - 1) for at, step, size in zip(self._place(), by, viewport.size, strict=True)
        ]
        self._hover = None
        self._move(self._with_place((place[0], place[1])))

    def action_pan(self, down: int, across: int) -> None:
        """Move the picture by an eighth of what is shown."""
        viewport = self._viewport()
        if viewport is None:
            return
        (top, bottom), (left, right) = viewport.rows, viewport.columns
        self._pan_by(down * max(1, (bottom - top) // 8), across * max(1, (right - left) // 8))

    def _pan_by(self, down: float, across: float) -> None:
        viewport = self._viewport()
        if viewport is not None:
            self._keep(viewport.panned(down, across))
            self._want()
            self.refresh()

    def action_zoom(self, direction: int) -> None:
        self._zoom_by(_ZOOM**direction, self._place())

    def action_fit(self) -> None:
        self._views.pop(self._plane, None)
        self._want()
        self.refresh()

    def action_plane(self) -> None:
        if self._facts is None:
            return
        if self._facts.shape[0] == 1:
            self._say("There is one slice only, so there is nothing across it")
            return
        self._hover = None
        self._plane = _PLANES[(_PLANES.index(self._plane) + 1) % len(_PLANES)]
        viewport = self._viewport()
        if viewport is not None and viewport.zoom > 1:
            self._keep(viewport.showing(self._place()))
        self._want(follow=True)
        self.refresh()

    def action_overlays(self) -> None:
        if self._facts is None:
            return
        keys = frozenset(layer.key for layer in self._facts.layers if layer.kind in ("label", "prediction"))
        if not self._facts.layers:
            self._say("There are no labels or predictions to show")
        self._change(replace(self._look, comparison=None, overlays=frozenset() if self._look.overlays else keys))

    def action_overlay(self, number: int) -> None:
        if self._facts is None:
            return
        if number > len(self._facts.layers):
            self._say(f"There is no overlay {number}: there are {len(self._facts.layers)}")
            return
        key = frozenset({self._facts.layers[number - 1].key})
        self._change(replace(self._look, comparison=None, overlays=self._look.overlays ^ key))

    def action_compare(self) -> None:
        """Off, all labels together, each label alone, off."""
        if self._facts is None:
            return
        if not self._facts.compared:
            self._say(self._facts.no_comparison)
            return
        now, count = self._look.comparison, len(self._facts.compared)
        if now is None:
            following: int | None = ALL_LABELS
        else:
            following = now + 1 if now + 1 < count and count > 1 else None
        self._change(replace(self._look, comparison=following))

    def action_threshold(self, direction: int) -> None:
        if self._facts is None:
            return
        if not any(layer.probability for layer in self._facts.layers):
            self._say("There are no probabilities here: masks have no threshold")
            return
        threshold = min(max(0.05, round(self._look.threshold + 0.05 * direction, 2)), 0.95)
        self._change(replace(self._look, threshold=threshold))

    def action_contrast(self) -> None:
        """Automatic contrast, of this very slice."""
        if self._picture is not None:
            self._picture = replace(self._picture, span=None)
        self._look = replace(self._look, span=None)
        self._want(follow=True)
        self.refresh()

    def action_stretch(self, brighter: int, harder: int) -> None:
        span = self._look.span or (self._picture.span if self._picture is not None else None)
        if span is None or not span[0] < span[1]:
            self._say("There is no contrast to change: all voxels are the same")
            return
        middle, half = (span[0] + span[1]) / 2, (span[1] - span[0]) / 2
        middle -= 0.1 * half * brighter
        half *= 1.25**-harder
        self._change(replace(self._look, span=(middle - half, middle + half)))

    def action_style(self) -> None:
        self._change(replace(self._look, style="ascii" if self._look.style == "blocks" else "blocks"))

    def action_save(self) -> None:
        if self._picture is None:
            self._say("There is no picture to save")
            return
        self.run_worker(self._save(self._picture), group="screenshot")

    async def _save(self, picture: Picture) -> None:
        part = picture.data.part
        axis = "zyx"[AXES[part.plane][0]]
        name = f"{words.file_name(picture.data.facts.title or 'slice')}_{part.plane}_{axis}{part.index:04d}"
        try:
            path = await asyncio.to_thread(save_png, picture, self._folder or Path.cwd(), name)
        except EngineError as error:
            self.notify(lines.shown(str(error), "blocks"), severity="error", markup=False)
            return
        self.notify(f"Saved {lines.shown(path.name, 'blocks')}", markup=False)
        self.post_message(self.Saved(path))

    def _say(self, text: str) -> None:
        """Why a key does nothing."""
        self.notify(lines.shown(text, "blocks"), severity="warning", timeout=4, markup=False)

    # -------------------------------------------------------------------------------------------- mouse

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._scrolled(event, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._scrolled(event, -1)

    def _scrolled(self, event: events.MouseEvent, direction: int) -> None:
        event.stop()
        event.prevent_default()
        if event.ctrl:
            self._zoom_by(_ZOOM**-direction, self._voxel_under(event) or self._place())
        else:
            self.action_step(direction)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if self._voxel_under(event) is not None:
            self._drag, self._dragged = (event.y, event.x), False
            self.capture_mouse()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self._drag is None:
            return
        self.release_mouse()
        self._drag = None
        place = self._voxel_under(event)
        if place is not None and not self._dragged:
            self._move(self._with_place(place))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        viewport = self._viewport()
        if viewport is None:
            return
        if self._drag is not None:
            moved = event.y - self._drag[0], event.x - self._drag[1]
            if moved != (0, 0):
                self._drag, self._dragged = (event.y, event.x), True
                self._pan_by(-2 * moved[0] / (viewport.scale * viewport.aspect), -moved[1] / viewport.scale)
            return
        self._pointing_at(self._voxel_under(event))

    def on_leave(self) -> None:
        self._pointing_at(None)

    def _pointing_at(self, place: tuple[int, int] | None) -> None:
        if place != self._hover:
            self._hover = place
            if self._facts is not None:
                self._ask_values()
                self._refresh_row(-1)

    def _voxel_under(self, event: events.MouseEvent) -> tuple[int, int] | None:
        viewport = self._viewport()
        return None if viewport is None else viewport.voxel_at(int(event.y) - 1, int(event.x))

    # -------------------------------------------------------------------------------------------- drawing

    def compose(self) -> ComposeResult:
        yield Input(compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        self._look = replace(self._look, style=self._style())
        self._want()

    def on_resize(self) -> None:
        self._want()

    def _style(self) -> PictureStyle:
        system = self.app.console.color_system
        colour = not self.app.no_color and system in ("256", "truecolor")
        return choose_style(self._pictures, terminal=True, colour=colour, encoding=_encoding())

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        base = self.visual_style.rich_style
        if y == height - 1:
            row = self._status(width)
        elif y == 0:
            row = self._header(width)
        elif y == height - 2 and self._facts is not None:
            row = self._legend(width)
        else:
            return Strip(self._picture_row(y - 1, width, base), width)
        return Strip([Segment(text, base + style if style else base) for text, style, _ in row], width)

    def _picture_row(self, row: int, width: int, base: Style) -> Row:
        picture = self._picture
        if picture is None:
            return [Segment(text, base) for text in self._empty_row(row, width)]
        top, left = picture.viewport.offset
        if not 0 <= row - top < len(picture.rows):
            return [Segment(" " * width, base)]
        cells = picture.rows[row - top]
        if picture.look.style == "ascii":
            cells = [Segment(text, _SCREEN + style if style else _SCREEN) for text, style, _ in cells]
        at = picture.viewport.cell_of(self._place()) if picture.data.part.plane == self._plane else None
        if at is not None and at[0] == row:
            cells = with_cursor(cells, at[1] - left, picture.look.style)
        length = picture.viewport.shape[1]
        whole = [Segment(" " * left, base), *cells, Segment(" " * max(0, width - left - length), base)]
        return whole if left + length <= width else list(Segment.adjust_line_length(whole, width, base))

    def _empty_row(self, row: int, width: int) -> list[str]:
        text = ""
        if self._source is None:
            text = "Nothing to show" if row == 0 else ""
        elif self._notice:
            wrapped = _wrapped(lines.shown(self._notice, self._look.style), max(1, width - 2))
            text = wrapped[row] if row < len(wrapped) else ""
        return [f" {text}".ljust(width)[:width]]

    def _header(self, width: int) -> Row:
        facts = self._facts
        if facts is None:
            return lines.fitted("reading ..." if self.has_class("-reading") else "", width, self._look.style, _NOTICE)
        fixed = AXES[self._plane][0]
        title = facts.title + (" reading ..." if self.has_class("-reading") else "")
        return lines.header(
            title, self._plane, "zyx"[fixed], self.index, facts.shape[fixed], width, self._look.style
        )  # fmt: skip

    def _legend(self, width: int) -> Row:
        assert self._facts is not None
        if self._picture is not None and self._notice:
            return lines.fitted(self._notice, width, self._look.style, _NOTICE)
        prefix, comparison = "", self._look.comparison
        if comparison is not None:
            prefix = "all labels" if comparison == ALL_LABELS else self._facts.compared[comparison][2]
        entries = legend(self._facts, self._look)
        return lines.legend_line(entries, lines.shown(prefix, self._look.style), not prefix, width, self._look.style)

    def _status(self, width: int) -> Row:
        facts, viewport = self._facts, self._viewport()
        if facts is None or viewport is None:
            return lines.fitted("", width, self._look.style, _NOTICE)
        voxel = self._pointed()
        parts = [" ".join(f"{axis} {at}" for axis, at in zip("zyx", voxel, strict=True))]
        if self._values is not None and self._values[0] == voxel:
            parts += lines.value_text(facts, self._values[1])
        if any(layer.probability for layer in facts.layers):
            parts.append(f"threshold {self._look.threshold:g}")
        parts.append(f"zoom {viewport.zoom:.2g}" if viewport.zoom > 1 else "")
        if self._look.span is not None:
            parts.append(f"contrast {lines.number(self._look.span[0])} to {lines.number(self._look.span[1])}")
        if self._picture is not None and self._picture.data.sampled:
            parts.append("sampled")
        return lines.status_line(parts, width, self._look.style)

    def _refresh_row(self, row: int) -> None:
        width, height = self.size
        self.refresh(Region(0, row % max(1, height), width, 1))


def _carry_out(job: _Job, shown: Picture | None) -> Picture | SliceFacts:
    """Read and draw, in a thread.

    Args:
        shown: The picture on the screen: what it was made from is used again where it will do.
    """
    if job.part is None or job.viewport is None:
        return job.source.facts()
    known = shown is not None and shown.source is job.source and shown.data.part == job.part
    if shown is not None and known and set(job.layers) <= set(shown.data.masks):
        data = shown.data
    else:
        data = job.source.read(job.part, job.layers)
    return make_picture(job.source, data, job.look, job.viewport, None if shown is None else shown.span, job.follow)


def _slice_number(text: str, count: int) -> int | None:
    """The slice that somebody typed: a number, or a percentage; None if it is neither."""
    text = text.strip()
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            return round(min(max(0.0, share), 1.0) * (count - 1))
        return int(text)
    except (ValueError, OverflowError):
        return None


def _encoding() -> str:
    """What the terminal understands, as far as the locale tells.

    Python calls the C locale UTF-8, and changes LC_CTYPE to say so; the terminal knows nothing of that.
    """
    ctype, lang = os.environ.get("LC_CTYPE", ""), os.environ.get("LANG", "")
    if ctype == "C.UTF-8" and lang in ("C", "POSIX"):
        ctype = ""
    chosen = os.environ.get("LC_ALL") or ctype or lang or "C.UTF-8"
    return "utf-8" if chosen.lower().replace("-", "").endswith("utf8") else "ascii"


def _wrapped(text: str, width: int) -> list[str]:
    return [line for part in text.split("\\n") for line in textwrap.wrap(part, width) or [""]]
