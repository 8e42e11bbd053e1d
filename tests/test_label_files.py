"""Label files as people have them: classes, colours, ids, soft edges, several files, a file a slice."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from deepscem_tui.engine import checks, safe_mode
from deepscem_tui.engine.actions import ACTIONS, build, command_line
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.errors import EngineError, ParameterError, VolumeError
from deepscem_tui.engine.formats.slice_files import open_slices, slice_files
from deepscem_tui.engine.labels.encodings import Boundaries
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from tests.test_ignoring import Heard

SHAPE = (5, 24, 20)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, SHAPE, np.uint8)
CLASSES = RNG.choice([0, 1, 2, 3], SHAPE, p=[0.7, 0.15, 0.1, 0.05]).astype(np.uint8)
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 160, 255), (9, 9, 9)], np.uint8)
RGB = COLOURS[CLASSES]


def do(name: str, values: Mapping[str, Any], report: Reporter | None = None) -> Result:
    return ACTIONS[name].carry_out(build(ACTIONS[name], values), Context(report or Reporter()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "image.tif", IMAGE)
    return tmp_path


def add(
    folder: Path, *labels: Path | str, n_labels: int = 2, aliases: tuple[str, ...] = (), report: Any = None, **how: Any
) -> Result:
    """Add a sample to a new data set."""
    file = folder / "d.hdf5"
    do("create-dataset", {"file": file, "name": "d", "n_labels": n_labels, "overwrite": True})
    if aliases:
        do("set-aliases", {"file": file, "aliases": aliases})
    values = {"file": file, "name": "s", "image": folder / "image.tif", "labels": tuple(map(str, labels))}
    return do("add-sample", values | how, report)


def labels_of(folder: Path) -> list[np.ndarray]:
    with open_dataset(folder / "d.hdf5") as dataset:
        return [np.asarray(label) > 0 for label in dataset.sample("s").labels]


def assert_classes(folder: Path) -> None:
    """Whether the labels are the classes 1 and 2."""
    one, two = labels_of(folder)
    assert np.array_equal(one, CLASSES == 1)
    assert np.array_equal(two, CLASSES == 2)


def png_with_table(indices: np.ndarray, table: np.ndarray) -> bytes:
    """A PNG picture with a colour table."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    height, width = indices.shape
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 3, 0, 0, 0])
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    parts = ((b"IHDR", header), (b"PLTE", table.tobytes()), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


# ------------------------------------------------------------------------------------------------ classes and colours


@pytest.mark.parametrize("scale", [1, 32])
@pytest.mark.parametrize("aliases", [("mito", "er"), ()])
def test_classes_become_labels(folder: Path, scale: int, aliases: tuple[str, ...]) -> None:
    tifffile.imwrite(folder / "classes.tif", CLASSES * scale)
    heard = Heard()
    result = add(
        folder, folder / "classes.tif", aliases=aliases, classes=f"mito={scale},er={2 * scale}", report=heard
    )  # fmt: skip
    assert_classes(folder)
    with open_dataset(folder / "d.hdf5") as dataset:
        assert dataset.label_names == ("mito", "er")
        assert dataset.sample("s").attributes["label_values"] == (str(scale), str(2 * scale))
        assert dataset.sample("s").attributes["label_sources"] == ("classes.tif", "classes.tif")
    assert heard.warnings == [f"{folder / 'classes.tif'}: its values {3 * scale} are no label: they become background"]
    share = float((CLASSES == 2).mean())
    assert result.facts["foreground"]["er"] == pytest.approx(share)


def test_a_name_may_have_several_values_and_another_none(folder: Path) -> None:
    tifffile.imwrite(folder / "classes.tif", CLASSES)
    heard = Heard()
    add(folder, folder / "classes.tif", aliases=("er", "mito"), classes="mito=1,mito=3,mito=7", report=heard)
    er, mito = labels_of(folder)
    assert not er.any()
    assert np.array_equal(mito, (CLASSES == 1) | (CLASSES == 3))
    assert any("no voxel has the value 7 of --classes" in text for text in heard.warnings)
    assert any("no voxel is er" in text for text in heard.messages)


def _planes(path: Path) -> Path:
    tifffile.imwrite(path, np.moveaxis(RGB, -1, 1), photometric="rgb", planarconfig="separate", metadata=None)
    return path


def _stack_of(suffix: str) -> Any:
    def make(path: Path) -> Path:
        path.mkdir()
        for z, picture in enumerate(RGB):
            file = path / f"s{z + 7}{suffix}"
            if suffix == ".png":
                file.write_bytes(imagecodecs.png_encode(picture))
            else:
                tifffile.imwrite(file, picture, photometric="rgb")
        return path

    return make


def _tables(path: Path) -> Path:
    path.mkdir()
    for z, indices in enumerate(CLASSES):
        (path / f"{z + 1}.png").write_bytes(png_with_table(indices, COLOURS))
    return path


def _table_tiff(path: Path) -> Path:
    table = np.zeros((3, 256), np.uint16)
    table[:, :4] = COLOURS.T.astype(np.uint16) * 257
    tifffile.imwrite(path, CLASSES, photometric="palette", colormap=table)
    return path


COLOURED = {
    "TIFF": lambda path: tifffile.imwrite(path, RGB, photometric="rgb") or path,
    "compressed": lambda path: tifffile.imwrite(path, RGB, photometric="rgb", compression="zlib") or path,
    "16 bit": lambda path: tifffile.imwrite(path, RGB.astype(np.uint16) * 257, photometric="rgb") or path,
    "opacity": lambda path: (
        tifffile.imwrite(path, np.insert(RGB, 3, 255, -1), photometric="rgb", extrasamples=[2]) or path
    ),
    "planes": _planes,
    "PNG slices": _stack_of(".png"),
    "TIFF slices": _stack_of(".tif"),
    "colour tables": _tables,
    "a TIFF colour table": _table_tiff,
}


@pytest.mark.parametrize("kind", COLOURED)
def test_colours_become_labels(folder: Path, kind: str) -> None:
    path = folder / ("labels" if "slices" in kind or kind == "colour tables" else "labels.tif")
    COLOURED[kind](path)
    heard = Heard()
    add(folder, path, classes="er=#00A0FF,mito=#ff0000", aliases=("mito", "er"), report=heard)
    assert_classes(folder)
    assert any("its values #090909 are no label" in text for text in heard.warnings)


def test_a_colour_table_is_not_looked_at_where_values_are_wanted(folder: Path) -> None:
    add(folder, _table_tiff(folder / "labels.tif"), classes="mito=1,er=2")
    assert_classes(folder)


# ------------------------------------------------------------------------------------------------ proposals


def test_what_could_be_meant_is_proposed(folder: Path) -> None:
    tifffile.imwrite(folder / "classes.tif", np.minimum(CLASSES, 2) * 64)
    with pytest.raises(ParameterError) as refused:
        add(folder, folder / "classes.tif", aliases=("mito", "er"))
    assert "has 2 labels a sample (mito, er), but 1 was given" in refused.value.what
    shares = ", ".join(f"{64 * k} ({100 * (np.minimum(CLASSES, 2) == k).mean():.3g} %)" for k in range(3))
    assert f"classes.tif has the values {shares}" in refused.value.hint
    option = "--classes mito=64,er=128"
    assert refused.value.hint.endswith(option)
    add(folder, folder / "classes.tif", aliases=("mito", "er"), classes=option.split()[1])
    assert np.array_equal(labels_of(folder)[1], CLASSES >= 2)


def test_no_label_is_proposed_that_there_is_not(folder: Path) -> None:
    tifffile.imwrite(folder / "classes.tif", CLASSES)
    with pytest.raises(ParameterError) as refused:
        add(folder, folder / "classes.tif")
    option = "--classes label_0000=1,label_0001=2"
    assert refused.value.hint.endswith(f"{option}; all 3 of them need a data set of 3 labels")
    add(folder, folder / "classes.tif", classes=option.split()[1])
    assert_classes(folder)


def test_colours_are_proposed_by_their_numbers(folder: Path) -> None:
    tifffile.imwrite(folder / "labels.tif", RGB, photometric="rgb")
    with pytest.raises(ParameterError, match=r"colour image with the colours #000000 \(") as refused:
        add(folder, folder / "labels.tif", n_labels=1, aliases=("mito",))
    assert "--classes mito=#" in refused.value.hint
    with pytest.raises(ParameterError, match="must be colours, such as mito=#ff0000"):
        add(folder, folder / "labels.tif", classes="mito=1,er=2")
    tifffile.imwrite(folder / "classes.tif", CLASSES)
    with pytest.raises(ParameterError, match=r"classes.tif has the values 0 \("):
        add(folder, folder / "classes.tif", classes="mito=#ff0000,er=#00ff00")


def test_two_colours_are_a_mask_only_if_one_is_black(folder: Path) -> None:
    shown = CLASSES > 0
    for name, other in (("dark.tif", (0, 0, 0)), ("bright.tif", (255, 255, 255))):
        colours = np.where(shown[..., None], (255, 0, 0), other).astype(np.uint8)
        tifffile.imwrite(folder / name, colours, photometric="rgb")
    add(folder, folder / "dark.tif", n_labels=1)
    assert np.array_equal(labels_of(folder)[0], shown)
    with pytest.raises(ParameterError, match=r"colour image with the colours #ff0000 \(.*, #ffffff \("):
        add(folder, folder / "bright.tif", n_labels=1)
    add(folder, folder / "bright.tif", n_labels=1, classes="label_0000=#ff0000")
    assert np.array_equal(labels_of(folder)[0], shown)


@pytest.mark.parametrize("value", ["#090909", "#000000", 0x090909])
def test_a_colour_may_stand_for_no_label(folder: Path, value: str | int) -> None:
    colours = np.where(CLASSES[..., None] == 2, 0, RGB).astype(np.uint8)  # black, red and grey
    tifffile.imwrite(folder / "labels.tif", colours, photometric="rgb")
    given = {"classes": "mito=#ff0000"} if value == "#000000" else {}
    result = add(folder, folder / "labels.tif", n_labels=1, ignore_value=value, **given)
    assert np.array_equal(labels_of(folder)[0], CLASSES == 1)
    left_out = (colours == (9 if value != "#000000" else 0)).all(-1)
    assert result.facts["labelled_share"] == pytest.approx(1 - left_out.mean())
    with pytest.raises(ParameterError, match="must be a whole number, or a colour"):
        add(folder, folder / "labels.tif", n_labels=1, ignore_value="#12")


def test_very_many_values_are_taken_for_ids(folder: Path) -> None:
    tifffile.imwrite(folder / "ids.tif", np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE))
    with pytest.raises(ParameterError) as refused:
        add(folder, folder / "ids.tif")
    assert "and 2384 more" in refused.value.hint
    assert "--instances boundaries, " in refused.value.hint
    add(folder, folder / "ids.tif", instances="boundaries")  # what is proposed is taken
    with pytest.raises(ParameterError, match='--instances foreground, with "" for each label that it does not hold'):
        add(folder, folder / "ids.tif", n_labels=3)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"classes": "mito=1,golgi=2", "aliases": ("mito", "er")}, r"names 'golgi', but .* \(mito, er\)"),
        ({"classes": "a=1,b=2,c=3"}, "names 'a', 'b', 'c', but"),
        ({"classes": "a"}, "must be NAME=VALUE"),
        ({"classes": "a=x"}, "must be NAME=VALUE"),
        ({"classes": "a=1,b=1"}, "a value to two names"),
        ({"classes": "a=1,b=#000001"}, "all colours or all numbers"),
        ({"classes": "a/b=1"}, "must not be"),
        ({"classes": "a=1,b=2", "label_threshold": 3}, "one of --classes, --label-threshold"),
        ({"instances": "boundaries", "n_labels": 3}, "makes two labels"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, how: dict[str, Any], words: str) -> None:
    tifffile.imwrite(folder / "classes.tif", CLASSES)
    with pytest.raises(ParameterError, match=words):
        add(folder, folder / "classes.tif", **how)


