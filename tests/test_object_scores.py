"""Scores of objects and outlines: the same as scikit-image's and scipy's in memory, whatever the slabs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.metrics import adapted_rand_error, hausdorff_distance, variation_of_information
from test_dataset_actions import Heard

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset
from deepscem_tui.engine.datasets.ignoring import Ignored, write_ignored
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.evaluation.evaluate import evaluate
from deepscem_tui.engine.objects import components as slabwise
from deepscem_tui.engine.objects.components import Mask, Watch
from deepscem_tui.engine.objects.given import given_numbers
from deepscem_tui.engine.objects.scores import IOUS, ObjectScore, score_objects
from deepscem_tui.engine.objects.surface_distances import score_surfaces
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result

Array = npt.NDArray[Any]

SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 7), st.integers(2, 7))
SEEDS = st.integers(0, 2**32 - 1)


def divided(shape: tuple[int, int, int], seed: int, most: int) -> Array:
    """A random division into regions that are larger than voxels, with numbers that leave some out."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, most + 1, [-(-size // 2) for size in shape]) * 3
    return np.kron(coarse, np.ones((2, 2, 2), int))[tuple(slice(0, size) for size in shape)].astype(np.int32)


def score(true: Array, found: Array, unknown: Array | None = None, thickness: int = 2) -> ObjectScore:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabwise, "SLAB_VOXELS", thickness * true[0].size)
        watch = Watch(Context(), "", 1)
        sides = [given_numbers(array.shape, lambda z0, z1, array=array: array[z0:z1], watch) for array in (true, found)]
        return score_objects(*sides, None if unknown is None else (lambda z0, z1: unknown[z0:z1]), watch)


