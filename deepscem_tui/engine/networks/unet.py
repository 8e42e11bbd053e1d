"""U-Net."""

from __future__ import annotations

import re

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
        x = net.down(x, level, f"down_{level}")
    x = net.block(x, settings.depth - 1, "bottom")
    for level in reversed(range(settings.depth - 1)):
        coarse, x = x, net.up(x, level, f"up_{level}")
        skip = net.gated(skips[level], coarse, level, f"up_{level}_gate") if settings.attention else skips[level]
        x = net.join(x, skip, f"up_{level}_join")
        x = net.block(x, level, f"up_{level}")
    return net.finished(net.score(x, n_outputs, "score"))


def side_layers(graph: Graph) -> list[str]:
    """Layers of a U-Net's way up below full resolution, each the last of its level, from fine to coarse.

    A 1x1 convolution on each gives the side outputs of deep supervision (Lee et al. 2015). None for other networks.
    """
    last: dict[int, str] = {}
    for layer in graph.layers:
        if found := re.match(r"up_(\d+)_", layer.name):
            last[int(found[1])] = layer.name
    return [last[level] for level in sorted(last) if level > 0]