def test_one_file_means_one(folder: Path) -> None:
    tifffile.imwrite(folder / "classes.tif", CLASSES)
    with pytest.raises(ParameterError, match="one file with all labels, but 2 files are given"):
        add(folder, folder / "classes.tif", folder / "classes.tif", classes="a=1,b=2")
    add(folder, folder / "classes.tif", "", classes="a=1,b=2")  # as a form has it
    assert np.array_equal(labels_of(folder)[1], CLASSES == 2)


# ------------------------------------------------------------------------------------------------ masks and ids


def test_soft_edges_are_told_and_cut(folder: Path) -> None:
    soft = np.zeros(SHAPE, np.uint8)
    soft[:, 5:15, 5:15] = 255
    soft[:, 4, 5:15] = np.arange(60, 160, 10)
    tifffile.imwrite(folder / "soft.tif", soft)
    heard = Heard()
    add(folder, folder / "soft.tif", n_labels=1, report=heard)
    assert np.array_equal(labels_of(folder)[0], soft > 0)
    (text,) = heard.warnings
    assert "50 voxels lie between 0 and 255, as at soft edges: --label-threshold 127 takes the brighter half" in text
    heard = Heard()
    add(folder, folder / "soft.tif", n_labels=1, label_threshold=127, report=heard)
    assert np.array_equal(labels_of(folder)[0], soft > 127)
    assert "50 voxels (2.08 %) lie between 0 and 255; those above 127 are label_0000" in heard.warnings[0]