@settings(max_examples=80)
@given(SHAPES, SEEDS, st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_divisions_are_scored_as_scikit_image_scores_them(
    shape: tuple[int, int, int], seed: int, most: int, others: int, thickness: int
) -> None:
    true, found = divided(shape, seed, most), divided(shape, seed + 1, others)
    ours = score(true, found, thickness=thickness)
    if not true.any():
        assert (ours.arand, ours.voi_split, ours.voi_merge) == (None, None, None)
        return
    if np.count_nonzero(true) > np.unique(true[true > 0]).size:  # else there are no pairs of voxels
        error, _, _ = adapted_rand_error(true, found)
        assert ours.arand == pytest.approx(error, abs=1e-9)
    split, merge = variation_of_information(true, found, ignore_labels=(0,))
    assert (ours.voi_merge, ours.voi_split) == pytest.approx((merge, split), abs=1e-9)


@settings(max_examples=80)
@given(SHAPES, SEEDS, st.integers(1, 5), st.booleans())
def test_objects_are_matched_by_their_overlap(shape: tuple[int, int, int], seed: int, most: int, part: bool) -> None:
    random = np.random.default_rng(seed)
    true = divided(shape, seed, most)
    found = np.where(random.random(shape) < 0.8, true, divided(shape, seed + 1, most))
    unknown = random.random(shape) < 0.3 if part else np.zeros(shape, bool)
    ours = score(true, found, unknown)
    ids = [[n for n in np.unique(array[~unknown]) if n > 0] for array in (true, found)]
    assert (ours.reference, ours.found) == tuple(map(len, ids))
    for index, iou in enumerate(IOUS):
        overlaps = [
            ((true == a) & (found == b) & ~unknown).sum() / (((true == a) | (found == b)) & ~unknown).sum()
            for a in ids[0]
            for b in ids[1]
        ]
        hits = [overlap for overlap in overlaps if overlap > iou]
        row = ours.matched(index)
        assert (row["tp"], row["fp"], row["fn"]) == (len(hits), len(ids[1]) - len(hits), len(ids[0]) - len(hits))
        if ids[0]:
            assert row["f1"] == pytest.approx(2 * len(hits) / (len(ids[0]) + len(ids[1])))
            assert row["mean_iou"] == pytest.approx(np.mean(hits) if hits else 0)
            assert row["pq"] == pytest.approx(row["mean_iou"] * row["f1"])
        else:
            assert row["f1"] is None


def test_a_perfect_division_has_no_error() -> None:
    true = divided((4, 6, 6), 1, 4)
    ours = score(true, true)
    assert (ours.arand, ours.voi_split, ours.voi_merge) == pytest.approx((0, 0, 0))
    assert ours.matched(1)["pq"] == 1
    both = ours + ours
    assert (both.reference, both.arand, both.matched(0)["f1"]) == (2 * ours.reference, pytest.approx(0), 1)


def test_splits_and_mergers_are_told_apart() -> None:
    true = np.repeat([[[1, 1, 2, 2]]], 4, axis=1)
    halves = np.repeat([[[1, 3, 2, 2]]], 4, axis=1)
    ours = score(true, halves)
    assert (ours.voi_split, ours.voi_merge) == pytest.approx((0.5, 0))
    ours = score(halves, true)
    assert (ours.voi_split, ours.voi_merge) == pytest.approx((0, 0.5))


def test_many_rows_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    true, found = divided((9, 12, 12), 3, 9), divided((9, 12, 12), 4, 9)
    whole = score(true, found)
    monkeypatch.setattr("deepscem_tui.engine.objects.scores._HELD", 3)
    assert score(true, found, thickness=1) == whole


# ------------------------------------------------------------------------------------------------ outlines


def outline(mask: Array) -> Array:
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def surfaces(true: Array, found: Array, sides: tuple[float, float, float], unknown: Array | None = None) -> Any:
    masks = [Mask(array.shape, lambda z0, z1, array=array: array[z0:z1]) for array in (true, found)]
    hidden = None if unknown is None else Mask(true.shape, lambda z0, z1: unknown[z0:z1])
    return score_surfaces(*masks, hidden, sides, "a label", Watch(Context(), "", 1))


@settings(max_examples=60)
@given(SHAPES, SEEDS, st.sampled_from([(1.0, 1.0, 1.0), (3.5, 1.0, 0.7)]))
def test_distances_between_outlines(shape: tuple[int, int, int], seed: int, sides: tuple[float, float, float]) -> None:
    random = np.random.default_rng(seed)
    true, found = (random.random(shape) < share for share in (0.4, 0.5))
    ours = surfaces(true, found, sides)
    points = [np.argwhere(outline(mask)) * sides for mask in (true, found)]
    if not all(len(some) for some in points):
        assert ours is None
        return
    there, back = (cKDTree(points[1 - i]).query(points[i])[0] for i in range(2))
    assert ours.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5, abs=1e-5)
    assert ours.assd == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)), rel=1e-5)
    if sides == (1, 1, 1):
        assert ours.hd95 <= hausdorff_distance(outline(true), outline(found)) + 1e-5


def test_what_is_not_known_has_no_outline() -> None:
    true, found, unknown = (np.zeros((1, 9, 20), bool) for _ in range(3))
    true[0, 2:7, 2:12] = True
    found[0, 2:7, 2:9] = True
    unknown[0, :, 9:] = True
    assert surfaces(true, found, (1, 1, 1)).hd95 > 1
    for inside in (True, False):  # what is marked where nobody knows says nothing
        true[unknown] = inside
        ours = surfaces(true, found, (1, 1, 1), unknown)
        assert (ours.hd95, ours.assd) == (0, 0)
    unknown[0, :, 1:] = True
    assert surfaces(true, found, (1, 1, 1), unknown) is None


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.objects.surface_distances.available_memory", lambda: 1000)
    mask = np.zeros((5, 9, 9), bool)
    mask[1:4, 1:8, 1:8] = True
    with pytest.raises(ResourceError, match="5 x 9 x 9 voxels"):
        surfaces(mask, mask, (1, 1, 1))


