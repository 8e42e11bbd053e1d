"""A disk that is full in the middle: status 4, the bytes that are needed, no half file, and all can be done after."""

import random
import re
import shutil
from pathlib import Path

import pytest
from cases import CASES, copy, state
from kills import Driver

from deepscem_tui.engine import actions
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system import space

FAULTS = 6  # of each case


GROWING = ["add", "crop", "distances", "save", "save onto itself", "export"]


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "once") for name in CASES), *((name, "limit") for name in GROWING)]
)
def test_without_room_nothing_is_changed_and_the_bytes_are_told(
    name: str, kind: str, template: Path, tmp_path: Path, driver: Driver, times: int
) -> None:
    case, chance = CASES[name], random.Random(name)
    old, whole = state(template), copy(template, tmp_path / "whole")
    ready = driver.whole(folder=whole, action=case.action, parameters=case.parameters, count=True)
    new = state(whole)
    largest = max(path.stat().st_size for path in whole.iterdir() if new[path.name] != old.get(path.name))
    told = 0
    for number in range(FAULTS * times):
        share = (number + chance.random()) / FAULTS / times
        cut = {"full": int(share * ready["taking"])} if kind == "once" else {"limit": int(share * largest)}
        folder, where = copy(template, tmp_path / str(number)), f"{name}, {cut}"
        answer = driver.ask(folder=folder, action=case.action, parameters=case.parameters, **cut)
        if answer["status"]:
            assert answer["status"] == 4, (where, answer)
            assert re.search(r"[1-9][0-9,]* bytes are needed", answer["error"]), (where, answer)
            assert state(folder) == old, where  # and no lock, no journal, no temporary file is left
            told += 1
            driver.whole(folder=folder, action=case.action, parameters=case.parameters)
        assert state(folder) == new, where
        shutil.rmtree(folder)
    assert told > FAULTS * times // 3


def test_long_work_is_refused_where_there_is_no_room_for_it(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(template, tmp_path / "place")
    old = state(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(space, "free_bytes", lambda _: 1000)
    for name in ("add", "crop", "save", "save onto itself"):
        case = CASES[name]
        action = actions.ACTIONS[case.action]
        with pytest.raises(ResourceError, match=r"[0-9,]{5,} bytes are needed for .*, and 1,000 are free"):
            runs.perform(action, actions.build(action, case.parameters), Reporter(), Stop())
        assert state(folder) == old
