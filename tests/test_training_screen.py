"""The screen of training: from the form to the live view and what follows, and what can go wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_runs
import pytest
from golden_texts import Golden
from pilot import screen_text, until
from screens import BEGAN, Played, driven, footer, looks, make_dataset, make_model, make_run, said
from textual.pilot import Pilot

from deepscem_tui.app import DeepscemApp
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.results import Result
from deepscem_tui.jobs import Job
from deepscem_tui.screens.confirm import Confirm
from deepscem_tui.screens.run_control import GoOnDialog
from deepscem_tui.screens.training import TrainingScreen
from deepscem_tui.widgets.action_form import ActionForm
from deepscem_tui.widgets.run_view import RunView

pytestmark = pytest.mark.usefixtures("server_in_utc", "impatient")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with all that a training needs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RunView.__init__, "__kwdefaults__", {**RunView.__init__.__kwdefaults__, "clock": lambda: 0.0})
    make_model(Path("net.keras"))
    make_dataset(Path("train.hdf5"), ("one", "two"))
    make_dataset(Path("valid.hdf5"), ("three",))
    return Path()


@pytest.fixture
def played(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(made_runs.training, monkeypatch)


def on_training(
    test: Callable[[Pilot[Any], DeepscemApp, TrainingScreen], Any], size: tuple[int, int] = (80, 24)
) -> None:
    """Play on the screen of training, when its form is there."""

    async def opened(pilot: Pilot[Any], app: DeepscemApp) -> None:
        screen = app.screen
        assert isinstance(screen, TrainingScreen)
        await until(pilot, lambda: screen.query(ActionForm) and screen.query_one(ActionForm).settled, "the form")
        await test(pilot, app, screen)

    driven(opened, Path(), "training", size)


async def started(pilot: Pilot[Any], screen: TrainingScreen) -> Job:
    """Start what the form says; wait for its live view."""
    await pilot.press("ctrl+s")
    await until(pilot, lambda: screen.folder is not None and "3/8" in screen_text(pilot.app), "the live view")
    assert screen.job is not None
    return screen.job


def test_looks(played: Played, golden: Golden) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        await started(pilot, screen)
        await until(pilot, lambda: screen.query_one(RunView)._preview is not None)
        await looks(pilot, golden, "training", job_bar=True)
        played.end = Result("Trained net-trained.keras in 8 epochs: F1 0.871 on valid.hdf5")
        await until(pilot, lambda: "Enter predicts with net-trained.keras" in screen_text(app))
        await looks(pilot, golden, "training_finished")

    on_training(test)


def test_the_form_proposes_what_the_folder_holds(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        values = screen.query_one(ActionForm).values()
        assert [values[name] for name in ("model", "out", "train", "valid")] == [
            "net.keras", "net-trained.keras", "train.hdf5", "valid.hdf5",
        ]  # fmt: skip
        assert {"x", "X", "R", "e", "P"}.isdisjoint(screen.active_bindings)  # letters are for typing in the form
        await pilot.press("f9")
        await until(pilot, lambda: "Nothing was started here yet: f goes back to the form" in screen_text(app))
        await pilot.press("x", "X", "R", "e", "P")
        for what in ("to stop", "to end", "to go on with", "to continue"):
            await until(pilot, lambda what=what: f"There is no run {what}" in said(app), what)  # type: ignore[misc]
        assert "There is no trained model yet" in said(app)
        await pilot.press("f")
        await until(pilot, lambda: app.focused is not None and screen.page == "form")

    on_training(test)


def test_stopped_and_taken_up_again(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        job = await started(pilot, screen)
        assert {"Stop", "Form/view"} <= footer(app)
        assert not {"Resume", "More epochs", "Predict"} & footer(app)
        await pilot.press("X")
        await until(pilot, lambda: "It runs in this application's own process" in said(app))
        await until(pilot, lambda: job.state == "stopped")
        await until(pilot, lambda: "R resumes it, e for more epochs" in screen_text(app))
        await until(pilot, lambda: {"Resume", "More epochs"} <= footer(app) and "Stop" not in footer(app))
        monkeypatch.setattr(app, "resume", lambda *how: asked.append(how))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, GoOnDialog))
        await pilot.press("ctrl+t")
        await until(pilot, lambda: asked == [(played.folder, None, True)])
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, GoOnDialog))
        assert "3 of 8 epochs are done" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: asked[1:] == [(played.folder, 8, False)])

    on_training(test)


def test_a_trained_model_goes_to_the_prediction(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        await started(pilot, screen)
        await pilot.press("P")
        await until(pilot, lambda: "There is no trained model yet" in said(app))
        played.end = Result("Trained net-trained.keras")
        await until(pilot, lambda: "Enter predicts with net-trained.keras" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prediction" and app.screen.query(ActionForm))
        assert app.screen.query_one(ActionForm).values()["model"] == "net-trained.keras"
        await pilot.press("f4", "f")
        await until(pilot, lambda: screen.page == "form" and app.screen is screen)

    on_training(test)


def test_a_failure_is_said_in_full(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        await started(pilot, screen)
        played.end = ResourceError("The memory of the GPU [0] is not enough for a batch of 8", "Give a batch of 4")
        text = "The memory of the GPU [0] is not enough for a batch of 8. Give a batch of 4"
        await until(pilot, lambda: text in " ".join(screen_text(app).split()).replace(" | ", " "))
        assert screen.query_one("#status").has_class("-fault")
        await until(pilot, lambda: "Resume" in footer(app))

    on_training(test)


def test_one_waits_for_another(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        first = await started(pilot, screen)
        await pilot.press("f")
        form = screen.query_one(ActionForm)
        form.fill({"out": "second.keras"})
        await until(pilot, lambda: form.settled)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "train second.keras waits for 1 other job" in said(app))
        await until(pilot, lambda: "3/8" in screen_text(app))
        assert screen.job is first  # what is at work stays in view, and its keys are about it
        form.fill({"out": "third.keras"})
        await until(pilot, lambda: form.settled)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: len(app.jobs.live()) == 3)
        second, third = app.jobs.all[1:]
        app.jobs.stop(second)
        assert second.state == "cancelled"
        await pilot.press("x")
        await until(pilot, lambda: screen.job is third and third.state == "running")
        assert first.state == "stopped"
        await pilot.press("x")
        await until(pilot, lambda: not app.jobs.live())
        await until(pilot, lambda: "R resumes it" in screen_text(app))


def test_a_cancelled_job_does_not_hide_what_runs_elsewhere(folder: Path, played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        first = await started(pilot, screen)
        form = screen.query_one(ActionForm)
        await pilot.press("f")
        form.fill({"out": "second.keras"})
        await until(pilot, lambda: form.settled)
        screen.job, screen.folder = None, None  # as when another kind of job is at work
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "train second.keras waits for 1 other job: train net-trained" in screen_text(app))
        await pilot.press("x")
        await until(pilot, lambda: screen.folder == first.folder and "3/8" in screen_text(app))
        await pilot.press("x")
        await until(pilot, lambda: first.state == "stopped")

    on_training(test)


def test_started_detached_it_is_found_by_its_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Path("runs/20250615-150640-train-x")
    process = SimpleNamespace(poll=lambda: None)
    detached = SimpleNamespace(process=process, folder=lambda _: made if made.exists() else None)
    monkeypatch.setattr("deepscem_tui.app.start_detached", lambda *_: detached)

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        await pilot.press("ctrl+t")
        await until(pilot, lambda: "Started in a process of its own" in screen_text(app))
        made_runs.training(made)
        await until(pilot, lambda: screen.folder == made and "3/8" in screen_text(app))
        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("escape")
        shutil.rmtree(made)
        await until(pilot, lambda: "20250615-150640-train-x is gone" in said(app))
        await until(pilot, lambda: "Nothing was started here yet" in screen_text(app))
        await pilot.press("x")
        await until(pilot, lambda: "There is no run to stop" in said(app))
        await pilot.press("f9")
        await until(pilot, lambda: screen.page == "form")

    on_training(test)


def test_what_runs_elsewhere_is_shown_unless_somebody_types(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        await pilot.press("backspace")
        made_runs.training(Path("runs/20250615-150640-train-x"))
        await until(pilot, lambda: screen.folder is not None)
        await pilot.pause()
        assert screen.page == "form"
        await pilot.press("f9")
        await until(pilot, lambda: "3/8" in screen_text(app))
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: "running" in screen_text(app) and "Curves" in screen_text(app))
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "z 12" in screen_text(app))

    on_training(test)


def test_what_was_made_is_not_proposed_again(played: Played) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        form = screen.query_one(ActionForm)
        await started(pilot, screen)
        make_model(Path("net-trained.keras"), training={"run": "x"})
        played.end = Result("Trained net-trained.keras")
        await until(pilot, lambda: "Enter predicts with net-trained.keras" in screen_text(app))
        await pilot.press("f")
        await until(pilot, lambda: form.settled and form.values()["out"] == "net-trained-2.keras")
        assert str(form.query_one("#status").render()).startswith("Would train net.keras")
        form.fill({"out": "net-trained.keras"})  # as somebody types it
        await pilot.press("f2", "f4")
        await until(pilot, lambda: "! Out: it exists already" in str(form.query_one("#status").render()))
        assert form.values()["out"] == "net-trained.keras"

    on_training(test)


@pytest.mark.parametrize("end", ["stopped", None])
def test_a_run_that_was_left_is_offered_above_the_form(end: str | None, folder: Path) -> None:
    make_run(Path("runs"), "20231114-221320-train-mito", end=end, epochs=3)
    make_run(Path("runs"), "20231114-221330-train-away", end="stopped", began=BEGAN + 10, working_folder="/elsewhere")

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        how = "was stopped" if end else "has died"
        await until(pilot, lambda: f"20231114-221320-train-mito {how} after 3 of 4 epochs: F9" in screen_text(app))
        assert screen.page == "form"
        await pilot.press("f9")
        await until(pilot, lambda: "Resume" in footer(app))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, GoOnDialog))
        await pilot.press("escape", "f9")
        make_run(Path("runs"), "20231114-221340-train-again", end="finished", began=BEGAN + 20)
        await until(pilot, lambda: screen.page == "form" and "train-mito" not in screen_text(app))

    on_training(test)


def test_the_end_is_said_when_the_live_view_has_it(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        job = await started(pilot, screen)
        with monkeypatch.context() as while_it_lasts:
            while_it_lasts.setattr(RunView, "_take", lambda *_: None)
            played.end = Result("Trained net-trained.keras")
            await until(pilot, lambda: job.state == "finished" and screen.run is not None)
            assert "running" in screen_text(app)
            assert "Trained net-trained.keras" not in screen_text(app)
        await until(pilot, lambda: "Trained net-trained.keras" in screen_text(app))
        assert screen.query_one(RunView).snapshot.state == "finished"  # type: ignore[union-attr]

    on_training(test)


def test_it_is_said_what_is_waited_for_until_the_form_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[bool] = []
    compose = ActionForm.compose

    def watched(form: ActionForm) -> Any:
        waiting.append(bool(form.screen.query("#waiting")))
        return compose(form)

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        await until(pilot, lambda: not screen.query("#waiting"))
        assert waiting == [True]

    monkeypatch.setattr(ActionForm, "compose", watched)
    on_training(test)


def test_without_models_and_data_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: TrainingScreen) -> None:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "to be filled in" in screen_text(app))
        assert not app.jobs.all

    on_training(test)
