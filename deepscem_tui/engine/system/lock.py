"""One writer at a time, through a lock file beside the data set.

The file names its holder, so that others can say who changes the data set since when, and so that a lock whose holder
died on this host is taken over. Kernel locks would vanish with their holder, but cannot be relied on over a network.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deepscem_tui.engine.errors import DatasetError, LockedError
from deepscem_tui.engine.system.files import regular, sweep, temporary_name
from deepscem_tui.engine.system.processes import Process, this_process
from deepscem_tui.engine.system.space import is_full, no_room

__all__ = ["Holder", "holder", "lock_path", "locked", "wait_until_free"]

WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.05
# As file systems say that they have no links; the last is Windows' word for it.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def lock_path(path: Path) -> Path:
    """Where the lock of a file is kept."""
    return path.with_name(path.name + ".lock")


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        process: The holder; of no host if the lock file cannot be understood.
        since: When the lock was taken, seconds since the epoch.
        token: Of this lock alone.
    """

    process: Process
    since: float
    token: str

    @property
    def dead(self) -> bool:
        """Whether the process is known not to exist any more."""
        return self.process.dead

    def __str__(self) -> str:
        process = self.process
        if not process.host:
            return "another process"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        ours = process.here and process.pid == os.getpid()
        return f"{'this process' if ours else f'process {process.pid} on {process.host}'} since {since}"


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
def locked(
    path: Path, seconds: float | None = None, gone: Callable[[Holder], bool] = lambda found: found.dead
) -> Iterator[None]:
    """Hold the lock of a file while the block lasts.

    Args:
        path: The file to change.
        seconds: How long to wait for another holder; a few if not given.
        gone: Whether a holder does not exist any more, for whoever knows more of it than its process tells.

    Raises:
        LockedError: another process holds it.
        DatasetError: no lock file can be made in the folder.
        ResourceError: the disk is full.
    """
    lock, deadline = lock_path(path), time.monotonic() + (WAIT_SECONDS if seconds is None else seconds)
    mine = Holder(this_process(), time.time(), secrets.token_hex(8))
    try:
        sweep(path.parent)
        while not (_create(lock, mine) or _take_over(lock, mine, gone)):
            if time.monotonic() >= deadline:
                raise _refusal(path, _read(lock) or mine)
            time.sleep(_POLL_SECONDS)
    except OSError as error:
        if is_full(error):
            raise no_room(lock, error, len(_content(mine))) from error
        what = f"{path} cannot be changed: no lock file can be made beside it ({error.strerror or error})"
        raise DatasetError(what, "Ask for permission to write in its folder, or copy it elsewhere.") from error
    try:
        yield
    finally:
        _release(lock, mine)


def _release(lock: Path, mine: Holder) -> None:
    """Remove a lock if it is still ours."""
    found = _read(lock)
    if found is not None and found.token == mine.token:
        with suppress(OSError):
            lock.unlink()


def _refusal(path: Path, found: Holder) -> LockedError:
    if found.dead:  # and who took it over cannot be told to be dead
        hint = f"That process is dead: delete {lock_path(path)} and {_claim(lock_path(path), found).name}"
    elif found.process.here:
        hint = "Wait until it has finished."
    else:
        hint = f"Wait until it has finished; if that process is dead, delete {lock_path(path)}"
    return LockedError(f"{path} is being changed by {found}", hint)


def _content(mine: Holder) -> bytes:
    process = mine.process
    return json.dumps(
        {
            "host": process.host,
            "pid": process.pid,
            "process_started": process.started,
            "process_birth": process.birth,
            "since": mine.since,
            "token": mine.token,
        }
    ).encode()


def _read(lock: Path) -> Holder | None:
    """The holder; None if there is no lock. A lock that cannot be understood has an unknown holder."""
    try:
        values = json.loads(regular(lock).read_bytes())
        process = Process(
            str(values["host"]),
            int(values["pid"]),
            float(values["process_started"]),
            str(values.get("process_birth", "")),
        )
        return Holder(process, float(values["since"]), str(values["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return Holder(Process("", 0, 0.0), 0.0, "")


def _create(lock: Path, mine: Holder) -> bool:
    """Make the lock file, with its content at once; False if there is one."""
    if lock.exists():
        return False
    temporary, content = temporary_name(lock), _content(mine)
    try:
        with temporary.open("xb") as file:
            file.write(content)
        try:
            os.link(temporary, lock)
        except AttributeError:
            return _create_without_links(lock, content)
        except OSError as error:
            if temporary.stat().st_nlink == 2:  # NFS may report a link that it has made as there already, or as failed
                return True
            if isinstance(error, FileExistsError):
                return False
            if error.errno not in _NO_LINKS:
                raise
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


def _take_over(lock: Path, mine: Holder, gone: Callable[[Holder], bool]) -> bool:
    """Replace a dead holder's lock by ours; False if it is alive, or another process is faster.

    Only who has the claim on a lock, a file named by its token, may replace it; so nobody can mistake the lock of one
    who was faster for that of the dead. A claim is a lock itself, which is taken over from who died in the middle.
    """
    found = _read(lock)
    if found is None or not found.token or not gone(found):
        return False
    claim = _claim(lock, found)
    if not (_create(claim, mine) or _take_over(claim, mine, gone)):
        return False
    try:
        if _read(lock) != found:
            return False
        new = temporary_name(lock)
        new.write_bytes(_content(mine))
        new.replace(lock)
        return True
    finally:
        _release(claim, mine)
