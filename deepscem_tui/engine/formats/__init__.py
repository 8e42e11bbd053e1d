"""Image files in and out: a table of their formats, and what reads and writes each, slab by slab."""

from __future__ import annotations

from deepscem_tui.engine.formats.table import (
    FORMATS,
    HDF5,
    PICTURES,
    SLICES,
    STORES,
    Format,
    Place,
    image_in,
    is_place,
    kinds,
    place_of,
    refuse_unknown,
    stem_of,
    suffixes,
    with_stem,
)

__all__ = [
    "FORMATS",
    "HDF5",
    "PICTURES",
    "SLICES",
    "STORES",
    "Format",
    "Place",
    "image_in",
    "is_place",
    "kinds",
    "place_of",
    "refuse_unknown",
    "stem_of",
    "suffixes",
    "with_stem",
]
