"""What of a sample nobody has annotated: training, validation and evaluation leave it out.

DeepSCEM reads labels only, so none of this is in a sample's tree. Boxes that are annotated, such as whole slices, are
an attribute of the sample. A mask of single voxels lies beside the data set ``NAME.hdf5`` in ``NAME.ignore.hdf5``,
which is a data set itself, of one label: 1 where nobody has annotated. A sample knows its mask by a number that both
carry, so that renaming needs no change of two files, and a mask that is of another data set, or gone, is noticed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.datasets.dataset import (
    Dataset,
    Member,
    NewDataset,
    Sample,
    change_dataset,
    new_dataset,
    open_dataset,
    real_path,
)
from deepscem_tui.engine.errors import DatasetError
from deepscem_tui.engine.system.files import MASKS

__all__ = [
    "ATTRIBUTES",
    "Box",
    "Ignored",
    "Slabs",
    "compact_masks",
    "copy_masks",
    "cropped_boxes",
    "cropped_slabs",
    "forget_mask",
    "ignored_in",
    "mask_file",
    "mask_id",
    "write_ignored",
]

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # (start, stop) along Z, Y, X
Mask = npt.NDArray[np.bool_]
# Tells which voxels of slices z0:z1 are ignored, (n, Y, X), while the file of masks is open to be changed.
Slabs = Callable[[NewDataset, int, int], Mask]

BOXES, VOXELS, MASK = ATTRIBUTES = ("annotated_boxes", "annotated_voxels", "ignore_mask")  # of a sample
_NAME = "not labelled"  # of a file of masks, and of its label
_MEMBER = "label_0000"
_SLAB_VOXELS = 2**26
_MOST_BOXES = 1000  # that fit in an attribute


@dataclass(frozen=True)
class Ignored:
    """What of a sample is not annotated; sliced as an array (Z, Y, X), uint8, 1 where nobody has annotated.

    Args:
        what: The sample, for messages.
        path: Of the data set.
        shape: (Z, Y, X).
        annotated: Voxels that are annotated.
        boxes: All that is annotated lies in these; None for anywhere.
        mask: Number of the mask that says which voxels in the boxes are ignored, too; empty for none of them.
    """

    what: str
    path: Path
    shape: tuple[int, int, int]
    annotated: int
    boxes: tuple[Box, ...] | None = None
    mask: str = ""

    dtype = np.dtype(np.uint8)
    depth = 8  # slices that are best read together

    @property
    def share(self) -> float:
        """Of all voxels, those that are annotated, 0 to 1."""
        return self.annotated / prod(self.shape)

    def __getitem__(self, key: Any) -> npt.NDArray[np.uint8]:
        """Raises :class:`DatasetError` if the mask is gone, or belongs to something else."""
        keys = key if isinstance(key, tuple) else (key,)
        keys = (*keys, *[slice(None)] * (3 - len(keys)))
        places = [np.arange(size)[item] for item, size in zip(keys, self.shape, strict=True)]
        result = np.full([np.size(place) for place in places], self.boxes is not None, np.uint8)
        for box in self.boxes or ():
            inside = (np.flatnonzero((place >= a) & (place < b)) for place, (a, b) in zip(places, box, strict=True))
            result[np.ix_(*inside)] = 0
        result = result.reshape([np.size(place) for place in places if np.ndim(place)])
        if self.mask and not result.all():
            with self.opened() as member:
                result |= member[key] != 0
        return result

    def anything_in(self, z: slice, y: slice, x: slice) -> bool:
        """Whether a box may have annotated voxels; with a mask, only its slices are looked at."""
        if self.boxes is None:
            return True
        return any(
            all(side.start < stop and start < side.stop for side, (start, stop) in zip((z, y, x), box, strict=True))
            for box in self.boxes
        )

    @property
    def annotated_slices(self) -> npt.NDArray[np.int_]:
        """Numbers of the slices that may have annotated voxels."""
        if self.boxes is None:
            return np.arange(self.shape[0])
        return np.unique(np.concatenate([np.arange(*box[0]) for box in self.boxes] or [np.arange(0)]))

    def check(self) -> None:
        """Raise :class:`DatasetError` if the mask is gone, or belongs to something else."""
        if self.mask:
            with self.opened():
                pass

    @contextmanager
    def opened(self, masks: Dataset | None = None) -> Iterator[Member]:
        """The mask, uint8 (Z, Y, X), 1 where nobody has annotated.

        Args:
            masks: The file of masks where that is open already.

        Raises:
            DatasetError: it is gone, or belongs to something else.
        """
        if masks is not None:
            yield self._member(masks)
            return
        if not mask_file(self.path).exists():
            raise self._missing("which is not there")
        with open_dataset(mask_file(self.path)) as opened:
            yield self._member(opened)

    def _member(self, masks: Dataset) -> Member:
        if self.mask not in masks.samples:
            raise self._missing("which does not hold it: it belongs to another data set")
        sample = masks.sample(self.mask)
        if sample.shape != self.shape or len(sample.labels) != 1:
            raise self._missing(f"where it is {words.sizes(sample.shape)} voxels")
        return sample.labels[0]

    def _missing(self, why: str) -> DatasetError:
        return DatasetError(
            f"What is not labelled of {self.what} ({words.sizes(self.shape)} voxels) is in "
            f"{mask_file(self.path)}, {why}",
            "Copy the two files together, or say anew what is labelled: deepscem-tui run set-labelled",
        )

    def __str__(self) -> str:
        """In a few words, such as ``slices 0:4, 20:24 (20 % of the voxels)``."""
        share = f"{100 * self.share:.3g} % of the voxels"
        if self.boxes is None or not self.boxes:
            return share if self.annotated else "nothing"
        listed = words.ranges(sorted({box[0] for box in self.boxes}))
        part = "" if all(box[1:] == self.plane for box in self.boxes) and not self.mask else "parts of "
        return f"{part}slices {listed} ({share})"

    @property
    def plane(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """A whole slice: (start, stop) along Y and X."""
        return (0, self.shape[1]), (0, self.shape[2])


def ignored_in(sample: Sample) -> Ignored | None:
    """What of a sample is not annotated; None where all of it is, or nothing is said about it."""
    about = sample.attributes
    mask, boxes, voxels = about.get(MASK), about.get(BOXES), about.get(VOXELS)
    if mask is None and boxes is None:
        return None
    found = None if boxes is None else _boxes(boxes, sample)
    if not isinstance(voxels, int) or not 0 <= voxels <= prod(sample.shape):
        raise DatasetError(f"{sample.what} does not say how many voxels are labelled", _ANEW)
    return Ignored(sample.what, sample.path, sample.shape, voxels, found, str(mask or ""))


_ANEW = "Say anew what is labelled: deepscem-tui run set-labelled"


def _boxes(stored: Any, sample: Sample) -> tuple[Box, ...]:
    """Boxes from the numbers z0, z1, y0, y1, x0, x1 of each; one without voxels stands for none."""
    ends = np.asarray(stored)
    if ends.ndim != 1 or len(ends) % 6 or ends.dtype.kind not in "iu":
        raise DatasetError(f"{sample.what} has an attribute {BOXES!r} that is no list of boxes", _ANEW)
    found = ends.reshape(-1, 3, 2)
    if (found < 0).any() or (found > np.array(sample.shape)[:, None]).any():
        raise DatasetError(f"{sample.what} says that voxels outside of it are labelled", _ANEW)
    some = found[(found[..., 1] > found[..., 0]).all(axis=1)]
    return tuple(((z[0], z[1]), (y[0], y[1]), (x[0], x[1])) for z, y, x in some.tolist())


def mask_file(path: Path) -> Path:
    """Where the masks of a data set are, if it has any."""
    path = real_path(Path(path))
    return path.with_name(f"{path.stem}{MASKS}{path.suffix}")


def mask_id(sample: Sample) -> str:
    """The number of a sample's mask; empty if it has none."""
    return str(sample.attributes.get(MASK) or "")


