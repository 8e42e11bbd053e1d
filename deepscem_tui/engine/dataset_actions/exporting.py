"""The action `export-sample`: a sample as image files."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, Member, Sample, open_dataset
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.errors import DatasetError, ParameterError
from deepscem_tui.engine.formats import place_of
from deepscem_tui.engine.formats.volume_writer import check_target, create_volume
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.slabs import slab_depth
from deepscem_tui.engine.system.files import Together

__all__ = ["export_sample"]

# Types whose values a float32 keeps exactly; others come back as float32.
_GREY_TYPES = ("bool", "uint8", "int8", "uint16", "int16")


@dataclass(frozen=True)
class Export:
    """One array and the file that it goes to.

    Args:
        dtype: Type of the file's voxels; bool becomes 0 and 255.
        grey: Grey values that 0 and 1 stand for.
    """

    member: Member | Ignored
    path: Path
    dtype: np.dtype[Any]
    grey: tuple[float, float] = (0.0, 1.0)

    def convert(self, slab: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Slices of the member (n, Y, X) as they are written, of the file's type."""
        low, high = self.grey
        if self.grey == (0.0, 1.0) or slab.dtype.kind != "f":
            return slab.astype(self.dtype, copy=False)
        values = slab.astype(np.float64) * (high - low) + low
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            values = np.clip(np.rint(np.nan_to_num(values)), limits.min, limits.max)
        return values.astype(self.dtype)


def export_sample(parameters: p.ExportSample, context: Context) -> Result:
    """Write the image and the labels, or predictions, of a sample as image files: all of them, or none.

    What of the labels nobody has drawn, if that is said, is a file of its own.

    The image comes back in the type and the grey values of its source where they are known, masks become 0 and 255.

    Raises:
        ParameterError: a file exists already.
        DatasetError: there is no such sample, or it is damaged.
        ResourceError: the disk is full.
        Stopped: on request; nothing is left of the files.
    """
    folder = parameters.folder
    if folder.exists() and not folder.is_dir():
        raise ParameterError(f"{folder} is a file, not a folder", "Choose another name.")
    with open_dataset(parameters.file) as dataset:
        sample = dataset.sample(parameters.sample)
        exports = _exports(dataset, sample, folder, parameters.format)
        for export in exports:
            check_target(export.path, export.dtype, parameters.overwrite)
        files = [str(export.path) for export in exports]
        facts = {"sample": sample.name, "shape": list(sample.shape), "files": files}
        if parameters.dry_run:
            return Result(f"Would write {', '.join(files)}", facts)
        if sample.distance_transforms:
            context.report.message("Distance transforms are not exported")
        _write(sample, exports, parameters, context)
    return Result(f"Wrote {', '.join(files)}", facts)


def _write(sample: Sample, exports: list[Export], parameters: p.ExportSample, context: Context) -> None:
    total, done = sum(prod(sample.shape) * export.member.dtype.itemsize for export in exports), 0
    with Together() as together:
        for export in exports:
            with create_volume(
                export.path,
                sample.shape,
                export.dtype,
                voxel_size=sample.voxel_size,
                voxel_unit=sample.voxel_unit,
                labels=export.dtype == np.bool_,
                overwrite=parameters.overwrite,
                together=together,
            ) as writer:
                depth = export.member.depth
                plane = prod(sample.shape[1:]) * export.dtype.itemsize
                step = slab_depth(plane, depth)
                for z in range(0, sample.shape[0], step):
                    context.stop.check()
                    slab = export.member[z : min(z + step, sample.shape[0])]
                    done += slab.nbytes
                    writer.write(export.convert(slab))
                    context.report.progress(f"Exporting {sample.name}", done, total, "B")


def _exports(dataset: Dataset, sample: Sample, folder: Path, end: str) -> list[Export]:
    wanted: list[tuple[str, Member | Ignored, np.dtype[Any], tuple[float, float]]] = []
    if "image" in sample.members:
        wanted.append(("image", sample.image, *_grey(sample)))
    names = dataset.label_names
    for kind, members in (("", sample.labels), ("predicted_" if sample.labels else "", sample.predictions)):
        for index, member in enumerate(members):
            name = names[index] if index < len(names) else member_name("label", index)
            dtype = np.dtype(np.float32 if member.dtype.kind == "f" else np.bool_)
            wanted.append((kind + name, member, dtype, (0.0, 1.0)))
    ignored = ignored_in(sample) if sample.labels else None
    if ignored is not None:
        ignored.check()
        wanted.append(("not_labelled", ignored, np.dtype(np.bool_), (0.0, 1.0)))
    if not wanted:
        raise DatasetError(f"{sample.what} has no arrays", "There is nothing to export.")
    files = _file_names(sample.name, [name for name, *_ in wanted], end)
    return [
        Export(member, folder / file, dtype, grey) for file, (_, member, dtype, grey) in zip(files, wanted, strict=True)
    ]


def _grey(sample: Sample) -> tuple[np.dtype[Any], tuple[float, float]]:
    """Type and grey values of the file that the image came from, as far as the sample tells them."""
    kind, ends = sample.attributes.get("source_type"), sample.attributes.get("source_range")
    known = isinstance(ends, tuple) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
    if not known or not isinstance(ends, tuple) or not all(map(isfinite, ends)):
        return np.dtype(np.float32), (0.0, 1.0)
    return np.dtype(kind if kind in _GREY_TYPES else np.float32), (float(ends[0]), float(ends[1]))


def _file_names(sample: str, names: list[str], end: str) -> list[str]:
    """A file's name for each array; names that differ by what files' names cannot hold get numbers."""
    files = [f"{words.file_name(sample)}_{words.file_name(name)}" for name in names]
    if len({file.casefold() for file in files}) < len(files):
        files = [f"{words.file_name(sample)}_{index}_{words.file_name(name)}" for index, name in enumerate(names)]
    known = place_of(Path(f"x.{end}")).format
    inside = known is not None and known.inside == "must"
    arrays = [f":/{words.file_name(name)}" if inside else "" for name in names]
    return [f"{file}.{end}{array}" for file, array in zip(files, arrays, strict=True)]
