"""Every format of images, declared once: what its files are called, who reads and writes it, and what that takes.

Checks of names, messages, lists of files, the page docs/formats.md and who is called all follow from this table.
Nothing heavy is imported here: a reader or writer is imported when a file of its format is opened or made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import ParameterError, VolumeError

if TYPE_CHECKING:
    import numpy as np

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


@dataclass(frozen=True)
class Format:
    """A kind of image file.

    Args:
        name: What people call it.
        suffixes: Ends of the names of its files, in lower case.
        reader: ``module:function`` below ``deepscem_tui.engine`` that opens a :class:`Place` as a
            :class:`~deepscem_tui.engine.formats.volumes.Source`; empty for none.
        writer: ``module:function`` that makes a :class:`~deepscem_tui.engine.formats.volume_writer.VolumeWriter` for a
            :class:`~deepscem_tui.engine.formats.volume_writer.Target`; empty for none.
        wider: Types that it does not know, and those that they are written as without loss.
        guard: ``module:function`` that raises :class:`ParameterError` if what is at a :class:`Place` may not be
            replaced, even where replacing is allowed; empty for none.
        shared: Ends of names that files of quite other kinds have, too.
        teller: ``module:function`` that tells whether a file with such a name is one of its own; empty for none.
        holds: Types that its files can hold; empty for all.
        compressed: Which voxels it compresses: those of a type, or ``all``; empty for none.
        streamed: What is held in memory while it is read or written.
        extra: Of ``pyproject.toml``, whose libraries it needs; empty for none.
        inside: Whether a file has several arrays, one of which is named: it ``may`` or ``must`` be.
        folder: Whether it is a folder.
        slices: Whether a volume may be a folder of such files, one a slice.
        scale: Whether it says what the whole numbers of probabilities stand for.
        averages: Whether smaller copies are written with it, of means where the values are not said to be labels.
        picture: Whether it is what pictures of anything are.
        notes: What is worth knowing, for docs/formats.md.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: str = ""
    writer: str = ""
    wider: Mapping[str, str] = field(default_factory=dict)
    guard: str = ""
    shared: tuple[str, ...] = ()
    teller: str = ""
    holds: tuple[str, ...] = ()
    compressed: str = ""
    streamed: str = "a slab"
    extra: str = ""
    inside: Literal["", "may", "must"] = ""
    folder: bool = False
    slices: bool = False
    scale: bool = False
    averages: bool = False
    picture: bool = False
    notes: str = ""

    def does(self, what: Literal["read", "written"]) -> bool:
        """Whether it is read, or written."""
        return bool(self.reader if what == "read" else self.writer)

    def open(self, place: Place) -> Any:
        """A context manager that gives the voxels of a file."""
        return _imported(self.reader)(place)

    def make(self, target: Any) -> Any:
        """A context manager that gives what takes the slices of a volume."""
        return _imported(self.writer)(target)

    def keep(self, place: Place) -> None:
        """Raise :class:`ParameterError` if what is at a place may never be replaced."""
        if self.guard:
            _imported(self.guard)(place)

    def claims(self, file: Path) -> bool:
        """Whether a file whose name is of this format is one, told by its content where names do not tell."""
        return _suffix(file.name) not in self.shared or bool(_imported(self.teller)(file))

    def stored(self, dtype: Any) -> np.dtype[Any]:
        """The type that a file keeps."""
        import numpy as np  # not for the names alone, which --help needs

        kind = np.dtype(dtype)
        stored: np.dtype[Any] = np.dtype(self.wider.get(kind.name, kind))
        return stored

    def least_bytes(self, dtype: Any) -> int:
        """Bytes that a voxel takes in a file whatever its value."""
        stored = self.stored(dtype)
        return 0 if self.compressed in ("all", stored.name) else stored.itemsize


def _imported(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"deepscem_tui.engine.{module}"), function)
    return found