# ------------------------------------------------------------------------------------------------ changing


def write_ignored(
    changed: NewDataset,
    name: str,
    boxes: Sequence[Box] | None,
    slabs: Slabs | None,
) -> Ignored | None:
    """Store what of a sample is annotated, in place of what was said before.

    Args:
        changed: The data set, which is being changed or made.
        name: Of the sample.
        boxes: That are annotated, none overlapping another; None for everything.
        slabs: Tells which voxels are ignored, too.

    Returns:
        What is now ignored; None for nothing.
    """
    sample = changed.sample(name)
    whole: Box = ((0, sample.shape[0]), (0, sample.shape[1]), (0, sample.shape[2]))
    if boxes is not None and tuple(boxes) == (whole,):
        boxes = None
    annotated = sum(prod(b - a for a, b in box) for box in ((whole,) if boxes is None else boxes))
    ignored = Ignored(sample.what, changed.path, sample.shape, annotated, None if boxes is None else tuple(boxes))
    if slabs is None and not _fit(boxes):
        slabs = _nothing_more(sample.shape)
    if slabs is not None:
        ignored = _write_mask(changed.path, name, ignored, slabs)
    changed.remove_attributes((BOXES, VOXELS, MASK), name)
    if ignored.boxes is None and not ignored.mask:
        return None
    flat = None if ignored.boxes is None else np.array(ignored.boxes or [((0, 0),) * 3], np.int64).reshape(-1)
    changed.set_attributes({BOXES: flat, VOXELS: ignored.annotated, MASK: ignored.mask or None}, name)
    return ignored


