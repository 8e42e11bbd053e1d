"""Connected components of a volume that is read slab by slab: the same numbers whatever the slabs.

Each slab is labelled by itself and its numbers are kept in a file; what touches across two slabs is noted. From these
pairs follows which numbers are one object, and its statistics are the sums of theirs. The objects are numbered in the
order of their first voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.objects.scratch import Scratch
from deepscem_tui.engine.objects.statistics import NUMBER_BYTES, Statistics, measured
from deepscem_tui.engine.system.devices import available_memory

__all__ = ["Components", "Mask", "Watch", "check_slices", "components", "labelled", "numbered", "slabs"]

Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint32]

SLAB_VOXELS = 2**22
_BYTES_PER_VOXEL = 40  # that a slab takes at most: mask, numbers, runs
_OBJECT_BYTES = 3 * NUMBER_BYTES  # while numbers become objects


@dataclass(frozen=True)
class Mask:
    """A mask that is read, or computed, slab by slab.

    Args:
        shape: (Z, Y, X).
        read: The slices from the first to before the second, bool (n, Y, X).
        depth: Slices that are best read together.
    """

    shape: Shape
    read: Callable[[int, int], Bools]
    depth: int = 1


class Watch:
    """Reports progress in voxels, and looks whether to stop, once a slab."""

    def __init__(self, context: Context, task: str, total: int) -> None:
        self._context, self._task, self._total = context, task, total
        self._done = 0

    def advance(self, voxels: int) -> None:
        """Raise :class:`Stopped` on request."""
        self._context.stop.check()
        self._done += voxels
        self._context.report.progress(self._task, self._done, self._total, "voxels")


def slabs(shape: Shape, depth: int = 1) -> Iterator[tuple[int, int]]:
    """First slice of each slab, and the one after its last.

    Raises:
        ResourceError: memory does not suffice for one.
    """
    plane = prod(shape[1:])
    thickness = max(depth, SLAB_VOXELS // plane // depth * depth)
    check_slices(min(thickness, shape[0]), shape, _BYTES_PER_VOXEL)
    for z0 in range(0, shape[0], thickness):
        yield z0, min(z0 + thickness, shape[0])


def check_slices(count: int, shape: Shape, bytes_per_voxel: int) -> None:
    """Raise :class:`ResourceError` if memory does not suffice for so many slices at a time."""
    needed, free = count * prod(shape[1:]) * bytes_per_voxel, available_memory()
    if needed > free:
        what = f"{count} slices of {shape[1]} x {shape[2]} voxels need {needed / 2**30:.1f} GiB of memory"
        raise ResourceError(f"{what}, {free / 2**30:.1f} are free", "Crop it, or use a machine with more memory.")


@dataclass(frozen=True)
class Components:
    """The objects of a mask.

    Args:
        ids: What the voxels have in the file, 0 in the background.
        number: uint32, by what they have in the file: the number of the object, from 1; 0 for 0.
        statistics: Of the objects, in the order of their numbers.
        given: uint32 (n,), what they are called where that is not their numbers.
    """

    ids: Scratch
    number: Ids
    statistics: Statistics
    given: Ids | None = None

    def __len__(self) -> int:
        return len(self.statistics)

    @property
    def shape(self) -> Shape:
        """(Z, Y, X)"""
        return self.ids.shape

    @property
    def names(self) -> Ids:
        """uint32 (n,), what the objects are called: 1, 2 ... unless they had numbers before."""
        return np.arange(1, len(self) + 1, dtype=np.uint32) if self.given is None else self.given

    def read(self, z0: int, z1: int) -> Ids:
        """Numbers of the objects in slices, (n, Y, X)."""
        return self.number[self.ids.read(z0, z1)]

    def selected(self, chosen: Bools, background: bool = False) -> Mask:
        """The mask of some objects.

        Args:
            chosen: (n,)
            background: Whether what is no object belongs to it.
        """
        lookup = np.concatenate([[background], chosen])[self.number]
        return Mask(self.shape, lambda z0, z1: lookup[self.ids.read(z0, z1)])

    def without(self, left_out: Bools) -> Components:
        """The others, numbered anew in the same order.

        Args:
            left_out: (n,)
        """
        kept = np.concatenate([[0], np.where(left_out, 0, np.cumsum(~left_out))]).astype(np.uint32)
        given = None if self.given is None else self.given[~left_out]
        return Components(self.ids, kept[self.number], self.statistics[~left_out], given)


def labelled(mask: Bools, connectivity: int) -> tuple[Ids, int]:
    """Number the components of an array (Z, Y, X) in memory.

    Returns:
        uint32 (Z, Y, X), 1, 2 ... in no order that can be relied on, 0 in the background; how many there are.
    """
    import cc3d

    # Version 4.1 allows for too few numbers at 26 neighbours where an axis has one voxel, or all have three; along
    # such an axis 18 neighbours are the same.
    if 1 in mask.shape:
        connectivity = min(connectivity, 18)
    elif max(mask.shape) < 4:
        padded, count = labelled(np.pad(mask, [(0, 1)] * 3), connectivity)
        z, y, x = mask.shape
        return np.ascontiguousarray(padded[:z, :y, :x]), count
    ids, count = cc3d.connected_components(mask, connectivity=connectivity, return_N=True, out_dtype=np.uint32)
    return np.asarray(ids, np.uint32), int(count)


def components(
    mask: Mask,
    connectivity: int,
    ids: Scratch,
    watch: Watch,
    probabilities: Callable[[int, int], npt.NDArray[Any]] | None = None,
) -> Components:
    """Find the objects of a mask.

    Args:
        connectivity: 6, 18 or 26: voxels of one object share faces, edges too, or corners too.
        ids: Takes the numbers.
        probabilities: Whose means are to be known, read slab by slab.

    Raises:
        ResourceError: memory does not suffice for as many objects.
        Stopped: on request.
    """
    found: list[Statistics] = []
    pairs: list[Ids] = []
    last: Ids | None = None
    count = 0
    for z0, z1 in slabs(mask.shape, mask.depth):
        inside = mask.read(z0, z1)
        labels, new = labelled(inside, connectivity)
        values = None if probabilities is None else probabilities(z0, z1)
        _check_memory(count + new)
        found.append(measured(labels, new, (z0, 0, 0), mask.shape, values))
        np.add(labels, np.uint32(count), out=labels, where=inside)
        ids.write(z0, labels)
        if last is not None:
            pairs.append(_touching(last, labels[0], connectivity))
        last = labels[-1].copy()
        count += new
        watch.advance(inside.size)
    return _joined(ids, Statistics.joined(found), pairs)


def _check_memory(count: int) -> None:
    needed, free = count * _OBJECT_BYTES, available_memory()
    if needed > free:
        raise ResourceError(
            f"There are more than {count:,} separate pieces: their table needs {needed / 2**30:.1f} GiB of memory, "
            f"{free / 2**30:.1f} are free",
            "Is it noise? Use a higher --threshold, or --smooth.",
        )


def _touching(above: Ids, below: Ids, connectivity: int) -> Ids:
    """Pairs of numbers, (n, 2), that are neighbours in two slices one upon the other."""
    sideways = {6: 0, 18: 1, 26: 2}[connectivity]
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if abs(dy) + abs(dx) <= sideways]
    height, width = above.shape
    found = []
    for dy, dx in shifts:
        a = above[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        b = below[max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
        both = (a != 0) & (b != 0)
        joined = a[both].astype(np.uint64) << np.uint64(32) | b[both]
        found.append(np.unique(joined))
    unique = np.unique(np.concatenate(found))
    return np.stack([unique >> np.uint64(32), unique & np.uint64(2**32 - 1)], axis=1).astype(np.uint32)


def _joined(ids: Scratch, parts: Statistics, pairs: list[Ids]) -> Components:
    """Objects from pieces, numbered in the order of their first voxels."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([*pairs, np.zeros((0, 2), np.uint32)]).astype(np.int64) - 1
    count = len(parts)
    if not count:
        return Components(ids, np.zeros(1, np.uint32), parts)
    graph = coo_array((np.ones(len(edges), np.bool_), (edges[:, 0], edges[:, 1])), shape=(count, count))
    n_objects, group = connected_components(graph, directed=False)
    return numbered(ids, parts.merged(group, n_objects), group)


def numbered(ids: Scratch, statistics: Statistics, group: npt.NDArray[Any]) -> Components:
    """Number objects in the order of their first voxels.

    Args:
        statistics: Of the objects.
        group: By the numbers in the file, less 1: the place of the object in the statistics.
    """
    order = np.argsort(statistics.first)
    rank = np.empty(len(order), np.uint32)
    rank[order] = np.arange(1, len(order) + 1)
    return Components(ids, np.concatenate([[np.uint32(0)], rank[group]]).astype(np.uint32), statistics[order])
