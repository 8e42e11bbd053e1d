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
    side_layers,
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
    assert divisor(model) == (by if dimension == 3 else 1, by, by)
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
        {"depth": 3, "normalization": "group", "dropout": 0.2, "squeeze_excitation": True},
        {"depth": 3, "dimension": 3, "anisotropy": 1, "down": "strided", "up": "interpolated"},
    ],
)
def test_a_network_is_drawn_as_it_is_built(architecture: str, changes: dict[str, Any]) -> None:
    asked = settings(architecture=architecture, **changes)
    drawn, built = draw_network(asked, 2), graph_of(build_network(asked, 2))
    assert sorted(drawn.layers, key=lambda layer: layer.name) == sorted(built.layers, key=lambda layer: layer.name)
    assert (drawn.output, drawn.dimension, drawn.name) == (built.output, built.dimension, built.name)


OPTIONS: list[dict[str, Any]] = [
    {"attention": True},
    {"attention": True, "dimension": 3, "anisotropy": 1, "normalization": "none"},
    {"squeeze_excitation": True},
    {"squeeze_excitation": True, "block": "vgg", "architecture": "fcn", "dimension": 3},
    {"normalization": "instance"},
    {"normalization": "group", "filters": 3},
    {"normalization": "layer", "dimension": 3},
    {"dropout": 0.3},
    {"dropout": 0.3, "block": "vgg", "dimension": 3},
    {"down": "strided"},
    {"up": "interpolated"},
    {"down": "strided", "up": "interpolated", "dimension": 3, "anisotropy": 2, "depth": 3},
    {"architecture": "fcn", "dimension": 3, "anisotropy": 1, "depth": 3},
    {"architecture": "fcn", "up": "interpolated", "depth": 3},
]


@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_every_option_computes_and_learns_and_is_drawn_as_it_is_built(changes: dict[str, Any]) -> None:
    asked = settings(**changes)
    model = build_network(asked, 2)
    drawn, built = draw_network(asked, 2), graph_of(model)
    assert sorted(drawn.layers, key=lambda layer: layer.name) == sorted(built.layers, key=lambda layer: layer.name)
    assert {type(layer).__name__ for layer in model.layers} <= set(KINDS)
    assert count_parameters(model) == model.count_params()
    shape = (2, *(2 * side for side in divisor(model)[3 - asked.dimension :]))
    images = tf.constant(np.random.default_rng(0).random((*shape, 1)), tf.float32)
    assert model(images).shape == (*shape, 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2)
    assert all(gradient is not None for gradient in tape.gradient(loss, model.trainable_variables))


