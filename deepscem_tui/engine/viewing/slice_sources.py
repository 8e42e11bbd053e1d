"""Parts of one plane of a volume, wherever the volume lies, and no more of the file than they need.

Measured with ``benchmarks/slices.py``:

- HDF5's chunk cache would read whole chunks, of which a slice needs an eighth (xy) to a sixty-fourth (xz, yz); without
  it, what has no filter is read byte by byte. A filtered chunk is decoded whole either way.
- Rows cost more than the voxels in them where rows are short (1 µs each for yz, whose rows are single voxels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import AXES, Plane
from deepscem_tui.engine.datasets.ignoring import Ignored
from deepscem_tui.engine.datasets.samples import Dataset, Member
from deepscem_tui.engine.datasets.tree import stored_name
from deepscem_tui.engine.formats.arrays import ArraySource, Box
from deepscem_tui.engine.formats.plain_files import PlainSource
from deepscem_tui.engine.formats.volumes import Volume
from deepscem_tui.engine.stop import Stop

__all__ = ["MemberVoxels", "Part", "VolumeVoxels", "Voxels", "uncached"]

Span = tuple[int, int]


SAMPLES = 8  # voxels read for a pixel, along either side of a picture
SAMPLES_ACROSS_SLICES = 2  # the same along Z, and along the rows of yz: each costs a row or a chunk ...
LONG = 512  # ... so that one for a pixel has to do where there are more than this
WHOLE_MASK = 2**24  # voxels of a mask that are read though fewer are kept, so that nothing vanishes
WHOLE_MASK_ACROSS_SLICES = 2**17
LARGE: dict[Plane, int] = {"xy": 2**21, "xz": 2**18, "yz": 2**14}  # voxels for which a coarse picture is worth it
COARSE = 4  # times as few voxels along each costly axis
BANDS = 8  # in which a large part is read, so that it can be given up between two
DECODED_BYTES = 2**27  # of slices of an image file decoded for one xz or yz slice
FEWEST_SLICES = 16


@dataclass(frozen=True)
class Part:
    """A part of a plane, and how large it is to be shown.

    Args:
        plane: Which axes are seen; Z goes down in xz and yz.
        index: Along the third axis.
        rows: First and behind the last, along the axis that goes down.
        columns: The same along the axis that goes across.
        pixels: Down and across: more voxels than are needed for that many need not be read.
        coarse: Whether a few voxels must do, for a picture at once.
    """

    plane: Plane
    index: int
    rows: Span
    columns: Span
    pixels: tuple[int, int]
    coarse: bool = False

    @property
    def large(self) -> bool:
        """Whether it takes long enough to read that a coarse picture is wanted first."""
        return self.lengths[0] * self.lengths[1] > LARGE[self.plane]

    @property
    def lengths(self) -> tuple[int, int]:
        """Voxels down and across."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def steps(self) -> tuple[int, int]:
        """Which of the voxels down and across to take: every first, every second ..."""
        down = self._step(0, along_rows=self.plane == "xy")
        return down, self._step(1, along_rows=self.plane != "yz")

    def _step(self, axis: int, along_rows: bool) -> int:
        length, pixels = self.lengths[axis], self.pixels[axis]
        if along_rows:
            samples: float = SAMPLES / COARSE if self.coarse else SAMPLES
        else:
            samples = SAMPLES_ACROSS_SLICES if length <= LONG else 1
            samples = samples / COARSE if self.coarse else samples
        return max(1, int(length / (samples * pixels)))


class Voxels(Protocol):
    """A volume (Z, Y, X) that parts of planes are read from; a stop is looked at while a large part is read."""

    def image(self, part: Part, stop: Stop) -> tuple[npt.NDArray[Any], bool]:
        """Grey values (rows, columns), and whether they are samples: not every voxel was read."""

    def mask(self, part: Part, stop: Stop) -> tuple[npt.NDArray[Any], bool]:
        """The same for a mask or probabilities: the largest of the voxels that a value stands for."""

    def at(self, voxel: tuple[int, int, int]) -> float:
        """The value of a voxel (z, y, x)."""


