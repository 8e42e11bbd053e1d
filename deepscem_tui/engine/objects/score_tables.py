"""Scores beyond those of voxels in an evaluation: of single objects and of outlines; their tables."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.objects.cleaning import marked
from deepscem_tui.engine.objects.components import Mask, Watch, components
from deepscem_tui.engine.objects.given import Numbered, given_numbers
from deepscem_tui.engine.objects.physical import Voxels
from deepscem_tui.engine.objects.scores import IOUS, ObjectScore, score_objects
from deepscem_tui.engine.objects.scratch import open_scratch
from deepscem_tui.engine.objects.surface_distances import SURFACE_PASSES, SurfaceScore, score_surfaces
from deepscem_tui.engine.results import Table
from deepscem_tui.engine.sources.inputs import LabelledSample, Sliced

__all__ = ["Further", "further_scores", "further_tables", "further_voxels", "wide"]

ALL = "all"  # samples together

_MATCHED = ("tp", "fp", "fn", "precision", "recall", "f1", "mean_iou", "pq")
_OBJECTS = ("label", "sample", "iou", *_MATCHED)
_PARTITION = ("label", "sample", "reference_objects", "found_objects", "arand", "voi_split", "voi_merge")
_SURFACES = ("label", "sample", "unit", "hd95", "assd")


@dataclass(frozen=True)
class Further:
    """Further scores of one label of a sample; None for what was not wanted.

    Args:
        surfaces: None too where one of the two has no outline.
        unit: Of the distances.
    """

    objects: ObjectScore | None
    surfaces: SurfaceScore | None
    unit: str


def further_voxels(parameters: p.Evaluate, shape: Sequence[int]) -> int:
    """Voxels that are gone through for one label, for progress."""
    return prod(shape) * (3 * int(parameters.objects) + SURFACE_PASSES * int(parameters.surfaces))


def further_scores(
    parameters: p.Evaluate,
    name: str,
    pair: tuple[LabelledSample, LabelledSample],
    labels: tuple[Sliced, Sliced],
    watch: Watch,
) -> Further:
    """Score the objects and outlines of one label, as far as that is wanted.

    Args:
        name: Of the label.
        pair: The sample in the reference and in the segmentation.
        labels: Of the two.

    Raises:
        ResourceError: memory or disk do not suffice.
        Stopped: on request.
    """
    unknown = _unknown(pair)
    known = pair[0] if pair[0].voxel_size else pair[1]
    voxels = Voxels(pair[0].name, known.voxel_size, known.voxel_unit)
    masks = [marked(sample, label, parameters.threshold) for sample, label in zip(pair, labels, strict=True)]
    objects = surfaces = None
    if parameters.objects:
        folder = parameters.csv.parent if parameters.csv is not None else Path(tempfile.gettempdir())
        with ExitStack() as files:
            numbered: list[Numbered] = []
            for side, mask, label in zip(("reference", "segmentation"), masks, labels, strict=True):
                if parameters.instances in (side, "both"):
                    numbered.append(given_numbers(mask.shape, _sliced(label), watch))
                else:
                    ids = files.enter_context(open_scratch(mask.shape, folder))
                    found = components(_known(mask, unknown), parameters.connectivity, ids, watch)
                    numbered.append(Numbered(found.shape, len(found), found.read))
            ours, theirs = numbered
            # Objects of masks have nothing where nobody has annotated.
            left_out = None if unknown is None or parameters.instances == "none" else unknown.read
            objects = score_objects(ours, theirs, left_out, watch)
    if parameters.surfaces:
        what = f"label {name!r} of {pair[0].name!r}"
        surfaces = score_surfaces(masks[0], masks[1], unknown, voxels.sides, what, watch)
    return Further(objects, surfaces, voxels.length_unit)


def _sliced(label: Sliced) -> Callable[[int, int], npt.NDArray[Any]]:
    return lambda z0, z1: label[z0:z1]


def _unknown(pair: Sequence[LabelledSample]) -> Mask | None:
    """What of either nobody has annotated; None for nothing."""
    given = [sample.ignored for sample in pair if sample.ignored is not None]
    if not given:
        return None

    def read(z0: int, z1: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = np.any([ignored[z0:z1] != 0 for ignored in given], axis=0)
        return found

    return Mask(pair[0].shape, read)


def _known(mask: Mask, unknown: Mask | None) -> Mask:
    """A mask without what is not known."""
    if unknown is None:
        return mask
    return Mask(mask.shape, lambda z0, z1: mask.read(z0, z1) & ~unknown.read(z0, z1), mask.depth)


# ------------------------------------------------------------------------------------------------ tables


def further_tables(
    parameters: p.Evaluate, names: Sequence[str], found: Mapping[str, Sequence[Further]], missing: str
) -> list[Table]:
    """Tables of what was wanted: of each label and sample, then of each label over all samples.

    Args:
        names: Of the labels.
        found: For each sample one a label.
        missing: What stands for a score that there is none of.
    """
    tables = []
    if parameters.objects:
        by_label = [
            (name, {sample: labels[index].objects for sample, labels in found.items()})
            for index, name in enumerate(names)
        ]
        scores = [(name, sample, score) for name, of in by_label for sample, score in of.items()]
        scores += [(name, ALL, _together(of.values())) for name, of in by_label]
        matched: list[Sequence[Any]] = []
        whole: list[Sequence[Any]] = []
        for name, sample, score in scores:
            assert score is not None
            for index, iou in enumerate(IOUS):
                row = score.matched(index)
                matched.append((name, sample, iou, *(row[key] for key in _MATCHED)))
            whole.append((name, sample, score.reference, score.found, score.arand, score.voi_split, score.voi_merge))
        tables += [Table("objects", _OBJECTS, matched, missing), Table("partition", _PARTITION, whole, missing)]
    if parameters.surfaces:
        rows: list[Sequence[Any]] = [
            (name, sample, *_distances(labels[index]))
            for index, name in enumerate(names)
            for sample, labels in found.items()
        ]
        if len(found) > 1:
            rows += [(name, ALL, *_mean([row for row in rows if row[0] == name])) for name in names]
        else:
            rows += [(name, ALL, *row[2:]) for name in names for row in rows if row[0] == name]
        tables.append(Table("surfaces", _SURFACES, rows, missing))
    return tables


def _together(scores: Any) -> ObjectScore:
    total = ObjectScore()
    for score in scores:
        total = total + score
    return total


def _distances(found: Further) -> tuple[str, float | None, float | None]:
    if found.surfaces is None:
        return found.unit, None, None
    return found.unit, found.surfaces.hd95, found.surfaces.assd


def _mean(rows: Sequence[Sequence[Any]]) -> tuple[str | None, float | None, float | None]:
    """Of the samples' distances; none where their units differ."""
    units = {row[2] for row in rows}
    present = [row for row in rows if row[3] is not None]
    if len(units) > 1 or not present:
        return (units.pop() if len(units) == 1 else None), None, None
    hd95, assd = (float(np.mean([row[place] for row in present])) for place in (3, 4))
    return units.pop(), hd95, assd


def wide(tables: Sequence[Table]) -> Table:
    """All scores in one table, a row for each label and sample: those of voxels first, then the others."""
    scores, *others = tables
    columns, extra = list(scores.columns), []
    further: dict[tuple[Any, Any], dict[str, Any]] = {}
    for table in others:
        for row in table.as_dicts():
            label, sample = row.pop("label"), row.pop("sample")
            end = f"_{100 * row.pop('iou'):.0f}" if table.name == "objects" else ""
            start = "objects_" if table.name == "objects" else ""
            values = {f"{start}{key}{end}": value for key, value in row.items()}
            further.setdefault((label, sample), {}).update(values)
            extra += [key for key in values if key not in extra]
    rows = [(*row, *(further.get((row[0], row[1]), {}).get(key) for key in extra)) for row in scores.rows]
    return Table(scores.name, [*columns, *extra], rows, scores.missing, [*scores.blank, *extra])
