"""Slices drawn in the terminal, with a line above that says where they are and two below."""

from __future__ import annotations

import os
import textwrap
from dataclasses import replace

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from deepscem_tui.engine.axes import AXES
from deepscem_tui.engine.formats.tiff_metadata import METRES
from deepscem_tui.render.cells import Row, with_cursor
from deepscem_tui.render.scenes import PictureStyle, choose_style
from deepscem_tui.texts import one_line
from deepscem_tui.widgets import slice_lines as lines
from deepscem_tui.widgets.slice_picture import ALL_LABELS, legend, thresholds
from deepscem_tui.widgets.slice_reading import SliceReading

__all__ = ["SliceCanvas"]

_NOTICE = Style(bold=True)
_SCREEN = Style(color="#ffffff", bgcolor="#000000")  # of a picture in characters, whatever the theme


class SliceCanvas(SliceReading):
    """A slice of a volume as it is seen, without keys."""

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
        picture, notice = self._picture, self._notice_lines(width)
        if row < len(notice):
            return lines.fitted(f" {notice[row]}", width, base + _NOTICE)
        if picture is None:
            return [Segment(" " * width, base)]
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

    def _notice_lines(self, width: int) -> list[str]:
        """What there is to say instead of a picture, or above the one of before."""
        if self._source is None:
            return ["Nothing to show"]
        return _wrapped(one_line(self._notice), max(1, width - 2)) if self._notice else []

    def _header(self, width: int) -> Row:
        facts = self._facts
        if facts is None:
            return lines.fitted("reading ..." if self.has_class("-reading") else "", width, _NOTICE)
        fixed = AXES[self._plane][0]
        title = facts.title + (" reading ..." if self.has_class("-reading") else "")
        return lines.header(
            title, self._plane, "zyx"[fixed], self.index, facts.shape[fixed], width, self._look.style, self.has_focus
        )  # fmt: skip

    def _legend(self, width: int) -> Row:
        assert self._facts is not None
        prefix, comparison = "", self._look.comparison
        if comparison is not None:
            prefix = "all labels" if comparison == ALL_LABELS else self._facts.compared[comparison][2]
        entries = legend(self._facts, self._look)
        return lines.legend_line(entries, one_line(prefix), not prefix, width, self._look.style, self._scale_bar())

    def _scale_bar(self) -> str:
        """A bar of a round length along the columns that are shown; empty where nobody knows how large voxels are."""
        facts, viewport = self._facts, self._viewport()
        if facts is None or viewport is None or not facts.voxel_size or facts.voxel_unit not in METRES:
            return ""
        left, right = viewport.columns
        voxel = facts.voxel_size[AXES[self._plane][2]] * METRES[facts.voxel_unit]
        return lines.scale_bar(voxel * (right - left) / viewport.shape[1], self._look.style)

    def _status(self, width: int) -> Row:
        facts, viewport = self._facts, self._viewport()
        if facts is None or viewport is None:
            return lines.fitted("", width, _NOTICE)
        voxel = self._pointed()
        axes = list(zip("zyx", voxel, strict=True))[facts.shape[0] == 1 :]  # no z where there is one slice only
        place = " ".join(f"{axis} {at}" for axis, at in axes)
        rest = []
        if limits := thresholds(facts, self._look):
            rest.append(f"threshold {' '.join(f'{limit:.3g}' for limit in limits)}")
        if viewport.zoom > 1:
            rest.append(f"zoom {viewport.zoom:.2g}")
        if self._look.span is not None:
            rest.append(f"contrast {lines.number(self._look.span[0])} to {lines.number(self._look.span[1])}")
        if self._picture is not None and self._picture.data.sampled:
            rest.append("sampled")
        values = self._values[1] if self._values is not None and self._values[0] == voxel else {}
        parts = [place, *lines.value_text(facts, values, short=False), *rest]
        if len("  ".join(parts)) > width:
            parts = [place, *lines.value_text(facts, values, short=True), *rest]
        return lines.status_line(parts, width)


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
    return [line for part in text.split("\\n") for line in textwrap.wrap(part, width)]
