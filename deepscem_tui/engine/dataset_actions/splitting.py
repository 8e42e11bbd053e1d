"""The action `split-dataset`: data sets to train, validate and test with, none of which knows another's voxels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.dataset_actions.copying import Box, Copier, box_bytes, check_name_is_text, crop_name
from deepscem_tui.engine.datasets.dataset import Dataset, Sample, datasets_together, new_dataset, open_dataset
from deepscem_tui.engine.datasets.ignoring import compact_masks, ignored_in, mask_file
from deepscem_tui.engine.datasets.leaks import neighbours
from deepscem_tui.engine.datasets.survey import SampleFacts, label_fractions, survey
from deepscem_tui.engine.errors import DataError, ParameterError, ResourceError
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources.inputs import same_file
from deepscem_tui.engine.system.files import check_writable, refuse_existing
from deepscem_tui.engine.system.space import check_room

__all__ = ["balanced", "split_dataset"]

_TRIES = 50  # orders in which groups are dealt out; the first outcome that is as even as any is taken
_NUMBERED = re.compile(r"(.*?)(\d{1,9})(\D*)", re.DOTALL)
_AS_EVEN = 2e-3  # a part of 20 % may be off by 2 % of everything


def split_dataset(parameters: p.SplitDataset, context: Context) -> Result:
    """Write the parts of a data set as data sets; samples that share voxels or lie side by side are never divided.

    Raises:
        ParameterError: there are too few samples, or too few slices to cut; or a result exists already, or is the
            data set itself.
        DatasetError: it cannot be read, or lacks samples or labels.
        ResourceError: the disk is full.
        Stopped: on request; what was written is removed again.
    """
    with open_dataset(parameters.file) as dataset:
        known = survey(dataset, context)
        samples = [dataset.sample(sample.name) for sample in known.samples]
        for sample in samples:
            check_name_is_text(sample)
        groups = neighbours(samples, parameters.gap, context.stop)
        sides = _sides(parameters)
        if parameters.by == "z":
            parts = _cut(parameters, samples, groups, sides)
        else:
            parts = _dealt_out(parameters, known.samples, samples, groups, sides)
            _warn_of_slices(parameters, samples, groups, context)
        outputs = _outputs(parameters, parts)
        needed = sum(box_bytes(piece.sample, piece.box) for pieces in outputs.values() for piece in pieces)
        for path in outputs:
            if same_file(path, parameters.file):
                what = f"{path} would replace the data set that is divided"
                raise ParameterError(what, "Choose another folder for the parts.", "out_dir")
            refuse_existing(path, parameters.overwrite)
        check_writable(parameters.out_dir)
        facts, table = _summed_up(parameters, dataset, outputs)
        facts |= {"groups": [[samples[number].name for number in group] for group in groups], "bytes": needed}
        what = f"{parameters.file} into {words.counted(len(outputs), 'data set')} in {parameters.out_dir}"
        if parameters.folds is None:
            asked = (f"{name} {100 * share:.4g} %" for name, share in sides.items())
            what += f" (asked for: {', '.join(asked)})"
        if parameters.dry_run:
            return Result(f"Would divide {what}, {words.amount(needed, 'B')}", facts, [table])
        check_room({parameters.out_dir / "train.hdf5": needed})
        _write(dataset, outputs, needed, parameters.overwrite, context)
    return Result(f"Divided {what}", facts, [table])


@dataclass(frozen=True)
class _Piece:
    """A box of a sample, or all of it, and the name that it gets."""

    sample: Sample
    box: Box
    name: str


def _sides(parameters: p.SplitDataset) -> dict[str, float]:
    """Names of the parts and their shares of the voxels, which add up to 1."""
    if parameters.folds is not None:
        return {f"fold_{number}": 1 / parameters.folds for number in range(1, parameters.folds + 1)}
    valid, test = (parameters.valid or 0) / 100, (parameters.test or 0) / 100
    sides = {"train": 1 - valid - test, "valid": valid, "test": test}
    return {name: share for name, share in sides.items() if share}


# ------------------------------------------------------------------------------------------------ whole samples


def _dealt_out(
    parameters: p.SplitDataset,
    known: Sequence[SampleFacts],
    samples: Sequence[Sample],
    groups: Sequence[Sequence[int]],
    sides: Mapping[str, float],
) -> dict[str, list[_Piece]]:
    """Every group of samples in one part."""
    if len(groups) < len(sides):
        volumes = "one volume" if len(groups) == 1 else f"{len(groups)} volumes that have nothing to do with each other"
        what = f"{parameters.file} has {volumes}, which cannot be divided into {len(sides)} parts"
        hint = f"Cut along Z with --by z, which leaves {parameters.gap} slices (--gap) out between the parts"
        raise ParameterError(what, f"{hint}; or crop pieces farther apart with crop-sample.", "by")
    of_groups = [[_weights(known[number]) for number in group] for group in groups]
    weights = np.array([np.sum(found, axis=0) for found in of_groups])
    chosen = balanced(weights, list(sides.values()), parameters.seed)
    parts: dict[str, list[_Piece]] = {name: [] for name in sides}
    for group, side in zip(groups, chosen, strict=True):
        parts[list(sides)[side]] += [_Piece(samples[n], _whole(samples[n]), samples[n].name) for n in group]
    return parts


def _warn_of_slices(
    parameters: p.SplitDataset, samples: Sequence[Sample], groups: Sequence[Sequence[int]], context: Context
) -> None:
    """Say which single slices may lie near each other in one volume, by the last numbers in their names."""
    of = {number: place for place, group in enumerate(groups) for number in group}
    numbered: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for number, sample in enumerate(samples):
        found = _NUMBERED.fullmatch(sample.name)
        if found is not None and sample.shape[0] == 1:
            numbered.setdefault((found[1], found[3]), []).append((int(found[2]), number))
    near = [
        (one, other)
        for alike in map(sorted, numbered.values())
        for (here, one), (there, other) in pairwise(alike)
        if there - here <= max(1, parameters.gap) and of[one] != of[other]
    ]
    if near:
        one, other = (samples[number].name for number in near[0])
        context.report.warning(
            f"Single slices such as {one!r} and {other!r} may be neighbours in one volume, and are divided as if they "
            "had nothing to do with each other. If they are, import them as one volume and divide it with --by z"
        )


def _weights(sample: SampleFacts) -> list[float]:
    """What is to be shared out evenly: annotated voxels, and those of each label."""
    return [sample.annotated, *(fraction * sample.annotated for fraction in sample.fractions)]


def balanced(weights: npt.NDArray[np.float64], shares: Sequence[float], seed: int) -> list[int]:
    """Deal groups out to parts so that each part has about its share of everything.

    Args:
        weights: How much of each thing each group has, (groups, things).
        shares: Of the parts, which add up to 1; there are at least as many groups as parts.

    Returns:
        The part of each group; every part has one.
    """
    totals = weights.sum(axis=0)
    amounts = weights[:, totals > 0] / totals[totals > 0]
    wanted, random = np.asarray(shares)[:, None], np.random.default_rng(seed)
    outcomes: list[tuple[float, list[int]]] = []
    for _ in range(_TRIES):
        has, chosen = np.zeros((len(shares), amounts.shape[1])), np.full(len(amounts), -1)
        order = random.permutation(len(amounts))
        for turn, group in enumerate(sorted(order, key=lambda group: -amounts[group].max())):
            empty = [side for side in range(len(shares)) if side not in chosen]
            open_sides = empty if len(empty) == len(amounts) - turn else range(len(shares))
            costs = [_unevenness(has, wanted, side, amounts[group]) for side in open_sides]
            chosen[group] = open_sides[int(np.argmin(costs))]
            has[chosen[group]] += amounts[group]
        outcomes.append((float((((has - wanted) ** 2) / wanted).sum()), chosen.tolist()))
    least = min(cost for cost, _ in outcomes)
    return next(chosen for cost, chosen in outcomes if cost <= least + _AS_EVEN)


def _unevenness(
    has: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64], side: int, more: npt.NDArray[np.float64]
) -> float:
    """How far parts are from their shares if one of them gets more; only what that changes."""
    before, after = has[side] - wanted[side], has[side] + more - wanted[side]
    return float(((after**2 - before**2) / wanted[side]).sum())


# ------------------------------------------------------------------------------------------------ cut along Z


def _cut(
    parameters: p.SplitDataset,
    samples: Sequence[Sample],
    groups: Sequence[Sequence[int]],
    sides: Mapping[str, float],
) -> dict[str, list[_Piece]]:
    """A run of slices of every sample in each part; in folds, what is left of it without the gaps is trained on."""
    together = next((group for group in groups if len(group) > 1), None)
    if together is not None:
        listed = words.listed(samples[number].name for number in together)
        what = f"The samples {listed} share voxels or lie side by side: pieces of them would meet again"
        raise ParameterError(what, "Divide by samples, or remove all but one of them.", "by")
    random = np.random.default_rng(parameters.seed)
    parts: dict[str, list[_Piece]] = {name: [] for name in sides}
    for sample in samples:
        order = list(range(len(sides))) if parameters.folds is not None else random.permutation(len(sides)).tolist()
        names = [list(sides)[number] for number in order]
        for name, (start, stop) in zip(names, _runs(parameters, sample, [sides[name] for name in names]), strict=True):
            parts[name].append(_piece(sample, start, stop))
    return parts


def _runs(parameters: p.SplitDataset, sample: Sample, shares: Sequence[float]) -> list[tuple[int, int]]:
    """The slices of each part of a sample, which has its share of those that are labelled.

    Those of folds leave no gap, which is taken from what they train on.
    """
    depth, gap = sample.shape[0], parameters.gap
    between = gap if parameters.folds is None else 0
    ignored = ignored_in(sample)
    labelled = np.arange(depth) if ignored is None else ignored.annotated_slices
    before = np.searchsorted(labelled, np.arange(depth + 1))  # labelled slices before each

    def count(start: int, stop: int) -> int:
        first, last = (max(0, min(end, depth)) for end in (start, stop))
        return int(before[last] - before[first])

    for wanted in range(len(labelled), 0, -1):  # as many as the gaps leave
        runs: list[tuple[int, int]] = []
        start = lost = 0
        for share in np.cumsum(shares)[:-1]:
            stop = int(np.searchsorted(before, round(share * wanted) + lost))
            lost += count(stop, stop + between)
            runs.append((start, stop))
            start = stop + between
        if len(labelled) - lost >= wanted:
            runs.append((start, depth))
            break
    else:
        runs = []
    trains = parameters.folds is None or all(count(0, start - gap) + count(stop + gap, depth) for start, stop in runs)
    if not runs or not all(count(start, stop) for start, stop in runs) or not trains:
        partly = "" if ignored is None else f", {len(labelled)} of them labelled"
        what = f"Sample {sample.name!r} has {depth} slices{partly}, too few for {len(shares)} parts with gaps of {gap}"
        raise ParameterError(what, "Choose a smaller --gap, or fewer parts.", "gap")
    return runs


def _piece(sample: Sample, start: int, stop: int) -> _Piece:
    box: Box = ((start, stop), (0, sample.shape[1]), (0, sample.shape[2]))
    return _Piece(sample, box, crop_name(sample.name, box))


def _whole(sample: Sample) -> Box:
    z, y, x = sample.shape
    return (0, z), (0, y), (0, x)


# ------------------------------------------------------------------------------------------------ writing


def _outputs(parameters: p.SplitDataset, parts: Mapping[str, Sequence[_Piece]]) -> dict[Path, list[_Piece]]:
    """What is in each file."""
    folder = parameters.out_dir
    if parameters.folds is None:
        return {folder / f"{name}.hdf5": list(pieces) for name, pieces in parts.items()}
    outputs: dict[Path, list[_Piece]] = {}
    for name, pieces in parts.items():
        others = [piece for other, found in parts.items() if other != name for piece in found]
        if parameters.by == "z":
            others = [piece for held_out in pieces for piece in _around(held_out, parameters.gap)]
        outputs[folder / f"{name}_train.hdf5"] = others
        outputs[folder / f"{name}_valid.hdf5"] = list(pieces)
    return outputs


def _around(held_out: _Piece, gap: int) -> Iterator[_Piece]:
    """What is left of a sample before and after a piece, without the slices next to it."""
    (start, stop), depth = held_out.box[0], held_out.sample.shape[0]
    for first, last in ((0, start - gap), (stop + gap, depth)):
        if first < last:
            yield _piece(held_out.sample, first, last)


def _write(
    dataset: Dataset, outputs: Mapping[Path, Sequence[_Piece]], total: int, overwrite: bool, context: Context
) -> None:
    copier = Copier(context, f"Dividing {dataset.path.name}", total)
    with ExitStack() as masks, datasets_together() as together:
        for path, pieces in outputs.items():
            masks.callback(_drop_masks, path)
            name = f"{dataset.name} {path.stem}"
            with new_dataset(path, name, dataset.n_labels, dataset.aliases, overwrite, together=together) as new:
                new.set_attributes(dataset.attributes)
                for piece in pieces:
                    copier.crop(new, piece.name, piece.sample, piece.box)


def _drop_masks(path: Path) -> None:
    """Remove the masks that no data set refers to: of a part that was replaced, or could not be."""
    if not path.exists():
        mask_file(path).unlink(missing_ok=True)
        return
    with suppress(DataError, ResourceError):  # they do no harm, and something else has failed before
        compact_masks(path)


def _summed_up(
    parameters: p.SplitDataset, dataset: Dataset, outputs: Mapping[Path, Sequence[_Piece]]
) -> tuple[dict[str, Any], Table]:
    """What each file gets, as facts and as a table; shares of labels are those of some slices."""
    everything = sum(prod(sample.shape) for sample in dataset.samples.values())
    rows = []
    for path, pieces in outputs.items():
        voxels = [prod(stop - start for start, stop in piece.box) for piece in pieces]
        fractions = [label_fractions(piece.sample, *piece.box[0]) for piece in pieces]
        shares = np.average(fractions, axis=0, weights=voxels)
        foreground = [f"{name} {share:.2%}" for name, share in zip(dataset.label_names, shares, strict=True)]
        names = ", ".join(piece.name for piece in pieces)
        rows.append((path.name, len(pieces), sum(voxels) / everything, ", ".join(foreground), names))
    contents = {path.name: [piece.name for piece in pieces] for path, pieces in outputs.items()}
    facts = {"file": str(parameters.file), "out_dir": str(parameters.out_dir), "contents": contents}
    return facts, Table("parts", ("part", "samples", "share", "foreground", "names"), rows)
