"""Signals as stop requests: the first asks, a second ctrl+c leaves at once."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from deepscem_tui.engine.stop import Stop


@contextmanager
def asking_to_stop(
    stop: Stop, say: Callable[[str], None], restore: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """While the block lasts, SIGINT, SIGTERM, SIGHUP and SIGUSR1 request ``stop``; a second SIGINT exits with 130.

    A thread looks at them: handlers in Python wait until TensorFlow has finished what the main thread has it compute.
    A signal that is ignored already (SIGHUP under ``nohup``) stays ignored. Outside the main thread nothing is changed.

    Args:
        stop: What is asked.
        say: Tells the user.
        restore: Puts the terminal in order before an exit at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")]  # two not on Windows
    watched = [number for number in numbers if number is not None and signal.getsignal(number) != signal.SIG_IGN]
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    asking = _Asking(ours, watched, stop, say, restore)
    thread = threading.Thread(target=asking.look, name="signals", daemon=True)
    before_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in watched}
    thread.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        theirs.close()  # which ends the thread
        thread.join()
        ours.close()


@dataclass(frozen=True)
class _Asking:
    """What is done about signals, whose numbers come through a socket."""

    signals: socket.socket
    watched: list[signal.Signals]
    stop: Stop
    say: Callable[[str], None]
    restore: Callable[[], None]

    def look(self) -> None:
        """Do what each signal asks for, until the other end is closed."""
        interrupts = 0
        while received := self.signals.recv(1):
            number = received[0]
            if number not in self.watched:
                continue
            interrupts += number == signal.SIGINT
            if interrupts > 1:
                with suppress(Exception):  # the terminal may be gone
                    self.restore()
                os._exit(130)
            if not self.stop.requested:
                name = signal.Signals(number).name
                self.stop.request(f"{name} received")
                again = "; ctrl+c again leaves at once" if number == signal.SIGINT else ""
                with suppress(Exception):
                    self.say(f"{name}: stopping after what is in hand{again}")
