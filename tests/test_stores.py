"""Zarr, OME-Zarr, N5 and NIfTI, against the libraries zarr, tensorstore and nibabel."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bad_input import mutated
from test_formats import IMAGE, SHAPE, SIZE, convert, jpeg, read, refusal, typed_back, write

from deepscem_tui.engine import actions
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import MissingLibraryError, ParameterError, ResourceError, Stopped, VolumeError
from deepscem_tui.engine.formats import FORMATS, place_of
from deepscem_tui.engine.formats.pieces import check_piece
from deepscem_tui.engine.formats.slice_files import is_several_files, open_slices
from deepscem_tui.engine.formats.volumes import create_volume, open_volume
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system import extras
from deepscem_tui.engine.viewing.slice_sources import Part, VolumeVoxels

MOST_LEVELS = np.random.default_rng(1).integers(0, 255, (9, 601, 500)).astype(np.uint8)


# ------------------------------------------------------------------------------------------------ Zarr in


@pytest.fixture(scope="session")
def zarr() -> Any:
    return pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")


def _ome(version: str, sizes: list[float], axes: str = "zyx", unit: str = "nanometer") -> dict[str, Any]:
    """The attributes of an image with one level, by hand."""
    image = {
        "axes": [{"name": axis, "type": "space", "unit": unit} if axis in "zyx" else {"name": axis} for axis in axes],
        "datasets": [{"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": sizes}]}],
        "coordinateTransformations": [{"type": "scale", "scale": [2.0] * len(axes)}],
    }
    about: dict[str, Any] = {"version": version, "multiscales": [image]}
    return {"ome": about} if version == "0.5" else about


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["bool", "uint8", ">u2", "int16", "float32", "float64"])
def test_arrays_of_zarr_stores(tmp_path: Path, zarr: Any, version: int, kind: str) -> None:
    voxels = IMAGE.astype(kind)
    if version == 3:
        voxels = voxels.astype(voxels.dtype.newbyteorder("="))
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group.create_array("em/raw", data=voxels, chunks=(2, 4, 4))
    for text in ("a.zarr/em/raw", "a.zarr:/em/raw", "a.zarr:em/raw/"):
        found, volume = read(tmp_path / text)
        assert np.array_equal(found, voxels)
        assert volume.voxel_size is None
    assert not is_several_files(tmp_path / "a.zarr")


@pytest.mark.parametrize("codec", ["blosc", "gzip", "zstd", "none", "sharded", "checked", "zlib", "lz4"])
def test_how_chunks_may_be_compressed(tmp_path: Path, zarr: Any, codec: str) -> None:
    import numcodecs

    options: dict[str, Any] = {
        "blosc": {"compressors": zarr.codecs.BloscCodec()},
        "gzip": {"compressors": zarr.codecs.GzipCodec()},
        "zstd": {"compressors": zarr.codecs.ZstdCodec(checksum=True)},
        "none": {"compressors": None},
        "sharded": {"shards": (4, 8, 8)},
        "checked": {"compressors": (zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec())},
        "zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib()},
        "lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    }[codec]
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, chunks=(2, 4, 4), **options)
    assert np.array_equal(read(tmp_path / "a.zarr")[0], IMAGE)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_stores(tmp_path: Path, zarr: Any, version: str) -> None:
    path = tmp_path / "a.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("s0", data=np.stack([IMAGE, IMAGE + 1])[np.newaxis], chunks=(1, 1, 2, 4, 4))
    group.attrs.update(_ome(version, [1, 1, 15, 4, 2], "tczyx"))
    assert "Choose one, such as '" in refusal(path)
    assert "2 channels" in refusal(Path(f"{path}:/s0"))
    for channel in (0, 1):
        found, volume = read(Path(f"{path}:/s0?c={channel}"))
        assert np.array_equal(found, IMAGE + channel)
        assert (volume.voxel_size, volume.voxel_unit) == (SIZE, "nm")  # both transformations
    assert "There are 2" in refusal(Path(f"{path}:/s0?c=2"))
    assert "a.ome.zarr:/s0 (1 x 2 x 5 x 7 x 11 uint8)" in refusal(Path(f"{path}:/s1"))
    assert volume.shape == SHAPE
    assert np.array_equal(read(Path(f"{path}?c=1"))[0], IMAGE + 1)
    assert typed_back(path) == [f"{path}?c=0"]


def test_units_that_differ_or_are_none(tmp_path: Path, zarr: Any) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("s0", data=IMAGE)
    about = _ome("0.5", [0.015, 4, 2])
    axes = about["ome"]["multiscales"][0]["axes"]
    axes[0]["unit"] = "micrometer"
    group.attrs.update(about)
    _, volume = read(tmp_path / "a.zarr")
    assert (volume.voxel_size, volume.voxel_unit) == (SIZE, "nm")
    del axes[1]["unit"]
    group.attrs.update(about)
    _, volume = read(tmp_path / "a.zarr")
    assert volume.voxel_size is None
    assert "0.03 x 8 x 4, so that is not taken: give --voxel-size" in volume.warnings[0]


def test_axes_without_names_and_other_names(tmp_path: Path, zarr: Any) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("plain", data=np.stack([IMAGE, IMAGE + 1]))
    group.create_array("turned", data=np.moveaxis(IMAGE, 0, 2), dimension_names=("y", "x", "z"))
    group.create_array("flat", data=IMAGE[0], dimension_names=("Y", "X"))
    assert "?0=0" in refusal(tmp_path / "a.zarr" / "plain")
    assert np.array_equal(read(tmp_path / "a.zarr" / "plain?0=1")[0], IMAGE + 1)
    assert np.array_equal(read(tmp_path / "a.zarr" / "turned")[0], IMAGE)
    assert np.array_equal(read(tmp_path / "a.zarr" / "flat")[0], IMAGE[:1])
    text = refusal(tmp_path / "a.zarr")
    assert "a.zarr:/plain (2 x 5 x 7 x 11 uint8)" in text
    names = ("flat", "plain?0=0", "turned")
    assert typed_back(tmp_path / "a.zarr") == [f"{tmp_path}/a.zarr:/{name}" for name in names]


def _edited(path: Path, change: Callable[[Any], Any]) -> None:
    about = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(about) or about), encoding="utf-8")


def _set(*keys: Any) -> Callable[[Any], Any]:
    *path, last, value = keys

    def change(about: Any) -> None:
        for key in path:
            about = about[key]
        about[last] = value

    return change


def _of_old(**changes: Any) -> Callable[[Any], Any]:
    return lambda about: about | changes


HOSTILE: dict[str, tuple[int, Callable[[Any], Any], str]] = {
    "unpickles": (2, _of_old(compressor={"id": "pickle"}), "pickle"),
    "unpickles in a filter": (2, _of_old(filters=[{"id": "pickle"}]), "pickle"),
    "objects": (2, _of_old(dtype="|O", filters=[{"id": "shuffle"}]), "type object"),
    "named parts": (2, _of_old(dtype=[["a", "<i4"]]), "named parts"),
    "a type that is none": (2, _of_old(dtype="<q9"), "damaged"),
    "complex": (2, _of_old(dtype="<c8"), "complex"),
    "no shape": (2, _of_old(shape=None), "damaged"),
    "negative": (2, _of_old(shape=[-5, 7, 11]), "damaged"),
    "chunks of nothing": (2, _of_old(chunks=[0, 4, 4]), "damaged"),
    "other chunks": (2, _of_old(chunks=[4, 4]), "damaged"),
    "huge chunks": (2, _of_old(chunks=[2**20, 2**10, 2**10]), "smaller chunks"),
    "1 TB": (2, _of_old(shape=[2**20, 2**10, 2**10]), "more than its files can hold"),
    "a codec of others": (3, _set("codecs", 1, "name", "numcodecs.pickle"), "not supported"),
    "texts": (3, _set("data_type", "string"), "not numbers"),
    "a grid of others": (3, _set("chunk_grid", "name", "rectangular"), "not supported"),
    "no codecs": (3, _set("codecs", []), "damaged"),
    "no node type": (3, _set("node_type", None), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_metadata_that_is_refused(tmp_path: Path, zarr: Any, name: str) -> None:
    version, change, what = HOSTILE[name]
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, chunks=(2, 4, 4), zarr_format=version)
    _edited(tmp_path / "a.zarr" / ("zarr.json" if version == 3 else ".zarray"), change)
    assert what in refusal(tmp_path / "a.zarr")


def test_files_that_are_refused(tmp_path: Path, zarr: Any) -> None:
    path = tmp_path / "a.zarr"

    def fresh(**options: Any) -> Path:
        shutil.rmtree(path, ignore_errors=True)
        zarr.create_array(path, data=IMAGE, chunks=(2, 4, 4), **options)
        return path / "c" / "1" / "0" / "0"

    piece = fresh()
    piece.write_bytes(piece.read_bytes()[:-3])
    assert "cannot be read" in refusal(path)
    piece = fresh()
    piece.unlink()
    piece.symlink_to("/etc/passwd")
    assert "no regular file" in refusal(path)
    for linked in (Path("c"), Path("c", "1")):
        fresh()
        (path / linked).rename(tmp_path / "elsewhere")
        (path / linked).symlink_to(tmp_path / "elsewhere")
        assert "no folder, and is not opened" in refusal(path)
        shutil.rmtree(tmp_path / "elsewhere")
    piece = fresh(compressors=(zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()))
    piece.write_bytes(piece.read_bytes()[:-1] + b"?")
    assert "cannot be read" in refusal(path)
    piece = fresh(compressors=zarr.codecs.BloscCodec())
    content = bytearray(piece.read_bytes())
    content[4:8] = struct.pack("<I", 2**31 - 64)
    piece.write_bytes(content)
    assert "unfolds to more" in refusal(path)
    fresh()
    (path / "zarr.json").write_text("{" * 100_000, encoding="ascii")
    assert "cannot be read" in refusal(path)
    (path / "zarr.json").unlink()
    assert "no Zarr store" in refusal(path)
    fresh()
    for inside in ("../a.zarr", "c/../..", "no"):
        assert "name" in refusal(Path(f"{path}:/{inside}")) or "no array" in refusal(Path(f"{path}:/{inside}"))
    (tmp_path / "b.zarr").mkdir()
    shutil.copy(path / "zarr.json", tmp_path / "b.zarr" / "zarr.json")
    _edited(tmp_path / "b.zarr" / "zarr.json", lambda _: {"zarr_format": 3, "node_type": "group", "attributes": {}})
    (tmp_path / "b.zarr" / "out").symlink_to(path)
    assert "is not followed" in refusal(tmp_path / "b.zarr" / "out")
    (tmp_path / "c.zarr").write_bytes(b"no folder")
    assert "no folder" in refusal(tmp_path / "c.zarr")


def test_pieces_of_several_frames_are_summed(tmp_path: Path) -> None:
    import imagecodecs

    small, large = bytes(100), bytes(2**22)
    noise = np.random.default_rng(0).integers(0, 255, 2**20, np.uint8).tobytes()
    skipped = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 3) + b"any"
    encode = imagecodecs.zstd_encode
    for content in (skipped + encode(small) + skipped, encode(noise) + skipped + encode(small), encode(bytes(300))):
        check_piece(tmp_path, content, "zstd", 2**20)
    for content in (encode(small) + encode(large), skipped + encode(large), encode(noise) + skipped + encode(large)):
        with pytest.raises(VolumeError, match="unfolds to more"):
            check_piece(tmp_path, content, "zstd", 2**20)
    check_piece(tmp_path, gzip.compress(noise[:100_000]) + bytes(8) + gzip.compress(noise[100_000:]), "gzip", 2**20)
    with pytest.raises(VolumeError, match="unfolds to more"):
        check_piece(tmp_path, gzip.compress(noise) + bytes(8) + gzip.compress(large), "gzip", 2**20)


@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip"])
@pytest.mark.parametrize("place", ["start", "end"])
def test_pieces_of_shards_that_unfold_without_end(tmp_path: Path, zarr: Any, codec: str, place: str) -> None:
    """A shard whose pieces are as they should be, and the same with the last one made to claim more."""
    compressor = {"zstd": zarr.codecs.ZstdCodec(), "gzip": zarr.codecs.GzipCodec(), "blosc": zarr.codecs.BloscCodec()}
    voxels = np.random.default_rng(0).integers(0, 255, (4, 8, 8)).astype(np.uint8)
    shards: Any = {"shape": (4, 8, 8), "index_location": place}
    zarr.create_array(tmp_path / "a.zarr", data=voxels, chunks=(2, 8, 8), shards=shards, compressors=compressor[codec])
    assert np.array_equal(read(tmp_path / "a.zarr")[0], voxels)
    shard = tmp_path / "a.zarr" / "c" / "0" / "0" / "0"
    content, index = bytearray(shard.read_bytes()), 2 * 16 + 4
    at = 0 if place == "start" else len(content) - index
    begin, _ = struct.unpack_from("<QQ", content, at + 16)
    import google_crc32c
    import imagecodecs

    bomb = {
        "zstd": lambda: imagecodecs.zstd_encode(bytes(2**20)),
        "gzip": lambda: gzip.compress(bytes(2**28), 1),  # 256 MiB: less than that is harmless
        "blosc": lambda: b"\x02\x01\x21\x01" + struct.pack("<III", 2**30, 2**20, 16),
    }[codec]()
    entries = struct.pack("<QQQQ", *struct.unpack_from("<QQ", content, at), begin, len(bomb))
    entries += struct.pack("<I", google_crc32c.value(entries))
    body = bytes(content[:begin]) + bomb
    shard.write_bytes(entries + body[index:] if place == "start" else body + entries)
    assert "unfolds to more" in refusal(tmp_path / "a.zarr")
    with open_volume(tmp_path / "a.zarr") as volume, pytest.raises(VolumeError, match="unfolds to more"):
        VolumeVoxels(volume).at((3, 3, 3))  # one piece, not the whole shard


def test_what_is_compressed_twice_is_refused(tmp_path: Path, zarr: Any) -> None:
    once = zarr.codecs.GzipCodec()
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, chunks=(2, 4, 4), compressors=(once, once))
    assert "more than once" in refusal(tmp_path / "a.zarr")
    zarr.create_array(tmp_path / "b.zarr", data=IMAGE, chunks=(2, 4, 4), shards=(4, 8, 8), compressors=(once, once))
    assert "more than once" in refusal(tmp_path / "b.zarr")
    zarr.create_array(tmp_path / "c.zarr", data=IMAGE, chunks=(2, 4, 4), shards=(4, 8, 8))
    _edited(tmp_path / "c.zarr" / "zarr.json", lambda about: about["codecs"].append({"name": "gzip"}))
    assert "not supported (gzip)" in refusal(tmp_path / "c.zarr")


@pytest.mark.parametrize("codec", ["gzip", "zlib", "zstd"])
def test_pieces_that_unfold_without_end(tmp_path: Path, codec: str) -> None:
    import imagecodecs

    encode = {"gzip": gzip.compress, "zlib": imagecodecs.zlib_encode, "zstd": imagecodecs.zstd_encode}[codec]
    voxels = np.random.default_rng(0).integers(0, 255, 2**20, np.uint8).tobytes()
    check_piece(tmp_path, encode(voxels), codec, 2**20)
    bomb = encode(voxels + bytes(2**22))
    with pytest.raises(Exception, match="unfolds to more"):
        check_piece(tmp_path, bomb, codec, 2**20)


def _counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pieces of Zarr stores that are read from here on."""
    from deepscem_tui.engine.formats import zarr_stores

    read: list[str] = []
    monkeypatch.setattr(zarr_stores, "check_piece", lambda path, *_: read.append(str(path)))
    return read


