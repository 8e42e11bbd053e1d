"""Names that hold escape sequences, markup or line breaks are text on every screen, and reach no terminal."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import made_runs
import pytest
from pilot import screen_text, until
from screens import driven, make_model, make_run, settled
from textual.pilot import Pilot
from textual.widgets import DataTable, Tree

from deepscem_tui.app import DeepscemApp
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import DataError

pytestmark = pytest.mark.usefixtures("server_in_utc", "impatient")

NAME = "\x1b[31m[bold]na[red]me[@click=app.quit]\x9b2J\u202e"
TITLE = "\x1b]0;owned\x07"
CLOSED = f"{TITLE}[/][/bold]"  # which no name of a file can hold


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which everything has a hostile name."""
    import h5py
    import numpy as np

    monkeypatch.chdir(tmp_path)
    with new_dataset(Path("plain.hdf5"), "plain", 1, aliases=("one",)) as made:
        sample = made.add_sample("a", (4, 32, 32), {"image": np.float32, "label_0000": np.uint8}, {"voxel_unit": TITLE})
        sample["image"][0:4] = np.random.default_rng(0).random((4, 32, 32), np.float32)
        sample["label_0000"][0:4] = np.ones((4, 32, 32), np.uint8)
    with h5py.File("plain.hdf5", "r+") as file:
        file.move("a", NAME)
        file.attrs["name"] = NAME + CLOSED
        file.attrs["labels_aliases"] = [NAME + CLOSED]
        file[NAME]["odd" + TITLE] = 1
    Path("plain.hdf5").rename(f"{NAME}.hdf5")
    make_model(Path(f"{NAME}.keras"), (NAME,), {"train": NAME, "loss": CLOSED})
    Path(f"{NAME}.tif").write_bytes(b"no image")
    Path(f"broken {NAME}.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    runs = Path("runs")
    make_run(runs, f"20231115-120000-train-{NAME}", model=f"{NAME}.keras", out=f"{TITLE}.keras", train=f"{NAME}.hdf5")
    folder = make_run(runs, f"20231115-130000-train-{NAME}", end=None, epochs=0)
    made_runs.say(folder, "progress", 40, task=NAME, done=1, total=4, unit=CLOSED, note=NAME)
    made_runs.say(folder, "warning", 41, text=f"{NAME}\n{CLOSED}")
    made_runs.say(folder, "message", 42, text=f"{NAME}\r\n{TITLE}")
    made_runs.say(folder, "epoch", 43, epoch=1, loss=0.5, learning_rate=1e-3, **{f"f1_{NAME}": 0.5, f"iou_{NAME}": 0.4})
    made_runs.say(folder, "failed", 44, error=f"{NAME}{CLOSED}")
    return Path()


def harmless(app: DeepscemApp) -> str:
    """The screen as text, after a look for what a terminal would obey."""
    strips = [
        segment.text for strip in app.screen._compositor.render_strips() for segment in strip if not segment.control
    ]
    sent = {character for text in strips for character in text if unicodedata.category(character) in ("Cc", "Cf", "Cs")}
    assert not sent, f"{sent} would reach the terminal:\n{screen_text(app)}"
    return screen_text(app)


def test_every_screen(folder: Path) -> None:
    async def walk(pilot: Pilot[Any], app: DeepscemApp) -> None:
        seen = ""
        for key in ("f2", "f3", "f4", "f5", "f6", "f7", "f8"):
            await pilot.press(key)
            await settled(pilot)
            seen += harmless(app)
            for widget in (*app.screen.query(Tree), *app.screen.query(DataTable)):
                widget.focus()
                for press in ("home", "down", "right", "down", "down"):
                    await pilot.press(press)
                    await pilot.pause(0.1)
                    harmless(app)
        assert "[bold]na[red]me" in seen

    driven(walk, folder, "datasets", (120, 40))


def test_notices_forms_and_dialogs(folder: Path) -> None:
    async def walk(pilot: Pilot[Any], app: DeepscemApp) -> None:
        dataset = f"{NAME}.hdf5"
        for name, values in {
            "rename-sample": {"file": dataset, "sample": NAME, "new": NAME},
            "add-sample": {"file": dataset, "name": TITLE, "image": f"{NAME}.tif", "labels": [f"{NAME}.tif"]},
            "set-aliases": {"file": dataset, "aliases": [NAME]},
            "info": {"path": f"broken {NAME}.hdf5"},
            "convert-model": {"model": f"{NAME}.keras", "out": f"{TITLE}.h5"},
            "export-sample": {"file": dataset, "sample": NAME, "folder": NAME},
            "plan": {"dataset": dataset, "valid": dataset},
        }.items():
            app.ask(name, values)
            await until(pilot, lambda: len(app.screen_stack) > 1, "the form")
            await settled(pilot)
            harmless(app)
            await pilot.press("f1")
            await pilot.pause()
            harmless(app)
            await pilot.press("escape")
            while len(app.screen_stack) > 1:
                await pilot.press("escape")
                await pilot.pause()
        for mode, values in {
            "training": {"model": f"{NAME}.keras", "train": dataset, "out": f"{TITLE}.keras"},
            "prediction": {"model": f"{NAME}.keras", "input": dataset, "out": f"{TITLE}.hdf5"},
            "evaluation": {"reference": dataset, "segmentation": dataset},
        }.items():
            app.fill_form(mode, values)
            await settled(pilot)
            harmless(app)
        app.notify(str(DataError(f"{NAME}{CLOSED}", CLOSED)), title=NAME, markup=False)
        job = app.start(*_information(f"broken {NAME}.hdf5"))
        assert job is not None
        await until(pilot, lambda: not job.live, "the job")
        await pilot.pause(0.5)
        harmless(app)
        await pilot.press("f8")
        await settled(pilot)
        harmless(app)
        app.sub_title = NAME
        await settled(pilot)
        harmless(app)

    driven(walk, folder, "datasets", (120, 40))


def _information(path: str) -> Any:
    from deepscem_tui.engine import parameters as p
    from deepscem_tui.engine.actions import ACTIONS

    return ACTIONS["info"], p.Info(path=Path(path))
