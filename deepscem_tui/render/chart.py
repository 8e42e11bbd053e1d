"""A line chart as text: braille in colour, or letters where there is only ASCII.

Drawn here rather than with plotext, which keeps its figure in the module's state and has no letters for lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from deepscem_tui.engine.words import acts
from deepscem_tui.render.marks import marks_of

__all__ = ["Chart", "Series", "draw_chart", "shown", "smoothed"]

Floats = npt.NDArray[np.float64]

_DASHES = (None, (6, 3), (2, 2), (8, 2, 2, 2))  # dots drawn and left out, by turns; None for a whole line
_DASH_SAMPLES = ("━━━━", "━━╸╺", "╍╍╍╍", "━╸╺╸")
_ASCII_MARKS = "*o+x#%@&"
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a braille cell, (4, 2)
_LARGEST = 1e100  # what is larger, or no number, is left out
_FAINT = Style(dim=True)
_PLAIN = Style()


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Args:
        name: As the legend shows it.
        points: (x, y), ascending in x; a y that is no number leaves a gap.
        colour: Red, green, blue; chosen by its place if not given. Lines differ in their dashes or letters too.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Args:
        log: Logarithmic y; what is not above 0 is left out.
        smoothing: 0 to below 1, see :func:`smoothed`; the lines as they are lie faintly below.
        x_range, y_range: Chosen to show everything where they are None.
    """

    series: Sequence[Series] = field(default_factory=tuple)
    title: str = ""
    x_name: str = ""
    log: bool = False
    smoothing: float = 0.0
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


def smoothed(values: Floats, weight: float) -> Floats:
    """The exponential mean of TensorBoard, without its bias towards the start; gaps stay gaps.

    Args:
        values: In order.
        weight: Of what came before, 0 to below 1.
    """
    result = np.full(len(values), np.nan)
    mean, share = 0.0, 1.0
    for index, value in enumerate(values.tolist()):
        if math.isfinite(value):
            mean = weight * mean + (1 - weight) * value
            share *= weight
            result[index] = mean / (1 - share)
    return result


def shown(text: str, ascii_only: bool = False) -> str:
    """A text of others in one line: what could move the cursor or change colours is replaced by ``?``."""
    return "".join(c if not acts(c) and (c.isascii() or not ascii_only) else "?" for c in text)