FORMATS = (
    Format(
        "TIFF",
        (".tif", ".tiff"),
        "formats.tiff_files:open_tiff_place",
        "formats.volume_writer:tiff_writer",
        {"bool": "uint8", "float16": "float32"},
        compressed="uint8",
        slices=True,
        scale=True,
        notes="What ImageJ and OME describe is read. Written as ImageJ does where it can be. BigTIFF from 4 GiB on. "
        "Masks are 0 and 255. Of several series none is chosen: save it as a file of its own.",
    ),
    Format(
        "OME-TIFF",
        (".ome.tif", ".ome.tiff"),
        "formats.tiff_files:open_tiff_place",
        "formats.volume_writer:tiff_writer",
        {"bool": "uint8", "float16": "float32"},
        holds=("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"),
        compressed="all",
        scale=True,
        notes="As TIFF, but always written with OME-XML and compressed (deflate).",
    ),
    Format(
        "NumPy",
        (".npy",),
        "formats.plain_files:open_npy_place",
        "formats.volume_writer:npy_writer",
        slices=True,
        notes="No voxel size. An array in Fortran order takes a pass over the file for each slab.",
    ),
    Format(
        "PNG",
        (".png",),
        "formats.slice_files:open_picture",
        streamed="a slice",
        slices=True,
        picture=True,
        notes="No voxel size.",
    ),
    Format(
        "JPEG",
        (".jpg", ".jpeg"),
        "formats.slice_files:open_picture",
        streamed="a slice",
        slices=True,
        picture=True,
        notes="No voxel size. It has lost some of what the microscope saw: prefer what it was made from.",
    ),
    Format(
        "MRC",
        (".mrc", ".rec", ".st", ".map", ".mrcs"),
        "formats.mrc:open_mrc",
        "formats.mrc:mrc_writer",
        {"bool": "int8", "uint8": "uint16", "float16": "float32"},  # mode 12 is known to few programs
        shared=(".rec", ".st", ".map"),
        teller="formats.mrc:is_mrc",
        holds=("int8", "int16", "uint16", "float32"),
        notes="Modes 0, 1, 2, 6 and 12, in both byte orders; IMOD's unsigned bytes. Masks are written as 0 and 1, and "
        "8-bit grey values as mode 6, since mode 0 has a sign. One volume a file. `import-folder` leaves out `.rec`, "
        "`.st` and `.map` files of other kinds.",
    ),
    Format(
        "HDF5",
        (".h5", ".hdf5", ".hdf"),
        "formats.hdf5_arrays:open_array",
        "formats.hdf5_arrays:array_writer",
        {"bool": "uint8"},
        guard="formats.hdf5_arrays:refuse_others",
        compressed="all",
        streamed="a slab, and a band of chunks",
        inside="must",
        scale=True,
        notes="An array is named as in `file.h5:/volumes/raw`; a file without one is taken for a data set. Voxel sizes "
        "are those of `resolution` (nm) or `element_size_um`. Links out of the file are not followed. Masks are "
        "written as 0 and 1. `--overwrite` replaces a file only where it holds nothing but the array of that name.",
    ),
    Format(
        "OME-Zarr",
        (".ome.zarr", ".zarr"),
        "formats.zarr_stores:open_store",
        "formats.zarr_writer:store_writer",
        {"bool": "uint8"},
        guard="formats.zarr_stores:refuse_others",
        compressed="all",
        streamed="a slab, and a band of chunks",
        extra="zarr",
        inside="may",
        folder=True,
        averages=True,
        notes="Zarr of version 2 and 3 in a folder, OME-Zarr up to 0.5. The largest image is taken; "
        "`cell.ome.zarr:/1` is the next smaller one, `cell.ome.zarr:/0?c=1` the second channel. Compressed by blosc, "
        "gzip, lz4, zlib or zstd. Written as OME-Zarr 0.5 with a pyramid; masks as 0 and 1. "
        "The smaller copies are means, or with `--labels` every other voxel. `--overwrite` replaces a folder only "
        "where it holds nothing but one image. Needs Python 3.11.",
    ),
    Format(
        "N5",
        (".n5",),
        "formats.n5:open_n5",
        compressed="all",
        streamed="a slab, and a band of blocks",
        extra="n5",
        inside="may",
        folder=True,
        notes="An array is named as in `cells.n5:/em/s0`; of a pyramid `s0` is taken. Voxel sizes are those of "
        "`pixelResolution` or `resolution`, in nm where no unit is given.",
    ),
    Format(
        "NIfTI",
        (".nii",),
        "formats.nifti:open_nifti",
        "formats.nifti:nifti_writer",
        {"bool": "uint8", "float16": "float32"},
        extra="nifti",
        scale=True,
        notes="NIfTI-1 and -2. X, Y and Z are kept as they are stored: what the file says of its place in the world is "
        "not applied, slope and intercept are. Masks are written as 0 and 1.",
    ),
    Format(
        "NIfTI, compressed",
        (".nii.gz",),
        "formats.nifti:open_nifti",
        "formats.nifti:nifti_writer",
        {"bool": "uint8", "float16": "float32"},
        compressed="all",
        streamed="a slab; whoever goes back in it reads it from its start",
        extra="nifti",
        scale=True,
        notes="As NIfTI. `convert-image` and `add-sample` read it in order; to predict or to look at a large one, "
        "uncompress it first.",
    ),
)

