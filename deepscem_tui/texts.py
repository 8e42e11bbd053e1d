"""Texts of others and values, as they are shown: nothing in them may be taken by the terminal for a command."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine import words

__all__ = ["are_sizes", "cell", "one_line", "safe", "shortened"]


def safe(text: object) -> str:
    """Text that cannot move the cursor or change colours: control characters are shown as escapes."""
    return "".join(
        character.encode("unicode_escape").decode("ascii") if words.acts(character) and character != "\n" else character
        for character in str(text)
    )


def one_line(text: object) -> str:
    """The same, with line breaks shown as escapes: a name cannot look like a message of its own."""
    return safe(text).replace("\n", "\\n")


def shortened(name: str, width: int) -> str:
    """A name without its middle where it is wider than so many cells: names often differ at their ends."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= width:
        return name
    head = (width - 2) // 2
    return f"{set_cell_size(name, head)}...{set_cell_size(name[::-1], width - 3 - head)[::-1]}"


def cell(value: Any, missing: str = "-") -> str:
    """A value as tables show it."""
    if value is None:
        return missing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e3 else f"{value:.0f}"
    return words.sizes(value) if are_sizes(value) else str(value)


def are_sizes(value: Any) -> bool:
    """Whether it is several numbers, such as a shape."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(one, (int, float)) for one in value)
