"""Choosing a file or a folder: a line to type a path in, and below it what is there.

Made here rather than taken from textual-fspicker: that one asks the file system about each entry in the event loop,
which a slow server turns into a frozen screen, and its picture symbols shift the columns of many terminals.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats import STORES, place_of
from deepscem_tui.texts import safe
from deepscem_tui.widgets.footer import Footer
from deepscem_tui.widgets.path_input import PathInput

__all__ = ["FileDialog", "browse"]

_MOST_SHOWN = 500


def browse(event: PathInput.Browse) -> None:
    """Answer a line's wish for a list of files: show one, and write what is chosen to the line."""
    event.stop()
    line = event.path_input

    def chosen(path: str | None) -> None:
        if path is not None and line.is_attached:
            line.value = path
            line.action_end()

    dialog = FileDialog(line.value, line.suffixes, folder=line.folder, makes=line.makes, title=line.title)
    line.app.push_screen(dialog, chosen)


@dataclass(frozen=True)
class Entry:
    """Something in a folder."""

    name: str
    folder: bool
    size: int | None  # bytes; None for a store, which is a folder that is chosen as a file is


class FileDialog(ModalScreen[str | None]):
    """Gives the path that was chosen, as it would be typed; None after escape.

    Args:
        start: The path to begin with, as typed.
        suffixes: Ends of the names that belong here; the others are shown on request.
        folder: Whether a folder is wanted.
        makes: Whether it may be something that is not there yet.
        title: What it is for.
    """

    HELP = """\
Type a path, or the start of a name: the list shows what fits. `~` is your home.

- `down` goes to the list and `enter` opens a folder or takes a file; `backspace` there goes to the folder above.
- `ctrl+s` takes what stands in the line, a folder too where one is wanted.
- `ctrl+f` shows files of other kinds as well.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("ctrl+s", "take", "Choose", tooltip="Take what stands in the line"),
        Binding("ctrl+f", "all_files", "All files", tooltip="Show files of other kinds too, or hide them again"),
        Binding("down", "to_list", "List", show=False),
    ]
    DEFAULT_CSS = """
    FileDialog > Vertical {
        width: 96%; max-width: 120; height: 90%; border: round $primary; padding: 0 1; background: $surface;
    }
    FileDialog .name { text-style: bold; margin-bottom: 1; }
    FileDialog OptionList { height: 1fr; border: none; padding: 0; margin-top: 1; }
    FileDialog Input { background: $panel; }
    FileDialog #says { height: auto; color: $text-muted; }
    FileDialog #says.-fault { color: $text-error; text-style: bold; }
    """

    def __init__(
        self,
        start: str = "",
        suffixes: Sequence[str] = (),
        *,
        folder: bool = False,
        makes: bool = False,
        title: str = "",
    ) -> None:
        super().__init__()
        self._start, self._suffixes, self._title = start, tuple(suffixes), title
        self._folder, self._makes, self._all = folder, makes, False
        self._shown_for: tuple[str, bool] | None = None
        self._entries: dict[
            str, list[Entry] | str
        ] = {}  # of the folder shown last: reading it again at each key is slow

    def compose(self) -> ComposeResult:
        kind = "a folder" if self._folder else " ".join(self._suffixes) or "any file"
        with Vertical():
            yield Static(safe(f"{self._title or 'Choose'} ({kind})"), classes="name", markup=False)
            yield PathInput(self._start, suffixes=self._suffixes, folder=self._folder, browses=False)
            yield OptionList(compact=True)
            yield Static(id="says", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        line = self.query_one(PathInput)
        line.focus()
        line.action_end()
        self._show()

    # -------------------------------------------------------------------------------------------- what is shown

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._show()

    def _show(self) -> None:
        self.run_worker(self._list(), exclusive=True, group="list")

    async def _list(self) -> None:
        typed = self.query_one(PathInput).value
        head, slash, start = typed.rpartition("/")
        where = head + slash
        if where not in self._entries:
            found = await asyncio.to_thread(entries, where)
            self._entries = {where: found}
        listed = self._entries[where]
        if isinstance(listed, str):
            self._say(listed, fault=True)
            self.query_one(OptionList).clear_options()
            return
        fitting = [entry for entry in listed if self._fits(entry, start)]
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_option(Option(Content("../"), id=".."))
        options.add_options([_option(entry) for entry in fitting[:_MOST_SHOWN]])
        if len(fitting) > _MOST_SHOWN:
            self._say(f"{len(fitting) - _MOST_SHOWN} more: type the start of a name")
        elif not fitting and not self._makes:
            self._say("Nothing here fits")
        else:
            self._say(str(Path(where or ".").expanduser().absolute()))

    def _fits(self, entry: Entry, start: str) -> bool:
        if not entry.name.casefold().startswith(start.casefold()) or (entry.name.startswith(".") and not start):
            return False
        if entry.folder:
            return True
        return not self._folder and (self._all or entry.name.lower().endswith(self._suffixes or ("",)))

    def _say(self, text: str, fault: bool = False) -> None:
        says = self.query_one("#says", Static)
        says.update(safe(f"! {text}" if fault else text))
        says.set_class(fault, "-fault")

    # -------------------------------------------------------------------------------------------- keys

    def on_key(self, event: object) -> None:
        key = getattr(event, "key", "")
        if key in ("backspace", "left") and self.focused is self.query_one(OptionList):
            self._go("..")

    def action_to_list(self) -> None:
        """Go from the line to the list."""
        options = self.query_one(OptionList)
        if options.option_count:
            options.highlighted = min(1, options.option_count - 1)
            options.focus()

    def action_all_files(self) -> None:
        """Show files of other kinds too, or hide them again."""
        self._all = not self._all
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._take(open_folder=True)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        name = str(event.option.id)
        if name == ".." or name.endswith("/"):
            self._go(name)
        else:
            head, slash, _ = self.query_one(PathInput).value.rpartition("/")
            self.dismiss(head + slash + name)

    def action_take(self) -> None:
        """Take what stands in the line."""
        self._take(open_folder=not self._folder)

    def _go(self, name: str) -> None:
        """Show a folder of this one, or the one above."""
        line = self.query_one(PathInput)
        head, slash, _ = line.value.rpartition("/")
        line.value = above(head + slash) if name == ".." else head + slash + name
        line.action_end()
        self.call_after_refresh(self.action_to_list)

    def _take(self, open_folder: bool) -> None:
        self.run_worker(self._take_typed(open_folder), exclusive=True, group="take")

    async def _take_typed(self, open_folder: bool) -> None:
        typed = self.query_one(PathInput).value
        kind = await asyncio.to_thread(_kind, typed)
        if kind == "folder" and open_folder:
            line = self.query_one(PathInput)
            line.value = typed if typed.endswith("/") or not typed else typed + "/"
            line.action_end()
            if typed.endswith("/") or not typed:
                self.action_to_list()
        elif kind == "" and not self._makes:
            self._say(f"There is no {typed or 'such file'}", fault=True)
        elif kind == "file" and self._folder:
            self._say(f"{typed} is a file, not a folder", fault=True)
        elif kind == "unknown":
            self._say(f"{typed} cannot be looked at", fault=True)
        else:
            self.dismiss(typed or ".")


def entries(where: str) -> list[Entry] | str:
    """What is in a folder, folders first; in words why that cannot be told. Waits for the file system."""
    found = []
    try:
        with os.scandir(Path(where or ".").expanduser()) as scanned:
            for item in scanned:
                try:
                    is_folder = item.is_dir()
                    size = None if is_folder else item.stat().st_size
                    is_folder = is_folder and not _is_store(item.name)
                except OSError:  # a link to nothing, or gone since
                    is_folder, size = False, 0
                if item.name.isprintable():
                    found.append(Entry(item.name, is_folder, size))
    except (OSError, RuntimeError, ValueError) as error:
        return f"{where or '.'}: {getattr(error, 'strerror', None) or error}"
    return sorted(found, key=lambda entry: (not entry.folder, entry.name.casefold()))


def above(where: str) -> str:
    """The folder above a folder, as typed: ``a/b/`` -> ``a/``, ```` -> ``../``."""
    parts = where.rstrip("/")
    if where.startswith("/") and not parts:
        return "/"
    if parts in ("", ".") or parts.split("/")[-1] == "..":
        return f"{parts + '/' if parts not in ('', '.') else ''}../"
    if parts == "~":
        return f"{Path(parts).expanduser().parent}/"
    head, slash, _ = parts.rpartition("/")
    return head + slash


def _kind(typed: str) -> str:
    try:
        path = Path(typed or ".").expanduser()
        if path.is_dir() and not _is_store(path.name):
            return "folder"
        return "file" if place_of(path).file.exists() else ""
    except (OSError, RuntimeError, ValueError, ParameterError):
        return "unknown"


def _is_store(name: str) -> bool:
    """Whether a folder is chosen as a file is: an image in a store."""
    return name.lower().endswith(STORES)


def _option(entry: Entry) -> Option:
    if entry.folder:
        return Option(Content(f"{entry.name}/"), id=f"{entry.name}/")
    about = "a store" if entry.size is None else words.amount(entry.size, "B")
    return Option(Content(f"{entry.name}  ({about})"), id=entry.name)
