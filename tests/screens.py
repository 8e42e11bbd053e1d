"""What tests of screens share: small data, made run folders, and the application on them."""

import asyncio
import json
import os
import time
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest
from golden_texts import Golden
from pilot import screen_text, until
from textual.pilot import Pilot
from textual.widget import AwaitMount

import deepscem_tui.app
from deepscem_tui.app import DeepscemApp
from deepscem_tui.engine.actions import Action
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import EngineError
from deepscem_tui.engine.models.containers import METADATA_MEMBER
from deepscem_tui.engine.models.info import describe
from deepscem_tui.engine.networks import draw_network
from deepscem_tui.engine.parameters import CreateModel, Parameters
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.stop import Stop
from deepscem_tui.settings import Settings
from deepscem_tui.widgets.line_chart import LineChart
from deepscem_tui.widgets.run_view import RunView
from deepscem_tui.widgets.slice_view import SliceView

BEGAN = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
SIZES = ((80, 24), (120, 40), (200, 60))


class _OpenedOn(DeepscemApp):
    """The application, begun on one of its screens: the screen of data sets before it would only take time."""

    CSS_PATH = Path(deepscem_tui.app.__file__).with_name("app.tcss")

    def __init__(self, mode: str, folder: Path) -> None:
        super().__init__(folder, folder / "runs", Settings(pictures="ascii"))
        self._first: str | None = mode

    def switch_mode(self, mode: str) -> AwaitMount:
        first, self._first = self._first, None
        return super().switch_mode(first or mode)


def driven(
    test: Callable[[Pilot[Any], DeepscemApp], Awaitable[None]],
    folder: Path,
    mode: str,
    size: tuple[int, int] = (80, 24),
) -> None:
    """Run the application in a folder without a terminal, on one of its screens; slices are drawn as characters."""
    app = _OpenedOn(mode, folder)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.current_mode == mode and app.screen.is_mounted, mode)
            try:
                await test(pilot, app)
            finally:
                app.exit()  # as a person leaves: screens know that they are going

    asyncio.run(run())


async def settled(pilot: Pilot[Any]) -> str:
    """Wait until all that is shown is read and drawn; give the screen as text."""
    screen = pilot.app.screen

    def drawn() -> bool:
        charts = [chart for chart in screen.query(LineChart) if chart.is_on_screen]
        slices = [view for view in screen.query(SliceView) if view.is_on_screen]
        runs = [view for view in screen.query(RunView) if view.is_on_screen and view.folder is not None]
        return (
            not any(chart._drawing for chart in charts)
            and not any(view.busy for view in slices)
            and all(view.snapshot is not None or view._trouble for view in runs)
            and not any(worker.is_running for worker in pilot.app.workers)
        )

    before = ""
    for _ in range(100):
        await until(pilot, drawn, "all is drawn")
        if before == (before := screen_text(pilot.app)):
            return before
        await pilot.pause(0.1)
    raise AssertionError(f"never still:\n{before}")


async def looks(pilot: Pilot[Any], golden: Golden, name: str, job_bar: bool = False) -> None:
    """Compare the screen with its goldens at each size.

    Args:
        job_bar: Whether there is a line that tells how far a job is; it has the time in it and is left out.
    """
    for width, height in SIZES:
        await pilot.resize_terminal(width, height + job_bar)
        for _ in range(20):  # the focus, and with it the footer, may follow what is drawn
            lines = (await settled(pilot)).split("\n")
            text = "\n".join(line for line in lines if not (job_bar and line.startswith("● ")))
            if golden.agrees(f"{name}_{width}x{height}", text):
                break
            await pilot.pause(0.1)
        golden(f"{name}_{width}x{height}", text)


def footer(app: DeepscemApp) -> set[str]:
    """What the keys in the footer are called."""
    return {active.binding.description for active in app.screen.active_bindings.values() if active.binding.show}


def said(app: DeepscemApp) -> str:
    """All notices so far."""
    return "\n".join(notice.message for notice in app._notifications)


def make_dataset(path: Path, samples: Sequence[str] = ("a",), probabilities: bool = False) -> Path:
    """A data set of 8 x 32 x 32 samples with one label, a disc; or predictions of it."""
    z, y, x = np.ogrid[:8, :32, :32]
    disc = ((y - 16) ** 2 + (x - 16) ** 2 < 80) & (z >= 0)
    kind = "prediction_0000" if probabilities else "label_0000"
    with new_dataset(path, path.stem, 1, aliases=("disc",)) as made:
        for number, name in enumerate(samples):
            members = {"image": np.float16, kind: np.float32 if probabilities else np.uint8}
            sample = made.add_sample(name, disc.shape, members)
            noise = np.random.default_rng(number).random(disc.shape)
            sample["image"][0:8] = (0.7 * disc + 0.3 * noise).astype(np.float16)
            sample[kind][0:8] = (
                (0.6 * disc + 0.4 * noise).astype(np.float32) if probabilities else disc.astype(np.uint8)
            )
    return path


