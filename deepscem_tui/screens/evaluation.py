"""The screen of evaluation."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from deepscem_tui.screens.base import WorkScreen


class EvaluationScreen(WorkScreen):
    """Not there yet."""

    MODE = "evaluation"

    def compose_content(self) -> ComposeResult:
        yield Static("evaluation")
