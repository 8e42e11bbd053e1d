"""What prediction reaches, each figure a ratio of two things measured in one run: ``python benchmarks/prediction.py``.

Parts, all of them if none is named: ``speed`` (end to end against the bare network), ``deepscem`` (against DeepSCEM's
method), ``difference`` (to the prediction in one piece), ``memory`` (of a long and a short volume), ``precision``
(bfloat16 against float32 on a trained network). Machines are shared: what is compared is measured by turns, A B A.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.demo import demo
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.models.files import load_model
from deepscem_tui.engine.prediction import predict as prediction
from deepscem_tui.engine.prediction.network import TileNetwork, load_network
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.system.devices import best_precision, device_summary, memory_kept_for_reuse

PRECISIONS = ("float32", "bfloat16")


def precisions() -> tuple[str, ...]:
    """Those that this machine computes with."""
    return PRECISIONS if best_precision() == "bfloat16" else PRECISIONS[:1]


def say(what: str, value: str, reach: str) -> None:
    print(f"| {what} | {value} | {reach} |", flush=True)


def noise(path: Path, shape: tuple[int, ...]) -> Path:
    """Noise, which nothing can compress."""
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.save(path, image)
    return path


def model(path: Path, **settings: Any) -> Path:
    create_model(p.CreateModel(out=path, **settings), Context())
    return path


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Started(Reporter):
    """Notes when a prediction has started up."""

    when = 0.0

    def event(self, kind: str, **_: Any) -> None:
        if kind == "started":
            self.when = time.perf_counter()


class Prediction:
    """The action `predict` after its start-up: the network is loaded and traced before."""

    def __init__(self, folder: Path, network: Path, image: Path, precision: str, **options: Any) -> None:
        self.folder, self.traced = folder, load_network(network, precision)
        self.out = folder / f"out-{precision}.hdf5"
        self.parameters = p.Predict(
            model=network, input=image, out=self.out, precision=precision, overwrite=True, **options
        )

    def __call__(self) -> float:
        """Predict, with a run folder, so that slabs are kept as they are in a run; seconds from its event `started`.

        Before that event lie what the model file says, the choice of tiles, and the network's loading.
        """
        from deepscem_tui.engine.prediction import network as prediction_network

        real = prediction_network.load_network
        prediction_network.load_network = lambda *_: self.traced
        self.out.unlink(missing_ok=True)  # to take the place of another file is no part of predicting
        try:
            with tempfile.TemporaryDirectory(dir=self.folder) as run:
                started = Started()
                prediction.predict(self.parameters, Context(started, folder=Path(run)))
                return time.perf_counter() - started.when
        finally:
            prediction_network.load_network = real


# ------------------------------------------------------------------------------------------------ the parts


def speed(folder: Path) -> None:
    """File to file against the bare forward passes of the same batches, by turns."""
    two = model(folder / "2d.keras", labels=2)
    three = model(folder / "3d.keras", labels=2, dimension=3, depth=3, filters=8)
    for name, network, shape in (("2D", two, (16, 1024, 1024)), ("3D", three, (64, 256, 256))):
        image = noise(folder / f"{name}.npy", shape)
        for precision in precisions():
            predict = Prediction(folder, network, image, precision)
            (plan,) = prediction.predict(predict.parameters.model_copy(update={"dry_run": True}), Context()).facts[
                "plans"
            ]
            batch = np.random.default_rng(0).random((plan["batch"], *plan["tile"]), np.float32)
            calls = -(-plan["tiles"] // plan["batch"])

            def bare(batch: Any = batch, network: TileNetwork = predict.traced) -> float:
                with memory_kept_for_reuse():
                    return seconds(lambda: network(batch))

            bare()  # traced
            turns, some = (1, max(2, calls // 4)) if calls > 1 else (15, 1)
            bares, wholes = [], []
            for _ in range(turns):
                bares += [bare() for _ in range(some)]
                wholes.append(predict())
            bares += [bare() for _ in range(some)]
            each, whole = float(np.median(bares)), float(np.median(wholes))
            rate = prod(shape) / whole / 1e3
            say(
                f"end to end / bare passes, {name} {'x'.join(map(str, shape))}, {precision} ({rate:.0f} kvoxel/s)",
                f"{calls * each / whole:.2f}, wasted {plan['wasted']:.0%}",
                "0.85, at most 15 %",
            )


def deepscem(folder: Path) -> None:
    """Against DeepSCEM's method, written afresh: windows of 256, half of it the stride, one at a time by predict()."""
    import keras

    shape, window, stride = (4, 512, 512), 256, 128
    network = model(folder / "usual.keras", labels=2)
    image = noise(folder / "usual.npy", shape)
    its, _ = load_model(network)
    calls = (shape[0] + 1) * prod(-(-size // stride) + 1 for size in shape[1:])
    tile = np.random.default_rng(0).random((1, window, window, 1), np.float32)

    def theirs(clearing: bool, tiles: int = 50) -> float:
        def loop() -> None:
            for _ in range(tiles):
                its.predict(tile, verbose=0)
                if clearing:
                    keras.backend.clear_session()

        return prod(shape) / (seconds(loop) / tiles * calls)

    its.predict(tile, verbose=0)
    for precision in precisions():
        predict = Prediction(folder, network, image, precision)
        predict()
        fast = precision == "bfloat16"
        for clearing, reach in ((True, 30 if fast else 20), (False, 15 if fast else 10)):
            before = prod(shape) / seconds(predict)
            slow = theirs(clearing)
            after = prod(shape) / seconds(predict)
            ours = (before + after) / 2
            how = "as it is" if clearing else "session not cleared"
            rates = f"{ours / 1e3:.0f} and {slow / 1e3:.0f} kvoxel/s"
            say(
                f"voxels a second / DeepSCEM's method {how}, {precision} ({rates})",
                f"{ours / slow:.1f}",
                f"{reach}",
            )


def difference(folder: Path) -> None:
    """Tiles of 256 against the image in one call, depth 5."""
    network = model(folder / "usual.keras", labels=1, filters=8, overwrite=True)
    image = noise(folder / "image.npy", (1, 640, 640))
    its, _ = load_model(network)
    voxels = np.load(image).astype(np.float32) / 255
    whole = TileNetwork(lambda: its)(voxels[None])[0, ..., 0]
    for join, patch in (("crop", (256, 256)), ("crop", (448, 448)), ("blend", (256, 256)), ("deepscem", (256, 256))):
        if join not in p.Predict.model_fields["join"].annotation.__args__:
            continue
        Prediction(folder, network, image, "float32", join=join, patch_size=patch, probabilities=True)()
        with h5py.File(folder / "out-float32.hdf5") as file:
            off = np.abs(file["image"]["prediction_0000"][()] - whole)
        reach = "to compare with" if join == "deepscem" else "mean at most 1e-3, and below DeepSCEM's"
        say(
            f"difference to one piece, {join}, tiles of {patch[0]}",
            f"mean {off.mean():.1e}, most {off.max():.1e}",
            reach,
        )


_MEASURE = """
import sys
from pathlib import Path
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.prediction.predict import predict
model, image, out = map(Path, sys.argv[1:])
run = out.parent / "run"
run.mkdir()
predict(p.Predict(model=model, input=image, out=out, image=False), Context(folder=run))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def memory(folder: Path) -> None:
    """Peak of the process with a tiny network; a volume of a few slices gives that of the bare process."""
    network = model(folder / "tiny.keras", labels=1, filters=2, depth=2, blocks_per_level=1, block="vgg")
    peaks = {}
    for name, length in (("bare", 1), ("0.5 GB", 512), ("4 GB", 4096)):
        image = folder / "image.npy"
        volume = np.lib.format.open_memmap(image, "w+", np.uint8, (length, 1024, 1024))
        for z in range(length):
            volume[z] = np.arange(1024, dtype=np.uint32)[:, None] * (z + 3) % 256
        del volume
        with tempfile.TemporaryDirectory(dir=folder) as there:
            words = [sys.executable, "-c", _MEASURE, network, image, Path(there) / "out.hdf5"]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
        peaks[name] = int(done.stdout.splitlines()[-1]) / 1024  # KiB
        image.unlink()
    small, large = peaks["0.5 GB"] - peaks["bare"], peaks["4 GB"] - peaks["bare"]
    say(
        f"peak memory beyond the process that predicts one slice ({peaks['bare']:.0f} MiB), 4 GB / 0.5 GB",
        f"{peaks['4 GB'] / peaks['0.5 GB']:.3f} ({large:.0f} and {small:.0f} MiB more)",
        "within 10 %, under 1 GB",
    )


def precision(folder: Path) -> None:
    """Masks in bfloat16 against those in float32, of the demo's trained network."""
    os.environ["DEEPSCEM_TUI_RUNS"] = str(folder / "runs")
    demo(p.Demo(folder=folder / "demo"), Context())
    found = {}
    for kind in PRECISIONS:
        Prediction(folder, folder / "demo" / "mitochondria.keras", folder / "demo" / "test.hdf5", kind)()
        with h5py.File(folder / f"out-{kind}.hdf5") as file:
            found[kind] = file["test"]["prediction_0000"][()] > 0
    one, other = found.values()
    f1 = 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))
    say(f"F1 of bfloat16 against float32 ({np.count_nonzero(one)} voxels of foreground)", f"{f1:.5f}", "0.999")


PARTS = {part.__name__: part for part in (speed, deepscem, difference, memory, precision)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure; all if not given")
    chosen = parser.parse_args().parts or list(PARTS)
    print(f"{device_summary()}; bfloat16: {'yes' if best_precision() == 'bfloat16' else 'no'}\n")
    print("| what | measured | reach |\n|---|---|---|")
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder))


if __name__ == "__main__":
    main()
