"""Arrays of more axes than a volume has, in whatever order, as volumes (Z, Y, X); read by whole chunks."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import EngineError, ResourceError, VolumeError
from deepscem_tui.engine.formats.table import Place
from deepscem_tui.engine.system.devices import available_memory

__all__ = [
    "ArraySource",
    "Box",
    "Layout",
    "check_chunks",
    "explained",
    "layout_of",
    "offer",
    "offered",
]

BAND_BYTES = 256 * 2**20  # of chunks that are kept for the slices that follow
MEMORY_SHARE = 8  # of the memory that is free, what larger ones may take
GATHERED_SLICES = 16  # read in one go, at least
LARGEST_CHUNK = 2**30
_SPACE = "zyx"
_MOST_OFFERED = 12
_MOST_CHANNELS = 4  # that an axis without a name is taken for
_PLURALS = {"c": "channels", "t": "time points"}

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Layout:
    """Where a volume is in an array.

    Args:
        shape: (Z, Y, X).
        fixed: For each axis of the array the number that is taken; None for an axis of the volume.
        order: The array's axes that are the volume's Z, Y and X; None for a Z that it has not.
        warnings: What is odd about that.
    """

    shape: tuple[int, int, int]
    fixed: tuple[int | None, ...]
    order: tuple[int | None, int, int]
    warnings: tuple[str, ...] = ()

    def along(self, values: Sequence[Any], missing: Any) -> tuple[Any, Any, Any]:
        """What is given for each axis of the array, for Z, Y and X."""
        z, y, x = (missing if axis is None else values[axis] for axis in self.order)
        return z, y, x

    def voxel_size(self, values: Sequence[float] | None) -> tuple[float, float, float] | None:
        """Sizes that are given for each axis of the array, or for three, as Z, Y, X; None if they are no sizes."""
        if values is None or len(values) not in (3, len(self.fixed)):
            return None
        z, y, x = self.along(values, None) if len(values) == len(self.fixed) else values
        z = y if z is None else z  # a single slice has no thickness
        return (z, y, x) if all(math.isfinite(size) and size > 0 for size in (z, y, x)) else None

    def index(self, z: slice, y: slice, x: slice) -> tuple[int | slice, ...]:
        """Where in the array a part of the volume is."""
        asked = dict(zip(self.order, (z, y, x), strict=True))
        return tuple(asked[axis] if fixed is None else fixed for axis, fixed in enumerate(self.fixed))

    def read(self, array: Any, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """A part of the volume, as slices along its axes, as (Z, Y, X)."""
        found = np.asarray(array[self.index(z, y, x)])
        kept = [axis for axis, fixed in enumerate(self.fixed) if fixed is None]
        places = [kept.index(axis) for axis in self.order if axis is not None]
        found = found.transpose(places)
        return found[np.newaxis] if self.order[0] is None else found


def layout_of(place: Place, shape: Sequence[int], axes: Sequence[str] | None) -> Layout:
    """Find the volume in an array.

    Args:
        axes: Names of the array's axes, in lower case; None if they have none: then the last three are Z, Y and X, and
            the others are called by their numbers.

    Raises:
        VolumeError: there are no voxels, too few axes, or too many with nothing chosen of them.
    """
    path, chosen = place.path, dict(place.chosen)
    if 0 in shape:
        raise VolumeError(f"{path} has no voxels: its shape is {tuple(shape)}", "Export it again.")
    names = [str(axis) for axis in range(len(shape))] if axes is None else list(axes)
    for name, number in chosen.items():
        if name not in names:
            raise VolumeError(f"{path} has no axis {name!r}", f"Its axes are {', '.join(names)}.")
        size = shape[names.index(name)]
        if number >= size:
            raise VolumeError(f"{path} has no {name} {number}", f"There are {size}, from 0 on.")
    fixed = [chosen.get(name) for name in names]
    kept = [axis for axis, number in enumerate(fixed) if number is None]
    if axes is None:
        extra = [axis for axis in kept if shape[axis] == 1] if len(kept) > 3 else []
    else:
        extra = [axis for axis in kept if names[axis] not in _SPACE and shape[axis] == 1]
    for axis in extra:
        fixed[axis] = 0
    kept = [axis for axis in kept if fixed[axis] is None]
    sizes = [shape[axis] for axis in kept]
    if axes is not None:
        others = [axis for axis in kept if names[axis] not in _SPACE]
        if others:
            text = " and ".join(f"{shape[a]} {_PLURALS.get(names[a], f'along axis {names[a]}')}" for a in others)
            raise _choose(place, text, [names[axis] for axis in others])
        found = {names[axis]: axis for axis in kept}
        if not {"y", "x"} <= set(found):
            raise VolumeError(f"{path} is no image: its axes are {', '.join(names)}", "It must have Y and X.")
        order = (found.get("z"), found["y"], found["x"])
    elif len(kept) > 3:
        fewest = min(kept, key=lambda axis: shape[axis])  # those of channels, wherever they are
        raise _choose(place, f"{len(kept)} dimensions, its shape is {tuple(shape)}", [names[fewest]])
    elif len(kept) < 2:
        raise VolumeError(f"{path} is no image: its shape is {tuple(shape)}", "It must be (Y, X) or (Z, Y, X).")
    elif len(kept) == 3 and sizes[2] in (3, _MOST_CHANNELS) and min(sizes[:2]) >= 16:
        raise _choose(place, f"{sizes[2]} channels by its shape {tuple(shape)}", [names[kept[2]]])
    else:
        order = (kept[0] if len(kept) == 3 else None, kept[-2], kept[-1])
    depth, height, width = (1 if axis is None else int(shape[axis]) for axis in order)
    odd: tuple[str, ...] = ()
    if axes is None and width <= _MOST_CHANNELS < height:
        last = names[order[2]]
        odd = (f"its X has only {words.counted(width, 'voxel')}: if these are channels, choose one, as in ?{last}=0",)
    return Layout((depth, height, width), tuple(fixed), order, odd)


def _choose(place: Place, what: str, names: Sequence[str]) -> VolumeError:
    chosen = dict.fromkeys(dict(place.chosen)) | dict.fromkeys(names)
    text = "&".join(f"{name}={dict(place.chosen).get(name, 0)}" for name in chosen)
    return VolumeError(f"{place.path} has {what}", f"Choose one, such as {shlex.quote(f'{place.bare}?{text}')}.")


def offer(found: Sequence[str]) -> str:
    """A hint of what to type for the arrays that are there."""
    if not found:
        return "No array in it is an image."
    more = f" and {len(found) - _MOST_OFFERED} more" if len(found) > _MOST_OFFERED else ""
    return f"As an image, give one of: {', '.join(found[:_MOST_OFFERED])}{more}."


def offered(file: Path, inside: str, shape: Sequence[int], kind: str) -> str:
    """An array for :func:`offer`: what to type for it, and what it is."""
    return f"{shlex.quote(f'{file}:/{inside}')} ({words.sizes(shape)} {kind})"


def check_chunks(place: Place, chunks: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Raise :class:`VolumeError` if what has to be decoded at once is larger than any file that is whole has it."""
    size = prod(chunks) * dtype.itemsize
    if size > LARGEST_CHUNK or min(chunks, default=1) < 1:
        what = f"{place.path} is stored in pieces of {words.sizes(chunks)} voxels, {words.amount(size, 'B')} each"
        raise VolumeError(what, "Save it with smaller chunks.")


