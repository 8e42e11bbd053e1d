"""Tiles cover an image, own every voxel once, lie on the network's grid, and are no more than the cover needs."""

from __future__ import annotations

import json
from math import ceil

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.prediction import tiling
from deepscem_tui.engine.prediction.tiling import cut, plan_tiles

SIZES = st.integers(1, 70)


def _along_axes(values: st.SearchStrategy[int], dimension: int, of_slices: int) -> st.SearchStrategy[object]:
    """One number, or one for each axis."""
    return values | st.tuples(values if dimension == 3 else st.just(of_slices), values, values)


@st.composite
def plans(draw: st.DrawFn) -> tiling.TilePlan:
    dimension = draw(st.sampled_from([2, 3]))
    patch = draw(st.none() | st.tuples(*[st.integers(1, 60)] * dimension))
    return plan_tiles(
        draw(st.tuples(SIZES, SIZES, SIZES)),
        dimension,
        draw(_along_axes(st.sampled_from([1, 2, 4, 8, 16]), dimension, 1)),
        draw(_along_axes(st.integers(0, 40), dimension, 0)),
        patch,
        draw(st.sampled_from(["crop", "blend", "none"])),
    )


@given(plans())
def test_every_voxel_belongs_to_exactly_one_tile_that_covers_it(plan: tiling.TilePlan) -> None:
    for axis in plan.axes:
        owners = np.zeros(axis.size, int)
        for start, (first, last) in zip(axis.starts, axis.cores, strict=True):
            assert start <= first < last <= start + axis.tile
            owners[first:last] += 1
        assert (owners == 1).all()


@given(plans())
def test_each_voxel_lies_deepest_in_its_owner(plan: tiling.TilePlan) -> None:
    for axis in plan.axes:
        for voxel in range(axis.size):
            depths = []
            for start in axis.starts:
                low = np.inf if start == 0 else voxel - start
                high = np.inf if start + axis.tile == axis.padded else start + axis.tile - 1 - voxel
                depths.append(min(low, high))
            (owner,) = [i for i, (first, last) in enumerate(axis.cores) if first <= voxel < last]
            # The middle of an even overlap is half a voxel off: within one voxel of the deepest.
            assert depths[owner] >= min(max(depths), max(depths) - 1)
            if len(axis.starts) > 1:
                assert depths[owner] >= axis.margin


@given(plans())
def test_tiles_lie_on_the_grid_and_inside_the_padded_image(plan: tiling.TilePlan) -> None:
    for axis, step in zip(plan.axes, plan.divisor, strict=True):
        assert axis.padded - axis.size < step
        assert axis.padded % step == axis.tile % step == 0
        assert all(start % step == 0 for start in axis.starts)
        assert axis.starts[0] == 0
        assert axis.starts[-1] == axis.padded - axis.tile
        assert len(set(axis.starts)) == len(axis.starts)


@given(plans())
def test_no_tile_has_its_centre_outside_the_image(plan: tiling.TilePlan) -> None:
    for axis, step in zip(plan.axes, plan.divisor, strict=True):
        # An image up to half a divisor is the exception: the network takes nothing smaller.
        if len(axis.starts) > 1 or axis.tile > step:
            assert all(start + axis.tile / 2 <= axis.size for start in axis.starts)


@given(plans())
@example(tiling.plan_tiles((1, 4, 1), dimension=2, divisor=1, radius=1, patch_size=(2, 2)))
def test_no_fewer_tiles_of_that_length_keep_the_margin(plan: tiling.TilePlan) -> None:
    along = list(zip(plan.axes, plan.divisor, plan.radius, strict=True))
    for axis, step, radius in along[3 - plan.dimension :]:
        if len(axis.starts) > 1 and plan.join != "none":
            overlap = min(ceil(2 * radius / step) * step, 2 * axis.margin)
            fewer = len(axis.starts) - 1
            assert fewer * (axis.tile - overlap) + overlap < axis.padded
        elif len(axis.starts) > 1:
            assert (len(axis.starts) - 1) * axis.tile < axis.padded


@given(plans())
def test_layers_hold_every_tile_once_in_order_of_z(plan: tiling.TilePlan) -> None:
    layers = list(plan.layers(max_voxels=3 * plan.shape[1] * plan.shape[2]))
    assert sum(len(layer.tiles) for layer in layers) == plan.n_tiles
    assert [layer.own[0] for layer in layers] == [0, *(layer.own[1] for layer in layers[:-1])]
    assert layers[-1].own[1] == plan.shape[0]
    for layer in layers:
        assert layer.read[0] <= layer.own[0]
        assert layer.own[1] <= layer.read[1] <= plan.shape[0]
        assert plan.dimension == 3 or layer.read == layer.own


