"""Watching runs: what a run folder says, as immutable snapshots, reading only what was appended since the last look.

A :class:`RunWatcher` follows one run in all detail, a :class:`RunsIndex` all runs of a folder in short. Both may be
polled from any one thread, a few times a second. What a folder holds may be torn, foreign or hostile: values of a
wrong type are left out, texts and lists are bounded, and control characters are left for whoever shows them to clean.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deepscem_tui.engine import runs
from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.stop import Stop

__all__ = [
    "Gpu", "Preview", "Progress", "RunSnapshot", "RunSummary", "RunWatcher", "RunsIndex", "Said", "StepFacts", "Tiles",
    "Usage", "follow", "mean_score", "summary",
]  # fmt: skip

GONE = "gone"
STEP_POINTS = 1000  # of the loss by step, at least while there are as many; at most twice as many
_SAID = 200
_LOG_BYTES, _LOG_LINES = 1 << 15, 300
_LONGEST_LINE = 1 << 20
_CHUNK = 1 << 20
_TEXT = 2000
_COLUMNS = 2000  # of an epoch
_SAMPLES = 10_000
_TAILS = (1 << 17, 1 << 20, 1 << 23)  # bytes at the end of events.jsonl in which an index looks for the last epoch


@dataclass(frozen=True)
class Progress:
    """How far a task is.

    Args:
        share: 0 to 1.
        rate: Units a second since it began or was resumed; None before that is known.
        seconds_left: None before that is known.
    """

    task: str
    done: float
    total: float
    unit: str = ""
    note: str = ""
    rate: float | None = None

    @property
    def share(self) -> float:
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 1.0

    @property
    def seconds_left(self) -> float | None:
        return max(0.0, self.total - self.done) / self.rate if self.rate else None


@dataclass(frozen=True)
class StepFacts:
    """The latest step of a training.

    Args:
        epoch: Under way, from 1.
        step: Finished in it.
        loss: Of this step.
        mean_loss: Of the epoch so far.
        waiting_for_data: Share of the time since the last such fact, 0 to 1.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    epochs: int
    loss: float | None = None
    mean_loss: float | None = None
    learning_rate: float | None = None
    patches_per_second: float | None = None
    waiting_for_data: float | None = None


@dataclass(frozen=True)
class Gpu:
    """A GPU: name, share of time in use in %, bytes in use and in all; None for what it does not tell."""

    name: str
    percent: float | None = None
    memory: float | None = None
    memory_total: float | None = None


@dataclass(frozen=True)
class Usage:
    """What the run takes of its machine.

    Args:
        cpu: Cores that its process keeps busy, such as 3.5.
        cores: That it may use.
        machine_percent: Of all of the machine's cores that anybody keeps busy.
        memory: Resident bytes of the process.
        memory_available: Bytes that it may still take.
    """

    cpu: float | None = None
    cores: float | None = None
    machine_percent: float | None = None
    memory: float | None = None
    memory_available: float | None = None
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Said:
    """A message or warning: when, seconds since the epoch, ``"message"`` or ``"warning"``, and its text."""

    t: float
    kind: str
    text: str


@dataclass(frozen=True)
class Preview:
    """A preview slice: its file, to be read with :func:`deepscem_tui.engine.run_preview.read`, and when it was made.

    A newer one may have the same name: compare ``t`` too.
    """

    path: Path
    t: float


@dataclass(frozen=True)
class Tiles:
    """How far the prediction of a sample is, in tiles."""

    sample: str
    done: int
    total: int
    voxels_per_second: float | None = None


