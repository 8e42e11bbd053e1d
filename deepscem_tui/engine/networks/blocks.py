"""The parts that networks are built of, for images and volumes alike, as layers in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

from deepscem_tui.engine.networks.graph import KINDS, Graph, Layer
from deepscem_tui.engine.networks.settings import NetworkSettings

# Of the moving statistics that prediction uses. Keras' own 0.99 follows so slowly that after 300 steps a network that
# had learned its training patches predicted next to nothing (F1 0.09, 0.92 with 0.9). PyTorch's default amounts to 0.9.
MOMENTUM = 0.9


_GROUPS = 8  # of channels, at most, in group normalisation
_SQUEEZED = 16  # channels for each that squeeze-excitation looks at


class Drawing:
    """A network that is put together; every method gives the name of the last layer that it added."""

    def __init__(self, settings: NetworkSettings) -> None:
        self.settings = settings
        self._layers: list[Layer] = []
        self.image = self._add("InputLayer", "image", channels=1 + 2 * settings.context_slices)

    def block(self, x: str, level: int, name: str) -> str:
        """The convolutions of one level.

        Plain (VGG, Simonyan & Zisserman 2015), or residual (He et al. 2016) with a 1x1 convolution as the shortcut.
        A convolution stands before its normalisation, so that prediction can fold the two into one. The channels may
        be weighed (:meth:`_excited`), and at the end some left out whole (Tompson et al. 2015).

        Args:
            level: 0 at full resolution; filters double from one to the next.
        """
        settings = self.settings
        filters = settings.filters * 2**level
        kernel = self._sides(level, settings.kernel_size)
        first = x
        for number in range(1, settings.blocks_per_level + 1):
            x = self._convolution(x, filters, kernel, f"{name}_convolution_{number}")
            x = self._normalized(x, filters, f"{name}_normalization_{number}")
            if settings.block == "vgg" or number < settings.blocks_per_level:
                x = self._relu(x, f"{name}_relu_{number}")
        if settings.squeeze_excitation:
            x = self._excited(x, filters, name)
        if settings.block == "residual":
            shortcut = self._convolution(first, filters, 1, f"{name}_shortcut")
            shortcut = self._normalized(shortcut, filters, f"{name}_shortcut_normalization")
            x = self.sum(x, shortcut, f"{name}_add")
            x = self._relu(x, f"{name}_relu")
        if settings.dropout:
            x = self._add("SpatialDropout{}D", f"{name}_dropout", x, rate=settings.dropout)
        return x

    def down(self, x: str, level: int, name: str) -> str:
        """From a level to the next, by :meth:`pool`: the largest of each pool's voxels, or a convolution of them.

        The convolution, with its normalisation, is that of V-Net (Milletari et al. 2016).
        """
        pool = self.pool(level)
        if self.settings.down == "max-pool":
            return self._add("MaxPooling{}D", f"{name}_pool", x, pool_size=pool, strides=pool)
        filters = self.settings.filters * 2**level
        x = self._convolution(x, filters, pool, f"{name}_strided", strides=pool)
        return self._relu(self._normalized(x, filters, f"{name}_strided_normalization"), f"{name}_strided_relu")

    def up(self, x: str, level: int, name: str) -> str:
        """To a level from the next, by a transposed convolution, or by interpolation after a 1x1 convolution.

        The convolution comes first since it computes the same there with fewer voxels.
        """
        filters, pool = self.settings.filters * 2**level, self.pool(level)
        if self.settings.up == "transposed":
            return self.transposed(x, filters, f"{name}_transposed", pool, pool)
        x = self._add("Conv{}D", f"{name}_pointwise", x, filters=filters, kernel_size=1, padding="same")
        return self.interpolated(x, f"{name}_interpolated", pool)

    def transposed(self, x: str, filters: int, name: str, factors: Sequence[int], kernel: Sequence[int]) -> str:
        """``factors`` times the resolution, by a transposed convolution."""
        sizes = {"kernel_size": tuple(kernel), "strides": tuple(factors)}
        return self._add("Conv{}DTranspose", name, x, filters=filters, padding="same", **sizes)

    def interpolated(self, x: str, name: str, factors: Sequence[int]) -> str:
        """``factors`` times the resolution, linear between pixels; in 3D, where Keras has no more, repeated voxels."""
        linear = {"interpolation": "bilinear"} if self.settings.dimension == 2 else {}
        return self._add("UpSampling{}D", name, x, size=tuple(factors), **linear)

    def gated(self, skip: str, coarse: str, level: int, name: str) -> str:
        """What comes down from a level, weighed voxel by voxel by the one below (attention gate; Oktay et al. 2018).

        Without the convolution at its end, since the block that follows begins with one.
        """
        pool, filters = self.pool(level), max(1, self.settings.filters * 2**level // 2)
        skip_part = self._add(
            "Conv{}D", f"{name}_skip", skip, filters=filters, kernel_size=pool, strides=pool, padding="same",
            use_bias=False,
        )  # fmt: skip
        coarse_part = self._add("Conv{}D", f"{name}_coarse", coarse, filters=filters, kernel_size=1, padding="same")
        both = self._relu(self.sum(skip_part, coarse_part, f"{name}_add"), f"{name}_relu")
        weight = self.score(both, 1, f"{name}_score")
        weight = self._add("Activation", f"{name}_weight", weight, activation="sigmoid")
        return self._add("Multiply", name, skip, self.interpolated(weight, f"{name}_enlarged", pool))

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

    def pool(self, level: int) -> tuple[int, ...]:
        """Voxels of a level that become one of the next, along each axis."""
        return self._sides(level, 2)

    def _sides(self, level: int, side: int) -> tuple[int, ...]:
        """``side`` along each axis; 1 along Z in the levels that leave slices apart, where these are thick."""
        sides = (side,) * self.settings.dimension
        return (1, *sides[1:]) if level < self.settings.anisotropy else sides

    def _excited(self, x: str, filters: int, name: str) -> str:
        """Channels weighed by what is in the whole image (squeeze and excitation; Hu et al. 2018)."""
        few = max(4, filters // _SQUEEZED)
        y = self._add("GlobalAveragePooling{}D", f"{name}_mean", x, keepdims=True)
        squeeze = {"filters": few, "kernel_size": 1, "activation": "relu"}
        y = self._add("Conv{}D", f"{name}_squeeze", y, padding="same", **squeeze)
        excite = {"filters": filters, "kernel_size": 1, "activation": "sigmoid"}
        y = self._add("Conv{}D", f"{name}_excite", y, padding="same", **excite)
        return self._add("Multiply", f"{name}_excited", x, y)

    def _relu(self, x: str, name: str) -> str:
        return self._add("Activation", name, x, activation="relu")

    def _convolution(self, x: str, filters: int, kernel_size: Any, name: str, strides: Any = 1) -> str:
        """A convolution without a bias where a normalisation, which has one, follows."""
        use_bias = self.settings.normalization == "none"
        sizes = {"filters": filters, "kernel_size": kernel_size, "strides": strides}
        return self._add("Conv{}D", name, x, padding="same", use_bias=use_bias, **sizes)

    def _normalized(self, x: str, filters: int, name: str) -> str:
        """By the batch, or by the image in groups of channels (Wu & He 2018): each, some together, or all."""
        kind = self.settings.normalization
        if kind == "none":
            return x
        if kind == "batchnorm":
            return self._add("BatchNormalization", name, x, momentum=MOMENTUM)
        groups = {"instance": filters, "group": gcd(filters, _GROUPS), "layer": 1}[kind]
        return self._add("GroupNormalization", name, x, groups=groups)

    def _add(self, kind: str, name: str, *inputs: str, **given: Any) -> str:
        dimension = self.settings.dimension
        kind = kind.format(dimension)
        settings = {key: check(given.get(key, usual), dimension) for key, (check, usual) in KINDS[kind].items()}
        self._layers.append(Layer(name, kind, settings, inputs))
        return name