def _blocks(path: Path, zarr: Any, **options: Any) -> Any:
    """An image of 4 x 5 x 6 chunks."""
    voxels = np.random.default_rng(2).integers(0, 2**16, (32, 40, 48)).astype(np.uint16)
    zarr.create_array(path, data=voxels, chunks=(8, 8, 8), **options)
    return voxels


@pytest.mark.parametrize(("free", "reads"), [(2**16, 1), (32768, 1), (2**13, 4)])
def test_no_chunk_is_decoded_twice_where_memory_suffices(
    tmp_path: Path, zarr: Any, monkeypatch: pytest.MonkeyPatch, free: int, reads: int
) -> None:
    from deepscem_tui.engine.formats import arrays

    monkeypatch.setattr(arrays, "BAND_BYTES", 2**13)  # of a band of 30 KiB
    monkeypatch.setattr(arrays, "available_memory", lambda: free * arrays.MEMORY_SHARE)
    voxels = _blocks(tmp_path / "a.zarr", zarr)
    decoded = _counting(monkeypatch)
    with open_volume(tmp_path / "a.zarr") as volume:
        for z in range(0, 32, 3):
            assert np.array_equal(volume.read(z, min(z + 3, 32)), voxels[z : z + 3])
        assert len(decoded) == reads * len(set(decoded)) == reads * 120
        assert any("are 8 slices deep" in warning and "4 times" in warning for warning in volume.warnings) == (
            reads > 1
        )
        assert np.array_equal(volume.read(0, 32), voxels)  # in one piece: each once, whatever the memory
    assert len(decoded) == (reads + 1) * 120


