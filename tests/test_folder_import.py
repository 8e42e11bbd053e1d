"""Whole folders: which files belong together by their names, and all of them added in one run or none."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile
from test_dataset_actions import Heard, do

from deepscem_tui.engine.actions import ACTIONS
from deepscem_tui.engine.checks import examine
from deepscem_tui.engine.dataset_actions.pairing import Pattern, image_files, pair_by_patterns, pair_by_words
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.datasets.ignoring import ignored_in
from deepscem_tui.engine.errors import DatasetError, ParameterError, Stopped, VolumeError
from deepscem_tui.engine.stop import Stop

Pairs = dict[str, tuple[str, dict[str, str]]]


def pairs(paths: list[str], names: tuple[str, ...] = ()) -> Pairs:
    return {pair.key: (pair.image, dict(pair.labels)) for pair in pair_by_words(paths, names).pairs}


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["images/a.tif", "labels/a.tif"], {"a": ("images/a.tif", {"": "labels/a.tif"})}),
        (["Images/a.tif", "Masks/a.npy"], {"a": ("Images/a.tif", {"": "Masks/a.npy"})}),
        (["x.tif", "x_mask.tif"], {"x": ("x.tif", {"": "x_mask.tif"})}),
        (["x y.tif", "x y-SEG.tif"], {"x y": ("x y.tif", {"": "x y-SEG.tif"})}),
        (
            ["x.tif", "x_label_mito.tif", "x_label_er.tif"],
            {"x": ("x.tif", {"mito": "x_label_mito.tif", "er": "x_label_er.tif"})},
        ),
        (["x_raw.tif", "x_gt.tif"], {"x": ("x_raw.tif", {"": "x_gt.tif"})}),
        (["x_raw.tif", "x_classes.tif"], {"x": ("x_raw.tif", {"": "x_classes.tif"})}),
        (["image001.tif", "mask001.tif"], {"001": ("image001.tif", {"": "mask001.tif"})}),
        (["imagesTr/c_1_0000.tif", "labelsTr/c_1.tif"], {"c_1": ("imagesTr/c_1_0000.tif", {"": "labelsTr/c_1.tif"})}),
        (["images/s_0000.tif", "labels/s_0000.tif"], {"s_0000": ("images/s_0000.tif", {"": "labels/s_0000.tif"})}),
        (
            ["images/a.tif", "masks/mito/a.tif", "masks/er/a_er.tif"],
            {"a": ("images/a.tif", {"mito": "masks/mito/a.tif", "er_er": "masks/er/a_er.tif"})},
        ),
        (
            ["raw/a.tif", "raw/a_b.tif", "labels/a_mito.tif", "labels/a_b_mito.tif"],
            {
                "a": ("raw/a.tif", {"mito": "labels/a_mito.tif"}),
                "a_b": ("raw/a_b.tif", {"mito": "labels/a_b_mito.tif"}),
            },
        ),
        (["images/seg_1.tif", "labels/seg_1.tif"], {"seg_1": ("images/seg_1.tif", {"": "labels/seg_1.tif"})}),
        (
            ["one/images/a.tif", "one/masks/a.tif", "two/images/a.tif", "two/masks/a.tif"],
            {
                "one/a": ("one/images/a.tif", {"": "one/masks/a.tif"}),
                "two/a": ("two/images/a.tif", {"": "two/masks/a.tif"}),
            },
        ),
        (
            ["images/a/1.tif", "images/b/1.tif", "labels/a/1.tif", "labels/mito/b/1.tif", "labels/b/er/1.tif"],
            {
                "a/1": ("images/a/1.tif", {"": "labels/a/1.tif"}),
                "b/1": ("images/b/1.tif", {"mito": "labels/mito/b/1.tif", "er": "labels/b/er/1.tif"}),
            },
        ),
        (["x.tif", "x_mito.tif"], {"x": ("x.tif", {}), "x_mito": ("x_mito.tif", {})}),
    ],
)
def test_pairs_by_words(paths: list[str], expected: Pairs) -> None:
    assert pairs(paths) == expected
    assert pairs(sorted(paths, reverse=True)) == expected


def test_known_names_of_labels_are_words_too() -> None:
    assert pairs(["x.tif", "x_Mito.tif"], ("Mito",)) == {"x": ("x.tif", {"Mito": "x_Mito.tif"})}


def test_what_does_not_pair_says_why() -> None:
    found = pair_by_words(["a.tif", "a.npy", "b_mask.tif", "a_mask.tif", "a_mask.npy"])
    assert {item.path: item.why for item in found.unpaired} == {
        "a.npy": "a.tif is taken for the same",
        "a_mask.npy": "a_mask.tif is taken for the same",
        "b_mask.tif": "it is a label by its name, and no image is called 'b'",
    }


@pytest.mark.parametrize(
    ("paths", "image", "label", "expected"),
    [
        (["x.tif", "x_mito.tif"], "{name}.tif", "{name}_{label}.tif", {"x": ("x.tif", {"mito": "x_mito.tif"})}),
        (
            ["a_b.tif", "a_b_c_d.tif"], "{name}.tif", "{name}_{label}.tif",
            {"a_b": ("a_b.tif", {"c_d": "a_b_c_d.tif"})},
        ),
        (
            ["raw/k/x.tif", "er/k/x.tif", "notes/x.tif"], "raw/**/{name}.tif", "{label}/**/{name}.tif",
            {"x": ("raw/k/x.tif", {"er": "er/k/x.tif", "notes": "notes/x.tif"})},
        ),
        (["1/em.tif", "1/l.npy", "2/em.tif"], "{name}/em.*", "{name}/l.???",
         {"1": ("1/em.tif", {"": "1/l.npy"}), "2": ("2/em.tif", {})}),
        (["x/x.tif", "x/y.tif"], "{name}/{name}.tif", None, {"x": ("x/x.tif", {})}),
    ],
)  # fmt: skip
def test_pairs_by_patterns(paths: list[str], image: str, label: str | None, expected: Pairs) -> None:
    found = pair_by_patterns(paths, Pattern(image, "i"), Pattern(label, "l") if label else None)
    assert {pair.key: (pair.image, dict(pair.labels)) for pair in found.pairs} == expected
    assert not found.unpaired


def test_masks_of_what_is_not_labelled_are_no_labels() -> None:
    by_words = ["a_image.tif", "a_mask.tif", "a_not_labelled.tif", "raw/b.tif", "labels/b.tif", "ignore/b.tif"]
    found = pair_by_words(by_words)
    assert {pair.key: (dict(pair.labels), pair.ignored) for pair in found.pairs} == {
        "a": ({"": "a_mask.tif"}, "a_not_labelled.tif"),
        "b": ({"": "labels/b.tif"}, "ignore/b.tif"),
    }
    assert found.names == ("",)
    assert not found.unpaired
    patterns = [Pattern(text, "p") for text in ("i/{name}.tif", "m/{name}_{label}.tif", "m/{name}_unsure.tif")]
    found = pair_by_patterns(["i/a.tif", "i/b.tif", "m/a_er.tif", "m/a_unsure.tif", "m/c_unsure.tif"], *patterns)
    assert [(pair.key, dict(pair.labels), pair.ignored) for pair in found.pairs] == [
        ("a", {"er": "m/a_er.tif"}, "m/a_unsure.tif"),
        ("b", {}, None),
    ]
    assert found.names == ("er",)
    assert "no image is called 'c'" in found.unpaired[0].why


def test_patterns_tell_of_labels_without_an_image() -> None:
    found = pair_by_patterns(["i/a.tif", "l/b.tif"], Pattern("i/{name}.tif", "i"), Pattern("l/{name}.tif", "l"))
    assert [(item.path, item.why) for item in found.unpaired] == [
        ("l/b.tif", "it matches l/{name}.tif, and no image is called 'b'")
    ]


@pytest.mark.parametrize(("text", "what"), [("a*.tif", "lacks {name}"), ("{name}_{class}.tif", "has {class}")])
def test_patterns_that_cannot_be_right(text: str, what: str) -> None:
    with pytest.raises(ParameterError, match=what):
        Pattern(text, "image_pattern")


def test_files_are_listed_in_natural_order_and_hidden_ones_not(tmp_path: Path) -> None:
    for name in ("s10.tif", "s2.tif", "sub/a.npy", ".hidden.tif", ".git/b.tif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".git" / "empty").mkdir()
    assert image_files(tmp_path) == ["s2.tif", "s10.tif", "sub/a.npy"]
    with pytest.raises(VolumeError, match="has no image file"):
        image_files(tmp_path / ".git" / "empty")
    with pytest.raises(VolumeError, match="no folder"):
        image_files(tmp_path / "nowhere")


def test_what_only_looks_like_an_image_is_left_out(tmp_path: Path) -> None:
    for name in ("x.js.map", "notes.st", "a.rec"):
        (tmp_path / name).write_text("text " * 1000)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.map")
    (tmp_path / "file.zarr").touch()
    (tmp_path / "cut.mrc").touch()  # which is refused when it is opened
    (tmp_path / "cell.tif").mkdir()
    (tmp_path / "cell.tif" / "s1.tif").touch()
    with mrcfile.new(tmp_path / "b.rec", np.ones((2, 3, 4), np.int16)):
        pass
    (tmp_path / "c.zarr" / "0").mkdir(parents=True)
    assert image_files(tmp_path) == ["b.rec", "c.zarr", "cell.tif/s1.tif", "cut.mrc"]
    for path in ("b.rec", "cut.mrc", "cell.tif/s1.tif"):
        (tmp_path / path).unlink()
    (tmp_path / "c.zarr").rename(tmp_path / ".c.zarr")
    (tmp_path / "d.h5").touch()
    with pytest.raises(VolumeError, match=r"in d\.h5 an array has to be named.*/d\.h5:/ARRAY"):
        image_files(tmp_path)


# ------------------------------------------------------------------------------------------------ the action


def write(path: Path, shape: tuple[int, ...] = (3, 8, 9), seed: int = 0, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 200, shape, np.uint8)
    tifffile.imwrite(path, (voxels > 99).astype(np.uint8) * 255 if mask else voxels, photometric="minisblack")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with two labels each."""
    for number, name in enumerate(("cell 1", "cell 2")):
        write(tmp_path / "in" / "images" / f"{name}.tif", seed=number)
        for label in ("mito", "er"):
            write(tmp_path / "in" / "labels" / f"{name}_{label}.tif", seed=number + 5, mask=True)
    return tmp_path / "in"


