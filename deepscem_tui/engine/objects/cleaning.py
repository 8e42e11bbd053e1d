"""Masks smoothed, filled and rid of small objects, slab by slab: one mask is computed from another as it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets.ignoring import Ignored
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.objects.components import Mask, Watch, check_slices, components, labelled
from deepscem_tui.engine.objects.physical import Voxels
from deepscem_tui.engine.objects.scratch import Scratch, open_scratch
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.sources.inputs import LabelledSample, Sliced

__all__ = [
    "Cleaner",
    "check_units",
    "cleaned",
    "cleaning_voxels",
    "foreground",
    "marked",
    "probabilities",
    "say_if_no_mask",
    "voxels_of",
]

Bools = npt.NDArray[np.bool_]

_SMOOTHING_BYTES = 7  # a voxel: of the mask, and of its float32
_VALUES_OF_A_MASK = 2
_TRUNCATE = 4.0  # standard deviations at which a Gaussian ends
_MOST_SMOOTHING = 64  # voxels: beyond, it takes ever longer and leaves nothing of a shape
_HOLES_TOUCH = 6  # the background through faces only, as scipy's binary_fill_holes has it


@dataclass(frozen=True)
class Cleaner:
    """What cleaning of a sample needs beside its masks.

    Args:
        parameters: What is to be done.
        voxels: Of the sample.
        ignored: What of it nobody has annotated, which stays background; None for nothing.
        watch: Told of each slab of each pass.
        files: Keeps files of numbers until the mask is not needed any more.
        folder: Where these lie.
    """

    parameters: p.Cleaning
    voxels: Voxels
    ignored: Ignored | None
    watch: Watch
    files: ExitStack
    folder: Path

    def scratch(self, shape: Shape) -> Scratch:
        """A file for the numbers of a volume's voxels."""
        return self.files.enter_context(open_scratch(shape, self.folder))


def marked(sample: LabelledSample, label: Sliced, threshold: float) -> Mask:
    """A label as a mask: probabilities above the threshold, masks above 0."""

    def read(z0: int, z1: int) -> Bools:
        values = label[z0:z1]
        inside: Bools = values > (threshold if values.dtype.kind == "f" else 0)
        return inside

    return Mask(sample.shape, read, sample.depth)


def foreground(sample: LabelledSample, label: Sliced, threshold: float) -> Mask:
    """The same, with nothing where nobody has annotated."""
    mask = marked(sample, label, threshold)
    return mask if sample.ignored is None else _where_annotated(mask, sample.ignored)


def probabilities(label: Sliced) -> Callable[[int, int], npt.NDArray[Any]] | None:
    """How a label's probabilities are read: slices z0:z1 as (n, Y, X), a float type; None if it is a mask."""
    return (lambda z0, z1: label[z0:z1]) if label[0:1].dtype.kind == "f" else None


def voxels_of(sample: LabelledSample) -> Voxels:
    """The voxels of a sample."""
    return Voxels(sample.name, sample.voxel_size, sample.voxel_unit)


def check_units(parameters: p.Cleaning, samples: Sequence[LabelledSample]) -> None:
    """Raise :class:`ParameterError` before long work if a unit is used and the voxels of a sample have no size."""
    for voxels in map(voxels_of, samples):
        for name in ("smooth", "split_touching"):
            if (given := getattr(parameters, name, None)) is not None:
                voxels.length(given, name)
        for name in ("fill_holes", "min_size"):
            if (given := getattr(parameters, name)) not in (None, "all"):
                voxels.count(given, name)


