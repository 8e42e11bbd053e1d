"""`runs watch` on a terminal: a run drawn on the alternate screen, at whatever size the terminal has."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deepscem_tui.characters import is_utf8
from deepscem_tui.engine.runs.watching import RunWatcher
from deepscem_tui.engine.stop import Stop

_SECONDS = 0.25  # between two looks


def can_watch_live() -> bool:
    """Whether this is a terminal on which something can be drawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown", "")


def watch_live(folder: Path, stop: Stop, bell: bool) -> None:
    """Draw a run until it ends, ``q`` is pressed, or ``stop`` is requested.

    Args:
        bell: Whether to ring when the run ends.
    """
    from rich.console import Console
    from rich.live import Live

    from deepscem_tui.render.run_text import draw_run

    watcher = RunWatcher(folder)
    if not watcher.poll().running:
        return
    console = Console(highlight=False)
    ascii_only, colour = not is_utf8(), not console.no_color and console.color_system is not None
    with _keys() as key, Live(console=console, screen=True, auto_refresh=False) as live:
        snapshot = watcher.poll()
        while snapshot.running and not stop.requested and key() not in ("q", "Q", "\x1b"):
            width, height = console.size
            live.update(draw_run(snapshot, width, height, ascii_only, colour=colour), refresh=True)
            snapshot = watcher.poll()
    if bell and not snapshot.running:
        console.bell()


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """A function that waits a moment for a key and gives it, or nothing."""
    try:
        import select
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
    except (ImportError, OSError, ValueError, AttributeError):  # no such terminal: ctrl+c alone
        yield _nothing
        return
    except termios.error:
        yield _nothing
        return

    def key() -> str:
        try:
            ready = select.select([sys.stdin], [], [], _SECONDS)[0]
            return os.read(sys.stdin.fileno(), 1).decode("ascii", "replace") if ready else ""
        except InterruptedError:
            return ""

    try:
        tty.setcbreak(sys.stdin)
        yield key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _nothing() -> str:
    time.sleep(_SECONDS)
    return ""
