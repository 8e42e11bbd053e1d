"""Formats in and out, against each format's own library: made by it and read here, written here and read by it."""

from __future__ import annotations

import re
import shlex
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile

from deepscem_tui.engine import actions, formats
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.errors import EngineError, ParameterError, Stopped, VolumeError
from deepscem_tui.engine.formats import FORMATS, place_of
from deepscem_tui.engine.formats.bands import chunks_for
from deepscem_tui.engine.formats.slice_files import is_several_files, open_slices
from deepscem_tui.engine.formats.volumes import Volume, create_volume, open_volume
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.stop import Stop

SHAPE = (5, 7, 11)
SIZE = (30.0, 8.0, 4.0)
IMAGE = np.random.default_rng(0).integers(0, 250, SHAPE).astype(np.uint8)


def read(path: Path) -> tuple[Any, Volume]:
    """All voxels, read in pieces that fit no chunk, and what is known of them."""
    with open_volume(path) as volume:
        pieces = [volume.read(z, min(z + 2, volume.shape[0])) for z in range(0, volume.shape[0], 2)]
        found = np.concatenate(pieces)
        assert found.dtype == volume.dtype
        assert found.dtype.isnative
        assert np.array_equal(volume.read(0, 1)[0], found[0], equal_nan=True), "going back"
    return found, volume


def refusal(path: Path) -> str:
    with pytest.raises(VolumeError) as caught:
        read(path)
    assert caught.value.hint
    return str(caught.value)


def typed_back(path: Path) -> list[str]:
    """What opens as an image when hints are typed as they are given, hints to these too."""
    try:
        with open_slices(path, colours=False):
            return [str(path)]
    except VolumeError as error:
        told = re.search(r"(?:such as|give one of:) (.*)\.$", error.hint)
    texts = shlex.split(re.sub(r" \([^)]*\),?", "", told[1])) if told else []
    return [opened for text in texts for opened in typed_back(Path(text))]


def convert(image: Path, out: Path, context: Context | None = None, **options: Any) -> Result:
    given = p.ConvertImage(image=image, out=out, **options)
    return actions.ACTIONS["convert-image"].carry_out(given, context or Context())


def write(path: Path, voxels: Any, **options: Any) -> Path:
    with create_volume(path, voxels.shape, voxels.dtype, **options) as writer:
        for z in range(0, len(voxels), 2):
            writer.write(voxels[z : z + 2])
    return path


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("path", "file", "inside", "chosen"),
    [
        ("a.tif", "a.tif", "", ()),
        ("x/a.h5:/volumes/raw", "x/a.h5", "volumes/raw", ()),
        ("a.h5:raw", "a.h5", "raw", ()),
        ("a.H5:/b c/d?c=1&t=0", "a.H5", "b c/d", (("c", 1), ("t", 0))),
        ("a.h5", "a.h5", "", ()),
        ("a.ome.zarr?c=1", "a.ome.zarr", "", (("c", 1),)),
        ("x/a.n5/?time_point=2", "x/a.n5", "", (("time_point", 2),)),
        ("a.zarr?", "a.zarr?", "", ()),
        ("C:/data/a.hdf5:/x", "C:/data/a.hdf5", "x", ()),
        ("C:/data/a.tif", "C:/data/a.tif", "", ()),
        ("12:30/a.tif", "12:30/a.tif", "", ()),
    ],
)
def test_places(path: str, file: str, inside: str, chosen: tuple[Any, ...]) -> None:
    place = place_of(Path(path))
    assert (place.file, place.inside, place.chosen) == (Path(file), inside, chosen)


def test_a_choice_that_is_none_is_refused() -> None:
    for text in ("a.h5:/x?c", "a.h5:/x?c=-1", "a.h5:/x?c=one", "a.h5:/x?=1"):
        with pytest.raises(ParameterError, match="chosen"):
            place_of(Path(text))


