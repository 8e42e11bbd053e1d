"""U-Net, FCN, and what is computed from their layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.errors import ModelError
from deepscem_tui.engine.networks import (
    activation_bytes,
    build_network,
    count_parameters,
    divisor,
    draw_network,
    receptive_radius,
)
from deepscem_tui.engine.networks.geometry import graph_of, step_bytes
from deepscem_tui.engine.networks.graph import KINDS


def settings(**changes: Any) -> p.CreateModel:
    return p.CreateModel(out=Path("x.keras"), labels=1, **({"filters": 2, "depth": 2} | changes))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("architecture", ["u-net", "fcn"])
@pytest.mark.parametrize(
    ("changes", "n_outputs"),
    [
        ({}, 2),
        ({"depth": 1, "block": "vgg", "normalization": "none"}, 2),
        ({"depth": 3, "activation": "softmax", "kernel_size": 5}, 3),
        ({"depth": 4, "block": "vgg", "blocks_per_level": 1, "filters": 1, "activation": "tanh"}, 2),
    ],
)
def test_result_has_the_size_of_the_image(
    dimension: int, architecture: str, changes: dict[str, Any], n_outputs: int
) -> None:
    model = build_network(settings(dimension=dimension, architecture=architecture, **changes), 2)
    by = 2 ** (changes.get("depth", 2) - 1)
    assert model.input_shape == (None,) * (dimension + 1) + (1,)
    assert divisor(model) == by
    shape = (2, *(by, 2 * by, 3 * by)[:dimension])
    outputs = model(np.random.default_rng(0).random((*shape, 1), dtype=np.float32))
    assert outputs.shape == (*shape, n_outputs)
    assert outputs.dtype == tf.float32
    assert count_parameters(model) == model.count_params()


@pytest.mark.parametrize("architecture", ["u-net", "fcn"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"depth": 1},
        {"dimension": 3, "block": "vgg"},
        {"depth": 4, "normalization": "none", "activation": "softmax"},
    ],
)
def test_a_network_is_drawn_as_it_is_built(architecture: str, changes: dict[str, Any]) -> None:
    asked = settings(architecture=architecture, **changes)
    drawn, built = draw_network(asked, 2), graph_of(build_network(asked, 2))
    assert sorted(drawn.layers, key=lambda layer: layer.name) == sorted(built.layers, key=lambda layer: layer.name)
    assert (drawn.output, drawn.dimension, drawn.name) == (built.output, built.dimension, built.name)


def test_softmax_adds_a_background() -> None:
    model = build_network(settings(activation="softmax"), 1)
    outputs = model(np.zeros((1, 4, 4, 1), np.float32)).numpy()
    assert outputs.shape[-1] == 2
    np.testing.assert_allclose(outputs.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("block", ["residual", "vgg"])
def test_every_convolution_of_a_block_is_normalised(block: str) -> None:
    graph = graph_of(build_network(settings(block=block), 1))
    readers = {name: layer.kind for layer in graph.layers for name in layer.inputs}
    inside = [layer for layer in graph.layers if layer.kind == "Conv2D" and layer.name != "score"]
    assert len(inside) == 3 * (2 + (block == "residual"))
    assert {readers[layer.name] for layer in inside} == {"BatchNormalization"}
    assert not any(layer.settings["use_bias"] for layer in inside)


def test_without_normalisation_convolutions_have_a_bias() -> None:
    graph = graph_of(build_network(settings(normalization="none"), 1))
    assert "BatchNormalization" not in {layer.kind for layer in graph.layers}
    assert all(layer.settings["use_bias"] for layer in graph.layers if "filters" in layer.settings)


def test_fcn_fuses_three_levels_and_joins_nothing() -> None:
    graph = graph_of(build_network(settings(architecture="fcn", depth=5), 1))
    kinds = [layer.kind for layer in graph.layers]
    names = {layer.name for layer in graph.layers}
    assert "Concatenate" not in kinds
    assert {"level_2_score", "level_3_score", "level_4_score", "level_2_fuse", "level_3_fuse", "full_up"} <= names
    assert not {"level_0_score", "level_1_score"} & names


@pytest.mark.parametrize("dimension", [2, 3])
def test_fcn_begins_with_linear_interpolation(dimension: int) -> None:
    model = build_network(settings(architecture="fcn", dimension=dimension), 2)
    shape = (1, *(4,) * dimension, 2)
    constant = model.get_layer("level_0_up")(np.ones(shape, np.float32)).numpy()
    inside = (0, *(slice(2, -2),) * dimension)
    np.testing.assert_allclose(constant[inside], 1, rtol=1e-6)


@pytest.mark.parametrize("architecture", ["u-net", "fcn"])
def test_the_seed_decides_the_weights(architecture: str) -> None:
    first, again, other = (
        build_network(settings(architecture=architecture, blocks_per_level=3, seed=seed), 1) for seed in (3, 3, 4)
    )
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first.get_weights(), other.get_weights(), strict=True))
    kernels = [layer.kernel.numpy() for layer in first.layers if hasattr(layer, "kernel")]
    same_shape = [a for a in kernels if a.shape == (3, 3, 2, 2)]
    assert len(same_shape) > 1
    assert not np.array_equal(same_shape[0], same_shape[1])


def test_layers_are_of_kinds_that_a_file_may_hold() -> None:
    for architecture in ("u-net", "fcn"):
        assert {type(layer).__name__ for layer in build_network(settings(architecture=architecture), 1).layers} <= set(
            KINDS
        )


# ------------------------------------------------------------------------------------------------ receptive field


def measured_radius(model: Any, side: int) -> int:
    """The farthest voxel along the first axis whose change reaches a voxel of the result, by gradients."""
    dimension = len(model.input_shape) - 2
    rng = np.random.default_rng(0)
    for layer in model.layers:  # no rectifier at zero, no negative weight: nothing cancels
        layer.set_weights([np.abs(weight) + 0.1 for weight in layer.get_weights()])
        if isinstance(layer, layers.Activation):
            layer.activation = keras.activations.linear
    period = divisor(model)
    radius = 0
    for position in range(side // 2, side // 2 + period):
        image = tf.constant(rng.random((1, side, *(period,) * (dimension - 1), 1)), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(image)
            result = tf.reduce_sum(model(image, training=False)[0, position])
        reached = np.nonzero(tape.gradient(result, image).numpy().reshape(side, -1).any(axis=1))[0]
        if not reached.size:  # between the voxels of a kernel smaller than its stride
            continue
        assert reached[0] > 0, "the image is too small to measure in"
        assert reached[-1] < side - 1, "the image is too small to measure in"
        radius = max(radius, position - reached[0], reached[-1] - position)
    return radius


def averaging(model: Any) -> Any:
    """The same network with mean instead of max pooling, whose gradient reaches every voxel of a pool."""

    def exchanged(layer: Any) -> Any:
        if isinstance(layer, layers.MaxPooling2D):
            return layers.AveragePooling2D(layer.pool_size, layer.strides, name=layer.name)
        return type(layer).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=exchanged)


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"depth": 1}, 16),
        ({"depth": 2}, 32),
        ({"depth": 3}, 64),
        ({"depth": 2, "kernel_size": 5, "block": "vgg"}, 64),
        ({"depth": 2, "architecture": "fcn"}, 32),
        ({"depth": 4, "architecture": "fcn", "blocks_per_level": 1}, 96),
    ],
)
def test_receptive_radius_is_what_gradients_measure(changes: dict[str, Any], side: int) -> None:
    model = averaging(build_network(settings(**changes), 1))
    assert receptive_radius(model) == measured_radius(model, side)


@pytest.mark.parametrize(("depth", "radius"), [(3, 23), (4, 51), (5, 107)])
@pytest.mark.parametrize("dimension", [2, 3])
def test_receptive_radius_of_the_default_u_net(dimension: int, depth: int, radius: int) -> None:
    assert receptive_radius(build_network(settings(dimension=dimension, depth=depth, filters=1), 1)) == radius


@pytest.mark.parametrize(
    "body",
    [
        lambda x: layers.Conv2D(2, 4, padding="same")(x),
        lambda x: layers.Conv2D(2, 3, padding="same", dilation_rate=3)(x),
        lambda x: layers.Conv2DTranspose(2, 3, strides=2, padding="same")(layers.Conv2D(2, 3, 2, padding="same")(x)),
        lambda x: layers.Conv2DTranspose(2, 5, strides=3, padding="same")(layers.Conv2D(2, 5, 3, padding="same")(x)),
        lambda x: layers.UpSampling2D(2)(layers.AveragePooling2D(2)(x)),
        lambda x: layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2)(x)),
        lambda x: layers.UpSampling2D(3, interpolation="bilinear")(layers.AveragePooling2D(3)(x)),
        lambda x: layers.Conv2DTranspose(2, 1, strides=2)(layers.Conv2D(2, 1, 2)(x)),
    ],
)
def test_receptive_radius_of_networks_of_others(body: Any) -> None:
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, body(inputs))
    assert receptive_radius(model) == measured_radius(model, 24)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda x: layers.Conv2D(2, 3)(x), "not padded"),
        (lambda x: layers.MaxPooling2D(2)(x), "resolution of the image"),
        (lambda x: layers.Lambda(lambda y: y)(x), "'Lambda', which cannot be used"),
        (lambda x: layers.Dense(2)(x), "'Dense', which cannot be used"),
        (lambda x: layers.Conv2D(2, 1, activation=keras.ops.cos)(x), "activation"),
    ],
)
def test_networks_that_cannot_be_used_are_refused(body: Any, message: str) -> None:
    inputs = keras.Input((None, None, 1))
    with pytest.raises(ModelError, match=message):
        divisor(keras.Model(inputs, body(inputs)))


def test_a_layer_that_is_used_twice_is_refused() -> None:
    inputs = keras.Input((None, None, 1))
    shared = layers.Conv2D(1, 1)
    with pytest.raises(ModelError, match="twice"):
        divisor(keras.Model(inputs, shared(shared(inputs))))


# ------------------------------------------------------------------------------------------------ memory


def test_memory_grows_with_patch_batch_and_training() -> None:
    model = build_network(settings(), 1)
    one = activation_bytes(model, (32, 32), 1, training=False)
    assert activation_bytes(model, (32, 32), 3, training=False) == 3 * one
    assert activation_bytes(model, (64, 32), 1, training=False) == 2 * one
    assert activation_bytes(model, (32, 32), 1, training=True) > one


def test_memory_of_a_network_counted_by_hand() -> None:
    inputs = keras.Input((None, None, 1))
    x = layers.Activation("relu")(layers.Conv2D(3, 1)(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    voxels = 4 * 8 * 8
    # Prediction: 3 + 3 channels at a time; training: 1 + 3 + 2 read by gradients. The activation moves 3 + 3.
    assert activation_bytes(model, (8, 8), 1, training=False) == voxels * (6 + 6)
    assert activation_bytes(model, (8, 8), 1, training=True) == voxels * (1 + 3 + 6)


def test_a_step_takes_its_weights_too() -> None:
    model = build_network(settings(), 1)
    weights = 4 * count_parameters(model)
    looking, learning = (activation_bytes(model, (32, 32), 1, training) for training in (False, True))
    assert step_bytes(model, (32, 32), 1, training=False) == looking + weights
    assert step_bytes(model, (32, 32), 1, training=True) == learning + 4 * weights  # gradients, Adam's two moments