def importing(folder: Path, report: Heard | None = None, stop: Stop | None = None, **values: Any) -> Any:
    return do("import-folder", {"file": folder.parent / "set.hdf5", "folder": folder} | values, report, stop)


def test_makes_a_data_set_of_all(folder: Path) -> None:
    file, heard = folder.parent / "set.hdf5", Heard()
    dry = importing(folder, dry_run=True)
    assert dry.ok
    assert dry.summary == f"Would add 2 samples with 2 labels to {file}, a new data set"
    assert dry.tables[0].rows[0] == (
        "cell 1", "images/cell 1.tif", "er: labels/cell 1_er.tif, mito: labels/cell 1_mito.tif", [3, 8, 9],
    )  # fmt: skip
    assert not file.exists()
    result = importing(folder, heard)
    assert result.summary == f"Added 2 samples with 2 labels to {file}"
    with open_dataset(file) as dataset:
        assert (dataset.name, dataset.aliases, list(dataset.samples)) == ("set", ("er", "mito"), ["cell 1", "cell 2"])
        for name in dataset.samples:
            sample = dataset.sample(name)
            image = tifffile.imread(folder / "images" / f"{name}.tif").astype(float)
            expected = (image - image.min()) / np.ptp(image)
            assert np.allclose(sample.image, expected, atol=1e-3)
            for label, alias in zip(sample.labels, dataset.aliases, strict=True):
                mask = tifffile.imread(folder / "labels" / f"{name}_{alias}.tif") > 0
                assert np.array_equal(label, mask)
                assert result.facts["foreground"][name][alias] == pytest.approx(mask.mean())
    assert {task: done == total for task, (done, total) in heard.tasks.items()} == {
        "Looking at files": True, "Range of images": True, "Writing samples": True,
    }  # fmt: skip


