"""The declarations: what they accept, how they complain, and the command lines made from them."""

import re
import shlex
import typing
from pathlib import Path

import pytest

from deepscem_tui.cli import main
from deepscem_tui.engine import actions
from deepscem_tui.engine.actions import ACTIONS, build, command_line, declared
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs import runs

TRAIN = {"model": "in.keras", "out": "out.keras", "train": "data.hdf5"}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=list(ACTIONS))
def test_every_action_has_help_and_a_function_for_its_parameters(action: actions.Action) -> None:
    module, _, name = action.function.partition(":")
    function = getattr(__import__(f"deepscem_tui.engine.{module}", fromlist=[name]), name)
    assert typing.get_type_hints(function)["parameters"] is action.parameters
    assert action.help.splitlines()[0].endswith(".")
    for parameter in declared(action):
        assert parameter.help.rstrip()[-1] in ".;)", f"{parameter.name} needs a sentence of help"


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        (
            "create-dataset",
            {"file": "a.hdf5", "name": "a/b", "n_labels": 1},
            "NAME must not be",
        ),
        ("create-dataset", {"file": "a.hdf5", "name": "-a", "n_labels": 1}, "NAME must not begin with '-'"),
        ("create-dataset", {"file": "a.hdf5", "name": "a\x1b[31m", "n_labels": 1}, "control characters"),
        ("create-dataset", {"file": "a.hdf5", "name": "", "n_labels": 1}, "must not be empty"),
        ("create-dataset", {"file": "a.hdf5", "name": "a", "n_labels": "two"}, "N_LABELS must be a whole number"),
        ("create-dataset", {"file": "a.hdf5", "name": "a", "n_labels": -1}, "N_LABELS must be at least 0 (it is -1)"),
        ("create-dataset", {"file": "a.hdf5"}, "NAME is missing; N_LABELS is missing"),
        ("crop-sample", {"file": "a", "sample": "s", "z": "5"}, "--z must be START:STOP"),
        ("crop-sample", {"file": "a", "sample": "s", "z": "5:5"}, "STOP must be greater than START"),
        ("crop-sample", {"file": "a", "sample": "s", "z": "-3:5"}, "must not be negative"),
        ("set-aliases", {"file": "a"}, "either one name for each label, or --clear"),
        ("create-model", {"out": "m.keras"}, "either --labels N or --like DATASET"),
        ("create-model", {"out": "m.keras", "labels": 1, "like": "d"}, "either --labels N or --like DATASET"),
        ("create-model", {"out": "m.keras", "labels": 1, "kernel_size": 4}, "--kernel-size must be odd"),
        ("create-model", {"out": "m.keras", "labels": 1, "dimension": "4"}, "--dimension must be 2 or 3"),
        ("train", {**TRAIN, "loss": "l1"}, "--loss must be 'dice-cross-entropy'"),
        ("train", {**TRAIN, "patch_size": "64"}, "--patch-size must have two sizes"),
        ("train", {**TRAIN, "patch_size": "a,b"}, "--patch-size must be Y,X or Z,Y,X"),
        ("train", {**TRAIN, "label_focus": "101"}, "--label-focus must be at most 100"),
        ("train", {**TRAIN, "learning_rate": "nan"}, "--learning-rate"),
        ("train", {"model": "m", "out": "o"}, "--train is missing"),
        ("train", {**TRAIN, "xla": True, "deterministic": True}, "XLA has no deterministic pooling"),
        (
            "clean-masks",
            {"input": "i", "out": "o"},
            "there is nothing to do: give --smooth, --fill-holes or --min-size",
        ),
        ("clean-masks", {"input": "i", "out": "o", "min_size": "5", "holes_in": "slices"}, "--holes-in slices says"),
        (
            "find-objects",
            {"input": "i", "out": "o", "instances": True, "fill_holes": "all"},
            "--fill-holes is for masks",
        ),
        (
            "import-folder",
            {"file": "f", "folder": "d", "label_pattern": "x"},
            "--image-pattern is needed with --label-",
        ),
        ("set-voxel-size", {"file": "f", "voxel_size": None}, "VOXEL_SIZE is missing"),
        ("train", {**TRAIN, "batchsize": 3}, "there is no parameter 'batchsize'"),
    ],
)
def test_a_wrong_value_is_named_in_the_terms_of_the_command_line(name: str, values: dict, complaint: str) -> None:
    with pytest.raises(ParameterError) as caught:
        build(ACTIONS[name], values)
    assert complaint in caught.value.what
    assert re.match(r"(--)?[a-z-]+ |[A-Z_]+ |there |give ", caught.value.what), "it begins as a sentence does"
    assert not caught.value.what.startswith(("is ", "or ", "has "))
    assert caught.value.exit_code == 2
    assert f"run {name} --help" in caught.value.hint


def test_text_from_a_command_line_becomes_values() -> None:
    parameters = build(ACTIONS["train"], {**TRAIN, "patch_size": "8,64,64", "batch_size": "3", "label_focus": "12.5"})
    assert (parameters.patch_size, parameters.batch_size, parameters.label_focus) == ((8, 64, 64), 3, 12.5)
    crop = build(ACTIONS["crop-sample"], {"file": "a", "sample": "s", "z": "3:", "y": ":7", "x": "1:2"})
    assert (crop.z, crop.y, crop.x) == ((3, None), (None, 7), (1, 2))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("crop-sample", {"file": "a b.hdf5", "sample": "s", "z": (0, 4)}, "'a b.hdf5' s --z 0:4"),
        ("add-sample", {"file": "a", "name": "n", "image": "i.tif", "labels": ("l.tif", "")}, "a n i.tif l.tif ''"),
        (
            "train",
            {**TRAIN, "patch_size": (64, 64), "keep_best": False},
            "in.keras out.keras --train data.hdf5 --patch-size 64,64 --no-keep-best",
        ),
        ("predict", {"model": "m", "input": "i", "out": "o", "sample": ("a", "b")}, "m i o --sample a --sample b"),
    ],
)
def test_the_same_thing_as_a_command(name: str, values: dict, words: str) -> None:
    action = ACTIONS[name]
    assert command_line(action, build(action, values)) == f"deepscem-tui run {name} {words}"


@pytest.mark.parametrize("name", ["train", "crop-sample", "predict"])
def test_parameters_survive_json(name: str) -> None:
    values = {
        "train": {**TRAIN, "patch_size": "8,64,64"},
        "crop-sample": {"file": "a", "sample": "s", "z": "3:"},
        "predict": {"model": "m", "input": "i", "out": "o", "sample": ["a"], "patch_size": "64,64"},
    }[name]
    parameters = build(ACTIONS[name], values)
    assert build(ACTIONS[name], parameters.model_dump(mode="json")) == parameters


@pytest.mark.parametrize("action", ACTIONS.values(), ids=list(ACTIONS))
def test_examples_are_understood(
    action: actions.Action, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text('model = "a.keras"\nout = "b.keras"\ntrain = "train.hdf5"\n')
    asked: list[actions.Action] = []
    monkeypatch.setattr(runs, "perform", lambda action, *_: asked.append(action) or Result("done"))
    for line in action.example_lines:
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert asked == [action] * len(action.examples)
