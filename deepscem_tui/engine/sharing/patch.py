"""A patch of an image by which others see that a model computes what it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ParameterError, VolumeError
from deepscem_tui.engine.formats.volumes import Volume
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.phantom import make_phantom
from deepscem_tui.engine.sources.inputs import InputImage, is_image_file, open_images
from deepscem_tui.engine.sources.normalisation import (
    MIN_MAX,
    TYPE_RANGE,
    Grey,
    find_greys,
    normalisation_of,
    type_range,
)

__all__ = ["Patch", "cut_patch", "origin_of"]


@dataclass(frozen=True)
class Patch:
    """A part of an image.

    Args:
        image: What others give the model, before its pre-processing, float32 (1, C, [Z,] Y, X).
        normalised: What the network takes of it, 0 to 1, of the same shape.
        origin: Where it is from, in words.
    """

    image: npt.NDArray[np.float32]
    normalised: npt.NDArray[np.float32]
    origin: str


def cut_patch(info: ModelInfo, sides: Sequence[int], path: Path | None, sample: str | None, context: Context) -> Patch:
    """Cut the middle of an image, slice by slice, or of made-up cells; an image that is too small is mirrored.

    Args:
        sides: Z, Y, X; along Z as many as a network of slices has channels.
        path: A data set, an image file or slices; None for made-up cells.
        sample: Of the data set; None for its first.

    Raises:
        ParameterError: a sample is named, but no data set.
        DataError: the image cannot be read, or has one grey value all over the patch.
    """
    origin = origin_of(path, sample, context)
    if path is None:
        z, y, x = sides
        return _patch(info, make_phantom((z, y, x), seed=0).image.astype(np.float32), Grey(0, 255), origin)
    with open_images(path, () if sample is None else (sample,), context) as images:
        image = images[0]
        by_type = Grey(0, 1)  # as data sets are already
        if image.file is not None and normalisation_of(info.normalization) == TYPE_RANGE:
            by_type = type_range(image.file)
        return _patch(info, _middle(image, sides, context), by_type, origin)


def origin_of(path: Path | None, sample: str | None, context: Context) -> str:
    """Where :func:`cut_patch` cuts, in words.

    Raises:
        ParameterError: a sample is named, but no data set.
        DataError: the image cannot be opened.
    """
    if path is None:
        if sample is not None:
            raise ParameterError("--sample names a sample of --image DATASET", "Give --image, too.", "sample")
        return "made-up cells"
    with open_images(path, () if sample is None else (sample,), context) as images:
        whole = path.name if is_image_file(path) else f"sample {images[0].source.name} of {path.name}"
    return f"the middle of {whole}"


def _middle(image: InputImage, sides: Sequence[int], context: Context) -> npt.NDArray[np.float32]:
    spans = []
    for size, side in zip(image.source.shape, sides, strict=True):
        start = max(0, (size - side) // 2)
        spans.append((start, min(size, start + side)))
    (z0, z1), rows, columns = spans
    slices = []
    for z in range(z0, z1):  # one at a time: they may be much larger than the patch
        context.stop.check()
        slices.append(image.source.read(z, z + 1)[0, slice(*rows), slice(*columns)].astype(np.float32))
    voxels = np.nan_to_num(np.stack(slices), posinf=0, neginf=0)
    missing = [side - length for side, length in zip(sides, voxels.shape, strict=True)]
    return np.pad(voxels, [(few // 2, few - few // 2) for few in missing], mode="symmetric")


def _patch(info: ModelInfo, voxels: npt.NDArray[np.float32], by_type: Grey, origin: str) -> Patch:
    """Normalise a patch by itself, as whoever is given nothing else does."""
    how = normalisation_of(info.normalization) or MIN_MAX
    if voxels.min() == voxels.max():
        raise VolumeError(f"{origin[0].upper()}{origin[1:]} has one grey value everywhere", "Give another --image.")
    if how == TYPE_RANGE:  # a rule for the type of a file, which float32 has not
        normalised = voxels = by_type.normalise(voxels, np.float32)
    else:
        context = Context()
        greys = find_greys(Volume(Path(origin), _Held(voxels)), how, context.report, context.stop)
        normalised = greys.normalise(0, voxels, np.float32)
    lead = (1, 1) if info.dimension == 3 else (1,)
    return Patch(voxels.reshape(*lead, *voxels.shape), normalised.reshape(*lead, *voxels.shape), origin)


class _Held:
    """An array as a file's voxels are."""

    voxel_size: tuple[float, float, float] | None = None
    voxel_unit = ""
    warnings: tuple[str, ...] = ()
    scale: float | None = None

    def __init__(self, voxels: npt.NDArray[Any]) -> None:
        self._voxels = voxels
        self.shape: tuple[int, int, int] = voxels.shape
        self.dtype = voxels.dtype

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        out[...] = self._voxels[z0 : z0 + len(out)]
