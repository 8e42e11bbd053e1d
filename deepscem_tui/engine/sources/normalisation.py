"""How grey values become 0 to 1: the same in data sets and, from what a model says of its own, in prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.datasets.dataset import Sample
from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.formats.volumes import Volume, value_range
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.sources.lookup import has_table, look_up
from deepscem_tui.engine.stop import Stop

__all__ = [
    "MIN_MAX",
    "TYPE_RANGE",
    "Grey",
    "Greys",
    "Normalisation",
    "find_greys",
    "normalisation_in",
    "normalisation_of",
    "type_range",
]

Rule = Literal["min-max", "percentiles", "mean-deviation", "type range"]

_RULES: tuple[Rule, ...] = ("min-max", "percentiles", "mean-deviation", "type range")
_EACH = ", each slice"
_PERCENTILES = (0.5, 99.5)
_DEVIATIONS = 3.0  # from the mean to 0 and to 1
_MOST_KEPT = 2**22  # of them in all
_LOOKED_AT = 2**18  # voxels of a slab or a slice whose percentiles are taken where values cannot be counted
_BLOCK = 2**20  # voxels normalised together: what is made of them stays in the processor's cache


@dataclass(frozen=True)
class Normalisation:
    """Which grey values become 0 and 1.

    Args:
        rule: ``"min-max"``, the smallest and the largest; ``"percentiles"``, those of 0.5 and 99.5 % of the voxels;
            ``"mean-deviation"``, three standard deviations below and above the mean; ``"type range"``, the smallest
            and the largest that the type of the voxels has. What lies beyond is cut off.
        per_slice: Whether each slice by itself.
    """

    rule: Rule = "min-max"
    per_slice: bool = False

    def __str__(self) -> str:
        """As it is stored in data sets and models, such as ``percentiles, each slice``."""
        return self.rule + _EACH * self.per_slice


MIN_MAX = Normalisation()
TYPE_RANGE = Normalisation("type range")


def normalisation_of(text: str) -> Normalisation | None:
    """What a data set or a model says; None for what is not known here."""
    for rule in _RULES:
        for per_slice in (False, True):
            if text == str(Normalisation(rule, per_slice)):
                return Normalisation(rule, per_slice)
    return None


def normalisation_in(sample: Sample) -> str:
    """How a sample of a data set is normalised, as it says itself; DeepSCEM's way where it says nothing."""
    return str(sample.attributes.get("normalization") or MIN_MAX)