def test_adds_to_a_data_set_by_its_labels_names(folder: Path) -> None:
    file = folder.parent / "there.hdf5"
    do("create-dataset", {"file": file, "name": "there", "n_labels": 2})
    do("set-aliases", {"file": file, "aliases": ("mito", "er")})
    importing(folder, file=file)
    with open_dataset(file) as dataset:
        assert dataset.aliases == ("mito", "er")
        mask = tifffile.imread(folder / "labels" / "cell 2_mito.tif") > 0
        assert np.array_equal(dataset.sample("cell 2").labels[0], mask)
    with pytest.raises(DatasetError, match=r"has 'cell 1', 'cell 2' already.*--prefix"):
        importing(folder, file=file)
    importing(folder, file=file, prefix="again ", label_names=("er", "mito"))
    with open_dataset(file) as dataset:
        assert np.array_equal(dataset.sample("again cell 2").labels[1], mask)


def test_a_data_set_without_names_never_mixes_labels(folder: Path) -> None:
    """An empty one takes the names of the first folder; one with samples and no names is not guessed at."""
    file, other = folder.parent / "there.hdf5", folder.parent / "other"
    do("create-dataset", {"file": file, "name": "there", "n_labels": 2})
    importing(folder, file=file)
    with open_dataset(file) as dataset:
        assert dataset.aliases == ("er", "mito")
    write(other / "images" / "cell 3.tif")
    for label in ("er", "nuc"):
        write(other / "labels" / f"cell 3_{label}.tif", mask=True)
    with pytest.raises(ParameterError, match=r"cell 3.tif has no label 'mito'"):
        importing(other, file=file)
    do("set-aliases", {"file": file, "clear": True})
    with pytest.raises(ParameterError, match=r"'er' -> label_0000, 'nuc' -> label_0001\?.*--label-names er,nuc"):
        importing(other, file=file)
    importing(other, file=file, label_names=("er", "nuc"))
    with open_dataset(file) as dataset:
        assert list(dataset.samples) == ["cell 1", "cell 2", "cell 3"]


