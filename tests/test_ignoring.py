"""What of a sample is not labelled: stored beside what DeepSCEM reads, and kept through every change of a data set."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile

from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.catalogue import Cataloguer
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets import ignoring
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in, mask_file
from deepscem_tui.engine.errors import DatasetError, EngineError, ParameterError, VolumeError
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.viewing.slices import FileSlices, Part, SliceTarget
from deepscem_tui.screens.dataset_facts import facts
from deepscem_tui.widgets.dataset_tree import Item
from tests.deepscem_reader import DeepSCEM, check_format

SHAPE = (12, 20, 16)


class Heard(Reporter):
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def do(name: str, values: Mapping[str, Any], report: Reporter | None = None) -> Result:
    action = ACTIONS[name]
    return action.carry_out(build(action, values), Context(report or Reporter()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, labels in slices 2, 3 and 9, and a mask of single voxels."""
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "image.tif", rng.integers(0, 256, SHAPE, np.uint8))
    label = np.zeros(SHAPE, np.uint8)
    label[[2, 3, 9], 5:12, 4:9] = 255
    tifffile.imwrite(tmp_path / "label.tif", label)
    tifffile.imwrite(tmp_path / "mask.tif", (rng.random(SHAPE) > 0.7).astype(np.uint8))
    with_value = np.where(rng.random(SHAPE) > 0.8, 255, label // 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "value.tif", with_value)
    do("create-dataset", {"file": tmp_path / "d.hdf5", "name": "d", "n_labels": 1})
    return tmp_path


def add(folder: Path, label: str = "label.tif", report: Reporter | None = None, **options: Any) -> Result:
    values = {"file": folder / "d.hdf5", "name": "s", "image": folder / "image.tif", "labels": (str(folder / label),)}
    return do("add-sample", values | options, report)


def ignored_of(file: Path, sample: str = "s") -> Ignored | None:
    with open_dataset(file) as dataset:
        return ignored_in(dataset.sample(sample))


def mask_of(file: Path, sample: str = "s") -> np.ndarray:
    """Everything of a sample that is not labelled, bool (Z, Y, X)."""
    ignored = ignored_of(file, sample)
    assert ignored is not None
    mask = ignored[:] != 0
    assert ignored.annotated == np.count_nonzero(~mask)
    return mask


def only(*slices: int, y: slice = slice(None), x: slice = slice(None)) -> np.ndarray:
    mask = np.ones(SHAPE, bool)
    mask[list(slices), y, x] = False
    return mask


MASK = {
    "file": lambda folder: tifffile.imread(folder / "mask.tif") > 0,
    "value": lambda folder: tifffile.imread(folder / "value.tif") == 255,
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"labelled_z": "2:4,9:10"}, only(2, 3, 9)),
        ({"labelled_z": "auto"}, only(2, 3, 9)),
        ({"labelled_z": ":4"}, only(0, 1, 2, 3)),
        ({"labelled_z": "2,3,9"}, only(2, 3, 9)),
        ({"labelled_z": "9:11, 3"}, only(3, 9, 10)),
        ({"labelled_z": "9:"}, only(9, 10, 11)),
        ({"labelled_z": "2:4", "labelled_y": "3:", "labelled_x": "1:9"}, only(2, 3, y=slice(3, 20), x=slice(1, 9))),
        ({"labelled_y": "0:5"}, only(*range(12), y=slice(0, 5))),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_boxes(folder: Path, options: dict[str, str], expected: np.ndarray, later: bool) -> None:
    if later:
        add(folder)
        result = do("set-labelled", {"file": folder / "d.hdf5", "sample": "s"} | options)
    else:
        result = add(folder, **options)
    assert np.array_equal(mask_of(folder / "d.hdf5"), expected)
    assert result.facts["labelled_share"] == pytest.approx(1 - expected.mean())
    assert not mask_file(folder / "d.hdf5").exists()


