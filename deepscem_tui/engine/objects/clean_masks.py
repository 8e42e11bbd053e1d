"""The action `clean-masks`: masks smoothed, filled and rid of what is too small, in a new data set or image file."""

from __future__ import annotations

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
from deepscem_tui.engine.dataset_actions.copying import copy
from deepscem_tui.engine.datasets.dataset import MemberWriter, NewDataset, Sample, new_dataset, open_dataset
from deepscem_tui.engine.datasets.ignoring import copy_masks
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats import is_place
from deepscem_tui.engine.formats.volume_writer import VolumeWriter, check_target, create_volume
from deepscem_tui.engine.objects.cleaning import (
    Cleaner,
    check_units,
    cleaned,
    cleaning_voxels,
    foreground,
    say_if_no_mask,
    voxels_of,
)
from deepscem_tui.engine.objects.components import Mask, Watch, slabs
from deepscem_tui.engine.objects.find_objects import chosen_samples, result_files
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources.inputs import Labelled, LabelledSample, open_labelled, refuse_among_slices, same_file
from deepscem_tui.engine.system.files import Together, refuse_existing

__all__ = ["clean_masks"]

Write = Callable[[int, npt.NDArray[np.bool_]], None]  # takes slices of a mask from the first given on

_DATASET = ".hdf5"


def clean_masks(parameters: p.CleanMasks, context: Context) -> Result:
    """Write masks anew: smoothed, with their holes filled, without small objects, as far as that is wanted.

    A data set's predictions stay predictions, labels labels; its images come along.

    Raises:
        ParameterError: a file exists already, or a length has a unit and the size of the voxels is not known.
        DataError: the input cannot be read.
        ResourceError: memory or disk do not suffice.
        Stopped: on request; nothing is left of the result.
    """
    out = parameters.out
    if same_file(out, parameters.input):
        raise ParameterError(f"{out} is the input itself", "Give the result a file of its own.", "out")
    refuse_among_slices("INPUT", parameters.input, out)
    with open_labelled(parameters.input, "predictions") as labelled:
        samples = chosen_samples(labelled, parameters.sample)
        check_units(parameters, samples)
        in_dataset = out.suffix.lower() == _DATASET and not is_place(out)  # else it names something in the file
        names = list(labelled.label_names)[: max(len(sample.labels) for sample in samples)]
        if not in_dataset and len(samples) > 1:
            listed = words.listed(sample.name for sample in samples)
            raise ParameterError(
                f"{out} holds one sample, and {parameters.input} has {len(samples)}: {listed}",
                "Choose one with --sample, or write a data set (.hdf5).",
                "sample",
            )
        files = [out] if in_dataset else result_files(out, [(name,) for name in names])
        for file in files:
            if in_dataset:
                refuse_existing(file, parameters.overwrite)
            else:
                check_target(file, np.bool_, parameters.overwrite)
        count = sum(len(sample.labels) for sample in samples)
        what = f"{words.counted(count, 'mask')} of {words.counted(len(samples), 'sample')}"
        facts: dict[str, Any] = {"input": str(parameters.input), "files": [str(file) for file in files]}
        if parameters.dry_run:
            return Result(f"Would clean {what} into {words.listed(map(str, files))}", facts)
        total = sum(
            len(sample.labels) * (cleaning_voxels(parameters, sample.shape) + prod(sample.shape)) for sample in samples
        )
        for sample in samples:
            for name, label in zip(names, sample.labels, strict=False):
                say_if_no_mask(f"label {name!r} of {sample.name!r}", label, sample.shape[0], context.report)
        cleaning = _Cleaning(parameters, names, Watch(context, "Cleaning", total))
        if in_dataset:
            cleaning.into_dataset(labelled, samples, context)
        else:
            cleaning.into_files(samples[0], files)
    table = Table("foreground", ("sample", "label", "before", "after"), cleaning.rows)
    return Result(f"Cleaned {what}: {words.listed(map(str, files))}", facts, tables=(table,))


