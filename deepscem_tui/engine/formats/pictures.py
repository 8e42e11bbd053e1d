"""PNG and JPEG pictures, of which a volume may have one a slice; how large one is is known before it is decoded.

Sources: https://www.w3.org/TR/png/ and ITU-T T.81 (JPEG)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy.typing as npt

from deepscem_tui.engine.errors import VolumeError

__all__ = ["read_picture"]

_MOST_PIXELS = 2**27  # of 8 bytes at most, decoded
_PNG_HEADER = 33  # bytes: the signature and the first chunk, which says how large the picture is
_PNG = b"\x89PNG\r\n\x1a\n"
_NO_FRAMES = {0xC4, 0xC8, 0xCC}  # of the markers C0 to CF, those that begin no frame


def read_picture(file: Path) -> npt.NDArray[Any]:
    """A picture as it is stored: (Y, X), or (Y, X, samples).

    Raises:
        VolumeError: it cannot be read, is damaged, or claims to be larger than any picture is.
    """
    png = file.suffix.lower() == ".png"
    kind = "PNG" if png else "JPEG"
    if file.exists() and not file.is_file():  # reading it might wait for ever
        raise VolumeError(f"{file} is no regular file", f"Give a {kind} file.")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise VolumeError(f"{file} cannot be read: {error.strerror or error}", "Check the file.") from error
    found = _size_of_png(content) if png else _size_of_jpeg(content)
    if found is None:
        raise VolumeError(f"{file} is no {kind} file, or one that is cut off", "Check the file.")
    width, height, samples = found
    if not 0 < width * height <= _MOST_PIXELS:
        raise VolumeError(f"{file} claims {width} x {height} pixels", "Save it again, or in pieces.")
    if not png and samples not in (1, 3):
        raise VolumeError(f"{file} is a picture for printing, of {samples} inks", "Convert it to grey values.")
    try:
        decoded: npt.NDArray[Any] = imagecodecs.png_decode(content) if png else imagecodecs.jpeg8_decode(content)
    except Exception as error:  # the codecs raise nearly every kind of error
        raise VolumeError(f"{file} is damaged ({str(error)[:160]})", "Copy or export it again.") from error
    return decoded


def _size_of_png(content: bytes) -> tuple[int, int, int] | None:
    """Width, height, and 0 for the samples, which the decoder knows."""
    if len(content) < _PNG_HEADER or not content.startswith(_PNG):
        return None
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big"), 0


def _size_of_jpeg(content: bytes) -> tuple[int, int, int] | None:
    """Width, height and samples, which the first frame says."""
    if not content.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            height, width = (int.from_bytes(content[at + by : at + by + 2], "big") for by in (5, 7))
            return width, height, content[at + 9]
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None
