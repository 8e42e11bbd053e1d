"""Image files out: written a slab at a time, and there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
import tifffile

from deepscem_tui import __version__
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.errors import ParameterError, VolumeError
from deepscem_tui.engine.formats import Format, Place, place_of, refuse_unknown
from deepscem_tui.engine.formats.tiff_metadata import SCALE_NAMESPACE, VALUE_UNIT
from deepscem_tui.engine.system.files import Together, published, refuse_existing
from deepscem_tui.engine.system.space import is_full

Size = tuple[float, float, float]

BIG = 2**32 - 2**25  # what classic TIFF can address, less room for directories
IMAGEJ_TYPES = ("uint8", "uint16", "int16", "float32")
OME_TYPES = {name: name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32")}
OME_TYPES |= {"float32": "float", "float64": "double"}


@dataclass(frozen=True)
class Target:
    """A volume that is to be made.

    Args:
        place: Where it is to appear.
        temporary: What to write to meanwhile.
        shape: (Z, Y, X).
        dtype: Of the slabs that will be given.
        voxel_size: Z, Y, X in ``voxel_unit``; None if not known.
        voxel_unit: Such as "nm"; empty if not known.
        scale: What a value of 1 stands for; None where values stand for themselves.
        labels: Whether the values are labels, of which there is no mean.
    """

    place: Place
    temporary: Path
    shape: Shape
    dtype: np.dtype[Any]
    voxel_size: Size | None = None
    voxel_unit: str = ""
    scale: float | None = None
    labels: bool = False

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of the voxels in the file."""
        assert self.place.format is not None
        return self.place.format.stored(self.dtype)


class VolumeWriter:
    """Takes the slices of a volume in order.

    Attributes:
        shape: (Z, Y, X).
        dtype: Of the slabs to be given.
        written: Slices written so far.
    """

    def __init__(self, target: Target) -> None:
        self.path, self.shape, self.dtype = target.place.path, target.shape, target.dtype
        self.written = 0

    def write(self, slab: npt.NDArray[Any]) -> None:
        """Append slices (n, Y, X) of the type that was announced.

        Raises:
            ResourceError: if the disk is full.
            VolumeError: if the file cannot be written.
        """
        if slab.dtype != self.dtype or slab.ndim != 3 or slab.shape[1:] != self.shape[1:]:
            raise ValueError(f"{slab.dtype} {slab.shape} does not belong to {self.dtype} {self.shape}")
        if self.written + len(slab) > self.shape[0]:
            raise ValueError(f"{self.written + len(slab)} slices are more than {self.shape[0]}")
        with writing(self.path):
            self._write(slab)
        self.written += len(slab)

    def _write(self, slab: npt.NDArray[Any]) -> None:
        raise NotImplementedError


class NpyWriter(VolumeWriter):
    """A NumPy file."""

    def __init__(self, target: Target, file: Any) -> None:
        super().__init__(target)
        self._file = file
        about = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(file, about)

    def _write(self, slab: npt.NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(slab).data)


