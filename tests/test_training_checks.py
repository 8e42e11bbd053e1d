"""Bad training seen early: what is warned of, once, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_training import Listener, make_dataset, make_model, run

from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.evaluation.metrics import Confusion, ThresholdCurve
from deepscem_tui.engine.models.files import load_model, save_model
from deepscem_tui.engine.patches import Batch
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.training.checks import epoch_problems, label_problems, leak_problems
from deepscem_tui.engine.training.trainer import Scores, State, StepResult, Trainer
from deepscem_tui.engine.training.validation import Validated

FOUND, MISSED, ABSENT = Confusion(5, 1, 2, 92), Confusion(0, 0, 7, 93), Confusion(0, 0, 0, 100)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "run").mkdir()
    train = make_dataset(tmp_path / "train.hdf5")
    return {"model": make_model(tmp_path / "m.keras"), "out": tmp_path / "out.keras", "train": train}


def validated(spread: float, *counts: Confusion) -> Validated:
    """With all probabilities at 1 where the label is marked, and at 0 elsewhere."""
    curves = []
    for count in counts:
        true = np.repeat([True, False, True, False], [count.tp, count.fp, count.fn, count.tn])
        curves.append(
            ThresholdCurve.of(true, np.repeat([1.0, 1.0, 0.0, 0.0], [count.tp, count.fp, count.fn, count.tn]))
        )
    return Validated(0.5, curves, (0.5,) * len(counts), (spread,) * len(counts), (0.5,) * len(counts))


@pytest.mark.parametrize(
    ("counts", "about"),
    [((FOUND, FOUND), []), ((FOUND, MISSED), ["silent b"]), ((MISSED, MISSED), ["silent a", "silent b"])],
)
def test_a_label_that_is_never_marked_is_told_where_there_is_one(counts, about: list[str]) -> None:
    learned = Scores(0.5, (FOUND, FOUND))
    found = list(epoch_problems(3, "ab", learned, validated(1.0, *counts), moved=True))
    assert [problem.about for problem in found] == about
    without = list(epoch_problems(3, "ab", Scores(0.5, counts), None, moved=True))
    assert [problem.about for problem in without] == about
    for problem in found:
        assert "7 % of the validation voxels are" in problem.text
    assert not list(epoch_problems(1, "a", learned, validated(1.0, ABSENT), moved=True))


def test_a_dead_network_is_told_and_nothing_else_of_it() -> None:
    learned = Scores(0.5, (FOUND,))
    found = list(epoch_problems(2, "a", learned, validated(1e-6, MISSED), moved=True))
    assert [problem.about for problem in found] == ["dead"]
    still = list(epoch_problems(2, "a", learned, validated(1.0, FOUND), moved=False))
    assert [problem.about for problem in still] == ["still"]


def test_missing_labels() -> None:
    problems = {problem.about: problem.text for problem in label_problems("abcd", [5, 0, 0, 3], [1, 2000, 0, 0])}
    assert list(problems) == ["blank b", "blank c", "unseen d"]
    assert "2,000 voxels of the validation data" in problems["blank b"]
    assert "validation" not in problems["blank c"]
    assert not list(label_problems("a", [5], None))


def test_a_training_of_a_dead_network_says_so_once(files) -> None:
    """The last convolution has no weights but its bias, and no gradient that leads further: all voxels are alike."""
    model, info = load_model(files["model"])
    last = model.layers[-1] if model.layers[-1].weights else model.layers[-2]
    kernel, bias = last.get_weights()
    last.set_weights([np.zeros_like(kernel), bias - 30])
    save_model(model, info, files["model"], overwrite=True)
    listener = Listener()
    valid = make_dataset(files["train"].with_name("valid.hdf5"), seed=1)
    run(files, listener, valid=valid, learning_rate=1e-9, loss="dice")
    assert [text[:40] for text in listener.warnings if "says the same of every voxel" in text] == [
        "After epoch 1 the network says the same "
    ]


def test_weights_that_do_not_change_are_told(files, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Trainer, batch: Batch, rate: float, state: State) -> StepResult:
        state.updates += 1
        return StepResult(0.5, 0.0, np.ones((2, 4), np.int64))

    monkeypatch.setattr(Trainer, "step", step)
    listener = Listener()
    run(files, listener)
    assert [text[:40] for text in listener.warnings] == ["No weight of the network changed in epoc"]


def test_leaks_are_told_before_the_first_step(files, tmp_path: Path) -> None:
    """Of data sets that are one file, of samples that share voxels, and of nothing else."""
    listener = Listener()
    run(files, listener, valid=files["train"], test=make_dataset(tmp_path / "copy.hdf5"), epochs=1)
    same, *shared = listener.warnings
    assert "The validation data are the training data" in same
    assert "Give --valid a data set of its own" in same
    assert len(shared) == 2  # with the training and with the validation data
    for text in shared:
        assert "Sample 's' of" in text
        assert "copy.hdf5 is Z 0:4, Y 0:24, X 0:32 of 's' of" in text
    with open_dataset(files["train"]) as learned, open_dataset(make_dataset(tmp_path / "apart.hdf5", seed=1)) as apart:
        assert not list(leak_problems(("training", learned), ("validation", apart), Stop()))
