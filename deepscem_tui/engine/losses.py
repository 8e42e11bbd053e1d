"""What a training minimises.

Every loss is a function of targets (B, [Z,] Y, X, L), 0 or 1, of any number type, and of a network's outputs
(B, [Z,] Y, X, C), float32, to a scalar, the smaller the better. It may be traced by ``tf.function`` and compiled by
XLA.

A softmax network shares 1 between its outputs, so its targets do too: a voxel of several labels has an equal share of
each. Where it has one output more than there are labels, that is the background, the target wherever no label is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepscem_tui.engine.devices import tensorflow
from deepscem_tui.engine.errors import ParameterError

__all__ = ["Loss", "check_loss", "make_loss"]

Loss = Callable[[Any, Any], Any]

_SMALLEST = 1e-7  # a probability's distance from 0 and 1 in a logarithm
_SMOOTH = 1.0  # voxels


def make_loss(name: str, activation: str, n_labels: int, n_outputs: int, smoothing: float = 0.0) -> Loss:
    """A loss for a network.

    Args:
        name: ``"dice"``, ``"cross-entropy"``, their sum ``"dice-cross-entropy"``, or ``"mean-squared-error"``.
        activation: The network's last function.
        n_labels: Labels of the targets.
        n_outputs: Outputs of the network: as many, or with softmax one more, the last, for the background.
        smoothing: Of the targets of a cross-entropy, 0 to 1: how much of each is shared out evenly (Szegedy et al.
            2016).

    Raises:
        ParameterError: the loss does not suit the network.
    """
    check_loss(name, activation, n_labels, n_outputs)
    tf = tensorflow()
    cross_entropy = _categorical_cross_entropy if activation == "softmax" else _binary_cross_entropy
    losses: dict[str, Loss] = {
        "dice": lambda targets, outputs: _dice(targets[..., :n_labels], outputs[..., :n_labels]),
        "cross-entropy": lambda targets, outputs: cross_entropy(_smoothed(targets, smoothing, activation), outputs),
        "mean-squared-error": lambda targets, outputs: tf.reduce_mean(tf.math.squared_difference(outputs, targets)),
    }
    parts = [losses["dice"], losses["cross-entropy"]] if name == "dice-cross-entropy" else [losses[name]]

    def loss(targets: Any, outputs: Any) -> Any:
        outputs = tf.cast(outputs, tf.float32)
        targets = tf.cast(targets, tf.float32)
        if activation == "softmax":
            targets = _shared(targets, background=n_outputs > n_labels)
        return tf.add_n([part(targets, outputs) for part in parts])

    return loss


def check_loss(name: str, activation: str, n_labels: int, n_outputs: int) -> None:
    """Raise :class:`ParameterError` if a loss does not suit a network; see :func:`make_loss`. Needs no TensorFlow."""
    if n_outputs not in (n_labels, n_labels + (activation == "softmax")):
        raise ParameterError(
            f"A network with {n_outputs} outputs ({activation}) cannot learn {n_labels} labels",
            "Make one with: deepscem-tui run create-model OUT --like DATASET",
            "model",
        )
    if activation == "softmax" and n_outputs == 1:
        raise ParameterError(
            "A softmax of a single output is always 1, so that there is nothing to learn",
            "Use a sigmoid model.",
            "model",
        )
    if name != "mean-squared-error" and activation not in ("sigmoid", "softmax"):
        raise ParameterError(
            f"The loss {name!r} needs outputs between 0 and 1, but the model's activation is {activation!r}",
            "Use --loss mean-squared-error, or a model with the activation sigmoid or softmax.",
            "loss",
        )


def _shared(targets: Any, background: bool) -> Any:
    """Targets whose sum is 1 at each voxel, or 0 where there is no label and no background."""
    tf = tensorflow()
    labels = tf.reduce_sum(targets, axis=-1, keepdims=True)
    targets /= tf.maximum(labels, 1.0)
    return tf.concat([targets, 1.0 - tf.minimum(labels, 1.0)], axis=-1) if background else targets


def _smoothed(targets: Any, smoothing: float, activation: str) -> Any:
    """Targets that are less sure, by sharing out a part of each among its alternatives."""
    if not smoothing:
        return targets
    alternatives = int(targets.shape[-1]) if activation == "softmax" else 2
    return targets * (1.0 - smoothing) + smoothing / alternatives


def _dice(targets: Any, outputs: Any) -> Any:
    """1 minus the soft Dice coefficient (Milletari et al. 2016) of each label over the whole batch, mean over labels.

    One voxel is added above and below, so that a label that no patch of the batch has gives 0 if nothing is predicted,
    and no gradient above 1 anywhere.
    """
    tf = tensorflow()
    axes = list(range(targets.shape.rank - 1))
    both = tf.reduce_sum(targets * outputs, axis=axes)
    either = tf.reduce_sum(targets, axis=axes) + tf.reduce_sum(outputs, axis=axes)
    return tf.reduce_mean(1.0 - (2.0 * both + _SMOOTH) / (either + _SMOOTH))


def _binary_cross_entropy(targets: Any, outputs: Any) -> Any:
    """Mean over voxels and labels, each label a decision of its own."""
    tf = tensorflow()
    p = tf.clip_by_value(outputs, _SMALLEST, 1.0 - _SMALLEST)
    return -tf.reduce_mean(targets * tf.math.log(p) + (1.0 - targets) * tf.math.log(1.0 - p))


def _categorical_cross_entropy(targets: Any, outputs: Any) -> Any:
    """Mean over voxels, the labels being alternatives; a voxel without a target counts nothing."""
    tf = tensorflow()
    p = tf.clip_by_value(outputs, _SMALLEST, 1.0)
    return -tf.reduce_mean(tf.reduce_sum(targets * tf.math.log(p), axis=-1))