@pytest.mark.parametrize("most", [254, 200, 128])
def test_soft_edges_need_no_pure_white(folder: Path, most: int) -> None:
    soft = np.zeros(SHAPE, np.uint8)
    soft[:, 5:15, 5:15] = most
    soft[:, 4, 5:15] = np.arange(20, 120, 10)
    tifffile.imwrite(folder / "soft.tif", soft)
    heard = Heard()
    add(folder, folder / "soft.tif", n_labels=1, report=heard)
    assert f"--label-threshold {most // 2} takes the brighter half" in heard.warnings[0]


def test_ids_are_foreground_or_have_boundaries(folder: Path) -> None:
    ids = np.zeros(SHAPE, np.uint32)
    ids[0:3, 2:10, 2:10] = 70_001
    ids[0:3, 10:14, 2:10] = 70_002
    ids[3:5, 2:10, 2:10] = 9
    tifffile.imwrite(folder / "ids.tif", ids)
    heard = Heard()
    add(folder, folder / "ids.tif", n_labels=1, instances="foreground", report=heard)
    assert np.array_equal(labels_of(folder)[0], ids > 0)
    assert heard.warnings == []
    add(folder, folder / "ids.tif", instances="boundaries", report=heard)
    foreground, boundary = labels_of(folder)
    assert np.array_equal(foreground, ids > 0)
    expected = np.zeros(SHAPE, bool)
    expected[0:3, 9:11, 2:10] = True
    expected[2:4, 2:10, 2:10] = True  # above each other
    assert np.array_equal(boundary, expected)
    assert heard.warnings == []


