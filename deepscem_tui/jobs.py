"""The one owner of the threads that carry out actions for the application, and of detached processes.

There are two lanes, each of which does one thing at a time in the order in which it was asked for: ``compute`` for
what TensorFlow does, and ``files`` for the rest, so that a data set can be looked at and changed while a network
trains. A thread writes what it has to say into its :class:`Job`; whoever shows jobs looks at them a few times a second.
"""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deepscem_tui.engine import actions
from deepscem_tui.engine.errors import EngineError, Stopped
from deepscem_tui.engine.parameters import Parameters
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.own_python import own_python
from deepscem_tui.outcome import explained

Lane = Literal["compute", "files"]
State = Literal["queued", "running", "stopping", "finished", "stopped", "failed", "cancelled"]
LIVE: tuple[State, ...] = ("queued", "running", "stopping")
NICENESS = 5
_MESSAGES = 200
_COMPLAINT_BYTES, _COMPLAINT_LINES = 2000, 6  # of the end of what a detached process said


@dataclass(frozen=True)
class Progress:
    """How far a job's task is, and since when."""

    task: str
    done: float
    total: float
    unit: str
    note: str
    began: float
    first: float

    @property
    def share(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 1.0

    def seconds_left(self, now: float) -> float | None:
        """Seconds left at the speed so far; None until there is one."""
        gained = self.done - self.first
        return (self.total - self.done) * (now - self.began) / gained if gained > 0 and now > self.began else None


@dataclass(eq=False)
class Job:
    """An action that was asked for, and what became of it.

    The thread that carries it out changes it, and :meth:`Jobs.stop` its state; others read single attributes at any
    time.

    Args:
        folder: Its run folder, once there is one.
    """

    number: int
    title: str
    lane: Lane
    action: str
    parameters: Parameters | None = None
    state: State = "queued"
    folder: Path | None = None
    progress: Progress | None = None
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=_MESSAGES))
    warnings: deque[str] = field(default_factory=lambda: deque(maxlen=_MESSAGES))
    result: Result | None = None
    error: EngineError | None = None
    began: float | None = None
    ended: float | None = None
    stop: Stop = field(default_factory=Stop)

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def command(self) -> str:
        """The same thing on the command line."""
        if self.parameters is not None:
            return actions.command_line(actions.ACTIONS[self.action], self.parameters)
        return shlex.join(["deepscem-tui", "runs", "resume", str(self.folder)])


