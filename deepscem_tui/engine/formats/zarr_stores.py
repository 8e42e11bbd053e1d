"""Zarr and OME-Zarr stores in folders, read with the library zarr after a look of our own at what they claim.

A store may come from anywhere. Nothing outside its folder is opened, links are not followed, codecs are those of a list
(of zarr's own, some run code that is in the data), and no piece may unfold to more than its chunk.

Sources: https://zarr-specs.readthedocs.io/, https://ngff.openmicroscopy.org/0.5/ and 0.4
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice, takewhile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import ParameterError, VolumeError
from deepscem_tui.engine.formats.arrays import ArraySource, check_chunks, explained, layout_of
from deepscem_tui.engine.formats.pieces import check_piece
from deepscem_tui.engine.formats.plain_files import COPY_AGAIN, check_dtype
from deepscem_tui.engine.formats.shards import Shards
from deepscem_tui.engine.formats.stores import (
    Contents,
    Regular,
    check_claim,
    damaged,
    folder_in,
    hint,
    read_json,
    zarr_library,
)
from deepscem_tui.engine.formats.table import Place
from deepscem_tui.engine.formats.tiff_metadata import in_one_unit, length_unit, untold
from deepscem_tui.engine.system.devices import available_cores

__all__ = ["open_store", "refuse_others"]

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_COMPRESSORS_3 = {"blosc", "gzip", "zstd"}
_CODECS = {"bytes", "transpose", "crc32c"} | _COMPRESSORS_3
_COMPRESSORS = {"blosc", "gzip", "zlib", "zstd", "lz4"}  # of version 2
_FILTERS = {"shuffle", "delta"}
_CHECKSUM = 4  # bytes
_MOST_INDEXED = 2**21  # pieces of shards whose places are kept

_Axes = tuple[Sequence[str] | None, Sequence[float] | None, Sequence[str]]


@dataclass(frozen=True)
class _Node:
    """An array or a group, by its metadata."""

    folder: Path
    version: int
    attributes: Mapping[str, Any]
    shape: tuple[int, ...] = ()
    chunks: tuple[int, ...] = ()  # what is decoded together
    dtype: np.dtype[Any] | None = None  # None for a group
    axes: tuple[str, ...] | None = None
    compressor: str = ""  # of each piece; empty where it is as it is
    trailer: int = 0  # bytes of checksums after that
    shards: Shards | None = None  # where a file holds many pieces

    @property
    def is_array(self) -> bool:
        return self.dtype is not None


@contextmanager
def open_store(place: Place) -> Iterator[ArraySource]:
    """Open an array of a Zarr store, or the largest image of an OME-Zarr store.

    Raises:
        VolumeError: the store is damaged, leads elsewhere, claims too much, or has no image there.
        MissingLibraryError: zarr is not installed.
    """
    node = _node(place, place.inside)
    inside = place.inside
    if not node.is_array:
        levels = _levels(node)
        if not levels:
            raise VolumeError(f"{place.path} has several arrays, or none", _hint(place))
        inside = "/".join(part for part in (inside, levels[0][0]) if part)
        node = _node(place, inside)
    if not node.is_array or node.dtype is None:
        raise VolumeError(f"{place.path} has no array {inside!r}", _hint(place))
    check_dtype(place.path, node.dtype)
    check_chunks(place, node.chunks, node.dtype)
    check_claim(place, node.folder, prod(node.shape) * node.dtype.itemsize)
    axes, sizes, units = _described(place, inside, node)
    layout = layout_of(place, node.shape, axes)
    zarr = zarr_library(f"Reading {place.file}")
    with explained(place):
        array = zarr.open_array(store=_files()(place.file, node), path=inside, mode="r", zarr_format=node.version)
        if array.shape != node.shape or array.dtype.newbyteorder("=") != node.dtype.newbyteorder("="):
            raise VolumeError(f"{place.path} was changed meanwhile", "Try again.")
    kind = node.dtype.newbyteorder("=")

    def read(z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with zarr.config.set({"async.concurrency": available_cores(), "threading.max_workers": available_cores()}):
            return layout.read(array, z, y, x).astype(kind, copy=False)

    source = ArraySource(place, layout.shape, node.dtype, read, layout.along(node.chunks, 1))
    source.warnings += layout.warnings
    size = layout.voxel_size(sizes)
    if size is not None:
        z, y, x = layout.along(units, None)
        if y and x and (z or layout.order[0] is None):
            source.voxel_size, source.voxel_unit = in_one_unit(size, (z or y, y, x))
        elif set(size) != {1.0}:
            source.warnings += (untold(size),)
    yield source


# ------------------------------------------------------------------------------------------------ metadata


def _node(place: Place, inside: str) -> _Node:
    """What is at a name in a store.

    Raises:
        VolumeError: nothing, or nothing that can be used.
    """
    folder = folder_in(place, inside)
    about = read_json(place, folder / "zarr.json")
    if about is not None:
        with damaged(place, folder / "zarr.json"):
            return _of_version_3(place, folder, about)
    attributes = read_json(place, folder / ".zattrs") or {}
    about = read_json(place, folder / ".zarray")
    if about is not None:
        with damaged(place, folder / ".zarray"):
            return _of_version_2(place, folder, about, attributes)
    if (folder / ".zgroup").exists() or attributes:
        return _Node(folder, 2, attributes)
    if inside:
        raise VolumeError(f"{place.file} has no array {inside!r}", _hint(place))
    raise VolumeError(f"{place.file} is no Zarr store: it has no metadata", COPY_AGAIN)


def _of_version_3(place: Place, folder: Path, about: Mapping[str, Any]) -> _Node:
    attributes = about.get("attributes") or {}
    if about["node_type"] == "group":
        return _Node(folder, 3, dict(attributes))
    if about["node_type"] != "array":
        raise ValueError("neither a group nor an array")
    grid = about["chunk_grid"]
    if grid["name"] != "regular" or about.get("storage_transformers"):
        raise VolumeError(f"{place.path} is stored in a way that is not supported", "Save it again with zarr.")
    kind = about["data_type"]
    if not isinstance(kind, str) or kind not in np.sctypeDict:
        raise VolumeError(f"{place.path} holds values of type {str(kind)[:60]}, not numbers", "Save it as numbers.")
    chunks, codecs, shards = grid["configuration"]["chunk_shape"], about["codecs"], None
    names = [str(codec["name"]) for codec in codecs]
    if not names:
        raise ValueError("no codecs")
    if "sharding_indexed" in names:
        _check_codecs(place, set(names) - {"transpose", "sharding_indexed"})
        inner = codecs[names.index("sharding_indexed")]["configuration"]
        shards = Shards.of(inner, chunks)
        chunks, codecs = inner["chunk_shape"], inner["codecs"]
        names = [str(codec["name"]) for codec in codecs]
    _check_codecs(place, set(names) - _CODECS)
    compressors = [name for name in names if name in _COMPRESSORS_3]
    if len(compressors) > 1:
        what = f"{place.path} is compressed more than once ({', '.join(compressors)[:60]}), which is not supported"
        raise VolumeError(what, "Save it with one of them.")
    trailer = _CHECKSUM * len(list(takewhile("crc32c".__eq__, reversed(names))))
    given = about.get("dimension_names")
    axes = tuple(str(name).lower() for name in given) if given and all(given) else None
    return _array(
        folder, 3, attributes, about["shape"], chunks, np.dtype(kind), axes, "".join(compressors), trailer, shards
    )


def _of_version_2(place: Place, folder: Path, about: Mapping[str, Any], attributes: Mapping[str, Any]) -> _Node:
    compressor = about["compressor"]
    name = str(compressor["id"]) if compressor else ""
    _check_codecs(place, {name} - _COMPRESSORS - {""})
    filters = {str(item["id"]) for item in about.get("filters") or ()}
    _check_codecs(place, filters - _FILTERS)
    if not isinstance(about["dtype"], str):
        raise VolumeError(f"{place.path} holds values with named parts, not numbers", "Save it as numbers.")
    names = attributes.get("_ARRAY_DIMENSIONS")
    axes = tuple(str(item).lower() for item in names) if names else None
    return _array(folder, 2, attributes, about["shape"], about["chunks"], np.dtype(about["dtype"]), axes, name)


def _array(
    folder: Path,
    version: int,
    attributes: Mapping[str, Any],
    shape: Any,
    chunks: Any,
    dtype: np.dtype[Any],
    axes: tuple[str, ...] | None,
    compressor: str,
    trailer: int = 0,
    shards: Shards | None = None,
) -> _Node:
    sizes, pieces = tuple(map(int, shape)), tuple(map(int, chunks))
    if len(sizes) != len(pieces) or min((*sizes, 0)) < 0 or not min((*pieces, 1)) > 0:
        raise ValueError(f"shape {sizes}, chunks {pieces}")
    if axes is not None and (len(axes) != len(sizes) or len(set(axes)) < len(axes) or not {"y", "x"} <= set(axes)):
        axes = None
    return _Node(folder, version, dict(attributes), sizes, pieces, dtype, axes, compressor, trailer, shards)


def _check_codecs(place: Place, unknown: set[str]) -> None:
    if unknown:
        what = f"{place.path} is compressed in a way that is not supported ({min(unknown)[:60]})"
        raise VolumeError(what, "Save it with zstd, gzip or blosc.")


# ------------------------------------------------------------------------------------------------ OME-Zarr


def _multiscales(node: _Node) -> Mapping[str, Any] | None:
    """The description of the first image of a group, of version 0.5 or an older one."""
    ome = node.attributes.get("ome")
    found = (ome if isinstance(ome, dict) else node.attributes).get("multiscales")
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else None


def _levels(node: _Node) -> list[tuple[str, Mapping[str, Any]]]:
    """Paths of an image's arrays, the largest first, and what is said of each."""
    datasets = (_multiscales(node) or {}).get("datasets")
    if not isinstance(datasets, list):
        return []
    found = [item for item in datasets if isinstance(item, dict) and isinstance(item.get("path"), str)]
    return [(item["path"].strip("/"), item) for item in found]


