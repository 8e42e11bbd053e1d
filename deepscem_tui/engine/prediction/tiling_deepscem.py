"""Tiles as DeepSCEM lays them, so that a prediction that was made with it can be repeated.

It mirrors the image at both ends of each axis: one stride before it, and behind it one stride and what is missing to a
whole number of strides. A window starts at every stride. With overlap a stride is half a window, and the middle half of
each is kept; without overlap windows lie side by side and are kept whole. Windows that keep nothing of the image are
left out here; nothing else differs.
"""

from __future__ import annotations

from math import lcm

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.prediction.tiling import AxisPlan, TilePlan, along_axes, sides_for

__all__ = ["plan_as_deepscem"]

_USUAL_WINDOW = {2: (256, 256), 3: (64, 256, 256)}  # of its form


def plan_as_deepscem(
    shape: Shape,
    dimension: int,
    divisor: int | Shape,
    radius: int | Shape,
    window: tuple[int, ...] | None = None,
    overlap: bool = True,
    sees_all: bool = False,
) -> TilePlan:
    """Lay tiles over an image in DeepSCEM's way.

    Args:
        shape: Z, Y, X of the image, each at least 1.
        dimension: 2 for a network of slices, 3 for one of volumes.
        divisor, radius: As in :func:`~deepscem_tui.engine.prediction.tiling.plan_tiles`.
        window: Y, X or Z, Y, X, taken as it is, also where it is larger than the image; that of DeepSCEM's form where
            it is not given.
        overlap: Whether each window overlaps its neighbours by half.
        sees_all: Whether the network takes means over all that it is given.

    Raises:
        ParameterError: the window does not suit the network, or cannot be halved twice.
    """
    divisor, radius = along_axes(divisor, 1, dimension), along_axes(radius, 0, dimension)
    sides = _USUAL_WINDOW[dimension] if window is None else sides_for(dimension, window)
    steps = [lcm(step, 4) if overlap else step for step in divisor[3 - dimension :]]
    if any(side % step for side, step in zip(sides, steps, strict=True)):
        near = ",".join(str(max(1, round(side / step)) * step) for side, step in zip(sides, steps, strict=True))
        raise ParameterError(
            f"A window of {','.join(map(str, sides))} does not suit this network and DeepSCEM's way of joining: "
            f"its sides must be multiples of {words.alike(steps)}",
            f"Give one that does, such as --patch-size {near}.",
            "patch_size",
        )
    axes = [_axis(size, side, overlap) for size, side in zip(shape[3 - dimension :], sides, strict=True)]
    if dimension == 2:
        axes.insert(0, _axis(shape[0], 1, overlap=False))
    join = "deepscem" if overlap else "deepscem-no-overlap"
    return TilePlan(dimension, divisor, radius, join, (axes[0], axes[1], axes[2]), sees_all)


def _axis(size: int, side: int, overlap: bool) -> AxisPlan:
    stride = side // 2 if overlap else side
    margin = stride // 2 if overlap else 0  # at either end of a window
    starts = tuple(range(-stride if overlap else 0, size - margin, stride))
    return AxisPlan(size, starts[-1] + side - starts[0], side, margin if len(starts) > 1 else 0, starts)
