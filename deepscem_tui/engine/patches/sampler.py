"""Draws training patches.

Everything random is a function of (seed, step, position in the batch): the same at any number of workers, and nothing
to save for a resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from deepscem_tui.engine.augmentation.augmenter import Augmenter
from deepscem_tui.engine.augmentation.opencv import as_float32
from deepscem_tui.engine.augmentation.warp import Warp, warped
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.patches.batches import Batch, empty_batch, make_finite
from deepscem_tui.engine.patches.boxes import Box
from deepscem_tui.engine.patches.foreground import Foreground
from deepscem_tui.engine.patches.labels import unpack
from deepscem_tui.engine.patches.sources import Annotated, Source

__all__ = ["PatchSampler"]


class PatchSampler:
    """Draws training patches.

    Args:
        sources: Samples, each at least as large as the patch.
        patch: Shape (Z, Y, X).
        batch_size: Patches in a batch.
        focus: Share of patches, 0-1, that are centred on a foreground voxel (as far as the sample's border lets them),
            of a label chosen evenly among those that have any, in a sample chosen evenly among those that have it.
            The others lie anywhere; in a sample that is annotated in part, anywhere around an annotated voxel.
        augmentation: Strengths of the augmentations that are on, by name.
        flat: Whether batches have no Z, for a 2D network.
        context: Slices on each side that a 2D network sees too, mirrored at the ends of a sample.
        seed: Of everything random.
        weights: Whether samples count by their annotated voxels or equally, for patches that lie anywhere.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        patch: Shape,
        batch_size: int,
        *,
        focus: float,
        augmentation: Mapping[str, float],
        flat: bool,
        seed: int,
        weights: Literal["volume", "equal"] = "volume",
        context: int = 0,
    ) -> None:
        self._sources = sources
        self._patch = patch
        self._context = context
        self._read: Shape = (patch[0] + 2 * context, patch[1], patch[2])
        self.batch_size = batch_size
        self._focus = focus
        self._flat = flat
        self._seed = seed
        volumes = np.array([source.n_annotated for source in sources], float)
        if weights == "equal":
            volumes = np.minimum(volumes, 1)
        ends = np.cumsum(volumes)
        self._volume_ends = ends / ends[-1]  # exactly 1 at the end: the last sample may weigh nothing
        self._where = [source.where or Foreground.of(source.labels, source.shape) for source in sources]
        n_labels = min(len(source.labels) for source in sources)
        self._n_channels = n_labels + (sources[0].ignored is not None)
        having = [[i for i, where in enumerate(self._where) if where.totals[label]] for label in range(n_labels)]
        self._present = [(label, samples) for label, samples in enumerate(having) if samples]
        self._augmenters = [Augmenter(augmentation, self._read, source.voxel_size) for source in sources]

    @property
    def batch_bytes(self) -> int:
        """Of a whole batch."""
        return self.batch_size * int(np.prod(self._read)) * (4 + self._n_channels)

    def batch(self, step: int, positions: range | None = None) -> Batch:
        """The batch of a step, or some of its patches; the same whenever it is asked for."""
        positions = positions or range(self.batch_size)
        batch = empty_batch(len(positions), self._read, self._n_channels)
        for row, position in enumerate(positions):
            rng = np.random.default_rng((self._seed, step, position))
            self._fill(batch, row, self._box(rng), rng)
        return batch.flattened() if self._flat else batch

    def variants(self, box: Box, number: int, count: int) -> Batch:
        """The patch at one place, augmented several times.

        Args:
            box: The place.
            number: Of the place: for another, other things are done.
            count: How often.
        """
        batch = empty_batch(count, self._read, self._n_channels)
        for index in range(count):
            self._fill(batch, index, box, np.random.default_rng((self._seed, number, index)))
        return batch.flattened() if self._flat else batch

    def box(self, step: int, position: int) -> Box:
        """Where the patch at a position in a step's batch lies, before it is warped."""
        return self._box(np.random.default_rng((self._seed, step, position)))

    def place(self, step: int, position: int) -> str:
        """The same in words."""
        box = self.box(step, position)
        return f"of sample {self._sources[box.source].name!r} from voxel {','.join(map(str, box.start))} (Z,Y,X) on"

    def _fill(self, batch: Batch, row: int, box: Box, rng: np.random.Generator) -> None:
        source, augmenter = self._sources[box.source], self._augmenters[box.source]
        warp, orientation = augmenter.draw_geometry(rng)
        if warp is None and not self._context:
            z, y, x = (slice(s, s + size) for s, size in zip(box.start, self._patch, strict=True))
            read, bits = source.read((z, y, x))
        else:
            start = (box.start[0] - self._context, *box.start[1:])
            read, bits = warped(source.read, source.shape, start, self._read, warp or Warp())
        image = batch.images[row, ..., 0]
        image[...] = orientation.apply(as_float32(read))
        make_finite(image)
        augmenter.change_grey_values(image, rng)
        unpack([orientation.apply(plane) for plane in bits], batch.labels[row])

    def _box(self, rng: np.random.Generator) -> Box:
        if self._present and rng.random() < self._focus:
            label, having = self._present[rng.integers(len(self._present))]
            index = having[rng.integers(len(having))]
            centre = self._where[index].draw(label, self._sources[index].labels[label], rng)
            start = [c - size // 2 for c, size in zip(centre, self._patch, strict=True)]
        else:
            index = min(int(np.searchsorted(self._volume_ends, rng.random(), side="right")), len(self._sources) - 1)
            source = self._sources[index]
            firsts, lasts = [0, 0, 0], [n - size for n, size in zip(source.shape, self._patch, strict=True)]
            if source.annotated is not None:
                voxel = source.annotated.draw(0, Annotated(source.ignored), rng)
                firsts = [max(0, at - size + 1) for at, size in zip(voxel, self._patch, strict=True)]
                lasts = [min(at, last) for at, last in zip(voxel, lasts, strict=True)]
            start = [int(rng.integers(a, b + 1)) for a, b in zip(firsts, lasts, strict=True)]
        limits = [n - size for n, size in zip(self._sources[index].shape, self._patch, strict=True)]
        z, y, x = (min(max(0, s), limit) for s, limit in zip(start, limits, strict=True))
        return Box(index, (z, y, x))
