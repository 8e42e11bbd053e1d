"""A Keras model from a network's layers."""

from __future__ import annotations

import zlib
from typing import Any

from deepscem_tui.engine.networks.graph import SEVERAL_INPUTS, Graph, Layer
from deepscem_tui.engine.system import devices

keras = devices.keras()

_CONVOLUTIONS = ("Conv2D", "Conv3D")


def assemble(graph: Graph, seed: int | None = None, policy: str | None = None) -> Any:
    """Build the Keras model that a description stands for, with images of any size as input and fresh weights.

    Weights are those of He et al. 2015, drawn from ``seed``, if one is given, and the layer's name, so that each layer
    has its own. Layers have the precision of Keras' policy at this time, but for the last, which is in float32. With
    ``policy``, one of Keras', they have that, but for :func:`delicate` ones, which are in float32 too.

    Raises:
        ValueError: Keras finds that the layers do not fit each other.
    """
    tensors: dict[str, Any] = {}
    exact = {graph.output} if policy is None else {graph.output, *delicate(graph)}
    for layer in graph.layers:
        name = keras_name(layer.name)
        if layer.kind == "InputLayer":
            shape = (None,) * graph.dimension + (graph.n_inputs,)
            tensors[layer.name] = keras.Input(shape, dtype="float32", name=name)
            continue
        taken = [tensors[given] for given in layer.inputs]
        precision = {"dtype": "float32" if layer.name in exact else policy}
        made = getattr(keras.layers, layer.kind)(**_arguments(layer, seed), **precision, name=name)
        tensors[layer.name] = made(taken if layer.kind in SEVERAL_INPUTS else taken[0])
    return keras.Model(tensors[graph.layers[0].name], tensors[graph.output], name=keras_name(graph.name))


def delicate(graph: Graph) -> set[str]:
    """The layers that read the image, or the first of half its resolution.

    Grey values have more bits than bfloat16, and what is rounded early is seen by all that follows. In bfloat16 F1
    against float32 was 0.9982 to 0.9992 for three U-Nets with the layers that read the image in float32, and 0.9993 to
    0.9994 with those after the first pooling too, which are some 3 % of the work.
    """
    full = {graph.layers[0].name}  # layers on the way down at full resolution
    read = set(full)  # those whose readers are wanted
    found = set()
    for layer in graph.layers[1:]:
        if read.intersection(layer.inputs):
            found.add(layer.name)
        if full.issuperset(layer.inputs):
            if "Pooling" in layer.kind:
                read.add(layer.name)
            elif layer.kind in _CONVOLUTIONS and max(layer.settings["strides"]) > 1:  # in place of a pooling
                read.add(layer.name)
                found.add(layer.name)
            else:
                full.add(layer.name)
        elif layer.kind == "Activation" and read.issuperset(layer.inputs):
            read.add(layer.name)
    return found


def keras_name(name: str) -> str:
    """A layer's name as Keras 3 accepts it."""
    return name.replace("/", "_")


def _arguments(layer: Layer, seed: int | None) -> dict[str, Any]:
    arguments = dict(layer.settings)
    if layer.kind.endswith("Transpose"):
        del arguments["groups"]  # 1, and no argument in Keras 3
    if "filters" in arguments:
        own = None if seed is None else zlib.crc32(f"{seed}/{layer.name}".encode()) % 2**31
        arguments["kernel_initializer"] = keras.initializers.HeNormal(seed=own)
    return arguments
