"""The parameters of every action: names, defaults, ranges, units and help, declared once.

The command line, the TOML files of ``--from``, the run folder and the forms on the screens are all made from these.
A class's docstring is the action's help: its first line stands in the list of actions.
This module imports pydantic and nothing heavier, so that ``--help`` stays instant.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

# ------------------------------------------------------------------------------------------------ kinds of value


def _name(value: str) -> str:
    """A name that HDF5, a path and a terminal can all carry."""
    if not value or not value.strip():
        raise ValueError("must not be empty")
    if value != value.strip():
        raise ValueError("must not begin or end with a space")
    if "/" in value or value in (".", ".."):
        raise ValueError("must not be '.' or '..' nor contain '/'")
    if value.startswith("-"):
        raise ValueError("must not begin with '-'")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in value):
        raise ValueError("must not contain control characters")
    if len(value.encode()) > 200:
        raise ValueError("must not be longer than 200 bytes")
    return value


def _bounds(value: Any) -> Any:
    """``"A:B"``, ``"A:"`` or ``":B"`` as (start, stop), half open."""
    if not isinstance(value, str):
        return value
    start, colon, stop = value.partition(":")
    try:
        if not colon:
            raise ValueError
        return (int(start) if start.strip() else None, int(stop) if stop.strip() else None)
    except ValueError:
        raise ValueError("must be START:STOP, such as 0:40 (STOP is not included)") from None


def _check_bounds(value: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    start, stop = value
    if (start is not None and start < 0) or (stop is not None and stop < 0):
        raise ValueError("START and STOP must not be negative")
    if stop is not None and stop <= (start or 0):
        raise ValueError("STOP must be greater than START")
    return value


def _sizes(value: Any) -> Any:
    """``"Z,Y,X"`` or ``"Y,X"`` as a tuple of integers."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(int(size) for size in value.replace("x", ",").split(","))
    except ValueError:
        raise ValueError("must be Y,X or Z,Y,X, such as 256,256") from None


def _check_sizes(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(value) not in (2, 3):
        raise ValueError("must have two sizes (Y,X) or three (Z,Y,X)")
    if min(value) < 1:
        raise ValueError("sizes must be at least 1")
    return value


def _as_bounds_text(value: tuple[int | None, int | None]) -> str:
    return ":".join("" if end is None else str(end) for end in value)


def _as_sizes_text(value: tuple[int, ...]) -> str:
    return ",".join(map(str, value))


def _shard(value: Any) -> Any:
    """``"I/N"`` as two numbers."""
    if not isinstance(value, str):
        return value
    part, slash, of = value.partition("/")
    if not slash or not part.strip().isdecimal() or not of.strip().isdecimal():
        raise ValueError("must be I/N, such as 1/4 for the first of four")
    return int(part), int(of)


def _check_shard(value: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= value[0] <= value[1]:
        raise ValueError("must be I/N with I from 1 to N")
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd (it is {value})")
    return value


Name = Annotated[str, AfterValidator(_name)]
Bounds = Annotated[
    tuple[int | None, int | None],
    BeforeValidator(_bounds),
    AfterValidator(_check_bounds),
    PlainSerializer(_as_bounds_text),
]
PatchSize = Annotated[
    tuple[int, ...], BeforeValidator(_sizes), AfterValidator(_check_sizes), PlainSerializer(_as_sizes_text)
]

Shard = Annotated[
    tuple[int, int],
    BeforeValidator(_shard),
    AfterValidator(_check_shard),
    PlainSerializer(lambda value: f"{value[0]}/{value[1]}"),
]

Dimension = Annotated[
    Literal[2, 3],
    BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value),
]
Loss = Literal["dice-cross-entropy", "dice", "cross-entropy", "mean-squared-error"]
Activation = Literal["sigmoid", "softmax", "tanh", "linear"]


def argument(help: str, **facts: Any) -> Any:
    """A parameter that stands on the command line without its name; see :func:`option` for ``facts``."""
    return _field(help, facts | {"argument": True})


def option(default: Any, help: str, unit: str = "", **facts: Any) -> Any:
    """A parameter given as ``--name value``.

    Args:
        default: ``...`` if it is required.
        unit: Of the number.
        facts: Rules of pydantic (``ge``, ``le``, ...), and what a form needs to know:
            ``opens`` and ``makes``, what a path leads to, a key of :data:`SUFFIXES`;
            ``within``, that this names something in the file of another parameter: ``"file.samples"`` or
            ``"file.labels"``;
            ``each``, that there is one of these for each label of the data set that another parameter names;
            ``title``, what it is called where its name is no good title;
            ``otherwise``, in a word, what is taken where it is not given;
            ``more``, that it is rarely changed.
    """
    return _field(help, facts | {"default": default, "unit": unit})


# Ends of the names of the files that a parameter opens or makes; none for any file, and for a folder.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "dataset": (".hdf5", ".h5"),
    "model": (".keras", ".h5"),
    "image": (".tif", ".tiff", ".npy"),
    "dataset or image": (".hdf5", ".h5", ".tif", ".tiff", ".npy"),
    "dataset or TIFF": (".hdf5", ".tif", ".tiff"),
    "file": (".hdf5", ".keras", ".h5", ".tif", ".tiff", ".npy"),
    "csv": (".csv",),
    "folder": (),
}
_FOR_FORMS = ("argument", "unit", "opens", "makes", "within", "each", "title", "otherwise", "more")


