"""What characters and pictures the terminal can show."""
# ruff: noqa: RUF001 (what looks alike is what this is about)

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from deepscem_tui.render.slices import PictureStyle

# What the application draws with, and what stands for it where there is only ASCII.
_ASCII = {
    **dict.fromkeys("─━╌╍┄┅┈┉╴╶╸╺╼╾▁▂⎯", "-"),
    **dict.fromkeys("═", "="),
    **dict.fromkeys("│┃║╎╏┆┇┊┋▏▎▍▌▐▕⎸⎹", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋╭╮╯╰╔╗╚╝╠╣╦╩╬╒╓╕╖╘╙╛╜╞╟╡╢╪╫", "+"),
    **dict.fromkeys("▀▄█▇▆▅▊▋▉▒▓■◼", "#"),
    **dict.fromkeys("▔‾▃", "-"),
    **dict.fromkeys("░·•∙⋅◦", "."),
    **dict.fromkeys("●◉⬤◆★✔✓", "*"),
    **dict.fromkeys("○◌◇☐", "o"),
    **dict.fromkeys("→▶▸►❯›»⭘", ">"),
    **dict.fromkeys("←◀◂◄❮‹«", "<"),
    **dict.fromkeys("↑▲▴⬆", "^"),
    **dict.fromkeys("↓▼▾⬇", "v"),
    **dict.fromkeys("✖✗✘×╳", "x"),
    **dict.fromkeys("‘’‛", "'"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("–—‐‑−", "-"),
    "…": ".",
    "µ": "u",
    "μ": "u",
    "\N{NO-BREAK SPACE}": " ",
}
_TABLE = {ord(character): plain for character, plain in _ASCII.items()}


def is_utf8(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the locale that the program was started in has UTF-8.

    Python replaces the C locale by C.UTF-8 for itself (PEP 538), in the environment too: what counts is what the
    process was given.
    """
    given = _environment_at_start() if environment is None else environment
    locale = given.get("LC_ALL") or given.get("LC_CTYPE") or given.get("LANG") or "C"
    return "utf8" in locale.lower().replace("-", "")


def _environment_at_start() -> Mapping[str, str]:
    try:
        content = Path("/proc/self/environ").read_bytes()
    except OSError:
        return os.environ
    pairs = (item.decode("utf-8", "replace").partition("=") for item in content.split(b"\0") if item)
    return {name: value for name, _, value in pairs}


def ascii_text(text: str) -> str:
    """A text as it is shown where there is only ASCII: as wide as it was, with stand-ins."""
    if text.isascii():
        return text
    return "".join(
        character if character.isascii() else "?" * cell_len(character) for character in text.translate(_TABLE)
    )


def choose_pictures(wanted: str, ascii_only: bool, color_system: str | None, no_color: bool) -> PictureStyle:
    """How slices are drawn: half blocks need UTF-8 and more than 16 colours, unless they are asked for."""
    from deepscem_tui.render.slices import choose_style  # with numpy: not before the first screen

    colours = color_system in ("256", "truecolor") and not no_color
    return choose_style(wanted, terminal=True, colour=colours, encoding="ascii" if ascii_only else "utf-8")
