"""Where tiles lie when an image is predicted piece by piece: planned first, without touching the image.

A network with pooling sees an image on a grid: a tile gives what the whole image would only if it starts on a multiple
of the network's divisor, and only further from its inner edges than the network's receptive radius. So along each axis

- the image is extended at its far end, by reflection, to a multiple of the divisor there, and no further;
- all tiles have one length, a multiple of the divisor, and start on multiples of it, the first at 0, the last flush
  with the extended end;
- neighbours overlap by twice the margin or more, and each voxel belongs to the tile it lies deepest in.

With a margin of the receptive radius the joined tiles equal the prediction of the extended image in one piece, but for
networks that take means over all that they are given: to these, tiles are images of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, product
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.errors import ParameterError

__all__ = ["DEFAULT_VOXELS", "AxisPlan", "Layer", "Tile", "TilePlan", "along_axes", "cut", "plan_tiles", "sides_for"]

Join = Literal["crop", "blend", "none"]

# Most voxels of a tile where nothing else is said: a slice of 1024 x 1024, a cube of 128.
DEFAULT_VOXELS = {2: 1024 * 1024, 3: 128**3}
_MOST_A_SIDE = {2: 64, 3: 24}  # numbers of tiles along an axis that are tried


@dataclass(frozen=True)
class AxisPlan:
    """The tiles along one axis.

    Args:
        size: Voxels of the image.
        padded: The same with what is reflected at its ends.
        tile: Length of every tile.
        margin: Voxels at an inner end of a tile that are left to its neighbour, at least; 0 with a single tile.
        starts: First voxel of each tile, ascending; below 0 where a tile begins with reflected voxels.
    """

    size: int
    padded: int
    tile: int
    margin: int
    starts: tuple[int, ...]

    @cached_property
    def cores(self) -> tuple[tuple[int, int], ...]:
        """The voxels ``(start, stop)`` that each tile owns; together ``0..size``, without gap or overlap.

        Where two tiles of one length overlap, a voxel lies deeper in the one on its side of the middle.
        """
        inner = [(here + self.tile + after) // 2 for here, after in pairwise(self.starts)]
        borders = [0, *inner, self.size]
        return tuple(pairwise(borders))


@dataclass(frozen=True)
class Tile:
    """A tile: where it starts, Z, Y, X, and the voxels it owns, as one ``(start, stop)`` an axis."""

    start: Shape
    core: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Layer:
    """Tiles that are computed together: the slices they read and those they own, ``(start, stop)``, and the tiles."""

    read: tuple[int, int]
    own: tuple[int, int]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class TilePlan:
    """Where the tiles of an image lie.

    Args:
        dimension: 2 for a network of slices (tiles are one voxel thick), 3 for one of volumes.
        divisor: Sizes that the network takes, Z, Y, X, are multiples of these.
        radius: How far a voxel's result reaches into the image, Z, Y, X in voxels.
        join: ``"crop"`` for tiles that overlap, ``"blend"`` for their mean, ``"none"`` for tiles side by side, or as
            :mod:`~deepscem_tui.engine.prediction.tiling_deepscem` has it.
        axes: The plan along Z, Y and X.
        sees_all: Whether the network takes means over all that it is given.
        notes: What was changed in the request, one sentence each.
    """

    dimension: int
    divisor: Shape
    radius: Shape
    join: str
    axes: tuple[AxisPlan, AxisPlan, AxisPlan]
    sees_all: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def shape(self) -> Shape:
        return _triple(axis.size for axis in self.axes)

    @property
    def padded(self) -> Shape:
        return _triple(axis.padded for axis in self.axes)

    @property
    def context(self) -> int:
        """Slices that a network of slices is given on each side of the one that its result is for."""
        return self.radius[0] if self.dimension == 2 else 0

    @property
    def given(self) -> Shape:
        """What the network is given for a tile: this, and neighbouring slices."""
        z, y, x = self.tile
        return z + 2 * self.context, y, x

    @property
    def tile(self) -> Shape:
        return _triple(axis.tile for axis in self.axes)

    @property
    def margin(self) -> Shape:
        return _triple(axis.margin for axis in self.axes)

    @property
    def n_tiles(self) -> int:
        return prod(len(axis.starts) for axis in self.axes)

    @property
    def tile_voxels(self) -> int:
        return prod(self.tile)

    @property
    def wasted(self) -> float:
        """Share, 0 to 1, of the computed voxels that is thrown away."""
        return 1 - prod(self.shape) / (self.n_tiles * self.tile_voxels)

    @property
    def exact(self) -> bool:
        """Whether the result equals that of the extended image in one piece."""
        return all(
            axis.starts[0] == 0
            and (len(axis.starts) == 1 or (axis.margin >= radius and self.join != "blend" and not self.sees_all))
            for axis, radius in self._tiled_axes
        )

    @property
    def shortfall(self) -> str:
        """A sentence about what makes joined tiles of ``"crop"`` differ from a prediction in one piece; else empty.

        A margin less than the receptive radius, or means over the whole image.
        """
        if self.exact or self.join != "crop":
            return ""
        margins = [(axis.margin, radius) for axis, radius in self._tiled_axes if len(axis.starts) > 1]
        margin, radius = max(margins, key=lambda pair: pair[1] - pair[0])
        if margin < radius:
            return (
                f"Tiles of {words.sizes(self.tile)} voxels afford a margin of {margin}, less than the network's reach "
                f"of {radius}: voxels where tiles meet may differ slightly from a prediction in one piece"
            )
        return (
            "The network takes means over all that it is given, and each tile has its own: where tiles of "
            f"{words.sizes(self.tile)} voxels meet, results may differ slightly from a prediction in one piece"
        )

    @property
    def _tiled_axes(self) -> tuple[tuple[AxisPlan, int], ...]:
        """The axes that tiles are laid along, with the network's receptive radius."""
        return tuple(zip(self.axes, self.radius, strict=True))[3 - self.dimension :]

    def layers(self, max_voxels: int = 0) -> Iterator[Layer]:
        """The tiles, layer by layer along Z.

        Args:
            max_voxels: For networks of slices, as many slices as have this many voxels make a layer, at least one.
        """
        z, y, x = self.axes
        per_layer = max(1, max_voxels // (y.size * x.size)) if self.dimension == 2 else 1
        for first in range(0, len(z.starts), per_layer):
            chosen = range(first, min(first + per_layer, len(z.starts)))
            tiles = tuple(
                Tile((z.starts[k], y.starts[j], x.starts[i]), (z.cores[k], y.cores[j], x.cores[i]))
                for k, j, i in product(chosen, range(len(y.starts)), range(len(x.starts)))
            )
            first_seen, last_seen = z.starts[chosen[0]] - self.context, z.starts[chosen[-1]] + z.tile + self.context
            seen = _reflected(first_seen, last_seen, z.size)
            read = (int(seen.min()), int(seen.max()) + 1)
            own = (z.cores[chosen[0]][0], z.cores[chosen[-1]][1])
            if self.join == "blend" and self.dimension == 3:  # up to where the next tiles begin
                own = (z.starts[first], z.starts[first + 1] if first + 1 < len(z.starts) else z.size)
            yield Layer(read, own, tiles)

    def as_json(self) -> dict[str, Any]:
        """The plan in JSON types."""
        return {
            "shape": list(self.shape),
            "padded": list(self.padded),
            "dimension": self.dimension,
            "divisor": list(self.divisor),
            "radius": list(self.radius),
            "sees_all": self.sees_all,
            "join": self.join,
            "tile": list(self.tile),
            "margin": list(self.margin),
            "starts": [list(axis.starts) for axis in self.axes],
            "tiles": self.n_tiles,
            "wasted": round(self.wasted, 4),
            "exact": self.exact,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> TilePlan:
        """The plan that :meth:`as_json` wrote; KeyError, TypeError or ValueError if it is none."""
        columns = (facts[name] for name in ("shape", "padded", "tile", "margin", "starts"))
        z, y, x = (
            AxisPlan(int(size), int(padded), int(tile), int(margin), tuple(map(int, starts)))
            for size, padded, tile, margin, starts in zip(*columns, strict=True)
        )
        dimension = int(facts["dimension"])
        divisor, radius = along_axes(facts["divisor"], 1, dimension), along_axes(facts["radius"], 0, dimension)
        return cls(dimension, divisor, radius, str(facts["join"]), (z, y, x), bool(facts.get("sees_all")))


def plan_tiles(
    shape: Shape,
    dimension: int,
    divisor: int | Shape,
    radius: int | Shape,
    patch_size: tuple[int, ...] | None = None,
    join: Join = "crop",
    most_voxels: int | None = None,
    most_deep: int | None = None,
    sees_all: bool = False,
) -> TilePlan:
    """Lay tiles over an image.

    Args:
        shape: Z, Y, X of the image, each at least 1.
        dimension: 2 for a network of slices, 3 for one of volumes.
        divisor: Sizes that the network takes, Z, Y, X, are multiples of these; or one number, see :func:`along_axes`.
        radius: The network's receptive radius, Z, Y, X in voxels; or one number.
        patch_size: Largest tile, Y, X or Z, Y, X; chosen by ``most_voxels`` where it is not given.
        join: ``"crop"`` and ``"blend"`` for overlapping tiles, ``"none"`` for tiles side by side.
        most_voxels: Of a tile that is chosen; :data:`DEFAULT_VOXELS` if not given.
        most_deep: Its length along Z, where the network is one of volumes; the divisor at least.
        sees_all: Whether the network takes means over all that it is given.

    Returns:
        A plan with the fewest tiles that cover the image with that margin, none of them longer than this number needs.

    Raises:
        ParameterError: ``patch_size`` does not suit the network's dimension.
    """
    divisor, radius = along_axes(divisor, 1, dimension), along_axes(radius, 0, dimension)
    padded = _triple(_round_up(size, step) for size, step in zip(shape, divisor, strict=True))
    first = 3 - dimension  # of the axes that tiles are laid along
    steps, reach = divisor[first:], (0,) * dimension if join == "none" else radius[first:]
    notes: tuple[str, ...] = ()
    if patch_size is None:
        deep = most_deep if dimension == 3 else None
        axes = _chosen_axes(shape[first:], steps, reach, most_voxels or DEFAULT_VOXELS[dimension], deep)
    else:
        largest, notes = _requested_tile(patch_size, shape[first:], padded[first:], steps)
        axes = list(map(_plan_axis, shape[first:], largest, steps, reach))
    if dimension == 2:
        axes.insert(0, AxisPlan(shape[0], shape[0], 1, 0, tuple(range(shape[0]))))
    return TilePlan(dimension, divisor, radius, join, (axes[0], axes[1], axes[2]), sees_all, notes)


def along_axes(value: int | Sequence[int], of_slices: int, dimension: int) -> Shape:
    """One number along each axis; ``of_slices`` along Z for a network of slices. A triple stays as it is."""
    if isinstance(value, int):
        return (value if dimension == 3 else of_slices, value, value)
    return _triple(map(int, value))


def _chosen_axes(
    sizes: tuple[int, ...], divisor: tuple[int, ...], radius: tuple[int, ...], most_voxels: int, most_deep: int | None
) -> list[AxisPlan]:
    """The tiles that fit and waste least: with the margin in full if any has it, then the fewest voxels to compute."""
    most = _MOST_A_SIDE[len(sizes)]
    choices = [_axis_choices(size, step, reach, most) for size, step, reach in zip(sizes, divisor, radius, strict=True)]
    if most_deep is not None:
        choices[0] = [axis for axis in choices[0] if axis.tile <= most_deep] or choices[0][-1:]
    whole = [axes[0] for axes in choices]
    if all(len(axis.starts) == 1 for axis in whole) and prod(axis.tile for axis in whole) <= most_voxels:
        return whole  # nothing wastes less
    best: tuple[tuple[int, int, int], tuple[AxisPlan, ...]] | None = None
    for axes in product(*choices):
        voxels = prod(axis.tile for axis in axes)
        if voxels <= most_voxels:
            n_tiles = prod(len(axis.starts) for axis in axes)
            missing = max(
                reach - axis.margin if len(axis.starts) > 1 else 0 for axis, reach in zip(axes, radius, strict=True)
            )
            rank = (max(0, missing), n_tiles * voxels, n_tiles)
            if best is None or rank < best[0]:
                best = rank, axes
    return list(best[1] if best else (axis[-1] for axis in choices))


def _axis_choices(size: int, divisor: int, radius: int, most: int) -> list[AxisPlan]:
    """The tiles along one axis, for one tile, for two, and so on; at last the shortest tile there is."""
    choices: list[AxisPlan] = []
    side = _round_up(size, divisor)
    while side >= divisor and len(choices) < most:
        axis = _plan_axis(size, side, divisor, radius)
        choices.append(axis)
        side = min(side, axis.tile) - divisor
    return [*choices, _plan_axis(size, divisor, divisor, radius)]


def sides_for(dimension: int, patch_size: tuple[int, ...]) -> tuple[int, ...]:
    """The sides of a tile, Y, X or Z, Y, X, that ``--patch-size`` asks for.

    Raises:
        ParameterError: it does not suit the network's dimension.
    """
    given = tuple(patch_size)
    if dimension == 2 and len(given) == 3 and given[0] == 1:
        given = given[1:]
    if len(given) != dimension:
        wanted = "two sizes, Y,X" if dimension == 2 else "three sizes, Z,Y,X"
        raise ParameterError(
            f"--patch-size {','.join(map(str, patch_size))} does not suit a {dimension}D network",
            f"Give {wanted}, or leave it out.",
            "patch_size",
        )
    return given


def cut(slab: npt.NDArray[Any], z0: int, tile: Tile, plan: TilePlan) -> npt.NDArray[Any]:
    """A tile out of a slab, with reflected voxels where it reaches beyond the image.

    Args:
        slab: Slices ``z0`` and on of the image (Z, Y, X), as its layer reads them.

    Returns:
        Voxels of the shape ``plan.given``; a view where nothing is reflected.
    """
    taken, inside = [], True
    starts = (tile.start[0] - plan.context, *tile.start[1:])
    for start, side, size, offset in zip(starts, plan.given, plan.shape, (z0, 0, 0), strict=True):
        voxels = _reflected(start, start + side, size)
        first, last = int(voxels.min()), int(voxels.max()) + 1
        taken.append((slice(first - offset, last - offset), voxels - first))
        inside = inside and start >= 0 and start + side <= size
    part = slab[tuple(box for box, _ in taken)]
    return part if inside else part[np.ix_(*(within for _, within in taken))]


def _reflected(start: int, stop: int, size: int) -> npt.NDArray[np.intp]:
    """The voxels of an image of ``size`` at ``start..stop``; outside it they are those that a mirror at its end shows.

    The outermost voxel is the mirror, as in numpy's ``"reflect"``: 2 1 0 1 2. Far outside they go to and fro.
    """
    period = max(1, 2 * (size - 1))
    there = np.arange(start, stop) % period
    return np.minimum(there, period - there)


def _requested_tile(
    patch_size: tuple[int, ...], shape: tuple[int, ...], padded: tuple[int, ...], divisor: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The tile that ``--patch-size`` asks for, as the network can take it, and what was changed.

    All sizes are along the axes that tiles are laid along.
    """
    given = sides_for(len(shape), patch_size)
    taken = tuple(
        _least_side(min(_round_up(side, step), limit), size, limit, step)
        for side, size, limit, step in zip(given, shape, padded, divisor, strict=True)
    )
    notes: tuple[str, ...] = ()
    if taken != given:
        reason = f"sides are multiples of {words.alike(divisor)} and no larger than the image needs"
        notes = (f"--patch-size {','.join(map(str, given))} became {','.join(map(str, taken))}: {reason}",)
    return taken, notes


def _plan_axis(size: int, largest: int, divisor: int, radius: int) -> AxisPlan:
    """Tiles along one axis: the fewest of at most ``largest`` voxels, then the shortest of that number."""
    padded = _round_up(size, divisor)
    tile = _least_side(min(_round_up(largest, divisor), padded), size, padded, divisor)
    if tile == padded:
        return AxisPlan(size, padded, tile, 0, (0,))
    # Overlaps are multiples of the divisor, since starts are, and even, half of them for either tile; more than half a
    # tile would compute each voxel too often.
    overlap = min(_round_up(2 * radius, divisor), tile // 4 * 2 // divisor * divisor)
    gaps = -(-(padded - tile) // (tile - overlap))
    shortest = _round_up(-(-(padded + gaps * overlap) // (gaps + 1)), divisor)
    tile = _least_side(shortest, size, padded, divisor)
    free = (padded - tile) // divisor
    starts = tuple(index * free // gaps * divisor for index in range(gaps + 1))
    margin = min(here + tile - after for here, after in pairwise(starts)) // 2
    return AxisPlan(size, padded, tile, margin, starts)


def _least_side(tile: int, size: int, padded: int, divisor: int) -> int:
    """``tile``, or the next length with which the last tile's centre lies inside the image.

    Its reflected part then is shorter than the rest of it, so that a tile holds all that it reflects.
    """
    while tile < padded and 2 * (padded - size) >= tile:
        tile += divisor
    return tile


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _triple(values: Any) -> Shape:
    z, y, x = values
    return (int(z), int(y), int(x))
