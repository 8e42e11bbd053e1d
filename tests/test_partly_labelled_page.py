"""The page on partly labelled volumes, its commands carried out in order on a volume as it describes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile

from deepscem_tui.cli import main
from deepscem_tui.engine.phantom import make_phantom

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "partly-labelled.md").read_text(encoding="utf-8")
LABELLED = [4, 14, 24, 34]
SMALL = {  # what makes it quick
    "create-model": ["--filters", "4", "--depth", "2"],
    "train": ["--epochs", "1", "--steps-per-epoch", "2", "--patch-size", "32,32", "--batch-size", "2"],
    "plan": ["--no-measure"],
}


def test_the_page_leads_from_files_to_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_phantom((40, 48, 64), 0)
    labels = np.zeros(made.image.shape, np.uint8)
    labels[made.labels["membranes"]] = 2
    labels[made.labels["mitochondria"]] = 1
    labels[np.setdiff1d(np.arange(40), LABELLED)] = 0
    tifffile.imwrite("cell.tif", made.image)
    tifffile.imwrite("cell_labels.tif", labels)
    said: dict[str, str] = {}
    lines = re.findall(r"^    deepscem-tui (run .*)$", PAGE, re.MULTILINE)
    for number, line in enumerate(lines):
        words = shlex.split(line)
        asks = number == 1  # the page says that this one ends with a question
        status = main([*words, *SMALL.get(words[1], [])])
        out, err = capsys.readouterr()
        said[line] = out + err
        assert status == (2 if asks else 0), (line, err)
        if asks:
            assert "--classes label_0000=1,label_0001=2" in " ".join(err.split())
    assert "slices 4:5, 14:15, 24:25 (7.5 % of the voxels)" in said["run info train.hdf5"]
    assert "97.5 % of the voxels of 'cell' are not labelled" in said[next(line for line in lines if "evaluate" in line)]
    assert (tmp_path / "scores.csv").read_text().startswith("label,sample,f1,iou")
    assert (tmp_path / "better.keras").exists()
    runs = [json.loads(line) for path in tmp_path.glob("runs/*train*/events.jsonl") for line in path.open()]
    assert not [event for event in runs if event["type"] == "warning" and "overlaps" in event.get("text", "")]
