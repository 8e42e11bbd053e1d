"""The action `preview`: the slice that is read, what lies on it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import DataError, EngineError, ParameterError
from deepscem_tui.engine.viewing.preview import SlicePicture, grey_levels, preview

Array = npt.NDArray[Any]
SHAPE = (5, 6, 8)
RAMP = np.broadcast_to(np.arange(5, dtype=np.float32)[:, None, None] / 4 + np.linspace(0, 0.1, 8), SHAPE)


def mask(z: int, count: int) -> npt.NDArray[np.uint8]:
    """The first ``count`` columns of one slice."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[z, :, :count] = 1
    return voxels


def dataset(path: Path, members: dict[str, Array], n_labels: int, image: bool = True) -> Path:
    with new_dataset(path, "test", n_labels, aliases=("mito", "ER")[:n_labels]) as made:
        for name in ("a", "b"):
            everything = ({"image": RAMP.astype(np.float32)} if image else {}) | members
            sample = made.add_sample(
                name, SHAPE, {key: value.dtype for key, value in everything.items()}, {"voxel_size": (30.0, 8.0, 4.0)}
            )
            for key, value in everything.items():
                sample[key][0 : SHAPE[0]] = value
    return path


def look(file: Path, **options: Any) -> SlicePicture:
    result = preview(p.Preview(file=file, **options), Context())
    assert isinstance(result.picture, SlicePicture)
    return result.picture


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return dataset(tmp_path / "true.hdf5", {"label_0000": mask(3, 2), "label_0001": mask(3, 5)}, 2)


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    values = mask(3, 4).astype(np.float32)
    return dataset(tmp_path / "found.hdf5", {"prediction_0000": values * 0.6, "prediction_0001": values * 0.4}, 2)


def test_the_middle_slice_of_the_first_sample(labelled: Path) -> None:
    picture = look(labelled)
    assert (picture.sample, picture.z, picture.aspect) == ("a", 2, 2.0)
    assert picture.image.shape == (6, 8)
    assert picture.image.dtype == np.uint8
    assert (picture.image.min(), picture.image.max()) == (0, 255)
    assert not any(drawn.any() for drawn in picture.masks)


def test_a_chosen_slice_with_its_labels(labelled: Path) -> None:
    picture = look(labelled, sample="b", z=3)
    assert (picture.sample, picture.names) == ("b", ["mito", "ER"])
    assert [int(drawn.sum()) for drawn in picture.masks] == [12, 30]
    assert look(labelled, z=3, overlay="none").masks == []
    assert look(labelled, z=3, overlay="predictions").masks == []


def test_probabilities_are_drawn_where_they_exceed_one_half(predicted: Path) -> None:
    picture = look(predicted, z=3)
    assert [int(drawn.sum()) for drawn in picture.masks] == [24, 0]
    assert picture.names == ["mito", "ER"]


def test_predictions_are_compared_with_the_reference(labelled: Path, predicted: Path) -> None:
    picture = look(predicted, z=3, reference=labelled)
    assert picture.reference is not None
    assert [int(drawn.sum()) for drawn in picture.masks] == [24, 0]
    assert [int(drawn.sum()) for drawn in picture.reference] == [12, 30]
    alone = look(predicted, z=3, reference=labelled, label=picture.names[1])
    assert alone.names == picture.names[1:2]
    assert alone.reference is not None
    assert [int(drawn.sum()) for drawn in alone.reference] == [30]
    with pytest.raises(ParameterError, match="no label 'axon'"):
        look(predicted, z=3, reference=labelled, label="axon")


def test_predictions_without_an_image_lie_on_grey(tmp_path: Path) -> None:
    path = dataset(tmp_path / "bare.hdf5", {"prediction_0000": mask(1, 3)}, 1, image=False)
    picture = look(path, z=1)
    assert set(np.unique(picture.image)) == {128}
    assert int(picture.masks[0].sum()) == 18


def test_an_image_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", (RAMP * 100).astype(np.uint16))
    picture = look(tmp_path / "image.tif", z=4, style="ascii", width=40)
    assert (picture.sample, picture.z, picture.style, picture.width) == ("image", 4, "ascii", 40)
    assert picture.image[0, 0] < picture.image[0, -1]


def test_a_large_volume_is_not_read_whole(tmp_path: Path) -> None:
    """A file of 40 TB, all holes: only its slice can be read."""
    header = np.lib.format.open_memmap(tmp_path / "small.npy", "w+", np.uint8, (1, 64, 64))
    del header
    content = (tmp_path / "small.npy").read_bytes()[:128]
    large = content.replace(b"(1, 64, 64), }         ", b"(1000000, 64, 64), }   ")
    with (tmp_path / "large.npy").open("wb") as file:
        file.write(large)
        file.truncate(128 + 1000000 * 64 * 64)
    assert look(tmp_path / "large.npy").z == 500000


def test_grey_levels() -> None:
    assert set(np.unique(grey_levels(np.full((4, 4), 7.0)))) == {128}
    assert grey_levels(np.array([[np.nan, 0.0], [1.0, np.inf]])).tolist() == [[0, 0], [255, 255]]
    spiky = np.r_[np.linspace(0, 1, 999), 1000.0].reshape(10, 100)
    assert grey_levels(spiky)[5, 0] > 100  # one hot voxel does not make the rest black
    assert grey_levels(np.array([[0] * 999 + [9]])).max() == 255  # nor does one make it vanish


@pytest.mark.parametrize(
    ("case", "error", "words"),
    [
        ({"z": 5}, ParameterError, ["--z is 5", "0 to 4"]),
        ({"label": "mito"}, ParameterError, ["--reference"]),
        ({"sample": "c"}, DataError, ["'c'"]),
        ({"reference": "one.hdf5"}, DataError, ["1 label", "not 2"]),
        ({"file": "image.tif", "sample": "a"}, ParameterError, ["SAMPLE", "image file"]),
        ({"file": "image.tif", "reference": "one.hdf5"}, ParameterError, ["--reference", "image file"]),
        ({"file": "nothing.hdf5"}, DataError, ["nothing.hdf5"]),
    ],
)
def test_what_cannot_be_shown_is_refused(
    labelled: Path, tmp_path: Path, case: dict[str, Any], error: type[EngineError], words: list[str]
) -> None:
    dataset(tmp_path / "one.hdf5", {"label_0000": mask(3, 2)}, 1)
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((4, 4), np.uint8))
    values = {key: tmp_path / value if key in ("file", "reference") else value for key, value in case.items()}
    with pytest.raises(error) as raised:
        look(**{"file": labelled, **values})
    assert all(word in str(raised.value) for word in words), str(raised.value)
