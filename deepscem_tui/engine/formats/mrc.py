"""MRC files, as electron microscopes and IMOD write them.

Source: https://www.ccpem.ac.uk/mrc_format/mrc2014.php, and for IMOD's flags
https://bio3d.colorado.edu/imod/doc/mrc_format.txt
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.formats.plain_files import COPY_AGAIN, PlainSource
from deepscem_tui.engine.formats.table import Place
from deepscem_tui.engine.formats.tiff_metadata import METRES
from deepscem_tui.engine.formats.volume_writer import Size, Target, VolumeWriter
from deepscem_tui.engine.system.files import regular

__all__ = ["is_mrc", "mrc_writer", "open_mrc"]

HEADER = 1024  # bytes
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_OTHER_MODES = {3: "complex numbers", 4: "complex numbers", 16: "colours", 101: "voxels of 4 bits"}
_IMOD, _SIGNED = 1146047817, 1  # what marks IMOD's files, and its flag for bytes that have a sign
_OF_2014 = (20140, 20141)  # versions in which bytes have a sign
_RESAVE = "Convert it (in IMOD: newstack -mode 1 in.mrc out.mrc)."


@contextmanager
def open_mrc(place: Place) -> Iterator[PlainSource]:
    """Open an MRC file.

    Raises:
        VolumeError: it is no MRC file, is damaged or incomplete, or holds something else than one volume of numbers.
    """
    with place.file.open("rb", buffering=0) as file:
        yield _source(place.file, file)


def is_mrc(path: Path) -> bool:
    """Whether a file begins as an MRC file does."""
    try:
        with regular(path).open("rb", buffering=0) as file:
            _header(path, file)
    except (OSError, VolumeError):
        return False
    return True


def _source(path: Path, file: Any) -> PlainSource:
    header, notes = _header(path, file)
    mode = int(header["mode"])
    if mode not in MODES:
        raise VolumeError(f"{path} holds {_OTHER_MODES.get(mode, f'voxels of the unknown mode {mode}')}", _RESAVE)
    stored = np.dtype(MODES[mode]).newbyteorder(header.dtype["mode"].byteorder)
    if mode == 0:
        stored, note = _bytes(header)
        notes += note
    x, y, z = (int(header[name]) for name in ("nx", "ny", "nz"))
    extended = int(header["nsymbt"])
    if min(x, y, z) < 1 or extended < 0:
        raise VolumeError(f"{path} is damaged: its header says {z} x {y} x {x} voxels", COPY_AGAIN)
    volumes = z // max(1, int(header["mz"])) if int(header["ispg"]) >= 401 else 1
    if volumes > 1:
        hint = "Save each as a file of its own."
        raise VolumeError(f"{path} holds {volumes} volumes", hint)
    size, needed = path.stat().st_size, HEADER + extended + prod((z, y, x)) * stored.itemsize
    if needed > size:
        raise VolumeError(f"{path} should have {needed} bytes by its header, but it has {size}", COPY_AGAIN)
    source = PlainSource(path, file, HEADER + extended, (z, y, x), stored)
    axes = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))
    if axes != (1, 2, 3) and sorted(axes) == [1, 2, 3]:
        stored_as = "".join("xyz"[axis - 1] for axis in reversed(axes))
        notes.append(f"its axes are stored as {stored_as}, and taken for zyx as they are")
    found = _voxel_size(header, axes)
    if found is not None:
        source.voxel_size, source.voxel_unit = found, "Å"
    source.warnings = tuple(notes)
    return source


def _header(path: Path, file: Any) -> tuple[Any, list[str]]:
    """The header, in the byte order of the file, and what is unusual in it."""
    from mrcfile import utils
    from mrcfile.dtypes import HEADER_DTYPE

    try:
        content = file.read(HEADER)
    except OSError as error:
        raise VolumeError(f"{path} cannot be read: {error.strerror or error}", COPY_AGAIN) from error
    if len(content) < HEADER:
        raise VolumeError(f"{path} is cut off: it has only {len(content)} bytes", COPY_AGAIN)
    header = np.frombuffer(content, HEADER_DTYPE)[0]
    marked = bytes(header["map"])[:3] == b"MAP"
    try:
        order = utils.byte_order_from_machine_stamp(header["machst"])
    except ValueError:
        order = "<"
    for tried in (order, ">" if order == "<" else "<"):  # machine stamps are wrong now and then
        header = np.frombuffer(content, HEADER_DTYPE.newbyteorder(tried))[0]
        if int(header["mode"]) in MODES or int(header["mode"]) in _OTHER_MODES:
            break
    else:
        raise VolumeError(f"{path} is no MRC file, or a damaged one", "Check the file, or copy it again.")
    if not marked and sorted(int(header[name]) for name in ("mapc", "mapr", "maps")) not in ([1, 2, 3], [0, 0, 0]):
        raise VolumeError(f"{path} is no MRC file, or a damaged one", "Check the file, or copy it again.")
    return header, [] if marked else ["it lacks the mark of an MRC file, as files from before the year 2000 do"]


def _bytes(header: Any) -> tuple[np.dtype[Any], list[str]]:
    """Whether bytes have a sign, which programs disagree on."""
    extra = bytes(header["extra2"])
    order = "little" if header.dtype["mode"].newbyteorder("=") == header.dtype["mode"] else "big"
    order = {"<": "little", ">": "big"}.get(header.dtype["mode"].byteorder, order)
    stamp, flags = (int.from_bytes(extra[at : at + 4], order) for at in (40, 44))  # type: ignore[arg-type]
    if stamp == _IMOD:
        return np.dtype(np.int8 if flags & _SIGNED else np.uint8), []
    if int(header["nversion"]) in _OF_2014:
        return np.dtype(np.int8), []
    if float(header["dmax"]) > 127:
        return np.dtype(np.uint8), ["its bytes are taken to have no sign, since its header says that they go up to "
                                    f"{float(header['dmax']):g}"]  # fmt: skip
    return np.dtype(np.int8), []


def _voxel_size(header: Any, axes: tuple[int, ...]) -> Size | None:
    """Z, Y, X in Å; None where the header gives none."""
    if sorted(axes) != [1, 2, 3]:
        axes = (1, 2, 3)
    cell = [float(header["cella"][name]) for name in "xyz"]
    samples = [int(header[name]) for name in ("mx", "my", "mz")]
    sizes = []
    for axis in reversed(axes):
        length, count = cell[axis - 1], samples[axis - 1]
        if count < 1 or not math.isfinite(length) or length <= 0:
            return None
        sizes.append(float(f"{length / count:.7g}"))  # as exact as the header is
    return sizes[0], sizes[1], sizes[2]


# ------------------------------------------------------------------------------------------------ writing


class _MrcWriter(VolumeWriter):
    """An MRC file; what its header says of the values is gathered while they are written."""

    def __init__(self, target: Target, file: Any, stored: np.dtype[Any]) -> None:
        super().__init__(target)
        self._file, self._stored = file, stored
        self._low, self._high = math.inf, -math.inf
        self._sum = self._squares = 0.0
        self._count = 0

    def _write(self, slab: npt.NDArray[Any]) -> None:
        for plane in slab:
            stored = plane.astype(self._stored)
            self._file.write(np.ascontiguousarray(stored).data)
            values = stored.astype(np.float64)
            if values.size and self._stored.kind == "f":
                values = values[np.isfinite(values)]
            if not values.size:
                continue
            self._count += values.size
            self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
            self._sum += float(values.sum())
            self._squares += float(np.square(values, out=values).sum())

    @property
    def statistics(self) -> tuple[float, float, float, float]:
        """Least, largest, mean and standard deviation of the finite values; what says "not known" without any."""
        if not self._count:
            return 0.0, -1.0, -2.0, -1.0
        mean = self._sum / self._count
        return self._low, self._high, mean, math.sqrt(max(0.0, self._squares / self._count - mean**2))


@contextmanager
def mrc_writer(target: Target) -> Iterator[VolumeWriter]:
    """Write an MRC file."""
    import mrcfile

    stored = target.stored
    mode = next(mode for mode, name in MODES.items() if np.dtype(name) == stored)
    with mrcfile.new_mmap(target.temporary, target.shape, mode, overwrite=True) as mrc:
        mrc.set_volume()
        if target.voxel_size is not None:
            factor = METRES[target.voxel_unit] / METRES["Å"]
            z, y, x = (size * factor for size in target.voxel_size)
            mrc.voxel_size = (x, y, z)
        else:
            mrc.voxel_size = 0
    with target.temporary.open("rb+") as file:  # not through the map, whose pages would count as our memory
        file.seek(HEADER)
        writer = _MrcWriter(target, file, stored)
        yield writer
    with mrcfile.mmap(target.temporary, "r+") as mrc:
        header = mrc.header
        header.dmin, header.dmax, header.dmean, header.rms = writer.statistics
