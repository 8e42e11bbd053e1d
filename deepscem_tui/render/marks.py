"""How masks are told apart: by hue, by pattern, and by letter where there is no colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.render.sampling import edge

Grid = npt.NDArray[Any]


@dataclass(frozen=True)
class Pattern:
    """Which pixels of a mask's edge and of its inside are drawn, from their row and column."""

    name: str
    edge: Callable[[Grid, Grid], Grid]
    inside: Callable[[Grid, Grid], Grid]


@dataclass(frozen=True)
class Mark:
    """How one mask is drawn: a colour (red, green, blue), a pattern, and a letter."""

    colour: tuple[int, int, int]
    pattern: Pattern
    letter: str


def _all(y: Grid, x: Grid) -> Grid:
    return np.asarray((y + x) >= 0)


def _none(y: Grid, x: Grid) -> Grid:
    return np.asarray((y + x) < 0)


_OUTLINE = Pattern("outline", _all, _none)
_STRIPES = Pattern("stripes", lambda y, x: (y + x) % 4 != 3, lambda y, x: (y + x) % 4 == 0)
_DOTS = Pattern("dots", lambda y, x: (y + x) % 2 == 0, lambda y, x: (y % 3 == 1) & (x % 3 == 1))
_BARS = Pattern("bars", _all, lambda y, _: y % 4 == 0)
_SOLID = Pattern("solid", _all, _all)
_PATTERNS = (_OUTLINE, _STRIPES, _DOTS, _BARS, _SOLID)

# Colours that colour-blind people can tell apart: Okabe and Ito, "Color universal design", 2008.
_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

_HATCH = Pattern("hatched", lambda y, x: (y - x) % 3 == 0, lambda y, x: (y - x) % 3 == 0)

IGNORED = Mark((150, 150, 175), _HATCH, "/")
HIT = Mark((0, 158, 115), _OUTLINE, "H")
MISS = Mark((230, 159, 0), _SOLID, "M")
FALSE_ALARM = Mark((204, 121, 167), _STRIPES, "F")


def marks_of(number: int) -> Sequence[Mark]:
    """A mark for each of so many labels; no two of the first 35 share both colour and pattern."""
    return [
        Mark(_COLOURS[k % len(_COLOURS)], _PATTERNS[k % len(_PATTERNS)], _LETTERS[k % len(_LETTERS)])
        for k in range(number)
    ]


def drawn(mask: npt.NDArray[np.bool_], pattern: Pattern) -> npt.NDArray[np.bool_]:
    """The pixels (Y, X) that a pattern draws of a mask."""
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    border = edge(mask)
    result: npt.NDArray[np.bool_] = (border & pattern.edge(y, x)) | (mask & ~border & pattern.inside(y, x))
    return result
