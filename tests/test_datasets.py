"""Data sets: the format as DeepSCEM reads it, and files that are not what they should be."""

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscem_tui.engine import words
from deepscem_tui.engine.datasets import layout as dataset_layout
from deepscem_tui.engine.datasets.dataset import NewDataset, change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.datasets.layout import MemberWriter, chunk_shape, create_member
from deepscem_tui.engine.errors import DatasetError, ParameterError

DEEPSCEM = Path(__file__).parents[2] / "shared" / "data" / "deepscem"
needs_deepscem = pytest.mark.skipif(not DEEPSCEM.is_dir(), reason="../shared/data/deepscem is not here")


def image(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def add(made: NewDataset, name: str, shape: tuple[int, int, int] = (3, 8, 9), n_labels: int = 1) -> np.ndarray:
    """A sample whose labels are the voxels above 0.5, above 0.6 ..."""
    voxels = image(shape)
    labels = {f"label_{index:04d}": np.uint8 for index in range(n_labels)}
    sample = made.add_sample(name, shape, {"image": np.float32, **labels})
    sample["image"][:] = voxels
    for index, label in enumerate(labels):
        sample[label][:] = voxels > 0.5 + index / 10
    return voxels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "set.hdf5"
    with new_dataset(file, "set", 1) as made:
        add(made, "a")
        add(made, "b", (1, 30, 20))
    return file


# ------------------------------------------------------------------------------------------------ DeepSCEM's files


@needs_deepscem
@pytest.mark.parametrize("name", ["dataset.hdf5", "prediction.hdf5"])
def test_deepscems_files_open_as_they_are(name: str, tmp_path: Path) -> None:
    before = (DEEPSCEM / name).read_bytes()
    (tmp_path / name).write_bytes(before)
    os.utime(tmp_path / name, (1e9, 1e9))
    with open_dataset(tmp_path / name) as dataset, h5py.File(DEEPSCEM / name) as file:
        assert (dataset.name, dataset.n_labels) == (file.attrs["name"], 2)
        assert dataset.label_names == (("boundary", "box") if "dataset" in name else ("label_0000", "label_0001"))
        assert list(dataset.samples) == list(file)
        for key, sample in dataset.samples.items():
            assert sample.shape == file[key]["image"].shape
            assert np.array_equal(sample.image[...], file[key]["image"])
            arrays = sample.labels if "dataset" in name else sample.predictions
            kind = "label" if "dataset" in name else "prediction"
            for index in range(2):
                assert np.array_equal(arrays[index][1:3, 5:, ::2], file[key][f"{kind}_{index:04d}"][1:3, 5:, ::2])
            assert (len(sample.labels), len(sample.predictions)) == ((2, 0) if "dataset" in name else (0, 2))
            assert (sample.voxel_size, sample.voxel_unit, sample.attributes) == (None, "", {})
    assert (tmp_path / name).read_bytes() == before
    assert (tmp_path / name).stat().st_mtime == 1e9
    assert [file.name for file in tmp_path.iterdir()] == [name]


@needs_deepscem
def test_our_files_have_what_deepscems_have_and_nothing_else(tmp_path: Path) -> None:
    with new_dataset(tmp_path / "ours.hdf5", "FIB", 2, aliases=("boundary", "box")) as made:
        add(made, "a", (8, 64, 80), n_labels=2)
    with h5py.File(tmp_path / "ours.hdf5") as ours, h5py.File(DEEPSCEM / "dataset.hdf5") as theirs:
        assert {key: ours.attrs.get_id(key).dtype for key in ours.attrs} == {
            key: theirs.attrs.get_id(key).dtype for key in theirs.attrs
        }
        assert ours.attrs["labels_aliases"].tolist() == theirs.attrs["labels_aliases"].tolist()
        for key in ours.attrs:
            mine, other = ours.attrs.get_id(key).get_type(), theirs.attrs.get_id(key).get_type()
            assert mine == other
        assert set(ours["a"]) == set(theirs["a"])
        assert list(ours["a"].attrs) == ["shape"]
        assert ours["a"].attrs["shape"].tolist() == theirs["a"].attrs["shape"].tolist()
        assert ours["a"].attrs["shape"].dtype == theirs["a"].attrs["shape"].dtype
        for key in theirs["a"]:
            assert ours["a"][key].dtype == theirs["a"][key].dtype
            assert ours["a"][key].shape == theirs["a"][key].shape
            assert ours["a"][key].compression in (None, "gzip")
    with (tmp_path / "ours.hdf5").open("rb") as file:
        assert file.read(9)[8] == 0  # the superblock's version: that of HDF5 1.0 to 1.8


# ------------------------------------------------------------------------------------------------ writing and reading


def test_an_error_without_a_text_says_its_kind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert words.reason(OSError()) == "OSError"
    assert words.reason(ValueError("\n \n")) == "ValueError"
    assert words.reason(ValueError("\n one\ntwo")) == "one"
    assert len(words.reason(ValueError("x" * 999))) == 200

    class Failing:
        def __getitem__(self, key: object) -> None:
            raise OSError

    with open_dataset(path) as dataset:
        image = dataset.sample("a").image
        monkeypatch.setattr(image, "_dataset", Failing())
        with pytest.raises(DatasetError, match=r"cannot be read \(OSError\)"):
            image[0:1]


def test_bytes_of_names_that_are_no_text_become_escapes(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with new_dataset(path, "a\udcff", 1, ("l\udcff",)) as dataset:
        dataset.add_sample("s", (1, 2, 2), {"label_0000": np.uint8}, attributes={"source": "f\udcff.tif"})
    with open_dataset(path) as dataset:
        assert (dataset.name, *dataset.aliases) == ("a\\udcff", "l\\udcff")
        assert dataset.sample("s").attributes["source"] == "f\\udcff.tif"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "new" / "set.hdf5"
    attributes = {"voxel_size": (8.0, 2, 2.5), "voxel_unit": "µm", "texts": ("a", "β", ""), "n": 3, "none": None}
    with new_dataset(file, "übung", 2, aliases=("mito", "E R")) as made:
        voxels = add(made, "ein Name", n_labels=2)
        made.set_attributes(attributes, sample="ein Name")
        made.set_attributes({"origin": "here"})
    with open_dataset(file) as dataset:
        assert (dataset.path, dataset.name, dataset.n_labels) == (file, "übung", 2)
        assert dataset.aliases == dataset.label_names == ("mito", "E R")
        assert dataset.attributes == {"origin": "here"}
        sample = dataset.sample("ein Name")
        assert (sample.voxel_size, sample.voxel_unit) == ((8.0, 2.0, 2.5), "µm")
        assert sample.attributes == {k: v for k, v in attributes.items() if v is not None} | {
            "voxel_size": (8.0, 2.0, 2.5)
        }
        assert np.array_equal(sample.image, voxels)
        assert np.array_equal(sample.labels[1][:, 2:5], voxels[:, 2:5] > 0.6)
        assert (sample.predictions, sample.distance_transforms) == ((), ())
        assert "ein Name" in dataset.samples
        assert len(dataset.samples) == 1
        with pytest.raises(KeyError):
            dataset.samples["another"]


def test_a_name_that_is_not_there_brings_the_nearest(path: Path) -> None:
    with change_dataset(path) as changed:
        changed.rename_sample("a", "cortex_01")
    with open_dataset(path) as dataset, pytest.raises(DatasetError, match="no sample 'cortex_1'") as caught:
        dataset.sample("cortex_1")
    assert "'cortex_01'" in caught.value.hint
    assert "'b'" not in caught.value.hint


def test_nothing_is_overwritten_unasked_and_nothing_left_of_a_failure(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ParameterError, match="exists already"), new_dataset(path, "x", 1):
        pytest.fail("opened")
    with pytest.raises(DatasetError), new_dataset(path, "x", 1, overwrite=True) as made:
        _ = add(made, "c"), add(made, "c")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["set.hdf5"]
    with new_dataset(path, "x", 3, overwrite=True):
        pass
    with open_dataset(path) as dataset:
        assert (dataset.name, dataset.n_labels, list(dataset.samples)) == ("x", 3, [])


@pytest.mark.parametrize("name", ["a", "x/y", ".", "", "nul\0"])
def test_names_that_no_new_sample_can_have(path: Path, name: str) -> None:
    before = path.read_bytes()
    with pytest.raises(DatasetError), change_dataset(path) as changed:
        changed.add_sample(name, (1, 2, 2), {"image": np.float32})
    with pytest.raises(DatasetError), change_dataset(path) as changed:
        changed.rename_sample("b", name)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("members", "shape"), [({"mask": np.uint8}, (1, 2, 2)), ({"image": np.float32}, (2, 2)), ({}, (0, 2, 2))]
)
def test_what_deepscem_does_not_know_is_not_written(path: Path, members: dict[str, Any], shape: tuple[int]) -> None:
    with pytest.raises(ValueError, match="do not belong"), change_dataset(path) as changed:
        changed.add_sample("c", shape, members)


def test_an_attribute_that_is_too_large(path: Path) -> None:
    with pytest.raises(DatasetError, match="notes takes 70000 bytes"), change_dataset(path) as changed:
        changed.set_attributes({"notes": "x" * 70_000}, sample="a")


def test_renaming_removing_and_naming_labels(path: Path) -> None:
    with change_dataset(path) as changed:
        changed.rename_sample("a", "z")
        changed.remove_sample("b")
        changed.set_aliases(("mito",))
        changed.set_name("new")
        assert list(changed.samples) == ["z"]
    with open_dataset(path) as dataset:
        assert (dataset.name, dataset.aliases, list(dataset.samples)) == ("new", ("mito",), ["z"])
        assert np.array_equal(dataset.sample("z").image, image((3, 8, 9)))
    with change_dataset(path) as changed:
        changed.set_aliases(())
    with open_dataset(path) as dataset:
        assert dataset.label_names == ("label_0000",)


def test_a_member_in_place_of_another(path: Path) -> None:
    for value in (1, 2):
        with change_dataset(path) as changed:
            changed.add_member("a", "label_0000_dt", np.float32)[:] = np.full((3, 8, 9), value)
        with open_dataset(path) as dataset:
            assert set(dataset.sample("a").members) == {"image", "label_0000", "label_0000_dt"}
            assert np.unique(dataset.sample("a").distance_transforms[0]).tolist() == [value]


# ------------------------------------------------------------------------------------------------ layout


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 90), st.integers(1, 150)),
    st.sampled_from(["image", "label_0000"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
    st.integers(0, 99),
)
def test_any_slabs_give_the_whole(shape: tuple[int, int, int], name: str, thickness: list[int], seed: int) -> None:
    voxels = (np.random.default_rng(seed).random(shape) > 0.8).astype(np.uint8)
    kept = np.zeros(shape, np.uint8)
    with h5py.File("x", "w", driver="core", backing_store=False) as file, ThreadPoolExecutor(2) as pool:
        dataset = create_member(file, name, shape, np.float16 if name == "image" else np.uint8)
        writer, z = MemberWriter(dataset, pool), 0
        for number, slices in enumerate(thickness):
            if number % 4 != 3:  # some are left out
                writer[z : z + slices] = voxels[z : z + slices]
                kept[z : z + slices] = voxels[z : z + slices]
            z = min(z + slices, shape[0])
        writer.finish()
        assert np.array_equal(dataset[...], kept)
        for chunk in range(dataset.id.get_num_chunks()):
            assert dataset.id.get_chunk_info(chunk).filter_mask == 0


@pytest.mark.parametrize(
    ("shape", "itemsize", "expected"),
    [
        ((250, 250, 250), 2, (8, 63, 63)),
        ((1, 700, 700), 2, (1, 117, 117)),
        ((3, 10, 200), 4, (3, 10, 100)),
        ((64, 3000, 3000), 2, (4, 125, 125)),
        ((64, 20_000, 20_000), 4, (1, 128, 128)),
    ],
)
def test_chunks_follow_the_shape_and_the_memory(shape: Any, itemsize: int, expected: tuple[int, int, int]) -> None:
    assert chunk_shape(shape, itemsize) == expected


def test_each_chunk_is_compressed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[int] = []
    real = dataset_layout.deflate_encode
    monkeypatch.setattr(
        dataset_layout, "deflate_encode", lambda *args, **more: (calls.append(1), real(*args, **more))[1]
    )
    with new_dataset(tmp_path / "set.hdf5", "set", 2) as made:
        sample = made.add_sample("a", (20, 70, 70), {"image": np.float16, "label_0000": "u1", "label_0001": "u1"})
        for z in range(0, 20, 3):
            sample["label_0000"][z : z + 3] = np.ones((min(3, 20 - z), 70, 70), np.uint8)
    assert len(calls) == 3 * 2 * 2
    with open_dataset(tmp_path / "set.hdf5") as dataset:
        assert dataset.sample("a").labels[1].stored_bytes == 0  # blank: nothing is stored
        assert dataset.sample("a").labels[0][...].all()


def test_slices_go_forward_only(tmp_path: Path) -> None:
    with new_dataset(tmp_path / "set.hdf5", "set", 0) as made:
        member = made.add_sample("a", (9, 4, 4), {"image": np.float32})["image"]
        member[4:6] = np.ones((2, 4, 4))
        for key, slab in ((slice(0, 2), np.ones((2, 4, 4))), (slice(6, 8), np.ones((2, 4, 5))), (slice(6, 8), 1)):
            with pytest.raises(ValueError, match=r"slices|slab"):
                member[key] = slab


# ------------------------------------------------------------------------------------------------ files gone wrong


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "no data set"),
        (b"", "is empty"),
        (b"II*\0 not HDF5" * 100, "no HDF5 file"),
        (b"\x89HDF\r\n\x1a\n", "damaged|incomplete|no HDF5"),
        (b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 20, "damaged|incomplete"),
    ],
)
def test_files_that_are_no_data_sets(tmp_path: Path, data: bytes | None, words: str) -> None:
    file = tmp_path / "x.hdf5"
    if data is not None:
        file.write_bytes(data)
    for opening in (open_dataset, change_dataset):
        with pytest.raises(DatasetError, match=words) as caught, opening(file):
            pytest.fail("opened")
        assert str(file) in caught.value.what
    assert [other.name for other in tmp_path.iterdir()] == (["x.hdf5"] if data is not None else [])


