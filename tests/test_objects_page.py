"""The page on objects, its commands carried out in order on what a demo leaves."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from deepscem_tui.cli import main
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.objects.table import COLUMNS
from deepscem_tui.engine.phantom import make_phantom

PAGE = (Path(__file__).parent.parent / "docs" / "objects.md").read_text(encoding="utf-8")


def test_the_page_leads_from_a_prediction_to_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deepscem-demo").mkdir()
    true = make_phantom((16, 96, 96), 4).labels["mitochondria"]
    specks = np.random.default_rng(0).random(true.shape) > 0.999
    for name, member, mask in (("test", "label_0000", true), ("predicted", "prediction_0000", true | specks)):
        with new_dataset(Path(f"deepscem-demo/{name}.hdf5"), name, 1, ("mitochondria",)) as made:
            made.add_sample("test", true.shape, {member: np.uint8})[member][:] = mask
    said = []
    for line in re.findall(r"^    deepscem-tui (run .*)$", PAGE, re.MULTILINE):
        status = main(shlex.split(line))
        said.append(capsys.readouterr())
        assert status == 0, (line, said[-1].err)
    with Path("deepscem-demo/objects.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    large = ndimage.label(true)[0]
    wanted = int((np.bincount(large.reshape(-1))[1:] > 0.0002 / 0.008**3).sum())
    assert len(rows) >= wanted
    assert {row["unit"] for row in rows} == {"µm"}
    assert tifffile.imread("deepscem-demo/objects.tif").max() == len(rows)
    with Path("deepscem-demo/object-scores.csv").open(newline="", encoding="utf-8") as file:
        assert float(next(csv.DictReader(file))["objects_f1_50"]) > 0.9


def test_every_column_is_explained() -> None:
    cells = " ".join(re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE))
    assert set(COLUMNS) <= set(re.findall(r"`(\w+)`", cells))
