"""How well objects are found: matched by their overlap, and how the two divisions of the volume into objects agree.

All of it follows from one sparse table, how many voxels each object of the reference shares with each that was found,
which is gathered slab by slab. Scores of several samples are added with ``+``: an object belongs to its sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.objects.components import Watch, slabs
from deepscem_tui.engine.objects.given import Numbered

__all__ = ["IOUS", "ObjectScore", "score_objects"]

Ids = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]

IOUS = (0.5, 0.75)  # an object is found if it overlaps with another by more than this
_HELD = 2**17  # rows of the table that are held before equal ones are added up


@dataclass(frozen=True)
class Matches:
    """Objects of the reference that were found, by one overlap.

    Args:
        tp: Pairs that overlap by more than that: intersection over union; from 0.5 on an object has at most one.
        overlap: Sum of their intersections over unions.
    """

    tp: int = 0
    overlap: float = 0.0

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.tp + other.tp, self.overlap + other.overlap)


@dataclass(frozen=True)
class ObjectScore:
    """Scores of objects; None where the reference has none.

    Args:
        reference: Objects of the reference.
        found: Objects of the segmentation.
        matches: For each of :data:`IOUS`.
        voxels: Inside of the reference's objects.
        both, ours, theirs: Sums of squares of the voxels that two objects share, and that an object of the reference,
            or of the segmentation, has there. The segmentation's background counts as one object.
        both_log, ours_log, theirs_log: The same, of each times its logarithm to base 2.
    """

    reference: int = 0
    found: int = 0
    matches: tuple[Matches, ...] = field(default_factory=lambda: tuple(Matches() for _ in IOUS))
    voxels: int = 0
    both: float = 0.0
    ours: float = 0.0
    theirs: float = 0.0
    both_log: float = 0.0
    ours_log: float = 0.0
    theirs_log: float = 0.0

    def __add__(self, other: ObjectScore) -> ObjectScore:
        sums = {
            name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__ if name != "matches"
        }
        matches = tuple(a + b for a, b in zip(self.matches, other.matches, strict=True))
        return ObjectScore(matches=matches, **sums)

    def matched(self, index: int) -> dict[str, float | None]:
        """Of one of :data:`IOUS`: counts; precision, recall and F1; the mean overlap of what is matched; and the
        panoptic quality, which is that times F1 (A. Kirillov et al., Panoptic Segmentation, CVPR 2019).
        """
        match = self.matches[index]
        tp, fp, fn = match.tp, self.found - match.tp, self.reference - match.tp
        absent = not self.reference

        def ratio(part: float, whole: float) -> float | None:
            return None if absent else part / whole if whole else 0.0

        return {
            "tp": tp, "fp": fp, "fn": fn,
            "precision": ratio(tp, tp + fp), "recall": ratio(tp, tp + fn), "f1": ratio(2 * tp, 2 * tp + fp + fn),
            "mean_iou": ratio(match.overlap, tp), "pq": ratio(2 * match.overlap, 2 * tp + fp + fn),
        }  # fmt: skip

    @property
    def arand(self) -> float | None:
        """The adapted Rand error, 0 to 1, 0 is best: 1 less F1 over pairs of voxels that are in one object.

        Voxels of the reference's background are left out, as in scikit-image's ``adapted_rand_error`` (I.
        Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015).
        """
        if not self.voxels:
            return None
        pairs = (self.ours - self.voxels) + (self.theirs - self.voxels)
        return 1 - 2 * (self.both - self.voxels) / pairs if pairs else 0.0

    @property
    def voi_split(self) -> float | None:
        """How much is divided: the entropy, in bits, of what was found where the reference is known, 0 is best.

        Over the same voxels as :attr:`arand`; with :attr:`voi_merge` the variation of information (M. Meilă, Journal of
        Multivariate Analysis 98, 2007).
        """
        return max(0.0, (self.ours_log - self.both_log) / self.voxels) if self.voxels else None

    @property
    def voi_merge(self) -> float | None:
        """How much is merged: the entropy, in bits, of the reference where what was found is known, 0 is best."""
        return max(0.0, (self.theirs_log - self.both_log) / self.voxels) if self.voxels else None


def score_objects(
    reference: Numbered, segmentation: Numbered, unknown: Callable[[int, int], Bools] | None, watch: Watch
) -> ObjectScore:
    """Compare the objects of a segmentation with those of a reference.

    Args:
        unknown: Which voxels are left out, by slices, bool (n, Y, X); None for none of them.

    Raises:
        Stopped: on request.
    """
    table = _SharedVoxels()
    for z0, z1 in slabs(reference.shape):
        ours, theirs = reference.read(z0, z1), segmentation.read(z0, z1)
        table.add(ours, theirs, None if unknown is None else ~unknown(z0, z1))
        watch.advance(ours.size)
    return table.score()


class _SharedVoxels:
    """How many voxels pairs of objects share."""

    def __init__(self) -> None:
        self._pairs: list[npt.NDArray[np.uint64]] = []  # two numbers in one
        self._voxels: list[npt.NDArray[np.int64]] = []
        self._rows = 0

    def add(self, ours: Ids, theirs: Ids, known: Bools | None) -> None:
        """Count a slab, by runs of equal pairs."""
        pairs = ours.reshape(-1).astype(np.uint64) << np.uint64(32) | theirs.reshape(-1)
        if known is not None:
            pairs = pairs[known.reshape(-1)]
        if not pairs.size:
            return
        starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
        self._take(pairs[starts], np.diff(starts, append=pairs.size))

    def _take(self, pairs: npt.NDArray[np.uint64], voxels: npt.NDArray[np.int64]) -> None:
        self._pairs.append(pairs)
        self._voxels.append(voxels)
        self._rows += len(pairs)
        if self._rows > max(_HELD, 2 * len(self._pairs[0])):
            self._add_up()

    def _add_up(self) -> None:
        pairs, place = np.unique(np.concatenate([*self._pairs, np.zeros(0, np.uint64)]), return_inverse=True)
        weights = np.concatenate([*self._voxels, np.zeros(0, np.int64)])
        voxels = np.bincount(place.reshape(-1), weights=weights, minlength=len(pairs)).astype(np.int64)
        self._pairs, self._voxels, self._rows = [pairs], [voxels], len(pairs)

    def score(self) -> ObjectScore:
        self._add_up()
        pairs, voxels = self._pairs[0], self._voxels[0]
        ours, theirs = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(2**32 - 1)).astype(np.int64)
        our_size, their_size = _totals(ours, voxels), _totals(theirs, voxels)
        both = (ours > 0) & (theirs > 0)
        shared = voxels[both]
        ious = shared / (our_size[ours[both]] + their_size[theirs[both]] - shared)
        matches = tuple(Matches(int((ious > iou).sum()), float(ious[ious > iou].sum())) for iou in IOUS)
        inside = ours > 0
        rows = voxels[inside].astype(np.float64)
        groups = [rows, _totals(ours[inside], rows), _totals(theirs[inside], rows)]
        squares = [float(group @ group) for group in groups]
        logs = [float((group[group > 0] * np.log2(group[group > 0])).sum()) for group in groups]
        counts = [int(np.count_nonzero(size[1:])) for size in (our_size, their_size)]
        return ObjectScore(counts[0], counts[1], matches, int(rows.sum()), *squares, *logs)


def _totals(numbers: npt.NDArray[np.int64], voxels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Voxels of each number from 0 on."""
    return np.asarray(np.bincount(numbers, weights=voxels, minlength=1), np.float64)
