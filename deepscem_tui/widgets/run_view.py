"""The live view of a run: state, bars, curves, facts, log, and a slice with its current prediction."""

from __future__ import annotations

from pathlib import Path

from textual.message import Message
from textual.widget import Widget


class RunView(Widget):
    """Shows a run as it goes on, whoever carries it out; None for no run."""

    class _About(Message):
        def __init__(self, folder: Path) -> None:
            super().__init__()
            self.folder = folder

    class StopAsked(_About):
        """The user wants the run to save its state and end."""

    class StopNowAsked(_About):
        """The user wants the run to end at once."""

    class ContinueAsked(_About):
        """The user wants the run to go on, for more epochs than it was asked to."""

    class Ended(Message):
        """A run that was watched while it ran has ended: ``finished``, ``stopped``, ``failed``, ``dead`` or ``gone``."""

        def __init__(self, folder: Path, state: str) -> None:
            super().__init__()
            self.folder = folder
            self.state = state

    def __init__(self, folder: Path | None = None, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.folder = folder

    def watch_run(self, folder: Path | None) -> None:
        """Show another run, or none."""
        self.folder = folder
