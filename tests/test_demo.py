"""The action `demo`: what it makes anew, goes on with, and refuses; its whole run is played by the tutorials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deepscem_tui.engine import demo as module
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.demo import demo
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.results import Result, Table


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_VOLUMES", {"train": (2, 32, 32), "valid": (1, 32, 32), "test": (1, 32, 32)})


def test_the_whole_demo_goes_on_with_images_that_were_made_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done = tmp_path / "demo", []

    def perform(action: Any, *_: Any) -> Result:
        done.append(action.name)
        return Result("done", {"run": "run"}, (Table("t", ("a",), []),))

    monkeypatch.setattr("deepscem_tui.engine.runs.runs.perform", perform)
    demo(p.Demo(folder=folder, images_only=True), Context())
    before = {path: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}
    assert len(before) == 6
    assert "Would make" in demo(p.Demo(folder=folder, dry_run=True), Context()).summary
    assert not done
    demo(p.Demo(folder=folder), Context())
    assert done[0] == "create-dataset"
    assert done[-1] == "preview"
    assert {path: path.stat().st_mtime_ns for path in (folder / "images").iterdir()} == before


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo(p.Demo(folder=folder, images_only=True), Context())
    with pytest.raises(ParameterError, match=r"images exists already"):
        demo(p.Demo(folder=folder, images_only=True), Context())
    next((folder / "images").iterdir()).unlink()
    (folder / "mine.txt").write_text("mine")
    for dry_run in (True, False):
        with pytest.raises(ParameterError, match="demo exists already"):
            demo(p.Demo(folder=folder, dry_run=dry_run), Context())
    assert (folder / "mine.txt").read_text() == "mine"
    with pytest.raises(ParameterError, match="is a file"):
        demo(p.Demo(folder=folder / "mine.txt"), Context())
