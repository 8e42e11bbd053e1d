"""The run folder: where a long action keeps its parameters, events, log and checkpoints, and how others read it.

::

    run.json       action, parameters, versions, host, process, input files
    events.jsonl   one JSON object a line: {"t": seconds since the epoch, "type": ...}
    metrics.csv    one row an epoch
    log.txt        what libraries print
    heartbeat      touched every few seconds while the run lives
    stop           made by whoever asks the run to stop

The folder is the only channel between a run and whoever watches it, in this process or on another node.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from deepscem_tui import __version__
from deepscem_tui.engine import actions, native_output
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import RunError, Stopped
from deepscem_tui.engine.files import write_text
from deepscem_tui.engine.lock import Holder, locked
from deepscem_tui.engine.parameters import Parameters
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result, finite
from deepscem_tui.engine.stop import Stop

HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 60.0  # on another node, where its process cannot be looked up; several heartbeats and a slow NFS
ENDED = ("finished", "stopped", "failed")
_PROGRESS_SECONDS = 0.5


def default_folder() -> Path:
    """Where runs are kept: ``DEEPSCEM_TUI_RUNS``, else ``runs`` in the current folder."""
    return Path(os.environ.get("DEEPSCEM_TUI_RUNS") or "runs")


# ------------------------------------------------------------------------------------------------ carrying out


def perform(
    action: actions.Action, parameters: Parameters, report: Reporter, stop: Stop, runs_folder: Path | None = None
) -> Result:
    """Carry out an action, in a run folder of its own if it is one that keeps one.

    A run that fails before it reports ``started``, while its parameters and files are checked, leaves no folder.

    Raises:
        EngineError: as the action says.
    """
    if not action.run or getattr(parameters, "dry_run", False):
        if not action.tensorflow:
            return action.carry_out(parameters, Context(report, stop))
        _say_loading(report)
        with native_output.kept_off_the_terminal():
            return action.carry_out(parameters, Context(report, stop))
    _say_loading(report)
    runs_folder = runs_folder or default_folder()
    first = not runs_folder.exists()
    folder = _new_folder(runs_folder, action.name, _title(parameters))
    try:
        return _carry_out_in(folder, action, parameters, report, stop)
    finally:
        if first and not folder.exists():  # refused, so that the folder of runs was made for nothing
            with suppress(OSError):
                runs_folder.rmdir()


def _say_loading(report: Reporter) -> None:
    if "tensorflow" not in sys.modules:  # some seconds in which nothing else is said
        report.message("Loading TensorFlow")


def resume(folder: Path, report: Reporter, stop: Stop) -> Result:
    """Go on with a run that was stopped, failed or killed.

    Raises:
        RunError: if the run is alive, has finished, or its folder cannot be read.
        LockedError: if another process resumes it at this moment.
        EngineError: as the action says.
    """
    with locked(folder / "run.json", 0):  # two may try at once
        return _resume(folder, report, stop)


def _resume(folder: Path, report: Reporter, stop: Stop) -> Result:
    run = read(folder)
    if run.state in ("running", "finished"):
        raise RunError(f"{folder} is {run.state}", "Only a run that was stopped, failed or died can be resumed.")
    action = actions.ACTIONS.get(run.action)
    if action is None:
        raise RunError(f"{folder} was made by an action {run.action!r} that this version does not have")
    for item in run.inputs:
        path = Path(item["path"])
        if not path.is_file() or (path.stat().st_size, path.stat().st_mtime) != (item["size"], item["mtime"]):
            report.warning(f"{path} is not what it was when the run began")
    parameters = actions.build(action, run.parameters)
    paths = {name: run.working_folder / value for name, value in parameters if isinstance(value, Path)}
    return _carry_out_in(folder, action, parameters.model_copy(update=paths), report, stop)


def _carry_out_in(folder: Path, action: actions.Action, parameters: Parameters, report: Reporter, stop: Stop) -> Result:
    resumed = (folder / "run.json").exists()
    (folder / "stop").unlink(missing_ok=True)
    write_text(folder / "run.json", json.dumps(_description(action, parameters), indent=2, ensure_ascii=False) + "\n")
    recorder = Recorder(folder, report)
    if resumed:
        recorder.event("resumed")
    with native_output.kept_in(folder / "log.txt"), _heartbeat(folder, stop):
        try:
            result = action.carry_out(parameters, Context(recorder, stop, folder))
        except BaseException as error:
            if not recorder.started and not resumed:
                recorder.close()
                _remove(folder)
            else:
                kind = "stopped" if isinstance(error, Stopped) else "failed"
                recorder.event(kind, error=str(error) or type(error).__name__)
                recorder.close()
            if isinstance(error, Stopped) and not error.hint:
                resume_with = shlex.join(["deepscem-tui", "runs", "resume", str(folder)])
                raise Stopped(error.what, f"Go on with: {resume_with}") from None
            raise
        recorder.event("finished", result=result.as_json())
        recorder.close()
    return replace(result, facts={**result.facts, "run": str(folder)})


class Recorder(Reporter):
    """Writes what an action says to its run folder, and passes it on."""

    def __init__(self, folder: Path, inner: Reporter) -> None:
        self._folder = folder
        self._inner = inner
        self._events = (folder / "events.jsonl").open("a+b", buffering=0)
        if self._events.seek(0, os.SEEK_END):
            self._events.seek(-1, os.SEEK_END)
            if self._events.read(1) != b"\n":  # torn by a kill
                self._events.write(b"\n")
        self._last_progress = 0.0
        self.started = False

    def message(self, text: str) -> None:
        self._append("message", {"text": text})
        self._inner.message(text)

    def warning(self, text: str) -> None:
        self._append("warning", {"text": text})
        self._inner.warning(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        now = time.monotonic()
        if done >= total or now - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = now
            self._append("progress", {"task": task, "done": done, "total": total, "unit": unit, "note": note})
        self._inner.progress(task, done, total, unit, note)

    def event(self, kind: str, **facts: Any) -> None:
        self.started = self.started or kind == "started"
        self._append(kind, facts)
        if kind == "epoch":
            self._append_metrics(facts)
        self._inner.event(kind, **facts)

    def close(self) -> None:
        self._events.close()

    def _append(self, kind: str, facts: Mapping[str, Any]) -> None:
        event = finite({"t": round(time.time(), 3), "type": kind, **facts})
        line = json.dumps(event, ensure_ascii=False, default=str) + "\n"
        self._events.write(line.encode("utf-8", "backslashreplace"))

    def _append_metrics(self, facts: Mapping[str, Any]) -> None:
        path = self._folder / "metrics.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(facts)
            writer.writerow(["" if value is None else value for value in facts.values()])


@contextmanager
def _heartbeat(folder: Path, stop: Stop) -> Iterator[None]:
    """Touch the heartbeat file, and look every second whether somebody asks for a stop."""
    ended = threading.Event()

    def beat() -> None:
        last = float("-inf")
        while not ended.wait(0.0 if last < 0 else 1.0):
            with suppress(OSError):  # a full disk or a lost server must not end the run
                if time.monotonic() - last >= HEARTBEAT_SECONDS:
                    (folder / "heartbeat").touch()
                    last = time.monotonic()
                if (folder / "stop").exists():
                    stop.request("asked through the run folder")

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _new_folder(runs_folder: Path, action: str, title: str) -> Path:
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{action}-{title}"
    try:
        runs_folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            folder = runs_folder / (stem if number == 1 else f"{stem}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise RunError(
            f"The folder for runs, {runs_folder}, cannot be written: {error.strerror}",
            "Choose another with --runs-dir.",
        ) from None
    raise RunError(f"{runs_folder} holds a thousand runs named {stem}")


def _title(parameters: Parameters) -> str:
    """A few characters that are safe in a path, from the name of the result."""
    out = getattr(parameters, "out", None)
    stem = out.stem if isinstance(out, Path) else ""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in stem)[:40] or "run"


def _description(action: actions.Action, parameters: Parameters) -> dict[str, Any]:
    inputs = []
    for name in action.parameters.model_fields:
        value = getattr(parameters, name)
        if isinstance(value, Path) and name != "out" and value.is_file():
            status = value.stat()
            inputs.append({"path": str(value.absolute()), "size": status.st_size, "mtime": status.st_mtime})
    versions = {"deepscem-tui": __version__, "python": platform.python_version()}
    for package in ("tensorflow", "keras", "numpy", "h5py"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "action": action.name,
        "parameters": parameters.model_dump(mode="json"),
        "command": actions.command_line(action, parameters),
        "working_folder": str(Path.cwd()),
        "versions": versions,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_started": psutil.Process().create_time(),
        "seed": getattr(parameters, "seed", None),
        "inputs": inputs,
    }


def _remove(folder: Path) -> None:
    for name in ("run.json", "events.jsonl", "log.txt", "heartbeat", "stop"):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it: leave it
        folder.rmdir()


# ------------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class RunState:
    """What a run folder says at one moment.

    Args:
        state: ``running``, ``finished``, ``stopped``, ``failed`` or ``dead`` (its process is gone without a word).
        began: When its first event was written, seconds since the epoch.
        latest: When its last one was.
        progress: The last ``progress`` event, or None.
        epoch: The last ``epoch`` event, or None.
        end: The event that ended it, or None.
    """

    folder: Path
    action: str
    parameters: dict[str, Any]
    command: str
    working_folder: Path
    inputs: list[dict[str, Any]]
    host: str
    pid: int
    state: str
    began: float
    latest: float
    progress: dict[str, Any] | None
    epoch: dict[str, Any] | None
    end: dict[str, Any] | None


def read(folder: Path) -> RunState:
    """Read a run folder.

    Raises:
        RunError: if it is none, or cannot be read.
    """
    try:
        description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        facts = {key: description[key] for key in ("action", "parameters", "command", "host", "pid")}
        facts["inputs"] = description.get("inputs", [])
        facts["working_folder"] = Path(description["working_folder"])
        pid_started = float(description["pid_started"])
        alive = _alive(folder, str(facts["host"]), int(facts["pid"]), pid_started)
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run folder: it has no run.json", "See: deepscem-tui runs list") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / 'run.json'} cannot be read: {error}") from None
    last: dict[str, dict[str, Any]] = {}
    began = latest = (folder / "run.json").stat().st_mtime
    first = True
    for event in events(folder):
        kind, latest = str(event.get("type")), float(event["t"])
        if first:
            began, first = latest, False
        if kind in ("started", "resumed"):
            for end in ENDED:  # a resumed run is no longer what it was
                last.pop(end, None)
        last[kind] = event
    end_event = next((last[kind] for kind in ENDED if kind in last), None)
    state = str(end_event["type"]) if end_event else "running" if alive else "dead"
    return RunState(
        folder, **facts, state=state, began=began, latest=latest,
        progress=last.get("progress"), epoch=last.get("epoch"), end=end_event,
    )  # fmt: skip


def find(runs_folder: Path) -> list[RunState]:
    """Every run in a folder, the oldest first; what is not a readable run is left out."""
    found = []
    if runs_folder.is_dir():
        for folder in sorted(runs_folder.iterdir()):
            with suppress(RunError):
                found.append(read(folder))
    return sorted(found, key=lambda run: run.began)


def locate(name: str, runs_folder: Path) -> Path:
    """The run that a user means: a path, a name, ``latest``, or a part of a name that only one run has.

    Raises:
        RunError: if there is none, or more than one.
    """
    if (Path(name) / "run.json").is_file():
        return Path(name)
    if (runs_folder / name / "run.json").is_file():
        return runs_folder / name
    folders = [run.folder for run in find(runs_folder)]
    if name == "latest" and folders:
        return folders[-1]
    matches = [folder for folder in folders if name in folder.name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RunError(f"{name!r} may be any of {', '.join(m.name for m in matches)}", "Give more of the name.")
    raise RunError(f"There is no run {name!r} in {runs_folder}", "See: deepscem-tui runs list")


def ask_to_stop(folder: Path) -> RunState:
    """Ask a run to save its state and end.

    Raises:
        RunError: if it is not running.
    """
    run = read(folder)
    if run.state != "running":
        raise RunError(f"{folder} is not running: it is {run.state}")
    (folder / "stop").touch()
    return run


def events(folder: Path) -> list[dict[str, Any]]:
    """The events of a run so far; a line that is still being written, or is none of ours, is left out."""
    return _events_from(folder / "events.jsonl", 0)[0]


def _events_from(path: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """The events from a position of the file on, and the position behind the last complete line."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            content = file.read()
    except OSError:  # not there yet, or a file server that is not reached
        return [], position
    complete = content[: content.rfind(b"\n") + 1]
    found = []
    for line in complete.splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("t"), (int, float)):
                found.append(event)
    return found, position + len(complete)


def follow(folder: Path, stop: Stop, seconds: float = 0.3) -> Iterator[dict[str, Any]]:
    """The events of a run, those to come too, until it has ended or died, or ``stop`` is requested."""
    position = 0
    while not stop.requested:
        ended = read(folder).state != "running"  # asked first: what it wrote before its end is read below
        found, position = _events_from(folder / "events.jsonl", position)
        yield from found
        if ended:
            return
        time.sleep(seconds)


def _alive(folder: Path, host: str, pid: int, pid_started: float) -> bool:
    process = Holder(host, pid, pid_started, since=pid_started, token="")
    if process.here:
        return not process.dead
    try:
        return time.time() - (folder / "heartbeat").stat().st_mtime < DEAD_AFTER_SECONDS
    except OSError:
        return False
