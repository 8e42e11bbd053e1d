"""Patches for training: where they are drawn, what is done to them, and the batches made of them.

- ``sources``: a sample to draw from, in memory or on disk.  ``labels``: its labels, a bit each.
- ``foreground``: where labelled voxels are.  ``sampler``: draws patches.  ``batches``: makes batches, ahead of time.
"""

from __future__ import annotations

from deepscem_tui.engine.patches.batches import Batch, assemble, prefetched
from deepscem_tui.engine.patches.boxes import Box, covering_boxes, cut, fixed_batches
from deepscem_tui.engine.patches.loading import load_sources
from deepscem_tui.engine.patches.sampler import PatchSampler
from deepscem_tui.engine.patches.sources import Shape, Source

__all__ = [
    "Batch",
    "Box",
    "PatchSampler",
    "Shape",
    "Source",
    "assemble",
    "covering_boxes",
    "cut",
    "fixed_batches",
    "load_sources",
    "prefetched",
]