# ------------------------------------------------------------------------------------------------ the action


def dataset(path: Path, kind: str, arrays: list[Array]) -> Path:
    about = {"voxel_size": (30.0, 8.0, 8.0), "voxel_unit": "nm"}
    with new_dataset(path, "test", 1, aliases=("mito",)) as made:
        for name, array in zip("ab", arrays, strict=False):
            sample = made.add_sample(name, array.shape, {f"{kind}_0000": array.dtype}, about)
            sample[f"{kind}_0000"][0 : len(array)] = array
    return path


def scores(reference: Path, segmentation: Path, **options: Any) -> Result:
    return evaluate(p.Evaluate(reference=reference, segmentation=segmentation, **options), Context())


TRUE = np.zeros((4, 12, 12), np.uint8)
TRUE[1:3, 1:5, 1:5] = TRUE[1:3, 1:5, 7:11] = 1
FOUND = TRUE.copy()
FOUND[1:3, 1:5, 7:11] = 0
FOUND[1:3, 1:5, 7:10] = 1  # three quarters
FOUND[1:3, 8:11, 1:4] = 1  # a false one


def test_tables_and_csv_have_the_scores_of_each_sample_and_of_all(tmp_path: Path) -> None:
    reference = dataset(tmp_path / "t.hdf5", "label", [TRUE, TRUE])
    segmentation = dataset(tmp_path / "p.hdf5", "prediction", [FOUND, TRUE])
    result = scores(reference, segmentation, objects=True, surfaces=True, csv=tmp_path / "s.csv")
    document = result.as_json()
    matched = {(row["sample"], row["iou"]): row for row in document["objects"]}
    assert [matched["a", 0.5][key] for key in ("tp", "fp", "fn")] == [2, 1, 0]
    assert [matched["a", 0.75][key] for key in ("tp", "fp", "fn")] == [1, 2, 1]  # by more than 0.75
    assert matched["a", 0.5]["mean_iou"] == pytest.approx((1 + 0.75) / 2)
    assert [matched["all", 0.5][key] for key in ("tp", "fp", "fn")] == [4, 1, 0]
    assert {row["sample"]: row["reference_objects"] for row in document["partition"]} == {"a": 2, "b": 2, "all": 4}
    distances = {row["sample"]: row for row in document["surfaces"]}
    assert (distances["b"]["hd95"], distances["b"]["unit"]) == (0, "µm")
    assert distances["all"]["assd"] == pytest.approx(distances["a"]["assd"] / 2)
    with (tmp_path / "s.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert list(written[0])[:9] == ["label", "sample", "f1", "iou", "precision", "recall", "tp", "fp", "fn"]
    assert [row["objects_fp_75"] for row in written] == ["2", "0", "2"]
    assert float(written[0]["arand"]) == pytest.approx(document["partition"][0]["arand"], abs=1e-8)
    assert float(written[0]["hd95"]) == pytest.approx(distances["a"]["hd95"])
    json.dumps(document)
    assert scores(reference, segmentation).tables[0].as_dicts() == document["scores"]


def test_the_reference_may_hold_numbers(tmp_path: Path) -> None:
    touching = np.zeros((2, 6, 9), np.uint16)
    touching[:, 1:5, 1:4], touching[:, 1:5, 4:8] = 700, 20
    tifffile.imwrite(tmp_path / "ids.tif", touching, photometric="minisblack")
    tifffile.imwrite(tmp_path / "mask.tif", (touching > 0).astype(np.uint8), photometric="minisblack")
    both = tmp_path / "ids.tif", tmp_path / "mask.tif"
    (whole, _, *_) = scores(*both, objects=True, instances="reference").as_json()["objects"]
    assert [whole[key] for key in ("tp", "fp", "fn")] == [1, 0, 1]  # the larger is more than half of what was found
    (whole, *_) = scores(both[0], both[0], objects=True, instances="both").as_json()["objects"]
    assert (whole["tp"], whole["pq"]) == (2, 1)
    with pytest.raises(ValueError, match="--objects"):
        p.Evaluate(reference=both[0], segmentation=both[1], instances="both")


def test_what_is_not_labelled_is_left_out(tmp_path: Path) -> None:
    reference = dataset(tmp_path / "t.hdf5", "label", [TRUE])
    with change_dataset(reference) as changed:
        write_ignored(changed, "a", (((0, 4), (0, 6), (0, 12)),), None)
    found = dataset(tmp_path / "p.hdf5", "prediction", [FOUND])
    (row, *_) = scores(reference, found, objects=True, surfaces=True).as_json()["objects"]
    assert [row[key] for key in ("tp", "fp", "fn")] == [2, 0, 0]


@pytest.mark.parametrize(
    ("options", "most"),
    [({"objects": True}, 2), ({"surfaces": True}, 2), ({"objects": True, "surfaces": True}, 4)],
)
def test_what_is_not_labelled_is_read_as_often_as_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], most: int
) -> None:
    reference = dataset(tmp_path / "t.hdf5", "label", [TRUE])
    with change_dataset(reference) as changed:
        write_ignored(changed, "a", (((0, 4), (0, 6), (0, 12)),), None)
    found = dataset(tmp_path / "p.hdf5", "prediction", [FOUND])
    slices: list[int] = []
    real = Ignored.__getitem__

    def read(self: Ignored, key: Any) -> Any:
        values = real(self, key)
        slices.append(len(values))
        return values

    monkeypatch.setattr(Ignored, "__getitem__", read)
    scores(reference, found)
    voxel_by_voxel = sum(slices)
    slices.clear()
    scores(reference, found, **options)
    assert sum(slices) - voxel_by_voxel == most * len(TRUE)