def _nothing_more(shape: tuple[int, int, int]) -> Slabs:
    """What is ignored inside boxes that are annotated in full: of these there are too many for an attribute."""
    return lambda _, z0, z1: np.zeros((z1 - z0, *shape[1:]), bool)


def cropped_boxes(ignored: Ignored, crop: Box) -> tuple[Box, ...] | None:
    """The boxes that are annotated of a part of a sample, in voxels of that part."""
    if ignored.boxes is None:
        return None
    found = []
    for box in ignored.boxes:
        sides = [(max(a, c) - c, min(b, d) - c) for (a, b), (c, d) in zip(box, crop, strict=True)]
        if all(start < stop for start, stop in sides):
            found.append((sides[0], sides[1], sides[2]))
    return tuple(found)


def cropped_slabs(ignored: Ignored, crop: Box) -> Slabs | None:
    """The mask of a part of a sample; None if there is none."""
    if not ignored.mask:
        return None
    (first, _), y, x = crop

    def slab(masks: Dataset, z0: int, z1: int) -> Mask:
        here = masks.path == mask_file(ignored.path)  # and not those of another data set, which the part is for
        with ignored.opened(masks if here else None) as member:
            found: Mask = member[first + z0 : first + z1, slice(*y), slice(*x)] != 0
        return found

    return slab


class _Useless(Exception):
    """The boxes say all that a mask would."""