def test_names_of_several_labels() -> None:
    for path, name in {"a.ome.tif": "a_x.ome.tif", "b/a.h5:/raw": "b/a_x.h5:/raw", "a.mrc": "a_x.mrc"}.items():
        assert formats.with_stem(Path(path), "_x") == Path(name)
    assert formats.stem_of(Path("b/a.ome.tif")) == "a"


def test_every_format_says_what_it_needs() -> None:
    assert len({suffix for known in FORMATS for suffix in known.suffixes}) == sum(len(k.suffixes) for k in FORMATS)
    for known in FORMATS:
        assert known.reader or known.writer
        assert known.notes


# ------------------------------------------------------------------------------------------------ MRC


@pytest.mark.parametrize("kind", ["int8", "int16", "uint16", "float16", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_mrc_files_are_read(tmp_path: Path, kind: str, order: str) -> None:
    voxels = (IMAGE // 2 - 60 * (kind[0] != "u")).astype(kind)
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(voxels.astype(np.dtype(kind).newbyteorder(order)))
        mrc.set_extended_header(np.zeros(1000, np.uint8))
        mrc.voxel_size = SIZE[::-1]
        assert mrc.header.mode.dtype.newbyteorder("=") == mrc.header.mode.dtype or order == ">"
    found, volume = read(tmp_path / "a.mrc")
    assert np.array_equal(found, voxels)
    assert (volume.dtype, volume.voxel_size, volume.voxel_unit, volume.warnings) == (np.dtype(kind), SIZE, "Å", ())


def _patched(path: Path, *changes: tuple[int, bytes]) -> None:
    content = bytearray(path.read_bytes())
    for at, value in changes:
        content[at : at + len(value)] = value
    path.write_bytes(content)


def _mrc(path: Path, voxels: Any = IMAGE // 2, kind: str = "int8") -> Path:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(voxels.astype(kind))
    return path


def test_bytes_without_a_sign(tmp_path: Path) -> None:
    path = _mrc(tmp_path / "a.st", IMAGE.view(np.int8))
    assert read(path)[0].dtype == np.int8
    stamp = (1146047817).to_bytes(4, "little")
    _patched(path, (152, stamp), (156, bytes(4)))  # IMOD's mark, and its flag for a sign not set
    assert np.array_equal(read(path)[0], IMAGE)
    _patched(path, (156, b"\1"))
    assert read(path)[0].dtype == np.int8
    _patched(path, (152, bytes(8)), (108, bytes(4)), (80, np.float32(249).tobytes()))  # an old file; its maximum is 249
    found, volume = read(path)
    assert np.array_equal(found, IMAGE)
    assert "no sign" in volume.warnings[0]


def test_an_unknown_voxel_size_and_another_order_of_axes(tmp_path: Path) -> None:
    path = _mrc(tmp_path / "a.map")
    assert read(path)[1].voxel_size is None
    with mrcfile.open(path, "r+") as mrc:
        mrc.voxel_size = (1, 2, 3)
        mrc.header.mapc, mrc.header.maps = 3, 1
    _, volume = read(path)
    assert "xyz" in volume.warnings[0]
    assert volume.voxel_size == pytest.approx((11 * 1 / 11, 2, 5 * 3 / 5))


def test_what_an_mrc_header_says_of_values_that_are_none(tmp_path: Path) -> None:
    voxels = IMAGE.astype(np.float32)
    voxels[0, 0, :2] = np.nan, np.inf
    voxels[1] = np.nan
    known = voxels[np.isfinite(voxels)]
    with mrcfile.open(write(tmp_path / "a.mrc", voxels)) as made:
        header = made.header
        found = [header.dmin, header.dmax, header.dmean, header.rms]
        assert found == pytest.approx([known.min(), known.max(), known.mean(), known.std()], rel=1e-5)
    with mrcfile.open(write(tmp_path / "b.mrc", np.full(SHAPE, np.nan, np.float32))) as made:
        assert made.header.dmax < made.header.dmin
        assert made.header.rms < 0


def test_mrc_files_that_are_refused(tmp_path: Path) -> None:
    path = _mrc(tmp_path / "a.mrc")
    whole = path.read_bytes()
    for cut in (0, 100, 1023, 1024, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert any(text in refusal(path) for text in ("empty", "cut off", "should have"))
    path.write_bytes(b"text " * 1000)
    assert "no MRC file" in refusal(path)
    path.write_bytes(whole)
    _patched(path, (0, (2**31 - 1).to_bytes(4, "little") * 3))
    assert "should have" in refusal(path)
    path.write_bytes(whole)
    _patched(path, (0, (-5).to_bytes(4, "little", signed=True)))
    assert "damaged" in refusal(path)
    path.write_bytes(whole)
    _patched(path, (92, (-1024).to_bytes(4, "little", signed=True)))
    assert "damaged" in refusal(path)
    _mrc(path, kind="complex64")
    assert "complex" in refusal(path)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.zeros((2, 5, 7, 11), np.int8))
    assert "2 volumes" in refusal(path)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("bool", "int8"), ("uint8", "uint16"), ("int8", "int8"), ("int16", "int16"), ("uint16", "uint16"),
     ("float16", "float32"), ("float32", "float32")],
)  # fmt: skip
def test_mrc_files_are_written(tmp_path: Path, kind: str, stored: str) -> None:
    voxels = (IMAGE // 2).astype(kind)
    path = write(tmp_path / "a.mrc", voxels, voxel_size=SIZE, voxel_unit="nm")
    assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        assert mrc.data.dtype == stored
        assert np.array_equal(mrc.data, voxels)
        assert mrc.voxel_size.tolist() == pytest.approx((40, 80, 300))
        assert mrc.is_volume()


def test_a_type_that_mrc_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="int32"):
        write(tmp_path / "a.mrc", IMAGE.astype(np.int32))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------ HDF5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as made:
        raw = made.create_dataset("volumes/raw", data=IMAGE, chunks=(2, 4, 4), compression="gzip")
        raw.attrs["resolution"] = SIZE
        made["big"] = IMAGE.astype(">u2")
        made["flat"] = IMAGE[0]
        made["many"] = np.stack([IMAGE, IMAGE + 1])
        made["one"] = IMAGE[np.newaxis, ..., np.newaxis]
        made["tagged"] = np.moveaxis(np.stack([IMAGE, IMAGE + 1], -1), 0, 2)  # y, x, z, c
        made["tagged"].attrs["axistags"] = '{"axes": [{"key": "y"}, {"key": "x"}, {"key": "z"}, {"key": "c"}]}'
        made["tagged"].attrs["element_size_um"] = [0.004, 0.002, 0.03, 1]
        made["text"] = "words"
        made["compound"] = np.zeros(4, [("a", "i4")])
        made["complex"] = np.zeros(SHAPE, np.complex64)
        made["soft"] = h5py.SoftLink("/volumes/raw")
        made["elsewhere"] = h5py.ExternalLink("other.h5", "/raw")
        made.create_dataset("outside", SHAPE, "u1", external=[("/etc/passwd", 0, 385)])
        made.create_dataset("huge", (2**20, 2**20, 2**20), "u1", chunks=(64, 64, 64), compression="gzip")
        made.create_dataset("chunky", (2**10, 2**11, 2**10), "u1", chunks=(2**10, 2**11, 2**10), compression="gzip")
    return tmp_path / "a.h5"


def within(file: Path, name: str) -> Path:
    return Path(f"{file}:/{name}")


@pytest.mark.parametrize("name", ["volumes/raw", "big", "one", "many?0=0", "tagged?c=0"])
def test_arrays_of_hdf5_files(file: Path, name: str) -> None:
    found, volume = read(within(file, name))
    assert np.array_equal(found, IMAGE)
    sizes = {"volumes/raw": (SIZE, "nm"), "tagged?c=0": ((0.03, 0.004, 0.002), "µm")}
    assert (volume.voxel_size, volume.voxel_unit) == sizes.get(name, (None, ""))


def test_a_slice_and_the_second_channel(file: Path) -> None:
    assert np.array_equal(read(within(file, "flat"))[0], IMAGE[:1])
    assert np.array_equal(read(within(file, "tagged?c=1"))[0], IMAGE + 1)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nothing", "As an image, give one of: "),
        ("volumes", "a group"),
        ("many", "Choose one, such as '"),
        ("tagged", r"\?c=0"),
        ("tagged?t=0", "no axis 't'"),
        ("tagged?c=2", "There are 2"),
        ("text", "no numbers"),
        ("compound", "no numbers"),
        ("complex", "complex"),
        ("soft", "is not followed"),
        ("elsewhere", "another file, which is not followed"),
        ("outside", "other files"),
        ("huge", "more than the file can hold"),
        ("chunky", "smaller chunks"),
    ],
)
def test_what_of_hdf5_files_is_refused(file: Path, name: str, what: str) -> None:
    with pytest.raises(VolumeError, match=what):
        read(within(file, name))


