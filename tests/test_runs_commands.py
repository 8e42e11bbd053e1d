"""The `runs` commands as a user types them, on a terminal and in a pipe."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import made_runs
import pytest

from deepscem_tui.cli import main
from deepscem_tui.engine.runs.watching import RunsIndex
from deepscem_tui.runs_commands import tmux_line


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def typed(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["runs", *words])
    out, err = capfd.readouterr()
    return status, out, err


def test_one_line_for_tmux(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert typed(capfd, "list", "--format", "tmux") == (0, "", "")
    folder = made_runs.training(Path("runs") / "20260101-120000-train-mito")
    assert typed(capfd, "list", "--format", "tmux")[:2] == (0, "train mito 3/8 F1 0.64 45s left\n")
    made_runs.predicting(Path("runs") / "20260101-130000-predict-out")
    assert typed(capfd, "list", "--format", "tmux")[:2] == (0, "2 runs: predict out 43% 6s left\n")
    made_runs.say(folder, "finished", 90, result={})
    made_runs.say(Path("runs") / "20260101-130000-predict-out", "failed", 90, error="")
    assert typed(capfd, "list", "--format", "tmux")[:2] == (0, "")


def test_tmux_gets_no_more_than_sixty_characters_and_no_commands(tmp_path: Path) -> None:
    made_runs.training(tmp_path / f"20260101-120000-train-#[fg=red]#(reboot)\x1b{'x' * 100}")
    line = tmux_line(RunsIndex(tmp_path).poll())
    assert line.startswith("train ##[fg=red]##(reboot)?xxx")
    assert line.endswith("~ 3/8 F1 0.64 45s left")
    assert len(line.replace("##", "#")) == 60


def test_lists_and_facts_as_json_have_numbers_and_times(capfd: pytest.CaptureFixture[str]) -> None:
    made_runs.training(Path("runs") / "a")
    (row,) = json.loads(typed(capfd, "list", "--format", "json")[1])["runs"]
    assert (row["share"], row["epoch"], row["ended"]) == (0.4375, 3, None)
    assert row["began"].startswith("2025-06-15T")
    facts = json.loads(typed(capfd, "show", "a", "--json")[1])
    assert facts["began"][10] == "T"
    assert (facts["seconds"], facts["device"]) == (37.0, "CPU, 16 cores")
    assert facts["parameters"]["epochs"] == 8
    assert "2025-06-15 " in typed(capfd, "list")[1]


def test_watching_nothing_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = typed(capfd, "watch")
    assert status == 3
    assert "There is no run in runs" in err


def test_watching_in_a_pipe_says_lines_until_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    folder = made_runs.training(Path("runs") / "a")
    made_runs.say(folder, "progress", 39, task=["no", "text"], done="x", total=None)
    made_runs.say(folder, "failed", 40, error="The disk is full")
    status, out, err = typed(capfd, "watch", "a")
    assert status == 0
    assert "Epoch 2/8" in err
    assert out.endswith("a is failed: The disk is full\n")
    assert json.loads(typed(capfd, "watch", "a", "--json")[1])["state"] == "failed"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("end", ["q", "ctrl+c", "finished", "no bell"])
def test_watching_on_a_terminal(end: str, tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "runs" / "a")
    with Terminal("runs", "watch", *(["--no-bell"] if end == "no bell" else [])) as terminal:
        terminal.until(b"F1 (validation)")
        assert b"\x1b[?1049h" in terminal.seen  # the alternate screen
        if end == "q":
            terminal.type(b"q")
        elif end == "ctrl+c":
            terminal.process.send_signal(signal.SIGINT)
        else:
            made_runs.say(folder, "finished", 90, result={"summary": "Trained it"})
        terminal.to_the_end()
    after = terminal.seen.split(b"\x1b[?1049l")[1]  # back on the normal screen
    assert (b"\x07" in terminal.seen) == (end == "finished")
    assert (b"a is finished: Trained it" in after) == (end in ("finished", "no bell"))
    assert (b"a goes on; watch it again" in after) == (end in ("q", "ctrl+c"))
    assert terminal.process.returncode == 0
    assert not (folder / "stop").exists()


class Terminal:
    """The program on a pseudo-terminal of 60 x 12."""

    def __init__(self, *words: str) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deepscem_tui", *words],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def until(self, wanted: bytes) -> None:
        end = time.monotonic() + 60
        while wanted not in self.seen:
            assert time.monotonic() < end, self.seen
            assert self._read(), self.seen

    def to_the_end(self) -> None:
        while self._read():
            pass
        self.process.wait(60)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 60)[0]:
            return False
        try:
            more = os.read(self._master, 1 << 16)
        except OSError:  # the program has ended
            return False
        self.seen += more
        return bool(more)
