"""Scores of a segmentation: the numbers, what is matched with what, and what is refused."""

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

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import DataError, EngineError, ParameterError, Stopped, VolumeError
from deepscem_tui.engine.evaluation import evaluate as evaluation
from deepscem_tui.engine.evaluation.evaluate import evaluate
from deepscem_tui.engine.evaluation.metrics import ThresholdCurve, confusion
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.stop import Stop

DATA = Path(__file__).parents[2] / "shared" / "data" / "deepscem"
Samples = dict[str, list[npt.NDArray[Any]]]

TRUE = np.array([[[1, 1, 1, 1], [0, 0, 0, 0]]], np.uint8)
FOUND = np.array([[[1, 1, 1, 0], [1, 0, 0, 0]]], np.uint8)  # 3 hits, 1 false alarm, 1 miss
NONE = np.zeros_like(TRUE)


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.progressed: list[tuple[float, float]] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        self.progressed.append((done, total))


def dataset(path: Path, samples: Samples, kind: str = "label", aliases: tuple[str, ...] = ()) -> Path:
    """A data set whose samples have these labels or predictions."""
    n_labels = len(next(iter(samples.values()), []))
    with new_dataset(path, "test", n_labels, aliases=aliases) as made:
        for name, labels in samples.items():
            members = {f"{kind}_{index:04d}": label.dtype for index, label in enumerate(labels)}
            sample = made.add_sample(name, labels[0].shape, {"image": np.float16, **members})
            sample["image"][0 : len(labels[0])] = np.zeros(labels[0].shape, np.float16)
            for index, label in enumerate(labels):
                sample[f"{kind}_{index:04d}"][0 : len(label)] = label
    return path


def scores(reference: Path, segmentation: Path, report: Reporter | None = None, **options: Any) -> Result:
    parameters = p.Evaluate(reference=reference, segmentation=segmentation, **options)
    return evaluate(parameters, Context(report or Reporter()))


def rows(result: Result) -> list[dict[str, Any]]:
    return result.tables[0].as_dicts()


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no folder {DATA}")
def test_scores_equal_deepscem_s() -> None:
    report = Listener()
    result = scores(DATA / "dataset.hdf5", DATA / "prediction.hdf5", report)
    first, second = rows(result)[:2]
    assert (first["label"], first["sample"]) == ("boundary", "a")
    assert first["f1"] == pytest.approx(0.21014994, abs=1e-6)
    assert first["iou"] == pytest.approx(0.11741204, abs=1e-6)
    assert (second["label"], second["sample"]) == ("box", "a")
    assert second["f1"] == pytest.approx(0.26173425, abs=1e-6)
    assert second["iou"] == pytest.approx(0.15057208, abs=1e-6)
    assert any("'b'" in text for text in report.warnings)  # not predicted


def test_counts_and_scores_of_one_label(tmp_path: Path) -> None:
    result = scores(
        dataset(tmp_path / "true.hdf5", {"a": [TRUE]}, aliases=("mito",)),
        dataset(tmp_path / "found.hdf5", {"a": [FOUND]}, "prediction"),
    )
    expected = {"f1": 0.75, "iou": 0.6, "precision": 0.75, "recall": 0.75, "tp": 3, "fp": 1, "fn": 1}
    assert rows(result) == [{"label": "mito", "sample": name, **expected} for name in ("a", "all")]
    assert "0.7500" in result.summary


def test_totals_are_of_summed_counts_and_the_mean_is_over_labels(tmp_path: Path) -> None:
    big = np.ones((4, 5, 5), np.uint8)
    result = scores(
        dataset(tmp_path / "true.hdf5", {"a": [TRUE, TRUE], "b": [big, big]}),
        dataset(tmp_path / "found.hdf5", {"b": [big, 0 * big], "a": [FOUND, NONE]}, "prediction"),
    )
    table = {(row["label"], row["sample"]): row for row in rows(result)}
    names = list(dict.fromkeys(label for label, _ in table))
    assert names[2] == "mean"
    assert table[names[0], "all"]["f1"] == pytest.approx(2 * 103 / (2 * 103 + 1 + 1))
    assert table[names[1], "all"]["f1"] == 0
    assert table["mean", "all"]["f1"] == pytest.approx((2 * 103 / 208 + 0) / 2)
    assert table[names[1], "b"]["recall"] == 0


