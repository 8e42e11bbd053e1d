"""The action `find-objects`: single objects of masks, numbered and measured, slab by slab."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.dataset_actions.copying import is_text
from deepscem_tui.engine.errors import DatasetError, ParameterError
from deepscem_tui.engine.formats import with_stem
from deepscem_tui.engine.formats.volume_writer import check_target, create_volume
from deepscem_tui.engine.objects.cleaning import (
    Cleaner,
    check_units,
    cleaned,
    cleaning_voxels,
    foreground,
    probabilities,
    say_if_no_mask,
    voxels_of,
)
from deepscem_tui.engine.objects.components import Components, Watch, components, slabs
from deepscem_tui.engine.objects.given import given_components
from deepscem_tui.engine.objects.physical import Voxels
from deepscem_tui.engine.objects.surface_area import SurfaceCounter
from deepscem_tui.engine.objects.table import COLUMNS, SHOWN, Measured, write_csv
from deepscem_tui.engine.objects.touching import split
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources.inputs import (
    Labelled,
    LabelledSample,
    Sliced,
    open_labelled,
    refuse_among_slices,
    same_file,
)
from deepscem_tui.engine.system.files import Together, refuse_existing

__all__ = ["chosen_samples", "find_objects", "result_files"]

_SHOWN_OBJECTS = 20  # on the screen: the largest
_LISTED_OBJECTS = 10_000  # in the JSON document
_PASSES = 2  # through the voxels of a mask that can be read: for the objects, then for their numbers


def find_objects(parameters: p.FindObjects, context: Context) -> Result:
    """Find, number and measure the objects of each label of each sample.

    Raises:
        ParameterError: a file exists already, or a length has a unit and the size of the voxels is not known.
        DataError: the input cannot be read.
        ResourceError: memory or disk do not suffice.
        Stopped: on request; no file is left.
    """
    with open_labelled(parameters.input, "predictions") as labelled:
        samples = chosen_samples(labelled, parameters.sample)
        names = labelled.label_names
        check_units(parameters, samples)
        outputs = _outputs(parameters, labelled, samples)
        count = sum(len(sample.labels) for sample in samples)
        facts: dict[str, Any] = {
            "input": str(parameters.input),
            "files": [str(path) for path in outputs.values()] + ([str(parameters.csv)] if parameters.csv else []),
        }
        if parameters.dry_run:
            what = f"{words.counted(count, 'label')} of {words.counted(len(samples), 'sample')} of {parameters.input}"
            return Result(f"Would find the objects of {what}", facts)
        total = sum(
            len(sample.labels) * (cleaning_voxels(parameters, sample.shape) + _PASSES * prod(sample.shape))
            for sample in samples
        )
        watch = Watch(context, "Finding objects", total)
        found: list[Measured] = []
        with Together() as together:
            for sample in samples:
                for name, label in zip(names, sample.labels, strict=False):
                    out = outputs.get((sample.name, name))
                    found.append(_measure(parameters, sample, name, label, out, watch, context, together))
            if parameters.csv is not None:
                write_csv(parameters.csv, found, together)
    return _result(found, facts, context)


def chosen_samples(labelled: Labelled, names: Sequence[str]) -> list[LabelledSample]:
    """The samples that are wanted; all of them where none is named.

    Raises:
        ParameterError: names are given for an image file.
        DatasetError: there is no such sample, or none at all.
    """
    if names and labelled.single:
        raise ParameterError(
            f"--sample is for data sets, and {labelled.path} is an image file", "Leave --sample out.", "sample"
        )
    if not labelled.samples:
        raise DatasetError(f"{labelled.path} has no samples", "Add some with: deepscem-tui run add-sample")
    for name in names:
        if name not in labelled.samples:
            what = f"{labelled.path} has no sample {name!r}"
            raise DatasetError(what, f"It has {words.listed(labelled.samples)}.", "sample")
    chosen = [labelled.samples[name] for name in dict.fromkeys(names or labelled.samples)]
    for sample in chosen:
        if not is_text(sample.name):
            what = f"{labelled.path} has a sample whose name is no text: {sample.name!r}"
            hint = "Rename the file first." if labelled.single else "Rename it first: deepscem-tui run rename-sample."
            raise DatasetError(what, hint)
    return chosen


def result_files(out: Path, parts: Sequence[Sequence[str]]) -> list[Path]:
    """A file for each result: OUT itself for one, OUT_<part> by the parts of their names that differ.

    Args:
        parts: Of each result, such as the names of its sample and label.
    """
    if len(parts) == 1:
        return [out]
    differ = [len({part[place] for part in parts}) > 1 for place in range(len(parts[0]))]
    names = ["_".join(words.file_name(text) for text, use in zip(part, differ, strict=True) if use) for part in parts]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{index}_{name}" for index, name in enumerate(names)]
    return [with_stem(out, f"_{name}") for name in names]


def _outputs(
    parameters: p.FindObjects, labelled: Labelled, samples: Sequence[LabelledSample]
) -> dict[tuple[str, str], Path]:
    """The file of each sample and label."""
    found: dict[tuple[str, str], Path] = {}
    if parameters.out is not None:
        parts = [
            (sample.name, name)
            for sample in samples
            for name, _ in zip(labelled.label_names, sample.labels, strict=False)
        ]  # fmt: skip
        found = dict(zip(parts, result_files(parameters.out, parts), strict=True))
    if parameters.csv is not None:
        _check_result(parameters.csv, "csv", [parameters.input, *found.values()])
        refuse_existing(parameters.csv, parameters.overwrite)
    for path in found.values():
        _check_result(path, "out", [parameters.input])
        refuse_among_slices("INPUT", parameters.input, path)
        check_target(path, np.uint16, parameters.overwrite)
    return found


def _check_result(path: Path, parameter: str, others: Sequence[Path]) -> None:
    """Raise :class:`ParameterError` if a result is one of the files that are read or made, too."""
    for other in others:
        if same_file(path, other):
            raise ParameterError(
                f"{path} cannot be both --{parameter} and {other}", "Give each a file of its own.", parameter
            )


def _measure(
    parameters: p.FindObjects,
    sample: LabelledSample,
    name: str,
    label: Sliced,
    out: Path | None,
    watch: Watch,
    context: Context,
    together: Together,
) -> Measured:
    """Find the objects of one label, measure them and write their numbers."""
    voxels = voxels_of(sample)
    what = f"label {name!r} of {sample.name!r}"
    values = None if parameters.instances else probabilities(label)
    with ExitStack() as files:
        cleaner = Cleaner(parameters, voxels, sample.ignored, watch, files, _folder(parameters))
        if parameters.instances:
            found = given_components(sample.shape, _known(sample, label), cleaner.scratch(sample.shape), watch)
        else:
            say_if_no_mask(what, label, sample.shape[0], context.report)
            mask = cleaned(foreground(sample, label, parameters.threshold), cleaner)
            found = components(mask, parameters.connectivity, cleaner.scratch(mask.shape), watch, values)
        if parameters.split_touching is not None:
            depth = voxels.length(parameters.split_touching, "split_touching")
            divided = split(found, depth, voxels.sides, parameters.connectivity, context, values)
            found = divided.components
            context.report.message(f"Divided {words.counted(divided.divided, 'object')} of {what}")
            if divided.too_large:
                context.report.warning(
                    f"{words.counted(divided.too_large, 'object')} of {what} would need more memory than is free to be "
                    "divided: left whole"
                )
        found = _without(found, parameters, voxels)
        surfaces = SurfaceCounter(len(found), voxels.sides, sample.shape[0] == 1)
        _number(found, surfaces, sample, out, watch, parameters.overwrite, together)
    known = values is not None
    return Measured(sample.name, name, sample.shape, voxels, found.statistics, found.names, surfaces.surfaces, known)


def _known(sample: LabelledSample, label: Sliced) -> Callable[[int, int], npt.NDArray[Any]]:
    """How numbers of objects are read, 0 where nobody has annotated."""
    ignored = sample.ignored
    if ignored is None:
        return lambda z0, z1: label[z0:z1]
    return lambda z0, z1: label[z0:z1] * (ignored[z0:z1] == 0)


def _folder(parameters: p.FindObjects) -> Path:
    """Where files of numbers lie meanwhile: beside the result."""
    result = parameters.out or parameters.csv
    return Path(tempfile.gettempdir()) if result is None else result.parent


def _without(found: Components, parameters: p.FindObjects, voxels: Voxels) -> Components:
    """Without what is too small after division, and what the border cuts if that is not wanted."""
    left_out = np.zeros(len(found), bool)
    if parameters.min_size is not None:
        left_out |= found.statistics.voxels < voxels.count(parameters.min_size, "min_size")
    if parameters.leave_out_edge:
        left_out |= found.statistics.touches_edge(found.shape)
    return found.without(left_out) if left_out.any() else found


def _number(
    found: Components,
    surfaces: SurfaceCounter,
    sample: LabelledSample,
    out: Path | None,
    watch: Watch,
    overwrite: bool,
    together: Together,
) -> None:
    """Count the surfaces, and write the numbers if there is a file for them."""
    names = np.concatenate([[0], found.names]).astype(np.uint32)
    kind = np.dtype(np.uint16 if names.max() < 2**16 else np.uint32)
    with ExitStack() as files:
        writer = None
        if out is not None:
            writer = files.enter_context(
                create_volume(
                    out, found.shape, kind, voxel_size=sample.voxel_size, voxel_unit=sample.voxel_unit,
                    labels=True, overwrite=overwrite, together=together,
                )
            )  # fmt: skip
        for z0, z1 in slabs(found.shape):
            numbers = found.read(z0, min(z1 + 1, found.shape[0]))
            slab, following = numbers[: z1 - z0], numbers[z1 - z0 :]
            surfaces.add(slab, following[0] if len(following) else None)
            if writer is not None:
                writer.write(names.astype(kind)[slab])
            watch.advance(slab.size)


# ------------------------------------------------------------------------------------------------ the result


def _result(found: Sequence[Measured], facts: dict[str, Any], context: Context) -> Result:
    total = sum(len(table.statistics) for table in found)
    unknown = sorted({table.sample for table in found if not table.voxels.known})
    if unknown:
        context.report.message(f"The size of the voxels of {words.listed(unknown)} is not known: lengths are in voxels")
    listed = _largest(found, _LISTED_OBJECTS)
    if len(listed) < total:
        context.report.message(f"The JSON document has the {_LISTED_OBJECTS:,} largest objects; --csv writes all")
    shown = [COLUMNS.index(column) for column in SHOWN]
    largest = Table(
        "largest", SHOWN, [[row[place] for place in shown] for row in listed[:_SHOWN_OBJECTS]], blank=("flatness",)
    )
    objects = [dict(zip(COLUMNS, row, strict=True)) for row in listed]
    summary = f"Found {words.counted(total, 'object')}"
    if len(found) > 1:
        summary += f" in {words.counted(len(found), 'mask')}"
    if facts["files"]:
        summary += f", wrote {', '.join(facts['files'])}"
    return Result(summary, facts | {"objects": objects}, tables=(largest, _counts(found)))


def _largest(found: Sequence[Measured], most: int) -> list[tuple[Any, ...]]:
    """Rows of the objects with the most voxels, the largest first."""
    rows = []
    for table in found:
        order = np.argsort(-table.statistics.voxels, kind="stable")[:most]
        rows += list(table.rows(order))
    size = COLUMNS.index("volume")
    return sorted(rows, key=lambda row: -row[size])[:most]


def _counts(found: Sequence[Measured]) -> Table:
    """Objects of each sample and label together."""
    columns = ("sample", "label", "objects", "touch_edge", "unit", "volume", "mean_volume", "median_volume", "share")
    rows = []
    for table in found:
        volumes = table.volumes
        some = bool(len(volumes))
        rows.append(
            (
                table.sample, table.label, len(volumes), int(table.touching.sum()), table.voxels.length_unit,
                float(volumes.sum()), float(volumes.mean()) if some else None,
                float(np.median(volumes)) if some else None,
                float(table.statistics.voxels.sum()) / prod(table.shape),
            )
        )  # fmt: skip
    return Table("counts", columns, rows)
