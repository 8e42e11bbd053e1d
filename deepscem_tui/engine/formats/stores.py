"""Stores in folders: their metadata, read without following what leads out of them."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepscem_tui.engine import words
from deepscem_tui.engine.datasets.tree import BLANK, EXPANSION
from deepscem_tui.engine.errors import MissingLibraryError, VolumeError
from deepscem_tui.engine.formats.arrays import offer, offered
from deepscem_tui.engine.formats.plain_files import COPY_AGAIN
from deepscem_tui.engine.formats.table import Place
from deepscem_tui.engine.system import extras

__all__ = ["Contents", "Regular", "check_claim", "damaged", "folder_in", "hint", "read_json", "zarr_library"]

_METADATA_BYTES = 16 * 2**20
_MOST_FOLDERS = 500  # that are looked through for a hint


def folder_in(place: Place, inside: str) -> Path:
    """The folder of an array or a group of a store.

    Raises:
        VolumeError: the name leads out of the store, or through a link.
    """
    folder = place.file
    for part in inside.split("/") if inside else ():
        if part in ("", ".", "..") or "\\" in part or ":" in part or "\0" in part:
            raise VolumeError(f"{place.path} is no name in a store", "Check the name.")
        folder = folder / part
        if folder.is_symlink():
            raise VolumeError(f"{place.path}: {folder} is a link, which is not followed", "Copy what it leads to.")
    return folder


class Regular:
    """Sees that what is opened in a store is a regular file of it: no link, nor in a linked folder, no FIFO.

    Args:
        folder: The store's, or one in it that is known to be no link.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[tuple[str, ...]] = set()  # folders

    def check(self, parts: Sequence[str]) -> None:
        """Look at a file, which may be missing, and at the folders that it is in.

        Raises:
            VolumeError: one of them is something else.
        """
        for count in range(1, len(parts) + 1):
            above = tuple(parts[:count])
            if above in self._known:
                continue
            path, is_last = self._folder.joinpath(*above), count == len(parts)
            try:
                mode = path.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISDIR(mode) and not is_last:
                self._known.add(above)
            elif not (stat.S_ISREG(mode) and is_last):
                what = "regular file" if is_last else "folder"
                raise VolumeError(f"{path} is no {what}, and is not opened", COPY_AGAIN)


def read_json(place: Place, path: Path) -> dict[str, Any] | None:
    """A file of metadata; None if there is none.

    Raises:
        VolumeError: it is damaged, a link or no file.
    """
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _METADATA_BYTES:
            raise VolumeError(f"{place.path}: {path} is no file of metadata", COPY_AGAIN)
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VolumeError(f"{place.path}: {path} cannot be read ({reason[:120]})", COPY_AGAIN) from error
    if not isinstance(found, dict):
        raise VolumeError(f"{place.path}: {path} is damaged", COPY_AGAIN)
    return found


@dataclass(frozen=True)
class Contents:
    """What is at a name in a store.

    Args:
        shape: Of an array; None for a group.
        kind: The type of an array's voxels.
    """

    shape: Sequence[int] | None = None
    kind: str = ""


@contextmanager
def damaged(place: Place, path: Path) -> Iterator[None]:
    """Turn what is raised where metadata is not as it should be into a :class:`VolumeError`."""
    try:
        yield
    except VolumeError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        what = f"{place.path}: {path} is damaged ({type(error).__name__}: {str(error)[:120]})"
        raise VolumeError(what, COPY_AGAIN) from error


def hint(place: Place, look: Callable[[str], Contents | None]) -> str:
    """What to type for the arrays of a store.

    Args:
        look: Says what is at a name; None for nothing that counts. What it raises about damage is passed over.
    """
    found: list[str] = []
    waiting, looked = [""], 0
    while waiting and looked < _MOST_FOLDERS:
        inside = waiting.pop(0)
        looked += 1
        try:
            there = look(inside)
            if there is None:
                continue
            if there.shape is None:
                folders = (item.name for item in os.scandir(place.file / inside) if item.is_dir(follow_symlinks=False))
                waiting += ["/".join(part for part in (inside, name) if part) for name in sorted(folders)]
            elif len(there.shape) >= 2:
                found.append(offered(place.file, inside, there.shape, there.kind))
        except (VolumeError, OSError):
            continue
    return offer(found)


def zarr_library(purpose: str) -> Any:
    """The library zarr, which has no version for Python 3.10.

    Args:
        purpose: As the subject of a sentence.

    Raises:
        MissingLibraryError: it is not installed, or cannot be.
    """
    if sys.version_info < (3, 11):
        raise MissingLibraryError(f"{purpose} needs Python 3.11 or later", "Install the program with a newer Python.")
    return extras.load("zarr", "zarr", purpose)


def check_claim(place: Place, folder: Path, nbytes: int) -> None:
    """Raise :class:`VolumeError` if files are too small for an array: those of a megabyte cannot hold a terabyte."""
    if nbytes <= BLANK:
        return
    backed = 0
    for where, _, files in os.walk(folder):
        for name in files:
            backed += Path(where, name).lstat().st_size * EXPANSION
            if nbytes <= BLANK + backed:
                return
    what = f"{place.path} claims {words.amount(nbytes, 'B')}, more than its files can hold"
    raise VolumeError(what, COPY_AGAIN)
