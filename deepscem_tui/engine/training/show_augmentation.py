"""The action `show-augmentation`: places of a data set beside what augmentation makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.augmentation import recipes
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, open_dataset
from deepscem_tui.engine.errors import DatasetError, ParameterError
from deepscem_tui.engine.patches import Box, PatchSampler, Source
from deepscem_tui.engine.patches.foreground import Foreground
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.system.files import check_writable, refuse_existing
from deepscem_tui.engine.training.plan import fitting_patch
from deepscem_tui.engine.viewing.picture_files import LABEL_COLOURS, write_png
from deepscem_tui.engine.viewing.preview import SlicePicture

__all__ = ["show_augmentation"]

Mask = npt.NDArray[np.bool_]

_TRIES = 12  # places that are looked at for one that shows a label
_GAP = 4  # pixels between patches


def show_augmentation(parameters: p.ShowAugmentation, context: Context) -> Result:
    """Draw augmented patches with their labels.

    Raises:
        ParameterError: the picture exists, or is no PNG file; the patch does not fit the samples.
        DataError: the data set cannot be used, or the picture cannot be written.
    """
    refuse_existing(parameters.out, parameters.overwrite)
    if parameters.out.suffix.lower() != ".png":
        raise ParameterError(f"{parameters.out} is no name of a picture", "Give one that ends in .png.", "out")
    check_writable(parameters.out.parent)
    strengths = recipes.strengths(parameters.augmentation, parameters.augment)
    with open_dataset(parameters.file) as dataset:
        sources, patch = _sources(dataset), _patch(parameters, dataset)
        done = ", ".join(f"{name} {strength:g}" for name, strength in strengths.items()) or "nothing"
        facts = {"patch_size": list(patch), "augmentation": strengths}
        what = f"{words.counted(parameters.rows, 'place')} of {words.sizes(patch)} voxels, augmented by: {done}"
        if parameters.dry_run:
            return Result(f"Would draw {parameters.out}: {what}", facts)
        plain, changed = (
            PatchSampler(sources, patch, 1, focus=0.0, augmentation=some, flat=False, seed=parameters.seed)
            for some in ({}, strengths)
        )
        rows = []
        for number in range(parameters.rows):
            context.stop.check()
            box = _place(plain, number)
            shown = [plain.variants(box, number, 1), changed.variants(box, number, parameters.columns - 1)]
            images = np.concatenate([batch.images[..., 0] for batch in shown])
            labels = np.concatenate([batch.labels for batch in shown])
            rows.append(([_flat(image) for image in images], [_flat(label) for label in labels]))
        names = dataset.names_for(len(sources[0].labels))
    image = _grid([images for images, _ in rows])
    labels = _grid([labels for _, labels in rows]) > 0
    masks = [labels[..., index] for index in range(len(names))]
    grey = np.rint(image * 255).astype(np.uint8)
    write_png(parameters.out, _outlined(grey, masks))
    picture = SlicePicture(grey, masks, names, None, "", 0, 1.0, parameters.style, parameters.width)
    return Result(f"Drew {parameters.out}: {what}", facts, picture=picture)


def _sources(dataset: Dataset) -> list[Source]:
    """The samples, of which nothing is read yet: nor counted, so that large ones are shown at once."""
    samples = list(dataset.samples.values())
    if not samples:
        raise DatasetError(f"{dataset.path} has no samples", "Add some with: deepscem-tui run add-sample", "file")
    few = min(samples, key=lambda sample: len(sample.labels))
    if len(few.labels) < dataset.n_labels:
        what = f"Sample {few.name!r} of {dataset.path} has {len(few.labels)} of {dataset.n_labels} labels"
        raise DatasetError(what, "Is it a data set of predictions? Labels are needed here.", "file")
    uncounted = [Foreground(sample.shape, len(sample.labels)) for sample in samples]
    return [
        Source(
            sample.name, sample.shape, sample.voxel_size, sample.image, sample.labels, where.by_slice, where=where
        )
        for sample, where in zip(samples, uncounted, strict=True)
    ]  # fmt: skip


def _patch(parameters: p.ShowAugmentation, dataset: Dataset) -> Shape:
    asked = parameters.patch_size
    deep = asked is not None and len(asked) == 3 and asked[0] > 1
    return fitting_patch(asked, 3 if deep else 2, (1, 1, 1), dataset)


def _place(sampler: PatchSampler, number: int) -> Box:
    """A random place, one that shows a label if such a place is found soon."""
    for attempt in range(_TRIES):
        box = sampler.box(number, attempt)
        if sampler.variants(box, 0, 1).labels.any():
            break
    return box


def _flat(patch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The middle slice of a patch (Z, Y, X, ...), and below it, if it has several, the section along its middle row."""
    middle: npt.NDArray[np.generic] = patch[len(patch) // 2]
    if len(patch) == 1:
        return middle
    gap = np.zeros((_GAP, *middle.shape[1:]), patch.dtype)
    return np.concatenate([middle, gap, patch[:, patch.shape[1] // 2]])


def _grid(rows: Sequence[Sequence[npt.NDArray[np.generic]]]) -> npt.NDArray[np.float32]:
    """Patches (Y, X, ...) of one shape side by side."""
    height, width, *rest = rows[0][0].shape
    down, across = height + _GAP, width + _GAP
    grid = np.zeros((len(rows) * down - _GAP, len(rows[0]) * across - _GAP, *rest), np.float32)
    for row, patches in enumerate(rows):
        for column, patch in enumerate(patches):
            grid[row * down : row * down + height, column * across : column * across + width] = patch
    return grid


def _outlined(grey: npt.NDArray[np.uint8], masks: Sequence[Mask]) -> npt.NDArray[np.uint8]:
    """A grey picture (Y, X) with the outlines of masks, (Y, X, 3)."""
    colours = np.repeat(grey[..., None], 3, axis=-1)
    for index, mask in enumerate(masks):
        inner = mask.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                inner &= np.roll(mask, step, axis)
        colours[mask & ~inner] = LABEL_COLOURS[index % len(LABEL_COLOURS)]
    return colours
