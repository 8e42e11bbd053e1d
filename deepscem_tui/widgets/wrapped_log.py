"""Lines of text that are wrapped to the width there is, and anew when it changes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rich.text import Text
from textual.events import Resize
from textual.widgets import RichLog

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WrappedLog"]

_MOST_LINES = 500


class WrappedLog(RichLog):
    """A log of the last lines that were added; those added while it is not shown are drawn when it is."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, max_lines=_MOST_LINES, wrap=True, min_width=1, markup=False, highlight=False)
        self._added: deque[Text] = deque(maxlen=_MOST_LINES)
        self._wrapped_at = 0

    def add(self, line: Text) -> None:
        """Add a line."""
        self._added.append(line)
        if self._wrapped_at and self._wrapped_at == self.scrollable_content_region.width:
            self.write(line, expand=True)
        else:
            self._wrap()

    def clear(self) -> Self:
        self._added.clear()
        return super().clear()

    def on_resize(self, event: Resize) -> None:  # noqa: ARG002
        self._wrap()

    def on_show(self) -> None:
        self._wrap()

    def _wrap(self) -> None:
        width = self.scrollable_content_region.width
        if width != self._wrapped_at:
            self._wrapped_at = width
            super().clear()
            for line in self._added if width else ():
                self.write(line, expand=True)
