"""The actions `crop-sample` and `save-dataset`: samples copied within a data set and into a new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from pydantic import TypeAdapter, ValidationError

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import (
    Dataset,
    Member,
    MemberWriter,
    NewDataset,
    Sample,
    change_dataset,
    new_dataset,
    open_dataset,
    real_path,
)
from deepscem_tui.engine.datasets.ignoring import (
    ATTRIBUTES,
    Box,
    compact_masks,
    copy_masks,
    cropped_boxes,
    cropped_slabs,
    ignored_in,
    write_ignored,
)
from deepscem_tui.engine.datasets.origins import origin_attributes
from deepscem_tui.engine.errors import DatasetError, ParameterError
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.slabs import slab_depth
from deepscem_tui.engine.system.files import refuse_existing
from deepscem_tui.engine.system.space import check_room

__all__ = [
    "Box",
    "Copier",
    "box_bytes",
    "check_name_is_text",
    "crop_name",
    "crop_sample",
    "is_text",
    "save_dataset",
]


def crop_sample(parameters: p.CropSample, context: Context) -> Result:
    """Copy a box of a sample to a new sample of the same data set, holding a slab at a time.

    Raises:
        ParameterError: the box leaves the sample.
        DatasetError: there is no such sample, or the new name is taken, or the data set cannot be changed.
        ResourceError: the disk is full.
        Stopped: on request; the data set is as it was.
    """
    with open_dataset(parameters.file) as dataset:
        source = dataset.sample(parameters.sample)
        box = _box(parameters, source)
        name = parameters.name or crop_name(parameters.sample, box)
        dataset.check_new(name)
        shape = tuple(stop - start for start, stop in box)
    facts = {"file": str(parameters.file), "sample": name, "shape": list(shape), "box": [list(side) for side in box]}
    what = f"{' x '.join(map(str, shape))} voxels of {parameters.sample!r} to {name!r} in {parameters.file}"
    if parameters.dry_run:
        return Result(f"Would copy {what}", facts)
    with change_dataset(parameters.file) as changed:
        source = changed.sample(parameters.sample)
        if _box(parameters, source) != box:
            raise DatasetError(f"{source.what} was changed meanwhile", "Try again.")
        if "image" in source.members:  # is stored as it is, the rest shrinks
            check_room({real_path(parameters.file): prod(shape) * source.image.dtype.itemsize})
        copier = Copier(context, f"Cropping {name}", box_bytes(source, box))
        copier.crop(changed, name, source, box)
        left_out = sorted(set(source.members) - set(_cropped_members(source))) + list(source.others)
    if left_out:
        context.report.message(f"Left out: {', '.join(left_out)}")
    return Result(f"Copied {what}", facts)


def save_dataset(parameters: p.SaveDataset, context: Context) -> Result:
    """Write a data set anew: the same samples, without unused space, in chunks that are fast to read.

    The result may be the data set itself (with ``overwrite``): it is replaced when all is written.

    Raises:
        ParameterError: the result exists already, or is no data set by its name.
        DatasetError: the data set is damaged, or was changed while it was copied.
        ResourceError: the disk is full.
        Stopped: on request; nothing was changed.
    """
    file, out = real_path(parameters.file), parameters.out
    if out.suffix.lower() != ".hdf5":
        raise ParameterError(f"{out} is no data set by its name", "It must end in .hdf5.")
    with open_dataset(parameters.file) as dataset:
        before = file.stat()
        samples = [(name, _members(dataset, name, real_path(out) == file, context)) for name in dataset.samples]
        facts = {"file": str(parameters.file), "out": str(out), "samples": len(samples), "bytes_before": before.st_size}
        name, n_labels, aliases, attributes = dataset.name, dataset.n_labels, dataset.aliases, dataset.attributes
        total = sum(prod(m.shape) * m.dtype.itemsize for _, members in samples for m in members.values())
        least = sum(members["image"].stored_bytes for _, members in samples if "image" in members)
    refuse_existing(out, parameters.overwrite)
    check_room({out: least})  # images are stored as they are, the rest shrinks
    if parameters.dry_run:
        return Result(
            f"Would write {words.counted(len(samples), 'sample')} ({total:,} bytes of voxels) to {out}", facts
        )

    def unchanged() -> None:
        now = file.stat()
        if (now.st_size, now.st_mtime_ns, now.st_ino) != (before.st_size, before.st_mtime_ns, before.st_ino):
            raise DatasetError(f"{parameters.file} was changed while it was copied", "Try again.")

    with new_dataset(out, name, n_labels, aliases, parameters.overwrite, before_publishing=unchanged) as new:
        new.set_attributes(attributes)
        copier = Copier(context, f"Writing {out.name}", total)
        with open_dataset(parameters.file) as dataset:
            for sample in dataset.samples.values():
                copier.add(new, sample.name, sample.members, None, sample.attributes)
            copy_masks(list(dataset.samples.values()), out, lambda _: context.stop.check())
    compact_masks(out)
    after = out.stat().st_size
    summary = f"Wrote {words.counted(len(samples), 'sample')} to {out}: {after:,} bytes, before {before.st_size:,}"
    return Result(summary, facts | {"bytes_after": after})


def check_name_is_text(sample: Sample) -> None:
    """Raise before anything is written: a name that is no text cannot be written again."""
    if not is_text(sample.name):
        raise DatasetError(
            f"{sample.what} has a name that is no text", "Rename it first: deepscem-tui run rename-sample."
        )


def _members(dataset: Dataset, name: str, onto_itself: bool, context: Context) -> Mapping[str, Member]:
    """What is to be copied of a sample; what is not ours is left out, but never lost."""
    sample = dataset.sample(name)
    check_name_is_text(sample)
    if sample.others:
        listed = ", ".join(sample.others)
        if onto_itself:
            raise DatasetError(f"{sample.what} also holds {listed}, which would be lost", "Save to another file.")
        context.report.warning(f"{sample.what} also holds {listed}: left out")
    return sample.members


def is_text(name: str) -> bool:
    """Whether a name can be stored as an attribute: those that others gave may hold any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


