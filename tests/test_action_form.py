"""Forms of actions: what they show, what they say is wrong while it is typed, and what they send."""

import asyncio
import shlex
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_texts import Golden
from pilot import screen_text, until
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Collapsible, Footer, Input, Select

from deepscem_tui.engine import actions, checks
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build, command_line
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.runs import runs
from deepscem_tui.widgets.action_form import ActionForm
from deepscem_tui.widgets.command_line import CommandLine
from deepscem_tui.widgets.flag import Flag
from deepscem_tui.widgets.form_fields import EachField, Field, SamplesField
from deepscem_tui.widgets.path_input import PathInput, PathSuggester

SIZES = [(80, 24), (120, 40), (200, 60)]


class FormApp(App[None]):
    """A form alone, and what it sends."""

    def __init__(self, action: str, values: dict[str, Any] | None = None, hidden: Sequence[str] = (), **more: Any):
        super().__init__()
        self.form = ActionForm(ACTIONS[action], values, hidden, **more)
        self.sent: list[ActionForm.Submitted] = []

    def compose(self) -> ComposeResult:
        yield self.form
        yield Footer()

    def on_mount(self) -> None:
        self.form.enter()

    def on_action_form_submitted(self, event: ActionForm.Submitted) -> None:
        self.sent.append(event)

    @property
    def status(self) -> str:
        return str(self.form.query_one("#status").render())

    def note(self, name: str) -> str:
        return str(self.form.query_one(f"#field-{name} .note").render())

    def field(self, name: str) -> Field:
        return self.form.query_one(f"#field-{name}", Field)

    @property
    def settled(self) -> bool:
        return self.form.settled


def drive(app: FormApp, script: Callable[[Pilot[None]], Awaitable[None]], size: tuple[int, int] = (100, 40)) -> None:
    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.settled)
            await script(pilot)

    asyncio.run(run())


async def typed(pilot: Pilot[None], name: str, text: str) -> None:
    """Type into a field's line, and wait until it was looked at."""
    app = pilot.app
    assert isinstance(app, FormApp)
    line = app.field(name).query(Input).first()
    line.focus()
    line.value = ""
    await pilot.press(*text)
    await until(pilot, lambda: app.settled and line.value == text)


