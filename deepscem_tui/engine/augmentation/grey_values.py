"""Changes of grey values that any microscope may make.

Each function changes an image (Z, Y, X), float32, 0-1, in place; values may leave 0-1, which is put right at the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.augmentation.opencv import cv2

__all__ = ["blur", "blur_slice", "brightness", "contrast", "gamma", "low_resolution", "noise", "stretch"]

Image = NDArray[np.float32]

_BRIGHTNESS = 0.15  # added at most
_CONTRAST = 1.3  # factor at most, or its inverse
_GAMMA = 1.5  # exponent at most, or its inverse
_INVERTED = 0.25  # share of gammas that act on bright values
_NOISE = 0.06  # standard deviation at most
_BLUR = (0.5, 1.2)  # standard deviation in pixels
_LOST = 0.5  # share of the pixels along an axis that low resolution takes away at most


def brightness(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Add a constant."""
    image += np.float32(rng.uniform(-1, 1) * _BRIGHTNESS * strength)


def contrast(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Stretch or squeeze grey values around their mean."""
    stretch(image, _CONTRAST ** (rng.uniform(-1, 1) * strength))


def stretch(image: Image, factor: float) -> None:
    """Multiply the distance of grey values (any shape) to their mean."""
    mean = float(image.mean())
    image *= np.float32(factor)
    image += np.float32(mean * (1 - factor))


def gamma(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Raise grey values, or their distance to white, to a power."""
    exponent = np.float32(_GAMMA ** (rng.uniform(-1, 1) * strength))
    np.clip(image, 0, 1, out=image)
    inverted = rng.random() < _INVERTED
    if inverted:
        np.subtract(1, image, out=image)
    np.power(image, exponent, out=image)
    if inverted:
        np.subtract(1, image, out=image)


def noise(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Add Gaussian noise."""
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    grain *= np.float32(rng.random() * _NOISE * strength)
    image += grain


def blur(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Blur every slice in its plane, as a beam out of focus does."""
    sigma = rng.uniform(*_BLUR) * strength
    for slice_ in image:
        blur_slice(slice_, sigma)


def blur_slice(slice_: Image, sigma: float) -> None:
    """Blur one slice (Y, X) in place."""
    cv2.GaussianBlur(slice_, (0, 0), sigma, dst=slice_, borderType=cv2.BORDER_REFLECT_101)


def low_resolution(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Keep fewer pixels of every slice, and enlarge these again."""
    share = max(0.2, 1 - rng.random() * _LOST * strength)
    height, width = image.shape[1:]
    size = max(1, round(width * share)), max(1, round(height * share))
    for slice_ in image:
        small = cv2.resize(slice_, size, interpolation=cv2.INTER_AREA)
        cv2.resize(small, (width, height), dst=slice_, interpolation=cv2.INTER_CUBIC)
