"""Model files as Keras 2.3 to 2.15 wrote them, put together by hand, and networks as DeepSCEM builds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers

# Keras without TensorFlow, and within: 2.2, 2.4, 2.10 (DeepSCEM's), 2.15.
VERSIONS = ("2.3.1", "2.3.0-tf", "2.4.0", "2.10.0", "2.15.0")


def deepscem_network(
    dimension: int = 2,
    block: str = "residual",
    kernel_size: int = 3,
    filters: int = 2,
    blocks: int = 2,
    depth: int = 2,
    outputs: int = 2,
    activation: str = "sigmoid",
    normalized: bool = False,
) -> Any:
    """A network in DeepSCEM's order of layers, with weights that are not those it begins with."""
    convolution, transposed, pool = (
        getattr(layers, name.format(dimension)) for name in ("Conv{}D", "Conv{}DTranspose", "MaxPooling{}D")
    )

    def level_of(x: Any, level: int) -> Any:
        width, first = filters * 2**level, x
        for _ in range(blocks):
            x = layers.Activation("relu")(convolution(width, kernel_size, padding="same")(x))
            x = layers.BatchNormalization()(x) if normalized else x
        if block == "residual":
            beside = layers.BatchNormalization()(layers.Activation("relu")(convolution(width, 1)(first)))
            x = layers.Activation("relu")(layers.Add()([beside, x]))
        return x

    x = image = keras.Input((None,) * dimension + (1,))
    skips = []
    for level in range(depth - 1):
        skips.append(level_of(x, level))
        x = pool(2)(skips[-1])
    x = level_of(x, depth - 1)
    for level in reversed(range(depth - 1)):
        x = layers.Concatenate()([transposed(filters * 2**level, 2, strides=2)(x), skips[level]])
        x = level_of(x, level)
    x = convolution(outputs, 1, activation=activation, name="output")(x)
    return randomised(keras.Model(image, x, name=f"U-NET-{dimension}D-{filters}-{depth}"))


