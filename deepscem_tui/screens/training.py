"""The screen of training: the form, and the live view of what was started."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from deepscem_tui.jobs import Job
from deepscem_tui.screens.run_screen import RunScreen


class TrainingScreen(RunScreen):
    """Trains a model; when it has ended, predicts with it or goes on for longer."""

    MODE = "training"
    ACTION = "train"
    HELP = """\
**Training.** Fill in the form and start it with `ctrl+s`, or detached with `ctrl+t`. The live view follows.

- `F9` switches between the form and the live view; `f` goes back to the form.
- `x` saves the network's state and ends the training, `R` resumes it, `e` continues it for more epochs.
- `enter` (or `P`) predicts with the trained model.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "more_epochs", "More epochs", tooltip="Continue for more epochs"),
        Binding("enter,P", "predict", "Predict", tooltip="Predict with the trained model"),
    ]
    VIEW_ACTIONS: ClassVar[frozenset[str]] = RunScreen.VIEW_ACTIONS | {"more_epochs", "predict"}

    def offers(self, job: Job | None) -> str:
        made = self.made()
        if made is not None:
            return f"\nEnter predicts with {made.name}, e continues for more epochs."
        ended = job.state if job is not None else self.run.state if self.run is not None else ""
        return "\nR resumes it, e for more epochs." if ended == "stopped" and self.folder is not None else ""

    def action_more_epochs(self) -> None:
        """Continue for more epochs."""
        if folder := self._folder_to("continue"):
            self.continue_run(folder)

    def action_predict(self) -> None:
        """Go to the screen of prediction with the trained model."""
        made = self.made()
        if made is None:
            text = "There is no trained model yet: it is there when a training has finished"
            self.app.notify(text, severity="warning", markup=False)
        else:
            self.app.fill_form("prediction", {"model": made})
