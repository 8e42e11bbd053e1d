"""How many slices of a volume are held at a time."""

from __future__ import annotations

SLAB_BYTES = 64 * 2**20


def slab_depth(plane_bytes: int, multiple: int = 1) -> int:
    """Slices of a slab: as many as suit the memory, but at least ``multiple`` and a multiple of it.

    Args:
        plane_bytes: Of one slice, of all that is held of it.
        multiple: Slices that are stored together.
    """
    return max(1, SLAB_BYTES // max(1, plane_bytes) // multiple) * multiple
