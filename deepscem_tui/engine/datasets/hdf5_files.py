"""HDF5 files opened and closed so that what goes wrong is told in plain words, and nothing is left half done."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

from deepscem_tui.engine import words
from deepscem_tui.engine.datasets.journal import PAGE, WatchedFile
from deepscem_tui.engine.datasets.probing import probe
from deepscem_tui.engine.errors import DatasetError, LockedError, ResourceError
from deepscem_tui.engine.system.devices import available_cores
from deepscem_tui.engine.system.files import missing_hint
from deepscem_tui.engine.system.space import is_full, no_room

__all__ = ["check_file", "h5py_file", "real_path", "session", "unopened", "writing"]


def real_path(path: Path) -> Path:
    """The file itself: lock and journal lie beside it, whatever links lead there."""
    return path.resolve() if path.exists() else path


@contextmanager
def writing(path: Path, watched: WatchedFile | None = None) -> Iterator[None]:
    """Say in plain words why a file cannot be written; with a watched file, errors of others are left alone."""
    try:
        yield
    except Exception as error:
        cause = error if watched is None else watched.error
        if not isinstance(cause, OSError):
            raise
        raise _cannot_write(path, cause, watched) from error


def _cannot_write(path: Path, cause: OSError, watched: WatchedFile | None) -> ResourceError | DatasetError:
    reason = cause.strerror or str(cause)
    if is_full(cause):
        told = no_room(path, cause, max(PAGE, watched.appended if watched is not None else 0), at_least=True)
        return ResourceError(told.what, f"Nothing has been changed. {told.hint}")
    if cause.errno == errno.EIO:
        return ResourceError(f"{path} could not be written: {reason}", "Nothing has been changed. Check the disk.")
    return DatasetError(f"{path} cannot be written: {reason}", "Check the permissions of the file and its folder.")


def check_file(path: Path) -> None:
    """Raise unless this is a file that can be opened without waiting for anybody."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise DatasetError(f"{path} is {kind}, not a data set", "Give a data set (.hdf5).")
        if status.st_size == 0:
            raise DatasetError(f"{path} is empty", "Copy it again, or restore it from a copy.")
        path.open("rb").close()
    except FileNotFoundError:
        raise DatasetError(f"There is no data set {path}", missing_hint(path)) from None
    except PermissionError:
        raise DatasetError(f"{path} may not be read", "Ask its owner for permission to read it.") from None
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be opened: {error.strerror or error}", "Check its name and folder."
        ) from error


@contextmanager
def unopened(path: Path) -> Iterator[None]:
    """Keep other programs from opening a file for writing meanwhile, by the lock that HDF5 itself looks at.

    Raises:
        LockedError: one has it open, as DeepSCEM has a data set from loading it to unloading it.
    """
    try:
        import fcntl
    except ImportError:  # not POSIX
        yield
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"{path} is open in another program, such as DeepSCEM"
            raise LockedError(what, "Unload it there, and try again.") from None
        except OSError:  # the file system knows no locks
            pass
        yield


@contextmanager
def session(path: Path, watched: WatchedFile, mode: str) -> Iterator[tuple[h5py.File, ThreadPoolExecutor]]:
    """An HDF5 file for writing, closed at the end; after an error nothing more is written to the disk."""
    with ThreadPoolExecutor(available_cores()) as pool, writing(path, watched):
        with h5py_file(path, watched, mode) as file:
            try:
                yield file, pool
            except BaseException:
                watched.abandon()
                raise
        if watched.error is not None:
            raise watched.error


@contextmanager
def h5py_file(path: Path, name: Any, mode: str, **options: Any) -> Iterator[h5py.File]:
    if name is path:
        probe(path, DatasetError)
    try:
        file = h5py.File(name, mode, **options)
    except PermissionError:
        raise
    except OSError as error:
        if isinstance(name, WatchedFile) and name.error is not None:
            raise
        if not h5py.is_hdf5(path):
            what = f"{path} is no data set: it is no HDF5 file"
        elif "truncated" in str(error):
            what = f"{path} is incomplete: its end is missing"
        else:
            what = f"{path} is damaged ({words.reason(error)})"
        raise DatasetError(what, "Copy it again, or restore it from a copy.") from error
    try:
        yield file
    finally:
        try:
            file.close()
        except BaseException:  # the disk failed while the rest was written: now nothing is written any more
            with suppress(Exception):
                file.close()
            raise
