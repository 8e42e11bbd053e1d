"""How much a compressed piece of a file unfolds to, told before it is: a small one can claim all memory there is."""

from __future__ import annotations

from pathlib import Path

from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.plain_files import COPY_AGAIN

__all__ = ["check_piece"]

_ROOM = 2**16  # of what is stored beside the voxels
_HARMLESS = 256 * 2**20  # bytes that need no closer look
_DEFLATE = 1100  # bytes that deflate makes of one at most
_ZSTD = b"\x28\xb5\x2f\xfd"


def check_piece(path: Path, content: bytes, codec: str, expected: int) -> None:
    """Raise :class:`VolumeError` if a piece cannot be what it should be.

    Args:
        path: For messages.
        content: As it is in the file.
        codec: What it was compressed with.
        expected: Bytes that it should unfold to.
    """
    claimed = _claimed(content, codec, expected)
    if len(content) > 2 * expected + _ROOM or claimed > expected + _ROOM:
        raise VolumeError(f"{path} is damaged: it unfolds to more than the {expected:,} bytes of a chunk", COPY_AGAIN)


def _claimed(content: bytes, codec: str, expected: int) -> int:
    """Bytes that a piece unfolds to, as far as that matters."""
    if codec == "blosc":
        return int.from_bytes(content[4:8], "little")
    if codec == "lz4":
        return int.from_bytes(content[:4], "little")
    if codec == "zstd":
        size = _of_zstd(content)
        return size if size is not None else _tried(content, codec, expected)
    if codec in ("gzip", "zlib") and len(content) * _DEFLATE > _HARMLESS:
        return _tried(content, codec, expected)
    return 0


def _of_zstd(content: bytes) -> int | None:
    """The size that the header of a frame says; None if it says none.

    Source: RFC 8878, section 3.1.1.1
    """
    if len(content) < 6 or not content.startswith(_ZSTD):
        return 0  # nothing that can be decoded
    descriptor = content[4]
    flag, single = descriptor >> 6, descriptor >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    width = (single, 2, 4, 8)[flag]
    if not width:
        return None
    size = int.from_bytes(content[at : at + width], "little")
    return size + 256 if width == 2 else size


def _tried(content: bytes, codec: str, expected: int) -> int:
    """Unfold a piece into as much memory as it should take, and no more."""
    import imagecodecs

    decode = {"zstd": imagecodecs.zstd_decode, "gzip": imagecodecs.gzip_decode, "zlib": imagecodecs.zlib_decode}[codec]
    try:
        decode(content, out=bytearray(expected + _ROOM))
    except Exception:  # it is too large, or damaged, which whoever decodes it finds
        return expected + _ROOM + 1
    return expected