class _Cleaning:
    """Masks on their way into a result.

    Attributes:
        rows: Of each mask: sample, label, voxels of the foreground before and after.
    """

    def __init__(self, parameters: p.CleanMasks, names: Sequence[str], watch: Watch) -> None:
        self._parameters, self._names, self._watch = parameters, names, watch
        self.rows: list[tuple[str, str, int, int]] = []

    def into_files(self, sample: LabelledSample, files: Sequence[Path]) -> None:
        """Write an image file for each label."""
        with Together() as together:
            for index, file in enumerate(files):
                with create_volume(
                    file, sample.shape, np.bool_,
                    voxel_size=sample.voxel_size, voxel_unit=sample.voxel_unit, labels=True,
                    overwrite=self._parameters.overwrite, together=together,
                ) as writer:  # fmt: skip
                    self._clean(sample, index, _appended(writer))

    def into_dataset(self, labelled: Labelled, samples: Sequence[LabelledSample], context: Context) -> None:
        """Write a data set."""
        parameters = self._parameters
        with ExitStack() as files:
            source = None if labelled.single else files.enter_context(open_dataset(parameters.input))
            aliases = () if source is None or not source.aliases else tuple(self._names)
            new = files.enter_context(
                new_dataset(
                    parameters.out, parameters.out.stem, len(self._names), aliases, overwrite=parameters.overwrite
                )
            )
            for sample in samples:
                original = None if source is None else source.sample(sample.name)
                self._add(new, sample, original, context)
            if source is not None:
                kept = [source.sample(sample.name) for sample in samples if sample.ignored is not None]
                copy_masks(kept, parameters.out, lambda _: context.stop.check())

    def _add(self, new: NewDataset, sample: LabelledSample, original: Sample | None, context: Context) -> None:
        kind = "prediction" if original is None or original.predictions else "label"
        members: dict[str, Any] = {member_name(kind, index): np.uint8 for index in range(len(sample.labels))}
        attributes: dict[str, Any] = {"voxel_size": sample.voxel_size, "voxel_unit": sample.voxel_unit or None}
        if original is not None:
            attributes = dict(original.attributes)
            if "image" in original.members:
                members["image"] = original.image.dtype
        attributes["cleaned_from"] = str(self._parameters.input)
        added = new.add_sample(sample.name, sample.shape, members, attributes)
        for index in range(len(sample.labels)):
            self._clean(sample, index, _into(added[member_name(kind, index)]))
        if original is not None and "image" in original.members:
            z, y, x = sample.shape
            copy(original.image, ((0, z), (0, y), (0, x)), added["image"], lambda _: context.stop.check())

    def _clean(self, sample: LabelledSample, index: int, write: Write) -> None:
        """Clean one label of a sample."""
        parameters = self._parameters
        counted = _Counted(foreground(sample, sample.labels[index], parameters.threshold))
        after = 0
        with ExitStack() as files:
            cleaner = Cleaner(parameters, voxels_of(sample), sample.ignored, self._watch, files, parameters.out.parent)
            mask = cleaned(counted.mask, cleaner)
            for z0, z1 in slabs(mask.shape, mask.depth):
                slab = mask.read(z0, z1)
                after += int(np.count_nonzero(slab))
                write(z0, slab)
                self._watch.advance(slab.size)
        self.rows.append((sample.name, self._names[index], counted.voxels, after))


class _Counted:
    """A mask that counts its foreground as it is read, from the first slice on.

    Attributes:
        mask: To be read.
        voxels: Of the foreground of what was read.
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = Mask(mask.shape, self._read, mask.depth)
        self.voxels = 0
        self._read_mask, self._seen = mask.read, 0

    def _read(self, z0: int, z1: int) -> npt.NDArray[np.bool_]:
        slab = self._read_mask(z0, z1)
        self.voxels += int(np.count_nonzero(slab[max(0, self._seen - z0) :]))  # smoothing reads some slices twice
        self._seen = max(self._seen, z1)
        return slab


def _into(writer: MemberWriter) -> Write:
    def write(z0: int, slab: npt.NDArray[np.bool_]) -> None:
        writer[z0 : z0 + len(slab)] = slab

    return write


def _appended(writer: VolumeWriter) -> Write:
    def write(_: int, slab: npt.NDArray[np.bool_]) -> None:
        writer.write(slab)

    return write
