"""What the descriptions in a TIFF file say: OME-XML, ImageJ's lines, resolution tags."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

Size = tuple[float, float, float]

METRES = {"Å": 1e-10, "pm": 1e-12, "nm": 1e-9, "µm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
SPELLINGS = {
    "\\u00b5m": "µm", "\\u00b5": "µm", "μm": "µm", "um": "µm", "micron": "µm", "microns": "µm", "micrometer": "µm",
    "micrometre": "µm", "micrometers": "µm", "nanometer": "nm", "nanometre": "nm", "nanometers": "nm",
    "millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m",
    "angstrom": "Å", "picometer": "pm", "å": "Å", "a": "Å",
}  # fmt: skip

VALUE_UNIT = "probability"  # of values that have a scale
SCALE_NAMESPACE = "deepscem-tui/scale"


@dataclass(frozen=True)
class OmeImage:
    """The sizes of an OME image, and how many images and files its description speaks of."""

    images: int
    files: int
    slices: int
    channels: int
    times: int
    physical: tuple[tuple[float, str] | None, ...]  # of Z, Y and X


def length_unit(text: str) -> str:
    """A unit of length by its usual sign, or an empty text for anything else."""
    word = text.strip()
    word = SPELLINGS.get(word.lower(), word)
    return word if word in METRES else ""


def in_one_unit(sizes: Size, units: tuple[str, str, str]) -> tuple[Size, str]:
    """Sizes along Z, Y and X that are in units of their own, all in that of X."""
    unit = units[2]
    z, y, x = (float(f"{size * METRES[own] / METRES[unit]:.12g}") for size, own in zip(sizes, units, strict=True))
    return (z, y, x), unit


def untold(sizes: Iterable[float]) -> str:
    """A warning about sizes of voxels that have no unit of length; they are not taken."""
    text = " x ".join(f"{size:g}" for size in sizes)
    return f"it does not say in which unit its voxels are {text}, so that is not taken: give --voxel-size"


def ome_image(tiff: Any) -> OmeImage | None:
    """What the OME description of a TIFF file says, if it has a usable one.

    Source: OME-TIFF specification, https://ome-model.readthedocs.io/en/stable/ome-tiff/specification.html
    """
    if not tiff.is_ome or not tiff.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(tiff.ome_metadata)
        pixels = root.findall("{*}Image/{*}Pixels")
        if not pixels:
            return None
        first = pixels[0].attrib
        samples = max([int(one.attrib.get("SamplesPerPixel", 1)) for one in pixels[0].findall("{*}Channel")] or [1])
        return OmeImage(
            images=len(pixels),
            files=len({one.text for one in root.iterfind("{*}Image/{*}Pixels/{*}TiffData/{*}UUID")}),
            slices=int(first["SizeZ"]),
            channels=max(1, int(first["SizeC"]) // max(samples, 1)),  # samples of a colour are no channels
            times=int(first["SizeT"]),
            physical=tuple(_physical(first, axis) for axis in "ZYX"),
        )
    except (ElementTree.ParseError, KeyError, ValueError):
        return None


def _physical(attributes: dict[str, str], axis: str) -> tuple[float, str] | None:
    value = attributes.get(f"PhysicalSize{axis}")
    unit = length_unit(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
    return (float(value), unit) if value and unit else None


def voxel_size(tiff: Any, ome: OmeImage | None, slices: int) -> tuple[Size, str] | None:
    """The size of a voxel (Z, Y, X) and its unit, where the file gives a trustworthy one.

    A single slice has no thickness: its Z is then taken to be its Y.
    """
    if ome is not None:
        sizes = _from_ome(ome, slices)
    elif tiff.is_imagej:
        sizes = _from_imagej(tiff, slices)
    else:
        sizes = _from_resolution(tiff.pages.first, slices)
    if sizes is None or not all(math.isfinite(size) and size > 0 for size in sizes[0]):
        return None
    return sizes


def value_scale(tiff: Any) -> float | None:
    """What a value of 1 stands for in probabilities that are stored as whole numbers; None in any other file."""
    found: Any = None
    if tiff.is_ome:
        try:
            root = ElementTree.fromstring(tiff.ome_metadata or "")
        except ElementTree.ParseError:
            return None
        for annotation in root.iterfind("{*}StructuredAnnotations/{*}DoubleAnnotation"):
            if annotation.attrib.get("Namespace") == SCALE_NAMESPACE:
                found = annotation.findtext("{*}Value")
    elif tiff.is_imagej:
        about = tiff.imagej_metadata or {}
        if about.get("vunit") == VALUE_UNIT and about.get("cf") == 0 and about.get("c0") == 0:
            found = about.get("c1")
    try:
        scale = float(found)
    except (TypeError, ValueError):
        return None
    return scale if 0 < scale <= 1 else None


def _from_ome(ome: OmeImage, slices: int) -> tuple[Size, str] | None:
    z, y, x = ome.physical
    if y is None or x is None or (z is None and slices > 1):
        return None
    z = z or y
    return in_one_unit((z[0], y[0], x[0]), (z[1], y[1], x[1]))


def _from_imagej(tiff: Any, slices: int) -> tuple[Size, str] | None:
    about = tiff.imagej_metadata or {}
    unit = length_unit(str(about.get("unit", "")))
    pixel = _pixel(tiff.pages.first)
    spacing = about.get("spacing")
    if not unit or pixel is None or (spacing is None and slices > 1):
        return None
    return (abs(float(spacing)) if spacing and slices > 1 else pixel[0], *pixel), unit


def _from_resolution(page: Any, slices: int) -> tuple[Size, str] | None:
    """Only pixels a centimetre of a single slice: dots an inch are of a printer, and depth has no tag."""
    pixel = _pixel(page)
    unit = page.tags.get("ResolutionUnit")
    if pixel is None or slices > 1 or unit is None or int(unit.value) != 3 or max(pixel) > 0.01:
        return None
    height, width = (round(size * 1e4, 9) for size in pixel)
    return (height, height, width), "µm"


def _pixel(page: Any) -> tuple[float, float] | None:
    """The reciprocals of the resolution tags, for Y and X."""
    sizes = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        if tag is None or len(tag.value) != 2 or 0 in tag.value:
            return None
        sizes.append(tag.value[1] / tag.value[0])
    return sizes[0], sizes[1]