class MemberVoxels:
    """An array of a sample, or what of it is not labelled."""

    def __init__(self, member: Member | Ignored) -> None:
        self._member = member

    def image(self, part: Part, stop: Stop) -> tuple[npt.NDArray[Any], bool]:
        down, across = part.steps()
        return self._read(part, down, across, stop), (down, across) != (1, 1)

    def mask(self, part: Part, stop: Stop) -> tuple[npt.NDArray[Any], bool]:
        down, across = part.steps()
        most = WHOLE_MASK if part.plane == "xy" else WHOLE_MASK_ACROSS_SLICES
        whole = part.lengths[0] * part.lengths[1] <= most and not (part.coarse and part.large)
        first, second = (1, 1) if whole else (down, across)
        values = self._read(part, first, second, stop)
        sampled = first > 1 or second > 1
        return largest(values, down // first, across // second), sampled

    def at(self, voxel: tuple[int, int, int]) -> float:
        return float(self._member[voxel])

    def _read(self, part: Part, down: int, across: int, stop: Stop) -> npt.NDArray[Any]:
        """Rows in bands: between two of them others may read too, and nobody may want the rest any more."""
        first, last = part.rows
        bands = BANDS if part.large and not part.coarse else 1
        height = down * max(1, -(-(last - first) // (down * bands)))
        read = []
        for start in range(first, last, height):
            stop.check()
            rows = start, min(start + height, last)
            read.append(np.asarray(self._member[_selection(part, rows, down, across)]))
        return np.concatenate(read)


class VolumeVoxels:
    """An image file: what lies open in it is read by rows, arrays by their chunks, other files by whole slices."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        source = volume.source  # rows of it can be read where slices would be a thousand times as much
        self._plain = source if isinstance(source, PlainSource) and source.has_rows else None
        self._chunked = source if isinstance(source, ArraySource) else None

    def image(self, part: Part, stop: Stop) -> tuple[npt.NDArray[Any], bool]:
        down, across = part.steps()
        if self._chunked is not None:
            return self._of_chunks(self._chunked, part, stop)
        if part.plane == "xy":
            values = self._volume.read(part.index, part.index + 1)[0]
            return values[_span(part.rows, down), _span(part.columns, across)], (down, across) != (1, 1)
        if self._plain is None:
            slices = (
                FEWEST_SLICES
                if part.coarse
                else max(FEWEST_SLICES, DECODED_BYTES * self._volume.shape[0] // max(1, self._volume.nbytes))
            )
            down = max(down, -(-part.lengths[0] // slices))
        chosen = range(*_span(part.rows, down).indices(self._volume.shape[0]))
        rows = []
        for z in chosen:
            stop.check()
            rows.append(self._row(z, part)[::across])
        return np.stack(rows), (down, across) != (1, 1)

    mask = image

    def at(self, voxel: tuple[int, int, int]) -> float:
        z, y, x = voxel
        if self._chunked is not None:
            return float(self._chunked.read_part((slice(z, z + 1, 1), slice(y, y + 1, 1), slice(x, x + 1, 1)))[0, 0, 0])
        plain = self._plain
        return float(plain.read_row(z, y, (x, x + 1))[0] if plain else self._volume.read(z, z + 1)[0, y, x])

    def _of_chunks(self, source: ArraySource, part: Part, stop: Stop) -> tuple[npt.NDArray[Any], bool]:
        """Fewer slices than are there only where that leaves whole layers of chunks out."""
        down, across = part.steps()
        if part.plane != "xy":
            layer = source.layer_bytes(_box(part, down, across))
            most = FEWEST_SLICES if part.coarse else max(FEWEST_SLICES, DECODED_BYTES // layer)
            if part.lengths[0] > most * max(down, source.chunks[0]):
                down = -(-part.lengths[0] // most)
        values = source.read_part(_box(part, down, across), stop.check)
        return values.take(0, AXES[part.plane][0]), (down, across) != (1, 1)

    def _row(self, z: int, part: Part) -> npt.NDArray[Any]:
        """The voxels (columns,) of one slice that lie in a plane across the slices."""
        first, last = part.columns
        if self._plain is None:
            page: npt.NDArray[Any] = self._volume.read(z, z + 1)[0]
            return page[part.index, first:last] if part.plane == "xz" else page[first:last, part.index]
        if part.plane == "xz":
            return self._plain.read_row(z, part.index, part.columns)
        step = part.steps()[1]
        values = np.empty(last - first, self._plain.dtype)
        for y in range(first, last, step):
            values[y - first] = self._plain.read_row(z, y, (part.index, part.index + 1))[0]
        return values


def uncached(dataset: Dataset, sample: str, member: str, what: str) -> Member:
    """An array of a sample that was looked at before, opened so that no more is read than is asked for.

    While something else in this process has it open, that one's cache is used.

    Args:
        what: For messages.
    """
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(1, 0, 1.0)
    name = stored_name(sample) + b"/" + member.encode()
    return Member(h5py.Dataset(h5py.h5d.open(dataset.file.id, name, access)), what)


def largest(values: npt.NDArray[Any], down: int, across: int) -> npt.NDArray[Any]:
    """Values (rows, columns) reduced to the largest of each block of so many, so that nothing vanishes."""
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    if down > 1:
        values = np.maximum.reduceat(values, np.arange(0, values.shape[0], down), axis=0)
    if across > 1:
        values = np.maximum.reduceat(values, np.arange(0, values.shape[1], across), axis=1)
    return values


def _selection(part: Part, rows: Span, down: int, across: int) -> tuple[int | slice, ...]:
    fixed, first, second = AXES[part.plane]
    key: list[int | slice] = [0, 0, 0]
    key[fixed], key[first], key[second] = part.index, _span(rows, down), _span(part.columns, across)
    return tuple(key)


def _box(part: Part, down: int, across: int) -> Box:
    z, y, x = (
        slice(key, key + 1, 1) if isinstance(key, int) else key for key in _selection(part, part.rows, down, across)
    )
    return z, y, x


def _span(span: Span, step: int) -> slice:
    return slice(span[0], span[1], step)
