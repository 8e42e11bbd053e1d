"""A switch of one line whose state is seen without colour: ``[x]`` or ``[ ]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from deepscem_tui.texts import safe


class Flag(Widget, can_focus=True):
    """On or off, with a few words beside it.

    Args:
        label: Shown as it is, never as markup.
    """

    HELP = "`space` switches it, and so does a click; `enter` goes on to the next field."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "switch", "Switch", tooltip="Switch it on or off")]
    DEFAULT_CSS = """
    Flag { width: auto; height: 1; padding: 0 1 0 0; }
    Flag:focus { text-style: bold reverse; }
    """

    value: reactive[bool] = reactive(False, init=False)

    @dataclass
    class Changed(Message):
        """It was switched."""

        flag: Flag
        value: bool

        @property
        def control(self) -> Flag:
            return self.flag

    def __init__(self, value: bool = False, label: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.label = label
        self.set_reactive(Flag.value, value)

    def render(self) -> Content:
        return Content(f"[{'x' if self.value else ' '}] {safe(self.label)}".rstrip())

    def get_content_width(self, container: object, viewport: object) -> int:  # noqa: ARG002
        return Content(f"[ ] {safe(self.label)}".rstrip()).cell_length

    def watch_value(self, value: bool) -> None:
        self.post_message(self.Changed(self, value))

    def action_switch(self) -> None:
        """Switch it."""
        self.value = not self.value

    def on_click(self) -> None:
        self.action_switch()