def _field(help: str, facts: dict[str, Any]) -> Any:
    extra = {name: value for name, value in facts.items() if name in _FOR_FORMS and value}
    rules = {name: value for name, value in facts.items() if name not in _FOR_FORMS}
    return Field(description=help, json_schema_extra=extra, **rules)


def _wrong(parameter: str, text: str) -> PydanticCustomError:
    """What a check of several parameters together raises, naming the one to change."""
    return PydanticCustomError("value_error", text, {"parameter": parameter})


class Parameters(BaseModel):
    """Base of every declaration: frozen, and a name that is not declared is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, validate_default=False)


class Changing(Parameters):
    """An action that writes."""

    dry_run: bool = option(False, "Check everything and say what would be done, but write nothing.")


class Writing(Changing):
    """An action that makes a new file."""

    overwrite: bool = option(False, "Replace the result if it exists.")


# ------------------------------------------------------------------------------------------------ data sets


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


class AddSample(Changing):
    """Add an image and its labels to a data set as a new sample.

    Voxels above 0 are a label's foreground. An empty label ("") makes a blank one, and so do labels left out.
    The image is stored min-max normalised to 0-1, which takes two passes over it: one for its range, one for its data.
    """

    file: Path = argument("Data set to change.", opens="dataset")
    name: Name = argument("Name of the new sample.")
    image: Path = argument("Image: .tif, .tiff or .npy, 2D or 3D.", opens="image")
    labels: tuple[str, ...] = argument(
        'Labels, one file each, in order; "" for a blank one.', default=(), opens="image", each="file"
    )
    range: Literal["data", "type"] = option(
        "data", "Grey values that become 0 and 1: those found in the image, or those of its type (one pass less)."
    )


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
            raise _wrong("aliases", "give either one name for each label, or --clear")
        return self


class SaveDataset(Writing):
    """Write a data set anew into another file, without the space that removed samples left."""

    file: Path = argument("Data set to copy.", opens="dataset")
    out: Path = argument("Data set to make (.hdf5).", makes="dataset")


class ExportSample(Writing):
    """Write the image and labels (or predictions) of a sample as TIFF files."""

    file: Path = argument("Data set.", opens="dataset")
    sample: str = argument("Sample to export.", within="file.samples")
    folder: Path = argument("Folder for the files; made if it does not exist.", makes="folder")


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


# ------------------------------------------------------------------------------------------------ models


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
    kernel_size: Annotated[int, AfterValidator(_odd)] = option(
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
            raise _wrong("labels", "give either --labels N or --like DATASET")
        return self


class ConvertModel(Writing):
    """Write a model in the other file format: .keras, or the .h5 that DeepSCEM reads."""

    model: Path = argument("Model to read (.keras or .h5).", opens="model")
    out: Path = argument("Model to make (.keras or .h5).", makes="model")


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
    augmentation: Literal["flips", "none"] = option(
        "flips", "Mirrors and quarter turns make more of little data; or nothing.", more=True
    )
    learning_rate: float = option(
        1e-3, "Of Adam; halved when nothing improves for 3 epochs. Smaller if the loss jumps.", more=True, gt=0, le=1
    )
    keep_best: bool = option(True, "Write the best model of the validation, not the last.", more=True)
    early_stopping: bool = option(False, "End when nothing improves for max(5, epochs / 20) epochs.", more=True)
    seed: int = option(0, "Seed of everything random.", more=True, ge=0, le=2**31 - 1)


class Predict(Writing):
    """Predict the labels of a data set's samples, or of an image file.

    OUT is a data set (.hdf5), or a TIFF file (.tif; with several labels one file each, OUT_<label>.tif).
    """

    model: Path = argument("Model (.keras or .h5).", opens="model")
    input: Path = argument("Data set, or an image file (.tif, .tiff, .npy).", opens="dataset or image")
    out: Path = argument("Result to make (.hdf5, .tif or .tiff).", makes="dataset or TIFF")
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
    resume: bool = option(False, "Go on with the run that began to make OUT, if there is one.", more=True)
    shard: Shard | None = option(
        None,
        "Compute only part I/N of it, such as 1/4, for `merge` to make OUT of all parts.",
        otherwise="all",
        more=True,
    )
    image: bool = option(True, "Copy the image into the resulting data set, as DeepSCEM's view needs it.", more=True)


class Merge(Writing):
    """Make one result of the parts that `predict --shard` computed; refused where a part is missing."""

    out: Path = argument("Result to make (.hdf5, .tif or .tiff).", makes="dataset or TIFF")
    shards: tuple[str, ...] = argument(
        "Folders of the parts, OUT.shards; one, or several where nodes share no disk.", min_length=1
    )


class Evaluate(Writing):
    """Compare a segmentation with its reference: F1, IoU, precision and recall of each label and sample."""

    reference: Path = argument(
        "Data set with the true labels, or an image file with one label.", opens="dataset or image"
    )
    segmentation: Path = argument(
        "Data set with predictions, or an image file with one label.", opens="dataset or image"
    )
    csv: Path | None = option(None, "Write the table to this file too.", makes="csv", otherwise="none")
    threshold: float = option(0.5, "Probabilities above it are foreground.", ge=0, le=1)


class Demo(Parameters):
    """Do the whole job on a synthetic volume: data sets, training, prediction, scores."""

    folder: Path = argument("Folder for the demo's files.", default=Path("deepscem-demo"), makes="folder")
    seed: int = option(0, "Seed of the volume and of the training.", ge=0, le=2**31 - 1)
    images_only: bool = option(False, "Make the images only, to make data sets of yourself.")
    overwrite: bool = option(False, "Replace an earlier demo in the folder.")