@dataclass(frozen=True)
class RunSnapshot:
    """What a run folder said when it was looked at.

    Args:
        state: ``running``, ``finished``, ``stopped``, ``failed``, ``dead`` (its process is gone without a word) or
            ``gone`` (the folder is).
        began, latest, ended: First, last and ending event, seconds since the epoch by the clock of the run's machine;
            ended is None while it runs.
        paused: Seconds between sessions of a run that was resumed.
        looked: ``time.monotonic()`` here when the latest event was read.
        epochs: The facts of each finished epoch: ``epoch``, ``learning_rate``, ``loss``, ``f1_LABEL``, ``iou_LABEL``,
            and the same with ``validation_`` before them; a score is None where a label is absent.
        losses: (epochs gone by, loss), thinned to a bounded number of points that are means of their steps.
        device: What it computes on, in words.
        said: The last messages and warnings.
        log: The last lines of what libraries printed.
        tiles: How far each sample of a prediction is, in the order in which they were begun.
        samples: Samples of a prediction in all.
        checkpoint: When the last one was written.
        result: What a finished run gave, by name.
        error: Why it stopped or failed.
    """

    folder: Path
    state: str
    action: str = ""
    command: str = ""
    host: str = ""
    pid: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    began: float | None = None
    latest: float | None = None
    ended: float | None = None
    paused: float = 0.0
    looked: float = 0.0
    epochs: tuple[Mapping[str, float | None], ...] = ()
    losses: tuple[tuple[float, float], ...] = ()
    step: StepFacts | None = None
    progress: Progress | None = None
    usage: Usage | None = None
    device: str = ""
    said: tuple[Said, ...] = ()
    log: tuple[str, ...] = ()
    preview: Preview | None = None
    checkpoint: float | None = None
    tiles: tuple[Tiles, ...] = ()
    samples: int = 0
    result: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"

    def seconds(self, now: float | None = None) -> float:
        """How long the run has worked, without the pauses; ``now`` is a ``time.monotonic()``."""
        if self.began is None or self.latest is None:
            return 0.0
        total = (self.ended or self.latest) - self.began - self.paused
        if self.running:
            total += max(0.0, (time.monotonic() if now is None else now) - self.looked)
        return max(0.0, total)

    @property
    def n_epochs(self) -> int:
        """Epochs that a training is to have; 0 if this is none."""
        asked = self.parameters.get("epochs")
        return asked if isinstance(asked, int) else self.step.epochs if self.step else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that epochs have scores of."""
        return tuple(key[3:] for key in self.epochs[-1] if key.startswith("f1_")) if self.epochs else ()

    def curve(self, key: str) -> tuple[tuple[float, float], ...]:
        """(epoch, value) of a fact, such as ``"validation_f1_mitochondria"``; NaN where it is None."""
        return tuple(
            (float(epoch["epoch"] or 0), math.nan if (value := epoch[key]) is None else value)
            for epoch in self.epochs
            if key in epoch
        )

    def score(self, measure: str = "f1", validation: bool = True) -> float | None:
        """The last epoch's mean over the labels that are present."""
        return mean_score(self.epochs[-1], measure, validation) if self.epochs else None


@dataclass(frozen=True)
class RunSummary:
    """A run in short.

    Args:
        name: Of its folder.
        state: As in :class:`RunSnapshot`.
        epoch: Finished, of a training.
        f1: Mean over labels after the last epoch, of the validation if there is one; None if not known.
        loss: Of the last epoch, likewise.
        text: How it ended: the result's summary, or the error.
    """

    folder: Path
    name: str
    action: str
    state: str
    command: str
    host: str
    pid: int
    began: float
    latest: float
    ended: float | None = None
    progress: Progress | None = None
    epoch: int = 0
    epochs: int = 0
    f1: float | None = None
    loss: float | None = None
    text: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"


def mean_score(epoch: Mapping[str, float | None], measure: str = "f1", validation: bool = True) -> float | None:
    """The mean over labels that are present of an epoch's scores; the training's where there is no validation."""
    prefixes = (f"validation_{measure}_", f"{measure}_") if validation else (f"{measure}_",)
    for prefix in prefixes:
        found = [value for key, value in epoch.items() if key.startswith(prefix)]
        if found:
            present = [value for value in found if value is not None]
            return sum(present) / len(present) if present else None
    return None


# ------------------------------------------------------------------------------------------------ reading files