def test_channels_at_the_end_are_chosen_of(file: Path) -> None:
    with h5py.File(file, "a") as made:
        made["last"] = np.stack([IMAGE, IMAGE + 1], -1)
        made["pair"] = np.zeros((7, 11, 2), np.uint8)
    assert "last?3=0" in refusal(within(file, "last"))
    found, volume = read(within(file, "last?3=1"))
    assert np.array_equal(found, IMAGE + 1)
    assert not volume.warnings
    assert "if these are channels" in read(within(file, "last?0=0"))[1].warnings[0]
    assert "?2=0" in read(within(file, "pair"))[1].warnings[0]


def test_every_hint_can_be_typed_back(file: Path) -> None:
    names = ("big", "flat", "many?0=0", "one", "tagged?c=0", "volumes/raw")
    assert typed_back(file) == [str(within(file, name)) for name in names]


def test_a_file_without_a_name_offers_its_arrays(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "a.h5:/volumes/raw (5 x 7 x 11 uint8)" in refusal(Path("a.h5"))
    with pytest.raises(EngineError, match="is no data set") as caught:
        actions.ACTIONS["info"].carry_out(p.Info(path="a.h5"), Context())
    assert "a.h5:/volumes/raw (5 x 7 x 11 uint8)" in caught.value.hint
    assert "soft" not in caught.value.hint


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_hdf5_files_that_are_cut_off(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    refusal(within(file, "volumes/raw"))


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"compression": "gzip", "fletcher32": True}, {"compression": "lzf"}]
)
def test_a_chunk_in_the_middle_that_unfolds_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    from deepscem_tui.engine.formats import hdf5_chunks

    monkeypatch.setattr(hdf5_chunks, "available_memory", lambda: 0)
    monkeypatch.setattr(hdf5_chunks, "_HARMLESS", 2**12)
    noise = np.random.default_rng(0).integers(0, 255, (6, 32, 32), np.uint8)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        raw = file.create_dataset("raw", data=noise, chunks=(2, 32, 32), shuffle=True, **options)
    assert np.array_equal(read(Path(f"{path}:/raw"))[0], noise)
    with h5py.File(path, "r+") as file:
        raw = file["raw"]
        mask, whole = raw.id.read_direct_chunk((2, 0, 0))
        encode = zlib.compress if options["compression"] == "gzip" else imagecodecs.lzf_encode
        raw.id.write_direct_chunk((2, 0, 0), encode(bytes(2**18)) + bytes(4 * ("fletcher32" in options)))
    assert "unfolds to more" in refusal(Path(f"{path}:/raw"))
    with h5py.File(path, "r+") as file:
        file["raw"].id.write_direct_chunk((2, 0, 0), whole, mask)
    assert np.array_equal(read(Path(f"{path}:/raw"))[0], noise)
    with h5py.File(path, "r+") as file:
        file["raw"].id.write_direct_chunk((2, 0, 0), bytes(2**20))
    assert "unfolds to more" in refusal(Path(f"{path}:/raw"))


