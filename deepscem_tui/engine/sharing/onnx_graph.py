"""A network as an ONNX graph, channels first, written layer by layer from what :mod:`..networks.graph` knows.

No converter of TensorFlow graphs is asked: the kinds of layers are few, all of them are known, and a graph made of them
directly holds no transposes between channels last and channels first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.networks.folding import Weights
from deepscem_tui.engine.networks.graph import Graph, Layer
from deepscem_tui.engine.system import extras

__all__ = ["INPUT", "OPSET", "OUTPUT", "as_onnx", "axis_names"]

INPUT, OUTPUT = "image", "probabilities"
OPSET, _IR_VERSION = 17, 8  # those of 2022: what most programs in use can read
_ONE_TO_ONE = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "elu": "Elu", "selu": "Selu", "softplus": "Softplus",
    "softsign": "Softsign", "exponential": "Exp",
}  # fmt: skip
_IN_TRAINING_ONLY = ("Dropout", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise")
_CHANNELS = 1  # the axis


def as_onnx(graph: Graph, weights: Weights) -> Any:
    """The ``onnx.ModelProto`` of a network.

    Its input ``image`` is float32 (batch, channels, [z,] y, x), its output ``probabilities`` has the same axes. Batch
    and sizes are free; sizes must be multiples of :func:`~deepscem_tui.engine.networks.geometry.divisor`.

    Args:
        weights: float arrays of each layer, by its name, in Keras' order and layout.

    Raises:
        MissingLibraryError: the library onnx is not installed.
    """
    onnx = extras.load("onnx", "onnx", "Writing an ONNX file")
    writer = _Writer(onnx, graph)
    results = {graph.layers[0].name: INPUT}
    for layer in graph.layers[1:]:
        given = [results[name] for name in layer.inputs]
        results[layer.name] = _written(writer, layer, given, weights.get(layer.name, ()))
    writer.node("Identity", [results[graph.output]], output=OUTPUT)
    float32 = onnx.TensorProto.FLOAT
    axes = axis_names(graph.dimension)
    described = onnx.helper.make_graph(
        writer.nodes,
        graph.name,
        [onnx.helper.make_tensor_value_info(INPUT, float32, [axes[0], graph.n_inputs, *axes[2:]])],
        [onnx.helper.make_tensor_value_info(OUTPUT, float32, [axes[0], graph.n_outputs, *axes[2:]])],
        writer.constants,
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    return onnx.helper.make_model(described, opset_imports=[opset], ir_version=_IR_VERSION)


def axis_names(dimension: int) -> tuple[str, ...]:
    """Of input and output, such as ``("batch", "channel", "y", "x")``."""
    return ("batch", "channel", "z", "y", "x") if dimension == 3 else ("batch", "channel", "y", "x")


class _Writer:
    """Collects nodes and constants; values are named by the layer they belong to, and a number."""

    def __init__(self, onnx: Any, graph: Graph) -> None:
        self._onnx = onnx
        self.graph = graph
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.layer = "network"

    def node(self, operator: str, given: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add an operator; give the name of its result."""
        name = output or f"{self.layer}:{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, given, [name], name=name, **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add an array; give its name."""
        name = f"{self.layer}:constant:{len(self.constants)}"
        array = np.ascontiguousarray(np.asarray(values, dtype))
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name


def _written(writer: _Writer, layer: Layer, given: list[str], weights: Sequence[Any]) -> str:
    """Add a layer's operators; give the name of its result."""
    writer.layer = layer.name
    if layer.kind in _IN_TRAINING_ONLY:
        return given[0]
    if layer.kind in _SEVERAL:
        return _joined(writer, layer.kind, given)
    kind = layer.kind.replace(f"{writer.graph.dimension}D", "")
    result = _KINDS[kind](writer, layer, given[0], [np.asarray(array, np.float32) for array in weights])
    return _activated(writer, layer.settings.get("activation", "linear"), result)


# ------------------------------------------------------------------------------------------------ convolutions, pools