def test_a_plane_takes_the_chunks_that_it_lies_in(tmp_path: Path, zarr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = _blocks(tmp_path / "a.zarr", zarr)
    decoded = _counting(monkeypatch)
    with open_volume(tmp_path / "a.zarr") as volume:
        shown = VolumeVoxels(volume)
        parts = [
            (Part("xz", 20, (0, 32), (9, 22), (99, 99)), voxels[:, 20, 9:22], 4 * 2),
            (Part("yz", 30, (1, 31), (16, 24), (99, 99)), voxels[1:31, 16:24, 30], 4),
            (Part("xy", 9, (8, 24), (0, 17), (99, 99)), voxels[9, 8:24, :17], 2 * 3),
        ]
        for part, expected, count in parts:
            decoded.clear()
            values, sampled = shown.image(part, Stop())
            assert np.array_equal(values, expected)
            assert not sampled
            assert len(decoded) == count
        decoded.clear()
        assert shown.at((12, 9, 16)) == voxels[12, 9, 16]
        assert len(decoded) == 1
        coarse = Part("xy", 9, (0, 40), (0, 48), (2, 2), coarse=True)
        assert np.array_equal(shown.image(coarse, Stop())[0], voxels[9, ::10, ::12])
        stop = Stop()
        stop.request("by the test")
        with pytest.raises(Stopped):
            shown.image(Part("xz", 39, (0, 32), (0, 48), (99, 99)), stop)


@pytest.mark.parametrize("end", [".zarr", ".h5:/raw", ".n5"])
def test_planes_of_arrays_whose_axes_are_turned_and_sampled(tmp_path: Path, end: str) -> None:
    path, voxels = Path(f"{tmp_path}/a{end}"), np.arange(600 * 63, dtype=np.uint32).reshape(600, 7, 9)
    if end == ".n5":
        tensorstore = pytest.importorskip("tensorstore")
        about = {
            "dataType": "uint32",
            "dimensions": [9, 7, 600],
            "blockSize": [4, 4, 2],
            "compression": {"type": "gzip"},
        }
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(path)}, "metadata": about}
        tensorstore.open(spec, create=True).result()[...] = voxels.T
    elif end == ".zarr":
        zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")
        turned = voxels.transpose(1, 2, 0)
        zarr.create_array(path, data=turned, chunks=(4, 4, 2), dimension_names=("y", "x", "z"))
    else:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("raw", data=voxels, chunks=(2, 4, 4), compression="gzip")
    with open_volume(path) as volume:
        shown = VolumeVoxels(volume)
        for plane, expected in (("xz", voxels[::12, 3]), ("yz", voxels[::12, :, 3])):
            values, sampled = shown.image(Part(plane, 3, (0, 600), (0, expected.shape[1]), (50, 99)), Stop())  # type: ignore[arg-type]
            assert sampled
            assert np.array_equal(values, expected)


