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

import json
import logging
import os
import platform
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from deepscem_tui import __version__
from deepscem_tui.engine import actions, words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ParameterError, ResourceError, RunError, Stopped
from deepscem_tui.engine.formats import place_of
from deepscem_tui.engine.parameters import Parameters
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs.recorder import ENDED, Recorder, heartbeat
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system import native_output
from deepscem_tui.engine.system.devices import available_cores, available_memory
from deepscem_tui.engine.system.files import regular, write_text
from deepscem_tui.engine.system.lock import Holder, locked
from deepscem_tui.engine.system.processes import Process, this_process
from deepscem_tui.engine.system.space import is_full, no_room

_log = logging.getLogger(__name__)

DEAD_AFTER_SECONDS = 60.0  # on another node, where its process cannot be looked up; several heartbeats and a slow NFS
_SIGN_SECONDS = 0.2


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
    _log.debug("%s with %s", action.name, parameters)
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("%d cores and %s may be used", available_cores(), words.amount(available_memory(), "B"))
    if not action.run or getattr(parameters, "dry_run", False):
        if not action.tensorflow:
            return action.carry_out(parameters, Context(report, stop, measuring=True))
        if getattr(parameters, "measure", True):  # what is proposed without measuring needs none
            _say_loading(report)
        with native_output.kept_off_the_terminal():
            return action.carry_out(parameters, Context(report, stop, measuring=True))
    runs_folder = runs_folder or default_folder()
    if getattr(parameters, "resume", False):
        begun = _begun(runs_folder, action, parameters)
        if begun is not None:
            report.message(f"Going on with {begun}")
            return resume(begun, report, stop)
    _say_loading(report)
    first = not runs_folder.exists()
    folder = _new_folder(runs_folder, action.name, _title(parameters))
    try:
        return _carry_out_in(folder, action, parameters, report, stop)
    finally:
        if not (folder / "run.json").exists():  # there was no room for it
            _remove(folder)
        if first and not folder.exists():  # refused, so that the folder of runs was made for nothing
            with suppress(OSError):
                runs_folder.rmdir()


def _begun(runs_folder: Path, action: actions.Action, parameters: Parameters) -> Path | None:
    """The latest run of an action that was to make the same file, or part of it, and has not finished; None if none.

    Raises:
        RunError: it was begun with other parameters.
    """
    out = getattr(parameters, "out", Path()).absolute()
    wanted = parameters.model_dump(mode="json") | {"resume": False}
    for run in reversed(find(runs_folder)):
        same = run.working_folder / str(run.parameters.get("out")) == out
        if run.action == action.name and same and run.parameters.get("shard") == wanted.get("shard"):
            if run.state == "finished":
                return None
            other = sorted(name for name, value in run.parameters.items() if wanted.get(name) != value)
            if set(other) - {"resume", "overwrite"}:
                raise RunError(
                    f"{run.folder} began to make {out} with another {', '.join(other)}",
                    f"Go on with it as it began: deepscem-tui runs resume {run.folder.name}; or leave --resume out.",
                )
            return run.folder
    return None


def _say_loading(report: Reporter) -> None:
    if "tensorflow" not in sys.modules:  # some seconds in which nothing else is said
        report.message("Loading TensorFlow")


def resume(folder: Path, report: Reporter, stop: Stop, epochs: int | None = None, overwrite: bool = False) -> Result:
    """Go on with a run that was stopped, failed or killed; with more epochs also with a training that has finished.

    Args:
        epochs: How many a training is to have in all from now on.
        overwrite: Whether a training that has finished may replace its result where another has written it since.

    Raises:
        RunError: if the run is alive, has finished, or its folder cannot be read.
        ParameterError: for epochs that the run has no use for.
        LockedError: if another process resumes it at this moment.
        EngineError: as the action says.
    """

    def gone(found: Holder) -> bool:  # on another node, as of a job that was begun anew, the heartbeat tells
        return found.dead or not (found.process.here or _beats(folder))

    _wait_for_a_sign(folder, report, stop)
    with locked(folder / "run.json", 0, gone):  # two may try at once
        return _resume(folder, report, stop, epochs, overwrite)


