"""Numbers of a volume's voxels in a file without a name, which is gone when it is closed, however the process ends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.system.space import check_room, is_full, no_room

__all__ = ["Scratch", "open_scratch"]

Ids = npt.NDArray[np.uint32]


class Scratch:
    """A volume (Z, Y, X) of uint32 on the disk: written slab by slab, then read and changed in boxes.

    It is read and written, not mapped: pages of a mapped file would count as memory of the process.
    """

    dtype = np.dtype(np.uint32)

    def __init__(self, file: Any, shape: Shape, folder: Path) -> None:
        self.shape = shape
        self._file, self._folder = file, folder

    def write(self, z0: int, slab: Ids) -> None:
        """Write the slices from ``z0`` on."""
        self._put(z0 * self._plane, np.ascontiguousarray(slab, self.dtype))

    def read(self, z0: int, z1: int) -> Ids:
        """The slices from ``z0`` to before ``z1``."""
        return self._get(z0 * self._plane, (z1 - z0) * self._plane).reshape(z1 - z0, *self.shape[1:])

    def read_box(self, box: Sequence[slice]) -> Ids:
        """A box (Z, Y, X), of which whole rows are read, a slice at a time."""
        z, y, x = box
        found = np.empty([side.stop - side.start for side in box], self.dtype)
        for index, rows in enumerate(self._rows(z, y)):
            found[index] = rows[:, x]
        return found

    def change_box(self, box: Sequence[slice], where: npt.NDArray[np.bool_], ids: Ids) -> None:
        """Replace voxels of a box.

        Args:
            where: (Z, Y, X) of the box: which of them.
            ids: Of the same shape.
        """
        z, y, x = box
        for index, rows in enumerate(self._rows(z, y)):
            if where[index].any():
                rows[:, x][where[index]] = ids[index][where[index]]
                self._put((z.start + index) * self._plane + y.start * self.shape[2], rows)

    @property
    def _plane(self) -> int:
        return self.shape[1] * self.shape[2]

    def _rows(self, z: slice, y: slice) -> Iterator[Ids]:
        for slice_number in range(z.start, z.stop):
            first = slice_number * self._plane + y.start * self.shape[2]
            yield self._get(first, (y.stop - y.start) * self.shape[2]).reshape(-1, self.shape[2])

    def _get(self, first: int, count: int) -> Ids:
        found = np.empty(count, self.dtype)
        self._file.seek(first * self.dtype.itemsize)
        if self._file.readinto(found.view(np.uint8).data) != found.nbytes:
            raise ValueError(f"voxels from {first} on were never written")
        return found

    def _put(self, first: int, values: Ids) -> None:
        try:
            self._file.seek(first * self.dtype.itemsize)
            self._file.write(values.data)
            self._file.flush()
        except OSError as error:
            if is_full(error):
                raise no_room(self._folder / "objects", error, prod(self.shape) * self.dtype.itemsize) from error
            raise ResourceError(f"A temporary file in {self._folder} cannot be written: {error.strerror}") from error


@contextmanager
def open_scratch(shape: Shape, folder: Path) -> Iterator[Scratch]:
    """Make a volume of numbers on the disk that holds a folder, 4 bytes a voxel.

    Raises:
        ResourceError: the disk has less room.
    """
    folder = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    check_room({folder / "objects": prod(shape) * Scratch.dtype.itemsize})
    with tempfile.TemporaryFile(dir=folder) as file:
        yield Scratch(file, shape, folder)
