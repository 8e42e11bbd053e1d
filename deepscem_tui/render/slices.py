"""A slice with masks on it as text: half blocks in colour, or plain characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.style import Style
from rich.text import Text

from deepscem_tui.render.marks import FALSE_ALARM, HIT, MISS, Mark, drawn, marks_of
from deepscem_tui.render.sampling import area_mean, cover, fit

__all__ = ["PictureStyle", "Scene", "choose_style", "compared", "draw", "labelled"]

PictureStyle = Literal["blocks", "ascii"]

UPPER_HALF = "\N{UPPER HALF BLOCK}"
SHADES = " .:-=+*#%@"
_TINT = 0.2  # of the inside of a mask, so that it is seen where its pattern leaves the image free


@dataclass(frozen=True)
class Scene:
    """What is drawn: a grey image and masks that lie on it, the last on top.

    Args:
        image: (Y, X), uint8, or float from 0 to 1.
        masks: One (Y, X) array each; above 0 is set.
        names: What each mask shows.
        marks: How each mask is drawn.
        aspect: Height of a voxel divided by its width.
        exclusive: Whether no two masks share a voxel, so that a pixel shows the one that has most of it.
    """

    image: npt.NDArray[Any]
    masks: Sequence[npt.NDArray[Any]] = ()
    names: Sequence[str] = ()
    marks: Sequence[Mark] = ()
    aspect: float = 1.0
    exclusive: bool = False

    def reduced(self, shape: tuple[int, int]) -> list[npt.NDArray[np.bool_]]:
        """The masks at the size of the picture (Y, X)."""
        if not self.exclusive:
            return [cover(mask, shape) for mask in self.masks]
        shares = np.stack([area_mean(mask, shape) for mask in self.masks])
        most = shares.argmax(axis=0)
        any_of_them = cover(np.any(self.masks, axis=0), shape)
        return [any_of_them & (most == index) for index in range(len(self.masks))]


def labelled(
    image: npt.NDArray[Any], masks: Sequence[npt.NDArray[Any]], names: Sequence[str], aspect: float = 1.0
) -> Scene:
    """A scene of an image with a mask for each label."""
    return Scene(image, masks, names, marks_of(len(masks)), aspect)


def compared(
    image: npt.NDArray[Any],
    masks: Sequence[npt.NDArray[Any]],
    reference: Sequence[npt.NDArray[Any]],
    aspect: float = 1.0,
) -> Scene:
    """A scene of how masks differ from their reference, all labels together: hits, misses and false alarms."""
    hit, miss, alarm = (np.zeros(image.shape, bool) for _ in range(3))
    for mask, true in zip(masks, reference, strict=True):
        found, there = mask != 0, true != 0
        hit |= found & there
        miss |= there & ~found
        alarm |= found & ~there
    hit &= ~(miss | alarm)  # what is right in one label and wrong in another is wrong
    alarm &= ~miss
    names = ("hits", "misses", "false alarms")
    return Scene(image, (hit, miss, alarm), names, (HIT, MISS, FALSE_ALARM), aspect, exclusive=True)


def choose_style(wanted: str, *, terminal: bool, colour: bool, encoding: str | None) -> PictureStyle:
    """What ``auto`` means here: half blocks where they can be shown in colour, characters elsewhere.

    Args:
        wanted: ``"auto"``, ``"blocks"`` or ``"ascii"``.
        terminal: Whether the text goes to a terminal.
        colour: Whether that terminal has colours, and they are wanted.
        encoding: Of the text, such as ``"utf-8"``.
    """
    if wanted != "auto":
        return "ascii" if wanted == "ascii" else "blocks"
    unicode = (encoding or "").lower().replace("-", "").replace("_", "") == "utf8"
    return "blocks" if terminal and colour and unicode else "ascii"


def draw(scene: Scene, style: PictureStyle, columns: int, rows: int | None = None) -> Text:
    """A scene as lines of text, and a last line that says what the masks are.

    Args:
        columns: Cells that the picture may be wide.
        rows: Cells that it may be high, without the last line.
    """
    shape = fit((scene.image.shape[0], scene.image.shape[1]), columns, rows, scene.aspect)
    grey = np.clip(area_mean(scene.image, shape) / (255 if scene.image.dtype == np.uint8 else 1), 0, 1)
    picture = _blocks(scene, grey) if style == "blocks" else _characters(scene, grey)
    if len(scene.masks):
        picture.append("\n")
        picture.append_text(_legend(scene, style))
    return picture


def _blocks(scene: Scene, grey: npt.NDArray[np.floating[Any]]) -> Text:
    """Two pixels a cell: the upper one is the text's colour, the lower one its background."""
    colours = np.repeat(grey[:, :, None] * 255, 3, axis=2)  # (Y, X, 3)
    for small, mark in zip(scene.reduced((grey.shape[0], grey.shape[1])), scene.marks, strict=True):
        colour = np.array(mark.colour, np.float32)
        colours[small] = (1 - _TINT) * colours[small] + _TINT * colour
        colours[drawn(small, mark.pattern)] = colour
    exact = np.rint(colours).astype(np.int64)
    codes = (exact[..., 0] << 16) | (exact[..., 1] << 8) | exact[..., 2]
    text = Text(no_wrap=True, end="")
    styles: dict[tuple[int, int], Style] = {}
    for index, (upper, lower) in enumerate(zip(codes[0::2], codes[1::2], strict=True)):
        if index:
            text.append("\n")
        changes = np.flatnonzero((np.diff(upper) != 0) | (np.diff(lower) != 0)) + 1
        starts, stops = [0, *changes.tolist()], [*changes.tolist(), len(upper)]
        for start, stop in zip(starts, stops, strict=True):
            pair = (int(upper[start]), int(lower[start]))
            if pair not in styles:
                styles[pair] = Style(color=_colour(pair[0]), bgcolor=_colour(pair[1]))
            text.append(UPPER_HALF * (stop - start), styles[pair])
    return text


def _characters(scene: Scene, grey: npt.NDArray[np.floating[Any]]) -> Text:
    """A cell a character: a shade, or the letter of the topmost mask whose edge runs through it."""
    cells = (grey.shape[0] // 2, grey.shape[1])
    mean = grey.reshape(cells[0], 2, cells[1]).mean(axis=1)
    shades = np.array(list(SHADES))
    characters = shades[np.minimum((mean * len(SHADES)).astype(int), len(SHADES) - 1)]
    fills = (MISS, FALSE_ALARM)
    for small, mark in zip(scene.reduced(cells), scene.marks, strict=True):
        characters[small if mark in fills else drawn(small, HIT.pattern)] = mark.letter
    return Text("\n".join("".join(line) for line in characters), no_wrap=True, end="")


def _legend(scene: Scene, style: PictureStyle) -> Text:
    text = Text(end="")
    for name, mark in zip(scene.names, scene.marks, strict=True):
        if text:
            text.append("  ")
        if style == "ascii":
            text.append(f"{mark.letter} {_ascii(name)}")
            continue
        text.append(UPPER_HALF * 2, Style(color=Color.from_rgb(*mark.colour), bgcolor=Color.from_rgb(*mark.colour)))
        text.append(f" {''.join(c if c.isprintable() else '?' for c in name)} ({mark.pattern.name})")
    return text


def _ascii(name: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name)


def _colour(code: int) -> Color:
    return Color.from_rgb(code >> 16, (code >> 8) & 255, code & 255)
