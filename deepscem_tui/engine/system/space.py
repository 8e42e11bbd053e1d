"""Room on disks: looked at before long work, and told in bytes where it has run out."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from deepscem_tui.engine.errors import EngineError, ResourceError

__all__ = ["check_room", "free_bytes", "is_full", "no_room"]

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # EFBIG: a limit of the process
_IN_WORDS = re.compile(  # of HDF5, and of NumPy, which does not say why it could write a part only
    rf"errno = ({'|'.join(map(str, sorted(_FULL)))})\b|\d+ requested and \d+ written"
)


def is_full(error: BaseException) -> bool:
    """Whether something could not be written for want of room, whatever a library has made of the error."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, EngineError):
            return False  # told already
        if (isinstance(cause, OSError) and cause.errno in _FULL) or _IN_WORDS.search(str(cause)):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def no_room(path: Path, error: BaseException, needed: int, at_least: bool = False) -> ResourceError:
    """The error to raise where a file could not be written for want of room.

    Args:
        needed: Bytes that the file has, or should have had.
        at_least: Whether it is not known how many more.
    """
    number = error.errno if isinstance(error, OSError) and error.errno else errno.ENOSPC
    much = f"{'more than ' if at_least else ''}{needed:,} bytes are needed, {free_bytes(path.parent):,} are free"
    what = f"{path} could not be written: {os.strerror(number)} ({much})"
    return ResourceError(what, "Free some space, or use another disk.")


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written where a folder is, or is to be made."""
    return shutil.disk_usage(_nearest(folder)).free


def _is_no_disk(folder: Path) -> bool:
    """Whether what holds a folder has no size, as ``/proc`` has none: whoever writes there is told so."""
    return shutil.disk_usage(_nearest(folder)).total == 0


def _nearest(folder: Path) -> Path:
    """A folder, or the first above it that is there."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def check_room(needed: Mapping[Path, int]) -> None:
    """Raise before hours of work rather than at their end.

    Args:
        needed: Bytes, by the file or folder that will take them; those on one disk count together.

    Raises:
        ResourceError: a disk has less room.
    """
    disks: dict[int, list[Path]] = {}
    for path in needed:
        nearest = next(parent for parent in path.absolute().parents if parent.exists())
        disks.setdefault(nearest.stat().st_dev, []).append(path)
    for paths in disks.values():
        total, free = sum(needed[path] for path in paths), free_bytes(paths[0].parent)
        if total > free and not _is_no_disk(paths[0].parent):
            what = f"{total:,} bytes are needed for {' and '.join(map(str, paths))}, and {free:,} are free"
            raise ResourceError(what, "Free some space, or choose a place on another disk.")
