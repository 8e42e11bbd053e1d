"""Actions on data sets and their samples."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from deepscem_tui.engine.parameters.kinds import (
    Bounds,
    Changing,
    Classes,
    Name,
    Parameters,
    Percent,
    Ranges,
    Value,
    VoxelSize,
    Writing,
    argument,
    option,
    wrong,
)


class CreateDataset(Writing):
    """Make an empty data set."""

    file: Path = argument("Data set to make (.hdf5).", makes="dataset")
    name: Name = argument("Name of the data set.")
    n_labels: int = argument(
        "Things to segment, such as 2 for mitochondria and membranes: labels of each sample.",
        title="Number of labels",
        ge=0,
        le=999,
    )


class SampleOptions(Changing):
    """How image and label files become samples; of every action that adds them."""

    range: Literal["data", "type"] = option(
        "data", "Grey values that become 0 and 1: those found in the image, or those of its type (one pass less)."
    )
    normalization: Literal["min-max", "percentiles", "mean-deviation"] = option(
        "min-max",
        "What becomes 0 and 1: the smallest and the largest grey value, as in DeepSCEM; those of 0.5 and 99.5 % of the "
        "voxels; or three standard deviations from the mean. A model remembers it for the images that it predicts.",
        more=True,
    )
    per_slice: bool = option(False, "Normalise each slice by itself, where slices differ in brightness.", more=True)
    voxel_size: VoxelSize | None = option(
        None,
        "Size of a voxel, Z,Y,X and a unit, such as '30,8,8 nm' or '8 nm'.",
        otherwise="the image file's",
        more=True,
    )
    classes: Classes | None = option(
        None,
        "Values, or colours, of the labels in one file that holds all of them, such as mito=1,er=2 or mito=#ff0000; "
        "a name may have several. They name the labels of a data set that has no samples and no names yet.",
        otherwise="a file each",
        more=True,
    )
    label_threshold: float | None = option(
        None,
        "Value above which a voxel is foreground, such as 127 for a mask with soft edges.",
        otherwise="0",
        more=True,
    )
    instances: Literal["none", "foreground", "boundaries"] = option(
        "none",
        "Whether values are ids of objects: any id is foreground; or, of one file, where two ids touch is a second "
        "label.",
        more=True,
    )
    labelled_z: Ranges | None = option(
        None,
        "Slices that are labelled, from 0, such as 0:40,80 (40 is not one), where not all are: the others are left "
        "out of training, validation and evaluation; auto for those in which any label has a voxel.",
        "voxels",
        otherwise="all",
        title="Labelled slices",
    )
    labelled_y: Bounds | None = option(
        None, "Rows of them that are labelled, START:STOP.", "voxels", otherwise="all", title="Labelled rows", more=True
    )
    labelled_x: Bounds | None = option(
        None,
        "Columns of them that are labelled, START:STOP.",
        "voxels",
        otherwise="all",
        title="Labelled columns",
        more=True,
    )
    ignore_value: Value | None = option(
        None,
        "Value, or colour, in the label files where nothing is labelled, such as 255 or #808080.",
        otherwise="none",
        more=True,
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> SampleOptions:
        given = (self.classes is not None, self.label_threshold is not None, self.instances != "none")
        if sum(given) > 1:
            raise wrong("classes", "give one of --classes, --label-threshold and --instances")
        if self.range == "type" and (self.normalization != "min-max" or self.per_slice):
            raise wrong("range", "--range type suits neither --normalization nor --per-slice")
        return self


class AddSample(SampleOptions):
    """Add an image and its labels to a data set as a new sample.

    Voxels above 0 are a label's foreground. An empty label ("") makes a blank one, and so do labels left out. One file
    with all labels is split by --classes, or by --instances boundaries.
    The image is stored min-max normalised to 0-1, which takes two passes over it: one for its range, one for its data.
    """

    file: Path = argument("Data set to change.", opens="dataset")
    name: Name = argument("Name of the new sample.")
    image: Path = argument("Image file (TIFF, MRC, HDF5, ...), or a folder or pattern of slices.", opens="image")
    labels: tuple[str, ...] = argument(
        'Labels, one file each, in order, A+B for two that are added up; "" for a blank one.',
        default=(),
        opens="image",
        each="file",
    )
    ignore_mask: Path | None = option(
        None,
        "Image of the same size that is above 0 where nothing is labelled.",
        opens="image",
        otherwise="none",
        more=True,
    )


class ImportFolder(SampleOptions):
    """Add all images of a folder and their labels to a data set, each as a sample: all of them or none.

    What belongs together is told by names: `images/x.tif` with `labels/x.tif` or `masks/mito/x.tif`, `x.tif` with
    `x_mask.tif`, `x_seg.tif` or `x_label_mito.tif`, or as patterns say; `x_not_labelled.tif` and `ignore/x.tif` are
    above 0 where nothing is labelled. --dry-run shows what would be added.
    The data set is made if it does not exist.
    """

    file: Path = argument("Data set to change; made if it does not exist (.hdf5).", makes="dataset")
    folder: Path = argument("Folder of images and labels.", opens="folder")
    stacks: bool = option(
        False, "Each folder holds the slices of one volume, such as `raw/cell1/` with `labels/cell1/`."
    )
    image_pattern: str | None = option(
        None,
        "Images, relative to the folder: {name} is what image and label have in common, * is anything in one "
        "folder's name, ** anything, such as 'raw/{name}.tif'.",
        otherwise="told by names",
    )
    label_pattern: str | None = option(
        None,
        "Labels, likewise; {label} is the label's name where each has a file, such as 'masks/{name}_{label}.tif'.",
        otherwise="told by names",
    )
    ignore_pattern: str | None = option(
        None,
        "Masks that are above 0 where nothing is labelled, likewise, such as 'masks/{name}_unsure.tif'.",
        otherwise="told by names",
        more=True,
    )
    label_names: tuple[Name, ...] = option(
        (),
        "Names of the labels to take, in order; those of the data set, or all that are found, if not given.",
        otherwise="all",
    )
    unpaired: Literal["refuse", "skip", "blank"] = option(
        "refuse",
        "Images that lack labels: refuse to add any; skip them; or add them with blank labels. Labels without an "
        "image are left out unless refused.",
    )
    prefix: str = option("", "Text before the names of the samples, which are those of the files.", otherwise="none")

    @model_validator(mode="after")
    def _both_patterns(self) -> ImportFolder:
        for name in ("label_pattern", "ignore_pattern"):
            if getattr(self, name) is not None and self.image_pattern is None:
                raise wrong("image_pattern", f"--image-pattern is needed with --{name.replace('_', '-')}")
        return self


class SetVoxelSize(Changing):
    """Say how large the voxels of samples are, in place of what is known of it.

    Augmentation, plans, the view's scale bar, results and comparison with a model's voxel size go by it.
    """

    file: Path = argument("Data set to change.", opens="dataset")
    voxel_size: VoxelSize | None = argument("Z,Y,X and a unit, such as '30,8,8 nm' or '8 nm'.", title="Voxel size")
    sample: tuple[str, ...] = option(
        (), "Sample, may be repeated; all of them if not given.", within="file.samples", otherwise="all"
    )

    @model_validator(mode="after")
    def _given(self) -> SetVoxelSize:
        if self.voxel_size is None:
            raise wrong("voxel_size", "VOXEL_SIZE is missing")
        return self


class SetLabelled(Changing):
    """Say which part of a sample is labelled: training, validation and evaluation leave the rest out.

    What was said before is forgotten. DeepSCEM reads the data set as before, and takes the rest for background.
    """

    file: Path = argument("Data set to change.", opens="dataset")
    sample: str = argument("Sample that is labelled in part.", within="file.samples")
    labelled_z: Ranges | None = option(
        None,
        "Slices that are labelled, from 0, such as 0:40,80 (40 is not one); auto for those in which any label has a "
        "voxel.",
        "voxels",
        otherwise="all",
        title="Labelled slices",
    )
    labelled_y: Bounds | None = option(
        None, "Rows of them that are labelled, START:STOP.", "voxels", otherwise="all", title="Labelled rows"
    )
    labelled_x: Bounds | None = option(
        None, "Columns of them that are labelled, START:STOP.", "voxels", otherwise="all", title="Labelled columns"
    )
    ignore_mask: Path | None = option(
        None, "Image of the sample's size that is above 0 where nothing is labelled.", opens="image", otherwise="none"
    )
    clear: bool = option(False, "All of the sample is labelled.")

    @model_validator(mode="after")
    def _one_of_both(self) -> SetLabelled:
        given = (self.labelled_z, self.labelled_y, self.labelled_x, self.ignore_mask)
        if all(value is None for value in given) != self.clear:
            raise wrong("labelled_z", "give either what is labelled, such as --labelled-z 0:40, or --clear")
        return self


class CropSample(Changing):
    """Copy a box of a sample to a new sample of the same data set."""

    file: Path = argument("Data set to change.", opens="dataset")
    sample: str = argument("Sample to crop.", within="file.samples")
    z: Bounds | None = option(None, "Slices START:STOP; all of them if not given.", "voxels", otherwise="all")
    y: Bounds | None = option(None, "Rows START:STOP; all of them if not given.", "voxels", otherwise="all")
    x: Bounds | None = option(None, "Columns START:STOP; all of them if not given.", "voxels", otherwise="all")
    name: Name | None = option(
        None, "Name of the new sample; SAMPLE_crop_z0_z1_y0_y1_x0_x1 if not given.", otherwise="chosen"
    )


class RenameDataset(Changing):
    """Change the name that a data set carries inside (its file keeps its own)."""

    file: Path = argument("Data set to change.", opens="dataset")
    new: Name = argument("New name.")


class RenameSample(Changing):
    """Change the name of a sample."""

    file: Path = argument("Data set to change.", opens="dataset")
    sample: str = argument("Sample to rename.", within="file.samples")
    new: Name = argument("New name.")


class RemoveSample(Changing):
    """Remove a sample from a data set.

    The file keeps its size until `save-dataset` writes it anew.
    """

    file: Path = argument("Data set to change.", opens="dataset")
    sample: str = argument("Sample to remove.", within="file.samples")


class SetAliases(Changing):
    """Give the labels of a data set names."""

    file: Path = argument("Data set to change.", opens="dataset")
    aliases: tuple[Name, ...] = argument("Names, one for each label, in order.", default=(), each="file")
    clear: bool = option(False, "Take the names away.")

    @model_validator(mode="after")
    def _one_of_both(self) -> SetAliases:
        if bool(self.aliases) == self.clear:
            raise wrong("aliases", "give either one name for each label, or --clear")
        return self


class SaveDataset(Writing):
    """Write a data set anew into another file, without the space that removed samples left."""

    file: Path = argument("Data set to copy.", opens="dataset")
    out: Path = argument("Data set to make (.hdf5).", makes="dataset")


class SplitDataset(Writing):
    """Divide a data set into data sets to train, validate and test with, or into folds of a cross-validation.

    Samples that share voxels, or are crops of one volume that lie side by side, stay together. What is written:
    OUT_DIR/train.hdf5, valid.hdf5 and test.hdf5, or fold_1_train.hdf5, fold_1_valid.hdf5, fold_2_train.hdf5 and so on.
    """

    file: Path = argument("Data set to divide.", opens="dataset")
    out_dir: Path = argument("Folder for the data sets; made if it does not exist.", title="Folder", makes="folder")
    folds: int | None = option(
        None, "Parts, each of which validates once what was trained on the others.", otherwise="none", ge=2, le=100
    )
    valid: Percent | None = option(None, "Share to validate with.", "%", otherwise="none", gt=0, lt=100)
    test: Percent | None = option(None, "Share to test with.", "%", otherwise="none", gt=0, lt=100)
    by: Literal["samples", "z"] = option(
        "samples", "Divide the samples among the data sets; or cut each one along Z, for few samples or one."
    )
    gap: int = option(
        16,
        "What must lie between: slices that are left out where samples are cut; crops of one volume that are no "
        "farther apart stay together.",
        "voxels",
        ge=0,
        le=10_000,
    )
    seed: int = option(0, "Seed of the choice.", ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _folds_or_shares(self) -> SplitDataset:
        if (self.folds is None) == (self.valid is None):
            raise wrong("folds", "give either --folds, such as 5, or --valid, such as 20%")
        if self.test is not None and self.valid is None:
            raise wrong("test", "--test belongs with --valid; folds have no test data")
        if (self.valid or 0) + (self.test or 0) >= 100:
            raise wrong("valid", "--valid and --test must leave something to train on")
        return self


class ExportSample(Writing):
    """Write the image and labels (or predictions) of a sample as image files."""

    file: Path = argument("Data set.", opens="dataset")
    sample: str = argument("Sample to export.", within="file.samples")
    folder: Path = argument("Folder for the files; made if it does not exist.", makes="folder")
    format: Literal["tif", "ome.tif", "npy", "mrc", "h5", "ome.zarr", "nii", "nii.gz"] = option(
        "tif", "Format of the files, by the end of their names."
    )


class ConvertImage(Writing):
    """Write an image file, or slices, in another format: values and voxel size stay as they are.

    The format is told by the name: docs/formats.md lists all.
    """

    image: Path = argument("Image file, or a folder or pattern of slices.", opens="image")
    out: Path = argument("Image file to make.", makes="made image")
    voxel_size: VoxelSize | None = option(
        None,
        "Size of a voxel, Z,Y,X and a unit, such as '30,8,8 nm' or '8 nm'.",
        otherwise="the image's",
    )
    labels: bool = option(False, "The values are labels: smaller copies in a pyramid take one of them, not their mean.")


class DistanceTransform(Writing):
    """Add to every sample the Euclidean distance of each label voxel to the background.

    Stored as DeepSCEM does, as `label_0000_dt` beside `label_0000`. DeepSCEM cannot train on a data set that has them.
    """

    file: Path = argument("Data set to change.", opens="dataset")


class CheckDataset(Parameters):
    """Read a data set through and list everything wrong or unusual in it."""

    file: Path = argument("Data set.", opens="dataset")


class Info(Parameters):
    """Say what a data set, a model or an image file holds."""

    path: Path = argument("Data set, model (.keras, .h5) or image file.", opens="file")


class Preview(Parameters):
    """Show a slice of a sample, with its labels or predictions on it, as text."""

    file: Path = argument("Data set, or an image file.", opens="dataset or image")
    sample: str | None = argument(
        "Sample; the first if not given.", default=None, within="file.samples", otherwise="the first"
    )
    z: int | None = option(None, "Slice; the middle one if not given.", "voxels", otherwise="the middle one", ge=0)
    overlay: Literal["none", "labels", "predictions", "all"] = option("all", "What to draw on the image.")
    reference: Path | None = option(
        None,
        "Data set with this sample's true labels: hits, misses and false alarms are coloured.",
        opens="dataset",
        more=True,
    )
    label: str | None = option(
        None,
        "With --reference, the label to compare; all of them together if not given.",
        within="reference.labels",
        otherwise="all of them",
        more=True,
    )
    style: Literal["auto", "blocks", "ascii"] = option("auto", "Half blocks in colour, or characters.", more=True)
    width: int | None = option(
        None,
        "Width of the picture; the terminal's if not given.",
        "columns",
        otherwise="the terminal's",
        more=True,
        ge=8,
        le=1000,
    )
