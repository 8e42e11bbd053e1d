"""A network's layers as plain data, read from the description in a model file, and checked.

Only what is listed in :data:`KINDS` is accepted, and only numbers and words are taken from a description: nothing in it
is ever executed, and a framework sees nothing but what has passed here. Imports no framework.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from deepscem_tui.engine.errors import ModelError

_MOST_LAYERS = 5000
_MOST_FILTERS = 1 << 16
_LARGEST_SIDE = 255  # of a kernel, a stride or a pool
# Without hard_sigmoid, which is one function in Keras 2 and another in Keras 3.
_ACTIVATIONS = {
    "linear", "relu", "sigmoid", "softmax", "tanh", "elu", "selu", "gelu", "swish", "silu", "softplus", "softsign",
    "exponential",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer.

    Args:
        name: Unique in its network.
        kind: Class in Keras, such as ``"Conv2D"``.
        settings: What the class is called with; sizes are tuples, Y, X or Z, Y, X.
        inputs: Names of the layers it takes.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]

    @property
    def sees_all(self) -> bool:
        """Whether each number of its result follows from the whole image."""
        return self.kind == "GroupNormalization" or self.kind.startswith("GlobalAveragePooling")


@dataclass(frozen=True)
class Graph:
    """A network with one input and one output.

    Args:
        layers: Each after those it takes; the first is the input.
        output: Name of the layer that gives the result.
        dimension: 2 or 3.
    """

    name: str
    layers: tuple[Layer, ...]
    output: str
    dimension: int

    @cached_property
    def channels(self) -> dict[str, int]:
        """Channels that each layer gives."""
        result: dict[str, int] = {}
        for layer in self.layers:
            given = [result[name] for name in layer.inputs]
            if layer.kind == "InputLayer":
                result[layer.name] = layer.settings["channels"]
            elif layer.kind == "Concatenate":
                result[layer.name] = sum(given)
            elif layer.kind in SEVERAL_INPUTS:
                if len(set(given) - ({1} if layer.kind == "Multiply" else set())) > 1:
                    raise ModelError(f"Layer {layer.name!r} takes inputs of different numbers of channels, {given}")
                result[layer.name] = max(given)
            else:
                result[layer.name] = layer.settings.get("filters", given[0])
        return result

    @property
    def n_inputs(self) -> int:
        """Channels of the image: 1, or as many neighbouring slices as a network of slices takes."""
        return self.channels[self.layers[0].name]

    @property
    def n_outputs(self) -> int:
        return self.channels[self.output]

    @property
    def activation(self) -> str:
        """Function that the last layer applies."""
        last = next(layer for layer in self.layers if layer.name == self.output)
        return str(last.settings.get("activation", {"ReLU": "relu", "Softmax": "softmax"}.get(last.kind, "linear")))

    @cached_property
    def n_parameters(self) -> int:
        """Numbers in all weights, moving averages of normalisations included."""
        return sum(self._parameters(layer) for layer in self.layers)

    @property
    def sees_all(self) -> bool:
        """Whether the result follows from means over the whole image, or over a tile where it is computed in tiles."""
        return any(layer.sees_all for layer in self.layers)

    def _parameters(self, layer: Layer) -> int:
        settings, channels = layer.settings, self.channels
        if "filters" in settings:
            kernel = prod(settings["kernel_size"]) * channels[layer.inputs[0]] // settings["groups"]
            return int(settings["filters"] * (kernel + settings["use_bias"]))
        if layer.kind == "BatchNormalization":
            return int(channels[layer.name] * (2 + settings["center"] + settings["scale"]))
        if layer.kind in ("LayerNormalization", "GroupNormalization"):
            return int(channels[layer.name] * (settings["center"] + settings["scale"]))
        return 0


def read_graph(description: Any) -> Graph:
    """Take a network's description apart.

    Args:
        description: What Keras 2 or 3 writes of a model: ``{"class_name": "Functional", "config": {…}}``, or of one
            that is a mere chain, ``"Sequential"``.

    Raises:
        ModelError: it holds something that is not a layer of :data:`KINDS` on a plain graph. The message names no file.
    """
    kind, config = _part(description, "class_name", str), _part(description, "config", dict)
    if kind == "Sequential":
        config = _chained(config)
    elif kind not in ("Functional", "Model"):
        raise ModelError(f"The model is of the kind {kind!r}", "Only networks made of standard layers can be used.")
    entries = _part(config, "layers", list)
    if not 2 <= len(entries) <= _MOST_LAYERS:
        raise ModelError(f"The network has {len(entries)} layers")
    kinds = [_kind(entry) for entry in entries]
    inputs = [entry for entry, kind in zip(entries, kinds, strict=True) if kind == "InputLayer"]
    if len(inputs) != 1:
        raise ModelError(f"The network has {len(inputs)} inputs instead of one")
    dimension = _input_dimension(inputs[0])
    layers: dict[str, Layer] = {}
    for entry, kind in zip(entries, kinds, strict=True):
        layer = _layer(entry, kind, dimension)
        unknown = [name for name in layer.inputs if name not in layers]
        if layer.name in layers or unknown:
            raise ModelError(f"Layer {layer.name!r} stands twice, or before its inputs")
        layers[layer.name] = layer
    outputs = list(_references(config.get("output_layers")))
    if len(outputs) != 1 or outputs[0] not in layers:
        raise ModelError(f"The network has {len(outputs)} outputs instead of one")
    name = config.get("name")
    return Graph(name if isinstance(name, str) else "network", tuple(layers.values()), outputs[0], dimension)


# ------------------------------------------------------------------------------------------------ kinds of layer

_Check = Callable[[Any, int], Any]  # value, dimension -> value; ValueError


def _count(value: Any, _: int) -> int:
    if type(value) is not int or not 1 <= value <= _MOST_FILTERS:
        raise ValueError
    return value


def _groups(value: Any, _: int) -> int:
    return -1 if value == -1 else _count(value, _)  # -1: as many as there are channels


def _sizes(value: Any, dimension: int) -> tuple[int, ...]:
    sizes = (value,) * dimension if type(value) is int else tuple(value) if isinstance(value, list | tuple) else ()
    if len(sizes) != dimension or any(type(size) is not int or not 1 <= size <= _LARGEST_SIDE for size in sizes):
        raise ValueError
    return sizes


def _number(value: Any, _: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError
    return float(value)


def _amount(value: Any, _: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e6:
        raise ValueError
    return float(value)


def _amount_or_none(value: Any, dimension: int) -> float | None:
    return None if value is None else _amount(value, dimension)


def _flag(value: Any, _: int) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _one_of(*choices: Any) -> _Check:
    def check(value: Any, _: int) -> Any:
        if value not in choices:
            raise ValueError
        return value

    return check


def _last_axis(value: Any, dimension: int) -> int:
    axis = value[0] if isinstance(value, list) and len(value) == 1 else value
    if axis not in (-1, dimension + 1):
        raise ValueError
    return -1


_activation = _one_of(*_ACTIVATIONS)
_padding = _one_of("valid", "same")
_channels_last = _one_of("channels_last")
_ones: _Check = lambda value, dimension: _one_of((1,) * dimension)(_sizes(value, dimension), dimension)  # noqa: E731

# Settings of each kind: how a value is checked, and the value where a description leaves it out (None: it must not).
# Settings that only training or a fresh start look at (initialisers, regularisers, constraints) are left out.
_CONVOLUTION: dict[str, tuple[_Check, Any]] = {
    "filters": (_count, None),
    "kernel_size": (_sizes, None),
    "strides": (_sizes, 1),
    "padding": (_padding, "valid"),
    "data_format": (_channels_last, "channels_last"),
    "dilation_rate": (_sizes, 1),
    "activation": (_activation, "linear"),
    "use_bias": (_flag, True),
}
_POOLING: dict[str, tuple[_Check, Any]] = {
    "pool_size": (_sizes, 2),
    "strides": (_sizes, 2),
    "padding": (_padding, "valid"),
    "data_format": (_channels_last, "channels_last"),
}
# One voxel for the whole image, which further layers take as an image.
_WHOLE: dict[str, tuple[_Check, Any]] = {
    "data_format": (_channels_last, "channels_last"),
    "keepdims": (_one_of(True), False),
}
_UPSAMPLING: dict[str, tuple[_Check, Any]] = {
    "size": (_sizes, 2),
    "data_format": (_channels_last, "channels_last"),
}
_TRANSPOSED = _CONVOLUTION | {"dilation_rate": (_ones, 1), "groups": (_one_of(1), 1)}
_DROPOUT: dict[str, tuple[_Check, Any]] = {"rate": (_number, None)}

KINDS: dict[str, dict[str, tuple[_Check, Any]]] = {
    "InputLayer": {"channels": (_count, 1)},
    "Conv2D": _CONVOLUTION | {"groups": (_count, 1)},
    "Conv3D": _CONVOLUTION | {"groups": (_count, 1)},
    "Conv2DTranspose": _TRANSPOSED,
    "Conv3DTranspose": _TRANSPOSED,
    "BatchNormalization": {
        "axis": (_last_axis, -1),
        "momentum": (_number, 0.99),
        "epsilon": (_number, 1e-3),
        "center": (_flag, True),
        "scale": (_flag, True),
    },
    "LayerNormalization": {
        "axis": (_last_axis, -1),
        "epsilon": (_number, 1e-3),
        "center": (_flag, True),
        "scale": (_flag, True),
    },
    "GroupNormalization": {
        "axis": (_last_axis, -1),
        "groups": (_groups, 32),
        "epsilon": (_number, 1e-3),
        "center": (_flag, True),
        "scale": (_flag, True),
    },
    "Activation": {"activation": (_activation, None)},
    "ReLU": {"max_value": (_amount_or_none, None), "negative_slope": (_amount, 0.0), "threshold": (_amount, 0.0)},
    "LeakyReLU": {"negative_slope": (_amount, 0.3)},
    "ELU": {"alpha": (_amount, 1.0)},
    "Softmax": {"axis": (_last_axis, -1)},
    "MaxPooling2D": _POOLING,
    "MaxPooling3D": _POOLING,
    "AveragePooling2D": _POOLING,
    "AveragePooling3D": _POOLING,
    "GlobalAveragePooling2D": _WHOLE,
    "GlobalAveragePooling3D": _WHOLE,
    "UpSampling2D": _UPSAMPLING | {"interpolation": (_one_of("nearest", "bilinear"), "nearest")},
    "UpSampling3D": _UPSAMPLING,
    "Concatenate": {"axis": (_last_axis, -1)},
    "Add": {},
    "Average": {},
    "Maximum": {},
    "Multiply": {},
    "Dropout": _DROPOUT,
    "SpatialDropout2D": _DROPOUT,
    "SpatialDropout3D": _DROPOUT,
    "GaussianDropout": _DROPOUT,
    "GaussianNoise": {"stddev": (_number, None)},
}
SEVERAL_INPUTS = ("Add", "Average", "Concatenate", "Maximum", "Multiply")
# Must be absent or at these values, since they change what a layer computes.
_FIXED = {
    "output_padding": (None,),
    "renorm": (None, False),
    "virtual_batch_size": (None,),
    "rms_scaling": (None, False),
}
# What Keras 2 calls a setting.
EARLIER_NAMES = {("LeakyReLU", "negative_slope"): "alpha"}


# ------------------------------------------------------------------------------------------------ description parts


def _part(where: Any, key: str, kind: type) -> Any:
    value = where.get(key) if isinstance(where, dict) else None
    if not isinstance(value, kind):
        raise ModelError(f"The description of the network is damaged: no {key!r} where one belongs")
    return value


def _kind(entry: Any) -> str:
    kind: str = _part(entry, "class_name", str)
    standard = entry.get("registered_name") in (None, kind) and str(entry.get("module") or "keras").startswith("keras")
    if kind not in KINDS or not standard:
        name = entry.get("name")
        code = "Lambda" in kind or kind == "TensorFlowOpLayer"
        hint = "Such layers carry program code." if code else "Only standard layers of Keras can be."
        raise ModelError(f"Layer {name!r} is of the kind {kind!r}, which cannot be used", hint)
    return kind


def _chained(config: dict[str, Any]) -> dict[str, Any]:
    """A chain of layers, which says nothing of their connections, described as any other network."""
    entries = [dict(entry) for entry in _part(config, "layers", list) if isinstance(entry, dict)]
    if entries and entries[0].get("class_name") != "InputLayer":
        shape = _part(entries[0], "config", dict).get("batch_input_shape")
        entries.insert(0, {"class_name": "InputLayer", "config": {"name": "input", "batch_input_shape": shape}})
    before: list[Any] = []
    for entry in entries:
        name = _part(_part(entry, "config", dict), "name", str)
        entry |= {"name": name, "inbound_nodes": before}
        before = [[[name, 0, 0, {}]]]
    return {**config, "layers": entries, "output_layers": before[0] if before else []}


def _input_dimension(entry: Any) -> int:
    config = _part(entry, "config", dict)
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    if not isinstance(shape, list | tuple) or len(shape) not in (4, 5):
        raise ModelError(f"The network takes arrays of the shape {shape}, neither images (2D) nor volumes (3D)")
    return len(shape) - 2


def _layer(entry: Any, kind: str, dimension: int) -> Layer:
    config = _part(entry, "config", dict)
    name = entry.get("name", config.get("name"))
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise ModelError(f"A layer of the kind {kind!r} has no proper name")
    if (other := re.search("[23](?=D)", kind)) and int(other[0]) != dimension:
        raise ModelError(f"Layer {name!r} is of the kind {kind!r} in a network of {dimension}D images")
    if kind == "InputLayer":
        config = {"channels": config.get("batch_shape", config.get("batch_input_shape"))[-1]}
    settings = {}
    for key, (check, default) in KINDS[kind].items():
        value = config.get(key, config.get(EARLIER_NAMES.get((kind, key), key)))
        value = default if value is None else value
        try:
            settings[key] = check(value, dimension)
        except (ValueError, TypeError):
            raise ModelError(f"Layer {name!r} has {key} = {str(value)[:60]!r}, which cannot be used") from None
    for key, allowed in _FIXED.items():
        if config.get(key) not in allowed:
            raise ModelError(f"Layer {name!r} has {key} = {str(config[key])[:60]!r}, which cannot be used")
    inputs = tuple(_references(_part(entry, "inbound_nodes", list)))
    least = 0 if kind == "InputLayer" else 2 if kind in SEVERAL_INPUTS else 1
    if len(inputs) < least or (len(inputs) > least and kind not in SEVERAL_INPUTS):
        raise ModelError(f"Layer {name!r} takes {len(inputs)} inputs", "A layer that is used twice cannot be.")
    return Layer(name, kind, settings, inputs)


def _references(node: Any) -> Iterator[str]:
    """Names of the layers that are referred to, in Keras 2's way ``["name", 0, 0, {}]`` or in Keras 3's."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            yield from _references(_part(_part(node, "config", dict), "keras_history", list))
        else:
            for item in node.values():
                yield from _references(item)
    elif isinstance(node, list | tuple):
        if node and isinstance(node[0], str):
            if list(node[1:3]) != [0, 0]:
                raise ModelError(f"Layer {node[0]!r} is used twice, or has several outputs")
            yield node[0]
        else:
            for item in node:
                yield from _references(item)
