"""Voxels that lie one after the other in a file: NumPy files, and uncompressed TIFF files."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.formats import Place

BLOCK_BYTES = 64 * 2**20
COPY_AGAIN = "The file is incomplete: copy or export it again."


class PlainSource:
    """Voxels in C order from some byte of a file on.

    They are read, not mapped: pages of a mapped file count as the process's memory until the system takes them back.

    Args:
        path: For messages.
        file: Open for reading, without a buffer.
        offset: Where the first voxel is.
        shape: (Z, Y, X).
        stored: Type of the voxels as they are in the file.

    Attributes:
        has_rows: Whether :meth:`read_row` reads no more than a row.
    """

    has_rows = True

    def __init__(
        self, path: Path, file: BinaryIO, offset: int, shape: tuple[int, int, int], stored: np.dtype[Any]
    ) -> None:
        self.path, self.file, self.offset, self.shape, self.stored = path, file, offset, shape, stored
        self.dtype = stored.newbyteorder("=")
        self.voxel_size: tuple[float, float, float] | None = None
        self.voxel_unit = ""
        self.warnings: tuple[str, ...] = ()
        self.scale: float | None = None

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (n, Y, X) with the slices from ``z0`` on."""
        plane = self.shape[1] * self.shape[2] * self.stored.itemsize
        self._read(self.offset + z0 * plane, out)

    def read_row(self, z: int, y: int, columns: tuple[int, int]) -> npt.NDArray[Any]:
        """A part of a row (X,), from the first column to before the second.

        Raises:
            VolumeError: there is no such row, or the file is damaged there.
        """
        depth, height, width = self.shape
        if not (0 <= z < depth and 0 <= y < height):
            raise VolumeError(f"{self.path} has no slice {z} or row {y}")
        values = np.empty(columns[1] - columns[0], self.dtype)
        self._read(self.offset + ((z * height + y) * width + columns[0]) * values.itemsize, values)
        return values

    def _read(self, offset: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` with the voxels from a byte of the file on."""
        memory = out.reshape(-1).view(np.uint8).data
        done = 0
        try:
            self.file.seek(offset)
            while done < len(memory):
                count = self.file.readinto(memory[done:])  # type: ignore[attr-defined]
                if not count:
                    raise VolumeError(f"{self.path} ends in the middle of its data", COPY_AGAIN)
                done += count
        except EOFError as error:  # of a compressed file
            raise VolumeError(f"{self.path} ends in the middle of its data", COPY_AGAIN) from error
        except (OSError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise VolumeError(f"{self.path} cannot be read: {reason}", COPY_AGAIN) from error
        if not self.stored.isnative:
            out.byteswap(inplace=True)
        if self.stored.kind == "b":  # any byte but 0 is true
            np.not_equal(out.view(np.uint8), 0, out=out)


class FortranSource(PlainSource):
    """Voxels in Fortran order: X is the slowest axis, so that any slice is spread over the whole file."""

    has_rows = False

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        depth, height, width = self.shape
        column = depth * height * self.stored.itemsize
        step = max(1, BLOCK_BYTES // column)
        for x in range(0, width, step):
            block = np.empty((min(step, width - x), height, depth), self.dtype)
            self._read(self.offset + x * column, block)
            out[:, :, x : x + len(block)] = block[:, :, z0 : z0 + len(out)].transpose(2, 1, 0)


@contextmanager
def open_npy(path: Path) -> Iterator[PlainSource]:
    """Open a NumPy file.

    Raises:
        VolumeError: if it is no NumPy file, is damaged, or holds something else than a 2D or 3D array of numbers.
    """
    with path.open("rb", buffering=0) as file:
        yield _npy_source(path, file)


def open_npy_place(place: Place) -> AbstractContextManager[PlainSource]:
    """As :func:`open_npy`, for the table of formats."""
    return open_npy(place.file)


def _npy_source(path: Path, file: BinaryIO) -> PlainSource:
    shape, fortran, stored = _npy_header(path, file)
    if stored.hasobject:
        raise VolumeError(f"{path} holds Python objects, not numbers", "Save it as an array of numbers.")
    check_dtype(path, stored)
    volume_shape = as_volume_shape(path, shape)
    offset, size = file.tell(), path.stat().st_size
    needed = offset + prod(shape) * stored.itemsize
    if needed > size:
        raise VolumeError(f"{path} should have {needed} bytes for its shape {shape}, but it has {size}", COPY_AGAIN)
    if not fortran:
        return PlainSource(path, file, offset, volume_shape, stored)
    source = FortranSource(path, file, offset, volume_shape, stored)
    source.warnings = ("it is stored in Fortran order: each slab takes a pass over the whole file",)
    return source


def _npy_header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if version > (2, 0):  # (3, 0) is for field names, which a plain array has not
            raise ValueError(f"version {version} of the format is for arrays with named fields")
        with warnings.catch_warnings():  # that the file is of Python 2
            warnings.simplefilter("ignore")
            shape, fortran, stored = reader(file)
        if any(length < 0 for length in shape):
            raise ValueError(f"impossible shape {shape}")
    except OSError:
        raise
    except Exception as error:  # the header is a Python literal: a damaged one raises nearly anything
        hint = "Save it with numpy.save, or convert it to TIFF."
        raise VolumeError(f"{path} is no NumPy file, or a damaged one ({words.reason(error)})", hint) from error
    return shape, fortran, stored


def check_dtype(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise :class:`VolumeError` unless voxels are numbers that everything here can work with."""
    if dtype.kind == "c":
        raise VolumeError(f"{path} holds complex numbers", "Save their real part or their magnitude.")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise VolumeError(f"{path} holds voxels of type {dtype}", "Save it as uint8, uint16, int16 or float32.")


def as_volume_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of an array without names for its axes as (Z, Y, X).

    Raises:
        VolumeError: if it has no voxels, too few or too many axes, or is a colour image.
    """
    if 0 in shape:
        raise VolumeError(f"{path} has no voxels: its shape is {shape}", "Export it again.")
    if len(shape) < 2:
        raise VolumeError(f"{path} is no image: its shape is {shape}", "It must be (Y, X) or (Z, Y, X).")
    kept = tuple(length for length in shape if length != 1) if len(shape) > 3 else shape
    if len(kept) > 3:
        hint = "Save one channel of one time point, as (Y, X) or (Z, Y, X)."
        raise VolumeError(f"{path} has {len(kept)} dimensions, its shape is {shape}", hint)
    if len(kept) == 3 and kept[2] in (3, 4) and min(kept[:2]) >= 16:
        raise VolumeError(f"{path} looks like a colour image: its shape is {shape}", "Convert it to grey values.")
    depth, height, width = (1,) * (3 - len(kept)) + kept
    return depth, height, width
