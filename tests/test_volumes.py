"""Image files: every form that can be read is read rightly and lazily, every other one is refused in plain words."""

from __future__ import annotations

import errno
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from deepscem_tui.engine.errors import EngineError, ParameterError, ResourceError, Stopped, VolumeError
from deepscem_tui.engine.formats import volumes
from deepscem_tui.engine.formats.volumes import LabelValues, Volume, create_volume, open_volume, value_range
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
DTYPES = [
    "bool",
    "float16",
    "float32",
    "float64",
    *(f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)),
]
IMAGE = np.random.default_rng(0).integers(0, 120, (5, 40, 24)).astype(np.uint8)
NM = {"axes": "ZYX", "unit": "nm", "spacing": 8}
OME = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (8, 4, 2.5), strict=True)}
OME |= {f"PhysicalSize{axis}Unit": "nm" for axis in "ZYX"} | {"axes": "ZYX"}


def read(path: Path) -> np.ndarray:
    with open_volume(path) as volume:
        return volume.read(0, volume.shape[0])


def refusal(path: Path) -> str:
    """What reading a file is refused with; always names the file."""
    with pytest.raises(VolumeError) as caught, open_volume(path) as volume:
        volume.read(0, volume.shape[0])
    assert str(path) in caught.value.what
    return caught.value.what


def write_pages(path: Path, pages: Any, **options: Any) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for page in pages:
            tiff.write(page, **options)


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("shape", [(5, 40, 24), (1, 40, 24), (40, 24), (5, 1, 2)])
@pytest.mark.parametrize("suffix", [".npy", ".tif", ".TIFF"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_2d_and_3d(tmp_path: Path, dtype: str, suffix: str, shape: tuple[int, ...]) -> None:
    image = IMAGE.reshape(-1)[: int(np.prod(shape))].reshape(shape).astype(dtype)
    path = tmp_path / f"a{suffix}"
    np.save(path, image) if suffix == ".npy" else tifffile.imwrite(path, image, photometric="minisblack")
    with open_volume(path) as volume:
        assert volume.path == path
        assert volume.shape == (1,) * (3 - len(shape)) + shape
        assert volume.dtype == dtype
        assert volume.voxel_size is None
        found = volume.read(0, volume.shape[0])
    assert found.dtype == dtype
    assert found.dtype.isnative
    assert found.flags.writeable
    assert np.array_equal(found, image.reshape(found.shape))


TIFFS: dict[str, dict[str, Any]] = {
    "deflate": {"compression": "zlib"},
    "deflate with predictor": {"compression": "zlib", "predictor": True},
    "lzw": {"compression": "lzw"},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "strips": {"rowsperstrip": 7},
    "compressed strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles": {"tile": (16, 16)},
    "compressed tiles": {"tile": (16, 16), "compression": "lzw"},
    "tiles of many slices": {"tile": (16, 16, 16), "volumetric": True, "compression": "zlib"},
    "BigTIFF": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "big-endian compressed BigTIFF": {"byteorder": ">", "bigtiff": True, "compression": "zlib"},
    "ImageJ": {"imagej": True, "metadata": NM},
    "ImageJ big-endian": {"imagej": True, "metadata": NM, "byteorder": ">"},
    "OME": {"ome": True, "metadata": OME},
    "OME compressed": {"ome": True, "metadata": OME, "compression": "zlib"},
    "no description": {"metadata": None},
    "one directory for all slices": {"truncate": True},
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("form", TIFFS)
def test_every_form_of_tiff(tmp_path: Path, form: str, dtype: str) -> None:
    path, image = tmp_path / "a.tif", IMAGE.astype(dtype)
    order = TIFFS[form].get("byteorder", "<")
    tifffile.imwrite(path, image.astype(image.dtype.newbyteorder(order)), **TIFFS[form])
    with open_volume(path) as volume:
        assert volume.shape == IMAGE.shape
        assert np.array_equal(volume.read(0, 5), image)
        assert np.array_equal(volume.read(2, 4), image[2:4])
        assert np.array_equal(volume.read(4, 5), image[4:5])
        assert volume.read(0, 5).dtype.isnative


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"metadata": None}])
def test_pages_written_one_by_one_are_one_volume(tmp_path: Path, options: dict[str, Any]) -> None:
    write_pages(tmp_path / "a.tif", IMAGE, **options)
    assert np.array_equal(read(tmp_path / "a.tif"), IMAGE)