def make_dataset(path: Path, n_labels: int = 2, shape: Sequence[int] = (2, 24, 32), names: Sequence[str] = ()) -> Path:
    with new_dataset(path, path.stem, n_labels, names) as dataset:
        members = {"image": np.float32} | {f"label_{i:04}": np.uint8 for i in range(n_labels)}
        for name in ("one", "two"):
            sample = dataset.add_sample(name, shape, members=members)
            for member, dtype in members.items():
                sample[member][0 : shape[0]] = np.ones(shape, dtype)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of two labels and a model for it."""
    path = tmp_path_factory.mktemp("made")
    make_dataset(path / "data.hdf5", names=("mito", "membrane"))
    create_model(p.CreateModel(out=path / "m.keras", labels=2, depth=2, filters=2), Context())
    return path


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of these."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


TRAIN = {"model": "m.keras", "out": "out.keras", "train": "data.hdf5"}


# ------------------------------------------------------------------------------------------------ looks


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ACTIONS)
def test_every_form_shows_its_fields_and_no_complaint_at_first(name: str, size: tuple[int, int]) -> None:
    app = FormApp(name)

    async def script(pilot: Pilot[None]) -> None:
        text = screen_text(app)
        assert "!" not in text
        assert f"$ deepscem-tui run {name}" in text
        shown = {field.declared.name for field in app.form.fields}
        assert shown == set(ACTIONS[name].parameters.model_fields) - {"dry_run"}
        for field in app.form.fields:
            if field.declared.required:
                assert field.declared.title + " *" in str(field.query(".field-title").first().render())

    drive(app, script, size)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["train", "add-sample", "create-model", "predict"])
def test_looks(name: str, size: tuple[int, int], folder: Path, golden: Golden) -> None:
    values = {
        "train": TRAIN | {"patch_size": "64,64"},
        "add-sample": {"file": "data.hdf5", "name": "three"},
        "create-model": {"out": "new.keras", "like": "data.hdf5"},
        "predict": {"model": "m.keras", "input": "data.hdf5", "out": "result.hdf5"},
    }[name]
    app = FormApp(name, values)

    async def script(pilot: Pilot[None]) -> None:
        golden(f"form_{name}_{size[0]}x{size[1]}", screen_text(app))

    drive(app, script, size)


def test_it_is_usable_in_a_small_pane() -> None:
    app = FormApp("train")

    async def script(pilot: Pilot[None]) -> None:
        assert "Model *" in screen_text(app)
        assert "[ Train ]" in screen_text(app)

    drive(app, script, (60, 15))


def test_rarely_used_options_are_folded_away_until_one_is_wrong() -> None:
    app = FormApp("train", {"label_focus": "200"})

    async def script(pilot: Pilot[None]) -> None:
        assert app.form.query_one(Collapsible).collapsed
        for name, value in TRAIN.items():
            app.field(name).value = value
        await until(pilot, lambda: app.settled)
        app.field("label_focus").value = "200"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: not app.form.query_one(Collapsible).collapsed or app.settled)

    drive(app, script)


# ------------------------------------------------------------------------------------------------ complaints


@pytest.mark.parametrize(
    ("name", "values", "field", "text", "complaint"),
    [
        ("train", TRAIN, "patch_size", "64", "! Must have two sizes (Y,X) or three (Z,Y,X)"),
        ("train", TRAIN, "patch_size", "64,64", "! Patch size is 64 along Y, but sample 'one' of data.hdf5 has 24"),
        ("train", TRAIN, "patch_size", "15,16", "! Patch size along Y must be a multiple of 2 (it is 15)"),
        ("train", TRAIN, "batch_size", "0", "! Must be at least 1 (it is 0)"),
        ("train", TRAIN, "batch_size", "many", "! Must be a whole number (it is 'many')"),
        ("train", TRAIN, "train", "nothing.hdf5", "! There is no file nothing.hdf5"),
        ("train", TRAIN, "train", "m.keras", "! m.keras is no data set"),
        ("train", TRAIN, "model", "data.hdf5", "! data.hdf5 is a data set, not a model"),
        ("train", TRAIN, "valid", "three.hdf5", "! Has 3 labels a sample, and the model 2"),
        ("train", TRAIN, "out", "m.keras", "! It exists already. Choose another name, or switch Overwrite on"),
        ("train", TRAIN, "out", "out.txt", "! out.txt does not end in .keras or .h5"),
        ("create-model", {"out": "n.keras", "labels": "1"}, "kernel_size", "4", "! Must be odd (it is 4)"),
        ("create-model", {"out": "n.keras", "labels": "1"}, "like", "data.hdf5", ""),
        ("create-dataset", {"file": "n.hdf5", "name": "n"}, "n_labels", "-1", "! Must be at least 0"),
        ("create-dataset", {"file": "n.hdf5", "n_labels": "1"}, "name", "a/b", "! Must not be '.' or '..'"),
        ("crop-sample", {"file": "data.hdf5", "sample": "one"}, "y", "3:99", "! Y 3:99 is not inside sample 'one'"),
        ("crop-sample", {"file": "data.hdf5", "sample": "one"}, "z", "5", "! Must be START:STOP"),
        ("rename-sample", {"file": "data.hdf5", "sample": "one"}, "new", "two", "! data.hdf5 has a sample 'two' alr"),
        ("predict", {"input": "data.hdf5", "out": "m.keras"}, "model", "text.keras", "! text.keras is no model file"),
        ("add-sample", {"file": "data.hdf5"}, "image", "text.tif", "! text.tif is no TIFF file"),
        ("predict", {"model": "m.keras", "input": "data.hdf5"}, "out", "r.png", "! r.png is neither a data set nor"),
        ("predict", {"model": "m.keras", "out": "r.hdf5"}, "input", "three.hdf5", "! Has 3 labels, and the model 2"),
        ("evaluate", {"reference": "data.hdf5"}, "segmentation", "three.hdf5", "! Has 3 labels, and the reference 2"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field(
    name: str, values: dict[str, str], field: str, text: str, complaint: str, folder: Path
) -> None:
    make_dataset(Path("three.hdf5"), 3)
    for text_file in ("text.keras", "text.tif"):
        Path(text_file).write_text("no such thing")
    app = FormApp(name, {key: value for key, value in values.items() if key != field})

    async def script(pilot: Pilot[None]) -> None:
        await typed(pilot, field, text)
        if complaint:
            assert app.note(field).startswith(complaint), app.note(field)
            assert app.query_one(CommandLine).complete or "..." in str(app.query_one(CommandLine).render())
        else:  # the two contradict each other: said beside the one to change
            assert "give either" in app.note("labels").lower()
        app.field(field).query(Input).first().value = ""
        await until(pilot, lambda: app.settled)
        assert "!" not in app.note(field) or "missing" in app.note(field)

    drive(app, script, (120, 60))


def test_a_batch_that_will_not_fit_is_said_with_one_that_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.system.memory.available_memory", lambda: 4 << 20)
    app = FormApp("train", TRAIN | {"patch_size": "16,16"})

    async def script(pilot: Pilot[None]) -> None:
        assert "8 patches of 1 x 16 x 16 voxels a step" in app.status
        await typed(pilot, "batch_size", "1000")
        assert "GiB are free. A Batch size of" in app.note("batch_size")
        assert app.status.startswith("! Batch size: A step on 1000 patches")

    drive(app, script)


def test_what_would_be_done_is_said(folder: Path) -> None:
    app = FormApp("train", TRAIN)

    async def script(pilot: Pilot[None]) -> None:
        assert app.status.startswith("Would train m.keras for 64 epochs: 8 patches of 1 x 24 x 32 voxels a step, about")

    drive(app, script)


def test_needed_values_that_are_not_given_are_said_when_the_start_is_refused(folder: Path) -> None:
    app = FormApp("train", {"model": "m.keras"})

    async def script(pilot: Pilot[None]) -> None:
        assert app.note("out") == "Trained model to make (.keras or .h5)."
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.note("out") == "! Is missing")
        await until(pilot, lambda: app.focused is app.field("out").query_one(Input))
        assert not app.sent
        assert [note.message for note in app._notifications] == ["Out: is missing"]

    drive(app, script)


def test_an_error_that_no_field_can_be_blamed_for_is_said_at_the_foot(folder: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("x [bold] y")

    app = FormApp("create-dataset", {"file": "n.hdf5", "name": "n", "n_labels": "1"})

    async def script(pilot: Pilot[None]) -> None:
        monkeypatch.setattr(actions.Action, "carry_out", fail)
        app.form.check()
        await until(pilot, lambda: "Could not be checked: ValueError: x [bold] y" in app.status)

    drive(app, script)


def test_the_first_complaint_is_said_where_it_is_seen(folder: Path) -> None:
    app = FormApp("train", TRAIN | {"steps_per_epoch": "0", "learning_rate": "-1"})

    async def script(pilot: Pilot[None]) -> None:
        assert app.status == "! Steps per epoch: must be at least 1 (it is 0) (1 more)"
        assert "Steps per epoch   " in screen_text(app)  # the last line that is seen, without what is said below it
        assert "! Must be at least 1" not in screen_text(app)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "! Must be at least 1" in screen_text(app))

    drive(app, script, (80, 23))


def test_what_was_not_touched_is_not_counted_as_wrong(folder: Path) -> None:
    app = FormApp("split-dataset", {"file": "data.hdf5", "out_dir": "parts"})

    async def script(pilot: Pilot[None]) -> None:
        assert app.status.startswith("1 to be filled in: ")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.settled and app.status.startswith("! "))

    drive(app, script)


def test_what_is_remembered_is_said_and_can_be_taken_back(folder: Path) -> None:
    values = TRAIN | {"patch_size": (16, 16), "keep_best": False, "loss": "dice", "epochs": "64"}
    app = FormApp("train", values, recommended=TRAIN)

    async def script(pilot: Pilot[None]) -> None:
        line = app.form.query_one("#remembered")
        assert str(line.render()) == "3 values as the last time here; ctrl+r for what is recommended"
        await typed(pilot, "patch_size", "24,24")
        assert str(line.render()).startswith("2 values")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.settled and not line.display)
        now = app.form.values()
        assert (now["patch_size"], now["keep_best"], now["model"]) == ("24,24", True, "m.keras")
        assert now["loss"] == next(d.default for d in actions.declared(ACTIONS["train"]) if d.name == "loss")
        assert app.status.startswith("Would train")

    drive(app, script)


def test_only_what_nobody_touched_is_proposed_anew(folder: Path) -> None:
    app = FormApp("train", {"model": "m.keras", "out": "out.keras", "train": "data.hdf5"})

    async def script(pilot: Pilot[None]) -> None:
        await typed(pilot, "train", "three.hdf5")
        Path("out.keras").write_text("made meanwhile")
        before = {"model": "m.keras", "out": "out.keras", "train": "data.hdf5"}
        app.form.propose({"model": "m.keras", "out": "out-2.keras", "train": "a.hdf5", "valid": "data.hdf5"}, before)
        await until(pilot, lambda: app.settled)
        now = app.form.values()
        assert [now[name] for name in ("out", "train", "valid")] == ["out-2.keras", "three.hdf5", "data.hdf5"]
        assert [field.declared.name for field in app.form.fields if field.touched] == ["train"]

    drive(app, script)


# ------------------------------------------------------------------------------------------------ fields


def test_each_label_of_the_data_set_has_its_line(folder: Path) -> None:
    for name in ("image", "a", "b"):
        np.save(f"{name}.npy", np.ones((2, 8, 8), np.uint8))
    app = FormApp("add-sample", {"file": "data.hdf5", "name": "three", "image": "image.npy"})

    async def script(pilot: Pilot[None]) -> None:
        labels = app.form.query_one(EachField)
        titles = [str(row.query(".field-title").first().render()).strip() for row in labels.query(".row")]
        assert titles == ["mito", "membrane"]
        assert "safe mode off" in app.note("labels")  # no label has a file
        labels.query(Input).first().focus()
        await pilot.press(*"a.npy")
        await until(pilot, lambda: app.settled)
        assert app.note("labels") == "! One label has no file. Choose one, or say: blank"
        labels.query(Flag).last().value = True
        await until(pilot, lambda: app.settled)
        assert app.form.values()["labels"] == ["a.npy", ""]
        await until(pilot, lambda: app.status == "Would add sample 'three' 2 x 8 x 8 to data.hdf5")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.sent)
        assert app.sent[0].parameters.labels == ("a.npy", "")

    drive(app, script)


def test_lines_follow_the_data_set(folder: Path) -> None:
    make_dataset(Path("three.hdf5"), 3)
    app = FormApp("set-aliases", {"file": "data.hdf5"})

    async def script(pilot: Pilot[None]) -> None:
        assert len(app.form.query(".row")) == 2
        await typed(pilot, "file", "three.hdf5")
        await until(pilot, lambda: len(app.form.query(".row")) == 3)
        await typed(pilot, "file", "none.hdf5")
        await until(pilot, lambda: not app.form.query(".row"))
        assert "choose file first" in screen_text(app)

    drive(app, script)


def test_samples_are_chosen_from_those_of_the_data_set(folder: Path) -> None:
    app = FormApp("rename-sample", {"file": "data.hdf5", "new": "three"})

    async def script(pilot: Pilot[None]) -> None:
        select = app.field("sample").query_one(Select)
        assert [value for _, value in select._options][1:] == ["one", "two"]
        select.value = "two"
        await until(pilot, lambda: app.settled and app.field("sample").touched)
        assert "'two' of data.hdf5 to 'three'" in app.status

    drive(app, script)


def test_several_samples_can_be_predicted(folder: Path) -> None:
    app = FormApp("predict", {"model": "m.keras", "input": "data.hdf5", "out": "r.hdf5"})

    async def script(pilot: Pilot[None]) -> None:
        field = app.form.query_one(SamplesField)
        await until(pilot, lambda: len(field.query(Flag)) == 2)
        assert "Would predict 2 samples" in app.status
        field.query(Flag).last().focus()
        await pilot.press("space")
        await until(pilot, lambda: app.settled)
        assert app.form.values()["sample"] == ["two"]
        assert "Would predict 1 sample," in app.status

    drive(app, script)


def test_hidden_values_are_sent_and_not_shown(folder: Path) -> None:
    app = FormApp("remove-sample", {"file": Path("data.hdf5"), "sample": "one"}, ("file",))

    async def script(pilot: Pilot[None]) -> None:
        assert [field.declared.name for field in app.form.fields] == ["sample"]
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.sent)
        assert app.sent[0].parameters == p.RemoveSample(file=Path("data.hdf5"), sample="one")

    drive(app, script)


def test_values_come_back_as_they_were_typed(folder: Path) -> None:
    first, again = FormApp("train", TRAIN | {"patch_size": (16, 16), "keep_best": False}), FormApp("train")
    found: dict[str, Any] = {}

    async def keep(pilot: Pilot[None]) -> None:
        found.update(first.form.values())

    async def fill(pilot: Pilot[None]) -> None:
        again.form.fill(found)
        await until(pilot, lambda: again.settled)
        assert again.form.values() == found
        assert found["patch_size"] == "16,16"
        assert found["keep_best"] is False
        assert again.status.startswith("Would train")

    drive(first, keep)
    drive(again, fill)


# ------------------------------------------------------------------------------------------------ starting


def test_enter_goes_on_and_starts_in_the_last_line(folder: Path) -> None:
    app = FormApp("create-dataset")

    async def script(pilot: Pilot[None]) -> None:
        for text in ("n.hdf5", "n", "2"):
            await pilot.press(*text, "enter")
            if text == "n.hdf5":
                assert isinstance(app.focused, Flag)  # overwrite, which enter leaves as it is
                await pilot.press("enter")
        await until(pilot, lambda: app.sent)
        assert app.sent[0].parameters == p.CreateDataset(file=Path("n.hdf5"), name="n", n_labels=2)
        assert app.sent[0].detached is False

    drive(app, script)


def test_only_what_writes_a_run_can_be_started_detached(folder: Path) -> None:
    train, other = FormApp("train", TRAIN), FormApp("rename-dataset", {"file": "data.hdf5", "new": "x"})

    async def detach(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+t")
        await until(pilot, lambda: train.sent)
        assert train.sent[0].detached is True

    async def refuse(pilot: Pilot[None]) -> None:
        assert not other.query("#detached")
        await pilot.press("ctrl+t")
        await pilot.pause()
        assert not other.sent

    drive(train, detach)
    drive(other, refuse)


def test_a_file_that_appeared_meanwhile_is_not_overwritten(folder: Path) -> None:
    app = FormApp("train", TRAIN)

    async def script(pilot: Pilot[None]) -> None:
        Path("out.keras").write_text("mine")
        await pilot.press("f10")
        await until(pilot, lambda: app.note("out").startswith("! It exists already"))
        assert not app.sent
        app.form.query_one("#field-overwrite Flag", Flag).value = True
        await until(pilot, lambda: app.settled)
        await pilot.press("f10")
        await until(pilot, lambda: app.sent)
        assert app.sent[0].parameters.overwrite is True

    drive(app, script)


def test_safe_mode_can_be_switched_off(folder: Path) -> None:
    make_dataset(Path("three.hdf5"), 3)
    on = [True]
    app = FormApp(
        "create-model", {"out": "n.keras", "labels": "1"},
        safe_mode=lambda: on[0], open_datasets=lambda: [Path("data.hdf5"), Path("three.hdf5")],
    )  # fmt: skip

    async def script(pilot: Pilot[None]) -> None:
        await typed(pilot, "labels", "4")
        assert app.note("labels").startswith("! No open data set has 4 labels: data.hdf5 has 2, three.hdf5 has 3.")
        on[0] = False
        app.form.check()
        await until(pilot, lambda: app.settled)
        assert app.status.startswith("Would make n.keras: 2D, 4 labels")

    drive(app, script)


def test_a_held_key_does_not_queue_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[dict[str, Any]] = []
    examine = checks.examine

    def counted(action: actions.Action, values: dict[str, Any], *more: Any) -> checks.Findings:
        looks.append(dict(values))
        return examine(action, values, *more)

    app = FormApp("rename-dataset", {"file": "data.hdf5"})

    async def script(pilot: Pilot[None]) -> None:
        monkeypatch.setattr(checks, "examine", counted)
        app.field("new").query_one(Input).focus()
        await pilot.press(*"x" * 60)
        await until(pilot, lambda: app.settled and app.form.values()["new"] == "x" * 60)
        assert len(looks) < 12  # a look at most for each pause, one at a time
        assert looks[-1]["new"] == "x" * 60

    drive(app, script)


# ------------------------------------------------------------------------------------------------ the command

FULL: dict[str, dict[str, Any]] = {
    "demo": {"folder": "d", "seed": "3"},
    "create-dataset": {"file": "a b.hdf5", "name": "x y", "n_labels": "2", "overwrite": True},
    "add-sample": {
        "file": "a",
        "name": "n",
        "image": "i [bold].tif",
        "labels": ["l.tif", ""],
        "range": "type",
        "classes": "mito=1,er=2",
        "labelled_z": "auto",
        "ignore_value": "255",
    },
    "import-folder": {
        "file": "a.hdf5",
        "folder": "f [x]",
        "image_pattern": "{name}.tif",
        "label_pattern": "{name}_{label}.tif",
        "ignore_pattern": "{name}_i.tif",
        "stacks": True,
        "label_names": ["mito", "e r"],
        "unpaired": "skip",
        "prefix": "p ",
        "classes": "mito=1,er=2",
        "labelled_z": "0:2",
    },
    "crop-sample": {"file": "a", "sample": "-s", "z": "0:4", "x": ":7", "name": "new"},
    "rename-dataset": {"file": "a", "new": "b"},
    "rename-sample": {"file": "a", "sample": "-s", "new": "b"},
    "remove-sample": {"file": "a", "sample": "s s"},
    "set-aliases": {"file": "a", "aliases": ["mito", "\u00e9\u4e2d [b]"]},
    "set-voxel-size": {"file": "a", "voxel_size": "30,8,8 nm", "sample": ["s s"]},
    "set-labelled": {"file": "a", "sample": "s s", "labelled_z": "0:4,7:", "labelled_x": "1:", "ignore_mask": "m.tif"},
    "save-dataset": {"file": "a", "out": "b.hdf5"},
    "split-dataset": {"file": "a", "out_dir": "o", "valid": "20", "test": "10.5", "by": "z", "gap": "3", "seed": "1"},
    "export-sample": {"file": "a", "sample": "s", "folder": "f", "format": "ome.zarr"},
    "convert-image": {"image": "a.mrc", "out": "b.ome.tif", "voxel_size": "8 nm", "labels": True},
    "distance-transform": {"file": "a", "overwrite": True},
    "check-dataset": {"file": "a"},
    "plan": {"dataset": "a"},
    "show-augmentation": {"file": "a", "out": "b.png", "augment": ["noise=2"], "rows": "2", "style": "ascii"},
    "info": {"path": "a"},
    "preview": {"file": "a", "sample": "s", "z": "3", "overlay": "none", "width": "40"},
    "create-model": {"out": "m.h5", "labels": "2", "dimension": "3", "activation": "softmax", "kernel_size": "5"},
    "convert-model": {"model": "m.h5", "out": "m.keras"},
    "export-model": {"model": "m.h5", "out": "m [x].onnx"},
    "package-model": {
        "model": "m.h5",
        "out": "m.zip",
        "author": ["A. Author; Institute [x]; 0000-0002-1825-0097", "\u00e9 B"],
        "image": "i.hdf5",
        "sample": "s s",
        "name": "my model",
        "description": "It's a model.",
        "license": "MIT",
        "cite": ["A paper; 10.1234/abcd"],
    },
    "train": TRAIN | {"patch_size": "8,64,64", "learning_rate": "0.01", "keep_best": False, "early_stopping": True},
    "predict": {
        "model": "m",
        "input": "i",
        "out": "o.tif",
        "sample": ["a", "b c"],
        "image": False,
        "threshold": "0.3",
        "shard": "2/3",
    },
    "merge": {"out": "o.hdf5", "shards": ["o.hdf5.shards", "b c"]},
    "clean-masks": {"input": "i", "out": "o.tif", "smooth": "20nm", "fill_holes": "0.5um3", "min_size": "500"},
    "find-objects": {
        "input": "i",
        "out": "o.tif",
        "csv": "c.csv",
        "sample": ["a", "b c"],
        "fill_holes": "all",
        "holes_in": "slices",
        "split_touching": "1.5",
        "connectivity": "26",
        "leave_out_edge": True,
    },
    "evaluate": {"reference": "r", "segmentation": "s", "csv": "c.csv", "objects": True, "instances": "both"},
}


@pytest.mark.parametrize("name", ACTIONS)
def test_the_command_does_the_same_as_the_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepscem_tui.cli import main

    wanted = build(ACTIONS[name], FULL[name])
    command = command_line(ACTIONS[name], wanted)
    done: list[tuple[str, p.Parameters]] = []

    def perform(action: actions.Action, parameters: p.Parameters, *_: object) -> Any:
        done.append((action.name, parameters))
        return runs.Result("done")

    monkeypatch.setattr(runs, "perform", perform)
    words = shlex.split(command)
    assert words[0] == "deepscem-tui"
    assert main(words[1:]) == 0
    assert done == [(name, wanted)]


@pytest.mark.parametrize(
    ("action", "name", "text", "wanted"),
    [
        ("package-model", "author", "A B; Institute, Town | C", ("A B; Institute, Town", "C")),
        ("package-model", "cite", "D, 2025; 10.1234/a|E; 10.1234/b", ("D, 2025; 10.1234/a", "E; 10.1234/b")),
        ("import-folder", "label_names", "mito,  e r,", ("mito", "e r")),
        ("merge", "shards", "a.shards", ("a.shards",)),
        ("train", "augment", "noise=2 blur=0", ("noise=2", "blur=0")),
    ],
)
def test_several_texts_in_a_line(action: str, name: str, text: str, wanted: tuple[str, ...], folder: Path) -> None:
    app = FormApp(action)

    async def typing(pilot: Pilot[None]) -> None:
        await typed(pilot, name, text)
        value = app.form.values()[name]
        assert getattr(build(ACTIONS[action], {**FULL[action], name: value}), name) == wanted

    drive(app, typing)
    filled = FormApp(action, {name: list(wanted)})

    async def look(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: filled.field(name).value)
        value = filled.form.values()[name]
        assert getattr(build(ACTIONS[action], {**FULL[action], name: value}), name) == wanted

    drive(filled, look)


def test_the_command_is_shown_and_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = FormApp("train", TRAIN | {"epochs": "3"})
    said: list[str] = []
    monkeypatch.setattr(app, "notify", lambda _, *, severity="information", **__: said.append(severity))

    async def script(pilot: Pilot[None]) -> None:
        command = "deepscem-tui run train m.keras out.keras --train data.hdf5 --epochs 3"
        assert f"$ {command}" in screen_text(app)
        await pilot.press("ctrl+y")
        assert app.clipboard == command
        await typed(pilot, "epochs", "none")
        await pilot.press("ctrl+y")
        assert app.clipboard == command
        assert said == ["information", "warning"]

    drive(app, script)


# ------------------------------------------------------------------------------------------------ completion


def complete(typed: str, *suffixes: str, folder: bool = False) -> str | None:
    return asyncio.run(PathSuggester(suffixes, folder).get_suggestion(typed))


def test_completion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stack ü [bold].tif", "stack.txt", "st\x1bevil.tif", ".hidden.tif"):
        Path(name).write_text("")
    Path("stacks").mkdir()
    Path("stacks/inner.tif").write_text("")
    monkeypatch.setenv("HOME", str(folder))
    assert complete("sta", ".tif") == "stack ü [bold].tif"
    assert complete("stack.", ".tif") == "stack.txt"  # not what belongs here, but there is no other
    assert complete("stacks", ".tif") == "stacks/"
    assert complete("stacks/i", ".tif") == "stacks/inner.tif"
    assert complete("sta", ".tif", folder=True) == "stacks/"
    assert complete("~/stacks/i", ".tif") == "~/stacks/inner.tif"
    assert complete(f"{folder}/stacks/i", ".tif") == f"{folder}/stacks/inner.tif"
    assert complete("./stacks/i", ".tif") == "./stacks/inner.tif"
    assert complete(".h", ".tif") == ".hidden.tif"
    assert complete("st\x1b", ".tif") is None
    Path("cell.ome.zarr").mkdir()
    assert complete("ce", ".tif") == "cell.ome.zarr"  # an image, though a folder
    assert [complete(text, ".tif") for text in ("", "stacks/", "nowhere/x", "~nobody/x", "..")] == [None] * 5


@pytest.mark.parametrize("key", ["right", "ctrl+e", "end"])
def test_a_key_takes_the_completion(key: str, folder: Path) -> None:
    Path("stack [bold].hdf5").write_text("")
    app = FormApp("check-dataset")

    async def script(pilot: Pilot[None]) -> None:
        line = app.form.query_one(PathInput)
        await pilot.press(*"sta")
        await until(pilot, lambda: line._suggestion == "stack [bold].hdf5")
        await pilot.press(key)
        assert line.value == "stack [bold].hdf5"
        await until(pilot, lambda: "stack [bold].hdf5" in screen_text(app))

    drive(app, script)


def test_the_home_is_understood_in_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    app = FormApp("check-dataset", {"file": "~/data.hdf5"})

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.sent)
        assert app.sent[0].parameters == p.CheckDataset(file=folder / "data.hdf5")

    drive(app, script)


# ------------------------------------------------------------------------------------------------ without TensorFlow


def test_forms_are_checked_without_tensorflow(folder: Path) -> None:
    values = {
        "train": TRAIN,
        "predict": {"model": "m.keras", "input": "data.hdf5", "out": "r.hdf5"},
        "create-model": {"out": "n.keras", "like": "data.hdf5"},
        "convert-model": {"model": "m.keras", "out": "m.h5"},
        "export-model": {"model": "m.keras", "out": "m.onnx"},
        "package-model": {"model": "m.keras", "out": "m.zip", "author": ["A B"], "image": "data.hdf5"},
        "evaluate": {"reference": "data.hdf5", "segmentation": "data.hdf5"},
    }
    code = (
        "import sys\nfrom deepscem_tui.engine import checks\nfrom deepscem_tui.engine.actions import ACTIONS\n"
        "import deepscem_tui.widgets.action_form\n"
        f"for name, values in {values!r}.items():\n"
        "    found = checks.examine(ACTIONS[name], values, True)\n"
        "    assert not found.faults and found.summary, (name, found)\n"
        "print('HEAVY', sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "HEAVY []", done.stderr
