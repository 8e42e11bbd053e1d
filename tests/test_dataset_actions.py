"""The actions on data sets, each with good and bad input."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest
import tifffile

from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.dataset_actions import distance
from deepscem_tui.engine.dataset_actions.distance import distances
from deepscem_tui.engine.dataset_actions.names import remove_sample
from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.errors import (
    DataError,
    DatasetError,
    ParameterError,
    ResourceError,
    Stopped,
    VolumeError,
)
from deepscem_tui.engine.formats import FORMATS
from deepscem_tui.engine.formats.volumes import open_volume
from deepscem_tui.engine.parameters import ExportSample, RemoveSample
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.sources.normalisation import Grey
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system import space
from deepscem_tui.engine.system.lock import lock_path
from deepscem_tui.engine.words import file_name

DEEPSCEM = Path(__file__).parents[2] / "shared" / "data" / "deepscem"
needs_deepscem = pytest.mark.skipif(not DEEPSCEM.is_dir(), reason="../shared/data/deepscem is not here")


class Heard(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.tasks: dict[str, tuple[float, float]] = {}

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        assert done >= self.tasks.get(task, (0, 0))[0]
        self.tasks[task] = (done, total)


def do(name: str, values: Mapping[str, Any], report: Reporter | None = None, stop: Stop | None = None) -> Result:
    """Carry out an action, whose result must be JSON."""
    action = ACTIONS[name]
    result = action.carry_out(build(action, values), Context(report or Reporter(), stop or Stop()))
    json.dumps(result.as_json())
    return result


def stopped() -> Stop:
    stop = Stop()
    stop.request("enough")
    return stop


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(3, 200, (10, 20, 70), np.uint8)


@pytest.fixture
def mask(voxels: np.ndarray) -> np.ndarray:
    return (voxels > 150).astype(np.uint8)


@pytest.fixture
def files(tmp_path: Path, voxels: np.ndarray, mask: np.ndarray) -> Path:
    """Image files, and a data set for them without samples, with two labels."""
    tifffile.imwrite(
        tmp_path / "image.tif", voxels, imagej=True, resolution=(0.25, 0.25),
        metadata={"axes": "ZYX", "spacing": 8.0, "unit": "nm"},
    )  # fmt: skip
    tifffile.imwrite(tmp_path / "mask.tif", mask * np.uint8(255))
    np.save(tmp_path / "mask.npy", mask)
    do("create-dataset", {"file": tmp_path / "set.hdf5", "name": "set", "n_labels": 2})
    do("set-aliases", {"file": tmp_path / "set.hdf5", "aliases": ("mito", "E R")})
    return tmp_path


def added(files: Path, name: str = "a", report: Reporter | None = None, **values: Any) -> Result:
    given = {"image": files / "image.tif", "labels": (str(files / "mask.tif"), "")} | values
    return do("add-sample", {"file": files / "set.hdf5", "name": name, **given}, report)


# ------------------------------------------------------------------------------------------------ create and name


def test_create(tmp_path: Path) -> None:
    values = {"file": tmp_path / "new folder" / "set.hdf5", "name": "ein Satz", "n_labels": 0}
    assert "Would make" in do("create-dataset", {**values, "dry_run": True}).summary
    assert list(tmp_path.iterdir()) == []
    do("create-dataset", values)
    with h5py.File(values["file"]) as file:
        assert (file.attrs["name"], file.attrs["labels"], len(file)) == ("ein Satz", 0, 0)
    for dry_run in (True, False):
        with pytest.raises(ParameterError, match="exists already"):
            do("create-dataset", {**values, "dry_run": dry_run})
    do("create-dataset", {**values, "name": "another", "overwrite": True})
    with open_dataset(values["file"]) as dataset:
        assert dataset.name == "another"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"file": "x.tif"}, r"end in \.hdf5"),
        ({"name": "a/b"}, "'/'"),
        ({"name": "\x1b[31m"}, "control"),
        ({"n_labels": -1}, "at least 0"),
    ],
)
def test_create_refuses(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    given = {"file": "x.hdf5", "name": "x", "n_labels": 1} | values
    with pytest.raises(ParameterError, match=words):
        do("create-dataset", given | {"file": tmp_path / given["file"]})
    assert list(tmp_path.iterdir()) == []


def test_renaming_and_naming(files: Path) -> None:
    added(files)
    file = files / "set.hdf5"
    before = file.read_bytes()
    steps = [
        ("rename-dataset", {"file": file, "new": "other"}),
        ("rename-sample", {"file": file, "sample": "a", "new": "ä b"}),
        ("set-aliases", {"file": file, "aliases": ("one", "two")}),
        ("set-aliases", {"file": file, "clear": True}),
    ]
    for name, values in steps[:3]:
        assert do(name, {**values, "dry_run": True}).summary.startswith("Would ")
    assert file.read_bytes() == before
    for name, values in steps[:3]:
        do(name, values)
    with open_dataset(file) as dataset:
        assert (dataset.name, list(dataset.samples), dataset.aliases) == ("other", ["ä b"], ("one", "two"))
    do(*steps[3])
    with open_dataset(file) as dataset:
        assert dataset.label_names == ("label_0000", "label_0001")


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("rename-sample", {"sample": "b", "new": "c"}, "no sample 'b'"),
        ("rename-sample", {"sample": "a", "new": "a"}, "sample 'a' already"),
        ("rename-sample", {"sample": "a", "new": "-x"}, "begin with '-'"),
        ("remove-sample", {"sample": "b"}, "no sample 'b'"),
        ("crop-sample", {"sample": "b"}, "no sample 'b'"),
        ("set-aliases", {"aliases": ("one",)}, "2 labels, but 1 names"),
        ("set-aliases", {"aliases": ("one", "one")}, "'one' is given twice"),
        ("set-aliases", {}, "or --clear"),
        ("rename-dataset", {"new": " "}, "empty"),
    ],
)
def test_changes_that_are_refused(files: Path, name: str, values: dict[str, Any], words: str, dry_run: bool) -> None:
    added(files)
    before = (files / "set.hdf5").read_bytes()
    with pytest.raises((ParameterError, DataError), match=words):
        do(name, {"file": files / "set.hdf5", **values, "dry_run": dry_run})
    assert (files / "set.hdf5").read_bytes() == before


def test_removing_says_what_save_will_free(files: Path) -> None:
    added(files, "a")
    added(files, "b")
    size = (files / "set.hdf5").stat().st_size
    result = do("remove-sample", {"file": files / "set.hdf5", "sample": "a"})
    freed = result.facts["reclaimable_bytes"]
    assert freed > 10 * 20 * 70 * 2
    assert f"{freed:,} bytes" in result.summary
    saved = do("save-dataset", {"file": files / "set.hdf5", "out": files / "small.hdf5"})
    assert saved.facts["bytes_before"] == (files / "set.hdf5").stat().st_size
    assert saved.facts["bytes_after"] == (files / "small.hdf5").stat().st_size <= size - freed


def test_actions_look_at_the_stop_request_before_they_begin(files: Path) -> None:
    added(files)
    before = (files / "set.hdf5").read_bytes()
    with pytest.raises(Stopped):
        remove_sample(RemoveSample(file=files / "set.hdf5", sample="a"), Context(stop=stopped()))
    assert (files / "set.hdf5").read_bytes() == before


# ------------------------------------------------------------------------------------------------ add


def test_add(files: Path, voxels: np.ndarray, mask: np.ndarray) -> None:
    heard = Heard()
    result = added(files, report=heard)
    with h5py.File(files / "set.hdf5") as file:
        assert set(file["a"]) == {"image", "label_0000", "label_0001"}
        assert file["a"].attrs["shape"].tolist() == [10, 20, 70]
        image = file["a"]["image"]
        assert (image.dtype, image[...].min(), image[...].max()) == (np.float16, 0, 1)
        expected = (voxels - voxels.min()) / (voxels.max() - voxels.min())
        np.testing.assert_allclose(image[...], expected, atol=2**-11)
        assert file["a"]["label_0000"].dtype == np.uint8
        assert np.array_equal(file["a"]["label_0000"], mask)
        assert not file["a"]["label_0001"][...].any()
    with open_dataset(files / "set.hdf5") as dataset:
        sample = dataset.sample("a")
        assert (sample.voxel_size, sample.voxel_unit) == ((8.0, 4.0, 4.0), "nm")
        assert {"source": "image.tif", "source_type": "uint8", "label_sources": ("mask.tif", "")}.items() <= (
            sample.attributes.items()
        )
        assert sample.attributes["source_range"] == (3.0, 199.0)
        assert sample.attributes["label_values"] == ("0, 255", "")
    assert list(heard.tasks) == ["Range of image.tif", "Writing a"]
    assert all(done == total > 0 for done, total in heard.tasks.values())
    assert (heard.warnings, result.facts["warnings"]) == ([], [])
    assert (result.facts["sample"], result.facts["shape"]) == ("a", [10, 20, 70])
    assert result.facts["foreground"] == pytest.approx({"mito": mask.mean(), "E R": 0})
    assert [row["source"] for row in result.tables[0].as_dicts()] == [str(files / "mask.tif"), "blank"]


@pytest.mark.parametrize("slab_bytes", [1, 5000, 10**9])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool"])
def test_slabs_of_any_size_and_types_of_any_kind(
    files: Path, dtype: str, slab_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepscem_tui.engine.slabs.SLAB_BYTES", slab_bytes)
    values = np.random.default_rng(1).random((11, 9, 70)) * 300 - (100 if dtype in ("int16", "float32") else 0)
    stored = (values > 100) if dtype == "bool" else np.minimum(values, 255 if dtype == "uint8" else 300).astype(dtype)
    np.save(files / "image.npy", stored)
    np.save(files / "label.npy", stored)
    added(files, image=files / "image.npy", labels=(str(files / "label.npy"), ""))
    with open_dataset(files / "set.hdf5") as dataset:
        sample = dataset.sample("a")
        low, high = float(stored.min()), float(stored.max())
        assert sample.image.dtype == (np.float16 if stored.itemsize == 1 else np.float32)
        expected = (stored.astype(float) - low) / (high - low)
        np.testing.assert_allclose(sample.image, expected, atol=2**-11 if stored.itemsize == 1 else 1e-7)
        assert np.array_equal(sample.labels[0], stored > 0)


def test_two_dimensions(files: Path) -> None:
    tifffile.imwrite(files / "flat.tif", np.arange(35 * 40, dtype=np.uint16).reshape(35, 40))
    result = added(files, image=files / "flat.tif", labels=())
    assert result.facts["shape"] == [1, 35, 40]
    with open_dataset(files / "set.hdf5") as dataset:
        assert dataset.sample("a").labels[1].shape == (1, 35, 40)


def test_no_labels_are_blank_ones_with_a_message(files: Path) -> None:
    heard = Heard()
    assert added(files, labels=(), report=heard).facts["foreground"] == {"mito": 0, "E R": 0}
    assert len(heard.messages) == 1
    assert "blank" in heard.messages[0]


def test_a_data_set_without_labels(files: Path) -> None:
    file = files / "plain.hdf5"
    do("create-dataset", {"file": file, "name": "plain", "n_labels": 0})
    heard = Heard()
    do("add-sample", {"file": file, "name": "a", "image": files / "image.tif"}, heard)
    with h5py.File(file) as raw:
        assert set(raw["a"]) == {"image"}
    assert heard.messages == []


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"labels": ("mask.tif",)}, ParameterError, r"2 labels a sample \(mito, E R\), but 1 was given"),
        ({"labels": ("mask.tif",) * 3}, ParameterError, "but 3 were given"),
        ({"labels": ("mask.tif", "small.npy")}, VolumeError, "small.npy is 9 x 20 x 70, but the image .* 10 x 20 x 70"),
        ({"labels": ("mask.tif", "missing.tif")}, VolumeError, "missing.tif"),
        ({"image": "missing.tif"}, VolumeError, "missing.tif"),
        ({"image": "float.npy", "range": "type"}, ParameterError, "no range of its own"),
        ({"name": "taken"}, DatasetError, "'taken' already"),
        ({"name": "a/b"}, ParameterError, "'/'"),
        ({"file": "missing.hdf5"}, DatasetError, "no data set"),
        ({"file": "image.tif"}, DatasetError, "no HDF5 file"),
    ],
)
def test_add_refuses_before_it_writes(
    files: Path, values: dict[str, Any], error: type[Exception], words: str, dry_run: bool
) -> None:
    np.save(files / "small.npy", np.zeros((9, 20, 70), np.uint8))
    np.save(files / "float.npy", np.ones((10, 20, 70), np.float32))
    added(files, "taken")
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    given: dict[str, Any] = {"file": "set.hdf5", "name": "a", "image": "image.tif", "labels": ("mask.tif", "")} | values
    given["labels"] = tuple(str(files / label) if label else "" for label in given["labels"])
    given |= {"file": files / given["file"], "image": files / given["image"]}
    with pytest.raises(error, match=words):
        do("add-sample", given | {"dry_run": dry_run})
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_add_dry_run_writes_nothing(files: Path) -> None:
    before = (files / "set.hdf5").read_bytes()
    assert "10 x 20 x 70" in added(files, dry_run=True).summary
    assert (files / "set.hdf5").read_bytes() == before


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("uint8", 0, 255), ("uint16", 0, 65535), ("int16", -32768, 32767), ("bool", 0, 1)]
)
def test_the_range_of_the_type_saves_a_pass(files: Path, dtype: str, low: int, high: int) -> None:
    stored = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (3, 9, 9)).astype(dtype)
    np.save(files / "image.npy", stored)
    heard = Heard()
    added(files, image=files / "image.npy", labels=(), range="type", report=heard)
    assert list(heard.tasks) == ["Writing a"]
    with open_dataset(files / "set.hdf5") as dataset:
        expected = (stored.astype(float) - low) / (high - low)
        np.testing.assert_allclose(dataset.sample("a").image, expected, atol=2**-11)
        assert dataset.sample("a").attributes["source_range"] == (low, high)


def test_voxels_that_are_no_numbers_become_0(files: Path) -> None:
    stored = np.linspace(-5, 5, 300, dtype=np.float32).reshape(3, 10, 10)
    stored[0, 0, :3] = np.nan, np.inf, -np.inf
    np.save(files / "image.npy", stored)
    heard = Heard()
    result = added(files, image=files / "image.npy", labels=(), report=heard)
    with open_dataset(files / "set.hdf5") as dataset:
        image = dataset.sample("a").image[...]
    assert (image[0, 0, :3] == 0).all()
    assert (image.min(), image.max()) == (0, 1)
    assert len(heard.warnings) == 1
    assert "3 of 300 voxels are NaN or infinite" in heard.warnings[0]
    assert result.facts["warnings"] == heard.warnings
    np.save(files / "image.npy", stored * np.nan)
    with pytest.raises(VolumeError, match="no finite voxel"):
        added(files, "b", image=files / "image.npy", labels=())


def test_a_constant_image_becomes_0(files: Path) -> None:
    np.save(files / "image.npy", np.full((3, 9, 9), 7, np.uint16))
    heard = Heard()
    added(files, image=files / "image.npy", labels=(), report=heard)
    with open_dataset(files / "set.hdf5") as dataset:
        assert not dataset.sample("a").image[...].any()
    assert "all voxels are 7" in heard.warnings[0]


@pytest.mark.parametrize(
    ("values", "warning", "message"),
    [
        ((0, 1), "", ""),
        ((0, 255), "", ""),
        ((0, 1, 2), "the values 0, 1, 2; every voxel above 0 is mito", ""),
        ((5, 7), "the values 5, 7", ""),
        ((0,), "", "no voxel is mito"),
        ((-3, 0), "the values -3, 0", "no voxel is mito"),
    ],
)
def test_what_is_said_of_labels(files: Path, values: tuple[int, ...], warning: str, message: str) -> None:
    label = np.resize(np.array(values, np.int16), (10, 20, 70))
    np.save(files / "label.npy", label)
    heard = Heard()
    added(files, labels=(str(files / "label.npy"), ""), report=heard)
    assert [warning in text for text in heard.warnings] == ([True] if warning else [])
    assert [message in text for text in heard.messages] == ([True] if message else [])
    with open_dataset(files / "set.hdf5") as dataset:
        assert np.array_equal(dataset.sample("a").labels[0], label > 0)


def test_stopping_leaves_the_data_set_as_it_was(files: Path) -> None:
    before = (files / "set.hdf5").read_bytes()
    stop = Stop()

    class Stopping(Heard):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            if task.startswith("Writing"):
                stop.request("enough")

    with pytest.raises(Stopped):
        do(
            "add-sample",
            {
                "file": files / "set.hdf5",
                "name": "a",
                "image": files / "image.tif",
                "labels": (str(files / "mask.tif"), ""),
            },
            Stopping(),
            stop,
        )
    assert (files / "set.hdf5").read_bytes() == before
    assert not lock_path(files / "set.hdf5").exists()


def test_too_little_space_is_said_at_the_beginning(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free, total = 1000, 10**9

    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(ResourceError, match=r"28,000 bytes are needed .* 1,000 are free"):
        added(files)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"])
def test_grey_values_are_exact_at_their_ends(dtype: str) -> None:
    values = np.array([[[3, 50, 100, 120, -1 if dtype[0] != "u" else 1]]]).astype(dtype)
    result = Grey(3, 100).normalise(values, np.dtype(np.float32))
    np.testing.assert_allclose(result[0, 0], [0, 47 / 97, 1, 1, 0], atol=1e-7)


# ------------------------------------------------------------------------------------------------ crop


def test_crop(files: Path, voxels: np.ndarray, mask: np.ndarray) -> None:
    added(files)
    do("distance-transform", {"file": files / "set.hdf5"})
    values = {"file": files / "set.hdf5", "sample": "a", "z": (2, 9), "x": (3, 60)}
    before = (files / "set.hdf5").read_bytes()
    assert do("crop-sample", {**values, "dry_run": True}).facts["sample"] == "a_crop_2_9_0_20_3_60"
    assert (files / "set.hdf5").read_bytes() == before
    heard = Heard()
    result = do("crop-sample", values, heard)
    assert result.facts["shape"] == [7, 20, 57]
    assert "label_0000_dt" in heard.messages[0]
    do("crop-sample", {"file": files / "set.hdf5", "sample": "a_crop_2_9_0_20_3_60", "y": (5, 6), "name": "row"})
    with open_dataset(files / "set.hdf5") as dataset:
        whole, crop, row = (dataset.sample(name) for name in ("a", "a_crop_2_9_0_20_3_60", "row"))
        assert set(crop.members) == {"image", "label_0000", "label_0001"}
        assert np.array_equal(crop.image, whole.image[2:9, :, 3:60])
        assert np.array_equal(crop.labels[0], mask[2:9, :, 3:60])
        assert np.array_equal(row.labels[0], mask[2:9, 5:6, 3:60])
        assert crop.voxel_size == (8.0, 4.0, 4.0)
        assert crop.attributes["source"] == "image.tif"
        assert (crop.attributes["origin"], crop.attributes["origin_box"]) == ("a", (2, 9, 0, 20, 3, 60))
        assert (row.attributes["origin"], row.attributes["origin_box"]) == ("a", (2, 9, 5, 6, 3, 60))
        assert crop.image.dtype == whole.image.dtype


@pytest.mark.parametrize("slab_bytes", [1, 3000])
def test_a_crop_is_read_slab_by_slab(files: Path, slab_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    added(files)
    monkeypatch.setattr("deepscem_tui.engine.slabs.SLAB_BYTES", slab_bytes)
    do("crop-sample", {"file": files / "set.hdf5", "sample": "a", "z": (1, 10), "y": (1, 20), "name": "c"})
    with open_dataset(files / "set.hdf5") as dataset:
        assert np.array_equal(dataset.sample("c").image, dataset.sample("a").image[1:10, 1:20])


@needs_deepscem
def test_a_crop_is_that_of_deepscem(tmp_path: Path) -> None:
    (tmp_path / "set.hdf5").write_bytes((DEEPSCEM / "dataset.hdf5").read_bytes())
    values = {"file": tmp_path / "set.hdf5", "sample": "a", "z": (2, 6), "y": (0, 32), "x": (8, 72)}
    with pytest.raises(DatasetError, match="'a_crop_2_6_0_32_8_72' already"):
        do("crop-sample", values)
    do("crop-sample", {**values, "name": "ours"})
    with h5py.File(tmp_path / "set.hdf5") as file:
        for name, theirs in file["a_crop_2_6_0_32_8_72"].items():
            assert np.array_equal(file["ours"][name], theirs)
            assert file["ours"][name].dtype == theirs.dtype


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("bounds", [{"z": (0, 11)}, {"y": (20, 21)}, {"x": (70, None)}, {"x": (0, 1000)}])
def test_a_crop_outside_the_sample(files: Path, bounds: dict[str, Any], dry_run: bool) -> None:
    added(files)
    before = (files / "set.hdf5").read_bytes()
    with pytest.raises(ParameterError, match="not inside sample 'a'") as caught:
        do("crop-sample", {"file": files / "set.hdf5", "sample": "a", **bounds, "dry_run": dry_run})
    assert "10 x 20 x 70" in caught.value.hint
    assert (files / "set.hdf5").read_bytes() == before


def test_a_crop_whose_name_would_be_too_long(files: Path) -> None:
    added(files, "n" * 195)
    values = {"file": files / "set.hdf5", "sample": "n" * 195}
    with pytest.raises(ParameterError) as caught:
        do("crop-sample", values)
    assert "--name" in caught.value.hint
    do("crop-sample", {**values, "name": "short"})


# ------------------------------------------------------------------------------------------------ save


def content(path: Path) -> dict[str, Any]:
    with open_dataset(path) as dataset:
        held: dict[str, Any] = {"": (dataset.name, dataset.n_labels, dataset.aliases, dataset.attributes)}
        for name, sample in dataset.samples.items():
            held[name] = (sample.shape, sample.attributes)
            held |= {f"{name}/{key}": (m.dtype, np.asarray(m).tobytes()) for key, m in sample.members.items()}
    return held


@needs_deepscem
@pytest.mark.parametrize("name", ["dataset.hdf5", "prediction.hdf5"])
def test_saving_deepscems_files(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.hdf5"
    values = {"file": DEEPSCEM / name, "out": out}
    assert do("save-dataset", {**values, "dry_run": True}).facts["samples"] == (3 if name[0] == "d" else 1)
    assert not out.exists()
    do("save-dataset", values)
    assert content(out) == content(DEEPSCEM / name)
    with h5py.File(out) as file:
        assert file["a"]["image"].chunks is not None


def test_saving_keeps_everything_and_frees_the_rest(files: Path) -> None:
    for name in ("a", "b"):
        added(files, name)
    do("distance-transform", {"file": files / "set.hdf5"})
    with change_dataset(files / "set.hdf5") as changed:
        changed.set_attributes({"remark": "ours"})
        changed.remove_sample("a")
    heard = Heard()
    do("save-dataset", {"file": files / "set.hdf5", "out": files / "out.hdf5"}, heard)
    assert content(files / "out.hdf5") == content(files / "set.hdf5")
    assert (files / "out.hdf5").stat().st_size < 0.6 * (files / "set.hdf5").stat().st_size
    assert list(heard.tasks.values())[-1][0] == list(heard.tasks.values())[-1][1] > 0


@pytest.mark.parametrize("how", ["itself", "link", "other spelling"])
def test_saving_onto_itself(files: Path, how: str) -> None:
    added(files, "a")
    added(files, "b")
    file = out = files / "set.hdf5"
    do("remove-sample", {"file": file, "sample": "a"})
    if how == "link":
        out = files / "link.hdf5"
        out.symlink_to(file)
    elif how == "other spelling":
        out = files / "x" / ".." / "set.hdf5"
        (files / "x").mkdir()
    before, size = content(file), file.stat().st_size
    with pytest.raises(ParameterError, match="exists already"):
        do("save-dataset", {"file": file, "out": out})
    assert file.stat().st_size == size
    do("save-dataset", {"file": file, "out": out, "overwrite": True})
    assert content(file) == before
    assert file.stat().st_size < size
    assert out.is_symlink() == (how == "link")


def test_saving_refuses_what_changes_meanwhile(files: Path) -> None:
    added(files)

    class Meddling(Heard):
        def progress(self, *_: Any, **__: Any) -> None:
            if not self.messages:
                self.message("once")
                added(files, "b")

    with pytest.raises(DatasetError, match="was changed while"):
        do("save-dataset", {"file": files / "set.hdf5", "out": files / "set.hdf5", "overwrite": True}, Meddling())
    assert dataset_names(files / "set.hdf5") == {"a", "b"}
    assert not list(files.glob(".*"))


def dataset_names(path: Path) -> set[str]:
    with open_dataset(path) as dataset:
        return set(dataset.samples)


def test_saving_loses_nothing_that_is_not_ours_unasked(files: Path) -> None:
    added(files)
    with h5py.File(files / "set.hdf5", "r+") as file:
        file["a"]["mine"] = np.arange(4)
    with pytest.raises(DatasetError, match="mine, which would be lost"):
        do("save-dataset", {"file": files / "set.hdf5", "out": files / "set.hdf5", "overwrite": True})
    heard = Heard()
    do("save-dataset", {"file": files / "set.hdf5", "out": files / "out.hdf5"}, heard)
    assert "mine: left out" in heard.warnings[0]
    with h5py.File(files / "out.hdf5") as file:
        assert "mine" not in file["a"]


def test_stopping_a_save_leaves_nothing(files: Path) -> None:
    added(files)
    before = {path.name for path in files.iterdir()}
    with pytest.raises(Stopped):
        do("save-dataset", {"file": files / "set.hdf5", "out": files / "out.hdf5"}, stop=stopped())
    assert {path.name for path in files.iterdir()} == before


# ------------------------------------------------------------------------------------------------ export


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool"])
def test_an_image_comes_back_as_it_was(files: Path, dtype: str) -> None:
    limits = (0, 1) if dtype in ("bool", "float32") else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    stored = np.random.default_rng(0).uniform(*limits, (9, 20, 30)).round(5 if dtype == "float32" else 0).astype(dtype)
    stored[0, 0, :2] = limits
    np.save(files / "image.npy", stored)
    added(files, image=files / "image.npy", labels=())
    result = do("export-sample", {"file": files / "set.hdf5", "sample": "a", "folder": files / "out"})
    assert [Path(name).name for name in result.facts["files"]] == ["a_image.tif", "a_mito.tif", "a_E R.tif"]
    back = tifffile.imread(files / "out" / "a_image.tif")
    if dtype == "bool":
        stored = stored * np.uint8(255)
    assert back.dtype == stored.dtype
    np.testing.assert_allclose(back, stored, atol=1e-6 if dtype == "float32" else 0)


def test_masks_and_voxel_sizes_come_back(files: Path, mask: np.ndarray) -> None:
    added(files)
    values = {"file": files / "set.hdf5", "sample": "a", "folder": files / "out"}
    assert len(do("export-sample", {**values, "dry_run": True}).facts["files"]) == 3
    assert not (files / "out").exists()
    heard = Heard()
    do("export-sample", values, heard)
    assert heard.tasks["Exporting a"][0] == heard.tasks["Exporting a"][1]
    assert np.array_equal(tifffile.imread(files / "out" / "a_mito.tif"), mask * np.uint8(255))
    with tifffile.TiffFile(files / "out" / "a_image.tif") as tiff:
        assert tiff.imagej_metadata is not None
        assert (tiff.imagej_metadata["spacing"], tiff.imagej_metadata["unit"]) == (8.0, "nm")
    for dry_run in (True, False):
        with pytest.raises(ParameterError, match="exists already"):
            do("export-sample", {**values, "dry_run": dry_run})
    do("export-sample", {**values, "overwrite": True})


WRITTEN = {known.suffixes[0].removeprefix("."): known for known in FORMATS if known.writer}


def test_samples_are_exported_as_whatever_is_written() -> None:
    assert set(get_args(ExportSample.model_fields["format"].annotation)) == set(WRITTEN)


@pytest.mark.parametrize("end", WRITTEN)
def test_what_is_exported_is_read_again(files: Path, end: str, mask: np.ndarray) -> None:
    if WRITTEN[end].extra:
        pytest.importorskip({"nifti": "nibabel"}.get(WRITTEN[end].extra, WRITTEN[end].extra))
    added(files)
    values = {"file": files / "set.hdf5", "sample": "a", "folder": files / "out", "format": end}
    for _ in range(2):
        _, made, _ = do("export-sample", {**values, "overwrite": True}).facts["files"]
    with open_volume(Path(made)) as volume:
        assert np.array_equal(volume.read(0, len(mask)) > 0, mask)


@needs_deepscem
def test_exporting_deepscems_files(tmp_path: Path) -> None:
    do("export-sample", {"file": DEEPSCEM / "dataset.hdf5", "sample": "a", "folder": tmp_path})
    do("export-sample", {"file": DEEPSCEM / "prediction.hdf5", "sample": "a", "folder": tmp_path / "predicted"})
    with h5py.File(DEEPSCEM / "dataset.hdf5") as file:
        assert np.array_equal(tifffile.imread(tmp_path / "a_image.tif"), file["a"]["image"])  # no source is known
        assert np.array_equal(
            tifffile.imread(tmp_path / "a_boundary.tif"), file["a"]["label_0000"][...] * np.uint8(255)
        )
    names = {path.name for path in (tmp_path / "predicted").iterdir()}
    assert names == {"a_image.tif", "a_label_0000.tif", "a_label_0001.tif"}


def test_probabilities_stay_probabilities(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 200, dtype=np.float32).reshape(2, 10, 10)
    with new_dataset(tmp_path / "set.hdf5", "set", 1) as made:
        sample = made.add_sample("a", (2, 10, 10), {"label_0000": np.uint8, "prediction_0000": np.float32})
        sample["prediction_0000"][:] = values
    result = do("export-sample", {"file": tmp_path / "set.hdf5", "sample": "a", "folder": tmp_path / "out"})
    assert result.summary.endswith("out/a_predicted_label_0000.tif")
    back = tifffile.imread(tmp_path / "out" / "a_predicted_label_0000.tif")
    assert back.dtype == np.float32
    assert np.array_equal(back, values)
    assert not tifffile.imread(tmp_path / "out" / "a_label_0000.tif").any()


def test_names_in_a_file_lead_nowhere_else(tmp_path: Path) -> None:
    aliases = ("../../up", "..", "C:\\x", "a\x1b[31m\n", "../../UP")
    folder = tmp_path / "deep" / "out"
    with new_dataset(tmp_path / "set.hdf5", "set", 5, aliases=aliases) as made:
        members = {"image": np.float32} | {f"label_{index:04d}": np.uint8 for index in range(5)}
        made.add_sample(".. \\ \x1b", (1, 2, 2), members)
    result = do("export-sample", {"file": tmp_path / "set.hdf5", "sample": ".. \\ \x1b", "folder": folder})
    assert len(set(result.facts["files"])) == 6
    assert {str(path) for path in folder.iterdir()} == set(result.facts["files"])
    assert {path.name for path in tmp_path.iterdir()} == {"set.hdf5", "deep"}
    for path in folder.iterdir():
        assert path.name.isprintable()
        assert not set(path.name) & set('/\\:*?"<>|')


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mito", "mito"), ("E R", "E R"), ("../x", "_x"), ("..", "unnamed"), ("", "unnamed"), ("a/b\\c", "a_b_c"),
        ("-rf", "rf"), ("é" * 99, "é" * 40), ("\u202etxt.exe", "_txt.exe"), (".hidden", "hidden"), ("a\0b", "a_b"),
    ],
)  # fmt: skip
def test_safe_file_names(name: str, expected: str) -> None:
    assert file_name(name) == expected


def test_source_ranges_that_lie(files: Path) -> None:
    added(files)
    for lie in ({"source_range": ("a", "b")}, {"source_range": (0.0, np.inf)}, {"source_type": "object"}):
        with change_dataset(files / "set.hdf5") as changed:
            changed.set_attributes(lie, sample="a")
        values = {"file": files / "set.hdf5", "sample": "a", "folder": files / "out", "overwrite": True}
        do("export-sample", values)
        assert tifffile.imread(files / "out" / "a_image.tif").dtype == np.float32


def test_a_file_is_no_folder(files: Path) -> None:
    added(files)
    with pytest.raises(ParameterError, match="is a file"):
        do("export-sample", {"file": files / "set.hdf5", "sample": "a", "folder": files / "image.tif"})


# ------------------------------------------------------------------------------------------------ distances


def brute_force(mask: np.ndarray, size: tuple[float, float, float]) -> np.ndarray:
    background = np.argwhere(~mask) * size
    expected = np.zeros(mask.shape)
    for point in np.argwhere(mask):
        expected[tuple(point)] = np.sqrt(((background - point * size) ** 2).sum(1)).min()
    return expected


@pytest.mark.parametrize("shape", [(1, 9, 12), (6, 7, 8)])
@pytest.mark.parametrize("size", [None, (8.0, 2.0, 3.0)])
def test_distances_are_those_to_the_nearest_background(shape: tuple[int, int, int], size: Any) -> None:
    mask = np.random.default_rng(0).random(shape) > 0.1
    found = distances(mask, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, brute_force(mask, size or (1, 1, 1)), rtol=1e-5)


def test_distance_transform(files: Path, mask: np.ndarray) -> None:
    np.save(files / "full.npy", np.ones((10, 20, 70), np.uint8))
    added(files, "a")
    added(files, "b", labels=(str(files / "full.npy"), str(files / "mask.npy")))
    file, heard = files / "set.hdf5", Heard()
    before = file.read_bytes()
    assert do("distance-transform", {"file": file, "dry_run": True}).facts["arrays"] == 4
    assert file.read_bytes() == before
    do("distance-transform", {"file": file}, heard)
    with h5py.File(file) as raw:
        for name in ("a", "b"):
            assert set(raw[name]) == {"image", *(f"label_000{i}{dt}" for i in range(2) for dt in ("", "_dt"))}
            assert raw[name]["label_0000_dt"].dtype == np.float32
        expected = brute_force(mask > 0, (8.0, 4.0, 4.0))
        np.testing.assert_allclose(raw["a"]["label_0000_dt"], expected, rtol=1e-5)
        assert not raw["a"]["label_0001_dt"][...].any()
        assert np.isfinite(raw["b"]["label_0000_dt"]).all()
    with open_dataset(file) as dataset:
        assert dataset.sample("a").attributes["distance_unit"] == "nm"
    assert any("DeepSCEM cannot train" in text for text in heard.warnings)
    assert any("fills it" in text for text in heard.warnings)
    held = content(file)
    for dry_run in (True, False):
        with pytest.raises(ParameterError, match="distance transforms already, in 'a', 'b'"):
            do("distance-transform", {"file": file, "dry_run": dry_run})
    do("distance-transform", {"file": file, "overwrite": True})
    assert content(file) == held


def test_distances_need_labels_and_memory(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="has no labels"):
        do("distance-transform", {"file": files / "set.hdf5"})
    added(files)
    monkeypatch.setattr(distance, "available_memory", lambda: 100_000)
    with pytest.raises(ResourceError, match=r"0\.0 GiB"):
        do("distance-transform", {"file": files / "set.hdf5"})
    with open_dataset(files / "set.hdf5") as dataset:
        assert dataset.sample("a").distance_transforms == ()


# ------------------------------------------------------------------------------------------------ check


def problems(path: Path) -> tuple[Result, list[tuple[str, str, str]]]:
    """The result, and (sample, member, severity) of what was found."""
    result = do("check-dataset", {"file": path})
    rows = result.tables[0].as_dicts()
    assert all(row["problem"].isprintable() for row in rows)
    assert result.ok == all(row["severity"] != "error" for row in rows)
    return result, [(row["sample"], row["member"], row["severity"]) for row in rows]


def test_nothing_wrong(files: Path, mask: np.ndarray) -> None:
    added(files)
    heard = Heard()
    before = (files / "set.hdf5").read_bytes()
    result = do("check-dataset", {"file": files / "set.hdf5"}, heard)
    assert result.ok
    assert result.tables[0].rows == []
    assert [row["foreground"] for row in result.tables[1].as_dicts()] == pytest.approx([mask.mean(), 0])
    assert "nothing wrong" in result.summary
    done, total = heard.tasks["Checking set.hdf5"]
    assert done == total == 10 * 20 * 70 * 4
    assert (files / "set.hdf5").read_bytes() == before


@needs_deepscem
def test_deepscems_files_have_no_errors() -> None:
    result, found = problems(DEEPSCEM / "dataset.hdf5")
    assert result.ok
    assert found == [("b", "image", "warning")]  # the same image as that of a
    assert problems(DEEPSCEM / "prediction.hdf5")[1] == []


def write(file: h5py.File, member: str, key: Any, value: Any) -> None:
    """Change voxels behind the engine's back."""
    array = file["a"][member][...].astype(np.float32 if member == "image" else np.uint8)
    array[key] = value
    del file["a"][member]
    file["a"][member] = array


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: write(f, "image", (3, 4, 5), np.nan), ("a", "image", "error")),
        (lambda f: write(f, "image", (3, 4, 5), 1.5), ("a", "image", "error")),
        (lambda f: write(f, "image", (3, 4, 5), -0.5), ("a", "image", "error")),
        (lambda f: write(f, "image", ..., 0.5), ("a", "image", "warning")),
        (lambda f: write(f, "label_0001", (3, 4, 5), 255), ("a", "label_0001", "error")),
        (lambda f: f["a"].__delitem__("image"), ("a", "", "error")),
        (lambda f: f["a"].__delitem__("label_0001"), ("a", "", "error")),
        (lambda f: f["a"].__setitem__("label_0002", f["a"]["label_0001"]), ("a", "label_0002", "error")),
        (lambda f: f["a"].__setitem__("labels", np.arange(3)), ("a", "labels", "warning")),
        (lambda f: f["a"].__setitem__("label_0000_dt", np.zeros((10, 20, 70), "f4")), ("a", "label_0000_dt", "note")),
        (lambda f: f["a"].__setitem__("prediction_0000", h5py.SoftLink("/x")), ("a", "prediction_0000", "error")),
        (lambda f: f["a"].attrs.__delitem__("shape"), ("a", "", "error")),
        (lambda f: f.__setitem__("x", np.arange(3)), ("x", "", "error")),
        (lambda f: f.move("a", "-a"), ("-a", "", "warning")),
        (lambda f: f.attrs.__setitem__("name", "a\x1b[31m"), ("", "", "warning")),
        (lambda f: f.attrs.create("labels_aliases", ["a", "a"], dtype=h5py.string_dtype()), ("", "", "warning")),
        (lambda f: f.copy("a", "b"), ("b", "image", "warning")),
        (lambda f: f.__delitem__("a"), ("", "", "note")),
    ],
)
def test_what_is_found(files: Path, change: Any, expected: tuple[str, str, str]) -> None:
    added(files)
    with h5py.File(files / "set.hdf5", "r+") as file:
        change(file)
    assert expected in problems(files / "set.hdf5")[1]


