"""A model that learns: its traced training and validation steps, and its checkpoint."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepscem_tui.engine import devices
from deepscem_tui.engine.errors import ResourceError, RunError
from deepscem_tui.engine.files import published
from deepscem_tui.engine.metrics import Confusion
from deepscem_tui.engine.patches import Batch


@dataclass
class State:
    """Where a training stands: all of it that is neither a weight nor a function of seed and step."""

    epoch: int = 0  # finished
    step: int = 0  # finished in the epoch under way
    loss_sum: float = 0.0
    counts: list[list[int]] = field(default_factory=list)  # of the epoch under way: TP, FP, FN, TN by label
    smoothed_f1: float = 0.0  # mean F1 over the last epochs
    best: tuple[float, float] | None = None  # rank of the best epoch: its smoothed F1, the loss with a minus
    best_f1: float = 0.0  # of that epoch itself
    best_epoch: int = 0
    plateau_loss: float = math.inf
    plateau_epochs: int = 0
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


class Trainer:
    """A model, its optimizer, and the traced functions that train and validate it.

    Args:
        model: Keras model; its weights are changed in place.
        loss: ``loss(labels, outputs)`` of tensors, a scalar tensor.
        n_labels: Labels, the first outputs of the model.
        learning_rate: Of Adam (Kingma & Ba 2015) to begin with.
    """

    def __init__(self, model: Any, loss: Callable[[Any, Any], Any], n_labels: int, learning_rate: float) -> None:
        tf = devices.tensorflow()
        self.model = model
        self.n_labels = n_labels
        self._optimizer = devices.keras().optimizers.Adam(learning_rate)
        self._optimizer.build(model.trainable_variables)

        def outcome(labels: Any, outputs: Any) -> tuple[Any, Any]:
            """Loss, and TP, FP, FN, TN by label as int64 (L, 4)."""
            true = labels > 0
            said = outputs[..., :n_labels] > 0.5
            axes = list(range(labels.shape.rank - 1))
            cases = (true & said, ~true & said, true & ~said, ~true & ~said)
            counts = [tf.math.count_nonzero(case, axis=axes, dtype=tf.int64) for case in cases]
            return loss(tf.cast(true, tf.float32), outputs), tf.stack(counts, axis=1)

        @tf.function(reduce_retracing=True)
        def train_step(images: Any, labels: Any) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                value, counts = outcome(labels, model(images, training=True))
            gradients = tape.gradient(value, model.trainable_variables)
            self._optimizer.apply(gradients, model.trainable_variables)
            return value, counts

        @tf.function(reduce_retracing=True)
        def validation_step(images: Any, labels: Any) -> tuple[Any, Any]:
            return outcome(labels, model(images, training=False))

        @tf.function(reduce_retracing=True)
        def outputs(images: Any) -> Any:
            return model(images, training=False)

        self._train_step, self._validation_step, self._outputs = train_step, validation_step, outputs

    @property
    def learning_rate(self) -> float:
        return float(self._optimizer.learning_rate.numpy())

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._optimizer.learning_rate = value

    def step(self, batch: Batch) -> tuple[float, np.ndarray[Any, np.dtype[np.int64]]]:
        """Learn from a batch; gives its loss and its counts TP, FP, FN, TN (L, 4).

        Raises:
            ResourceError: it does not fit the device's memory.
        """
        with self._memory_explained():
            loss, counts = self._train_step(batch.images, batch.labels)
            return float(loss), counts.numpy()

    def validate(self, batches: Iterator[Batch], check: Callable[[], None]) -> Scores:
        """Loss and counts of the model as it is, over ``batches``; ``check`` may raise between two of them."""
        total, n = 0.0, 0
        counts = np.zeros((self.n_labels, 4), np.int64)
        for batch in batches:
            check()
            with self._memory_explained():
                loss, some = self._validation_step(batch.images, batch.labels)
            total += float(loss) * len(batch.images)
            n += len(batch.images)
            counts += some.numpy()
        return Scores(total / max(1, n), [Confusion(*map(int, row)) for row in counts])

    @contextmanager
    def _memory_explained(self) -> Iterator[None]:
        try:
            yield
        except (devices.tensorflow().errors.ResourceExhaustedError, MemoryError):
            raise ResourceError(
                "The memory does not suffice for a batch", "Use a smaller --batch-size or --patch-size."
            ) from None

    def predict(self, batch: Batch) -> np.ndarray[Any, np.dtype[np.float32]]:
        """What the network says of a batch: (B, [Z,] Y, X, outputs)."""
        result: np.ndarray[Any, np.dtype[np.float32]] = self._outputs(batch.images).numpy()
        return result

    def save(self, path: Path, state: State) -> None:
        """Write weights, optimizer and state as one file, whole or not at all."""
        arrays = {f"model_{i}": value for i, value in enumerate(self.model.get_weights())}
        arrays |= {f"optimizer_{i}": variable.numpy() for i, variable in enumerate(self._optimizer.variables)}
        with published(path) as temporary, temporary.open("wb") as file:
            np.savez(file, state=np.frombuffer(json.dumps(asdict(state)).encode(), np.uint8), **arrays)

    def restore(self, path: Path) -> State:
        """Take weights, optimizer and state from a file that :meth:`save` wrote.

        Raises:
            RunError: if it is damaged or of another network.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                state = State(**json.loads(stored["state"].tobytes()))
                self.model.set_weights([stored[f"model_{i}"] for i in range(len(self.model.weights))])
                for i, variable in enumerate(self._optimizer.variables):
                    variable.assign(stored[f"optimizer_{i}"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(f"The checkpoint {path} cannot be used: {error}", "Start the training anew.") from None
        state.best = (state.best[0], state.best[1]) if state.best else None
        return state
