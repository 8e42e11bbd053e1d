"""The line of keys: what is needed most is in it however narrow the window is, and it says where there are more."""

import os
from pathlib import Path
from typing import Any

import pytest
from pilot import screen_text, until
from screens import BEGAN, append, driven, make_dataset, make_run
from textual.pilot import Pilot

from deepscem_tui.app import DeepscemApp

pytestmark = pytest.mark.usefixtures("impatient")


def last_line(app: DeepscemApp) -> str:
    return screen_text(app).split("\n")[-1]


async def shows(pilot: Pilot[Any], app: DeepscemApp, *keys: str) -> None:
    await until(pilot, lambda: all(key in last_line(app) for key in keys), " ".join(keys))


def test_a_cut_line_of_keys_says_so_and_always_has_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_dataset(Path("a.hdf5"))

    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await shows(pilot, app, " n New  o Open  a Add sample  z Larger  v Compare … ", " f1 Help  ^p palette")
        await pilot.resize_terminal(50, 24)
        await shows(pilot, app, " n New  o Open … ", " f1 Help  ^p palette")
        await pilot.resize_terminal(200, 24)
        await shows(pilot, app, "e Export", "f1 Help")
        assert "…" not in last_line(app)
        await pilot.click("#always FooterKey")
        await until(pilot, lambda: bool(app.screen.query("HelpPanel")))

    driven(test, Path(), "datasets")


def test_the_slices_say_how_to_go_back_and_what_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_dataset(Path("a.hdf5"))

    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await shows(pilot, app, "z Larger")
        assert "Back" not in last_line(app)
        await pilot.press("z")
        await shows(pilot, app, "esc Back", "s PNG")
        await pilot.press("g")
        await shows(pilot, app, "⏎ Go there")
        assert "Zoom" not in last_line(app)
        await pilot.press("escape")
        await shows(pilot, app, "esc Back", "s PNG")
        await pilot.press("f8")
        await shows(pilot, app, "Close", "f1 Help")
        await pilot.press("f1")
        await until(pilot, lambda: bool(app.screen.query("HelpPanel")))

    driven(test, Path(), "datasets")


def test_a_run_is_stopped_and_taken_up_again_by_a_key_that_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_run(Path("runs"), end=None, pid=os.getpid())

    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await shows(pilot, app, "f9 Form/view  x Stop  y Scale", "…")
        append(folder, BEGAN + 50, "stopped", error="Stopped")
        await shows(pilot, app, "f9 Form/view  R Resume  y Scale", "…")

    driven(test, Path(), "training")


def test_marked_runs_can_be_compared_by_a_key_that_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        make_run(Path("runs"), f"20231114-221320-train-{name}")

    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await shows(pilot, app, "space Mark")
        await pilot.press("space", "space")
        await shows(pilot, app, "c Compare")

    driven(test, Path(), "runs")


def test_keys_are_named_in_ascii_where_there_is_nothing_else(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        app.ascii_only = True
        await pilot.press("f8")
        await shows(pilot, app, "enter Show")

    driven(test, tmp_path, "datasets")