class Copier:
    """Copies samples with progress over all of them."""

    def __init__(self, context: Context, task: str, total: int) -> None:
        self._context, self._task, self._total = context, task, total
        self._done = 0

    def add(
        self,
        target: NewDataset,
        name: str,
        members: Mapping[str, Member],
        box: Box | None,
        attributes: Mapping[str, Any],
    ) -> None:
        """Add a sample made of a box of these arrays, or of all of them."""
        if not members:
            raise DatasetError(
                f"Sample {name!r} of {target.path} has no arrays that could be copied", "See: run check-dataset."
            )
        whole = next(iter(members.values())).shape
        inside: Box = box or ((0, whole[0]), (0, whole[1]), (0, whole[2]))
        shape = [stop - start for start, stop in inside]
        types = {key: member.dtype for key, member in members.items()}
        sample = target.add_sample(name, shape, types, attributes)
        for key, member in members.items():
            copy(member, inside, sample[key], self._advance)

    def crop(self, target: NewDataset, name: str, source: Sample, box: Box) -> None:
        """Add a sample made of a box of another, with notes of where it comes from and which part of it is labelled."""
        ignored = ignored_in(source)
        kept = {key: value for key, value in source.attributes.items() if key not in ATTRIBUTES}
        self.add(target, name, _cropped_members(source), box, {**kept, **origin_attributes(source, box)})
        if ignored is not None:
            write_ignored(target, name, cropped_boxes(ignored, box), cropped_slabs(ignored, box))

    def _advance(self, count: int) -> None:
        self._context.stop.check()
        self._done += count
        self._context.report.progress(self._task, self._done, self._total, "B")


def _cropped_members(sample: Sample) -> dict[str, Member]:
    """What of a sample a crop has: no distances, which would end at its border."""
    return {key: member for key, member in sample.members.items() if not key.endswith("_dt")}


def box_bytes(sample: Sample, box: Box) -> int:
    """Bytes of the voxels that a crop copies."""
    voxels = prod(stop - start for start, stop in box)
    return voxels * sum(member.dtype.itemsize for member in _cropped_members(sample).values())


def copy(member: Member, box: Box, writer: MemberWriter, advance: Callable[[int], None]) -> None:
    """Copy a box slab by slab, in whole rows of the writer's chunks."""
    (z0, z1), y, x = box
    plane = (y[1] - y[0]) * (x[1] - x[0]) * member.dtype.itemsize
    step = slab_depth(plane, writer.depth)
    for z in range(z0, z1, step):
        slab = member[z : min(z + step, z1), slice(*y), slice(*x)]
        advance(slab.nbytes)
        writer[z - z0 : z - z0 + len(slab)] = slab


def _box(parameters: p.CropSample, sample: Sample) -> Box:
    """The bounds that were given, filled up."""
    sides = []
    for axis, given, size in zip("zyx", (parameters.z, parameters.y, parameters.x), sample.shape, strict=True):
        start, stop = given or (None, None)
        start, stop = start or 0, size if stop is None else stop
        if not 0 <= start < stop <= size:
            what = f"--{axis} {start}:{stop} is not inside sample {sample.name!r}, which has {size} voxels along it"
            whole = words.sizes(sample.shape)
            raise ParameterError(what, f"Its size is {whole} (Z x Y x X), so 0:{size} is all of it.", axis)
        sides.append((start, stop))
    return sides[0], sides[1], sides[2]


def crop_name(sample: str, box: Box) -> str:
    """DeepSCEM's name for a crop."""
    name = "_".join([sample, "crop", *(str(end) for side in box for end in side)])
    try:
        return str(TypeAdapter(p.Name).validate_python(name))
    except ValidationError:
        raise ParameterError(
            f"{name!r} cannot be the name of a sample", "Choose a shorter one with --name.", "name"
        ) from None