def test_a_mask_file_and_a_value_of_the_label_file(folder: Path) -> None:
    file = folder / "d.hdf5"
    add(folder, ignore_mask=folder / "mask.tif")
    assert np.array_equal(mask_of(file), MASK["file"](folder))
    assert mask_file(file).name == "d.ignore.hdf5"
    add(folder, "value.tif", name="value", ignore_value=255)
    assert np.array_equal(mask_of(file, "value"), MASK["value"](folder))
    both = {"name": "both", "ignore_value": 255, "ignore_mask": folder / "mask.tif", "labelled_z": "2:10"}
    add(folder, "value.tif", **both)
    expected = MASK["file"](folder) | MASK["value"](folder) | only(*range(2, 10))
    assert np.array_equal(mask_of(file, "both"), expected)
    with open_dataset(file) as dataset:
        label = np.asarray(dataset.sample("value").labels[0])
        ignored = ignored_in(dataset.sample("both"))
        assert ignored is not None
        assert ignored[:2].all()
        assert np.array_equal(ignored[3, 2:9:2, ::3], expected[3, 2:9:2, ::3])
        assert ignored[4, 5, 6] == expected[4, 5, 6]
    assert np.array_equal(label, tifffile.imread(folder / "value.tif") == 1)


@pytest.mark.parametrize("later", [False, True])
def test_a_mask_may_be_a_file_a_slice(folder: Path, later: bool) -> None:
    mask = MASK["file"](folder)
    (folder / "masks").mkdir()
    for z, slice_ in enumerate(mask):
        (folder / "masks" / f"{z}.png").write_bytes(imagecodecs.png_encode(slice_.astype(np.uint8)))
    add(folder, **({} if later else {"ignore_mask": folder / "masks"}))
    if later:
        do("set-labelled", {"file": folder / "d.hdf5", "sample": "s", "ignore_mask": folder / "masks"})
    assert np.array_equal(mask_of(folder / "d.hdf5"), mask)


def test_a_mask_of_whole_slices_needs_no_file(folder: Path) -> None:
    tifffile.imwrite(folder / "whole.tif", only(2, 3, 9).astype(np.uint8))
    add(folder, ignore_mask=folder / "whole.tif")
    assert np.array_equal(mask_of(folder / "d.hdf5"), only(2, 3, 9))
    assert str(ignored_of(folder / "d.hdf5")) == "slices 2:4, 9:10 (25 % of the voxels)"
    assert not mask_file(folder / "d.hdf5").exists()


def test_empty_slices_are_told_and_left_as_they_are(folder: Path) -> None:
    heard = Heard()
    result = add(folder, report=heard)
    assert ignored_of(folder / "d.hdf5") is None
    (said,) = [text for text in heard.messages if "slices" in text]
    assert "No label has a voxel in slices 0:2, 4:9, 10:12" in said
    assert f"set-labelled {folder / 'd.hdf5'} s --labelled-z auto" in said
    assert result.facts["slices_without_label"] == [[0, 2], [4, 9], [10, 12]]
    planned = do("set-labelled", {"file": folder / "d.hdf5", "sample": "s", "labelled_z": "auto", "dry_run": True})
    assert "slices 2:4, 9:10" in planned.summary
    assert ignored_of(folder / "d.hdf5") is None


@pytest.mark.parametrize("later", [False, True])
def test_labels_in_slices_that_are_not_given_are_told(folder: Path, later: bool) -> None:
    heard = Heard()
    for given in ("3:5,10:11", "2:10"):  # counted as Fiji does; and all of them
        if later:
            add(folder, name=given)
            values = {"file": folder / "d.hdf5", "sample": given, "labelled_z": given}
            do("set-labelled", values, heard)
        else:
            add(folder, name=given, labelled_z=given, report=heard)
    (text,) = [text for text in heard.warnings if "left out" in text]
    assert text.startswith("'3:5,10:11': labels in slices 2:3, 9:10 are left out")
    assert text.endswith("slices count from 0, those of Fiji from 1")


