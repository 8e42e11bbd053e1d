"""Arrays that several processes see in the same memory: each maps the same file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import ResourceError

__all__ = ["SharedArray"]


class SharedArray:
    """An array in a file of its own; a copy in another process is the same array.

    Args:
        path: The file, made if it is not there.
        shape: Of the array.
        dtype: Of its values.

    Raises:
        ResourceError: there is no room for it.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: npt.DTypeLike) -> None:
        self._made = path, tuple(shape), np.dtype(dtype).str
        if not path.exists():
            _reserve(path, np.dtype(dtype).itemsize * int(np.prod(shape)))
        self.values: npt.NDArray[Any] = np.asarray(np.memmap(path, dtype, "r+", shape=tuple(shape)))

    def __reduce__(self) -> tuple[type[SharedArray], tuple[Any, ...]]:
        return SharedArray, self._made

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        part: npt.NDArray[Any] = self.values[key]
        return part

    def __setitem__(self, key: Any, values: npt.NDArray[Any]) -> None:
        self.values[key] = values


def _reserve(path: Path, size: int) -> None:
    """Make a file of which every byte has its place on the disk: one that is missed later ends the process."""
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        path.unlink(missing_ok=True)
        what = f"{path} ({size / 2**20:.0f} MiB) cannot be made: {error.strerror or error}"
        raise ResourceError(what, "Free some space, or give --runs-dir a folder on another disk.") from error
