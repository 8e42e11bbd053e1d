"""The screen of runs."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.widgets import Static

from deepscem_tui.screens.base import WorkScreen


class RunsScreen(WorkScreen):
    """Not there yet."""

    MODE = "runs"

    def compose_content(self) -> ComposeResult:
        yield Static("runs")

    def show_run(self, folder: Path) -> None:
        """Show a run."""
