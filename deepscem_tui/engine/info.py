"""The action `info`: what a data set, a model, an image file or a run folder holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import tifffile

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Sample, open_dataset
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in
from deepscem_tui.engine.errors import DataError, DatasetError, VolumeError
from deepscem_tui.engine.formats import HDF5, kinds, place_of
from deepscem_tui.engine.formats.slice_files import is_several_files, open_slices, slice_files
from deepscem_tui.engine.models.containers import is_model
from deepscem_tui.engine.models.files import read_info
from deepscem_tui.engine.models.info import GREY_VALUES
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.sources.inputs import is_image_file
from deepscem_tui.engine.sources.normalisation import MIN_MAX, normalisation_in
from deepscem_tui.engine.system.files import missing_hint

__all__ = ["info"]


def info(parameters: p.Info, context: Context) -> Result:
    """Say what a path holds, told by its content.

    Raises:
        DataError: it does not exist, or is nothing of ours.
    """
    path = parameters.path
    if path.is_dir() and (path / "run.json").exists():
        return _run(path)
    if is_image_file(path):
        return _image(path, context)
    if path.suffix.lower() == ".keras" or is_model(path):
        return _model(path)
    if path.suffix.lower() in HDF5 or (path.is_file() and h5py.is_hdf5(path)):
        return _dataset(path, context)
    if not path.exists():
        raise DataError(f"There is no file {path}", missing_hint(path))
    raise DataError(
        f"{path} is no data set, model, image file or run folder",
        f"These are .hdf5, .keras, .h5, {', '.join(kinds('read'))}, and folders with a run.json or of slices.",
    )


def _image(path: Path, context: Context) -> Result:
    place, several = place_of(path), is_several_files(path)
    files = _slices(path) if several else [place.file]
    with open_slices(path, colours=False) as volume:
        for text in volume.warnings:
            context.report.warning(f"{path}: {text}")
        facts: dict[str, Any] = {
            "kind": "image",
            "shape": list(volume.shape),
            "type": volume.dtype.name,
            "voxel_size": list(volume.voxel_size) if volume.voxel_size else None,
            "voxel_unit": volume.voxel_unit or None,
            "format": "slices" if several or place.format is None else place.format.name,
            "bytes": sum(file.stat().st_size for file in files) if files[0].is_file() else None,
            "bytes_uncompressed": math.prod(volume.shape) * volume.dtype.itemsize,
        }
    if several:
        facts["files"] = len(files)
    if facts["format"] == "TIFF":
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            facts |= {
                "pages": len(tiff.pages),
                "compression": getattr(page.compression, "name", str(page.compression)).lower(),
                "bigtiff": tiff.is_bigtiff,
            }
    size = f", voxels of {words.sizes(facts['voxel_size'])} {facts['voxel_unit']}" if facts["voxel_size"] else ""
    return Result(f"Image {path}: {words.sizes(facts['shape'])} (Z, Y, X), {facts['type']}{size}", facts)


def _slices(path: Path) -> list[Path]:
    """The files of a folder or pattern of slices."""
    try:
        return slice_files(path)
    except VolumeError as error:
        if not path.is_dir():
            raise
        what = f"{path} is neither a run folder, for it has no run.json, nor a folder of slices"
        raise DataError(what, error.hint) from error


def _dataset(path: Path, context: Context) -> Result:
    with open_dataset(path) as dataset:
        names = list(dataset.samples)
        samples, partly = [], {}
        for name in names:
            try:
                samples.append(dataset.sample(name))
                ignored = ignored_in(samples[-1])
                if ignored is not None:
                    partly[name] = ignored
                    ignored.check()
            except DatasetError as error:  # the others are worth being shown
                context.report.warning(str(error))
        facts: dict[str, Any] = {
            "kind": "data set",
            "name": dataset.name,
            "labels": dataset.n_labels,
            "aliases": list(dataset.aliases),
            "n_samples": len(names),
            "bytes": path.stat().st_size,
        }
        ways = {sample.name: normalisation_in(sample) for sample in samples if sample.labels}
        if set(ways.values()) - {str(MIN_MAX)}:
            facts["normalization"] = ways
        if partly:
            facts["labelled_share"] = {name: ignored.share for name, ignored in partly.items()}
        tables = (
            Table(
                "samples",
                ("sample", "shape", "labels", "predictions", "voxel_size", "voxel_unit"),
                [
                    (
                        sample.name,
                        list(sample.shape),
                        len(sample.labels),
                        len(sample.predictions),
                        list(sample.voxel_size) if sample.voxel_size else None,
                        sample.voxel_unit or None,
                    )
                    for sample in samples
                ],
            ),
            Table(
                "members",
                ("sample", "member", "type", "bytes", "compression", "chunks"),
                [row for sample in samples for row in _members(sample)],
            ),
            *_labelled(partly),
        )
    named = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    held = f"{words.counted(len(names), 'sample')}, {words.counted(facts['labels'], 'label')}"
    summary = f"Data set {path}, {facts['name']!r}: {held}{named}"
    return Result(summary, facts, tables)


def _labelled(partly: Mapping[str, Ignored]) -> list[Table]:
    """What of the samples is labelled, where that is not all."""
    rows = [(name, str(ignored)) for name, ignored in partly.items()]
    return [Table("labelled", ("sample", "labelled"), rows)] if rows else []


def _members(sample: Sample) -> list[tuple[Any, ...]]:
    """What a sample holds, as stored."""
    return [
        (
            sample.name,
            name,
            member.dtype.name,
            member.stored_bytes,
            member.compression,
            list(member.chunks) if member.chunks else None,
        )
        for name, member in sample.members.items()
    ]


def _model(path: Path) -> Result:
    about = read_info(path)
    facts: dict[str, Any] = {
        "kind": "model",
        "dimension": about.dimension,
        "activation": about.activation,
        "labels": list(about.label_names),
        "background": about.background,
        "parameters": about.n_parameters,
        "divisor": list(about.divisor),
        "receptive_radius": list(about.receptive_radius),
        "sees_all": about.sees_all,
        "patch_size": list(about.patch_size) if about.patch_size else None,
        "voxel_size": list(about.voxel_size) if about.voxel_size else None,
        "voxel_unit": about.voxel_unit or None,
        "settings": dict(about.settings) if about.settings is not None else None,
        "training": dict(about.training) if about.training is not None else None,
        "thresholds": list(about.thresholds) if about.thresholds else None,
        "bytes": path.stat().st_size,
    }
    groups = (("settings", about.settings), ("training", about.training))
    rows = [(group, key, _value(value)) for group, values in groups for key, value in (values or {}).items()]
    rows = [row for row in rows if row[1] != GREY_VALUES]  # numbers for the program
    rows += [("threshold", *of) for of in zip(about.label_names, about.thresholds or (), strict=False)]
    architecture = (about.settings or {}).get("architecture", "network")
    labels = f"{words.counted(about.n_labels, 'label')} ({', '.join(about.label_names)})"
    trained = "trained" if about.training else "not known to be trained"
    summary = f"Model {path}: {about.dimension}D {architecture}, {about.n_parameters:,} parameters, {labels}, {trained}"
    return Result(summary, facts, (Table("details", ("about", "what", "value"), rows),) if rows else ())


def _run(folder: Path) -> Result:
    state = runs.read(folder)
    facts = {
        "kind": "run",
        "action": state.action,
        "state": state.state,
        "began": words.moment(state.began),
        "latest": words.moment(state.latest),
        "command": state.command,
        "parameters": state.parameters,
    }
    return Result(f"Run {folder}: {state.action}, {state.state}", facts)


def _value(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
