"""Reads the samples that a training draws from, once: counts their foreground, and keeps what fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets.dataset import Sample
from deepscem_tui.engine.datasets.ignoring import ignored_in
from deepscem_tui.engine.errors import DatasetError
from deepscem_tui.engine.patches.cache import CHUNK, Cache
from deepscem_tui.engine.patches.foreground import Foreground
from deepscem_tui.engine.patches.labels import PackedLabels, n_planes, pack
from deepscem_tui.engine.patches.raw_arrays import RawFile, raw_member
from deepscem_tui.engine.patches.sources import Annotated, Blank, Source
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop

__all__ = ["HELD_BYTES", "load_sources"]

HELD_BYTES = 1 << 30  # of samples that are kept in memory at most, however much there is
_SLAB_VOXELS = 8 << 20


def load_sources(
    samples: Sequence[Sample],
    memory: int,
    report: Reporter,
    stop: Stop,
    cache: Cache | None = None,
    shared: bool = False,
) -> list[Source]:
    """Read the samples once: count the foreground, and keep in memory what fits.

    Args:
        samples: Labelled samples of an open data set, which must stay open.
        memory: Bytes that may be held. What does not fit is read patch by patch: from the file where it is stored as it
            is in memory, else from a copy.
        report: Told how far it is.
        stop: Looked at between slabs.
        cache: Makes the copies; without it, or without room for them, HDF5 reads each patch, which is slow.
        shared: Whether what is held in memory is such that other processes can read it too; needs a cache.

    Raises:
        Stopped: on request.
        DatasetError: a sample cannot be read, or nothing of them is annotated.
    """
    total = sum(sample.shape[0] for sample in samples)
    sources, done = [], 0
    partly = any(ignored_in(sample) is not None for sample in samples)
    files: dict[Path, RawFile] = {}

    def before_slab(z: int) -> None:
        stop.check()
        report.progress("Reading samples", done + z, total, "slices")

    for sample in samples:
        source = _load(sample, partly, memory, cache, files, before_slab, shared)
        memory -= source.held_bytes
        done += sample.shape[0]
        sources.append(source)
    report.progress("Reading samples", total, total, "slices")
    if not any(source.n_annotated for source in sources):
        hint = "Say which slices are: deepscem-tui run set-labelled"
        raise DatasetError(f"Nothing of {samples[0].path} is labelled", hint)
    return sources


def _load(
    sample: Sample,
    partly: bool,
    memory: int,
    cache: Cache | None,
    files: dict[Path, RawFile],
    before_slab: Callable[[int], None],
    shared: bool,
) -> Source:
    """Read a sample.

    Args:
        partly: Whether some sample of the data set is annotated in part: then all have a bit for what is ignored.
    """
    shape, n_labels = sample.shape, len(sample.labels)
    missing = ignored_in(sample)
    ignored: Any = (Blank(shape) if missing is None else missing) if partly else None
    planes = n_planes(n_labels + partly)
    n_bytes = (sample.image.dtype.itemsize + planes) * int(np.prod(shape))
    held = n_bytes <= memory
    image: Any = sample.image
    labels: Sequence[Any] = sample.labels
    new_image: Any = None  # both are filled by slices and rows
    new_bits: Any = None
    slow = False
    if held:
        places: list[tuple[Sequence[int], Any]] = [(shape, image.dtype), ((planes, *shape), np.uint8)]
        made = [cache.shared(*place) for place in places] if shared and cache else [None]
        shared = None not in made
        new_image, new_bits = made if shared else (np.empty(*place) for place in places)
    else:
        image = raw_member(sample.image, files) or image
        raw = [raw_member(label, files) for label in sample.labels]
        slow = None in raw or missing is not None
        labels = labels if None in raw else raw
        if missing is not None:
            labels = [Annotated(missing, label) for label in labels]
        if cache:
            slow_image = [image.dtype] if image is sample.image else []
            slow_labels = [np.uint8] * planes if slow else []
            copies = cache.arrays(shape, [*slow_image, *slow_labels])
            new_image = copies.pop(0) if copies and slow_image else None
            new_bits = copies or None
    where = Foreground(shape, n_labels)
    annotated = None if missing is None else Foreground(shape, 1)
    for z, y in _slabs(shape):
        before_slab(z.start)
        slabs = [label[z, y] for label in sample.labels]
        hidden = [] if ignored is None else [ignored[z, y]]
        if annotated is not None:
            known = hidden[0] == 0
            annotated.add(0, z.start, y.start, known)
            slabs = [(slab != 0) & known for slab in slabs]
        for index, slab in enumerate(slabs):
            where.add(index, z.start, y.start, slab)
        if new_image is not None:
            new_image[z, y] = sample.image[z, y]
        if new_bits is not None:
            part = (z.stop - z.start, y.stop - y.start, shape[2])
            for new, bits in zip(new_bits, pack([*slabs, *hidden], part), strict=True):
                new[z, y] = bits
    if new_image is not None:
        image = new_image if held else new_image.filled()
    if new_bits is not None:
        labels = packed = PackedLabels(new_bits if held else _Planes([new.filled() for new in new_bits]), n_labels)
        ignored = packed.after() if partly else None
    by_any = new_bits is not None or not (slow or partly)  # what an array of HDF5 or of NumPy is not
    shareable = shared if held else image is not sample.image and by_any
    return Source(
        sample.name, shape, sample.voxel_size, image, labels, where.by_slice, n_bytes if held else 0, where, ignored,
        annotated, shareable,
    )  # fmt: skip


def _slabs(shape: Shape) -> Iterator[tuple[slice, slice]]:
    """Slices and rows that are read together, in order: whole chunks of a cache, and not too many voxels."""
    rows = max(1, _SLAB_VOXELS // (CHUNK[0] * CHUNK[1] * shape[2])) * CHUNK[1]
    depth = max(1, _SLAB_VOXELS // (CHUNK[0] * shape[1] * shape[2])) * CHUNK[0] if rows >= shape[1] else CHUNK[0]
    for z in range(0, shape[0], depth):
        for y in range(0, shape[1], rows):
            yield slice(z, min(z + depth, shape[0])), slice(y, min(y + rows, shape[1]))


class _Planes:
    """Bits of labels on disk, sliced as an array (P, Z, Y, X) is."""

    def __init__(self, planes: Sequence[Any]) -> None:
        self._planes = planes

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.uint8]:
        first, rest = key[0], key[1:]
        if isinstance(first, slice):
            return np.stack([plane[rest] for plane in self._planes[first]])
        bits: NDArray[np.uint8] = self._planes[first][rest]
        return bits
