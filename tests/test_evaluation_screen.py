"""The screen of evaluation: the form, the scores, F1 against the threshold, a look at the errors, and wrong turns."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from golden_texts import Golden
from pilot import screen_text, until
from screens import driven, footer, looks, make_dataset, said
from textual.pilot import Pilot

from deepscem_tui.app import DeepscemApp
from deepscem_tui.screens.evaluation import EvaluationScreen, ScoreTable
from deepscem_tui.widgets.action_form import ActionForm
from deepscem_tui.widgets.line_chart import LineChart
from deepscem_tui.widgets.slice_view import SliceView

pytestmark = pytest.mark.usefixtures("server_in_utc", "impatient")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with true labels and probabilities; of the second sample's disc only half is found."""
    monkeypatch.chdir(tmp_path)
    make_dataset(Path("test.hdf5"), ("one", "two"))
    make_dataset(Path("test-predicted.hdf5"), ("one", "two"), probabilities=True)
    with h5py.File("test-predicted.hdf5", "r+") as file:
        found = file["two/prediction_0000"]
        found[...] = found[()] * ([1.0] * 16 + [0.5] * 16)
    return Path()


def on_evaluation(
    test: Callable[[Pilot[Any], DeepscemApp, EvaluationScreen], Any], size: tuple[int, int] = (80, 24)
) -> None:
    """Play on the screen of evaluation, when its form is there."""

    async def opened(pilot: Pilot[Any], app: DeepscemApp) -> None:
        screen = app.screen
        assert isinstance(screen, EvaluationScreen)
        await until(pilot, lambda: screen.query(ActionForm) and screen.query_one(ActionForm).settled, "the form")
        await test(pilot, app, screen)

    driven(opened, Path(), "evaluation", size)


async def scored(pilot: Pilot[Any], screen: EvaluationScreen) -> ScoreTable:
    """Carry out what the form says; wait for the scores."""
    await pilot.press("ctrl+s")
    table = screen.query_one(ScoreTable)
    await until(pilot, lambda: table.display and table.row_count and pilot.app.focused is table, "the scores")
    return table


def column(table: ScoreTable, number: int) -> list[str]:
    return [str(table.get_row_at(row)[number]) for row in range(table.row_count)]


def test_looks(folder: Path, golden: Golden) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        await scored(pilot, screen)
        await looks(pilot, golden, "evaluation")
        await pilot.press("down", "enter")
        await until(pilot, lambda: "misses" in screen_text(app))
        await looks(pilot, golden, "evaluation_look")

    on_evaluation(test)


def test_the_table_is_sorted_by_key_and_by_mouse(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        table = await scored(pilot, screen)
        assert column(table, 1) == ["one", "two", "all"]
        await pilot.press("3")
        await pilot.press("3")
        await until(pilot, lambda: column(table, 1) == ["two", "one", "all"])  # what is over all samples stays last
        await pilot.press("3")
        await until(pilot, lambda: column(table, 1) == ["one", "two", "all"])
        await pilot.click(table, offset=(10, 0))  # the heading `sample`
        await pilot.click(table, offset=(10, 0))
        await until(pilot, lambda: column(table, 1) == ["two", "one", "all"])
        await pilot.press("enter")
        view = screen.query_one(SliceView)
        await until(pilot, lambda: view.facts is not None and view.facts.title == "two")
        await until(pilot, lambda: app.focused is view and view.look.comparison is not None)
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is table)

    on_evaluation(test)


def test_scores_of_objects_and_outlines_stand_beside_the_others(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        files = {"reference": Path("test.hdf5"), "segmentation": Path("test-predicted.hdf5")}
        app.fill_form("evaluation", {**files, "objects": True, "surfaces": True})
        await until(pilot, lambda: screen.query_one(ActionForm).values()["objects"])
        table = await scored(pilot, screen)
        names = [str(column.label) for column in table.ordered_columns]
        assert names[:3] == ["label", "sample", "f1"]
        assert column(table, names.index("objects_tp_50")) == ["1", "0", "1"]  # half of the second disc is found
        assert column(table, names.index("hd95"))[0] == "0.0000"
        assert screen.query_one(LineChart).display
        await pilot.press("s")
        saved = Path("test-predicted-scores.csv")
        await until(pilot, saved.exists)
        with saved.open(newline="") as file:
            assert next(csv.reader(file)) == names

    on_evaluation(test)


def test_the_curve_has_its_keys(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        await scored(pilot, screen)
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, LineChart))
        await pilot.press("y")
        await until(pilot, lambda: "F1 against threshold (log)" in screen_text(app))
        await pilot.press("s")
        await until(pilot, lambda: Path("test-predicted-scores.csv").exists())

    on_evaluation(test)


def test_the_table_is_saved_and_nothing_overwritten(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        await scored(pilot, screen)
        await pilot.press("s")
        await until(pilot, lambda: "Wrote test-predicted-scores.csv" in said(app))
        await pilot.press("s")
        await until(pilot, lambda: "Wrote test-predicted-scores-2.csv" in said(app))
        with Path("test-predicted-scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["sample"] for row in rows][:2] == ["one", "two"]
        assert float(rows[0]["f1"]) == 1.0

    on_evaluation(test)


def test_before_there_are_scores_keys_say_so(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        await pilot.press("f9")
        await until(pilot, lambda: "Nothing was started here yet" in screen_text(app))
        assert not {"Save CSV", "Look", "Sort", "Back"} & footer(app)
        await pilot.press("s", "L", "1", "enter")
        await until(pilot, lambda: said(app).count("There is nothing to look at yet") == 2)
        assert "There is no table to save yet" in said(app)
        await pilot.press("f")
        await until(pilot, lambda: screen.page == "form")

    on_evaluation(test)


def test_masks_have_a_table_and_no_curve(folder: Path) -> None:
    make_dataset(Path("masks.hdf5"), ("one", "two"))

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        form = screen.query_one(ActionForm)
        form.fill({"segmentation": "masks.hdf5"})
        await until(pilot, lambda: form.settled)
        await scored(pilot, screen)
        assert not screen.query_one(LineChart).display
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: "label  sample" in screen_text(app))
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "recall" in screen_text(app))

    on_evaluation(test)


def test_what_goes_wrong_is_said(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        Path("test-predicted.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n torn")  # since the form looked at it
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "! test-predicted.hdf5 is damaged" in screen_text(app))
        assert not app.jobs.all
        assert not screen.query_one(ScoreTable).display

    on_evaluation(test)


def test_files_that_vanish_after_scoring(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        await scored(pilot, screen)
        Path("test-predicted.hdf5").unlink()
        await pilot.press("enter")
        await until(pilot, lambda: "There is no data set test-predicted.hdf5" in " ".join(screen_text(app).split()))
        await pilot.press("escape", "f9")
        await until(pilot, lambda: screen.page == "form")

    on_evaluation(test)


def test_a_prediction_that_came_later_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_dataset(Path("test.hdf5"))

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        form = screen.query_one(ActionForm)
        assert form.values()["segmentation"] == ""
        await pilot.press("f2")
        make_dataset(Path("test-predicted.hdf5"), probabilities=True)
        await pilot.press("f6")
        await until(pilot, lambda: form.settled and form.values()["segmentation"] == "test-predicted.hdf5")
        assert "Would compare" in str(form.query_one("#status").render())

    on_evaluation(test)


def test_an_empty_folder_has_nothing_to_propose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: EvaluationScreen) -> None:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "2 to be filled in" in screen_text(app))
        assert not app.jobs.all

    on_evaluation(test)
