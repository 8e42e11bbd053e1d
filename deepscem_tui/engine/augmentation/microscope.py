"""What electron microscopes and the cutting of sections do to images.

Each function changes an image (Z, Y, X), float32, 0-1, in place; values may leave 0-1, which is put right at the end.
The labels stay: a network is to tell what lies in a lost slice from its neighbours, as in Funke et al. (2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.augmentation.grey_values import blur_slice, stretch
from deepscem_tui.engine.augmentation.opencv import cv2

__all__ = ["background", "charging", "focus", "missing_sections", "stripes"]

Image = NDArray[np.float32]

_BACKGROUND = 0.1  # standard deviation of the uneven brightness
_POINTS = 4  # that it is spread between, along Y and X
_STRIPES = 0.05  # standard deviation at most
_CHARGING = 0.3  # brightest streak
_MISSING = 0.1  # share of the slices at most
_NEIGHBOURS = 4  # slices in a patch from which on one of them can be told from the others
_CRACK = 0.02  # half the width of a crack as a share of the patch, at most
_FOCUS = 1.5  # pixels of blur at most
_SLICE_CONTRAST = 1.2  # factor at most, or its inverse
_SLICE_BRIGHTNESS = 0.06  # added at most


def background(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Uneven brightness: a coarse random field, enlarged, that changes slowly from the first slice to the last."""
    depth, height, width = image.shape
    coarse = rng.standard_normal((min(depth, 2), _POINTS, _POINTS), dtype=np.float32)
    coarse *= np.float32(_BACKGROUND * strength)
    fields = [cv2.resize(points, (width, height), interpolation=cv2.INTER_CUBIC) for points in coarse]
    image += fields[0]
    if depth > 1:
        change = fields[1] - fields[0]
        for z in range(1, depth):
            image[z] += change * np.float32(z / (depth - 1))


def stripes(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Curtaining: stripes along Y or X, much alike from slice to slice, that fade towards one side."""
    depth, height, width = image.shape
    down = bool(rng.integers(2))
    across, along = (width, height) if down else (height, width)
    profile = rng.standard_normal((depth + 1, across), dtype=np.float32)
    profile = cv2.GaussianBlur(profile, (0, 0), rng.uniform(0.5, 3), sigmaY=1e-3)
    profile = 0.8 * profile[:1] + 0.6 * profile[1:]
    profile *= np.float32(rng.uniform(0.3, 1) * _STRIPES * strength / max(float(profile.std()), 1e-6))
    fading = np.linspace(rng.uniform(0.2, 1), rng.uniform(0.2, 1), along, dtype=np.float32)
    for slice_, line in zip(image, profile, strict=True):
        slice_ += np.outer(fading, line) if down else np.outer(line, fading)


def charging(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Streaks along the rows where charge gathers: a sharp beginning, and an exponential end."""
    depth, height, width = image.shape
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    for z in _some(depth, 0.25, rng):
        for _ in range(int(rng.integers(1, 4))):
            rows = np.exp(-0.5 * ((y - rng.uniform(0, height)) / (rng.uniform(0.01, 0.1) * height + 1)) ** 2)
            after = (x - rng.uniform(-0.2, 0.8) * width) / np.float32(rng.uniform(0.1, 0.5) * width + 1)
            columns = np.where(after >= 0, np.exp(-np.abs(after)), 0).astype(np.float32)
            if rng.integers(2):
                columns = columns[::-1]
            size = rng.uniform(0.3, 1) * _CHARGING * strength * (1 if rng.random() < 0.7 else -1)
            image[z] += np.outer(rows * np.float32(size), columns)


def missing_sections(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Slices that are lost, faint or torn; where a patch has few slices, only torn."""
    depth = image.shape[0]
    most = max(1, round(depth * _MISSING * strength))
    count = int(rng.integers(1, most + 1)) if depth >= _NEIGHBOURS else 1
    for z in rng.choice(depth, min(count, depth), replace=False):
        kind = rng.integers(3) if depth >= _NEIGHBOURS else 2
        if kind == 0:
            image[z] = rng.choice((0.0, float(image.mean()), 1.0), p=(0.6, 0.3, 0.1))
        elif kind == 1:
            stretch(image[z], rng.uniform(0.05, 0.3))
        else:
            _tear(image[z], strength, rng)


def _tear(slice_: Image, strength: float, rng: np.random.Generator) -> None:
    """A crack across a slice (Y, X), dark or bright."""
    height, width = slice_.shape
    angle, half = rng.uniform(0, np.pi), (rng.uniform(0.2, 1) * _CRACK * strength) * max(height, width) + 0.5
    y = (np.arange(height) - rng.uniform(0, height)) * np.sin(angle)
    x = (np.arange(width) - rng.uniform(0, width)) * np.cos(angle)
    slice_[np.abs(np.add.outer(y, x)) < half] = rng.choice((0.0, 1.0), p=(0.7, 0.3))


def focus(image: Image, strength: float, rng: np.random.Generator) -> None:
    """Another contrast and brightness for each slice, and some of them out of focus."""
    depth = image.shape[0]
    for slice_, (factor, shift) in zip(image, rng.uniform(-1, 1, (depth, 2)), strict=True):
        stretch(slice_, _SLICE_CONTRAST ** (factor * strength))
        slice_ += np.float32(shift * _SLICE_BRIGHTNESS * strength)
    for z in _some(depth, 0.3, rng):
        blur_slice(image[z], rng.uniform(0.3, 1) * _FOCUS * strength)


def _some(depth: int, share: float, rng: np.random.Generator) -> list[int]:
    """Some slices, at least one."""
    chosen = np.flatnonzero(rng.random(depth) < share).tolist()
    return chosen or [int(rng.integers(depth))]