def test_an_absent_label_is_absent_and_does_not_count_in_the_mean(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    result = scores(
        dataset(tmp_path / "true.hdf5", {"a": [TRUE, NONE]}),
        dataset(tmp_path / "found.hdf5", {"a": [TRUE, FOUND]}, "prediction"),
        csv=table,
    )
    by_label = {(row["label"], row["sample"]): row for row in rows(result)}
    assert [row["f1"] for row in rows(result)] == [1.0, None, 1.0, None, 1.0]
    assert by_label["mean", "all"]["f1"] == 1.0
    assert result.tables[0].missing == "absent"
    assert "NaN" not in json.dumps(result.as_json())
    with table.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert list(written[0])[:4] == ["label", "sample", "f1", "iou"]
    assert [row["f1"] for row in written] == ["1.0", "absent", "1.0", "absent", "1.0"]
    assert written[1]["fp"] == "4"


@pytest.mark.parametrize(("threshold", "tp", "fp"), [(0.5, 2, 0), (0.2, 2, 1), (0.0, 2, 2)])
def test_probabilities_are_cut_at_the_threshold_and_masks_above_zero(
    tmp_path: Path, threshold: float, tp: int, fp: int
) -> None:
    true = np.array([[[1, 1, 0, 0]]], np.uint8)
    values = np.array([[[0.9, 0.6, 0.4, 0.1]]], np.float32)
    mask = np.array([[[255, 1, 0, 0]]], np.uint8)
    reference = dataset(tmp_path / "true.hdf5", {"a": [true]})
    row = rows(scores(reference, dataset(tmp_path / "p.hdf5", {"a": [values]}, "prediction"), threshold=threshold))[0]
    assert (row["tp"], row["fp"]) == (tp, fp)
    row = rows(scores(reference, dataset(tmp_path / "m.hdf5", {"a": [mask]}, "prediction"), threshold=threshold))[0]
    assert (row["tp"], row["fp"]) == (2, 0)


def test_slabs_do_not_change_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    true, found = (random.integers(0, 2, (7, 6, 5)).astype(np.uint8) for _ in range(2))
    paths = tmp_path / "t.npy", tmp_path / "f.npy"
    for path, array in zip(paths, (true, found), strict=True):
        np.save(path, array)
    whole = rows(scores(*paths))
    monkeypatch.setattr(evaluation, "_SLAB_VOXELS", 2 * 30)
    report = Listener()
    assert rows(scores(*paths, report)) == whole
    assert [done for done, _ in report.progressed] == [60, 120, 180, 210]
    assert whole[0]["tp"] == int((true & found).sum())


# ------------------------------------------------------------------------------------------------ files


def test_image_files_match_each_other_and_a_data_set_of_one_sample(tmp_path: Path) -> None:
    true, found = tmp_path / "true.tif", tmp_path / "found.tif"
    tifffile.imwrite(true, TRUE[0] * 255)
    tifffile.imwrite(found, FOUND[0] * 255)
    one = dataset(tmp_path / "one.hdf5", {"a": [TRUE]}, aliases=("mito",))
    assert rows(scores(true, found))[0]["tp"] == 3
    assert rows(scores(one, found))[0] == {**rows(scores(true, found))[0], "label": "mito", "sample": "a"}
    predicted = dataset(tmp_path / "predicted.hdf5", {"p": [FOUND]}, "prediction", aliases=("mito",))
    assert rows(scores(true, predicted))[0]["label"] == "mito"


def test_labels_can_be_compared_with_labels(tmp_path: Path) -> None:
    paths = [dataset(tmp_path / f"{name}.hdf5", {"a": [array]}) for name, array in (("one", TRUE), ("two", FOUND))]
    assert rows(scores(*paths))[0]["f1"] == 0.75


def test_the_table_is_not_written_over_without_being_asked(tmp_path: Path) -> None:
    paths = dataset(tmp_path / "t.hdf5", {"a": [TRUE]}), dataset(tmp_path / "f.hdf5", {"a": [FOUND]}, "prediction")
    table = tmp_path / "table.csv"
    table.write_text("mine")
    with pytest.raises(ParameterError, match="exists already"):
        scores(*paths, csv=table)
    assert table.read_text() == "mine"
    dry = scores(*paths, csv=table, overwrite=True, dry_run=True)
    assert dry.facts == {"samples": ["a"], "labels": ["label_0000"], "csv": str(table)}
    assert scores(*paths, csv=table, overwrite=True).facts["csv"] == str(table)
    assert table.read_text().startswith("label,sample,f1,iou,precision,recall,tp,fp,fn\n")
    with pytest.raises(ParameterError, match="itself"):
        scores(*paths, csv=paths[1], overwrite=True)


# ------------------------------------------------------------------------------------------------ refusals


def wrong(folder: Path, case: str) -> tuple[Path, Path]:
    true = dataset(folder / "true.hdf5", {"a": [TRUE], "b": [TRUE]})
    found: Samples = {
        "sample": {"a": [FOUND], "c": [FOUND]},
        "labels": {"a": [FOUND, FOUND]},
        "shape": {"a": [FOUND[:, :1]]},
    }.get(case, {"a": [FOUND]})
    if case == "image":
        tifffile.imwrite(folder / "found.tif", FOUND[0])
        return true, folder / "found.tif"
    if case == "missing":
        return true, folder / "absent.tif"
    if case == "kind":
        return dataset(folder / "pred.hdf5", {"a": [TRUE]}, "prediction"), true
    return true, dataset(folder / "found.hdf5", found, "prediction")


@pytest.mark.parametrize(
    ("case", "error", "words"),
    [
        ("sample", DataError, ["lacks 'c'", "'a', 'b'"]),
        ("labels", DataError, ["'a'", "1 labels", "2"]),
        ("shape", DataError, ["1 x 2 x 4", "1 x 1 x 4"]),
        ("image", DataError, ["one image", "2 samples", "'a', 'b'"]),
        ("missing", VolumeError, ["absent.tif"]),
        ("kind", DataError, ["'a'", "has no labels"]),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, case: str, error: type[EngineError], words: list[str]
) -> None:
    reference, segmentation = wrong(tmp_path, case)
    with pytest.raises(error) as raised:
        scores(reference, segmentation)
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_a_stop_is_honoured(tmp_path: Path) -> None:
    stop = Stop()
    stop.request("test")
    paths = dataset(tmp_path / "t.hdf5", {"a": [TRUE]}), dataset(tmp_path / "f.hdf5", {"a": [FOUND]}, "prediction")
    with pytest.raises(Stopped):
        evaluate(p.Evaluate(reference=paths[0], segmentation=paths[1]), Context(stop=stop))


# ------------------------------------------------------------------------------------------------ thresholds


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from([np.float16, np.float32, np.float64]),
    on_edges=st.booleans(),
)
def test_the_curve_is_what_counting_at_each_threshold_gives(
    shape: tuple[int, int, int], seed: int, kind: type[np.floating[Any]], on_edges: bool
) -> None:
    random = np.random.default_rng(seed)
    reference = random.random(shape) < 0.4
    values = (random.integers(-20, 280, shape) / 256 if on_edges else random.random(shape)).astype(kind)
    values[random.random(shape) < 0.05] = np.nan
    curve = ThresholdCurve.of(reference, values)
    for index, threshold in enumerate(ThresholdCurve.THRESHOLDS):
        count = confusion(reference, values > threshold)
        expected = (count.f1, count.precision, count.recall)
        if count.absent:
            assert curve.absent
        else:
            assert (curve.f1[index], curve.precision[index], curve.recall[index]) == pytest.approx(expected)


def test_probabilities_are_scored_at_every_threshold(tmp_path: Path) -> None:
    guess = np.array([[[0.9, 0.8, 0.3, 0.3], [0.25, 0.1, 0.0, 0.0]]], np.float32)
    result = scores(
        dataset(tmp_path / "true.hdf5", {"a": [TRUE], "b": [TRUE]}, aliases=("mito",)),
        dataset(tmp_path / "found.hdf5", {"a": [guess], "b": [guess]}, "prediction"),
    )
    (curve,) = result.as_json()["curve"]
    assert curve["label"] == "mito"
    assert curve["f1"][curve["threshold"].index(0.5)] == pytest.approx(rows(result)[-1]["f1"])
    (best,) = result.tables[1].as_dicts()
    assert best == {"label": "mito", "threshold": 0.25, "f1": 1.0, "precision": 1.0, "recall": 1.0}
    assert "best 1.0000 at 0.25" in result.summary
    json.dumps(result.as_json())


def test_masks_have_no_curve(tmp_path: Path) -> None:
    result = scores(
        dataset(tmp_path / "true.hdf5", {"a": [TRUE]}), dataset(tmp_path / "found.hdf5", {"a": [FOUND]}, "prediction")
    )
    assert "curve" not in result.facts
    assert len(result.tables) == 1


def test_the_mean_has_no_counts(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    result = scores(
        dataset(tmp_path / "true.hdf5", {"a": [TRUE, TRUE]}),
        dataset(tmp_path / "found.hdf5", {"a": [TRUE, FOUND]}, "prediction"),
        csv=table,
    )
    mean = rows(result)[-1]
    assert mean["f1"] == pytest.approx((1 + 0.75) / 2)
    assert [mean[key] for key in ("tp", "fp", "fn")] == [None] * 3
    assert table.read_text().splitlines()[-1].endswith(",,,")


def test_a_grey_reference_is_worth_a_warning(tmp_path: Path) -> None:
    report = Listener()
    tifffile.imwrite(tmp_path / "grey.tif", np.arange(8, dtype=np.uint8).reshape(1, 2, 4), photometric="minisblack")
    tifffile.imwrite(tmp_path / "mask.tif", 255 * TRUE, photometric="minisblack")
    scores(tmp_path / "grey.tif", tmp_path / "mask.tif", report)
    assert any("more than two values" in text for text in report.warnings)
    report.warnings.clear()
    scores(tmp_path / "mask.tif", tmp_path / "grey.tif", report)
    assert not report.warnings
