"""The screen of datasets."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from deepscem_tui.screens.base import WorkScreen


class DatasetsScreen(WorkScreen):
    """Not there yet."""

    MODE = "datasets"

    def compose_content(self) -> ComposeResult:
        yield Static("datasets")
