"""The slice of a training that is shown while the network learns: chosen once, so that it can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.patches import Batch, Source, assemble, cut

__all__ = ["choose_preview"]

_SOURCES = 4  # samples, and labels of each, among which the slice to show is chosen
_LABELS = 8


@dataclass(frozen=True)
class PreviewPatch:
    """What the network is asked again and again to show what it has learned: a batch of one patch."""

    batch: Batch
    sample: str
    z: int


def choose_preview(sources: Sequence[Source], patch: Shape, flat: bool, context: int = 0) -> PreviewPatch:
    """The patch whose middle slice shows most labels, and most of them, among a few that are sure to show some.

    Args:
        sources: Each at least as large as the patch.
    """
    best: tuple[tuple[int, int], Source, Shape, list[np.ndarray[Any, Any]]] | None = None
    for source in sources[:_SOURCES]:
        for start in _starts(source, patch):
            arrays = cut(source, start, patch, context)
            shown = [int(np.count_nonzero(label[len(label) // 2])) for label in arrays[1:]]
            rank = (sum(count > 0 for count in shown), sum(shown))
            if best is None or rank > best[0]:
                best = rank, source, start, arrays
    assert best is not None
    _, source, start, arrays = best
    return PreviewPatch(assemble([arrays], flat), source.name, start[0] + patch[0] // 2)


def _starts(source: Source, patch: Shape) -> Iterator[Shape]:
    """The middle of a sample, and for each label a patch around a voxel in the slice that has most of it."""
    centres = [(source.shape[0] // 2, source.shape[1] // 2, source.shape[2] // 2)]
    for label, by_slice in zip(source.labels[:_LABELS], source.foreground, strict=False):
        if by_slice.any():
            z = int(by_slice.argmax())
            voxels = np.flatnonzero(label[z])
            y, x = divmod(int(voxels[len(voxels) // 2]), source.shape[2])
            centres.append((z, y, x))
    for centre in centres:
        sizes = zip(centre, patch, source.shape, strict=True)
        z, y, x = (min(max(0, middle - size // 2), n - size) for middle, size, n in sizes)
        yield z, y, x
