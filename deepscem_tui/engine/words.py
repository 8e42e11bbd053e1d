"""Numbers and names in words: for messages, tables and file names."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any

_NAME_BYTES = 80
_LISTED = 8
_REASON = 200  # characters
_LONGEST = 1e9  # seconds that are told apart


def sizes(values: Iterable[Any]) -> str:
    """Sizes along axes, such as ``8 x 64 x 64``."""
    return " x ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def alike(values: Iterable[Any]) -> str:
    """The same along axes, but one number where all are equal, such as ``64``."""
    given = list(values)
    return sizes(given[:1] if len(set(given)) == 1 else given)


def counted(count: int, noun: str) -> str:
    """Such as ``1 label`` or ``2 labels``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def amount(value: float, unit: str = "") -> str:
    """A number with its unit, such as ``1,200 slices``; with ``"B"`` bytes, such as ``3.5 GiB``."""
    if unit == "B":
        power = min(4, int(math.log(max(value, 1), 1024)))
        return f"{value / 1024**power:.{0 if power == 0 else 1}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
    number = f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:.3g}"
    return f"{number} {unit}".rstrip()


def duration(seconds: float) -> str:
    """A time such as ``12 s``, ``3 min 05 s``, ``2 h 07 min`` or, from two days on, ``2 d 2 h``."""
    minutes, rest = divmod(round(min(seconds, _LONGEST)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def moment(seconds: float) -> str:
    """A time since the epoch as ISO 8601 has it, in the local zone, such as ``2026-01-02T03:04:05+01:00``."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def acts(character: str) -> bool:
    """Whether a terminal obeys a character, or it turns the direction of writing or ends a line."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def listed(names: Iterable[str]) -> str:
    """The first names, quoted, and how many more there are."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:_LISTED]) + (f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else "")


def reason(error: BaseException) -> str:
    """What an error says, in its first line; its class where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_REASON]


def either(names: Iterable[str]) -> str:
    """Names to choose from, such as ``.tif, .tiff or .npy``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def ranges(spans: Iterable[tuple[int, int]]) -> str:
    """The first ranges, such as ``0:40, 80:120``, and how many more there are."""
    shown = [f"{start}:{stop}" for start, stop in spans]
    return ", ".join(shown[:_LISTED]) + (f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else "")


def natural(text: str) -> list[tuple[int, str]]:
    """What to sort names by so that 2 comes before 10."""
    parts = re.split(r"(\d+)", text.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def file_name(name: str) -> str:
    """A part of a file's name: letters, digits, spaces, ``-``, ``.`` and ``_``, no folder and nothing hidden."""
    allowed = "".join(
        character if character.isalnum() or character in "-._ " else "_"
        for character in unicodedata.normalize("NFC", name)
    )
    short = allowed.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore").strip(" .")
    return short.lstrip("-") or "unnamed"
