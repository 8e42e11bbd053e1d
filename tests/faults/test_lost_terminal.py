"""An SSH connection that is lost without tmux: the terminal is gone, and what was computed is kept."""

import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_tmux import ready_to_train, run_of

from deepscem_tui.engine.runs import runs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's terminals")

# Makes its standard input the terminal that it belongs to, as a login does, and becomes the program.
LOGIN = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)  # tests may be under nohup
os.execv(sys.executable, [sys.executable, "-m", "deepscem_tui", *sys.argv[2:]])
"""


class Terminal:
    """A program in a terminal of 120 x 40 that can be lost."""

    def __init__(self, folder: Path, *words: str, nohup: bool = False) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, "nohup" if nohup else "", *words],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=environment,
        )
        os.close(theirs)
        self._shown = b""
        self._wanted = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        """A test that failed leaves nothing that computes."""
        self._wanted = False
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self) -> None:
        while self._wanted:
            if select.select([self._ours], [], [], 0.05)[0]:
                try:
                    self._shown += os.read(self._ours, 4096)
                except OSError:  # the program has ended
                    return

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str) -> None:
        """Until a text was shown, in one piece."""
        end = time.monotonic() + 120
        while text.encode() not in self._shown:
            assert time.monotonic() < end, self._shown[-3000:]
            time.sleep(0.05)

    def lose(self) -> None:
        """The connection is lost: nobody reads or writes any more."""
        self._wanted = False
        self._reader.join()
        os.close(self._ours)


def steps(folder: Path) -> runs.RunState:
    """The run there, once it learns."""
    run = run_of(folder, "running", seconds=120)
    end = time.monotonic() + 120
    while (runs.read(run.folder).progress or {}).get("task") != "Training":
        assert time.monotonic() < end
        time.sleep(0.05)
    return run


def saved(folder: Path, terminal: Terminal) -> None:
    """The run has ended with its state on the disk."""
    assert terminal.process.wait(120) == 75
    run = run_of(folder, "stopped")
    assert list((run.folder / "checkpoint").glob("step-*.npz"))


WORDS = ["run", "train", "new.keras", "out.keras", "--train", "disc.hdf5"]
WORDS += ["--patch-size", "32,32", "--batch-size", "2", "--steps-per-epoch", "20"]


def test_a_training_is_saved_when_its_terminal_hangs_up(tmp_path: Path) -> None:
    ready_to_train(tmp_path, epochs=1000)
    with Terminal(tmp_path, *WORDS, "--epochs", "1000") as terminal:
        steps(tmp_path)
        terminal.lose()
        saved(tmp_path, terminal)


def test_a_training_that_hears_of_no_hangup_goes_on_to_its_end(tmp_path: Path) -> None:
    ready_to_train(tmp_path, epochs=1)
    with Terminal(tmp_path, *WORDS, "--epochs", "4", nohup=True) as terminal:
        steps(tmp_path)
        terminal.lose()  # whatever is written to it fails from now on
        assert terminal.process.wait(240) == 0
    assert run_of(tmp_path, "finished").action == "train"
    assert (tmp_path / "out.keras").exists()


def test_the_application_saves_its_training_when_its_terminal_hangs_up(tmp_path: Path) -> None:
    ready_to_train(tmp_path, epochs=1000)
    with Terminal(tmp_path) as terminal:
        terminal.wait_for("Data sets")
        terminal.press("\x1bOS")  # F4
        terminal.wait_for("trained.keras")
        terminal.press("\x13")  # ctrl+s
        steps(tmp_path)
        terminal.lose()
        saved(tmp_path, terminal)
