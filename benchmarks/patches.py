"""How fast training patches are made: against the way of DeepSCEM's generator, and with each group of augmentations.

    python benchmarks/patches.py [--rounds 5] [--processes | --disk GIGABYTES]

The generator's way is written afresh from what is known of it: every image and label in memory as float32, one patch
after the other in one thread, a place tried again and again until a labelled voxel lies in it (three times in four),
rotated and flipped by NumPy. Everything is measured by turns, and the best round counts: the machine may have other
work. "With cores of its own" leaves out the time in which a thread could have run and the system gave it no core.
With --processes the threads are compared with processes instead, with --disk a data set of that size is read, of which
nothing is kept in memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from deepscem_tui.engine.augmentation.recipes import strengths
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.patches import (
    Batches,
    PatchSampler,
    Source,
    by_processes,
    by_threads,
    load_sources,
    opened_cache,
)
from deepscem_tui.engine.patches.foreground import Foreground
from deepscem_tui.engine.patches.labels import PackedLabels, pack
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.devices import available_cores

SECONDS = 1.5  # of a measurement
FOCUS = 0.75


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, int, int]
    patch: tuple[int, int, int]
    batch: int
    voxel_size: tuple[float, float, float] | None

    @property
    def flat(self) -> bool:
        return self.patch[0] == 1


CASES = (
    Case("2D 8 x 256 x 256", (40, 1024, 1024), (1, 256, 256), 8, None),
    Case("3D 2 x 64 x 128 x 128", (160, 512, 512), (64, 128, 128), 2, (5.0, 5.0, 5.0)),
    Case("3D 2 x 64 x 128 x 128, thick slices", (160, 512, 512), (64, 128, 128), 2, (40.0, 5.0, 5.0)),
)


def blobs(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Noise with two labels: balls that fill about 5 %, and a border of each."""
    rng = np.random.default_rng(seed)
    image = rng.random(shape, dtype=np.float32)
    masks = [np.zeros(shape, np.uint8) for _ in range(2)]
    z, y, x = np.ogrid[-10:11, -20:21, -20:21]
    distance = (z / 10) ** 2 + (y / 20) ** 2 + (x / 20) ** 2
    for _ in range(int(np.prod(shape) * 0.05 / 17_000)):
        a, b, c = (int(rng.integers(r, max(r + 1, n - r - 1))) for n, r in zip(shape, (10, 20, 20), strict=True))
        box = (slice(a - 10, a + 11), slice(b - 20, b + 21), slice(c - 20, c + 21))
        masks[0][box] |= (distance <= 1).view(np.uint8)
        masks[1][box] |= ((distance <= 1) & (distance > 0.8)).view(np.uint8)
    return image, masks


