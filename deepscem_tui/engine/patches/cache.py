"""A copy, for the time of a training, of what cannot be read quickly where it is: one file in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.patches.raw_arrays import RawArray, RawFile
from deepscem_tui.engine.patches.shared_arrays import SharedArray
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.system.space import free_bytes, is_full, no_room

__all__ = ["CHUNK", "Cache", "opened_cache"]


CHUNK: Shape = (8, 64, 64)  # 2D and 3D patches each touch few voxels that they do not need
_SPARE = 1 << 30  # bytes of the disk that are left free


class CachedArray:
    """An array (Z, Y, X) that is filled a slab at a time, in order, and read at any place afterwards."""

    def __init__(self, cache: Cache, shape: Shape, dtype: npt.DTypeLike, start: int) -> None:
        self._cache, self._shape, self._dtype = cache, shape, np.dtype(dtype)
        self._start = self._next = start

    def __setitem__(self, place: tuple[slice, slice], slab: npt.NDArray[Any]) -> None:
        """Append slices and rows (n, m, X), as to an array: from where a chunk begins to where one, or all, end.

        Raises:
            ResourceError: the disk is full.
        """
        slab = np.pad(slab, [(0, -n % c) for n, c in zip(slab.shape, CHUNK, strict=True)])
        counts = [n // c for n, c in zip(slab.shape, CHUNK, strict=True)]
        split = slab.reshape(counts[0], CHUNK[0], counts[1], CHUNK[1], counts[2], CHUNK[2])
        content = np.ascontiguousarray(split.transpose(0, 2, 4, 1, 3, 5), self._dtype)
        self._cache.write(self._next, content)
        self._next += content.nbytes

    def filled(self) -> RawArray:
        """The array, to be read."""
        counts = [-(-n // c) for n, c in zip(self._shape, CHUNK, strict=True)]
        step = int(np.prod(CHUNK)) * self._dtype.itemsize
        offsets = (self._start + np.arange(np.prod(counts), dtype=np.int64) * step).reshape(counts)
        return RawArray(self._cache.reader, self._shape, self._dtype, CHUNK, offsets)


class Cache:
    """The file, and what it may still grow by.

    Attributes:
        folder: Where it lies, which goes when the training is over.
    """

    def __init__(self, path: Path, report: Reporter) -> None:
        self._path, self._report = path, report
        self.folder = path.parent
        self._file = path.open("wb", buffering=0)
        self._size = 0
        self._told = False
        self._n_shared = 0
        self.reader = RawFile(path)

    def arrays(self, shape: Shape, kinds: list[npt.DTypeLike]) -> list[CachedArray]:
        """Arrays to be filled; none, with a warning, where the disk has no room for them."""
        if not kinds:
            return []
        sizes = [_padded_bytes(shape, kind) for kind in kinds]
        free = free_bytes(self._path.parent)
        where = f"{self._path.parent} ({words.amount(free, 'B')} are free)"
        if sum(sizes) + _SPARE > free:
            what = f"There is no room for {words.amount(sum(sizes), 'B')} in {where}"
            self._report.warning(f"{what}: samples are read from the data set again and again, which is slow")
            return []
        if not self._told:
            self._report.message(f"What does not fit into memory is copied for the training to {where}")
            self._told = True
        starts = self._size + np.cumsum([0, *sizes])
        self._size = int(starts[-1])
        return [CachedArray(self, shape, kind, int(start)) for kind, start in zip(kinds, starts[:-1], strict=True)]

    def shared(self, shape: Sequence[int], dtype: npt.DTypeLike) -> SharedArray | None:
        """An array beside the file, to be filled, for what fits into memory; None, with a warning, without room."""
        self._n_shared += 1
        try:
            return SharedArray(self.folder / f"shared-{self._n_shared:04}.raw", shape, dtype)
        except ResourceError as error:
            self._report.warning(f"{error.what}: patches are made by threads instead of processes, which is slower")
            return None

    def write(self, offset: int, content: npt.NDArray[Any]) -> None:
        """Write a contiguous array at a place."""
        try:
            self._file.seek(offset)
            buffer = content.data.cast("B")
            while buffer:
                buffer = buffer[self._file.write(buffer) :]
        except OSError as error:
            if is_full(error):
                raise no_room(self._path, error, self._size) from error
            what = f"{self._path} cannot be written: {error.strerror or error}"
            raise ResourceError(what, "Free some space, or give --runs-dir a folder on another disk.") from error

    def close(self) -> None:
        self._file.close()
        self.reader.close()


def _padded_bytes(shape: Shape, kind: npt.DTypeLike) -> int:
    return np.dtype(kind).itemsize * int(np.prod([-(-n // c) * c for n, c in zip(shape, CHUNK, strict=True)]))


@contextmanager
def opened_cache(folder: Path, report: Reporter) -> Iterator[Cache]:
    """A cache in a folder of its own, which is removed when the block ends, and before if an earlier one left it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cache = Cache(folder / "voxels.raw", report)
    try:
        yield cache
    finally:
        cache.close()
        shutil.rmtree(folder, ignore_errors=True)