class _Lines:
    """The events that a file gained since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._rest = b""
        self._skipping = False  # the rest of a line that is too long, or that was not seen from its beginning
        self._inode: int | None = None
        self.replaced = False

    def fresh(self) -> list[dict[str, Any]]:
        return [event for line in self._lines() if (event := _event(line)) is not None]

    def begin_at_tail(self, n_bytes: int) -> bool:
        """Leave out all but the last bytes of what is there now; whether that leaves anything out."""
        try:
            size = self._path.stat().st_size
        except OSError:
            return False
        self._position, self._rest = max(0, size - n_bytes), b""
        self._skipping = self._position > 0
        return self._skipping

    def _lines(self) -> Iterator[bytes]:
        self.replaced = False
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size < self._position or (self._inode not in (None, status.st_ino)):
                    self._position, self._rest, self._skipping, self.replaced = 0, b"", False, True
                self._inode = status.st_ino
                file.seek(self._position)
                while chunk := file.read(_CHUNK):
                    self._position += len(chunk)
                    yield from self._split(chunk)
        except OSError:  # not there yet, or a file server that is not reached
            return

    def _split(self, chunk: bytes) -> Iterator[bytes]:
        *complete, self._rest = (self._rest + chunk).split(b"\n")
        for line in complete:
            if not self._skipping and len(line) <= _LONGEST_LINE:
                yield line
            self._skipping = False
        if len(self._rest) > _LONGEST_LINE:
            self._rest, self._skipping = b"", True


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(event, dict) and _number(event.get("t")) is not None and isinstance(event.get("type"), str)
    return event if good else None


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def _count(value: Any) -> int:
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 2**53 else 0


def _text(value: Any) -> str:
    return value[:_TEXT] if isinstance(value, str) else ""


# ------------------------------------------------------------------------------------------------ one run


class _Losses:
    """A loss by step, thinned: every point is the mean of so many facts."""

    def __init__(self) -> None:
        self._each = 1
        self._points: list[tuple[float, float]] = []
        self._sum, self._n = 0.0, 0

    def add(self, x: float, loss: float) -> None:
        if self._points and x <= self._points[-1][0]:  # steps that are done again after a resume
            self._points = [point for point in self._points if point[0] < x]
            self._sum, self._n = 0.0, 0
        self._sum += loss
        self._n += 1
        if self._n < self._each:
            return
        self._points.append((x, self._sum / self._n))
        self._sum, self._n = 0.0, 0
        if len(self._points) > 2 * STEP_POINTS:
            pairs = zip(self._points[0::2], self._points[1::2], strict=False)
            self._points = [(b[0], (a[1] + b[1]) / 2) for a, b in pairs]
            self._each *= 2

    def points(self) -> tuple[tuple[float, float], ...]:
        return tuple(self._points)


class _Story:
    """What the events of a run tell, one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.began: float | None = None
        self.latest: float | None = None
        self.paused = 0.0
        self.epochs: list[Mapping[str, float | None]] = []
        self.losses = _Losses()
        self.step: StepFacts | None = None
        self.progress: Progress | None = None
        self.usage: Usage | None = None
        self.device = ""
        self.said: deque[Said] = deque(maxlen=_SAID)
        self.preview: Preview | None = None
        self.checkpoint: float | None = None
        self.tiles: dict[str, Tiles] = {}
        self.samples = 0
        self.end: dict[str, Any] | None = None
        self.test: dict[str, Any] | None = None
        self._task: tuple[str, float, float] = ("", 0.0, 0.0)  # name, and when with how much it was seen first

    def take(self, event: dict[str, Any]) -> None:
        t = float(event["t"])
        kind = event["type"]
        if kind == "resumed" and self.latest is not None:
            self.paused += max(0.0, t - self.latest)
        self.began = t if self.began is None else self.began
        self.latest = t
        if kind in ("started", "resumed"):
            self.end = None
            self._task = ("", 0.0, 0.0)
        if kind in runs.ENDED:
            self.end = event
        handler = getattr(self, f"_on_{kind}", None) if kind.isidentifier() else None
        if handler is not None:
            handler(t, event)

    def _on_started(self, _: float, event: dict[str, Any]) -> None:
        self.device = _text(event.get("device"))
        plans = event.get("plans")
        self.samples = len(plans) if isinstance(plans, list) else 0

    def _on_message(self, t: float, event: dict[str, Any]) -> None:
        self.said.append(Said(t, str(event["type"]), _text(event.get("text"))))

    _on_warning = _on_message

    def _on_progress(self, t: float, event: dict[str, Any]) -> None:
        task, done, total = _text(event.get("task")), _number(event.get("done")), _number(event.get("total"))
        if done is None or total is None:
            return
        if task != self._task[0] or done < self._task[2]:
            self._task = (task, t, done)
        seconds, more = t - self._task[1], done - self._task[2]
        rate = more / seconds if seconds > 0 and more > 0 else None
        self.progress = Progress(task, done, total, _text(event.get("unit")), _text(event.get("note")), rate)

    def _on_step(self, _: float, event: dict[str, Any]) -> None:
        counts = (_count(event.get(name)) for name in ("epoch", "step", "steps_per_epoch", "epochs"))
        names = ("loss", "mean_loss", "learning_rate", "patches_per_second", "waiting_for_data")
        self.step = StepFacts(*counts, *(_number(event.get(name)) for name in names))
        if self.step.loss is not None and self.step.epoch and self.step.steps_per_epoch:
            self.losses.add(self.step.epoch - 1 + self.step.step / self.step.steps_per_epoch, self.step.loss)

    def _on_epoch(self, _: float, event: dict[str, Any]) -> None:
        number = _count(event.get("epoch"))
        facts = {
            key: value
            for key, value in list(event.items())[:_COLUMNS]
            if key not in ("t", "type") and len(key) <= _TEXT and (value is None or _number(value) is not None)
        }
        if number:
            while self.epochs and (self.epochs[-1]["epoch"] or 0) >= number:  # done again after a resume
                self.epochs.pop()
            self.epochs.append(facts)

    def _on_usage(self, _: float, event: dict[str, Any]) -> None:
        names = ("cpu", "cores", "machine_percent", "memory", "memory_available")
        gpus = event.get("gpus")
        described = tuple(
            Gpu(_text(gpu.get("name")), *(_number(gpu.get(name)) for name in ("percent", "memory", "memory_total")))
            for gpu in (gpus[:64] if isinstance(gpus, list) else ())
            if isinstance(gpu, dict)
        )
        cpu, cores, machine, memory, available = (_number(event.get(name)) for name in names)
        self.usage = Usage(cpu, cores, machine, memory, available, described)

    def _on_preview(self, t: float, event: dict[str, Any]) -> None:
        file = event.get("file")
        if isinstance(file, str) and re.fullmatch(r"preview/[^/\0]{1,250}\.npz", file):  # nothing outside the folder
            self.preview = Preview(self._folder / file, t)

    def _on_checkpoint(self, t: float, _: dict[str, Any]) -> None:
        self.checkpoint = t

    def _on_tiles(self, _: float, event: dict[str, Any]) -> None:
        name = _text(event.get("sample"))
        if name in self.tiles or len(self.tiles) < _SAMPLES:
            done, total = _count(event.get("done")), _count(event.get("total"))
            self.tiles[name] = Tiles(name, done, total, _number(event.get("voxels_per_second")))

    def _on_test(self, _: float, event: dict[str, Any]) -> None:
        self.test = {key: value for key, value in event.items() if key not in ("t", "type")}

    @property
    def ended(self) -> float | None:
        return float(self.end["t"]) if self.end else None

    @property
    def result(self) -> dict[str, Any] | None:
        result = self.end.get("result") if self.end else None
        return result if isinstance(result, dict) else None

    @property
    def error(self) -> str:
        return _text(self.end.get("error")) if self.end else ""