def test_chunks_of_an_hdf5_array_that_were_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("none", SHAPE, np.uint8, chunks=(2, 4, 4), compression="gzip")
        file.create_dataset("some", SHAPE, np.uint8, chunks=(2, 4, 4), compression="gzip")[2, 5, 6] = 1
    assert not read(tmp_path / "a.h5:none")[0].any()
    assert read(tmp_path / "a.h5:some")[0].sum() == 1


def test_an_hdf5_array_that_is_compressed_twice_is_refused(tmp_path: Path) -> None:
    stored = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    stored.set_chunk((2, 4, 4))
    stored.set_deflate(1)
    stored.set_deflate(1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space = h5py.h5s.create_simple(SHAPE)
        h5py.Dataset(h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, space, stored))[...] = IMAGE
    assert "more than once" in refusal(tmp_path / "a.h5:raw")


@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16", "float16", "float32", "int64"])
def test_hdf5_files_are_written(tmp_path: Path, kind: str) -> None:
    path = write(within(tmp_path / "a.h5", "volumes/labels"), IMAGE.astype(kind), voxel_size=SIZE, voxel_unit="nm")
    with h5py.File(tmp_path / "a.h5") as made:
        array = made["volumes/labels"]
        assert np.array_equal(array, IMAGE.astype(kind))
        assert array.compression == "gzip"
        assert array.attrs["resolution"].tolist() == list(SIZE)
        assert array.attrs["element_size_um"].tolist() == [0.03, 0.008, 0.004]
    found, volume = read(path)
    assert np.array_equal(found, IMAGE.astype(kind))
    assert (volume.voxel_size, volume.voxel_unit) == ((0.03, 0.008, 0.004), "µm")