@dataclass(frozen=True)
class Grey:
    """How grey values become 0 to 1.

    Args:
        low: Value that becomes 0.
        high: Value that becomes 1; if it is ``low``, everything becomes 0.
    """

    low: float
    high: float

    def normalise(self, slab: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Grey values of any shape as ``dtype``, a float type, 0 to 1; what is not finite becomes 0."""
        if self.low == self.high:
            return np.zeros(slab.shape, dtype)
        out = np.empty(slab.shape, dtype)
        if slab.dtype.kind in "biu" and has_table(slab.dtype):
            look_up(slab, lambda every: self._exactly(every).astype(dtype), out)
            return out
        source, target = slab.reshape(-1), out.reshape(-1)
        for start in range(0, source.size, _BLOCK):
            target[start : start + _BLOCK] = self._exactly(source[start : start + _BLOCK])
        return out

    def _exactly(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        exact = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.where(np.isfinite(values), np.clip(exact, 0, 1), 0.0)


@dataclass(frozen=True)
class Greys:
    """What grey values become in a volume.

    Args:
        each: For all slices alike, or one a slice.
        non_finite: Voxels that are NaN or infinite.
    """

    each: tuple[Grey, ...]
    non_finite: int = 0

    @property
    def constant(self) -> bool:
        """Whether all becomes 0."""
        return all(grey.low == grey.high for grey in self.each)

    def normalise(self, z0: int, slab: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Slices (n, Y, X), of which the first is ``z0``, as ``dtype``, a float type, 0 to 1, in their shape."""
        if len(self.each) == 1:
            return self.each[0].normalise(slab, dtype)
        slices = zip(self.each[z0 : z0 + len(slab)], slab, strict=True)
        return np.stack([grey.normalise(slice_, dtype) for grey, slice_ in slices])


def find_greys(volume: Volume, how: Normalisation, report: Reporter, stop: Stop) -> Greys:
    """Look at all of a volume, once; not where its type tells.

    Raises:
        VolumeError: no voxel is finite, the file is damaged, or its type has no range.
        Stopped: on request.
    """
    if how.rule == "type range":
        return Greys((type_range(volume),))
    if how == MIN_MAX:
        found = value_range(volume, report, stop)
        return Greys((Grey(found.low, found.high),), found.non_finite)
    task, depth = f"Grey values of {volume.name}", volume.shape[0]
    kind: Callable[[np.dtype[Any]], _Seen] = _Counted if _countable(volume.dtype) else _Sampled
    whole, each, non_finite = kind(volume.dtype), [], 0
    report.progress(task, 0, depth, "slices")
    for z0, z1, slab in volume.slabs():
        stop.check()
        if not how.per_slice:
            whole.add(slab)
        for slice_ in slab if how.per_slice else ():
            seen = kind(volume.dtype)
            seen.add(slice_)
            each.append(seen.grey(how.rule))
        if slab.dtype.kind == "f":
            non_finite += slab.size - int(np.count_nonzero(np.isfinite(slab)))
        report.progress(task, z0 + (z1 - z0), depth, "slices")
    if non_finite == prod(volume.shape):
        raise VolumeError(f"{volume.path} has no finite voxel: all are NaN or infinite", "Export it again.")
    return Greys(tuple(each) if how.per_slice else (whole.grey(how.rule),), non_finite)


def type_range(volume: Volume) -> Grey:
    """What grey values become by the type of the voxels.

    Raises:
        VolumeError: it is a type of other than whole numbers.
    """
    if volume.dtype.kind == "b":
        return Grey(0, 1)
    if volume.dtype.kind not in "iu":
        what = f"{volume.path} has voxels of type {volume.dtype}, which has no range of its own"
        raise VolumeError(what, "Store it as whole numbers, as what a model has learned from with --range type.")
    limits = np.iinfo(volume.dtype)
    return Grey(limits.min, limits.max)


def _countable(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biu" and dtype.itemsize <= 2


class _Seen(ABC):
    """Values that were seen; of a kind that knows how to look at their type."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.n, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: npt.NDArray[Any]) -> None:
        """Look at an array."""
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)
        if not finite.size:
            return
        self.n += finite.size
        exact = finite.astype(np.float64)
        self.total += float(exact.sum())
        self.squares += float(np.square(exact).sum())
        self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        self._keep(finite)

    def grey(self, rule: Rule) -> Grey:
        """What the values become by a rule."""
        if not self.n:
            return Grey(0.0, 0.0)
        low, high = self.low, self.high
        if rule == "percentiles":
            low, high = self._percentiles()
        elif rule == "mean-deviation":
            mean = self.total / self.n
            deviation = max(0.0, self.squares / self.n - mean**2) ** 0.5
            low, high = mean - _DEVIATIONS * deviation, mean + _DEVIATIONS * deviation
        if not low < high:  # nearly all of it is the same
            low, high = self.low, self.high
        return Grey(low, high)

    @abstractmethod
    def _keep(self, finite: npt.NDArray[Any]) -> None:
        """Take values for the percentiles."""

    @abstractmethod
    def _percentiles(self) -> tuple[float, float]:
        """Of all values that were taken."""


class _Counted(_Seen):
    """Whole numbers of up to 16 bits, counted one by one."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        self._unsigned = np.dtype(f"u{dtype.itemsize}")
        self._counts = np.zeros(256**dtype.itemsize, np.int64)

    def _keep(self, finite: npt.NDArray[Any]) -> None:
        bits = np.ascontiguousarray(finite).view(self._unsigned)
        self._counts += np.bincount(bits, minlength=self._counts.size)

    def _percentiles(self) -> tuple[float, float]:
        values = np.arange(self._counts.size, dtype=self._unsigned).view(self.dtype).astype(np.float64)
        order = np.argsort(values, kind="stable")
        ends = np.cumsum(self._counts[order])
        low, high = (values[order][np.searchsorted(ends, share / 100 * self.n)] for share in _PERCENTILES)
        return float(low), float(high)


class _Sampled(_Seen):
    """Other numbers, of which one of so many is kept, the same of every array."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        self._some: list[npt.NDArray[Any]] = []
        self._step, self._kept = 1, 0

    def _keep(self, finite: npt.NDArray[Any]) -> None:
        while finite.size // self._step > _LOOKED_AT:
            self._double()
        self._some.append(finite[:: self._step].copy())
        self._kept += len(self._some[-1])
        while self._kept > _MOST_KEPT:
            self._double()

    def _double(self) -> None:
        """Keep half as many, of what was seen before, too: each voxel counts as much as any other."""
        self._step *= 2
        self._some = [some[::2].copy() for some in self._some]
        self._kept = sum(map(len, self._some))

    def _percentiles(self) -> tuple[float, float]:
        low, high = np.percentile(np.concatenate(self._some).astype(np.float64), _PERCENTILES)
        return float(low), float(high)
