"""Pictures for people: PNG files."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import DataError
from deepscem_tui.engine.system.files import published

__all__ = ["LABEL_COLOURS", "write_new_png", "write_png"]

# Of the labels, as in the terminal: Okabe and Ito, "Color universal design", 2008.
LABEL_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)


def write_new_png(folder: Path, name: str, colours: npt.NDArray[np.uint8]) -> Path:
    """Write a picture as NAME.png, or NAME-2.png, NAME-3.png ... where that exists.

    Args:
        folder: Where to.
        name: Of the file, without its suffix; what no file name may have in it is replaced.
        colours: Red, green and blue (Y, X, 3).

    Returns:
        The new file.

    Raises:
        DataError: it cannot be written.
    """
    stem = words.file_name(name)
    names = chain([stem], (f"{stem}-{number}" for number in count(2)))
    try:
        path = next(path for name in names if not (path := folder / f"{name}.png").exists())
        _write(path, colours)
    except OSError as error:
        what = f"No picture can be written to {folder}: {error.strerror or error}"
        raise DataError(what, "Start the application in a folder that you may write to.") from error
    return path


def write_png(path: Path, colours: npt.NDArray[np.uint8]) -> None:
    """Write a picture whole or not at all.

    Args:
        path: The file.
        colours: Red, green and blue (Y, X, 3).

    Raises:
        DataError: it cannot be written.
    """
    try:
        _write(path, colours)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}", "Choose another folder.") from error


def _write(path: Path, colours: npt.NDArray[np.uint8]) -> None:
    with published(path) as temporary:
        temporary.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(colours)))