class ArraySource:
    """Voxels of an array that is stored in chunks, each of which is decoded whole.

    Of slices the last band of chunks is kept for whoever reads on. It takes :data:`BAND_BYTES` at most, or where it
    needs more a share of the memory that is free; where even that does not suffice, chunks are decoded as often as the
    warning says.

    Args:
        place: For messages.
        shape: (Z, Y, X).
        dtype: Of the voxels, as they are given.
        read: Gives a part, as slices along Z, Y and X, as an array of three axes.
        chunks: What is decoded together (Z, Y, X).

    Attributes:
        chunks: The same, no larger than the volume.
    """

    def __init__(
        self,
        place: Place,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        read: Callable[[slice, slice, slice], npt.NDArray[Any]],
        chunks: tuple[int, int, int],
    ) -> None:
        self.shape, self.dtype = shape, dtype.newbyteorder("=")
        self.voxel_size: tuple[float, float, float] | None = None
        self.voxel_unit = ""
        self.warnings: tuple[str, ...] = ()
        self.scale: float | None = None
        z, y, x = (max(1, min(chunk, size)) for chunk, size in zip(chunks, shape, strict=True))
        self.chunks = z, y, x
        self._place, self._read = place, read
        self._kept: tuple[int, npt.NDArray[Any]] | None = None
        plane, depth = shape[1] * shape[2] * dtype.itemsize, self.chunks[0]
        most = BAND_BYTES
        if depth * plane > most:
            most = max(most, available_memory() // MEMORY_SHARE)
        self._band = max(1, min(depth, most // plane))  # slices
        if self._band < depth:
            deep = f"its chunks are {depth} slices deep, {words.amount(depth * plane, 'B')} together"
            self.warnings = (f"{deep}: each is decoded {-(-depth // self._band)} times",)

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (n, Y, X) with the slices from ``z0`` on."""
        z, end, depth = z0, z0 + len(out), self.chunks[0]
        plane = slice(0, self.shape[1], 1), slice(0, self.shape[2], 1)
        while z < end:
            first = z - z % depth
            begin = z - (z - first) % self._band
            last = min(first + depth, self.shape[0])
            bound = min(begin + self._band, last)
            if z == begin and end >= bound:
                stop = min(last, end)
                out[z - z0 : stop - z0] = self._given(slice(z, stop, 1), *plane)
            else:
                stop = min(bound, end)
                if self._kept is None or self._kept[0] != begin:
                    self._kept = None  # before the next one is read, so that one at most is held
                    self._kept = begin, self._given(slice(begin, bound, 1), *plane)
                out[z - z0 : stop - z0] = self._kept[1][z - begin : stop - begin]
            z = stop

    def read_part(self, part: Box, check: Callable[[], None] = lambda: None) -> npt.NDArray[Any]:
        """Read a part as (Z, Y, X), some layers of chunks at a time, decoding none but those that it lies in.

        Args:
            part: A slice along each axis, with a start, an end and a step.
            check: Called before each: what it raises ends the reading.
        """
        z, y, x = part
        layers = self.chunks[0] * -(-GATHERED_SLICES // self.chunks[0])
        found, at = np.empty(tuple(map(_length, part)), self.dtype), z.start
        while at < z.stop:
            check()
            layer = slice(at, min(at - at % layers + layers, z.stop), z.step)
            first = (at - z.start) // z.step
            found[first : first + _length(layer)] = self._given(layer, y, x)
            at += _length(layer) * z.step
        return found

    def layer_bytes(self, part: Box) -> int:
        """Bytes that are decoded for what of a part lies in one layer of chunks."""
        area = self.chunks[0] * self.dtype.itemsize
        for one, chunk in zip(part[1:], self.chunks[1:], strict=True):
            area *= (-(-one.stop // chunk) - one.start // chunk) * chunk
        return area

    def _given(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        with explained(self._place, f", slices {z.start} to {z.stop - 1}"):
            return self._read(z, y, x)


def _length(one: slice) -> int:
    return len(range(one.start, one.stop, one.step))


@contextmanager
def explained(place: Place, where: str = "") -> Iterator[None]:
    """Turn whatever a library raises about a damaged file into a :class:`VolumeError`."""
    try:
        yield
    except EngineError:
        raise
    except MemoryError as error:
        what = f"Memory does not suffice to decode {place.path}{where}"
        raise ResourceError(what, "Save it with smaller chunks.") from error
    except Exception as error:  # the libraries raise nearly anything on a damaged file
        what = f"{place.path}{where} cannot be read ({words.reason(error)})"
        raise VolumeError(what, "Copy or export it again.") from error
