"""The augmentations by name, and how strong each is.

Probabilities and ranges are guided by nnU-Net's recipe (Isensee et al., Nature Methods 2021), the elastic deformation
and the defects of sections by Funke et al. (IEEE TPAMI 2019) and PyTorch Connectomics (Lin et al., arXiv:2112.05754);
they were chosen for grey values that lie in 0-1.

A strength of 1 is that of the group ``standard``. It multiplies how often something is done, up to always, and how far
it goes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

__all__ = ["AUGMENTATIONS", "GROUPS", "MOST", "parse", "strengths"]

AUGMENTATIONS: Mapping[str, str] = MappingProxyType(
    {
        "mirror": "along any axis",
        "turn": "by quarter turns, where voxel size and patch shape allow",
        "rotation": "by any angle, in the plane where slices are thick",
        "scaling": "larger or smaller",
        "elastic": "smooth random deformation",
        "shift": "slices against each other (3D)",
        "brightness": "of the whole patch",
        "contrast": "of the whole patch",
        "gamma": "of dark or of bright grey values",
        "noise": "Gaussian",
        "blur": "Gaussian, in the plane",
        "low-resolution": "fewer pixels, enlarged again",
        "background": "uneven brightness",
        "stripes": "curtaining",
        "charging": "bright or dark streaks along a scan line",
        "missing-sections": "slices that are lost or damaged; cracks in 2D",
        "focus": "focus and contrast that change from slice to slice",
    }
)
MOST = 3.0  # the greatest strength
_STRONG = 1.75

GROUPS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "none": {},
        "flips": {"mirror": 1.0, "turn": 1.0},
        "standard": dict.fromkeys(AUGMENTATIONS, 1.0),
        "strong": {name: 1.0 if name in ("mirror", "turn") else _STRONG for name in AUGMENTATIONS},
    }
)


def parse(text: str) -> tuple[str, float]:
    """``"NAME=STRENGTH"`` as its two parts.

    Raises:
        ValueError: there is no such name, which names the nearest, or the strength is none.
    """
    name, equals, number = (part.strip() for part in text.partition("="))
    if name not in AUGMENTATIONS:
        near = difflib.get_close_matches(name, AUGMENTATIONS, 1, cutoff=0.5)
        known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(AUGMENTATIONS)}"
        raise ValueError(f"has no augmentation {name!r}; {known}")
    try:
        if not equals:
            raise ValueError
        strength = float(number)
    except ValueError:
        raise ValueError(f"must be NAME=STRENGTH, such as {name}=0.5 (it is {text!r})") from None
    if not 0 <= strength <= MOST:
        raise ValueError(f"must have a strength from 0 to {MOST:g} (it is {text!r})")
    return name, strength


def strengths(group: str, changes: Sequence[str] = ()) -> dict[str, float]:
    """The strength of every augmentation that is on: of a group, changed by ``"NAME=STRENGTH"``."""
    found = dict(GROUPS[group]) | dict(parse(change) for change in changes)
    return {name: strength for name, strength in found.items() if strength > 0}
