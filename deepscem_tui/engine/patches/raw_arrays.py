"""Arrays read straight from a file, by several threads at once.

HDF5 lets one thread at a time read, and decodes a compressed chunk anew for each patch. What is stored as it is in
memory, in one piece or in chunks, needs no HDF5 to be read: only where in the file its parts begin. Nothing is mapped
into memory, so that a file on a server that goes away is an error and not the end of the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets.dataset import Member
from deepscem_tui.engine.errors import DataError

__all__ = ["RawArray", "RawFile", "raw_member"]


_WHOLE = 1 << 14  # voxels of a chunk's slice up to which slices are read whole
_WIDE = 4  # how many times wider than the box a chunk may be for its rows to be read whole,
_ROW_BYTES = 8 << 10  # or how long its rows may be: a disk reads no less


class RawFile:
    """A file that threads read from at once; a copy in another process opens it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()  # where the system cannot read at a place without going there first

    def __reduce__(self) -> tuple[type[RawFile], tuple[Path]]:
        return RawFile, (self.path,)

    def read(self, offset: int, target: NDArray[Any]) -> None:
        """Fill a contiguous array with the bytes from ``offset`` on.

        Raises:
            DataError: the file ends before, or cannot be read.
        """
        buffer = target.data.cast("B")
        done = 0
        try:
            while done < len(buffer):
                if hasattr(os, "preadv"):
                    count = os.preadv(self._file.fileno(), [buffer[done:]], offset + done)
                else:
                    with self._lock:
                        self._file.seek(offset + done)
                        count = self._file.readinto(buffer[done:]) or 0
                if count == 0:
                    raise DataError(f"{self.path} ends too early", "Has it been changed? Start the training anew.")
                done += count
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}", "Is its disk there?") from error

    def close(self) -> None:
        self._file.close()


class RawArray:
    """An array (Z, Y, X) in a file, read by slicing with whole numbers and slices without a step.

    Args:
        file: Where it is.
        shape: (Z, Y, X).
        dtype: Of the voxels in the file.
        chunk: Shape of a chunk; those at the border are padded.
        offsets: Where each chunk begins, int64, by its place along Z, Y, X; -1 for one that is not there: all 0.
    """

    def __init__(
        self, file: RawFile, shape: Shape, dtype: np.dtype[Any], chunk: Shape, offsets: NDArray[np.int64]
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._file = file
        self._chunk = chunk
        self._offsets = offsets

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        keys = (*keys, *[slice(None)] * (3 - len(keys)))
        ranges = [
            slice(*item.indices(n)[:2]) if isinstance(item, slice) else slice(int(item), int(item) + 1)
            for item, n in zip(keys, self.shape, strict=True)
        ]
        result = self._box(ranges)
        single = tuple(slice(None) if isinstance(item, slice) else 0 for item in keys)
        taken: NDArray[Any] = result[single]
        return taken

    def _box(self, box: Sequence[slice]) -> NDArray[Any]:
        result = np.empty([max(0, s.stop - s.start) for s in box], self.dtype)
        if not result.size:
            return result
        places = (range(s.start // c, -(-s.stop // c)) for s, c in zip(box, self._chunk, strict=True))
        for place in product(*places):
            firsts = [n * c for n, c in zip(place, self._chunk, strict=True)]
            low = [max(s.start, first) for s, first in zip(box, firsts, strict=True)]
            high = [min(s.stop, first + c) for s, first, c in zip(box, firsts, self._chunk, strict=True)]
            z, y, x = (slice(a - s.start, b - s.start) for a, b, s in zip(low, high, box, strict=True))
            target = result[z, y, x]
            offset = int(self._offsets[place])
            if offset < 0:
                target[...] = 0
            else:
                z, y, x = (slice(a - first, b - first) for a, b, first in zip(low, high, firsts, strict=True))
                self._read_part(offset, (z, y, x), target)
        return result

    def _read_part(self, offset: int, part: tuple[slice, slice, slice], target: NDArray[Any]) -> None:
        """Read a part of the chunk that begins at ``offset``."""
        z, y, x = part
        _, height, width = self._chunk
        size = self.dtype.itemsize
        if height * width <= _WHOLE:
            slices = np.empty((z.stop - z.start, height, width), self.dtype)
            self._file.read(offset + z.start * height * width * size, slices)
            target[...] = slices[:, y, x]
            return
        whole_rows = width <= _WIDE * (x.stop - x.start) or width * size <= _ROW_BYTES
        rows = np.empty((y.stop - y.start, width), self.dtype)
        for index in range(z.stop - z.start):
            first = offset + ((z.start + index) * height + y.start) * width * size
            if whole_rows:
                self._file.read(first, rows)
                target[index] = rows[:, x]
            else:
                for row in range(len(rows)):
                    line = target[index, row]
                    self._file.read(first + (row * width + x.start) * size, line)


def raw_member(member: Member, files: dict[Path, RawFile]) -> RawArray | None:
    """A member of a sample read past HDF5; None where it is stored in a way that only HDF5 can read.

    Args:
        member: Of a file that is open.
        files: Those opened here, so that each is opened once: systems let a process have few at a time.
    """
    if member.dtype.byteorder == ">" or member.id.dtype != member.dtype or member.dtype.kind not in "fiu":
        return None
    layout = member.id.get_create_plist()
    if layout.get_nfilters():
        return None
    if layout.get_layout() == h5py.h5d.CONTIGUOUS and not layout.get_external_count():
        start = member.id.get_offset()
        if start is None:
            return None
        depth, height, width = chunk = member.shape
        slice_bytes = height * width * member.dtype.itemsize
        chunk = (1, height, width)
        offsets = (start + np.arange(depth, dtype=np.int64) * slice_bytes).reshape(depth, 1, 1)
    elif member.chunks is not None and hasattr(member.id, "chunk_iter"):
        chunk = member.chunks
        offsets = np.full([-(-n // c) for n, c in zip(member.shape, chunk, strict=True)], -1, np.int64)

        def note(info: Any) -> None:
            offsets[tuple(n // c for n, c in zip(info.chunk_offset, chunk, strict=True))] = info.byte_offset

        member.id.chunk_iter(note)
    else:
        return None
    path = Path(os.fsdecode(h5py.h5f.get_name(member.id)))
    file = files.get(path) or files.setdefault(path, RawFile(path))
    array = RawArray(file, member.shape, member.dtype, chunk, offsets)
    return array if _agrees(array, member) else None


def _agrees(array: RawArray, member: Member) -> bool:
    """Whether the first and the last voxels read are those that HDF5 reads: a file may begin with something else."""
    for box in ([slice(0, min(n, 4)) for n in array.shape], [slice(max(0, n - 4), n) for n in array.shape]):
        z, y, x = box
        if not np.array_equal(array[z, y, x].view(np.uint8), np.ascontiguousarray(member[z, y, x]).view(np.uint8)):
            return False
    return True
