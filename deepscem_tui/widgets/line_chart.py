"""Lines over time or over thresholds: log scale, smoothing and range are one key each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from deepscem_tui.render.chart import Chart, Series, draw_chart

__all__ = ["Cells", "LineChart", "strips"]

_SMOOTHINGS = (0.0, 0.6, 0.9, 0.98)
_RANGES = (1.0, 0.5, 0.25, 0.1)  # shares of x, up to its end


def strips(text: Text, width: int, base: Style) -> list[Strip]:
    """The lines of a text as strips of a width; every segment has a style."""
    found = []
    for line in text.split("\n"):
        segments = [Segment(line.plain, base)] if not line.spans and not line.style else []
        if not segments:
            line.end = ""
            own = line.style if isinstance(line.style, Style) else Style()
            borders = sorted({0, len(line), *(place for span in line.spans for place in (span.start, span.end))})
            for start, end in pairwise(borders):
                style = base + own
                for span in line.spans:
                    if span.start <= start and end <= span.end and isinstance(span.style, Style):
                        style += span.style
                segments.append(Segment(line.plain[start:end], style))
        found.append(Strip(segments).adjust_cell_length(width, base))
    return found


class Cells(Widget):
    """Draws what a function gives for its size, on one line or more; never scrolls."""

    def __init__(self, draw: Callable[[int, int], Text], *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._draw = draw
        self._strips: list[Strip] | None = None

    def redraw(self) -> None:
        """Ask the function again."""
        self._strips = None
        self.refresh()

    def on_resize(self) -> None:
        self.redraw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if self._strips is None:
            self._strips = strips(self._draw(width, height), width, self.rich_style)
        return self._strips[y] if y < len(self._strips) else Strip.blank(width, self.rich_style)


class LineChart(Widget, can_focus=True):
    """A chart of several lines. It is drawn in a thread, so that long lines do not keep the application waiting."""

    HELP = """
    ## Chart

    Curves over epochs, each with a dash pattern (or letter) of its own besides its colour.

    - `y` switches between a linear and a logarithmic scale.
    - `w` smooths more, then not at all again; the curve as it is stays faintly visible.
    - `r` shows all of it, its last half, quarter or tenth.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "log", "Scale", tooltip="Logarithmic or linear scale"),
        Binding("w", "smooth", "Smooth", tooltip="Smooth the curves more, or not at all"),
        Binding("r", "range", "Range", tooltip="All of it, or its last half, quarter or tenth"),
    ]

    DEFAULT_CSS = """
    LineChart { height: 1fr; min-height: 3; border-left: blank; }
    LineChart:focus { border-left: outer $accent; }
    """

    def __init__(self, title: str = "", x_name: str = "", *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._chart = Chart(title=title, x_name=x_name)
        self._part = 0
        self._wanted = self._drawn = 0
        self._drawing = False
        self._text = Text()
        self._strips: list[Strip] | None = None

    def set_series(self, series: Sequence[Series]) -> None:
        """Show other lines; nothing is drawn if they are what is shown."""
        if tuple(series) != self._chart.series:
            self._change(replace(self._chart, series=tuple(series)))

    def set_titles(self, title: str, x_name: str) -> None:
        self._change(replace(self._chart, title=title, x_name=x_name))

    def action_log(self) -> None:
        self._change(replace(self._chart, log=not self._chart.log))

    def action_smooth(self) -> None:
        place = _SMOOTHINGS.index(self._chart.smoothing)
        self._change(replace(self._chart, smoothing=_SMOOTHINGS[(place + 1) % len(_SMOOTHINGS)]))

    def action_range(self) -> None:
        self._part = (self._part + 1) % len(_RANGES)
        self._change(self._chart)

    # ---------------------------------------------------------------------------------------------- drawing

    def _change(self, chart: Chart) -> None:
        self._chart = chart
        self._wanted += 1
        if not self._drawing and self.is_mounted and self.size.width and self.display:
            self._drawing = True
            self.run_worker(self._draw_newest(), group="draw", exit_on_error=True)

    async def _draw_newest(self) -> None:
        try:
            while self._drawn != self._wanted:
                self._drawn = self._wanted
                width, height = self.size
                ascii_only, colour = bool(getattr(self.app, "ascii_only", False)), not self.app.no_color
                chart = replace(self._chart, x_range=self._x_range(), title=self._described())
                self._text = await asyncio.to_thread(draw_chart, chart, width, height, ascii_only, colour)
                self._strips = None
                self.refresh()
        finally:
            self._drawing = False

    def _x_range(self) -> tuple[float, float] | None:
        ends = [series.points[place][0] for series in self._chart.series if series.points for place in (0, -1)]
        if not ends or self._part == 0:
            return None
        low, high = min(ends), max(ends)
        return high - (high - low) * _RANGES[self._part], high

    def _described(self) -> str:
        """The title, and how it is shown where that is not as usual."""
        smooth = f" smooth {self._chart.smoothing:g}" if self._chart.smoothing else ""
        part = f" last {100 * _RANGES[self._part]:.0f} %" if self._part else ""
        return f"{self._chart.title}{smooth}{part}"

    def on_resize(self) -> None:
        self._change(self._chart)

    def on_show(self) -> None:
        self._change(self._chart)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if self._strips is None:
            self._strips = strips(self._text, width, self.rich_style)
        return self._strips[y] if y < len(self._strips) else Strip.blank(width, self.rich_style)
