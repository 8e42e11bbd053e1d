"""Thresholds tuned on a validation: the one above which a label is best told from the rest."""

from __future__ import annotations

import numpy as np

from deepscem_tui.engine.evaluation.metrics import ThresholdCurve

__all__ = ["UNTUNED", "tuned_threshold"]

UNTUNED = 0.5
_LEAST_GAIN = 0.001  # of F1, below which thresholds are alike


def tuned_threshold(curve: ThresholdCurve) -> float:
    """The threshold with the highest F1: the middle of those around it that are as good but for 0.001.

    A network that is sure of itself has about the same F1 over a wide range, and whichever end of that happens to be
    the highest would suit other images least.

    Returns:
        One of the curve's thresholds. :data:`UNTUNED` where the label is absent, where that is as good, and where no
        threshold is better than calling every voxel the label, as with a network that has learned nothing yet.
    """
    if curve.absent:
        return UNTUNED
    f1 = curve.f1
    inside, outside = int(curve.inside.sum()), int(curve.outside.sum())
    everything = 2 * inside / (2 * inside + outside)
    peak = int(f1.argmax())
    untuned = f1[np.searchsorted(curve.THRESHOLDS, UNTUNED)]
    if f1[peak] <= max(float(untuned), everything) + _LEAST_GAIN:
        return UNTUNED
    worse = np.flatnonzero(f1 < f1[peak] - _LEAST_GAIN)
    first = max((int(index) + 1 for index in worse[worse < peak]), default=0)
    last = min((int(index) - 1 for index in worse[worse > peak]), default=len(f1) - 1)
    return float(curve.THRESHOLDS[(first + last) // 2])
