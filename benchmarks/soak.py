"""Whether memory and open files stay flat over a long life, in one process each.

    python benchmarks/soak.py [--cycles 200] [--views 10000] [--only cycles | views]

Cycles: short trainings, predictions and evaluations of a small network, each in a run folder of its own, which is
removed. Views: slices shown by the application's slice view, in all planes, on data sets that are opened in turn, as
fast as they come. Of the resident memory, the open files and the threads the mean of the last tenth is compared with
that of the second tenth: in the first, libraries are loaded and pools are filled.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from textual.app import App, ComposeResult

from deepscem_tui.engine import actions, phantom
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.viewing.slices import SliceTarget
from deepscem_tui.widgets.slice_view import SliceView

SHAPE = (16, 64, 64)
EVERY = 20  # views between two looks


class Looks:
    """What the process took, again and again."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.rows: list[tuple[float, float, float]] = []

    def look(self) -> None:
        gc.collect()
        resident = self._process.memory_info().rss / 2**20
        self.rows.append((resident, self._process.num_fds(), self._process.num_threads()))

    def say(self, what: str, seconds: float) -> None:
        tenth = max(1, len(self.rows) // 10)
        early, late = self.rows[tenth : 2 * tenth], self.rows[-tenth:]
        print(f"{what}, in {seconds:.0f} s; second tenth -> last tenth")
        for index, name in enumerate(("resident memory, MiB", "open files", "threads")):
            before, after = (statistics.mean(row[index] for row in rows) for rows in (early, late))
            print(f"  {name:22} {before:8.1f} -> {after:8.1f}   ratio {after / before:.3f}")


def perform(name: str, **values: Any) -> None:
    action = actions.ACTIONS[name]
    runs.perform(action, actions.build(action, values), Reporter(), Stop(), Path("runs"))


def make_dataset(path: Path, seed: int) -> None:
    made = phantom.make_phantom(SHAPE, seed)
    with new_dataset(path, path.stem, 1) as dataset:
        sample = dataset.add_sample("s", SHAPE, {"image": np.float32, "label_0000": np.uint8})
        sample["image"][:] = made.image / np.float32(255)
        sample["label_0000"][:] = made.labels["mitochondria"] > 0


def cycles(number: int) -> Looks:
    """Train, predict, evaluate, in this process."""
    looks = Looks()
    perform("create-model", out="new.keras", labels=1, filters=2, depth=2)
    for _ in range(number):
        perform(
            "train", model="new.keras", out="out.keras", train="a.hdf5", valid="b.hdf5", epochs=1, steps_per_epoch=2,
            batch_size=1, patch_size=(32, 32), overwrite=True,
        )  # fmt: skip
        perform("predict", model="out.keras", input="b.hdf5", out="found.hdf5", overwrite=True)
        perform("evaluate", reference="b.hdf5", segmentation="found.hdf5", csv="scores.csv", overwrite=True)
        shutil.rmtree("runs")
        looks.look()
    return looks


class Shown(App[None]):
    """An application that is a slice view."""

    def compose(self) -> ComposeResult:
        yield SliceView(pictures="blocks")


def views(number: int) -> Looks:
    """Look at slices."""
    looks = Looks()

    async def look() -> None:
        app = Shown()
        async with app.run_test(size=(120, 40)) as pilot:
            view = app.query_one(SliceView)
            for index in range(number):
                if index % 200 == 0:
                    view.show(SliceTarget(Path("ab"[index // 200 % 2] + ".hdf5"), "s"))
                elif index % 50 == 0:
                    view.action_plane()
                else:
                    view.go_to(index % SHAPE[0])
                while True:
                    await pilot.pause()
                    if not view.busy and view.picture is not None:
                        break
                    await asyncio.sleep(0.001)
                if index % EVERY == 0:
                    looks.look()

    asyncio.run(look())
    return looks


def timed(what: str, work: Callable[[int], Looks], number: int) -> None:
    began = time.monotonic()
    looks = work(number)
    looks.say(f"{number} {what}", time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--views", type=int, default=10_000)
    parser.add_argument("--only", choices=("cycles", "views"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        make_dataset(Path("a.hdf5"), 0)
        make_dataset(Path("b.hdf5"), 1)
        if asked.only != "cycles":
            timed("views of slices", views, asked.views)
        if asked.only != "views":
            timed("cycles of training, prediction and evaluation", cycles, asked.cycles)


if __name__ == "__main__":
    main()
