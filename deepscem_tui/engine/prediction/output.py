"""Where predictions go: a data set as DeepSCEM's, or image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.datasets.dataset import NewDataset, new_dataset
from deepscem_tui.engine.datasets.layout import SCALE
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats import Format, is_place, kinds, place_of, refuse_unknown, with_stem
from deepscem_tui.engine.formats.volume_writer import check_target, create_volume
from deepscem_tui.engine.models.files import ModelInfo
from deepscem_tui.engine.prediction.tiled import ImageSink, Sink
from deepscem_tui.engine.prediction.values import BYTE_SCALE, values_of
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.runs.own_results import noting
from deepscem_tui.engine.sources.inputs import InputImage
from deepscem_tui.engine.sources.normalisation import MIN_MAX
from deepscem_tui.engine.system.files import Together, refuse_existing

__all__ = [
    "Output",
    "check_output",
    "image_files",
    "kind_in_words",
    "open_output",
    "output_bytes",
    "output_files",
]

_DATASET = ".hdf5"  # what ends so, and names nothing in the file


class Output(Protocol):
    """A result that is being made.

    Attributes:
        has_image: Whether it takes the image, too.
    """

    has_image: bool

    def sinks(self, image: InputImage) -> tuple[Sink, ImageSink]:
        """Begin a sample: what takes its slabs, and what takes their image, which may be in another thread.

        The samples come one after the other.
        """


def check_output(parameters: p.Predict, samples: Sequence[str], label_names: Sequence[str], report: Reporter) -> None:
    """Raise :class:`ParameterError` if OUT cannot be made, or cannot hold these samples and labels."""
    out = parameters.out
    if _is_dataset(out):
        refuse_existing(out, parameters.overwrite)
        return
    known = _image_format(out)
    if parameters.probabilities and parameters.probability_type == "uint8" and not known.scale:
        what = f"{known.name} files do not say that whole numbers are probabilities: {out}"
        raise ParameterError(what, "Use --probability-type float32, or a data set or TIFF file.", "probability_type")
    if len(samples) > 1:
        raise ParameterError(
            f"{out} holds one sample, and {parameters.input} has {len(samples)}: {', '.join(map(repr, samples))}",
            "Choose one with --sample, or write a data set (.hdf5).",
            "sample",
        )
    for file in image_files(out, label_names):
        check_target(file, parameters.probability_type if parameters.probabilities else np.bool_, parameters.overwrite)
    if parameters.probabilities and parameters.probability_type == "float16" and known.stored("float16") != "float16":
        report.message(f"{out} will hold float32: {known.name} knows no float16")


def _is_dataset(out: Path) -> bool:
    return out.suffix.lower() == _DATASET and not is_place(out)


def _image_format(out: Path) -> Format:
    """The format of image files.

    Raises:
        ParameterError: none that is written here.
    """
    try:
        known = refuse_unknown(place_of(out), "written")
    except ParameterError as error:
        what = f"{out} is neither a data set nor an image file by its name"
        raise ParameterError(what, f"It must end in .hdf5, {words.either(kinds('written'))}.") from error
    return known


@contextmanager
def open_output(
    parameters: p.Predict, info: ModelInfo, images: Sequence[InputImage], folder: Path | None = None
) -> Iterator[Output]:
    """Make the result; it appears when the block ends well, and nothing is left of it otherwise.

    Args:
        folder: Of the run whose result it is.

    Raises:
        DataError, ResourceError: it cannot be written.
    """
    if _is_dataset(parameters.out):
        aliases = tuple(info.label_names) if info.named else ()
        with new_dataset(
            parameters.out,
            parameters.out.stem,
            info.n_labels,
            aliases=aliases,
            overwrite=parameters.overwrite,
            before=noting(folder, parameters.out),
        ) as dataset:
            yield _DatasetOutput(parameters, info, dataset)
        return
    kind = np.dtype(parameters.probability_type if parameters.probabilities else np.bool_)  # bool becomes 0 and 255
    image = images[0].result
    with Together() as together, ExitStack() as files:
        writers = [
            files.enter_context(
                create_volume(
                    path, image.source.shape, kind,
                    voxel_size=image.voxel_size, voxel_unit=image.voxel_unit, overwrite=parameters.overwrite,
                    scale=1 / BYTE_SCALE if kind == np.uint8 else None, together=together,
                    before=noting(folder, place_of(path).file),
                )
            )
            for path in image_files(parameters.out, info.label_names)
        ]  # fmt: skip
        yield _ImageOutput(writers, kind)


def kind_in_words(parameters: p.Predict) -> str:
    """What the result holds, in a word."""
    return "probabilities" if parameters.probabilities else "masks"


def output_bytes(parameters: p.Predict, info: ModelInfo, image: InputImage) -> int:
    """Bytes of a sample's result, not compressed."""
    stored = values_of(parameters, info).dtype
    in_dataset = _is_dataset(parameters.out)
    each = info.n_labels * (stored if in_dataset else _image_format(parameters.out).stored(stored)).itemsize
    if in_dataset and parameters.image:
        each += image.stored.itemsize
    return prod(image.result.source.shape) * each


