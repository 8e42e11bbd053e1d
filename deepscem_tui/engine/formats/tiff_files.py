"""TIFF files in: what is in them, checked before anything is read, then slice by slice."""

from __future__ import annotations

import logging
import struct
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from deepscem_tui.engine import words
from deepscem_tui.engine.datasets.probing import probe
from deepscem_tui.engine.errors import ResourceError, VolumeError
from deepscem_tui.engine.formats import Place
from deepscem_tui.engine.formats.plain_files import COPY_AGAIN, PlainSource, check_dtype
from deepscem_tui.engine.formats.tiff_metadata import OmeImage, ome_image, value_scale, voxel_size
from deepscem_tui.engine.system.devices import available_cores

# Whatever tifffile logs is found by the checks here and raised or kept as a warning; on a screen it would be noise.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False

RESAVE = "Open it in Fiji and save it again as TIFF."
ONE_CHANNEL = "Save one channel of one time point (in Fiji: Image > Duplicate...)."
# The most that a byte can unfold to, so that a claimed size can be told from a possible one.
EXPANSION = {1: 1, 5: 4096, 8: 1100, 32773: 64, 32946: 1100}
ANY_EXPANSION = 2**17
SMALL = 64 * 2**20
LARGEST_BLOCK = 2**30
IMAGEJ_CHANNELS = 7


