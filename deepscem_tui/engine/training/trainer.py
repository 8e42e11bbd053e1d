"""A model that learns: its traced steps, and all that a checkpoint of it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.evaluation.metrics import Confusion
from deepscem_tui.engine.patches import Batch
from deepscem_tui.engine.system import devices
from deepscem_tui.engine.training.distribution import Distribution
from deepscem_tui.engine.training.optimizers import make_optimizer


@dataclass
class State:
    """Where a training stands: all of it that is neither a weight nor a function of seed and step."""

    epoch: int = 0  # finished
    step: int = 0  # finished in the epoch under way
    updates: int = 0  # steps that changed the weights, in all
    loss_sum: float = 0.0  # of the finite losses of the epoch under way
    losses: int = 0  # how many these are
    counts: list[list[int]] = field(default_factory=list)  # of the epoch under way: TP, FP, FN, TN by label
    smoothed_f1: float = 0.0  # mean F1 over the last epochs
    best: tuple[float, float] | None = None  # rank of the best epoch: its smoothed F1, the loss with a minus
    best_f1: float = 0.0  # of that epoch itself
    best_epoch: int = 0
    plateau_loss: float = math.inf
    plateau_epochs: int = 0
    rate_factor: float = 1.0  # halvings of the learning rate so far
    recoveries: int = 0  # how often the last good state was restored after losses that were no numbers
    ended_early: bool = False
    asked: int = 0  # epochs in all, when this was last decided
    continued: int = 0  # epoch from which on more were asked for
    warned: list[str] = field(default_factory=list)  # what was warned of, not to be said again


@dataclass(frozen=True)
class Scores:
    """Loss and one confusion count a label."""

    loss: float
    labels: Sequence[Confusion]

    @property
    def mean_f1(self) -> float:
        """Mean over the labels that are present; 0 if none is."""
        present = [score for label in self.labels if (score := label.f1) is not None]
        return sum(present) / len(present) if present else 0.0


@dataclass(frozen=True)
class Optimisation:
    """How weights are changed.

    Args:
        optimizer: See :func:`~deepscem_tui.engine.training.optimizers.make_optimizer`; ``weight_decay`` too.
        clip: Norm that all gradients together are shortened to (Pascanu et al. 2013); 0 for as they are.
        parts: Parts of a batch, computed one after the other, whose gradients are averaged.
        ema: Share that the averaged weights keep of themselves at a step (Polyak & Juditsky 1992); 0 for no averaging.
        seed: Of dropout.
        xla: Whether steps are compiled by XLA.
    """

    optimizer: str = "adam"
    weight_decay: float = 0.0
    clip: float = 0.0
    parts: int = 1
    ema: float = 0.0
    seed: int = 0
    xla: bool = False


@dataclass(frozen=True)
class StepResult:
    """What came of a step.

    Args:
        loss: Of the batch.
        norm: Of all gradients together, before they are clipped.
        counts: TP, FP, FN, TN by label, int64 (L, 4).
    """

    loss: float
    norm: float
    counts: npt.NDArray[np.int64]

    @property
    def finite(self) -> bool:
        """Whether loss and gradients are numbers; if not, no weight was changed."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Trainer:
    """A network that learns, and the network that results.

    Args:
        build: Makes the Keras model that learns; called in the scope of the devices' strategy.
        result: The same network in float32, with the weights to begin with. It is what is validated and kept: its
            weights are the learning network's, or their moving average.
        loss: ``loss(labels, outputs, known)`` of tensors, a scalar tensor; ``known`` says which voxels count, None
            for all of them.
        n_labels: Labels, the first outputs of the model.
        optimisation: How weights are changed.
        distribution: The devices.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        result: Any,
        loss: Callable[[Any, Any, Any], Any],
        n_labels: int,
        optimisation: Optimisation,
        distribution: Distribution,
    ) -> None:
        self.n_labels = n_labels
        self.distribution = distribution
        self._result, self._loss, self._optimisation = result, loss, optimisation
        with distribution.strategy.scope():
            self._model = build()
            self._optimizer = make_optimizer(
                optimisation.optimizer, 1e-3, optimisation.weight_decay, self._model.trainable_variables
            )
        self._pairs = _pairs(result, self._model)
        for kept, learning in self._pairs:
            learning.assign(kept)
        self._dropouts = [
            layer.seed_generator.state for layer in self._model.layers if hasattr(layer, "seed_generator")
        ]
        learned = {id(variable) for variable in self._model.trainable_variables}
        self._statistics = [weight for weight in self._model.weights if id(weight) not in learned]
        self._behind = False  # whether the result's weights are older than the network's
        self._trace()

    # ---------------------------------------------------------------------------------------------- the traced steps

    def _trace(self) -> None:
        tf, strategy, model = devices.tensorflow(), self.distribution.strategy, self._model
        optimisation, n_replicas = self._optimisation, self.distribution.n_replicas
        result, variables = self._result, model.trainable_variables
        statistics = self._statistics

        def part_gradients(images: Any, labels: Any) -> tuple[Any, Any, Any]:
            with tf.GradientTape() as tape:
                value, counts = self._outcome(labels, model(images, training=True))
            return value, counts, tape.gradient(value, variables)

        def gradients(images: Any, labels: Any) -> tuple[Any, Any, Any, Any]:
            """Of the batch's part of one device: its loss, counts and gradients, summed over the devices."""
            parts = optimisation.parts
            if parts == 1:
                value, counts, total = part_gradients(images, labels)
            else:
                value, counts, total = _in_parts(part_gradients, images, labels, parts)
            share = 1.0 / n_replicas
            value, total = value * share, [gradient * share for gradient in total]
            if n_replicas > 1:
                context = tf.distribute.get_replica_context()
                value, *total = context.all_reduce("SUM", [value, *total])  # one kind of number at a time
                counts = context.all_reduce("SUM", counts)
            norm = tf.linalg.global_norm(total)
            if optimisation.clip:
                total, _ = tf.clip_by_global_norm(total, optimisation.clip, use_norm=norm)
            return value, norm, counts, total

        @tf.function(reduce_retracing=True, jit_compile=optimisation.xla or None)
        def compute(images: Any, labels: Any) -> tuple[Any, Any]:
            """What the devices say, and the statistics of normalisations as they were: this changes them."""
            before = [tf.identity(statistic) for statistic in statistics]
            with tf.control_dependencies(before):
                return strategy.run(gradients, args=(images, labels)), before

        def apply(total: Any) -> None:
            # Keras sums the devices' gradients itself, which are all the same already, clipped together.
            self._optimizer.apply([gradient / n_replicas for gradient in total], variables)

        @tf.function
        def update(total: Any, kept: Any) -> None:
            strategy.run(apply, args=(total,))
            if optimisation.ema:
                for average, weight in self._pairs:
                    average.assign(average * kept + tf.convert_to_tensor(weight) * (1.0 - kept))

        @tf.function(reduce_retracing=True)
        def outputs(images: Any) -> Any:
            return result(images, training=False)

        self._compute, self._update = compute, update
        self._outputs = outputs

    def _outcome(self, labels: Any, outputs: Any) -> tuple[Any, Any]:
        """Loss, and TP, FP, FN, TN by label as int64 (L, 4), of the voxels that are annotated.

        With side outputs the loss is the mean of theirs and the network's, each counting half of the finer one's
        (deep supervision, Lee et al. 2015, as nnU-Net weighs it, Isensee et al. 2021).
        """
        tf = devices.tensorflow()
        true, known = labels[..., : self.n_labels] > 0, None
        if labels.shape[-1] > self.n_labels:
            known = labels[..., self.n_labels :] == 0
            true &= known
        outputs, *sides = outputs if isinstance(outputs, list | tuple) else [outputs]
        said = outputs[..., : self.n_labels] > 0.5
        if known is not None:
            said &= known
        axes = list(range(labels.shape.rank - 1))
        both, marked, found = (
            tf.math.count_nonzero(case, axis=axes, dtype=tf.int64) for case in (true & said, true, said)
        )
        voxels = tf.size(true, tf.int64) // self.n_labels if known is None else tf.math.count_nonzero(known)
        counts = tf.stack([both, found - both, marked - both, voxels - marked - found + both], axis=1)
        loss = self._loss(tf.cast(true, tf.float32), outputs, known)
        for number, side in enumerate(sides, 1):
            coarse, some = (_at_resolution(true, side), None) if known is None else _of_known(true, known, side)
            loss += 0.5**number * self._loss(tf.cast(coarse, tf.float32), side, some)
        return loss / (2 - 0.5 ** len(sides)), counts

    # ---------------------------------------------------------------------------------------------- learning

    def step(self, batch: Batch, rate: float, state: State) -> StepResult:
        """Learn from a batch; where its loss or a gradient is no number nothing is changed.

        Args:
            batch: This process's share of it.
            rate: The learning rate.
            state: Where the training stands.

        Raises:
            ResourceError: it does not fit the device's memory.
        """
        tf = devices.tensorflow()
        for number, seed in enumerate(self._dropouts):
            seed.assign(np.array([(self._optimisation.seed + 7919 * number) % 2**32, state.updates], np.uint32))
        with self._memory_explained():
            (loss, norm, counts, total), before = self._compute(
                self.distribution.placed(batch.images), self.distribution.placed(batch.labels)
            )
            local = self.distribution.strategy.experimental_local_results
            made = StepResult(float(local(loss)[0]), float(local(norm)[0]), local(counts)[0].numpy())
            if made.finite:
                self._optimizer.learning_rate = rate
                state.updates += 1
                ema = min(self._optimisation.ema, (1 + state.updates) / (10 + state.updates))
                self._update(total, tf.constant(ema, tf.float32))
                self._behind = not self._optimisation.ema
            else:
                for statistic, value in zip(self._statistics, before, strict=True):
                    statistic.assign(value)
        return made

    def weight_sums(self) -> list[float]:
        """Of each array of weights that is learned: the same twice if none of them has changed."""
        tf = devices.tensorflow()
        return [float(tf.reduce_sum(variable)) for variable in self._model.trainable_variables]

    def losses(self, batch: Batch) -> list[float]:
        """The loss of each patch of a batch on its own."""
        return [
            float(self._outcome_of(Batch(batch.images[i : i + 1], batch.labels[i : i + 1]))[0])
            for i in range(len(batch.images))
        ]

    def _outcome_of(self, batch: Batch) -> tuple[Any, Any]:
        tf = devices.tensorflow()
        outputs = self._model(tf.constant(batch.images), training=True)
        return self._outcome(tf.constant(batch.labels), outputs)

    # ---------------------------------------------------------------------------------------------- what results

    @property
    def model(self) -> Any:
        """The network that results, in float32, with the weights of now."""
        if self._behind:
            for kept, learning in self._pairs:
                kept.assign(learning)
            self._behind = False
        return self._result

    @contextmanager
    def _memory_explained(self) -> Iterator[None]:
        try:
            yield
        except (devices.tensorflow().errors.ResourceExhaustedError, MemoryError):
            raise ResourceError(
                "The memory does not suffice for a batch", "Use a smaller --batch-size or --patch-size."
            ) from None

    def predict(self, batch: Batch) -> np.ndarray[Any, np.dtype[np.float32]]:
        """What the network says of a batch: (B, [Z,] Y, X, outputs), float32, 0 to 1 after sigmoid or softmax."""
        result: np.ndarray[Any, np.dtype[np.float32]] = self._outputs(batch.images).numpy()
        return result

    # ---------------------------------------------------------------------------------------------- checkpoints

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All numbers that a checkpoint needs: of the network, its optimizer and its average, by name."""
        groups = {"model": self._model.weights, "optimizer": self._optimizer.variables}
        if self._optimisation.ema:
            groups["average"] = [average for average, _ in self._pairs]
        return {
            f"{name}_{number}": np.asarray(weight.numpy())
            for name, weights in groups.items()
            for number, weight in enumerate(weights)
        }

    def take(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put back what :meth:`arrays` gave.

        Raises:
            KeyError, ValueError: they are of another network, or of another optimizer.
        """
        for number, weight in enumerate(self._model.weights):
            weight.assign(arrays[f"model_{number}"])
        for number, variable in enumerate(self._optimizer.variables):
            variable.assign(arrays[f"optimizer_{number}"])
        for number, (average, weight) in enumerate(self._pairs):
            average.assign(arrays[f"average_{number}"] if self._optimisation.ema else weight)
        self._behind = False


