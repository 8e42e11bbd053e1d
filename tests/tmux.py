"""A real terminal for tests: a tmux server of its own, keys in, the screen out."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Tmux:
    """A program in a pane of a tmux server that nothing else uses."""

    def __init__(self, folder: Path, width: int = 80, height: int = 24, **environment: str) -> None:
        self.folder = folder
        self.socket = f"deepscem-test-{os.getpid()}-{time.monotonic_ns()}"
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
        settings = {"LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "", **kept, **environment}
        clean = " ".join(f"{key}={shlex.quote(value)}" for key, value in settings.items())
        program = f"{shlex.quote(sys.executable)} -m deepscem_tui"
        # The status stays on the screen when the program has ended.
        inner = f"cd {shlex.quote(str(folder))}; env -u NO_COLOR {clean} {program}; echo status=$?; sleep 600"
        config = folder / "tmux.conf"
        config.write_text(f'set -g default-terminal "{environment.get("TERM", "tmux-256color")}"\nset -g status off\n')
        command = ["-f", str(config), "new-session", "-d", "-x", str(width), "-y", str(height), inner]
        self._tmux(*command, environment={**os.environ, "LANG": "C.UTF-8", "TERM": "xterm-256color"})

    def _tmux(self, *words: str, environment: dict[str, str] | None = None) -> str:
        command = ["tmux", "-u", "-L", self.socket, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment, check=True)
        return done.stdout

    def press(self, *keys: str) -> None:
        """Keys by tmux's names, such as ``Enter``, ``C-s``, ``F4``."""
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.05)  # as fast as a hurried user

    def type(self, text: str) -> None:
        """Text as it is."""
        self._tmux("send-keys", "-l", text)

    def fill(self, *steps: str | int) -> None:
        """Fill in a form: texts in place of what is in the focused field, and how many fields to go on between them."""
        for step in steps:
            if isinstance(step, int):
                self.press(*["Tab"] * step)
            else:
                self.press("End", "C-u")
                time.sleep(0.3)  # keys of bindings may be overtaken by letters
                self.type(step)

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def wait_for(self, wanted: str, seconds: float = 30.0) -> str:
        """The screen once it shows a text."""
        end = time.monotonic() + seconds
        while wanted not in (shown := self.screen):
            if time.monotonic() > end:
                raise AssertionError(f"{wanted!r} never came:\n{shown}")
            time.sleep(0.05)
        return shown

    def wait_until_gone(self, unwanted: str, seconds: float = 30.0) -> str:
        """The screen once it no longer shows a text."""
        end = time.monotonic() + seconds
        while unwanted in (shown := self.screen):
            if time.monotonic() > end:
                raise AssertionError(f"{unwanted!r} stayed:\n{shown}")
            time.sleep(0.05)
        return shown

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    @property
    def program(self) -> int:
        """The process of the application."""
        shell = int(self._tmux("display-message", "-p", "#{pane_pid}"))
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(children[0])

    def send(self, number: signal.Signals) -> None:
        os.kill(self.program, number)

    def kill_server(self) -> None:
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], capture_output=True, timeout=20, check=False)
