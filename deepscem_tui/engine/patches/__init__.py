"""Patches for training: where they are drawn, what is done to them, and the batches made of them.

- ``sources``: a sample to draw from, in memory or on disk.  ``labels``: its labels, a bit each.
- ``loading``: reads the samples once; ``raw_arrays`` and ``cache`` read what does not fit into memory.
- ``shared_arrays``: memory that several processes see.
- ``foreground``: where labelled voxels are.  ``sampler``: draws patches.  ``batches``: patches put together.
- ``workers``: make batches ahead of time, in threads or in processes (``worker_process``).
"""

from __future__ import annotations

from deepscem_tui.engine.patches.batches import Batch, assemble
from deepscem_tui.engine.patches.boxes import Box, cut
from deepscem_tui.engine.patches.cache import Cache, opened_cache
from deepscem_tui.engine.patches.loading import HELD_BYTES, load_sources
from deepscem_tui.engine.patches.sampler import PatchSampler
from deepscem_tui.engine.patches.sources import Source
from deepscem_tui.engine.patches.workers import Batches, by_processes, by_threads

__all__ = [
    "HELD_BYTES",
    "Batch",
    "Batches",
    "Box",
    "Cache",
    "PatchSampler",
    "Source",
    "assemble",
    "by_processes",
    "by_threads",
    "cut",
    "load_sources",
    "opened_cache",
]