def test_ids_may_be_colours(folder: Path) -> None:
    ids = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 40
    colours = np.stack([ids * 6, 255 * (ids > 0), ids * 0], -1).astype(np.uint8)
    tifffile.imwrite(folder / "ids.tif", colours, photometric="rgb")
    with pytest.raises(ParameterError) as refused:
        add(folder, folder / "ids.tif", n_labels=1)
    assert refused.value.hint.endswith("--instances foreground")
    add(folder, folder / "ids.tif", n_labels=1, instances="foreground")
    assert np.array_equal(labels_of(folder)[0], ids > 0)
    add(folder, folder / "ids.tif", instances="boundaries")
    assert np.array_equal(labels_of(folder)[0], ids > 0)


def test_boundaries_do_not_depend_on_slabs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = RNG.integers(0, 3, (20, 9, 8)).astype(np.uint8)
    tifffile.imwrite(folder / "image.tif", ids)
    tifffile.imwrite(folder / "ids.tif", ids)
    monkeypatch.setattr("deepscem_tui.engine.slabs.SLAB_BYTES", 1)
    add(folder, folder / "ids.tif", instances="boundaries")
    assert np.array_equal(labels_of(folder)[1], Boundaries().masks(ids)[1])


def test_a_value_may_stand_for_no_label_among_classes(folder: Path) -> None:
    tifffile.imwrite(folder / "classes.tif", CLASSES)
    result = add(folder, folder / "classes.tif", classes="mito=1,er=2", ignore_value=3)
    assert result.facts["warnings"] == []
    assert result.facts["labelled_share"] == pytest.approx((CLASSES != 3).mean())


