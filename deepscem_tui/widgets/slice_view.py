"""The slice view: a volume looked at slice by slice in the terminal, with labels and predictions on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import AXES, Plane
from deepscem_tui.engine.errors import EngineError
from deepscem_tui.render.scenes import PictureStyle
from deepscem_tui.texts import one_line
from deepscem_tui.widgets.slice_canvas import SliceCanvas
from deepscem_tui.widgets.slice_picture import ALL_LABELS, Picture, save_png, thresholds

__all__ = ["SliceView"]

_PLANES: tuple[Plane, ...] = ("xy", "xz", "yz")
_ZOOM = 1.5
_FAR = 10
_SLICE, _ZOOMING = Binding.Group("Slice", compact=True), Binding.Group("Zoom", compact=True)


class _SliceNumber(Input):
    """Where the number of a slice is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Go there", tooltip="Show the slice of this number"),
        Binding("escape", "leave", "Back", tooltip="Stay at this slice"),
    ]

    def action_leave(self) -> None:
        view = self.parent
        assert isinstance(view, SliceView)
        view.focus()


class SliceView(SliceCanvas, can_focus=True):
    """A slice of a volume, moved through, zoomed and compared with keys or the mouse.

    Arguments and what can be shown: see :class:`SliceReading`.
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
        Binding(
            "full_stop,j",
            "step(1)",
            "Next slice",
            key_display=".",
            group=_SLICE,
            tooltip="Next slice (or j, or the mouse wheel)",
        ),
        Binding(
            "comma,k",
            "step(-1)",
            "Previous slice",
            key_display=",",
            group=_SLICE,
            tooltip="Previous slice (or k, or the wheel)",
        ),
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
        Binding(
            "plus,equals_sign",
            "zoom(1)",
            "Zoom in",
            key_display="+",
            group=_ZOOMING,
            tooltip="Larger, about the cursor",
        ),
        Binding("minus", "zoom(-1)", "Zoom out", key_display="-", group=_ZOOMING, tooltip="Smaller, about the cursor"),
        Binding("0", "fit", "Fit", show=False, tooltip="Show the whole slice"),
        Binding("s", "save", "PNG", tooltip="Save what is shown as a PNG file at full resolution"),
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
    ]

    class Saved(Message):
        """A screenshot was written."""

        def __init__(self, path: Path) -> None:
            self.path = path
            super().__init__()

    def compose(self) -> ComposeResult:
        yield _SliceNumber(compact=True, select_on_focus=False)

    def fits(self, action: str) -> bool:  # noqa: ARG002
        """Whether a key means something: while a slice is asked for, letters and signs are for typing."""
        return self.screen.focused is not self.query_one(Input)

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
        if index != self.index:
            self._say(f"There is no slice {index}: this is the {'last' if index > 0 else 'first'} one, {self.index}")

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
        keys = frozenset(layer.key for layer in self._facts.layers if layer.usual)
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
        limits = thresholds(self._facts, self._look)
        if not limits:
            self._say("There are no probabilities here: masks have no threshold")
            return
        threshold = min(max(0.05, round(limits[0] + 0.05 * direction, 2)), 0.95)
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

    def draw_as(self, style: PictureStyle) -> None:
        """Draw with half blocks or with characters from now on."""
        self._change(replace(self._look, style=style))

    def action_save(self) -> None:
        if self._picture is None:
            self._say("There is no picture to save")
            return
        self.run_worker(self._save(self._picture), group="screenshot")

    async def _save(self, picture: Picture) -> None:
        part = picture.data.part
        axis = "zyx"[AXES[part.plane][0]]
        name = words.file_name(picture.data.facts.title or "slice")
        if picture.data.facts.shape[0] > 1:
            name += f"_{part.plane}_{axis}{part.index:04d}"
        try:
            path = await asyncio.to_thread(save_png, picture, self._folder or Path.cwd(), name)
        except MemoryError:
            self.notify("There is not enough memory for the picture: zoom in first", severity="error", markup=False)
            return
        except EngineError as error:
            self.notify(one_line(str(error)), severity="error", markup=False)
            return
        self.notify(f"Saved {one_line(path.name)}", markup=False)
        self.post_message(self.Saved(path))

    def _say(self, text: str) -> None:
        """Why a key does nothing."""
        self.notify(one_line(text), severity="warning", timeout=4, markup=False)

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
