"""The action `info`: every kind of file is told by its content."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import DataError
from deepscem_tui.engine.info import info
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result

DATA = Path(__file__).parents[2] / "shared" / "data" / "deepscem"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no folder {DATA}")


def about(path: Path) -> Result:
    result = info(p.Info(path=path), Context())
    json.dumps(result.as_json())
    return result


def test_a_data_set(tmp_path: Path) -> None:
    with new_dataset(tmp_path / "set.hdf5", "my set", 1, aliases=("mito",)) as made:
        sample = made.add_sample(
            "a", (2, 3, 4), {"image": np.float16, "label_0000": np.uint8},
            {"voxel_size": (30.0, 4.0, 4.0), "voxel_unit": "nm"},
        )  # fmt: skip
        sample["image"][0:2] = np.ones((2, 3, 4), np.float16)
    result = about(tmp_path / "set.hdf5")
    assert {key: result.facts[key] for key in ("kind", "name", "labels", "aliases")} == {
        "kind": "data set", "name": "my set", "labels": 1, "aliases": ["mito"]
    }  # fmt: skip
    (row,) = result.tables[0].as_dicts()
    assert (row["sample"], row["shape"], row["labels"], row["predictions"]) == ("a", [2, 3, 4], 1, 0)
    assert (row["voxel_size"], row["voxel_unit"]) == ([30, 4, 4], "nm")
    members = {row["member"]: row for row in result.tables[1].as_dicts()}
    assert members["image"]["type"] == "float16"
    assert members["image"]["chunks"] == [2, 3, 4]
    assert members["label_0000"]["type"] == "uint8"
    assert members["image"]["bytes"] > 0


def test_a_broken_sample_hides_no_other(tmp_path: Path) -> None:
    with new_dataset(tmp_path / "set.hdf5", "set", 0) as made:
        for name in ("a", "b"):
            made.add_sample(name, (1, 2, 2), {"image": np.float32})
    with h5py.File(tmp_path / "set.hdf5", "r+") as file:
        del file["a"].attrs["shape"]
    warnings: list[str] = []

    class Listener(Reporter):
        def warning(self, text: str) -> None:
            warnings.append(text)

    result = info(p.Info(path=tmp_path / "set.hdf5"), Context(Listener()))
    assert [row["sample"] for row in result.tables[0].as_dicts()] == ["b"]
    assert result.facts["n_samples"] == 2
    assert len(warnings) == 1
    assert "'a'" in warnings[0]


@needs_data
def test_files_of_deepscem() -> None:
    result = about(DATA / "dataset.hdf5")
    assert result.facts["name"] == "FIB"
    assert [row["sample"] for row in result.tables[0].as_dicts()] == ["a", "a_crop_2_6_0_32_8_72", "b"]
    members = result.tables[1].as_dicts()
    assert members[0] | {"member": "image", "type": "float32", "bytes": 8 * 64 * 80 * 4} == members[0]
    result = about(DATA / "unet3d_residual.h5")
    assert (result.facts["kind"], result.facts["dimension"]) == ("model", 3)
    assert len(result.facts["labels"]) == 1


@needs_data
def test_a_model_is_described_without_tensorflow() -> None:
    code = (
        "import sys; from pathlib import Path; from deepscem_tui.engine import parameters as p;"
        "from deepscem_tui.engine.context import Context; from deepscem_tui.engine.info import info;"
        "result = info(p.Info(path=Path(sys.argv[1])), Context());"
        "print(result.facts['labels'], {'tensorflow', 'keras'} & set(sys.modules))"
    )
    path = str(DATA / "unet2d_residual.h5")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['label_0000', 'label_0001'] set()"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"compression": "none", "pages": 3}),
        ({"compression": "zlib"}, {"compression": "adobe_deflate", "pages": 3}),
        ({"bigtiff": True}, {"bigtiff": True}),
    ],
)
def test_a_tiff(tmp_path: Path, options: dict[str, Any], expected: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.ones((3, 5, 7), np.uint16), photometric="minisblack", **options)
    result = about(tmp_path / "image.tif")
    usual = {"kind": "image", "shape": [3, 5, 7], "type": "uint16", "voxel_size": None, "bytes_uncompressed": 210}
    assert {key: result.facts[key] for key in usual | expected} == usual | expected


def test_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.ones((5, 7), np.float32))
    result = about(tmp_path / "image.npy")
    assert (result.facts["shape"], result.facts["type"]) == ([1, 5, 7], "float32")
    assert "pages" not in result.facts


@pytest.mark.parametrize("name", ["cell", "cell.tif", "cell/s*.tif"])
def test_slices(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name.partition("/")[0]
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"s{number}.tif", np.ones((5, 7), np.uint16))
    expected_bytes = sum(file.stat().st_size for file in folder.iterdir())
    (folder / "s_others.tif").mkdir()
    result = about(tmp_path / name)
    expected = {"kind": "image", "format": "slices", "shape": [3, 5, 7], "type": "uint16", "files": 3}
    assert {key: result.facts[key] for key in expected} == expected
    assert result.facts["bytes"] == expected_bytes


def test_a_run_folder(tmp_path: Path) -> None:
    description = {
        "action": "train", "parameters": {"epochs": 3}, "command": "deepscem-tui run train", "host": "elsewhere",
        "pid": 1, "pid_started": 0.0, "working_folder": str(tmp_path),
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(description))
    (tmp_path / "events.jsonl").write_text('{"t": 5.0, "type": "started"}\n{"t": 6.0, "type": "finished"}\n')
    result = about(tmp_path)
    assert (result.facts["kind"], result.facts["state"], result.facts["parameters"]) == (
        "run",
        "finished",
        {"epochs": 3},
    )


def broken(folder: Path, name: str) -> Path:
    path = folder / name
    if name == "folder":
        path.mkdir()
    elif name == "other.hdf5":
        with h5py.File(path, "w") as file:
            file["array"] = np.zeros(3)
    elif name != "nothing.hdf5":
        path.write_text("text")
    return path


@pytest.mark.parametrize(
    "name", ["nothing.hdf5", "text.hdf5", "other.hdf5", "text.h5", "text.keras", "text.tif", "text.txt", "folder"]
)
def test_what_is_nothing_of_ours_is_said(tmp_path: Path, name: str) -> None:
    path = broken(tmp_path, name)
    with pytest.raises(DataError) as raised:
        about(path)
    assert name in str(raised.value)
