"""The synthetic volume is the same for a seed, of any size, and has in it what it should."""

from __future__ import annotations

import numpy as np
import pytest

from deepscem_tui.engine.phantom import make_phantom, smooth_noise


def test_the_same_seed_gives_the_same_volume_and_another_one_another() -> None:
    first, again, other = (make_phantom((4, 48, 40), seed) for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    for name in first.labels:
        assert np.array_equal(first.labels[name], again.labels[name])
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.labels["mitochondria"], other.labels["mitochondria"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 64), (4, 16, 16), (2, 100, 30), (40, 16, 24)])
def test_any_shape(shape: tuple[int, int, int]) -> None:
    phantom = make_phantom(shape, 0)
    assert phantom.image.shape == shape
    assert phantom.image.dtype == np.uint8
    assert list(phantom.labels) == ["mitochondria", "membranes"]
    for label in phantom.labels.values():
        assert label.shape == shape
        assert label.dtype == np.bool_


@pytest.mark.parametrize("seed", range(4))
def test_mitochondria_take_their_share(seed: int) -> None:
    phantom = make_phantom((8, 128, 128), seed)
    assert 0.08 < phantom.labels["mitochondria"].mean() < 0.15
    assert 0.03 < phantom.labels["membranes"].mean() < 0.35
    assert not (phantom.labels["mitochondria"] & phantom.labels["membranes"]).mean() > 0.02


def test_mitochondria_cannot_be_told_by_their_grey_value_alone() -> None:
    phantom = make_phantom((4, 192, 192), 1)
    inside = phantom.labels["mitochondria"]
    assert inside.any()
    best = max(_f1(phantom.image < level, inside) for level in range(60, 200, 5))
    assert best < 0.6
    assert phantom.image[inside].std() > 15  # cristae


def test_membranes_are_dark_lines_in_lighter_cells() -> None:
    phantom = make_phantom((4, 160, 160), 2)
    membranes = phantom.labels["membranes"]
    neither = ~membranes & ~phantom.labels["mitochondria"]
    assert phantom.image[membranes].mean() + 30 < phantom.image[neither].mean()


def test_the_image_uses_the_range_of_its_type_without_clipping() -> None:
    image = make_phantom((4, 128, 128), 0).image
    assert image.std() > 15
    assert np.isin(image, (0, 255)).mean() < 0.01


@pytest.mark.parametrize("size", [1.0, 3.0, 50.0])
def test_smooth_noise_is_standardised_and_smooth(size: float) -> None:
    fields = [smooth_noise(np.random.default_rng(seed), (8, 24, 24), size) for seed in range(60)]
    values = np.stack(fields)
    assert abs(values.mean()) < 0.25
    assert 0.7 < values.std() < 1.3
    steps = np.abs(np.diff(values, axis=-1)).mean()
    assert steps < 2.5 / size


def _f1(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))
