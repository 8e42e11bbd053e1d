"""Objects that have numbers already, as other programs and `find-objects` write them: any number above 0 is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.errors import DataError
from deepscem_tui.engine.objects.components import Components, Watch, numbered, slabs
from deepscem_tui.engine.objects.scratch import Scratch
from deepscem_tui.engine.objects.statistics import Statistics, measured

__all__ = ["Numbered", "given_components", "given_numbers"]

Ids = npt.NDArray[np.uint32]
Read = Callable[[int, int], npt.NDArray[Any]]

_MOST = 2**32 - 1  # that an image of numbers can hold


@dataclass(frozen=True)
class Numbered:
    """Objects as numbers.

    Args:
        shape: (Z, Y, X).
        count: Numbers are from 1 to this.
        read: The slices from the first to before the second, uint32 (n, Y, X), 0 in the background.
    """

    shape: Shape
    count: int
    read: Callable[[int, int], Ids]


def given_numbers(shape: Shape, read: Read, watch: Watch) -> Numbered:
    """Objects with their numbers made consecutive.

    Args:
        read: The slices from the first to before the second, of any type.

    Raises:
        DataError: a number is too large.
        Stopped: on request.
    """
    known = np.zeros(0, np.int64)
    for z0, z1 in slabs(shape):
        values = read(z0, z1)
        known = np.union1d(known, _distinct(values))
        watch.advance(values.size)
    return Numbered(shape, len(known), lambda z0, z1: _places(read(z0, z1), known))


def given_components(shape: Shape, read: Read, ids: Scratch, watch: Watch) -> Components:
    """Objects with their statistics, in the order of their first voxels; they keep their numbers.

    Args:
        read: The slices from the first to before the second, of any type.
        ids: Takes the numbers.

    Raises:
        DataError: a number is too large.
        Stopped: on request.
    """
    known = np.zeros(0, np.int64)
    place_of: dict[int, int] = {}  # of each value, in the order in which they come
    parts: list[Statistics] = []
    groups: list[npt.NDArray[np.int64]] = []
    for z0, z1 in slabs(shape):
        values = read(z0, z1)
        known = _distinct(values)
        places = np.array([place_of.setdefault(value, len(place_of)) for value in known.tolist()], np.int64)
        local = _places(values, known)
        parts.append(measured(local, len(known), (z0, 0, 0), shape))
        groups.append(places)
        ids.write(z0, np.concatenate([[0], places + 1]).astype(np.uint32)[local])
        watch.advance(values.size)
    whole = Statistics.joined(parts).merged(np.concatenate([*groups, np.zeros(0, np.int64)]), len(place_of))
    found = numbered(ids, whole, np.arange(len(place_of)))
    names = np.array(list(place_of), np.uint32)[np.argsort(whole.first)]
    return Components(ids, found.number, found.statistics, names)


def _distinct(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The whole numbers above 0 of an array, ascending; equal neighbours are looked at once."""
    flat = values.reshape(-1)
    some = flat[np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))]
    if some.dtype.kind == "f":
        some = np.rint(np.nan_to_num(some))
    found = np.unique(some)
    if found.size and found[-1] > _MOST:
        raise DataError(f"There is an object with the number {found[-1]:g}", f"Numbers may be up to {_MOST:,}.")
    whole = found.astype(np.int64)
    return whole[whole > 0]


def _places(values: npt.NDArray[Any], known: npt.NDArray[np.int64]) -> Ids:
    """Numbers from 1 by the place of each value among the known ones."""
    if values.dtype.kind == "f":
        values = np.rint(np.nan_to_num(values))
    return np.where(values > 0, np.searchsorted(known, values) + 1, 0).astype(np.uint32)
