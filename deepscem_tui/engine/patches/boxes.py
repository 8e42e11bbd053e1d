"""Patches as they are, at places that are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.patches.sources import Shape, Source

__all__ = ["Box", "cut"]


@dataclass(frozen=True)
class Box:
    """Where a patch lies: the sample's index and the first voxel (Z, Y, X)."""

    source: int
    start: Shape


def cut(source: Source, start: Shape, patch: Shape) -> list[NDArray[np.generic]]:
    """The image and the labels of a patch, each (Z, Y, X)."""
    box = tuple(slice(s, s + size) for s, size in zip(start, patch, strict=True))
    return [source.image[box], *(label[box] for label in source.labels)]