def _convolution(writer: _Writer, layer: Layer, given: str, weights: list[npt.NDArray[Any]]) -> str:
    kernel = np.moveaxis(weights[0], (-1, -2), (0, 1))  # (…, in / groups, out) -> (out, in / groups, …)
    constants = [writer.constant(array) for array in (kernel, *weights[1:])]
    settings = layer.settings
    dilation = settings["dilation_rate"]
    window = _sampling(settings["kernel_size"], settings["strides"], dilation)
    return writer.node("Conv", [given, *constants], group=settings["groups"], dilations=dilation, **window)


def _transposed(writer: _Writer, layer: Layer, given: str, weights: list[npt.NDArray[Any]]) -> str:
    kernel = np.moveaxis(weights[0], (-1, -2), (0, 1))  # (…, out, in) -> (in, out, …)
    constants = [writer.constant(array) for array in (kernel, *weights[1:])]
    sizes, strides = layer.settings["kernel_size"], layer.settings["strides"]
    missing = [max(stride - size, 0) for size, stride in zip(sizes, strides, strict=True)]
    window = _sampling(sizes, strides)
    return writer.node("ConvTranspose", [given, *constants], output_padding=missing, **window)


def _max_pooled(writer: _Writer, layer: Layer, given: str, _: Any) -> str:
    return writer.node("MaxPool", [given], **_sampling(layer.settings["pool_size"], layer.settings["strides"]))


def _average_pooled(writer: _Writer, layer: Layer, given: str, _: Any) -> str:
    return writer.node("AveragePool", [given], **_sampling(layer.settings["pool_size"], layer.settings["strides"]))


