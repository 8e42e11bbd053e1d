"""A network as it is while it learns: in mixed precision, with parts that stay as they are, and side outputs."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.networks.assemble import assemble, keras, keras_name
from deepscem_tui.engine.networks.geometry import UP_KINDS
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.networks.unet import side_layers

__all__ = ["encoder", "learning_network"]

_POLICIES = {"float32": None, "bfloat16": "mixed_bfloat16"}


def learning_network(graph: Graph, precision: str, frozen_encoder: bool = False, supervised: bool = False) -> Any:
    """The Keras model to train, with fresh weights.

    Args:
        precision: ``"float32"``, or ``"bfloat16"`` for what is computed, weights staying float32 (Micikevicius et al.
            2018).
        frozen_encoder: Whether the way down stays as it is, its normalisations too.
        supervised: Whether it has side outputs, one for each level of the way up, from fine to coarse.

    Raises:
        ParameterError: it has no levels for side outputs.
    """
    model = assemble(graph, policy=_POLICIES[precision])
    if frozen_encoder:
        for name in encoder(graph):
            model.get_layer(keras_name(name)).trainable = False
    if not supervised:
        return model
    sides = side_layers(graph)
    if not sides:
        raise ParameterError(
            "The network has no levels for deep supervision", "Use a U-Net of three levels or more.", "deep_supervision"
        )
    convolution = keras.layers.Conv3D if graph.dimension == 3 else keras.layers.Conv2D
    outputs = [
        convolution(graph.n_outputs, 1, activation=graph.activation, dtype="float32", name=f"side_{number}")(
            model.get_layer(keras_name(name)).output
        )
        for number, name in enumerate(sides)
    ]
    return keras.Model(model.input, [model.output, *outputs])


def encoder(graph: Graph) -> list[str]:
    """The layers that nothing enlarged comes before: the way down, and the deepest level."""
    above: set[str] = set()
    for layer in graph.layers:
        gate = layer.name.startswith("up_")  # of ours: looks at the way down, and is none of it
        if gate or layer.kind in UP_KINDS or above.intersection(layer.inputs):
            above.add(layer.name)
    return [layer.name for layer in graph.layers if layer.name not in above]