@pytest.mark.parametrize("later", [False, True])
def test_more_runs_of_slices_than_an_attribute_holds_are_a_mask(
    folder: Path, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    monkeypatch.setattr(ignoring, "_MOST_BOXES", 3)
    given = {"labelled_z": "0:1,2:3,4:5,6:7,8:9", "labelled_y": "2:"}
    expected = only(0, 2, 4, 6, 8, y=slice(2, None))
    file = folder / "d.hdf5"
    if later:
        add(folder)
        do("set-labelled", {"file": file, "sample": "s"} | given)
    else:
        add(folder, **given)
    assert np.array_equal(mask_of(file), expected)
    ignored = ignored_of(file)
    assert ignored is not None
    assert ignored.boxes is None
    add(folder, name="both", ignore_mask=folder / "mask.tif", **given)
    assert np.array_equal(mask_of(file, "both"), MASK["file"](folder) | expected)
    do("crop-sample", {"file": file, "sample": "s", "name": "part", "z": "2:12", "y": "0:8"})
    assert np.array_equal(mask_of(file, "part"), expected[2:, :8])


def test_slices_of_a_long_volume_are_told_one_by_one(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((3000, 2, 3), np.uint8), photometric="minisblack")
    label = np.zeros((3000, 2, 3), np.uint8)
    label[::2, 0] = 1
    tifffile.imwrite(tmp_path / "label.tif", label, photometric="minisblack")
    do("create-dataset", {"file": tmp_path / "d.hdf5", "name": "d", "n_labels": 1})
    add(tmp_path, labelled_z="auto")
    found = ignored_of(tmp_path / "d.hdf5")
    assert found is not None
    assert np.array_equal(found[:, 0, 0], np.arange(3000) % 2)


@pytest.mark.parametrize("several", [False, True])
def test_a_label_file_of_the_labelled_slices_is_placed(folder: Path, several: bool) -> None:
    label = tifffile.imread(folder / "label.tif")
    tifffile.imwrite(folder / "some.tif", label[[2, 3, 9]], photometric="minisblack")
    with pytest.raises(VolumeError, match="If it holds only the labelled slices, say which with --labelled-z"):
        add(folder, "some.tif")
    with pytest.raises(VolumeError, match=r"some.tif is 3 x 20 x 16, but the image .* 12 x 20 x 16"):
        add(folder, "some.tif", labelled_z="2:4")
    with pytest.raises(ParameterError, match="is not inside the sample"):
        add(folder, "some.tif", labelled_z="2,3,12")
    heard = Heard()
    names = f"some.tif+{folder / 'label.tif'}" if several else "some.tif"
    add(folder, names, labelled_z="9,2:4", report=heard)
    assert any("its 3 slices are taken as those of --labelled-z" in text for text in heard.warnings)
    assert np.array_equal(mask_of(folder / "d.hdf5"), only(2, 3, 9))
    with open_dataset(folder / "d.hdf5") as dataset:
        assert np.array_equal(np.asarray(dataset.sample("s").labels[0]), label > 0)


@pytest.mark.parametrize("given", [{"labelled_z": "2:6"}, {"ignore_mask": "mask.tif"}, {}])
def test_foreground_is_a_share_of_what_is_labelled(folder: Path, given: dict[str, str]) -> None:
    options = {key: folder / value if key == "ignore_mask" else value for key, value in given.items()}
    result = add(folder, **options)
    label = tifffile.imread(folder / "label.tif") > 0
    known = ~mask_of(folder / "d.hdf5") if given else np.ones(SHAPE, bool)
    assert result.facts["foreground"] == {"label_0000": pytest.approx((label & known).sum() / known.sum())}


def test_setting_it_anew_and_clearing_it_leave_no_mask_behind(folder: Path) -> None:
    file = folder / "d.hdf5"
    add(folder, ignore_mask=folder / "mask.tif")
    with h5py.File(mask_file(file)) as masks:
        (first,) = masks
    do("set-labelled", {"file": file, "sample": "s", "ignore_mask": folder / "mask.tif", "labelled_z": "0:6"})
    with h5py.File(mask_file(file)) as masks:
        (second,) = masks
    assert first != second
    assert np.array_equal(mask_of(file), MASK["file"](folder) | only(*range(6)))
    assert do("set-labelled", {"file": file, "sample": "s", "clear": True}).facts["labelled_share"] == 1
    assert ignored_of(file) is None
    assert not mask_file(file).exists()
    with open_dataset(file) as dataset:
        assert not set(dataset.sample("s").attributes) & set(ignoring.ATTRIBUTES)


def test_it_goes_with_the_sample(folder: Path, tmp_path: Path) -> None:
    """Through rename, crop, save and remove; into a data set of another name, and over one that had masks."""
    file, out = folder / "d.hdf5", tmp_path / "out.hdf5"
    add(folder, ignore_mask=folder / "mask.tif", labelled_z="1:11")
    expected = MASK["file"](folder) | only(*range(1, 11))
    do("rename-sample", {"file": file, "sample": "s", "new": "t"})
    do("crop-sample", {"file": file, "sample": "t", "z": "3:12", "y": "2:18", "x": "4:", "name": "c"})
    do("crop-sample", {"file": file, "sample": "c", "z": "0:2", "name": "cc"})
    do("crop-sample", {"file": file, "sample": "t", "z": "11:12", "name": "nothing"})
    assert np.array_equal(mask_of(file, "t"), expected)
    assert np.array_equal(mask_of(file, "c"), expected[3:, 2:18, 4:])
    assert np.array_equal(mask_of(file, "cc"), expected[3:5, 2:18, 4:])
    assert mask_of(file, "nothing").all()
    assert str(ignored_of(file, "nothing")) == "nothing"
    do("save-dataset", {"file": file, "out": out})
    do("remove-sample", {"file": file, "sample": "t"})
    with h5py.File(mask_file(file)) as masks:
        assert len(masks) == 2
    assert np.array_equal(mask_of(out, "t"), expected)
    do("save-dataset", {"file": file, "out": out, "overwrite": True})
    with h5py.File(mask_file(out)) as masks:
        assert len(masks) == 2
    assert np.array_equal(mask_of(out, "c"), expected[3:, 2:18, 4:])
    do("save-dataset", {"file": out, "out": out, "overwrite": True})
    assert np.array_equal(mask_of(out, "cc"), expected[3:5, 2:18, 4:])
    for name in ("c", "cc", "nothing"):
        do("remove-sample", {"file": out, "sample": name})
    assert not mask_file(out).exists()


def test_what_is_exported_can_be_added_again(folder: Path) -> None:
    file = folder / "d.hdf5"
    add(folder, ignore_mask=folder / "mask.tif", labelled_z="1:11")
    do("export-sample", {"file": file, "sample": "s", "folder": folder / "out"})
    values = {"file": file, "name": "again", "image": folder / "out" / "s_image.tif"}
    labels = (str(folder / "out" / "s_label_0000.tif"),)
    do("add-sample", values | {"labels": labels, "ignore_mask": folder / "out" / "s_not_labelled.tif"})
    assert np.array_equal(mask_of(file, "again"), mask_of(file))


@pytest.mark.parametrize("how", [{"labelled_z": "2:4"}, {"ignore_mask": "mask.tif"}])
def test_deepscem_reads_it_as_before(folder: Path, how: dict[str, str]) -> None:
    file = folder / "d.hdf5"
    add(folder, **{key: folder / value if key == "ignore_mask" else value for key, value in how.items()})
    check_format(file)
    with DeepSCEM(file) as theirs:
        theirs.tree()
        images, labels = theirs.training_data()
    assert images[0].shape[:3] == SHAPE
    assert np.array_equal(labels[0][..., 0], tifffile.imread(folder / "label.tif") > 0)


def test_a_mask_that_is_gone_or_another_ones_is_told(folder: Path, tmp_path: Path) -> None:
    file = folder / "d.hdf5"
    add(folder, ignore_mask=folder / "mask.tif")
    lone = Path(shutil.copy(file, tmp_path / "lone.hdf5"))
    with pytest.raises(
        DatasetError, match=r"not labelled of Sample 's' of .*lone.hdf5.*lone.ignore.hdf5, which is not"
    ):
        mask_of(lone)
    do("create-dataset", {"file": tmp_path / "other.hdf5", "name": "o", "n_labels": 1})
    values = {"file": tmp_path / "other.hdf5", "name": "s", "image": folder / "image.tif"}
    do("add-sample", values | {"ignore_mask": folder / "mask.tif"})
    shutil.copy(mask_file(tmp_path / "other.hdf5"), mask_file(lone))
    with pytest.raises(DatasetError, match="belongs to another data set"):
        mask_of(lone)
    checked = do("check-dataset", {"file": lone})
    assert not checked.ok
    assert any("belongs to another data set" in row[2] for row in checked.tables[0].rows)
    heard = Heard()
    do("info", {"path": lone}, heard)
    assert "belongs to another data set" in heard.warnings[0]
    facts = FileSlices(SliceTarget(lone)).facts()
    assert "belongs to another" in facts.notes[0]
    assert [layer.kind for layer in facts.layers] == ["label"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("annotated_boxes", [0, 1, 0, 20, 0]),
        ("annotated_boxes", [0, 13, 0, 20, 0, 16]),
        ("annotated_boxes", [-1, 3, 0, 20, 0, 16]),
        ("annotated_boxes", "0:3"),
        ("annotated_voxels", -1),
        ("annotated_voxels", "many"),
    ],
)
def test_attributes_that_say_nothing_sensible_are_refused(folder: Path, name: str, value: Any) -> None:
    add(folder, labelled_z="0:3")
    with h5py.File(folder / "d.hdf5", "r+") as raw:
        raw["s"].attrs[name] = value
    with pytest.raises(DatasetError, match="set-labelled"):
        ignored_of(folder / "d.hdf5")
    assert not do("check-dataset", {"file": folder / "d.hdf5"}).ok
    do("set-labelled", {"file": folder / "d.hdf5", "sample": "s", "labelled_z": "0:3"})
    assert np.array_equal(mask_of(folder / "d.hdf5"), only(0, 1, 2))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"labelled_z": "10:13"}, ParameterError, r"--labelled-z 10:13 is not inside the sample, which has 12"),
        ({"labelled_x": "16:"}, ParameterError, "--labelled-x 16:16 is not inside"),
        ({"labelled_z": "0:4,3:5"}, ParameterError, "must not overlap"),
        ({"labelled_z": "0:4,3"}, ParameterError, "must not overlap"),
        ({"labelled_y": "3"}, ParameterError, "must be START:STOP"),
        ({"labelled_z": "some"}, ParameterError, "must be START:STOP"),
        ({"ignore_mask": "small.tif"}, VolumeError, r"small.tif is 1 x 4 x 4, but the sample 12 x 20 x 16"),
        ({"ignore_mask": "gone.tif"}, VolumeError, "There is no file"),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_what_cannot_be_is_refused(
    folder: Path, options: dict[str, Any], error: type[EngineError], words: str, later: bool
) -> None:
    tifffile.imwrite(folder / "small.tif", np.zeros((4, 4), np.uint8))
    options = {key: folder / value if key == "ignore_mask" else value for key, value in options.items()}
    if later:
        add(folder)
    before = (folder / "d.hdf5").read_bytes()
    change = partial(do, "set-labelled", {"file": folder / "d.hdf5", "sample": "s"} | options)
    with pytest.raises(error, match=words):
        change() if later else add(folder, **options)
    assert (folder / "d.hdf5").read_bytes() == before


