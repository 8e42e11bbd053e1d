"""The screen of prediction."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from deepscem_tui.screens.base import WorkScreen


class PredictionScreen(WorkScreen):
    """Not there yet."""

    MODE = "prediction"

    def compose_content(self) -> ComposeResult:
        yield Static("prediction")
