"""Run folders as trainings and predictions leave them, with times and numbers that are always the same."""

import json
import math
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from deepscem_tui.engine.runs import preview as run_preview

BEGAN = 1_750_000_000.0
LABELS = ("mitochondria", "membrane")


def describe(folder: Path, action: str = "train", **changes: Any) -> Path:
    """A run.json of this process, so that the run counts as alive."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {"epochs": 8, "steps_per_epoch": 64, "overwrite": False} if action == "train" else {}
    description = {
        "action": action, "parameters": parameters, "command": f"deepscem-tui run {action}", "working_folder": ".",
        "inputs": [], "host": socket.gethostname(), "pid": os.getpid(), "pid_started": psutil.Process().create_time(),
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(description | changes))
    return folder


def say(folder: Path, kind: str, t: float, **facts: Any) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"t": BEGAN + t, "type": kind, **facts}) + "\n")


def step(folder: Path, epoch: int, number: int, t: float, epochs: int = 8) -> None:
    x = epoch - 1 + number / 64
    loss = 0.9 * math.exp(-x / 2) + 0.05 + 0.02 * math.sin(37 * x)
    say(
        folder, "step", t, epoch=epoch, step=number, steps_per_epoch=64, epochs=epochs, loss=loss, mean_loss=loss,
        learning_rate=1e-3, patches_per_second=41.5, waiting_for_data=0.031,
    )  # fmt: skip
    say(
        folder, "progress", t, task="Training", done=(epoch - 1) * 64 + number, total=64 * epochs, unit="steps", note=""
    )


def epoch(folder: Path, number: int, t: float) -> None:
    facts: dict[str, Any] = {"epoch": number, "learning_rate": 1e-3 / 2 ** (number // 4)}
    for prefix, worse in (("", 0.0), ("validation_", 0.06)):
        facts[f"{prefix}loss"] = 0.9 * math.exp(-number / 2) + 0.05 + worse
        for index, label in enumerate(LABELS):
            f1 = 1 - math.exp(-number / (2 + index)) - worse
            facts[f"{prefix}f1_{label}"], facts[f"{prefix}iou_{label}"] = f1, f1 / (2 - f1)
            facts[f"{prefix}precision_{label}"], facts[f"{prefix}recall_{label}"] = f1 + 0.01, f1 - 0.01
            if prefix:
                facts[f"{prefix}threshold_{label}"], facts[f"{prefix}untuned_f1_{label}"] = 0.375, f1 - 0.05
    say(folder, "epoch", t, **facts, best=True)
    say(folder, "message", t, text=f"Epoch {number}/8: loss {facts['loss']:.4f}")


def training(folder: Path, epochs: float = 3.5, steps: int = 8) -> Path:
    """A training that has done so many of 8 epochs, 10 s each, with a slice; it is running."""
    describe(folder)
    say(folder, "message", 0, text="Loading TensorFlow")
    say(folder, "started", 1, device="CPU, 16 cores", patch_size=[1, 64, 64], batch_size=8)
    for number in range(1, math.ceil(epochs) + 1):
        for part in range(1, steps + 1):
            if number - 1 + part / steps <= epochs:
                step(folder, number, 64 * part // steps, 2 + 10 * (number - 1 + part / steps))
        if number <= epochs:
            epoch(folder, number, 2 + 10 * number)
            say(folder, "checkpoint", 2 + 10 * number, epoch=number)
    gpu = {"name": "NVIDIA H200", "percent": 93, "memory": 12 << 30, "memory_total": 141 << 30}
    t = 2 + 10 * epochs
    usage = {"cpu": 3.6, "cores": 16, "machine_percent": 31.0, "memory": 4 << 30, "memory_available": 120 << 30}
    say(folder, "usage", t, **usage, gpus=[gpu])
    preview(folder, "preview/epoch-0003.npz")
    say(folder, "preview", t, epoch=3, file="preview/epoch-0003.npz", sample="crop", z=12)
    (folder / "log.txt").write_text("2026-01-01 00:00:00 something that a library prints\n")
    return folder


def preview(folder: Path, file: str, known: bool = False) -> None:
    y, x = np.ogrid[:64, :96]
    disc = ((y - 30) ** 2 + (x - 40) ** 2 < 300).astype(float)
    image = 0.3 + 0.4 * disc + 0.2 * ((x + y) % 7 == 0)
    prediction = np.stack([disc * 0.9, ((y > 50) & (x >= 0)) * 0.8])
    part = np.broadcast_to(x < 60, (64, 96)) if known else None
    run_preview.write(folder / file, image, prediction, LABELS, "crop", 12, prediction > 0.5, part)


def predicting(folder: Path) -> Path:
    """A prediction of three samples that is in its second; it is running."""
    describe(folder, "predict")
    say(folder, "started", 1, device="CPU, 16 cores", plans=[{"sample": name} for name in ("one", "two", "three")])
    say(folder, "tiles", 2, sample="one", done=40, total=40, voxels_per_second=2_400_000)
    say(folder, "progress", 2, task="Predicting", done=40, total=120, unit="tiles", note="one")
    say(folder, "tiles", 3, sample="two", done=12, total=40, voxels_per_second=2_500_000)
    say(folder, "progress", 3, task="Predicting", done=52, total=120, unit="tiles", note="two")
    preview(folder, "preview/001-two.npz", known=True)
    say(folder, "preview", 3, sample="two", z=12, file="preview/001-two.npz")
    return folder