def test_of_large_labels_a_form_does_not_say_which_slices_show_any(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder)
    values = {"file": folder / "d.hdf5", "sample": "s", "labelled_z": "auto"}
    monkeypatch.setattr("deepscem_tui.engine.labels.labelled._LOOKED_AT", 100)
    assert "slices in which a label shows" in do("set-labelled", values | {"dry_run": True}).summary
    do("set-labelled", values)
    assert np.array_equal(mask_of(folder / "d.hdf5"), only(2, 3, 9))


def test_auto_needs_a_label(folder: Path) -> None:
    tifffile.imwrite(folder / "blank.tif", np.zeros(SHAPE, np.uint8))
    with pytest.raises(ParameterError, match="No slice of 's' shows a label"):
        add(folder, "blank.tif", labelled_z="auto")
    with pytest.raises(ParameterError, match="no label files"):
        add(folder, labels=(), labelled_z="auto")
    with open_dataset(folder / "d.hdf5") as dataset:
        assert not list(dataset.samples)
    for wrong in ({}, {"clear": True, "labelled_z": "0:3"}):
        with pytest.raises(ParameterError, match="or --clear"):
            do("set-labelled", {"file": folder / "d.hdf5", "sample": "s"} | wrong)


def test_a_value_that_no_file_has_is_told(folder: Path) -> None:
    heard = Heard()
    add(folder, ignore_value=7, report=heard)
    assert ignored_of(folder / "d.hdf5") is None
    assert heard.warnings == ["No label file has the value 7 of --ignore-value"]


