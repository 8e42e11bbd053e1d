"""What native libraries print, kept off the terminal.

TensorFlow writes to the file descriptors 1 and 2 past Python's streams. While one of these blocks lasts both point to
a file. Whoever draws on the terminal meanwhile needs a duplicate of the descriptor, made before.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_lock = threading.RLock()  # an action may carry out others (the demo does)


@contextmanager
def kept_in(path: Path) -> Iterator[None]:
    """Append what is printed to ``path``."""
    with path.open("ab") as file, _redirected(file.fileno()):
        yield


@contextmanager
def kept_off_the_terminal() -> Iterator[None]:
    """Drop what is printed."""
    with tempfile.TemporaryFile() as file, _redirected(file.fileno()):
        yield


@contextmanager
def _redirected(target: int) -> Iterator[None]:
    with _lock:  # the descriptors are the process's: one at a time
        saved = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
        _flush()
        for descriptor, _ in saved:
            os.dup2(target, descriptor)
        try:
            yield
        finally:
            _flush()
            for descriptor, copy in saved:
                os.dup2(copy, descriptor)
                os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
