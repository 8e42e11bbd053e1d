"""Changes to a file in place that are undone when they do not finish.

A rollback journal as SQLite's (https://www.sqlite.org/atomiccommit.html), below h5py's file-object driver: before bytes
that the file had at the beginning are overwritten, their old content goes to ``NAME.journal`` and reaches the disk.
Appended bytes need no journal. Deleting the journal is what commits a change; a journal that is found on the next
opening is played back.

The journal is a header, then records until its end; what follows the first incomplete record was never needed::

    header   magic, salt, size of the file at the beginning, marks (offset and CRC-32 of some pages), CRC-32
    record   offset, length, CRC-32 (of salt, offset, length and data), data
"""

from __future__ import annotations

import io
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from deepscem_tui.engine.errors import DatasetError
from deepscem_tui.engine.system.files import start_writeback, sync_folder

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["JournalledFile", "WatchedFile", "is_journalled", "journal_path", "recover"]

PAGE = 4096
_WRITEBACK = 1 << 22  # bytes written before the system is asked to bring them to the disk
_MAGIC = b"DEEPSCEM-TUI journal 1\n"
_FAMILY = _MAGIC[:-2]
_START = struct.Struct("<23s8sQI")  # magic, salt, size, number of marks
_MARK = struct.Struct("<QI")  # offset, CRC-32
_CHECK = struct.Struct("<I")
_RECORD = struct.Struct("<QII")  # offset, length, CRC-32
_MARKS = 16
_LONGEST = 1 << 20  # data of a record


def journal_path(path: Path) -> Path:
    """Where the journal of a file is kept."""
    return path.with_name(path.name + ".journal")


def is_journalled(path: Path) -> bool:
    """Whether a change of this file is under way, or did not finish."""
    return journal_path(path).exists()


class WatchedFile(io.RawIOBase):
    """A file to give to ``h5py.File(file, "w")`` that remembers what went wrong.

    HDF5 cannot close a file whose last bytes cannot be written, as on a full disk. So after the first error, or after
    :meth:`abandon`, writing does nothing any more, and the file is worth nothing.

    Attributes:
        error: The first error of the system, None as long as all is well.
        appended: Bytes added behind the end that the file had at the beginning, including those that failed.

    Raises:
        OSError: the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.error: OSError | None = None
        self.appended = 0
        self._abandoned = False
        self._position = 0
        self._unasked = 0  # bytes written since the system was asked to bring them to the disk
        self._file = path.open("r+b", buffering=0)
        self._original = self._size = os.fstat(self._file.fileno()).st_size

    def abandon(self) -> None:
        """Write nothing from now on."""
        self._abandoned = True

    def close(self) -> None:
        """Close the file; call it after h5py has closed."""
        self._file.close()
        super().close()

    # ---------------------------------------------------------------- what h5py calls

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        with self._remembering():
            self._file.seek(self._position)
            while done < len(view):
                count = self._file.readinto(view[done:])
                if not count:
                    break
                done += count
        self._position += done
        return done

    def write(self, data: Buffer) -> int:
        view = memoryview(data).cast("B")
        start, end = self._position, self._position + len(view)
        self._position = end
        self.appended = max(self.appended, end - self._original)
        if not self._abandoned:
            with self._remembering():
                self._save(start, min(end, self._original))
                _put(self._file, start, view)
            self._size = max(self._size, end)
            self._unasked += len(view)
            if self._unasked >= _WRITEBACK:
                self._unasked = 0
                start_writeback(self._file.fileno())
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        if not self._abandoned:
            with self._remembering():
                self._set_size(size)
            self._size = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is buffered, and durability is the business of whoever made the file."""

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            self._abandoned = True
            raise

    def _save(self, start: int, end: int) -> None:
        """Called before bytes that were there at the beginning are overwritten."""

    def _set_size(self, size: int) -> None:
        _resize(self._file, size)


