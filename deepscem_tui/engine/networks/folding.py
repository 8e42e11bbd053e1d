"""Batch normalisation folded into the convolutions before it: what a network computes stays, and takes less.

In prediction a normalisation multiplies each channel by one number and adds another, which a convolution without an
activation can do itself. Exact but for the rounding of float32. Imports no framework.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.networks.graph import Graph, Layer

__all__ = ["Weights", "folded"]

# Arrays of each layer, by its name, in Keras' order.
Weights = Mapping[str, Sequence[npt.NDArray[Any]]]

_CONVOLUTIONS = ("Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose")


def folded(graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
    """The network without the normalisations that follow a convolution which nothing else reads.

    Returns:
        The graph, whose layers keep their names, and its weights as float32.
    """
    layers = {layer.name: layer for layer in graph.layers}
    readers = Counter(name for layer in graph.layers for name in layer.inputs)
    result = {name: list(arrays) for name, arrays in weights.items()}
    instead: dict[str, str] = {}  # normalisation -> convolution
    for layer in graph.layers:
        before = layers[layer.inputs[0]] if layer.kind == "BatchNormalization" else None
        if before is None or before.kind not in _CONVOLUTIONS or readers[before.name] > 1:
            continue
        if before.settings["activation"] != "linear" or layer.name == graph.output:  # the last layer has float32
            continue
        result[before.name] = _fold(before, result[before.name], layer, result.pop(layer.name))
        layers[before.name] = replace(before, settings={**before.settings, "use_bias": True})
        instead[layer.name] = before.name
    kept = tuple(
        replace(layers[layer.name], inputs=tuple(instead.get(name, name) for name in layer.inputs))
        for layer in graph.layers
        if layer.name not in instead
    )
    return Graph(graph.name, kept, graph.output, graph.dimension), result


def _fold(
    convolution: Layer, of_convolution: Sequence[npt.NDArray[Any]], normalization: Layer, of_it: Sequence[Any]
) -> list[npt.NDArray[np.float32]]:
    """Kernel and bias of a convolution that normalises what it gives."""
    arrays = [np.asarray(array, np.float64) for array in of_it]
    scale = arrays.pop(0) if normalization.settings["scale"] else 1.0
    shift = arrays.pop(0) if normalization.settings["center"] else 0.0
    mean, variance = arrays
    scale = scale / np.sqrt(variance + normalization.settings["epsilon"])
    kernel = np.asarray(of_convolution[0], np.float64)
    bias = of_convolution[1] if convolution.settings["use_bias"] else 0.0
    filters_last = not convolution.kind.endswith("Transpose")
    kernel = kernel * (scale if filters_last else scale[:, None])
    return [kernel.astype(np.float32), ((bias - mean) * scale + shift).astype(np.float32)]
