"""The same thing as a command, to be copied."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from deepscem_tui.texts import safe


class CommandLine(Static):
    """The command that does what a form would do.

    Attributes:
        command: The command; the last one that was complete while the form is not.
        complete: Whether it is what the form says now.
    """

    DEFAULT_CSS = """
    CommandLine { height: auto; max-height: 3; overflow-y: auto; color: $text-muted; }
    CommandLine.-complete { color: $foreground; }
    """

    def __init__(self, action: str, id: str | None = None) -> None:
        super().__init__(markup=False, id=id)
        self._action = action
        self.command = ""
        self.complete = False

    def on_mount(self) -> None:
        self.show("")

    def show(self, command: str) -> None:
        """Show a command, "" for one that is not complete yet."""
        self.complete = bool(command)
        self.command = command or self.command
        self.set_class(self.complete, "-complete")
        self.update(Content(f"$ {safe(command)}" if command else f"$ deepscem-tui run {self._action} ..."))
