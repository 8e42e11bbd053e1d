"""The screen of runs: the list, the live view beside it, the comparison; every key, and what can go wrong."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_runs
import pytest
from golden_texts import Golden
from pilot import screen_text, until
from screens import BEGAN, append, driven, footer, looks, make_run, said, settled
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList

from deepscem_tui.app import DeepscemApp
from deepscem_tui.engine.runs.watching import RunsIndex
from deepscem_tui.screens.compare_runs import CompareRuns
from deepscem_tui.screens.confirm import Confirm
from deepscem_tui.screens.run_control import GoOnDialog
from deepscem_tui.screens.run_table import RunTable, cells
from deepscem_tui.screens.runs import RunsScreen
from deepscem_tui.widgets.run_view import RunView

pytestmark = pytest.mark.usefixtures("server_in_utc", "impatient")

HOUR = 3600.0
NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with runs of every kind; one of them runs, and is chosen at first."""
    monkeypatch.chdir(tmp_path)
    now = SimpleNamespace(time=lambda: made_runs.BEGAN + 45)
    monkeypatch.setattr("deepscem_tui.screens.runs.time", now)
    monkeypatch.setattr(RunView.__init__, "__kwdefaults__", {**RunView.__init__.__kwdefaults__, "clock": lambda: 0.0})
    runs = Path("runs")
    made_runs.training(runs / "20250615-150640-train-mito")
    make_run(runs, "20231115-120000-train-lost", end=None, epochs=2, began=NOON)
    make_run(runs, "20231115-110000-predict-cell7", "predict", epochs=0, began=NOON - HOUR, model="mito.keras")
    make_run(runs, "20231115-100000-train-all labels", end="failed", epochs=0, began=NOON - 2 * HOUR)
    make_run(runs, "20231115-090000-train-deeper", end="stopped", epochs=3, began=NOON - 3 * HOUR, batch_size=16)
    make_run(runs, "20231114-220000-train-first", began=NOON - 14 * HOUR)
    return Path()


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A process that is not this one, by its id."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


def on_runs(test: Callable[[Pilot[Any], DeepscemApp, RunTable], Any], size: tuple[int, int] = (80, 24)) -> None:
    """Play on the screen of runs of the current folder, when they are listed."""

    async def listed(pilot: Pilot[Any], app: DeepscemApp) -> None:
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        await until(pilot, lambda: screen._looked, "the runs are looked at")
        await test(pilot, app, screen.query_one(RunTable))

    driven(listed, Path(), "runs", size)


def names(table: RunTable) -> list[str]:
    return [run.name.rpartition("-")[-1] for run in table.runs]


async def choose(pilot: Pilot[Any], table: RunTable, name: str) -> None:
    """Move the cursor to a run."""
    table.choose(next(run.folder for run in table.runs if run.name.endswith(name)))
    await until(pilot, lambda: table.chosen is not None and table.chosen.name.endswith(name), name)
    await pilot.pause()


# ------------------------------------------------------------------------------------------------ looks


def test_looks(folder: Path, golden: Golden) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await looks(pilot, golden, "runs")
        await pilot.press("enter")
        await looks(pilot, golden, "runs_full")
        await pilot.press("escape", "down", *["space"] * 5, "c")
        await looks(pilot, golden, "runs_compared")

    on_runs(test)