# ------------------------------------------------------------------------------------------------ Zarr out


@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "float16", "float32", "uint32"])
def test_ome_zarr_stores_are_written(tmp_path: Path, zarr: Any, kind: str) -> None:
    path = write(tmp_path / "a.ome.zarr", MOST_LEVELS.astype(kind), voxel_size=(30, 8, 8), voxel_unit="nm")
    group = zarr.open_group(path, mode="r")
    (image,) = group.attrs["ome"]["multiscales"]
    assert group.attrs["ome"]["version"] == "0.5"
    assert [axis["name"] + axis["unit"] for axis in image["axes"]] == ["znanometer", "ynanometer", "xnanometer"]
    steps = [level["coordinateTransformations"][0]["scale"] for level in image["datasets"]]
    assert steps == [[30, 8, 8], [30, 16, 16], [30, 32, 32]]
    first, second, third = (group[level["path"]] for level in image["datasets"])
    assert (first.shape, second.shape, third.shape) == ((9, 601, 500), (9, 301, 250), (9, 151, 125))
    stored = MOST_LEVELS.astype(kind).astype("uint8" if kind == "bool" else kind)
    assert np.array_equal(first[:], stored)
    if kind == "bool":
        assert np.array_equal(second[:], stored[:, ::2, ::2])
        return
    padded = np.pad(stored, ((0, 0), (0, 1), (0, 0)), mode="edge").astype(float)
    means = padded.reshape(9, 301, 2, 250, 2).mean(axis=(2, 4))
    assert np.allclose(second[:], means, atol=0.5 if kind[0] in "iu" else 0.1)
    middle = image["datasets"][1]["coordinateTransformations"][1]["translation"]
    assert middle == [0, 4, 4]


