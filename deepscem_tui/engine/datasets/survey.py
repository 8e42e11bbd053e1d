"""What a data set holds, looked at for planning: sizes, voxels, labels, grey values, from a few slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from statistics import median

import numpy as np

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, Sample
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in
from deepscem_tui.engine.errors import DatasetError

__all__ = ["SampleFacts", "Survey", "label_fractions", "survey"]

_SLICES = 16  # of a sample that are looked at, evenly spread
_FEW_SLICES = 10
_NEARLY_EMPTY = 0.002  # share of the voxels
_OTHER_VOXELS = 1.25  # times as large
_OTHER_GREY = 2.0  # standard deviations within a sample


@dataclass(frozen=True)
class SampleFacts:
    """A sample in numbers.

    Args:
        shape: Z, Y, X.
        voxel_size: Z, Y, X in ``voxel_unit``; None if not known.
        fractions: Share of the annotated voxels that each label has, 0 to 1, by the slices looked at.
        grey: Mean of the image, 0 to 1.
        spread: Standard deviation of the image.
        ignored: What nobody has annotated; None for nothing.
    """

    name: str
    shape: Shape
    voxel_size: tuple[float, float, float] | None
    voxel_unit: str
    fractions: tuple[float, ...]
    grey: float
    spread: float
    ignored: Ignored | None = None

    @property
    def annotated(self) -> int:
        """Voxels that are annotated."""
        return prod(self.shape) if self.ignored is None else self.ignored.annotated

    @property
    def slices(self) -> Sequence[int]:
        """Those that may have annotated voxels."""
        return range(self.shape[0]) if self.ignored is None else self.ignored.annotated_slices.tolist()


@dataclass(frozen=True)
class Survey:
    """The samples of a data set in numbers, and the names of its labels."""

    samples: tuple[SampleFacts, ...]
    labels: tuple[str, ...]

    @property
    def voxels(self) -> int:
        return sum(prod(sample.shape) for sample in self.samples)

    @property
    def smallest(self) -> Shape:
        """The least length of a sample along Z, Y, X."""
        z, y, x = (min(sides) for sides in zip(*(sample.shape for sample in self.samples), strict=True))
        return z, y, x

    @property
    def anisotropy(self) -> float | None:
        """How many times as long as wide a voxel is, along Z; the median of the samples; None if none says."""
        found = [size[0] / min(size[1:]) for sample in self.samples if (size := sample.voxel_size)]
        return median(found) if found else None

    def fraction(self, label: int) -> float:
        """Share of all annotated voxels that a label has."""
        total = sum(sample.annotated for sample in self.samples)
        return sum(sample.fractions[label] * sample.annotated for sample in self.samples) / max(1, total)

    @property
    def rarest(self) -> tuple[str, float]:
        """The label with the least share of the voxels, of those that are there at all, and this share."""
        shares = [(name, self.fraction(index)) for index, name in enumerate(self.labels)]
        return min((share for share in shares if share[1] > 0), key=lambda share: share[1], default=shares[0])

    @property
    def warnings(self) -> list[str]:
        """What is unusual, one sentence each."""
        return [
            *self._of_annotation(),
            *self._of_labels(),
            *self._of_voxels(),
            *self._of_grey_values(),
            *self._of_size(),
        ]

    def _of_annotation(self) -> list[str]:
        whole, annotated = self.voxels, sum(sample.annotated for sample in self.samples)
        if annotated == whole:
            return []
        return [f"{annotated / whole:.2%} of the voxels are labelled: the others are left out"]

    def _of_labels(self) -> list[str]:
        found = []
        for index, name in enumerate(self.labels):
            share = self.fraction(index)
            blank = [sample.name for sample in self.samples if sample.fractions[index] == 0 and sample.annotated]
            if share == 0:
                found.append(f"Label {name!r} is blank in all slices looked at: is it in this data set at all?")
            elif share < _NEARLY_EMPTY:
                found.append(f"Label {name!r} is nearly empty, {share:.2%} of the voxels: more of it would help most")
            if share and blank:
                found.append(f"Label {name!r} is blank in sample {words.listed(blank)}: is it not there, or not drawn?")
        return found

    def _of_voxels(self) -> list[str]:
        sizes = {sample.name: sample.voxel_size for sample in self.samples if sample.voxel_size}
        if not sizes:
            return ["No voxel size is known; slices are taken to be as thick as pixels are wide"]
        units = {sample.voxel_unit for sample in self.samples if sample.voxel_size}
        along = list(zip(*sizes.values(), strict=True))
        if len(units) > 1 or any(max(values) > _OTHER_VOXELS * min(values) for values in along):
            listed = "; ".join(f"{words.sizes(size)} in {name!r}" for name, size in list(sizes.items())[:4])
            return [f"Voxel sizes differ, {listed}: scale the images to one size, or expect less on the rare one"]
        return []

    def _of_grey_values(self) -> list[str]:
        middle = median(sample.grey for sample in self.samples)
        spread = median(sample.spread for sample in self.samples)
        found = []
        for sample in self.samples:
            if sample.spread == 0:
                found.append(f"Sample {sample.name!r} has one grey value only in the slices looked at")
            elif abs(sample.grey - middle) > _OTHER_GREY * spread:
                text = f"its mean is {sample.grey:.2f}, that of most is {middle:.2f}"
                found.append(f"Sample {sample.name!r} has other grey values: {text}; is it inverted, or mostly empty?")
        return found

    def _of_size(self) -> list[str]:
        slices = sum(len(sample.slices) for sample in self.samples)
        if slices < _FEW_SLICES:
            return [f"There are {slices} labelled slices in all: scores of a validation will be uncertain"]
        return []


def survey(dataset: Dataset, context: Context) -> Survey:
    """Look at some slices of every sample.

    Raises:
        DatasetError: there is no sample, no label, or a sample lacks labels.
        Stopped: on request.
    """
    names = list(dataset.samples)
    if not names:
        raise DatasetError(f"{dataset.path} has no samples", "Add some with: deepscem-tui run add-sample", "dataset")
    if dataset.n_labels < 1:
        raise DatasetError(f"{dataset.path} has no labels to learn", "Choose one that has.", "dataset")
    samples = []
    for number, name in enumerate(names):
        context.stop.check()
        context.report.progress("Looking at samples", number, len(names), "samples")
        samples.append(_facts(dataset.sample(name), dataset.n_labels))
    context.report.progress("Looking at samples", len(names), len(names), "samples")
    return Survey(tuple(samples), dataset.label_names)


def _facts(sample: Sample, n_labels: int) -> SampleFacts:
    if len(sample.labels) != n_labels:
        has = f"{len(sample.labels)} of {n_labels} labels"
        raise DatasetError(f"{sample.what} has {has}", "Labels are needed to learn from.", "dataset")
    slices = _spread_out(sample.shape[0])
    images = np.stack([np.asarray(sample.image[z], np.float32) for z in slices])
    return SampleFacts(
        sample.name, sample.shape, sample.voxel_size, sample.voxel_unit,
        label_fractions(sample, 0, sample.shape[0]), float(images.mean()), float(images.std()), ignored_in(sample),
    )  # fmt: skip


def label_fractions(sample: Sample, start: int, stop: int) -> tuple[float, ...]:
    """Share of the annotated voxels that each label has in slices, 0 to 1, by some of them."""
    ignored = ignored_in(sample)
    labelled = np.arange(sample.shape[0]) if ignored is None else ignored.annotated_slices
    labelled = labelled[(labelled >= start) & (labelled < stop)]
    voxels, counts = 0, [0] * len(sample.labels)
    for z in labelled[_spread_out(len(labelled))].tolist():
        known = np.ones(sample.shape[1:], bool) if ignored is None else ignored[z] == 0
        voxels += int(np.count_nonzero(known))
        counts = [n + int(np.count_nonzero(label[z][known])) for n, label in zip(counts, sample.labels, strict=True)]
    return tuple(count / max(1, voxels) for count in counts)


def _spread_out(depth: int) -> Sequence[int]:
    """Numbers of slices, evenly spread."""
    n = min(depth, _SLICES)
    return [(2 * index + 1) * depth // (2 * n) for index in range(n)]
