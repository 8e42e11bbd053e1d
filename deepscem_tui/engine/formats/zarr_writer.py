"""OME-Zarr stores out: an image with a pyramid of smaller copies, all made while its slices come in.

Source: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui import __version__
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.formats.bands import Band, chunks_for
from deepscem_tui.engine.formats.stores import zarr_library
from deepscem_tui.engine.formats.volume_writer import Size, Target, VolumeWriter

__all__ = ["store_writer"]


_SMALLEST = 256  # voxels along any axis, which need no smaller copy
_UNITS = {"Å": "angstrom", "pm": "picometer", "nm": "nanometer", "µm": "micrometer", "mm": "millimeter",
          "cm": "centimeter", "m": "meter"}  # fmt: skip


class _Level:
    """One size of the image: takes its slices, writes them, and gives their means, or every other voxel, on.

    Args:
        array: Zarr's.
        factors: What Z, Y and X are divided by for the next level; None where this is the last.
    """

    def __init__(self, array: Any, factors: Shape | None, below: _Level | None, labels: bool) -> None:
        self._array, self._factors, self._below, self._labels = array, factors, below, labels
        self._band = Band(array.shape, array.dtype, array.chunks[0], self._put)
        self._odd: npt.NDArray[Any] | None = None

    def add(self, slices: npt.NDArray[Any]) -> None:
        """Append slices (n, Y, X)."""
        self._band.add(slices)
        if self._below is None or self._factors is None:
            return
        for plane in slices:
            if self._factors[0] == 1:
                self._give(plane[np.newaxis])
            elif self._odd is None:
                self._odd = plane.copy()
            else:
                self._give(np.stack([self._odd, plane]))
                self._odd = None

    def finish(self) -> None:
        """Write what is still held, here and below."""
        if self._odd is not None:
            self._give(self._odd[np.newaxis])
            self._odd = None
        self._band.flush()
        if self._below is not None:
            self._below.finish()

    def _put(self, first: int, slices: npt.NDArray[Any]) -> None:
        self._array[first : first + len(slices)] = slices

    def _give(self, planes: npt.NDArray[Any]) -> None:
        assert self._factors is not None
        assert self._below is not None
        reduce = _picked if self._labels else _mean
        self._below.add(reduce(planes, *self._factors[1:])[np.newaxis])


def _picked(planes: npt.NDArray[Any], rows: int, columns: int) -> npt.NDArray[Any]:
    """The first voxel of each block of planes (n, Y, X)."""
    found: npt.NDArray[Any] = planes[0, ::rows, ::columns]
    return found


def _mean(planes: npt.NDArray[Any], rows: int, columns: int) -> npt.NDArray[Any]:
    """The mean of each block of planes (n, Y, X); those at the end may be smaller."""
    kind = planes.dtype
    wide = np.float32 if kind.itemsize <= 2 or kind == np.float32 else np.float64
    total: npt.NDArray[Any] = planes.mean(axis=0, dtype=wide)
    for axis, factor in ((0, rows), (1, columns)):
        if factor == 1:
            continue
        first, second = (total[::2], total[1::2]) if axis == 0 else (total[:, ::2], total[:, 1::2])
        made = first.copy()
        both = slice(second.shape[axis])
        part = made[both] if axis == 0 else made[:, both]
        part += second
        part /= 2
        total = made
    if kind.kind in "iu":
        np.rint(total, out=total)
    if kind.kind in "iu" and kind.itemsize == 8:  # whose ends are rounded to what does not fit
        limits = np.iinfo(kind)
        np.clip(total, float(limits.min), np.nextafter(float(limits.max), 0), out=total)
    return total.astype(kind)


def _pyramid(shape: Shape, voxel_size: Size | None) -> list[tuple[Shape, Shape | None]]:
    """The shape of each level, and what its axes are divided by for the next.

    Axes whose voxels are longer than the others' stay until these have caught up.
    """
    sizes = list(voxel_size or (1.0, 1.0, 1.0))
    levels: list[tuple[Shape, Shape | None]] = []
    while max(shape) > _SMALLEST:
        shortest = min(size for size, count in zip(sizes, shape, strict=True) if count > 1)
        z, y, x = (2 if count > 1 and size < 1.5 * shortest else 1 for size, count in zip(sizes, shape, strict=True))
        levels.append((shape, (z, y, x)))
        shape = (-(-shape[0] // z), -(-shape[1] // y), -(-shape[2] // x))
        sizes = [size * factor for size, factor in zip(sizes, (z, y, x), strict=True)]
    return [*levels, (shape, None)]


class _StoreWriter(VolumeWriter):
    def __init__(self, target: Target, first: _Level) -> None:
        super().__init__(target)
        self._stored, self.first = target.stored, first

    def _write(self, slab: npt.NDArray[Any]) -> None:
        for plane in slab:
            self.first.add(plane[np.newaxis].astype(self._stored, copy=False))


@contextmanager
def store_writer(target: Target) -> Iterator[VolumeWriter]:
    """Write an OME-Zarr store of version 0.5, with a pyramid.

    Raises:
        MissingLibraryError: zarr is not installed.
    """
    zarr = zarr_library(f"Writing {target.place.file}")
    labels = target.labels or target.dtype == np.bool_
    levels = _pyramid(target.shape, target.voxel_size)
    root = zarr.open_group(target.temporary, mode="w", zarr_format=3)
    root.attrs["ome"] = _described(target, levels, labels)
    below: _Level | None = None
    shuffle = "shuffle" if target.stored.itemsize > 1 else "noshuffle"
    for number, (shape, factors) in reversed(list(enumerate(levels))):
        array = root.create_array(
            str(number),
            shape=shape,
            chunks=chunks_for(shape, target.stored.itemsize),
            dtype=target.stored,
            compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle=shuffle),
            dimension_names=("z", "y", "x"),
        )
        below = _Level(array, factors, below, labels)
    assert below is not None
    writer = _StoreWriter(target, below)
    yield writer
    writer.first.finish()


def _described(target: Target, levels: list[tuple[Shape, Shape | None]], labels: bool) -> dict[str, Any]:
    """The attributes of an image's group."""
    size = target.voxel_size or (1.0, 1.0, 1.0)
    unit = {"unit": _UNITS[target.voxel_unit]} if target.voxel_size else {}
    datasets, scale = [], (1, 1, 1)
    for number, (_, factors) in enumerate(levels):
        steps = [float(f"{one * by:.12g}") for one, by in zip(size, scale, strict=True)]
        changes: list[dict[str, Any]] = [{"type": "scale", "scale": steps}]
        if prod(scale) > 1 and not labels:  # the middle of the first block
            middle = [float(f"{one * (by - 1) / 2:.12g}") for one, by in zip(size, scale, strict=True)]
            changes.append({"type": "translation", "translation": middle})
        datasets.append({"path": str(number), "coordinateTransformations": changes})
        if factors is not None:
            scale = (scale[0] * factors[0], scale[1] * factors[1], scale[2] * factors[2])
    image = {
        "name": target.place.stem,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": datasets,
        "type": "every other voxel" if labels else "mean",
        "metadata": {"made_by": f"deepscem-tui {__version__}"},
    }
    return {"version": "0.5", "multiscales": [image]}
