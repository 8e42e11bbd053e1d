"""A network made for prediction: batch normalisation folded, in a precision, traced once a shape, on all devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.models.files import load_model
from deepscem_tui.engine.models.info import read_network
from deepscem_tui.engine.networks.folding import folded
from deepscem_tui.engine.networks.neighbours import as_channels
from deepscem_tui.engine.system.devices import gpu_names, tensorflow

__all__ = ["OutOfMemory", "TileNetwork", "load_network"]

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class OutOfMemory(ResourceError):
    """A batch of tiles does not fit the device's memory."""


def load_network(path: Path, precision: str) -> TileNetwork:
    """A model file as a function of batches of tiles, on all GPUs, or on the CPU where there is none.

    Args:
        precision: ``"float32"``, or ``"bfloat16"`` or ``"float16"`` for all layers but the first and the last.

    Raises:
        ModelError: it is no model file, is damaged, or holds a network that cannot be used.
    """
    model, _ = load_model(path)
    from deepscem_tui.engine.networks.assemble import assemble, keras_name

    _, graph = read_network(path)
    weights = {layer.name: model.get_layer(keras_name(layer.name)).get_weights() for layer in graph.layers}
    graph, arrays = folded(graph, weights)

    def build() -> Any:
        made = assemble(graph, policy=_POLICIES[precision])
        for layer in graph.layers:
            if arrays[layer.name]:
                made.get_layer(keras_name(layer.name)).set_weights(arrays[layer.name])
        return made

    return TileNetwork(build, gpu_names())


class TileNetwork:
    """A Keras model as a function of batches of tiles; a batch is shared out among the devices.

    Args:
        build: Makes the model, once for each device.
        devices: Their names; none for the one that TensorFlow takes by itself.
    """

    def __init__(self, build: Callable[[], Any], devices: Sequence[str] = ()) -> None:
        tf = tensorflow()
        self._devices: tuple[str | None, ...] = tuple(devices) or (None,)
        self._models = []
        for device in self._devices:
            with tf.device(device):
                self._models.append(build())
        self._functions: dict[tuple[int, tuple[int, ...]], Any] = {}

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Compute tiles, float32 (B, Z, Y, X) of values 0 to 1: float32 (B, Z, Y, X, outputs).

        For a network of slices Z are the slices that it takes, and the result is that of the middle one, (B, 1, …).

        Raises:
            OutOfMemory: they do not fit the memory.
        """
        flat = len(self._models[0].inputs[0].shape) == 4
        given = as_channels(images) if flat else images[..., None]
        parts = np.array_split(given, min(len(self._devices), len(given)))
        tf = tensorflow()
        try:
            if len(parts) == 1:
                values = self._computed(0, given)
            else:
                with ThreadPoolExecutor(len(parts)) as pool:
                    values = np.concatenate(list(pool.map(self._computed, range(len(parts)), parts)))
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise OutOfMemory(
                f"The memory does not suffice for {len(images)} tiles of {words.sizes(images.shape[1:])} voxels",
                "Use a smaller --patch-size, or --batch-size 1.",
            ) from None
        result: npt.NDArray[np.float32] = values[:, None] if flat else values
        return result

    def _computed(self, index: int, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        tf = tensorflow()
        with tf.device(self._devices[index]):
            # Not its numpy(), which copies.
            values: npt.NDArray[np.float32] = np.asarray(self._function(index, images.shape)(tf.constant(images)))
        return values

    def _function(self, index: int, shape: tuple[int, ...]) -> Any:
        """The model of a device, traced for one shape of batch."""
        tf = tensorflow()
        if (index, shape) not in self._functions:
            model = self._models[index]
            self._functions[index, shape] = tf.function(
                lambda images: tf.cast(model(images, training=False), tf.float32),
                input_signature=[tf.TensorSpec(shape, tf.float32)],
                autograph=False,
            )
        return self._functions[index, shape]