def test_pages_that_are_compressed_in_different_ways(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for index, page in enumerate(IMAGE):
            tiff.write(page, metadata=None, compression="zlib" if index % 2 else None)
    assert np.array_equal(read(tmp_path / "a.tif"), IMAGE)


def test_thumbnails_and_pyramids_are_left_out(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "thumbnail.tif") as tiff:
        tiff.write(IMAGE[0], metadata=None)
        tiff.write(IMAGE[0, ::2, ::2], metadata=None, subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as tiff:
        tiff.write(IMAGE, subifds=1, tile=(16, 16))
        tiff.write(IMAGE[:, ::2, ::2], subfiletype=1, tile=(16, 16))
    assert np.array_equal(read(tmp_path / "thumbnail.tif"), IMAGE[:1])
    assert np.array_equal(read(tmp_path / "pyramid.tif"), IMAGE)


@pytest.mark.parametrize("shape", [(1, 1, 5, 40, 24), (5, 1, 40, 24), (1, 5, 40, 24, 1)])
@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_axes_of_one_element_are_dropped(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    image, path = IMAGE.reshape(shape), tmp_path / f"a{suffix}"
    np.save(path, image) if suffix == ".npy" else tifffile.imwrite(path, image)
    assert np.array_equal(read(path), IMAGE)


@pytest.mark.parametrize("shape", [(5, 40, 24), (40, 24), (5, 1, 40, 24)])
def test_fortran_order_is_read_in_blocks_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr("deepscem_tui.engine.formats.plain_files.BLOCK_BYTES", 7 * 40 * 5 * 2)
    image = IMAGE.reshape(-1)[: int(np.prod(shape))].reshape(shape).astype(">i2")
    np.save(tmp_path / "a.npy", np.asfortranarray(image))
    with open_volume(tmp_path / "a.npy") as volume:
        assert "Fortran" in volume.warnings[0]
        expected = image.reshape(volume.shape)
        assert np.array_equal(volume.read(0, len(expected)), expected)
        assert np.array_equal(volume.read(len(expected) - 1, len(expected)), expected[-1:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"photometric": "miniswhite"}, "0 is white"),
        ({"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}, "colour table"),
        ({"imagej": True, "metadata": {"axes": "TYX"}}, "5 time points are taken as slices"),
        ({"ome": True, "metadata": {"axes": "TYX"}}, "5 time points are taken as slices"),
    ],
)
def test_oddities_that_do_no_harm_are_said(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, **options)
    with open_volume(tmp_path / "a.tif") as volume:
        assert any(words in warning for warning in volume.warnings)
        assert np.array_equal(volume.read(0, 5), IMAGE)


def test_a_long_stack_of_nothing_but_channels_is_a_stack(tmp_path: Path) -> None:
    image = np.concatenate([IMAGE, IMAGE])
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True)  # tifffile takes the first axis for channels
    with open_volume(tmp_path / "a.tif") as volume:
        assert volume.warnings == ("its 10 channels are taken as slices",)
        assert np.array_equal(volume.read(0, 10), image)


def test_bool_npy_with_other_bytes_than_0_and_1(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", (IMAGE > 60))
    content = bytearray((tmp_path / "a.npy").read_bytes())
    content[-IMAGE.size :] = (IMAGE * 2).tobytes()
    (tmp_path / "a.npy").write_bytes(content)
    assert np.array_equal(read(tmp_path / "a.npy"), IMAGE > 0)
    assert read(tmp_path / "a.npy").sum() == (IMAGE > 0).sum()


def test_slices_out_of_range_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    with open_volume(tmp_path / "a.npy") as volume:
        assert volume.read(2, 2).shape == (0, 40, 24)
        for z0, z1 in ((-1, 2), (0, 6), (3, 2)):
            with pytest.raises(IndexError):
                volume.read(z0, z1)


@needs_data
@pytest.mark.parametrize("name", ["fib25/raw.tif", "deepscem/image.tif", "axonsem/sub-rat1_sample-data1_SEM_raw.tif"])
def test_real_files(name: str) -> None:
    expected = tifffile.imread(SHARED / name)
    expected = expected.reshape((1, *expected.shape)[-3:])
    with open_volume(SHARED / name) as volume:
        assert volume.shape == expected.shape
        for z0, z1, slab in volume.slabs(2**20):
            assert np.array_equal(slab, expected[z0:z1])


# ------------------------------------------------------------------------------------------------ voxel size


def _resolution(tmp_path: Path, image: np.ndarray, **options: Any) -> tuple[Any, str]:
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    with open_volume(tmp_path / "a.tif") as volume:
        return volume.voxel_size, volume.voxel_unit


def test_voxel_size_of_ome(tmp_path: Path) -> None:
    assert _resolution(tmp_path, IMAGE, ome=True, metadata=OME) == ((8, 4, 2.5), "nm")
    micrometres = {"axes": "ZYX", "PhysicalSizeX": 0.004, "PhysicalSizeY": 0.004, "PhysicalSizeZ": 8}
    mixed = micrometres | {"PhysicalSizeZUnit": "nm"}
    assert _resolution(tmp_path, IMAGE, ome=True, metadata=mixed) == ((0.008, 0.004, 0.004), "µm")
    del micrometres["PhysicalSizeZ"]
    assert _resolution(tmp_path, IMAGE, ome=True, metadata=micrometres) == (None, "")
    unknown = OME | {"PhysicalSizeXUnit": "reference frame"}
    assert _resolution(tmp_path, IMAGE, ome=True, metadata=unknown) == (None, "")


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m"])
def test_voxel_size_of_imagej(tmp_path: Path, unit: str) -> None:
    about = {"axes": "ZYX", "unit": unit, "spacing": 0.05}
    size, found = _resolution(tmp_path, IMAGE, imagej=True, resolution=(250, 125), metadata=about)
    assert size == pytest.approx((0.05, 0.008, 0.004))
    assert found == "µm"


@pytest.mark.parametrize(
    "about", [{"unit": "pixel", "spacing": 1}, {"unit": "nm"}, {"spacing": 5}, {"unit": "nm", "spacing": float("nan")}]
)
def test_imagej_without_a_unit_or_a_depth_has_no_voxel_size(tmp_path: Path, about: dict[str, Any]) -> None:
    options = {"imagej": True, "resolution": (0.25, 0.25), "metadata": {"axes": "ZYX", **about}}
    assert _resolution(tmp_path, IMAGE, **options) == (None, "")


def test_resolution_tags_are_trusted_for_single_slices_in_centimetres(tmp_path: Path) -> None:
    fine = {"resolution": (1e6, 1e6), "resolutionunit": "CENTIMETER"}
    assert _resolution(tmp_path, IMAGE[0], **fine) == ((0.01, 0.01, 0.01), "µm")
    assert _resolution(tmp_path, IMAGE, **fine) == (None, "")
    assert _resolution(tmp_path, IMAGE[0], resolution=(72, 72), resolutionunit="INCH") == (None, "")
    assert _resolution(tmp_path, IMAGE[0], resolution=(28, 28), resolutionunit="CENTIMETER") == (None, "")


@pytest.mark.filterwarnings("ignore:.*stored as RGB:DeprecationWarning")
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("depth", [3, 4])
def test_a_stack_that_tifffile_marks_as_colour_planes(tmp_path: Path, depth: int, compression: str | None) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (depth, 20, 16)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, compression=compression)
    with open_volume(tmp_path / "a.tif") as volume:
        assert volume.shape == (depth, 20, 16)
        assert np.array_equal(volume.read(0, depth), stack)
        assert np.array_equal(volume.read(1, 2), stack[1:2])
        assert volume.warnings == (f"its {depth} colour planes are taken as slices",)


# ------------------------------------------------------------------------------------------------ refusals

GREY = np.zeros((5, 20, 16, 3), np.uint8)
REFUSED: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "RGB": ("colour", lambda path: tifffile.imwrite(path, GREY[0], photometric="rgb")),
    "RGB stack": ("colour", lambda path: tifffile.imwrite(path, GREY, photometric="rgb")),
    "RGBA": ("colour", lambda path: tifffile.imwrite(path, np.zeros((20, 16, 4), np.uint8), photometric="rgb")),
    "RGB planes": (
        "colour",
        lambda path: tifffile.imwrite(
            path, GREY.T[:, :, :, 0], photometric="rgb", planarconfig="separate", metadata=None
        ),
    ),
    "channels of ImageJ": ("5 channels", lambda path: tifffile.imwrite(path, IMAGE, imagej=True)),
    "channels of OME": (
        "2 channels",
        lambda path: tifffile.imwrite(path, np.stack([IMAGE, IMAGE]), ome=True, metadata={"axes": "CZYX"}),
    ),
    "time points": (
        "2 time points",
        lambda path: tifffile.imwrite(path, np.stack([IMAGE, IMAGE]), ome=True, metadata={"axes": "TZYX"}),
    ),
    "time points of ImageJ": (
        "4 dimensions",
        lambda path: tifffile.imwrite(path, np.stack([IMAGE, IMAGE]), imagej=True, metadata={"axes": "TZYX"}),
    ),
    "four dimensions": ("4 dimensions", lambda path: tifffile.imwrite(path, np.stack([IMAGE, IMAGE]))),
    "two volumes": ("several images: 2 of 5 x 40 x 24", lambda path: write_pages(path, [IMAGE, IMAGE])),
    "two OME images": ("2 images", lambda path: _two_ome_images(path)),
    "pages of different shapes": (
        "several images",
        lambda path: write_pages(path, [page[: 40 - index] for index, page in enumerate(IMAGE)], metadata=None),
    ),
    "one page of another shape": (
        "4 x 40 x 24 uint8, 1 of 30 x 24 uint8",
        lambda path: write_pages(path, [*IMAGE[:2], IMAGE[2, :30], *IMAGE[3:]], metadata=None),
    ),
    "one page of another type": (
        "40 x 24 uint16",
        lambda path: write_pages(path, [*IMAGE[:2], IMAGE[2].astype(np.uint16), *IMAGE[3:]], metadata=None),
    ),
    "axes out of order": ("axes XYZ", lambda path: tifffile.imwrite(path, IMAGE, metadata={"axes": "XYZ"})),
    "complex": ("complex", lambda path: tifffile.imwrite(path, IMAGE.astype(np.complex64))),
    "no voxels": ("no voxels", lambda path: tifffile.imwrite(path, IMAGE[:0])),
    "empty": ("is empty", lambda path: path.touch()),
    "text": ("no TIFF file", lambda path: path.write_text("not an image, whatever its name says")),
    "one byte": ("no TIFF file", lambda path: path.write_bytes(b"I")),
    "header alone": ("cut off", lambda path: path.write_bytes(b"II*\0")),
    "no directory": ("after 0 slices", lambda path: path.write_bytes(b"II*\0" + b"\0" * 8)),
    "circular directories": ("damaged", lambda path: _circular(path)),
    "folder": ("folder", lambda path: path.mkdir()),
    "missing": ("There is no file", lambda path: None),
    "dangling link": ("There is no file", lambda path: path.symlink_to("nowhere")),
}


def _two_ome_images(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(IMAGE, metadata={"axes": "ZYX"})
        tiff.write(IMAGE, metadata={"axes": "ZYX"})


def _circular(path: Path) -> None:
    write_pages(path, IMAGE[:2], metadata=None)
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    second = struct.unpack_from("<I", content, first + 2 + 12 * entries)[0]
    entries = struct.unpack_from("<H", content, second)[0]
    struct.pack_into("<I", content, second + 2 + 12 * entries, first)
    path.write_bytes(content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_tiffs_that_cannot_be_used_are_refused_in_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    words, make = REFUSED[kind]
    make(tmp_path / "a.tif")
    assert words in refusal(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


NPY: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "objects": ("Python objects", lambda path: np.save(path, np.array([{}, 1], object))),
    "complex": ("complex", lambda path: np.save(path, IMAGE.astype(np.complex128))),
    "fields": ("type", lambda path: np.save(path, np.zeros((4, 4), [("a", np.uint8), ("b", np.uint8)]))),
    "named fields": ("named fields", lambda path: _npy(path, "{'descr': '|u1'}", version=3)),
    "text": ("type", lambda path: np.save(path, np.array([["a", "b"]]))),
    "dates": ("type", lambda path: np.save(path, np.zeros((4, 4), "datetime64[s]"))),
    "one dimension": ("no image", lambda path: np.save(path, np.zeros(5))),
    "a number": ("no image", lambda path: np.save(path, np.float32(5))),
    "four dimensions": ("4 dimensions", lambda path: np.save(path, np.zeros((2, 3, 4, 5)))),
    "colours": ("colour image", lambda path: np.save(path, GREY[0].repeat(2, axis=0))),
    "no voxels": ("no voxels", lambda path: np.save(path, IMAGE[:, :0])),
    "no NumPy file": ("no NumPy file", lambda path: path.write_bytes(b"whatever else it may be")),
    "huge claim": (
        "should have",
        lambda path: _npy(path, "{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000, 100000)}"),
    ),
    "negative size": (
        "impossible",
        lambda path: _npy(path, "{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 4)}"),
    ),
    "broken header": ("no NumPy file", lambda path: _npy(path, "{'descr': '|u1', 'fortran_order': (")),
    "a pickle": ("no NumPy file", lambda path: path.write_bytes(b"\x80\x04\x95.")),
    "an archive": ("no NumPy file", lambda path: _archive(path)),
}


def _npy(path: Path, header: str, version: int = 1) -> None:
    text = header.encode() + b" \n"
    length = struct.pack("<H", len(text)) if version == 1 else struct.pack("<I", len(text))
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + text + b"\0" * 100)


def _archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, IMAGE)


@pytest.mark.parametrize("kind", NPY)
def test_npys_that_cannot_be_used_are_refused_in_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    words, make = NPY[kind]
    make(tmp_path / "a.npy")
    assert words in refusal(tmp_path / "a.npy")
    assert capfd.readouterr() == ("", "")


CUT = ["ImageJ", "OME", "deflate", "compressed tiles", "tiles", "no description", "BigTIFF", "big-endian", "strips"]


@pytest.mark.parametrize("form", CUT)
def test_a_file_cut_off_anywhere_is_refused_or_read_whole(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    tifffile.imwrite(tmp_path / "whole.tif", IMAGE, **TIFFS[form])
    content, path = (tmp_path / "whole.tif").read_bytes(), tmp_path / "cut.tif"
    refused = 0
    for size in [0, 2, 5, 8, 12, *range(20, len(content), len(content) // 40), len(content) - 1]:
        path.write_bytes(content[:size])
        try:
            assert np.array_equal(read(path), IMAGE), f"{size} of {len(content)} bytes"
        except VolumeError:
            refused += 1
    assert refused > 30
    assert capfd.readouterr() == ("", "")


def test_a_cut_npy_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", IMAGE)
    content = (tmp_path / "whole.npy").read_bytes()
    for size in (0, 3, 7, 9, 60, 128, len(content) - 1):
        (tmp_path / "cut.npy").write_bytes(content[:size])
        refusal(tmp_path / "cut.npy")


@pytest.mark.parametrize("form", ["deflate", "compressed tiles", "ImageJ", "OME"])
def test_random_damage_never_ends_in_anything_but_an_engine_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    tifffile.imwrite(tmp_path / "whole.tif", IMAGE, **TIFFS[form])
    whole, rng = np.fromfile(tmp_path / "whole.tif", np.uint8), np.random.default_rng(1)
    outcomes = set()
    for _ in range(60):
        damaged = whole.copy()
        places = rng.integers(0, [400, len(whole)][rng.integers(2)], 2)
        damaged[np.concatenate([places, len(whole) - 1 - places // 2])[rng.integers(0, 4, 2)]] = rng.integers(256)
        damaged.tofile(tmp_path / "damaged.tif")
        try:
            read(tmp_path / "damaged.tif")
            outcomes.add("read")
        except EngineError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert capfd.readouterr() == ("", "")


def test_a_claimed_size_that_the_data_cannot_fill_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for compression, sizes in ((None, (5000, 5000)), ("zlib", (60000, 60000))):
        tifffile.imwrite(tmp_path / "a.tif", IMAGE[0], compression=compression, metadata=None)
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
            for name, size in zip(("ImageLength", "ImageWidth"), sizes, strict=True):
                tiff.pages.first.tags[name].overwrite(size)
            tiff.pages.first.tags["RowsPerStrip"].overwrite(sizes[0])
        tracemalloc.start()
        try:
            words = refusal(tmp_path / "a.tif")
            assert "not all there" in words or "bytes of its data are missing" in words
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()


def test_slices_that_the_description_promises_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, imagej=True, metadata=NM)
    path.write_bytes(path.read_bytes().replace(b"images=5", b"images=9").replace(b"slices=5", b"slices=9"))
    assert "9 slices" in refusal(path)
    tifffile.imwrite(path, IMAGE, metadata={"axes": "ZYX"}, compression="zlib")
    path.write_bytes(path.read_bytes().replace(b"[5, 40", b"[9, 40"))
    assert "9 slices" in refusal(path)
    tifffile.imwrite(path, IMAGE, ome=True, metadata=OME, compression="zlib")
    path.write_bytes(path.read_bytes().replace(b'SizeZ="5"', b'SizeZ="9"').replace(b'Count="5"', b'Count="9"'))
    refusal(path)


def test_a_file_of_an_ome_set_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE[:2], ome=True, metadata={"axes": "ZYX"}, compression="zlib")
    xml = tifffile.tiffcomment(tmp_path / "a.tif")
    assert isinstance(xml, str)
    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{z}.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(2)
    )
    start, end = xml.index("<TiffData"), xml.index("</Pixels>")
    tifffile.tiffcomment(tmp_path / "a.tif", xml[:start] + planes + xml[end:])
    assert "one of 2 files" in refusal(tmp_path / "a.tif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")
@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "no regular file" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")

    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert "may not be read" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jp2", "a.npz", "a", "a.txt"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    assert "by its name" in refusal(tmp_path / name)


def test_a_slice_larger_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    monkeypatch.setattr(volumes, "LARGE_BYTES", 100)
    monkeypatch.setattr(volumes, "available_memory", lambda: 1000)
    with open_volume(tmp_path / "a.npy") as volume:
        assert volume.read(0, 1).shape == (1, 40, 24)
        with pytest.raises(ResourceError, match="memory"):
            volume.read(0, 2)


# ------------------------------------------------------------------------------------------------ slabs and memory


def test_slabs_cover_the_volume_once_within_their_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    with open_volume(tmp_path / "a.npy") as volume:
        for limit in (1, 960, 2000, 10**9):
            slabs = list(volume.slabs(limit))
            assert [z0 for z0, _, _ in slabs] == [0] + [z1 for _, z1, _ in slabs[:-1]]
            assert np.array_equal(np.concatenate([slab for _, _, slab in slabs]), IMAGE)
            assert all(slab.nbytes <= max(limit, 960) for _, _, slab in slabs)
        assert volume.nbytes == IMAGE.nbytes


def _sparse_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (400, 1024, 1024)})
        file.truncate(file.tell() + 400 * 2**20)


def _compressed_tiff(path: Path) -> None:
    with create_volume(path, (400, 1024, 1024), np.uint8) as out:
        for _ in range(50):
            out.write(np.zeros((8, 1024, 1024), np.uint8))


LARGE = {"a.npy": _sparse_npy, "plain.tif": None, "compressed.tif": _compressed_tiff}


@pytest.mark.parametrize("name", LARGE)
def test_400_mb_stream_in_a_few_slabs_of_memory(tmp_path: Path, name: str) -> None:
    path, make = tmp_path / name, LARGE[name]
    if make is None:
        tifffile.imwrite(path, shape=(400, 1024, 1024), dtype=np.uint8)
    else:
        make(path)
    tracemalloc.start()
    try:
        with open_volume(path) as volume:
            assert volume.nbytes == 400 * 2**20
            found = value_range(volume, Reporter(), Stop())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.low, found.high, found.voxels) == (0, 0, 400 * 2**20)
    assert peak < 3 * volumes.SLAB_BYTES


# ------------------------------------------------------------------------------------------------ values


class Progress(Reporter):
    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        self.seen.append((done, total))


def _range(tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> volumes.ValueRange:
    np.save(tmp_path / "a.npy", image)
    slabs = Volume.slabs
    monkeypatch.setattr(Volume, "slabs", lambda self: slabs(self, 1))  # a slice at a time
    progress = Progress()
    with open_volume(tmp_path / "a.npy") as volume:
        found = value_range(volume, progress, Stop())
        assert progress.seen[-1] == (volume.shape[0], volume.shape[0])
    monkeypatch.undo()
    return found


def test_value_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _range(tmp_path, IMAGE, monkeypatch) == volumes.ValueRange(0, 119, 0, IMAGE.size)
    large = np.array([[2**64 - 1, 5]], np.uint64)
    assert _range(tmp_path, large, monkeypatch).high == 2**64 - 1
    assert _range(tmp_path, np.full((2, 3, 4), -7, np.int16), monkeypatch).constant
    assert not _range(tmp_path, IMAGE > 5, monkeypatch).constant


def test_value_range_leaves_nan_and_infinity_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = IMAGE.astype(np.float32) - 3
    image[1, 0, :4] = [np.nan, np.inf, -np.inf, np.nan]
    image[3] = np.nan
    found = _range(tmp_path, image, monkeypatch)
    assert (found.low, found.high, found.non_finite) == (-3, 116, 4 + 960)
    np.save(tmp_path / "a.npy", np.full((2, 3, 4), np.nan))
    with open_volume(tmp_path / "a.npy") as volume, pytest.raises(VolumeError, match="no finite voxel"):
        value_range(volume, Reporter(), Stop())


def test_value_range_can_be_stopped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    stop = Stop()
    stop.request("enough")
    with open_volume(tmp_path / "a.npy") as volume, pytest.raises(Stopped):
        value_range(volume, Reporter(), stop)


LABELS = [
    ((0, 1), True, "0, 1"),
    ((0,), True, "0"),
    ((1,), True, "1"),
    ((0, 2), False, "0, 2"),
    ((3, 7), False, "3, 7"),
]


@pytest.mark.parametrize(
    ("dtype", "values", "usual", "text"),
    [(dtype, *label) for dtype in DTYPES for label in LABELS if dtype != "bool" or max(label[0]) <= 1],
)
def test_label_values(dtype: str, values: tuple[int, ...], usual: bool, text: str) -> None:
    image = np.array(values, dtype)[np.random.default_rng(0).integers(0, len(values), (4, 10, 10))]
    found = LabelValues()
    for plane in image:
        found.update(plane)
    assert found.values == values
    assert (found.voxels, found.foreground) == (400, np.count_nonzero(image))
    assert found.usual is usual
    assert str(found) == text


def test_label_values_of_masks_at_255_and_of_many_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "CHUNK", 100)
    mask = LabelValues()
    mask.update((IMAGE > 50).astype(np.uint8) * 255)
    assert mask.usual
    assert mask.values == (0, 255)
    for dtype in (np.uint8, np.int32, np.float32):
        many = LabelValues()
        many.update(np.arange(-20 if dtype != np.uint8 else 0, 180).astype(dtype))
        assert many.more
        assert not many.usual
        assert len(many.values) == volumes.LISTED_VALUES
        assert str(many).endswith("and more")
        assert many.foreground == 179


def test_label_values_count_what_is_not_finite() -> None:
    found = LabelValues()
    found.update(np.array([0, 1, np.nan, np.inf], np.float32))
    assert (found.non_finite, found.foreground, found.values) == (2, 2, (0, 1))
    assert not found.usual
    assert "NaN" in str(found)


def test_exactly_as_many_values_as_are_listed_are_not_more() -> None:
    found = LabelValues()
    found.update(np.arange(volumes.LISTED_VALUES, dtype=np.int32))
    assert not found.more
    found.update(np.arange(volumes.LISTED_VALUES, dtype=np.int32))
    assert not found.more
    found.update(np.array([99], np.int32))
    assert found.more


# ------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("shape", [(5, 40, 24), (1, 40, 24)])
@pytest.mark.parametrize("suffix", [".npy", ".tif"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_read(tmp_path: Path, dtype: str, suffix: str, shape: tuple[int, int, int]) -> None:
    path, image = tmp_path / "new folder" / f"a{suffix}", IMAGE[: shape[0]].astype(dtype)
    with create_volume(path, shape, dtype) as out:
        for z in range(0, shape[0], 2):
            out.write(image[z : z + 2])
            assert not path.exists()
    expected = image
    if suffix == ".tif":
        expected = image.astype({"bool": "uint8", "float16": "float32"}.get(dtype, dtype))
        expected *= 255 if dtype == "bool" else 1
    found = read(path)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    other = np.load(path) if suffix == ".npy" else tifffile.imread(path).reshape(shape)
    assert np.array_equal(other, expected)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "uint32"])
def test_voxel_size_and_slices_are_written_so_that_others_find_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, big: bool
) -> None:
    monkeypatch.setattr("deepscem_tui.engine.formats.volume_writer.BIG", 100 if big else 2**32)
    path, image = tmp_path / "a.tif", IMAGE.astype(dtype)
    with create_volume(path, image.shape, dtype, voxel_size=(8, 4, 2.5), voxel_unit="nm") as out:
        out.write(image)
    with open_volume(path) as volume:
        assert volume.voxel_size == (8, 4, 2.5)
        assert volume.voxel_unit == "nm"
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff == big
        assert tiff.is_imagej == (not big and dtype != "uint32")
        assert tiff.is_ome == (big or dtype == "uint32")
        assert tiff.series[0].axes == "ZYX"
        assert np.array_equal(tiff.series[0].asarray(), image)
        first = tiff.pages.first
        assert first.compression == (8 if dtype == "uint8" else 1)
        if dtype != "uint8":  # ImageJ expects slices that are not compressed in one piece
            assert tiff.series[0].dataoffset == first.dataoffsets[0]
        assert first.tags["XResolution"].value[0] / first.tags["XResolution"].value[1] == pytest.approx(0.4)


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_text("precious")
    with pytest.raises(ParameterError, match="--overwrite"), create_volume(path, IMAGE.shape, np.uint8):
        raise AssertionError("not reached")
    assert path.read_text() == "precious"
    with create_volume(path, IMAGE.shape, np.uint8, overwrite=True) as out:
        out.write(IMAGE)
    assert np.array_equal(read(path), IMAGE)


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("precious")

    def fail() -> None:
        with create_volume(path, IMAGE.shape, np.uint8, overwrite=True) as out:
            out.write(IMAGE[:2])
            raise Stopped("enough")

    with pytest.raises(Stopped):
        fail()
    assert path.read_text() == "precious"
    with (
        pytest.raises(ValueError, match="2 of 5 slices"),
        create_volume(path, IMAGE.shape, np.uint8, overwrite=True) as out,
    ):
        out.write(IMAGE[:2])
    assert path.read_text() == "precious"
    assert [one.name for one in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
@pytest.mark.parametrize(
    ("number", "error", "words"),
    [(errno.ENOSPC, ResourceError, "No space left.*bytes are needed"), (errno.EIO, VolumeError, "cannot be written")],
)
def test_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, error: type[EngineError], words: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("deepscem_tui.engine.system.files.os.fsync", fail)
    with pytest.raises(error, match=words), create_volume(tmp_path / name, IMAGE.shape, np.uint8) as out:
        out.write(IMAGE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_disk_that_is_full_while_slabs_are_written(tmp_path: Path) -> None:
    slab = np.zeros((64, 256, 256), np.uint8)
    with (  # noqa: PT012
        pytest.raises(ResourceError, match=r"No space left.*bytes are needed"),
        Path("/dev/full").open("wb", buffering=0) as full,
        create_volume(tmp_path / "a.npy", slab.shape, slab.dtype) as out,
    ):
        out._file = full  # type: ignore[attr-defined]
        out.write(slab)
    assert list(tmp_path.iterdir()) == []


def test_names_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ParameterError, match="not written"),
        create_volume(tmp_path / "a.png", IMAGE.shape, "u1"),
    ):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(ParameterError, match="cannot be made"),
        create_volume(tmp_path / "file" / "a.tif", (1, 1, 1), "u1"),
    ):
        pass


def test_slabs_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    for slab in (IMAGE.astype(np.float32), IMAGE[:, :5], IMAGE[0], np.concatenate([IMAGE, IMAGE])):
        with (
            pytest.raises(ValueError, match=r"belong|more than"),
            create_volume(tmp_path / "a.tif", IMAGE.shape, "u1") as out,
        ):
            out.write(slab)