def test_other_arrays_are_never_lost(file: Path) -> None:
    before = file.read_bytes()
    for name, options in (("new", {"overwrite": True}), ("volumes/raw", {"overwrite": True}), ("new", {})):
        with pytest.raises(ParameterError, match=r"holds more than|exists already"):
            write(within(file, name), IMAGE, **options)
    assert file.read_bytes() == before


def test_whatever_else_an_hdf5_file_holds_is_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    others: dict[str, Callable[[h5py.File], Any]] = {
        "/synapses": lambda made: made.create_dataset("synapses", data=np.arange(9)),
        "/names": lambda made: made.create_dataset("names", data=["a", "b"]),
        "/points": lambda made: made.create_dataset("points", data=np.zeros(4, [("a", "i4")])),
        "/number": lambda made: made.create_dataset("number", data=1.0),
        "/v/link": lambda made: made.__setitem__("v/link", h5py.ExternalLink("other.h5", "/raw")),
        "/group": lambda made: made.create_group("group"),
        "/v/raw": lambda made: made.create_group("v/raw/below"),
    }
    for name, add in others.items():
        with h5py.File(path, "w") as made:
            add(made)
        before = path.read_bytes()
        with pytest.raises(ParameterError, match=rf"would be lost: {name}"):
            write(within(path, "v/raw"), IMAGE, overwrite=True)
        assert path.read_bytes() == before
    path.write_bytes(before[:-100])
    with pytest.raises(ParameterError, match="cannot be told"):
        write(within(path, "v/raw"), IMAGE, overwrite=True)
    assert path.read_bytes() == before[:-100]


# ------------------------------------------------------------------------------------------------ convert-image


