"""How voxels lie in a data set: chunks, filters, and a writer that compresses each chunk once.

Measured with ``benchmarks/dataset_layout.py``:

- Chunks of about 8 x 64 x 64: patches of 2D and 3D networks and slices along any axis each touch few voxels that they
  do not need. Flat chunks (1 x 256 x 256) read 2D patches and slices along Z two to four times as fast, but 3D patches
  and slices across half as fast, of compressed masks a fifth as fast.
- ``image`` has no filter. Grey values of electron microscopy hardly compress (to 54 % from 8 bits, 75 % from 16), and
  decoding, which HDF5 does in one thread, makes reading 5 to 30 times slower: from a disk that gives 100 MB/s, the
  whole takes as long either way. As float16 it is half of what DeepSCEM writes.
- Everything else is gzip 1: masks shrink to a tenth (lzf: a sixth) and decode faster than with lzf, and every HDF5
  reader knows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py._objects import phil
from imagecodecs import deflate_encode

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.errors import DatasetError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "GZIP_LEVEL",
    "SCALE",
    "MemberWriter",
    "chunk_shape",
    "create_member",
    "read_attributes",
    "write_attributes",
]


DEPTH, SIDE, FLAT_SIDE = 8, 64, 128
GZIP_LEVEL = 1
GROUP_BYTES = 128 * 2**20  # of a row of chunks, which is held while it is written
_TOGETHER = 8  # chunks that a thread compresses before another may have its turn
SCALE = "scale"  # attribute of probabilities as uint8: what a value of 1 stands for
ATTRIBUTE_BYTES = 64_000  # HDF5 keeps at most 64 KiB with its default format


def chunk_shape(shape: Shape, itemsize: int) -> Shape:
    """Chunks of a member: near 8 x 64 x 64, flatter and wider where a row of them would not fit in memory."""
    depth = min(DEPTH, shape[0])
    while depth > 1 and depth * shape[1] * shape[2] * itemsize > GROUP_BYTES:
        depth //= 2
    side = SIDE if depth == DEPTH else FLAT_SIDE
    y, x = (_even(size, side) for size in shape[1:])
    return depth, y, x


def _even(size: int, wanted: int) -> int:
    """The chunk's side, at most ``wanted``, with the least padding at the border."""
    return -(-size // -(-size // wanted))


def create_member(group: h5py.Group, name: str, shape: Shape, dtype: npt.DTypeLike) -> h5py.Dataset:
    """An empty member of a sample: all 0, taking no space until it is written."""
    kind = np.dtype(dtype)
    options = {} if name == "image" else {"compression": "gzip", "compression_opts": GZIP_LEVEL}
    return group.create_dataset(name, shape, kind, chunks=chunk_shape(shape, kind.itemsize), **options)


class MemberWriter:
    """Takes the slices of a new member in ascending order; slices never written are 0.

    Chunks are compressed in threads and written as they are: HDF5's own way is one thread for all of it. And by
    libdeflate, which makes zlib's format 1.5 to 2.5 times as fast at this level, and a fifth smaller.
    """

    def __init__(self, dataset: h5py.Dataset, pool: Executor) -> None:
        self.shape: Shape = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        self._dataset = dataset
        self._pool = pool
        self._compressed = dataset.compression is not None
        self._depth = dataset.chunks[0]
        self._next = 0
        self._row: npt.NDArray[Any] | None = None  # slices from the last multiple of the depth up to _next

    def set_attributes(self, values: Mapping[str, Any]) -> None:
        """Store values as attributes of the member; None is left out."""
        write_attributes(self._dataset.attrs, values, f"The member {self._dataset.name}")

    @property
    def depth(self) -> int:
        """Slices in a chunk: slabs of a multiple of it are written without being copied first."""
        return int(self._depth)

    def __setitem__(self, z: slice, slab: npt.ArrayLike) -> None:
        """Write the slices ``z`` (n, Y, X); values are converted to the member's type.

        Raises:
            ValueError: slices lie before those written already, or the slab has another shape.
        """
        start, stop, step = z.indices(self.shape[0])
        given = np.asarray(slab)
        if step != 1 or given.shape != (stop - start, *self.shape[1:]):
            raise ValueError(f"slab {given.shape} for slices {z.start}:{z.stop} of {self.shape}")
        if start < self._next:
            raise ValueError(f"slices from {start} on after those up to {self._next}")
        if start > self._next:
            self._skip(start)
        rows: list[tuple[int, npt.NDArray[Any]]] = []  # of chunks, with their first slices
        while start < stop:
            end = min((start // self._depth + 1) * self._depth, stop)
            part = given[len(given) - (stop - start) : len(given) - (stop - end)]
            if self._row is None and (end - start == self._depth or end == self.shape[0]) and start % self._depth == 0:
                rows.append((start, part))
            else:
                self._gather(start, end, part)
            self._next = start = end
        self._write(rows)

    def finish(self) -> None:
        """Write what is still held."""
        if self._row is not None:
            first = (self._next - 1) // self._depth * self._depth
            self._write([(first, self._row[: min(self._depth, self.shape[0] - first)])])
            self._row = None

    def _skip(self, z: int) -> None:
        """Leave slices out."""
        if z // self._depth != self._next // self._depth:
            self.finish()
        self._next = z

    def _gather(self, start: int, end: int, part: npt.NDArray[Any]) -> None:
        if self._row is None:
            self._row = np.zeros((self._depth, *self.shape[1:]), self.dtype)
        first = start // self._depth * self._depth
        self._row[start - first : end - first] = part
        if end - first == self._depth or end == self.shape[0]:
            self._next = end
            self.finish()

    def _write(self, rows: Sequence[tuple[int, npt.NDArray[Any]]]) -> None:
        """Write rows of chunks (n, Y, X), each with the slice at which it begins."""
        chunk = self._dataset.chunks
        starts = product(rows, range(0, self.shape[1], chunk[1]), range(0, self.shape[2], chunk[2]))
        groups = iter(lambda: list(islice(starts, _TOGETHER)), [])
        mapped = self._pool.map(self._encoded, groups) if self._compressed else map(self._encoded, groups)
        for group in mapped:
            with phil:  # h5py takes its lock everywhere but here, and another thread may be reading
                for place, content in group:
                    self._dataset.id.write_direct_chunk(place, content)

    def _encoded(
        self, group: Sequence[tuple[tuple[int, npt.NDArray[Any]], int, int]]
    ) -> list[tuple[tuple[int, int, int], Buffer]]:
        """Chunks as they are stored, each with its place; those that are all 0 need not be."""
        chunk = self._dataset.chunks
        encoded: list[tuple[tuple[int, int, int], Buffer]] = []
        for (z, row), y, x in group:
            part = np.ascontiguousarray(row[:, y : y + chunk[1], x : x + chunk[2]], self.dtype)
            if not part.view(np.uint8).any():  # bytes, for float16 is slow to compare
                continue
            if part.shape != chunk:
                padded = np.zeros(chunk, self.dtype)
                padded[tuple(map(slice, part.shape))] = part
                part = padded
            content = deflate_encode(part.tobytes(), level=GZIP_LEVEL) if self._compressed else part.data
            encoded.append(((z, y, x), content))
        return encoded


def write_attributes(attributes: Any, values: Mapping[str, Any], what: str) -> None:
    """Store values as attributes; None is left out, and bytes of a name that are no UTF-8 become escapes.

    Args:
        attributes: Of an h5py object.
        values: Texts, numbers, or sequences of texts or of numbers.
        what: Whose attributes they are, for messages.

    Raises:
        DatasetError: a value is too large for an attribute.
    """
    for name, value in values.items():
        if value is None:
            continue
        texts = not isinstance(value, str) and np.ndim(value) == 1 and all(isinstance(item, str) for item in value)
        if isinstance(value, str):
            value = _text(value)
            size = len(value.encode())
        elif texts:
            value = list(map(_text, value))
            size = sum(len(item.encode()) + 16 for item in value)
        else:
            size = np.asarray(value).nbytes
        if size > ATTRIBUTE_BYTES:
            raise DatasetError(f"{what}: {name} takes {size} bytes, more than an attribute may have")
        if texts:
            attributes.create(name, value, dtype=h5py.string_dtype())
        else:
            attributes[name] = value


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def read_attributes(attributes: Any) -> dict[str, Any]:
    """Attributes as plain values: texts, numbers, tuples of them; what cannot be read is left out."""
    found = {}
    with suppress(Exception):  # h5py raises nearly anything on a damaged or unusual attribute, when it lists them too
        for name in attributes:
            with suppress(Exception):
                found[name] = _plain(attributes[name])
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return tuple(_plain(item) for item in value.tolist()) if value.ndim else _plain(value.item())
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value