def _sampling(sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int] | None = None) -> dict[str, Any]:
    """Kernel, strides and margins, where sides are multiples of the strides: of an odd margin the end has more."""
    reach = [(size - 1) * (dilations[axis] if dilations else 1) + 1 for axis, size in enumerate(sizes)]
    margins = [max(side - stride, 0) for side, stride in zip(reach, strides, strict=True)]
    pads = [margin // 2 for margin in margins] + [margin - margin // 2 for margin in margins]
    return {"kernel_shape": list(sizes), "strides": list(strides), "pads": pads}


def _mean(writer: _Writer, _: Layer, given: str, __: Any) -> str:
    return writer.node("GlobalAveragePool", [given])


def _enlarged(writer: _Writer, layer: Layer, given: str, _: Any) -> str:
    scales = writer.constant([1.0, 1.0, *layer.settings["size"]])
    if layer.settings.get("interpolation") == "bilinear":
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    else:
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return writer.node("Resize", [given, "", scales], **how)


# ------------------------------------------------------------------------------------------------ normalisations


def _batch_normalized(writer: _Writer, layer: Layer, given: str, weights: list[npt.NDArray[Any]]) -> str:
    mean, variance = weights[-2:]
    scale, shift = _scale_and_shift(layer, weights[:-2], len(mean))
    constants = [writer.constant(array) for array in (scale, shift, mean, variance)]
    return writer.node("BatchNormalization", [given, *constants], epsilon=layer.settings["epsilon"])


def _group_normalized(writer: _Writer, layer: Layer, given: str, weights: list[npt.NDArray[Any]]) -> str:
    """Each group of channels as one channel, normalised, then scaled channel by channel."""
    groups = layer.settings["groups"]
    groups = writer.graph.channels[layer.name] if groups == -1 else groups
    shape = writer.node("Shape", [given])
    parts = writer.node("Reshape", [given, writer.constant([0, groups, -1], np.int64)])
    ones, zeros = writer.constant(np.ones(groups)), writer.constant(np.zeros(groups))
    even = writer.node("InstanceNormalization", [parts, ones, zeros], epsilon=layer.settings["epsilon"])
    return _scaled(writer, layer, writer.node("Reshape", [even, shape]), weights)


def _layer_normalized(writer: _Writer, layer: Layer, given: str, weights: list[npt.NDArray[Any]]) -> str:
    """The channels of each voxel."""
    centred = writer.node("Sub", [given, writer.node("ReduceMean", [given], axes=[_CHANNELS])])
    variance = writer.node("ReduceMean", [writer.node("Mul", [centred, centred])], axes=[_CHANNELS])
    positive = writer.node("Add", [variance, writer.constant(layer.settings["epsilon"])])
    return _scaled(writer, layer, writer.node("Div", [centred, writer.node("Sqrt", [positive])]), weights)


def _scaled(writer: _Writer, layer: Layer, given: str, weights: list[npt.NDArray[Any]]) -> str:
    if not weights:
        return given
    by_channel = (-1, *(1,) * writer.graph.dimension)
    scale, shift = _scale_and_shift(layer, weights, len(weights[0]))
    given = writer.node("Mul", [given, writer.constant(scale.reshape(by_channel))])
    return writer.node("Add", [given, writer.constant(shift.reshape(by_channel))])


def _scale_and_shift(layer: Layer, weights: list[npt.NDArray[Any]], n: int) -> tuple[npt.NDArray[Any], ...]:
    """Keras' gamma and beta, and what stands for those that a layer has not."""
    left = list(weights)
    scale = left.pop(0) if layer.settings["scale"] else np.ones(n, np.float32)
    shift = left.pop(0) if layer.settings["center"] else np.zeros(n, np.float32)
    return scale, shift


# ------------------------------------------------------------------------------------------------ number by number


def _activated(writer: _Writer, activation: str, given: str) -> str:
    if activation == "linear":
        return given
    if activation in _ONE_TO_ONE:
        return writer.node(_ONE_TO_ONE[activation], [given])
    if activation == "softmax":
        return writer.node("Softmax", [given], axis=_CHANNELS)
    if activation in ("swish", "silu"):
        return writer.node("Mul", [given, writer.node("Sigmoid", [given])])
    assert activation == "gelu"
    share = writer.node("Erf", [writer.node("Mul", [given, writer.constant(0.5**0.5)])])
    share = writer.node("Add", [share, writer.constant(1.0)])
    return writer.node("Mul", [writer.node("Mul", [given, writer.constant(0.5)]), share])


def _rectified(writer: _Writer, layer: Layer, given: str, _: Any) -> str:
    slope, threshold, most = (layer.settings[key] for key in ("negative_slope", "threshold", "max_value"))
    bound = writer.constant(threshold)
    below = writer.node("Mul", [writer.node("Sub", [given, bound]), writer.constant(slope)])
    result = writer.node("Where", [writer.node("Less", [given, bound]), below, given])
    return result if most is None else writer.node("Min", [result, writer.constant(most)])


def _leaking(writer: _Writer, layer: Layer, given: str, _: Any) -> str:
    return writer.node("LeakyRelu", [given], alpha=layer.settings["negative_slope"])


def _exponential_below(writer: _Writer, layer: Layer, given: str, _: Any) -> str:
    return writer.node("Elu", [given], alpha=layer.settings["alpha"])


def _softmax(writer: _Writer, _: Layer, given: str, __: Any) -> str:
    return writer.node("Softmax", [given], axis=_CHANNELS)


def _unchanged(_: _Writer, __: Layer, given: str, ___: Any) -> str:
    return given


def _joined(writer: _Writer, kind: str, given: list[str]) -> str:
    if kind == "Multiply":  # ONNX multiplies two at a time
        result = given[0]
        for factor in given[1:]:
            result = writer.node("Mul", [result, factor])
        return result
    axis: dict[str, Any] = {"axis": _CHANNELS} if kind == "Concatenate" else {}
    return writer.node(_SEVERAL[kind], given, **axis)


_SEVERAL = {"Add": "Sum", "Average": "Mean", "Concatenate": "Concat", "Maximum": "Max", "Multiply": "Mul"}
# By the kinds' names without "2D" and "3D".
_KINDS: dict[str, Callable[[_Writer, Layer, str, list[npt.NDArray[Any]]], str]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MaxPooling": _max_pooled,
    "AveragePooling": _average_pooled,
    "GlobalAveragePooling": _mean,
    "UpSampling": _enlarged,
    "BatchNormalization": _batch_normalized,
    "GroupNormalization": _group_normalized,
    "LayerNormalization": _layer_normalized,
    "Activation": _unchanged,
    "ReLU": _rectified,
    "LeakyReLU": _leaking,
    "ELU": _exponential_below,
    "Softmax": _softmax,
}
