"""Image files in and out: volumes (Z, Y, X) of one channel, read and written a slab at a time.

What formats there are is declared in :mod:`deepscem_tui.engine.formats`. A 2D image is a volume of one slice.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import ResourceError, VolumeError
from deepscem_tui.engine.formats import Place, place_of, refuse_unknown
from deepscem_tui.engine.formats.volume_writer import VolumeWriter, create_volume
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.slabs import SLAB_BYTES
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.devices import available_memory
from deepscem_tui.engine.system.files import missing_hint

__all__ = [
    "LabelValues",
    "ValueRange",
    "Volume",
    "VolumeWriter",
    "create_volume",
    "open_volume",
    "value_range",
]

_log = logging.getLogger(__name__)

LARGE_BYTES = 2**28
LISTED_VALUES = 16
CHUNK = 2**16  # voxels looked at together: what is made of them stays in the processor's cache


class Source(Protocol):
    """A file's voxels, and what is known of them."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_size: tuple[float, float, float] | None
    voxel_unit: str
    warnings: tuple[str, ...]
    scale: float | None

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (n, Y, X) with the slices from ``z0`` on."""


class Volume:
    """An image file that is open for reading; for one thread at a time.

    Attributes:
        path: The file.
        shape: (Z, Y, X); Z is 1 for a 2D image.
        dtype: Type of the voxels as they are read: bool, integer or float, in native byte order.
        voxel_size: Size of a voxel (Z, Y, X) in ``voxel_unit``, if the file gives a trustworthy one.
        voxel_unit: Such as "nm" or "µm"; empty when there is no voxel size.
        warnings: What is unusual and what is done about it, each to be read after the file's name.
        scale: What a value of 1 stands for in probabilities stored as whole numbers; None in any other file.
        source: What reads it: some can read less than slices.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self.shape = source.shape
        self.dtype = source.dtype
        self.voxel_size = source.voxel_size
        self.voxel_unit = source.voxel_unit
        self.warnings = source.warnings
        self.scale = source.scale
        self.source = source

    @property
    def name(self) -> str:
        """Of the file, with what of it this is."""
        return place_of(self.path).name

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels, uncompressed."""
        return prod(self.shape) * self.dtype.itemsize

    def read(self, z0: int, z1: int) -> npt.NDArray[Any]:
        """Read the slices from ``z0`` to before ``z1`` as a new array (z1 - z0, Y, X).

        Raises:
            VolumeError: if the file is damaged there.
            ResourceError: if memory does not suffice.
        """
        if not 0 <= z0 <= z1 <= self.shape[0]:
            raise IndexError(f"slices {z0}:{z1} of {self.shape[0]}")
        shape = (z1 - z0, *self.shape[1:])
        if prod(shape) * self.dtype.itemsize > LARGE_BYTES:
            self._refuse_too_large(shape)
        out = np.empty(shape, self.dtype)
        self.source.read_into(z0, out)
        return out

    def _refuse_too_large(self, shape: tuple[int, int, int]) -> None:
        """Raise rather than have the system kill the process: a single slice may be larger than the memory."""
        needed, free = prod(shape) * self.dtype.itemsize, available_memory()
        if needed > free:
            what = (
                f"{shape[0]} slices of {self.path} need {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} are free"
            )
            raise ResourceError(what, "Use a machine with more memory, or split the image.")

    def slabs(self, max_bytes: int = SLAB_BYTES) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """Read everything once, as (z0, z1, slices) of at most ``max_bytes``, but at least one slice."""
        plane = self.shape[1] * self.shape[2] * self.dtype.itemsize
        step = max(1, max_bytes // plane)
        for z0 in range(0, self.shape[0], step):
            z1 = min(z0 + step, self.shape[0])
            yield z0, z1, self.read(z0, z1)


@contextmanager
def open_volume(path: Path) -> Iterator[Volume]:
    """Open an image file, or an image in a file as ``file.h5:/volumes/raw``; nothing but its metadata is read.

    Raises:
        VolumeError: if the file does not exist, may not be read, is damaged or incomplete, or holds something else
            than one 2D or 3D image of one channel.
        MissingLibraryError: if its format needs a library that is not installed.
    """
    path = Path(path)
    place = place_of(path)
    _check_file(place)
    with refuse_unknown(place, "read").open(place) as source:
        _log.debug("read %s: %s voxels of type %s", path, source.shape, source.dtype)
        yield Volume(path, source)


def _check_file(place: Place) -> None:
    """Raise unless this is a file, or a store, that can be opened without waiting for anybody."""
    path = place.file
    try:
        status = path.stat()
        if place.format is not None and place.format.folder:
            if not stat.S_ISDIR(status.st_mode):
                raise VolumeError(f"{path} is no folder, as a {place.format.name} store is", "Copy it again, unpacked.")
            return
        if stat.S_ISDIR(status.st_mode):
            raise VolumeError(f"{path} is a folder, not an image file", "Give one image file.")
        if not stat.S_ISREG(status.st_mode):
            raise VolumeError(f"{path} is no regular file", "Give an image file.")
        refuse_unknown(place, "read")
        if status.st_size == 0:
            raise VolumeError(f"{path} is empty", "Copy or export it again.")
        path.open("rb").close()
    except FileNotFoundError:
        raise VolumeError(f"There is no file {path}", missing_hint(path)) from None
    except PermissionError:
        raise VolumeError(f"{path} may not be read", "Ask its owner for permission to read it.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VolumeError(f"{path} cannot be opened: {reason}", "Check its name and folder.") from error


@dataclass(frozen=True)
class ValueRange:
    """The values found in a volume.

    Args:
        low: Smallest finite value, as a Python number.
        high: Largest finite value.
        non_finite: Voxels that are NaN or infinite.
        voxels: All voxels.
    """

    low: float
    high: float
    non_finite: int
    voxels: int

    @property
    def constant(self) -> bool:
        """Whether all finite voxels have the same value."""
        return self.low == self.high


def value_range(volume: Volume, report: Reporter, stop: Stop) -> ValueRange:
    """Find the smallest and the largest value, in one pass.

    Raises:
        VolumeError: if no voxel is finite, or the file is damaged.
        Stopped: if a stop was requested.
    """
    task, slices = f"Range of {volume.name}", volume.shape[0]
    extremes: list[Any] = []
    non_finite = 0
    report.progress(task, 0, slices, "slices")
    for _, z1, slab in volume.slabs():
        stop.check()
        low, high = slab.min(), slab.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = slab[np.isfinite(slab)]
            non_finite += slab.size - finite.size
            if finite.size:
                extremes += [finite.min().item(), finite.max().item()]
        else:
            extremes += [low.item(), high.item()]
        report.progress(task, z1, slices, "slices")
    if not extremes:
        raise VolumeError(f"{volume.path} has no finite voxel: all are NaN or infinite", "Export it again.")
    return ValueRange(min(extremes), max(extremes), non_finite, prod(volume.shape))


@dataclass
class LabelValues:
    """The distinct values of a label volume, gathered slab by slab while it is copied.

    Attributes:
        voxels: Voxels seen.
        foreground: Those above 0.
        non_finite: Those that are NaN or infinite; NaN and -inf are background, +inf is foreground.
        more: Whether there are values beyond those listed.
    """

    voxels: int = 0
    foreground: int = 0
    non_finite: int = 0
    more: bool = False
    _found: set[float] = field(default_factory=set)

    @property
    def values(self) -> tuple[float, ...]:
        """Values found, ascending: all of them, or some when there are ``more``."""
        return tuple(sorted(self._found))

    @property
    def usual(self) -> bool:
        """Whether this is a plain mask: nothing but 0 and 1, or 0 and 255."""
        return not self.more and not self.non_finite and (self._found <= {0, 1} or self._found <= {0, 255})

    def __str__(self) -> str:
        """Such as ``0, 1, 2`` or ``0, 3, 5, 8 and more``."""
        text = ", ".join(f"{value:g}" if isinstance(value, float) else str(int(value)) for value in self.values)
        text += " and more" if self.more else ""
        return f"{text}, NaN or infinite" if self.non_finite else text

    def update(self, slab: npt.NDArray[Any]) -> None:
        """Take in further voxels: an array of bool, integers or floats of any shape."""
        flat = slab.reshape(-1)
        self.voxels += flat.size
        for start in range(0, flat.size, CHUNK):
            chunk = flat[start : start + CHUNK]
            self.foreground += int(np.count_nonzero(chunk > 0))
            self._look(chunk)

    def _look(self, chunk: npt.NDArray[Any]) -> None:
        """Sort only what is not known yet, and nothing any more once the list is full."""
        if chunk.dtype.kind == "f":
            finite = np.isfinite(chunk)
            if not finite.all():
                self.non_finite += int(chunk.size - np.count_nonzero(finite))
                chunk = chunk[finite]
        if self.more:
            return
        unknown = np.ones(chunk.shape, bool)
        for value in self._found:
            unknown &= chunk != value
        if unknown.any():
            self._add(np.unique(chunk[unknown]))

    def _add(self, values: npt.NDArray[Any]) -> None:
        new = [value for value in values.tolist() if value not in self._found]
        room = LISTED_VALUES - len(self._found)
        self.more = self.more or len(new) > room
        self._found.update(new[:room])
