"""The formats of image files: a table of all of them, and a module for each that others did not have before."""

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