def draw_chart(chart: Chart, width: int, height: int, ascii_only: bool = False, colour: bool = True) -> Text:
    """A chart in so many cells: ``height`` lines of ``width`` cells.

    Args:
        ascii_only: Letters in place of braille and box characters, and no colours.
        colour: Whether the terminal has colours.
    """
    width, height = max(8, width), max(3, height)
    lines = [_Line(series, index, chart) for index, series in enumerate(chart.series)]
    window = _window(chart, lines)
    header = _header(chart, width, ascii_only, colour)
    if window is None:
        empty = [Text(shown("nothing to show yet"[:width]), style=_FAINT)]
        return _joined([*header, *empty], width, height)
    rows = height - len(header) - (2 if height - len(header) >= 5 else 1 if height - len(header) >= 3 else 0)
    x_low, x_high, y_low, y_high = window
    y_ticks = _ticks(y_low, y_high, max(2, min(rows // 3 + 1, 8)), chart.log)
    margin = min(max(cell_len(label) for _, label in y_ticks), width // 3)
    plot = _Plot(width - margin - 1, rows, window, chart.log)
    for line in lines:
        plot.add(line, ascii_only)
    body = plot.rows(ascii_only, colour)
    labels = {plot.row_of(value): label for value, label in y_ticks}
    bar, corner, rule, tick = ("|", "+", "-", "+") if ascii_only else ("│", "└", "─", "┤")
    text = [*header]
    for row, cells in enumerate(body):
        label = labels.get(row, "")[:margin].rjust(margin)
        text.append(Text.assemble((label, _FAINT), (tick if row in labels else bar, _FAINT), cells))
    left = height - len(text)
    if left:
        x_labels = _x_labels(x_low, x_high, plot.columns, chart.x_name)
        if left > 1:
            text.append(Text(" " * margin + corner + rule * plot.columns, style=_FAINT))
        text.append(Text(" " * (margin + 1) + shown(x_labels, ascii_only), style=_FAINT))
    return _joined(text, width, height)


class _Line:
    """A series prepared: its points, smooth and raw, and how it is drawn."""

    def __init__(self, series: Series, index: int, chart: Chart) -> None:
        points = np.array(series.points, np.float64).reshape(-1, 2)
        points = np.where(np.abs(points) < _LARGEST, points, np.nan)
        self.x, y = points[:, 0], points[:, 1]
        if chart.log:
            y = np.where(y > 0, y, np.nan)
        self.raw = y
        self.y = smoothed(y, chart.smoothing) if chart.smoothing > 0 else y
        self.smooth = chart.smoothing > 0
        if chart.log:
            self.raw, self.y = np.log10(self.raw), np.log10(self.y)
        self.dash = _DASHES[index % len(_DASHES)]
        self.mark = _ASCII_MARKS[index % len(_ASCII_MARKS)]
        self.colour = series.colour or _colour_of(index)


def _colour_of(index: int) -> tuple[int, int, int]:
    return marks_of(index + 1)[index].colour


def _style(rgb: tuple[int, int, int]) -> Style:
    return Style(color=f"rgb({rgb[0]},{rgb[1]},{rgb[2]})")


# ------------------------------------------------------------------------------------------------ what is shown


def _window(chart: Chart, lines: Sequence[_Line]) -> tuple[float, float, float, float] | None:
    """Range of x and of y (of its logarithm on a logarithmic scale); None if there is nothing."""
    seen = [np.isfinite(line.x) & np.isfinite(line.raw) for line in lines]
    x = np.concatenate([line.x[some] for line, some in zip(lines, seen, strict=True)] or [np.zeros(0)])
    y = np.concatenate([line.raw[some] for line, some in zip(lines, seen, strict=True)] or [np.zeros(0)])
    if not len(x):
        return None
    x_low, x_high = chart.x_range or (float(x.min()), float(x.max()))
    inside = y[(x >= x_low) & (x <= x_high)]
    if chart.y_range is not None:
        ends = np.array(chart.y_range, np.float64)
        low, high = (float(v) for v in (np.log10(np.maximum(ends, 1e-300)) if chart.log else ends))
    elif len(inside):
        low, high = float(inside.min()), float(inside.max())
        if len(inside) > 200:  # of a noisy loss a few outliers would flatten all the rest
            low, high = (float(v) for v in np.percentile(inside, (0, 99.5)))
    else:
        low, high = 0.0, 1.0
    if x_high - x_low < 1e-12 * max(1.0, abs(x_low)):
        x_high = x_low + max(1.0, abs(x_low))
    if high - low < 1e-12 * max(1.0, abs(low)):
        spread = max(abs(low) * 0.1, 1e-3) if not chart.log else 0.5
        low, high = low - spread, high + spread
    return x_low, x_high, low, high


def _ticks(low: float, high: float, most: int, log: bool) -> list[tuple[float, str]]:
    """Round values between two ends (logarithms on a logarithmic scale) and their labels: two at least, if any are."""
    found: list[tuple[float, str]] = []
    if log:
        powers = range(math.floor(low) - 1, math.ceil(high) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
            values = [power + math.log10(factor) for power in powers for factor in factors]
            inside = [value for value in values if low <= value <= high]
            if len(inside) > most and len(found) >= 2:
                break
            found = [(value, _number(10**value)) for value in inside[:: math.ceil(len(inside) / most) or 1]]
        return found or [(low, _number(10**low))]
    power = 10.0 ** math.ceil(math.log10(high - low))
    for step in (power * part for part in (1, 0.5, 0.2, 0.1, 0.05, 0.02)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 > most and len(found) >= 2:
            break
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        values = [index * step for index in range(first, last + 1)]
        fixed = digits <= 6 and max(abs(low), abs(high)) < 1e6
        found = [(value, f"{value:.{digits}f}" if fixed else _number(value)) for value in values]
    return found or [(low, _number(low))]


def _number(value: float) -> str:
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def _x_labels(low: float, high: float, columns: int, name: str) -> str:
    """The line below the x axis: round values at their places, and what x is."""
    line = [" "] * columns
    name = name if columns >= len(name) + 12 else ""
    room = columns - (len(name) + 1 if name else 0)
    for value, label in _ticks(low, high, max(2, min(8, columns // 10)), log=False):
        column = round((value - low) / (high - low) * (columns - 1))
        start = min(max(0, column - len(label) // 2), max(0, columns - len(label)))
        before = line[max(0, start - 1) : start + len(label) + 1]
        if start + len(label) <= room and not "".join(before).strip():
            line[start : start + len(label)] = label
    text = "".join(line)
    return text[: columns - len(name)] + name if name else text


def _header(chart: Chart, width: int, ascii_only: bool, colour: bool) -> list[Text]:
    """Title and legend, in one line where they fit."""
    legend = Text()
    for index, series in enumerate(chart.series):
        if legend:
            legend.append("  ", _PLAIN)
        sample = _ASCII_MARKS[index % len(_ASCII_MARKS)] if ascii_only else _DASH_SAMPLES[index % len(_DASHES)]
        style = _style(series.colour or _colour_of(index)) if colour and not ascii_only else _PLAIN
        legend.append(sample, style)
        legend.append(f" {shown(series.name, ascii_only)}", _PLAIN)
    title = shown(chart.title, ascii_only)
    scale = " (log)" if chart.log and title else ""
    head = Text(f"{title}{scale}", style=Style(bold=True))
    gap = "  " if title else ""
    if cell_len(head.plain) + len(gap) + cell_len(legend.plain) <= width:
        line = Text.assemble(head, (gap, _PLAIN), legend)
        return [line] if line.plain else []
    return [line for line in (head, legend) if line.plain]


def _joined(lines: list[Text], width: int, height: int) -> Text:
    """Exactly so many lines of exactly that width."""
    result = Text(no_wrap=True, end="")
    for index in range(height):
        line = lines[index].copy() if index < len(lines) else Text()
        line.truncate(width, overflow="crop")
        line.append(" " * (width - cell_len(line.plain)), _PLAIN)
        result.append_text(line)
        if index < height - 1:
            result.append("\n")
    return result


# ------------------------------------------------------------------------------------------------ drawing


class _Plot:
    """A grid of cells with lines on it."""

    def __init__(self, columns: int, rows: int, window: tuple[float, float, float, float], log: bool) -> None:
        self.columns, self._rows = max(1, columns), max(1, rows)
        self._window, self._log = window, log
        self._layers: list[tuple[npt.NDArray[np.bool_], _Line, bool]] = []  # dots (Y, X), whose, whether faint

    def row_of(self, y: float) -> int:
        """The row of cells in which a value lies."""
        _, _, low, high = self._window
        return round((high - y) / (high - low) * (4 * self._rows - 1)) // 4

    def add(self, line: _Line, ascii_only: bool) -> None:
        fine = (1, 1) if ascii_only else (4, 2)
        if line.smooth and not ascii_only:
            self._layers.append((self._dots(line.x, line.raw, None, fine), line, True))
        self._layers.append((self._dots(line.x, line.y, None if ascii_only else line.dash, fine), line, False))

    def _dots(self, x: Floats, y: Floats, dash: tuple[int, ...] | None, fine: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """The dots of a line, (rows x 4, columns x 2) or one a cell."""
        height, width = self._rows * fine[0], self.columns * fine[1]
        dots = np.zeros((height, width), bool)
        x_low, x_high, y_low, y_high = self._window
        across = (x - x_low) / (x_high - x_low) * (width - 1)
        down = (y_high - y) / (y_high - y_low) * (height - 1)
        seen = np.isfinite(across) & np.isfinite(down)
        pairs = np.flatnonzero(seen[1:] & seen[:-1])
        _segments(dots, across[pairs], down[pairs], across[pairs + 1], down[pairs + 1], dash)
        before, after = np.r_[False, seen[:-1]], np.r_[seen[1:], False]
        alone = seen & ~before & ~after
        _segments(dots, across[alone], down[alone], across[alone], down[alone], None)
        return dots

    def rows(self, ascii_only: bool, colour: bool) -> list[Text]:
        """The lines, the last on top, one text a row of cells."""
        owner = np.full((self._rows, self.columns), -1)
        pattern = np.zeros((self._rows, self.columns), int)
        order = sorted(range(len(self._layers)), key=lambda index: not self._layers[index][2])  # faint ones below
        for index in order:
            dots = self._layers[index][0]
            cells = dots if ascii_only else dots.reshape(self._rows, 4, self.columns, 2).swapaxes(1, 2)
            bits = cells.astype(int) if ascii_only else (cells * _DOTS).sum(axis=(2, 3))
            hit = bits > 0
            over_faint = hit & (owner >= 0) & np.isin(owner, [i for i in order if self._layers[i][2]])
            fresh = hit if ascii_only else hit & (over_faint | (owner < 0))
            pattern = np.where(fresh, bits, np.where(hit, pattern | bits, pattern))
            owner[hit] = index
        return [self._row(owner[row], pattern[row], ascii_only, colour) for row in range(self._rows)]

    def _row(self, owner: npt.NDArray[np.int_], pattern: npt.NDArray[np.int_], ascii_only: bool, colour: bool) -> Text:
        text = Text()
        begin = 0
        for end in [*(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(owner)]:
            who = int(owner[begin])
            if who < 0:
                text.append(" " * (end - begin), _PLAIN)
            else:
                _, line, faint = self._layers[who]
                cells = line.mark * (end - begin) if ascii_only else "".join(map(_braille, pattern[begin:end].tolist()))
                text.append(cells, _FAINT if faint else _style(line.colour) if colour and not ascii_only else _PLAIN)
            begin = end
        return text


def _braille(bits: int) -> str:
    return chr(0x2800 + bits)


def _segments(
    dots: npt.NDArray[np.bool_], x0: Floats, y0: Floats, x1: Floats, y1: Floats, dash: tuple[int, ...] | None
) -> None:
    """Draw straight lines, what of them lies on the grid; dashes go on across bends."""
    height, width = dots.shape
    near = (np.maximum(x0, x1) >= -1) & (np.minimum(x0, x1) <= width)
    x0, x1 = np.clip(x0[near], -width, 2 * width), np.clip(x1[near], -width, 2 * width)
    y0, y1 = np.clip(y0[near], -1, height), np.clip(y1[near], -1, height)  # beyond the grid: along its edge, not drawn
    steps = np.maximum(np.abs(x1 - x0), np.abs(y1 - y0)).astype(int) + 1
    which = np.repeat(np.arange(len(steps)), steps + 1)
    starts = np.cumsum(steps + 1) - (steps + 1)
    along = (np.arange(len(which)) - starts[which]) / steps[which]
    columns = np.rint(x0[which] + along * (x1 - x0)[which]).astype(int)
    rows = np.rint(y0[which] + along * (y1 - y0)[which]).astype(int)
    keep = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    if dash is not None:
        place = np.cumsum(np.maximum(np.abs(np.diff(columns, prepend=0)), np.abs(np.diff(rows, prepend=0))))
        keep &= np.searchsorted(np.cumsum(dash), place % sum(dash), side="right") % 2 == 0
    dots[rows[keep], columns[keep]] = True