def test_a_long_name_loses_its_middle_and_nothing_else_is_hidden(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    name = "20231114-221320-train-mitochondria of the liver, [b]third try, 中文, with all augmentations, seed 2"
    make_run(Path("runs"), name)

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await until(pilot, lambda: "mitochond..., seed 2" in screen_text(app))
        assert "4/4 epochs  F1 0.875" in screen_text(app)
        assert "[b]third" in screen_text(app)  # the line below has it whole
        await pilot.resize_terminal(130, 40)
        await until(pilot, lambda: "41 s" in screen_text(app) and "Took" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.has_class("-full"))

    on_runs(test)


def test_the_footer_has_the_keys_that_fit(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await until(pilot, lambda: {"Stop", "Stop now"} <= footer(app))
        assert not {"Resume", "More epochs", "Delete", "Compare", "Back"} & footer(app)
        await choose(pilot, table, "deeper")
        await until(pilot, lambda: {"Resume", "More epochs", "Delete"} <= footer(app))
        assert not {"Stop", "Stop now"} & footer(app)
        await choose(pilot, table, "cell7")
        await until(pilot, lambda: not {"Resume", "More epochs"} & footer(app) and "Delete" in footer(app))
        await pilot.press("space", "space")
        await until(pilot, lambda: "Compare" in footer(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Back" in footer(app) and not {"Mark", "Filter"} & footer(app))

    on_runs(test)


# ------------------------------------------------------------------------------------------------ keys


def test_the_full_view_and_back(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await choose(pilot, table, "first")
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is not None and app.screen.query_one(RunView) in app.focused.ancestors)
        assert "finished  41 s  20231114-220000-train-first" in screen_text(app).splitlines()[1]
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is table and "Action" in screen_text(app))
        await pilot.click(table, offset=(20, 2))
        await until(pilot, lambda: table.cursor_row == 1 and "20231115-120000-train-lost" in screen_text(app))

    on_runs(test)


def test_the_filter(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await pilot.press("slash", *"train FIRST")
        await until(pilot, lambda: names(table) == ["first"])
        assert "5 not shown" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is table)
        await pilot.press("slash", *"no such")
        await until(pilot, lambda: "No run has these words" in screen_text(app))
        await pilot.press("enter", "x")
        await until(pilot, lambda: "There is no run here" in said(app))
        await pilot.press("escape")
        await until(pilot, lambda: len(table.runs) == 6 and app.focused is table)
        assert not app.screen.query_one(Input).display
        await pilot.press("slash", "enter")
        await until(pilot, lambda: app.focused is table and not app.screen.query_one(Input).display)

    on_runs(test)


def test_several_are_compared(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        compare, grid = app.screen.query_one(CompareRuns), app.screen.query_one("CompareRuns DataTable", DataTable)
        await choose(pilot, table, "deeper")
        await pilot.press("space", "c")
        await until(pilot, lambda: "Mark two runs or more" in said(app))
        await pilot.press("space")
        await until(pilot, lambda: "2 marked" in screen_text(app))
        await pilot.press("c")
        await until(pilot, lambda: "2 runs: validation F1" in screen_text(app))
        rows = [" ".join(str(cell) for cell in grid.get_row_at(row)) for row in range(grid.row_count)]
        assert "F1 of the model 0.8333 0.875" in rows
        assert "batch_size 16 -" in rows
        for wanted, key in (("validation_loss", "m"), ("validation_f1", "M")):
            await pilot.press(key)
            await until(pilot, lambda wanted=wanted: compare.measure == wanted)  # type: ignore[misc]
        await pilot.press("a")
        await until(pilot, lambda: "by minutes" in screen_text(app))
        append(Path("runs/20231115-090000-train-deeper"), NOON, "resumed")  # dead again, but not as it was
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is table)
        await pilot.press("space")
        await until(pilot, lambda: "2 marked" not in screen_text(app))

    on_runs(test)


def test_the_comparison_shows_the_f1_of_the_kept_models(tmp_path: Path, monkeypatch: Any) -> None:
    """Not the highest of any epoch, which no model has that was kept."""
    monkeypatch.chdir(tmp_path)
    for name, kept in (("a", 0.7512), ("b", 0.7534)):
        folder = make_run(Path("runs"), f"20231114-221320-train-{name}", end=None)
        append(folder, BEGAN + 41, "finished", result={"summary": "Trained", "validation_f1": kept})

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await pilot.press("space", "space", "c")
        await until(pilot, lambda: "0.7512" in screen_text(app) and "0.7534" in screen_text(app))
        assert "0.875" not in screen_text(app)  # of the last epoch
        assert "F1 of the model" in screen_text(app)

    on_runs(test, (120, 40))


def test_more_lines_than_can_be_told_apart_are_not_compared(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(9):
        make_run(Path("runs"), f"20231114-22130{number}-train-r{number}")

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await pilot.press(*["space"] * 9, "c")
        await until(pilot, lambda: "9 are marked, and 8 lines are the most" in said(app))

    on_runs(test)


def test_stopping(tmp_path: Path, monkeypatch: Any, elsewhere: int) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(Path("runs"), end=None, pid=elsewhere)
    done = make_run(Path("runs"), "20231113-221320-train-done", began=NOON - 100 * HOUR)

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await choose(pilot, table, "mito")
        await pilot.press("R")
        await until(pilot, lambda: "is running" in said(app))
        await pilot.press("x")
        await until(pilot, lambda: (run / "stop").exists() and "is asked to stop" in said(app))
        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "since its last checkpoint" in screen_text(app)
        await pilot.press("enter")  # the safe answer
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: "has ended: dead" in said(app))
        await choose(pilot, table, "done")
        await pilot.press("x")
        await until(pilot, lambda: f"{done} is not running: it is finished" in said(app))
        await pilot.press("X")
        await until(pilot, lambda: f"{done.name} is not running: it is finished" in said(app))

    on_runs(test)


def test_going_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(DeepscemApp, "resume", lambda _, *how: asked.append((how[0].name[-6:], *how[1:])))

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await choose(pilot, table, "first")
        await pilot.press("R")
        await until(pilot, lambda: "first is finished: e continues" in said(app).replace(". ", ": "))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, GoOnDialog))
        assert "4 of 4 epochs are done" in screen_text(app)
        assert app.screen.query_one(Input).value == "20"
        await pilot.press("2", "enter")
        await until(pilot, lambda: "Give more than 4" in screen_text(app) or asked)
        app.screen.query_one(Input).value = "4"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "! Give more than 4" in screen_text(app))
        app.screen.query_one(Input).value = "9"
        await pilot.press("ctrl+t")
        await until(pilot, lambda: asked == [("-first", 9, True)])
        await choose(pilot, table, "deeper")
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, GoOnDialog))
        assert "it goes on from its last checkpoint" in screen_text(app)
        await pilot.press("escape", "R")
        await until(pilot, lambda: isinstance(app.screen, GoOnDialog))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: asked[1:] == [("deeper", None, False)])
        await choose(pilot, table, "cell7")
        await pilot.press("e")
        await until(pilot, lambda: "cell7 is no training" in said(app))

    on_runs(test)