def test_names_are_safe_and_differ(tmp_path: Path) -> None:
    for name in ("one/images/a.tif", "two/images/a.tif", "images/-b[red].tif", "images/-b_red_.tif"):
        write(tmp_path / "in" / name)
    importing(tmp_path / "in", unpaired="blank")
    with open_dataset(tmp_path / "set.hdf5") as dataset:
        assert sorted(dataset.samples) == ["b_red_", "b_red__2", "one_a", "two_a"]
        assert dataset.n_labels == 0


def without_er(folder: Path) -> None:
    (folder / "labels" / "cell 2_er.tif").unlink()


def without_labels(folder: Path) -> None:
    write(folder / "images" / "cell 3.tif")


def without_image(folder: Path) -> None:
    write(folder / "labels" / "liver.tif", mask=True)


@pytest.mark.parametrize(
    ("change", "what", "skip", "blank"),
    [
        (without_er, "images/cell 2.tif has no label 'er'", ["cell 1"], ["cell 1", "cell 2"]),
        (without_labels, "images/cell 3.tif has no label", ["cell 1", "cell 2"], ["cell 1", "cell 2", "cell 3"]),
        (without_image, "labels/liver.tif: it is a label by its name, and no image is called 'liver'",
         ["cell 1", "cell 2"], ["cell 1", "cell 2"]),
    ],
)  # fmt: skip
def test_half_pairs(change: Callable[[Path], None], what: str, skip: list[str], blank: list[str], folder: Path) -> None:
    change(folder)
    dry = importing(folder, dry_run=True)
    assert not dry.ok
    assert dry.facts["problems"] == [what]
    assert what in dry.summary
    with pytest.raises(ParameterError) as refused:
        importing(folder)
    assert refused.value.what == what
    assert not (folder.parent / "set.hdf5").exists()
    for unpaired, names in (("skip", skip), ("blank", blank)):
        file = folder.parent / f"{unpaired}.hdf5"
        result = importing(folder, file=file, unpaired=unpaired)
        with open_dataset(file) as dataset:
            assert list(dataset.samples) == names
            assert dataset.aliases == ("er", "mito")
            warned = [text for text in result.facts["warnings"] if text.startswith("Blank labels stand for background")]
            assert len(warned) == (unpaired == "blank" and change is not without_image)
            if change is without_er and unpaired == "blank":
                assert not np.any(dataset.sample("cell 2").labels[0])
                assert np.any(dataset.sample("cell 2").labels[1])
        left_out = [row[0] for row in result.tables[1].rows]
        assert len(left_out) == (1 if unpaired == "skip" or change is without_image else 0)