# What people have and is not read, and the way out.
_ELSEWHERE = {
    ".am": "Export it from Amira, Avizo or Fiji as TIFF or MRC.",
    ".czi": "Open it in Fiji (Bio-Formats) and save it as TIFF.",
    ".dm3": "Open it in Fiji or Digital Micrograph and save it as TIFF.",
    ".dm4": "Open it in Fiji or Digital Micrograph and save it as TIFF.",
    ".bz2": "Uncompress it first: bunzip2.",
    ".gz": "Uncompress it first: gunzip.",
    ".zip": "Unpack it first.",
}

SLICES = tuple(suffix for known in FORMATS if known.slices for suffix in known.suffixes)
"""Ends of the names of files of which a volume may have one a slice."""

PICTURES = tuple(suffix for known in FORMATS if known.picture for suffix in known.suffixes)
"""Ends of the names of pictures, which may be of anything."""

HDF5 = tuple(suffix for known in FORMATS if known.inside == "must" for suffix in known.suffixes)
"""Ends of the names of HDF5 files, which may be data sets."""

STORES = tuple(suffix for known in FORMATS if known.folder for suffix in known.suffixes)
"""Ends of the names of folders that are images."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+]{1,9}:")  # as a path begins that is one; a drive has one letter
_BY_SUFFIX = {suffix: known for known in FORMATS for suffix in known.suffixes}
_LONGEST = sorted(_BY_SUFFIX, key=len, reverse=True)
_NAMED = "|".join(re.escape(suffix) for suffix in _LONGEST if _BY_SUFFIX[suffix].inside)
_WHOLE = "|".join(re.escape(suffix) for suffix in _LONGEST if _BY_SUFFIX[suffix].inside == "may")
_INSIDE = re.compile(rf"(.*(?:{_NAMED})):(.*)", re.IGNORECASE | re.DOTALL)
_CHOSEN = re.compile(rf"(.*(?:{_WHOLE}))(\?.*=.*)", re.IGNORECASE | re.DOTALL)


def suffixes(what: Literal["read", "written"]) -> tuple[str, ...]:
    """Ends of the names of files that are read, or written, in the order of the table."""
    return tuple(suffix for known in FORMATS if known.does(what) for suffix in known.suffixes)


def kinds(what: Literal["read", "written"]) -> tuple[str, ...]:
    """The usual end of the names of each format's files, for messages."""
    return tuple(known.suffixes[0] for known in FORMATS if known.does(what))


@dataclass(frozen=True)
class Place:
    """Where an image is: a file or a store, and what of it.

    Args:
        path: As it was given, for messages.
        file: The file or the folder on the disk.
        format: By the name; None for none that is known.
        inside: Name of the array in the file, without ``/`` at its ends; empty if none is named.
        chosen: What is chosen of axes that a volume does not have: axis and number.
    """

    path: Path
    file: Path
    format: Format | None
    inside: str = ""
    chosen: tuple[tuple[str, int], ...] = ()

    @property
    def stem(self) -> str:
        """The file's name without its end."""
        suffix = _suffix(self.file.name) or self.file.suffix
        return self.file.name[: -len(suffix)] if suffix else self.file.name

    @property
    def name(self) -> str:
        """The file's name, with what of it is meant: ``file.h5:/volumes/raw``."""
        return self.file.name + str(self.path)[len(str(self.file)) :]

    @property
    def bare(self) -> str:
        """The path without what is chosen of the axes."""
        return str(self.path).partition("?")[0] if self.chosen else str(self.path)

    def named(self, stem: str) -> Path:
        """The same place in a file of another name beside this one, its end the same."""
        end = str(self.path)[len(str(self.file)) :]
        suffix = self.file.name[len(self.stem) :]
        return Path(f"{self.file.with_name(stem + suffix)}{end}")