def _described(place: Place, inside: str, node: _Node) -> _Axes:
    """Names of the axes, size of a voxel along each, and its units: by the OME-Zarr group that the array is of.

    Units are empty where they are none of length.
    """
    parts = inside.split("/") if inside else []
    for count in range(len(parts) - 1, -1, -1):
        try:
            group = _node(place, "/".join(parts[:count]))
        except VolumeError:
            continue
        path = "/".join(parts[count:])
        level = next((item for name, item in _levels(group) if name == path), None)
        if level is not None:
            with damaged(place, group.folder):
                return _of_level(_multiscales(group) or {}, level, node)
    return node.axes, None, ()


def _of_level(about: Mapping[str, Any], level: Mapping[str, Any], node: _Node) -> _Axes:
    given = about.get("axes")
    if given is None:  # as before version 0.3
        axes, units = list("tczyx")[-len(node.shape) :], {}
    else:
        axes = [str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in given]
        units = {str(axis["name"]).lower(): str(axis.get("unit") or "") for axis in given if isinstance(axis, dict)}
    if len(axes) != len(node.shape) or len(set(axes)) < len(axes) or not {"y", "x"} <= set(axes):
        return node.axes, None, ()
    sizes = [1.0] * len(axes)
    for transformation in (*level.get("coordinateTransformations", ()), *about.get("coordinateTransformations", ())):
        if transformation.get("type") == "scale":
            factors = transformation["scale"]
            sizes = [size * float(factor) for size, factor in zip(sizes, factors, strict=True)]
    known = [length_unit(units.get(name, "")) for name in axes]
    return axes, [float(f"{size:.12g}") for size in sizes], known


