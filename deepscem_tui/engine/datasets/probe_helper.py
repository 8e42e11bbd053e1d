"""The process that looks through files for :mod:`deepscem_tui.engine.datasets.probing`: it may crash, or never end.

It says that it is ready, and answers each line ``[kind, path]`` (JSON) with ``done``, or with ``memory`` where a file
made it claim too much. An error is no concern of its: whoever opens the file next meets it too, and says so.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import h5py

from deepscem_tui.engine.datasets.tree import FILTERS

__all__ = ["ENDLESS", "READY", "main"]

ENDLESS = -signal.SIGPROF if hasattr(signal, "SIGPROF") else 1
"""Exit status after a file that took too long: where it is 1, as that of a Python that cannot start, READY tells."""

READY = "ready\n"
"""What it says before its first question."""

_SECONDS = 2.0  # of the processor for one file: waiting for a slow disk does not count
_ENOUGH_SECONDS = 0.5  # after which a large file is taken as seen
_IDLE_SECONDS = 60
_MEMORY = 4 << 30
_LARGEST = 64 << 20  # bytes of a chunk, or of a page
_MOST_CHUNKS = 100_000


def main() -> None:
    """Answer questions until there are none any more."""
    _limit()
    sys.stdout.write(READY)
    sys.stdout.flush()
    for line in iter(_next_line, ""):
        kind, path = json.loads(line)
        _begin()
        answer = _look_through(kind, path)
        _end()
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def _next_line() -> str:
    if hasattr(signal, "alarm"):
        signal.alarm(_IDLE_SECONDS)  # which ends the process
    line = sys.stdin.readline()
    if hasattr(signal, "alarm"):
        signal.alarm(0)
    return line


def _limit() -> None:
    """Memory as little as files that are whole need, and no memory images of crashes in anybody's folder."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(
            resource.RLIMIT_AS, (_MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most), most)
        )


def _begin() -> None:
    """End the process when it has computed for too long, even within a library."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    else:
        import faulthandler

        faulthandler.dump_traceback_later(5 * _SECONDS, exit=True)


def _end() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, 0)
    else:
        import faulthandler

        faulthandler.cancel_dump_traceback_later()


def _look_through(kind: str, path: str) -> str:
    try:
        _LOOKS[kind](path)
    except MemoryError:
        return "memory"
    except Exception:  # libraries raise nearly anything on a damaged file
        return "done"
    return "done"


# ------------------------------------------------------------------------------------------------------------ HDF5


class _Walk:
    """Everything in an HDF5 file that is read by whoever opens it, once, until it has taken long enough."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._until = time.process_time() + _ENOUGH_SECONDS

    def _enough(self) -> bool:
        return time.process_time() > self._until

    def look_at(self, item: Any) -> None:
        """Attributes of an object, and what is in it."""
        address = h5py.h5o.get_info(item.id).addr
        if address in self._seen or self._enough():
            return
        self._seen.add(address)
        for name in _tolerant(item.attrs):
            with _passing():
                _ = item.attrs[name]
        if isinstance(item, h5py.Dataset):
            self._look_at_voxels(item)
        elif isinstance(item, h5py.Group):
            for name in _tolerant(item.id):
                with _passing():
                    if item.id.links.get_info(name).type == h5py.h5l.TYPE_HARD:
                        self.look_at(item[name])

    def _look_at_voxels(self, item: Any) -> None:
        """Where the chunks are, and the first and the last of them."""
        stored = item.id.get_create_plist()
        filters = {stored.get_filter(index)[0] for index in range(stored.get_nfilters())}
        if item.shape is None or 0 in item.shape or item.is_virtual or item.external or filters - FILTERS:
            return
        if item.chunks is not None:
            found = 0

            def count(_: Any) -> bool | None:
                nonlocal found
                found += 1
                return True if found > _MOST_CHUNKS else None

            item.id.chunk_iter(count)
        if item.chunks is None or prod(item.chunks) * item.dtype.itemsize <= _LARGEST:
            for corner in ((0,) * item.ndim, tuple(length - 1 for length in item.shape)):
                with _passing():
                    _ = item[corner]


def _look_through_hdf5(path: str) -> None:
    with h5py.File(path, "r", locking=False) as file:
        _Walk().look_at(file)


def _tolerant(names: Iterable[Any]) -> Iterator[Any]:
    """Names until they cannot be listed any more."""
    with _passing():
        yield from list(names)


@contextmanager
def _passing() -> Iterator[None]:
    """Go on after whatever is raised but a lack of memory."""
    try:
        yield
    except MemoryError:
        raise
    except Exception:  # h5py raises nearly anything
        pass


# ------------------------------------------------------------------------------------------------------------ TIFF


def _look_through_tiff(path: str) -> None:
    """The first and the last piece of the first page: decoders are other people's C code."""
    import tifffile

    with tifffile.TiffFile(path, _multifile=False) as tiff:
        page = tiff.pages.first
        if prod(page.chunks) * page.dtype.itemsize > _LARGEST:
            return
        pieces = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        for index in sorted({0, len(pieces) - 1} - {-1}):
            offset, count = pieces[index]
            tiff.filehandle.seek(offset)
            with _passing():
                page.decode(tiff.filehandle.read(min(count, _LARGEST)), index, jpegtables=page.jpegtables)


_LOOKS = {"hdf5": _look_through_hdf5, "tiff": _look_through_tiff}
