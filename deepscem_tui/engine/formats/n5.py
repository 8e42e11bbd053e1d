"""N5 stores in folders, read with the library tensorstore, which refuses blocks that unfold to more than they should.

An array's axes are written X first there; here they are Z, Y, X as everywhere.

Sources: https://github.com/saalfeldlab/n5, and for sizes https://github.com/saalfeldlab/n5-viewer
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.formats.arrays import ArraySource, Layout, check_chunks, explained, layout_of
from deepscem_tui.engine.formats.plain_files import check_dtype
from deepscem_tui.engine.formats.stores import Contents, Regular, check_claim, damaged, folder_in, hint, read_json
from deepscem_tui.engine.formats.table import Place
from deepscem_tui.engine.formats.tiff_metadata import length_unit
from deepscem_tui.engine.system import extras
from deepscem_tui.engine.system.devices import available_cores

__all__ = ["open_n5"]


@contextmanager
def open_n5(place: Place) -> Iterator[ArraySource]:
    """Open an array of an N5 store, or the largest of a pyramid ``s0``, ``s1``, ...

    Raises:
        VolumeError: the store is damaged, leads elsewhere, claims too much, or has no image there.
        MissingLibraryError: tensorstore is not installed.
    """
    inside, about = place.inside, _attributes(place, place.inside)
    if "dimensions" not in about:
        inside = f"{inside}/s0".strip("/")
        about = _attributes(place, inside)
    if "dimensions" not in about:
        what = f"{place.path} is no array" if place.inside else f"{place.path} needs the name of an array in it"
        raise VolumeError(what, _hint(place))
    folder = folder_in(place, inside)
    with damaged(place, folder / "attributes.json"):
        shape, chunks = (tuple(map(int, about[name]))[::-1] for name in ("dimensions", "blockSize"))
        dtype = np.dtype(str(about["dataType"]))
        if len(shape) != len(chunks) or min(chunks, default=0) < 1 or min(shape, default=0) < 0:
            raise ValueError(f"dimensions {shape}, blocks {chunks}")
    check_dtype(place.path, dtype)
    check_chunks(place, chunks, dtype)
    check_claim(place, folder, prod(shape) * dtype.itemsize)
    layout = layout_of(place, shape, None)
    tensorstore = extras.load("tensorstore", "n5", f"Reading {place.file}")
    with explained(place):
        array = tensorstore.open(
            {
                "driver": "n5",
                "kvstore": {"driver": "file", "path": f"{folder.absolute()}/"},
                "context": {"data_copy_concurrency": {"limit": available_cores()}},
            },
            read=True,
        ).result()
        if array.shape[::-1] != shape or array.dtype.numpy_dtype != dtype:
            raise VolumeError(f"{place.path} was changed meanwhile", "Try again.")
        turned = array.T
    regular = Regular(folder)

    def read(z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        for block in _blocks(chunks, layout.index(z, y, x)):
            regular.check(block)
        return layout.read(turned, z, y, x)

    source = ArraySource(place, layout.shape, dtype, read, layout.along(chunks, 1))
    source.warnings += layout.warnings
    with damaged(place, folder / "attributes.json"):
        found = _voxel_size(place, inside, about, layout)
    if found is not None:
        source.voxel_size, source.voxel_unit = found
    yield source


def _blocks(chunks: Sequence[int], index: Sequence[int | slice]) -> Iterator[tuple[str, ...]]:
    """The files of the blocks that a part of an array is in, as paths below the array's folder."""
    numbers = (
        range(one // chunk, one // chunk + 1)
        if isinstance(one, int)
        else range(one.start // chunk, -(-one.stop // chunk))
        for one, chunk in zip(index, chunks, strict=True)
    )
    for block in product(*numbers):
        yield tuple(map(str, reversed(block)))


def _attributes(place: Place, inside: str) -> Mapping[str, Any]:
    return read_json(place, folder_in(place, inside) / "attributes.json") or {}


def _voxel_size(
    place: Place, inside: str, about: Mapping[str, Any], layout: Layout
) -> tuple[tuple[float, float, float], str] | None:
    """Of the array itself, or of the pyramid that it is a level of."""
    above = _attributes(place, inside.rpartition("/")[0]) if inside else {}
    found = _stated(about, layout)
    if found is not None:
        return found
    found = _stated(above, layout)
    factors = _sizes(about.get("downsamplingFactors"), layout)
    if found is None or ("downsamplingFactors" in about and factors is None):
        return None
    z, y, x = (size * factor for size, factor in zip(found[0], factors or (1.0, 1.0, 1.0), strict=True))
    return (z, y, x), found[1]


def _stated(about: Mapping[str, Any], layout: Layout) -> tuple[tuple[float, float, float], str] | None:
    pixel = about.get("pixelResolution")
    given = pixel if isinstance(pixel, dict) else {"dimensions": about.get("resolution", pixel), "unit": "nm"}
    unit = given.get("unit") or "nm"  # which those who write no unit mean
    if isinstance(about.get("units"), list) and len(set(about["units"])) == 1:
        unit = about["units"][0]
    sizes = _sizes(given.get("dimensions"), layout)
    unit = length_unit(str(unit))
    return (sizes, unit) if sizes is not None and unit else None


def _sizes(values: Any, layout: Layout) -> tuple[float, float, float] | None:
    """Z, Y, X of what is given X first."""
    return layout.voxel_size([float(value) for value in values][::-1]) if isinstance(values, list) else None


def _hint(place: Place) -> str:
    """What to type for the arrays of a store."""

    def look(inside: str) -> Contents:
        about = _attributes(place, inside)
        shape = about.get("dimensions")
        return Contents(shape[::-1], str(about.get("dataType"))) if isinstance(shape, list) else Contents()

    return hint(place, look)
