"""Actions on models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from deepscem_tui.engine.parameters.kinds import (
    Activation,
    Dimension,
    Writing,
    argument,
    odd,
    option,
    wrong,
)


class CreateModel(Writing):
    """Make a new, untrained network.

    `--like` takes the number of labels and their names from a data set.
    """

    out: Path = argument("Model to make (.keras, or .h5 for DeepSCEM).", makes="model")
    like: Path | None = option(
        None, "Data set that the number of labels and their names are taken from.", opens="dataset", otherwise="none"
    )
    labels: int | None = option(
        None,
        "Labels to segment, where there is no data set to take them from.",
        otherwise="as in the data set",
        ge=1,
        le=999,
    )
    dimension: Dimension = option(2, "Network for slices (2: fast, needs few slices) or for volumes (3).")
    architecture: Literal["u-net", "fcn"] = option(
        "u-net", "U-Net (recommended), or a fully convolutional network fused by sums."
    )
    block: Literal["residual", "vgg"] = option(
        "residual", "Convolutions with a shortcut (recommended), or plain ones.", more=True
    )
    kernel_size: Annotated[int, AfterValidator(odd)] = option(
        3, "Side of the convolutions; odd.", "voxels", more=True, ge=1, le=11
    )
    filters: int = option(
        32, "Filters of the first level, doubled at each next; 32 suits most, 16 is faster.", ge=1, le=512
    )
    blocks_per_level: int = option(2, "Convolutions in each block.", more=True, ge=1, le=8)
    normalization: Literal["batchnorm", "none"] = option(
        "batchnorm", "Normalisation after each convolution: steadies the training.", more=True
    )
    depth: int = option(5, "Levels, each at half the resolution: more see further; 5 suits most.", ge=1, le=8)
    activation: Activation = option(
        "sigmoid", "Of the output: sigmoid, or softmax where labels never overlap (adds a background).", more=True
    )
    seed: int = option(0, "Seed of the initial weights.", more=True, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _consistent(self) -> CreateModel:
        if (self.labels is None) == (self.like is None):
            raise wrong("labels", "give either --labels N or --like DATASET")
        return self


class ConvertModel(Writing):
    """Write a model in the other file format: .keras, or the .h5 that DeepSCEM reads."""

    model: Path = argument("Model to read (.keras or .h5).", opens="model")
    out: Path = argument("Model to make (.keras or .h5).", makes="model")
