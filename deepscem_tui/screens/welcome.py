"""What is shown where a folder holds no data set: what this is, and ways to begin."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from deepscem_tui.engine import words
from deepscem_tui.engine.catalogue import Catalogue
from deepscem_tui.texts import safe

__all__ = ["Welcome"]

_CHOICES = (  # name, key, what it says, what the footer says
    ("images", "m", "Make the demo's images, to make data sets of yourself", "Demo images"),
    ("demo", "d", "Do the whole demo: data sets, training, prediction, scores", "Whole demo"),
    ("create", "n", "Make a new data set", "New"),
    ("folder", "f", "Make one of a folder of images and labels", "Folder"),
    ("open", "o", "Open a data set that lies elsewhere", "Open"),
)
_ABOUT = """\
deepscem-tui finds organelles in electron-microscopy volumes with deep networks.
A data set holds images and their labels; a network learns from it, and predicts the labels of other images."""


class Welcome(VerticalScroll, can_focus=False):
    """Says what this is and what can be done first; a message tells what was chosen."""

    HELP = """\
## No data set yet

A **data set** (`.hdf5`) holds samples: an image and its labels. Make one of your own images, open one, or let the demo
make images for you to try everything with.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"take('{name}')", short, tooltip=text) for name, key, text, short in _CHOICES
    ]
    DEFAULT_CSS = """
    Welcome { padding: 1 2; height: 1fr; }
    Welcome > Static { height: auto; margin-bottom: 1; }
    Welcome > OptionList { height: auto; max-width: 76; margin-bottom: 1; }
    DatasetsScreen.-low Welcome { padding: 0 1; }
    DatasetsScreen.-low Welcome > Static, DatasetsScreen.-low Welcome > OptionList { margin-bottom: 0; }
    """

    class Choice(Message):
        """One of the ways to begin was chosen: ``images``, ``demo``, ``create``, ``folder`` or ``open``."""

        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

    def compose(self) -> ComposeResult:
        yield Static(_ABOUT, markup=False)
        yield Static("Looking for data sets", id="found", markup=False)
        yield OptionList(*(Option(Content(f"{key}  {text}"), id=name) for name, key, text, _ in _CHOICES))
        yield Static("F1 explains the keys; tutorials are in docs/ of the program's source code.", markup=False)

    def tell(self, catalogue: Catalogue, closed: bool) -> None:
        """Say what the folder holds.

        Args:
            closed: Whether there are data sets that were closed.
        """
        self.query_one("#found", Static).update(found(catalogue, closed))

    def enter(self) -> None:
        """Put the focus on the choices."""
        options = self.query_one(OptionList)
        if options.highlighted is None:
            options.highlighted = 0
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_take(event.option.id or "create")

    def action_take(self, name: str) -> None:
        """Begin in that way."""
        self.post_message(self.Choice(name))


def found(catalogue: Catalogue, closed: bool = False) -> str:
    """What a folder without data sets holds, in a sentence or two."""
    where = "This folder" if catalogue.folder == Path() else str(catalogue.folder)
    if closed:
        return "All data sets are closed; ctrl+r shows those of the folder again."
    text = f"{safe(where)} holds no data set yet."
    if catalogue.images:
        place = catalogue.images[0].parent
        inside = "" if place == catalogue.folder else f" in {safe(place)}/"
        text += f" There are {words.counted(catalogue.n_images, 'image file')}{inside}: f makes a data set of them."
    return text
