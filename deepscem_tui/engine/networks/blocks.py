"""The parts that networks are built of, for images and volumes alike."""

from __future__ import annotations

import zlib
from typing import Any

from deepscem_tui.engine import devices
from deepscem_tui.engine.networks import NetworkSettings

keras = devices.keras()
layers = keras.layers

Tensor = Any  # keras.KerasTensor: (B, Y, X, C) or (B, Z, Y, X, C)

# Of the moving statistics that prediction uses. Keras' own 0.99 follows so slowly that after 300 steps a network that
# had learned its training patches predicted next to nothing (F1 0.09, 0.92 with 0.9). PyTorch's default amounts to 0.9.
MOMENTUM = 0.9

_CONVOLUTION = {2: layers.Conv2D, 3: layers.Conv3D}
_POOLING = {2: layers.MaxPooling2D, 3: layers.MaxPooling3D}
_TRANSPOSED = {2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}


def image_input(settings: NetworkSettings) -> Tensor:
    """Images of any size with one channel."""
    return keras.Input((None,) * settings.dimension + (1,), dtype="float32", name="image")


def block(x: Tensor, settings: NetworkSettings, level: int, name: str) -> Tensor:
    """The convolutions of one level.

    Plain (VGG, Simonyan & Zisserman 2015), or residual (He et al. 2016) with a 1x1 convolution as the shortcut.
    A convolution stands before its normalisation, so that prediction can fold the two into one.

    Args:
        level: 0 at full resolution; filters double from one to the next.
    """
    filters = settings.filters * 2**level
    first = x
    for number in range(1, settings.blocks_per_level + 1):
        x = convolution(x, settings, filters, settings.kernel_size, f"{name}_convolution_{number}")
        x = _normalized(x, settings, f"{name}_normalization_{number}")
        if settings.block == "vgg" or number < settings.blocks_per_level:
            x = layers.Activation("relu", name=f"{name}_relu_{number}")(x)
    if settings.block == "vgg":
        return x
    shortcut = convolution(first, settings, filters, 1, f"{name}_shortcut")
    shortcut = _normalized(shortcut, settings, f"{name}_shortcut_normalization")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.Activation("relu", name=f"{name}_relu")(x)


def convolution(x: Tensor, settings: NetworkSettings, filters: int, kernel_size: int, name: str) -> Tensor:
    """A convolution without a bias where a normalisation, which has one, follows."""
    return _CONVOLUTION[settings.dimension](
        filters,
        kernel_size,
        padding="same",
        use_bias=settings.normalization == "none",
        kernel_initializer=initializer(settings, name),
        name=name,
    )(x)


def down(x: Tensor, settings: NetworkSettings, name: str) -> Tensor:
    """Half the resolution: the largest of each 2 x 2 (x 2) voxels."""
    return _POOLING[settings.dimension](2, name=name)(x)


def up(x: Tensor, settings: NetworkSettings, filters: int, name: str, factor: int = 2, kernel_size: int = 2) -> Tensor:
    """``factor`` times the resolution, by a transposed convolution."""
    return _TRANSPOSED[settings.dimension](
        filters,
        kernel_size,
        strides=factor,
        padding="same",
        kernel_initializer=initializer(settings, name),
        name=name,
    )(x)


def score(x: Tensor, settings: NetworkSettings, n_outputs: int, name: str) -> Tensor:
    """One number an output and voxel, by a 1x1 convolution."""
    return _CONVOLUTION[settings.dimension](
        n_outputs, 1, padding="same", kernel_initializer=initializer(settings, name), name=name
    )(x)


def finished(inputs: Tensor, x: Tensor, settings: NetworkSettings) -> Any:
    """The model from ``inputs`` to ``x`` with its last activation, which is in float32 at any precision."""
    outputs = layers.Activation(settings.activation, dtype="float32", name="output")(x)
    return keras.Model(inputs, outputs, name=settings.architecture.replace("-", "_"))


def initializer(settings: NetworkSettings, name: str) -> Any:
    """He et al. 2015; drawn from the network's seed and the layer's name, so that each layer has its own."""
    return keras.initializers.HeNormal(seed=zlib.crc32(f"{settings.seed}/{name}".encode()) % 2**31)


def _normalized(x: Tensor, settings: NetworkSettings, name: str) -> Tensor:
    return x if settings.normalization == "none" else layers.BatchNormalization(momentum=MOMENTUM, name=name)(x)
