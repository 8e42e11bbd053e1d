"""Training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from deepscem_tui.engine.parameters.augmentation import (
    AUGMENT_HELP,
    AUGMENTATION_HELP,
    AugmentationGroup,
    Augments,
)
from deepscem_tui.engine.parameters.kinds import (
    Loss,
    PatchSize,
    Writing,
    argument,
    option,
)


class Train(Writing):
    """Train a model on a data set.

    OUT is the best model when a validation data set is given, else the last one.
    Everything about the training is kept in a run folder.
    """

    model: Path = argument("Model to start from (.keras or .h5).", opens="model")
    out: Path = argument("Trained model to make (.keras or .h5).", makes="model")
    train: Path = option(..., "Data set to learn from.", opens="dataset", title="Training data")
    valid: Path | None = option(
        None,
        "Data set, not learned from, that chooses the best model; recommended.",
        opens="dataset",
        otherwise="none",
        title="Validation data",
    )
    test: Path | None = option(
        None,
        "Data set that the result is predicted and scored on at the end.",
        opens="dataset",
        title="Test data",
        otherwise="none",
        more=True,
    )
    loss: Loss = option("dice-cross-entropy", "What is minimised; the default also suits small structures.", more=True)
    patch_size: PatchSize | None = option(
        None,
        "Size of a patch, Z,Y,X or Y,X; 256,256 or 32,128,128 if not given, less for small samples.",
        "voxels",
        otherwise="chosen",
    )
    batch_size: int | None = option(
        None, "Patches in a step; 8 in 2D and 2 in 3D if not given.", "patches", otherwise="chosen", ge=1
    )
    epochs: int = option(64, "Rounds; after each the model is kept, and a stop loses nothing.", ge=1)
    steps_per_epoch: int = option(256, "Steps in an epoch, each on one batch of patches.", ge=1)
    validation_steps: int = option(64, "Most batches in a validation; 0 for no validation.", more=True, ge=0)
    label_focus: float = option(
        33.0, "Share of patches drawn around a labelled voxel; more for rare structures.", "%", more=True, ge=0, le=100
    )
    sample_weights: Literal["volume", "equal"] = option(
        "volume", "Whether samples count by their volume or equally, for patches that lie anywhere.", more=True
    )
    augmentation: AugmentationGroup = option("standard", AUGMENTATION_HELP, more=True)
    augment: Augments = option((), AUGMENT_HELP, more=True, otherwise="as in the group")
    learning_rate: float = option(
        1e-3, "Of Adam; halved when nothing improves for 3 epochs. Smaller if the loss jumps.", more=True, gt=0, le=1
    )
    keep_best: bool = option(True, "Write the best model of the validation, not the last.", more=True)
    early_stopping: bool = option(False, "End when nothing improves for max(5, epochs / 20) epochs.", more=True)
    seed: int = option(0, "Seed of everything random.", more=True, ge=0, le=2**31 - 1)
