"""Networks: U-Net and FCN, the blocks that they are built of, and what follows from their layers."""

from __future__ import annotations

from typing import Any, Protocol

from deepscem_tui.engine.networks.geometry import activation_bytes, count_parameters, divisor, receptive_radius

__all__ = [
    "NetworkSettings", "activation_bytes", "build_network", "count_parameters", "divisor", "n_outputs",
    "receptive_radius",
]  # fmt: skip


class NetworkSettings(Protocol):
    """What a network is built by; :class:`deepscem_tui.engine.parameters.CreateModel` has these."""

    @property
    def dimension(self) -> int: ...
    @property
    def architecture(self) -> str: ...
    @property
    def block(self) -> str: ...
    @property
    def kernel_size(self) -> int: ...
    @property
    def filters(self) -> int: ...
    @property
    def blocks_per_level(self) -> int: ...
    @property
    def normalization(self) -> str: ...
    @property
    def depth(self) -> int: ...
    @property
    def activation(self) -> str: ...
    @property
    def seed(self) -> int: ...


def build_network(settings: NetworkSettings, n_labels: int) -> Any:
    """Build an untrained network.

    Args:
        settings: Its architecture; the same settings give the same weights.
        n_labels: Labels to segment, one output each; softmax adds one more, the last, for the background.

    Returns:
        A Keras model from float32 (B, Y, X, 1) or (B, Z, Y, X, 1), 0 to 1, to float32 (B, [Z,] Y, X, outputs).
        Sides of any length that is a multiple of 2 ** (depth - 1).
    """
    from deepscem_tui.engine.networks import fcn, unet

    build = {"u-net": unet.build, "fcn": fcn.build}[settings.architecture]
    return build(settings, n_outputs(n_labels, settings.activation))


def n_outputs(n_labels: int, activation: str) -> int:
    """Outputs of a new network: one a label, and with softmax one for the background."""
    return n_labels + (activation == "softmax")