@pytest.mark.parametrize(
    ("values", "error", "what"),
    [
        ({"file": "set.tif"}, ParameterError, r"end in \.hdf5"),
        ({"label_names": ("golgi",)}, ParameterError, "No file is a label 'golgi': there are 'er', 'mito'"),
        ({"image_pattern": "x/{name}.tif"}, ParameterError, "No file in .* is an image"),
        ({"image_pattern": "images/{name}.tif"}, ParameterError, "No file in .* is a label"),
        ({"label_pattern": "{name}"}, ParameterError, "needed with --label-pattern"),
        ({"folder": "nowhere"}, VolumeError, "no folder"),
    ],
)
def test_refusals(values: dict[str, Any], error: type[Exception], what: str, folder: Path) -> None:
    paths = {key: folder.parent / values[key] for key in ("file", "folder") if key in values}
    before = sorted(folder.parent.rglob("*"))
    for dry_run in (True, False):
        with pytest.raises(error, match=what):
            do(
                "import-folder",
                {"file": folder.parent / "set.hdf5", "folder": folder} | values | paths | {"dry_run": dry_run},
            )
    assert sorted(folder.parent.rglob("*")) == before


def test_labels_that_do_not_fit_the_data_set(folder: Path) -> None:
    file = folder.parent / "set.hdf5"
    do("create-dataset", {"file": file, "name": "x", "n_labels": 1})
    with pytest.raises(ParameterError, match=r"has 1 label a sample, but 2 labels were found \('er', 'mito'\)"):
        importing(folder)
    importing(folder, label_names=("mito",))
    with open_dataset(file) as dataset:
        mask = tifffile.imread(folder / "labels" / "cell 1_mito.tif") > 0
        assert np.array_equal(dataset.sample("cell 1").labels[0], mask)


def test_plain_names_get_a_proposal(tmp_path: Path) -> None:
    write(tmp_path / "in" / "x.tif")
    write(tmp_path / "in" / "x_mito.tif", mask=True)
    with pytest.raises(ParameterError) as refused:
        importing(tmp_path / "in")
    assert "is x_mito.tif a label of x.tif?. Say how" in str(refused.value)
    importing(tmp_path / "in", image_pattern="{name}.tif", label_pattern="{name}_{label}.tif")
    with open_dataset(tmp_path / "set.hdf5") as dataset:
        assert (dataset.aliases, list(dataset.samples)) == (("mito",), ["x"])


@pytest.mark.parametrize("new", [True, False])
def test_files_that_cannot_be_added_are_all_told_and_nothing_is_written(new: bool, folder: Path) -> None:
    file = folder.parent / "set.hdf5"
    if not new:
        do("create-dataset", {"file": file, "name": "x", "n_labels": 2})
    before = file.read_bytes() if file.exists() else None
    write(folder / "labels" / "cell 1_er.tif", (3, 8, 8), mask=True)
    (folder / "images" / "cell 2.tif").write_bytes(b"no image")
    dry = importing(folder, dry_run=True)
    assert not dry.ok
    assert [row[0] for row in dry.tables[2].rows] == ["images/cell 1.tif", "images/cell 2.tif"]
    with pytest.raises(VolumeError, match=r"3 x 8 x 8, but the image .*; .*cell 2.tif"):
        importing(folder)
    assert (file.read_bytes() if file.exists() else None) == before


