"""Keras 2: a network's layers in the words of Keras 2.10, which DeepSCEM reads, and what is different in its files."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine.errors import ModelError
from deepscem_tui.engine.networks.graph import EARLIER_NAMES, Graph, Layer

VERSION = "2.10.0"

_LATER = ("GroupNormalization",)  # since Keras 2.11

_NONE = dict.fromkeys(
    ["kernel_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint"]
)
_CONVOLUTION = {
    "kernel_initializer": {"class_name": "HeNormal", "config": {"seed": None}},
    "bias_initializer": {"class_name": "Zeros", "config": {}},
    **_NONE,
}
_NORMALIZATION = {
    "beta_initializer": {"class_name": "Zeros", "config": {}},
    "gamma_initializer": {"class_name": "Ones", "config": {}},
    **dict.fromkeys(["beta_regularizer", "gamma_regularizer", "beta_constraint", "gamma_constraint"]),
}
_MOVING = {
    "moving_mean_initializer": {"class_name": "Zeros", "config": {}},
    "moving_variance_initializer": {"class_name": "Ones", "config": {}},
}


def check_origin(graph: Graph, version: str, backend: str) -> None:
    """Refuse a network that would compute something else here than where its file was written.

    Args:
        version: Of the Keras that wrote it; empty if not known.
        backend: That this Keras computed with; empty if not known.

    Raises:
        ModelError: it would.
    """
    if backend == "theano":
        raise ModelError("Its weights are those of Theano, whose convolutions are mirrored", "Convert it with Keras 2.")
    # Before it became a part of TensorFlow, Keras sampled at the corners of voxels instead of their centres.
    alone = version.startswith(("2.0.", "2.1.", "2.2.", "2.3.")) and not version.endswith("-tf")
    for layer in graph.layers:
        if alone and layer.settings.get("interpolation") == "bilinear":
            raise ModelError(f"Layer {layer.name!r} interpolates as Keras {version} did and later versions do not")


def check_known(graph: Graph) -> None:
    """Refuse a network that DeepSCEM, or its Keras, cannot use.

    Raises:
        ModelError: with the layer that is not known there.
    """
    for layer in graph.layers:
        if layer.kind in _LATER:
            raise ModelError(
                f"Layer {layer.name!r} is a {layer.kind}, which Keras {VERSION} and so DeepSCEM does not know",
                "Name the model .keras, or make one with --normalization batchnorm or none.",
            )
    if graph.n_inputs > 1:
        raise ModelError(
            f"The network takes {graph.n_inputs} slices at a time, and DeepSCEM gives a network one",
            "Name the model .keras, or make one with --context-slices 0.",
        )


def describe(graph: Graph) -> dict[str, Any]:
    """What Keras 2.10 would write of the network in an HDF5 file's ``model_config``."""
    return {
        "class_name": "Functional",
        "config": {
            "name": graph.name,
            "layers": [_entry(layer, graph) for layer in graph.layers],
            "input_layers": [[graph.layers[0].name, 0, 0]],
            "output_layers": [[graph.output, 0, 0]],
        },
    }


def _entry(layer: Layer, graph: Graph) -> dict[str, Any]:
    nodes = [[[name, 0, 0, {}] for name in layer.inputs]] if layer.inputs else []
    return {"class_name": layer.kind, "config": _config(layer, graph), "name": layer.name, "inbound_nodes": nodes}


def _config(layer: Layer, graph: Graph) -> dict[str, Any]:
    if layer.kind == "InputLayer":
        shape = [None] * (graph.dimension + 1) + [graph.n_inputs]
        return {"batch_input_shape": shape, "dtype": "float32", "sparse": False, "ragged": False, "name": layer.name}
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in layer.settings.items()}
    config: dict[str, Any] = {"name": layer.name, "trainable": True, "dtype": "float32", **settings}
    if "filters" in settings:
        config |= _CONVOLUTION
    if layer.kind.endswith("Transpose"):
        config["output_padding"] = None
    if layer.kind == "Conv3DTranspose":
        del config["dilation_rate"]  # 1, and no argument there
    if layer.kind == "BatchNormalization":
        config |= _NORMALIZATION | _MOVING | {"axis": [graph.dimension + 1]}
    if layer.kind == "LayerNormalization":
        config |= _NORMALIZATION | {"axis": [graph.dimension + 1]}
    return {EARLIER_NAMES.get((layer.kind, key), key): value for key, value in config.items()}
