"""The reading side of the slice view: only what is shown, reduced, and what it says where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from deepscem_tui.engine.axes import AXES, Plane
from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset
from deepscem_tui.engine.errors import DataError, EngineError, LockedError
from deepscem_tui.engine.system.lock import locked
from deepscem_tui.engine.viewing.contrast import contrast, settled, stretched
from deepscem_tui.engine.viewing.picture_files import write_new_png
from deepscem_tui.engine.viewing.slices import ArraySlices, FileSlices, Part, SliceTarget

Array = npt.NDArray[Any]
SHAPE = (12, 20, 30)
IMAGE = np.random.default_rng(0).random(SHAPE).astype(np.float32)
LABELS = np.stack([IMAGE > 0.5, IMAGE > 0.9]).astype(np.uint8)
PLANES: tuple[Plane, ...] = ("xy", "xz", "yz")


def dataset(
    path: Path, members: dict[str, Array], sample: str = "a", aliases: tuple[str, ...] = ("mito", "ER")
) -> Path:
    with new_dataset(path, "test", 2, aliases) as made:
        shape = next(iter(members.values())).shape
        types = {key: value.dtype for key, value in members.items()}
        stored = made.add_sample(sample, shape, types, {"voxel_size": (30.0, 8.0, 4.0), "voxel_unit": "nm"})
        for key, value in members.items():
            stored[key][0 : shape[0]] = value
    return path


def labels(found: Array = LABELS, kind: str = "label") -> dict[str, Array]:
    return {f"{kind}_{index:04d}": mask for index, mask in enumerate(found)}


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return dataset(tmp_path / "true.hdf5", {"image": IMAGE} | labels())


def everything(plane: Plane, index: int, shape: tuple[int, int, int] = SHAPE, pixels: int = 100) -> Part:
    _, down, across = AXES[plane]
    return Part(plane, index, (0, shape[down]), (0, shape[across]), (pixels, pixels))


def expected(volume: Array, part: Part) -> Array:
    plane: Array = np.take(volume, part.index, AXES[part.plane][0])
    return plane[slice(*part.rows), slice(*part.columns)]


# ------------------------------------------------------------------------------------------------ data sets


def test_facts_of_a_sample(labelled: Path) -> None:
    facts = FileSlices(SliceTarget(labelled)).facts()
    assert (facts.title, facts.shape, facts.stored) == ("a", SHAPE, "float32")
    assert (facts.voxel_size, facts.voxel_unit) == ((30.0, 8.0, 4.0), "nm")
    assert [(layer.key, layer.name, layer.kind) for layer in facts.layers] == [
        ("label_0000", "mito", "label"),
        ("label_0001", "ER", "label"),
    ]
    assert [facts.aspect(plane) for plane in PLANES] == [2.0, 7.5, 3.75]
    assert facts.compared == ()
    assert "no reference" in facts.no_comparison


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(("rows", "columns"), [((0, 12), (0, 20)), ((3, 7), (5, 6))])
def test_a_part_of_each_plane_is_exactly_what_is_stored(
    labelled: Path, plane: Plane, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    part = Part(plane, 7, rows, columns, (100, 100))
    data = FileSlices(SliceTarget(labelled)).read(part, ["label_0001"])
    assert data.part == part
    assert not data.sampled
    assert data.image is not None
    assert np.array_equal(data.image, expected(IMAGE, part))
    assert set(data.masks) == {"label_0001"}
    assert np.array_equal(data.masks["label_0001"], expected(LABELS[1], part))


@pytest.mark.parametrize("storage", [{"chunks": (8, 64, 64)}, {}, {"chunks": (8, 64, 64), "compression": "gzip"}])
def test_large_slices_are_sampled_and_one_voxel_of_a_mask_is_kept(tmp_path: Path, storage: dict[str, Any]) -> None:
    shape = (16, 256, 320)
    path = tmp_path / "large.hdf5"
    mask = np.zeros(shape, np.uint8)
    mask[9, 131, 203] = 1
    with h5py.File(path, "w") as file:
        file.attrs["name"], file.attrs["labels"] = "large", np.int64(1)
        group = file.create_group("s")
        group.attrs["shape"] = np.asarray(shape)
        group.create_dataset("image", data=np.ones(shape, np.float32) * np.arange(320), **storage)
        group.create_dataset("label_0000", data=mask, **storage)
    source = FileSlices(SliceTarget(path))
    for plane, index in zip(PLANES, (9, 131, 203), strict=True):
        part = everything(plane, index, shape, pixels=4)
        data = source.read(part, ["label_0000"])
        assert data.image is not None
        assert data.sampled
        assert data.image.size < part.lengths[0] * part.lengths[1] / 4
        small = data.masks["label_0000"]
        assert small.shape == data.image.shape
        assert small.sum() == 1
        place = np.argwhere(small)[0] / small.shape
        assert np.allclose(place, [[9, 131, 203][axis] / shape[axis] for axis in AXES[plane][1:]], atol=0.1)


def test_only_a_part_of_a_huge_array_is_read(tmp_path: Path) -> None:
    """An image of 200 GB, all holes: only little of it can be read."""
    path = tmp_path / "huge.hdf5"
    shape = (5000, 3200, 3200)
    with h5py.File(path, "w") as file:
        file.attrs["name"], file.attrs["labels"] = "huge", np.int64(0)
        group = file.create_group("s")
        group.attrs["shape"] = np.asarray(shape)
        group.create_dataset("image", shape, np.float32, chunks=(8, 64, 64))
    for plane in PLANES:
        data = FileSlices(SliceTarget(path)).read(everything(plane, 1500, shape, pixels=20), [])
        assert data.sampled
        assert data.image is not None
        assert data.image.size <= 300**2


def test_values_at_a_voxel(labelled: Path) -> None:
    source = FileSlices(SliceTarget(labelled))
    values = source.values((3, 4, 5))
    assert values == {"image": IMAGE[3, 4, 5], "label_0000": LABELS[0, 3, 4, 5], "label_0001": LABELS[1, 3, 4, 5]}
    assert source.values((12, 0, 0)) == {}


def test_a_part_beside_the_volume_is_moved_into_it(labelled: Path) -> None:
    data = FileSlices(SliceTarget(labelled)).read(Part("xy", 99, (15, 25), (0, 500), (10, 10)), [])
    assert (data.part.index, data.part.rows, data.part.columns) == (11, (10, 20), (0, 30))


def test_a_prediction_without_an_image(tmp_path: Path) -> None:
    path = dataset(tmp_path / "bare.hdf5", labels(LABELS * np.float32(0.6), "prediction"))
    source = FileSlices(SliceTarget(path))
    facts = source.facts()
    assert not facts.has_image
    assert [(layer.name, layer.probability) for layer in facts.layers] == [("mito", True), ("ER", True)]
    data = source.read(everything("xy", 2), ["prediction_0000"])
    assert data.image is None
    assert np.array_equal(data.masks["prediction_0000"], LABELS[0, 2] * np.float32(0.6))
    assert set(source.values((0, 0, 0))) == {"prediction_0000", "prediction_0001"}


def test_labels_predictions_and_distances_of_one_sample(tmp_path: Path) -> None:
    members = {"image": IMAGE} | labels() | labels(LABELS, "prediction") | {"label_0001_dt": IMAGE}
    source = FileSlices(SliceTarget(dataset(tmp_path / "all.hdf5", members)))
    facts = source.facts()
    assert [layer.name for layer in facts.layers] == ["mito", "ER", "mito, predicted", "ER, predicted", "ER, distance"]
    assert facts.compared == (
        ("prediction_0000", "label_0000", "mito"),
        ("prediction_0001", "label_0001", "ER"),
    )
    data = source.read(everything("xz", 2), ["label_0001_dt"])
    assert np.array_equal(data.masks["label_0001_dt"], expected(IMAGE, data.part))


# ------------------------------------------------------------------------------------------------ comparison


@pytest.mark.parametrize("name", ["a", "another, and the only one"])
def test_predictions_are_paired_with_the_labels_of_the_reference(labelled: Path, tmp_path: Path, name: str) -> None:
    path = dataset(tmp_path / "found.hdf5", labels(1 - LABELS, "prediction"), sample=name)
    source = FileSlices(SliceTarget(path, name, labelled))
    facts = source.facts()
    assert facts.compared == (
        ("prediction_0000", "reference_0000", "mito"),
        ("prediction_0001", "reference_0001", "ER"),
    )
    assert [layer.name for layer in facts.layers] == ["mito", "ER", "true mito", "true ER"]
    data = source.read(everything("yz", 4), ["prediction_0000", "reference_0000"])
    assert np.array_equal(data.masks["reference_0000"], 1 - data.masks["prediction_0000"])


def test_a_reference_that_does_not_fit_is_told_and_the_sample_is_shown(labelled: Path, tmp_path: Path) -> None:
    found = dataset(tmp_path / "small.hdf5", labels(LABELS[:, :4], "prediction"))
    for reference, word in ((labelled, "2 labels of 12 x 20 x 30"), (tmp_path / "none.hdf5", "no data set")):
        facts = FileSlices(SliceTarget(found, None, reference)).facts()
        assert facts.compared == ()
        assert len(facts.layers) == 2
        assert word in facts.no_comparison


# ------------------------------------------------------------------------------------------------ image files


@pytest.mark.parametrize("kind", ["plain.tif", "compressed.tif", "array.npy", "fortran.npy"])
@pytest.mark.parametrize("plane", PLANES)
def test_image_files(tmp_path: Path, kind: str, plane: Plane) -> None:
    voxels = (IMAGE * 60000).astype(np.uint16)
    path = tmp_path / kind
    if path.suffix == ".npy":
        np.save(path, np.asfortranarray(voxels) if kind == "fortran.npy" else voxels)
    else:
        tifffile.imwrite(
            path, voxels, compression="zlib" if kind == "compressed.tif" else None, photometric="minisblack"
        )
    source = FileSlices(SliceTarget(path))
    assert source.facts().stored == "uint16"
    part = Part(plane, 5, (1, 12), (2, 19), (100, 100))
    data = source.read(part, [])
    assert data.image is not None
    assert np.array_equal(data.image, expected(voxels, part))
    assert source.values((1, 2, 3)) == {"image": voxels[1, 2, 3]}


def test_slices_across_a_large_file_take_rows_only(tmp_path: Path) -> None:
    """A file of 4 TB, all holes."""
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (10000, 20000, 20000), }"
    with (tmp_path / "huge.npy").open("wb") as file:
        file.write(header.ljust(127) + b"\n")
        file.truncate(128 + 10000 * 20000 * 20000)
    source = FileSlices(SliceTarget(tmp_path / "huge.npy"))
    for plane in ("xz", "yz"):
        data = source.read(everything(plane, 9, source.facts().shape, pixels=20), [])
        assert data.image is not None
        assert data.sampled
        assert data.image.size < 20000


# ------------------------------------------------------------------------------------------------ errors


def test_a_data_set_that_is_being_changed_is_told_at_once(labelled: Path) -> None:
    source = FileSlices(SliceTarget(labelled))
    with locked(labelled), pytest.raises(LockedError, match="is being changed by this process"):
        source.facts()
    assert source.facts().title == "a"


def test_a_change_between_two_reads_is_seen(labelled: Path) -> None:
    source = FileSlices(SliceTarget(labelled, "a"))
    assert len(source.facts().layers) == 2
    with change_dataset(labelled) as changed:
        changed.set_aliases(("axon", "myelin"))
    assert [layer.name for layer in source.facts().layers] == ["axon", "myelin"]
    with change_dataset(labelled) as changed:
        changed.rename_sample("a", "b")
    with pytest.raises(DataError, match="no sample 'a'"):
        source.read(everything("xy", 0), [])


@pytest.mark.parametrize("name", ["nothing.hdf5", "nothing.tif", "text.hdf5", "text.tif", "folder"])
def test_what_is_no_volume_is_an_engine_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    for text in ("text.hdf5", "text.tif"):
        (tmp_path / text).write_text("no volume")
    with pytest.raises(EngineError, match=name):
        FileSlices(SliceTarget(tmp_path / name)).facts()


def test_names_are_as_they_are_in_the_file(tmp_path: Path) -> None:
    hostile = "\x1b[31m[bold]\u202e \N{PILE OF POO}"
    path = dataset(tmp_path / "a.hdf5", {"image": IMAGE} | labels(), hostile, (hostile, "[/]"))
    source = FileSlices(SliceTarget(path, hostile))
    assert source.facts().title == hostile
    assert [layer.name for layer in source.facts().layers] == [hostile, "[/]"]
    assert source.values((0, 0, 0))["image"] == IMAGE[0, 0, 0]


# ------------------------------------------------------------------------------------------------ arrays, contrast


def test_arrays_in_memory() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    found = np.stack([image * 10, 255 - image * 10])
    source = ArraySlices(image, found, ["mito", "ER"], found > 100, "epoch 3", probabilities=True)
    facts = source.facts()
    assert (facts.title, facts.shape) == ("epoch 3", (1, 4, 6))
    assert [pair[2] for pair in facts.compared] == ["mito", "ER"]
    data = source.read(Part("xy", 0, (1, 3), (0, 6), (10, 10)), ["prediction_0000"])
    assert np.allclose(data.masks["prediction_0000"], found[0, 1:3] / 255)
    assert source.values((0, 3, 5))["prediction_0000"] == pytest.approx(230 / 255)
    with pytest.raises(ValueError, match="shapes"):
        ArraySlices(image, [image[:2]], ["mito"])


def test_contrast_leaves_out_the_extremes_and_follows_only_what_differs() -> None:
    spiky = np.r_[np.linspace(0, 1, 9999), 1000.0].reshape(100, 100)
    low, high = contrast(spiky) or (0, 0)
    assert (low, high) == (pytest.approx(0.005, abs=1e-3), pytest.approx(0.995, abs=1e-3))
    assert contrast(np.full((3, 3), np.nan)) is None
    assert contrast(np.full((3, 3), 7.0)) == (7.0, 7.0)
    assert settled((0.0, 1.0), (0.1, 0.9)) == (0.0, 1.0)
    assert settled((0.0, 1.0), (0.1, 0.6)) == (0.1, 0.6)
    assert settled(None, (0.1, 0.6)) == (0.1, 0.6)
    assert settled((0.0, 1.0), None) == (0.0, 1.0)


def test_stretched() -> None:
    values = np.array([[-1.0, 0.0, 1.0, 2.0, 9.0, np.nan, np.inf, -np.inf]])
    assert stretched(values, (0.0, 2.0)).tolist() == [[0, 0, 0.5, 1, 1, 0, 1, 0]]
    assert stretched(np.full((1, 2), 3), (3.0, 3.0)).tolist() == [[0.5, 0.5]]


def test_a_png_never_replaces_another(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    paths = [write_new_png(tmp_path, "a/b", colours) for _ in range(3)]
    assert [path.name for path in paths] == ["a_b.png", "a_b-2.png", "a_b-3.png"]
    assert np.array_equal(imagecodecs.png_decode(paths[2].read_bytes()), colours)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="No picture can be written"):
        write_new_png(tmp_path / "file", "a", colours)
