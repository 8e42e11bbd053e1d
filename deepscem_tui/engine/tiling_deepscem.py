"""Tiles as DeepSCEM lays them, so that a prediction that was made with it can be repeated.

It mirrors the image at both ends of each axis: one stride before it, and behind it one stride and what is missing to a
whole number of strides. A window starts at every stride. With overlap a stride is half a window, and the middle half of
each is kept; without overlap windows lie side by side and are kept whole. Windows that keep nothing of the image are
left out here; nothing else differs.
"""

from __future__ import annotations

from math import lcm

from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.tiling import AxisPlan, Shape, TilePlan, sides_for

__all__ = ["plan_as_deepscem"]

_USUAL_WINDOW = {2: (256, 256), 3: (64, 256, 256)}  # of its form


def plan_as_deepscem(
    shape: Shape,
    dimension: int,
    divisor: int,
    radius: int,
    window: tuple[int, ...] | None = None,
    overlap: bool = True,
) -> TilePlan:
    """Lay tiles over an image in DeepSCEM's way.

    Args:
        shape: Z, Y, X of the image, each at least 1.
        dimension: 2 for a network of slices, 3 for one of volumes.
        divisor: Sizes that the network takes are multiples of it.
        radius: The network's receptive radius in voxels.
        window: Y, X or Z, Y, X, taken as it is, also where it is larger than the image; that of DeepSCEM's form where
            it is not given.
        overlap: Whether each window overlaps its neighbours by half.

    Raises:
        ParameterError: the window does not suit the network, or cannot be halved twice.
    """
    sides = _USUAL_WINDOW[dimension] if window is None else sides_for(dimension, window)
    step = lcm(divisor, 4) if overlap else divisor
    if any(side % step for side in sides):
        near = ",".join(str(max(1, round(side / step)) * step) for side in sides)
        raise ParameterError(
            f"A window of {','.join(map(str, sides))} does not suit this network and DeepSCEM's way of joining: "
            f"its sides must be multiples of {step}",
            f"Give one that does, such as --patch-size {near}.",
            "patch_size",
        )
    axes = [_axis(size, side, overlap) for size, side in zip(shape[3 - dimension :], sides, strict=True)]
    if dimension == 2:
        axes.insert(0, _axis(shape[0], 1, overlap=False))
    join = "deepscem" if overlap else "deepscem-no-overlap"
    return TilePlan(dimension, divisor, radius, join, (axes[0], axes[1], axes[2]))


def _axis(size: int, side: int, overlap: bool) -> AxisPlan:
    stride = side // 2 if overlap else side
    margin = stride // 2 if overlap else 0  # at either end of a window
    starts = tuple(range(-stride if overlap else 0, size - margin, stride))
    return AxisPlan(size, starts[-1] + side - starts[0], side, margin if len(starts) > 1 else 0, starts)
