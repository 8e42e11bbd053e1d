"""Model files of Keras 2.3 to 2.15: what DeepSCEM and others wrote, computed as it was, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras2_files import VERSIONS, deepscem_network, image_for, randomised, write

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ModelError
from deepscem_tui.engine.models.actions import convert_model
from deepscem_tui.engine.models.files import load_model, read_info, save_model


def check(model: Any, path: Path) -> None:
    """What is loaded from the file computes what the model does, also after it was converted."""
    given, copy = image_for(model), path.with_name("converted.h5")
    expected = model(given)
    loaded, info = load_model(path)
    np.testing.assert_allclose(loaded(given), expected, atol=1e-5)
    assert (info.n_outputs, info.dimension) == (model.output_shape[-1], len(model.input_shape) - 2)
    assert info.n_parameters == model.count_params()
    assert loaded.output_shape == (None, *(None,) * info.dimension, info.n_outputs)
    for name in (path.with_name("between.keras"), copy):
        convert_model(p.ConvertModel(model=path, out=name, overwrite=True), Context())
        np.testing.assert_allclose(load_model(name)[0](given), expected, atol=1e-5)


# ------------------------------------------------------------------------------------------------ DeepSCEM's networks


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("block", ["residual", "vgg"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "linear", "softmax"])
def test_every_activation_and_block(dimension: int, block: str, activation: str, tmp_path: Path) -> None:
    model = deepscem_network(dimension, block, filters=1, activation=activation)
    check(model, write(model, tmp_path / "m.h5"))
    assert read_info(tmp_path / "m.h5").activation == activation


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 1, "outputs": 1},
        {"depth": 4, "filters": 1, "blocks": 1, "kernel_size": 2},  # an even kernel, as its form begins with
        {"kernel_size": 4, "blocks": 3, "outputs": 5},
        {"kernel_size": 7, "block": "vgg", "normalized": True},
        {"kernel_size": 1, "dimension": 3, "normalized": True, "depth": 3, "filters": 1},
    ],
    ids=str,
)
def test_networks_of_other_shapes(settings: dict[str, Any], tmp_path: Path) -> None:
    model = deepscem_network(**settings)
    check(model, write(model, tmp_path / "m.h5"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dimension", [2, 3])
def test_every_version(version: str, dimension: int, tmp_path: Path) -> None:
    model = deepscem_network(dimension, filters=1, normalized=True)
    check(model, write(model, tmp_path / "m.h5", version))


@pytest.mark.parametrize("policy", ["mixed_float16", "float32", "mixed_bfloat16"])
def test_a_policy_of_precision_is_dropped(policy: str, tmp_path: Path) -> None:
    model = deepscem_network()
    path = write(model, tmp_path / "m.h5", policy=policy)
    check(model, path)
    assert load_model(path)[0].layers[1].compute_dtype == "float32"
    with h5py.File(tmp_path / "converted.h5") as file:
        entries = json.loads(file.attrs["model_config"])["config"]["layers"]
        assert {entry["config"]["dtype"] for entry in entries} == {"float32"}


def test_a_policy_of_ours_is_dropped_too(tmp_path: Path) -> None:
    plain = deepscem_network()
    write(plain, tmp_path / "plain.h5")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed, info = load_model(tmp_path / "plain.h5")
    finally:
        keras.config.set_dtype_policy(before)
    assert mixed.layers[1].compute_dtype == "float16"
    save_model(mixed, info, tmp_path / "m.h5", overwrite=False)
    with h5py.File(tmp_path / "m.h5") as file:
        assert "float16" not in file.attrs["model_config"]
    check(plain, tmp_path / "m.h5")


# ------------------------------------------------------------------------------------------------ other standard layers


# What the classes of Keras 2.10 take.
KERAS_2_10 = {
    "LeakyReLU": {"alpha"}, "ELU": {"alpha"}, "ReLU": {"max_value", "negative_slope", "threshold"},
    "Softmax": {"axis"}, "GaussianNoise": {"stddev"}, "Dropout": {"rate"}, "Multiply": set(), "Average": set(),
    "Maximum": set(),
    "LayerNormalization": {
        "axis", "epsilon", "center", "scale", "beta_initializer", "gamma_initializer", "beta_regularizer",
        "gamma_regularizer", "beta_constraint", "gamma_constraint",
    },
}  # fmt: skip


def other_layers(dimension: int) -> Any:
    convolution, up = getattr(layers, f"Conv{dimension}D"), getattr(layers, f"UpSampling{dimension}D")
    image = keras.Input((None,) * dimension + (1,))
    x = layers.LeakyReLU(negative_slope=0.2)(convolution(3, 3, padding="same")(image))
    x = layers.GaussianNoise(0.1)(layers.LayerNormalization(center=False)(x))
    gate = convolution(1, 1, activation="sigmoid")(x)
    x = layers.Multiply()([x, gate])
    low = layers.ELU(alpha=0.7)(getattr(layers, f"AveragePooling{dimension}D")(2)(x))
    x = layers.Average()([x, layers.Dropout(0.5)(up(2)(low))])
    x = layers.Maximum()([x, layers.ReLU(max_value=0.6, negative_slope=0.1)(x)])
    return randomised(keras.Model(image, layers.Softmax()(convolution(3, 1)(x))))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dimension", [2, 3])
def test_other_standard_layers(version: str, dimension: int, tmp_path: Path) -> None:
    model = other_layers(dimension)
    check(model, write(model, tmp_path / "m.h5", version))
    assert read_info(tmp_path / "m.h5").activation == "softmax"
    with h5py.File(tmp_path / "converted.h5") as file:
        entries = json.loads(file.attrs["model_config"])["config"]["layers"]
    configs = {entry["class_name"]: entry["config"] for entry in entries}
    assert configs["LeakyReLU"]["alpha"] == pytest.approx(0.2)
    assert configs["LayerNormalization"]["axis"] == [dimension + 1]
    for kind, known in KERAS_2_10.items():
        assert set(configs[kind]) == {"name", "trainable", "dtype"} | known


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chain_of_layers(version: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, padding="same", activation="relu")])
    model.add(layers.Conv2D(2, 1, activation="sigmoid"))
    check(randomised(model), write(model, tmp_path / "m.h5", version))


# ------------------------------------------------------------------------------------------------ refusals


def replaced(description: Any, **entry: Any) -> None:
    """Put another layer in the place of the first activation."""
    entries = description["config"]["layers"]
    index = next(i for i, layer in enumerate(entries) if layer["class_name"] == "Activation")
    entries[index] |= {**entry, "config": {"name": entry["name"], **entry.get("config", {})}}


_MARSHALLED = {
    "function": ["4wEAAAAAAAAAAAAAAAEAAAABAAAAQwAAAHMEAAAAfAAUAFMAKQFO\n", None, None],
    "function_type": "lambda",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"class_name": "Lambda", "name": "twice", "config": _MARSHALLED}, "'twice' is of the kind 'Lambda'.*code"),
        ({"class_name": "TFOpLambda", "name": "tf.math.multiply", "config": {"function": "math.multiply"}},
         "'tf.math.multiply' is of the kind 'TFOpLambda'.*code"),
        ({"class_name": "TensorFlowOpLayer", "name": "tf_op_layer_Mul", "config": {"node_def": "x"}},
         "'tf_op_layer_Mul' is of the kind 'TensorFlowOpLayer'.*code"),
        ({"class_name": "AttentionOfOurLab", "name": "attention"}, "'attention' is of the kind 'AttentionOfOurLab'"),
        ({"class_name": "Custom>Gate", "name": "gate"}, "'gate' is of the kind 'Custom>Gate'"),
        ({"class_name": "Functional", "name": "inner", "config": {"layers": []}}, "'inner' is of the kind"),
        ({"class_name": "Activation", "name": "odd", "config": {"activation": "hard_sigmoid"}}, "hard_sigmoid"),
        ({"class_name": "Activation", "name": "odd", "config": {"activation": "their_own"}}, "their_own"),
    ],
    ids=lambda value: value["class_name"] + "-" + value["name"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_is_not_standard_is_refused_with_its_name(
    entry: dict[str, Any], words: str, version: str, tmp_path: Path
) -> None:
    path = write(deepscem_network(), tmp_path / "m.h5", version, change=lambda d: replaced(d, **entry))
    for read in (read_info, load_model):
        with pytest.raises(ModelError, match=words) as caught:
            read(path)
        assert str(path) in caught.value.what


def bilinear() -> Any:
    image = keras.Input((None, None, 1))
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2)(image))
    return randomised(keras.Model(image, layers.Conv2D(1, 1)(layers.Concatenate()([x, image]))))


@pytest.mark.parametrize("version", VERSIONS)
def test_interpolation_that_was_another_before_keras_was_a_part_of_tensorflow(version: str, tmp_path: Path) -> None:
    model = bilinear()
    path = write(model, tmp_path / "m.h5", version)
    if version == "2.3.1":
        with pytest.raises(ModelError, match=r"interpolates as Keras 2\.3\.1 did"):
            load_model(path)
    else:
        check(model, path)


def test_kernels_of_theano_are_mirrored_and_so_refused(tmp_path: Path) -> None:
    path = write(deepscem_network(), tmp_path / "m.h5", "2.3.1")
    with h5py.File(path, "r+") as file:
        file.attrs["backend"] = "theano"
    with pytest.raises(ModelError, match="Theano"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["config"].update(layers=[]), "0 layers"),
        (lambda d: d["config"]["layers"][0]["config"].pop("name"), "damaged"),
        (lambda d: d["config"]["layers"][0]["config"].pop("batch_input_shape"), "None"),
        (lambda d: d["config"].pop("layers"), "damaged"),
        (lambda d: d.update(config=[]), "damaged"),
    ],
)
@pytest.mark.parametrize("version", ["2.3.0-tf", "2.10.0"])
def test_chains_that_are_damaged(version: str, change: Callable[[Any], None], words: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, padding="same")])
    path = write(model, tmp_path / "m.h5", version, change=change)
    with pytest.raises(ModelError, match=words):
        read_info(path)
