"""Which process it was, and whether it lives: of locks, runs and temporary files that may have been left behind."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

__all__ = ["Process", "running", "this_process"]

_CLOCK_SECONDS = 2.0  # by which a process's start time may seem to move when the clock is set


@dataclass(frozen=True)
class Process:
    """A process of some machine.

    Args:
        host: Name of the machine.
        pid: Its number, which others get again.
        started: When it began, seconds since the epoch: by the clock of that time.
        birth: Boot of the machine, time since then when it began, which no clock changes, and after ``@`` where its
            number counts: containers of one host name have numbers of their own. Empty if not known.
    """

    host: str
    pid: int
    started: float
    birth: str = ""

    @property
    def here(self) -> bool:
        """Whether this is a process of this host, whose number means the same to us."""
        return self.host == socket.gethostname() and self._numbers in ("", _numbers())

    @property
    def place(self) -> str:
        """What tells its host from others, and from containers of the same name."""
        return f"{self.host} {self._numbers}"

    @property
    def _numbers(self) -> str:
        return self.birth.partition("@")[2]

    @property
    def identity(self) -> str:
        """What tells it from others of its host that had its number."""
        return self.birth or str(int(self.started))

    @property
    def dead(self) -> bool:
        """Whether it is known not to exist any more; of another host's nothing is known."""
        if not self.here:
            return False
        try:
            now = running(self.pid)
        except psutil.Error:  # it exists and may not be looked at
            return False
        if now is None:
            return True
        if self.birth and now.birth:
            return self.birth.partition("@")[0] != now.birth.partition("@")[0]  # what is after it may be missing
        return abs(now.started - self.started) > _CLOCK_SECONDS


def this_process() -> Process:
    """The process that asks."""
    found = running(os.getpid())
    assert found is not None
    return found


def running(pid: int) -> Process | None:
    """The process of this host that has a number; None if there is none, or one that only waits to be buried.

    Raises:
        psutil.Error: it may not be looked at.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Process(socket.gethostname(), pid, process.create_time(), _birth(pid))
    except psutil.ZombieProcess:
        return None
    except psutil.NoSuchProcess:
        if _is_hidden(pid):
            raise psutil.AccessDenied(pid) from None
        return None
    except (ValueError, OverflowError):  # a number that none can have
        return None


def _is_hidden(pid: int) -> bool:
    """Whether a process of somebody else has a number, where /proc shows one's own alone (mounted with hidepid)."""
    if os.name != "posix" or pid <= 0:  # on Windows the call below would end it
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _birth(pid: int) -> str:
    """Which boot of the machine a process is of, and its ticks since then; empty where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return f"{_boot()}:{int(fields[19])}@{_numbers()}"
    except (OSError, IndexError, ValueError):
        return ""


@cache
def _numbers() -> str:
    """The namespace that the numbers of processes are of here."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
