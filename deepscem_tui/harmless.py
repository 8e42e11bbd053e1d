"""The last look at what is drawn: nothing in a text may be taken by the terminal for a command.

Names are shown as :func:`deepscem_tui.texts.safe` makes them wherever the application shows them by itself; in an
input, which holds the name as it is, and in Textual's own parts this is what keeps a name from acting.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from deepscem_tui.engine import words

__all__ = ["Harmless"]


class Harmless(LineFilter):
    """Replaces what terminals obey, and what turns the direction of writing, by as many cells as it was counted for."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        if all(segment.text.isprintable() for segment in segments):
            return segments
        return [
            segment if segment.control else Segment(_shown(segment.text), segment.style, segment.control)
            for segment in segments
        ]


def _shown(text: str) -> str:
    return "".join("?" * cell_len(character) if words.acts(character) else character for character in text)
