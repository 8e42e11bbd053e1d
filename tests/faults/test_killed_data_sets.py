"""Changes of data sets that are killed anywhere: the old state or the new one, and nothing in the way of the next."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from cases import CASES, copy, digest, read_all, state
from kills import Driver, killed

from deepscem_tui.engine.datasets.dataset import change_dataset

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

KILLS = 20  # of each case, three quarters of them at calls that change the disk, the others at any time


@pytest.mark.parametrize("name", CASES)
def test_killed_anywhere_it_is_as_before_or_done(
    name: str, template: Path, tmp_path: Path, driver: Driver, times: int
) -> None:
    case = CASES[name]
    old, whole = state(template), copy(template, tmp_path / "whole")
    ready = driver.whole(folder=whole, action=case.action, parameters=case.parameters, count=True)
    new = state(whole)
    assert new != old
    seen, dead = [], 0
    for number, cut in enumerate(cuts(name, ready, KILLS * times)):
        where = f"{name}, cut {number} of {KILLS * times}: {cut}"
        folder = copy(template, tmp_path / str(number))
        dead += killed(driver.ask(folder=folder, action=case.action, parameters=case.parameters, **cut))
        read_all(folder / "set.hdf5")
        left = {path.name: digest(path) for path in folder.iterdir() if not is_temporary(path)}
        assert set(left) <= set(old) | set(new), where
        for file, is_now in left.items():
            assert is_now in (old.get(file), new.get(file)), (where, file)
        seen.append(left["set.hdf5"] == new["set.hdf5"] != old["set.hdf5"])
        again = driver.ask(folder=folder, action=case.action, parameters=case.parameters | case.again)
        if again["status"] == 2 and case.again:  # with --overwrite only where there is something
            again = driver.ask(folder=folder, action=case.action, parameters=case.parameters)
        assert again["status"] == 0 or (seen[-1] and case.done and case.done in again["error"]), (where, again)
        with change_dataset(folder / "set.hdf5"):  # a lock that the dead one left does not hold
            pass
        assert state(folder) == new, where  # and no lock, no journal, no temporary file is left
        shutil.rmtree(folder)
    assert dead >= len(seen) * 2 // 3
    if new["set.hdf5"] != old["set.hdf5"]:
        assert False in seen


def cuts(name: str, ready: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Where to kill: evenly over the calls that change the disk, and at random times, the same each time."""
    chance = random.Random(name)
    at_calls = number * 3 // 4
    step = ready["count"] / at_calls
    calls: list[dict[str, Any]] = [{"at": int((index + chance.random()) * step)} for index in range(at_calls)]
    return calls + [{"seconds": chance.uniform(0, ready["seconds"])} for _ in range(number - at_calls)]


def is_temporary(path: Path) -> bool:
    """What is not yet under its final name, and what the next one clears away."""
    return path.name.startswith(".") or ".lock" in path.name
