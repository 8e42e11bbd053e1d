"""What the values of a label file stand for: masks from classes, colours, ids and soft edges; slab by slab."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.formats.slice_files import ColourVolume
from deepscem_tui.engine.formats.volumes import Volume

__all__ = ["Above", "Boundaries", "Encoding", "Named", "Shares", "look_at", "named", "proposed", "value_text"]

Mask = npt.NDArray[np.bool_]

_VOXELS = 2**27  # of a file that are looked at for a proposal: slices evenly spread, or all of them
_LISTED = 16  # values of a proposal; more are ids
_BRIGHT = 128  # the least that is taken for white in a mask; classes are seldom that many


class Encoding(Protocol):
    """How labels are told from the values of slices.

    Attributes:
        margin: Slices on either side that it needs to see, too.
    """

    @property
    def margin(self) -> int: ...

    def masks(self, slab: npt.NDArray[Any]) -> list[Mask]:
        """The labels of slices (n, Y, X), each of that shape."""


@dataclass(frozen=True)
class Above:
    """One label: whatever is above a threshold."""

    threshold: float = 0
    margin = 0

    def masks(self, slab: npt.NDArray[Any]) -> list[Mask]:
        return [slab > self.threshold]


@dataclass(frozen=True)
class Named:
    """A label for each set of values; what is in none of them is background."""

    values: tuple[tuple[int, ...], ...]
    margin = 0

    def masks(self, slab: npt.NDArray[Any]) -> list[Mask]:
        return [_any_of(slab, values) for values in self.values]


def _any_of(slab: npt.NDArray[Any], values: Iterable[int]) -> Mask:
    found: Mask = np.zeros(slab.shape, bool)
    for value in values:
        found |= slab == value
    return found


@dataclass(frozen=True)
class Boundaries:
    """Two labels of a file of ids: any id, and where voxels of two ids touch, side by side or in neighbouring slices.

    Both voxels of such a pair are boundary, so that it is two voxels wide; where an id touches 0 there is none.
    """

    margin = 1

    def masks(self, slab: npt.NDArray[Any]) -> list[Mask]:
        touching: Mask = np.zeros(slab.shape, bool)
        for axis in range(3):
            before, after = ([slice(None)] * 3 for _ in range(2))
            before[axis], after[axis] = slice(None, -1), slice(1, None)
            one, other = slab[tuple(before)], slab[tuple(after)]
            differ = (one != other) & (one > 0) & (other > 0)
            touching[tuple(before)] |= differ
            touching[tuple(after)] |= differ
        return [slab > 0, touching]


# ------------------------------------------------------------------------------------------------ looking


@dataclass
class Shares:
    """How many voxels have each value; of files with very many values, of some of them.

    Attributes:
        voxels: All that were looked at.
        coloured: Whether values are colours.
        counts: Voxels by value.
    """

    voxels: int = 0
    coloured: bool = False
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, slab: npt.NDArray[Any]) -> None:
        """Count the values of an array; those that are no whole numbers are rounded down."""
        self.voxels += slab.size
        if len(self.counts) > 2**16:
            return
        if slab.dtype == np.uint8:
            found = np.bincount(slab.reshape(-1), minlength=256)
            self.counts.update({int(value): int(found[value]) for value in np.flatnonzero(found)})
            return
        finite = slab[np.isfinite(slab)] if slab.dtype.kind == "f" else slab
        values, counts = np.unique(finite.astype(np.int64), return_counts=True)
        self.counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    @property
    def foreground(self) -> list[tuple[int, float]]:
        """Values but 0 and their share of the voxels, the smallest value first."""
        return [(value, self.counts[value] / self.voxels) for value in sorted(self.counts) if value]

    @property
    def between(self) -> int:
        """Voxels between 0 and the largest value: of a mask with soft edges."""
        return sum(count for value, count in self.counts.items() if 0 < value < max(self.counts))

    @property
    def soft(self) -> bool:
        """Whether this is a mask with soft edges: from 0 to about white, and few voxels in between, of many values."""
        most = max(self.counts, default=0)
        return most >= _BRIGHT and len(self.counts) > 4 and self.between < 0.5 * (self.voxels - self.counts[0])

    def __str__(self) -> str:
        """Such as ``0 (80 %), 1 (12 %), 2 (8 %)``."""
        shown = sorted(self.counts.items())[:_LISTED]
        more = f" and {len(self.counts) - _LISTED} more" if len(self.counts) > _LISTED else ""
        texts = (f"{value_text(value, self.coloured)} ({100 * n / self.voxels:.3g} %)" for value, n in shown)
        return ", ".join(texts) + more


def value_text(value: int, coloured: bool) -> str:
    """A value as it is given on the command line."""
    return f"#{value:06x}" if coloured else str(value)


def look_at(volume: Volume) -> Shares:
    """Count the values of a file; of a large one in some slices."""
    shares = Shares(coloured=isinstance(volume, ColourVolume))
    number = min(volume.shape[0], max(1, _VOXELS // prod(volume.shape[1:])))
    for z in ((2 * index + 1) * volume.shape[0] // (2 * number) for index in range(number)):
        shares.add(volume.read(z, z + 1))
    return shares


def proposed(shares: Shares, names: Sequence[str]) -> str:
    """The options that would split a file into labels of these names, such as ``--classes mito=1,er=2``."""
    values = [value for value, _ in shares.foreground]
    if len(values) > _LISTED:  # ids
        if len(names) == 2:
            return "--instances boundaries, which makes a label of the ids and one of where two of them touch"
        return "--instances foreground" + (', with "" for each label that it does not hold' if len(names) > 2 else "")
    found = [value_text(value, shares.coloured) for value in values] or ["VALUE"] * len(names)
    pairs = ",".join(f"{name}={value}" for name, value in zip(names, found, strict=False))
    more = f"; all {len(values)} of them need a data set of {len(values)} labels" if len(values) > len(names) else ""
    return f"--classes {pairs}{more}"


def named(classes: Sequence[tuple[str, int]], names: Sequence[str]) -> Named:
    """The encoding of a file by the names that its values are given.

    Args:
        classes: Names and values; a name may have several.
        names: Of the labels, in order; one that has no value is blank.
    """
    by_name: Mapping[str, list[int]] = {name: [] for name in names}
    for name, value in classes:
        by_name[name].append(value)
    return Named(tuple(tuple(values) for values in by_name.values()))
