"""A table whose columns and rows are exchanged together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text
from textual.message import Message
from textual.widgets import DataTable

__all__ = ["RefilledTable"]


class RefilledTable(DataTable[Text]):
    """A table of rows to choose from that is filled as a whole, with columns as wide as their cells."""

    class Resized(Message):
        """The table has another width."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.width = width

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True)

    def on_resize(self) -> None:
        self.post_message(self.Resized(self.size.width))

    def refill(
        self,
        columns: Iterable[tuple[str | None, str | Text]],
        rows: Iterable[tuple[str | None, Sequence[Text]]],
        cursor: int = 0,
    ) -> None:
        """Show other columns and rows.

        Args:
            columns: Key and heading of each.
            rows: Key and cells of each.
            cursor: The row to choose; nothing says that it was chosen.
        """
        with self.prevent(DataTable.RowHighlighted):
            self.clear(columns=True)
            for key, heading in columns:
                self.add_column(Text(heading) if isinstance(heading, str) else heading, key=key)
            for name, cells in rows:
                self.add_row(*cells, key=name)
            self.move_cursor(row=cursor)
        self._measured_later()

    def change(self, row: str, column: str, text: Text) -> None:
        """Show another text in a cell; nothing is drawn if it is what is shown."""
        if self.get_cell(row, column) != text:
            self.update_cell(row, column, text, update_width=True)
            self._measured_later()

    def _measured_later(self) -> None:
        """Forget what is painted before the columns are measured: it would be kept, as wide as they were."""
        self.call_after_refresh(self.notify_style_update)