@pytest.mark.parametrize("itemsize", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1000, 8192, 8192), (1000, 4096, 4096), (500, 256, 90_000), (64, 1024, 1024)])
def test_chunks_are_neither_tiny_nor_huge_and_a_band_of_them_takes_little(
    shape: tuple[int, int, int], itemsize: int
) -> None:
    chunks = chunks_for(shape, itemsize)
    assert 2**19 <= prod(chunks) * itemsize <= 2**22
    assert chunks[0] == 1 or chunks[0] * shape[1] * shape[2] * itemsize <= 2**26


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 300), (5, 300, 300), (3, 2, 9000), (2000, 3, 5)])
def test_chunks_are_no_larger_than_a_small_volume(shape: tuple[int, int, int]) -> None:
    assert all(1 <= chunk <= size for chunk, size in zip(chunks_for(shape, 1), shape, strict=True))


def test_an_ome_tiff_file_is_one_whatever_its_type(tmp_path: Path) -> None:
    for kind in ("uint8", "uint16", "float32", "bool"):
        path = write(tmp_path / f"{kind}.ome.tif", IMAGE.astype(kind), voxel_size=SIZE, voxel_unit="nm")
        with tifffile.TiffFile(path) as tiff:
            assert tiff.is_ome
            assert not tiff.is_imagej
            assert tiff.pages[0].compression == 8
            assert np.array_equal(tiff.asarray(), IMAGE.astype(kind) * (255 if kind == "bool" else 1))
        assert read(path)[1].voxel_size == SIZE


@pytest.mark.parametrize("end", [".tif", ".ome.tif", ".npy", ".mrc", ".h5:/raw"])
def test_an_image_comes_back(tmp_path: Path, end: str) -> None:
    image = write(tmp_path / "in.tif", IMAGE.astype(np.int16), voxel_size=SIZE, voxel_unit="nm")
    out = Path(f"{tmp_path}/out{end}")
    with pytest.raises(ParameterError, match="itself"):
        convert(out, out)
    assert not place_of(out).file.exists()
    assert "Would write" in convert(image, out, dry_run=True).summary
    assert not place_of(out).file.exists()
    facts = convert(image, out).facts
    assert facts["shape"] == list(SHAPE)
    with pytest.raises(ParameterError, match="exists already"):
        convert(image, out)
    convert(image, out, overwrite=True)
    back = convert(out, tmp_path / "back.tif").facts
    assert np.array_equal(tifffile.imread(tmp_path / "back.tif"), IMAGE)
    metres = {"nm": 1e-9, "Å": 1e-10, "µm": 1e-6}
    if end != ".npy":
        in_nm = [size * metres[back["voxel_unit"]] / 1e-9 for size in back["voxel_size"]]
        assert in_nm == pytest.approx(SIZE, rel=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", place_of(out).file.name, "back.tif"}


def test_slices_become_one_file_with_a_voxel_size_that_is_given(tmp_path: Path) -> None:
    for z in range(5):
        tifffile.imwrite(tmp_path / f"s{z}.tif", IMAGE[z])
    convert(tmp_path, tmp_path / "out" / "a.mrc", voxel_size="30,8,8 nm")
    with mrcfile.open(tmp_path / "out" / "a.mrc") as mrc:
        assert np.array_equal(mrc.data, IMAGE)
        assert mrc.voxel_size.tolist() == pytest.approx((80, 80, 300))


def test_a_conversion_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    image, stop = write(tmp_path / "in.npy", IMAGE), Stop()
    stop.request("by the test")
    for end in (".mrc", ".h5:/raw", ".tif"):
        with pytest.raises(Stopped):
            convert(image, Path(f"{tmp_path}/out{end}"), Context(stop=stop))
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


@pytest.mark.parametrize(
    ("out", "what"),
    [
        ("a.h5", "needs a name"),
        ("a.h5:/x?c=1", "a part"),
        ("a.png", "not written"),
        ("a.xyz", "by its name"),
        ("a.am", "Export it"),
    ],
)
def test_results_that_cannot_be(tmp_path: Path, out: str, what: str) -> None:
    with pytest.raises(ParameterError, match=what):
        convert(write(tmp_path / "in.npy", IMAGE), tmp_path / out)


def test_addresses_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = write(tmp_path / "in.npy", IMAGE)
    for address in ("s3://bucket/a.zarr", "https://example.org/a.tif", "file:///tmp/a.mrc"):
        with pytest.raises(ParameterError, match="an address"):
            convert(image, Path(address))
        assert "There is no file" in refusal(Path(address))
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


# ------------------------------------------------------------------------------------------------ slices


def jpeg(path: Path, picture: Any = IMAGE[0], **options: Any) -> Path:
    path.write_bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(picture), level=95, **options))
    return path


