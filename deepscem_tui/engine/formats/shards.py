"""Files of Zarr stores that hold many pieces, and an index of them.

Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Shards"]

_MOST_PIECES = 2**20  # of one shard: their index takes 16 MiB
_CHECKSUM = 4  # bytes
_KNOWN = {"bytes", "crc32c"}


@dataclass(frozen=True)
class Shards:
    """How the pieces of a shard are found.

    Args:
        count: Pieces of a shard.
        at_start: Whether the index is before them.
        trailer: Bytes of a checksum after the index.
        order: Of its bytes.
    """

    count: int
    at_start: bool
    trailer: int
    order: str

    @classmethod
    def of(cls, about: Mapping[str, Any], shape: Sequence[int]) -> Shards:
        """By the configuration of the codec, and the shape of a shard.

        Raises:
            ValueError, KeyError, TypeError: that is damaged, or not supported.
        """
        chunks, codecs = about["chunk_shape"], about["index_codecs"]
        names = [codec["name"] for codec in codecs]
        piece, whole = prod(chunks), prod(shape)
        if len(chunks) != len(shape) or min((*chunks, *shape)) < 1 or whole % piece:
            raise ValueError(f"shards of {tuple(shape)}, chunks {tuple(chunks)}")
        if not names or names[0] != "bytes" or set(names) - _KNOWN:
            raise ValueError(f"an index of shards in {names}")
        count = whole // piece
        if count > _MOST_PIECES:
            raise ValueError(f"{count:,} chunks in a shard")
        order = (codecs[0].get("configuration") or {}).get("endian", "little")
        return cls(
            count=count,
            at_start=about.get("index_location", "end") == "start",
            trailer=_CHECKSUM * (len(names) - 1),
            order={"little": "<", "big": ">"}[order],
        )

    def pieces(self, path: Path) -> npt.NDArray[np.int64]:
        """Where each piece of a shard begins, and its length, as (n, 2); those that are not there are left out."""
        size = path.stat().st_size
        length = 16 * self.count
        with path.open("rb") as file:
            file.seek(0 if self.at_start else max(0, size - length - self.trailer))
            content = file.read(length)
        found = np.frombuffer(content[: len(content) // 16 * 16], f"{self.order}u8").reshape(-1, 2)
        return found[(found <= size).all(axis=1)].astype(np.int64)