def say_if_no_mask(what: str, label: Sliced, depth: int, report: Reporter) -> None:
    """Warn where the middle slice of a label holds more than two whole numbers: it may be an image, or instances.

    Args:
        what: The label, for the message.
        depth: Of the volume, in slices.
    """
    values = label[depth // 2 : depth // 2 + 1]
    if values.dtype.kind in "iu" and len(np.unique(values)) > _VALUES_OF_A_MASK:
        report.warning(
            f"{what} has more than two values: whatever is above 0 is foreground. If they are numbers of objects, "
            "find-objects measures these with --instances"
        )


def cleaned(mask: Mask, cleaner: Cleaner) -> Mask:
    """The mask as the parameters want it: smoothed, then filled, then without small objects.

    Raises:
        ParameterError: a length or volume has a unit, and the size of the voxels is not known.
        ResourceError: memory or disk do not suffice.
        Stopped: on request.
    """
    parameters, voxels = cleaner.parameters, cleaner.voxels
    if parameters.smooth is not None:
        length = voxels.length(parameters.smooth, "smooth")
        deviations = [length / side for side in voxels.sides]
        if max(deviations) > _MOST_SMOOTHING:
            what = f"--smooth is {max(deviations):,.0f} voxels of {voxels.name!r}, and may be {_MOST_SMOOTHING} at most"
            raise ParameterError(what, "Is its unit right?", "smooth")
        mask = smoothed(mask, deviations)
    if parameters.fill_holes is not None:
        most = np.inf if parameters.fill_holes == "all" else voxels.count(parameters.fill_holes, "fill_holes")
        mask = _filled_in_slices(mask, most) if parameters.holes_in == "slices" else _filled(mask, most, cleaner)
    if cleaner.ignored is not None:
        mask = _where_annotated(mask, cleaner.ignored)
    if parameters.min_size is not None:
        found = components(mask, parameters.connectivity, cleaner.scratch(mask.shape), cleaner.watch)
        mask = found.selected(found.statistics.voxels >= voxels.count(parameters.min_size, "min_size"))
    return mask


def _where_annotated(mask: Mask, ignored: Ignored) -> Mask:
    """Without what is marked where nobody has annotated."""
    return Mask(mask.shape, lambda z0, z1: mask.read(z0, z1) & (ignored[z0:z1] == 0), mask.depth)


def smoothed(mask: Mask, deviations: list[float]) -> Mask:
    """Blurred by a Gaussian and cut at one half; beyond the volume's border it goes on as at the border.

    Args:
        deviations: Standard deviations along Z, Y, X in voxels.
    """
    from scipy.ndimage import gaussian_filter

    deviations = [0.0 if size == 1 else deviation for deviation, size in zip(deviations, mask.shape, strict=True)]
    halo = int(_TRUNCATE * deviations[0] + 0.5)

    def read(z0: int, z1: int) -> Bools:
        first, last = max(0, z0 - halo), min(mask.shape[0], z1 + halo)
        check_slices(last - first, mask.shape, _SMOOTHING_BYTES)
        blurred = mask.read(first, last).astype(np.float32)
        gaussian_filter(blurred, deviations, mode="nearest", truncate=_TRUNCATE, output=blurred)
        inside: Bools = blurred[z0 - first : z1 - first] > 0.5
        return inside

    return Mask(mask.shape, read, mask.depth)


def _filled(mask: Mask, most: float, cleaner: Cleaner) -> Mask:
    """With its background filled where that does not reach the border and has no more than so many voxels."""
    background = Mask(mask.shape, lambda z0, z1: ~mask.read(z0, z1), mask.depth)
    found = components(background, _HOLES_TOUCH, cleaner.scratch(mask.shape), cleaner.watch)
    holes = ~found.statistics.touches_edge(mask.shape) & (found.statistics.voxels <= most)
    return found.selected(holes, background=True)


def _filled_in_slices(mask: Mask, most: float) -> Mask:
    """The same for each slice by itself."""

    def fill(inside: Bools) -> Bools:
        ids, count = labelled(~inside[None], _HOLES_TOUCH)
        plane = ids[0]
        hole = np.bincount(plane.reshape(-1), minlength=count + 1) <= most
        for border in (plane[0], plane[-1], plane[:, 0], plane[:, -1]):
            hole[border] = False
        hole[0] = True  # the foreground
        filled: Bools = hole[plane]
        return filled

    return Mask(mask.shape, lambda z0, z1: np.stack([fill(plane) for plane in mask.read(z0, z1)]), mask.depth)


def cleaning_voxels(parameters: p.Cleaning, shape: Shape) -> int:
    """Voxels that :func:`cleaned` goes through before its mask can be read, for progress."""
    filling = parameters.fill_holes is not None and parameters.holes_in == "volume"
    return (int(filling) + int(parameters.min_size is not None)) * prod(shape)