def test_a_change_that_fails_leaves_the_data_set_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "d.hdf5"
    add(folder, ignore_mask=folder / "mask.tif")
    before = mask_of(file)

    def fails(*_: object) -> None:
        raise OSError("no more")

    monkeypatch.setattr("deepscem_tui.engine.datasets.dataset.ChangedDataset.set_attributes", fails)
    with pytest.raises(OSError, match="no more"):
        do("set-labelled", {"file": file, "sample": "s", "ignore_mask": folder / "label.tif"})
    monkeypatch.undo()
    assert np.array_equal(mask_of(file), before)
    notes = [row[2] for row in do("check-dataset", {"file": file}).tables[0].rows]
    assert any("d.ignore.hdf5 has 1 mask of no sample; save-dataset drops them" in text for text in notes)
    do("save-dataset", {"file": file, "out": file, "overwrite": True})
    with h5py.File(mask_file(file)) as masks:
        assert len(masks) == 1
    assert np.array_equal(mask_of(file), before)


def test_it_is_said_where_samples_are_listed(folder: Path) -> None:
    file = folder / "d.hdf5"
    add(folder, ignore_mask=folder / "mask.tif", labelled_z="2:4")
    words = f"parts of slices 2:4 ({100 * (1 - mask_of(file).mean()):.3g} % of the voxels)"
    (table,) = [table for table in do("info", {"path": file}).tables if table.name == "labelled"]
    assert table.rows == [("s", words)]
    checked = do("check-dataset", {"file": file})
    assert checked.ok
    assert any(words in row[2] for row in checked.tables[0].rows)
    label, known = tifffile.imread(folder / "label.tif") > 0, ~mask_of(file)
    assert checked.tables[1].rows[0][-1] == pytest.approx((label & known).sum() / known.sum())
    found = Cataloguer().scan(folder)
    assert [entry.path.name for entry in found.datasets] == ["d.hdf5"]
    assert found.datasets[0].samples[0].labelled == words
    item = Item("sample", file, dataset=found.datasets[0], sample=found.datasets[0].samples[0])
    assert f"labelled: {words}" in facts(item)


def test_slices_have_a_layer_of_it(folder: Path) -> None:
    file = folder / "d.hdf5"
    add(folder, ignore_mask=folder / "mask.tif", labelled_z="2:11")
    source, mask = FileSlices(SliceTarget(file)), mask_of(file)
    assert [(layer.key, layer.name) for layer in source.facts().layers][-1] == ("ignored", "not labelled")
    seen = source.read(Part("xy", 5, (0, 20), (0, 16), (40, 32)), ["ignored"]).masks["ignored"]
    assert np.array_equal(seen, mask[5])
    across = source.read(Part("yz", 3, (0, 12), (0, 20), (24, 40)), ["ignored"]).masks["ignored"]
    assert np.array_equal(across, mask[:, :, 3])
    assert source.values((5, 1, 1))["ignored"] == mask[5, 1, 1]
    picture = do("preview", {"file": file, "sample": "s", "z": 5}).picture
    assert np.array_equal(picture.ignored, mask[5])
