"""A warm process whose children carry out actions and are killed, as the tests of faults use it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# `make faults` makes ten times as many as CI does.
TIMES = int(os.environ.get("DEEPSCEM_TUI_FAULTS", "1"))


class Driver:
    """Carries out actions in children of a warm process, which can be killed at a chosen point."""

    def __init__(self, home: Path, *words: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"XDG_CACHE_HOME": str(home), "XDG_STATE_HOME": str(home)}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py")), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        """The answer: `status`, and of a child that lived to tell `count`, `seconds` and `error`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked, default=str) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver has ended"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def whole(self, **asked: Any) -> dict[str, Any]:
        """The answer of a child that must do all that it is asked for."""
        answer = self.ask(**asked)
        assert answer["status"] == 0, answer
        return answer

    def close(self) -> None:
        self._process.communicate()


def killed(answer: dict[str, Any]) -> bool:
    """Whether a child was killed; the only other thing that may happen is that it was ready before."""
    assert answer["status"] in (-signal.SIGKILL, 0), answer
    return bool(answer["status"])