def test_what_cannot_be_read_hides_nothing_else(files: Path) -> None:
    added(files, "a")
    added(files, "b")
    with h5py.File(files / "set.hdf5") as file:
        chunk = file["a"]["label_0000"].id.get_chunk_info(0)
    with (files / "set.hdf5").open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    with h5py.File(files / "set.hdf5", "r+") as file:
        write(file, "image", (0, 0, 0), 2)
    result, found = problems(files / "set.hdf5")
    assert [row for row in found if row[2] == "error"] == [("a", "image", "error"), ("a", "label_0000", "error")]
    assert "slices 0:10 cannot be read" in str(result.tables[0].rows)
    assert ("b", "mito") in [row[:2] for row in result.tables[1].rows]


def test_leftovers_are_told(files: Path) -> None:
    added(files)
    leftover = {
        "host": socket.gethostname(),
        "pid": 2**22 + 1,
        "process_started": 1,
        "since": 1,
        "token": "x",
    }
    lock_path(files / "set.hdf5").write_text(json.dumps(leftover))
    result, found = problems(files / "set.hdf5")
    assert found == [("", "", "note")]
    assert "set.hdf5.lock" in str(result.tables[0].rows)
    lock_path(files / "set.hdf5").unlink()
    (files / "set.hdf5.journal").write_bytes(b"")
    assert "was undone" in str(problems(files / "set.hdf5")[0].tables[0].rows)


