"""The events of a run: read as they are appended, and put together to what they tell.

What a file holds may be torn, foreign or hostile: values of a wrong type are left out, texts and lists are bounded.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deepscem_tui.engine.runs.recorder import ENDED
from deepscem_tui.engine.runs.snapshots import Gpu, Preview, Progress, Said, StepFacts, Tiles, Usage
from deepscem_tui.engine.system.files import regular

__all__ = ["STEP_POINTS", "EventLines", "Story", "count", "event_of", "text"]

STEP_POINTS = 1000  # of the loss by step, at least while there are as many; at most twice as many
_SAID = 200
_LONGEST_LINE = 1 << 20
_CHUNK = 1 << 20
_BACKLOG = 2 << 20  # bytes that are read in full when a run is looked at first; of more, a part
_LATEST = 253402300800.0  # the year 10000, which no clock of ours shows
_FREQUENT = re.compile(rb'"type": "(step|progress)"')
_TEXT = 2000
_COLUMNS = 2000  # of an epoch
_SAMPLES = 10_000


class EventLines:
    """The events that a file gained since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._rest = b""
        self._skipping = False  # the rest of a line that is too long, or that was not seen from its beginning
        self._inode: int | None = None
        self.replaced = False

    def fresh(self) -> list[dict[str, Any]]:
        return [event for line in self._lines() if (event := event_of(line)) is not None]

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
            with regular(self._path).open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size < self._position or (self._inode not in (None, status.st_ino)):
                    self._position, self._rest, self._skipping, self.replaced = 0, b"", False, True
                self._inode = status.st_ino
                file.seek(self._position)
                each = (status.st_size - self._position) // _BACKLOG
                while chunk := file.read(_CHUNK):
                    latest = status.st_size - self._position <= 2 * _CHUNK  # the last one may be a few bytes
                    self._position += len(chunk)
                    lines = self._split(chunk)
                    yield from lines if latest else _thinned(lines, each)
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


def _thinned(lines: Iterator[bytes], each: int) -> Iterator[bytes]:
    """Of a long past most of what comes twice a second is left out."""
    seen = {b"step": 0, b"progress": 0}
    for line in lines:
        found = _FREQUENT.search(line[:80])
        if found:
            seen[found[1]] += 1
            if seen[found[1]] % max(1, each):
                continue
        yield line


def event_of(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        return None
    t = number(event.get("t"))
    return event if t is not None and 0 <= t < _LATEST else None


def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def count(value: Any) -> int:
    found = number(value)
    return int(found) if found is not None and 0 <= found < 2**53 else 0


def text(value: Any) -> str:
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


class Story:
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
        if kind in ENDED:
            self.end = event
        handler = getattr(self, f"_on_{kind}", None) if kind.isidentifier() else None
        if handler is not None:
            handler(t, event)

    def _on_started(self, _: float, event: dict[str, Any]) -> None:
        self.device = text(event.get("device"))
        plans = event.get("plans")
        self.samples = len(plans) if isinstance(plans, list) else 0

    def _on_message(self, t: float, event: dict[str, Any]) -> None:
        self.said.append(Said(t, str(event["type"]), text(event.get("text"))))

    _on_warning = _on_message

    def _on_progress(self, t: float, event: dict[str, Any]) -> None:
        task, done, total = text(event.get("task")), number(event.get("done")), number(event.get("total"))
        if done is None or total is None:
            return
        if task != self._task[0] or done < self._task[2]:
            self._task = (task, t, done)
        seconds, more = t - self._task[1], done - self._task[2]
        rate = more / seconds if seconds > 0 and more > 0 else None
        self.progress = Progress(task, done, total, text(event.get("unit")), text(event.get("note")), rate)

    def _on_step(self, _: float, event: dict[str, Any]) -> None:
        counts = (count(event.get(name)) for name in ("epoch", "step", "steps_per_epoch", "epochs"))
        names = ("loss", "mean_loss", "learning_rate", "patches_per_second", "waiting_for_data")
        self.step = StepFacts(*counts, *(number(event.get(name)) for name in names))
        if self.step.loss is not None and self.step.epoch and self.step.steps_per_epoch:
            self.losses.add(self.step.epoch - 1 + self.step.step / self.step.steps_per_epoch, self.step.loss)

    def _on_epoch(self, _: float, event: dict[str, Any]) -> None:
        done = count(event.get("epoch"))
        facts = {
            key: value
            for key, value in list(event.items())[:_COLUMNS]
            if key not in ("t", "type") and len(key) <= _TEXT and (value is None or number(value) is not None)
        }
        if done:
            while self.epochs and (self.epochs[-1]["epoch"] or 0) >= done:  # done again after a resume
                self.epochs.pop()
            self.epochs.append(facts)

    def _on_usage(self, _: float, event: dict[str, Any]) -> None:
        names = ("cpu", "cores", "machine_percent", "memory", "memory_available")
        gpus = event.get("gpus")
        described = tuple(
            Gpu(text(gpu.get("name")), *(number(gpu.get(name)) for name in ("percent", "memory", "memory_total")))
            for gpu in (gpus[:64] if isinstance(gpus, list) else ())
            if isinstance(gpu, dict)
        )
        cpu, cores, machine, memory, available = (number(event.get(name)) for name in names)
        self.usage = Usage(cpu, cores, machine, memory, available, described)

    def _on_preview(self, t: float, event: dict[str, Any]) -> None:
        file = event.get("file")
        if isinstance(file, str) and re.fullmatch(r"preview/[^/\0]{1,250}\.npz", file):  # nothing outside the folder
            self.preview = Preview(self._folder / file, t)

    def _on_checkpoint(self, t: float, _: dict[str, Any]) -> None:
        self.checkpoint = t

    def _on_tiles(self, _: float, event: dict[str, Any]) -> None:
        name = text(event.get("sample"))
        if name in self.tiles or len(self.tiles) < _SAMPLES:
            done, total = count(event.get("done")), count(event.get("total"))
            self.tiles[name] = Tiles(name, done, total, number(event.get("voxels_per_second")))

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
        return text(self.end.get("error")) if self.end else ""
