"""Numbers and names in words: for messages, tables and file names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

_NAME_BYTES = 80
_LISTED = 8


def sizes(values: Iterable[Any]) -> str:
    """Sizes along axes, such as ``8 x 64 x 64``."""
    return " x ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def counted(count: int, noun: str) -> str:
    """Such as ``1 label`` or ``2 labels``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Iterable[str]) -> str:
    """The first names, quoted, and how many more there are."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:_LISTED]) + (f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else "")


def file_name(name: str) -> str:
    """A part of a file's name: letters, digits, spaces, ``-``, ``.`` and ``_``, no folder and nothing hidden."""
    allowed = "".join(
        character if character.isalnum() or character in "-._ " else "_"
        for character in unicodedata.normalize("NFC", name)
    )
    short = allowed.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore").strip(" .")
    return short.lstrip("-") or "unnamed"
