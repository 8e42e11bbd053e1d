"""Signals on the command line: the first asks to stop, the second ctrl+c leaves at once, whatever is computed."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from deepscem_tui.engine.stop import Stop
from deepscem_tui.signals import asking_to_stop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

# What lasts for minutes in one call, as a step of TensorFlow may: no handler in Python is called meanwhile.
BUSY = """
import hashlib, sys
from deepscem_tui.console import Console
from deepscem_tui.outcome import carry_out
from deepscem_tui.engine.results import Result
def work(stop):
    console.message("begun")
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
    return Result("ended")
console = Console()
sys.exit(carry_out(console, work))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_the_first_asks(name: str) -> None:
    stop, said, heard = Stop(), [], threading.Event()
    before = signal.getsignal(getattr(signal, name))
    with asking_to_stop(stop, lambda text: (said.append(text), heard.set())):
        os.kill(os.getpid(), getattr(signal, name))
        assert heard.wait(20)
        assert stop.reason == f"{name} received"
        os.kill(os.getpid(), signal.SIGTERM)  # no more is said, and nothing ends
    assert len(said) == 1
    assert signal.getsignal(getattr(signal, name)) is before


def test_what_is_ignored_stays_ignored() -> None:
    stop = Stop()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with asking_to_stop(stop, lambda _: None):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_ctrl_c_leaves_at_once_and_brings_back_the_cursor() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", BUSY], stderr=theirs, stdout=theirs)
    os.close(theirs)
    assert "begun" in until(ours, "begun")
    process.send_signal(signal.SIGINT)
    until(ours, "ctrl+c again leaves at once")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "\x1b[?25h" in until(ours, "\x1b[?25h")
    os.close(ours)


def until(terminal: int, wanted: str) -> str:
    """What a terminal shows, once it shows a text."""
    shown = ""
    while wanted not in shown:
        shown += os.read(terminal, 1000).decode()
    return shown
