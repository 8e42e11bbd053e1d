"""Dialogs: a form, a list of files, a question; by keyboard, at the smallest size too."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from golden_texts import Golden
from pilot import screen_text, until
from screens import looks
from textual.app import App
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.screens.action_dialog import ActionDialog
from deepscem_tui.screens.confirm import Answer, Confirm
from deepscem_tui.screens.file_dialog import FileDialog, above
from deepscem_tui.widgets.action_form import ActionForm

STYLES = Path(__file__).parent.parent / "deepscem_tui" / "app.tcss"


class DialogApp(App[None]):
    """Shows a dialog and keeps what it gives back."""

    CSS_PATH = STYLES

    def __init__(self, dialog: ModalScreen[Any]) -> None:
        super().__init__()
        self.dialog = dialog
        self.answers: list[Any] = []

    def on_mount(self) -> None:
        self.push_screen(self.dialog, self.answers.append)

    @property
    def names(self) -> list[str]:
        """What a list of files offers."""
        return [str(option.id) for option in self.dialog.query_one(OptionList).options]


def drive(app: DialogApp, script: Callable[[Pilot[None]], Awaitable[None]], size: tuple[int, int] = (80, 24)) -> None:
    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(pilot)

    asyncio.run(run())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for name in ("a.tif", "b [bold].tif", "images/c.tif", "notes.txt", ".hidden.tif"):
        Path(name).write_bytes(b"12345")
    return tmp_path


# ------------------------------------------------------------------------------------------------ files


def test_files_are_listed_by_kind_and_taken(folder: Path) -> None:
    app = DialogApp(FileDialog("", (".tif",), title="Image"))

    async def script(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.names == ["..", "images/", "a.tif", "b [bold].tif"])
        assert "b [bold].tif  (5 B)" in screen_text(app)
        await pilot.press("ctrl+f")
        await until(pilot, lambda: "notes.txt" in app.names)
        await pilot.press("b")
        await until(pilot, lambda: app.names == ["..", "b [bold].tif"])
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.answers == ["b [bold].tif"])

    drive(app, script)


def test_a_store_is_taken_as_a_file_is_and_what_is_in_one_typed(folder: Path) -> None:
    (folder / "cell.ome.zarr" / "0").mkdir(parents=True)
    for keys, wanted in (("", "cell.ome.zarr"), (":/0", "cell.ome.zarr:/0")):
        app = DialogApp(FileDialog("cell", (".tif", ".ome.zarr"), title="Image"))

        async def script(pilot: Pilot[None], app: DialogApp = app, keys: str = keys, wanted: str = wanted) -> None:
            await until(pilot, lambda: app.names == ["..", "cell.ome.zarr"])
            assert "cell.ome.zarr  (a store)" in screen_text(app)
            if keys:
                app.dialog.query_one(Input).value = wanted
                await pilot.press("ctrl+s")
            else:
                await pilot.press("down", "enter")
            await until(pilot, lambda: app.answers == [wanted])

        drive(app, script)


def test_folders_are_gone_through_by_keyboard(folder: Path) -> None:
    app = DialogApp(FileDialog("", (".tif",)))

    async def script(pilot: Pilot[None]) -> None:
        line = app.dialog.query_one(Input)
        await until(pilot, lambda: "images/" in app.names)
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.names == ["..", "deep/", "c.tif"])
        assert line.value == "images/"
        await until(pilot, lambda: app.focused is app.dialog.query_one(OptionList))
        await pilot.press("backspace")
        await until(pilot, lambda: line.value == "" and "a.tif" in app.names)
        line.focus()
        await pilot.press(*"images/c.tif", "enter")
        await until(pilot, lambda: app.answers == ["images/c.tif"])

    drive(app, script)


def test_what_is_not_there_can_be_made_but_not_opened(folder: Path) -> None:
    opens, makes = DialogApp(FileDialog("new.tif", (".tif",))), DialogApp(FileDialog("new.tif", (".tif",), makes=True))

    async def refused(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: "! There is no new.tif" in screen_text(opens))
        await pilot.press("escape")
        await until(pilot, lambda: opens.answers == [None])

    async def taken(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: makes.answers == ["new.tif"])

    drive(opens, refused)
    drive(makes, taken)


def test_a_folder_is_taken_with_a_key_of_its_own(folder: Path) -> None:
    app = DialogApp(FileDialog("images/", folder=True))

    async def script(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.names == ["..", "deep/"])
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.answers == ["images/"])

    drive(app, script)


def test_a_folder_that_is_not_there_is_said(folder: Path) -> None:
    app = DialogApp(FileDialog("nowhere/x"))

    async def script(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "! nowhere/: No such file or directory" in screen_text(app))

    drive(app, script)


@pytest.mark.parametrize(
    ("folder_", "wanted"),
    [("", "../"), ("a/", ""), ("a/b/", "a/"), ("../", "../../"), ("/", "/"), ("/a/", "/"), ("./", "../")],
)
def test_the_folder_above(folder_: str, wanted: str) -> None:
    assert above(folder_) == wanted


# ------------------------------------------------------------------------------------------------ forms


def test_a_form_is_filled_with_a_file_from_the_list_and_sent(folder: Path) -> None:
    with new_dataset(Path("data.hdf5"), "d", 0):
        pass
    app = DialogApp(ActionDialog(ACTIONS["check-dataset"]))

    async def script(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: isinstance(app.focused, Input))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, FileDialog))
        options = app.screen.query_one(OptionList)
        await until(pilot, lambda: [option.id for option in options.options] == ["..", "images/", "data.hdf5"])
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: app.screen is app.dialog)
        assert app.dialog.query_one(Input).value == "data.hdf5"
        await pilot.press("enter")
        await until(pilot, lambda: app.answers)
        assert app.answers == [(p.CheckDataset(file=Path("data.hdf5")), False)]

    drive(app, script)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (200, 60)], ids=str)
def test_the_dialog_fits(size: tuple[int, int], folder: Path) -> None:
    app = DialogApp(ActionDialog(ACTIONS["train"]))

    async def script(pilot: Pilot[None]) -> None:
        text = screen_text(app)
        assert "train: Train a model on a data set." in text
        assert "[ Train ]" in text
        assert "Model *" in text
        box = app.dialog.query_one("ActionDialog > Vertical").region
        assert box.width <= min(100, size[0])
        assert box.height <= size[1]

    drive(app, script, size)


def test_escape_asks_only_where_much_would_be_lost(folder: Path) -> None:
    little, much = (DialogApp(ActionDialog(ACTIONS["create-dataset"])) for _ in range(2))

    async def leave(pilot: Pilot[None]) -> None:
        await pilot.press(*"x.hdf5", "escape")
        await until(pilot, lambda: little.answers == [None])

    async def ask(pilot: Pilot[None]) -> None:
        much.dialog.query_one(ActionForm).fill({"file": "x.hdf5", "name": "x"})
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(much.screen, Confirm))
        await pilot.press("enter")  # the safe answer
        await until(pilot, lambda: much.screen is much.dialog)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(much.screen, Confirm))
        await pilot.press("d")
        await until(pilot, lambda: much.answers == [None])

    drive(little, leave)
    drive(much, ask)


# ------------------------------------------------------------------------------------------------ questions


@pytest.mark.parametrize(("keys", "answer"), [("enter", "no"), ("y", "yes"), ("down enter", "yes"), ("escape", None)])
def test_a_question_is_answered(keys: str, answer: str | None) -> None:
    app = DialogApp(Confirm("Remove 'a [bold]'?", (Answer("no", "n", "Keep it"), Answer("yes", "y", "Remove it"))))

    async def script(pilot: Pilot[None]) -> None:
        assert "Remove 'a [bold]'?" in screen_text(app)
        await pilot.press(*keys.split())
        await until(pilot, lambda: app.answers == [answer])

    drive(app, script)


# ------------------------------------------------------------------------------------------------ looks


def test_looks(folder: Path, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "absolute", lambda self: Path("/data/liver") / self)  # which the list names
    for number in range(20):
        Path(f"cell {number:02} of the liver.tif").write_bytes(b"II*\0" * number)
    Path("a very long name of an image, with all that was done to it, 中文 [b], and more, and yet more.tif").touch()
    question = "Delete runs/20231114-221320-train-mito?\n\n14 files, 3.2 MiB: its curves, log and previews. What it "
    question += "wrote elsewhere stays, but it can no longer be resumed."
    dialogs: dict[str, ModalScreen[Any]] = {
        "file": FileDialog("", (".tif", ".tiff"), title="Image"),
        "confirm": Confirm(question, (Answer("keep", "k", "Keep it"), Answer("remove", "d", "Delete it for good"))),
    }
    for name, dialog in dialogs.items():
        app = DialogApp(dialog)

        async def script(pilot: Pilot[None], app: DialogApp = app, name: str = name) -> None:
            await until(pilot, lambda: name != "file" or len(app.names) > 20)
            await looks(pilot, golden, f"{name}_dialog")

        drive(app, script)
