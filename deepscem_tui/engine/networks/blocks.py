"""The parts that networks are built of, for images and volumes alike, as layers in a graph."""

from __future__ import annotations

from typing import Any

from deepscem_tui.engine.networks.graph import KINDS, Graph, Layer
from deepscem_tui.engine.networks.settings import NetworkSettings

# Of the moving statistics that prediction uses. Keras' own 0.99 follows so slowly that after 300 steps a network that
# had learned its training patches predicted next to nothing (F1 0.09, 0.92 with 0.9). PyTorch's default amounts to 0.9.
MOMENTUM = 0.9


class Drawing:
    """A network that is put together; every method gives the name of the last layer that it added."""

    def __init__(self, settings: NetworkSettings) -> None:
        self.settings = settings
        self._layers: list[Layer] = []
        self.image = self._add("InputLayer", "image")

    def block(self, x: str, level: int, name: str) -> str:
        """The convolutions of one level.

        Plain (VGG, Simonyan & Zisserman 2015), or residual (He et al. 2016) with a 1x1 convolution as the shortcut.
        A convolution stands before its normalisation, so that prediction can fold the two into one.

        Args:
            level: 0 at full resolution; filters double from one to the next.
        """
        settings = self.settings
        filters = settings.filters * 2**level
        first = x
        for number in range(1, settings.blocks_per_level + 1):
            x = self._convolution(x, filters, settings.kernel_size, f"{name}_convolution_{number}")
            x = self._normalized(x, f"{name}_normalization_{number}")
            if settings.block == "vgg" or number < settings.blocks_per_level:
                x = self._add("Activation", f"{name}_relu_{number}", x, activation="relu")
        if settings.block == "vgg":
            return x
        shortcut = self._convolution(first, filters, 1, f"{name}_shortcut")
        shortcut = self._normalized(shortcut, f"{name}_shortcut_normalization")
        x = self.sum(x, shortcut, f"{name}_add")
        return self._add("Activation", f"{name}_relu", x, activation="relu")

    def down(self, x: str, name: str) -> str:
        """Half the resolution: the largest of each 2 x 2 (x 2) voxels."""
        return self._add("MaxPooling{}D", name, x)

    def up(self, x: str, filters: int, name: str, factor: int = 2, kernel_size: int = 2) -> str:
        """``factor`` times the resolution, by a transposed convolution."""
        sizes = {"kernel_size": kernel_size, "strides": factor}
        return self._add("Conv{}DTranspose", name, x, filters=filters, padding="same", **sizes)

    def join(self, x: str, y: str, name: str) -> str:
        """The channels of both."""
        return self._add("Concatenate", name, x, y)

    def sum(self, x: str, y: str, name: str) -> str:
        """Channel by channel."""
        return self._add("Add", name, x, y)

    def score(self, x: str, n_outputs: int, name: str) -> str:
        """One number an output and voxel, by a 1x1 convolution."""
        return self._add("Conv{}D", name, x, filters=n_outputs, kernel_size=1, padding="same")

    def finished(self, x: str) -> Graph:
        """The network from the image to ``x`` with its last activation."""
        output = self._add("Activation", "output", x, activation=self.settings.activation)
        name = self.settings.architecture.replace("-", "_")
        return Graph(name, tuple(self._layers), output, self.settings.dimension)

    def _convolution(self, x: str, filters: int, kernel_size: int, name: str) -> str:
        """A convolution without a bias where a normalisation, which has one, follows."""
        use_bias = self.settings.normalization == "none"
        sizes = {"filters": filters, "kernel_size": kernel_size}
        return self._add("Conv{}D", name, x, padding="same", use_bias=use_bias, **sizes)

    def _normalized(self, x: str, name: str) -> str:
        if self.settings.normalization == "none":
            return x
        return self._add("BatchNormalization", name, x, momentum=MOMENTUM)

    def _add(self, kind: str, name: str, *inputs: str, **given: Any) -> str:
        dimension = self.settings.dimension
        kind = kind.format(dimension)
        settings = {key: check(given.get(key, usual), dimension) for key, (check, usual) in KINDS[kind].items()}
        self._layers.append(Layer(name, kind, settings, inputs))
        return name
