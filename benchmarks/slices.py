"""How soon a slice of a large volume appears, compared with one of a small volume.

    python benchmarks/slices.py [--gigabytes 20] [--folder DIR]

Makes a large and a small data set in a temporary folder (image and two labels as this program stores them, and an image
in one piece as DeepSCEM does), and prints median and maximum milliseconds of the first xy, xz and yz slice of a file
that is not in the page cache, of the same slices again, of steps to the next slice, and of a zoomed part: read, reduced
and made into the cells of a terminal of 200 x 60. The first picture of a large part is a coarse one of the image alone;
its labels follow ("with labels"), then a fine one, unless something else is asked for meanwhile. Large over small is
the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import AXES, Plane
from deepscem_tui.engine.datasets.layout import create_member
from deepscem_tui.engine.phantom import make_phantom
from deepscem_tui.engine.viewing.slices import FileSlices, Part, SliceTarget
from deepscem_tui.render.viewport import Viewport
from deepscem_tui.widgets.slice_picture import Look, make_picture

CANVAS = (57, 200)
SMALL = (64, 256, 256)
SAMPLES = ("stored here", "stored by DeepSCEM")
PLANES: tuple[Plane, ...] = ("xy", "xz", "yz")
Figures = dict[str, list[float]]


def make(path: Path, shape: tuple[int, int, int]) -> None:
    """A data set of a phantom repeated to fill the shape, written chunk by chunk without encoding any twice."""
    tile = make_phantom(SMALL, 0)
    members = {"image": (tile.image / np.float32(255)).astype(np.float16)} | {
        f"label_{index:04d}": mask.astype(np.uint8) for index, mask in enumerate(tile.labels.values())
    }
    with h5py.File(path, "w") as file:
        file.attrs["name"], file.attrs["labels"] = "benchmark", np.int64(2)
        here, there = (file.create_group(name) for name in SAMPLES)
        for group in (here, there):
            group.attrs["shape"] = np.asarray(shape, np.int64)
        for name, voxels in members.items():
            write_chunks(create_member(here, name, shape, voxels.dtype), voxels)
        whole = there.create_dataset("image", shape, np.float32)
        repeats = [size // have for size, have in zip(shape[1:], SMALL[1:], strict=True)]
        for z in range(0, shape[0], 8):
            first = z % SMALL[0]
            whole[z : z + 8] = np.tile(members["image"][first : first + 8].astype(np.float32), (1, *repeats))


def write_chunks(stored: h5py.Dataset, tile: npt.NDArray[Any]) -> None:
    """Fill an array with copies of a tile."""
    sides = [range(0, size, chunk) for size, chunk in zip(tile.shape, stored.chunks, strict=True)]
    encoded = {}
    for corner in product(*sides):
        box = tuple(slice(at, at + chunk) for at, chunk in zip(corner, stored.chunks, strict=True))
        raw = np.ascontiguousarray(tile[box]).tobytes()
        encoded[corner] = zlib.compress(raw, 1) if stored.compression else raw
    for corner in product(*(range(0, size, chunk) for size, chunk in zip(stored.shape, stored.chunks, strict=True))):
        same = tuple(at % size for at, size in zip(corner, tile.shape, strict=True))
        stored.id.write_direct_chunk(corner, encoded[same])


def shape_of(gigabytes: float) -> tuple[int, int, int]:
    """A volume whose two images, of 2 and 4 bytes a voxel, take about so many gigabytes."""
    side = (gigabytes * 1e9 / 6) ** (1 / 3)
    z, y, x = (have * max(1, round(side * share / have)) for have, share in zip(SMALL, (0.8, 1.1, 1.1), strict=True))
    return z, y, x


def forget(path: Path) -> bool:
    """Have the system drop the file from its page cache; whether it can be asked to."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def measure(path: Path, sample: str, repeats: int) -> Figures:
    """Milliseconds of each kind of slice."""
    source = FileSlices(SliceTarget(path, sample))
    facts = source.facts()
    layers = [layer.key for layer in facts.layers]
    look = Look("blocks", frozenset(layers))

    def look_at(plane: Plane, index: int, zoom: float = 1.0, stage: str = "first") -> None:
        _, down, across = AXES[plane]
        size = facts.shape[down], facts.shape[across]
        view = Viewport(size, CANVAS, facts.aspect(plane), zoom, (size[0] / 2, size[1] / 2))
        part = Part(plane, index, view.rows, view.columns, view.shape)
        data = source.read(
            replace(part, coarse=part.large and stage != "fine"), () if part.large and stage == "first" else layers
        )
        make_picture(source, data, look, view, None, True)

    figures: Figures = {}

    def timed(what: str, *view: Any) -> None:
        began = time.perf_counter()
        look_at(*view)
        figures.setdefault(f"{view[0]}, {what}", []).append((time.perf_counter() - began) * 1e3)

    rng = np.random.default_rng(1)
    for plane in PLANES:
        count = facts.shape[AXES[plane][0]]
        for index in rng.integers(0, count - repeats, repeats).tolist():
            if forget(path):
                timed("from the disk", plane, index)
                timed("then fine", plane, index, 1.0, "fine")
            timed("again", plane, index)
            timed("again, with labels", plane, index, 1.0, "labelled")
            timed("again, fine", plane, index, 1.0, "fine")
            timed("zoomed 8 times", plane, index, 8.0)
        for step in range(repeats):
            timed("next", plane, index + step)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where there is room; the system's temporary folder if not given")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        room = shutil.disk_usage(folder).free / 1e9 - 10
        gigabytes = min(options.gigabytes, room)
        if gigabytes < options.gigabytes:
            print(f"The disk has room for {gigabytes:.0f} GB only")
        sizes = {"small": SMALL, "large": shape_of(gigabytes)}
        found: dict[str, dict[str, Figures]] = {}
        for name, shape in sizes.items():
            path = Path(folder) / f"{name}.hdf5"
            began = time.perf_counter()
            make(path, shape)
            seconds = time.perf_counter() - began
            print(f"{name}: {shape}, {path.stat().st_size / 1e9:.2f} GB, written in {seconds:.0f} s", flush=True)
            found[name] = {sample: measure(path, sample, options.repeats) for sample in SAMPLES}
        if not hasattr(os, "posix_fadvise"):
            print("The page cache cannot be dropped here: all figures are of files in it")
        for sample, figures in found["large"].items():
            print(
                f"\n{sample:24} {'small: median':>14} {'maximum':>9} {'large: median':>14} {'maximum':>9} {'ratio':>6}"
            )
            for what, large in figures.items():
                small = found["small"][sample][what]
                medians = statistics.median(small), statistics.median(large)
                shown = f"{medians[0]:11.1f} ms {max(small):6.1f} ms {medians[1]:11.1f} ms {max(large):6.1f} ms"
                print(f"{what:24} {shown} {medians[1] / medians[0]:6.1f}")


if __name__ == "__main__":
    main()
