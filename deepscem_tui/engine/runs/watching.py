"""Watching runs: what a run folder says, as immutable snapshots, reading only what was appended since the last look.

A :class:`RunWatcher` follows one run in all detail, a :class:`RunsIndex` all runs of a folder in short. Both may be
polled from any one thread, a few times a second. What a folder holds may be torn, foreign or hostile: values of a
wrong type are left out, texts and lists are bounded, and control characters are left for whoever shows them to clean.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.runs.event_story import EventLines, Story, count, event_of, text
from deepscem_tui.engine.runs.recorder import ENDED
from deepscem_tui.engine.runs.snapshots import (
    Gpu,
    Preview,
    Progress,
    RunSnapshot,
    RunSummary,
    Said,
    StepFacts,
    Tiles,
    Usage,
    model_f1,
)
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.files import regular
from deepscem_tui.engine.system.processes import Process

__all__ = [
    "Gpu", "Preview", "Progress", "RunSnapshot", "RunSummary", "RunWatcher", "RunsIndex", "Said", "StepFacts", "Tiles",
    "Usage", "follow", "summary",
]  # fmt: skip

GONE = "gone"
_LOG_BYTES, _LOG_LINES, _LOG_CHARACTERS = 1 << 15, 300, 2000
_TAILS = (1 << 17, 1 << 20, 1 << 23)  # bytes at the end of events.jsonl in which an index looks for the last epoch


@dataclass(frozen=True)
class _Description:
    """What run.json says."""

    action: str
    command: str
    process: Process
    parameters: Mapping[str, Any]


def _described(folder: Path) -> _Description:
    """Read run.json.

    Raises:
        RunError: if it is none of ours.
        OSError: if it cannot be read.
    """
    try:
        with regular(folder / "run.json").open("rb") as file:
            facts = json.loads(file.read(16 << 20))
        parameters = facts["parameters"]
        return _Description(
            text(facts["action"]), text(facts["command"]),
            Process(
                text(facts["host"]), count(facts["pid"]), float(facts["pid_started"]), text(facts.get("pid_birth", ""))
            ),
            parameters if isinstance(parameters, dict) else {},
        )  # fmt: skip
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{folder / 'run.json'} cannot be read: {error}", "It is damaged, or no run folder.") from None


class _Life:
    """Whether a run's process lives. Of another host's only its heartbeat is known.

    Clocks differ between hosts: a heartbeat that was seen to change is as good as one of the right time.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "heartbeat"
        self._last: float | None = None
        self._changed: float | None = None

    def alive(self, description: _Description) -> bool:
        known = runs.process_alive(description.process)
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
        self.story = Story(folder)
        self.lines = EventLines(folder / "events.jsonl")
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
            self.story = Story(self.folder)
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
            host=description.process.host,
            pid=description.process.pid,
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
            with regular(self.folder / "log.txt").open("rb") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_size, status.st_mtime_ns)
                if stamp != self._log[0]:
                    file.seek(max(0, status.st_size - _LOG_BYTES))
                    printed = file.read(_LOG_BYTES).decode("utf-8", "backslashreplace")
                    lines = printed.splitlines()[1 if status.st_size > _LOG_BYTES else 0 :]
                    self._log = (stamp, tuple(line[:_LOG_CHARACTERS] for line in lines[-_LOG_LINES:]))
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
            with suppress(RunError, OSError):  # gone just now
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
        if summary is not None and stamp == self._stamp and summary.state in ENDED:
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
            host=description.process.host,
            pid=description.process.pid,
            began=began,
            latest=story.latest if story.latest is not None else began,
            ended=story.ended,
            paused=story.paused,
            progress=story.progress,
            epoch=count(last.get("epoch")),
            epochs=count(asked),
            f1=model_f1(story.epochs, story.result),
            loss=last.get("validation_loss", last.get("loss")),
            text=story.error or text(summary),
        )


def _first_time(folder: Path) -> float | None:
    """When a run's first event was written."""
    with suppress(OSError), regular(folder / "events.jsonl").open("rb") as file:
        for line in file.read(1 << 16).split(b"\n")[:-1]:
            if (event := event_of(line)) is not None:
                return float(event["t"])
    return None
