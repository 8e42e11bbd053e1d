"""A network as it is while it learns: in mixed precision, with parts that stay as they are."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine.networks.assemble import assemble, keras_name
from deepscem_tui.engine.networks.geometry import UP_KINDS
from deepscem_tui.engine.networks.graph import Graph

__all__ = ["encoder", "learning_network"]

_POLICIES = {"float32": None, "bfloat16": "mixed_bfloat16"}


def learning_network(graph: Graph, precision: str, frozen_encoder: bool = False) -> Any:
    """The Keras model to train, with fresh weights.

    Args:
        precision: ``"float32"``, or ``"bfloat16"`` for what is computed, weights staying float32 (Micikevicius et al.
            2018).
        frozen_encoder: Whether the way down stays as it is, its normalisations too.
    """
    model = assemble(graph, policy=_POLICIES[precision])
    if frozen_encoder:
        for name in encoder(graph):
            model.get_layer(keras_name(name)).trainable = False
    return model


def encoder(graph: Graph) -> list[str]:
    """The layers that nothing enlarged comes before: the way down, and the deepest level."""
    above: set[str] = set()
    for layer in graph.layers:
        gate = layer.name.startswith("up_")  # of ours: looks at the way down, and is none of it
        if gate or layer.kind in UP_KINDS or above.intersection(layer.inputs):
            above.add(layer.name)
    return [layer.name for layer in graph.layers if layer.name not in above]