def place_of(path: Path) -> Place:
    """Take a path such as ``cell.tif``, ``file.h5:/raw``, ``cell.zarr/0`` or ``cell.zarr?c=1`` apart.

    Nothing is looked at.

    Raises:
        ParameterError: what is chosen of the axes is not said as it should be.
    """
    parts = path.parts
    for index, part in enumerate(parts):
        found = _INSIDE.fullmatch(part) or _CHOSEN.fullmatch(part)
        store = index < len(parts) - 1 and (known := _BY_SUFFIX.get(_suffix(part))) is not None and known.folder
        if found is None and not store:
            continue
        name = part if found is None else found[1]
        rest = ("" if found is None else found[2], *parts[index + 1 :])
        inside, question, query = "/".join(rest).partition("?")
        file = Path(*parts[:index], name)
        chosen = _chosen(path, query) if question else ()
        return Place(path, file, _BY_SUFFIX[_suffix(name)], inside.strip("/"), chosen)
    return Place(path, path, _BY_SUFFIX.get(_suffix(path.name)))


def _chosen(path: Path, query: str) -> tuple[tuple[str, int], ...]:
    pairs = [part.partition("=") for part in query.split("&")]
    if not all(axis and number.isdecimal() and len(number) < 10 for axis, _, number in pairs):
        what = f"{path} does not end in what is chosen of axes, such as ?c=1 or ?c=1&t=0"
        raise ParameterError(what, "Give the axis and its number, from 0 on.")
    return tuple((axis.lower(), int(number)) for axis, _, number in pairs)


def is_place(path: Path) -> bool:
    """Whether a path names an image by its end, and not what may be a data set."""
    try:
        place = place_of(path)
    except ParameterError:
        return True
    return (
        place.format is not None
        and bool(place.format.reader)
        and (place.format.inside != "must" or place.path != place.file)
    )


def image_in(folder: Path, name: str, is_folder: bool) -> Place | None:
    """What a file or a folder in a folder is as an image, told by its name and, where that may mislead, its content.

    Returns:
        None for nothing that is read here. What may hold several arrays, one of which must be named, is given, too.
    """
    place = Place(folder / name, folder / name, _BY_SUFFIX.get(_suffix(name)))
    known = place.format
    if known is None or not known.reader or known.folder != is_folder:
        return None
    return place if known.claims(place.file) else None


def stem_of(path: Path) -> str:
    """What an image is called: its file's name without the end, ``cell`` of ``cell.ome.tif``."""
    return place_of(path).stem


def with_stem(path: Path, addition: str) -> Path:
    """The same kind of file beside it, with something added to its name before the end."""
    place = place_of(path)
    return place.named(place.stem + addition)


def refuse_unknown(place: Place, what: Literal["read", "written"]) -> Format:
    """The format of a file.

    Raises:
        VolumeError, ParameterError: it has none that is read, or written.
    """
    error = VolumeError if what == "read" else ParameterError
    known = place.format
    if _ADDRESS.fullmatch(place.path.parts[0] if place.path.parts else ""):
        raise error(f"{place.path} is an address, not a file on this machine", "Copy it here first.")
    if known is not None and known.does(what):
        return known
    ends = words.either(kinds(what))
    if what == "written" and known is not None:
        raise ParameterError(f"{place.path}: {known.name} is read here, not written", f"It must end in {ends}.")
    other = _ELSEWHERE.get(place.file.suffix.lower())
    if other is not None:
        raise error(f"{place.path} is of a kind that is not {what} here", other)
    raise error(f"{place.path} is no image file by its name", f"It must end in {ends}.")


def _suffix(name: str) -> str:
    lower = name.lower()
    return next((suffix for suffix in _LONGEST if lower.endswith(suffix) and len(lower) > len(suffix)), "")
