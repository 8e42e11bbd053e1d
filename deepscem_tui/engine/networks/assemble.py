"""A Keras model from a network's layers."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine import devices
from deepscem_tui.engine.networks.graph import Graph, Layer

keras = devices.keras()


def assemble(graph: Graph) -> Any:
    """Build the Keras model that a description stands for, with images of any size as input and fresh weights.

    Layers have the precision of Keras' policy at this time, but for the last, which is in float32.

    Raises:
        ValueError: Keras finds that the layers do not fit each other.
    """
    tensors: dict[str, Any] = {}
    for layer in graph.layers:
        name = keras_name(layer.name)
        if layer.kind == "InputLayer":
            tensors[layer.name] = keras.Input((None,) * graph.dimension + (1,), dtype="float32", name=name)
            continue
        taken = [tensors[given] for given in layer.inputs]
        precision = {"dtype": "float32"} if layer.name == graph.output else {}
        made = getattr(keras.layers, layer.kind)(**_arguments(layer), **precision, name=name)
        tensors[layer.name] = made(taken if layer.kind in ("Add", "Concatenate") else taken[0])
    return keras.Model(tensors[graph.layers[0].name], tensors[graph.output], name=keras_name(graph.name))


def keras_name(name: str) -> str:
    """A layer's name as Keras 3 accepts it."""
    return name.replace("/", "_")


def _arguments(layer: Layer) -> dict[str, Any]:
    arguments = dict(layer.settings)
    if layer.kind.endswith("Transpose"):
        del arguments["groups"]  # 1, and no argument in Keras 3
    if "filters" in arguments:
        arguments["kernel_initializer"] = "he_normal"
    return arguments
