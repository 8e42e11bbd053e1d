"""One writer at a time, through a lock file beside the data set.

The file names its holder, so that others can say who changes the data set since when, and so that a lock whose holder
died on this host is taken over. Kernel locks would vanish with their holder, but cannot be relied on over a network.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deepscem_tui.engine.errors import DatasetError, LockedError

__all__ = ["Holder", "holder", "lock_path", "locked", "wait_until_free"]

WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.05
_CLOCK_SECONDS = 2.0  # by which a process's start time may seem to move when the clock is set


def lock_path(path: Path) -> Path:
    """Where the lock of a file is kept."""
    return path.with_name(path.name + ".lock")


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        host: Name of the machine; empty if the lock file cannot be understood.
        pid: Process.
        process_started: When that process began, seconds since the epoch: process numbers are used again.
        since: When the lock was taken, seconds since the epoch.
        token: Of this lock alone.
    """

    host: str
    pid: int
    process_started: float
    since: float
    token: str

    @property
    def here(self) -> bool:
        """Whether this is a process of this host."""
        return self.host == socket.gethostname()

    @property
    def dead(self) -> bool:
        """Whether the process is known not to exist any more; of another host's nothing is known."""
        if not self.here:
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            return bool(abs(process.create_time() - self.process_started) > _CLOCK_SECONDS)
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:  # it exists and may not be looked at
            return False

    def __str__(self) -> str:
        if not self.host:
            return "another process"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        whose = "this process" if self.here and self.pid == os.getpid() else f"process {self.pid} on {self.host}"
        return f"{whose} since {since}"


def holder(path: Path) -> Holder | None:
    """Who changes a file at present; None if nobody does, or who did is dead.

    Args:
        path: The file, not its lock.
    """
    found = _read(lock_path(path))
    return None if found is None or found.dead else found


def wait_until_free(path: Path) -> None:
    """Return when nobody changes a file.

    Raises:
        LockedError: somebody still does after a few seconds.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := holder(path)) is not None:
        if time.monotonic() >= deadline:
            raise _refusal(path, found)
        time.sleep(_POLL_SECONDS)


@contextmanager
def locked(path: Path, seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of a file while the block lasts.

    Args:
        path: The file to change.
        seconds: How long to wait for another holder; a few if not given.

    Raises:
        LockedError: another process holds it.
        DatasetError: no lock file can be made in the folder.
    """
    lock, deadline = lock_path(path), time.monotonic() + (WAIT_SECONDS if seconds is None else seconds)
    mine = Holder(
        socket.gethostname(), os.getpid(), psutil.Process().create_time(), time.time(), secrets.token_hex(8)
    )  # fmt: skip
    try:
        while not (_create(lock, mine) or _take_over(lock, mine)):
            if time.monotonic() >= deadline:
                raise _refusal(path, _read(lock) or mine)
            time.sleep(_POLL_SECONDS)
    except OSError as error:
        what = f"{path} cannot be changed: no lock file can be made beside it ({error.strerror or error})"
        raise DatasetError(what, "Ask for permission to write in its folder, or copy it elsewhere.") from error
    try:
        yield
    finally:
        found = _read(lock)
        if found is not None and found.token == mine.token:
            with suppress(OSError):
                lock.unlink()


def _refusal(path: Path, found: Holder) -> LockedError:
    if found.dead:  # and who took it over died in the middle
        hint = f"That process is dead: delete {lock_path(path)} and {_claim(lock_path(path), found).name}"
    elif found.here:
        hint = "Wait until it has finished."
    else:
        hint = f"Wait until it has finished; if that process is dead, delete {lock_path(path)}"
    return LockedError(f"{path} is being changed by {found}", hint)


def _read(lock: Path) -> Holder | None:
    """The holder; None if there is no lock. A lock that cannot be understood has an unknown holder."""
    try:
        values = json.loads(lock.read_bytes())
        return Holder(
            str(values["host"]),
            int(values["pid"]),
            float(values["process_started"]),
            float(values["since"]),
            str(values["token"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return Holder("", 0, 0.0, 0.0, "")


def _create(lock: Path, mine: Holder) -> bool:
    """Make the lock file, with its content at once; False if there is one."""
    if lock.exists():
        return False
    temporary = lock.with_name(f".{lock.name[-100:]}-{mine.token}")
    content = json.dumps(asdict(mine)).encode()
    try:
        with temporary.open("xb") as file:
            file.write(content)
        try:
            os.link(temporary, lock)
        except FileExistsError:
            return temporary.stat().st_nlink == 2  # NFS may report a link that it has made as there already
        except (OSError, AttributeError):
            return _create_without_links(lock, content)
        return True
    finally:
        with suppress(OSError):
            temporary.unlink()


def _create_without_links(lock: Path, content: bytes) -> bool:
    """As above where the file system has no links; a crash between the two steps leaves a lock of nobody."""
    try:
        with lock.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _claim(lock: Path, dead: Holder) -> Path:
    return lock.with_name(f"{lock.name}.{dead.token}")


def _take_over(lock: Path, mine: Holder) -> bool:
    """Replace a dead holder's lock by ours; False if it is alive, or another process is faster.

    Only who has the claim on a lock, a file named by its token, may replace it; so nobody can mistake the lock of one
    who was faster for that of the dead.
    """
    found = _read(lock)
    if found is None or not found.dead:
        return False
    claim = _claim(lock, found)
    new = claim.with_name(f"{claim.name}.{mine.token}")
    try:
        claim.open("xb").close()
    except FileExistsError:
        return False
    try:
        if _read(lock) != found:
            return False
        new.write_text(json.dumps(asdict(mine)))
        new.replace(lock)
        return True
    finally:
        claim.unlink(missing_ok=True)
