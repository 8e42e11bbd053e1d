"""U-Net."""

from __future__ import annotations

from deepscem_tui.engine.networks.blocks import Drawing
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.networks.settings import NetworkSettings


def draw(settings: NetworkSettings, n_outputs: int) -> Graph:
    """A U-Net (Ronneberger et al. 2015; in 3D, Çiçek et al. 2016).

    A way down of blocks and poolings, a way up where each level joins what came down at its resolution.
    """
    net = Drawing(settings)
    x, skips = net.image, []
    for level in range(settings.depth - 1):
        x = net.block(x, level, f"down_{level}")
        skips.append(x)
        x = net.down(x, f"down_{level}_pool")
    x = net.block(x, settings.depth - 1, "bottom")
    for level in reversed(range(settings.depth - 1)):
        x = net.up(x, settings.filters * 2**level, f"up_{level}_transposed")
        x = net.join(x, skips[level], f"up_{level}_join")
        x = net.block(x, level, f"up_{level}")
    return net.finished(net.score(x, n_outputs, "score"))