def test_jpeg_slices(tmp_path: Path) -> None:
    flat = [np.full((16, 24), 20 * z, np.uint8) for z in range(12)]
    for z, slice_ in enumerate(flat):
        jpeg(tmp_path / f"s{z}.{'jpg' if z % 2 else 'JPEG'}", slice_)
    with open_slices(tmp_path, colours=False) as volume:
        assert volume.shape == (12, 16, 24)
        assert np.array_equal(volume.read(0, 12), flat)
    colour = np.zeros((16, 24, 3), np.uint8)
    colour[..., 0] = 200
    with pytest.raises(VolumeError, match="colour"), open_slices(jpeg(tmp_path / "c.jpg", colour), colours=False):
        pass
    assert read(jpeg(tmp_path / "g.jpg", np.repeat(flat[3][..., None], 3, 2)))[0].max() == 60


def test_jpeg_files_that_are_refused(tmp_path: Path) -> None:
    path = jpeg(tmp_path / "a.jpg")
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:30])
    assert "cut off" in refusal(path)
    path.write_bytes(b"text " * 100)
    assert "no JPEG file" in refusal(path)
    at = content.index(b"\xff\xc0")
    path.write_bytes(content[: at + 5] + b"\xff\xff\xff\xff" + content[at + 9 :])
    assert "65535 x 65535" in refusal(path)
    assert "inks" in refusal(jpeg(path, np.zeros((16, 16, 4), np.uint8), colorspace="CMYK", outcolorspace="CMYK"))


def test_slices_say_their_voxel_size_where_they_say_all_of_it(tmp_path: Path) -> None:
    for name, about in (("all", {"spacing": 30.0, "unit": "nm"}), ("flat", {"unit": "nm"})):
        (tmp_path / name).mkdir()
        for z in range(3):
            path = tmp_path / name / f"{z}.tif"
            tifffile.imwrite(path, IMAGE[z], imagej=True, resolution=(1 / 4, 1 / 8), metadata=about)
        with open_slices(tmp_path / name, colours=False) as volume:
            assert volume.voxel_size == (pytest.approx((30, 8, 4)) if name == "all" else None)


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        (("s1", "s2", "s4", "s5"), "s2.npy is followed by s4.npy"),
        (("s008", "s009", "s010"), ""),
        (("s0", "s10", "s20"), ""),
        (("s0", "s10", "s30", "s50"), "s10.npy is followed by s30.npy, and so on in 2 places"),
        (("a", "b", "d"), ""),
        (("x1_y1", "x2_y2", "x4_y4"), ""),
        (("s1", "s2", "s4b"), ""),
    ],
)
def test_slices_that_may_be_missing(tmp_path: Path, names: tuple[str, ...], gap: str) -> None:
    for name in names:
        np.save(tmp_path / f"{name}.npy", IMAGE[0])
    with open_slices(tmp_path, colours=False) as volume:
        found = [text for text in volume.warnings if "missing" in text]
        assert found == ([f"slices may be missing: {gap}"] if gap else [])


# ------------------------------------------------------------------------------------------------ everywhere