# ------------------------------------------------------------------------------------------------ several files


def test_files_of_a_label_are_added_up(folder: Path) -> None:
    for value in (1, 2, 3):
        tifffile.imwrite(folder / f"part{value}.tif", np.uint8(255) * (value == CLASSES))
    both = f"{folder / 'part1.tif'}+{folder / 'part3.tif'}"
    add(folder, both, folder / "part2.tif")
    assert np.array_equal(labels_of(folder)[0], (CLASSES == 1) | (CLASSES == 3))
    with open_dataset(folder / "d.hdf5") as dataset:
        assert dataset.sample("s").attributes["label_sources"] == ("part1.tif+part3.tif", "part2.tif")
    tifffile.imwrite(folder / "a+b.tif", (CLASSES > 0).astype(np.uint8))
    add(folder, folder / "a+b.tif", "")
    assert np.array_equal(labels_of(folder)[0], CLASSES > 0)
    with pytest.raises(VolumeError, match=r"no file .*gone.tif"):
        add(folder, f"{folder / 'part1.tif'}+{folder / 'gone.tif'}", "")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("pattern", [False, True])
def test_a_file_a_slice_in_natural_order(folder: Path, suffix: str, pattern: bool) -> None:
    for name, voxels in (("image", IMAGE), ("mito", CLASSES)):
        (folder / name).mkdir()
        for z, slice_ in enumerate(voxels):
            file = folder / name / f"{name}{2 * z + 5}{suffix}"  # 5, 7, 9, 11, 13
            if suffix == ".png":
                file.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(slice_)))
            elif suffix == ".tif":
                tifffile.imwrite(file, slice_)
            else:
                np.save(file, slice_)
        (folder / name / "notes.txt").write_text("not a slice")
    image, label = (folder / name / f"*{suffix}" if pattern else folder / name for name in ("image", "mito"))
    add(folder, label, n_labels=1, image=image)
    assert np.array_equal(labels_of(folder)[0], CLASSES > 0)
    with open_dataset(folder / "d.hdf5") as dataset:
        stored = np.asarray(dataset.sample("s").image, np.float32)
    assert np.allclose(stored, IMAGE / np.float32(255), atol=1e-3)