@pytest.mark.parametrize("kind", ["uint64", "int64"])
def test_means_of_the_largest_numbers(tmp_path: Path, zarr: Any, kind: str) -> None:
    ends = np.iinfo(kind)
    voxels = np.full((2, 2, 600), ends.max, kind)
    voxels[..., 300:] = ends.min
    group = zarr.open_group(write(tmp_path / "a.zarr", voxels), mode="r")
    assert group["1"][0, 0, 0] == pytest.approx(ends.max)
    assert group["1"][0, 0, -1] == ends.min


def test_axes_that_are_alike_are_all_reduced(tmp_path: Path, zarr: Any) -> None:
    voxels = np.random.default_rng(0).integers(0, 9, (301, 3, 5)).astype(np.uint16)
    group = zarr.open_group(write(tmp_path / "a.zarr", voxels, labels=True), mode="r")
    assert [group[name].shape for name in ("0", "1")] == [(301, 3, 5), (151, 2, 3)]
    assert np.array_equal(group["1"][:], voxels[::2, ::2, ::2])
    assert "unit" not in group.attrs["ome"]["multiscales"][0]["axes"][0]
    assert read(tmp_path / "a.zarr")[1].voxel_size is None


def test_only_stores_are_replaced(tmp_path: Path, zarr: Any) -> None:
    path = write(tmp_path / "a.ome.zarr", IMAGE)
    with pytest.raises(ParameterError, match="exists already"):
        write(path, IMAGE)
    write(path, IMAGE + 1, overwrite=True)
    assert np.array_equal(read(path)[0], IMAGE + 1)
    assert [found.name for found in tmp_path.iterdir()] == ["a.ome.zarr"]
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "thesis.txt").write_text("years of work")
    (tmp_path / "file.zarr").write_text("no folder")
    (tmp_path / "link.zarr").symlink_to(path)
    for name in ("mine.zarr", "file.zarr", "link.zarr"):
        with pytest.raises(ParameterError, match="never replaced"):
            write(tmp_path / name, IMAGE, overwrite=True)
    assert (tmp_path / "mine.zarr" / "thesis.txt").exists()
    with pytest.raises(ParameterError, match="a part"):
        write(Path(f"{path}:/0"), IMAGE, overwrite=True)
    with pytest.raises(ParameterError, match="itself"):
        convert(Path(f"{path}:/0"), path, overwrite=True)


def _refused(path: Path) -> str:
    with pytest.raises(ParameterError) as caught:
        write(path, IMAGE, overwrite=True)
    assert caught.value.hint
    return str(caught.value)


def test_a_store_is_not_replaced_with_files_of_others_in_it(tmp_path: Path, zarr: Any) -> None:
    path = tmp_path / "a.ome.zarr"
    for extra in ("keep/n.txt", "notes.txt", "0/c/notes.txt", "0/c/0/0/x", "0/3/0", "0/7", "labels/zarr.json"):
        write(path, IMAGE)
        (path / extra).parent.mkdir(parents=True, exist_ok=True)
        (path / extra).write_text("years of work")
        assert extra.split("/")[0] in _refused(path).rpartition(": ")[2]
        assert (path / extra).read_text() == "years of work"
        shutil.rmtree(path)
    write(path, IMAGE)
    (path / "0" / "c" / "1").symlink_to(tmp_path)
    assert "0/c/1" in _refused(path)
    for top in (".zattrs", ".zgroup", "zarr.json", ".zarray"):
        mine = tmp_path / f"mine{top}.zarr"
        mine.mkdir()
        (mine / top).write_text("{}")
        (mine / "n.txt").write_text("years of work")
        assert "never replaced" in _refused(mine)
        assert (mine / "n.txt").exists()
    group = zarr.open_group(tmp_path / "several.zarr", mode="w")
    group.create_array("raw", data=IMAGE)
    assert "group of arrays" in _refused(tmp_path / "several.zarr")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("separator", ["/", "."])
def test_images_of_others_are_replaced(tmp_path: Path, zarr: Any, version: int, separator: str) -> None:
    kind = "v2" if version == 2 else "default"
    options = {"zarr_format": version, "chunk_key_encoding": {"name": kind, "separator": separator}}
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, chunks=(2, 4, 4), **options)
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=version)
    group.create_array("s0", data=IMAGE, chunks=(2, 4, 4), chunk_key_encoding=options["chunk_key_encoding"])
    group.attrs.update(_ome("0.5" if version == 3 else "0.4", [1, 1, 1]))
    zarr.consolidate_metadata(tmp_path / "b.zarr")
    for name in ("a.zarr", "b.zarr"):
        assert np.array_equal(read(write(tmp_path / name, IMAGE + 1, overwrite=True))[0], IMAGE + 1)


def test_what_broke_off_leaves_the_store_as_it_was(tmp_path: Path, zarr: Any) -> None:
    path = write(tmp_path / "a.ome.zarr", IMAGE)
    with pytest.raises(ValueError, match="2 of 5"), create_volume(path, SHAPE, "u1", overwrite=True) as writer:
        writer.write(IMAGE[:2])
    stop = Stop()
    stop.request("by the test")
    with pytest.raises(Stopped):
        convert(path, tmp_path / "b.zarr", Context(stop=stop))
    assert [found.name for found in tmp_path.iterdir()] == ["a.ome.zarr"]
    assert np.array_equal(read(path)[0], IMAGE)


