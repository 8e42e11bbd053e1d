"""The screen of models."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from deepscem_tui.screens.base import WorkScreen


class ModelsScreen(WorkScreen):
    """Not there yet."""

    MODE = "models"

    def compose_content(self) -> ComposeResult:
        yield Static("models")
