"""What a run writes of itself while it works: events, metrics, a heartbeat."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import finite
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.files import write_text
from deepscem_tui.engine.system.space import is_full, no_room
from deepscem_tui.engine.system.usage import Meter

__all__ = ["ENDED", "HEARTBEAT_SECONDS", "Recorder", "heartbeat"]

HEARTBEAT_SECONDS = 5.0
ENDED = ("finished", "stopped", "failed")
_LASTING = ("started", "resumed", "epoch", "checkpoint", "test", "plan", *ENDED)  # events that must not be lost
_PROGRESS_SECONDS = 0.5


class Recorder(Reporter):
    """Writes what an action says to its run folder, and passes it on.

    Where the disk is full, steps and messages are left out; the events that a resume or a reader builds on raise
    :class:`ResourceError`.
    """

    def __init__(self, folder: Path, inner: Reporter) -> None:
        self._folder = folder
        self._inner = inner
        self._events = (folder / "events.jsonl").open("a+b", buffering=0)
        self._end_line()
        self._writing = threading.Lock()  # the heartbeat writes too
        self._last_progress = 0.0
        self._torn = False  # the last line is not whole
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

    def usage(self, **facts: Any) -> None:
        """Record what the run takes of its machine; from any thread, and not passed on."""
        if self.started:
            self._append("usage", facts)

    def close(self) -> None:
        with self._writing:
            self._events.close()

    def _append(self, kind: str, facts: Mapping[str, Any]) -> None:
        event = finite({"t": round(time.time(), 3), "type": kind, **facts})
        text = json.dumps(event, ensure_ascii=False, default=str) + "\n"
        line = text.encode("utf-8", "backslashreplace")
        with self._writing:
            if self._events.closed:
                return
            try:
                if self._torn:
                    self._end_line()
                self._torn = True
                if self._events.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._torn = False
            except OSError as error:
                if kind in _LASTING:
                    raise no_room(self._folder / "events.jsonl", error, len(line)) from error

    def _end_line(self) -> None:
        """End a line that was torn by a kill or a full disk."""
        if self._events.seek(0, os.SEEK_END):
            self._events.seek(-1, os.SEEK_END)
            if self._events.read(1) != b"\n":
                self._events.write(b"\n")

    def _append_metrics(self, facts: Mapping[str, Any]) -> None:
        """Add the row of an epoch; a torn one, and rows of epochs that are done again after a kill, make room."""
        path = self._folder / "metrics.csv"
        text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
        rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))) or [list(facts)]
        kept = rows[:1] + [row for row in rows[1:] if row and row[0].isdecimal() and int(row[0]) < facts["epoch"]]
        if _as_csv(kept) != text:
            write_text(path, _as_csv(kept))
        found = (facts.get(name) for name in kept[0])  # the columns may be those of an earlier version
        new = _as_csv([["" if value is None else value for value in found]])
        try:
            with path.open("a", newline="", encoding="utf-8") as file:
                file.write(new)
        except OSError as error:
            if is_full(error):
                raise no_room(path, error, len(new)) from error
            raise


def _as_csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


@contextmanager
def heartbeat(folder: Path, stop: Stop, recorder: Recorder) -> Iterator[None]:
    """Touch the heartbeat file, measure, and look every second whether somebody asks for a stop."""
    ended = threading.Event()
    meter = Meter()

    def beat() -> None:
        last = float("-inf")
        while not ended.wait(0.0 if last < 0 else 1.0):
            with suppress(OSError):  # a full disk or a lost server must not end the run
                if time.monotonic() - last >= HEARTBEAT_SECONDS:
                    last = time.monotonic()
                    (folder / "heartbeat").touch()
                    recorder.usage(**meter.measure())
                if (folder / "stop").exists():
                    stop.request("by request from another window or shell")

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
