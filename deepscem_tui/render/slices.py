"""A slice with masks on it as text: half blocks in colour, or plain characters."""

from __future__ import annotations

from rich.text import Text

from deepscem_tui.render.cells import UPPER_HALF, cells, solid
from deepscem_tui.render.sampling import fit
from deepscem_tui.render.scenes import PictureStyle, Scene, choose_style, compared, labelled

__all__ = ["PictureStyle", "Scene", "choose_style", "compared", "draw", "labelled"]


def draw(scene: Scene, style: PictureStyle, columns: int, rows: int | None = None) -> Text:
    """A scene as lines of text, and a last line that says what the masks are.

    Args:
        columns: Cells that the picture may be wide.
        rows: Cells that it may be high, without the last line.
    """
    shape = fit((scene.image.shape[0], scene.image.shape[1]), columns, rows, scene.aspect)
    text = Text(no_wrap=True, end="")
    for index, row in enumerate(cells(scene, style, shape, greys=256)):
        if index:
            text.append("\n")
        for segment in row:
            text.append(segment.text, segment.style if style == "blocks" else None)
    if len(scene.masks):
        text.append("\n")
        text.append_text(_legend(scene, style))
    return text


def _legend(scene: Scene, style: PictureStyle) -> Text:
    text = Text(end="")
    for name, mark in zip(scene.names, scene.marks, strict=True):
        if text:
            text.append("  ")
        if style == "ascii":
            text.append(f"{mark.letter} {_ascii(name)}")
            continue
        text.append(UPPER_HALF * 2, solid(mark.colour))
        text.append(f" {''.join(c if c.isprintable() else '?' for c in name)} ({mark.pattern.name})")
    return text


def _ascii(name: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
