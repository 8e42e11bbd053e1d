"""How chunks and filters of a data set serve the reads that training, prediction and viewing make.

    python benchmarks/dataset_layout.py [--data DIR] [--repeats N] [--large]

For each candidate: bytes stored over bytes of the voxels, seconds to write, and milliseconds a read of
training patches (2D and 3D), of slices along each axis, and of slabs. Reads come from the page cache: what is measured
is the work for a read (chunks decoded, bytes copied), not this machine's disk.
Data: FIB-SEM, https://github.com/janelia-flyem/neuroproof_examples; the large volume is made of it by mirroring.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import tifffile

from deepscem_tui.engine.axes import Shape

CHUNKS = ((1, 256, 256), (1, 128, 128), (4, 128, 128), (8, 64, 64), (8, 128, 128), (16, 64, 64), (32, 64, 64))
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "lzf": {"compression": "lzf"},
    "shuffle lzf": {"compression": "lzf", "shuffle": True},
    "gzip 1": {"compression": "gzip", "compression_opts": 1},
    "shuffle gzip 1": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "shuffle gzip 4": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
}


def volumes(data: Path, large: Shape | None) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Name and voxels of what is stored: the image as float16 and as float32, the label as uint8."""
    image = tifffile.imread(data / "raw.tif")
    label = (tifffile.imread(data / "boundary_derived.tif") > 0).astype(np.uint8)
    if large is not None:
        image, label = mirrored(image, large), mirrored(label, large)
        noise = np.random.default_rng(0).integers(0, 2, image.shape, np.uint8)
        image = np.minimum(image, 254) + noise  # no block is the mirror image of another
    low, high = int(image.min()), int(image.max())
    normalised = (image - np.float32(low)) / np.float32(high - low)
    yield "image float16", normalised.astype(np.float16)
    yield "label uint8", label
    noisy = np.random.default_rng(1).normal(0, 1e-3, image.shape).astype(np.float32)
    yield "image float32, 16 bit source", np.round(np.clip(normalised + noisy, 0, 1) * 65535) / np.float32(65535)


def mirrored(volume: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    """A larger volume, continued by reflection."""
    more = [(0, max(0, size - have)) for size, have in zip(shape, volume.shape, strict=True)]
    return np.pad(volume, more, "symmetric")[tuple(slice(size) for size in shape)]


def reads(shape: Shape) -> dict[str, Shape]:
    """Shapes that are read, clipped to the volume."""
    boxes = {
        "patch 1x256x256": (1, 256, 256),
        "patch 32x128x128": (32, 128, 128),
        "slice xy": (1, *shape[1:]),
        "slice xz": (shape[0], 1, shape[2]),
        "slice yz": (*shape[:2], 1),
        "slab of 16": (16, *shape[1:]),
    }
    return {name: tuple(map(min, box, shape)) for name, box in boxes.items()}  # type: ignore[misc]


def read_ms(dataset: h5py.Dataset, box: Shape, repeats: int) -> float:
    """Milliseconds for a box at random places."""
    rng = np.random.default_rng(0)
    room = np.subtract(dataset.shape, box) + 1
    starts = [rng.integers(0, room).tolist() for _ in range(repeats)]
    began = time.perf_counter()
    for start in starts:
        _ = dataset[tuple(slice(a, a + length) for a, length in zip(start, box, strict=True))]
    return (time.perf_counter() - began) / repeats * 1e3


def measure(
    folder: Path, voxels: npt.NDArray[Any], chunks: Shape, options: dict[str, Any], repeats: int
) -> list[float]:
    """Ratio, seconds to write, and milliseconds of each read."""
    path = folder / "layout.hdf5"
    chunks = tuple(map(min, chunks, voxels.shape))
    began = time.perf_counter()
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("image", voxels.shape, voxels.dtype, chunks=chunks, **options)
        for z in range(0, len(voxels), chunks[0]):
            dataset[z : z + chunks[0]] = voxels[z : z + chunks[0]]
    wrote = time.perf_counter() - began
    figures = [path.stat().st_size / voxels.nbytes, wrote]
    for box in reads(voxels.shape).values():
        with h5py.File(path, "r", rdcc_nbytes=1 << 20) as file:  # patches lie anywhere: a cache would not help them
            figures.append(read_ms(file["image"], box, repeats))
    path.unlink()
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "fib25")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--large", action="store_true", help="mirror the volume to 64 x 1024 x 1024")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for name, voxels in volumes(options.data, (64, 1024, 1024) if options.large else None):
            print(f"\n{name} {voxels.shape}, {voxels.nbytes / 1e6:.0f} MB")
            columns = " ".join(f"{what:>16}" for what in reads(voxels.shape))
            print(f"{'chunks':>12} {'filter':15} {'ratio':>6} {'write s':>8} {columns}")
            for chunks, (filters, keywords) in product(CHUNKS, FILTERS.items()):
                ratio, wrote, *times = measure(Path(folder), voxels, chunks, keywords, options.repeats)
                shown = " ".join(f"{ms:13.2f} ms" for ms in times)
                print(f"{'x'.join(map(str, chunks)):>12} {filters:15} {ratio:6.3f} {wrote:8.2f} {shown}", flush=True)


if __name__ == "__main__":
    main()