def _hint(place: Place) -> str:
    """What to type for the images and arrays of a store."""

    def look(inside: str) -> Contents | None:
        if not any((place.file / inside / name).exists() for name in _METADATA):
            return None if inside else Contents()
        node = _node(place, inside)
        return Contents() if node.dtype is None else Contents(node.shape, node.dtype.name)

    return hint(place, look)


# ------------------------------------------------------------------------------------------------ files


@cache
def _files() -> Any:
    """The class of stores that open nothing but regular files of their folder, and pieces of a size that can be."""
    from zarr.storage import LocalStore

    class Files(LocalStore):  # type: ignore[misc]
        def __init__(self, root: Path, node: _Node) -> None:
            super().__init__(root, read_only=True)
            assert node.dtype is not None
            self._regular = Regular(root)
            self._node, self._piece = node, prod(node.chunks) * node.dtype.itemsize
            self._indexes: dict[Path, npt.NDArray[np.int64]] = {}  # of shards

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            self._regular.check(key.split("/"))
            found = await super().get(key, prototype, byte_range)
            self._check(key, found, byte_range)
            return found

        def get_sync(self, key: str, **options: Any) -> Any:
            self._regular.check(key.split("/"))
            found = super().get_sync(key, **options)
            self._check(key, found, options.get("byte_range"))
            return found

        def _check(self, key: str, found: Any, byte_range: Any) -> None:
            if found is None or key.endswith(_METADATA):
                return
            node, content, path = self._node, found.to_bytes(), self.root / key
            pieces, first = [[0, len(content)]], 0
            if node.shards is not None:
                first = _first_byte(byte_range, path)
                index = self._index(path, node.shards)
                pieces = index[(index[:, 0] >= first) & (index[:, 0] < first + len(content))].tolist()
            for begin, length in pieces:
                piece = content[begin - first : begin - first + length]
                check_piece(path, piece[: len(piece) - node.trailer], node.compressor, self._piece)

        def _index(self, path: Path, shards: Shards) -> npt.NDArray[np.int64]:
            if path not in self._indexes:
                if sum(map(len, self._indexes.values())) + shards.count > _MOST_INDEXED:
                    self._indexes.clear()
                self._indexes[path] = shards.pieces(path)
            return self._indexes[path]

    return Files


