"""The application's own handle of the terminal.

Native libraries write to the file descriptors 1 and 2 past Python's streams, and the engine points these elsewhere
while TensorFlow runs. The application therefore draws on a duplicate, made before, and both descriptors lead to a log
for as long as it lives.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepscem_tui.characters import ascii_text

if TYPE_CHECKING:
    from textual.driver import Driver


class Terminal:
    """A text stream on the terminal. What cannot be written any more, since the terminal is gone, is dropped."""

    def __init__(self, descriptor: int, ascii_only: bool) -> None:
        self._descriptor = descriptor
        self._ascii_only = ascii_only

    def write(self, text: str) -> None:
        shown = ascii_text(text) if self._ascii_only else text
        rest = memoryview(shown.encode("utf-8", "backslashreplace"))
        with suppress(OSError):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


@contextmanager
def own_terminal(log: Path, ascii_only: bool) -> Iterator[Terminal]:
    """A handle of the terminal on descriptor 2; meanwhile descriptors 1 and 2 append to ``log``."""
    terminal = Terminal(os.dup(2), ascii_only)
    saved = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError:  # a read-only home
        target = os.open(os.devnull, os.O_WRONLY)
    for descriptor, _ in saved:
        os.dup2(target, descriptor)
    os.close(target)
    try:
        yield terminal
    finally:
        for descriptor, copy in saved:
            with suppress(OSError, ValueError):
                (sys.stdout if descriptor == 1 else sys.stderr).flush()
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(terminal.fileno())


def driver_on(terminal: Terminal, gone: Callable[[], None]) -> type[Driver] | None:
    """Textual's driver, drawing on ``terminal``; None where Textual's own must do (Windows).

    Args:
        gone: Called from the driver's thread when the terminal can no longer be read: its window or server is gone.
    """
    if os.name != "posix":
        return None
    from textual.drivers.linux_driver import LinuxDriver

    class OwnTerminalDriver(LinuxDriver):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self._file: Any = terminal

        def _get_terminal_size(self) -> tuple[int, int]:
            try:
                columns, rows = os.get_terminal_size(terminal.fileno())
            except OSError:
                columns, rows = 0, 0
            return columns or 80, rows or 24

        def _run_input_thread(self) -> None:
            try:
                self.run_input_thread()
            except OSError:
                gone()

    return OwnTerminalDriver