def test_a_folder_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is a folder"), open_dataset(tmp_path):
        pytest.fail("opened")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.hdf5")
    with pytest.raises(DatasetError, match="no regular file"), open_dataset(tmp_path / "pipe.hdf5"):
        pytest.fail("opened")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DatasetError, match="incomplete"), open_dataset(path):
        pytest.fail("opened")


@pytest.mark.parametrize("seed", range(30))  # about one in a thousand crashes HDF5 itself
def test_whatever_is_damaged_ends_in_an_error_of_ours(path: Path, seed: int) -> None:
    content, chance = bytearray(path.read_bytes()), random.Random(seed)
    heap = content.index(b"GCOL")  # of texts: on some damage there HDF5 itself (1.14) never returns
    for _ in range(chance.randint(1, 4)):
        content[chance.choice([*range(heap), *range(heap + 4096, len(content))])] ^= chance.randint(1, 255)
    path.write_bytes(content)
    with suppress(DatasetError), open_dataset(path) as dataset:
        for name in dataset.samples:
            with suppress(DatasetError):
                _ = [member[0:1] for member in dataset.sample(name).members.values() if np.prod(member.shape) < 1e6]


def as_a_model(file: h5py.File) -> None:
    file.attrs["model_config"] = "{}"


def with_attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (as_a_model, "is a model"),
        (with_attribute("name", None), "lacks the attribute 'name'"),
        (with_attribute("labels", None), "lacks the attribute 'labels'"),
        (with_attribute("labels", -1), "no number of labels"),
        (with_attribute("labels", 1.5), "no number of labels"),
        (with_attribute("labels", [1, 2]), "no number of labels"),
        (with_attribute("name", 3), "is no text"),
        (lambda file: file.attrs.create("labels_aliases", ["a", "b"], dtype=h5py.string_dtype()), "do not fit"),
        (lambda file: file.attrs.create("labels_aliases", "a", dtype=h5py.string_dtype()), "do not fit"),
        (lambda file: file.attrs.create("labels_aliases", [7]), "is no text"),
    ],
)
def test_roots_that_are_no_data_sets(path: Path, change: Callable[[h5py.File], None], words: str) -> None:
    with h5py.File(path, "r+") as file:
        change(file)
    before = path.read_bytes()
    for opening in (open_dataset, change_dataset):
        with pytest.raises(DatasetError, match=words), opening(path):
            pytest.fail("opened")
    assert path.read_bytes() == before


