"""How fast training steps are: against DeepSCEM's way, and how long they wait for their patches.

    python benchmarks/training.py            the table
    python benchmarks/training.py step       a part of it: step, xla, waiting

step: DeepSCEM's default 2D network (32 filters, depth 5, two labels) learns from batches of 4 x 256 x 256 with Dice and
Adam, once as Keras' own `train_on_batch` in float32, as DeepSCEM has it, and once by our step, in float32 and in
bfloat16; by turns, medians of the rounds.
xla: our step as it is, and compiled by XLA (`train --xla`), likewise.
waiting: trainings on a synthetic volume with `standard` augmentation; share of the steps' time in which the network
waited for patches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from real_data import run
from recipe import deepscem_network

from deepscem_tui.engine.models.files import load_model
from deepscem_tui.engine.models.info import read_network
from deepscem_tui.engine.networks.learning import learning_network
from deepscem_tui.engine.patches import Batch
from deepscem_tui.engine.system.devices import available_cores, keras, memory_kept_for_reuse, tensorflow
from deepscem_tui.engine.training.distribution import distribution
from deepscem_tui.engine.training.losses import make_loss
from deepscem_tui.engine.training.trainer import Optimisation, State, Trainer

BATCH, SIDE, LABELS = 4, 256, 2
DEEPSCEM = "DeepSCEM's"
NETWORK = {"2D": ("16", "4", "192,192"), "3D": ("8", "3", "16,64,64")}  # filters, depth, patch


def steps(rounds: int) -> Iterator[str]:
    """Seconds a step of DeepSCEM's and of ours, as lines of the table."""
    medians = timed(rounds, (DEEPSCEM, "float32", "bfloat16"))
    for name, goal in (("float32", "at least 1"), ("bfloat16", "1.5 where the CPU has it")):
        yield compared(f"DeepSCEM's step / ours, {name}", medians[DEEPSCEM], medians[name], goal)


def xla(rounds: int) -> Iterator[str]:
    """Seconds a step without and with XLA, as lines of the table."""
    for precision in ("float32", "bfloat16"):
        medians = timed(rounds, (precision, f"{precision} xla"))
        yield compared(f"our step as it is / by XLA, {precision}", *medians.values(), "to know")


def compared(what: str, one: float, other: float, goal: str) -> str:
    return f"| {what} ({one:.2f} and {other:.2f} s) | {one / other:.2f} | {goal} |"


def timed(rounds: int, names: Sequence[str]) -> dict[str, float]:
    """Median seconds of steps, by turns: DeepSCEM's, or ours in a precision, with ``xla`` or without."""
    tf = tensorflow()
    rng = np.random.default_rng(0)
    labels = (rng.random((BATCH, SIDE, SIDE, LABELS)) < 0.2).astype(np.uint8)
    batch = Batch(rng.random((BATCH, SIDE, SIDE, 1), np.float32), labels)
    floats = labels.astype(np.float32)

    def dice(true: Any, said: Any) -> Any:
        both, either = tf.reduce_sum(true * said, [0, 1, 2]), tf.reduce_sum(true + said, [0, 1, 2])
        return 1 - tf.reduce_mean((2 * both + 1) / (either + 1))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        theirs = deepscem_network(LABELS, 32, 5)
        theirs.save(path)
        theirs.compile(keras().optimizers.Adam(1e-4), dice)
        _, graph = read_network(path)

        def ours(precision: str, xla: str = "") -> Callable[[], object]:
            model, info = load_model(path)
            loss = make_loss("dice", info.activation, info.n_labels, info.n_outputs)
            how = Optimisation(xla=xla == "xla")
            made = Trainer(lambda: learning_network(graph, precision), model, loss, LABELS, how, distribution("auto"))
            state = State()
            return lambda: made.step(batch, 1e-4, state)

        ways = {
            name: (lambda: theirs.train_on_batch(batch.images, floats)) if name == DEEPSCEM else ours(*name.split())
            for name in names
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        with memory_kept_for_reuse():
            for number in range(rounds + 2):  # two to trace and to warm up
                for name, step in ways.items():
                    began = time.perf_counter()
                    step()
                    if number >= 2:
                        times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def waiting(epochs: int = 3) -> Iterator[str]:
    """Shares of the time spent waiting, as lines of the table."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run("demo", work / "demo", "--images-only")
        train = work / "train.hdf5"
        run("create-dataset", train, "demo", 1)
        images = sorted((work / "demo" / "images").glob("train_*.tif"))
        run("add-sample", train, "volume", *images)
        for dimension, (filters, depth, patch) in NETWORK.items():
            new = work / f"{dimension}.keras"
            words = ["--filters", filters, "--depth", depth, "--dimension", dimension[0]]
            run("create-model", new, "--like", train, *words)
            runs = work / f"runs-{dimension}"
            words = ["--patch-size", patch, "--batch-size", "4", "--augmentation", "standard"]
            words += ["--epochs", str(epochs), "--steps-per-epoch", "30", "--runs-dir", str(runs)]
            run("train", new, work / f"trained-{dimension}.keras", "--train", train, *words)
            (events,) = runs.glob("*/events.jsonl")
            found = [json.loads(line) for line in events.read_text().splitlines()]
            shares = [event["waiting_for_data"] for event in found if event["type"] == "epoch"]
            rate = statistics.median(event["patches_per_second"] for event in found if event["type"] == "epoch")
            what = f"waiting for data, {dimension}, 4 x {patch}, {filters} filters ({rate:.1f} patches/s)"
            yield f"| {what} | {100 * max(shares[1:]):.2f} % | under 2 % |"  # the first epoch traces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("step", "xla", "waiting"))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    lines = [f"| what ({available_cores()} cores) | measured | to reach |", "|---|---|---|"]
    if options.part in (None, "step"):
        lines += steps(options.rounds)
    if options.part in (None, "xla"):
        lines += xla(options.rounds)
    if options.part in (None, "waiting"):
        lines += waiting()
    print("\n".join(lines))


if __name__ == "__main__":
    main()