@pytest.mark.parametrize("found", [FOUND, 0 * FOUND])
def test_progress_reaches_its_end_with_the_last_distances(tmp_path: Path, found: Array) -> None:
    told: list[tuple[float, float]] = []

    class Told(Reporter):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            told.append((done, total))

    reference = dataset(tmp_path / "t.hdf5", "label", [TRUE])
    segmentation = dataset(tmp_path / "p.hdf5", "prediction", [found])
    asked = p.Evaluate(reference=reference, segmentation=segmentation, objects=True, surfaces=True)
    evaluate(asked, Context(Told()))
    done = [done / total for done, total in told]
    assert done == sorted(done)
    assert done[-1] == 1
    assert done.count(1) == 1
    assert done[-2] < 0.8  # one way of the distances is left


def test_a_label_that_is_not_there_has_no_scores(tmp_path: Path) -> None:
    reference = dataset(tmp_path / "t.hdf5", "label", [0 * TRUE])
    found = dataset(tmp_path / "p.hdf5", "prediction", [FOUND])
    document = scores(reference, found, objects=True, surfaces=True).as_json()
    assert document["objects"][0]["fp"] == 3
    assert [document["objects"][0]["f1"], document["partition"][0]["arand"], document["surfaces"][0]["hd95"]] == [
        None
    ] * 3


def test_voxels_of_another_size_are_told_of(tmp_path: Path) -> None:
    reference = dataset(tmp_path / "t.hdf5", "label", [TRUE])
    found = dataset(tmp_path / "p.hdf5", "prediction", [FOUND])
    heard = Heard()
    evaluate(p.Evaluate(reference=reference, segmentation=found, surfaces=True), Context(heard))
    assert not heard.warnings
    with change_dataset(found) as changed:
        changed.set_attributes({"voxel_size": (1.0, 1.0, 1.0), "voxel_unit": "nm"}, "a")
    heard = Heard()
    evaluate(p.Evaluate(reference=reference, segmentation=found, surfaces=True), Context(heard))
    (warning,) = heard.warnings
    assert "distances are by the reference's" in warning
