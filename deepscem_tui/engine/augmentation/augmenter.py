"""All augmentations for the patches of one sample, each as often and as strong as asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.augmentation import grey_values, microscope
from deepscem_tui.engine.augmentation.orientation import Orientation, allowed_orders, draw_orientation
from deepscem_tui.engine.augmentation.recipes import AUGMENTATIONS
from deepscem_tui.engine.augmentation.warp import Warp, draw_slip, draw_warp
from deepscem_tui.engine.axes import Shape

__all__ = ["Augmenter"]

_Change = Callable[[NDArray[np.float32], float, np.random.Generator], None]

# How often, at a strength of 1. Rotation to low resolution as nnU-Net, but for brightness and contrast, in which
# samples of electron microscopy differ more: each is normalised by its own darkest and brightest voxel.
_WARPS = {"rotation": 0.2, "scaling": 0.2, "elastic": 0.2}
_SLIP = 0.2
_CHANGES: tuple[tuple[str, float, _Change], ...] = (  # in the order in which light, or charge, meets them
    ("blur", 0.1, grey_values.blur),
    ("low-resolution", 0.125, grey_values.low_resolution),
    ("focus", 0.15, microscope.focus),
    ("background", 0.15, microscope.background),
    ("charging", 0.1, microscope.charging),
    ("stripes", 0.1, microscope.stripes),
    ("brightness", 0.3, grey_values.brightness),
    ("contrast", 0.3, grey_values.contrast),
    ("gamma", 0.3, grey_values.gamma),
    ("noise", 0.15, grey_values.noise),
    ("missing-sections", 0.1, microscope.missing_sections),
)
_NUMBERS = {name: number for number, name in enumerate(AUGMENTATIONS)}


class Augmenter:
    """Augments patches.

    Args:
        strengths: Of the augmentations that are on, by name.
        patch: Shape of the patches, (Z, Y, X).
        voxel_size: (Z, Y, X) of the sample that they are from; None where it is not known.
    """

    def __init__(self, strengths: Mapping[str, float], patch: Shape, voxel_size: Sequence[float] | None) -> None:
        self._strengths = strengths
        self._patch = patch
        self._voxel_size = voxel_size
        self._orders = allowed_orders(patch, voxel_size)

    def draw_geometry(self, rng: np.random.Generator) -> tuple[Warp | None, Orientation]:
        """A random warp, None for none, and an orientation for after it."""
        chances = rng.random(len(AUGMENTATIONS))
        amounts = [self._amount(name, often, chances) for name, often in _WARPS.items()]
        warp = draw_warp(self._patch, self._voxel_size, (amounts[0], amounts[1], amounts[2]), rng)
        slip = self._amount("shift", _SLIP, chances)
        if slip and self._patch[0] > 1:
            warp = replace(warp, slip=draw_slip(self._patch, self._voxel_size, slip, rng))
        mirror, turn = (self._strengths.get(name, 0.0) for name in ("mirror", "turn"))
        orientation = draw_orientation(self._orders, mirror, turn, rng)
        return (warp if warp.interpolates or warp.slip else None), orientation

    def change_grey_values(self, image: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Change an image (Z, Y, X) in place; it stays in 0-1."""
        chances = rng.random(len(AUGMENTATIONS))
        changed = False
        for name, often, change in _CHANGES:
            strength = self._amount(name, often, chances)
            if strength:
                change(image, strength, rng)
                changed = True
        if changed:
            np.clip(image, 0, 1, out=image)

    def _amount(self, name: str, often: float, chances: NDArray[np.float64]) -> float:
        """The strength of an augmentation if its time has come, else 0."""
        strength = self._strengths.get(name, 0.0)
        return strength if chances[_NUMBERS[name]] < often * strength else 0.0
