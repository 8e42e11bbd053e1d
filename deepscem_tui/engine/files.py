"""Small files written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deepscem_tui.engine.errors import DataError, ParameterError

MASKS = ".ignore"  # before the suffix of what lies beside a data set and belongs to it: what is not labelled


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise :class:`ParameterError` if ``path`` exists and may not be replaced."""
    if path.is_dir():
        raise ParameterError(f"{path} is a folder, not a file", "Give the name of a file.")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise ParameterError(f"{path} exists already", "Use --overwrite to replace it, or choose another name.")


def check_writable(folder: Path) -> None:
    """Raise :class:`DataError` before long work if its result could not be written to ``folder``."""
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise DataError(
            f"Nothing can be written to the folder {nearest.absolute()}", "Choose another folder for the result."
        )


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and rename it to ``path`` when the block ends well.

    The content reaches the disk before the rename, so that a crash leaves the old file or the new one.
    When the block fails the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.stem[:40]}-{secrets.token_hex(4)}.tmp{path.suffix}"
    temporary.open("xb").close()
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with published(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable, where the system has a way to."""
    with suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
