"""The mean over the three planes of a volume, for networks of slices: across as well as along.

A volume is predicted three times, as slices along X, along Y and along Z. Each time its slabs are kept on the disk
(:mod:`~deepscem_tui.engine.prediction.slabs`), whole or not at all, and nothing is added to anything before all are
there: so a prediction that was killed cannot count a slab twice, and processes on several nodes need not know of each
other. The slices of the result then take their part out of the slabs of all three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.axes import AXES, Plane
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.hdf5_files import writing
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats.plain_files import PlainSource
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.prediction.plan import SamplePlan, turned
from deepscem_tui.engine.prediction.values import Values
from deepscem_tui.engine.sources.inputs import InputImage
from deepscem_tui.engine.sources.source import Source

__all__ = ["Mean", "ReadSlab", "across", "check_planes", "kept_type"]

_ISOTROPIC = 1.05  # longest side of a voxel over the shortest, at most
_SLAB_BYTES = 2**25  # of slices that are turned together

# Slices (start, stop) along Z of a slab of a plane, by the slab's number: (labels, slices of the plane, Z, the rest).
ReadSlab = Callable[..., npt.NDArray[Any]]


def check_planes(parameters: p.Predict, info: ModelInfo, images: Sequence[InputImage], context: Context) -> None:
    """Raise :class:`ParameterError` where `--ortho` makes no sense; say so where nobody knows."""
    if not parameters.ortho:
        return
    if info.dimension == 3:
        raise ParameterError(
            "--ortho is for 2D networks, and this one is 3D: it sees all three axes at once", "Leave it out.", "ortho"
        )
    if parameters.join.startswith("deepscem"):
        raise ParameterError(
            f"--ortho cannot repeat DeepSCEM's predictions, which --join {parameters.join} does",
            "Leave one of the two out.",
            "ortho",
        )
    for image in images:
        name, shape, size = image.source.name, image.source.shape, image.voxel_size
        if min(shape) == 1:
            raise ParameterError(
                f"--ortho needs a volume, and {name!r} is a single slice of {words.sizes(shape)} voxels",
                "Leave it out.",
                "ortho",
            )
        if size is None:
            context.report.message(
                f"The voxel size of {name!r} is not known: --ortho takes voxels to be as long along Z as along Y and X"
            )
        elif max(size) > _ISOTROPIC * min(size):
            raise ParameterError(
                f"--ortho needs voxels of one length along Z, Y and X, and those of {name!r} have "
                f"{words.sizes(size)} {image.voxel_unit}",
                "Leave it out, or give an image that is resampled to equal lengths.",
                "ortho",
            )


def kept_type(precision: str) -> str:
    """In which type the planes are kept: one no coarser than what the network computes with.

    Of three networks in bfloat16, the masks of planes kept as float16 had an F1 of 0.99999 or more against float32.
    """
    return "float32" if precision == "float32" else "float16"


@contextmanager
def across(source: Source, plane: Plane, span: tuple[int, int], path: Path, context: Context) -> Iterator[Source]:
    """An image as slices across, copied in one pass along Z: files are slow to read in any other way.

    Args:
        plane: What a slice shows.
        span: Slices of that plane that will be read, ``(start, stop)``; no others are copied.
        path: Of the copy, which has their voxels as they are stored, and is removed at the end.

    Raises:
        DataError, ResourceError: it cannot be written.
        Stopped: on request.
    """
    shape = turned(source.shape, plane)
    try:
        with ExitStack() as stack:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(path.open("wb+"))
                stored = _copy(source, plane, span, file, context)
                file.flush()
            copy = PlainSource(path, file, 0, (span[1] - span[0], *shape[1:]), stored)

            def read(start: int, stop: int) -> npt.NDArray[Any]:
                out = np.empty((stop - start, *shape[1:]), stored)
                copy.read_into(start - span[0], out)
                return out

            yield replace(source, shape=shape, read=read)
    finally:
        path.unlink(missing_ok=True)


def _copy(source: Source, plane: Plane, span: tuple[int, int], file: BinaryIO, context: Context) -> np.dtype[Any]:
    """Write slices of a plane one after the other, as rows of them are read; gives the type of the voxels."""
    depth = source.shape[0]
    first = source.read(0, 1)
    step = max(1, _SLAB_BYTES // first.nbytes)
    row = turned(source.shape, plane)[2] * first.itemsize
    for z0 in range(0, depth, step):
        context.stop.check()
        context.report.progress("Turning", z0, depth, "slices", f"{source.name}, {plane}")
        slab = source.read(z0, min(z0 + step, depth))
        for index, rows in enumerate(slab.transpose(AXES[plane])[slice(*span)]):
            file.seek((index * depth + z0) * row)
            file.write(np.ascontiguousarray(rows).data)
    context.report.progress("Turning", depth, depth, "slices", f"{source.name}, {plane}")
    return first.dtype


class Mean:
    """Makes what is stored of what the network said of the slices along Z, and of the other planes.

    Args:
        planes: How each other plane was predicted, and what reads its slabs.
        values: What the result holds.
    """

    def __init__(self, planes: Sequence[tuple[SamplePlan, ReadSlab]], values: Values) -> None:
        self._planes, self._values = planes, values

    def of(self, first: int, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The slices from ``first`` on, (labels, Z, Y, X)."""
        total = labels.astype(np.float32)
        rows = slice(first, first + labels.shape[1])
        for plan, read in self._planes:
            axes = AXES[plan.plane]
            back = [0, *(1 + axes.index(axis) for axis in range(3))]
            for index, layer in enumerate(plan.layers):
                where: list[slice] = [slice(None)] * 4
                where[1 + axes[0]] = slice(*layer.own)
                total[tuple(where)] += read(index, rows).transpose(back)
        total /= 1 + len(self._planes)
        result = np.empty(total.shape, self._values.dtype)
        self._values.store(np.moveaxis(total, 0, -1), result)
        return result
