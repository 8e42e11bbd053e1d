"""What `plan` says of memory and time, against a training that does it: ``python benchmarks/plan.py [DATASET]``.

For a network for slices and one for volumes, on DATASET or on a volume made for it. Memory is what a process that
trains grows to beyond one that trains the same network on the smallest patches; on a GPU it is not measured. Time is
that of the steps of the second epoch. Printed as measured / estimated: 1 is right, above 1 it takes more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.phantom import make_phantom
from deepscem_tui.engine.planning.plan import plan

_STEPS = 6  # an epoch


def made_dataset(path: Path) -> Path:
    """A synthetic volume of 64 x 384 x 384 with its mitochondria."""
    phantom = make_phantom((64, 384, 384), 0)
    with new_dataset(path, "phantom", 1) as dataset:
        members = {"image": np.float32, "label_0000": np.uint8}
        sample = dataset.add_sample("a", phantom.image.shape, members, {"voxel_size": (8.0, 8.0, 8.0)})
        image = phantom.image.astype(np.float32)
        sample["image"][0:64] = (image - image.min()) / np.ptp(image)
        sample["label_0000"][0:64] = (phantom.labels["mitochondria"] > 0).astype(np.uint8)
    return path


def trained(folder: Path, values: dict[str, Any]) -> tuple[float, int]:
    """Seconds a step in the second epoch, and the most memory that the process had, bytes."""
    parameters = [
        f"--{name.replace('_', '-')}={value}" for name, value in values.items() if name not in ("model", "out")
    ]
    command = [sys.executable, "-m", "deepscem_tui", "run", "train", values["model"], str(folder / "trained.keras")]
    command += [*parameters, "--overwrite", "--quiet", "--runs-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"The training failed: {' '.join(command)}")
    (events,) = folder.glob("*/events.jsonl")
    epochs = [event["t"] for line in events.open() if (event := json.loads(line))["type"] == "epoch"]
    return (epochs[1] - epochs[0]) / _STEPS, usage.ru_maxrss * 1024


def measure(dataset: Path, dimension: int, folder: Path) -> None:
    """Propose, train, print."""
    result = plan(p.Plan(dataset=dataset, dimension=dimension), Context())
    facts = result.facts
    model = folder / "new.keras"
    create = ACTIONS["create-model"]
    create.carry_out(build(create, {"out": model, "like": dataset, **facts["network"]}), Context())
    values = {**facts["training"], "model": str(model), "train": str(dataset), "steps_per_epoch": _STEPS, "epochs": 2}
    seconds, most = trained(folder / "planned", values)
    network, patch = facts["network"], values["patch_size"]
    side, thick = 2 ** (network["depth"] - 1), 2 ** (network["depth"] - 1 - network["anisotropy"])
    least = f"{side},{side}" if dimension == 2 else f"{thick},{side},{side}"
    _, base = trained(folder / "least", values | {"patch_size": least, "batch_size": 1})
    estimated = facts["seconds"] / facts["steps"]
    print(f"{dimension}D, {values['batch_size']} patches of {patch}, {network}, on {facts['machine']}")
    print(f"  time a step: {seconds:.2f} s measured / {estimated:.2f} s estimated = {seconds / estimated:.2f}")
    grown, needed = (most - base) / 2**20, facts["memory_bytes"] / 2**20
    if "GPU" not in facts["machine"]:
        print(f"  memory: {grown:.0f} MiB measured / {needed:.0f} MiB estimated = {grown / needed:.2f}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("dataset", nargs="?", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        dataset = given.dataset or made_dataset(Path(name) / "phantom.hdf5")
        for dimension in (2, 3):
            folder = Path(name) / f"{dimension}d"
            for part in ("planned", "least"):
                (folder / part).mkdir(parents=True)
            measure(dataset, dimension, folder)


if __name__ == "__main__":
    main()
