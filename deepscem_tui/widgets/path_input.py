"""A line for a path, completed while it is typed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

from deepscem_tui.engine.formats import STORES

_MOST_ENTRIES = 20_000  # of a folder: more are not worth the wait


class PathInput(Input):
    """A path; the rest of the nearest name in its folder stands behind the cursor, to be taken.

    Args:
        suffixes: Ends of names that belong here; these are offered first.
        folder: Whether a folder is meant.
        makes: Whether the file is to be made.
        title: What the list of files is headed with.
        browses: Whether there is a list of files.
    """

    HELP = """\
A path, from the current folder on; `~` is your home.

- What follows the cursor in grey is the rest of a name in that folder: `right` or `ctrl+e` takes it.
- `ctrl+o` opens a list of files to choose from.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "browse", "Browse", tooltip="Choose from a list of files"),
        Binding("end,ctrl+e", "complete", "Complete", show=False, tooltip="Take the completion, or go to the end"),
    ]

    @dataclass
    class Browse(Message):
        """A list of files is wanted; whoever shows it sets the value."""

        path_input: PathInput

        @property
        def control(self) -> PathInput:
            return self.path_input

    def __init__(
        self,
        value: str = "",
        *,
        suffixes: Sequence[str] = (),
        folder: bool = False,
        makes: bool = False,
        placeholder: str = "",
        title: str = "",
        browses: bool = True,
        id: str | None = None,
    ) -> None:
        super().__init__(
            value, placeholder, suggester=PathSuggester(suffixes, folder), compact=True, id=id, select_on_focus=False
        )
        self.suffixes, self.folder, self.makes, self.title = tuple(suffixes), folder, makes, title
        self._browses = browses

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        return self._browses or action != "browse"

    def action_browse(self) -> None:
        """Ask for a list of files."""
        self.post_message(self.Browse(self))

    def action_complete(self) -> None:
        """Take the completion, or go to the end."""
        self.action_end()
        if self._suggestion:
            self.action_cursor_right()


class PathSuggester(Suggester):
    """Completes the last part of a path from what is in its folder, which is read in a thread."""

    def __init__(self, suffixes: Sequence[str] = (), folder: bool = False) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._suffixes, self._folder = tuple(suffixes), folder

    async def get_suggestion(self, value: str) -> str | None:
        """The whole path with its last part completed, None where nothing fits."""
        return await asyncio.to_thread(completed, value, self._suffixes, self._folder)


def completed(typed: str, suffixes: Sequence[str], folder: bool) -> str | None:
    """The path that ``typed`` is most likely the start of; folders end in ``/``.

    Names that end as wanted come first, then folders, then, unless a folder is meant, other files.
    """
    head, slash, start = typed.rpartition("/")
    if not typed or start in (".", ".."):
        return None
    try:
        where = Path(head + slash or ".").expanduser()
        found = []
        with os.scandir(where) as entries:
            for number, entry in enumerate(entries):
                if number > _MOST_ENTRIES:
                    break
                if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
                    store = entry.name.lower().endswith(STORES)  # is taken as a file is
                    found.append((entry.name, entry.is_dir() and not store))
    except (OSError, RuntimeError, ValueError):
        return None
    ranked = [(_rank(name, is_dir, suffixes, folder), name, is_dir) for name, is_dir in found if is_dir or not folder]
    if not ranked or not start:  # nothing typed of the name: whatever is offered would be a guess
        return None
    _, name, is_dir = min(ranked)
    result = f"{head}{slash}{name}{'/' if is_dir else ''}"
    return result if result != typed and result.isprintable() else None


def _rank(name: str, is_dir: bool, suffixes: Sequence[str], folder: bool) -> int:
    wanted = is_dir if folder else not is_dir and name.lower().endswith(tuple(suffixes))
    return 0 if wanted else 1 if is_dir else 2
