"""What an action gives back: the same facts for a table, a JSON document and a screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of plain values (str, int, float, bool, None) under named columns.

    ``name`` is the table's key in the JSON document, where each row is an object.
    ``missing`` is what a table shows for None, which is null in the JSON document; in the columns named by ``blank``
    it shows nothing.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    missing: str = "-"
    blank: Sequence[str] = ()

    def stands_for_none(self, column: str) -> str:
        """What is shown for None in a column."""
        return "" if column in self.blank else self.missing

    def as_dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Result:
    """The outcome of an action.

    Args:
        summary: One sentence: what was done.
        facts: Further values by name (JSON types only).
        tables: Tables, shown before the summary; one without rows is for scripts only.
        picture: A slice to draw, :class:`~deepscem_tui.engine.viewing.preview.SlicePicture`; whoever shows the result
            draws it.
        ok: False when the action did its work and found a fault (``check-dataset``): exit status 3.
    """

    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    ok: bool = True
    picture: Any = None

    @property
    def shown_tables(self) -> list[Table]:
        return [table for table in self.tables if table.rows]

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"summary": self.summary, **self.facts}
        for table in self.tables:
            document[table.name] = table.as_dicts()
        return document


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: None in their place."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
