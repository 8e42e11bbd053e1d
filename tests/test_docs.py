"""What the pages in docs/ name is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepscem_tui.cli import main
from deepscem_tui.engine.actions import ACTIONS, Action, declared
from deepscem_tui.engine.runs import runs
from deepscem_tui.screens.dataset_keys import DEEDS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "deepscem.md").read_text(encoding="utf-8")
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")


def test_the_reference_is_that_of_the_declarations() -> None:
    sys.path.insert(0, str(DOCS))
    import make_reference

    assert (DOCS / "reference.md").read_text(encoding="utf-8") == make_reference.reference(), "make reference"


def test_the_reference_has_every_exit_status_and_variable() -> None:
    sys.path.insert(0, str(DOCS))
    import make_reference

    rows = re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE)
    assert [(int(status), meaning) for status, meaning in rows] == list(make_reference.STATUSES)
    code = "".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "deepscem_tui").rglob("*.py"))
    read = re.findall(r'environ(?:\.get|\.setdefault)?[\[(]"([A-Z_]+)"', code)
    assert {"DEEPSCEM_TUI_RUNS", "TF_CONFIG"} <= set(read) <= {*make_reference.VARIABLES, "LC_CTYPE", "LANG"}


def test_the_table_of_formats_is_that_of_the_program() -> None:
    sys.path.insert(0, str(DOCS))
    import make_formats

    text = make_formats.PAGE.read_text(encoding="utf-8")
    assert text == make_formats.page(text), "make reference"
    assert "| MRC | `.mrc`" in text


def test_options_and_actions_that_the_page_for_deepscems_users_names_exist() -> None:
    options = {"--" + parameter.name.replace("_", "-") for action in ACTIONS.values() for parameter in declared(action)}
    theirs = {"--create-dataset", "--add-sample", "--train-model"}
    assert set(re.findall(r"--[a-z][a-z-]*", PAGE)) <= options | theirs
    for name in re.findall(r"deepscem-tui run ([a-z-]+)", PAGE):
        assert name in ACTIONS
    for cell in re.findall(r"^\|.*\|([^|]*)\|$", PAGE, re.MULTILINE):
        assert set(re.findall(r"`([a-z][a-z-]*)", cell)) <= set(ACTIONS)


@pytest.mark.parametrize(
    ("page", "actions"),
    [
        ("docs/folders.md", {"import-folder", "split-dataset", "add-sample", "set-voxel-size", "predict"}),
        ("docs/questions.md", {"train", "predict", "plan", "split-dataset", "export-sample", "convert-image"}),
    ],
)
def test_the_commands_of_a_page_are_right(page: str, actions: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def perform(action: Action, *_: object) -> runs.Result:
        done.append(action.name)
        return runs.Result("done")

    monkeypatch.setattr(runs, "perform", perform)
    commands = re.findall(r"^ +deepscem-tui (run .*)$", (DOCS.parent / page).read_text(encoding="utf-8"), re.MULTILINE)
    for command in commands:
        assert main(shlex.split(command)) == 0, command
    assert set(done) == actions


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Check that each command of a text takes what one before it has made; gives the actions in order."""
    made, asked = {"deepscem-demo"}, []

    def perform(action: Action, parameters: Any, *_: object) -> runs.Result:
        asked.append(action.name)
        for parameter in declared(action):
            value = getattr(parameters, parameter.name)
            if parameter.opens and value not in (None, ()):
                for path in value if isinstance(value, tuple) else (value,):
                    assert Path(path).parts[0] in made, path
            elif parameter.makes and value is not None:
                made.add(str(value))
        if action.name == "split-dataset":
            made.update(("train.hdf5", "valid.hdf5", "test.hdf5"))
        return runs.Result("done")

    def check(text: str) -> list[str]:
        for command in re.findall(r"^    deepscem-tui (run .*)$", text, re.MULTILINE):
            assert main(shlex.split(command, comments=True)) == 0, command
        return asked

    monkeypatch.setattr(runs, "perform", perform)
    return check


def test_the_commands_from_the_microscope_to_the_table_are_right(follow: Callable[[str], list[str]]) -> None:
    """The picture is made by them, too (see docs/make_pictures.py)."""
    asked = follow((DOCS / "microscope-to-table.md").read_text(encoding="utf-8"))
    assert asked == ["convert-image", "info", "predict", "find-objects", "evaluate", "convert-image"]


def test_the_first_commands_can_be_followed_one_by_one(follow: Callable[[str], list[str]]) -> None:
    asked = follow(README[README.index("The same from the shell:") : README.index("### Training that you can leave")])
    assert {"add-sample", "split-dataset", "train", "predict", "evaluate", "find-objects"} <= set(asked)


@pytest.mark.parametrize(
    ("entry", "deed"),
    [
        ("New dataset", "new"), ("Unload dataset", "close"), ("Save dataset as", "save"), ("Add sample", "add"),
        ("Remove sample", "remove"), ("Crop sample, six bounds", "crop"), ("Label aliases", "aliases"),
        ("Rename data set, rename sample", "rename"), ("Export sample as TIFF", "export"),
        ("Distance transform", "distance"),
    ],
)  # fmt: skip
def test_keys_are_those_of_the_screen(entry: str, deed: str) -> None:
    keys = next(item.keys for item in DEEDS if item.name == deed).split(",")
    assert f"| {entry} | `{keys[0]}` |" in PAGE


@pytest.mark.parametrize(
    "field",
    [
        "Load dataset", "Z slider", "Screenshot", "Safe mode", "Load model", "Save model as", "Model dimension",
        "Architecture", "Construction block", "Kernel size", "Initial block filters", "Block per level",
        "Normalization", "Model depth", "Outputs", "Output activation", "Loss function", "Batch size", "Patch size",
        "Steps per epoch", "Epochs", "Validation steps", "Keep best", "Early stopping", "Rotation", "Flip",
        "Label focus", "Overlapping", "threshold", "Reference", "Segmentation", "F1 Score",
        "Intersection over Union", "CSV",
    ],
)  # fmt: skip
def test_every_entry_and_field_of_deepscem_has_its_place(field: str) -> None:
    assert re.search(rf"^\|[^|]*{re.escape(field)}[^|]*\|", PAGE, re.MULTILINE), field


def test_commands_on_the_page_are_understood(tmp_path: Path) -> None:
    """They end with what is wrong with the files, not with the command line."""
    for line in re.findall(r"^    deepscem-tui (run .*)$", PAGE, re.MULTILINE):
        code = "import sys; from deepscem_tui.cli import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, *line.split(), "--quiet"], cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode == 3, (line, done.stderr)


def test_the_readme_leads_to_the_page() -> None:
    assert "docs/deepscem.md" in README


def test_the_tests_that_hold_what_is_promised_exist() -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!promise|---)(.*) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) >= 20
    for promise, cell in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell)
        assert named, promise
        for file, test in named:
            assert f"def {test}(" in (DOCS.parent / file).read_text(encoding="utf-8"), test
