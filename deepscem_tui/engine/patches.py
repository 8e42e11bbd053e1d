"""Where patches are drawn, and the batches made of them.

Everything random is a function of (seed, step, position in the batch): the same at any number of workers, and nothing
to save for a resume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.augment import allowed_orders, mirror_and_turn
from deepscem_tui.engine.datasets import Sample
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """A sample to draw from: arrays in memory, or on disk where they do not fit; all (Z, Y, X).

    Args:
        foreground: Foreground voxels by label and slice, int64 (L, Z).
        held_bytes: Memory that its arrays take; 0 if they are on disk.
    """

    name: str
    shape: Shape
    voxel_size: tuple[float, float, float] | None
    image: Any
    labels: Sequence[Any]
    foreground: NDArray[np.int64]
    held_bytes: int = 0


@dataclass(frozen=True)
class Batch:
    """Patches for one step.

    Args:
        images: float32 (B, Z, Y, X, 1), 0-1; without Z for a 2D network.
        labels: uint8 (B, Z, Y, X, L), 0 or 1; without Z for a 2D network.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """Where a patch lies: the sample's index and the first voxel (Z, Y, X)."""

    source: int
    start: Shape


def load_sources(samples: Sequence[Sample], memory: int, report: Reporter, stop: Stop) -> list[Source]:
    """Read the samples once: count the foreground, and keep in memory what fits.

    Args:
        samples: Labelled samples of an open data set, which must stay open.
        memory: Bytes that may be held; what does not fit is read from the file patch by patch.
    """
    total = sum(sample.shape[0] for sample in samples)
    sources, done = [], 0
    for sample in samples:
        n_bytes = sum(
            int(array.dtype.itemsize) * int(np.prod(sample.shape)) for array in (sample.image, *sample.labels)
        )
        held = n_bytes <= memory
        memory -= n_bytes if held else 0
        image = sample.image[...] if held else sample.image
        labels: list[Any] = [np.empty(sample.shape, np.uint8) if held else label for label in sample.labels]
        foreground = np.zeros((len(sample.labels), sample.shape[0]), np.int64)
        step = max(1, (16 << 20) // max(1, sample.shape[1] * sample.shape[2]))
        for z in range(0, sample.shape[0], step):
            stop.check()
            for index, label in enumerate(sample.labels):
                slab = label[z : z + step]
                foreground[index, z : z + step] = np.count_nonzero(slab, axis=(1, 2))
                if held:
                    labels[index][z : z + step] = slab
            done += min(step, sample.shape[0] - z)
            report.progress("Reading samples", done, total, "slices")
        memory_held = n_bytes if held else 0
        sources.append(Source(sample.name, sample.shape, sample.voxel_size, image, labels, foreground, memory_held))
    return sources


class PatchSampler:
    """Draws training patches.

    Args:
        sources: Samples, each at least as large as the patch.
        patch: Shape (Z, Y, X).
        batch_size: Patches in a batch.
        focus: Share of patches, 0-1, that are centred on a foreground voxel (as far as the sample's border lets them),
            of a label chosen evenly among those that have any. The others lie anywhere; samples count by volume.
        turns: Whether patches are mirrored and turned.
        flat: Whether batches have no Z, for a 2D network.
        seed: Of everything random.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        patch: Shape,
        batch_size: int,
        *,
        focus: float,
        turns: bool,
        flat: bool,
        seed: int,
    ) -> None:
        self._sources = sources
        self._patch = patch
        self.batch_size = batch_size
        self._focus = focus
        self._turns = turns
        self._flat = flat
        self._seed = seed
        volumes = np.array([np.prod(source.shape, dtype=float) for source in sources])
        self._volume_share = volumes / volumes.sum()
        counts = np.array([source.foreground.sum(axis=1) for source in sources], dtype=float).T  # (L, samples)
        self._label_share = [row / row.sum() for row in counts if row.sum() > 0]
        self._labels_present = [index for index, row in enumerate(counts) if row.sum() > 0]
        self._orders = [allowed_orders(patch, source.voxel_size) for source in sources]

    def batch(self, step: int, positions: range | None = None) -> Batch:
        """The batch of a step, or some of its patches; the same whenever it is asked for."""
        drawn = [self._draw(step, position) for position in positions or range(self.batch_size)]
        return assemble(drawn, self._flat)

    def box(self, step: int, position: int) -> Box:
        """Where the patch at a position in a step's batch lies."""
        return self._box(np.random.default_rng((self._seed, step, position)))

    def place(self, step: int, position: int) -> str:
        """The same in words."""
        box = self.box(step, position)
        return f"of sample {self._sources[box.source].name!r} from voxel {','.join(map(str, box.start))} (Z,Y,X) on"

    def _draw(self, step: int, position: int) -> list[NDArray[np.generic]]:
        rng = np.random.default_rng((self._seed, step, position))
        box = self._box(rng)
        arrays = cut(self._sources[box.source], box.start, self._patch)
        return mirror_and_turn(arrays, self._orders[box.source], rng) if self._turns else arrays

    def _box(self, rng: np.random.Generator) -> Box:
        if self._labels_present and rng.random() < self._focus:
            chosen = rng.integers(len(self._labels_present))
            index = int(rng.choice(len(self._sources), p=self._label_share[chosen]))
            centre = _foreground_voxel(self._sources[index], self._labels_present[chosen], rng)
            start = [c - size // 2 for c, size in zip(centre, self._patch, strict=True)]
        else:
            index = int(rng.choice(len(self._sources), p=self._volume_share))
            shape = self._sources[index].shape
            start = [int(rng.integers(n - size + 1)) for n, size in zip(shape, self._patch, strict=True)]
        limits = [n - size for n, size in zip(self._sources[index].shape, self._patch, strict=True)]
        z, y, x = (min(max(0, s), limit) for s, limit in zip(start, limits, strict=True))
        return Box(index, (z, y, x))


def _foreground_voxel(source: Source, label: int, rng: np.random.Generator) -> Shape:
    """A foreground voxel, each as likely as any other."""
    by_slice = np.cumsum(source.foreground[label])
    rank = int(rng.integers(by_slice[-1]))
    z = int(np.searchsorted(by_slice, rank, side="right"))
    rank -= int(by_slice[z - 1]) if z else 0
    y, x = divmod(int(np.flatnonzero(source.labels[label][z])[rank]), source.shape[2])
    return z, y, x


def cut(source: Source, start: Shape, patch: Shape) -> list[NDArray[np.generic]]:
    """The image and the labels of a patch, each (Z, Y, X)."""
    box = tuple(slice(s, s + size) for s, size in zip(start, patch, strict=True))
    return [source.image[box], *(label[box] for label in source.labels)]


def assemble(patches: Sequence[Sequence[NDArray[np.generic]]], flat: bool) -> Batch:
    """Stack patches, each an image and its labels (Z, Y, X), into a batch.

    Args:
        patches: At least one.
        flat: Whether to drop Z, for a 2D network.
    """
    shape = patches[0][0].shape
    images = np.empty((len(patches), *shape, 1), np.float32)
    labels = np.empty((len(patches), *shape, len(patches[0]) - 1), np.uint8)
    for index, (image, *masks) in enumerate(patches):
        images[index, ..., 0] = image
        for channel, mask in enumerate(masks):
            labels[index, ..., channel] = mask != 0  # in files of others a mask may be 0 and 255
    if not np.isfinite(images).all():  # DeepSCEM makes NaN of a constant image
        np.nan_to_num(images, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
    return Batch(images[:, 0], labels[:, 0]) if flat else Batch(images, labels)


def covering_boxes(sources: Sequence[Source], patch: Shape, most: int) -> list[Box]:
    """Boxes that cover every sample; where these are more than ``most``, as many of them at random, always the same.

    They overlap no more than the samples' sizes require.
    """
    boxes = []
    for index, source in enumerate(sources):
        starts = [_even_starts(n, size) for n, size in zip(source.shape, patch, strict=True)]
        boxes += [Box(index, (z, y, x)) for z in starts[0] for y in starts[1] for x in starts[2]]
    if len(boxes) <= most:
        return boxes
    # Not every n-th: that may be the same column of every slice.
    chosen = np.sort(np.random.default_rng(0).permutation(len(boxes))[:most])
    return [boxes[index] for index in chosen]


def _even_starts(length: int, size: int) -> list[int]:
    n = -(-length // size)
    return [round(index * (length - size) / (n - 1)) for index in range(n)] if n > 1 else [0]


def fixed_batches(
    sources: Sequence[Source], boxes: Sequence[Box], patch: Shape, batch_size: int, flat: bool
) -> list[Callable[[], Batch]]:
    """Batches of the patches in ``boxes``, as they are, each made when it is called; the last may be smaller."""

    def make(chosen: Sequence[Box]) -> Callable[[], Batch]:
        return lambda: assemble([cut(sources[box.source], box.start, patch) for box in chosen], flat)

    return [make(boxes[first : first + batch_size]) for first in range(0, len(boxes), batch_size)]


def prefetched(makers: Iterator[Callable[[], Batch]], workers: int, ahead: int = 4) -> Generator[Batch, None, None]:
    """Make batches in threads, a few ahead of the one in use, and give them in order."""
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="patches") as pool:
        try:
            for make in makers:
                waiting.append(pool.submit(make))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