def test_again_fills_the_form_and_the_command_is_copied(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await choose(pilot, table, "deeper")
        await pilot.press("y")
        await until(pilot, lambda: "The command is copied" in said(app))
        assert app.clipboard == "deepscem-tui run train net.keras mito.keras"
        await pilot.press("d")
        await until(pilot, lambda: app.current_mode == "training" and app.screen.query("ActionForm"))
        await until(pilot, lambda: "16" in screen_text(app))
        values = app.screen.query_one("ActionForm").values()  # type: ignore[attr-defined]
        assert (values["batch_size"], values["out"]) == ("16", "mito.keras")

    on_runs(test, (120, 60))


def test_deleting_asks_and_keeps_what_runs(folder: Path) -> None:
    gone = Path("runs/20231114-220000-train-first")

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await pilot.press("delete")
        await until(pilot, lambda: "is running" in said(app))
        await choose(pilot, table, "first")
        await pilot.press("delete")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "2 files" in screen_text(app)
        assert app.screen.query_one(OptionList).highlighted == 0
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        assert gone.exists()
        await pilot.press("delete")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("d")
        await until(pilot, lambda: not gone.exists() and "first" not in names(table))

    on_runs(test)


# ------------------------------------------------------------------------------------------------ wrong turns


def test_no_runs_yet(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await until(pilot, lambda: "There are no runs in runs. Trainings (F4)" in screen_text(app))
        await pilot.press("x", "X", "R", "e", "d", "y", "space", "delete", "enter", "escape", "c")
        await until(pilot, lambda: "There is no run here" in said(app) and "Mark two runs" in said(app))
        make_run(Path("runs"))
        await until(pilot, lambda: names(table) == ["mito"] and "20231114-221320-train-mito" in screen_text(app))

    on_runs(test)


def test_a_run_that_is_removed_while_it_is_shown(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await choose(pilot, table, "deeper")
        await pilot.press("enter")
        await until(pilot, lambda: "stopped  31 s  20231115" in screen_text(app))
        shutil.rmtree("runs/20231115-090000-train-deeper")
        await until(pilot, lambda: "20231115-090000-train-deeper is gone" in said(app))  # not the next one in its place
        await until(pilot, lambda: app.focused is table and "20231114-220000-train-first" in screen_text(app))
        await pilot.press("space", "enter")
        shutil.rmtree("runs")
        await until(pilot, lambda: "There are no runs in runs" in screen_text(app))
        await until(pilot, lambda: "No run is chosen" in screen_text(app))

    on_runs(test)


def test_what_is_no_run_is_left_out_and_damage_is_said(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    good = make_run(Path("runs"))
    for name, content in (("empty", ""), ("foreign", "[1]"), ("torn", '{"action": "tr')):
        (Path("runs") / name).mkdir()
        (Path("runs") / name / "run.json").write_text(content)
    (good / "events.jsonl").write_bytes((good / "events.jsonl").read_bytes() + b'\xff\x00{"t": 1, "type"')
    Path("runs/a file").write_text("no folder")

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        await until(pilot, lambda: names(table) == ["mito"] and "4/4 epochs" in screen_text(app))
        (good / "run.json").write_text("{")
        await until(pilot, lambda: "There are no runs in runs" in screen_text(app))

    on_runs(test)


def test_from_large_to_a_narrow_pane_and_back(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        wide = await settled(pilot)
        await choose(pilot, table, "deeper")
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: "deeper" in screen_text(app) and "Took" not in screen_text(app))
        assert table.chosen is not None
        assert table.chosen.name.endswith("deeper")
        assert "stopped  31 s" in screen_text(app)
        await pilot.press("enter", "escape")
        await choose(pilot, table, "mito")
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: "Took" in screen_text(app))
        assert await settled(pilot) == wide

    on_runs(test, (200, 60))


def test_a_run_of_another_pane_appears_and_ends(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: RunTable) -> None:
        made = made_runs.describe(Path("runs/20260101-000000-train-new"))
        made_runs.say(made, "started", 1, device="CPU")
        await until(pilot, lambda: "new" in names(table))
        assert table.chosen is not None
        assert table.chosen.name.endswith("mito")  # the cursor stays on its run
        made_runs.epoch(made, 1, 10)
        made_runs.say(made, "failed", 11, error="The disk is full")
        await choose(pilot, table, "new")
        await until(pilot, lambda: "! failed" in str(table.get_row(str(made))[1]))
        await until(pilot, lambda: "The disk is full" in screen_text(app))

    on_runs(test)


@pytest.mark.parametrize(
    ("task", "expected"), [("Training", "3/8 epochs  F1 0.644  100 %"), ("Reading samples", "reading samples 100 %")]
)
def test_progress_that_is_not_the_trainings_own_is_named(task: str, expected: str, tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    made_runs.say(folder, "progress", 50, task=task, done=8, total=8, unit="slices", note="")
    (run,) = RunsIndex(tmp_path).poll()
    assert cells(run, marked=False, now=made_runs.BEGAN + 60, name_width=20)[-1].plain.endswith(expected)