class _Teller(Reporter):
    """Writes what an action says into its job."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def began(self, folder: Path) -> None:
        self._job.folder = folder

    def message(self, text: str) -> None:
        self._job.messages.append(text)

    def warning(self, text: str) -> None:
        self._job.warnings.append(text)
        self._job.messages.append(f"Warning: {text}")

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        before = self._job.progress
        if before is None or before.task != task or done < before.done:
            began, first = time.monotonic(), done
        else:
            began, first = before.began, before.first
        self._job.progress = Progress(task, done, total, unit, note, began, first)


class Jobs:
    """Carries out actions in worker threads, one at a time in each lane.

    Args:
        ended: Called with each job that is over, from its thread.
    """

    def __init__(self, ended: Callable[[Job], None] = lambda _: None) -> None:
        self.all: list[Job] = []
        self._ended = ended
        self._numbers = itertools.count(1)
        self._lanes: dict[Lane, ThreadPoolExecutor] = {}
        self._futures: dict[Job, Future[None]] = {}
        self._states = threading.Lock()  # states change in the threads and when somebody asks to stop

    def submit(self, action: actions.Action, parameters: Parameters, runs_folder: Path | None = None) -> Job:
        """Carry out an action when its lane is free."""

        def work(job: Job) -> Result:
            return runs.perform(action, parameters, _Teller(job), job.stop, runs_folder)

        lane: Lane = "compute" if action.tensorflow else "files"
        return self._add(Job(next(self._numbers), _title(action, parameters), lane, action.name, parameters), work)

    def resume(self, folder: Path, epochs: int | None = None) -> Job:
        """Go on with a run when its lane is free.

        Args:
            epochs: In all, for a training that is to go on for longer than it was meant to.
        """

        def work(job: Job) -> Result:
            job.folder = folder
            return runs.resume(folder, _Teller(job), job.stop, epochs)

        return self._add(Job(next(self._numbers), f"resume {folder.name}", "compute", "resume", folder=folder), work)

    def live(self, lane: Lane | None = None) -> list[Job]:
        """The jobs that are not over, in their order."""
        return [job for job in self.all if job.live and lane in (None, job.lane)]

    def carrying_out(self, folder: Path) -> Job | None:
        """The job of this process that a run belongs to, if it is not over."""
        return next((job for job in self.live() if job.folder and job.folder.absolute() == folder.absolute()), None)

    def stop(self, job: Job, reason: str = "asked in the application") -> None:
        """Ask a job to save its state and end; one that waits is cancelled."""
        if job.state == "queued" and self._futures[job].cancel():
            job.state, job.ended = "cancelled", time.time()
            self._ended(job)
        elif job.live:
            job.stop.request(reason)
            with self._states:
                if job.state == "running":
                    job.state = "stopping"

    def stop_all(self, reason: str) -> None:
        """Ask everything to end, what waits first so that it does not begin."""
        for job in sorted(self.live(), key=lambda job: job.state != "queued"):
            self.stop(job, reason)

    def wait(self) -> None:
        """Return when no job is left."""
        for future in list(self._futures.values()):
            with suppress(CancelledError):
                future.result()

    def _add(self, job: Job, work: Callable[[Job], Result]) -> Job:
        if job.lane not in self._lanes:
            self._lanes[job.lane] = ThreadPoolExecutor(1, thread_name_prefix=job.lane, initializer=_stand_back)
        self.all.append(job)
        self._futures[job] = self._lanes[job.lane].submit(self._carry_out, job, work)
        return job

    def _carry_out(self, job: Job, work: Callable[[Job], Result]) -> None:
        job.began = time.time()
        job.state = "stopping" if job.stop.requested else "running"
        state: State = "failed"
        try:
            job.stop.check()
            job.result = work(job)
            state = "finished"
        except Stopped as stopped:
            job.error = stopped
            state = "stopped"
        except Exception as error:
            job.error = explained(error, job.command)
        except BaseException as error:  # as a library's SystemExit: the job is over all the same
            job.error = EngineError(f"It was ended by {type(error).__name__}: {error}")
        with self._states:
            job.ended, job.state = time.time(), state
        self._ended(job)


def _stand_back() -> None:
    """Let the thread that draws and reads keys go first: this one, and those that TensorFlow makes in it, are nicer."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process's
        thread = threading.get_native_id()
        nicer = max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread))  # only root may be less nice than before
        os.setpriority(os.PRIO_PROCESS, thread, nicer)


def _title(action: actions.Action, parameters: Parameters) -> str:
    """What a job is called in lists: the action and the first file that it is about."""
    names = ("out", "file", "folder", "path", "segmentation")
    about = next((getattr(parameters, name) for name in names if isinstance(getattr(parameters, name, None), Path)), "")
    return f"{action.name} {Path(about).name}".strip()


# ------------------------------------------------------------------------------------------------ detached


@dataclass(eq=False)
class Detached:
    """A process of its own, which outlives the application.

    Args:
        output: What it printed so far; matters if it ends before it has a run folder.
        began: Seconds since the epoch.
    """

    command: Sequence[str]
    process: subprocess.Popen[bytes]
    output: Path
    began: float = 0.0

    def folder(self, runs_folder: Path) -> Path | None:
        """Its run folder, once there is one."""
        with suppress(OSError):
            for folder in sorted(runs_folder.iterdir(), reverse=True):
                if runs.started_by(folder, self.process.pid, self.began):
                    return folder
        return None

    @property
    def complaint(self) -> str | None:
        """What it said when it ended at once without success; None while it goes on."""
        if self.process.poll() in (None, 0):
            return None
        with self.output.open("rb") as file:
            file.seek(max(0, self.output.stat().st_size - _COMPLAINT_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return "\n".join(lines[-_COMPLAINT_LINES:]) or "It ended without a word"


def start_detached(words: Sequence[str], runs_folder: Path) -> Detached:
    """Start `deepscem-tui` with ``words`` in a session of its own, without a terminal.

    Raises:
        OSError: it could not be started.
    """
    command, began = [*own_python("deepscem_tui.cli"), *words], time.time() - 1  # clocks of files are coarse
    environment = {**os.environ, "DEEPSCEM_TUI_RUNS": str(runs_folder.absolute())}
    with tempfile.NamedTemporaryFile(prefix="deepscem-tui-detached-", suffix=".txt", delete=False) as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    threading.Thread(target=process.wait, name="reaper", daemon=True).start()  # no zombie while the application lives
    return Detached(command, process, Path(output.name), began)


def detached_words(action: actions.Action, parameters: Parameters) -> list[str]:
    """What to say on the command line for an action."""
    return shlex.split(actions.command_line(action, parameters))[1:]