def randomised(model: Any) -> Any:
    """The model with other weights; variances stay positive."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def image_for(model: Any) -> np.ndarray:
    """float32 (1, [Z,] Y, X, 1)."""
    return np.random.default_rng(1).random((1, *(16,) * (len(model.input_shape) - 2), 1), dtype=np.float32)


def write(
    model: Any,
    path: Path,
    version: str = "2.10.0",
    policy: str | None = None,
    change: Callable[[Any], None] = lambda _: None,
) -> Path:
    """Write a Keras 3 model as an earlier Keras would have.

    Args:
        policy: Of precision, such as ``"mixed_float16"``.
        change: What is done to the description before it is written.
    """
    dtype: Any = "float32" if policy is None else {"class_name": "Policy", "config": {"name": policy}}
    old = version.startswith("2.3.")
    config: dict[str, Any] = {
        "name": model.name,
        "layers": [_entry(layer, version, dtype) for layer in model.layers],
    }
    if version == "2.15.0":
        config["trainable"] = True
    config |= {
        "input_layers": [[model.layers[0].name, 0, 0]],
        "output_layers": [[model.outputs[0]._keras_history.operation.name, 0, 0]],
    }
    if isinstance(model, keras.Sequential):
        config = _as_sequence(config, version, model.input_shape)
    kind = "Sequential" if isinstance(model, keras.Sequential) else "Model" if old else "Functional"
    description = {"class_name": kind, "config": config}
    change(description)

    def texts(names: list[str]) -> Any:
        encoded = [name.encode() for name in names]
        kind = (f"S{max(map(len, encoded))}" if encoded else "S1") if old else h5py.string_dtype()
        return np.array(encoded if old else names, kind)

    def describe(group: h5py.Group, facts: dict[str, str]) -> None:
        for key, text in facts.items():
            group.attrs.create(key, text, dtype=h5py.string_dtype("ascii" if old else "utf-8"))

    facts = {"backend": "tensorflow", "keras_version": version}
    training = {"loss": "dice_of_somebody", "metrics": None}
    with h5py.File(path, "w") as file:
        describe(file, facts | {"model_config": json.dumps(description), "training_config": json.dumps(training)})
        file["optimizer_weights/Adam/iter:0"] = np.int64(3)
        weights = file.create_group("model_weights")
        describe(weights, facts)
        weights.attrs["layer_names"] = texts([layer.name for layer in model.layers])
        for layer in model.layers:
            group = weights.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = texts(names) if names else np.zeros(0)
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value
    return path


def _entry(layer: Any, version: str, dtype: Any) -> dict[str, Any]:
    kind = type(layer).__name__
    given = layer.input if isinstance(layer.input, list) else [layer.input]
    inputs = [] if kind == "InputLayer" else [[tensor._keras_history.operation.name, 0, 0, {}] for tensor in given]
    config = _config(layer, kind, version, dtype) | {"name": layer.name}
    return {"class_name": kind, "config": config, "name": layer.name, "inbound_nodes": [inputs] if inputs else []}


def _config(layer: Any, kind: str, version: str, dtype: Any) -> dict[str, Any]:
    rank = len(layer.output.shape)
    if kind == "InputLayer":
        return {
            "batch_input_shape": list(layer.batch_shape), "dtype": "float32", "sparse": False,
            **({} if version == "2.3.1" else {"ragged": False}),
        }  # fmt: skip
    own: dict[str, Any] = {}
    if kind.startswith("Conv"):
        own = _convolution(layer, kind, version)
    elif kind.endswith("Normalization"):
        own = {
            "axis": -1 if version == "2.3.1" else [rank - 1], "epsilon": layer.epsilon, "center": layer.center,
            "scale": layer.scale, "beta_regularizer": None, "gamma_initializer": _initializer("Ones", version),
        }  # fmt: skip
        own |= {"momentum": layer.momentum} if kind == "BatchNormalization" else {}
    elif "Pooling" in kind:
        own = {"pool_size": list(layer.pool_size), "padding": layer.padding, "strides": list(layer.strides)}
    elif kind.startswith("UpSampling"):
        own = {"size": list(layer.size)} | ({"interpolation": layer.interpolation} if kind == "UpSampling2D" else {})
    elif kind == "LeakyReLU":
        own = {"alpha": layer.negative_slope}
    else:
        keys = ("activation", "axis", "rate", "alpha", "stddev", "max_value", "negative_slope", "threshold")
        own = {key: getattr(layer, key) for key in keys if hasattr(layer, key)}
        own |= {"activation": layer.activation.__name__} if kind == "Activation" else {}
    if "pool_size" in own or "size" in own:
        own["data_format"] = "channels_last"
    return {"trainable": True, "dtype": dtype, **own}


def _convolution(layer: Any, kind: str, version: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "filters": layer.filters, "kernel_size": list(layer.kernel_size), "strides": list(layer.strides),
        "padding": layer.padding, "data_format": "channels_last", "dilation_rate": list(layer.dilation_rate),
        "groups": 1, "activation": layer.activation.__name__, "use_bias": layer.use_bias,
        "kernel_initializer": _initializer("HeNormal", version), "bias_initializer": _initializer("Zeros", version),
        **dict.fromkeys(("kernel_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint")),
    }  # fmt: skip
    if version.startswith("2.3."):
        del config["groups"]
    if kind.endswith("Transpose"):
        config["output_padding"] = None
    if kind == "Conv3DTranspose":
        del config["dilation_rate"]
    return config


def _initializer(kind: str, version: str) -> dict[str, Any]:
    config: dict[str, Any] = {} if kind != "HeNormal" else {"seed": None}
    if kind == "HeNormal" and version.startswith("2.3."):
        kind, config = "VarianceScaling", {"scale": 2.0, "mode": "fan_in", "distribution": "normal", "seed": None}
    named: dict[str, Any] = {"class_name": kind, "config": config}
    return {"module": "keras.initializers", **named, "registered_name": None} if version == "2.15.0" else named


def _as_sequence(config: dict[str, Any], version: str, shape: Sequence[int | None]) -> dict[str, Any]:
    """A chain names no connections, and before 2.4 its first layer says what it takes."""
    entries = [{key: entry[key] for key in ("class_name", "config")} for entry in config["layers"]]
    if version.startswith("2.3."):
        entries[0]["config"]["batch_input_shape"] = list(shape)
    else:
        taken = {"batch_input_shape": list(shape), "dtype": "float32", "sparse": False, "ragged": False}
        entries.insert(0, {"class_name": "InputLayer", "config": taken | {"name": "conv2d_input"}})
    return {"name": config["name"], "layers": entries}
