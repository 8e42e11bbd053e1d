"""Copies, for the time of a training, of what cannot be read quickly where it is: a few files in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.patches.raw_arrays import RawArray, RawFile
from deepscem_tui.engine.reporting import Reporter

__all__ = ["CHUNK", "Cache", "CacheFile", "opened_cache"]

Shape = tuple[int, int, int]

CHUNK: Shape = (8, 64, 64)  # 2D and 3D patches each touch few voxels that they do not need
_SPARE = 1 << 30  # bytes of the disk that are left free


class CacheFile:
    """An array (Z, Y, X) that is written a slab at a time, in order, and read at any place afterwards."""

    def __init__(self, path: Path, shape: Shape, dtype: npt.DTypeLike) -> None:
        self._path, self._shape, self._dtype = path, shape, np.dtype(dtype)
        self._file: BinaryIO = path.open("wb")

    def __setitem__(self, place: tuple[slice, slice], slab: npt.NDArray[Any]) -> None:
        """Append slices and rows (n, m, X), as to an array: from where a chunk begins to where one, or all, end.

        Raises:
            ResourceError: the disk is full.
        """
        slab = np.pad(slab, [(0, -n % c) for n, c in zip(slab.shape, CHUNK, strict=True)])
        counts = [n // c for n, c in zip(slab.shape, CHUNK, strict=True)]
        split = slab.reshape(counts[0], CHUNK[0], counts[1], CHUNK[1], counts[2], CHUNK[2])
        content = np.ascontiguousarray(split.transpose(0, 2, 4, 1, 3, 5), self._dtype)
        try:
            self._file.write(content.data.cast("B"))
        except OSError as error:
            what = f"{self._path} cannot be written: {error.strerror or error}"
            raise ResourceError(what, "Free some space, or give --runs-dir a folder on another disk.") from error

    def finish(self) -> tuple[RawFile, RawArray]:
        """Read from now on."""
        self._file.close()
        counts = [-(-n // c) for n, c in zip(self._shape, CHUNK, strict=True)]
        step = int(np.prod(CHUNK)) * self._dtype.itemsize
        offsets = (np.arange(np.prod(counts), dtype=np.int64) * step).reshape(counts)
        file = RawFile(self._path)
        return file, RawArray(file, self._shape, self._dtype, CHUNK, offsets)


class Cache:
    """Makes the files, as long as the disk has room."""

    def __init__(self, folder: Path, report: Reporter) -> None:
        self._folder, self._report = folder, report
        self._readers: list[RawFile] = []
        self._n_files = 0
        self._told = False

    def has_room(self, size: int) -> bool:
        """Whether so many bytes may be written; what it takes, or that they may not, is said once."""
        free = shutil.disk_usage(self._folder).free
        fits = size + _SPARE <= free
        where = f"{self._folder} ({words.amount(free, 'B')} are free)"
        if not fits:
            what = f"There is no room for {words.amount(size, 'B')} in {where}"
            self._report.warning(f"{what}: samples are read from the data set again and again, which is slow")
        elif not self._told:
            self._told = True
            self._report.message(f"Data that do not fit into memory are copied for the training to {where}")
        return fits

    def file(self, shape: Shape, dtype: npt.DTypeLike) -> CacheFile:
        """A new file to be filled."""
        self._n_files += 1
        return CacheFile(self._folder / f"{self._n_files:04}.raw", shape, dtype)

    def finished(self, file: CacheFile) -> RawArray:
        """A file that is filled, as an array."""
        reader, array = file.finish()
        self._readers.append(reader)
        return array

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


def padded_bytes(shape: Shape, itemsize: int) -> int:
    """Bytes that an array takes in a cache."""
    return itemsize * int(np.prod([-(-n // c) * c for n, c in zip(shape, CHUNK, strict=True)]))


@contextmanager
def opened_cache(folder: Path, report: Reporter) -> Iterator[Cache]:
    """A cache in a folder of its own, which is removed when the block ends, and before if an earlier one left it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cache = Cache(folder, report)
    try:
        yield cache
    finally:
        cache.close()
        shutil.rmtree(folder, ignore_errors=True)