def test_unused_space_is_told(files: Path) -> None:
    np.save(files / "image.npy", np.random.default_rng(0).random((10, 200, 200), np.float32))
    for name in ("a", "b"):
        added(files, name, image=files / "image.npy", labels=())
    do("remove-sample", {"file": files / "set.hdf5", "sample": "a"})
    assert "save-dataset frees them" in str(problems(files / "set.hdf5")[0].tables[0].rows)


def test_what_is_no_data_set_is_refused(files: Path) -> None:
    with pytest.raises(DatasetError, match="no HDF5 file"):
        do("check-dataset", {"file": files / "image.tif"})


def test_16_bits_keep_their_depth(tmp_path: Path) -> None:
    """All values stay apart, and come back as they were."""
    values = np.random.default_rng(0).permutation(2**16).astype(np.uint16).reshape(4, 128, 128)
    tifffile.imwrite(tmp_path / "image.tif", values, photometric="minisblack")
    do("create-dataset", {"file": tmp_path / "set.hdf5", "name": "set", "n_labels": 0})
    do("add-sample", {"file": tmp_path / "set.hdf5", "name": "a", "image": tmp_path / "image.tif"})
    with open_dataset(tmp_path / "set.hdf5") as dataset:
        stored = np.asarray(dataset.sample("a").image)
        assert len(np.unique(stored)) == 2**16
        assert np.array_equal(np.rint(stored * 65535).astype(np.uint16), values)
    result = do("export-sample", {"file": tmp_path / "set.hdf5", "sample": "a", "folder": tmp_path / "out"})
    (exported,) = (path for path in (tmp_path / "out").iterdir())
    assert np.array_equal(tifffile.imread(exported), values), result.summary