class PagesSource:
    """Slices that are each decoded on their own.

    Args:
        path: For messages.
        pages: tifffile's pages, in order; each holds ``shape[0] / len(pages)`` slices.
        shape: (Z, Y, X).
        dtype: Of the voxels, native.
    """

    def __init__(self, path: Path, pages: list[Any], shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.path, self.pages, self.shape, self.dtype = path, pages, shape, dtype
        self.voxel_size: tuple[float, float, float] | None = None
        self.voxel_unit = ""
        self.warnings: tuple[str, ...] = ()
        self.scale: float | None = None
        self._per_page = shape[0] // len(pages)
        self._kept: tuple[int, npt.NDArray[Any]] | None = None

    def read_into(self, z0: int, out: npt.NDArray[Any]) -> None:
        """Fill ``out`` (n, Y, X) with the slices from ``z0`` on, several at a time."""
        if self._per_page > 1:
            for i in range(len(out)):
                page, inside = divmod(z0 + i, self._per_page)
                out[i] = self._block(page)[inside]
            return

        def decode_into(i: int) -> None:
            out[i] = self._decode(z0 + i, None if workers == 1 else 1)[0]

        workers = min(available_cores(), len(out))
        if workers <= 1:
            for i in range(len(out)):
                decode_into(i)
            return
        with ThreadPoolExecutor(workers) as pool:
            deque(pool.map(decode_into, range(len(out))), maxlen=0)  # raises what the first failure raised

    def _block(self, page: int) -> npt.NDArray[Any]:
        """The slices of a page that has several; the last one decoded is kept."""
        if self._kept is None or self._kept[0] != page:
            self._kept = None  # before the next one is decoded, so that one at most is held
            self._kept = page, self._decode(page, None)
        return self._kept[1]

    def _decode(self, page: int, threads: int | None) -> npt.NDArray[Any]:
        with explained(f"{self.path}, slice {page * self._per_page}"):
            decoded: npt.NDArray[Any] = self.pages[page].asarray(maxworkers=threads)
            return decoded.reshape(self._per_page, *self.shape[1:])


@contextmanager
def open_tiff(path: Path) -> Iterator[PlainSource | PagesSource]:
    """Open a TIFF file.

    Raises:
        VolumeError: if it is no TIFF file, is damaged or incomplete, or holds something else than one 2D or 3D image
            of one channel.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb", buffering=0))
        with explained(str(path)):
            check_directories(path, file, path.stat().st_size)
            tiff = stack.enter_context(tifffile.TiffFile(path, _multifile=False))
            tiff.filehandle.set_lock(True)  # its pages are decoded by several threads
            source = _source(path, file, tiff)
        yield source


def open_tiff_place(place: Place) -> AbstractContextManager[PlainSource | PagesSource]:
    """As :func:`open_tiff`, for the table of formats."""
    return open_tiff(place.file)


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn whatever a decoder raises about a damaged file into a :class:`VolumeError`."""
    try:
        yield
    except (VolumeError, ResourceError):
        raise
    except MemoryError as error:
        raise ResourceError(f"Memory does not suffice to decode {where}", "Save it with smaller slices.") from error
    except OSError as error:
        raise VolumeError(f"{where}: cannot be read: {error.strerror or error}", COPY_AGAIN) from error
    except Exception as error:  # tifffile and its codecs raise nearly every kind of error
        what = f"{where}: the TIFF file is damaged or of an unknown kind ({words.reason(error)})"
        raise VolumeError(what, RESAVE) from error


def check_directories(path: Path, file: BinaryIO, size: int) -> None:
    """Follow the chain of directories, one a page, to its end: tifffile would leave out what lies behind a break.

    Source: TIFF 6.0, section 2; for BigTIFF the Aware Systems specification.

    Raises:
        VolumeError: if this is no TIFF file, or one that is cut off.
    """
    header = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    version = struct.unpack(order + "H", header[2:4])[0] if order and len(header) >= 8 else 0
    if order and len(header) < (16 if version == 43 else 8):
        raise VolumeError(f"{path} is cut off: it has only {size} bytes", COPY_AGAIN)
    if not order or version not in (42, 43):
        raise VolumeError(f"{path} is no TIFF file", "Check the file, or convert it to TIFF.")
    start, pointer, count, entry = (4, "I", "H", 12) if version == 42 else (8, "Q", "Q", 20)
    pointer_size, count_size = struct.calcsize(pointer), struct.calcsize(count)
    offset = struct.unpack_from(order + pointer, header, start)[0]
    seen: set[int] = set()
    while offset or not seen:
        broken = offset < 8 or offset in seen or offset + count_size > size
        if not broken:
            file.seek(offset)
            entries = struct.unpack(order + count, file.read(count_size))[0]
            end = offset + count_size + entries * entry
            broken = end + pointer_size > size
        if broken:
            raise VolumeError(f"{path} is damaged or cut off after {len(seen)} slices", COPY_AGAIN)
        seen.add(offset)
        file.seek(end)
        offset = struct.unpack(order + pointer, file.read(pointer_size))[0]


def _source(path: Path, file: BinaryIO, tiff: Any) -> PlainSource | PagesSource:
    ome = ome_image(tiff)
    pages, shape, stored, offset, notes = _image(path, tiff, ome)
    first = pages[0].keyframe
    if stored is None:
        raise VolumeError(f"{path} has voxels of a kind that cannot be read", RESAVE)
    check_dtype(path, stored)
    _check_complete(path, tiff, ome, prod(shape))
    source: PlainSource | PagesSource
    if offset is not None:
        size = path.stat().st_size
        if offset + prod(shape) * stored.itemsize > size:
            missing = offset + prod(shape) * stored.itemsize - size
            raise VolumeError(f"{path} is cut off: {missing} bytes of its data are missing", COPY_AGAIN)
        source = PlainSource(path, file, offset, shape, stored.newbyteorder(tiff.byteorder))
    else:
        check_pages(path, pages, shape)
        source = PagesSource(path, pages, shape, stored.newbyteorder("="))
    if first.photometric == 0:
        notes.append("its metadata say that 0 is white: its values are used as they are stored")
    if first.photometric == 3:
        notes.append("it has a colour table: its values are used, not their colours")
    source.warnings = tuple(notes)
    if stored == np.uint8:
        source.scale = value_scale(tiff)
    size_and_unit = voxel_size(tiff, ome, shape[0])
    if size_and_unit is not None:
        source.voxel_size, source.voxel_unit = size_and_unit
    return source


def _image(
    path: Path, tiff: Any, ome: OmeImage | None
) -> tuple[list[Any], tuple[int, int, int], np.dtype[Any] | None, int | None, list[str]]:
    """The pages, shape (Z, Y, X), type, place (if the voxels lie in one piece) and oddities of the only image."""
    if ome is not None:
        if ome.files > 1:
            raise VolumeError(f"{path} is one of {ome.files} files of an OME image", "Save them as one file in Fiji.")
        _refuse_axes(path, {"images": ome.images, "C": ome.channels, "T": ome.times if ome.slices > 1 else 1})
    found = [series for series in tiff.series if not series.keyframe.is_reduced] or list(tiff.series)
    if not found:
        raise VolumeError(f"{path} holds no image", RESAVE)
    forms = [_form(path, series) for series in found]
    axes, sizes = forms[0]
    if len(found) == 1:
        names = {"T": "time points", "C": "channels"}
        if _is_stack_in_planes(found[0]):
            names["Q"] = "colour planes"
        notes = [f"its {sizes[0]} {names[axes[0]]} are taken as slices"] if axes[0] in names else []
        depth, height, width = (1,) * (3 - len(sizes)) + sizes
        pages = [found[0].keyframe] if found[0].dataoffset is not None else _pages(path, found[0])
        return pages, (depth, height, width), found[0].dtype, found[0].dataoffset, notes
    planes = {(one[1][-2:], series.dtype) for one, series in zip(forms, found, strict=True)}
    if len(planes) > 1 or any(one[0] not in ("YX", "IYX") for one in forms):
        kinds = Counter(words.sizes(one[1]) + f" {s.dtype}" for one, s in zip(forms, found, strict=True))
        text = ", ".join(f"{number} of {kind}" for kind, number in kinds.most_common(4))
        raise VolumeError(f"{path} holds several images: {text}", "Save each as a file of its own.")
    # Pages that are series of their own only because each has its own description or compression.
    pages = sorted((page for series in found for page in series), key=lambda page: page.index)
    return pages, (len(pages), sizes[-2], sizes[-1]), found[0].dtype, None, []


def _pages(path: Path, series: Any) -> list[Any]:
    try:
        return list(series)
    except IndexError:
        there = f"it should have {len(series)} slices, but {len(series.parent.pages)} are in it"
        raise VolumeError(f"{path} is incomplete: {there}", COPY_AGAIN) from None


def _form(path: Path, series: Any) -> tuple[str, tuple[int, ...]]:
    """Axes and sizes of a series without axes of one element, ``YX`` or one more before them."""
    if 0 in series.shape:
        raise VolumeError(f"{path} has no voxels: its shape is {tuple(series.shape)}", "Export it again.")
    given = series.axes.replace("S", "Q") if _is_stack_in_planes(series) else series.axes
    kept = [(axis, size) for axis, size in zip(given, series.shape, strict=True) if size > 1 or axis in ("Y", "X")]
    axes, sizes = "".join(axis for axis, _ in kept), tuple(size for _, size in kept)
    # ImageJ shows 7 channels at most: more, and nothing else, are a stack that was saved without saying what it is.
    stack = len(kept) == 3 and axes[0] == "C" and sizes[0] > IMAGEJ_CHANNELS
    _refuse_axes(path, {axis: size for axis, size in reversed(kept) if axis not in "ZTIQYX" and not stack})
    if len(kept) > 3:
        text = ", ".join(f"{axis} {size}" for axis, size in kept)
        raise VolumeError(f"{path} has {len(kept)} dimensions: {text}", ONE_CHANNEL)
    if not axes.endswith("YX"):
        text = f"the axes {axes or 'of a single voxel'}, sizes {sizes}"
        raise VolumeError(f"{path} has {text}", "The last two must be Y and X, with Z before them.")
    return axes, sizes


def _is_stack_in_planes(series: Any) -> bool:
    """Whether it is marked as a colour image in planes only since tifffile marks every stack of 3 or 4 slices so."""
    first = series.keyframe
    return bool(series.kind == "shaped" and series.axes == "SYX" and first.photometric == 2 and first.planarconfig == 2)


def _refuse_axes(path: Path, sizes: dict[str, int]) -> None:
    """Raise if there is more than one element along an axis that a volume does not have."""
    names = {"C": "channels", "T": "time points", "S": "samples a voxel", "images": "images"}
    for axis, size in sizes.items():
        if axis == "S" and size in (3, 4):
            raise VolumeError(f"{path} is a colour image", "Convert it to grey values (in Fiji: Image > Type > 8-bit).")
        if size > 1:
            raise VolumeError(f"{path} has {size} {names.get(axis, f'elements along axis {axis}')}", ONE_CHANNEL)


def _check_complete(path: Path, tiff: Any, ome: OmeImage | None, found: int) -> None:
    """Raise if the file's description speaks of more voxels than were found in it."""
    first = tiff.pages.first
    claimed = 0
    if ome is not None:
        claimed = ome.slices * ome.times * first.size
    elif tiff.is_shaped and first.shaped_description:
        claimed = prod(tifffile.tifffile.shaped_description_metadata(first.shaped_description)["shape"])
        claimed = claimed if len(tiff.series) == 1 else 0
    elif tiff.is_imagej:
        about = tiff.imagej_metadata or {}
        known = prod(int(about.get(axis, 1)) for axis in ("channels", "slices", "frames"))
        claimed = max(known, int(about.get("images", 1)) if known == 1 else 1) * first.size
    if claimed > found:
        slices = f"{claimed // max(first.size, 1)} slices, but {found // max(first.size, 1)} are in it"
        raise VolumeError(f"{path} is incomplete: it should have {slices}", COPY_AGAIN)


def check_pages(path: Path, pages: list[Any], shape: tuple[int, int, int]) -> None:
    """Raise if a page is missing, lies beyond the end of the file, or cannot hold what it claims."""
    if any(page is None for page in pages):
        missing = sum(page is None for page in pages)
        raise VolumeError(f"{path} is incomplete: {missing} of its {len(pages)} slices are missing", COPY_AGAIN)
    first = pages[0].keyframe
    if prod(shape) != len(pages) * first.size or shape[0] % len(pages):
        raise VolumeError(f"{path} does not store its slices one by one", RESAVE)
    if shape[0] > len(pages) and first.nbytes > LARGEST_BLOCK:
        raise VolumeError(f"{path} stores {shape[0]} slices as one block", RESAVE)
    size, per_page = path.stat().st_size, shape[0] // len(pages)
    for index, page in enumerate(pages):
        if not _is_there(page, size):
            where = f"the data of slice {index * per_page}"
            raise VolumeError(f"{path} is cut off or damaged: {where} are not all there", COPY_AGAIN)
    if int(first.compression) not in EXPANSION:  # decoders of photographs are large libraries
        probe(path, VolumeError, "tiff")


def _is_there(page: Any, file_size: int) -> bool:
    """Whether a page's data lie within the file and suffice for what the page claims to be."""
    first, offsets, counts = page.keyframe, page.dataoffsets, page.databytecounts
    if any(start + count > file_size for start, count in zip(offsets, counts, strict=False)):
        return False
    if len(offsets) != len(counts) or (len(offsets) < prod(first.chunked) and not page.is_contiguous):
        return False
    needed = first.size * first.bitspersample // 8
    if first.compression == 1:
        return bool(sum(counts) >= needed)
    most = EXPANSION.get(int(first.compression), ANY_EXPANSION) * sum(counts)
    return bool(needed <= max(most, SMALL))
