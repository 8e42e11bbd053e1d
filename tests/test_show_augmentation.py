"""The action `show-augmentation`: the picture and the text, the same again, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import DatasetError, EngineError, ParameterError
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.training.show_augmentation import show_augmentation
from deepscem_tui.engine.viewing.picture_files import LABEL_COLOURS
from deepscem_tui.render import marks

SHAPE = (6, 40, 44)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 10:30, 10:30] = 1
    with new_dataset(tmp_path / "d.hdf5", "d", 2, ("mito", "ER")) as made:
        sample = made.add_sample("a", SHAPE, {"image": np.float32, "label_0000": np.uint8, "label_0001": np.uint8})
        sample["image"][0:6], sample["label_0000"][0:6] = image, mask
    return tmp_path / "d.hdf5"


def show(file: Path, out: str = "out.png", **options: Any) -> Result:
    given = p.ShowAugmentation(file=file, out=file.parent / out, **options)
    return show_augmentation(given, Context())


def test_a_grid_of_places_and_what_is_made_of_them(dataset: Path) -> None:
    result = show(dataset, patch_size=(16, 24), rows=2, columns=3)
    colours = imagecodecs.png_decode((dataset.parent / "out.png").read_bytes())
    assert colours.shape == (2 * 16 + 4, 3 * 24 + 8, 3)
    picture = result.picture
    assert picture.image.shape == colours.shape[:2]
    assert list(picture.names) == ["mito", "ER"]
    assert picture.masks[0].any()
    assert not picture.masks[1].any()
    drawn = (colours == LABEL_COLOURS[0]).all(axis=-1)
    assert drawn.any()
    assert not (drawn & ~picture.masks[0]).any()
    grey = ~drawn
    assert np.array_equal(colours[grey], np.repeat(picture.image[..., None], 3, axis=-1)[grey])
    assert result.facts["patch_size"] == [1, 16, 24]


def test_the_first_of_a_row_is_as_it_is_and_all_are_where_nothing_is_done(dataset: Path) -> None:
    def cells(**options: Any) -> list[np.ndarray]:
        image = show(dataset, patch_size=(16, 24), rows=1, columns=4, overwrite=True, **options).picture.image
        return [image[:, start : start + 24] for start in range(0, 4 * 28, 28)]

    still, moved = cells(augmentation="none"), cells(augmentation="strong")
    assert all(np.array_equal(still[0], cell) for cell in still)
    assert np.array_equal(still[0], moved[0])
    assert not any(np.array_equal(moved[0], cell) for cell in moved[1:])
    assert all(np.array_equal(a, b) for a, b in zip(moved, cells(augmentation="strong"), strict=True))
    other = cells(augmentation="strong", seed=1)
    assert not np.array_equal(other[0], moved[0])
    noisy = cells(augmentation="none", augment=["noise=3"])
    assert sum(not np.array_equal(noisy[0], cell) for cell in noisy) >= 1


def test_deep_patches_are_shown_with_the_section_across(dataset: Path) -> None:
    result = show(dataset, patch_size=(4, 16, 24), rows=1, columns=2)
    assert result.picture.image.shape == (16 + 4 + 4, 24 + 4 + 24)


def test_a_data_set_without_labels_can_be_shown(tmp_path: Path) -> None:
    with new_dataset(tmp_path / "d.hdf5", "d", 0) as made:
        sample = made.add_sample("a", (1, 20, 20), {"image": np.float32})
        sample["image"][0:1] = np.random.default_rng(0).random((1, 20, 20), np.float32)
    assert show(tmp_path / "d.hdf5", patch_size=(8, 8)).picture.image.any()


def test_colours_are_those_of_the_terminal() -> None:
    assert LABEL_COLOURS == marks._COLOURS


def test_a_dry_run_writes_nothing(dataset: Path) -> None:
    result = show(dataset, dry_run=True, augmentation="flips")
    assert "mirror 1, turn 1" in result.summary
    assert not (dataset.parent / "out.png").exists()


@pytest.mark.parametrize(
    ("case", "error", "words"),
    [
        ({"out": "d.hdf5"}, ParameterError, "exists"),
        ({"out": "x.jpg"}, ParameterError, ".png"),
        ({"patch_size": (64, 64)}, ParameterError, "sample 'a' of .*d.hdf5 has 40"),
        ({"file": "empty.hdf5"}, DatasetError, "no samples"),
        ({"file": "predicted.hdf5"}, DatasetError, "0 of 1 labels"),
    ],
)
def test_what_cannot_be_shown_is_refused(dataset: Path, case: dict, error: type[EngineError], words: str) -> None:
    with new_dataset(dataset.parent / "empty.hdf5", "e", 1):
        pass
    with new_dataset(dataset.parent / "predicted.hdf5", "p", 1) as made:
        made.add_sample("a", SHAPE, {"image": np.float32, "prediction_0000": np.uint8})
    file = dataset.parent / case.pop("file", "d.hdf5")
    with pytest.raises(error, match=words):
        show(file, **case)
