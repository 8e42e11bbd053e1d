"""Confusion counts and the scores made from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepscem_tui.engine.evaluation.metrics import Confusion, confusion

DEEPSCEM = Path(__file__).parents[2] / "shared" / "data" / "deepscem"


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 40, 999), (0, 4, 4)])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32, ">u2"])
def test_counts_are_those_of_the_definition(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((2, *shape)) < 0.4) * np.array(200).astype(dtype)
    found = confusion(a, b)
    true, said = a != 0, b != 0
    assert found == Confusion(
        int((true & said).sum()), int((~true & said).sum()), int((true & ~said).sum()), int((~true & ~said).sum())
    )
    assert all(type(count) is int for count in (found.tp, found.fp, found.fn, found.tn))


def test_foreground_values_need_not_be_equal() -> None:
    assert confusion(np.array([1, 2, 0], np.uint8), np.array([2, 1, 255], np.uint8)) == Confusion(2, 1, 0, 0)


def test_a_view_that_is_not_contiguous_counts_the_same() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, (2, 8, 200, 300), dtype=np.uint8)
    whole = confusion(a[:, ::2, 5:-3], b.transpose(0, 1, 2)[:, ::2, 5:-3])
    assert whole == confusion(a[:, ::2, 5:-3].copy(), b[:, ::2, 5:-3].copy())


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=50), st.integers(0, 50))
def test_slabs_add_up(pairs: list[tuple[bool, bool]], at: int) -> None:
    a, b = np.array(pairs, np.bool_).reshape(-1, 2).T
    assert confusion(a[:at], b[:at]) + confusion(a[at:], b[at:]) == confusion(a, b)


@pytest.mark.parametrize(
    ("count", "f1", "iou", "precision", "recall"),
    [
        (Confusion(8, 2, 8, 82), 8 / 13, 4 / 9, 0.8, 0.5),
        (Confusion(5, 0, 0, 5), 1.0, 1.0, 1.0, 1.0),
        (Confusion(0, 0, 4, 6), 0.0, 0.0, 0.0, 0.0),  # present, nothing segmented
        (Confusion(0, 3, 0, 7), None, None, None, None),  # absent, something segmented
        (Confusion(0, 0, 0, 10), None, None, None, None),  # absent, nothing segmented
        (Confusion(), None, None, None, None),
    ],
)
def test_scores(
    count: Confusion, f1: float | None, iou: float | None, precision: float | None, recall: float | None
) -> None:
    assert (count.f1, count.iou, count.precision, count.recall) == (f1, iou, precision, recall)
    assert count.absent == (f1 is None)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        confusion(np.zeros((2, 3)), np.zeros((3, 2)))


@pytest.mark.skipif(not DEEPSCEM.is_dir(), reason="../shared/data/deepscem is not there")
@pytest.mark.parametrize(("label", "f1", "iou"), [(0, 0.21014994, 0.11741204), (1, 0.26173425, 0.15057208)])
def test_scores_are_those_of_deepscem(label: int, f1: float, iou: float) -> None:
    with h5py.File(DEEPSCEM / "dataset.hdf5") as true, h5py.File(DEEPSCEM / "prediction.hdf5") as found:
        count = confusion(true[f"a/label_{label:04}"][:], found[f"a/prediction_{label:04}"][:] > 0)
    assert (count.f1, count.iou) == (pytest.approx(f1, abs=1e-6), pytest.approx(iou, abs=1e-6))


def test_tensorflow_is_not_imported() -> None:
    code = (
        "import sys, deepscem_tui.engine.evaluation.metrics; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
