"""The screen of data sets: the tree beside the slices, what each key does or why not, the welcome, and wrong turns."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_texts import Golden
from pilot import screen_text, until
from screens import dated, driven, footer, looks, make_dataset, said, settled
from textual.pilot import Pilot
from textual.widgets import Input

from deepscem_tui.app import DeepscemApp
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.screens.action_dialog import ActionDialog
from deepscem_tui.screens.confirm import Confirm
from deepscem_tui.screens.datasets import DatasetsScreen
from deepscem_tui.screens.file_dialog import FileDialog
from deepscem_tui.screens.result_dialog import ResultDialog
from deepscem_tui.screens.welcome import Welcome
from deepscem_tui.widgets.action_form import ActionForm
from deepscem_tui.widgets.dataset_tree import DatasetTree
from deepscem_tui.widgets.flag import Flag
from deepscem_tui.widgets.slice_view import SliceView

pytestmark = pytest.mark.usefixtures("server_in_utc", "impatient")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data sets of every kind."""
    monkeypatch.chdir(tmp_path)
    Path("liver").mkdir()
    make_dataset(Path("train.hdf5"), ("one", "two [b]"))
    make_dataset(Path("liver/test.hdf5"), ("cell 9", "other"))
    make_dataset(Path("liver/test-predicted.hdf5"), ("cell 9",), probabilities=True)
    with new_dataset(Path("liver/new.hdf5"), "empty", 0):
        pass
    Path("broken.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    for path in (*Path().glob("*.hdf5"), *Path().glob("*/*.hdf5")):
        dated(path)
    return Path()


def on_datasets(
    test: Callable[[Pilot[Any], DeepscemApp, DatasetsScreen], Any], size: tuple[int, int] = (80, 24)
) -> None:
    """Play on the screen of data sets of the current folder, when they are listed."""

    async def listed(pilot: Pilot[Any], app: DeepscemApp) -> None:
        screen = app.screen
        assert isinstance(screen, DatasetsScreen)
        await until(pilot, lambda: screen._catalogue is not None and not screen._catalogue.unread, "the data sets")
        await test(pilot, app, screen)

    driven(listed, Path(), "datasets", size)


async def choose(pilot: Pilot[Any], screen: DatasetsScreen, path: str, *names: str) -> None:
    """Move the cursor to a data set, or to a sample or a label of it."""
    tree = screen.query_one(DatasetTree)
    assert tree.choose(Path(path), *names)
    await until(pilot, lambda: tree.chosen is not None and tree.chosen.path == Path(path), path)
    await pilot.pause()


# ------------------------------------------------------------------------------------------------ looks


def test_looks(folder: Path, golden: Golden) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await choose(pilot, screen, "liver/test.hdf5", "cell 9")
        await pilot.press("right")
        view = screen.query_one(SliceView)
        await until(pilot, lambda: view.facts is not None and view.facts.title == "cell 9")
        await looks(pilot, golden, "datasets")
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is view)
        await looks(pilot, golden, "datasets_full")

    on_datasets(test)


def test_welcome_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    monkeypatch.chdir(tmp_path)

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await looks(pilot, golden, "welcome")

    on_datasets(test)


# ------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize(
    ("where", "forms"),
    [
        (("train.hdf5",), {"a": "add-sample", "r": "rename-dataset", "l": "set-aliases", "s": "save-dataset",
                           "t": "distance-transform", "n": "create-dataset", "f": "import-folder",
                           "x": "split-dataset", "y": "set-voxel-size", "m": "find-objects", "g": "clean-masks",
                           "h": "convert-image"}),
        (("train.hdf5", "two [b]"), {"r": "rename-sample", "c": "crop-sample", "e": "export-sample",
                                       "b": "set-labelled", "m": "find-objects"}),
    ],
    ids=["dataset", "sample"],
)  # fmt: skip
def test_keys_open_the_forms(where: tuple[str, ...], forms: dict[str, str], folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await choose(pilot, screen, *where)
        for key, action in forms.items():
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, ActionDialog), key)
            assert app.screen.query_one(ActionForm).action.name == action
            assert f"{action}: " in screen_text(app)
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)

    on_datasets(test)


def test_forms_begin_with_what_is_there(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        for where, key, shown in (
            (("train.hdf5",), "r", {"new": "train"}),
            (("train.hdf5", "two [b]"), "r", {"new": "two [b]"}),
            (("train.hdf5", "two [b]"), "c", {"z": "0:8", "y": "0:32", "x": "0:32"}),
        ):
            await choose(pilot, screen, *where)
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, ActionDialog), key)
            values = app.screen.query_one(ActionForm).values()
            assert {name: values[name] for name in shown} == shown
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)

    on_datasets(test)


def test_it_is_said_whether_the_tree_or_the_slices_have_the_keys(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        keys = screen.query_one("#keys")
        await until(pilot, lambda: "keys: here" in screen_text(app))
        assert keys.rich_style.reverse
        await choose(pilot, screen, "train.hdf5", "one")
        await pilot.press("tab")
        await until(pilot, lambda: "keys: slices" in screen_text(app) and not keys.rich_style.reverse)

    on_datasets(test)


def test_a_key_that_does_not_fit_says_why(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        for where, key, why in (
            ("train.hdf5", "c", "Crop: choose a sample of train.hdf5 first (right opens it)"),
            ("liver/new.hdf5", "c", "new.hdf5 has no sample yet; a adds one"),
            ("liver/new.hdf5", "l", "new.hdf5 was made for no labels"),
            ("broken.hdf5", "a", "broken.hdf5 cannot be used: it "),
            ("broken.hdf5", "r", "broken.hdf5 cannot be used: it "),
            ("broken.hdf5", "d", "broken.hdf5 cannot be used: it "),
        ):
            await choose(pilot, screen, where)
            await pilot.press(key)
            await until(pilot, lambda why=why: why in said(app), why)  # type: ignore[misc]
            assert app.screen is screen
            app.clear_notifications()
        await choose(pilot, screen, "train.hdf5", "one")
        await pilot.press("v")
        await until(pilot, lambda: "No other data set here has labels for a sample one" in said(app))
        assert {"Crop", "Remove", "Export"} <= footer(app)
        assert not {"Labels", "Save as", "Close"} & footer(app)

    on_datasets(test)


def test_a_folder_is_not_imported_into_predictions(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        for where, proposed in (("train.hdf5", "train.hdf5"), ("liver/test-predicted.hdf5", "")):
            await choose(pilot, screen, where)
            await pilot.press("f")
            await until(pilot, lambda: isinstance(app.screen, ActionDialog) and bool(app.screen.query(ActionForm)))
            assert app.screen.query_one(ActionForm).values()["file"] == proposed
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)

    on_datasets(test)


def test_a_prediction_is_compared_with_true_labels(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        view = screen.query_one(SliceView)
        await choose(pilot, screen, "liver/test-predicted.hdf5", "cell 9")
        await until(pilot, lambda: "compared with test.hdf5" in screen_text(app))
        await until(pilot, lambda: view.facts is not None and view.facts.compared)
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "Compare sample cell 9 with the labels of" in screen_text(app)
        await pilot.press("n")
        await until(pilot, lambda: app.screen is screen and "compared with" not in screen_text(app))

    on_datasets(test)


def test_a_label_is_shown_alone(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        view = screen.query_one(SliceView)
        await choose(pilot, screen, "train.hdf5", "one")
        await until(pilot, lambda: view.facts is not None and view.look.overlays == {"label_0000"})
        await pilot.press("right", "down")  # the image
        await until(pilot, lambda: not view.look.overlays)
        await pilot.press("down")
        await until(pilot, lambda: view.look.overlays == {"label_0000"} and "uint8" in screen_text(app))
        await pilot.press("left", "left", "left")
        tree = screen.query_one(DatasetTree)
        await until(pilot, lambda: tree.chosen is not None and tree.chosen.kind == "dataset")

    on_datasets(test)


def test_the_mouse_chooses(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await settled(pilot)
        row = next(y for y, line in enumerate(screen_text(app).split("\n")) if "two [b]" in line[:29])
        await pilot.click(offset=(6, row))
        view = screen.query_one(SliceView)
        await until(pilot, lambda: view.facts is not None and view.facts.title == "two [b]")

    on_datasets(test)


def test_removing_a_sample_asks(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await choose(pilot, screen, "train.hdf5", "two [b]")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "Remove sample two [b] from train.hdf5?" in screen_text(app)
        await pilot.press("enter")  # keeps it
        await until(pilot, lambda: app.screen is screen)
        assert not app.jobs.all
        await pilot.press("delete")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("r")
        await until(pilot, lambda: app.jobs.all and app.jobs.all[0].state == "finished")
        await until(pilot, lambda: "two [b]" not in screen_text(app)[:1200])
        with open_dataset(Path("train.hdf5")) as dataset:
            assert list(dataset.samples) == ["one"]

    on_datasets(test)


def test_checks_and_facts_open_by_themselves(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await choose(pilot, screen, "train.hdf5")
        for key, title in (("k", "check-dataset train.hdf5"), ("i", "info train.hdf5")):
            await pilot.press(key)
            await until(pilot, lambda title=title: title in screen_text(app), title)  # type: ignore[misc]
            assert isinstance(app.screen, ResultDialog)
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)
        await pilot.press("p")
        await until(pilot, lambda: app.current_mode == "prediction" and app.screen.query(ActionForm))
        assert app.screen.query_one(ActionForm).values()["input"] == "train.hdf5"

    on_datasets(test)


def test_what_is_opened_while_the_folder_is_looked_at_is_chosen(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_dataset(tmp_path_factory.mktemp("else where") / "other.hdf5", ("opened",))
    gate, begun = threading.Event(), threading.Event()

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        real = screen._cataloguer.scan

        def slow(place: Path, further: tuple[Path, ...]) -> Any:
            found = real(place, further)
            if not further:
                begun.set()
                gate.wait(20)
            return found

        screen._cataloguer.scan = slow  # type: ignore[method-assign, assignment]
        screen.rescan()
        await until(pilot, begun.is_set)
        screen.open(other)
        gate.set()
        await until(pilot, lambda: "opened" in screen_text(app).replace("opened from elsewhere", ""))

    on_datasets(test)


def test_closed_and_opened(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_dataset(tmp_path_factory.mktemp("else where") / "中文 [b].hdf5", ("细胞",))

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await choose(pilot, screen, "train.hdf5")
        await pilot.press("w")
        await until(pilot, lambda: "▼ train.hdf5" not in screen_text(app) and "Closed train.hdf5" in said(app))
        assert Path("train.hdf5") not in app.open_datasets
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "▼ train.hdf5" in screen_text(app))
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, FileDialog))
        app.screen.query_one(Input).value = str(other)
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen and other in app.open_datasets)
        await until(pilot, lambda: "中文 [b].hdf5" in screen_text(app))
        await until(
            pilot, lambda: "细胞" in screen_text(app)
        )  # the sample's name over its slice, though drawn in ASCII
        await pilot.press("w")
        await until(pilot, lambda: other not in app.open_datasets)

    on_datasets(test)


def test_the_welcome_offers_ways_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tif").write_bytes(b"II*\0")

    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        assert screen.query_one(Welcome).display
        assert "1 image file in images/: f makes a data set of them" in " ".join(screen_text(app).split())
        forms = {"m": "demo", "d": "demo", "n": "create-dataset", "f": "import-folder", "enter": "demo"}
        for key, form in forms.items():
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, ActionDialog), key)
            assert f"{form}: " in screen_text(app)
            if form == "demo":
                assert app.screen.query_one("#field-images_only Flag", Flag).value is (key != "d")
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)
            if key == "m":  # what was sent for the images does not decide for the whole
                monkeypatch.setattr(app, "start", lambda *_: None)
                await pilot.press(key)
                await until(pilot, lambda: isinstance(app.screen, ActionDialog) and bool(app.screen.query(ActionForm)))
                await pilot.press("ctrl+s")
                await until(pilot, lambda: app.screen is screen)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, FileDialog))
        await pilot.press("escape")
        make_dataset(Path("new.hdf5"))
        await until(pilot, lambda: not screen.query_one(Welcome).display and "new.hdf5" in screen_text(app))
        assert app.focused is screen.query_one(DatasetTree)

    on_datasets(test)


# ------------------------------------------------------------------------------------------------ wrong turns


def test_a_file_that_vanishes_or_changes_while_it_is_shown(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        view = screen.query_one(SliceView)
        await choose(pilot, screen, "train.hdf5", "two [b]")
        await until(pilot, lambda: view.facts is not None and view.facts.title == "two [b]")
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is view)
        Path("train.hdf5").unlink()
        await pilot.press("full_stop", "escape")
        await until(pilot, lambda: "▼ train.hdf5" not in screen_text(app))
        make_dataset(Path("train.hdf5"), ("new",))
        await until(pilot, lambda: "new" in screen_text(app)[:1200] and "▼ train.hdf5" in screen_text(app))
        Path("train.hdf5").write_bytes(b"no data set")
        await until(pilot, lambda: "! train.hdf5" in screen_text(app))

    on_datasets(test)


def test_damage_is_said(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await choose(pilot, screen, "broken.hdf5")
        await until(pilot, lambda: "It is damaged" in " ".join(screen_text(app).split()))
        await pilot.press("k")
        await until(pilot, lambda: app.jobs.all and app.jobs.all[0].state == "failed" and "broken.hdf5" in said(app))

    on_datasets(test)


def test_from_large_to_a_narrow_pane_and_back(folder: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp, screen: DatasetsScreen) -> None:
        await choose(pilot, screen, "train.hdf5", "one")
        wide = await settled(pilot)
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: "8 x 32 x 32" in screen_text(app) and not screen.query_one(SliceView).busy)
        await pilot.resize_terminal(200, 60)
        assert await settled(pilot) == wide

    on_datasets(test, (200, 60))
