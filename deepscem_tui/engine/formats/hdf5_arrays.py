"""Arrays in HDF5 files of others, as CREMI, ilastik, BigDataViewer and Fiji keep them.

Nothing that leads out of a file is followed, and a file that was not seen before is looked through by another process
first: see :mod:`deepscem_tui.engine.datasets.tree` and :mod:`deepscem_tui.engine.datasets.probing`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.datasets.layout import GZIP_LEVEL, SCALE, MemberWriter
from deepscem_tui.engine.datasets.probing import probe
from deepscem_tui.engine.datasets.tree import Unusable, check_stored, child, names
from deepscem_tui.engine.errors import ParameterError, VolumeError
from deepscem_tui.engine.formats.arrays import ArraySource, Layout, check_chunks, layout_of, offer, offered
from deepscem_tui.engine.formats.arrays import explained as library_explained
from deepscem_tui.engine.formats.bands import chunks_for
from deepscem_tui.engine.formats.hdf5_chunks import CheckedArray
from deepscem_tui.engine.formats.plain_files import check_dtype
from deepscem_tui.engine.formats.table import Place
from deepscem_tui.engine.formats.tiff_metadata import METRES, length_unit
from deepscem_tui.engine.formats.volume_writer import Target, VolumeWriter
from deepscem_tui.engine.system.devices import available_cores

__all__ = ["array_writer", "hint_in", "open_array", "refuse_others"]

_MOST_OBJECTS = 2000  # that are looked at in a file


@contextmanager
def open_array(place: Place) -> Iterator[ArraySource]:
    """Open an array of an HDF5 file.

    Raises:
        VolumeError: the file or the array is damaged, leads elsewhere, or is no image; or no array is named.
    """
    with _opened(place.file) as file:
        if not place.inside:
            raise VolumeError(f"{place.path} needs the name of an array in it", _hint(place.file, file))
        with library_explained(place):
            source = _source(place, _found(place, file))
        yield source


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    probe(path, VolumeError)
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        if not h5py.is_hdf5(path):
            raise VolumeError(f"{path} is no HDF5 file", "Check the file.") from error
        what = f"{path} is damaged ({words.reason(error)})"
        raise VolumeError(what, "Copy it again, or restore it from a copy.") from error
    with file:
        yield file


def _found(place: Place, file: h5py.File) -> h5py.Dataset:
    item: Any = file
    try:
        for name in place.inside.split("/"):
            if not isinstance(item, h5py.Group) or name not in names(item):
                raise VolumeError(f"{place.file} has no array {place.inside}", _hint(place.file, file))
            item = child(item, name)
        if not isinstance(item, h5py.Dataset):
            raise VolumeError(f"{place.path} is a group, not an array", _hint(place.file, file))
        if item.dtype.hasobject or item.dtype.names is not None or item.shape is None:
            raise VolumeError(f"{place.path} holds no numbers", _hint(place.file, file))
        check_stored(item)
    except Unusable as error:
        raise VolumeError(f"{place.path} {error}", "Save it as an array of the file itself.") from error
    return item


def _source(place: Place, array: h5py.Dataset) -> ArraySource:
    check_dtype(place.path, array.dtype)
    layout = layout_of(place, array.shape, _axes(array))
    chunks = array.chunks or (1,) * len(array.shape)
    check_chunks(place, chunks, array.dtype)
    kind, checked = array.dtype.newbyteorder("="), CheckedArray(place, array)

    def read(z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        return layout.read(checked, z, y, x).astype(kind, copy=False)

    source = ArraySource(place, layout.shape, array.dtype, read, layout.along(chunks, 1))
    source.warnings += layout.warnings
    if array.dtype == np.uint8:
        source.scale = _scale(array)
    found = _voxel_size(array, layout)
    if found is not None:
        source.voxel_size, source.voxel_unit = found
    return source


def _scale(array: h5py.Dataset) -> float | None:
    """What a value of 1 stands for in probabilities that this program has written as whole numbers."""
    try:
        scale = float(array.attrs[SCALE])
    except (KeyError, TypeError, ValueError, OSError, RuntimeError):
        return None
    return scale if 0 < scale <= 1 else None


def _axes(array: h5py.Dataset) -> list[str] | None:
    """Names of the axes, by ilastik's ``axistags`` or HDF5's labels of dimensions; None where there are none."""
    found: list[str] = []
    try:
        if "axistags" in array.attrs:
            found = [str(axis["key"]).lower() for axis in json.loads(array.attrs["axistags"])["axes"]]
        else:  # as the attribute that it is: HDF5's own way to it crashes on damaged files
            given = array.attrs.get("DIMENSION_LABELS", ())
            found = [(one.decode() if isinstance(one, bytes) else str(one)).lower() for one in given]
    except (ValueError, KeyError, TypeError, OSError, RuntimeError):
        return None
    known = len(found) == len(array.shape) == len(set(found)) and {"y", "x"} <= set(found) and all(found)
    return found if known else None


def _voxel_size(array: h5py.Dataset, layout: Layout) -> tuple[tuple[float, float, float], str] | None:
    """Of ``element_size_um``, or ``resolution`` in ``unit`` or else nanometres, as CREMI defines it.

    Source: https://cremi.org/data/
    """
    for name, unit in (("element_size_um", "µm"), ("resolution", "nm")):
        try:
            values = np.asarray(array.attrs[name], float).reshape(-1) if name in array.attrs else np.zeros(0)
            given = array.attrs.get("unit", "") if name == "resolution" else ""
        except (ValueError, TypeError, OSError, RuntimeError):
            continue
        given = given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)
        unit = length_unit(given) if given else unit
        sizes = layout.voxel_size(values.tolist())
        if sizes is not None and unit:
            return sizes, unit
    return None


# ------------------------------------------------------------------------------------------------ what there is


def arrays_in(file: h5py.File) -> list[tuple[str, tuple[int, ...], np.dtype[Any]]]:
    """Names, shapes and types of the arrays that may be images, those of one of the first thousands of objects."""
    found: list[tuple[str, tuple[int, ...], np.dtype[Any]]] = []
    looked, groups, seen = 0, [("", file)], set()
    while groups and looked < _MOST_OBJECTS:
        prefix, group = groups.pop(0)
        try:
            inside = sorted(names(group), key=words.natural)
        except Unusable:
            continue
        for name in inside:
            looked += 1
            try:
                item = child(group, name)
                address = h5py.h5o.get_info(item.id).addr
            except (Unusable, OSError, RuntimeError, ValueError):
                continue
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append((f"{prefix}/{name}", item))
            elif isinstance(item, h5py.Dataset) and len(item.shape or ()) >= 2 and item.dtype.kind in "biuf":
                found.append((f"{prefix}/{name}", item.shape, item.dtype))
    return found


def _hint(path: Path, file: h5py.File) -> str:
    return offer([offered(path, name.strip("/"), shape, kind.name) for name, shape, kind in arrays_in(file)])


def hint_in(path: Path, file: h5py.File) -> str:
    """What to type for the arrays of an HDF5 file, as a hint; empty if it has none."""
    return _hint(path, file) if arrays_in(file) else ""


# ------------------------------------------------------------------------------------------------ writing


class _ArrayWriter(VolumeWriter):
    """An array of an HDF5 file."""

    def __init__(self, target: Target, member: MemberWriter) -> None:
        super().__init__(target)
        self._member = member

    def _write(self, slab: npt.NDArray[Any]) -> None:
        self._member[self.written : self.written + len(slab)] = slab


@contextmanager
def array_writer(target: Target) -> Iterator[VolumeWriter]:
    """Write an HDF5 file with one array, in chunks that are compressed."""
    with h5py.File(target.temporary, "w") as file, ThreadPoolExecutor(available_cores()) as pool:
        array = file.create_dataset(
            target.place.inside,
            target.shape,
            target.stored,
            chunks=chunks_for(target.shape, target.stored.itemsize),
            compression="gzip",
            compression_opts=GZIP_LEVEL,
        )
        for axis, name in enumerate("zyx"):
            array.dims[axis].label = name
        if target.scale is not None:
            array.attrs[SCALE] = target.scale
        if target.voxel_size is not None:
            metres = METRES[target.voxel_unit]
            for name, unit in (("resolution", "nm"), ("element_size_um", "µm")):
                array.attrs[name] = [float(f"{size * metres / METRES[unit]:.12g}") for size in target.voxel_size]
        member = MemberWriter(array, pool)
        yield _ArrayWriter(target, member)
        member.finish()


def refuse_others(place: Place) -> None:
    """Raise :class:`ParameterError` if a file that would be replaced holds, or may hold, anything but the array."""
    try:
        with _opened(place.file) as file:
            others = list(islice(_others(file, place.inside.split("/")), 4))
    except (VolumeError, Unusable, OSError) as error:
        reason = error.what if isinstance(error, VolumeError) else str(error)
        what = f"{place.file} is never replaced, since what it holds cannot be told ({reason})"
        raise ParameterError(what, "Remove it yourself, or choose another name.", "out") from error
    if others:
        listed = f"{', '.join(others[:3])}{' and more' if len(others) > 3 else ''}"
        what = f"{place.file} holds more than {place.inside}, which would be lost: {listed}"
        raise ParameterError(what, "Give the result a file of its own.", "out")


def _others(file: h5py.File, parts: Sequence[str]) -> Iterator[str]:
    """Whatever is in a file beside an array and the groups that it is in, whatever that may be."""
    group: Any = file
    for index, part in enumerate(parts):
        inside = names(group)
        yield from (f"/{'/'.join([*parts[:index], name])}" for name in inside if name != part)
        if part not in inside:
            return
        group = child(group, part)
        is_last = index == len(parts) - 1
        if isinstance(group, h5py.Dataset) != is_last:
            yield f"/{'/'.join(parts[: index + 1])}"
            return