class StopsAt(Heard):
    """Asks to stop once a task has begun."""

    def __init__(self, stop: Stop, task: str, share: float) -> None:
        super().__init__()
        self._stop, self._task, self._share = stop, task, share

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        super().progress(task, done, total, unit, note)
        if task == self._task and done >= self._share * total:
            self._stop.request("enough")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    ("task", "share"),
    [("Looking at files", 0), ("Range of images", 0.5), ("Writing samples", 0.1), ("Writing samples", 0.6)],
)
def test_all_or_nothing_when_stopped(
    new: bool, task: str, share: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.parent / "set.hdf5"
    monkeypatch.setattr("deepscem_tui.engine.slabs.SLAB_BYTES", 1)
    if not new:
        do("create-dataset", {"file": file, "name": "x", "n_labels": 2})
        do("set-aliases", {"file": file, "aliases": ("er", "mito")})
        do("add-sample", {"file": file, "name": "old", "image": folder / "images" / "cell 1.tif", "labels": ()})
    stop = Stop()
    with pytest.raises(Stopped):
        importing(folder, StopsAt(stop, task, share), stop)
    if new:
        assert [path.name for path in folder.parent.iterdir()] == ["in"]
    else:
        with open_dataset(file) as dataset:
            assert list(dataset.samples) == ["old"]
    importing(folder)


def test_a_form_shows_what_a_dry_run_refuses(folder: Path) -> None:
    values = {"file": str(folder.parent / "set.hdf5"), "folder": str(folder)}
    assert examine(ACTIONS["import-folder"], values, safe=True).summary.startswith("Would add 2 samples")
    without_er(folder)
    found = examine(ACTIONS["import-folder"], values, safe=True)
    assert found.faults == {"": "Would refuse to add 2 samples with 2 labels: images/cell 2.tif has no label 'er'"}
    found = examine(ACTIONS["import-folder"], values | {"folder": "nowhere"}, safe=True)
    assert found.faults == {"folder": "there is no folder nowhere"}


# ------------------------------------------------------------------------------------------------ options of labels


def test_class_maps_name_the_labels_of_a_new_data_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.tif")
        tifffile.imwrite(
            tmp_path / "in" / f"{name}_seg.tif", np.arange(4 * 6 * 6, dtype=np.uint8).reshape(4, 6, 6) % 3,
            photometric="minisblack",
        )  # fmt: skip
    with pytest.raises(VolumeError, match=r"a_seg.tif is 4 x 6 x 6"):
        importing(tmp_path / "in", classes="mito=1,er=2")
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.tif", (4, 6, 6))
    result = importing(tmp_path / "in", classes="mito=1,er=2")
    assert result.facts["foreground"]["b"] == {"mito": pytest.approx(1 / 3), "er": pytest.approx(1 / 3)}
    with open_dataset(tmp_path / "set.hdf5") as dataset:
        assert dataset.aliases == ("mito", "er")
        values = tifffile.imread(tmp_path / "in" / "a_seg.tif")
        assert np.array_equal(dataset.sample("a").labels[1], values == 2)


def test_folders_of_slices_are_volumes(tmp_path: Path) -> None:
    for cell in ("a", "b"):
        for z in (1, 2, 10):
            write(tmp_path / "in" / cell / "raw" / f"s{z}.tif", (8, 9), seed=z)
            write(tmp_path / "in" / cell / "labels" / "mito" / f"s{z}.tif", (8, 9), seed=z, mask=True)
    by_words = importing(tmp_path / "in", stacks=True)
    assert by_words.facts["files"]["b"] == {"image": "b/raw", "labels": ["b/labels/mito"], "ignore_mask": None}
    patterns = {"image_pattern": "{name}/raw", "label_pattern": "{name}/labels/{label}"}
    do("import-folder", {"file": tmp_path / "other.hdf5", "folder": tmp_path / "in", "stacks": True} | patterns)
    for name in ("set.hdf5", "other.hdf5"):
        with open_dataset(tmp_path / name) as dataset:
            assert dataset.label_names == ("mito",)
            assert list(dataset.samples) == ["a", "b"]
            sample = dataset.sample("b")
            masks = [tifffile.imread(tmp_path / "in" / "b" / "labels" / "mito" / f"s{z}.tif") for z in (1, 2, 10)]
            assert np.array_equal(sample.labels[0], np.array(masks) > 0)


def test_a_folder_of_slices_alone_has_the_folders_name(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        for z in range(3):
            write(tmp_path / "liver" / kind / f"{z}.tif", (8, 9), seed=z, mask=kind == "masks")
    importing(tmp_path / "liver", stacks=True)
    with open_dataset(tmp_path / "set.hdf5") as dataset:
        assert dataset.sample("liver").shape == (3, 8, 9)


@pytest.mark.parametrize(("numbers", "warned"), [(range(8), True), (range(7), False), (range(0, 16, 2), False)])
def test_numbered_slices_are_noticed(numbers: range, warned: bool, tmp_path: Path) -> None:
    for number in numbers:
        write(tmp_path / "in" / "images" / f"s{number:03}.tif", (8, 9), seed=number)
        write(tmp_path / "in" / "masks" / f"s{number:03}.tif", (8, 9), seed=number, mask=True)
    done = importing(tmp_path / "in", dry_run=True)
    assert any("--stacks" in text for text in done.facts["warnings"]) == warned


@pytest.mark.parametrize("new", [True, False])
def test_what_is_not_labelled_is_left_out_of_every_sample(new: bool, folder: Path) -> None:
    if not new:
        do("create-dataset", {"file": folder.parent / "set.hdf5", "name": "x", "n_labels": 2})
    importing(folder, labelled_z="0:2", ignore_value=255)
    with open_dataset(folder.parent / "set.hdf5") as dataset:
        for name in dataset.samples:
            ignored = ignored_in(dataset.sample(name))
            assert ignored is not None
            masks = [tifffile.imread(folder / "labels" / f"{name}_{label}.tif") == 255 for label in ("er", "mito")]
            expected = masks[0] | masks[1]
            expected[2:] = True
            assert np.array_equal(ignored[:], expected)


def test_an_export_is_imported_with_what_is_not_labelled(folder: Path) -> None:
    data, here = folder.parent / "set.hdf5", folder.parent
    importing(folder, labelled_z="0:2")
    for name in ("cell 1", "cell 2"):
        do("export-sample", {"file": data, "sample": name, "folder": here / "out"})
    do("import-folder", {"file": here / "again.hdf5", "folder": here / "out", "label_names": ["er", "mito"]})
    with open_dataset(data) as before, open_dataset(here / "again.hdf5") as after:
        for name, sample in after.samples.items():
            one, other = ignored_in(before.sample(name.replace("_", " "))), ignored_in(sample)
            assert np.array_equal(one[:], other[:])
            assert not other[:2].any()
            assert other[2].all()


def test_an_image_that_shows_no_label_keeps_none_of_the_others_out(folder: Path) -> None:
    for label in ("mito", "er"):
        tifffile.imwrite(
            folder / "labels" / f"cell 1_{label}.tif", np.zeros((3, 8, 9), np.uint8), photometric="minisblack"
        )
    heard = Heard()
    importing(folder, heard, labelled_z="auto")
    (text,) = [text for text in heard.warnings if "shows a label" in text]
    image = folder / "images" / "cell 1.tif"
    assert text == f"No slice of 'cell 1' ({image}) shows a label: all of it is left out as not labelled"
    with open_dataset(folder.parent / "set.hdf5") as dataset:
        nothing = ignored_in(dataset.sample("cell 1"))
        assert nothing is not None
        assert nothing[:].all()
        assert ignored_in(dataset.sample("cell 2")) is None


def test_no_mask_is_left_of_a_data_set_that_was_not_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    with pytest.raises(Stopped):
        importing(folder, StopsAt(stop, "Writing samples", 0.9), stop, ignore_value=255)
    assert [path.name for path in folder.parent.iterdir()] == ["in"]
