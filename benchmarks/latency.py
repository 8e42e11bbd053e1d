"""How long the application takes from a key to what it paints, while a network trains in its own process.

    python benchmarks/latency.py [SECONDS]

The application runs in a pseudo-terminal of 120 x 40. Characters that occur nowhere else are typed into a form, one
every 0.1 s on average, from before TensorFlow is imported until SECONDS (60) after the training has begun; the time of
each is from the writing of its bytes to the reading of the bytes that show it. A second figure is the first paint: from
the start of the command to the first line that the application draws.
"""

import os
import pty
import random
import re
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from fcntl import ioctl
from pathlib import Path

from deepscem_tui.engine import actions, phantom
from deepscem_tui.engine.formats.volumes import create_volume
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.stop import Stop

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
FIRST_PAINTS = 7
TYPED = [chr(code) for code in (*range(0x100, 0x250), *range(0x3B1, 0x3CA), *range(0x410, 0x500))]
READY = "Reference"

TRAINING = """
import sys
from pathlib import Path
from deepscem_tui import app
from deepscem_tui.engine import actions

class Training(app.DeepscemApp):
    async def on_ready(self):
        self.set_timer(1, lambda: self.switch_mode("evaluation"))
        self.set_timer(8, self.train)

    def train(self):
        action = actions.ACTIONS["train"]
        values = {"model": "model.keras", "out": "out.keras", "train": "train.hdf5", "valid": "train.hdf5",
                  "batch_size": 4, "patch_size": (128, 128), "steps_per_epoch": 50, "epochs": 1000}
        self.start(action, actions.build(action, values))

app.DeepscemApp = Training
sys.exit(app.run())
"""


class Screen:
    """A program in a pseudo-terminal, and what it writes."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.began = time.perf_counter()
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8", COLUMNS="", LINES="")
            os.environ.update(XDG_CONFIG_HOME=str(folder), XDG_STATE_HOME=str(folder))
            for name in ("COLUMNS", "LINES", "NO_COLOR"):
                os.environ.pop(name, None)
            os.execv(command[0], command)
        ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.text = ""

    def wait_for(self, wanted: str, seconds: float) -> float | None:
        """When it first wrote a text; None if it did not in time."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if select.select([self._terminal], [], [], 0.01)[0]:
                try:
                    content = os.read(self._terminal, 1 << 16)
                except OSError:
                    return None
                read = time.perf_counter()
                self.text = (self.text + content.decode("utf-8", "replace"))[-(1 << 18) :]
                if wanted in self.text:
                    return read
        return None

    def press(self, keys: str) -> float:
        now = time.perf_counter()
        os.write(self._terminal, keys.encode())
        return now

    def close(self) -> None:
        os.kill(self.process, 15)
        end = time.perf_counter() + 60
        while time.perf_counter() < end and os.waitpid(self.process, os.WNOHANG) == (0, 0):
            self.wait_for("\0", 0.05)
        os.close(self._terminal)


def make_data(folder: Path) -> None:
    """An image, a data set and a model, by the same actions as a user's."""
    made = phantom.make_phantom((16, 256, 256), 0)
    for name, voxels in (("image", made.image), ("label", made.labels["mitochondria"])):
        with create_volume(folder / f"{name}.tif", voxels.shape, voxels.dtype, overwrite=True) as volume:
            volume.write(voxels)
    data, model = folder / "train.hdf5", folder / "model.keras"
    for name, values in (
        ("create-dataset", {"file": data, "name": "train", "n_labels": 1}),
        ("add-sample", {"file": data, "name": "a", "image": folder / "image.tif", "labels": (f"{folder}/label.tif",)}),
    ):
        runs.perform(actions.ACTIONS[name], actions.build(actions.ACTIONS[name], values), Reporter(), Stop())
    program = [sys.executable, "-m", "deepscem_tui", "run", "create-model", str(model)]
    subprocess.run([*program, "--labels", "1", "--filters", "12", "--depth", "4", "-q"], check=True)


def first_paints(folder: Path) -> list[float]:
    times = []
    for _ in range(FIRST_PAINTS):
        screen = Screen([sys.executable, "-m", "deepscem_tui"], folder)
        painted = screen.wait_for("Data sets", 30)
        assert painted is not None, screen.text[-2000:]
        times.append(painted - screen.began)
        screen.close()
    return times


def typing(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds from key to paint before and after the training's first step."""
    script = folder / "training.py"
    script.write_text(TRAINING)
    screen = Screen([sys.executable, str(script)], folder)
    assert screen.wait_for(READY, 30) is not None, screen.text[-2000:]
    screen.wait_for("\0", 1.5)
    before: list[float] = []
    during: list[float] = []
    began, first_step = time.perf_counter(), None
    chance = random.Random(0)
    typed = 0
    while first_step is None or time.perf_counter() - first_step < SECONDS:
        character = TYPED[typed % len(TYPED)]
        screen.text = ""
        pressed = screen.press(character)
        painted = screen.wait_for(character, 10)
        assert painted is not None, (character, screen.text[-2000:])
        (during if first_step else before).append(painted - pressed)
        typed += 1
        if typed % 20 == 0:  # a field is short: begin anew
            screen.press("\x15")
            screen.wait_for("\0", 0.2)
        screen.wait_for("\0", chance.uniform(0.02, 0.18))
        if first_step is None and re.search(r"Training \S+ \d+ %", screen.text):
            first_step = time.perf_counter()
        if time.perf_counter() - began > SECONDS + 120:
            raise SystemExit("the training did not begin")
    screen.close()
    return before, during


def said(name: str, times: list[float]) -> None:
    ordered = sorted(1000 * time for time in times)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    print(
        f"{name}: {len(ordered)} keys, median {statistics.median(ordered):.0f} ms, 99th percentile {p99:.0f} ms, "
        f"maximum {ordered[-1]:.0f} ms"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        paints = first_paints(folder)
        print(f"first paint: median {statistics.median(paints):.2f} s, maximum {max(paints):.2f} s of {len(paints)}")
        before, during = typing(folder)
        said("before the first step (TensorFlow's import, reading, tracing)", before)
        said("while the network trains", during)
        said("all", before + during)


if __name__ == "__main__":
    main()
