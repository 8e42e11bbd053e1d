"""How well a segmentation agrees with its reference: one count of hits and errors for each label and sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import DataError, DatasetError, ParameterError
from deepscem_tui.engine.files import refuse_existing, write_text
from deepscem_tui.engine.metrics import Confusion, confusion
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources import Labelled, LabelledSample, open_labelled, same_file

__all__ = ["COLUMNS", "as_csv", "evaluate", "score_table"]

# The first four are DeepSCEM's.
COLUMNS = ("label", "sample", "f1", "iou", "precision", "recall", "tp", "fp", "fn")
ABSENT = "absent"
ALL, MEAN = "all", "mean"

# Voxels of one label that are compared at a time.
_SLAB_VOXELS = 2**24


def evaluate(parameters: p.Evaluate, context: Context) -> Result:
    """Compare a segmentation with its reference, slab by slab.

    Raises:
        ParameterError: the CSV file exists or is one of the inputs.
        DataError: a file cannot be read, or the two do not belong together: samples, shapes, numbers of labels.
        Stopped: on request.
    """
    _check_csv(parameters)
    with ExitStack() as files:
        reference = files.enter_context(open_labelled(parameters.reference, "labels"))
        segmentation = files.enter_context(open_labelled(parameters.segmentation, "predictions"))
        pairs = _matched(reference, segmentation, context)
        names = _names(reference, segmentation)
        if parameters.dry_run:
            return Result(
                f"Would compare {words.counted(len(pairs), 'sample')} of {words.counted(len(names), 'label')}"
            )
        total = sum(prod(true.shape) * len(names) for true, _ in pairs)
        counts: dict[str, list[Confusion]] = {}
        done = 0

        def advance(voxels: int) -> None:
            nonlocal done
            context.stop.check()
            done += voxels
            context.report.progress("Comparing", done, total, "voxels")

        for true, found in pairs:
            counts[true.name] = _compare(true, found, parameters.threshold, advance)
    table = score_table(names, counts)
    if parameters.csv is not None:
        write_text(parameters.csv, as_csv(table))
        context.report.message(f"Wrote {parameters.csv}")
    return Result(_summary(table, len(names), len(counts)), tables=(table,))


def score_table(names: Sequence[str], counts: Mapping[str, Sequence[Confusion]]) -> Table:
    """The scores of each label and sample, of each label over all samples, and the mean over labels.

    Args:
        names: Of the labels.
        counts: For each sample one count a label.

    Returns:
        Rows of :data:`COLUMNS`; None where a label is absent. The mean is that of each column, over the labels that
        are not absent; with one label there is none.
    """
    rows = [
        _row(name, sample, labels[index]) for index, name in enumerate(names) for sample, labels in counts.items()
    ]  # fmt: skip
    totals = [_row(name, ALL, _sum(labels[index] for labels in counts.values())) for index, name in enumerate(names)]
    means: list[tuple[Any, ...]] = []
    if len(totals) > 1:
        present = [row for row in totals if row[2] is not None] or totals
        columns = list(zip(*present, strict=True))[2:]
        means = [(MEAN, ALL, *(_mean(column) for column in columns))]
    return Table("scores", COLUMNS, [*rows, *totals, *means], missing=ABSENT)


def as_csv(table: Table) -> str:
    """A score table as CSV text, scores with eight decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _compare(
    true: LabelledSample, found: LabelledSample, threshold: float, advance: Callable[[int], None]
) -> list[Confusion]:
    """Counts for each label of a sample."""
    depth = max(true.depth, found.depth)
    thickness = max(depth, _SLAB_VOXELS // prod(true.shape[1:]) // depth * depth)
    counts = []
    for a, b in zip(true.labels, found.labels, strict=True):
        parts = []
        for z0 in range(0, true.shape[0], thickness):
            z1 = min(z0 + thickness, true.shape[0])
            parts.append(confusion(a[z0:z1] > 0, _foreground(b[z0:z1], threshold)))
            advance((z1 - z0) * prod(true.shape[1:]))
        counts.append(_sum(parts))
    return counts


def _foreground(values: npt.NDArray[Any], threshold: float) -> npt.NDArray[np.bool_]:
    """Masks above 0, probabilities above the threshold."""
    result: npt.NDArray[np.bool_] = values > (threshold if values.dtype.kind == "f" else 0)
    return result


def _matched(
    reference: Labelled, segmentation: Labelled, context: Context
) -> list[tuple[LabelledSample, LabelledSample]]:
    """The samples of both, in pairs.

    Raises:
        DataError: something has no partner, or partners differ in shape or number of labels.
    """
    there, found = reference.samples, segmentation.samples
    if (reference.single or segmentation.single) and len(there) == len(found) == 1:
        pairs = [(next(iter(there.values())), next(iter(found.values())))]
    elif reference.single or segmentation.single:
        several, one = (segmentation, reference) if reference.single else (reference, segmentation)
        raise DataError(
            f"{one.path} is one image, but {several.path} has {words.counted(len(several.samples), 'sample')}: "
            f"{words.listed(several.samples)}",
            "Compare data sets, or a data set of one sample with an image.",
        )
    else:
        strange = [name for name in found if name not in there]
        if strange:
            raise DataError(
                f"{reference.path} lacks {words.listed(strange)} of {segmentation.path}",
                f"Samples are matched by name; the reference has {words.listed(there)}.",
            )
        left = [name for name in there if name not in found]
        if left:
            context.report.warning(f"Not in {segmentation.path}, so left out: {words.listed(left)}")
        pairs = [(there[name], found[name]) for name in found]
    for true, guess in pairs:
        if len(true.labels) != len(guess.labels):
            raise DataError(
                f"Sample {true.name!r} has {len(true.labels)} labels in {reference.path} "
                f"but {len(guess.labels)} in {segmentation.path}",
                "Both must have the same labels in the same order.",
            )
        if true.shape != guess.shape:
            raise DataError(
                f"Sample {true.name!r} is {words.sizes(true.shape)} in {reference.path} "
                f"but {words.sizes(guess.shape)} in {segmentation.path}",
                "Shapes (Z, Y, X) must be the same.",
            )
    if not pairs:
        raise DatasetError(f"{segmentation.path} has no samples", "There is nothing to compare.")
    return pairs


def _names(reference: Labelled, segmentation: Labelled) -> Sequence[str]:
    """What the labels are called: as in the data set, where there is one."""
    return segmentation.label_names if reference.single else reference.label_names


def _check_csv(parameters: p.Evaluate) -> None:
    path = parameters.csv
    if path is None:
        return
    for name, other in (("REFERENCE", parameters.reference), ("SEGMENTATION", parameters.segmentation)):
        if same_file(path, other):
            raise ParameterError(f"--csv is {name} itself, {path}", "Give the table a file of its own.")
    refuse_existing(path, parameters.overwrite)


def _row(label: str, sample: str, count: Confusion) -> tuple[Any, ...]:
    return (label, sample, count.f1, count.iou, count.precision, count.recall, count.tp, count.fp, count.fn)


def _sum(counts: Any) -> Confusion:
    total, *rest = counts
    for count in rest:
        total = total + count
    assert isinstance(total, Confusion)
    return total


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _summary(table: Table, n_labels: int, n_samples: int) -> str:
    f1 = table.rows[-1][2]
    score = ABSENT if f1 is None else f"{f1:.4f}"
    of = f"{n_samples} sample{'s' if n_samples != 1 else ''}"
    return f"Mean F1 of {n_labels} labels, {of}: {score}" if n_labels > 1 else f"F1, {of}: {score}"


def _cell(value: Any) -> Any:
    if value is None:
        return ABSENT
    return round(value, 8) if isinstance(value, float) else value