@given(plans())
def test_a_tile_is_cut_out_of_the_reflected_image(plan: tiling.TilePlan) -> None:
    image = np.arange(np.prod(plan.shape)).reshape(plan.shape)
    whole = np.pad(image, [(0, p - s) for p, s in zip(plan.padded, plan.shape, strict=True)], mode="reflect")
    layers = list(plan.layers(4000))
    layer = layers[-1]
    tile = layer.tiles[-1]
    piece = cut(image[layer.read[0] : layer.read[1]], layer.read[0], tile, plan)
    box = tuple(slice(start, start + side) for start, side in zip(tile.start, plan.tile, strict=True))
    assert np.array_equal(piece, whole[box])


@pytest.mark.parametrize(
    ("shape", "dimension", "patch", "tile", "tiles"),
    [
        ((4, 512, 512), 2, None, (1, 512, 512), 4),  # whole slices
        ((4, 512, 512), 2, (256, 256), (1, 208, 208), 4 * 9),  # three a side, none longer than three need
        ((1, 700, 2001), 2, None, (1, 704, 1032), 2),  # more than the budget, so two
        ((3, 5, 7), 2, None, (1, 8, 8), 3),  # smaller than a tile
        ((1, 1, 1), 3, None, (8, 8, 8), 1),
        ((64, 64, 64), 3, None, (64, 64, 64), 1),
        ((20, 500, 500), 3, None, (24, 280, 280), 4),
    ],
)
def test_plans_that_one_would_draw_by_hand(
    shape: tuple[int, int, int], dimension: int, patch: tuple[int, ...] | None, tile: tuple[int, ...], tiles: int
) -> None:
    plan = plan_tiles(shape, dimension, 8, 23, patch)
    assert (plan.tile, plan.n_tiles) == (tile, tiles)


def test_side_by_side_tiles_overlap_only_where_the_image_does_not_divide() -> None:
    plan = plan_tiles((1, 64, 96), 2, 8, 23, (32, 32), "none")
    assert plan.n_tiles == 6
    assert plan.wasted == 0
    assert plan.margin == (0, 0, 0)


def test_the_margin_is_the_radius_where_the_tile_affords_it() -> None:
    generous = plan_tiles((1, 512, 512), 2, 8, 23, (256, 256))
    tight = plan_tiles((1, 512, 512), 2, 8, 100, (256, 256))
    assert min(generous.margin[1:]) >= 23
    assert generous.exact
    assert not generous.shortfall
    assert min(tight.margin[1:]) == 64
    assert not tight.exact
    assert "margin of 64, less than the network's reach of 100" in tight.shortfall


def test_means_over_a_tile_are_told_of_and_the_margin_stays_that_of_the_convolutions() -> None:
    plain, means = (plan_tiles((1, 512, 512), 2, 8, 23, (256, 256), sees_all=sees_all) for sees_all in (False, True))
    assert means.axes == plain.axes
    assert not means.exact
    assert "takes means over all that it is given" in means.shortfall
    assert plan_tiles((1, 512, 512), 2, 8, 23, sees_all=True).exact  # in one piece
    assert tiling.TilePlan.from_json(means.as_json()) == means


def test_a_plan_of_an_earlier_version_is_read() -> None:
    plan = plan_tiles((8, 40, 40), 3, 8, 5, (8, 16, 16))
    earlier = plan.as_json() | {"divisor": 8, "radius": 5}
    del earlier["sees_all"]
    assert tiling.TilePlan.from_json(earlier) == plan


def test_thick_slices_need_less_margin() -> None:
    plan = plan_tiles((60, 300, 300), 3, (2, 8, 8), (3, 20, 20), (20, 128, 128))
    assert plan.exact
    assert 3 <= plan.margin[0] < 20 <= plan.margin[1]
    assert plan.tile[0] % 2 == 0
    assert plan.tile[0] % 8 != 0


def test_a_requested_size_is_fitted_and_said() -> None:
    assert plan_tiles((1, 512, 512), 2, 16, 5, (64, 64)).notes == ()
    (note,) = plan_tiles((1, 512, 40), 2, 16, 5, (50, 64)).notes
    assert "50,64 became 64,48" in note


@pytest.mark.parametrize(("dimension", "patch"), [(3, (32, 32)), (2, (4, 32, 32))])
def test_a_requested_size_of_the_wrong_dimension_is_refused(dimension: int, patch: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match=f"does not suit a {dimension}D network"):
        plan_tiles((8, 64, 64), dimension, 8, 5, patch)


def test_the_plan_is_json() -> None:
    document = json.loads(json.dumps(plan_tiles((2, 100, 100), 2, 8, 5, (64, 64)).as_json()))
    assert document["starts"][0] == [0, 1]
    assert document["tiles"] == 8
