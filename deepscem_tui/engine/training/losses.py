"""What a training minimises.

Every loss is a function of targets (B, [Z,] Y, X, L), 0 or 1, of any number type, and of a network's outputs
(B, [Z,] Y, X, C), float32, to a scalar, the smaller the better. It may be traced by ``tf.function`` and compiled by
XLA. It is made of sums over voxels, so that the loss over data that come piece by piece can be told, too. Where it is
told which voxels are annotated, (B, [Z,] Y, X, 1), the others do not count; where none is, it is 0.

A softmax network shares 1 between its outputs, so its targets do too: a voxel of several labels has an equal share of
each. Where it has one output more than there are labels, that is the background, the target wherever no label is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.system.devices import tensorflow

__all__ = ["Loss", "check_loss", "make_loss"]

_SMALLEST = 1e-7  # a probability's distance from 0 and 1 in a logarithm
_SMOOTH = 1.0  # voxels


@dataclass(frozen=True)
class Loss:
    """A loss; called with targets and outputs it gives their loss.

    Args:
        sums: Of targets, outputs and which voxels count (None for all of them): what is added up over voxels, a few
            tensors of shapes that do not depend on them.
        value: Of such sums, or of sums of them over several pieces: the loss over all of these at once, a scalar.
        each: Of the same, what it comes from: a loss for each label, (L,). Their mean is the loss, but for the
            cross-entropy of a softmax, which is the sum over its outputs.
    """

    sums: Callable[[Any, Any, Any], list[Any]]
    value: Callable[[Sequence[Any]], Any]
    each: Callable[[Sequence[Any]], Any]

    def __call__(self, targets: Any, outputs: Any, known: Any = None) -> Any:
        return self.value(self.sums(targets, outputs, known))


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
    softmax = activation == "softmax"
    entropy_sums = _categorical_sums if softmax else _binary_sums
    cross_entropy = _Part(
        lambda targets, outputs, known: entropy_sums(_smoothed(targets, smoothing, softmax), outputs, known),
        tf.reduce_sum if softmax else tf.reduce_mean,
        _means,
    )
    dice = _Part(
        lambda targets, outputs, known: _dice_sums(targets[..., :n_labels], outputs[..., :n_labels], known),
        tf.reduce_mean,
        _dice,
    )
    parts = {
        "dice": [dice],
        "cross-entropy": [cross_entropy],
        "dice-cross-entropy": [dice, cross_entropy],
        "mean-squared-error": [_Part(_square_sums, tf.reduce_mean, _means)],
    }[name]

    def sums(targets: Any, outputs: Any, known: Any = None) -> list[Any]:
        outputs = tf.cast(outputs, tf.float32)
        targets = tf.cast(targets, tf.float32)
        known = None if known is None else tf.cast(known, tf.float32)
        if softmax:
            targets = _shared(targets, background=n_outputs > n_labels)
        return [part.sums(targets, outputs, known) for part in parts]

    def value(sums: Sequence[Any]) -> Any:
        return tf.add_n([part.joined(part.each(some)) for part, some in zip(parts, sums, strict=True)])

    def each(sums: Sequence[Any]) -> Any:
        return tf.add_n([part.each(some)[:n_labels] for part, some in zip(parts, sums, strict=True)])

    return Loss(sums, value, each)


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


def _smoothed(targets: Any, smoothing: float, softmax: bool) -> Any:
    """Targets that are less sure, by sharing out a part of each among its alternatives."""
    if not smoothing:
        return targets
    alternatives = int(targets.shape[-1]) if softmax else 2
    return targets * (1.0 - smoothing) + smoothing / alternatives


@dataclass(frozen=True)
class _Part:
    """One of the losses that are added: its sums, one tensor; from these a loss for each output, and the loss."""

    sums: Callable[[Any, Any, Any], Any]
    joined: Callable[[Any], Any]
    each: Callable[[Any], Any]


def _dice_sums(targets: Any, outputs: Any, known: Any) -> Any:
    """Of each label what both have, and what either has: (2, L)."""
    tf = tensorflow()
    if known is not None:
        targets, outputs = targets * known, outputs * known
    axes = list(range(targets.shape.rank - 1))
    both = tf.reduce_sum(targets * outputs, axis=axes)
    return tf.stack([both, tf.reduce_sum(targets, axis=axes) + tf.reduce_sum(outputs, axis=axes)])


def _dice(sums: Any) -> Any:
    """1 minus the soft Dice coefficient (Milletari et al. 2016) of each label over the whole batch: (L,).

    One voxel is added above and below, so that a label that no patch of the batch has gives 0 if nothing is predicted,
    and no gradient above 1 anywhere.
    """
    return 1.0 - (2.0 * sums[0] + _SMOOTH) / (sums[1] + _SMOOTH)


def _binary_sums(targets: Any, outputs: Any, known: Any) -> Any:
    """Cross-entropy of each label, each a decision of its own, and voxels: (2, L)."""
    tf = tensorflow()
    p = tf.clip_by_value(outputs, _SMALLEST, 1.0 - _SMALLEST)
    return _with_voxels(-(targets * tf.math.log(p) + (1.0 - targets) * tf.math.log(1.0 - p)), known)


def _categorical_sums(targets: Any, outputs: Any, known: Any) -> Any:
    """Cross-entropy of each output, these being alternatives, and voxels: (2, C); no target counts nothing."""
    tf = tensorflow()
    return _with_voxels(-(targets * tf.math.log(tf.clip_by_value(outputs, _SMALLEST, 1.0))), known)


def _square_sums(targets: Any, outputs: Any, known: Any) -> Any:
    """Squared differences of each output, and voxels: (2, C)."""
    return _with_voxels(tensorflow().math.squared_difference(outputs, targets), known)


def _with_voxels(values: Any, known: Any) -> Any:
    """The sums of values (..., C) over voxels, and how many these are: (2, C)."""
    tf = tensorflow()
    count = tf.cast(tf.reduce_prod(tf.shape(values)[:-1]), values.dtype)
    if known is not None:
        values, count = values * known, tf.reduce_sum(known)
    totals = tf.reduce_sum(values, axis=list(range(values.shape.rank - 1)))
    return tf.stack([totals, tf.ones_like(totals) * count])


def _means(sums: Any) -> Any:
    """Over voxels, of each output: (C,); 0 where there are no voxels."""
    return tensorflow().math.divide_no_nan(sums[0], sums[1])
