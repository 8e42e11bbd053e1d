"""The screen of training."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from deepscem_tui.screens.base import WorkScreen


class TrainingScreen(WorkScreen):
    """Not there yet."""

    MODE = "training"

    def compose_content(self) -> ComposeResult:
        yield Static("training")
