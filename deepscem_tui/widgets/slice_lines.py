"""The lines around a slice: what it is, where in the volume, what the marks mean, what is under the cursor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from deepscem_tui.engine.formats.tiff_metadata import METRES
from deepscem_tui.engine.viewing.slices import SliceFacts
from deepscem_tui.render.cells import Row, solid
from deepscem_tui.render.scenes import PictureStyle
from deepscem_tui.texts import one_line
from deepscem_tui.widgets.slice_picture import Legend

__all__ = ["fitted", "gauge", "header", "legend_line", "number", "scale_bar", "status_line", "value_text"]

_GAUGE = 20
_BAR = 24  # cells of a scale bar, at most
_SHORTEST = 4  # name in the legend
_TITLE = 8  # cells that are left to it however narrow the line is
_BOLD, _FOCUSED, _DIM = Style(bold=True), Style(bold=True, reverse=True), Style(dim=True)


def number(value: float) -> str:
    """A voxel's value, short."""
    return f"{value:.4g}"


def gauge(index: int, count: int, width: int, style: PictureStyle) -> str:
    """Where a slice lies among all of them."""
    line, mark = ("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "\N{FULL BLOCK}") if style == "blocks" else ("-", "#")
    at = round(index * (width - 1) / (count - 1)) if count > 1 else 0
    return line * at + mark + line * (width - 1 - at)


def header(
    title: str, plane: str, axis: str, index: int, count: int, width: int, style: PictureStyle, focused: bool
) -> Row:
    """Name, plane, and which slice."""
    where = f" {plane} {axis} {index} (0-{count - 1})" if count > 1 else ""
    title = one_line(title)
    room = width - len(where) - max(_TITLE, min(cell_len(title), 24)) - 2
    bar = " " + gauge(index, count, min(_GAUGE, room), style) if count > 1 and room >= 5 else ""
    left = max(0, width - len(where) - len(bar))
    name = title if cell_len(title) <= left else set_cell_size(title, left)
    rest = Segment(" " * (left - cell_len(name)), Style())
    return _cut(
        [Segment(name, _FOCUSED if focused else _BOLD), rest, Segment(bar, _DIM), Segment(where, Style())], width
    )


def scale_bar(metres: float, style: PictureStyle) -> str:
    """A bar and the length that it stands for, a round one.

    Args:
        metres: That a cell is wide.
    """
    longest = _BAR * metres
    power = 10.0 ** math.floor(math.log10(longest))
    length = next(step * power for step in (5, 2, 1) if step * power <= longest * (1 + 1e-9))
    unit = next((name for name in ("m", "mm", "µm", "nm") if length >= METRES[name] * (1 - 1e-9)), "pm")
    ends, line = (("\N{BOX DRAWINGS LIGHT VERTICAL AND RIGHT}", "\N{BOX DRAWINGS LIGHT VERTICAL AND LEFT}"),
                  "\N{BOX DRAWINGS LIGHT HORIZONTAL}") if style == "blocks" else (("|", "|"), "-")  # fmt: skip
    cells = max(2, round(length / metres))
    return f"{ends[0]}{line * (cells - 2)}{ends[1]} {length / METRES[unit]:.3g} {unit}"


def legend_line(
    entries: Sequence[Legend], prefix: str, numbered: bool, width: int, style: PictureStyle, bar: str = ""
) -> Row:
    """What the marks mean; layers that are off are in brackets. Names are cut where they do not all fit.

    Args:
        bar: A scale bar for the right end; left out where it would take more than half of the line.
    """
    if bar and 2 * (cell_len(bar) + 1) <= width:
        left = legend_line(entries, prefix, numbered, width - cell_len(bar) - 1, style)
        return [*left, Segment(f" {bar}", Style())]
    names = [one_line(entry.name) for entry in entries]
    row = _entries(entries, names, prefix, numbered, style)
    over = sum(cell_len(segment.text) for segment in row) - width
    if over > 0 and names:
        longest = max(_SHORTEST, max(map(cell_len, names)) - -(-over // len(names)))
        while longest > _SHORTEST and sum(max(0, cell_len(name) - longest) for name in names) < over:
            longest -= 1
        names = [name if cell_len(name) <= longest else set_cell_size(name, longest) for name in names]
        row = _entries(entries, names, prefix, numbered, style)
    return _cut(row, width)


def _entries(entries: Sequence[Legend], names: Sequence[str], prefix: str, numbered: bool, style: PictureStyle) -> Row:
    row = [Segment(prefix, _BOLD)] if prefix else []
    for index, (entry, name) in enumerate(zip(entries, names, strict=True), 1):
        if row:
            row.append(Segment("  ", Style()))
        row.append(Segment(f"{index} " if numbered and index <= 9 else "", _BOLD))
        if style == "blocks" and entry.shown:
            row += [Segment("  ", solid(entry.mark.colour)), Segment(f" {name}", Style())]
        elif entry.shown:
            row.append(Segment(f"{entry.mark.letter}={name}", Style()))
        else:
            row.append(Segment(f"({name})", _DIM))
    return row


def value_text(facts: SliceFacts, values: Mapping[str, float], short: bool) -> list[str]:
    """Values under the cursor: of the image, and of the layers by their names, or numbers if ``short``."""
    parts = [f"image {number(values['image'])}"] if "image" in values else []
    for index, layer in enumerate(facts.layers, 1):
        if layer.key in values:
            value = values[layer.key]
            fractional = layer.probability or layer.kind == "distance"
            name = f"{index}:" if short else f"{layer.name} "
            parts.append(name + (f"{value:.3g}" if fractional else f"{value:.0f}"))
    return parts


def status_line(parts: Sequence[str], width: int) -> Row:
    """Facts beside each other, the most important first."""
    return _cut([Segment(one_line("  ".join(parts)), Style())], width)


def fitted(text: str, width: int, look: Style) -> Row:
    """One text in one line."""
    return _cut([Segment(one_line(text), look)], width)


def _cut(row: Row, width: int) -> Row:
    """A row of exactly so many cells."""
    return list(Segment.adjust_line_length(row, width, Style()))
