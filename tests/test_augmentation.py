"""What is done to patches: alike to image and labels, as strong as asked for, and nothing where it is off."""

from dataclasses import replace

import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.augmentation import augmenter, warp
from deepscem_tui.engine.augmentation.augmenter import Augmenter
from deepscem_tui.engine.augmentation.opencv import as_float32
from deepscem_tui.engine.augmentation.orientation import Orientation
from deepscem_tui.engine.augmentation.recipes import AUGMENTATIONS, GROUPS, parse, strengths
from deepscem_tui.engine.augmentation.warp import Slip, Warp, draw_slip, draw_warp, turns_in_space, warped
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.patches import PatchSampler, Source
from deepscem_tui.engine.patches.labels import pack

CUBES, THICK = (5.0, 5.0, 5.0), (40.0, 5.0, 5.0)
CHANGES = {name: change for name, _, change in augmenter._CHANGES}


def reader(image: np.ndarray, *masks: np.ndarray):
    """Reads boxes of arrays, and refuses any that leaves them."""

    def read(box):
        assert all(0 <= s.start < s.stop <= n for s, n in zip(box, image.shape, strict=True)), box
        return image[box], pack([mask[box] for mask in masks], image[box].shape)

    return read


def texture(shape, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.2 + 0.6 * rng.random(shape)).astype(np.float32)


# ------------------------------------------------------------------------------------------------ recipes


def test_groups() -> None:
    assert strengths("none") == {}
    assert set(strengths("flips")) == {"mirror", "turn"}
    assert strengths("standard") == dict.fromkeys(AUGMENTATIONS, 1.0)
    assert all(GROUPS["strong"][name] >= 1 for name in AUGMENTATIONS)
    changed = strengths("flips", ["noise=2", "turn=0"])
    assert changed == {"mirror": 1.0, "noise": 2.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rotaton=1", "did you mean 'rotation'"),
        ("qqq=1", "there are mirror, turn"),
        ("noise", "must be NAME=STRENGTH"),
        ("noise=much", "must be NAME=STRENGTH"),
        ("noise=-1", "from 0 to 3"),
        ("noise=nan", "from 0 to 3"),
    ],
)
def test_what_is_no_augmentation_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)
    with pytest.raises(ParameterError, match=words) as raised:
        build(ACTIONS["train"], {"model": "m", "out": "o", "train": "t", "augment": [text]})
    assert "--augment" in str(raised.value)


def test_several_may_be_typed_in_one_line() -> None:
    given = p.Train(model="m", out="o", train="t", augment="noise=0.50, blur=0")
    assert given.augment == ("noise=0.5", "blur=0")


# ------------------------------------------------------------------------------------------------ grey values


@pytest.mark.parametrize("shape", [(1, 24, 20), (6, 24, 20)])
@pytest.mark.parametrize("name", CHANGES)
def test_each_change_of_grey_values_does_something_and_more_when_stronger(name: str, shape) -> None:
    image = texture(shape)

    def mean_change(strength: float) -> float:
        total = 0.0
        for seed in range(20):
            changed = image.copy()
            CHANGES[name](changed, strength, np.random.default_rng(seed))
            assert changed.shape == shape
            assert np.isfinite(changed).all()
            total += float(np.abs(changed - image).mean())
        return total / 20

    weak, usual, strong = mean_change(0.25), mean_change(1.0), mean_change(2.0)
    assert 0 < weak < usual < strong


@pytest.mark.parametrize("name", CHANGES)
def test_an_augmentation_that_is_off_changes_nothing(name: str) -> None:
    image = texture((2, 16, 16))
    before = image.copy()
    on = Augmenter({name: 1.0}, image.shape, None)
    off = Augmenter(strengths("none", [f"{name}=0"]), image.shape, None)
    for seed in range(20):
        off.change_grey_values(image, np.random.default_rng(seed))
    assert np.array_equal(image, before)
    for seed in range(60):
        on.change_grey_values(image, np.random.default_rng(seed))
    assert not np.array_equal(image, before)