def _write_mask(path: Path, name: str, ignored: Ignored, slabs: Slabs) -> Ignored:
    """Write a mask beside the data set; its slices without an annotated voxel are kept out of the boxes, too.

    It is there before the data set refers to it. If that fails it is a mask of nothing, which `save-dataset` drops.
    """
    shape, number = ignored.shape, secrets.token_hex(8)
    inside = np.zeros(shape[0], np.int64)  # annotated voxels by slice
    in_boxes = 0
    step = max(8, _SLAB_VOXELS // prod(shape[1:]) // 8 * 8)
    with suppress(_Useless), _masks(path) as masks:
        writer = masks.add_sample(number, shape, {_MEMBER: np.uint8}, {"sample": name})[_MEMBER]
        for z in range(0, shape[0], step):
            end = min(z + step, shape[0])
            outside = ignored[z:end] != 0
            mask = slabs(masks, z, end) | outside
            in_boxes += int(np.count_nonzero(~outside & (~mask).any(axis=(1, 2))[:, None, None]))
            inside[z:end] = prod(shape[1:]) - np.count_nonzero(mask, axis=(1, 2))
            writer[z:end] = mask.view(np.uint8)
        found = replace(ignored, boxes=_without_empty_slices(ignored, inside), annotated=int(inside.sum()))
        if _fit(found.boxes) and in_boxes == found.annotated:
            raise _Useless
        return replace(found, mask=number, boxes=next(filter(_fit, (found.boxes, ignored.boxes)), None))
    return found


def _fit(boxes: Sequence[Box] | None) -> bool:
    """Whether an attribute holds these boxes."""
    return boxes is None or len(boxes) <= _MOST_BOXES


def _without_empty_slices(ignored: Ignored, inside: npt.NDArray[np.int64]) -> tuple[Box, ...] | None:
    """The boxes without slices that have no annotated voxel."""
    if inside.all():
        return ignored.boxes
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside > 0, [0]])))
    found: list[Box] = []
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        for z, y, x in ignored.boxes or (((0, len(inside)), *ignored.plane),):
            if max(first, z[0]) < min(end, z[1]):
                found.append(((max(first, z[0]), min(end, z[1])), y, x))
    return tuple(found)


@contextmanager
def _masks(path: Path) -> Iterator[NewDataset]:
    """The file of masks of a data set, to be added to; made if there is none."""
    file = mask_file(path)
    with change_dataset(file) if file.exists() else new_dataset(file, _NAME, 1, (_NAME,)) as masks:
        yield masks


def forget_mask(path: Path, number: str) -> None:
    """Remove a mask that no sample refers to any more; the file of masks goes with the last one."""
    file = mask_file(path)
    if not number or not file.exists():
        return
    with change_dataset(file) as masks:
        if number in masks.samples:
            masks.remove_sample(number)
        left = len(masks.samples)
    if not left:
        file.unlink(missing_ok=True)


def copy_masks(samples: Sequence[Sample], path: Path, advance: Callable[[int], None]) -> None:
    """Add the masks of samples to those of another data set that is being written, before it refers to them."""
    wanted = [found for sample in samples if (found := ignored_in(sample)) is not None and found.mask]
    if not wanted or mask_file(wanted[0].path) == mask_file(path):
        return
    with _masks(path) as masks:
        for ignored in wanted:
            if ignored.mask in masks.samples:
                continue
            with ignored.opened() as member:
                writer = masks.add_sample(ignored.mask, ignored.shape, {_MEMBER: np.uint8})[_MEMBER]
                step = max(8, _SLAB_VOXELS // prod(ignored.shape[1:]) // 8 * 8)
                for z in range(0, ignored.shape[0], step):
                    slab = member[z : min(z + step, ignored.shape[0])]
                    writer[z : z + len(slab)] = slab
                    advance(slab.size)


def compact_masks(path: Path) -> None:
    """Drop the masks that no sample of a data set refers to, and the space that they took."""
    file = mask_file(path)
    if not file.exists():
        return
    with open_dataset(path) as dataset:
        used = {mask_id(sample) for sample in dataset.samples.values()}
    with open_dataset(file) as old:
        kept = [sample for sample in old.samples.values() if sample.name in used]
        if len(kept) == len(old.samples):
            return
        if kept:
            with new_dataset(file, _NAME, 1, (_NAME,), overwrite=True) as new:
                for sample in kept:
                    writer = new.add_sample(sample.name, sample.shape, {_MEMBER: np.uint8}, sample.attributes)[_MEMBER]
                    for z in range(0, sample.shape[0], writer.depth):
                        writer[z : min(z + writer.depth, sample.shape[0])] = sample.labels[0][z : z + writer.depth]
    if not kept:
        file.unlink(missing_ok=True)