class TiffWriter(VolumeWriter):
    """A TIFF file, one page a slice.

    The description is ImageJ's, which Fiji opens as a Z stack with its voxel size; for types that ImageJ does not
    know, for BigTIFF, which Fiji opens through Bio-Formats, and where the name ends in ``.ome.tif`` it is OME-XML.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        shape, voxel_size, unit, scale = target.shape, target.voxel_size, target.voxel_unit, target.scale
        self._stored = target.stored
        big = shape[0] * shape[1] * shape[2] * self._stored.itemsize > BIG
        self.tiff = tifffile.TiffWriter(target.temporary, bigtiff=big)
        ome = target.place.format is not None and target.place.format.compressed == "all"
        imagej = self._stored.name in IMAGEJ_TYPES and not big and not ome
        self._description: bytes | None = None
        if imagej:
            self._description = imagej_description(shape, voxel_size, unit, scale).encode()
        elif self._stored.name in OME_TYPES:
            self._description = ome_description(shape, self._stored, voxel_size, unit, scale).encode()
        packed = ome or self._stored == np.uint8
        y, x = voxel_size[1:] if voxel_size is not None else (1.0, 1.0)
        self._options = {
            "photometric": "minisblack",
            "compression": "zlib" if packed else None,
            "predictor": packed and self._stored.itemsize > 1,
            "resolution": (1 / x, 1 / y),
            "resolutionunit": "NONE",
            "software": False,
            "metadata": None,
            "contiguous": not packed,  # ImageJ looks for the slices in one piece, unless compressed
        }

    def _write(self, slab: npt.NDArray[Any]) -> None:
        for plane in slab:
            page = plane.astype(self._stored)
            if self.dtype == np.bool_:
                page *= 255
            self.tiff.write(page, description=self._description, **self._options)
            self._description = None  # stands in the first page only


def imagej_description(shape: Shape, voxel_size: Size | None, unit: str, scale: float | None = None) -> str:
    """The lines that ImageJ writes into the first page; with a scale it shows values calibrated by it."""
    lines = ["ImageJ=1.54f", f"images={shape[0]}"]
    if shape[0] > 1:
        lines.append(f"slices={shape[0]}")
    if voxel_size is not None:
        lines += [f"unit={unit.replace('µ', 'u')}", f"spacing={voxel_size[0]!r}"]
    if scale is not None:  # a straight line through 0
        lines += ["cf=0", "c0=0.0", f"c1={scale!r}", f"vunit={VALUE_UNIT}"]
    return "\n".join([*lines, "loop=false", ""])


def ome_description(
    shape: Shape, stored: np.dtype[Any], voxel_size: Size | None, unit: str, scale: float | None = None
) -> str:
    """OME-XML of an image with one channel.

    Source: OME-TIFF specification, https://ome-model.readthedocs.io/en/stable/ome-tiff/specification.html
    """
    kind = OME_TYPES[stored.name]
    sizes = " ".join(f'Size{axis}="{size}"' for axis, size in zip("ZYX", shape, strict=True))
    physical = ""
    for axis, size in zip("ZYX", voxel_size or (), strict=False):
        physical += f' PhysicalSize{axis}="{size!r}" PhysicalSize{axis}Unit={quoteattr(unit)}'
    reference = annotation = ""
    if scale is not None:
        reference = '<AnnotationRef ID="Annotation:0"/>'
        annotation = (
            f'<StructuredAnnotations><DoubleAnnotation ID="Annotation:0" Namespace="{SCALE_NAMESPACE}">'
            f"<Value>{scale!r}</Value></DoubleAnnotation></StructuredAnnotations>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'Creator="deepscem-tui {__version__}"><Image ID="Image:0" Name="Image0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYZCT" Type="{kind}" {sizes} SizeC="1" SizeT="1"{physical}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f'<TiffData IFD="0" PlaneCount="{shape[0]}"/></Pixels>{reference}</Image>{annotation}</OME>'
    )


def check_target(path: Path, dtype: npt.DTypeLike, overwrite: bool) -> tuple[Place, Format]:
    """Where a volume is to be made, and as what.

    Raises:
        ParameterError: if it exists already and may not be replaced, or its name says no format that can be written,
            or one that does not know the type.
    """
    place = place_of(path)
    known = refuse_unknown(place, "written")
    stored = known.stored(dtype)
    if known.holds and stored.name not in known.holds:
        raise ParameterError(
            f"{path}: {known.name} files cannot hold voxels of type {stored}", "Choose another format, such as .tif."
        )
    if known.inside == "must" and not place.inside:
        raise ParameterError(f"{path} needs a name for the array in it", f"Give one, such as {path}:/volumes/labels.")
    if place.chosen or (place.inside and known.inside != "must"):
        raise ParameterError(f"{path} names a part of what is made", f"Give the name of the whole, {place.file}.")
    refuse_existing(place.file, overwrite, known.folder)
    if place.file.exists():
        known.keep(place)
    return place, known


@contextmanager
def create_volume(
    path: Path,
    shape: Shape,
    dtype: npt.DTypeLike,
    *,
    voxel_size: Size | None = None,
    voxel_unit: str = "",
    scale: float | None = None,
    labels: bool = False,
    overwrite: bool = False,
    together: Together | None = None,
    before: Callable[[Path], None] = lambda _: None,
) -> Iterator[VolumeWriter]:
    """Make an image file from slabs, of the format that its name says; it appears when the block ends well.

    What a format does not know is widened, as float16 to float32 in TIFF files. There bool becomes uint8 0 and 255,
    as programs of microscopy show masks, and 0 and 1 elsewhere.

    Args:
        path: File to make.
        shape: (Z, Y, X).
        dtype: Of the slabs.
        voxel_size: Size of a voxel (Z, Y, X), kept in all but NumPy files.
        voxel_unit: Its unit, such as "nm" or "µm".
        scale: What a value of 1 stands for, kept where the format has a place for it; None where values stand for
            themselves.
        labels: Whether the values are labels, of which there is no mean.
        overwrite: Replace the file if it exists.
        together: With what other files it appears.
        before: See :func:`~deepscem_tui.engine.system.files.published`.

    Raises:
        ParameterError: if the file exists already, its name says no format that can be written, or one that does not
            know the type.
        MissingLibraryError: if its format needs a library that is not installed.
        ResourceError: if the disk is full.
        VolumeError: if the file cannot be written.
    """
    path, kind = Path(path), np.dtype(dtype).newbyteorder("=")
    place, known = check_target(path, kind, overwrite)
    with ExitStack() as stack:
        with writing(path):
            least = prod(shape) * known.least_bytes(kind) or None
            temporary = stack.enter_context(
                published(place.file, least, before=before, together=together, folder=known.folder)
            )
            size = voxel_size if voxel_unit else None
            target = Target(place, temporary, shape, kind, size, voxel_unit if size else "", scale, labels)
            writer: VolumeWriter = stack.enter_context(known.make(target))
        yield writer
        if writer.written != shape[0]:
            raise ValueError(f"{path}: {writer.written} of {shape[0]} slices were written")
        with writing(path):
            stack.close()


@contextmanager
def npy_writer(target: Target) -> Iterator[VolumeWriter]:
    """Write a NumPy file."""
    with target.temporary.open("wb") as file:
        yield NpyWriter(target, file)


@contextmanager
def tiff_writer(target: Target) -> Iterator[VolumeWriter]:
    """Write a TIFF file."""
    writer = TiffWriter(target)
    with writer.tiff:
        yield writer


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in plain words why a file cannot be written."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise  # told where the file is given up
        raise VolumeError(f"{path} cannot be written: {error.strerror or error}", "Write it somewhere else.") from error
