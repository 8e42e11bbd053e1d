"""Reads the samples that a training draws from, once: counts their foreground, and keeps what fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets.dataset import Sample
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in
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


@dataclass(frozen=True)
class _Arrays:
    """What a sample's patches are read from, and what is to be filled before.

    Args:
        image: Grey values, where ``new_image`` does not take their place.
        labels: One a label, where ``new_bits`` do not take their place.
        new_image: To be filled by slices and rows.
        new_bits: The same for each plane of bits.
        held_bytes: Memory that they take.
        shareable: Whether other processes can read them too.
    """

    image: Any
    labels: Sequence[Any]
    new_image: Any
    new_bits: Any
    held_bytes: int
    shareable: bool


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
    n_bytes = (sample.image.dtype.itemsize + planes) * prod(shape)
    if n_bytes <= memory:
        arrays = _in_memory(sample, planes, n_bytes, cache if shared else None)
    else:
        arrays = _on_disk(sample, missing, partly, planes, cache, files)
    where = Foreground(shape, n_labels)
    annotated = None if missing is None else Foreground(shape, 1)
    _fill(arrays, sample, ignored, where, annotated, before_slab)
    image, labels, bits = arrays.image, arrays.labels, arrays.new_bits
    if arrays.new_image is not None:
        image = arrays.new_image if arrays.held_bytes else arrays.new_image.filled()
    if bits is not None:
        packed = PackedLabels(bits if arrays.held_bytes else _Planes([new.filled() for new in bits]), n_labels)
        labels, ignored = packed, packed.after() if partly else None
    return Source(
        sample.name, shape, sample.voxel_size, image, labels, where.by_slice, arrays.held_bytes, where, ignored,
        annotated, arrays.shareable,
    )  # fmt: skip


def _in_memory(sample: Sample, planes: int, n_bytes: int, cache: Cache | None) -> _Arrays:
    """Arrays in memory; with a cache such that other processes can read them too, as long as there is room."""
    places: list[tuple[Sequence[int], Any]] = [
        (sample.shape, sample.image.dtype),
        ((planes, *sample.shape), np.uint8),
    ]
    made = [cache.shared(*place) for place in places] if cache else [None]
    shared = None not in made
    new_image, new_bits = made if shared else [np.empty(*place) for place in places]
    return _Arrays(sample.image, sample.labels, new_image, new_bits, n_bytes, shared)


def _on_disk(
    sample: Sample, missing: Ignored | None, partly: bool, planes: int, cache: Cache | None, files: dict[Path, RawFile]
) -> _Arrays:
    """The arrays as they are in the file, and copies in the cache of those that are slow to read there."""
    image: Any = raw_member(sample.image, files)
    raw = [raw_member(label, files) for label in sample.labels]
    slow = None in raw or missing is not None
    labels: Sequence[Any] = sample.labels if None in raw else raw
    if missing is not None:
        labels = [Annotated(missing, label) for label in labels]
    slow_image = [sample.image.dtype] if image is None else []
    copies = cache.arrays(sample.shape, [*slow_image, *([np.uint8] * planes if slow else [])]) if cache else []
    new_image = copies.pop(0) if copies and slow_image else None
    new_bits = copies or None
    # What neither HDF5 nor NumPy reads, any process can.
    shareable = (image or new_image) is not None and (new_bits is not None or not (slow or partly))
    return _Arrays(image or sample.image, labels, new_image, new_bits, 0, shareable)


def _fill(
    arrays: _Arrays,
    sample: Sample,
    ignored: Any,
    where: Foreground,
    annotated: Foreground | None,
    before_slab: Callable[[int], None],
) -> None:
    """Go through a sample once: count its foreground, and fill the arrays that are new.

    Args:
        ignored: Above 0 where nobody has annotated; None where there is no bit for that.
        where: Takes the foreground that is annotated.
        annotated: Takes what is annotated; None where all is.
    """
    for z, y in _slabs(sample.shape):
        before_slab(z.start)
        slabs = [label[z, y] for label in sample.labels]
        hidden = [] if ignored is None else [ignored[z, y]]
        if annotated is not None:
            known = hidden[0] == 0
            annotated.add(0, z.start, y.start, known)
            slabs = [(slab != 0) & known for slab in slabs]
        for index, slab in enumerate(slabs):
            where.add(index, z.start, y.start, slab)
        if arrays.new_image is not None:
            arrays.new_image[z, y] = sample.image[z, y]
        if arrays.new_bits is not None:
            part = (z.stop - z.start, y.stop - y.start, sample.shape[2])
            for new, bits in zip(arrays.new_bits, pack([*slabs, *hidden], part), strict=True):
                new[z, y] = bits


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
