"""Images as a model sees them that learned from voxels of another size, and its results brought back; slice by slice.

Both are linear: between voxels where there are to be more, means over what a voxel covers where there are to be fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.augmentation.opencv import as_float32, cv2
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.sources.inputs import InputImage
from deepscem_tui.engine.sources.voxel_sizes import times_seen

__all__ = ["Resampling", "rescaled"]

_TOGETHER = 8  # slices that are read at a time
_SAME = 1e-3  # of a side, that does not count


def rescaled(image: InputImage, info: ModelInfo) -> InputImage:
    """An image with voxels as large as those that a model learned from, as far as it sees; it knows the original.

    Both voxel sizes must be known.
    """
    times = times_seen(image.voxel_size, image.voxel_unit, info)
    assert times is not None
    source, lock = image.source, Lock()  # the original is read for its copy, too, in another thread
    z, y, x = (_side(size, factor) for size, factor in zip(source.shape, times, strict=True))

    def read_original(first: int, stop: int) -> npt.NDArray[Any]:
        with lock:
            return source.read(first, stop)

    def read(first: int, stop: int) -> npt.NDArray[np.float32]:
        resampling = Resampling(source.shape, (z, y, x), first, stop)
        slices = np.empty((stop - first, y, x), np.float32)
        start, end = resampling.needs
        for at in range(start, end, _TOGETHER):
            voxels = as_float32(read_original(at, min(at + _TOGETHER, end)))
            if not np.isfinite(voxels).all():
                voxels = np.nan_to_num(voxels, nan=0.0, posinf=0.0, neginf=0.0)
            for number, made in resampling.feed(voxels[None]):
                slices[number - first] = made[0]
        return slices

    original = replace(image, source=replace(source, read=read_original))
    return replace(image, source=replace(source, shape=(z, y, x), read=read), original=original)


def _side(size: int, factor: float) -> int:
    """Voxels along an axis whose voxels are so many times as long as they are to be."""
    return size if abs(factor - 1) * size < max(0.5, _SAME * size) else max(1, round(size * factor))


class Resampling:
    """Slices of one size made of slices of another, as these come.

    Args:
        shape: Z, Y, X of what comes.
        wanted: Z, Y, X of what is made.
        first: First slice that is wanted.
        stop: The one after the last that is wanted; all of them if None.
    """

    def __init__(self, shape: Shape, wanted: Shape, first: int = 0, stop: int | None = None) -> None:
        self._shape, self._wanted = shape, wanted
        self._next, self._stop = first, wanted[0] if stop is None else stop
        self._came = self.needs[0]
        self._held: dict[int, npt.NDArray[np.float32]] = {}  # slices in the wanted size along Y and X

    @property
    def needs(self) -> tuple[int, int]:
        """The slices that must come for those that are still wanted."""
        first, _ = _weights(self._shape[0], self._wanted[0], self._next)
        start, weights = _weights(self._shape[0], self._wanted[0], self._stop - 1)
        return first, start + len(weights)

    def feed(self, slabs: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Take the next slices (channels, Z, Y, X); give each that is complete, its number and (channels, Y, X)."""
        for index in range(slabs.shape[1]):
            number = self._came
            self._came += 1
            self._held[number] = np.stack([_resized(plane, self._wanted[1:]) for plane in slabs[:, index]])
            while self._next < self._stop:
                start, weights = _weights(self._shape[0], self._wanted[0], self._next)
                for passed in [held for held in self._held if held < start]:
                    del self._held[passed]
                if start + len(weights) > self._came:
                    break
                made = sum(weight * self._held[start + z] for z, weight in enumerate(weights))
                yield self._next, np.asarray(made, np.float32)
                self._next += 1


def _weights(given: int, wanted: int, number: int) -> tuple[int, Sequence[float]]:
    """Of which slices, from the first of them on, one is made, and how much of each; they add up to 1."""
    if given == wanted:
        return number, (1.0,)
    step = given / wanted
    if step < 1:
        place = min(max((number + 0.5) * step - 0.5, 0.0), given - 1.0)
        first = min(int(place), max(0, given - 2))
        return first, (1 - (place - first), place - first) if given > 1 else (1.0,)
    start, stop = number * step, (number + 1) * step
    first, last = int(start), min(given, int(np.ceil(stop - 1e-9)))
    covered = [min(stop, z + 1) - max(start, z) for z in range(first, last)]
    return first, [part / sum(covered) for part in covered]


def _resized(plane: npt.NDArray[Any], wanted: Sequence[int]) -> npt.NDArray[np.float32]:
    """A slice (Y, X) in another size."""
    plane = as_float32(plane)
    if plane.shape == tuple(wanted):
        return plane
    fewer = (min(wanted[0], plane.shape[0]), min(wanted[1], plane.shape[1]))
    for (height, width), how in ((fewer, cv2.INTER_AREA), (tuple(wanted), cv2.INTER_LINEAR)):
        if plane.shape != (height, width):
            plane = cv2.resize(plane, (width, height), interpolation=how).reshape(height, width)
    return plane
