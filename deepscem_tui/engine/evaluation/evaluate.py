"""How well a segmentation agrees with its reference: one count of hits and errors for each label and sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import DataError, DatasetError, ParameterError
from deepscem_tui.engine.evaluation.metrics import Confusion, ThresholdCurve, confusion
from deepscem_tui.engine.objects.components import Watch
from deepscem_tui.engine.objects.physical import Voxels
from deepscem_tui.engine.objects.score_tables import ALL, Further, further_scores, further_tables, further_voxels, wide
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources.inputs import Labelled, LabelledSample, Sliced, open_labelled, same_file
from deepscem_tui.engine.system.files import refuse_existing, write_text

__all__ = ["ALL", "COLUMNS", "MEAN", "as_csv", "evaluate", "score_table"]

# The first four are DeepSCEM's.
COUNTS = ("tp", "fp", "fn")
COLUMNS = ("label", "sample", "f1", "iou", "precision", "recall", *COUNTS)
ABSENT = "absent"
MEAN = "mean"

# Voxels of one label that are compared at a time.
_SLAB_VOXELS = 2**24
_ROUNDED = 1e-3  # of a voxel's side, as files round it


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
        names = _names(reference, segmentation)[: len(pairs[0][0].labels)]
        written = {"csv": str(parameters.csv) if parameters.csv else None}
        if parameters.dry_run:
            counted = f"{words.counted(len(pairs), 'sample')} of {words.counted(len(names), 'label')}"
            facts = {"samples": [true.name for true, _ in pairs], "labels": list(names)} | written
            return Result(f"Would compare {counted}", facts)
        total = sum((prod(true.shape) + further_voxels(parameters, true.shape)) * len(names) for true, _ in pairs)
        watch = Watch(context, "Comparing", total)
        counts: dict[str, list[Confusion]] = {}
        curves: dict[str, list[ThresholdCurve | None]] = {}
        further: dict[str, list[Further]] = {}
        grey: list[str] = []
        for true, found in pairs:
            compared = [
                _compare(a, b, true, found, parameters.threshold, watch.advance)
                for a, b in zip(true.labels, found.labels, strict=True)
            ]
            counts[true.name] = [label.count for label in compared]
            curves[true.name] = [label.curve for label in compared]
            if parameters.objects or parameters.surfaces:
                further[true.name] = [
                    further_scores(parameters, name, (true, found), (a, b), watch)
                    for name, a, b in zip(names, true.labels, found.labels, strict=False)
                ]
            grey += [f"{name} of {true.name}" for name, label in zip(names, compared, strict=False) if label.grey]
    facts = written | _left_out(pairs, counts, context)
    if parameters.surfaces:
        _say_whose_voxels(pairs, context)
    if grey and parameters.instances not in ("reference", "both"):
        context.report.warning(
            f"{parameters.reference} has more than two values in {words.listed(grey)}: whatever is above 0 counts as "
            "the label. Is it an image instead of a mask?"
        )
    table = score_table(names, counts)
    tables = [table, *further_tables(parameters, names, further, ABSENT)]
    if parameters.csv is not None:
        write_text(parameters.csv, as_csv(wide(tables)))
        context.report.message(f"Wrote {parameters.csv}")
    summary = _summary(table, len(names), len(counts))
    overall = [_sum_of_curves(labels[index] for labels in curves.values()) for index in range(len(names))]
    if not any(overall):
        return Result(summary, facts, tables=tables)
    best = _best_table(names, overall)
    return Result(
        f"{summary} at threshold {parameters.threshold:g}; {_best_words(best)}",
        facts | {"curve": [_curve_facts(name, curve) for name, curve in zip(names, overall, strict=False) if curve]},
        tables=(*tables, best),
    )


def score_table(names: Sequence[str], counts: Mapping[str, Sequence[Confusion]]) -> Table:
    """The scores of each label and sample, of each label over all samples, and the mean over labels.

    Args:
        names: Of the labels.
        counts: For each sample one count a label.

    Returns:
        Rows of :data:`COLUMNS`; None where a label is absent. The mean is that of each score, over the labels that
        are not absent, without counts; with one label there is none.
    """
    rows = [
        _row(name, sample, labels[index]) for index, name in enumerate(names) for sample, labels in counts.items()
    ]  # fmt: skip
    totals = [_row(name, ALL, _sum(labels[index] for labels in counts.values())) for index, name in enumerate(names)]
    means: list[tuple[Any, ...]] = []
    if len(totals) > 1:
        present = [row for row in totals if row[2] is not None] or totals
        scores = list(zip(*present, strict=True))[2:6]
        means = [(MEAN, ALL, *(_mean(column) for column in scores), None, None, None)]
    return Table("scores", COLUMNS, [*rows, *totals, *means], missing=ABSENT, blank=COUNTS)


def as_csv(table: Table) -> str:
    """A table of scores as CSV text, with eight decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    missing = [table.stands_for_none(column) for column in table.columns]
    for row in table.rows:
        writer.writerow([_cell(*pair) for pair in zip(row, missing, strict=True)])
    return text.getvalue()


@dataclass(frozen=True)
class _Compared:
    """One label of a sample: its counts, those at every threshold if it has probabilities, and whether the reference
    is grey: has more than two values.
    """

    count: Confusion
    curve: ThresholdCurve | None
    grey: bool


