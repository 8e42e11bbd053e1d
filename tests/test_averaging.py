"""The mean over mirrored and turned tiles does not depend on how the image lies."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from test_tiled import Array

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.prediction.averaging import averaged, symmetries
from deepscem_tui.engine.prediction.predict import predict


def lopsided(images: Array) -> Array:
    """Says more of what lies before a voxel than of what lies behind it, along each axis."""
    values = sum((axis + 1) * np.roll(images, 1, axis) for axis in (1, 2, 3))
    return np.stack([values, images], -1).astype(np.float32)


@pytest.mark.parametrize(
    ("dimension", "tile", "n"), [(2, (1, 8, 8), 8), (2, (1, 8, 12), 4), (3, (4, 8, 8), 16), (3, (4, 8, 6), 8)]
)
def test_a_turned_image_gives_the_turned_result(dimension: int, tile: tuple[int, ...], n: int) -> None:
    images = np.random.default_rng(0).random((2, *tile), np.float32)
    chosen = symmetries(tile, dimension)
    assert len(set(chosen)) == len(chosen) == n
    mean = averaged(lopsided, dimension)
    whole = mean(images)
    for turn, axes in chosen:
        turned = np.flip(np.rot90(images, turn, (2, 3)), axes)
        assert turned.shape == images.shape
        np.testing.assert_allclose(mean(turned), np.flip(np.rot90(whole, turn, (2, 3)), axes), atol=1e-5)
    assert np.abs(lopsided(images) - whole).max() > 0.1
    np.testing.assert_allclose(whole[..., 1], images, atol=1e-6)


def test_the_action_averages(tmp_path: Path) -> None:
    create_model(p.CreateModel(out=tmp_path / "m.keras", labels=1, filters=2, depth=2), Context())
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16)).astype(np.uint8)
    found = []
    for name, voxels in (("as it is", image), ("turned", np.rot90(image, 1, (1, 2)))):
        np.save(tmp_path / "image.npy", voxels)
        out = tmp_path / f"{name}.hdf5"
        options = {"probabilities": True, "precision": "float32"}
        predict(
            p.Predict(model=tmp_path / "m.keras", input=tmp_path / "image.npy", out=out, tta=True, **options), Context()
        )
        with h5py.File(out) as file:
            found.append(file["image"]["prediction_0000"][()])
    np.testing.assert_allclose(np.rot90(found[0], 1, (1, 2)), found[1], atol=1e-5)