def _slices(folder: Path) -> Path:
    (folder / "slices").mkdir()
    for z in range(3):
        (folder / "slices" / f"{z}.png").write_bytes(imagecodecs.png_encode(IMAGE[z]))
    return folder / "slices"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: [file.unlink() for file in path.iterdir()], "The folder .* has no image file"),
        (lambda path: (path / "1.png").write_bytes(imagecodecs.png_encode(IMAGE[0][:-1])), r"1.png is 23 x 20 uint8"),
        (lambda path: (path / "1.png").write_bytes(imagecodecs.png_encode(IMAGE[0].astype(np.uint16))), "uint16, but"),
        (lambda path: (path / "1.png").write_bytes(imagecodecs.png_encode(IMAGE[0])[:80]), "1.png is damaged"),
        (lambda path: (path / "0.png").write_bytes(b"no picture"), "0.png is no PNG file"),
        (lambda path: (path / "0.png").write_bytes(_huge()), "0.png claims 2147483647 x 2147483647 pixels"),
        (lambda path: (path / "1.png").unlink() or os.mkfifo(path / "1.png"), "1.png is no regular file"),
        (lambda path: (path / "1.png").unlink() or os.mkfifo(path / "1.tif"), "1.tif is no regular file"),
        (lambda path: tifffile.imwrite(path / "1.tif", IMAGE), "1.tif has 5 slices"),
        (lambda path: (path / "0.png").write_bytes(imagecodecs.png_encode(RGB[0])), "0.png is a colour image"),
    ],
)
def test_slices_that_do_not_go_together_are_told(folder: Path, change: Any, words: str) -> None:
    path = _slices(folder)
    change(path)

    def read() -> None:
        with open_slices(path, colours=False) as volume:
            volume.read(0, volume.shape[0])

    with pytest.raises(VolumeError, match=words):
        read()


def _huge() -> bytes:
    content = bytearray(imagecodecs.png_encode(IMAGE[0]))
    content[16:24] = bytes([0x7F, 0xFF, 0xFF, 0xFF]) * 2
    return bytes(content)


def test_greys_saved_as_colours_are_grey(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.repeat(IMAGE[0][..., None], 3, -1)))
    with open_slices(tmp_path / "a.png", colours=False) as volume:
        assert np.array_equal(volume.read(0, 1)[0], IMAGE[0])
    assert slice_files(tmp_path / "a.png") == [tmp_path / "a.png"]
    with pytest.raises(VolumeError, match=r"matches no image file|has no image file|\*.gif"):
        slice_files(tmp_path / "*.gif")


# ------------------------------------------------------------------------------------------------ forms and commands


def test_a_form_takes_folders_patterns_and_several_files(folder: Path) -> None:
    path = _slices(folder)
    tifffile.imwrite(folder / "image.tif", IMAGE[:3], photometric="minisblack")
    do("create-dataset", {"file": folder / "d.hdf5", "name": "d", "n_labels": 1})
    values = {"file": str(folder / "d.hdf5"), "name": "s", "image": str(folder / "image.tif")}
    for label in (path, path / "*.png", f"{folder / 'image.tif'}+{path}"):
        assert dict(checks.examine(ACTIONS["add-sample"], values | {"labels": [str(label)]}, True).faults) == {}
    gone = checks.examine(ACTIONS["add-sample"], values | {"labels": [f"{path}+{folder / 'gone.tif'}"]}, True)
    assert "gone.tif" in gone.faults["labels"]


def test_safe_mode_lets_one_file_hold_all_labels(folder: Path) -> None:
    do("create-dataset", {"file": folder / "d.hdf5", "name": "d", "n_labels": 2})
    values = {"file": folder / "d.hdf5", "name": "s", "image": folder / "image.tif", "labels": ("l.tif",)}
    action = ACTIONS["add-sample"]
    assert safe_mode.mismatch(action, build(action, values), ()) is not None
    assert safe_mode.mismatch(action, build(action, values | {"classes": "a=1,b=2"}), ()) is None


def test_the_command_says_it_again() -> None:
    action = ACTIONS["add-sample"]
    values = {"file": "d", "name": "s", "image": "i.tif", "labels": ("l.tif",), "classes": "a b=1,c=#ff00aa"}
    with pytest.raises(EngineError):
        build(action, values)
    parameters = build(action, values | {"classes": "a b=1,c=2", "labelled_z": "0:4, 9:", "ignore_value": -1})
    line = command_line(action, parameters)
    assert "--classes 'a b=1,c=2'" in line
    assert "--labelled-z 0:4,9:" in line
