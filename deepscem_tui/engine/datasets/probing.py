"""Files of others are opened first in a process that may crash.

On about one in a thousand damaged files HDF5's C library crashes or never returns, and takes its process with it. So a
file that was not seen before is looked through by a helper (:mod:`deepscem_tui.engine.datasets.probe_helper`), which is
kept for the next file. What it ends on is refused here; what it gets through is opened as ever, damaged or not.

Files are known again by where they are, their size and their times, in this process and, by a list in the user's cache
folder, in later ones.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import platformdirs

from deepscem_tui.engine.datasets.probe_helper import ENDLESS, READY
from deepscem_tui.engine.errors import DataError
from deepscem_tui.engine.system.own_python import own_python

__all__ = ["probe", "remember"]

Kind = Literal["hdf5", "tiff"]

_log = logging.getLogger(__name__)
_MODULE = "deepscem_tui.engine.datasets.probe_helper"
_LINE = 33  # bytes of a file in the list
_MOST_BYTES = 8000 * _LINE
_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")  # of crashes; others come from people and systems
_CRASHES = {-getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)} | {0xC0000005}  # Windows' SIGSEGV
_REASONS = {
    "memory": "it claims more memory than any file that is whole",
    "crashed": "it crashes the library that reads it",
    "endless": "the library that reads it never comes to an end",
}


def probe(path: Path, error: type[DataError], kind: Kind = "hdf5", known_as: Path | None = None) -> None:
    """Look through a file in another process, unless it was seen before.

    Args:
        error: What to raise.
        known_as: The file to remember and to name in its place, where it is a part that was taken out of that one.

    Raises:
        DataError: of the type ``error``: the library that reads it crashes, does not return, or is made to claim
            memory without end.
    """
    named = known_as or path
    key = _key(named, kind)
    if key is None:  # it is gone, or may not be looked at: whoever opens it says so
        return
    if key not in _seen and key in _listed():
        _seen[key] = ""
    if key not in _seen:  # what is known does not wait for the helper, which may hang on a disk that does not answer
        _look_through(path, kind, named, key)
    reason = _seen.get(key)
    if reason:
        raise error(f"{named} is damaged: {_REASONS[reason]}", "Copy it again, or restore it from a copy.")


def _look_through(path: Path, kind: Kind, named: Path, key: str) -> None:
    """Have the helper look through a file, and note what comes of it, if anything does."""
    with _lock:
        if key not in _seen:  # another thread may have asked meanwhile
            began = time.perf_counter()
            outcome = _helper.look_through(path, kind)
            if outcome is None:  # it is opened as ever, and looked through the next time
                return
            _seen[key] = outcome
            _log.debug(
                "%s looked through in %.3f s: %s", named, time.perf_counter() - began, outcome or "nothing found"
            )
            if not outcome:
                _list(key)


def remember(path: Path) -> None:
    """Take a file that this program has written as seen."""
    key = _key(path, "hdf5")
    if key is not None:
        with _lock:
            _seen[key] = ""
            _list(key)


def _key(path: Path, kind: Kind) -> str | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    times = status.st_mtime_ns, status.st_ctime_ns
    facts = (kind, str(path.absolute()), status.st_dev, status.st_ino, status.st_size, *times)
    return hashlib.blake2b(repr(facts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


# ------------------------------------------------------------------------------------------- the list of files seen

_lock = threading.Lock()
_seen: dict[str, str] = {}  # what the helper ended on, by key; empty for what it got through


def _list_path() -> Path:
    return platformdirs.user_cache_path("deepscem-tui") / "files-seen.txt"


def _listed() -> frozenset[str]:
    try:
        return frozenset(_list_path().read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return frozenset()


def _list(key: str) -> None:
    path = _list_path()
    with suppress(OSError):  # a home that cannot be written: it is looked through again by the next process
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _MOST_BYTES:
            path.unlink()
        with path.open("a", encoding="ascii") as file:
            file.write(f"{key}\n")


# ------------------------------------------------------------------------------------------------------- the helper


class _Helper:
    """A process that looks through one file after the other; it ends by itself when it is not needed for long."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._of_parents: list[subprocess.Popen[str]] = []

    def look_through(self, path: Path, kind: Kind) -> str | None:
        """What the helper ends on, empty if it gets through; None if it cannot be started, or others end it."""
        question = json.dumps([kind, str(path.absolute())])
        ended = 0  # of those started for this file, for no fault of it
        while ended < 2:
            try:
                process, fresh = self._running()
            except OSError as error:
                _log.debug("no process to look through files: %s", error)
                return None
            answer = _ask(process, question)
            if answer:
                return "" if answer == "done" else answer
            self.end()
            if process.returncode == ENDLESS:
                return "endless"
            if fresh and process.returncode in _CRASHES:  # else the file before may have done this
                return "crashed"
            ended += fresh
        _log.debug("the process to look through files was ended twice (status %d)", process.returncode)
        return None

    def _running(self) -> tuple[subprocess.Popen[str], bool]:
        """The process, and whether it has just been started.

        Raises:
            OSError: it cannot be started, or does not come to its work: what that is says nothing of any file.
        """
        if self._process is not None and self._process.poll() is None:
            return self._process, False
        self.end()
        self._process = process = _start()
        if process.stdout is None or process.stdout.readline() != READY:
            self.end()
            raise OSError(f"it ended before it began, with status {process.returncode}")
        return process, True

    def end(self) -> None:
        if self._process is not None:
            if self._process.stdout is not None and not self._process.stdout.closed:
                self._process.stdout.close()
            with suppress(OSError):  # what was not sent
                self._process.stdin.close()  # type: ignore[union-attr]
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def leave_to_parent(self) -> None:
        """After a fork: the process answers the one that started it."""
        if self._process is not None:
            self._of_parents.append(self._process)  # which keeps Python from waiting for it
            self._process = None


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        own_python(_MODULE, "-I"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="ascii",
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # ctrl+c in a terminal is not meant for it
    )


def _ask(process: subprocess.Popen[str], question: str) -> str:
    """The answer; empty if the process ended without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(question + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return process.stdout.readline().strip()


_helper = _Helper()
atexit.register(_helper.end)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _helper.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