@dataclass(frozen=True)
class _Description:
    """What run.json says."""

    action: str
    command: str
    host: str
    pid: int
    pid_started: float
    parameters: Mapping[str, Any]


def _described(folder: Path) -> _Description:
    """Read run.json.

    Raises:
        RunError: if it is none of ours.
        OSError: if it cannot be read.
    """
    try:
        with (folder / "run.json").open("rb") as file:
            facts = json.loads(file.read(16 << 20))
        parameters = facts["parameters"]
        return _Description(
            _text(facts["action"]), _text(facts["command"]), _text(facts["host"]), _count(facts["pid"]),
            float(facts["pid_started"]), parameters if isinstance(parameters, dict) else {},
        )  # fmt: skip
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{folder / 'run.json'} cannot be read: {error}") from None


class _Life:
    """Whether a run's process lives. Of another host's only its heartbeat is known.

    Clocks differ between hosts: a heartbeat that was seen to change is as good as one of the right time.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "heartbeat"
        self._last: float | None = None
        self._changed: float | None = None

    def alive(self, description: _Description) -> bool:
        known = runs.process_alive(description.host, description.pid, description.pid_started)
        if known is not None:
            return known
        try:
            beat = self._path.stat().st_mtime
        except OSError:
            beat = None
        if beat is not None and self._last is not None and beat != self._last:
            self._changed = time.monotonic()
        self._last = beat
        if self._changed is not None:
            return time.monotonic() - self._changed < runs.DEAD_AFTER_SECONDS
        return beat is not None and time.time() - beat < runs.DEAD_AFTER_SECONDS


class _Reading:
    """What is known of a run folder, brought up to date by each look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.story = _Story(folder)
        self.lines = _Lines(folder / "events.jsonl")
        self.description: _Description | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._life = _Life(folder)
        self.state = ""

    def look(self) -> list[dict[str, Any]]:
        """Read what is new, and give its events.

        Raises:
            RunError: if there is no run.
        """
        try:
            status = (self.folder / "run.json").stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self.description = _described(self.folder)
                self._stamp = stamp
        except OSError:
            raise RunError(
                f"{self.folder} is not a run folder: it has no run.json", "See: deepscem-tui runs list"
            ) from None
        assert self.description is not None
        alive = self.story.end is not None or self._life.alive(self.description)  # asked first: what it wrote before
        fresh = self.lines.fresh()  # its end is read below
        if self.lines.replaced:
            self.story = _Story(self.folder)
        for event in fresh:
            self.story.take(event)
        self.state = str(self.story.end["type"]) if self.story.end else "running" if alive else "dead"
        return fresh


