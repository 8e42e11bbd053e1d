"""A mask beside a data set that is replaced and killed anywhere: what is left out is as before or as it shall be."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cases import SHAPE, copy, voxels
from kills import Driver, killed

from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.datasets.ignoring import ignored_in, mask_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

KILLS = 10


def ignored(file: Path) -> np.ndarray:
    """What of the sample is left out, bool (Z, Y, X)."""
    with open_dataset(file) as dataset:
        found = ignored_in(dataset.sample("a"))
        return np.zeros(SHAPE, bool) if found is None else found[:] != 0


def masks(file: Path) -> int:
    """How many there are in the file of masks."""
    if not mask_file(file).exists():
        return 0
    with open_dataset(mask_file(file)) as found:
        return len(found.samples)


@pytest.mark.parametrize("first", [False, True])
def test_killed_anywhere_a_mask_is_the_old_one_or_the_new_one(
    first: bool, template: Path, tmp_path: Path, driver: Driver, times: int
) -> None:
    """The first mask of a data set, whose file has to be made, and one that replaces another."""
    before = copy(template, tmp_path / "before")
    wanted = [voxels(seed) > 0.6 for seed in (5, 6)]
    for number, mask in enumerate(wanted):
        np.save(before / f"mask{number}.npy", mask.astype(np.uint8))
    asked = {"action": "set-labelled", "parameters": {"file": "set.hdf5", "sample": "a", "ignore_mask": "mask1.npy"}}
    if not first:
        driver.whole(
            folder=before, action="set-labelled", parameters=asked["parameters"] | {"ignore_mask": "mask0.npy"}
        )
    old, new = ignored(before / "set.hdf5"), wanted[1]
    ready = driver.whole(folder=copy(before, tmp_path / "whole"), count=True, **asked)
    assert np.array_equal(ignored(tmp_path / "whole" / "set.hdf5"), new)
    changed, dead = 0, 0
    for number in range(KILLS * times):
        folder = copy(before, tmp_path / str(number))
        file, cut = folder / "set.hdf5", int((number + 0.5) * ready["count"] / (KILLS * times))
        dead += killed(driver.ask(folder=folder, at=cut, **asked))
        found = ignored(file)
        changed += np.array_equal(found, new)
        assert np.array_equal(found, new) or np.array_equal(found, old), cut
        driver.whole(folder=folder, **asked)
        assert np.array_equal(ignored(file), new), cut
        driver.whole(folder=folder, action="save-dataset", parameters={"file": file, "out": file, "overwrite": True})
        assert masks(file) == 1, cut
        assert np.array_equal(ignored(file), new), cut
        shutil.rmtree(folder)
    assert dead >= KILLS * times // 2
    assert 0 < changed < KILLS * times
