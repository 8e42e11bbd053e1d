"""Augmentation: what training and its preview share, and the preview."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from deepscem_tui.engine.augmentation.recipes import AUGMENTATIONS, MOST, parse

__all__ = ["AUGMENTATION_HELP", "AUGMENT_HELP", "AugmentationGroup", "Augments"]


def _checked(text: str) -> str:
    name, strength = parse(text)
    return f"{name}={strength:g}"


def _split(value: Any) -> Any:
    """What is typed in one line of a form, as several."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


Augments = Annotated[tuple[Annotated[str, AfterValidator(_checked)], ...], BeforeValidator(_split)]
AugmentationGroup = Literal["none", "flips", "standard", "strong"]

AUGMENTATION_HELP = "Makes more of few labels: nothing, DeepSCEM's mirrors and quarter turns, or all that there is."
AUGMENT_HELP = (
    f"NAME=STRENGTH, may be repeated: one augmentation, from 0 (off) by 1 (as in standard) to {MOST:g}; "
    f"{', '.join(AUGMENTATIONS)}."
)
