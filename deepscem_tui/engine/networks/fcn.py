"""Fully convolutional network."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepscem_tui.engine.networks.blocks import Drawing
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.networks.settings import NetworkSettings

_FUSED = 3  # levels


def draw(settings: NetworkSettings, n_outputs: int) -> Graph:
    """A fully convolutional network fused by sums (FCN-8s; Long, Shelhamer & Darrell 2015).

    The last three levels (or as many as there are) each give scores by a 1x1 convolution. From the deepest on they are
    brought to twice the resolution and added to those of the level above, and at last brought to full resolution in
    one step. Transposed convolutions begin as linear interpolation, see :func:`interpolate`.
    """
    net = Drawing(settings)
    x, scores = net.image, []
    for level in range(settings.depth):
        if level > 0:
            x = net.down(x, f"level_{level - 1}_pool")
        x = net.block(x, level, f"level_{level}")
        if level >= settings.depth - _FUSED:
            scores.append(net.score(x, n_outputs, f"level_{level}_score"))
    fused = scores.pop()
    level = settings.depth - 1
    while scores:
        level -= 1
        fused = net.up(fused, n_outputs, f"level_{level}_up", 2, 4)
        fused = net.sum(fused, scores.pop(), f"level_{level}_fuse")
    if level > 0:
        fused = net.up(fused, n_outputs, "full_up", 2**level, 2 * 2**level)
    return net.finished(fused)


def interpolate(model: Any) -> None:
    """Make the upward layers of a Keras model interpolate linearly."""
    for layer in model.layers:
        if layer.name.endswith("_up"):
            layer.kernel.assign(_interpolation(layer.kernel.shape))


def _interpolation(shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Kernel (k, …, k, C, C) of a transposed convolution of stride k / 2 that interpolates linearly."""
    side = shape[0]
    ramp = 1 - np.abs(2 * np.arange(side) + 1 - side) / side
    kernel = ramp
    for _ in shape[3:]:
        kernel = np.multiply.outer(kernel, ramp)
    return (kernel[..., None, None] * np.eye(shape[-1])).astype(np.float32)