def test_a_store_that_was_left_is_swept(tmp_path: Path, zarr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepscem_tui.engine.system import files

    left = files.temporary_name(tmp_path / "a.zarr")
    left.mkdir()
    (left / "zarr.json").touch()
    monkeypatch.setattr(files, "running", lambda _: None)
    monkeypatch.setattr(files, "_swept", set())
    write(tmp_path / "b.zarr", IMAGE)
    assert [found.name for found in tmp_path.iterdir()] == ["b.zarr"]


def _store(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "zarr.json").write_text(content)
    return folder


def test_a_store_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepscem_tui.engine.system import files

    if not files._exchange(_store(tmp_path / "one", "1"), _store(tmp_path / "two", "2")):
        pytest.skip("folders cannot change places here")
    assert (tmp_path / "one" / "zarr.json").read_text() == "2"
    path, seen = _store(tmp_path / "a.zarr", "old"), []

    def killed(left: Path) -> None:
        seen.append((left.name[0], (left / "zarr.json").read_text(), (path / "zarr.json").read_text()))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", None)  # between two renames there would be no store
        patch.setattr(files, "_remove", killed)
        with files.published(path, folder=True) as temporary:
            (temporary / "zarr.json").write_text("new")
    assert seen == [(".", "old", "new")]
    monkeypatch.setattr(files, "running", lambda _: None)
    monkeypatch.setattr(files, "_swept", set())
    files.sweep(tmp_path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.zarr", "one", "two"]


def test_where_stores_cannot_change_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepscem_tui.engine.system import files

    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    path = _store(tmp_path / "a.ome.zarr", "old")
    with files.published(path, folder=True) as temporary:
        (temporary / "zarr.json").write_text("new")
    assert [found.name for found in tmp_path.iterdir()] == ["a.ome.zarr"]
    assert (path / "zarr.json").read_text() == "new"
    monkeypatch.setattr(files, "running", lambda _: None)
    aside = files._name_beside(path, path.name, files._ASIDE)
    path.rename(aside)  # and there the process was killed
    monkeypatch.setattr(files, "_swept", set())
    files.sweep(tmp_path)
    assert (path / "zarr.json").read_text() == "new"
    _store(aside, "old")  # killed before it was removed
    monkeypatch.setattr(files, "_swept", set())
    files.sweep(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["a.ome.zarr"]
    assert (path / "zarr.json").read_text() == "new"

    class Killed(BaseException):
        pass

    def never(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed), files.published(path, folder=True, before=never) as temporary:
        (temporary / "zarr.json").write_text("newer")
    assert (path / "zarr.json").read_text() == "new"


# ------------------------------------------------------------------------------------------------ N5


@pytest.fixture
def n5(tmp_path: Path) -> Path:
    tensorstore = pytest.importorskip("tensorstore")

    def make(name: str, voxels: Any, **about: Any) -> None:
        metadata = {
            "dataType": voxels.dtype.name,
            "dimensions": voxels.shape[::-1],
            "blockSize": [4, 4, 2][-voxels.ndim :],
        }
        metadata |= {"compression": {"type": "gzip"}}
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/a.n5/{name}"}, "metadata": metadata}
        tensorstore.open(spec, create=True).result()[...] = voxels.T
        _edited(tmp_path / "a.n5" / name / "attributes.json", lambda made: made | about)

    make("em/s0", IMAGE)
    make("em/s1", IMAGE[::2, ::2, ::2], downsamplingFactors=[2, 2, 2])
    make("own", IMAGE.astype(np.uint16), pixelResolution={"dimensions": SIZE[::-1], "unit": "um"})
    make("flat", IMAGE[0], pixelResolution=[4.0, 8.0])
    (tmp_path / "a.n5" / "em" / "attributes.json").write_text(json.dumps({"resolution": SIZE[::-1]}))
    return tmp_path / "a.n5"


def test_n5_stores(n5: Path) -> None:
    for name, size, unit in (("em", SIZE, "nm"), ("em/s0", SIZE, "nm"), ("own", SIZE, "µm")):
        found, volume = read(n5 / name)
        assert np.array_equal(found, IMAGE)
        assert (volume.voxel_size, volume.voxel_unit) == (size, unit)
    found, volume = read(Path(f"{n5}:/em/s1"))
    assert np.array_equal(found, IMAGE[::2, ::2, ::2])
    assert volume.voxel_size == tuple(2 * size for size in SIZE)
    found, volume = read(n5 / "flat")
    assert np.array_equal(found, IMAGE[:1])
    assert volume.voxel_size == (8, 8, 4)


def test_n5_stores_that_are_refused(n5: Path) -> None:
    assert typed_back(n5) == [f"{n5}:/{name}" for name in ("flat", "own", "em/s0", "em/s1")]
    assert "a.n5:/em/s0 (5 x 7 x 11 uint8)" in refusal(n5)
    assert "is no array" in refusal(n5 / "no")
    (n5 / "link").symlink_to(n5 / "own")
    assert "is not followed" in refusal(n5 / "link")
    block = n5 / "own" / "0" / "0" / "0"
    content = block.read_bytes()
    block.write_bytes(content[:-5])
    assert "cannot be read" in refusal(n5 / "own")
    block.write_bytes(content[:16] + gzip.compress(bytes(10**8)))
    assert "cannot be read" in refusal(n5 / "own")
    block.write_bytes(content)
    block.rename(n5.with_name("elsewhere"))
    assert read(n5 / "own")[0].min() == 0  # as blocks of nothing are
    block.symlink_to(n5.with_name("elsewhere"))
    assert "no regular file" in refusal(n5 / "own")
    block.unlink()
    os.mkfifo(block)
    assert "no regular file" in refusal(n5 / "own")
    block.unlink()
    n5.with_name("elsewhere").rename(block)
    (n5 / "own" / "1").rename(n5.with_name("elsewhere"))
    (n5 / "own" / "1").symlink_to(n5.with_name("elsewhere"))
    assert "no folder, and is not opened" in refusal(n5 / "own")
    (n5 / "own" / "1").unlink()
    n5.with_name("elsewhere").rename(n5 / "own" / "1")
    about = n5 / "own" / "attributes.json"
    right = about.read_text()
    for change, what in (
        ({"blockSize": [2**20] * 3}, "smaller chunks"),
        ({"dimensions": [2**20] * 3}, "more than its files can hold"),
        ({"dataType": "object"}, "type object"),
        ({"dataType": "odd"}, "damaged"),
        ({"blockSize": [4, 4]}, "damaged"),
        ({"compression": {"type": "pickle"}}, "cannot be read"),
    ):
        _edited(about, lambda made, change=change: made | change)
        assert what in refusal(n5 / "own")
        about.write_text(right)
    with pytest.raises(ParameterError, match="not written"):
        write(n5.with_name("b.n5"), IMAGE)


# ------------------------------------------------------------------------------------------------ NIfTI


@pytest.fixture(scope="session")
def nibabel() -> Any:
    return pytest.importorskip("nibabel")


@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["u1", ">i2", "f4", "f8"])
def test_nifti_files_are_read(tmp_path: Path, nibabel: Any, end: str, kind: str) -> None:
    header = nibabel.Nifti1Header(endianness=">" if kind[0] == ">" else "<")
    header.set_xyzt_units("micron")
    header.set_data_dtype(kind)
    image = nibabel.Nifti1Image(IMAGE.T.astype(kind), np.diag([0.004, 0.008, 0.03, 1]), header)
    nibabel.save(image, tmp_path / f"a{end}")
    found, volume = read(tmp_path / f"a{end}")
    assert np.array_equal(found, IMAGE)
    assert (volume.dtype, volume.voxel_unit) == (np.dtype(kind).newbyteorder("="), "µm")
    assert volume.voxel_size == pytest.approx((0.03, 0.008, 0.004))
    assert ("start" in "".join(volume.warnings)) == (end == ".nii.gz")


def test_values_that_are_scaled_and_other_shapes(tmp_path: Path, nibabel: Any) -> None:
    image = nibabel.Nifti2Image(IMAGE.T[..., np.newaxis], np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "a.nii")
    found, volume = read(tmp_path / "a.nii")
    assert found.dtype == np.float32
    assert np.allclose(found, nibabel.load(tmp_path / "a.nii").get_fdata()[..., 0].T)
    assert volume.voxel_size is None  # no unit
    assert not volume.warnings
    nibabel.save(nibabel.Nifti1Image(IMAGE.T, np.diag([4, 8, 30, 1])), tmp_path / "c.nii")
    assert "30 x 8 x 4, so that is not taken: give --voxel-size" in read(tmp_path / "c.nii")[1].warnings[0]
    nibabel.save(nibabel.Nifti1Image(IMAGE[0].T, np.eye(4)), tmp_path / "b.nii")
    assert np.array_equal(read(tmp_path / "b.nii")[0], IMAGE[:1])


@pytest.mark.parametrize("end", [".nii", ".nii.gz", ".mrc", ".h5:/raw", ".ome.zarr"])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_planes_across_the_slices(tmp_path: Path, end: str, scale: float | None) -> None:
    pytest.importorskip("zarr" if "zarr" in end else "nibabel")
    path = write(Path(f"{tmp_path}/a{end}"), IMAGE, scale=scale)
    with open_volume(path) as volume:
        voxels, whole = VolumeVoxels(volume), volume.read(0, 5)
        assert np.array_equal(voxels.image(Part("xz", 2, (0, 5), (1, 9), (99, 99)), Stop())[0], whole[:, 2, 1:9])
        assert np.array_equal(voxels.image(Part("yz", 3, (1, 5), (0, 7), (99, 99)), Stop())[0], whole[1:5, :, 3])
        assert voxels.at((4, 5, 6)) == whole[4, 5, 6]


def test_nifti_files_that_are_refused(tmp_path: Path, nibabel: Any) -> None:
    for end in (".nii", ".nii.gz"):
        path = tmp_path / f"a{end}"
        nibabel.save(nibabel.Nifti1Image(IMAGE.T, np.eye(4)), path)
        content = path.read_bytes()
        for cut in (0, 3, 200, len(content) - 40):
            path.write_bytes(content[:cut])
            refusal(path)
        path.write_bytes(b"text " * 1000)
        refusal(path)
    path = tmp_path / "b.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((11, 7, 5, 3), np.uint8), np.eye(4)), path)
    assert "4 dimensions" in refusal(path)
    colour = np.zeros((11, 7, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), path)
    assert "colour" in refusal(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((11, 7, 5), np.complex64), np.eye(4)), path)
    assert "complex" in refusal(path)
    nibabel.save(nibabel.Nifti1Image(IMAGE.T, np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[42:48] = struct.pack("<3h", 32767, 32767, 32767)
    path.write_bytes(content)
    assert "should have" in refusal(path)
    with gzip.open(tmp_path / "b.nii.gz", "wb") as file:
        file.write(content)
    assert "should have" in refusal(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "float16", "float32", "uint32", "float64"])
def test_nifti_files_are_written(tmp_path: Path, nibabel: Any, end: str, kind: str) -> None:
    path = write(tmp_path / f"a{end}", IMAGE.astype(kind), voxel_size=SIZE, voxel_unit="nm")
    image = nibabel.load(path)
    assert np.array_equal(np.asarray(image.dataobj).T, IMAGE.astype(kind))
    assert image.get_data_dtype() == {"bool": "uint8", "float16": "float32"}.get(kind, kind)
    assert image.header.get_xyzt_units()[0] == "micron"
    assert image.header.get_zooms() == pytest.approx((0.004, 0.008, 0.03))
    found, volume = read(path)
    assert np.array_equal(found, IMAGE.astype(kind))
    assert volume.voxel_size == pytest.approx((0.03, 0.008, 0.004))


def test_probabilities_keep_their_scale(tmp_path: Path, nibabel: Any) -> None:
    path = write(tmp_path / "a.nii", IMAGE, scale=1 / 255)
    assert np.allclose(nibabel.load(path).get_fdata().T, IMAGE / 255)


# ------------------------------------------------------------------------------------------------ all


def test_a_store_that_is_called_otherwise_is_told(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "zarr.json").touch()
    with pytest.raises(VolumeError, match=r"must end in .zarr or .n5"), open_slices(tmp_path / "cells", colours=False):
        pass


ALL = [".mrc", ".h5:/raw", ".nii", ".nii.gz", ".ome.zarr", ".n5:/raw", ".jpg"]


def _made(folder: Path, end: str) -> Path:
    path = Path(f"{folder}/a{end}")
    if end.startswith(".n5"):
        tensorstore = pytest.importorskip("tensorstore")
        metadata = {"dataType": "uint8", "dimensions": SHAPE[::-1], "blockSize": [4, 4, 2]}
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/a.n5/raw"}, "metadata": metadata}
        tensorstore.open(spec, create=True).result()[...] = IMAGE.T
        return path
    if end == ".jpg":
        return jpeg(path)
    pytest.importorskip("zarr" if "zarr" in end else "nibabel" if "nii" in end else "mrcfile")
    return write(path, IMAGE, voxel_size=SIZE, voxel_unit="nm")


@pytest.mark.parametrize("end", ALL)
def test_whatever_is_damaged_ends_in_one_message(tmp_path: Path, end: str) -> None:
    path = _made(tmp_path, end)
    file = place_of(path).file
    parts = sorted(part for part in (file.rglob("*") if file.is_dir() else [file]) if part.is_file())
    whole = {part: part.read_bytes() for part in parts}
    refused = 0
    for seed in range(60):
        part = parts[seed % len(parts)]
        part.write_bytes(mutated(whole[part], seed))
        try:
            read(path)
        except (VolumeError, ResourceError) as error:
            refused += bool(error.hint)
        part.write_bytes(whole[part])
    assert refused
    read(path)


@pytest.mark.parametrize("end", [".ome.zarr", ".nii", ".nii.gz"])
def test_an_image_comes_back(tmp_path: Path, end: str) -> None:
    pytest.importorskip("zarr" if "zarr" in end else "nibabel")
    image = write(tmp_path / "in.npy", IMAGE.astype(np.int16))
    out = tmp_path / f"out{end}"
    assert convert(image, out, voxel_size="30,8,4 nm", dry_run=True).facts["voxel_size"] == list(SIZE)
    assert not out.exists()
    convert(image, out, voxel_size="30,8,4 nm")
    back = convert(out, tmp_path / "back.npy").facts
    assert np.array_equal(np.load(tmp_path / "back.npy"), IMAGE)
    factor = {"nm": 1, "µm": 1000}[back["voxel_unit"]]
    assert [size * factor for size in back["voxel_size"]] == pytest.approx(SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.npy", f"out{end}", "back.npy"])
    facts = actions.ACTIONS["info"].carry_out(p.Info(path=out), Context()).facts
    assert facts["format"] == place_of(out).format.name  # type: ignore[union-attr]


def test_ids_whose_means_would_be_written_are_told(tmp_path: Path, zarr: Any) -> None:
    image = write(tmp_path / "in.npy", IMAGE.astype(np.uint32))
    warnings: list[str] = []

    class Listener(Reporter):
        def warning(self, text: str) -> None:
            warnings.append(text)

    for out, options in (("a.zarr", {"labels": True}), ("b.npy", {}), ("c.zarr", {})):
        assert not warnings
        convert(image, tmp_path / out, Context(Listener()), **options)
    assert "give --labels" in warnings[0]


def test_a_missing_library_is_told_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> None:
        raise ImportError(name=module)

    monkeypatch.setattr(extras, "import_module", missing)
    for known in FORMATS:
        if known.extra and known.writer and not (known.extra == "zarr" and sys.version_info < (3, 11)):
            with pytest.raises(MissingLibraryError, match=rf"pip install 'deepscem-tui\[{known.extra}\]'"):
                write(tmp_path / f"a{known.suffixes[0]}", IMAGE)
    assert not list(tmp_path.iterdir())
