"""Files written whole or not at all, and what is left of those that were not."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import psutil

from deepscem_tui.engine.errors import DataError, ParameterError
from deepscem_tui.engine.system.processes import running, this_process
from deepscem_tui.engine.system.space import is_full, no_room

_ASIDE = ".old"  # ends the name of a folder while another one takes its place
_LEFT = re.compile(
    r"\.(?P<name>.*)-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<identity>[0-9a-f]{8})-[0-9a-f]{8}"
    r"(?P<end>\.tmp(\..*)?|\.old)",
    re.DOTALL,
)
_HERE, _RENAME_EXCHANGE = -100, 2  # of renameat2
_RANGE_WRITE = 2  # of sync_file_range
_BLOCK = 4096  # bytes that a file takes at least, where it could not even be begun
_FORGOTTEN_SECONDS = 7 * 86400.0  # after which nobody writes to another host's temporary file any more
_swept: set[tuple[int, Path]] = set()

_MOST_NAMES = 10_000  # of a folder, that are compared with one that is not there
_ALIKE = 0.7  # how alike names are, from 0 to 1, that may be mistaken for each other

MASKS = ".ignore"  # before the suffix of what lies beside a data set and belongs to it: what is not labelled

_log = logging.getLogger(__name__)


def missing_hint(path: Path, otherwise: str = "Check its name and folder.") -> str:
    """What to do where there is no such file: take one beside it that is called nearly so, if there is any."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, _MOST_NAMES)]
    except OSError:
        return otherwise
    stems = [os.path.splitext(name)[0] for name in names]  # noqa: PTH122 (many)
    like = get_close_matches(path.stem, set(stems), cutoff=_ALIKE)  # or all data sets would be alike by their ends
    both = [name for name, stem in zip(names, stems, strict=True) if stem in like]
    near = get_close_matches(path.name, both, n=1, cutoff=_ALIKE)
    return f"Did you mean {path.with_name(near[0])}?" if near else otherwise


def refuse_existing(path: Path, overwrite: bool, folder: bool = False) -> None:
    """Raise :class:`ParameterError` if ``path`` exists and may not be replaced.

    Args:
        folder: Whether a folder is to be made, not a file.
    """
    if not folder and path.is_dir():
        raise ParameterError(f"{path} is a folder, not a file", "Give the name of a file.")
    if folder and (path.is_symlink() or (path.exists() and not path.is_dir())):
        raise ParameterError(f"{path} is no folder: it is never replaced by one", "Choose another name.")
    try:
        mode = path.stat().st_mode
        ours = stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)
    except FileNotFoundError:
        ours = True
    except OSError as error:
        raise ParameterError(f"{path} cannot be made: {error.strerror}", "Choose another name.") from None
    if not ours:
        raise ParameterError(f"{path} is no regular file: it is never replaced", "Choose another name.")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise ParameterError(f"{path} exists already", "Use --overwrite to replace it, or choose another name.")


def check_writable(folder: Path) -> None:
    """Raise :class:`DataError` before long work if its result could not be written to ``folder``."""
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise DataError(
            f"Nothing can be written to the folder {nearest.absolute()}", "Choose another folder for the result."
        )


def regular(path: Path) -> Path:
    """The same path, unless opening it could wait, or reading it go on, for ever: a FIFO, a device.

    Raises:
        OSError: it is no regular file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "It is no regular file", str(path))
    return path


class Together:
    """Files that appear together, when the block ends well, or not at all; each is given to :func:`published`."""

    def __init__(self) -> None:
        self._ready: list[tuple[Path, Path]] = []

    def __enter__(self) -> Together:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for temporary, path in self._ready:
            if kind is None:
                _replace(temporary, path)
            else:
                _remove(temporary)
        for folder in {path.parent for _, path in self._ready}:
            sync_folder(folder)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are to appear."""
        return tuple(path for _, path in self._ready)

    def add(self, temporary: Path, path: Path) -> None:
        """Rename a file, which is on the disk already, at the end."""
        self._ready.append((temporary, path))


