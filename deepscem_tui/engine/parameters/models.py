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
    normalization: Literal["batchnorm", "instance", "group", "layer", "none"] = option(
        "batchnorm",
        "Normalisation after each convolution, which steadies the training: by the batch, or, for batches of 1 to 4 "
        "patches, by the image: each channel, 8 groups of channels, or all.",
        more=True,
    )
    depth: int = option(5, "Levels, each at half the resolution: more see further; 5 suits most.", ge=1, le=8)
    down: Literal["max-pool", "strided"] = option(
        "max-pool", "To the next level: the largest of 2 x 2 (x 2) voxels, or a strided convolution.", more=True
    )
    up: Literal["transposed", "interpolated"] = option(
        "transposed", "To the level above: a transposed convolution, or interpolation (smoother).", more=True
    )
    attention: bool = option(
        False, "Attention gates: deeper levels weigh what shallow ones pass on; for structures in clutter.", more=True
    )
    squeeze_excitation: bool = option(
        False, "Squeeze-excitation: each block weighs its channels by what is in the whole image.", more=True
    )
    dropout: float = option(
        0.0, "Share of channels left out at random in training after each block; 0.1 to 0.3 for few labels.",
        more=True, ge=0, le=0.9,
    )  # fmt: skip
    anisotropy: int = option(
        0,
        "For volumes of thick slices: uppermost levels that leave slices apart (kernels 1 x 3 x 3, pools 1 x 2 x 2). "
        "1 where slices are 3 times as thick as pixels are wide, 2 where 6 times.",
        "levels", more=True, ge=0, le=7,
    )  # fmt: skip
    context_slices: int = option(
        0,
        "For networks for slices: neighbouring slices on each side that it sees too (2.5D); 1 or 2 where they show the "
        "same structures.",
        "slices", more=True, ge=0, le=8,
    )  # fmt: skip
    activation: Activation = option(
        "sigmoid", "Of the output: sigmoid, or softmax where labels never overlap (adds a background).", more=True
    )
    seed: int = option(0, "Seed of the initial weights.", more=True, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _consistent(self) -> CreateModel:
        if (self.labels is None) == (self.like is None):
            raise wrong("labels", "give either --labels N or --like DATASET")
        if self.anisotropy and self.dimension == 2:
            raise wrong("anisotropy", "--anisotropy is for networks for volumes (--dimension 3)")
        if self.anisotropy >= self.depth:
            raise wrong("anisotropy", f"--anisotropy must be below --depth, {self.depth} (it is {self.anisotropy})")
        if self.context_slices and self.dimension == 3:
            raise wrong("context_slices", "--context-slices is for networks for slices (--dimension 2)")
        if self.attention and self.architecture == "fcn":
            raise wrong("attention", "--attention is for --architecture u-net: an FCN joins nothing")
        return self


class ConvertModel(Writing):
    """Write a model in the other file format: .keras, or the .h5 that DeepSCEM reads."""

    model: Path = argument("Model to read (.keras or .h5).", opens="model")
    out: Path = argument("Model to make (.keras or .h5).", makes="model")
