"""A scene as colours, and as rows of cells: fast enough to be drawn anew at every key.

Styles are kept, since making one takes as long as drawing ten cells with it; greys are rounded, which bounds their
number and joins cells that hardly differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from deepscem_tui.render.marks import FALSE_ALARM, HIT, IGNORED, MISS, drawn
from deepscem_tui.render.sampling import area_mean
from deepscem_tui.render.scenes import PictureStyle, Scene

__all__ = ["SHADES", "UPPER_HALF", "cells", "coloured", "solid", "with_cursor"]

Row = list[Segment]

UPPER_HALF = "\N{UPPER HALF BLOCK}"
SHADES = " .:-=+*#%@"
GREYS = 64  # that are told apart in a picture that changes; a still one may have all 256
_TINT = 0.2  # of the inside of a mask, so that it is seen where its pattern leaves the image free
_PLAIN = Style()
_LETTER = Style(bold=True)
_CURSOR = (255, 255, 0)


def cells(scene: Scene, style: PictureStyle, shape: tuple[int, int], greys: int = GREYS) -> list[Row]:
    """A scene as rows of segments, each with a style; neighbours that are equal are one segment.

    Args:
        shape: Pixels down (even) and across; a cell is as high as two pixels.
        greys: How many greys and tints of a colour are told apart.
    """
    return _blocks(coloured(scene, shape, greys)) if style == "blocks" else _characters(scene, shape)


def coloured(scene: Scene, shape: tuple[int, int], greys: int = 256) -> npt.NDArray[np.uint8]:
    """A scene as red, green and blue (Y, X, 3)."""
    grey = _grey(scene, shape)
    if greys < 256:
        grey = np.rint(grey * np.float32(greys - 1)) / np.float32(greys - 1)
    colours = np.repeat(grey[:, :, None] * np.float32(255), 3, axis=2)
    for small, mark in zip(scene.reduced(shape), scene.marks, strict=True):
        colour = np.array(mark.colour, np.float32)
        colours[small] = (1 - _TINT) * colours[small] + _TINT * colour
        colours[drawn(small, mark.pattern)] = colour
    return np.rint(colours).astype(np.uint8)


def with_cursor(row: Row, column: int, style: PictureStyle) -> Row:
    """A row of cells with a crosshair at one of them."""
    before: Row = []
    after: Row = []
    left = column
    mark = Segment("+", Style(reverse=True, bold=True))
    for segment in row:
        length = len(segment.text)
        if left >= length or left < 0:
            (before if left >= 0 else after).append(segment)
        else:
            cut = (segment.text[:left], segment.text[left + 1 :])
            before += [Segment(cut[0], segment.style)] if cut[0] else []
            after += [Segment(cut[1], segment.style)] if cut[1] else []
            if style == "blocks" and segment.style is not None:
                mark = Segment("\N{BOX DRAWINGS LIGHT VERTICAL AND HORIZONTAL}", _cursor_on(segment.style))
        left -= length
    return [*before, mark, *after]


@lru_cache(4096)
def solid(colour: tuple[int, int, int]) -> Style:
    """Text and background of one colour (red, green, blue)."""
    return Style(color=Color.from_rgb(*colour), bgcolor=Color.from_rgb(*colour))


def _grey(scene: Scene, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The image from 0 to 1 at the size of the picture."""
    full = np.float32(255 if scene.image.dtype == np.uint8 else 1)
    grey: npt.NDArray[np.float32] = np.clip(area_mean(scene.image, shape) / full, 0, 1)
    return grey


def _blocks(colours: npt.NDArray[np.uint8]) -> list[Row]:
    """Two pixels a cell: the upper one is the text's colour, the lower one its background."""
    wide = colours.astype(np.int64)
    codes = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    pairs = (codes[0::2] << 24) | codes[1::2]  # (rows, columns)
    rows = []
    for line in pairs:
        starts = np.flatnonzero(np.concatenate(([True], line[1:] != line[:-1])))
        lengths = np.diff(np.append(starts, len(line)))
        rows.append(list(map(_run, line[starts].tolist(), lengths.tolist())))
    return rows


def _characters(scene: Scene, shape: tuple[int, int]) -> list[Row]:
    """A cell a character: a shade, or the letter of the topmost mask whose edge runs through it."""
    grey = _grey(scene, shape)
    size = (shape[0] // 2, shape[1])
    mean = grey.reshape(size[0], 2, size[1]).mean(axis=1)
    shades = np.array(list(SHADES))
    characters = shades[np.minimum((mean * len(SHADES)).astype(int), len(SHADES) - 1)]
    lettered = np.zeros(size, bool)
    for small, mark in zip(scene.reduced(size), scene.marks, strict=True):
        pattern = mark.pattern if mark == IGNORED else HIT.pattern
        where = small if mark in (MISS, FALSE_ALARM) else drawn(small, pattern)
        characters[where] = mark.letter
        lettered |= where
    return [_lettered(line, letters) for line, letters in zip(characters, lettered, strict=True)]


def _lettered(line: npt.NDArray[Any], letters: npt.NDArray[np.bool_]) -> Row:
    starts = np.flatnonzero(np.concatenate(([True], letters[1:] != letters[:-1]))).tolist()
    text = "".join(line)
    stops: Sequence[int] = [*starts[1:], len(text)]
    return [
        Segment(text[start:stop], _LETTER if letters[start] else _PLAIN)
        for start, stop in zip(starts, stops, strict=True)
    ]


@lru_cache(2**15)
def _run(pair: int, length: int) -> Segment:
    """So many equal cells, from the codes of their upper and lower pixel."""
    return Segment(UPPER_HALF * length, Style(color=_colour(pair >> 24), bgcolor=_colour(pair & 0xFFFFFF)))


@lru_cache(2**12)
def _colour(code: int) -> Color:
    return Color.from_rgb(code >> 16, (code >> 8) & 255, code & 255)


@lru_cache(2**12)
def _cursor_on(style: Style) -> Style:
    """A bright crosshair on what a cell shows; dark where that is bright."""
    return Style(color=Color.from_rgb(*_CURSOR), bgcolor=style.bgcolor, bold=True)