def replaced(member: str, make: Callable[[h5py.Group, str], Any]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if member in file["a"]:
            del file["a"][member]
        make(file["a"], member)

    return change


def virtual(group: h5py.Group, name: str) -> None:
    layout = h5py.VirtualLayout((3, 8, 9), np.float32)
    layout[...] = h5py.VirtualSource("secret.hdf5", "image", (3, 8, 9))
    group.create_virtual_dataset(name, layout)


def shape_of(value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["a"].attrs["shape"]
        if value is not None:
            file["a"].attrs["shape"] = value

    return change


BROKEN: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "external link": (replaced("image", lambda g, n: g.__setitem__(n, h5py.ExternalLink("/x", "/y"))), "another file"),
    "soft link": (replaced("image", lambda g, n: g.__setitem__(n, h5py.SoftLink("/b/image"))), "a link to elsewhere"),
    "dangling": (replaced("label_0000", lambda g, n: g.__setitem__(n, h5py.SoftLink("/no"))), "a link to elsewhere"),
    "virtual": (replaced("image", virtual), "other files"),
    "external storage": (
        replaced("image", lambda g, n: g.create_dataset(n, (3, 8, 9), "f4", external=[("/etc/passwd", 0, 864)])),
        "other files",
    ),
    "filter": (replaced("image", lambda g, n: g.create_dataset(n, (3, 8, 9), "f4", scaleoffset=2)), "filter 6"),
    "group": (replaced("image", lambda g, n: g.create_group(n)), "image that is a group"),
    "integers": (replaced("image", lambda g, n: g.create_dataset(n, (3, 8, 9), "u1")), "image that holds values of"),
    "wide label": (replaced("label_0000", lambda g, n: g.create_dataset(n, (3, 8, 9), "u2")), "type uint16, not uint8"),
    "texts": (replaced("label_0000", lambda g, n: g.create_dataset(n, (3, 8, 9), h5py.string_dtype())), "type object"),
    "shape": (replaced("label_0000", lambda g, n: g.create_dataset(n, (3, 9, 8), "u1")), r"shape \(3, 9, 8\)"),
    "2D": (replaced("image", lambda g, n: g.create_dataset(n, (8, 9), "f4")), r"shape \(8, 9\)"),
    "scalar": (replaced("image", lambda g, n: g.create_dataset(n, (), "f4")), r"shape \(\)"),
    "gap": (lambda file: file["a"].move("label_0000", "label_0001"), "has label_0001, but no label_0000"),
    "no shape": (shape_of(None), "lacks the attribute 'shape'"),
    "short shape": (shape_of([3, 8]), r"no shape \(Z, Y, X\)"),
    "negative shape": (shape_of([3, 8, -9]), "no shape"),
    "float shape": (shape_of([3.0, 8.0, 9.0]), "no shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_sample_is_named_and_hides_no_other(path: Path, case: str) -> None:
    change, words = BROKEN[case]
    with h5py.File(path, "r+") as file:
        change(file)
    with open_dataset(path) as dataset:
        assert list(dataset.samples) == ["a", "b"]
        assert dataset.sample("b").image[0].shape == (30, 20)
        with pytest.raises(DatasetError, match=words) as caught:
            dataset.sample("a")
        assert str(path) in caught.value.what
        assert "'a'" in caught.value.what
        assert "check-dataset" in caught.value.hint
    with change_dataset(path) as changed:  # and it can be removed
        changed.remove_sample("a")
    with open_dataset(path) as dataset:
        assert list(dataset.samples) == ["b"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: file.create_dataset("x", data=[1, 2]), "array where a sample should be"),
        (lambda file: file.__setitem__("x", h5py.SoftLink("/a")), "link to elsewhere"),
        (lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/x", "/")), "link to another file"),
        (lambda file: file.__setitem__("x", np.dtype("f4")), "array where a sample should be"),
        (lambda file: file.__setitem__("x", file["/"]), "lacks the attribute 'shape'"),
    ],
)
def test_what_stands_where_a_sample_should(path: Path, make: Callable[[h5py.File], Any], words: str) -> None:
    with h5py.File(path, "r+") as file:
        make(file)
    with open_dataset(path) as dataset:
        assert dataset.sample("a").shape == (3, 8, 9)
        with pytest.raises(DatasetError, match=words):
            dataset.samples["x"]


def test_a_chunk_that_cannot_be_decoded_names_its_member(path: Path) -> None:
    with h5py.File(path) as file:
        chunk = file["b"]["label_0000"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(data)
    with open_dataset(path) as dataset:
        assert dataset.sample("b").image[0].shape == (30, 20)
        with pytest.raises(DatasetError, match=r"Sample 'b' of .*label_0000, cannot be read"):
            dataset.sample("b").labels[0][...]


def test_a_name_that_is_no_text_can_be_replaced(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.move("a", b"caf\xe9")
    with open_dataset(path) as dataset:
        (name, _) = sorted(dataset.samples, key=len, reverse=True)
        assert dataset.sample(name).image.shape == (3, 8, 9)
    with change_dataset(path) as changed:
        with pytest.raises(DatasetError):
            changed.check_new(name + "2")
        changed.rename_sample(name, "café")
    with open_dataset(path) as dataset:
        assert set(dataset.samples) == {"b", "café"}


def test_members_nobody_knows_are_left_alone(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["a"]["my_mask"] = np.zeros(3)
        file["a"]["image_2"] = np.zeros(3)
    with open_dataset(path) as dataset:
        assert set(dataset.sample("a").members) == {"image", "label_0000"}
        assert dataset.sample("a").others == ("image_2", "my_mask")


@pytest.mark.parametrize("value", ["x", (1.0, 2.0), (1.0, 2.0, -1.0), (1.0, 2.0, np.nan), ("a", "b", "c"), 4.0])
def test_a_voxel_size_that_is_none(path: Path, value: Any) -> None:
    with change_dataset(path) as changed:
        changed.set_attributes({"voxel_size": value, "voxel_unit": "nm"}, sample="a")
    with open_dataset(path) as dataset:
        assert (dataset.sample("a").voxel_size, dataset.sample("a").voxel_unit) == (None, "")


def test_a_prediction_without_its_image(tmp_path: Path) -> None:
    with new_dataset(tmp_path / "set.hdf5", "set", 1) as made:
        made.add_sample("a", (1, 4, 4), {"prediction_0000": np.float32})["prediction_0000"][:] = np.ones((1, 4, 4))
    with open_dataset(tmp_path / "set.hdf5") as dataset:
        assert dataset.sample("a").predictions[0][...].all()
        with pytest.raises(DatasetError, match="has no image"):
            _ = dataset.sample("a").image


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read(path: Path) -> None:
    path.parent.chmod(0o555)
    try:
        with open_dataset(path) as dataset:
            assert len(dataset.samples) == 2
        with pytest.raises(DatasetError, match="no lock file"), change_dataset(path):
            pytest.fail("changed")
    finally:
        path.parent.chmod(0o755)