def _resume(folder: Path, report: Reporter, stop: Stop, epochs: int | None, overwrite: bool) -> Result:
    run = read(folder)
    if run.state == "running":
        raise RunError(f"{folder} is running", "Ask it to stop first: deepscem-tui runs stop")
    if run.state == "finished" and epochs is None:
        hint = "A training goes on with --epochs N, the number of epochs in all."
        raise RunError(f"{folder} is finished", hint if "epochs" in run.parameters else "")
    action = actions.ACTIONS.get(run.action)
    if action is None:
        what = f"{folder} was made by an action {run.action!r} that this version does not have"
        raise RunError(what, "Update with: pip install -U deepscem-tui")
    changes: dict[str, Any] = {}
    if epochs is not None:
        _check_epochs(run, epochs)
        changes["epochs"] = epochs
    if run.state == "finished" or overwrite:  # that the first run might replace a file says nothing about now
        changes["overwrite"] = overwrite
    for item in run.inputs:
        path = Path(item["path"])
        if not path.is_file() or (path.stat().st_size, path.stat().st_mtime) != (item["size"], item["mtime"]):
            report.warning(f"{path} is not what it was when the run began")
    parameters = actions.build(action, run.parameters | changes)
    paths = {}
    if run.working_folder != Path.cwd():  # where it began, they are said as they were then
        paths = {name: run.working_folder / value for name, value in parameters if isinstance(value, Path)}
    return _carry_out_in(folder, action, parameters.model_copy(update=paths), report, stop, run)


def _wait_for_a_sign(folder: Path, report: Reporter, stop: Stop) -> None:
    """Wait until it is known whether a run of another node lives: a job is begun anew soon after its node has died."""
    run, beat = read(folder), _beat(folder)
    if run.state != "running" or Process(run.host, run.pid, run.pid_started, run.pid_birth).here:
        return
    report.message(f"{folder} ran on {run.host} a moment ago: waiting for a sign of life")
    while _beat(folder) == beat and _beats(folder):
        stop.check()
        time.sleep(_SIGN_SECONDS)


def _check_epochs(run: RunState, epochs: int) -> None:
    if "epochs" not in run.parameters:
        raise ParameterError(f"{run.folder} is no training: --epochs means nothing to it", "Leave --epochs out.")
    done = run.epoch["epoch"] if run.epoch else 0
    if epochs <= done:
        has = words.counted(done, "epoch")
        raise ParameterError(f"{run.folder} has {has} already", f"Give --epochs more than {done}.")


def _carry_out_in(
    folder: Path,
    action: actions.Action,
    parameters: Parameters,
    report: Reporter,
    stop: Stop,
    before: RunState | None = None,
) -> Result:
    """Carry out an action in its folder; ``before`` is what a run was that is resumed."""
    described = regular(folder / "run.json").read_text(encoding="utf-8") if before else ""
    (folder / "stop").unlink(missing_ok=True)
    write_text(folder / "run.json", json.dumps(_description(action, parameters), indent=2, ensure_ascii=False) + "\n")
    report.began(folder)
    _log.debug("run folder %s", folder)
    recorder = Recorder(folder, report)
    if before:
        recorder.event("resumed")
    with native_output.kept_in(folder / "log.txt"), heartbeat(folder, stop, recorder):
        try:
            result = action.carry_out(parameters, Context(recorder, stop, folder))
        except BaseException as error:
            with suppress(OSError, ResourceError):  # a disk that is full still is: what happened is told all the same
                if recorder.started:
                    kind = "stopped" if isinstance(error, Stopped) else "failed"
                    recorder.event(kind, error=str(error) or type(error).__name__)
                elif before:
                    _put_back(recorder, before, described, error)
            recorder.close()
            if not recorder.started and not before:
                _remove(folder)
            if isinstance(error, Stopped) and not error.hint:
                resume_with = shlex.join(["deepscem-tui", "runs", "resume", str(folder)])
                raise Stopped(error.what, f"Go on with: {resume_with}") from None
            raise
        recorder.event("finished", result=result.as_json())
        recorder.close()
    return replace(result, facts={**result.facts, "run": str(folder)})


def _put_back(recorder: Recorder, before: RunState, described: str, error: BaseException) -> None:
    """A resume was refused before it did anything: the run is again what it was."""
    write_text(before.folder / "run.json", described)
    recorder.message(f"Not resumed: {error}")
    if before.end:
        recorder.event(**{("kind" if key == "type" else key): value for key, value in before.end.items() if key != "t"})


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
        if is_full(error):
            raise no_room(runs_folder, error, 0, at_least=True) from None
        raise RunError(
            f"The folder for runs, {runs_folder}, cannot be written: {error.strerror}",
            "Choose another with --runs-dir.",
        ) from None
    raise RunError(f"{runs_folder} holds a thousand runs named {stem}")


def _title(parameters: Parameters) -> str:
    """A few characters that are safe in a path, from the name of the result."""
    out = getattr(parameters, "out", None)
    stem = place_of(out).stem if isinstance(out, Path) else ""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in stem)[:40] or "run"


