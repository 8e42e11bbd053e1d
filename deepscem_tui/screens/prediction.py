"""The screen of prediction: the form, the live view, and the result beside the reference."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher

from deepscem_tui.engine.formats import place_of
from deepscem_tui.jobs import Job
from deepscem_tui.screens.look import LookPane
from deepscem_tui.screens.proposals import cleaned, objects_of
from deepscem_tui.screens.run_screen import FORM, VIEW, RunScreen
from deepscem_tui.widgets.slice_view import SliceView

_LOOK = "look"


class PredictionScreen(RunScreen):
    """Predicts the labels of images; the result is looked at here and evaluated on the next screen."""

    MODE = "prediction"
    ACTION = "predict"
    HELP = """\
**Prediction.** Fill in the form and start it with `ctrl+s`, or detached with `ctrl+t`. The live view follows.

- `F9` switches between the form and the view; `f` goes back to the form.
- `x` saves what is done and ends it, `R` resumes it.
- `enter` (or `L`) looks at the result, compared with the input's labels if it has any; `E` evaluates it.
- `O` finds, numbers and measures its objects; `C` cleans it: smooths, fills holes, removes what is too small.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,L", "look", "Look", tooltip="Look at the result beside the true labels"),
        Binding("E", "evaluate", "Evaluate", tooltip="Score the result"),
        Binding("O", "objects", "Objects", tooltip="Find, number and measure the objects of the result"),
        Binding("C", "clean", "Clean", tooltip="Smooth the result, fill holes, remove what is too small"),
        Binding("escape", "page('view')", "Back", tooltip="Back to the run"),
    ]
    VIEW_ACTIONS: ClassVar[frozenset[str]] = RunScreen.VIEW_ACTIONS | {"look", "evaluate", "objects", "clean"}

    async def on_mount(self) -> None:
        await self.query_one(ContentSwitcher).add_content(LookPane(id=_LOOK))

    def offers(self, job: Job | None) -> str:
        if self.made() is not None:
            return "\nEnter looks at it beside the true labels, E evaluates it, O finds objects, C cleans it."
        ended = job.state if job is not None else self.run.state if self.run is not None else ""
        return "\nR resumes it." if ended == "stopped" and self.folder is not None else ""

    def action_look(self) -> None:
        """Show the result in the slice view."""
        made = self.made()
        if made is None:
            self._not_yet()
            return
        self.query_one(LookPane).look(self._file(made), self._parameter("input"))
        self.action_page(_LOOK)

    def _file(self, made: Path) -> Path:
        """The file to look at: with several labels a TIFF is one file each."""
        end = self.run.end if self.run is not None else None
        files = (end or {}).get("result", {}).get("files") or []
        if place_of(made).file.exists() or not files or self.run is None:
            return made
        return self.run.working_folder / str(files[0])

    def action_evaluate(self) -> None:
        """Go to the screen of evaluation with the result."""
        made = self.made()
        if made is None:
            self._not_yet()
        else:
            self.app.fill_form("evaluation", {"reference": self._parameter("input"), "segmentation": made})

    def action_objects(self) -> None:
        """Ask how to find the objects of the result."""
        made = self.made()
        if made is None:
            self._not_yet()
        else:
            masks = self._file(made)
            self.app.ask("find-objects", {"input": masks, **objects_of(masks)})

    def action_clean(self) -> None:
        """Ask how to clean the result."""
        made = self.made()
        if made is None:
            self._not_yet()
        else:
            masks = self._file(made)
            self.app.ask("clean-masks", {"input": masks, "out": cleaned(masks)})

    def _not_yet(self) -> None:
        self.app.notify("There is no result yet: it is there when a prediction has finished", severity="warning")

    def action_turn(self) -> None:
        self.action_page(VIEW if self.page == FORM else FORM)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        if self.page == _LOOK and action in ("stop", "stop_now", "resume", "look"):
            return False
        if action == "page" and parameters == (VIEW,):
            return self.page == _LOOK
        return super().check_action(action, parameters)

    def enter_view(self) -> None:
        if self.page == _LOOK:
            self.query_one(SliceView).focus()
        else:
            super().enter_view()
