"""Thresholds tuned for each label: the middle of what is best, and 0.5 where nothing is gained."""

import numpy as np
import pytest

from deepscem_tui.engine.evaluation.metrics import ThresholdCurve, confusion
from deepscem_tui.engine.evaluation.thresholds import tuned_threshold


def curve(true: list[float], false: list[float], each: int = 100) -> ThresholdCurve:
    """Of so many voxels of each probability, of the label and of the background."""
    values = np.repeat(np.array([*true, *false], np.float32), each)
    return ThresholdCurve.of(np.repeat([True] * len(true) + [False] * len(false), each), values)


def test_it_lies_in_the_middle_between_label_and_background() -> None:
    assert tuned_threshold(curve([0.75, 0.8, 0.95], [0.65, 0.1, 0.2])) == pytest.approx(0.7, abs=0.01)
    assert tuned_threshold(curve([0.1, 0.3], [0.02, 0.01, 0.02])) == pytest.approx(0.06, abs=0.01)
    assert tuned_threshold(curve([1.0], [0.98])) == pytest.approx(0.99, abs=0.01)


def test_a_wide_plateau_counts_by_its_middle_though_one_end_is_slightly_better() -> None:
    inside, outside = np.zeros(257, np.int64), np.zeros(257, np.int64)
    inside[[20, 110]] = 3, 10_000  # a few voxels of the label are found below 20 / 256 only
    outside[[1, 10]] = 50_000, 1_000
    assert tuned_threshold(ThresholdCurve(inside, outside)) == pytest.approx((10 + 109) / 2 / 256, abs=1 / 256)


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ([], [0.1, 0.9]),  # absent
        ([0.9, 0.7], [0.1, 0.3]),  # 0.5 is as good
        ([0.3], [0.3]),  # a dead network: calling all the label is best
        ([0.1, 0.2, 0.3], [0.25]),
    ],
)
def test_nothing_gained_leaves_a_half(true: list[float], false: list[float]) -> None:
    assert tuned_threshold(curve(true, false)) == 0.5


def test_a_gain_that_rests_on_a_few_voxels_is_none() -> None:
    inside, outside = np.zeros(257, np.int64), np.zeros(257, np.int64)
    inside[[120, 200]] = 1, 10_000
    outside[[10, 210]] = 10_000, 1_000
    assert tuned_threshold(ThresholdCurve(inside, outside)) == 0.5


def test_counts_at_a_threshold_are_those_of_the_mask() -> None:
    rng = np.random.default_rng(0)
    true, values = rng.random((3, 40, 40)) > 0.7, rng.random((3, 40, 40), np.float32)
    values[0, :4, :8] = np.arange(32).reshape(4, 8) / 32  # just on thresholds
    counted = ThresholdCurve.of(true, values)
    for threshold in (0.0, 1 / 256, 0.25, 0.5, 255 / 256):
        assert counted.at(threshold) == confusion(true, values > threshold)
    for wrong in (0.3, 1.0, -1 / 256):
        with pytest.raises(ValueError, match="not one of"):
            counted.at(wrong)
