"""U-Net."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine.networks import NetworkSettings, blocks


def build(settings: NetworkSettings, n_outputs: int) -> Any:
    """A U-Net (Ronneberger et al. 2015; in 3D, Çiçek et al. 2016).

    A way down of blocks and poolings, a way up where each level joins what came down at its resolution.

    Returns:
        A Keras model, see :func:`deepscem_tui.engine.networks.build_network`.
    """
    inputs = x = blocks.image_input(settings)
    skips = []
    for level in range(settings.depth - 1):
        x = blocks.block(x, settings, level, f"down_{level}")
        skips.append(x)
        x = blocks.down(x, settings, f"down_{level}_pool")
    x = blocks.block(x, settings, settings.depth - 1, "bottom")
    for level in reversed(range(settings.depth - 1)):
        x = blocks.up(x, settings, settings.filters * 2**level, f"up_{level}_transposed")
        x = blocks.layers.Concatenate(name=f"up_{level}_join")([x, skips[level]])
        x = blocks.block(x, settings, level, f"up_{level}")
    return blocks.finished(inputs, blocks.score(x, settings, n_outputs, "score"), settings)
