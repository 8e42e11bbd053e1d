"""The stop request: set from anywhere, looked at by the engine at every step."""

from __future__ import annotations

import threading

from deepscem_tui.engine.errors import Stopped


class Stop:
    """A request to stop, shared by the one who may ask and the one who works."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def request(self, reason: str) -> None:
        """Ask to stop. The first reason given is the one that is kept."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise :class:`Stopped` if a stop was requested."""
        if self._event.is_set():
            raise Stopped(f"Stopped: {self.reason}")
