"""Safe mode: which numbers of labels it refuses, and that nothing else is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.safe_mode import label_count, mismatch, model_label_count


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets of 0 to 3 labels, a model for 2, an image, and a file that is none of these."""
    path = tmp_path_factory.mktemp("safe")
    for n_labels in range(4):
        with new_dataset(path / f"{n_labels}.hdf5", "d", n_labels):
            pass
    create_model(p.CreateModel(out=path / "2.keras", labels=2, depth=1, filters=1), Context())
    np.save(path / "image.npy", np.zeros((2, 2), np.uint8))
    (path / "text.hdf5").write_text("no data set")
    return path


def test_labels_are_counted(folder: Path) -> None:
    names = ("0.hdf5", "3.hdf5", "2.keras", "image.npy", "text.hdf5", "none.hdf5")
    assert [label_count(folder / name) for name in names] == [0, 3, None, 1, None, None]
    assert [model_label_count(folder / name) for name in names] == [None, None, 2, None, None, None]


@pytest.mark.parametrize(
    ("name", "values", "parameter", "reason"),
    [
        ("train", {"model": "2.keras", "out": "o.keras", "train": "2.hdf5"}, "", ""),
        ("train", {"model": "2.keras", "out": "o.keras", "train": "3.hdf5"}, "train", "has 3 labels"),
        (
            "train",
            {"model": "2.keras", "out": "o.keras", "train": "2.hdf5", "valid": "1.hdf5"},
            "valid",
            "has 1 label ",
        ),
        ("train", {"model": "2.keras", "out": "o.keras", "train": "2.hdf5", "test": "1.hdf5"}, "test", "model 2"),
        ("train", {"model": "none.keras", "out": "o.keras", "train": "2.hdf5"}, "", ""),
        ("predict", {"model": "2.keras", "input": "2.hdf5", "out": "o.hdf5"}, "", ""),
        ("predict", {"model": "3.hdf5", "input": "2.hdf5", "out": "o.hdf5"}, "", ""),
        ("predict", {"model": "2.keras", "input": "0.hdf5", "out": "o.hdf5"}, "", ""),
        ("predict", {"model": "2.keras", "input": "image.npy", "out": "o.hdf5"}, "", ""),
        ("predict", {"model": "2.keras", "input": "3.hdf5", "out": "o.hdf5"}, "input", "Switch safe mode off"),
        ("evaluate", {"reference": "2.hdf5", "segmentation": "2.hdf5"}, "", ""),
        ("evaluate", {"reference": "2.hdf5", "segmentation": "1.hdf5"}, "segmentation", "reference 2"),
        ("evaluate", {"reference": "1.hdf5", "segmentation": "image.npy"}, "", ""),
        ("add-sample", {"file": "2.hdf5", "name": "n", "image": "image.npy", "labels": ["a", ""]}, "", ""),
        ("add-sample", {"file": "2.hdf5", "name": "n", "image": "image.npy"}, "labels", "they would be blank"),
        ("add-sample", {"file": "0.hdf5", "name": "n", "image": "image.npy"}, "", ""),
        ("add-sample", {"file": "2.hdf5", "name": "n", "image": "i", "labels": ["a"]}, "labels", "1 file for 2 labels"),
        ("set-aliases", {"file": "2.hdf5", "aliases": ["a", "b"]}, "", ""),
        ("set-aliases", {"file": "2.hdf5", "aliases": ["a"]}, "aliases", "1 name for 2 labels"),
        ("set-aliases", {"file": "2.hdf5", "clear": True}, "", ""),
        ("create-model", {"out": "n.keras", "labels": "3"}, "", ""),
        ("create-model", {"out": "n.keras", "labels": "4"}, "labels", "no open data set has 4 labels: 2.hdf5 has 2"),
        ("create-model", {"out": "n.keras", "like": "1.hdf5"}, "", ""),
        ("rename-dataset", {"file": "2.hdf5", "new": "x"}, "", ""),
    ],
)
def test_what_is_refused(
    name: str, values: dict[str, Any], parameter: str, reason: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    fault = mismatch(ACTIONS[name], build(ACTIONS[name], values), [Path("2.hdf5"), Path("3.hdf5")])
    assert (fault.parameter if fault else "") == parameter
    assert reason in (fault.text if fault else "")


def test_a_new_model_is_free_where_no_data_set_is_open() -> None:
    action = ACTIONS["create-model"]
    assert mismatch(action, build(action, {"out": "n.keras", "labels": "4"})) is None