def _compare(
    true: Sliced,
    found: Sliced,
    sample: LabelledSample,
    other: LabelledSample,
    threshold: float,
    advance: Callable[[int], None],
) -> _Compared:
    """Read one label of a sample once.

    Args:
        sample: Of the reference.
        other: Of the segmentation.
    """
    depth = max(sample.depth, other.depth)
    thickness = max(depth, _SLAB_VOXELS // prod(sample.shape[1:]) // depth * depth)
    count, curve, grey = Confusion(), None, False
    for z0 in range(0, sample.shape[0], thickness):
        z1 = min(z0 + thickness, sample.shape[0])
        reference, values, known = true[z0:z1], found[z0:z1], None
        for ignored in filter(None, (sample.ignored, other.ignored)):
            known = ignored[z0:z1] == 0 if known is None else known & (ignored[z0:z1] == 0)
        if known is not None:
            reference, values = reference[known], values[known]
        mask = reference > 0
        count += confusion(mask, _foreground(values, threshold))
        if values.dtype.kind == "f":
            curve = ThresholdCurve.of(mask, values) + curve
        grey = grey or (reference.size > 0 and bool((mask & (reference != reference.max())).any()))
        advance((z1 - z0) * prod(sample.shape[1:]))
    return _Compared(count, curve, grey)


def _left_out(
    pairs: Sequence[tuple[LabelledSample, LabelledSample]], counts: Mapping[str, Sequence[Confusion]], context: Context
) -> dict[str, Any]:
    """Say how much was not compared because nobody has annotated it; the share of each such sample."""
    shares = {
        true.name: 1 - counts[true.name][0].voxels / prod(true.shape) for true, found in pairs
        if true.ignored or found.ignored
    }  # fmt: skip
    for name, share in shares.items():
        context.report.message(f"{100 * share:.3g} % of the voxels of {name!r} are not labelled: they are left out")
    return {"left_out": shares} if shares else {}


def _say_whose_voxels(pairs: Sequence[tuple[LabelledSample, LabelledSample]], context: Context) -> None:
    """Warn where reference and segmentation say that voxels have another size: distances are in the reference's."""
    for true, found in pairs:
        one, other = (Voxels(sample.name, sample.voxel_size, sample.voxel_unit) for sample in (true, found))
        if one.known and other.known and not np.allclose(one.sides, other.sides, rtol=_ROUNDED):
            sizes = (f"{words.sizes(sample.voxel_size or ())} {sample.voxel_unit}" for sample in (true, found))
            context.report.warning(
                f"Voxels of {true.name!r} are {next(sizes)} in the reference and {next(sizes)} in the segmentation: "
                "distances are by the reference's"
            )


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
                "segmentation",
            )
        if true.shape != guess.shape:
            raise DataError(
                f"Sample {true.name!r} is {words.sizes(true.shape)} in {reference.path} "
                f"but {words.sizes(guess.shape)} in {segmentation.path}",
                "Shapes (Z, Y, X) must be the same.",
                "segmentation",
            )
    if not pairs:
        raise DatasetError(f"{segmentation.path} has no samples", "There is nothing to compare.")
    counts = {len(true.labels): true.name for true, _ in pairs}
    if len(counts) > 1:
        listed = ", ".join(f"{words.counted(count, 'label')} in {name!r}" for count, name in counts.items())
        raise DataError(
            f"The samples of {reference.path} have different numbers of labels: {listed}", "See: run check-dataset."
        )
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
            raise ParameterError(f"--csv is {name} itself, {path}", "Give the table a file of its own.", "csv")
    refuse_existing(path, parameters.overwrite)


def _sum_of_curves(curves: Iterable[ThresholdCurve | None]) -> ThresholdCurve | None:
    """Over the samples with probabilities; None if there are none."""
    total: ThresholdCurve | None = None
    for curve in curves:
        if curve is not None:
            total = curve + total
    return total


def _best_table(names: Sequence[str], curves: Sequence[ThresholdCurve | None]) -> Table:
    """The threshold with the highest F1 of each label, and of the mean over the labels that are present."""
    columns = ("label", "threshold", "f1", "precision", "recall")
    present = [curve for curve in curves if curve is not None and not curve.absent]
    rows: list[tuple[Any, ...]] = [
        (name, *_best(curve.f1), *curve.others_at_best)
        for name, curve in zip(names, curves, strict=False)
        if curve is not None and not curve.absent
    ]
    if len(present) > 1:
        rows.append((MEAN, *_best(np.mean([curve.f1 for curve in present], axis=0)), None, None))
    return Table("best_thresholds", columns, rows, blank=columns)


def _best(f1: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The threshold with the highest F1, and that F1."""
    index = int(np.argmax(f1))
    return float(ThresholdCurve.THRESHOLDS[index]), float(f1[index])


def _best_words(best: Table) -> str:
    if not best.rows:
        return "no label is in the reference"
    _, threshold, f1, *_ = best.rows[-1]
    return f"best {f1:.4f} at {threshold:.3g}"


def _curve_facts(name: str, curve: ThresholdCurve) -> dict[str, Any]:
    facts: dict[str, Any] = {"label": name, "threshold": [float(value) for value in ThresholdCurve.THRESHOLDS]}
    for key, values in (("f1", curve.f1), ("precision", curve.precision), ("recall", curve.recall)):
        facts[key] = None if curve.absent else [round(float(value), 6) for value in values]
    return facts


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


def _cell(value: Any, missing: str) -> Any:
    if value is None:
        return missing
    return round(value, 8) if isinstance(value, float) else value
