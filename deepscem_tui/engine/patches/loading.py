"""Reads the samples that a training draws from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepscem_tui.engine.datasets import Sample
from deepscem_tui.engine.patches.foreground import BLOCK, Foreground
from deepscem_tui.engine.patches.labels import PackedLabels, n_planes, pack
from deepscem_tui.engine.patches.sources import Source
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop

__all__ = ["load_sources"]

_SLAB_BYTES = 16 << 20


def load_sources(samples: Sequence[Sample], memory: int, report: Reporter, stop: Stop) -> list[Source]:
    """Read the samples once: count the foreground, and keep in memory what fits.

    Args:
        samples: Labelled samples of an open data set, which must stay open.
        memory: Bytes that may be held; what does not fit is read from the file patch by patch.
    """
    total = sum(sample.shape[0] for sample in samples)
    sources, done = [], 0
    for sample in samples:
        n_bytes = (int(sample.image.dtype.itemsize) + n_planes(len(sample.labels))) * int(np.prod(sample.shape))
        held = n_bytes <= memory
        memory -= n_bytes if held else 0
        image = sample.image[...] if held else sample.image
        planes = np.empty((n_planes(len(sample.labels)), *sample.shape), np.uint8) if held else None
        where = Foreground(sample.shape, len(sample.labels))
        step = max(1, _SLAB_BYTES // (sample.shape[1] * sample.shape[2] * BLOCK[0])) * BLOCK[0]
        for z in range(0, sample.shape[0], step):
            stop.check()
            slabs = [label[z : z + step] for label in sample.labels]
            for index, slab in enumerate(slabs):
                where.add(index, z, slab)
            if planes is not None:
                planes[:, z : z + step] = pack(slabs, (min(step, sample.shape[0] - z), *sample.shape[1:]))
            done += min(step, sample.shape[0] - z)
            report.progress("Reading samples", done, total, "slices")
        labels = sample.labels if planes is None else PackedLabels(planes, len(sample.labels))
        sources.append(
            Source(
                sample.name, sample.shape, sample.voxel_size, image, labels, where.by_slice,
                n_bytes if held else 0, where,
            )
        )  # fmt: skip
    return sources
