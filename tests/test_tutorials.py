"""The tutorials, played key by key in a folder that is empty at first."""

import asyncio
import sys
from pathlib import Path

import pytest

from deepscem_tui.app import DeepscemApp

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import tutorial


def test_a_reader_makes_three_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def read() -> None:
        app = DeepscemApp(Path(), Path("runs"))
        async with app.run_test(size=tutorial.SIZE) as pilot:
            for path in tutorial.TUTORIALS:
                await tutorial.play(pilot, path)

    asyncio.run(read())
    assert {path.name for path in tmp_path.glob("*.hdf5")} == {"train.hdf5", "valid.hdf5", "test.hdf5"}