def test_grey_values_stay_within_0_and_1_whatever_happens() -> None:
    everything = Augmenter(dict.fromkeys(AUGMENTATIONS, 3.0), (5, 16, 16), None)
    rng = np.random.default_rng(0)
    for seed in range(100):
        image = rng.random((5, 16, 16), dtype=np.float32)
        everything.change_grey_values(image, np.random.default_rng(seed))
        assert np.isfinite(image).all()
        assert 0 <= image.min() <= image.max() <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_image_is_no_obstacle(value: float) -> None:
    everything = Augmenter(dict.fromkeys(AUGMENTATIONS, 3.0), (1, 3, 2), None)
    for seed in range(50):
        image = np.full((1, 3, 2), value, np.float32)
        everything.change_grey_values(image, np.random.default_rng(seed))
        assert np.isfinite(image).all()


def test_one_that_is_off_does_not_change_what_others_do() -> None:
    image, other = texture((1, 16, 16)), texture((1, 16, 16))
    for seed in range(20):
        Augmenter({"brightness": 1.0}, image.shape, None).change_grey_values(image, np.random.default_rng(seed))
        Augmenter({"brightness": 1.0, "noise": 0.0}, image.shape, None).change_grey_values(
            other, np.random.default_rng(seed)
        )
    assert np.array_equal(image, other)


def test_missing_sections_leave_most_slices_of_a_deep_patch() -> None:
    image = texture((20, 16, 16))
    for seed in range(30):
        changed = image.copy()
        CHANGES["missing-sections"](changed, 1.0, np.random.default_rng(seed))
        assert 1 <= sum(not np.array_equal(a, b) for a, b in zip(changed, image, strict=True)) <= 2


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint8])
def test_any_type_becomes_float32_exactly(kind) -> None:
    values = np.array([0, 1, 0.333, 6e-8, -2, 65504, np.nan, np.inf, -np.inf], np.float16)
    values = (values if kind != np.uint8 else np.arange(9)).astype(kind)
    array = np.broadcast_to(values, (3, 4, 9))[:, ::2]
    assert np.array_equal(as_float32(array), array.astype(np.float32), equal_nan=True)
    assert as_float32(np.zeros((0, 3), kind)).shape == (0, 3)


# ------------------------------------------------------------------------------------------------ geometry


def coordinates(shape) -> np.ndarray:
    """An image that says where it is: linear in Z, Y and X, so that linear interpolation is exact."""
    z, y, x = np.indices(shape)
    return (z * 0.02 + y * 0.004 + x * 0.003).astype(np.float32)


def drawn(patch, voxel_size, *amounts: float, n: int = 8) -> list[Warp]:
    return [draw_warp(patch, voxel_size, amounts, np.random.default_rng(seed)) for seed in range(n)]


