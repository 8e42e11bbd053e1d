"""NIfTI files, compressed or not.

They store X fastest, then Y and Z, so that their voxels lie as those of a volume (Z, Y, X) do. How that is turned in
the world is not asked here.

Source: https://nifti.nimh.nih.gov/nifti-1/
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.datasets.tree import EXPANSION
from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.formats.arrays import explained
from deepscem_tui.engine.formats.plain_files import COPY_AGAIN, PlainSource, check_dtype
from deepscem_tui.engine.formats.table import Place
from deepscem_tui.engine.formats.tiff_metadata import METRES, untold
from deepscem_tui.engine.formats.volume_writer import Target, VolumeWriter
from deepscem_tui.engine.system import extras

__all__ = ["nifti_writer", "open_nifti"]

_UNITS = {"meter": "m", "mm": "mm", "micron": "µm"}
_LARGEST_EXTENSIONS = 64 * 2**20  # bytes before the voxels
_LEVEL = 1  # as nibabel takes
_LONGEST = 32767  # voxels along an axis in a header of version 1


class _Converted(PlainSource):
    """Voxels of a compressed file, or values that are a straight line of those stored, as float32."""

    has_rows = False
    slope, intercept = 1.0, 0.0

    def scaled(self, slope: float, intercept: float) -> None:
        self.slope, self.intercept = slope, intercept
        self.dtype = np.dtype(np.float32)

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (n, Y, X) with the slices from ``z0`` on."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            super().read_into(z0, out)
            return
        for index in range(len(out)):
            plane = np.empty((1, *self.shape[1:]), self.stored.newbyteorder("="))
            super().read_into(z0 + index, plane)
            out[index] = plane[0] * self.slope + self.intercept


@contextmanager
def open_nifti(place: Place) -> Iterator[PlainSource]:
    """Open a NIfTI file.

    Raises:
        VolumeError: it is no NIfTI file, is damaged or incomplete, or holds something else than one 2D or 3D image.
        MissingLibraryError: nibabel is not installed.
    """
    nibabel = extras.load("nibabel", "nifti", f"Reading {place.file}")
    with ExitStack() as files:
        plain: Any = files.enter_context(place.file.open("rb", buffering=0))
        compressed = place.file.suffix.lower() == ".gz"
        file: Any = files.enter_context(gzip.GzipFile(fileobj=plain, mode="rb")) if compressed else plain
        with explained(place):
            source = _source(place, nibabel, file, compressed)
        yield source


def _source(place: Place, nibabel: Any, file: BinaryIO, compressed: bool) -> PlainSource:
    path = place.file
    header = _header(place, nibabel, file)
    shape = tuple(int(size) for size in header.get_data_shape())
    stored = header.get_data_dtype()
    if stored.names is not None:
        raise VolumeError(f"{path} is a colour image", "Convert it to grey values.")
    check_dtype(path, stored)
    if not shape or min(shape) < 1:
        raise VolumeError(f"{path} is damaged: its header says {shape} voxels", COPY_AGAIN)
    kept = list(shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if len(kept) > 3:
        hint = "Save one of them, as (X, Y, Z)."
        raise VolumeError(f"{path} has {len(kept)} dimensions, its shape is {shape}", hint)
    x, y, z = (*kept, 1, 1)[:3]
    offset = int(header.get_data_offset())
    size, needed = path.stat().st_size, offset + prod(kept) * stored.itemsize
    if not 0 < offset <= _LARGEST_EXTENSIONS or needed > size * (EXPANSION if compressed else 1):
        raise VolumeError(f"{path} should have {needed} bytes by its header, but it has {size}", COPY_AGAIN)
    slope, intercept = header.get_slope_inter()
    scaled = slope is not None and (slope, intercept or 0.0) != (1.0, 0.0)
    if scaled and not (math.isfinite(slope) and math.isfinite(intercept)):
        raise VolumeError(f"{path} is damaged: its values are scaled by {slope}", COPY_AGAIN)
    source = (_Converted if scaled or compressed else PlainSource)(path, file, offset, (z, y, x), stored)
    if scaled and isinstance(source, _Converted):
        source.scaled(float(slope), float(intercept))
    unit = _UNITS.get(header.get_xyzt_units()[0], "")
    sizes = [float(f"{float(zoom):.7g}") for zoom in header.get_zooms()[:3]]
    if len(sizes) == 2:  # a single slice has no thickness
        sizes.append(sizes[1])
    if unit and len(sizes) == 3 and all(math.isfinite(one) and one > 0 for one in sizes):
        source.voxel_size, source.voxel_unit = (sizes[2], sizes[1], sizes[0]), unit
    elif not unit and set(sizes) != {1.0}:
        source.warnings += (untold(reversed(sizes)),)
    if compressed:
        source.warnings += ("it is compressed as a whole: going back in it takes reading it from its start",)
    return source


def _header(place: Place, nibabel: Any, file: BinaryIO) -> Any:
    """The header of version 1 or 2, without the extensions after it."""
    path = place.file
    try:
        begin = file.read(4)
        file.seek(0)
    except (OSError, EOFError) as error:
        raise VolumeError(f"{path} is no compressed file, or a damaged one", COPY_AGAIN) from error
    lengths = {int.from_bytes(begin, order) for order in ("little", "big")}
    kind = nibabel.Nifti2Header if 540 in lengths else nibabel.Nifti1Header if 348 in lengths else None
    content = file.read(kind.sizeof_hdr) if kind else b""
    if kind is None or len(content) < kind.sizeof_hdr:
        raise VolumeError(f"{path} is no NIfTI file, or one that is cut off", "Check the file, or copy it again.")
    header = kind(content, check=False)
    magic = bytes(header["magic"])
    if not magic.startswith((b"n+1", b"n+2")):
        hint = "Save it as one .nii file."
        raise VolumeError(f"{path} is no NIfTI file, or the header of one in two files", hint)
    return header


# ------------------------------------------------------------------------------------------------ writing


class _NiftiWriter(VolumeWriter):
    def __init__(self, target: Target, file: Any) -> None:
        super().__init__(target)
        self._file, self._stored = file, target.stored

    def _write(self, slab: npt.NDArray[Any]) -> None:
        for plane in slab:
            self._file.write(np.ascontiguousarray(plane.astype(self._stored, copy=False)).data)


@contextmanager
def nifti_writer(target: Target) -> Iterator[VolumeWriter]:
    """Write a NIfTI file, with a voxel size in millimetres or micrometres.

    Raises:
        MissingLibraryError: nibabel is not installed.
    """
    nibabel = extras.load("nibabel", "nifti", f"Writing {target.place.file}")
    header = _described(target, nibabel)
    with ExitStack() as files:
        file: Any = files.enter_context(target.temporary.open("wb"))
        if target.place.file.suffix.lower() == ".gz":
            file = files.enter_context(gzip.GzipFile("", "wb", _LEVEL, file, mtime=0))
        header.write_to(file)
        file.write(bytes(header.get_data_offset() - file.tell()))
        yield _NiftiWriter(target, file)


def _described(target: Target, nibabel: Any) -> Any:
    z, y, x = target.shape
    header = nibabel.Nifti1Header() if max(target.shape) <= _LONGEST else nibabel.Nifti2Header()
    header.set_data_dtype(target.stored)
    header.set_data_shape((x, y, z))
    header.set_data_offset(header.sizeof_hdr + 4)
    header.set_slope_inter(1.0 if target.scale is None else target.scale, 0.0)
    if target.voxel_size is not None:
        unit = "mm" if target.voxel_unit in ("mm", "cm", "m") else "µm"
        factor = METRES[target.voxel_unit] / METRES[unit]
        depth, height, width = (size * factor for size in target.voxel_size)
        header.set_xyzt_units({"mm": "mm", "µm": "micron"}[unit])
        header.set_zooms((width, height, depth))
        header.set_sform(np.diag([width, height, depth, 1.0]), "scanner")
        header.set_qform(np.diag([width, height, depth, 1.0]), "scanner")
    return header