def test_a_folder_of_images_of_other_formats_is_imported(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    for name, image, label in (("x", "x.mrc", "x.nii.gz"), ("y", "y.ome.tif", "y.npy")):
        write(tmp_path / "in" / "images" / image, IMAGE.astype(np.int16), voxel_size=SIZE, voxel_unit="nm")
        write(tmp_path / "in" / "masks" / label, 10 * len(name) < IMAGE)
    given = p.ImportFolder(file=tmp_path / "d.hdf5", folder=tmp_path / "in")
    actions.ACTIONS["import-folder"].carry_out(given, Context())
    with open_dataset(tmp_path / "d.hdf5") as dataset:
        assert list(dataset.samples) == ["x", "y"]
        for sample in dataset.samples.values():
            assert np.array_equal(sample.labels[0][:], IMAGE > 10)
            assert sample.voxel_size is not None


def test_a_colour_tiff_keeps_its_voxel_size(tmp_path: Path) -> None:
    colours = np.zeros((5, 7, 11, 3), np.uint8)
    colours[..., 0] = 255
    about = {"axes": "ZYXS", "spacing": 30.0, "unit": "nm"}
    tifffile.imwrite(tmp_path / "a.tif", colours, imagej=True, resolution=(1 / 4, 1 / 8), metadata=about)
    with open_slices(tmp_path / "a.tif", colours=True) as volume:
        assert volume.voxel_size == pytest.approx(SIZE)
        assert volume.read(0, 1).max() == 0xFF0000


@pytest.mark.parametrize("end", ["tif", "ome.tif", "mrc", "npy", "ome.zarr", "nii.gz"])
def test_a_sample_is_exported_in_any_format(tmp_path: Path, end: str) -> None:
    if end == "ome.zarr":
        pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

    def do(action: str, **values: Any) -> Result:
        return actions.ACTIONS[action].carry_out(actions.build(actions.ACTIONS[action], values), Context())

    image, mask = write(tmp_path / "i.npy", IMAGE), write(tmp_path / "m.npy", IMAGE > 100)
    do("create-dataset", file=tmp_path / "d.hdf5", name="d", n_labels=1)
    do("add-sample", file=tmp_path / "d.hdf5", name="s", image=image, labels=[str(mask)], voxel_size="30,8,4 nm")
    values = {"file": tmp_path / "d.hdf5", "sample": "s", "folder": tmp_path / "out", "format": end}
    do("export-sample", **values)
    with pytest.raises(ParameterError, match="exists already"):
        do("export-sample", **values)
    do("export-sample", **values, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"s_image.{end}", f"s_label_0000.{end}"]
    assert np.array_equal(read(tmp_path / "out" / f"s_image.{end}")[0], IMAGE)
    assert np.array_equal(read(tmp_path / "out" / f"s_label_0000.{end}")[0] > 0, IMAGE > 100)


MADE: dict[str, Callable[[Path], Path]] = {
    "MRC": lambda folder: _mrc(folder / "a.mrc", IMAGE, "int16"),
    "HDF5": lambda folder: write(within(folder / "a.h5", "raw"), IMAGE),
}


@pytest.mark.parametrize("name", MADE)
def test_wherever_an_image_is_taken(tmp_path: Path, name: str) -> None:
    path = MADE[name](tmp_path)
    assert not is_several_files(path)
    with open_slices(path, colours=False) as volume:
        assert volume.shape == SHAPE

    def do(action: str, **values: Any) -> Result:
        return actions.ACTIONS[action].carry_out(actions.build(actions.ACTIONS[action], values), Context())

    assert do("info", path=path).facts["format"] == name
    assert volume.name in ("a.mrc", "a.h5:/raw")
    assert do("preview", file=path, width=20).facts["slices"] == 5
    do("create-dataset", file=tmp_path / "d.hdf5", name="d", n_labels=1)
    do("add-sample", file=tmp_path / "d.hdf5", name="s", image=path, labels=[str(path)], ignore_mask=path)
    assert "F1" in do("evaluate", reference=path, segmentation=path).summary
    from deepscem_tui.engine.checks import examine

    assert not examine(actions.ACTIONS["preview"], {"file": str(path)}, safe=False).faults
