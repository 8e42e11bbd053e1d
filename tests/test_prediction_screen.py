"""The screen of prediction: the form, the live view, the result beside the true labels, and what can go wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_runs
import pytest
from golden_texts import Golden
from pilot import screen_text, until
from screens import Played, driven, footer, looks, make_dataset, make_model, said
from textual.pilot import Pilot

from deepscem_tui.app import DeepscemApp
from deepscem_tui.engine.results import Result
from deepscem_tui.screens.action_dialog import ActionDialog
from deepscem_tui.screens.prediction import PredictionScreen
from deepscem_tui.widgets.action_form import ActionForm
from deepscem_tui.widgets.run_view import RunView
from deepscem_tui.widgets.slice_view import SliceView

pytestmark = pytest.mark.usefixtures("server_in_utc", "impatient")

DONE = Result("Predicted 2 samples into test-predicted.hdf5", {"files": ["test-predicted.hdf5"]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with all that a prediction needs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RunView.__init__, "__kwdefaults__", {**RunView.__init__.__kwdefaults__, "clock": lambda: 0.0})
    make_model(Path("trained.keras"), training={"epochs": 4})
    make_dataset(Path("test.hdf5"), ("one", "two [b]"))
    return Path()


@pytest.fixture
def played(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(made_runs.predicting, monkeypatch)


def on_prediction(
    test: Callable[[Pilot[Any], DeepscemApp, PredictionScreen], Any], size: tuple[int, int] = (80, 24)
) -> None:
    """Play on the screen of prediction, when its form is there."""

    async def opened(pilot: Pilot[Any], app: DeepscemApp) -> None:
        screen = app.screen
        assert isinstance(screen, PredictionScreen)
        await until(pilot, lambda: screen.query(ActionForm) and screen.query_one(ActionForm).settled, "the form")
        await test(pilot, app, screen)

    driven(opened, Path(), "prediction", size)


async def finished(pilot: Pilot[Any], screen: PredictionScreen, played: Played) -> None:
    """Start what the form says, and let it end well."""
    await pilot.press("ctrl+s")
    await until(pilot, lambda: screen.folder is not None and "12/40" in screen_text(pilot.app), "the live view")
    make_dataset(Path("test-predicted.hdf5"), ("one", "two [b]"), probabilities=True)
    played.end = DONE
    await until(pilot, lambda: "Enter looks at it beside the true labels" in screen_text(pilot.app))


def test_looks(played: Played, golden: Golden) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: PredictionScreen) -> None:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: screen.query_one(RunView)._preview is not None)
        await until(pilot, lambda: screen.query_one(RunView).query_one(SliceView).picture is not None)
        await looks(pilot, golden, "prediction", job_bar=True)
        make_dataset(Path("test-predicted.hdf5"), ("one", "two [b]"), probabilities=True)
        played.end = DONE
        await until(pilot, lambda: "Look" in footer(app))
        await pilot.press("L")
        await until(pilot, lambda: screen.page == "look" and "hits" in screen_text(app))
        await looks(pilot, golden, "prediction_look")

    on_prediction(test)


def test_the_form_proposes_what_the_folder_holds(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: PredictionScreen) -> None:
        values = screen.query_one(ActionForm).values()
        assert [values[name] for name in ("model", "input", "out")] == [
            "trained.keras", "test.hdf5", "test-predicted.hdf5",
        ]  # fmt: skip
        await pilot.press("f9")
        await until(pilot, lambda: "Nothing was started here yet" in screen_text(app))
        assert not {"Stop", "Resume", "Look", "Evaluate", "Objects", "Clean", "Back"} & footer(app)
        await pilot.press("x", "X", "R", "L", "E", "O", "C", "escape")
        await until(pilot, lambda: said(app).count("There is no result yet") == 4)
        assert "There is no run to stop: f goes back to the form" in said(app)

    on_prediction(test)


def test_the_result_is_looked_at_sample_by_sample(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: PredictionScreen) -> None:
        await finished(pilot, screen, played)
        view = screen.query_one("LookPane SliceView", SliceView)
        await pilot.press("enter")
        await until(pilot, lambda: view.facts is not None and view.facts.title == "one" and app.focused is view)
        await until(pilot, lambda: view.look.comparison is not None)
        await pilot.press("n")
        await until(pilot, lambda: view.facts is not None and view.facts.title == "two [b]")
        await pilot.press("N")
        await until(pilot, lambda: view.facts is not None and view.facts.title == "one")
        assert "Back" in footer(app)
        await pilot.press("escape")
        await until(pilot, lambda: screen.page == "view")
        await pilot.press("E")
        await until(pilot, lambda: app.current_mode == "evaluation" and app.screen.query(ActionForm))
        values = app.screen.query_one(ActionForm).values()
        assert (values["reference"], values["segmentation"]) == ("test.hdf5", "test-predicted.hdf5")

    on_prediction(test)


def test_forms_for_the_result_s_objects_and_its_cleaning(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: PredictionScreen) -> None:
        await finished(pilot, screen, played)
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ActionDialog), "the form")
        form = app.screen.query_one(ActionForm)
        assert (form.action.name, form.values()["out"]) == ("clean-masks", "test-predicted-clean.hdf5")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)
        await pilot.press("O")
        await until(pilot, lambda: isinstance(app.screen, ActionDialog) and app.screen.query_one(ActionForm).settled)
        assert app.screen.query_one(ActionForm).values()["csv"] == "test-predicted-objects.csv"
        await until(pilot, lambda: "Would find the objects of 2 labels of 2 samples" in screen_text(app))

    on_prediction(test)


def test_a_result_that_is_gone_is_said(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: PredictionScreen) -> None:
        await finished(pilot, screen, played)
        Path("test-predicted.hdf5").unlink()
        await pilot.press("enter")
        await until(pilot, lambda: "test-predicted.hdf5" in screen_text(app) and screen.page == "look")
        await pilot.press("n", "escape", "f9")
        await until(pilot, lambda: screen.page == "form")

    on_prediction(test)


def test_an_image_without_labels_has_nothing_to_be_compared_with(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: PredictionScreen) -> None:
        await finished(pilot, screen, played)
        Path("test.hdf5").unlink()
        make_dataset(Path("test.hdf5"), ("one", "two [b]"), probabilities=True)
        await pilot.press("enter")
        await until(pilot, lambda: "There are no true labels to compare with" in screen_text(app))
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: "There are no true labels" in screen_text(app))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not screen.query_one("LookPane SliceView", SliceView).busy)

    on_prediction(test)


def test_stopped_it_can_be_resumed(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: PredictionScreen) -> None:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "12/40" in screen_text(app))
        await pilot.press("x")
        await until(pilot, lambda: "R resumes it." in screen_text(app) and "Resume" in footer(app))
        shown = screen.query_one(RunView)
        await until(pilot, lambda: shown.snapshot is not None and shown.snapshot.state == "stopped")
        assert played.folder is not None
        shutil.rmtree(played.folder)
        await until(pilot, lambda: "gone  " in screen_text(app))
        await pilot.press("R")
        await until(pilot, lambda: "predict-x" in said(app) and "run.json" in said(app))

    on_prediction(test)
