"""Overlaps between two data sets: told from noted origins and from voxels, and never where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.dataset_actions.copying import crop_sample
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.datasets.leaks import Overlap, find_overlaps
from deepscem_tui.engine.phantom import make_phantom
from deepscem_tui.engine.stop import Stop


def volume(seed: int, shape: tuple[int, int, int] = (40, 100, 120)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def dataset(path: Path, attributes: Mapping[str, Any] | None = None, **images: np.ndarray) -> Path:
    with new_dataset(path, path.stem, 0) as made:
        for name, image in images.items():
            sample = made.add_sample(name, image.shape, {"image": image.dtype}, attributes)
            sample["image"][0 : len(image)] = image
    return path


def overlaps(one: Path, other: Path) -> list[Overlap]:
    with open_dataset(one) as first, open_dataset(other) as second:
        return find_overlaps(first, second, Stop())


def test_crops_that_overlap_are_found_by_their_voxels(tmp_path: Path) -> None:
    """At any offset, normalised otherwise, stored otherwise, and among samples that have nothing to do with it."""
    whole = volume(0, (60, 200, 210))
    first = dataset(tmp_path / "a.hdf5", x=volume(1), part=whole[:40, :150], y=volume(2))
    crop = whole[31:, 57:, 13:203]
    second = dataset(tmp_path / "b.hdf5", u=volume(3), crop=((crop - 0.2) * 1.7).astype(np.float32))
    assert overlaps(first, second) == [Overlap("part", "crop", ((31, 40), (57, 150), (13, 203)), False)]
    third = dataset(tmp_path / "c.hdf5", again=whole[3:9, 20:120, 30:140], apart=whole[40:])
    assert overlaps(first, third) == [Overlap("part", "again", ((3, 9), (20, 120), (30, 140)), True)]


def test_large_data_are_looked_through_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.datasets.leaks._MOST_VOXELS", 100_000)
    whole = volume(0, (60, 80, 90))
    first, second = dataset(tmp_path / "a.hdf5", a=whole[:40]), dataset(tmp_path / "b.hdf5", b=whole[30:])
    assert [overlap.box[0] for overlap in overlaps(first, second)] == [(30, 40)]


def test_separate_data_share_nothing(tmp_path: Path) -> None:
    """Neither noise, nor cell-like volumes, nor patterns and even areas that are alike everywhere."""
    y, x = np.ogrid[:100, :120]
    even = np.zeros((4, 100, 120), np.float32)
    slope = np.broadcast_to((x / 120 + 0 * y).astype(np.float32), even.shape)
    first = dataset(tmp_path / "a.hdf5", noise=volume(0), even=even, slope=slope)
    second = dataset(tmp_path / "b.hdf5", other=volume(1), black=even, ramp=slope)
    assert overlaps(first, second) == []
    cells = (make_phantom((8, 160, 160), seed).image.astype(np.float16) / 255 for seed in (1, 2))
    assert overlaps(*(dataset(tmp_path / f"{i}.hdf5", cell=cell) for i, cell in enumerate(cells))) == []


def test_crops_are_found_by_their_origin_however_thin(tmp_path: Path) -> None:
    path = dataset(tmp_path / "a.hdf5", cell=volume(0, (8, 30, 30)))
    for name, z in (("one", (0, 5)), ("two", (4, 8)), ("three", (5, 8))):
        crop_sample(p.CropSample(file=path, sample="cell", z=z, y=(2, 20), name=name), Context())
    crops = {}
    with open_dataset(path) as made:
        for name in ("one", "two", "three"):
            sample = made.sample(name)
            crops[name] = dataset(tmp_path / f"{name}.hdf5", sample.attributes, **{name: np.asarray(sample.image)})
    assert overlaps(crops["one"], crops["two"]) == [Overlap("one", "two", ((4, 5), (0, 18), (0, 30)), False)]
    assert overlaps(crops["one"], crops["three"]) == []


def test_a_name_alone_is_no_origin(tmp_path: Path) -> None:
    one = dataset(tmp_path / "a.hdf5", {"source": "stack.tif"}, cell=volume(0, (4, 20, 20)))
    other = dataset(tmp_path / "b.hdf5", {"source": "stack.tif"}, cell=volume(1, (4, 20, 20)))
    assert overlaps(one, other) == []
    same = dataset(tmp_path / "c.hdf5", {"source": "stack.tif"}, cell=volume(0, (4, 20, 20)) / 2)
    assert [overlap.whole for overlap in overlaps(one, same)] == [True]
