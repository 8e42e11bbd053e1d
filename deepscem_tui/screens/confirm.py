"""A question with a few answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from deepscem_tui.texts import safe
from deepscem_tui.widgets.footer import Footer


@dataclass(frozen=True)
class Answer:
    """An answer to choose.

    Args:
        name: What the dialog gives back.
        key: The letter that chooses it.
        text: What it means, in a few words.
    """

    name: str
    key: str
    text: str


class Confirm(ModalScreen[str | None]):
    """Asks, and gives the name of the answer back; None after escape.

    Args:
        question: Shown as it is, never as markup.
        answers: The first is the safe one, which enter chooses.
    """

    HELP = "`up` and `down` move between the answers, `enter` chooses, and so does an answer's letter. `escape`: none."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(self, question: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._question, self._answers = question, tuple(answers)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(safe(self._question), markup=False)
            yield OptionList(*(Option(Content(safe(f"{a.key}  {a.text}")), id=a.name) for a in self._answers))
        yield Footer()

    def on_mount(self) -> None:
        answers = self.query_one(OptionList)
        answers.highlighted = 0
        answers.focus()

    def on_key(self, event: Key) -> None:
        for answer in self._answers:
            if event.key == answer.key:
                event.stop()
                self.dismiss(answer.name)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option.id)
