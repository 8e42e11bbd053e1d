"""Networks: U-Net and FCN, the blocks that they are built of, and what follows from their layers."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine.networks import fcn, unet
from deepscem_tui.engine.networks.geometry import activation_bytes, count_parameters, divisor, receptive_radius
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.networks.settings import NetworkSettings
from deepscem_tui.engine.networks.unet import side_layers

__all__ = [
    "NetworkSettings", "activation_bytes", "build_network", "count_parameters", "divisor", "draw_network", "n_outputs",
    "receptive_radius", "side_layers",
]  # fmt: skip


def build_network(settings: NetworkSettings, n_labels: int) -> Any:
    """Build an untrained network.

    Args:
        settings: Its architecture; the same settings give the same weights.
        n_labels: Labels to segment, one output each; softmax adds one more, the last, for the background.

    Returns:
        A Keras model from float32 (B, Y, X, 1) or (B, Z, Y, X, 1), 0 to 1, to float32 (B, [Z,] Y, X, outputs). With
        neighbouring slices these are channels, (B, Y, X, slices), and the result is that of the middle one.
        Sides of any length that is a multiple of :func:`divisor`.
    """
    from deepscem_tui.engine.networks.assemble import assemble

    model = assemble(draw_network(settings, n_labels), settings.seed)
    if settings.architecture == "fcn":
        fcn.interpolate(model)
    return model


def draw_network(settings: NetworkSettings, n_labels: int) -> Graph:
    """The layers of such a network, without its weights, and without importing a framework."""
    draw = {"u-net": unet.draw, "fcn": fcn.draw}[settings.architecture]
    return draw(settings, n_outputs(n_labels, settings.activation))


def n_outputs(n_labels: int, activation: str) -> int:
    """Outputs of a new network: one a label, and with softmax one for the background."""
    return n_labels + (activation == "softmax")
