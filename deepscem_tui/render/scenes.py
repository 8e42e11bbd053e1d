"""What is drawn: a slice with masks on it, and in which style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deepscem_tui.render.marks import FALSE_ALARM, HIT, IGNORED, MISS, Mark, marks_of
from deepscem_tui.render.sampling import area_mean, cover

__all__ = ["PictureStyle", "Scene", "choose_style", "compared", "labelled"]

PictureStyle = Literal["blocks", "ascii"]

NOT_LABELLED = "not labelled"


@dataclass(frozen=True)
class Scene:
    """What is drawn: a grey image and masks that lie on it, the last on top.

    Args:
        image: (Y, X), uint8, or float from 0 to 1.
        masks: One (Y, X) array each; above 0 is set.
        names: What each mask shows.
        marks: How each mask is drawn.
        aspect: Height of a voxel divided by its width.
        exclusive: Whether no two masks share a voxel, so that a pixel shows the one that has most of it.
    """

    image: npt.NDArray[Any]
    masks: Sequence[npt.NDArray[Any]] = ()
    names: Sequence[str] = ()
    marks: Sequence[Mark] = ()
    aspect: float = 1.0
    exclusive: bool = False

    def reduced(self, shape: tuple[int, int]) -> list[npt.NDArray[np.bool_]]:
        """The masks at the size of the picture (Y, X)."""
        if not self.exclusive:
            return [cover(mask, shape) for mask in self.masks]
        shares = np.stack([area_mean(mask, shape) for mask in self.masks])
        most = shares.argmax(axis=0)
        any_of_them = cover(np.any(self.masks, axis=0), shape)
        return [any_of_them & (most == index) for index in range(len(self.masks))]


def labelled(
    image: npt.NDArray[Any],
    masks: Sequence[npt.NDArray[Any]],
    names: Sequence[str],
    aspect: float = 1.0,
    ignored: npt.NDArray[Any] | None = None,
) -> Scene:
    """A scene of an image with a mask for each label, and one of what nobody has labelled."""
    marks = marks_of(len(masks))
    if ignored is None:
        return Scene(image, masks, names, marks, aspect)
    return Scene(image, [*masks, ignored], [*names, NOT_LABELLED], [*marks, IGNORED], aspect)


def compared(
    image: npt.NDArray[Any],
    masks: Sequence[npt.NDArray[Any]],
    reference: Sequence[npt.NDArray[Any]],
    aspect: float = 1.0,
    ignored: npt.NDArray[Any] | None = None,
) -> Scene:
    """A scene of how masks differ from their reference, all labels together: hits, misses and false alarms.

    Args:
        ignored: Above 0 where nobody has labelled, so that nothing can be told.
    """
    hit, miss, alarm = (np.zeros(image.shape, bool) for _ in range(3))
    for mask, true in zip(masks, reference, strict=True):
        found, there = mask != 0, true != 0
        hit |= found & there
        miss |= there & ~found
        alarm |= found & ~there
    hit &= ~(miss | alarm)  # what is right in one label and wrong in another is wrong
    alarm &= ~miss
    names = ("hits", "misses", "false alarms")
    if ignored is not None:
        there = ignored != 0
        found = [mask & ~there for mask in (hit, miss, alarm)]
        marks = (HIT, MISS, FALSE_ALARM, IGNORED)
        return Scene(image, (*found, there), (*names, NOT_LABELLED), marks, aspect, exclusive=True)
    return Scene(image, (hit, miss, alarm), names, (HIT, MISS, FALSE_ALARM), aspect, exclusive=True)


def choose_style(wanted: str, *, terminal: bool, colour: bool, encoding: str | None) -> PictureStyle:
    """What ``auto`` means here: half blocks where they can be shown in colour, characters elsewhere.

    Args:
        wanted: ``"auto"``, ``"blocks"`` or ``"ascii"``.
        terminal: Whether the text goes to a terminal.
        colour: Whether that terminal has colours, and they are wanted.
        encoding: Of the text, such as ``"utf-8"``.
    """
    if wanted != "auto":
        return "ascii" if wanted == "ascii" else "blocks"
    unicode = (encoding or "").lower().replace("-", "").replace("_", "") == "utf8"
    return "blocks" if terminal and colour and unicode else "ascii"
