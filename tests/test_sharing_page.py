"""The page docs/sharing.md: its program is run, its commands are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_export_model import uneven

from deepscem_tui.cli import main
from deepscem_tui.engine.phantom import make_phantom

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

PAGE = (Path(__file__).parent.parent / "docs" / "sharing.md").read_text(encoding="utf-8")


def test_a_colleague_gets_what_predict_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uneven(Path("liver.keras"), depth=3, labels=1)
    tifffile.imwrite("cell9.tif", make_phantom((5, 61, 70), 1).image, imagej=True, metadata={"axes": "ZYX"})
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for line in ("run export-model liver.keras liver.onnx", "run predict liver.keras cell9.tif ours.tif "
                 "--precision float32"):  # fmt: skip
        assert main(shlex.split(line)) == 0
    exec(compile(program, "sharing.md", "exec"), {})
    theirs, ours = tifffile.imread("cell9_label_0000.tif"), tifffile.imread("ours.tif")
    assert theirs.shape == ours.shape == (5, 61, 70)
    assert 0 < np.count_nonzero(ours) < ours.size
    differing = (theirs > 0) != (ours > 0)
    assert differing[:, :40, :40].mean() < 1e-3  # at the far sides each mirrors the image in its own way


def test_the_commands_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bioimageio.core", reason="the extra 'bioimageio' is not installed")
    from bad_input import make_dataset

    monkeypatch.chdir(tmp_path)
    for name in ("train", "valid"):
        make_dataset(Path(f"{name}.hdf5"), ("cell",))
    for name in ("liver", "new"):
        uneven(Path(f"{name}.keras"), labels=1)
    text = PAGE.replace("\\\n", " ")
    commands = re.findall(r"^    deepscem-tui (run .*)$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert main([*shlex.split(command), "--dry-run", "--overwrite"]) == 0, command