def _first_byte(byte_range: Any, path: Path) -> int:
    """Where in a file the part begins that zarr has asked for."""
    if byte_range is None:
        return 0
    if hasattr(byte_range, "suffix"):
        return max(0, path.stat().st_size - int(byte_range.suffix))
    return int(byte_range.start if hasattr(byte_range, "start") else byte_range.offset)


# ------------------------------------------------------------------------------------------------ replacing


def refuse_others(place: Place) -> None:
    """Raise :class:`ParameterError` if a folder is more than one image: its other files would be lost with it."""
    found = Place(place.file, place.file, place.format)
    if not any((place.file / name).is_file() for name in _METADATA):
        what = f"{place.file} is a folder, but no Zarr store: it is never replaced"
        raise ParameterError(what, "Choose another name.", "out")
    try:
        top = _node(found, "")
        arrays = {"": top} if top.is_array else {name: _node(found, name) for name, _ in _levels(top)}
    except VolumeError as error:
        what = f"{place.file} is never replaced, since it is no Zarr store that can be read ({error.what})"
        raise ParameterError(what, "Remove it yourself, or choose another name.", "out") from error
    if not arrays or not all(node.is_array for node in arrays.values()):
        what = f"{place.file} is never replaced, since it is a group of arrays, not one image"
        raise ParameterError(what, "Remove it yourself, or choose another name.", "out")
    others = list(islice(_others(place.file, {tuple(filter(None, k.split("/"))): n for k, n in arrays.items()}), 4))
    if others:
        listed = f"{', '.join(others[:3])}{' and more' if len(others) > 3 else ''}"
        what = f"{place.file} holds more than its image, which would be lost: {listed}"
        raise ParameterError(what, "Remove it yourself, or choose another name.", "out")


def _others(folder: Path, arrays: Mapping[tuple[str, ...], _Node]) -> Iterator[str]:
    """What is in a store, relative to its folder, and is neither metadata nor a chunk of its arrays."""
    above = {parts[:count] for parts in arrays for count in range(len(parts) + 1)}

    def is_own(parts: tuple[str, ...], is_folder: bool) -> bool:
        if is_folder and parts in above:
            return True
        if not is_folder and parts[:-1] in above and parts[-1] in (*_METADATA, ".zmetadata"):
            return True
        owners = ((parts[len(of) :], node) for of, node in arrays.items() if parts[: len(of)] == of)
        return any(_is_chunk(node, below, is_folder) for below, node in owners)

    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        where = waiting.pop()
        with os.scandir(folder.joinpath(*where)) as found:
            for entry in sorted(found, key=lambda item: item.name):
                parts, is_folder = (*where, entry.name), entry.is_dir(follow_symlinks=False)
                if not is_own(parts, is_folder) or not (is_folder or entry.is_file(follow_symlinks=False)):
                    yield "/".join(parts) + "/" * is_folder
                elif is_folder:
                    waiting.append(parts)


def _is_chunk(node: _Node, parts: tuple[str, ...], is_folder: bool) -> bool:
    """Whether the path below an array's folder is that of a chunk, or of a folder of chunks."""
    numbers = [number for part in parts for number in part.split(".")]
    if node.version == 3 and numbers[:1] == ["c"]:
        numbers = numbers[1:]
    elif not numbers:
        return False
    count = len(numbers)
    return all(map(str.isdecimal, numbers)) and (count < len(node.shape) if is_folder else count == len(node.shape))