class RunWatcher:
    """Follows a run.

    Args:
        folder: Of the run. It may be resumed, or disappear.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reading = _Reading(folder)
        self._latest: RunSnapshot | None = None
        self._log: tuple[tuple[int, int], tuple[str, ...]] = ((0, 0), ())
        self.fresh: list[dict[str, Any]] = []

    def poll(self) -> RunSnapshot:
        """The run as it is now: the very same object as before if nothing has changed.

        ``fresh`` holds the events that were new.

        Raises:
            RunError: if there is no run; once there was one the state is ``gone`` instead.
        """
        try:
            self.fresh = self._reading.look()
        except RunError:
            self.fresh = []
            if self._latest is None:
                raise
            if self._latest.state != GONE:
                self._latest = replace(self._latest, state=GONE)
            return self._latest
        log, latest = self._read_log(), self._latest
        description = self._reading.description
        assert description is not None
        changed = latest is None or self.fresh or log is not latest.log or self._reading.state != latest.state
        if changed or latest is None or latest.parameters is not description.parameters:
            self._latest = self._snapshot(description, log)
        assert self._latest is not None
        return self._latest

    def _snapshot(self, description: _Description, log: tuple[str, ...]) -> RunSnapshot:
        story, latest = self._reading.story, self._latest
        again = latest is not None and latest.latest == story.latest
        return RunSnapshot(
            folder=self.folder,
            state=self._reading.state,
            action=description.action,
            command=description.command,
            host=description.host,
            pid=description.pid,
            parameters=description.parameters,
            began=story.began,
            latest=story.latest,
            ended=story.ended,
            paused=story.paused,
            looked=latest.looked if latest is not None and again else time.monotonic(),
            epochs=tuple(story.epochs),
            losses=story.losses.points(),
            step=story.step,
            progress=story.progress,
            usage=story.usage,
            device=story.device,
            said=tuple(story.said),
            log=log,
            preview=story.preview,
            checkpoint=story.checkpoint,
            tiles=tuple(story.tiles.values()),
            samples=story.samples,
            result=story.result,
            test=story.test,
            error=story.error,
        )

    def _read_log(self) -> tuple[str, ...]:
        """The last lines of log.txt; the same object if it has not grown."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_size, status.st_mtime_ns)
                if stamp != self._log[0]:
                    file.seek(max(0, status.st_size - _LOG_BYTES))
                    text = file.read(_LOG_BYTES).decode("utf-8", "backslashreplace")
                    lines = text.splitlines()[1 if status.st_size > _LOG_BYTES else 0 :]
                    self._log = (stamp, tuple(line[:_TEXT] for line in lines[-_LOG_LINES:]))
        except OSError:
            pass
        return self._log[1]


