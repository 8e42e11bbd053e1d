"""The actions on data sets: making them, and changing names; those that move voxels have modules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.dataset_actions.copying import is_text
from deepscem_tui.engine.datasets.dataset import (
    ChangedDataset,
    Dataset,
    change_dataset,
    new_dataset,
    open_dataset,
    real_path,
)
from deepscem_tui.engine.datasets.ignoring import forget_mask, mask_id
from deepscem_tui.engine.datasets.origins import origin_attributes
from deepscem_tui.engine.errors import DatasetError, ParameterError
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.system.files import refuse_existing

__all__ = [
    "create_dataset",
    "remove_sample",
    "rename_dataset",
    "rename_sample",
    "set_aliases",
]


def create_dataset(parameters: p.CreateDataset, context: Context) -> Result:
    """Make an empty data set.

    Raises:
        ParameterError: the file exists, or is no data set by its name.
        ResourceError, DatasetError: it cannot be written.
    """
    path = parameters.file
    if path.suffix.lower() != ".hdf5":
        raise ParameterError(f"{path} is no data set by its name", "It must end in .hdf5.")
    refuse_existing(path, parameters.overwrite)
    facts = {"file": str(path), "name": parameters.name, "labels": parameters.n_labels}
    what = f"data set {path}, {parameters.name!r}, {words.counted(parameters.n_labels, 'label')} a sample"
    if parameters.dry_run:
        return Result(f"Would make {what}", facts)
    context.stop.check()
    with new_dataset(path, parameters.name, parameters.n_labels, overwrite=parameters.overwrite):
        pass
    return Result(f"Made {what}", facts)


def rename_dataset(parameters: p.RenameDataset, context: Context) -> Result:
    """Change the name that a data set carries inside.

    Raises:
        DataError, ResourceError: it cannot be read or changed.
    """
    context.stop.check()
    with _opened(parameters.file, parameters.dry_run) as dataset:
        facts = {"file": str(parameters.file), "old": dataset.name, "new": parameters.new}
        what = f"data set {parameters.file} from {dataset.name!r} to {parameters.new!r}"
        if not isinstance(dataset, ChangedDataset):
            return Result(f"Would rename {what}", facts)
        dataset.set_name(parameters.new)
    return Result(f"Renamed {what}", facts)


def rename_sample(parameters: p.RenameSample, context: Context) -> Result:
    """Change the name of a sample.

    Raises:
        DatasetError: there is no such sample, or the new name is taken, or the data set cannot be changed.
        ResourceError: the disk is full.
    """
    facts = {"file": str(parameters.file), "old": parameters.sample, "new": parameters.new}
    what = f"sample {parameters.sample!r} of {parameters.file} to {parameters.new!r}"
    context.stop.check()
    with _opened(parameters.file, parameters.dry_run) as dataset:
        if not isinstance(dataset, ChangedDataset):
            dataset.require(parameters.sample)
            dataset.check_new(parameters.new, "new")
            return Result(f"Would rename {what}", facts)
        origin: Mapping[str, Any] = {}
        with suppress(DatasetError):  # a broken one may have a new name, too
            origin = origin_attributes(dataset.sample(parameters.sample))
        dataset.rename_sample(parameters.sample, parameters.new)
        if origin and is_text(parameters.sample):
            dataset.set_attributes(origin, sample=parameters.new)
    return Result(f"Renamed {what}", facts)


def remove_sample(parameters: p.RemoveSample, context: Context) -> Result:
    """Remove a sample from a data set.

    Raises:
        DatasetError: there is no such sample, or the data set cannot be changed.
        ResourceError: the disk is full.
    """
    path = real_path(parameters.file)
    what = f"sample {parameters.sample!r} from {parameters.file}"
    context.stop.check()
    with _opened(parameters.file, parameters.dry_run) as dataset:
        dataset.require(parameters.sample)
        stored, size = _stored_bytes(dataset, parameters.sample), path.stat().st_size
        mask = _mask(dataset, parameters.sample)
        if isinstance(dataset, ChangedDataset):
            dataset.remove_sample(parameters.sample)
    if not parameters.dry_run:
        forget_mask(parameters.file, mask)
    freed = size - path.stat().st_size
    left = max(0, stored - max(0, freed))
    facts = {"file": str(parameters.file), "sample": parameters.sample, "reclaimable_bytes": left}
    if parameters.dry_run:
        return Result(f"Would remove {what}; its arrays take {left:,} bytes", facts)
    later = f"; save-dataset will free {left:,} bytes" if left else ""
    return Result(f"Removed {what}{later}", facts | {"freed_bytes": max(0, freed)})


def set_aliases(parameters: p.SetAliases, context: Context) -> Result:
    """Give the labels of a data set names, or take them away.

    Raises:
        ParameterError: the names are not as many as the labels, or one is given twice.
        DatasetError: the data set cannot be read or changed.
        ResourceError: the disk is full.
    """
    aliases, path = parameters.aliases, parameters.file
    twice = sorted({alias for alias in aliases if aliases.count(alias) > 1})
    if twice:
        raise ParameterError(f"The alias {twice[0]!r} is given twice", "Give each label a name of its own.", "aliases")
    facts = {"file": str(path), "aliases": list(aliases)}
    context.stop.check()
    done = f"the labels of {path}" + (f": {', '.join(aliases)}" if aliases else "")
    with _opened(path, parameters.dry_run) as dataset:
        if aliases and len(aliases) != dataset.n_labels:
            what = f"{path} has {words.counted(dataset.n_labels, 'label')}, but {len(aliases)} names were given"
            raise ParameterError(what, "Give one name for each label, in order.", "aliases")
        if not isinstance(dataset, ChangedDataset):
            return Result(f"Would name {done}" if aliases else f"Would take the names away from {done}", facts)
        dataset.set_aliases(aliases)
    return Result(f"Named {done}" if aliases else f"Took the names away from {done}", facts)


def _opened(path: Path, dry_run: bool) -> AbstractContextManager[Dataset]:
    """The data set to change, or only to look at."""
    return open_dataset(path) if dry_run else change_dataset(path)


def _mask(dataset: Dataset, sample: str) -> str:
    """The number of a sample's mask; empty if it has none, or is broken."""
    try:
        return mask_id(dataset.samples[sample])
    except DatasetError:
        return ""


def _stored_bytes(dataset: Dataset, sample: str) -> int:
    """Bytes that a sample's arrays take; 0 if it is broken."""
    try:
        return sum(member.stored_bytes for member in dataset.samples[sample].members.values())
    except DatasetError:
        return 0
