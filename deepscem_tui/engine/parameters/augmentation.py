"""Augmentation: what training and its preview share, and the preview."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from deepscem_tui.engine.augmentation.recipes import AUGMENTATIONS, MOST, parse
from deepscem_tui.engine.parameters.kinds import PatchSize, Writing, argument, option

__all__ = ["AUGMENTATION_HELP", "AUGMENT_HELP", "AugmentationGroup", "Augments", "ShowAugmentation"]


def _checked(text: str) -> str:
    name, strength = parse(text)
    return f"{name}={strength:g}"


def _split(value: Any) -> Any:
    """What is typed in one line, as several."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        return value
    return [part for text in texts for part in text.replace(",", " ").split()]


Augments = Annotated[tuple[Annotated[str, AfterValidator(_checked)], ...], BeforeValidator(_split)]
AugmentationGroup = Literal["none", "flips", "standard", "strong"]

AUGMENTATION_HELP = "Makes more of few labels: nothing, DeepSCEM's mirrors and quarter turns, or all that there is."
AUGMENT_HELP = (
    f"NAME=STRENGTH, may be repeated: one augmentation, from 0 (off) by 1 (as in standard) to {MOST:g}; "
    f"{', '.join(AUGMENTATIONS)}."
)


class ShowAugmentation(Writing):
    """Show what augmentation makes of patches of a data set, with their labels: as a picture, and as text.

    Each row is one place: first as it is, then as training may see it. Of 3D patches the middle slice is shown, and
    below it the section across.
    """

    file: Path = argument("Data set.", opens="dataset")
    out: Path = argument("Picture to make (.png).", makes="picture")
    augmentation: AugmentationGroup = option("standard", AUGMENTATION_HELP)
    augment: Augments = option((), AUGMENT_HELP, otherwise="as in the group")
    patch_size: PatchSize | None = option(
        None,
        "Size of a patch, Z,Y,X or Y,X; 256,256 if not given, less for small samples.",
        "voxels",
        otherwise="chosen",
    )
    rows: int = option(3, "Places that are shown.", more=True, ge=1, le=20)
    columns: int = option(4, "How often each is shown, with the first, which is as it is.", more=True, ge=2, le=20)
    seed: int = option(0, "Seed of everything random.", more=True, ge=0, le=2**31 - 1)
    style: Literal["auto", "blocks", "ascii"] = option("auto", "Half blocks in colour, or characters.", more=True)
    width: int | None = option(
        None,
        "Width of the text; the terminal's if not given.",
        "columns",
        otherwise="the terminal's",
        more=True,
        ge=8,
        le=1000,
    )
