"""Images whose grey values are the other way round than those that a model learned from: dark for bright."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, Sample
from deepscem_tui.engine.models.info import GREY_VALUES, ModelInfo
from deepscem_tui.engine.sources.inputs import InputImage
from deepscem_tui.engine.sources.source import Source

__all__ = ["grey_values", "looks_inverted", "say_inverted"]

_BINS = 16
_SLICES = 4  # of an image that are looked at
_EVERY = 2**20  # voxels of a slice that are looked at, about
_FAR = 0.08  # mean difference of grey values, 0 to 1
_NEARER = 0.5  # the mirrored values must be so much nearer


def grey_values(dataset: Dataset) -> list[float]:
    """Share of the voxels in each of 16 ranges of grey values from 0 to 1, in all samples, by some of their slices."""
    found = [_shares(Source(sample.name, sample.shape, _reader(sample))) for sample in dataset.samples.values()]
    return [round(float(share), 5) for share in np.mean(found, axis=0)]


def _reader(sample: Sample) -> Callable[[int, int], Any]:
    image = sample.image
    return lambda z0, z1: image[z0:z1]


def say_inverted(info: ModelInfo, images: Sequence[InputImage], context: Context) -> None:
    """Warn of images that are measured and look inverted; nothing is said for models that do not know."""
    known = (info.training or {}).get(GREY_VALUES)
    if not isinstance(known, list) or len(known) != _BINS or not all(isinstance(share, int | float) for share in known):
        return
    for image in images:
        source = image.result.source
        if looks_inverted(_shares(source).tolist(), known):
            context.report.warning(
                f"{source.name!r} looks inverted: dark where the images that the model learned from are bright, or the "
                "other way round. If it is, invert it first (in Fiji: Edit > Invert)"
            )


def looks_inverted(found: Sequence[float], known: Sequence[float]) -> bool:
    """Whether grey values are far from those that are known, and much nearer to them when mirrored.

    Args:
        found, known: Shares of the voxels, as of :func:`grey_values`.
    """
    apart, mirrored = _distance(found, known), _distance(found[::-1], known)
    return apart > _FAR and mirrored < _NEARER * apart


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    """By how much grey values must change, in the mean, for one to become the other."""
    return float(np.abs(np.cumsum(np.subtract(one, other))).sum() / _BINS)


def _shares(source: Source) -> npt.NDArray[np.float64]:
    """Of an image, by some of its slices."""
    depth, n = source.shape[0], min(source.shape[0], _SLICES)
    counts = np.zeros(_BINS)
    for z in dict.fromkeys((2 * index + 1) * depth // (2 * n) for index in range(n)):
        voxels = source.read(z, z + 1).reshape(-1)
        some = source.normalised(voxels[:: max(1, voxels.size // _EVERY)])
        counts += np.histogram(np.clip(some, 0, 1), _BINS, (0, 1))[0]
    shares: npt.NDArray[np.float64] = counts / max(1.0, counts.sum())
    return shares
