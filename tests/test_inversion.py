"""Images that are the other way round than those that a model learned from are told, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_prediction import Listener, run
from test_prediction import models as models  # the fixture

from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.models.files import load_model, save_model
from deepscem_tui.engine.models.info import GREY_VALUES
from deepscem_tui.engine.sources.inversion import grey_values, looks_inverted


def tissue(seed: int, shape: tuple[int, int, int] = (4, 40, 48)) -> np.ndarray:
    """Bright, with dark parts: as stained tissue in block-face images, 0 to 1."""
    rng = np.random.default_rng(seed)
    image = np.clip(rng.normal(0.7, 0.1, shape), 0, 1)
    image[rng.random(shape) < 0.2] *= 0.3
    image.flat[:2] = 0, 1
    return image.astype(np.float32)


def dataset(path: Path, **images: np.ndarray) -> Path:
    with new_dataset(path, path.stem, 0) as made:
        for name, image in images.items():
            made.add_sample(name, image.shape, {"image": np.float32})["image"][0 : len(image)] = image
    return path


def test_grey_values_are_shares_of_some_slices(tmp_path: Path) -> None:
    dark, half = np.zeros((40, 8, 8), np.float32), np.full((2, 8, 8), 0.5, np.float32)
    with open_dataset(dataset(tmp_path / "set.hdf5", dark=dark, half=half)) as opened:
        assert grey_values(opened) == [0.5] + [0.0] * 7 + [0.5] + [0.0] * 7


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda image: image, False),
        (lambda image: 1 - image, True),
        (lambda image: 1 - image**1.2, True),
        (lambda image: image**1.3, False),
        (lambda image: np.clip(image * 1.2 - 0.1, 0, 1), False),
        (lambda image: np.random.default_rng(0).random(image.shape), False),
    ],
)
def test_what_looks_inverted(change: object, expected: bool, tmp_path: Path) -> None:
    found = []
    for name, image in (("known", tissue(0)), ("new", change(tissue(1)))):  # type: ignore[operator]
        with open_dataset(dataset(tmp_path / f"{name}.hdf5", image=image)) as opened:
            found.append(grey_values(opened))
    assert looks_inverted(found[1], found[0]) is expected


def test_prediction_tells(models: dict[str, Path], tmp_path: Path) -> None:
    """Of samples and of image files of any type; and nothing where the model does not know."""
    with open_dataset(dataset(tmp_path / "known.hdf5", a=tissue(0))) as opened:
        known = grey_values(opened)
    network, info = load_model(models["2d"])
    model = tmp_path / "model.keras"
    save_model(network, replace(info, training={"epochs": 1, GREY_VALUES: known}), model, overwrite=True)
    file = dataset(tmp_path / "two.hdf5", alike=tissue(1), other=1 - tissue(2))
    tifffile.imwrite(tmp_path / "file.tif", (60000 * (1 - tissue(3)) + 300).astype(np.uint16), photometric="minisblack")
    for source, name in ((file, "other"), (tmp_path / "file.tif", "file")):
        heard = Listener()
        run(model, source, tmp_path / "out.hdf5", Context(heard), overwrite=True)
        assert [text.partition(" looks inverted")[0] for text in heard.warnings if "inverted" in text] == [f"'{name}'"]
    heard = Listener()
    run(models["2d"], file, tmp_path / "out.hdf5", Context(heard), overwrite=True)
    assert not any("inverted" in text for text in heard.warnings)
