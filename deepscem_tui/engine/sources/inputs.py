"""Images and labels to read slab by slab, whether they lie in a data set or in an image file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, Member, Sample, open_dataset
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in
from deepscem_tui.engine.errors import DatasetError, ParameterError
from deepscem_tui.engine.formats import is_place, place_of
from deepscem_tui.engine.formats.slice_files import is_several_files, open_slices, volume_name
from deepscem_tui.engine.formats.volumes import Volume
from deepscem_tui.engine.sources.normalisation import (
    MIN_MAX,
    TYPE_RANGE,
    find_greys,
    normalisation_in,
    normalisation_of,
)
from deepscem_tui.engine.sources.source import Source

__all__ = [
    "InputImage",
    "Labelled",
    "LabelledSample",
    "Sliced",
    "is_image_file",
    "open_images",
    "open_labelled",
    "refuse_among_slices",
    "same_file",
]


@dataclass(frozen=True)
class InputImage:
    """An image to predict, and what its copy needs.

    Args:
        source: The image.
        stored: Type of a normalised copy.
        voxel_size: Z, Y, X in ``voxel_unit``, if known.
        voxel_unit: Such as "nm"; empty if not known.
        file: The image file whose range is still to be found, if it is one.
        normalised: How the image of a data set, or one that is measured, is normalised.
        original: The image as it is, where this is what is made of it for a model of other voxels.
    """

    source: Source
    stored: np.dtype[Any]
    voxel_size: tuple[float, float, float] | None
    voxel_unit: str
    file: Volume | None = None
    normalised: str = str(MIN_MAX)
    original: InputImage | None = None

    @property
    def result(self) -> InputImage:
        """The image whose voxels the result has."""
        return self if self.original is None else self.original

    @property
    def in_file(self) -> np.dtype[Any]:
        """Type of the voxels as they are read."""
        return self.stored if self.file is None else self.file.dtype

    def measured(self, wanted: str, context: Context) -> InputImage:
        """The same with its range known: an image file is read through, a data set's image is normalised already.

        Args:
            wanted: How the images of the model are normalised, as it says itself.

        Raises:
            VolumeError: the file is damaged.
            Stopped: on request.
        """
        how = normalisation_of(wanted)
        if how is None:
            what = f"The model takes images that are normalised in a way that is not known here: {wanted!r}"
            context.report.warning(f"{what}; they are normalised by {MIN_MAX}")
        how = how or MIN_MAX
        if self.file is None:
            if self.normalised != str(how):
                context.report.warning(
                    f"{self.source.name!r} is normalised by {self.normalised}, and the images of the model by {how}: "
                    "its grey values mean something else. Add it to the data set anew with that --normalization"
                )
            return self
        file, path = self.file, self.file.path
        if how != TYPE_RANGE:
            context.report.message(f"{path} is read twice: for its range of grey values, then for its data")
        found = find_greys(file, how, context.report, context.stop)
        if found.constant:
            context.report.warning(f"{path} has the same value, {found.each[0].low:g}, everywhere: it becomes 0")
        if found.non_finite:
            context.report.warning(f"{path} has {found.non_finite} voxels that are NaN or infinite: they become 0 or 1")
        if how == MIN_MAX:
            (grey,) = found.each
            return replace(self, source=replace(self.source, low=float(grey.low), high=float(grey.high)), file=None)

        def read(z0: int, z1: int) -> Any:
            return found.normalise(z0, file.read(z0, z1), np.float32)

        return replace(
            self, source=replace(self.source, read=read), stored=np.dtype(np.float32), file=None, normalised=str(how)
        )


class _Slices:
    """An image file sliced as an array is, along Z; probabilities stored as whole numbers are from 0 to 1."""

    depth = 1

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def __getitem__(self, z: slice) -> Any:
        stored = self._volume.read(*z.indices(self._volume.shape[0])[:2])
        return stored if self._volume.scale is None else stored * np.float32(self._volume.scale)


Sliced = Member | _Slices  # an array (Z, Y, X) read by slicing along Z


@dataclass(frozen=True)
class LabelledSample:
    """A sample's masks or probabilities.

    Args:
        labels: One array (Z, Y, X) a label, read by slicing along Z.
        ignored: What nobody has annotated; None for nothing.
        voxel_size: Z, Y, X in ``voxel_unit``, if known.
        voxel_unit: Such as "nm"; empty if not known.
    """

    name: str
    shape: Shape
    labels: Sequence[Sliced]
    ignored: Ignored | None = None
    voxel_size: tuple[float, float, float] | None = None
    voxel_unit: str = ""

    @property
    def depth(self) -> int:
        """Slices that are best read together."""
        return max((label.depth for label in self.labels), default=1)


@dataclass(frozen=True)
class Labelled:
    """Samples with their labels by name; ``single`` if this is an image file, whose name means nothing."""

    path: Path
    label_names: Sequence[str]
    samples: Mapping[str, LabelledSample]
    single: bool


def is_image_file(path: Path) -> bool:
    """Whether a path names an image file, or slices of a volume, rather than a data set."""
    return is_place(path) or is_several_files(path)


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths are one file, or would be once it is made; also where they name something in it."""
    one, other = place_of(one).file, place_of(other).file
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)  # which does not mind links that lead to themselves


