"""Losses: their values by hand, their gradients, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.training.losses import make_loss

NAMES = ("dice", "cross-entropy", "dice-cross-entropy", "mean-squared-error")
SHAPES = [(2, 4, 4), (1, 2, 4, 4)]  # without channels: 2D and 3D


def value(name: str, activation: str, targets: np.ndarray, outputs: np.ndarray) -> float:
    loss = make_loss(name, activation, targets.shape[-1], outputs.shape[-1])
    result = loss(targets, outputs.astype(np.float32))
    assert result.shape == ()
    assert result.dtype == tf.float32
    return float(result)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("activation", "n_labels", "n_outputs"), [("sigmoid", 1, 1), ("sigmoid", 3, 3), ("softmax", 2, 3)]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_result_costs_nothing_and_an_inverted_one_much(
    name: str, activation: str, n_labels: int, n_outputs: int, shape: tuple[int, ...]
) -> None:
    chosen = np.random.default_rng(0).integers(0, n_labels + 1, shape)
    every = np.eye(n_labels + 1, dtype=np.uint8)[chosen]  # the last is background
    targets, perfect = every[..., :n_labels], every[..., :n_outputs].astype(np.float32)
    assert value(name, activation, targets, perfect) == pytest.approx(0, abs=1e-5)
    wrong = np.roll(perfect, 1, axis=-1) if activation == "softmax" else 1 - perfect
    assert value(name, activation, targets, wrong) > 0.5


def test_dice_by_hand() -> None:
    targets = np.array([[1, 1], [1, 0], [0, 0], [0, 0]], np.uint8).reshape(1, 2, 2, 2)
    outputs = np.array([[0.5, 1], [1, 0], [0.5, 0], [0, 0]]).reshape(1, 2, 2, 2)
    first, second = 1 - (2 * 1.5 + 1) / (2 + 2 + 1), 1 - (2 * 1 + 1) / (1 + 1 + 1)
    assert value("dice", "sigmoid", targets, outputs) == pytest.approx((first + second) / 2)


def test_each_label_has_a_loss_of_its_own() -> None:
    targets = np.array([[1, 1], [1, 0], [0, 0], [0, 0]], np.uint8).reshape(1, 2, 2, 2)
    outputs = np.array([[0.5, 1], [1, 0], [0.5, 0], [0, 0]], np.float32).reshape(1, 2, 2, 2)
    loss = make_loss("dice-cross-entropy", "sigmoid", 2, 2)
    each = loss.each(loss.sums(targets, outputs, None)).numpy()
    assert each == pytest.approx([1 - (2 * 1.5 + 1) / (2 + 2 + 1) - 2 * math.log(0.5) / 4, 0], abs=1e-5)
    for name in NAMES:
        loss = make_loss(name, "sigmoid", 2, 2)
        sums = loss.sums(targets, outputs, None)
        assert float(loss.value(sums)) == pytest.approx(loss.each(sums).numpy().mean())
    outputs = np.concatenate([outputs / 2, 1 - outputs.sum(-1, keepdims=True) / 2], -1)
    loss = make_loss("cross-entropy", "softmax", 2, 3)
    sums = loss.sums(targets, outputs, None)
    # Two labels share the first voxel; of what the background costs no label has any.
    assert loss.each(sums).numpy() == pytest.approx(
        [-(0.5 * math.log(0.25) + math.log(0.5)) / 4, -0.5 * math.log(0.5) / 4]
    )
    assert float(loss.value(sums)) > loss.each(sums).numpy().sum()


def test_dice_is_over_the_batch_not_over_each_patch() -> None:
    targets = np.zeros((2, 2, 2, 1), np.uint8)
    targets[0] = 1
    outputs = targets * 0.5
    assert value("dice", "sigmoid", targets, outputs) == pytest.approx(1 - (4 + 1) / (4 + 2 + 1))


def test_binary_cross_entropy_by_hand() -> None:
    targets = np.array([[1, 0]], np.uint8).reshape(1, 1, 1, 2)
    outputs = np.array([[0.25, 0.5]]).reshape(1, 1, 1, 2)
    expected = -(math.log(0.25) + math.log(0.5)) / 2
    assert value("cross-entropy", "sigmoid", targets, outputs) == pytest.approx(expected)


def test_categorical_cross_entropy_by_hand() -> None:
    targets = np.array([[1, 0], [0, 0]], np.uint8).reshape(1, 1, 2, 2)
    outputs = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).reshape(1, 1, 2, 3)
    expected = -(math.log(0.5) + math.log(0.8)) / 2  # the second voxel is background
    assert value("cross-entropy", "softmax", targets, outputs) == pytest.approx(expected)


def test_softmax_without_background_ignores_voxels_without_label() -> None:
    targets = np.array([[1, 0], [0, 0]], np.uint8).reshape(1, 1, 2, 2)
    outputs = np.array([[0.5, 0.5], [0.1, 0.9]]).reshape(1, 1, 2, 2)
    assert value("cross-entropy", "softmax", targets, outputs) == pytest.approx(-math.log(0.5) / 2)


def test_overlapping_labels_of_softmax_share_the_voxel() -> None:
    targets = np.array([[1, 1]], np.uint8).reshape(1, 1, 1, 2)
    best = [0.5, 0.5, 0.0]
    outputs = np.array([best]).reshape(1, 1, 1, 3)
    assert value("cross-entropy", "softmax", targets, outputs) == pytest.approx(math.log(2), rel=1e-5)
    assert value("mean-squared-error", "softmax", targets, outputs) == pytest.approx(0, abs=1e-7)
    for other in ([0.7, 0.3, 0.0], [0.4, 0.4, 0.2]):
        assert value("cross-entropy", "softmax", targets, np.array([other]).reshape(1, 1, 1, 3)) > math.log(2) + 1e-3


def test_the_default_is_the_sum() -> None:
    rng = np.random.default_rng(0)
    targets, outputs = rng.integers(0, 2, (1, 4, 4, 2), np.uint8), rng.random((1, 4, 4, 2))
    parts = [value(name, "sigmoid", targets, outputs) for name in ("dice", "cross-entropy")]
    assert value("dice-cross-entropy", "sigmoid", targets, outputs) == pytest.approx(sum(parts), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("extreme", [0.0, 1.0, 1e-30])
@pytest.mark.parametrize("present", [False, True])
def test_values_and_gradients_are_finite_and_moderate(
    present: bool, extreme: float, name: str, activation: str, shape: tuple[int, ...]
) -> None:
    """Also for saturated outputs, and for a label that the batch does not have."""
    targets = np.full((*shape, 1), present, np.uint8)
    n_outputs = 2 if activation == "softmax" else 1
    outputs = tf.constant(np.stack([np.full(shape, extreme), np.full(shape, 1 - extreme)][:n_outputs], -1), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        result = make_loss(name, activation, 1, n_outputs)(targets, outputs)
    gradient = tape.gradient(result, outputs).numpy()
    assert np.isfinite(result)
    assert 0 <= float(result) < 20
    assert np.isfinite(gradient).all()
    if name == "dice":
        assert np.abs(gradient).max() <= 1


def test_a_wrong_certainty_is_pulled_back() -> None:
    """A network that is near-certain and wrong still learns."""
    logits = tf.constant([[[[6.0]]]])  # (B, Y, X, C)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        result = make_loss("dice-cross-entropy", "sigmoid", 1, 1)(tf.zeros((1, 1, 1, 1)), tf.sigmoid(logits))
    assert tape.gradient(result, logits).numpy().item() > 0.9


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", NAMES)
def test_traced_and_compiled_values_are_the_same(name: str, activation: str) -> None:
    n_outputs = 3 if activation == "softmax" else 2
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (2, 4, 4, 2), np.uint8)
    outputs = rng.random((2, 4, 4, n_outputs), dtype=np.float32)
    loss = make_loss(name, activation, 2, n_outputs)
    signature = [tf.TensorSpec((None, None, None, 2), tf.uint8), tf.TensorSpec((None, None, None, n_outputs))]
    traced = tf.function(loss, input_signature=signature)(targets, outputs)
    compiled = tf.function(loss, jit_compile=True)(targets, outputs)
    np.testing.assert_allclose([traced, compiled], loss(targets, outputs), rtol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "linear"])
@pytest.mark.parametrize("name", NAMES[:3])
def test_losses_of_probabilities_need_probabilities(name: str, activation: str) -> None:
    with pytest.raises(ParameterError, match="mean-squared-error"):
        make_loss(name, activation, 1, 1)


@pytest.mark.parametrize("activation", ["tanh", "linear", "sigmoid"])
def test_mean_squared_error_by_hand(activation: str) -> None:
    targets = np.array([1, 0], np.uint8).reshape(1, 1, 2, 1)
    outputs = np.array([0.5, -1.0]).reshape(1, 1, 2, 1)
    assert value("mean-squared-error", activation, targets, outputs) == pytest.approx((0.25 + 1) / 2)


@pytest.mark.parametrize(
    ("activation", "n_labels", "n_outputs"),
    [("sigmoid", 2, 3), ("sigmoid", 2, 1), ("softmax", 2, 4), ("softmax", 1, 1)],
)
def test_outputs_must_suit_the_labels(activation: str, n_labels: int, n_outputs: int) -> None:
    with pytest.raises(ParameterError):
        make_loss("dice", activation, n_labels, n_outputs)
