"""The screen of models: the list, the summary, every key, and what can go wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_texts import Golden
from pilot import screen_text, until
from screens import dated, driven, looks, make_dataset, make_model, make_run, said
from textual.pilot import Pilot
from textual.widgets import Input

from deepscem_tui.app import DeepscemApp
from deepscem_tui.screens.action_dialog import ActionDialog
from deepscem_tui.screens.file_dialog import FileDialog
from deepscem_tui.screens.models import ModelsScreen, ModelTable
from deepscem_tui.screens.result_dialog import ResultDialog
from deepscem_tui.screens.runs import RunsScreen
from deepscem_tui.widgets.action_form import ActionForm

pytestmark = pytest.mark.usefixtures("server_in_utc", "impatient")

RUN = "20231114-221320-train-mito"
TRAINING = {
    "when": "2023-11-14T22:13:20", "data_set": "train.hdf5", "epochs": 64, "steps": 16384, "batch_size": 8,
    "loss": "dice", "learning_rate": 0.001, "validation_f1": 0.912, "validation_loss": 0.0881, "run": RUN,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with models of every kind."""
    monkeypatch.chdir(tmp_path)
    make_model(Path("liver-trained.keras"), ("mitochondria", "membrane"), TRAINING)
    make_model(Path("new.keras"), ("mitochondria", "membrane"))
    Path("broken.keras").write_bytes(b"PK\x03\x04 and no more")
    dated(Path("broken.keras"))
    return Path()


def on_models(test: Callable[[Pilot[Any], DeepscemApp, ModelTable], Any], size: tuple[int, int] = (80, 24)) -> None:
    """Play on the screen of models of the current folder, when they are listed."""

    async def listed(pilot: Pilot[Any], app: DeepscemApp) -> None:
        screen = app.screen
        assert isinstance(screen, ModelsScreen)
        await until(pilot, lambda: screen._looked, "the models are looked at")
        await test(pilot, app, screen.query_one(ModelTable))

    driven(listed, Path(), "models", size)


async def choose(pilot: Pilot[Any], app: DeepscemApp, name: str) -> None:
    """Move the cursor to a model."""
    screen = app.screen
    assert isinstance(screen, ModelsScreen)
    await until(pilot, lambda: any(entry.path.name == name for entry in screen._entries), name)
    place = next(index for index, entry in enumerate(screen._entries) if entry.path.name == name)
    screen.query_one(ModelTable).move_cursor(row=place)
    await pilot.pause()


def test_looks(folder: Path, golden: Golden) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: ModelTable) -> None:
        await choose(pilot, app, "liver-trained.keras")
        await looks(pilot, golden, "models")
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, ResultDialog))
        await looks(pilot, golden, "models_info")

    on_models(test)


def test_memory_of_a_step_is_told_as_it_is_typed(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: ModelTable) -> None:
        await choose(pilot, app, "new.keras")
        patch = app.screen.query_one("#patch", Input)
        await until(pilot, lambda: patch.value == "256,256")
        await until(pilot, lambda: "in training" in screen_text(app))
        patch.focus()
        for typed, said_ in (
            ("255,256", "! 255 is no multiple of 2: 254 is"), ("64", "! Give Y,X"), ("", "! Give Z,Y,X or Y,X"),
            ("1,64x64", "MiB in training"),
        ):  # fmt: skip
            patch.value = ""
            await pilot.press(*typed)
            await until(pilot, lambda said_=said_: said_ in screen_text(app), said_)  # type: ignore[misc]
        await pilot.press("n", "o", "s", "c", "e", "k", "t", "p", "i")  # letters are for typing here
        assert isinstance(app.screen, ModelsScreen)

    on_models(test)


def test_the_run_that_trained_it_is_shown(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: ModelTable) -> None:
        await choose(pilot, app, "new.keras")
        await pilot.press("enter")
        await until(pilot, lambda: "new.keras names no run that trained it" in said(app))
        await choose(pilot, app, "liver-trained.keras")
        await pilot.press("enter")
        await until(pilot, lambda: f"The run that trained it, {RUN}, is not in runs" in said(app))
        make_run(Path("runs"), RUN)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.has_class("-full"))
        await until(pilot, lambda: f"finished  41 s  {RUN}" in screen_text(app))

    on_models(test)


def test_forms_are_opened_with_the_chosen_model(folder: Path) -> None:
    make_dataset(Path("train.hdf5"))

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: ModelTable) -> None:
        await pilot.press("f2")
        await until(pilot, lambda: app.open_datasets == [Path("train.hdf5")])
        await pilot.press("f3")
        await choose(pilot, app, "new.keras")
        for key, field, wanted in (
            ("n", "like", "train.hdf5"), ("s", "out", "new-copy.keras"), ("c", "out", "new.h5"),
            ("e", "out", "new.onnx"), ("k", "out", "new.zip"),
        ):  # fmt: skip
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, ActionDialog))
            assert app.screen.query_one(ActionForm).values()[field] == wanted
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        for key, mode in (("t", "training"), ("p", "prediction")):
            await pilot.press(key)
            await until(pilot, lambda mode=mode: app.current_mode == mode and app.screen.query(ActionForm))  # type: ignore[misc]
            assert app.screen.query_one(ActionForm).values()["model"] == "new.keras"
            await pilot.press("f3")
            await until(pilot, lambda: app.current_mode == "models")

    on_models(test)


def test_a_model_from_elsewhere_is_listed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_model(tmp_path_factory.mktemp("else where") / "[b]中文.keras")

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: ModelTable) -> None:
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, FileDialog))
        app.screen.query_one(Input).value = str(other)
        await pilot.press("enter")
        await until(pilot, lambda: "[b]中文.keras, " in screen_text(app))
        assert table.row_count == 4
        other.unlink()
        await until(pilot, lambda: "is not there any more" in screen_text(app))

    on_models(test)


def test_a_damaged_model_says_why_and_is_not_used(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, table: ModelTable) -> None:
        await choose(pilot, app, "broken.keras")
        await until(pilot, lambda: "is damaged, or is no model file" in " ".join(screen_text(app).split()))
        await pilot.press("s", "c", "e", "k", "t", "p", "i")
        await until(pilot, lambda: said(app).count("broken.keras cannot be used") == 7)
        assert app.current_mode == "models"

    on_models(test)


def test_no_models_yet_and_one_that_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def test(pilot: Pilot[Any], app: DeepscemApp, table: ModelTable) -> None:
        await until(pilot, lambda: "There is no model in this folder yet" in screen_text(app))
        await pilot.press("enter", "s", "c", "e", "k", "t", "p", "i")
        await until(pilot, lambda: said(app).count("There is no model: n makes one, o opens one from elsewhere") == 7)
        name = "a very long name of a model that was trained for days " * 3
        make_model(Path(f"{name}.keras"))
        await until(pilot, lambda: "a very long...ays .keras" in screen_text(app) and "2023-11-14" in screen_text(app))
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: "Parameters" not in screen_text(app).splitlines()[1])
        await until(pilot, lambda: table.virtual_size.width <= 60)
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: "Parameters" in screen_text(app).splitlines()[1])
        Path(f"{name}.keras").unlink()
        await until(pilot, lambda: "There is no model in this folder yet" in screen_text(app))

    on_models(test)