def refuse_among_slices(name: str, given: Path, out: Path) -> None:
    """Raise :class:`ParameterError` if a result would lie among the slices that it is made of, as one of them.

    Args:
        name: What the slices are called on the command line.
    """
    if not (is_several_files(given) and is_image_file(out)):
        return
    folder = given if given.is_dir() else given.parent
    if same_file(place_of(out).file.parent, folder):
        what = f"OUT lies among the slices of {name} and would become one of them: {out}"
        raise ParameterError(what, "Give the result another folder.", "out")


@contextmanager
def open_images(path: Path, names: Sequence[str], context: Context) -> Iterator[list[InputImage]]:
    """Open a data set's samples, or an image file or slices, for prediction.

    An image file is to be normalised to 0-1 as a data set's images are: see :meth:`InputImage.measured`.

    Args:
        names: Samples of the data set; all of them if empty.

    Raises:
        ParameterError: names are given for an image file.
        DataError: the file cannot be used, or lacks a sample.
    """
    if is_image_file(path):
        if names:
            raise ParameterError(
                f"--sample is for data sets, and {path} is an image file", "Leave --sample out.", "sample"
            )
        with open_slices(path, colours=False) as volume:
            for text in volume.warnings:
                context.report.warning(f"{path}: {text}")
            yield [_from_file(volume)]
        return
    with open_dataset(path) as dataset:
        yield [_from_sample(sample) for sample in _chosen(dataset, names)]


@contextmanager
def open_labelled(path: Path, wanted: Literal["labels", "predictions"]) -> Iterator[Labelled]:
    """Open the labels of a data set's samples, or an image file that holds one label.

    Args:
        wanted: What to take where a sample has both; where it has none of the wanted ones, predictions are never taken
            for labels, but labels for predictions are: two people's labels can be compared.

    Raises:
        DataError: the file cannot be used, or a sample has nothing to compare.
    """
    if is_image_file(path):
        with open_slices(path, colours=False) as volume:
            only = LabelledSample(
                volume_name(path), volume.shape, (_Slices(volume),), None, volume.voxel_size, volume.voxel_unit
            )
            yield Labelled(path, (only.name,), {only.name: only}, single=True)
        return
    with open_dataset(path) as dataset:
        samples = {}
        for name, sample in dataset.samples.items():
            labels = sample.labels if wanted == "labels" else sample.predictions or sample.labels
            if not labels:
                raise DatasetError(
                    f"Sample {name!r} of {path} has no {wanted}",
                    "The reference is a data set with labels, the segmentation one with predictions.",
                )
            ignored = ignored_in(sample) if labels is sample.labels else None
            size, unit = sample.voxel_size, sample.voxel_unit
            samples[name] = LabelledSample(name, sample.shape, tuple(labels), ignored, size, unit)
        most = max((len(sample.labels) for sample in samples.values()), default=dataset.n_labels)
        yield Labelled(path, dataset.names_for(most), samples, single=False)


def _from_file(volume: Volume) -> InputImage:
    source = Source(volume_name(volume.path), volume.shape, volume.read)
    stored = np.dtype(np.float16 if volume.dtype.itemsize == 1 else np.float32)
    return InputImage(source, stored, volume.voxel_size, volume.voxel_unit, volume)


def _from_sample(sample: Sample) -> InputImage:
    image = sample.image
    source = Source(sample.name, sample.shape, lambda z0, z1: image[z0:z1])
    how = normalisation_in(sample)
    return InputImage(source, np.dtype(image.dtype), sample.voxel_size, sample.voxel_unit, normalised=how)


def _chosen(dataset: Dataset, names: Sequence[str]) -> list[Sample]:
    if not dataset.samples:
        raise DatasetError(f"{dataset.path} has no samples", "Add some with: deepscem-tui run add-sample")
    return [dataset.sample(name) for name in dict.fromkeys(names or dataset.samples)]
