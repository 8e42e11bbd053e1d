"""The application in a real terminal, by its keys."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from tmux import Tmux, needs_tmux

from deepscem_tui.cli import main
from deepscem_tui.engine.runs import runs
from deepscem_tui.settings import settings_file

pytestmark = needs_tmux


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Tmux]]:
    """Opens the application in a folder of its own; whatever was opened is closed at the end."""
    opened: list[Tmux] = []

    def make(width: int = 80, height: int = 24, **environment: str) -> Tmux:
        folder = tmp_path / "work place"
        folder.mkdir(exist_ok=True)
        opened.append(Tmux(folder, width, height, **environment))
        return opened[-1]

    yield make
    for one in opened:
        one.kill_server()


def images(folder: Path) -> None:
    """An image with a bright disc, and the disc."""
    y, x = np.ogrid[:64, :64]
    disc = np.broadcast_to((y - 32) ** 2 + (x - 32) ** 2 < 300, (8, 64, 64))
    noise = np.random.default_rng(0).normal(0, 8, disc.shape)
    tifffile.imwrite(folder / "image.tif", (90 + 80 * disc + noise).astype(np.uint8))
    tifffile.imwrite(folder / "disc.tif", disc.astype(np.uint8) * 255)


def ready_to_train(folder: Path, epochs: int) -> None:
    """A data set, a model, and a training form that was filled before."""
    folder.mkdir(exist_ok=True)
    images(folder)
    data, model = str(folder / "disc.hdf5"), str(folder / "new.keras")
    for line in (
        ["create-dataset", data, "disc", "1"],
        ["add-sample", data, "one", str(folder / "image.tif"), str(folder / "disc.tif")],
        ["create-model", model, "--labels", "1", "--filters", "2", "--depth", "2", "--blocks-per-level", "1"],
    ):
        assert main(["run", *line, "--quiet"]) == 0
    form = {"model": "new.keras", "out": "trained.keras", "train": "disc.hdf5", "valid": "disc.hdf5"}
    form |= {"patch_size": "32,32", "batch_size": "2", "steps_per_epoch": "20", "epochs": str(epochs)}
    settings_file().parent.mkdir(parents=True, exist_ok=True)
    settings_file().write_text(json.dumps({"folders": {str(folder.absolute()): {"train": form}}}))


def start_training(screen: Tmux) -> None:
    screen.wait_for("Data sets")
    screen.press("F4")
    screen.wait_for("trained.keras")
    screen.press("C-s")


def run_of(folder: Path, *states: str, seconds: float = 60.0) -> runs.RunState:
    """The only run there, once it is in a state."""
    end = time.monotonic() + seconds
    while True:
        found = runs.find(folder / "runs")
        if found and found[0].state in states:
            return found[0]
        assert time.monotonic() < end, found
        time.sleep(0.1)


# ------------------------------------------------------------------------------------------------ what it looks like


def test_it_opens_and_quits(terminal: Callable[..., Tmux]) -> None:
    screen = terminal()
    screen.wait_for("F2 Data sets  F3 Models  F4 Training")
    screen.press("C-q")
    assert "F2 Data sets" not in screen.wait_for("status=0")


@pytest.mark.parametrize("mode", ["F2", "F3", "F4", "F5", "F6", "F7"])
def test_plain_ascii_where_the_locale_has_no_more(terminal: Callable[..., Tmux], mode: str) -> None:
    screen = terminal(LANG="C")
    screen.wait_for("F2 Data sets")
    screen.press(mode)
    time.sleep(0.3)
    screen.press("F1")
    time.sleep(0.5)
    shown = screen.wait_for("|")  # the edge of the panel that explains
    assert shown.isascii(), shown


@pytest.mark.parametrize("environment", [{"TERM": "screen"}, {"NO_COLOR": "1"}, {"TERM": "xterm-256color"}], ids=str)
def test_every_screen_in_poorer_terminals(terminal: Callable[..., Tmux], environment: dict[str, str]) -> None:
    screen = terminal(**environment)
    screen.wait_for("F2 Data sets")
    for key in ("F3", "F4", "F5", "F6", "F7", "F2"):
        screen.press(key)
        time.sleep(0.3)
        assert "Traceback" not in screen.wait_for("F2 Data sets")
    screen.press("C-q")
    screen.wait_for("status=0")


def test_a_window_that_becomes_tiny_and_large_again(terminal: Callable[..., Tmux]) -> None:
    screen = terminal()
    before = screen.wait_for("F7 Runs")
    screen.resize(60, 15)
    screen.wait_until_gone("F2 Data sets")
    for key in ("F3", "F4", "F5", "F6", "F7", "F2"):
        screen.press(key)
        time.sleep(0.2)
        assert max(map(len, screen.screen.splitlines())) <= 60
    screen.resize(80, 24)
    shown = screen.wait_for("F2 Data sets")
    assert shown.splitlines()[0] == before.splitlines()[0]
    screen.press("C-q")
    screen.wait_for("status=0")


# ------------------------------------------------------------------------------------------------ the whole job


def test_the_whole_job_by_keys(terminal: Callable[..., Tmux]) -> None:
    """Make a data set, train, stop, go on, predict, look, evaluate, quit."""
    images(terminal().folder)
    screen = terminal()
    screen.wait_for("2 image files")
    screen.press("n")
    screen.wait_for("esc Cancel")
    screen.fill("disc.hdf5", 2, "disc", 1, "1")
    screen.wait_for("Would make")
    screen.press("C-s")
    screen.wait_for("a adds a sample")
    screen.press("a")
    screen.wait_for("esc Cancel")
    screen.fill("one", 1, "image.tif", 1, "disc.tif")
    screen.wait_for("Would add")
    screen.press("C-s")
    screen.wait_for("Added sample")
    screen.press("Escape")
    screen.press("F3")
    screen.wait_for("There is no model")
    screen.press("n")
    screen.wait_for("esc Cancel")
    screen.fill("new.keras", 6, "2", 1, "2")
    screen.wait_for("Would make new.keras")
    screen.press("C-s")
    screen.wait_for("Trained     no")
    screen.press("F4")
    screen.wait_for("new-trained.keras")
    screen.fill("new.keras", 5, "32,32", 1, "2", 1, "4", 1, "300")
    screen.wait_for("Steps per epoch     300")
    screen.wait_for("Would train new.keras for 4 epochs")
    screen.press("C-s")
    screen.wait_for(" 1/4")
    screen.press("x")
    screen.wait_for("R resumes it")
    assert run_of(screen.folder, "stopped").action == "train"
    screen.press("R")
    screen.wait_for("Go on with")
    screen.press("C-s")
    screen.wait_for("Enter predicts with new-trained.keras", 90)
    screen.press("Enter")
    screen.wait_for("Would predict 1 sample")
    screen.press("C-s")
    screen.wait_for("Enter looks at it")
    screen.press("Enter")
    screen.wait_for("false alarms")
    screen.press("Escape")
    screen.wait_for("Enter looks at it")
    screen.press("E")
    screen.wait_for("Would compare 1 sample")
    screen.press("C-s")
    screen.wait_for("F1, 1 sample")
    screen.press("C-q")
    screen.wait_for("status=0")
    assert [run.state for run in runs.find(screen.folder / "runs")] == ["finished", "finished"]


def test_a_run_of_another_process_is_shown_and_stopped(terminal: Callable[..., Tmux]) -> None:
    folder = terminal().folder
    ready_to_train(folder, epochs=1000)
    screen = terminal()
    screen.wait_for("Data sets")
    screen.press("F7")
    screen.wait_for("There are no runs")
    words = ["run", "train", "new.keras", "elsewhere.keras", "--train", "disc.hdf5", "--patch-size", "32,32"]
    words += ["--epochs", "1000"]
    with subprocess.Popen(
        [sys.executable, "-m", "deepscem_tui", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as other:
        screen.wait_for("running")
        screen.wait_for("elsewhere")
        screen.wait_for("loss 0.", 60)  # its steps are told
        screen.resize(60, 15)
        screen.wait_until_gone("F2 Data sets")
        screen.resize(80, 24)
        screen.wait_for("F2 Data sets")
        screen.press("x")
        screen.wait_for("stopped", 60)
        assert other.wait(60) == 75
    screen.press("C-q")
    screen.wait_for("status=0")


# ------------------------------------------------------------------------------------------------ interruption


def in_mid_training(terminal: Callable[..., Tmux], folder: Path) -> tuple[Tmux, runs.RunState]:
    """An application that trains for long, and its run."""
    ready_to_train(folder, epochs=1000)
    screen = terminal()
    start_training(screen)
    run = run_of(folder, "running")
    _until_it_steps(run)
    return screen, run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_in_mid_training_saves_and_leaves(terminal: Callable[..., Tmux], number: signal.Signals) -> None:
    screen, run = in_mid_training(terminal, terminal().folder)
    screen.send(number)
    left = screen.wait_for("status=", 60)
    assert "status=75" in left
    assert f"Go on with: deepscem-tui runs resume {run.folder.name}" in " ".join(left.replace("\n", "").split())
    stopped = run_of(screen.folder, "stopped")
    assert number.name in str(stopped.end)
    assert list((run.folder / "checkpoint").glob("step-*.npz"))
    assert not psutil.pid_exists(run.pid)


def test_a_second_interrupt_leaves_at_once(terminal: Callable[..., Tmux]) -> None:
    screen, run = in_mid_training(terminal, terminal().folder)
    while psutil.pid_exists(run.pid):
        with suppress(ProcessLookupError, IndexError):  # it has ended meanwhile
            screen.send(signal.SIGINT)
        time.sleep(0.03)
    assert "status=130" in screen.wait_for("status=", 60)


def test_a_killed_tmux_server_in_mid_training_saves(terminal: Callable[..., Tmux]) -> None:
    screen = terminal()
    screen.wait_for("Data sets")
    screen.kill_server()
    screen, run = in_mid_training(terminal, screen.folder)
    screen.kill_server()
    run_of(screen.folder, "stopped")
    assert list((run.folder / "checkpoint").glob("step-*.npz"))
    psutil.wait_procs([psutil.Process(run.pid)] if psutil.pid_exists(run.pid) else [], timeout=20)
    assert not psutil.pid_exists(run.pid)


def _until_it_steps(run: runs.RunState) -> None:
    end = time.monotonic() + 60
    while (runs.read(run.folder).progress or {}).get("task") != "Training":
        assert time.monotonic() < end
        time.sleep(0.1)