def make_model(path: Path, labels: Sequence[str] = ("disc",), training: dict[str, Any] | None = None) -> Path:
    """A small U-Net's file without weights: enough to be listed and chosen, and made without TensorFlow."""
    asked = CreateModel(out=path, labels=len(labels), depth=2, filters=2, seed=0)
    graph = draw_network(asked, len(labels))
    layers = [
        {
            "class_name": layer.kind, "name": layer.name,
            "config": {**layer.settings, "name": layer.name, "batch_input_shape": [None] * (graph.dimension + 1) + [1]},
            "inbound_nodes": [[[name, 0, 0, {}] for name in layer.inputs]] if layer.inputs else [],
        }
        for layer in graph.layers
    ]  # fmt: skip
    network = {"name": graph.name, "layers": layers, "output_layers": [[graph.output, 0, 0]]}
    chosen = {"architecture", "block", "kernel_size", "filters", "depth", "blocks_per_level", "normalization", "seed"}
    info = describe(graph, labels, False, asked.model_dump(mode="json", include=chosen))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": network}))
        archive.writestr(METADATA_MEMBER, json.dumps(replace(info, training=training).as_json()))
        archive.writestr("model.weights.h5", bytes(4 * graph.n_parameters))
    return dated(path)


def make_run(
    runs_folder: Path,
    name: str = "20231114-221320-train-mito",
    action: str = "train",
    end: str | None = "finished",
    epochs: int = 4,
    began: float = BEGAN,
    pid: int = 2**22 + 1,
    **parameters: Any,
) -> Path:
    """A run folder as the engine writes it; without an end its process is ``pid``."""
    folder = runs_folder / name
    folder.mkdir(parents=True)
    import socket

    import psutil

    started = psutil.Process(pid).create_time() if psutil.pid_exists(pid) else 1.0
    working_folder = str(parameters.pop("working_folder", runs_folder.parent))
    asked = {"model": "net.keras", "out": "mito.keras", "train": "train.hdf5", "epochs": 4, **parameters}
    about = {
        "action": action, "parameters": asked, "command": f"deepscem-tui run {action} net.keras mito.keras",
        "working_folder": working_folder, "host": socket.gethostname(), "pid": pid, "pid_started": started,
        "versions": {}, "seed": 0, "inputs": [],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about))
    append(folder, began, "started", device="CPU, 2 cores", patch_size=[1, 32, 32], batch_size=4)
    for epoch in range(1, epochs + 1):
        scores = {"loss": 1 / epoch, "f1_disc": 1 - 0.5 / epoch, "iou_disc": 1 - 0.6 / epoch}
        facts = {"learning_rate": 1e-3, **scores, **{f"validation_{key}": value for key, value in scores.items()}}
        append(folder, began + 10 * epoch, "epoch", epoch=epoch, **facts)
    if end is not None:
        facts = {"result": {"summary": "Trained mito.keras"}} if end == "finished" else {"error": f"It {end}"}
        append(folder, began + 10 * epochs + 1, end, **facts)
    return folder


class Played:
    """In the place of the engine's runs: what a form starts leaves a made run folder and lasts until a test ends it.

    Args:
        make: Fills the run folder.
    """

    def __init__(self, make: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch) -> None:
        self._make = make
        self.end: Result | EngineError | None = None
        self.folder: Path | None = None
        self.parameters: Any = None
        monkeypatch.setattr("deepscem_tui.engine.runs.runs.perform", self._perform)

    def _perform(
        self, action: Action, parameters: Parameters, report: Reporter, stop: Stop, runs_folder: Path | None = None
    ) -> Result:
        stop.check()
        self.parameters, self.folder = parameters, (runs_folder or Path("runs")) / f"20250615-150640-{action.name}-x"
        self._make(self.folder)
        given = parameters.model_dump(mode="json") | ({"epochs": 8} if action.name == "train" else {})
        made_runs.describe(self.folder, action.name, parameters=given)
        report.began(self.folder)
        while self.end is None and not stop.requested:
            time.sleep(0.01)
        if self.end is None:
            made_runs.say(self.folder, "stopped", 50, error="Stopped: asked in the application")
            stop.check()
        if isinstance(self.end, Result):
            made_runs.say(self.folder, "finished", 50, result={"summary": self.end.summary, **self.end.facts})
            return self.end
        assert self.end is not None
        made_runs.say(self.folder, "failed", 50, error=str(self.end))
        raise self.end


def append(folder: Path, t: float, kind: str, **facts: Any) -> None:
    """Write an event of a run."""
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"t": t, "type": kind, **facts}) + "\n")


def dated(path: Path, when: float = BEGAN) -> Path:
    """Give a file a date."""
    os.utime(path, (when, when))
    return path
