"""Curves of a training for TensorBoard, read back by TensorBoard itself."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from test_training import Listener, files, run  # noqa: F401

from deepscem_tui.engine.errors import Stopped
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.training.distribution import Distribution
from deepscem_tui.engine.training.tensorboard import TensorBoard

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed"
)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every curve, all of them."""
    read = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.SCALARS: 0})
    read.Reload()
    return {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_a_stopped_and_resumed_training_has_one_curve(files: Any) -> None:  # noqa: F811
    stop = Stop()
    said = Listener(stop, after=5)
    with pytest.raises(Stopped):
        run(files, said, stop, valid=files["train"], tensorboard=True)
    going_on = Listener()
    run(files, going_on, valid=files["train"], tensorboard=True)
    folder = files["train"].parent / "run" / "tensorboard"
    assert len(list(folder.iterdir())) == 2
    found = curves(folder)
    epochs = [facts for kind, facts in said.events + going_on.events if kind == "epoch"]
    steps = [facts for kind, facts in said.events + going_on.events if kind == "step"]
    assert len(epochs) == 2
    for tag, fact in {
        "epoch/training_loss": "loss",
        "epoch/validation_loss": "validation_loss",
        "epoch/learning_rate": "learning_rate",
        "training_f1/disc": "f1_disc",
        "validation_iou/half": "validation_iou_half",
        "validation_threshold/half": "validation_threshold_half",
    }.items():
        assert found[tag] == [(3 * facts["epoch"], pytest.approx(facts[fact])) for facts in epochs], tag
    assert found["step/loss"] == [
        (3 * (facts["epoch"] - 1) + facts["step"], pytest.approx(facts["loss"])) for facts in steps
    ]
    assert "step/learning_rate" in found


def epoch(number: int, loss: float) -> dict[str, Any]:
    return {"epoch": number, "learning_rate": 0.1, "loss": loss, "f1_m": None}


def step(number: int, loss: float) -> dict[str, Any]:
    return {
        "epoch": (number - 1) // 4 + 1, "step": (number - 1) % 4 + 1, "loss": loss, "learning_rate": 0.1,
        "gradient_norm": None, "patches_per_second": 1.0,
    }  # fmt: skip


def test_what_is_done_again_replaces_what_was_lost(tmp_path: Path) -> None:
    killed = TensorBoard(tmp_path / "t", Listener(), ["m"], 4)
    for number in range(1, 8):  # of which the second four are lost
        killed.event("step", **step(number, number))
        if number % 4 == 0:
            killed.event("epoch", **epoch(number // 4, number))
    again = TensorBoard(tmp_path / "t", Listener(), ["m"], 4)
    for number in (5, 6, 7, 8):
        again.event("step", **step(number, 10 * number))
    again.event("epoch", **epoch(2, 80))
    again.event("step", **step(9, 90))
    again.event("step", **step(7, 700))  # in one process, after steps that were no numbers
    found = curves(tmp_path / "t")
    assert found["step/loss"] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 50), (6, 60), (7, 700)]
    assert found["epoch/training_loss"] == [(4, 4)]
    assert not {"step/gradient_norm", "training_f1/m"} & set(found)  # nothing was known


def test_of_several_processes_one_writes(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(Distribution, "chief", False)
    run(files, epochs=1, tensorboard=True)
    assert not (files["train"].parent / "run" / "tensorboard").exists()


def test_a_full_disk_ends_the_curves_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    said = Listener()
    writer = TensorBoard(tmp_path / "t", said, ["m"], 4)
    writer.event("step", **step(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(TensorBoard, "_add", full)
        writer.event("step", **step(2, 2))
    writer.event("step", **step(3, 3))
    assert len(said.events) == 3
    assert len(said.warnings) == 1
    assert "No space left" in said.warnings[0]
    assert curves(tmp_path / "t")["step/loss"] == [(1, 1)]
