"""The screen of runs: the list, the live view beside it, the comparison; every key, and what can go wrong."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_runs
import pytest
from pilot import screen_text, until
from screens import append, at_each_size, driven, make_run, said, settled
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from deepscem_tui.app import DeepscemApp

pytestmark = pytest.mark.usefixtures("server_in_utc")

Golden = Callable[[str, str], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with runs of every kind."""
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    made_runs.training(runs / "20250615-150640-train-mito")
    make_run(runs, "20231114-221320-train-first")
    make_run(runs, "20231115-090000-train-deeper", end="stopped", epochs=3, began=1_700_038_800, batch_size=16)
    make_run(runs, "20231115-100000-train-all labels", end="failed", epochs=0, began=1_700_042_400)
    make_run(runs, "20231115-110000-predict-cell7", "predict", epochs=0, began=1_700_046_000, model="mito.keras")
    make_run(runs, "20231115-120000-train-lost", end=None, epochs=2, began=1_700_049_600)
    return Path()


@at_each_size
def test_looks(size, folder: Path, golden: Golden, monkeypatch) -> None:
    monkeypatch.setattr("deepscem_tui.screens.runs.time", SimpleNamespace(time=lambda: made_runs.BEGAN + 45))
    async def test(pilot, app) -> None:

        from deepscem_tui.widgets.run_view import RunView
        app.screen.query_one(RunView)._clock = lambda: 0.0
        print(await settled(pilot))
        await pilot.press("enter")
        print(await settled(pilot))
        await pilot.press("escape", "down","space","space", "space","space","c")
        print(await settled(pilot))

    driven(test, folder, "runs", size)
