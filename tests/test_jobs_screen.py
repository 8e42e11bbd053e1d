"""The list of jobs, the question on quitting, and results: how they look, their keys, and long and hostile names."""

import time
from pathlib import Path
from typing import Any

import made_runs
import pytest
from golden_texts import Golden
from pilot import screen_text, until
from rich.cells import cell_len
from screens import driven, looks, said
from textual.pilot import Pilot
from textual.widgets import DataTable, OptionList

from deepscem_tui.app import DeepscemApp
from deepscem_tui.engine import actions
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import DataError
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.jobs import Job, Progress
from deepscem_tui.screens.base import job_line
from deepscem_tui.screens.jobs import JobsScreen
from deepscem_tui.screens.quit import QuitDialog
from deepscem_tui.screens.result_dialog import ResultDialog

pytestmark = pytest.mark.usefixtures("server_in_utc", "impatient")

LONG = "a very long name of a data set that lies here, 中文 [b].hdf5"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; looking at a file lasts until it is stopped, but for one that is quick and one broken."""
    monkeypatch.chdir(tmp_path)

    def info(parameters: p.Info, context: Context) -> Result:
        context.report.message(f"Looking at {parameters.path}")
        if parameters.path.name == "quick.hdf5":
            context.report.warning("Sample two [b] has no voxel size")
            rows = (("one", "8 x 32 x 32"), ("two [b]", "8 x 32 x 32"))
            return Result("Data set with 2 samples of 1 label", tables=(Table("samples", ("sample", "size"), rows),))
        if parameters.path.name == "broken.hdf5":
            raise DataError("broken.hdf5 is damaged", "Copy it again")
        context.report.progress("Looking", 1, 4, "things")
        while True:
            context.stop.check()
            time.sleep(0.01)

    monkeypatch.setattr("deepscem_tui.engine.info.info", info)
    return Path()


def start(app: DeepscemApp, *names: str) -> None:
    for name in names:
        app.start(actions.ACTIONS["info"], actions.build(actions.ACTIONS["info"], {"path": name}))


async def some_jobs(pilot: Pilot[Any], app: DeepscemApp) -> None:
    """One job that is done, one that failed, one in hand, and two that wait; nothing is said of them any more."""
    start(app, "quick.hdf5")
    await until(pilot, lambda: isinstance(app.screen, ResultDialog))
    await pilot.press("escape")
    start(app, "broken.hdf5", LONG, "two.hdf5", "three.hdf5")
    await until(pilot, lambda: app.jobs.all[2].progress is not None and "broken" in said(app))
    app.clear_notifications()


def test_looks(folder: Path, golden: Golden) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "quick.hdf5")
        await until(pilot, lambda: isinstance(app.screen, ResultDialog))
        await looks(pilot, golden, "result")
        await pilot.press("q")
        start(app, "broken.hdf5", LONG, "two.hdf5", "three.hdf5")
        await until(pilot, lambda: app.jobs.all[2].progress is not None and "broken" in said(app))
        app.clear_notifications()
        await pilot.press("f8")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen) and "+2 more  (F8)" in screen_text(app))
        await looks(pilot, golden, "jobs")
        await pilot.press("f8")
        await until(pilot, lambda: app.screen is app.screen_stack[0])
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, QuitDialog))
        await looks(pilot, golden, "quit")
        app.jobs.stop_all("the test is over")

    driven(test, folder, "models")


def test_the_job_in_hand_is_chosen_and_stays_chosen(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await some_jobs(pilot, app)
        await pilot.press("f8")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        table = app.screen.query_one(DataTable)
        await until(pilot, lambda: table.cursor_row == 2)
        long = "".join(f"Looking at {LONG}".split())
        await until(pilot, lambda: long in "".join(screen_text(app).replace("│", "").split()))  # wrapped, not cut
        start(app, "four.hdf5")
        await until(pilot, lambda: table.row_count == 6)
        assert table.cursor_row == 2
        await pilot.press("up")
        await until(pilot, lambda: "broken.hdf5 is damaged. Copy it again" in screen_text(app))
        await pilot.press("x")
        await until(pilot, lambda: "There is nothing to stop" in said(app))
        await pilot.press("up", "enter")
        await until(pilot, lambda: isinstance(app.screen, ResultDialog))
        await pilot.press("escape", "down", "down", "down", "x")
        await until(pilot, lambda: app.jobs.all[3].state == "cancelled")
        app.jobs.stop_all("the test is over")

    driven(test, folder, "models")


def test_a_job_with_a_run_leads_to_it(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "slow.hdf5")
        await until(pilot, lambda: app.jobs.all[0].state == "running")
        app.jobs.all[0].folder = made_runs.training(Path("runs/20250615-150640-train-x"))
        await pilot.press("f8")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "runs" and "20250615-150640-train-x" in screen_text(app))
        app.jobs.stop_all("the test is over")

    driven(test, folder, "models")


def test_no_jobs_and_a_click_on_the_bar(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await pilot.press("f8", "x", "enter")
        await until(pilot, lambda: "There is nothing to stop" in said(app))
        assert isinstance(app.screen, JobsScreen)
        await pilot.press("escape")
        start(app, "slow.hdf5")
        await until(pilot, lambda: "● info slow.hdf5" in screen_text(app))
        await pilot.click("JobBar")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: "info slow.hdf5" in screen_text(app) and "running, 25 %" in screen_text(app))
        await pilot.press("escape", "ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, QuitDialog))
        assert "c  Stay here" in screen_text(app)
        assert app.screen.query_one(OptionList).has_focus
        await pilot.press("c")
        app.jobs.stop_all("the test is over")

    driven(test, folder, "models")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_bar_keeps_what_matters_whatever_the_name(width: int) -> None:
    first, second = Job(1, f"info {LONG}", "files", "info", state="running"), Job(2, "info two.hdf5", "files", "info")
    first.progress = Progress("Looking", 1, 4, "things", "", began=0.0, first=0)
    line = job_line([first, second], 60.0, width)
    assert "25 %  3 min 00 s left  +1 more  (F8)" in line
    assert (LONG in line) == (width == 200)
    assert cell_len(line) <= max(width, 77)