@pytest.mark.parametrize("amounts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])
@pytest.mark.parametrize(
    ("patch", "voxel_size"), [((1, 24, 24), None), ((6, 24, 20), THICK), ((12, 20, 24), CUBES), ((1, 40, 16), None)]
)
def test_labels_are_warped_as_the_image_is(patch, voxel_size, amounts) -> None:
    shape = (30, 90, 90)
    image = coordinates(shape)
    start = (12 if patch[0] == 1 else 9, 33, 33)
    cut = float(image[start[0] + patch[0] // 2, 45, 45])
    for one in drawn(patch, voxel_size, *amounts):
        result, bits = warped(reader(image, image > cut, image <= cut), shape, start, patch, one)
        assert result.shape == patch
        assert bits.shape == (1, *patch)
        inside = (bits[0] & 1).astype(bool)
        assert np.array_equal(inside, (bits[0] & 2) == 0)
        # A label's voxel is the nearest, so that it may differ where the image is within a voxel of the border.
        doubtful = np.abs(result - cut) < 0.5 * (0.02 + 0.004 + 0.003)
        assert np.array_equal(inside[~doubtful], (result > cut)[~doubtful])
        assert 0.05 < inside.mean() < 0.95


@pytest.mark.parametrize("patch", [(1, 16, 16), (8, 16, 16)])
def test_a_warp_that_does_nothing_gives_the_patch(patch) -> None:
    image = texture((12, 40, 40))
    mask = image > 0.5
    box = tuple(slice(s, s + n) for s, n in zip((2, 5, 7), patch, strict=True))
    for same in (Warp(np.eye(3)), Warp(bend=np.zeros((3, 2, 3, 3), np.float32)), Warp(slip=Slip(0, 0, 3, -2))):
        result, bits = warped(reader(image, mask), image.shape, (2, 5, 7), patch, same)
        assert np.allclose(result, image[box], atol=1e-6)
        assert np.array_equal(bits[0], mask[box])


def test_a_rotation_by_a_right_angle_is_a_turn() -> None:
    image = texture((5, 33, 33))
    quarter = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    result, bits = warped(reader(image, image > 0.5), image.shape, (1, 8, 8), (3, 17, 17), Warp(quarter))
    turned = np.rot90(image[1:4, 8:25, 8:25], -1, axes=(1, 2))
    assert np.allclose(result, turned, atol=1e-5) or np.allclose(result, np.rot90(turned, 2, axes=(1, 2)), atol=1e-5)
    assert np.array_equal(bits[0] == 1, result > 0.5)


def test_a_turn_in_space_reads_the_slices_across() -> None:
    image = texture((21, 21, 21))
    upright = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    result, bits = warped(reader(image, image > 0.5), image.shape, (5, 5, 5), (11, 11, 11), Warp(upright))
    inner = image[5:16, 5:16, 5:16]
    assert any(np.allclose(result, inner.transpose(1, 0, 2)[a, b], atol=1e-5) for a, b in [
        (slice(None, None, -1), slice(None)), (slice(None), slice(None, None, -1))
    ])  # fmt: skip
    assert np.array_equal(bits[0] == 1, result > 0.5)


def test_large_volumes_are_laid_in_several_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    image = texture((20, 40, 40))
    one = draw_warp((9, 16, 16), CUBES, (1, 1, 1), np.random.default_rng(3))
    whole = warped(reader(image, image > 0.5), image.shape, (5, 12, 12), (9, 16, 16), one)
    monkeypatch.setattr(warp, "_SIDE", 100)
    parts = warped(reader(image, image > 0.5), image.shape, (5, 12, 12), (9, 16, 16), one)
    assert np.allclose(whole[0], parts[0], atol=1e-3)
    assert np.array_equal(whole[1], parts[1])


def test_more_than_the_patch_is_read_where_there_is_room_and_mirrored_where_not() -> None:
    image = coordinates((1, 64, 64))
    zoomed_out = Warp(np.diag([1.0, 2.0, 2.0]))
    middle, _ = warped(reader(image), image.shape, (0, 24, 24), (1, 16, 16), zoomed_out)
    assert middle[0, 0, 0] == pytest.approx(image[0, 31 - 15, 31 - 15], abs=0.004)  # real data, beyond the patch
    corner, _ = warped(reader(image), image.shape, (0, 0, 0), (1, 16, 16), zoomed_out)
    assert corner[0, 0, 0] == pytest.approx(0.5 * (0.004 + 0.003) * 15, abs=0.006)  # 7.5 voxels out: 7.5 in
    assert np.isfinite(corner).all()


@pytest.mark.parametrize("start", [(0, 0, 0), (0, 4, 2)])
def test_a_sample_no_larger_than_its_patch_can_be_warped(start) -> None:
    shape, patch = (3, 20, 18), (3, 16, 16)
    image = texture(shape)
    for voxel_size in (THICK, CUBES):
        for one in drawn(patch, voxel_size, 3, 3, 3):
            for slip in (None, Slip(1, 9, 8, -8)):
                result, _ = warped(reader(image, image > 0.5), shape, start, patch, replace(one, slip=slip))
                assert result.min() >= image.min() - 1e-6
                assert result.max() <= image.max() + 1e-6


def test_thick_slices_and_flat_patches_turn_only_in_the_plane() -> None:
    assert turns_in_space((16, 32, 32), CUBES)
    for patch, voxel_size in (((16, 32, 32), THICK), ((16, 32, 32), None), ((4, 32, 32), CUBES), ((1, 32, 32), CUBES)):
        assert not turns_in_space(patch, voxel_size)
        for one in drawn(patch, voxel_size, 1, 1, 1):
            assert one.matrix is not None
            assert one.bend is not None
            assert np.array_equal(one.matrix[0], (1, 0, 0))
            assert np.array_equal(one.matrix[:, 0], (1, 0, 0))
            assert not one.bend[0].any()
    assert any(one.matrix[0, 1] != 0 for one in drawn((16, 32, 32), CUBES, 1, 0, 0))


def test_rotations_are_in_the_sample_and_not_in_its_grid() -> None:
    for one in drawn((1, 32, 32), (1.0, 2.0, 1.0), 1, 0, 0):
        sizes = np.diag([1.0, 2.0, 1.0])
        metric = sizes @ one.matrix @ np.linalg.inv(sizes)
        assert np.allclose(metric @ metric.T, np.eye(3))


def test_slips_move_slices_by_whole_pixels_against_each_other() -> None:
    image = texture((8, 40, 40))
    seen = set()
    for seed in range(20):
        slip = draw_slip((6, 16, 16), THICK, 1.0, np.random.default_rng(seed))
        result, bits = warped(reader(image, image > 0.5), image.shape, (1, 12, 12), (6, 16, 16), Warp(slip=slip))
        for z in range(6):
            y, x = (slip.y, slip.x) if slip.first <= z < slip.end else (0, 0)
            assert np.array_equal(result[z], image[z + 1, 12 + y : 28 + y, 12 + x : 28 + x])
        assert np.array_equal(bits[0] == 1, result > 0.5)
        assert 0 < slip.first < 6
        assert (slip.y, slip.x) != (0, 0)
        seen.add(slip.end > 6)
    assert seen == {True, False}


@pytest.mark.parametrize("name", ["rotation", "scaling", "elastic", "shift"])
def test_each_warp_does_something_when_on_and_nothing_when_off(name: str) -> None:
    patch = (6, 16, 16)
    on, off = Augmenter({name: 1.0}, patch, CUBES), Augmenter(strengths("none", [f"{name}=0"]), patch, CUBES)
    assert all(off.draw_geometry(np.random.default_rng(seed)) == (None, Orientation()) for seed in range(40))
    warps = [on.draw_geometry(np.random.default_rng(seed))[0] for seed in range(200)]
    found = [one for one in warps if one is not None]
    assert 15 < len(found) < 80  # a fifth
    image = texture((12, 40, 40))
    changed, _ = warped(reader(image), image.shape, (3, 12, 12), patch, found[0])
    assert not np.allclose(changed, image[3:9, 12:28, 12:28])


def test_mirrors_and_turns_have_switches_of_their_own() -> None:
    cases = {}
    for on in (["mirror=1"], ["turn=1"], ["mirror=1", "turn=1"]):
        one = Augmenter(strengths("none", on), (1, 8, 8), None)
        cases[tuple(on)] = {one.draw_geometry(np.random.default_rng(seed))[1] for seed in range(100)}
    assert {case.order for case in cases["mirror=1",]} == {(0, 1, 2)}
    assert {case.mirrored for case in cases["turn=1",]} == {(False, False, False)}
    assert {case.order for case in cases["turn=1",]} == {(0, 1, 2), (0, 2, 1)}
    assert len(cases["mirror=1", "turn=1"]) == 16


# ------------------------------------------------------------------------------------------------ in the sampler


@pytest.mark.parametrize(("patch", "voxel_size"), [((1, 16, 16), None), ((8, 16, 16), CUBES), ((8, 16, 16), THICK)])
def test_patches_with_everything_on_are_whole_and_the_same_again(patch, voxel_size) -> None:
    shape = (12, 40, 48)
    image = texture(shape)
    image[3, 5] = np.nan
    masks = [(image > cut).astype(np.uint8) for cut in np.linspace(0.2, 0.8, 10)]
    counts = np.array([np.count_nonzero(mask, axis=(1, 2)) for mask in masks])
    source = Source("s", shape, voxel_size, image.astype(np.float16), masks, counts)
    settings = {"focus": 0.5, "augmentation": strengths("strong"), "flat": patch[0] == 1, "seed": 7}
    sampler, again = (PatchSampler([source], patch, 3, **settings) for _ in range(2))
    for step in range(20):
        batch, other = sampler.batch(step), again.batch(step)
        assert batch.images.dtype == np.float32
        assert batch.labels.shape[-1] == 10
        assert np.isfinite(batch.images).all()
        assert 0 <= batch.images.min() <= batch.images.max() <= 1
        assert set(np.unique(batch.labels)) <= {0, 1}
        # The masks are nested, whatever is done to them.
        assert (np.diff(batch.labels.astype(int), axis=-1) <= 0).all()
        assert np.array_equal(batch.images, other.images)
        assert np.array_equal(batch.labels, other.labels)