def _description(action: actions.Action, parameters: Parameters) -> dict[str, Any]:
    inputs = []
    for name in action.parameters.model_fields:
        value = getattr(parameters, name)
        if isinstance(value, Path) and name != "out" and (file := place_of(value).file).is_file():
            status = file.stat()
            inputs.append({"path": str(file.absolute()), "size": status.st_size, "mtime": status.st_mtime})
    me = this_process()
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
        "host": me.host,
        "pid": me.pid,
        "pid_started": me.started,
        "pid_birth": me.birth,
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
    pid_started: float
    pid_birth: str
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
        description = json.loads(regular(folder / "run.json").read_text(encoding="utf-8"))
        facts = {key: description[key] for key in ("action", "parameters", "command", "host", "pid")}
        if not isinstance(facts["parameters"], dict):
            raise TypeError("its parameters are no table")
        facts["inputs"] = description.get("inputs", [])
        facts["working_folder"] = Path(description["working_folder"])
        facts["pid_started"] = float(description["pid_started"])
        facts["pid_birth"] = str(description.get("pid_birth", ""))
        process = Process(str(facts["host"]), int(facts["pid"]), facts["pid_started"], facts["pid_birth"])
        alive = _alive(folder, process)
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run folder: it has no run.json", "See: deepscem-tui runs list") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{folder / 'run.json'} cannot be read: {error}", "It is damaged, or no run folder.") from None
    last: dict[str, dict[str, Any]] = {}
    began = latest = _written(folder)
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


def started_by(folder: Path, pid: int, since: float) -> bool:
    """Whether a run was begun by a process of this machine; only its description is looked at.

    Args:
        since: Seconds since the epoch when that process began: others had its number before.
    """
    try:
        description = json.loads(regular(folder / "run.json").read_text(encoding="utf-8"))
        process = Process(description["host"], description["pid"], since, str(description.get("pid_birth", "")))
        return process.here and process.pid == pid and _written(folder) >= since
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, RunError):
        return False


def _written(folder: Path) -> float:
    """When a run's description was written.

    Raises:
        RunError: it is gone.
    """
    try:
        return (folder / "run.json").stat().st_mtime
    except OSError as error:
        raise RunError(f"{folder} is gone: {error.strerror}", "See: deepscem-tui runs list") from None


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
    if not folders:
        raise RunError(f"There is no run in {runs_folder}", "Choose another folder with --runs-dir.")
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


def stop_now(folder: Path, seconds: float = 10.0) -> RunState:
    """End a run without waiting for what it has in hand: its process is asked to stop, and killed if it does not.

    It may end in time, with everything saved; if not, what came since its last checkpoint is lost.

    Args:
        seconds: To wait before it is killed.

    Returns:
        The run after its end.

    Raises:
        RunError: if it is not running, or its process is not one of this host's, or this process itself.
    """
    run = read(folder)
    if run.state != "running":
        raise RunError(f"{folder} is not running: it is {run.state}")
    ask = f"Ask it to stop instead: {shlex.join(['deepscem-tui', 'runs', 'stop', str(folder)])}"
    known = Process(run.host, run.pid, run.pid_started, run.pid_birth)
    if not known.here:
        raise RunError(f"{folder} runs on {run.host}, and only there it can be ended at once", ask)
    if run.pid == os.getpid():
        raise RunError(f"{folder} runs in this very process", ask)
    try:
        process = psutil.Process(run.pid)  # which looks at the time of its start again before each signal
        if not process_alive(known):
            raise RunError(f"{folder} has ended just now")
        _end(process, seconds)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        raise RunError(f"Process {run.pid} of {folder} belongs to another user", ask) from None
    return read(folder)


def _end(process: psutil.Process, seconds: float) -> None:
    children = process.children(recursive=True)
    process.terminate()
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        for one in (process, *children):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs([process], timeout=seconds)


def events(folder: Path) -> list[dict[str, Any]]:
    """The events of a run so far; a line that is still being written, or is none of ours, is left out."""
    try:
        content = regular(folder / "events.jsonl").read_bytes()
    except OSError:  # not there yet, or a file server that is not reached
        return []
    found = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("t"), (int, float)):
                found.append(event)
    return found


def process_alive(process: Process) -> bool | None:
    """Whether a run's process lives; None for one of another host, where it cannot be looked up."""
    return not process.dead if process.here else None


def _alive(folder: Path, process: Process) -> bool:
    known = process_alive(process)
    return known if known is not None else _beats(folder)


def _beats(folder: Path) -> bool:
    """Whether the heartbeat is not old."""
    return time.time() - _beat(folder) < DEAD_AFTER_SECONDS


def _beat(folder: Path) -> float:
    """When it was last heard, seconds since the epoch; 0 if never."""
    try:
        return (folder / "heartbeat").stat().st_mtime
    except OSError:
        return 0.0
