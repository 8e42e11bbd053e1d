"""Fully convolutional network."""

from __future__ import annotations

from math import prod
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
            x = net.down(x, level - 1, f"level_{level - 1}")
        x = net.block(x, level, f"level_{level}")
        if level >= settings.depth - _FUSED:
            scores.append(net.score(x, n_outputs, f"level_{level}_score"))
    fused = scores.pop()
    level = settings.depth - 1
    while scores:
        level -= 1
        fused = _enlarged(net, fused, n_outputs, f"level_{level}_up", net.pool(level))
        fused = net.sum(fused, scores.pop(), f"level_{level}_fuse")
    if level > 0:
        factors = tuple(prod(sides) for sides in zip(*map(net.pool, range(level)), strict=True))
        fused = _enlarged(net, fused, n_outputs, "full_up", factors)
    return net.finished(fused)


def _enlarged(net: Drawing, x: str, n_outputs: int, name: str, factors: tuple[int, ...]) -> str:
    if net.settings.up == "interpolated":
        return net.interpolated(x, name, factors)
    kernel = tuple(2 * factor if factor > 1 else 1 for factor in factors)
    return net.transposed(x, n_outputs, name, factors, kernel)


def interpolate(model: Any) -> None:
    """Make the upward layers of a Keras model interpolate linearly."""
    for layer in model.layers:
        if layer.name.endswith("_up") and layer.weights:
            layer.kernel.assign(_interpolation(layer.kernel.shape))


def _interpolation(shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Kernel (k, …, k, C, C) of a transposed convolution that interpolates linearly, of stride k / 2 (1 if k is 1)."""
    kernel = np.ones(())
    for side in shape[:-2]:
        ramp = 1 - np.abs(2 * np.arange(side) + 1 - side) / side
        kernel = np.multiply.outer(kernel, ramp)
    return (kernel[..., None, None] * np.eye(shape[-1])).astype(np.float32)
