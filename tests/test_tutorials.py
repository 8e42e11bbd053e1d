"""The tutorials, played key by key in a folder that is empty at first."""

import asyncio
import csv
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import tutorial

from deepscem_tui.engine.models.info import read_network

DOCS = Path(__file__).parent.parent / "docs"


def test_a_reader_makes_data_sets_trains_predicts_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asyncio.run(tutorial.play_all())
    made = {path.name for path in tmp_path.glob("*.hdf5")}
    assert made == {"train.hdf5", "valid.hdf5", "test.hdf5", "test-predicted.hdf5"}
    trained = {path.name for path in tmp_path.glob("*.keras") if read_network(path)[0].training}
    assert trained == {"trained.keras", "short.keras"}
    assert set(np.unique(tifffile.imread(tmp_path / "mitochondria.tif"))) == {0, 255}
    assert len(list(tmp_path.glob("*.png"))) == 1
    with (tmp_path / "test-predicted-scores.csv").open() as file:
        scores = {(row["label"], row["sample"]): float(row["f1"]) for row in csv.DictReader(file)}
    assert scores["mitochondria", "volume"] > 0.5


def test_every_picture_is_taken_and_shown() -> None:
    for path in tutorial.TUTORIALS:
        taken = {f"pictures/{step.text}.svg" for step in tutorial.steps(path) if step.verb == "picture"}
        shown = set(re.findall(r"!\[.+?\]\((.+?)\)", path.read_text(encoding="utf-8")))
        assert taken == shown, path.name
        assert all((DOCS / name).is_file() for name in shown)


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    for path in [*DOCS.glob("*.md"), DOCS.parent / "README.md", DOCS.parent / "benchmarks" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (path.parent / target).exists(), (path.name, target)
