"""Where a sample comes from: the volume that was added once, and which box of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deepscem_tui.engine.datasets.dataset import Sample

__all__ = ["Box", "origin_attributes", "origin_of"]

Box = tuple[tuple[int, int], ...]  # (start, stop) along Z, Y, X

_CROP = re.compile(r"(.+)_crop_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)", re.DOTALL)  # as DeepSCEM names what it crops


def origin_of(sample: Sample) -> tuple[str, Box]:
    """Name that the volume once had, and the box of it that a sample is.

    `crop-sample` notes both, `rename-sample` the name; of DeepSCEM's crops their names tell.
    """
    name, ends = sample.attributes.get("origin"), sample.attributes.get("origin_box")
    box: Box = tuple((0, size) for size in sample.shape)
    if not (isinstance(name, str) and name):
        name = sample.name
    if isinstance(ends, tuple) and len(ends) == 6 and all(isinstance(end, int) for end in ends):
        box = tuple(zip(ends[::2], ends[1::2], strict=True))
    while (found := _CROP.fullmatch(name)) is not None:
        numbers = [int(end) for end in found.groups()[1:]]
        outer = list(zip(numbers[::2], numbers[1::2], strict=True))
        if any(inner[1] > stop - start for inner, (start, stop) in zip(box, outer, strict=True)):
            break  # somebody else called it so
        name = found[1]
        box = tuple((start + a, start + b) for (a, b), (start, _) in zip(box, outer, strict=True))
    return name, box


def origin_attributes(sample: Sample, box: Sequence[tuple[int, int]] | None = None) -> Mapping[str, Any]:
    """What is noted of a box of a sample, or of all of it, so that later names make no difference."""
    name, whole = origin_of(sample)
    inner = [(0, stop - start) for start, stop in whole] if box is None else box
    ends = tuple(start + end for side, (start, _) in zip(inner, whole, strict=True) for end in side)
    return {"origin": name, "origin_box": ends}
