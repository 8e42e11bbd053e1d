"""Prediction, and what is done with it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from deepscem_tui.engine.parameters.kinds import (
    Connectivity,
    PatchSize,
    Shard,
    Writing,
    argument,
    option,
    wrong,
)


class Predict(Writing):
    """Predict the labels of a data set's samples, or of an image file.

    OUT is a data set (.hdf5), or an image file (.tif, .mrc, .ome.zarr, ...; with several labels one file each,
    OUT_<label>.tif).
    """

    model: Path = argument("Model (.keras or .h5).", opens="model")
    input: Path = argument(
        "Data set, image file (TIFF, MRC, HDF5, ...), or a folder or pattern of slices.",
        opens="dataset or image",
    )
    out: Path = argument("Result to make: a data set (.hdf5), or an image file.", makes="dataset or made image")
    sample: tuple[str, ...] = option(
        (), "Sample to predict, may be repeated; all of them if not given.", within="input.samples", otherwise="all"
    )
    patch_size: PatchSize | None = option(
        None, "Largest tile, Z,Y,X or Y,X; chosen if not given.", "voxels", otherwise="chosen", more=True
    )
    batch_size: int | None = option(
        None, "Tiles in a step; chosen if not given.", "tiles", otherwise="chosen", more=True, ge=1
    )
    join: Literal["crop", "blend", "none", "deepscem", "deepscem-no-overlap"] = option(
        "crop",
        "How tiles meet: each voxel from the tile it lies deepest in (crop), weighted means (blend), "
        "side by side (none), or as DeepSCEM does.",
        more=True,
    )
    threshold: float | None = option(
        None,
        "Voxels predicted above it are foreground; if not given, what the model's training found best, or 0.5.",
        otherwise="the model's, or 0.5",
        ge=0,
        le=1,
    )
    probabilities: bool = option(False, "Write what the network says instead of masks.")
    probability_type: Literal["float32", "float16", "uint8"] = option(
        "float32",
        "With --probabilities, the type that they are stored in; uint8 is 0 to 255, not for DeepSCEM.",
        more=True,
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        "Of the network; auto is bfloat16 where the processor or the GPU computes with it, but with DeepSCEM's joins.",
        more=True,
    )
    tta: bool = option(
        False,
        "Average over mirrored and turned tiles: often a little better, 4 to 16 times as long.",
        title="Average over turns",
        more=True,
    )
    ortho: bool = option(
        False,
        "Average over slices along Z, Y and X too: 2D networks on volumes with voxels of equal sides, 3 times as long.",
        title="Average over planes",
        more=True,
    )
    rescale: bool = option(
        False,
        "Predict at the voxel size that the model learned from, and bring the result back to the image's: where the "
        "two differ. Not with --ortho or --shard.",
        more=True,
    )
    resume: bool = option(False, "Go on with the run that began to make OUT, if there is one.", more=True)
    shard: Shard | None = option(
        None,
        "Compute only part I/N of it, such as 1/4, for `merge` to make OUT of all parts.",
        otherwise="all",
        more=True,
    )
    image: bool = option(True, "Copy the image into the resulting data set, as DeepSCEM's view needs it.", more=True)

    @model_validator(mode="after")
    def _rescale_alone(self) -> Predict:
        for name in ("ortho", "shard"):
            if self.rescale and getattr(self, name):
                raise wrong("rescale", f"--rescale is not possible with --{name}: leave one of the two out")
        return self


class Merge(Writing):
    """Make one result of the parts that `predict --shard` computed; refused where a part is missing."""

    out: Path = argument("Result to make: a data set (.hdf5), or an image file.", makes="dataset or made image")
    shards: tuple[str, ...] = argument(
        "Folders of the parts, OUT.shards; one, or several where nodes share no disk.", min_length=1
    )


class Evaluate(Writing):
    """Compare a segmentation with its reference: F1, IoU, precision and recall of each label and sample.

    With --objects also how many single objects are found, and with --surfaces how far outlines are apart.
    """

    reference: Path = argument(
        "Data set with the true labels, or an image file with one label.", opens="dataset or image"
    )
    segmentation: Path = argument(
        "Data set with predictions, or an image file with one label.", opens="dataset or image"
    )
    csv: Path | None = option(None, "Write the table to this file too.", makes="csv", otherwise="none")
    threshold: float = option(0.5, "Probabilities above it are foreground.", ge=0, le=1)
    objects: bool = option(
        False, "Score single objects too: matched by their overlap, adapted Rand error, variation of information."
    )
    surfaces: bool = option(
        False,
        "Score outlines too: Hausdorff distance (95 %) and average symmetric surface distance. Takes 12 bytes of "
        "memory for each voxel of the box that holds the foreground.",
    )
    instances: Literal["none", "reference", "segmentation", "both"] = option(
        "none",
        "With --objects, what holds numbers of objects, a number each; in others, what is connected is an object.",
        more=True,
    )
    connectivity: Connectivity = option(
        6,
        "With --objects, neighbours that belong to the same object: through faces (6), edges too (18), corners too "
        "(26).",
        "neighbours",
        more=True,
    )

    @model_validator(mode="after")
    def _instances_of_objects(self) -> Evaluate:
        if self.instances != "none" and not self.objects:
            raise wrong("instances", "--instances belongs with --objects")
        return self
