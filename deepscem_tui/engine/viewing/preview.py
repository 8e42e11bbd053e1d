"""The action `preview`: one slice of a sample with its labels or predictions; nothing else is read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, Sample, open_dataset
from deepscem_tui.engine.datasets.ignoring import ignored_in
from deepscem_tui.engine.errors import DatasetError, ParameterError
from deepscem_tui.engine.formats.slice_files import open_slices, volume_name
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.sources.inputs import is_image_file

__all__ = ["SlicePicture", "grey_levels", "preview"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SlicePicture:
    """A slice to draw, by whoever knows the terminal.

    Args:
        image: uint8 (Y, X).
        masks: bool (Y, X) each, the last on top.
        names: What each mask shows.
        reference: The true masks to compare with, as many as ``masks``; None to draw the masks themselves.
        sample: Name of the sample.
        z: Which slice.
        aspect: Height of a voxel divided by its width.
        style: ``"auto"``, ``"blocks"`` or ``"ascii"``, as asked for.
        width: Columns that were asked for, if any.
        ignored: Where nobody has labelled; None where that is nowhere.
    """

    image: npt.NDArray[np.uint8]
    masks: Sequence[Mask]
    names: Sequence[str]
    reference: Sequence[Mask] | None
    sample: str
    z: int
    aspect: float
    style: str
    width: int | None
    ignored: Mask | None = None


def preview(parameters: p.Preview, context: Context) -> Result:
    """Read a slice and what is to be drawn on it.

    Raises:
        ParameterError: there is no such slice, or the parameters do not suit an image file.
        DataError: the file cannot be used, or lacks the sample; the reference does not fit.
    """
    if parameters.label is not None and parameters.reference is None:
        raise ParameterError("--label is for comparing with a --reference", "Leave it out, or give a --reference.")
    picture, n_slices = _of_file(parameters, context) if is_image_file(parameters.file) else _of_sample(parameters)
    height, width = picture.image.shape
    shares = {
        name: round(float(mask.mean()), 6) for name, mask in zip(picture.names, picture.masks, strict=True)
    }  # fmt: skip
    if picture.ignored is not None and picture.ignored.any():
        shares["not labelled"] = round(float(picture.ignored.mean()), 6)
    facts = {"sample": picture.sample, "z": picture.z, "slices": n_slices, "shape": [height, width], "shown": shares}
    summary = f"Sample {picture.sample!r}, slice {picture.z} of 0 to {n_slices - 1}, {height} x {width}"
    return Result(summary, facts, picture=picture)


def grey_levels(voxels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A slice (Y, X) in grey, its contrast stretched: all but half a percent of its voxels at either end.

    A constant slice becomes middle grey, NaN black.
    """
    values = voxels.astype(np.float32)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(finite, (0.5, 99.5))
    if low == high:  # nearly all of it is the same
        low, high = finite.min(), finite.max()
    if low == high:
        return np.where(np.isfinite(values), 128, 0).astype(np.uint8)
    scaled = np.nan_to_num((values - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    grey: npt.NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey


def _of_file(parameters: p.Preview, context: Context) -> tuple[SlicePicture, int]:
    path = parameters.file
    for name, given in (("SAMPLE", parameters.sample), ("--reference", parameters.reference)):
        if given is not None:
            raise ParameterError(f"{name} is for data sets, and {path} is an image file", f"Leave {name} out.")
    with open_slices(path, colours=False) as volume:
        for text in volume.warnings:
            context.report.warning(f"{path}: {text}")
        z = _slice(parameters, volume.shape[0])
        image = grey_levels(volume.read(z, z + 1)[0])
        return _picture(parameters, image, volume_name(path), z, volume.voxel_size), volume.shape[0]


def _of_sample(parameters: p.Preview) -> tuple[SlicePicture, int]:
    with ExitStack() as files:
        dataset = files.enter_context(open_dataset(parameters.file))
        sample = _sample(dataset, parameters.sample)
        z = _slice(parameters, sample.shape[0])
        masks, names, reference, labelled = [], [], None, sample
        if parameters.reference is not None:
            masks = _masks(sample.predictions or sample.labels, z)
            names = list(dataset.names_for(len(masks)))
            labelled = _true(files.enter_context(open_dataset(parameters.reference)), sample, len(masks))
            reference = _masks(labelled.labels, z)
            if parameters.label is not None:
                index = _label(names, parameters.label)
                masks, names, reference = [masks[index]], [names[index]], [reference[index]]
        else:
            if parameters.overlay in ("labels", "all"):
                masks += _masks(sample.labels, z)
                names += dataset.names_for(len(sample.labels))
            if parameters.overlay in ("predictions", "all"):
                masks += _masks(sample.predictions, z)
                predicted = dataset.names_for(len(sample.predictions))
                names += [f"{name}, predicted" for name in predicted] if sample.labels else list(predicted)
        # A prediction may have no image: its masks then lie on plain grey.
        image = grey_levels(np.asarray(sample.image[z]) if "image" in sample.members else np.zeros(sample.shape[1:]))
        picture = _picture(parameters, image, sample.name, z, sample.voxel_size, masks, names, reference)
        drawn = reference is not None or (labelled.labels and parameters.overlay in ("labels", "all"))
        ignored = ignored_in(labelled) if drawn else None
        return replace(picture, ignored=None if ignored is None else ignored[z] != 0), sample.shape[0]


def _picture(
    parameters: p.Preview,
    image: npt.NDArray[np.uint8],
    sample: str,
    z: int,
    voxel_size: Sequence[float] | None,
    masks: Sequence[Mask] = (),
    names: Sequence[str] = (),
    reference: Sequence[Mask] | None = None,
) -> SlicePicture:
    aspect = voxel_size[1] / voxel_size[2] if voxel_size else 1.0
    return SlicePicture(image, masks, names, reference, sample, z, aspect, parameters.style, parameters.width)


def _true(dataset: Dataset, sample: Sample, n_masks: int) -> Sample:
    """The sample with the true labels.

    Raises:
        DatasetError: they do not fit the sample.
    """
    true = _sample(dataset, sample.name)
    if true.shape != sample.shape or len(true.labels) != n_masks:
        raise DatasetError(
            f"Sample {sample.name!r} of {dataset.path} has {words.counted(len(true.labels), 'label')} of "
            f"{words.sizes(true.shape)} voxels, not {n_masks} of {words.sizes(sample.shape)}",
            "Give the data set that the predictions were made from.",
        )
    return true


def _masks(members: Sequence[Any], z: int) -> list[Mask]:
    """Masks of a slice: above 0, or above one half where they are probabilities."""
    slices = [np.asarray(member[z]) for member in members]
    return [values > (0.5 if values.dtype.kind == "f" else 0) for values in slices]


def _slice(parameters: p.Preview, n_slices: int) -> int:
    z = n_slices // 2 if parameters.z is None else parameters.z
    if z >= n_slices:
        raise ParameterError(
            f"--z is {z}, but {parameters.file} has slices 0 to {n_slices - 1}", "Choose one of these."
        )
    return z


def _label(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise ParameterError(f"There is no label {name!r}", f"There are {words.listed(names)}.")
    return names.index(name)


def _sample(dataset: Dataset, name: str | None) -> Sample:
    if not dataset.samples:
        raise DatasetError(f"{dataset.path} has no samples", "Add some with: deepscem-tui run add-sample")
    return next(iter(dataset.samples.values())) if name is None else dataset.sample(name)
