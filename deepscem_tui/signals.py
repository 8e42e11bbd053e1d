"""Signals as stop requests: the first asks, a second ctrl+c leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from deepscem_tui.engine.stop import Stop


@contextmanager
def asking_to_stop(stop: Stop, say: Callable[[str], None]) -> Iterator[None]:
    """While the block lasts, SIGINT, SIGTERM, SIGHUP and SIGUSR1 request ``stop``; a second SIGINT exits with 130.

    A signal that is ignored already (SIGHUP under ``nohup``) stays ignored. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    interrupts = 0

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal interrupts
        name = signal.Signals(number).name
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            with suppress(OSError):
                os.write(2, b"\x1b[?25h\n" if os.isatty(2) else b"")  # a progress bar hides the cursor
            os._exit(130)
        if not stop.requested:
            stop.request(f"{name} received")
            again = "; ctrl+c again leaves at once" if number == signal.SIGINT else ""
            with suppress(Exception):  # it may come in the middle of another message
                say(f"{name}: stopping after what is in hand{again}")

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):  # the last two do not exist on Windows
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
