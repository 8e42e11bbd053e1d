"""Patches as they are, at places that are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.augmentation.warp import mirrored
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.patches.labels import unpack
from deepscem_tui.engine.patches.sources import Source

__all__ = ["Box", "cut"]


@dataclass(frozen=True)
class Box:
    """Where a patch lies: the sample's index and the first voxel (Z, Y, X)."""

    source: int
    start: Shape


def cut(source: Source, start: Shape, patch: Shape, context: int = 0) -> list[NDArray[np.generic]]:
    """The image and the labels of a patch, each (Z, Y, X), with slices on each side, mirrored where there are none."""
    slices = mirrored(np.arange(start[0] - context, start[0] + patch[0] + context), source.shape[0])
    first, end = int(slices.min()), int(slices.max()) + 1
    y, x = (slice(s, s + size) for s, size in zip(start[1:], patch[1:], strict=True))
    image, bits = source.read((slice(first, end), y, x))
    masks = np.empty((*image.shape, len(source.labels)), np.uint8)
    unpack(list(bits), masks)
    return [array[slices - first] for array in (image, *np.moveaxis(masks, -1, 0))]
