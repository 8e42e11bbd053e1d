"""Chunks of HDF5 arrays that unfold to more than a chunk: HDF5 gives their decoder whatever memory it asks for."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.datasets.tree import EXPANSION
from deepscem_tui.engine.errors import VolumeError
from deepscem_tui.engine.formats.pieces import inflated
from deepscem_tui.engine.formats.plain_files import COPY_AGAIN
from deepscem_tui.engine.formats.table import Place
from deepscem_tui.engine.system.devices import available_memory

__all__ = ["CheckedArray"]

_DEFLATE, _LZF = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF
_RATIOS = {_DEFLATE: EXPANSION, _LZF: 88}  # bytes that are made of one at most
_CHECKSUM = 4  # bytes of Fletcher's, after a chunk
_ROOM = 2**16
_HARMLESS = 256 * 2**20  # bytes that one chunk may take anyway
_SHARE = 4  # of the memory that is free, what one chunk may take


class CheckedArray:
    """An array that is read by slicing, whose chunks are looked at before HDF5 decodes them.

    Those that could not take more than a quarter of the free memory, by what is stored of them, are let pass: nearly
    all. Others are unfolded into as much memory as they should take first.

    Args:
        place: For messages.
        array: Compressed by deflate or LZF, or not at all.

    Raises:
        VolumeError: it is compressed more than once.
    """

    def __init__(self, place: Place, array: h5py.Dataset) -> None:
        self._place, self._array = place, array
        stored = array.id.get_create_plist()
        filters = [stored.get_filter(index)[0] for index in range(stored.get_nfilters())]
        compressors = [index for index, code in enumerate(filters) if code in _RATIOS]
        if len(compressors) > 1:
            raise VolumeError(f"{place.path} is compressed more than once", "Save it with one compression.")
        self._filter = compressors[0] if compressors else None
        self._codec = filters[compressors[0]] if compressors else None
        self._trailer = _CHECKSUM * (h5py.h5z.FILTER_FLETCHER32 in filters[compressors[0] :]) if compressors else 0
        self._expected = prod(array.chunks or ()) * array.dtype.itemsize
        self._harmless = max(_HARMLESS, available_memory() // _SHARE)

    def __getitem__(self, index: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        """What is there, as of the array itself; slices have a start and an end.

        Raises:
            VolumeError: a chunk unfolds to more than it should.
        """
        if self._codec is not None:
            spans = (
                range(one // side, one // side + 1)
                if isinstance(one, int)
                else range(one.start // side, -(-one.stop // side))
                for one, side in zip(index, self._array.chunks, strict=True)
            )
            for numbers in product(*spans):
                self._check(tuple(number * side for number, side in zip(numbers, self._array.chunks, strict=True)))
        return np.asarray(self._array[index])

    def _check(self, corner: tuple[int, ...]) -> None:
        assert self._codec is not None
        size = self._array.id.get_chunk_info_by_coord(corner).size
        most = self._expected + _ROOM
        if size <= most + self._expected:
            if size * _RATIOS[self._codec] <= self._harmless:
                return
            skipped, content = self._array.id.read_direct_chunk(corner)
            if skipped >> self._filter & 1 or self._unfolded(content[: size - self._trailer], most) <= most:
                return
        what = f"{self._place.path} is damaged: its chunk at {corner} unfolds to more than {self._expected:,} bytes"
        raise VolumeError(what, COPY_AGAIN)

    def _unfolded(self, content: bytes, most: int) -> int:
        if self._codec == _DEFLATE:
            return inflated(content, False, most)
        import imagecodecs

        try:
            imagecodecs.lzf_decode(content, out=bytearray(most))
        except Exception:  # it is too large, or damaged
            return most + 1
        return 0
