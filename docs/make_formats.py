"""Write the table in docs/formats.md from that of the program: ``make reference``."""

from __future__ import annotations

from pathlib import Path

from deepscem_tui.engine.formats import FORMATS, Format

PAGE = Path(__file__).with_name("formats.md")
_BEGIN, _END = "<!-- made by make_formats.py -->\n", "<!-- up to here -->\n"


def table() -> str:
    """The formats as a table of Markdown, and what is worth knowing of each."""
    head = ["| format | names | read | written | in memory | extra |", "|---|---|---|---|---|---|"]
    notes = [f"- **{known.name}**: {known.notes}" for known in FORMATS]
    return "\n".join([*head, *map(_row, FORMATS), "", *notes, ""])


def _row(known: Format) -> str:
    names = ", ".join(f"`{suffix}`" for suffix in known.suffixes) + (", a folder" if known.folder else "")
    slices = "yes, or one file a slice" if known.slices else "yes"
    read, written = (slices if known.reader else "-"), ("yes" if known.writer else "-")
    extra = f"`{known.extra}`" if known.extra else "-"
    return f"| {known.name} | {names} | {read} | {written} | {known.streamed} | {extra} |"


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table()}{_END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