def least_output_bytes(parameters: p.Predict, info: ModelInfo, image: InputImage) -> int:
    """Bytes that a sample's result takes whatever its content: what is stored without compression."""
    voxels = prod(image.result.source.shape)
    if _is_dataset(parameters.out):
        return voxels * image.stored.itemsize if parameters.image else 0
    return voxels * info.n_labels * _image_format(parameters.out).least_bytes(values_of(parameters, info).dtype)


def output_files(out: Path, label_names: Sequence[str]) -> list[Path]:
    """The files, or stores, that a prediction makes."""
    return [out] if _is_dataset(out) else image_files(out, label_names)


def image_files(out: Path, label_names: Sequence[str]) -> list[Path]:
    """The file of each label: OUT itself for one, OUT_<label>.tif or the like for several."""
    if len(label_names) == 1:
        return [out]
    names = [words.file_name(name) for name in label_names]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{index}_{name}" for index, name in enumerate(names)]
    return [with_stem(out, f"_{name}") for name in names]


class _DatasetOutput:
    """A prediction data set."""

    def __init__(self, parameters: p.Predict, info: ModelInfo, dataset: NewDataset) -> None:
        self._parameters, self._info = parameters, info
        self._dataset = dataset
        self.has_image = parameters.image
        self._names = [member_name("prediction", index) for index in range(info.n_labels)]

    def sinks(self, image: InputImage) -> tuple[Sink, ImageSink]:
        source = image.source
        kind = self._parameters.probability_type if self._parameters.probabilities else np.uint8
        members: dict[str, Any] = dict.fromkeys(self._names, kind)
        if self._parameters.image:
            members["image"] = image.stored
        sample = self._dataset.add_sample(source.name, source.shape, members, attributes=self._provenance(image))
        if kind == "uint8":  # probabilities, not masks
            for name in self._names:
                sample[name].set_attributes({SCALE: 1 / BYTE_SCALE})

        def take(first: int, labels: npt.NDArray[Any], voxels: npt.NDArray[Any]) -> None:
            for name, label in zip(self._names, labels, strict=True):
                sample[name][first : first + len(voxels)] = label

        def take_image(first: int, voxels: npt.NDArray[Any]) -> None:
            if not self._parameters.image:
                return
            depth, end = sample["image"].depth, first + len(voxels)
            cuts = [first, *range((first // depth + 1) * depth, end, depth), end]
            for z0, z1 in pairwise(cuts):  # a row of chunks at a time, which stays in the processor's cache
                sample["image"][z0:z1] = source.normalised_as(voxels[z0 - first : z1 - first], image.stored)

        return take, take_image

    def _provenance(self, image: InputImage) -> dict[str, Any]:
        parameters = self._parameters
        facts: dict[str, Any] = {
            "predicted_from": str(parameters.input),
            "predicted_by": str(parameters.model),
        }
        if not parameters.probabilities:
            facts["threshold"] = _one_or_all(values_of(parameters, self._info).thresholds)
        if image.voxel_size is not None:
            facts["voxel_size"] = image.voxel_size
            facts["voxel_unit"] = image.voxel_unit
        if image.normalised != str(MIN_MAX):
            facts["normalization"] = image.normalised
        return facts


def _one_or_all(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(set(values)) == 1 else values


class _ImageOutput:
    """An image file for each label."""

    def __init__(self, writers: Sequence[Any], kind: np.dtype[Any]) -> None:
        self._writers = writers
        self._kind = kind
        self.has_image = False

    def sinks(self, _: InputImage) -> tuple[Sink, ImageSink]:
        def take(__: int, labels: npt.NDArray[Any], ___: npt.NDArray[Any]) -> None:
            for writer, label in zip(self._writers, labels, strict=True):
                writer.write(label.astype(self._kind, copy=False))

        return take, lambda _, __: None
