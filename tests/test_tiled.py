"""Joined tiles equal the whole, whatever computes them: here a network of numpy, so that many shapes can be tried."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscem_tui.engine.errors import ParameterError, Stopped
from deepscem_tui.engine.prediction import tiled
from deepscem_tui.engine.prediction.plan import SamplePlan
from deepscem_tui.engine.prediction.tiled import Done, predict_sample
from deepscem_tui.engine.prediction.tiling import TilePlan, plan_tiles
from deepscem_tui.engine.prediction.tiling_deepscem import plan_as_deepscem
from deepscem_tui.engine.prediction.values import Values
from deepscem_tui.engine.sources.source import Source
from deepscem_tui.engine.stop import Stop

Array = npt.NDArray[Any]
DIVISOR = 4
BLUR = 2
RADIUS = BLUR + DIVISOR - 1 + BLUR


def blur(images: Array, axis: int) -> Array:
    """A running mean, with zeros beyond the border as a convolution has them."""
    padded = np.pad(images, [(BLUR, BLUR) if k == axis else (0, 0) for k in range(images.ndim)])
    size = images.shape[axis]
    return np.asarray(sum(np.take(padded, range(k, k + size), axis) for k in range(2 * BLUR + 1)) / (2 * BLUR + 1))


def pool(images: Array, axis: int) -> Array:
    """The greatest of each group on the grid, repeated: what makes a network see a grid."""
    shape = images.shape
    groups = images.reshape(*shape[:axis], shape[axis] // DIVISOR, DIVISOR, *shape[axis + 1 :])
    return np.repeat(groups.max(axis + 1), DIVISOR, axis)


def network(dimension: int, calls: list[int] | None = None) -> tiled.Network:
    """Two labels and a background, from a blurred, pooled and blurred image."""

    def compute(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if calls is not None:
            calls.append(len(images))
        values: Array = images.astype(np.float64)
        for step in (blur, pool, blur):
            for axis in range(4 - dimension, 4):
                values = step(values, axis)
        return np.stack([values, 1 - values, np.zeros_like(values)], -1).astype(np.float32)

    return compute


def predict(
    image: Array, plan: TilePlan, threshold: float | None = None, batch: int = 3, slab_voxels: int = 2**22
) -> Array:
    result = np.full((2, *image.shape), 99, np.float32 if threshold is None else np.uint8)

    def sink(first: int, labels: Array, voxels: Array) -> None:
        assert labels.dtype == result.dtype
        assert np.array_equal(voxels, image[first : first + labels.shape[1]], equal_nan=True)
        result[:, first : first + labels.shape[1]] = labels

    source = Source("a", plan.shape, lambda z0, z1: image[z0:z1])
    values = Values((threshold or 0.0,) * 2, "float32" if threshold is None else "mask")
    predict_sample(
        network(plan.dimension), source, SamplePlan("a", plan, batch, slab_voxels), sink,
        values=values, before_batch=lambda _: None,
    )  # fmt: skip
    return result


def untiled(image: Array, plan: TilePlan) -> Array:
    whole = np.pad(image, [(0, p - s) for p, s in zip(plan.padded, plan.shape, strict=True)], mode="reflect")
    z, y, x = plan.shape
    values = network(plan.dimension)(np.stack([whole]))[0, :z, :y, :x, :2]
    return np.moveaxis(values, -1, 0)


SIZES = st.integers(1, 40)


@settings(max_examples=60)
@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.sampled_from([2, 3]),
    st.none() | st.integers(4, 48),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_joined_tiles_equal_the_whole(
    shape: tuple[int, int, int], dimension: int, patch: int | None, batch: int, seed: int
) -> None:
    image = np.random.default_rng(seed).random(shape, np.float32)
    plan = plan_tiles(shape, dimension, DIVISOR, RADIUS, None if patch is None else (patch,) * dimension)
    joined = predict(image, plan, batch=batch)
    if plan.exact:
        np.testing.assert_allclose(joined, untiled(image, plan), atol=1e-5)
    else:
        assert joined.max() <= 1  # every voxel was written


def test_plans_of_several_tiles_are_exact_on_every_axis() -> None:
    """The property above is not satisfied by single tiles alone."""
    for dimension in (2, 3):
        plan = plan_tiles((45, 61, 50), dimension, DIVISOR, RADIUS, (32,) * dimension)
        assert plan.exact
        assert min(len(axis.starts) for axis in plan.axes) > 1
        image = np.random.default_rng(3).random(plan.shape, np.float32)
        np.testing.assert_allclose(predict(image, plan), untiled(image, plan), atol=1e-5)


def test_tiles_off_the_margin_differ_which_shows_that_the_margin_matters() -> None:
    image = np.random.default_rng(5).random((1, 64, 64), np.float32)
    plan = plan_tiles((1, 64, 64), 2, DIVISOR, RADIUS, (32, 32), "none")
    assert np.abs(predict(image, plan) - untiled(image, plan)).max() > 1e-3


def test_a_slab_of_several_slices_gives_what_single_slices_give() -> None:
    image = np.random.default_rng(2).random((7, 20, 20), np.float32)
    plan = plan_tiles(image.shape, 2, DIVISOR, RADIUS, (16, 16))
    together = predict(image, plan)
    assert len(list(plan.layers(3 * 400))) == 3
    assert np.array_equal(predict(image, plan, slab_voxels=3 * 400), together)


def test_a_threshold_gives_masks_and_equal_is_background() -> None:
    image = np.random.default_rng(2).random((4, 20, 20), np.float32)
    plan = plan_tiles(image.shape, 3, DIVISOR, RADIUS)
    values = predict(image, plan)
    level = float(np.median(values[0]))
    assert np.array_equal(predict(image, plan, threshold=level), values > np.float32(level))
    assert not predict(image, plan, threshold=float(values.max())).any()


def test_stored_values_are_normalised_as_the_network_sees_them() -> None:
    image = np.array([[[-100, 0, 100, 300]]], np.int16)
    source = Source("a", (1, 1, 4), lambda z0, z1: image[z0:z1], low=-100, high=300)
    assert source.normalised(image).tolist() == [[[0, 0.25, 0.5, 1]]]
    constant = Source("a", (1, 1, 4), lambda z0, z1: image[z0:z1], low=7, high=7)
    assert not constant.normalised(image).any()
    broken = np.array([[[np.nan, np.inf, -np.inf, 0.5]]], np.float32)
    plain = Source("a", (1, 1, 4), lambda z0, z1: broken[z0:z1])
    assert plain.normalised(broken).tolist() == [[[0, 1, 0, 0.5]]]


@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "uint16", "int16", "int32", "float16", "float32", "float64"])
@pytest.mark.parametrize("limits", [(0.0, 1.0), (-3.0, 77.0)])
@pytest.mark.parametrize("side", [3, 50])  # fewer voxels than there are values of two bytes, and more
def test_values_are_the_same_looked_up_and_computed(kind: str, limits: tuple[float, float], side: int) -> None:
    shape, (low, high) = (2, side, 1000), limits
    bits = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(kind).itemsize), np.uint8)
    image = (bits[..., 0] > 99) if kind == "bool" else bits.view(kind)[..., 0]
    if kind == "float64":
        image = np.where(np.abs(image) < 1e30, image, np.nan)
    with np.errstate(all="ignore"):
        expected = (image.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    expected = np.nan_to_num(expected, nan=0.0, posinf=1.0, neginf=0.0)
    source = Source("a", shape, lambda z0, z1: image[z0:z1], low, high)
    assert np.array_equal(source.normalised(image), expected)
    assert np.array_equal(source.normalised(image[:, ::2]), expected[:, ::2])
    out = np.full(shape, 9, np.float32)
    assert source.normalised(image, out) is out
    assert np.array_equal(out, expected)
    with np.errstate(all="ignore"):
        for dtype in (np.float16, np.float32):
            assert np.array_equal(source.normalised_as(image, dtype), expected.astype(dtype))


def test_a_stop_ends_it_before_the_next_batch() -> None:
    stop, calls, written = Stop(), [], []
    plan = plan_tiles((8, 20, 20), 2, DIVISOR, RADIUS)
    image = np.zeros(plan.shape, np.float32)

    def look(done: Done) -> None:
        if done.computed >= 3:
            stop.request("test")
        stop.check()

    with pytest.raises(Stopped):
        predict_sample(
            network(2, calls), Source("a", plan.shape, lambda z0, z1: image[z0:z1]), SamplePlan("a", plan, 2),
            lambda first, *_: written.append(first),
            values=Values((0.5, 0.5)), before_batch=look,
        )  # fmt: skip
    assert calls == [2, 2]
    assert written == []


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(SIZES, SIZES, SIZES), st.sampled_from([2, 3]), st.integers(4, 30), st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_blended_tiles_are_means_weighted_as_gauss(
    shape: tuple[int, int, int], dimension: int, patch: int, batch: int, seed: int
) -> None:
    """Against all of it at once, in memory."""
    image = np.random.default_rng(seed).random(shape, np.float32)
    plan = plan_tiles(shape, dimension, DIVISOR, RADIUS, (patch,) * dimension, "blend")
    whole = np.pad(image, [(0, p - s) for p, s in zip(plan.padded, plan.shape, strict=True)], mode="reflect")
    sums, weights = np.zeros((*plan.padded, 2)), np.zeros(plan.padded)
    falling = []
    for axis in plan.axes:
        middle = (np.arange(axis.tile) - (axis.tile - 1) / 2) / axis.tile
        falling.append(np.exp(-0.5 * (12 * middle) ** 2) if len(axis.starts) > 1 else np.ones(axis.tile))
    weight = np.einsum("i,j,k->ijk", *falling)
    if dimension == 2:
        weight[...] = np.einsum("j,k->jk", *falling[1:])
    for start in product(*(axis.starts for axis in plan.axes)):
        box = tuple(slice(a, a + side) for a, side in zip(start, plan.tile, strict=True))
        sums[box] += weight[..., None] * network(dimension)(whole[box][None])[0, ..., :2]
        weights[box] += weight
    z, y, x = shape
    expected = np.moveaxis((sums / weights[..., None])[:z, :y, :x], -1, 0)
    np.testing.assert_allclose(predict(image, plan, batch=batch), expected, atol=1e-5)


def test_blended_tiles_are_nearer_to_the_whole_than_tiles_side_by_side() -> None:
    image = np.random.default_rng(5).random((1, 64, 64), np.float32)
    off = {}
    for join in ("blend", "none"):
        plan = plan_tiles((1, 64, 64), 2, DIVISOR, RADIUS, (40, 40), join)
        assert plan.n_tiles > 1
        off[join] = np.abs(predict(image, plan) - untiled(image, plan)).mean()
    assert 0 < off["blend"] < off["none"] / 5


# ------------------------------------------------------------------------------------------------ DeepSCEM's way


def as_deepscem(image: Array, window: tuple[int, int, int], overlaps: tuple[bool, bool, bool], dimension: int) -> Array:
    """What DeepSCEM does, step by step and in memory: (labels, Z, Y, X)."""
    strides = [side // 2 if overlap else side for side, overlap in zip(window, overlaps, strict=True)]
    steps = [-(-size // stride) for size, stride in zip(image.shape, strides, strict=True)]
    ends = [(stride, n * stride - size + stride) for size, stride, n in zip(image.shape, strides, steps, strict=True)]
    whole = np.pad(image, ends, mode="reflect")
    result = np.zeros((*whole.shape, 2), np.float32)
    compute = network(dimension)
    for index in np.ndindex(*(n + 1 for n in steps)):
        start = [k * stride for k, stride in zip(index, strides, strict=True)]
        given = whole[tuple(slice(first, first + side) for first, side in zip(start, window, strict=True))]
        values = compute(given[None])[0]
        skip = [stride // 2 if overlap else 0 for stride, overlap in zip(strides, overlaps, strict=True)]
        kept = values[tuple(slice(k, k + stride) for k, stride in zip(skip, strides, strict=True))]
        into = [slice(a + k, a + k + stride) for a, k, stride in zip(start, skip, strides, strict=True)]
        result[tuple(into)] = kept[..., :2]
    inside = tuple(slice(stride, stride + size) for stride, size in zip(strides, image.shape, strict=True))
    return np.moveaxis(result[inside], -1, 0)


WINDOWS = st.sampled_from([4, 8, 12, 20, 32])


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 20), SIZES, SIZES),
    st.sampled_from([2, 3]),
    st.tuples(WINDOWS, WINDOWS, WINDOWS),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_deepscems_way_gives_what_deepscem_gives(
    shape: tuple[int, int, int], dimension: int, window: tuple[int, int, int], overlap: bool, seed: int
) -> None:
    image = np.random.default_rng(seed).random(shape, np.float32)
    plan = plan_as_deepscem(shape, dimension, DIVISOR, RADIUS, window[3 - dimension :], overlap)
    if dimension == 2:
        expected = as_deepscem(image, (1, *window[1:]), (False, overlap, overlap), 2)
    else:
        expected = as_deepscem(image, window, (overlap,) * 3, 3)
    np.testing.assert_array_equal(predict(image, plan), expected)


@pytest.mark.parametrize("overlap", [False, True])
def test_deepscems_windows_own_every_voxel_once_and_none_owns_nothing(overlap: bool) -> None:
    for size in range(1, 70):
        for side in (4, 8, 32):
            (_, axis, _) = plan_as_deepscem((1, size, 1), 2, 1, 0, (side, side), overlap).axes
            owned = np.zeros(size, int)
            for start, (first, last) in zip(axis.starts, axis.cores, strict=True):
                assert start <= first < last <= start + side
                owned[first:last] += 1
            assert (owned == 1).all()


def test_deepscems_usual_window_and_those_that_it_cannot_have() -> None:
    assert plan_as_deepscem((3, 50, 900), 2, 16, 0).tile == (1, 256, 256)
    assert plan_as_deepscem((3, 50, 900), 3, 16, 0).tile == (64, 256, 256)
    assert plan_as_deepscem((3, 50, 90), 2, 2, 0, (1, 34, 34), overlap=False).tile == (1, 34, 34)
    for dimension, window, words in (
        (2, (34, 32), "34,32.*multiples of 4.*--patch-size 32,32"),
        (3, (4, 32, 32), "multiples of 8.*--patch-size 8,32,32"),
        (3, (32, 32), "does not suit a 3D network"),
    ):
        with pytest.raises(ParameterError, match=words):
            plan_as_deepscem((9, 50, 50), dimension, 2 if dimension == 2 else 8, 0, window)


def test_deepscems_way_holds_no_more_than_a_window_of_slices() -> None:
    for layer in plan_as_deepscem((500, 40, 40), 3, DIVISOR, RADIUS, (16, 16, 16)).layers():
        assert layer.read[1] - layer.read[0] <= 16
        assert layer.read[0] <= layer.own[0] < layer.own[1] <= layer.read[1]
