"""Volumes as people keep them: one file a slice, PNG pictures, and colours that stand for something.

What is one grey TIFF or NumPy file is read by :mod:`deepscem_tui.engine.formats.volumes`; here are the rest. Colours
become the numbers 0xRRGGBB, of which two pictures of the same class have the same.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.formats import PICTURES, SLICES, Place, place_of, stem_of
from deepscem_tui.engine.formats.pictures import read_picture
from deepscem_tui.engine.formats.tiff_files import check_directories, check_pages, explained
from deepscem_tui.engine.formats.tiff_metadata import Size, ome_image, voxel_size
from deepscem_tui.engine.formats.volumes import Volume, open_volume

__all__ = ["ColourVolume", "is_several_files", "open_picture", "open_slices", "slice_files", "volume_name"]

_OF_STORES = ("zarr.json", ".zgroup", ".zarray", "attributes.json")
_COLOURS = "Convert it to grey values (in Fiji: Image > Type > 8-bit)."

Code = npt.NDArray[Any]


class ColourVolume(Volume):
    """A volume whose values are colours, 0xRRGGBB."""


@contextmanager
def open_slices(path: Path, colours: bool, tables: bool = False) -> Iterator[Volume]:
    """Open an image file, a folder of slices, or the slices that a pattern such as ``slices/*.png`` matches.

    Args:
        colours: Whether colours are wanted: then they are numbers, and the volume is a :class:`ColourVolume`. Else a
            picture in colour is refused, but one whose colours are all greys is read as grey.
        tables: Whether the colours of a TIFF file's colour table are wanted rather than its values.

    Raises:
        VolumeError: it does not exist, may not be read, is damaged, or holds something else than one 2D or 3D image.
    """
    path = Path(path)
    with ExitStack() as files:
        if is_several_files(path) or _is_picture(path):
            source = _SliceSource(path, slice_files(path), colours, tables)
            yield ColourVolume(path, source) if source.coloured else Volume(path, source)
        elif colours and path.suffix.lower() in (".tif", ".tiff") and path.is_file() and _has_colours(path, tables):
            yield ColourVolume(path, files.enter_context(_open_colour_tiff(path)))
        else:
            yield files.enter_context(open_volume(path))


def is_several_files(path: Path) -> bool:
    """Whether this is a folder of slices, or a pattern rather than the name of a file."""
    place = place_of(path)
    if place.format is not None and (place.format.folder or place.path != place.file):
        return False  # a store, or something in a file
    return path.is_dir() or (glob.has_magic(path.name) and not path.exists())


def volume_name(path: Path) -> str:
    """What a volume is called: by its file, or by the folder of its slices."""
    if not is_several_files(path):
        return stem_of(path)
    return (path if path.is_dir() else path.parent).resolve().name or "slices"


def slice_files(path: Path) -> list[Path]:
    """The files of a folder or of a pattern, or the one that is named, ``s2`` before ``s10``.

    Raises:
        VolumeError: there are none.
    """
    if not is_several_files(path):
        return [path]
    folder, pattern = (path, "*") if path.is_dir() else (path.parent, path.name)
    try:
        found = [file for file in folder.iterdir() if fnmatch(file.name, pattern)]
    except OSError as error:
        raise VolumeError(f"{folder} cannot be listed: {error.strerror or error}", "Check the folder.") from error
    named = (file for file in found if file.suffix.lower() in SLICES and not file.name.startswith("."))
    files = [file for file in named if not file.is_dir()]
    if not files:
        if path.is_dir() and any((path / name).exists() for name in _OF_STORES):
            raise VolumeError(f"{path} seems to be a store, by what is in it", "Its name must end in .zarr or .n5.")
        kinds = words.either(SLICES)
        where = f"The folder {path} has" if path.is_dir() else f"{path} matches"
        raise VolumeError(f"{where} no image file", f"Give a file, or a folder or pattern of {kinds} files.")
    return sorted(files, key=lambda file: words.natural(str(file)))


class _SliceSource:
    """One file a slice.

    Args:
        path: For messages.
        files: One a slice, in order.
        colours, tables: See :func:`open_slices`.
    """

    def __init__(self, path: Path, files: Sequence[Path], colours: bool, tables: bool) -> None:
        self._files, self._colours, self._tables = files, colours, tables
        first = _read_slice(files[0], colours, tables)
        self.coloured = colours and first.dtype == np.uint32 and _is_coloured(files[0], tables)
        self.shape = (len(files), *first.shape)
        self.dtype = first.dtype
        found = _voxel_size(files[0], len(files))
        self.voxel_size: Size | None = None if found is None else found[0]
        self.voxel_unit = "" if found is None else found[1]
        self.scale: float | None = None
        ends = f", from {files[0].name} to {files[-1].name}"
        self.warnings: tuple[str, ...] = (
            (f"its {len(files)} files are taken as slices{ends}", *_gaps(files)) if len(files) > 1 else ()
        )
        self.path = path

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (n, Y, X) with the slices from ``z0`` on."""
        for index in range(len(out)):
            file = self._files[z0 + index]
            found = _read_slice(file, self._colours, self._tables)
            if found.shape != self.shape[1:] or found.dtype != self.dtype:
                here, there = (f"{words.sizes(a.shape[-2:])} {a.dtype}" for a in (found, out))
                raise VolumeError(f"{file} is {here}, but {self._files[0]} {there}", "All slices must be alike.")
            out[index] = found


@contextmanager
def open_picture(place: Place) -> Iterator[_SliceSource]:
    """Open a picture as a volume of one slice, for the table of formats."""
    yield _SliceSource(place.path, [place.file], colours=False, tables=False)


def _is_picture(path: Path) -> bool:
    return place_of(path).file.suffix.lower() in PICTURES  # not a name in a file


def _voxel_size(file: Path, slices: int) -> tuple[Size, str] | None:
    """What the first slice says, where it says how far slices are apart, too."""
    if file.suffix.lower() in (".tif", ".tiff"):
        with suppress(Exception), tifffile.TiffFile(file, _multifile=False) as tiff:  # opening it tells what is wrong
            return voxel_size(tiff, ome_image(tiff), slices)
    return None


def _gaps(files: Sequence[Path]) -> list[str]:
    """What to say of slices whose numbers go on by larger steps here and there: some may be missing."""
    parts = [re.split(r"(\d+)", file.name) for file in files]
    if len({len(part) for part in parts}) > 1:
        return []
    counting = [index for index in range(len(parts[0])) if len({part[index] for part in parts}) > 1]
    if len(counting) != 1 or counting[0] % 2 == 0:
        return []
    numbers = [int(part[counting[0]]) for part in parts]
    steps = [after - before for before, after in pairwise(numbers)]
    wide = [index for index, step in enumerate(steps) if step != min(steps)]
    if not wide:
        return []
    first, second = files[wide[0]].name, files[wide[0] + 1].name
    more = f", and so on in {len(wide)} places" if len(wide) > 1 else ""
    return [f"slices may be missing: {first} is followed by {second}{more}"]


def _read_slice(file: Path, colours: bool, tables: bool) -> Code:
    """The picture (Y, X) in a file."""
    if _is_picture(file):
        return _codes(file, read_picture(file), colours)
    with open_slices(file, colours, tables) as volume:
        if volume.shape[0] != 1:
            raise VolumeError(f"{file} has {volume.shape[0]} slices", "Each of several files must be one slice.")
        slice_: Code = volume.read(0, 1)[0]
        return slice_


def _is_coloured(file: Path, tables: bool) -> bool:
    return read_picture(file).ndim == 3 if _is_picture(file) else _has_colours(file, tables)


def _codes(file: Path, picture: npt.NDArray[Any], colours: bool) -> Code:
    """Grey values (Y, X), or colours as numbers, of a picture of 1 to 4 samples a pixel, the last of 2 or 4 opacity."""
    if picture.ndim == 2:
        return picture
    if picture.shape[-1] < 3:
        return np.ascontiguousarray(picture[..., 0])
    red, green, blue = (picture[..., channel] for channel in range(3))
    if not colours:
        if np.array_equal(red, green) and np.array_equal(red, blue):
            return np.ascontiguousarray(red)
        raise VolumeError(f"{file} is a colour image", _COLOURS)
    bits = 8 * (picture.dtype.itemsize - 1)
    red, green, blue = ((channel >> bits).astype(np.uint32) for channel in (red, green, blue))
    return (red << np.uint32(16)) | (green << np.uint32(8)) | blue


# ------------------------------------------------------------------------------------------------ colour TIFF


def _has_colours(path: Path, tables: bool) -> bool:
    """Whether a TIFF file is in colour: three samples a pixel, or, if that counts, a colour table."""
    with suppress(Exception), tifffile.TiffFile(path, _multifile=False) as tiff:  # opening it tells what is wrong
        first = tiff.pages.first
        planes = first.planarconfig == 2 and tiff.is_shaped  # as tifffile marks every stack of 3 or 4 slices
        in_colour = first.photometric == 2 and first.samplesperpixel in (3, 4) and not planes
        return bool(in_colour or (tables and _table(first)))
    return False


def _table(page: Any) -> bool:
    return page.photometric == 3 and page.colormap is not None and page.dtype == np.uint8


@contextmanager
def _open_colour_tiff(path: Path) -> Iterator[_ColourPages]:
    with ExitStack() as files:
        with explained(str(path)):
            file = files.enter_context(path.open("rb", buffering=0))
            check_directories(path, file, path.stat().st_size)
            source = _ColourPages(path, files.enter_context(tifffile.TiffFile(path, _multifile=False)))
        yield source


class _ColourPages:
    """The pages of a colour TIFF file, a slice each."""

    dtype = np.dtype(np.uint32)

    def __init__(self, path: Path, tiff: Any) -> None:
        self._path, self._pages = path, [page for page in tiff.pages if not page.is_reduced]
        first = self._pages[0].keyframe
        sizes = {(page.keyframe.imagelength, page.keyframe.imagewidth, page.keyframe.dtype) for page in self._pages}
        if len(sizes) > 1 or first.dtype not in (np.uint8, np.uint16):
            raise VolumeError(f"{path} holds colour images of different kinds", "Save each as a file of its own.")
        check_pages(path, self._pages, (len(self._pages), *first.shape))
        self.shape = (len(self._pages), first.imagelength, first.imagewidth)
        found = voxel_size(tiff, ome_image(tiff), self.shape[0])
        self.voxel_size: Size | None = None if found is None else found[0]
        self.voxel_unit = "" if found is None else found[1]
        self.warnings: tuple[str, ...] = ()
        self.scale: float | None = None

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (n, Y, X) with the slices from ``z0`` on."""
        for index in range(len(out)):
            with explained(f"{self._path}, slice {z0 + index}"):
                page = self._pages[z0 + index]
                picture = page.asarray(maxworkers=1)
                table = page.keyframe.colormap if _table(page.keyframe) else None
                if table is not None:
                    picture = table.T[picture]
                elif page.keyframe.planarconfig == 2:
                    picture = np.moveaxis(picture, 0, -1)
            out[index] = _codes(self._path, picture, True)