class JournalledFile(WatchedFile):
    """A file to give to ``h5py.File(file, "r+")``; after h5py has closed, call :meth:`commit` or :meth:`roll_back`.

    The caller holds the file's lock, and has called :func:`recover`.

    Raises:
        OSError: the file or its journal cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._salt = secrets.token_bytes(8)
        self._saved: set[int] = set()  # pages
        try:
            self._journal = journal_path(path).open("xb", buffering=0)
        except BaseException:
            self.close()
            raise
        try:
            header = _header(self._file, self._original, self._salt)
            self._journal_end = len(header)
            _put(self._journal, 0, header)
            _sync(self._journal)
            sync_folder(path.parent)
        except BaseException:
            self.close()
            _remove(journal_path(path))
            raise

    def close(self) -> None:
        """Close the file and leave the journal: what was not committed is undone at the next opening."""
        if hasattr(self, "_journal"):
            self._journal.close()
        super().close()

    # ---------------------------------------------------------------- how a change ends

    def commit(self) -> None:
        """Make the change durable and final, and close.

        Raises:
            OSError: something could not be written, now or before; the change must be rolled back.
        """
        if self.error is not None:
            raise self.error
        with self._remembering():
            _sync(self._file)
            self._journal.close()  # Windows deletes no open file
            _remove(journal_path(self.path))
        sync_folder(self.path.parent)
        with suppress(OSError):  # what lies behind the end of an HDF5 file does no harm
            if self._size < self._original:
                _resize(self._file, self._size)
        self.close()

    def roll_back(self) -> None:
        """Bring back what was there at the beginning, and close.

        Raises:
            OSError: that is not possible now; the journal stays, and the next opening tries again.
        """
        self.close()
        recover(self.path)

    def _save(self, start: int, end: int) -> None:
        """Journal the old content of the pages that hold these bytes, once each, and wait until it is on the disk."""
        if start >= end:
            return
        wanted = [page for page in range(start // PAGE, (end - 1) // PAGE + 1) if page not in self._saved]
        for first, last in _runs(wanted, _LONGEST // PAGE):
            offset = first * PAGE
            data = _get(self._file, offset, min((last + 1) * PAGE, self._original) - offset)
            record = _record(self._salt, offset, data)
            _put(self._journal, self._journal_end, record)
            self._journal_end += len(record)
        if wanted:
            _sync(self._journal)
            self._saved.update(wanted)

    def _set_size(self, size: int) -> None:
        """Set the size; bytes that a roll-back would need are cut off after the commit only."""
        if size > self._original or self._size > self._original:
            _resize(self._file, max(size, self._original))


def recover(path: Path) -> bool:
    """Undo a change that did not finish, if there is one; the caller holds the file's lock.

    Returns:
        Whether there was a journal.

    Raises:
        DatasetError: the journal is not one of ours, or not this file's.
        OSError: the file cannot be written.
    """
    name = journal_path(path)
    try:
        content = name.open("rb")
    except FileNotFoundError:
        return False
    with content as journal:
        header = _read_header(journal, name)
        if header is not None:
            size, salt, marks = header
            start = journal.tell()
            covered = [(offset, len(data)) for offset, data in _records(journal, salt, size)]
            with path.open("r+b", buffering=0) as file:
                _check_marks(file, name, size, marks, covered)
                journal.seek(start)
                for offset, data in _records(journal, salt, size):
                    _put(file, offset, data)
                _resize(file, size)
                _sync(file)
    _remove(name)
    sync_folder(path.parent)
    return True


def _header(file: io.FileIO, size: int, salt: bytes) -> bytes:
    pages = (size + PAGE - 1) // PAGE
    chosen = sorted({index * (pages - 1) // max(1, _MARKS - 1) for index in range(_MARKS)}) if pages else []
    marks = b"".join(
        _MARK.pack(page * PAGE, zlib.crc32(_get(file, page * PAGE, min(PAGE, size - page * PAGE)))) for page in chosen
    )
    header = _START.pack(_MAGIC, salt, size, len(chosen)) + marks
    return header + _CHECK.pack(zlib.crc32(header))


def _read_header(journal: io.BufferedReader, name: Path) -> tuple[int, bytes, list[tuple[int, int]]] | None:
    """Size of the file, salt and marks; None if the header is incomplete: then nothing was overwritten yet."""
    start = journal.read(_START.size)
    if not _MAGIC.startswith(start[: len(_MAGIC)]) and start.strip(b"\0"):
        if start.startswith(_FAMILY):
            raise DatasetError(
                f"{name} was left by another version of deepscem-tui", "Open the data set with that one."
            )
        hint = "Move it elsewhere if it has nothing to do with the data set."
        raise DatasetError(f"{name} is no journal of deepscem-tui, but has the name of one", hint)
    if len(start) < _START.size or not start.strip(b"\0"):
        return None
    _, salt, size, count = _START.unpack(start)
    rest = journal.read(count * _MARK.size + _CHECK.size) if count <= _MARKS else b""
    if len(rest) != count * _MARK.size + _CHECK.size:
        return None
    marks, check = rest[: -_CHECK.size], rest[-_CHECK.size :]
    if _CHECK.unpack(check)[0] != zlib.crc32(start + marks):
        return None
    return size, salt, list(_MARK.iter_unpack(marks))


def _record(salt: bytes, offset: int, data: bytes) -> bytes:
    return _RECORD.pack(offset, len(data), _checksum(salt, offset, data)) + data


def _checksum(salt: bytes, offset: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(salt + struct.pack("<QI", offset, len(data))))


def _records(journal: io.BufferedReader, salt: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Offset and old content of each complete record."""
    while True:
        head = journal.read(_RECORD.size)
        if len(head) < _RECORD.size:
            return
        offset, length, check = _RECORD.unpack(head)
        if length > _LONGEST or offset + length > size:
            return
        data = journal.read(length)
        if len(data) < length or check != _checksum(salt, offset, data):
            return
        yield offset, data


def _check_marks(
    file: io.FileIO, name: Path, size: int, marks: list[tuple[int, int]], covered: list[tuple[int, int]]
) -> None:
    """Raise unless the journal is this file's: a page that no record brings back must be as it was.

    A file that was replaced after the change broke off would else be damaged by the journal of its predecessor.
    """
    fits = os.fstat(file.fileno()).st_size >= size
    for offset, check in marks if fits else ():
        saved = any(start <= offset < start + length for start, length in covered)
        if not saved and zlib.crc32(_get(file, offset, min(PAGE, size - offset))) != check:
            fits = False
    if not fits:
        raise DatasetError(
            f"{name} does not belong to the data set beside it, which was replaced or changed by another program since",
            "Delete the journal if the data set is as you want it.",
        )


def _runs(pages: list[int], longest: int) -> Iterator[tuple[int, int]]:
    """Consecutive pages as (first, last), ``longest`` at most together."""
    first = previous = None
    for page in pages:
        if first is None or previous is None:
            first = page
        elif page != previous + 1 or page - first >= longest:
            yield first, previous
            first = page
        previous = page
    if first is not None and previous is not None:
        yield first, previous


# ------------------------------------------------------------------------ every change of a disk passes here


def _get(file: io.FileIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    parts = []
    while length > 0:
        part = file.read(length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _put(file: io.FileIO, offset: int, data: Buffer) -> None:
    view = memoryview(data).cast("B")
    file.seek(offset)
    while view:
        view = view[file.write(view) :]


def _resize(file: io.FileIO, size: int) -> None:
    file.truncate(size)


def _sync(file: io.FileIO) -> None:
    os.fsync(file.fileno())


def _remove(path: Path) -> None:
    path.unlink()