def generator(case: Case, image: np.ndarray, masks: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches as DeepSCEM makes them."""
    rng = np.random.default_rng(0)
    labels = np.stack(masks, axis=-1).astype(np.float32)
    image = image[..., None]
    while True:
        images = np.empty((case.batch, *case.patch, 1), np.float32)
        truths = np.empty((case.batch, *case.patch, len(masks)), np.float32)
        for index in range(case.batch):
            focused = rng.random() < FOCUS
            while True:
                starts = [int(rng.integers(n - size + 1)) for n, size in zip(case.shape, case.patch, strict=True)]
                box = tuple(slice(s, s + size) for s, size in zip(starts, case.patch, strict=True))
                patch, truth = image[box], labels[box]
                if not focused or truth.any():
                    break
            turns, flips = int(rng.integers(4)), tuple(axis for axis in range(3) if rng.integers(2))
            images[index] = np.flip(np.rot90(patch, turns, axes=(1, 2)), flips)
            truths[index] = np.flip(np.rot90(truth, turns, axes=(1, 2)), flips)
        yield (images[:, 0], truths[:, 0]) if case.flat else (images, truths)


def source(case: Case, image: np.ndarray, masks: list[np.ndarray]) -> Source:
    where = Foreground.of(masks, case.shape)
    packed = PackedLabels(pack(masks, case.shape), len(masks))
    return Source("s", case.shape, case.voxel_size, image, packed, where.by_slice, 0, where)


def sampler(case: Case, sources: list[Source], group: str) -> PatchSampler:
    augmentation = strengths(group)
    return PatchSampler(
        sources, case.patch, case.batch, focus=FOCUS, augmentation=augmentation, flat=case.flat, seed=0
    )  # fmt: skip


def without_a_core() -> float:
    """Seconds that this thread could have run and had no core; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def measured(make: Callable[[int], Any], workers: int) -> tuple[float, float]:
    """Batches a second of so many threads: by the clock, and without the time in which threads had no core.

    What threads wait for one another counts in both.
    """
    steps = count()
    found: list[tuple[float, float]] = []

    def work() -> None:
        began, had_none, n = time.perf_counter(), without_a_core(), 0
        while time.perf_counter() < began + SECONDS:
            make(next(steps))
            n += 1
        seconds = time.perf_counter() - began
        found.append((n / seconds, n / (seconds - (without_a_core() - had_none))))

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(clock for clock, _ in found), sum(own for _, own in found)


Ways = dict[str, tuple[Callable[[int], Any], int]]


def by_turns(ways: Ways, rounds: int) -> dict[str, tuple[float, float]]:
    best: dict[str, tuple[float, float]] = dict.fromkeys(ways, (0.0, 0.0))
    for _ in range(rounds):
        for name, way in ways.items():
            clock, own = measured(*way)
            best[name] = max(best[name][0], clock), max(best[name][1], own)
    return best


def compare(case: Case, rounds: int) -> None:
    image, masks = blobs(case.shape, 1)
    batches = generator(case, image, masks)
    ways: Ways = {"DeepSCEM's way": (lambda _: next(batches), 1)}
    for kind, groups in (("float32", ("flips", "standard", "strong")), ("float16", ("flips", "standard"))):
        sources = [source(case, image.astype(kind), masks)]
        for group in groups:
            made = sampler(case, sources, group)
            ways |= {f"{group}, {kind}, 1 worker": (made.batch, 1), f"{group}, {kind}, 2 workers": (made.batch, 2)}
    found = by_turns(ways, rounds)
    reference = found["DeepSCEM's way"]
    print(f"\n{case.name}, 2 labels, focus 75 %")
    print("| | batches/s by the clock | times DeepSCEM's | with cores of its own | times DeepSCEM's | times 1 worker |")
    print("|---|---|---|---|---|---|")
    for name, (clock, own) in found.items():
        alone = found.get(name.replace("2 workers", "1 worker"), (clock, own))[1]
        print(
            f"| {name} | {clock:.0f} | {clock / reference[0]:.2f} | {own:.0f} | {own / reference[1]:.2f} "
            f"| {own / alone:.2f} |",
            flush=True,
        )


# ------------------------------------------------------------------------------------------------ processes


def processes(rounds: int) -> None:
    """Batches a second of threads and of processes, taken as a training takes them; of samples held in memory."""
    for case in CASES[:2]:
        image, masks = blobs(case.shape, 1)
        with tempfile.TemporaryDirectory(dir=".") as name:
            folder = Path(name)
            with new_dataset(folder / "d.hdf5", "d", 2) as dataset:
                members = {"image": np.float16, "label_0000": np.uint8, "label_0001": np.uint8}
                sample = dataset.add_sample("s", image.shape, members)
                sample["image"][0 : len(image)] = image
                for label, mask in enumerate(masks):
                    sample[f"label_{label:04}"][0 : len(mask)] = mask
            with open_dataset(folder / "d.hdf5") as dataset, opened_cache(folder / "cache", Reporter()) as cache:
                samples = list(dataset.samples.values())
                sources = load_sources(samples, 1 << 30, Reporter(), Stop(), cache, shared=True)
                print(f"\n{case.name}\n| | 1 thread | 2 threads | 1 process | 2 processes |\n|---|---|---|---|---|")
                for group in ("flips", "standard"):
                    made = sampler(case, sources, group)
                    best = [0.0] * 4
                    for _ in range(rounds):
                        rates = [taken(by_threads(made, n)) for n in (1, 2)]
                        rates += [taken(by_processes(made, n, folder)) for n in (1, 2)]
                        best = [max(pair) for pair in zip(best, rates, strict=True)]
                    one, two, one_process, two_processes = best
                    print(
                        f"| {group} | {one:.0f} | {two:.0f} ({two / one:.2f}) | {one_process:.0f} "
                        f"| {two_processes:.0f} ({two_processes / one_process:.2f}) |",
                        flush=True,
                    )


def taken(workers: AbstractContextManager[Batches]) -> float:
    """Batches a second."""
    with workers as batches:
        made = batches(count(), None)
        for _ in range(10):
            next(made)
        began, n = time.perf_counter(), 0
        while time.perf_counter() < began + SECONDS:
            next(made)
            n += 1
        rate = n / (time.perf_counter() - began)
        made.close()
    return rate


# ------------------------------------------------------------------------------------------------ from the disk


def write_large(path: Path, gigabytes: float, ours_: bool) -> None:
    """A data set of so many GB as float32, as deepscem-tui or as DeepSCEM writes it."""
    depth, side = 256, 1024
    n_samples = max(1, round(gigabytes * 1e9 / (depth * side * side * 6)))
    image, masks = blobs((depth, side, side), 2)
    if ours_:
        with new_dataset(path, "large", 2) as dataset:
            members = {"image": np.float16, "label_0000": np.uint8, "label_0001": np.uint8}
            for index in range(n_samples):
                sample = dataset.add_sample(f"s{index}", image.shape, members)
                sample["image"][0:depth] = image.astype(np.float16)
                sample["label_0000"][0:depth], sample["label_0001"][0:depth] = masks
        return
    with h5py.File(path, "w") as file:
        file.attrs["name"], file.attrs["labels"] = "large", 2
        for index in range(n_samples):
            group = file.create_group(f"s{index}")
            group.attrs["shape"] = image.shape
            group["image"], group["label_0000"], group["label_0001"] = image, *masks


def from_disk(gigabytes: float, rounds: int) -> None:
    for ours_ in (True, False):
        with tempfile.TemporaryDirectory(dir=".") as name:
            folder = Path(name)
            write_large(folder / "large.hdf5", gigabytes, ours_)
            size = (folder / "large.hdf5").stat().st_size / 1e9
            with open_dataset(folder / "large.hdf5") as dataset, opened_cache(folder / "cache", Reporter()) as cache:
                before, began = psutil.Process().memory_info().rss, time.perf_counter()
                samples = list(dataset.samples.values())
                sources = load_sources(samples, 0, Reporter(), Stop(), cache)
                seconds = time.perf_counter() - began
                copied = sum(file.stat().st_size for file in (folder / "cache").iterdir()) / 1e9
                who = "deepscem-tui" if ours_ else "DeepSCEM"
                print(
                    f"\nData set of {size:.1f} GB as {who} stores it: read in {seconds:.0f} s, {copied:.1f} GB copied"
                )
                print("| | batches/s, with cores of their own | times HDF5's | times 1 worker |")
                print("|---|---|---|---|")
                by_hdf5 = load_sources(samples[:1], 0, Reporter(), Stop())
                for case in CASES[:2]:
                    made, slow = sampler(case, sources, "flips"), sampler(case, by_hdf5, "flips")
                    ways: Ways = {"1": (made.batch, 1), "2": (made.batch, 2), "hdf5": (slow.batch, 2)}
                    found = {name: own for name, (_, own) in by_turns(ways, rounds).items()}
                    ratios = f"{found['2'] / found['hdf5']:.2f} | {found['2'] / found['1']:.2f}"
                    print(f"| {case.name}, flips, 2 workers | {found['2']:.0f} | {ratios} |", flush=True)
                held = (psutil.Process().memory_info().rss - before) / 2**20
                print(f"\nMemory at the end, beyond that before reading: {held:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--disk", type=float, default=0.0, metavar="GIGABYTES")
    parser.add_argument("--processes", action="store_true")
    given = parser.parse_args()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{available_cores()} cores, {platform.machine()}, NumPy {np.__version__}, load before {load}")
    if given.disk:
        from_disk(given.disk, given.rounds)
    elif given.processes:
        processes(given.rounds)
    else:
        for case in CASES:
            compare(case, given.rounds)


if __name__ == "__main__":
    main()
