"""Where patches are drawn: reproducible, inside the samples, around labels as often as asked."""

from dataclasses import replace

import numpy as np
import pytest

from deepscem_tui.engine.augmentation.orientation import allowed_orders, draw_orientation
from deepscem_tui.engine.augmentation.recipes import strengths
from deepscem_tui.engine.patches import (
    Batch,
    PatchSampler,
    Source,
    assemble,
    by_threads,
)


def make_source(shape: tuple[int, int, int], *masks: np.ndarray, name: str = "s", voxel_size=None) -> Source:
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    foreground = np.array([np.count_nonzero(mask, axis=(1, 2)) for mask in masks]).reshape(len(masks), shape[0])
    return Source(name, shape, voxel_size, image, list(masks), foreground)


def mask_with(shape: tuple[int, int, int], *voxels: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    for voxel in voxels:
        mask[voxel] = 1
    return mask


def make_sampler(sources, patch, **settings) -> PatchSampler:
    settings = {"focus": 0.5, "augmentation": strengths("flips"), "flat": patch[0] == 1, "seed": 3, **settings}
    return PatchSampler(sources, patch, settings.pop("batch_size", 4), **settings)


def made_by_threads(sampler: PatchSampler, steps: range, workers: int) -> list[Batch]:
    with by_threads(sampler, workers) as batches:
        return list(batches(steps, None))


@pytest.mark.parametrize("patch", [(1, 4, 4), (4, 4, 4), (2, 8, 4)])
def test_a_batch_is_a_function_of_seed_and_step(patch: tuple[int, int, int]) -> None:
    sources = [make_source((6, 16, 12), mask_with((6, 16, 12), (1, 2, 3), (5, 15, 11)))]
    one, two = make_sampler(sources, patch), make_sampler(sources, patch)
    two.batch(9)  # what was drawn before does not matter
    assert np.array_equal(one.batch(5).images, two.batch(5).images)
    assert np.array_equal(one.batch(5).labels, two.batch(5).labels)
    assert not np.array_equal(one.batch(5).images, one.batch(6).images)
    assert not np.array_equal(one.batch(5).images, make_sampler(sources, patch, seed=4).batch(5).images)


def test_shapes_and_types() -> None:
    shape = (6, 16, 12)
    source = make_source(shape, mask_with(shape, (0, 0, 0)), mask_with(shape, (1, 1, 1)))
    flat = make_sampler([source], (1, 8, 4)).batch(0)
    assert flat.images.shape == (4, 8, 4, 1)
    assert flat.labels.shape == (4, 8, 4, 2)
    deep = make_sampler([source], (2, 8, 4)).batch(0)
    assert deep.images.shape == (4, 2, 8, 4, 1)
    assert deep.labels.shape == (4, 2, 8, 4, 2)
    assert (deep.images.dtype, deep.labels.dtype) == (np.float32, np.uint8)


def test_image_and_labels_are_turned_alike() -> None:
    shape = (8, 8, 8)
    rng = np.random.default_rng(0)
    mask = rng.integers(2, size=shape).astype(np.uint8)
    source = Source(
        "s", shape, (1.0, 1.0, 1.0), mask.astype(np.float32), [mask], np.count_nonzero(mask, axis=(1, 2))[None]
    )
    for step in range(5):
        batch = make_sampler([source], (4, 4, 4)).batch(step)
        assert np.array_equal(batch.images, batch.labels)


@pytest.mark.parametrize("focus", [0.0, 0.3, 1.0])
def test_label_focus_is_a_true_share(focus: float) -> None:
    shape = (1, 64, 64)
    source = make_source(shape, mask_with(shape, (0, 32, 32)))
    sampler = make_sampler([source], (1, 2, 2), focus=focus, augmentation={})
    n = 1000
    hits = sum(sampler.box(step, 0).start == (0, 31, 31) for step in range(n))
    spread = 4 * np.sqrt(n * focus * (1 - focus))  # 4 standard deviations
    assert abs(hits - focus * n) <= spread + n / 62**2 + 2


def test_focus_is_balanced_over_labels_and_follows_their_voxels() -> None:
    shape = (2, 16, 16)
    rare, common = mask_with(shape, (0, 8, 8)), np.zeros(shape, np.uint8)
    common[1] = 1
    sampler = make_sampler([make_source(shape, rare, common)], (1, 2, 2), focus=1.0, augmentation={})
    first_slice = sum(sampler.box(step, 0).start[0] == 0 for step in range(400))
    assert 150 < first_slice < 250


def test_focus_is_balanced_over_the_samples_that_have_the_label() -> None:
    shape = (1, 16, 16)
    much, little = np.ones(shape, np.uint8), mask_with(shape, (0, 8, 8))
    blank = mask_with(shape)
    sources = [make_source(shape, much, blank), make_source(shape, little, blank), make_source(shape, blank, little)]
    sampler = make_sampler(sources, (1, 2, 2), focus=1.0)
    drawn = [sampler.box(step, 0).source for step in range(800)]
    # Half of the patches for each label; those of the first evenly in the two samples that have it.
    for index, expected in enumerate((200, 200, 400)):
        assert abs(drawn.count(index) - expected) < 60


def test_samples_count_by_volume_or_equally() -> None:
    small, large = (1, 8, 8), (3, 16, 16)
    sources = [make_source(shape, mask_with(shape)) for shape in (small, large)]
    for weights, expected in (("volume", 1000 / 13), ("equal", 500)):
        sampler = make_sampler(sources, (1, 2, 2), focus=0.0, weights=weights)
        found = sum(sampler.box(step, 0).source == 0 for step in range(1000))
        assert abs(found - expected) < 4 * np.sqrt(expected)


def test_the_number_of_workers_changes_nothing() -> None:
    shape = (5, 40, 40)
    rng = np.random.default_rng(0)
    mask = rng.integers(2, size=shape).astype(np.uint8)
    source = replace(make_source(shape, mask), image=rng.random(shape, np.float32))
    sampler = make_sampler([source], (4, 16, 16), augmentation=strengths("strong"))
    one, many = (made_by_threads(sampler, range(20), workers) for workers in (1, 4))
    for a, b in zip(one, many, strict=True):
        assert np.array_equal(a.images, b.images)
        assert np.array_equal(a.labels, b.labels)


def test_a_blank_label_and_a_blank_sample_are_no_obstacle() -> None:
    shape = (2, 8, 8)
    blank = make_source(shape, mask_with(shape), name="blank")
    full = make_source(shape, mask_with(shape, (1, 4, 4)), name="full")
    sampler = make_sampler([blank, full], (1, 4, 4), focus=1.0)
    assert {sampler.box(step, 0).source for step in range(20)} == {1}
    make_sampler([blank], (1, 4, 4), focus=1.0).batch(0)


def test_boxes_stay_inside() -> None:
    shape = (3, 9, 7)
    corners = mask_with(shape, (0, 0, 0), (2, 8, 6))
    sampler = make_sampler([make_source(shape, corners)], (2, 4, 4), focus=0.5)
    starts = [sampler.box(step, 0).start for step in range(50)]
    assert {(0, 0, 0), (1, 5, 3)} <= set(starts)  # the corners, where the foreground is
    for start in starts:
        assert all(0 <= s <= n - size for s, n, size in zip(start, shape, (2, 4, 4), strict=True))


@pytest.mark.parametrize("workers", [1, 3])
def test_prefetching_keeps_the_order_and_passes_errors_on(workers: int) -> None:
    source = make_source((9, 4, 4), mask_with((9, 4, 4)))
    sampler = make_sampler([source], (1, 4, 4))
    made = made_by_threads(sampler, range(12), workers)
    assert len(made) == 12
    assert all(np.array_equal(batch.images, sampler.batch(step).images) for step, batch in enumerate(made))

    class Gone:
        def __getitem__(self, _):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        made_by_threads(make_sampler([replace(source, image=Gone())], (1, 4, 4)), range(1), workers)


@pytest.mark.parametrize(
    ("patch", "voxel_size", "n"),
    [
        ((1, 8, 8), None, 2),  # quarter turns in the plane
        ((8, 8, 8), None, 2),  # slices may be thicker: not between planes
        ((8, 8, 8), (5.0, 5.0, 5.0), 6),
        ((8, 8, 8), (20.0, 5.0, 5.0), 2),
        ((8, 8, 8), (5.0, 5.0, 6.0), 2),
        ((4, 8, 8), (5.0, 5.0, 5.0), 2),
        ((1, 8, 4), None, 1),
    ],
)
def test_turns_need_equal_sides_and_voxels(patch, voxel_size, n: int) -> None:
    orders = allowed_orders(patch, voxel_size)
    assert len(orders) == n
    assert (0, 1, 2) in orders
    for order in orders:
        assert np.zeros(patch).transpose(order).shape == patch


def test_all_eight_symmetries_of_the_plane_occur_equally() -> None:
    array = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    rng = np.random.default_rng(0)
    orders = allowed_orders((1, 2, 2), None)
    seen = [tuple(draw_orientation(orders, 1, 1, rng).apply(array).ravel()) for _ in range(800)]
    counts = [seen.count(case) for case in set(seen)]
    assert len(counts) == 8
    assert min(counts) > 60


def test_assemble_drops_z_only_for_flat_networks() -> None:
    patch = [np.zeros((1, 4, 4), np.float16), np.ones((1, 4, 4), np.uint8)]
    assert assemble([patch], flat=True).images.shape == (1, 4, 4, 1)
    assert assemble([patch], flat=False).images.shape == (1, 1, 4, 4, 1)
