"""The rules of the layout: which way imports point, and who imports TensorFlow."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Set
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from deepscem_tui import engine as engine_package

PACKAGE = Path(__file__).parent.parent / "deepscem_tui"
HEAVY = {"tensorflow", "keras"}


def _imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _files(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


@pytest.mark.parametrize("path", _files("engine"), ids=lambda path: path.stem)
def test_the_engine_imports_nothing_above_it(path: Path) -> None:
    allowed = ("deepscem_tui.engine", "deepscem_tui.__version__")
    ours = {name for name in _imports(path) if name.startswith("deepscem_tui.")}
    assert not {name for name in ours if not name.startswith(allowed)}
    assert not {name for name in _imports(path) if name.split(".")[0] in ("rich", "textual", "typer")}


# From what is used everywhere to what uses it, as in the docstring of the engine.
LAYERS = (
    "system", "augmentation", "datasets", "networks", "formats", "patches", "parameters", "labels", "models", "sources",
    "dataset_actions", "objects", "evaluation", "runs", "viewing", "prediction", "training", "planning", "sharing",
)  # fmt: skip
UPWARDS = {
    ("datasets/samples.py", "formats"),  # the hint for HDF5 files of others, when it is needed
    ("models/actions.py", "training"),  # the patch that is usual, for what a model will take
}


def test_packages_of_the_engine_import_only_what_is_below_them() -> None:
    engine = PACKAGE / "engine"
    assert {path.parent.name for path in engine.glob("*/__init__.py")} == set(LAYERS)
    found = set()
    for path in _files("engine"):
        within = path.relative_to(engine)
        if len(within.parts) == 1:
            continue
        packages = {name.split(".")[2] for name in _imports(path) if name.startswith("deepscem_tui.engine.")}
        above = set(LAYERS[LAYERS.index(within.parts[0]) + 1 :])
        found |= {(within.as_posix(), package) for package in packages & above}
    assert found == UPWARDS


def test_nothing_that_git_and_so_wheels_leave_out_is_called_as_a_package() -> None:
    ignored = {line.strip("/") for line in (PACKAGE.parent / ".gitignore").read_text().splitlines() if line[0] != "/"}
    assert not ignored & {path.parent.name for path in PACKAGE.rglob("*.py")}


def _needed(node: ast.AST, modules: Set[str]) -> Iterator[str]:
    """The modules of ours that code imports when it runs, also inside functions: not what is for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from {alias.name for alias in child.names} & modules
        elif isinstance(child, ast.ImportFrom):
            names = {f"{child.module}.{alias.name}" for alias in child.names}
            yield from names & modules or {str(child.module)} & modules
        yield from _needed(child, modules)


def test_no_modules_import_one_another_in_a_circle() -> None:
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in _files(".")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    needed = {
        name: set(_needed(ast.parse(path.read_text(encoding="utf-8")), files.keys())) for name, path in files.items()
    }
    TopologicalSorter(needed).prepare()  # raises CycleError, which names the circle


def test_the_engine_tells_its_packages_in_their_order() -> None:
    rows = re.findall(r"^``(\w+)`` ", engine_package.__doc__ or "", re.MULTILINE)
    assert tuple(rows) == LAYERS


@pytest.mark.parametrize("path", _files("render"), ids=lambda path: path.stem)
def test_render_imports_only_itself_words_numpy_and_rich(path: Path) -> None:
    ours = {name for name in _imports(path) if name.startswith("deepscem_tui.")}
    assert not {name for name in ours if not name.startswith(("deepscem_tui.render", "deepscem_tui.engine.words"))}
    assert not {name for name in _imports(path) if name.split(".")[0] in (*HEAVY, "textual", "typer", "h5py")}


@pytest.mark.parametrize("path", _files("widgets"), ids=lambda path: path.stem)
def test_widgets_know_the_engine_and_how_to_draw_but_no_screen(path: Path) -> None:
    allowed = tuple(f"deepscem_tui.{name}" for name in ("engine", "render", "widgets", "texts", "characters"))
    ours = {name for name in _imports(path) if name.startswith("deepscem_tui.")}
    assert not {name for name in ours if not name.startswith(allowed)}
    assert not {name for name in _imports(path) if name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("path", _files("screens"), ids=lambda path: path.stem)
def test_screens_leave_computing_to_jobs(path: Path) -> None:
    assert not {name for name in _imports(path) if name.split(".")[0] in (*HEAVY, "threading", "multiprocessing")}


def test_every_screen_opens_without_tensorflow(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from deepscem_tui.app import DeepscemApp
from deepscem_tui.modes import SCREENS
async def look():
    app = DeepscemApp(Path())
    async with app.run_test() as pilot:
        for key, *_ in SCREENS.values():
            await pilot.press(key)
            await pilot.pause(0.5)
asyncio.run(look())
print("HEAVY", sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["run", "--help"], ["run", "train", "--help"], ["runs", "list"], ["runs", "--help"]],
    ids=" ".join,
)
def test_no_tensorflow_without_need(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from deepscem_tui.cli import main; status = main(sys.argv[1:]);"
        "print('HEAVY', sorted({'tensorflow', 'keras', 'textual'} & set(sys.modules)), status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_dry_runs_need_no_tensorflow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DRY_RUNS], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120
    )
    assert done.stdout.splitlines()[-1:] == ["HEAVY []"], done.stderr


# A process of its own makes the model, which takes TensorFlow.
_DRY_RUNS = """
import subprocess, sys
import numpy as np
from deepscem_tui.cli import main
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
with new_dataset("d.hdf5", "d", 1) as dataset:
    sample = dataset.add_sample("s", (1, 16, 16), members={"image": np.float32, "label_0000": np.uint8})
    sample["image"][0:1] = np.ones((1, 16, 16), np.float32)
    sample["label_0000"][0:1] = np.ones((1, 16, 16), np.uint8)
make = "run create-model m.keras --like d.hdf5 --depth 2 --filters 2"
code = "import sys; from deepscem_tui.cli import main; sys.exit(main(sys.argv[1:]))"
subprocess.run([sys.executable, "-c", code, *make.split()], check=True)
for words in (
    "run train m.keras o.keras --train d.hdf5",
    "run create-model n.keras --like d.hdf5",
    "run convert-model m.keras m.h5",
    "run plan d.hdf5 --no-measure",
    "run export-model m.keras m.onnx",
    "run package-model m.keras m.zip --author A",
):
    assert main([*words.split(), "--dry-run"]) == 0, words
predict = p.Predict(model="m.keras", input="d.hdf5", out="o.hdf5", dry_run=True)  # as a form asks, without measuring
assert ACTIONS["predict"].carry_out(predict, Context()).summary.startswith("Would predict")
print("HEAVY", sorted({"tensorflow", "keras"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "module",
    [
        "actions",
        "dataset_actions.names",
        "datasets.dataset",
        "evaluation.evaluate",
        "formats.volumes",
        "info",
        "patches",
        "runs.runs",
        "viewing.preview",
    ],
)
def test_what_does_not_compute_does_not_import_tensorflow(module: str) -> None:
    code = f"import sys, deepscem_tui.engine.{module}; print({{'tensorflow', 'keras'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