def _pairs(result: Any, model: Any) -> list[tuple[Any, Any]]:
    """Each weight of the network that results, with the one of the network that learns."""
    return [
        pair for layer in result.layers for pair in zip(layer.weights, model.get_layer(layer.name).weights, strict=True)
    ]


def _at_resolution(labels: Any, outputs: Any) -> Any:
    """The labels at the middle of each voxel of an output of lower resolution."""
    return labels[(slice(None), *(slice(step // 2, None, step) for step in _steps(labels, outputs)))]


def _of_known(labels: Any, known: Any, outputs: Any) -> tuple[Any, Any]:
    """Labels and which are known for an output of lower resolution: those of most of the known voxels in each of its.

    So that a slice that is annotated alone counts wherever it lies.
    """
    tf = devices.tensorflow()
    steps = _steps(labels, outputs)

    def counted(array: Any) -> Any:
        sizes = [part for side, step in zip(array.shape[1:-1], steps, strict=True) for part in (side // step, step)]
        blocks = tf.reshape(tf.cast(array, tf.float32), [-1, *sizes, array.shape[-1]])
        return tf.reduce_sum(blocks, axis=list(range(2, 1 + len(sizes), 2)))

    voxels = counted(known)
    return 2 * counted(labels) >= tf.maximum(voxels, 1.0), voxels > 0


def _steps(labels: Any, outputs: Any) -> list[int]:
    """How many voxels of labels, along each axis, one of an output stands for."""
    return [fine // coarse for fine, coarse in zip(labels.shape[1:-1], outputs.shape[1:-1], strict=True)]


def _in_parts(compute: Callable[[Any, Any], Any], images: Any, labels: Any, parts: int) -> tuple[Any, Any, Any]:
    """Mean loss, summed counts and mean gradients of a batch's equal parts, one after the other in memory."""
    tf = devices.tensorflow()
    images, labels = (tf.stack(tf.split(array, parts)) for array in (images, labels))
    value, counts, total = compute(images[0], labels[0])

    def add(number: Any, value: Any, counts: Any, total: Any) -> tuple[Any, Any, Any, Any]:
        more, some, gradients = compute(images[number], labels[number])
        return number + 1, value + more, counts + some, [a + b for a, b in zip(total, gradients, strict=True)]

    _, value, counts, total = tf.while_loop(
        lambda number, *_: number < parts, add, (1, value, counts, total), parallel_iterations=1
    )
    return value / parts, counts, [gradient / parts for gradient in total]
