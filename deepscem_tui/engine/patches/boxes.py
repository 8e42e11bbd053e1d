"""Patches as they are, at places that are given: for validation and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.patches.batches import Batch, assemble
from deepscem_tui.engine.patches.labels import unpack
from deepscem_tui.engine.patches.sources import Shape, Source

__all__ = ["Box", "covering_boxes", "cut", "fixed_batches"]


@dataclass(frozen=True)
class Box:
    """Where a patch lies: the sample's index and the first voxel (Z, Y, X)."""

    source: int
    start: Shape


def cut(source: Source, start: Shape, patch: Shape) -> list[NDArray[np.generic]]:
    """The image and the labels of a patch, each (Z, Y, X)."""
    z, y, x = (slice(s, s + size) for s, size in zip(start, patch, strict=True))
    image, bits = source.read((z, y, x))
    masks = np.empty((*patch, len(source.labels)), np.uint8)
    unpack(list(bits), masks)
    return [image, *np.moveaxis(masks, -1, 0)]


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
