"""How well a segmentation fits its reference, from one count of voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

_BLOCK = 1 << 15  # voxels whose comparison stays in the processor's cache


@dataclass(frozen=True)
class Confusion:
    """Voxel counts of one label; counts of further slabs and samples are added with ``+``.

    The scores are floats from 0 to 1, or None where the reference has no voxel of the label: nothing can be found,
    so nothing can be scored. Where the label is present but nothing was segmented, precision, strictly 0 / 0, is 0.

    Args:
        tp: True positives, foreground in both.
        fp: False positives, foreground in the segmentation only.
        fn: False negatives, foreground in the reference only.
        tn: True negatives, foreground in neither.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def voxels(self) -> int:
        """All that were compared."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def absent(self) -> bool:
        """Whether the reference has no voxel of the label."""
        return self.tp + self.fn == 0

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN), also known as the Dice coefficient."""
        return self._score(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float | None:
        """TP / (TP + FP + FN), intersection over union, also known as the Jaccard index."""
        return self._score(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP), the share of the segmented voxels that is right."""
        return self._score(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN), the share of the reference's voxels that was found."""
        return self._score(self.tp, self.tp + self.fn)

    def _score(self, part: int, whole: int) -> float | None:
        if self.absent:
            return None
        return part / whole if whole else 0.0


_BINS = 256


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """Scores at every threshold k / 256, k from 0 to 255, from one histogram of the probabilities.

    A voxel is foreground above the threshold, so the counts at these thresholds are exact: multiplying by 256 is exact
    in binary, and a probability in (k / 256, (k + 1) / 256] is above the thresholds 0 to k / 256.

    Args:
        inside: int64 (257,), voxels of the reference's foreground: those at 0 or below (and NaN), then those of each
            of the 256 bins.
        outside: The same of its background.
    """

    inside: npt.NDArray[np.int64]
    outside: npt.NDArray[np.int64]
    THRESHOLDS: ClassVar[npt.NDArray[np.float64]] = np.arange(_BINS) / _BINS

    @classmethod
    def of(cls, reference: npt.NDArray[np.bool_], probabilities: npt.NDArray[Any]) -> ThresholdCurve:
        """Count one label's probabilities.

        Args:
            reference: Mask of any shape.
            probabilities: Floats of the same shape.
        """
        counts = np.zeros(2 * (_BINS + 1), np.int64)
        a, b = np.broadcast_arrays(reference, probabilities)
        with np.nditer(
            [a, b], flags=["external_loop", "buffered", "zerosize_ok"], op_flags=[["readonly"]] * 2, buffersize=_BLOCK
        ) as blocks:
            for true, values in blocks:
                bins = np.ceil(np.clip(np.nan_to_num(values), 0, 1) * values.dtype.type(_BINS)).astype(np.int16)
                counts += np.bincount(bins + np.int16(_BINS + 1) * true, minlength=counts.size)
        return cls(counts[_BINS + 1 :], counts[: _BINS + 1])

    def __add__(self, other: ThresholdCurve | None) -> ThresholdCurve:
        return self if other is None else ThresholdCurve(self.inside + other.inside, self.outside + other.outside)

    @property
    def absent(self) -> bool:
        """Whether the reference has no voxel of the label: there is no score then."""
        return not self.inside.any()

    def at(self, threshold: float) -> Confusion:
        """The counts at one of the thresholds; ValueError if it is none of them."""
        index = threshold * _BINS
        if index not in range(_BINS):
            raise ValueError(f"{threshold} is not one of the thresholds k / {_BINS}")
        below = slice(0, int(index) + 1)
        fn, tn = int(self.inside[below].sum()), int(self.outside[below].sum())
        return Confusion(int(self.inside.sum()) - fn, int(self.outside.sum()) - tn, fn, tn)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """float64 (256,)"""
        true, false = self._above
        return np.asarray(2 * true / np.maximum(true + false + self.inside.sum(), 1), np.float64)

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """float64 (256,); 0 where nothing is segmented"""
        true, false = self._above
        return np.asarray(true / np.maximum(true + false, 1), np.float64)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """float64 (256,)"""
        return np.asarray(self._above[0] / np.maximum(self.inside.sum(), 1), np.float64)

    @property
    def others_at_best(self) -> tuple[float, float]:
        """Precision and recall where F1 is highest."""
        index = int(np.argmax(self.f1))
        return float(self.precision[index]), float(self.recall[index])

    @property
    def _above(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Voxels above each threshold, inside and outside of the reference."""
        return self.inside[:0:-1].cumsum()[::-1], self.outside[:0:-1].cumsum()[::-1]


def confusion(reference: npt.NDArray[Any], segmentation: npt.NDArray[Any]) -> Confusion:
    """Compare two masks of one label.

    Args:
        reference: Any shape, bool or numbers; what is not 0 is foreground.
        segmentation: The same shape, likewise.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != segmentation.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {segmentation.shape}")
    true = found = both = 0
    overlap = np.empty(_BLOCK, np.bool_)
    # Block by block, so that memory is read once: twice as fast as three counts of whole arrays, 12 times as bincount.
    with np.nditer(
        [reference, segmentation],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly"], ["readonly"]],
        buffersize=_BLOCK,
    ) as blocks:
        for a, b in blocks:
            true += int(np.count_nonzero(a))
            found += int(np.count_nonzero(b))
            both += int(np.count_nonzero(np.logical_and(a, b, out=overlap[: a.size])))
    return Confusion(both, found - both, true - both, reference.size - true - found + both)
