"""A result beside its reference: the slice view, and which sample is in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Select, Static

from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.errors import EngineError
from deepscem_tui.engine.sources.inputs import is_image_file
from deepscem_tui.engine.viewing.slices import SliceTarget
from deepscem_tui.texts import safe
from deepscem_tui.widgets.slice_view import SliceView

if TYPE_CHECKING:
    from deepscem_tui.app import DeepscemApp

_READY_SECONDS = 0.1


class LookPane(Vertical):
    """Slices of a result, compared with the reference where there is one; `n` shows the next sample."""

    app: DeepscemApp
    HELP = """\
A **result** beside the true labels, where there are any: hits, misses and false alarms are coloured.

- `n` and `N` show the next and the previous sample; `m` turns the comparison off and on.
- `escape` goes back.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "sample(1)", "Next sample", tooltip="Show the next sample"),
        Binding("N", "sample(-1)", "Previous sample", show=False),
    ]
    DEFAULT_CSS = """
    LookPane { height: 1fr; width: 1fr; }
    LookPane Select { height: 1; }
    LookPane #note { height: auto; padding: 0 1; color: $text-muted; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._path: Path | None = None
        self._reference: Path | None = None
        self._samples: tuple[str, ...] = ()
        self._sample: str | None = None
        self._ready: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Select([], prompt="sample", compact=True, allow_blank=True)
        yield Static(id="note", markup=False)
        style: Any = self.app.pictures
        yield SliceView(pictures=style, folder=self.app.folder)

    def on_mount(self) -> None:
        self.query_one(Select).display = False
        self._say("Nothing to look at yet")

    def look(self, path: Path, reference: Path | None, sample: str | None = None) -> None:
        """Show a data set's sample or an image file.

        Args:
            reference: A data set with true labels to compare with, if it has any.
            sample: The first of the data set if not given.
        """
        self.run_worker(self._look(path, reference, sample), group="look", exclusive=True)

    async def _look(self, path: Path, reference: Path | None, sample: str | None) -> None:
        try:
            names, compared = await asyncio.to_thread(_read, path, reference)
        except (EngineError, OSError) as error:
            self._say(str(error))
            return
        self._path, self._samples = path, names
        self._reference = reference if compared else None
        self._choose(sample if sample in names else names[0] if names else None)

    def _choose(self, sample: str | None) -> None:
        if self._path is None:
            return
        self._sample = sample
        select: Select[str] = self.query_one(Select)
        with select.prevent(Select.Changed):
            select.set_options([(Content(safe(name)), name) for name in self._samples])
            select.value = sample if sample is not None else Select.NULL
        select.display = len(self._samples) > 1
        self._say("" if self._reference else "There are no true labels to compare with")
        self.query_one(SliceView).show(SliceTarget(self._path, sample, self._reference))
        if self._ready is not None:
            self._ready.stop()
        if self._reference:
            self._ready = self.set_interval(_READY_SECONDS, self._compare_when_ready)

    def _compare_when_ready(self) -> None:
        """Colour hits and errors at first: that is what a result beside its reference is looked at for."""
        view = self.query_one(SliceView)
        if view.facts is None or (self._sample is not None and view.facts.title != self._sample):
            return
        if self._ready is not None:
            self._ready.stop()
        if view.facts.compared and view.look.comparison is None:
            view.action_compare()

    def _say(self, text: str) -> None:
        note = self.query_one("#note", Static)
        note.display = bool(text)
        note.update(safe(text))

    def on_select_changed(self, event: Select.Changed) -> None:
        event.stop()
        if event.value is not Select.NULL and event.value != self._sample:
            self._choose(str(event.value))

    def action_sample(self, by: int) -> None:
        """Show the next or the previous sample."""
        if len(self._samples) < 2 or self._sample is None:
            self.app.notify("There is no other sample")
            return
        index = self._samples.index(self._sample) + by
        self._choose(self._samples[index % len(self._samples)])


def _read(path: Path, reference: Path | None) -> tuple[tuple[str, ...], bool]:
    """The samples of a result, and whether the reference has labels to compare with."""
    names: tuple[str, ...] = ()
    if not is_image_file(path):
        with open_dataset(path) as dataset:
            names = tuple(dataset.samples)
    if reference is None or is_image_file(reference) or not names:
        return names, False
    try:
        with open_dataset(reference) as dataset:
            return names, any(dataset.sample(name).labels for name in dataset.samples)
    except (EngineError, OSError):  # the result itself can be looked at
        return names, False
