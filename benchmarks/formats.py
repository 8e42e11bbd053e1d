"""Memory that reading and writing each format takes, of a volume and of one four times as long.

``python benchmarks/formats.py`` prints, for each format and way, the peak of a process of its own for both and their
ratio: near 1 where a slab is held at a time. A process that does nothing but import is the line at the top. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ENDS = (".npy", ".tif", ".ome.tif", ".mrc", ".h5:/raw", ".ome.zarr", ".n5", ".nii", ".nii.gz")


def make(path: Path, depth: int, edge: int) -> None:
    """A volume of grey values, a slice at a time."""
    from deepscem_tui.engine.formats.volumes import create_volume

    chance = np.random.default_rng(0)
    with create_volume(path, (depth, edge, edge), np.uint8, voxel_size=(30, 8, 8), voxel_unit="nm") as volume:
        for _ in range(depth):
            volume.write(chance.integers(90, 110, (1, edge, edge), np.uint8))


def make_n5(image: Path, out: Path) -> None:
    """An N5 store, by tensorstore, of a NumPy file."""
    import tensorstore

    voxels = np.load(image, mmap_mode="r")
    metadata = {"dataType": "uint8", "dimensions": voxels.shape[::-1], "blockSize": [128, 128, 32]}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{out}/"}, "metadata": metadata}
    array = tensorstore.open(spec, create=True).result()
    for z in range(0, len(voxels), 32):
        array[:, :, z : z + 32] = voxels[z : z + 32].T


def convert(image: str, out: str) -> None:
    from deepscem_tui.engine import parameters as p
    from deepscem_tui.engine.context import Context
    from deepscem_tui.engine.image_conversion import convert_image

    if image:
        convert_image(p.ConvertImage(image=image, out=out, overwrite=True), Context())
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would tell the parent's, too
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def peak(image: str, out: str) -> tuple[float, float]:
    """MiB at most, and seconds, of a process that converts an image."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--convert", image, out], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1]), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=192)
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--formats", nargs="*", default=ENDS)
    parser.add_argument("--convert", nargs=2)
    given = parser.parse_args()
    if given.convert:
        convert(*given.convert)
        return
    print("| format | way | MiB | MiB, 4 times as long | ratio | seconds |\n|---|---|---|---|---|---|")
    bare, _ = peak("", "")
    print(f"| (imports) | | {bare:.0f} | | | |")
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        for factor in (1, 4):
            make(folder / f"{factor}.npy", factor * given.depth, given.edge)
        for end in given.formats:
            ways: dict[str, list[tuple[float, float]]] = {"write": [], "read": []}
            for factor in (1, 4):
                image, made = folder / f"{factor}.npy", f"{folder}/{factor}-made{end}"
                if end == ".n5":
                    make_n5(image, Path(made))
                else:
                    ways["write"].append(peak(str(image), made))
                ways["read"].append(peak(made, f"{folder}/back.npy"))
            for way, found in ways.items():
                if found:
                    (small, _), (large, seconds) = found
                    print(
                        f"| {end} | {way} | {small:.0f} | {large:.0f} | {large / small:.2f} | {seconds:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
