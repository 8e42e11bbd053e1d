"""Finished slabs of a prediction, kept as files until the result is made: each there whole, or not at all.

A slab's file is its mark: a prediction that was stopped or killed goes on after those that are there.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.datasets.hdf5_files import writing
from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.system.files import published

__all__ = ["SlabStore"]

_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class SlabStore:
    """The slabs of one sample.

    Args:
        folder: Where they lie; made when the first is kept.
        sample: Number of the sample, which tells its slabs from those of others there.
    """

    def __init__(self, folder: Path, sample: int) -> None:
        self._folder, self._sample = folder, sample

    def _file(self, index: int) -> Path:
        return self._folder / f"{self._sample:04}-{index:07}.npy"

    def _bits_file(self, index: int) -> Path:
        return self._folder / f"{self._sample:04}-{index:07}.bits.npz"

    def _part_file(self, index: int) -> Path:
        return self._folder / f"{self._sample:04}-{index:07}.part.npz"

    def has(self, index: int) -> bool:
        """Whether a slab is finished."""
        return self._file(index).is_file() or self._bits_file(index).is_file()

    def keep(self, index: int, labels: npt.NDArray[Any], masks: bool = False) -> None:
        """Keep a finished slab, (labels, Z, Y, X).

        Args:
            masks: Whether all of it is 0 or 1, uint8: then bits are kept.
        """
        path = self._bits_file(index) if masks else self._file(index)
        kept = np.packbits(labels, axis=-1) if masks else labels
        with writing(path), published(path, kept.nbytes) as temporary, temporary.open("wb") as file:
            if masks:
                np.savez(file, bits=kept, width=labels.shape[-1])
            else:
                np.save(file, kept, allow_pickle=False)
        self._part_file(index).unlink(missing_ok=True)

    def read(self, index: int, rows: slice | None = None) -> npt.NDArray[Any]:
        """A finished slab, (labels, Z, Y, X), or some rows along its Y; of what is not bits no more is read.

        Raises:
            RunError: its file is damaged.
        """
        path, bits = self._file(index), self._bits_file(index)
        if bits.is_file():
            with _readable(bits), np.load(bits, allow_pickle=False) as stored:
                part = stored["bits"] if rows is None else stored["bits"][:, :, rows]
                return np.unpackbits(part, axis=-1, count=int(stored["width"]))
        with _readable(path):
            if rows is not None:
                return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[:, :, rows])
            labels: npt.NDArray[Any] = np.load(path, allow_pickle=False)
            return labels

    def keep_part(self, index: int, labels: npt.NDArray[Any], done: int) -> None:
        """Keep a slab of which ``done`` tiles are computed."""
        path = self._part_file(index)
        with writing(path), published(path, labels.nbytes) as temporary, temporary.open("wb") as file:
            np.savez(file, labels=labels, done=done)

    def part(self, index: int) -> tuple[npt.NDArray[Any], int] | None:
        """A slab that was begun, and how many of its tiles are computed; None if there is none, or it is damaged."""
        try:
            with np.load(self._part_file(index), allow_pickle=False) as stored:
                return stored["labels"], int(stored["done"])
        except _DAMAGED:
            return None

    def part_done(self, index: int) -> int:
        """How many tiles of a slab that was begun are computed; 0 if there is none, or it is damaged."""
        begun = self.part(index)
        return 0 if begun is None else begun[1]

    def clear(self) -> None:
        """Remove all of the sample's slabs."""
        for pattern in ("{:04}-*", ".{:04}-*"):  # and those that a killed process was writing
            for path in self._folder.glob(pattern.format(self._sample)):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # of other samples, or not there
            self._folder.rmdir()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise :class:`RunError` where a slab's file is damaged."""
    try:
        yield
    except _DAMAGED as error:
        raise RunError(f"The finished slab {path} cannot be read: {error}", "Remove it.") from None
