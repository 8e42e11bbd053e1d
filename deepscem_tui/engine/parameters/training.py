"""Training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from deepscem_tui.engine.parameters.augmentation import (
    AUGMENT_HELP,
    AUGMENTATION_HELP,
    AugmentationGroup,
    Augments,
)
from deepscem_tui.engine.parameters.kinds import (
    Devices,
    Loss,
    PatchSize,
    Writing,
    argument,
    option,
    wrong,
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
    validation_steps: int = option(
        64,
        "Most batches that a validation costs: larger data are validated in part, the same each time; 0 for none.",
        more=True,
        ge=0,
    )
    label_focus: float = option(
        33.0, "Share of patches drawn around a labelled voxel; more for rare structures.", "%", more=True, ge=0, le=100
    )
    sample_weights: Literal["volume", "equal"] = option(
        "volume", "Whether samples count by their volume or equally, for patches that lie anywhere.", more=True
    )
    augmentation: AugmentationGroup = option("standard", AUGMENTATION_HELP, more=True)
    augment: Augments = option((), AUGMENT_HELP, more=True, otherwise="as in the group")
    optimizer: Literal["adam", "adamw", "sgd"] = option(
        "adam", "How weights follow the gradients; sgd has momentum and wants ten times the rate.", more=True
    )
    learning_rate: float = option(1e-3, "Step size of the optimizer; smaller if the loss jumps.", more=True, gt=0, le=1)
    schedule: Literal["cosine", "polynomial", "plateau", "constant"] = option(
        "cosine",
        "Of the rate: falling to 0 along a curve, or halved when nothing improves for 3 epochs, or as it is.",
        more=True,
    )
    warm_up: int = option(20, "Steps in which the rate rises to its full size.", "steps", more=True, ge=0)
    weight_decay: float = option(
        0.0, "Share of a weight, times the rate, that a step takes away.", more=True, ge=0, le=1
    )
    gradient_clip: float = option(
        0.0, "Norm that gradients are shortened to: steadies a training that jumps; 0 leaves them.", more=True, ge=0
    )
    accumulation: int = option(
        1, "Batches whose gradients make one step: larger batches in the same memory.", "batches", more=True, ge=1
    )
    ema: float = option(
        0.99,
        "Moving average of the weights that is validated and kept: its share of itself at a step; 0 for none.",
        more=True,
        ge=0,
        lt=1,
        title="Weight averaging",
    )
    deep_supervision: bool = option(
        False, "Teach the coarser levels of the way up too, by outputs of their own that are not kept.", more=True
    )
    label_smoothing: float = option(
        0.0, "How unsure the targets of the cross-entropy are made.", more=True, ge=0, le=0.5
    )
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "Of the network; auto is bfloat16 where the processor or the GPU computes with it.", more=True
    )
    freeze: Literal["none", "encoder"] = option(
        "none", "Part of the network that stays as it is, to fine-tune a trained model.", more=True
    )
    devices: Devices = option(
        "auto", "What to compute on: auto (all GPUs, or the CPU), cpu, or numbers of GPUs, such as 0,1.", more=True
    )
    xla: bool = option(False, "Compile steps with XLA; may be faster on a GPU.", more=True)
    deterministic: bool = option(False, "Use only operations that give the same result each time; slower.", more=True)
    checkpoint_minutes: float = option(
        10.0, "Time after which the state is saved within an epoch.", "min", more=True, gt=0
    )
    tune_thresholds: bool = option(
        True, "Store in the model, for each label, the threshold with the best F1 on the validation.", more=True
    )
    keep_best: bool = option(
        True, "Write the model with the best mean F1 of the validation, smoothed over epochs, not the last.", more=True
    )
    early_stopping: bool = option(False, "End when nothing improves for max(5, epochs / 20) epochs.", more=True)
    tensorboard: bool = option(
        False, "Also write the curves for TensorBoard, to the folder `tensorboard` of the run.", more=True
    )
    seed: int = option(0, "Seed of everything random.", more=True, ge=0, le=2**31 - 1)
    resume: bool = option(False, "Go on with the run that began to make OUT, if there is one.", more=True)

    @model_validator(mode="after")
    def _no_xla_that_is_deterministic(self) -> Train:
        if self.xla and self.deterministic:
            raise wrong("xla", "XLA has no deterministic pooling: leave out --xla or --deterministic")
        return self
