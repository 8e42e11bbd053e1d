"""How much a compressed piece of a file unfolds to, told before it is: a small one can claim all memory there is."""

from __future__ import annotations

import zlib
from pathlib import Path

from deepscem_tui.engine.datasets.tree import EXPANSION
from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.formats.plain_files import COPY_AGAIN

__all__ = ["check_piece", "inflated"]

_ROOM = 2**16  # of what is stored beside the voxels
_HARMLESS = 256 * 2**20  # bytes that need no closer look
_STEP = 2**24
_ZSTD, _SKIPPED = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"


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
        return size if size is not None else _tried_zstd(content, expected + _ROOM)
    if codec in ("gzip", "zlib") and len(content) * EXPANSION > _HARMLESS:
        return inflated(content, codec == "gzip", expected + _ROOM)
    return 0


def _of_zstd(content: bytes) -> int | None:
    """The sum of the sizes that the headers of all frames say; None if one says none.

    Source: RFC 8878, section 3.1
    """
    total = at = 0
    while at + 8 <= len(content):
        if content[at + 1 : at + 4] == _SKIPPED and content[at] >> 4 == 5:
            at += 8 + int.from_bytes(content[at + 4 : at + 8], "little")
            continue
        if content[at : at + 4] != _ZSTD:
            break  # nothing that can be decoded
        descriptor = content[at + 4]
        flag, single = descriptor >> 6, descriptor >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
        width = (single, 2, 4, 8)[flag]
        if not width:
            return None
        total += int.from_bytes(content[at : at + width], "little") + 256 * (width == 2)
        at = _after_blocks(content, at + width) + 4 * (descriptor >> 2 & 1)
    return total


def _after_blocks(content: bytes, at: int) -> int:
    """Where the blocks of a frame of zstd end that begin at a byte."""
    while at + 3 <= len(content):
        header = int.from_bytes(content[at : at + 3], "little")
        repeated = header >> 1 & 3 == 1
        at += 3 + (1 if repeated else header >> 3)
        if header & 1:
            break
    return at


def _tried_zstd(content: bytes, most: int) -> int:
    """Unfold a piece into as much memory as it should take, and no more."""
    import imagecodecs

    try:
        imagecodecs.zstd_decode(content, out=bytearray(most))
    except Exception:  # it is too large, or damaged, which whoever decodes it finds
        return most + 1
    return 0


def inflated(content: bytes, gzip: bool, most: int) -> int:
    """Bytes that a piece of deflate unfolds to, with all members of a gzip file; no more are unfolded than ``most``."""
    total, rest = 0, content
    try:
        while rest:
            decoder = zlib.decompressobj(31 if gzip else 15)
            while not decoder.eof:
                found = len(decoder.decompress(rest, _STEP))
                rest, total = decoder.unconsumed_tail, total + found
                if total > most or not (found or rest):
                    return total
            rest = decoder.unused_data.lstrip(b"\0") if gzip else b""
    except zlib.error:  # which whoever decodes it finds
        pass
    return total