@pytest.mark.parametrize(("normalization", "groups"), [("instance", [12, 24]), ("group", [4, 8]), ("layer", [1, 1])])
def test_groups_of_channels_are_normalised_in_each_image(normalization: str, groups: list[int]) -> None:
    model = build_network(settings(normalization=normalization, filters=12), 1)
    found = [layer for layer in graph_of(model).layers if layer.kind == "GroupNormalization"]
    assert {layer.settings["groups"] for layer in found} == set(groups)
    normalise = model.get_layer("bottom_normalization_1")
    values = np.random.default_rng(0).normal(3, 5, (2, 8, 8, 24)).astype(np.float32)
    parts = np.asarray(normalise(values)).reshape(2, 64, groups[1], -1)
    np.testing.assert_allclose(parts.mean(axis=(1, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(parts.std(axis=(1, 3)), 1, atol=1e-3)


def test_a_gate_weighs_what_comes_down_between_0_and_1() -> None:
    model = build_network(settings(attention=True, filters=4), 1)
    outputs = [model.get_layer(name).output for name in ("down_0_relu", "up_0_gate_weight", "up_0_gate")]
    images = np.random.default_rng(0).random((1, 16, 16, 1), dtype=np.float32)
    skip, weight, gated = (np.asarray(values) for values in keras.Model(model.input, outputs)(images))
    assert weight.shape == (1, 8, 8, 1)
    assert 0 < weight.min() < weight.max() < 1
    assert 0 < gated.sum() < skip.sum()
    readers = {name: layer.name for layer in graph_of(model).layers for name in layer.inputs}
    assert readers["up_0_gate"] == "up_0_join"


def test_squeeze_excitation_weighs_channels_by_the_whole_image() -> None:
    model = build_network(settings(squeeze_excitation=True), 1)
    near = np.random.default_rng(0).random((1, 64, 64, 1), dtype=np.float32)
    far = near.copy()
    far[0, -8:, -8:] = 5  # farther than the convolutions see
    assert receptive_radius(model)[1] < 40
    assert not np.allclose(model(near)[0, :8, :8], model(far)[0, :8, :8], atol=1e-6)
    assert graph_of(model).sees_all
    assert not graph_of(build_network(settings(), 1)).sees_all


def test_thick_slices_are_left_apart_in_the_uppermost_levels() -> None:
    graph = draw_network(settings(dimension=3, depth=4, anisotropy=2), 1)
    assert divisor(graph) == (2, 8, 8)
    kernels = {layer.name: layer.settings["kernel_size"] for layer in graph.layers if "filters" in layer.settings}
    assert kernels["down_0_convolution_1"] == kernels["up_1_convolution_2"] == (1, 3, 3)
    assert kernels["down_2_convolution_1"] == kernels["bottom_convolution_1"] == (3, 3, 3)
    assert (kernels["up_2_transposed"], kernels["up_1_transposed"]) == ((2, 2, 2), (1, 2, 2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"anisotropy": 1}, "for volumes"),
        ({"anisotropy": 2, "dimension": 3}, "below --depth"),
        ({"attention": True, "architecture": "fcn"}, "u-net"),
    ],
)
def test_options_that_do_not_go_together(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(**changes)


@pytest.mark.parametrize("block", ["residual", "vgg"])
@pytest.mark.parametrize("changes", [{}, {"attention": True, "up": "interpolated"}, {"dropout": 0.1}], ids=str)
def test_side_outputs_go_on_the_levels_of_the_way_up(block: str, changes: dict[str, Any]) -> None:
    model = build_network(settings(depth=4, block=block, **changes), 1)
    found = side_layers(graph_of(model))
    outputs = [model.get_layer(name).output for name in found]
    shapes = [part.shape for part in keras.Model(model.input, outputs)(np.zeros((1, 16, 16, 1), np.float32))]
    assert shapes == [(1, 8, 8, 4), (1, 4, 4, 8)]
    kind = "SpatialDropout2D" if "dropout" in changes else "Activation"
    assert {type(model.get_layer(name)).__name__ for name in found} == {kind}
    assert side_layers(draw_network(settings(architecture="fcn"), 1)) == []


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


def measured_radius(model: Any, side: int, axis: int = -1) -> int:
    """The farthest voxel along an axis whose change reaches a voxel of the result, by gradients."""
    dimension = len(model.input_shape) - 2
    sides = list(divisor(model)[3 - dimension :])
    period, sides[axis] = sides[axis], side
    others = tuple(index for index in range(dimension) if index != axis % dimension)
    rng = np.random.default_rng(0)
    for layer in model.layers:  # no rectifier at zero, no negative weight: nothing cancels
        layer.set_weights([np.abs(weight) + 0.1 for weight in layer.get_weights()])
        if isinstance(layer, layers.Activation):
            layer.activation = keras.activations.linear
    radius = 0
    for position in range(side // 2, side // 2 + period):
        image = tf.constant(rng.random((1, *sides, 1)), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(image)
            result = tf.reduce_sum(tf.gather(model(image, training=False)[0], position, axis=axis % dimension))
        reached = np.nonzero(tape.gradient(result, image).numpy()[0, ..., 0].any(axis=others))[0]
        if not reached.size:  # between the voxels of a kernel smaller than its stride
            continue
        assert reached[0] > 0, "the image is too small to measure in"
        assert reached[-1] < side - 1, "the image is too small to measure in"
        radius = max(radius, position - reached[0], reached[-1] - position)
    return radius


def averaging(model: Any) -> Any:
    """The same network with mean instead of max pooling, whose gradient reaches every voxel of a pool.

    And without means over the whole image, whose gradient reaches all of it.
    """

    def exchanged(layer: Any) -> Any:
        for kind in ("MaxPooling2D", "MaxPooling3D"):
            if type(layer).__name__ == kind:
                mean = getattr(layers, kind.replace("Max", "Average"))
                return mean(layer.pool_size, layer.strides, name=layer.name)
        if isinstance(layer, layers.GroupNormalization | layers.GlobalAveragePooling2D):
            return layers.Activation("linear", name=layer.name)
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
        ({"depth": 3, "attention": True}, 80),
        ({"depth": 3, "down": "strided", "up": "interpolated"}, 80),
        ({"depth": 2, "down": "strided", "architecture": "fcn", "up": "interpolated", "block": "vgg"}, 64),
        ({"depth": 2, "squeeze_excitation": True, "normalization": "instance"}, 64),
    ],
)
def test_receptive_radius_is_what_gradients_measure(changes: dict[str, Any], side: int) -> None:
    built = build_network(settings(**changes), 1)
    model = averaging(built)
    measured = measured_radius(model, side)
    assert receptive_radius(model) == receptive_radius(built) == (0, measured, measured)


@pytest.mark.parametrize(
    "changes",
    [
        {"anisotropy": 1},
        {"anisotropy": 1, "depth": 3, "filters": 1, "down": "strided", "up": "interpolated", "attention": True},
        {"anisotropy": 1, "depth": 3, "filters": 1, "architecture": "fcn", "block": "vgg"},
    ],
    ids=str,
)
def test_receptive_radius_along_thick_slices_and_in_them(changes: dict[str, Any]) -> None:
    model = averaging(build_network(settings(dimension=3, blocks_per_level=1, **changes), 1))
    radius = receptive_radius(model)
    assert (measured_radius(model, 32, 0), measured_radius(model, 64, 1)) == radius[:2]
    assert 0 < radius[0] < radius[1] == radius[2]


@pytest.mark.parametrize(("depth", "radius"), [(3, 23), (4, 51), (5, 107)])
@pytest.mark.parametrize("dimension", [2, 3])
def test_receptive_radius_of_the_default_u_net(dimension: int, depth: int, radius: int) -> None:
    reached = receptive_radius(build_network(settings(dimension=dimension, depth=depth, filters=1), 1))
    assert reached == (radius if dimension == 3 else 0, radius, radius)


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
    measured = measured_radius(model, 24)
    assert receptive_radius(model) == (0, measured, measured)


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