def follow(folder: Path, stop: Stop, seconds: float = 0.3) -> Iterator[dict[str, Any]]:
    """The events of a run, those to come too, until it has ended, died or is gone, or ``stop`` is requested.

    Raises:
        RunError: if there is no run.
    """
    watcher = RunWatcher(folder)
    while not stop.requested:
        running = watcher.poll().running
        yield from watcher.fresh
        if not running:
            return
        time.sleep(seconds)


# ------------------------------------------------------------------------------------------------ all runs


class RunsIndex:
    """The runs of a folder in short; hundreds may be polled once a second.

    Args:
        runs_folder: Where they are; it need not exist yet.
    """

    def __init__(self, runs_folder: Path) -> None:
        self.runs_folder = runs_folder
        self._known: dict[str, _Entry] = {}

    def poll(self) -> list[RunSummary]:
        """Every run, the one that began first in front; what is not a readable run is left out."""
        try:
            with os.scandir(self.runs_folder) as entries:
                names = [entry.name for entry in entries if entry.is_dir()]
        except OSError:
            names = []
        for name in set(self._known) - set(names):
            del self._known[name]
        found = []
        for name in names:
            if name not in self._known:
                self._known[name] = _Entry(self.runs_folder / name)
            with suppress(RunError):
                found.append(self._known[name].look())
        return sorted(found, key=lambda run: (run.began, run.name))


def summary(folder: Path) -> RunSummary:
    """One run in short.

    Raises:
        RunError: if this is no run.
    """
    return _Entry(folder).look()


class _Entry:
    """One run of an index. Of a long file of events only the beginning and the end are read at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reading: _Reading | None = None
        self._began: float | None = None
        self._summary: RunSummary | None = None
        self._stamp: tuple[int, ...] = ()

    def look(self) -> RunSummary:
        """Read what is new.

        Raises:
            RunError: if this is no run.
        """
        stamp = self._stamped()
        summary = self._summary
        if summary is not None and stamp == self._stamp and summary.state in runs.ENDED:
            return summary
        if self._reading is None:
            self._reading = self._first_look()
        else:
            self._reading.look()
        self._stamp = stamp
        self._summary = self._summarised(self._reading)
        return self._summary

    def _stamped(self) -> tuple[int, ...]:
        stamp: tuple[int, ...] = ()
        for name in ("run.json", "events.jsonl"):
            with suppress(OSError):
                status = (self._folder / name).stat()
                stamp += (status.st_ino, status.st_mtime_ns, status.st_size)
        return stamp

    def _first_look(self) -> _Reading:
        for n_bytes in _TAILS:
            reading = _Reading(self._folder)
            cut = reading.lines.begin_at_tail(n_bytes)
            reading.look()
            assert reading.description is not None
            if not cut or reading.story.epochs or reading.description.action != "train":
                break
        return reading

    def _summarised(self, reading: _Reading) -> RunSummary:
        story, description = reading.story, reading.description
        assert description is not None
        if self._began is None:
            self._began = _first_time(self._folder)
        began = self._began if self._began is not None else (self._folder / "run.json").stat().st_mtime
        last = story.epochs[-1] if story.epochs else {}
        asked = description.parameters.get("epochs")
        summary = story.result.get("summary") if story.result else None
        return RunSummary(
            folder=self._folder,
            name=self._folder.name,
            action=description.action,
            state=reading.state,
            command=description.command,
            host=description.host,
            pid=description.pid,
            began=began,
            latest=story.latest if story.latest is not None else began,
            ended=story.ended,
            progress=story.progress,
            epoch=_count(last.get("epoch")),
            epochs=_count(asked),
            f1=mean_score(last),
            loss=last.get("validation_loss", last.get("loss")),
            text=story.error or _text(summary),
        )


def _first_time(folder: Path) -> float | None:
    """When a run's first event was written."""
    with suppress(OSError), (folder / "events.jsonl").open("rb") as file:
        for line in file.read(1 << 16).split(b"\n")[:-1]:
            if (event := _event(line)) is not None:
                return float(event["t"])
    return None