@contextmanager
def published(
    path: Path,
    size: int | None = None,
    before: Callable[[Path], None] = lambda _: None,
    together: Together | None = None,
    folder: bool = False,
) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and rename it to ``path`` when the block ends well.

    The content reaches the disk before the rename, so that a crash leaves the old file or the new one. Where folders
    cannot change places in one step, on some network drives, one that comes between two renames leaves the old folder
    hidden, and whoever writes there next brings it back.
    When the block fails the temporary file is removed; what a process leaves that is killed is swept by the next one.

    Args:
        size: Bytes that it will have, if that is known, for the message where the disk is full.
        before: Called with the temporary path when its content is on the disk, before it is renamed.
        together: What renames it, with others, instead.
        folder: Whether it is a folder.

    Raises:
        ResourceError: the disk is full, whatever whoever wrote has made of that.
        OSError: it cannot be written for another reason.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    temporary = temporary_name(path)
    try:
        if folder:
            temporary.mkdir()
        else:
            temporary.open("xb").close()
        yield temporary
        _sync(temporary)
        before(temporary)
        if together is None:
            _replace(temporary, path)
        else:
            together.add(temporary, path)
    except BaseException as error:
        reached = 0
        with suppress(OSError):
            reached = sum(part.stat().st_size for part in _parts(temporary))
        _remove(temporary)
        if is_full(error):
            needed = size or max(reached, _BLOCK)
            raise no_room(path, error, needed, at_least=size is None) from error
        raise
    sync_folder(path.parent)
    _log.debug("wrote %s", path)


def _parts(path: Path) -> Iterator[Path]:
    """A file itself, or all files in a folder and below."""
    if not path.is_dir():
        yield path
        return
    for where, _, names in os.walk(path):
        yield from (Path(where, name) for name in names)


def _sync(path: Path) -> None:
    """See that a file, or all files of a folder, are on the disk."""
    for part in _parts(path):
        with part.open("rb+") as file:
            os.fsync(file.fileno())


def _replace(temporary: Path, path: Path) -> None:
    """Rename; a folder that is in the way changes places with the new one, and is removed then."""
    if not temporary.is_dir() or not path.exists():
        temporary.replace(path)
        return
    old = temporary
    if not _exchange(temporary, path):
        old = _name_beside(path, path.name, _ASIDE)
        with suppress(OSError):
            os.utime(path)  # by which other hosts tell how long ago it went aside
        path.rename(old)
        try:
            temporary.rename(path)
        except BaseException:
            old.rename(path)
            raise
    sync_folder(path.parent)
    _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names lead to what the other one did, in one step; False where the system has no way to."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # of Linux, for most of its file systems
    except (AttributeError, OSError, TypeError):
        return False
    rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _remove(temporary: Path) -> None:
    """Remove a temporary file or folder; what cannot be removed does no harm."""
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary, ignore_errors=True)
        return
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A hidden name beside ``path`` that nobody has, and that says which process writes there."""
    return _name_beside(path, path.stem[:40], f".tmp{path.suffix}")


def _name_beside(path: Path, name: str, end: str) -> Path:
    me = this_process()
    whose = f"{_digest(me.place)}-{me.pid}-{_digest(me.identity)}"
    return path.with_name(f".{name}-{whose}-{secrets.token_hex(4)}{end}")


def sweep(folder: Path) -> None:
    """Remove temporary files whose process was killed; a process looks once at a folder.

    Of another host's processes nothing is known: what they left is removed when a week has passed.
    """
    place = (os.getpid(), folder.absolute())
    if place in _swept:
        return
    _swept.add(place)
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(folder)  # noqa: PTH208 -- of folders with many files no more than the names
    for name in names:
        with suppress(OSError):  # what cannot be removed does no harm
            if name.startswith(".") and _is_left(folder / name):
                _clear(folder / name)


def _clear(left: Path) -> None:
    """Remove what was left, unless it went aside for what never came."""
    found = _LEFT.fullmatch(left.name)
    assert found is not None
    place = left.with_name(found["name"])
    if found["end"] == _ASIDE and not place.exists():
        left.rename(place)
    else:
        _remove(left)


def _is_left(path: Path) -> bool:
    found = _LEFT.fullmatch(path.name)
    if found is None:
        return False
    host, pid, identity = found["host"], int(found["pid"]), found["identity"]
    if host != _digest(this_process().place):
        return time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS
    try:
        process = running(pid)
    except psutil.Error:  # it exists and may not be looked at
        return False
    return process is None or _digest(process.identity) != identity


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Bytes of a file's name that are no UTF-8 are written as escapes, such as ``\\udcff``, which JSON reads back.
    """
    content = text.encode("utf-8", "backslashreplace")
    with published(path, len(content)) as temporary:
        temporary.write_bytes(content)


def start_writeback(descriptor: int) -> None:
    """Have the system bring what is written to the disk, without waiting: less is left to wait for at the end."""
    with suppress(OSError, AttributeError, TypeError):  # only Linux has a way to
        ctypes.CDLL(None).sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _RANGE_WRITE)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable, where the system has a way to."""
    with suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
