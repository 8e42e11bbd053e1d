"""The action `demo`: the whole job on a synthetic volume, each step carried out as the user would."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepscem_tui.engine import actions, words
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats.volumes import create_volume
from deepscem_tui.engine.phantom import make_phantom
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.system.files import write_text

_LABEL = "mitochondria"
_VOLUMES = {"train": (32, 256, 256), "valid": (8, 256, 256), "test": (16, 256, 256)}  # Z, Y, X


def demo(parameters: p.Demo, context: Context) -> Result:
    """Make volumes, data sets and a model; train, predict, evaluate, and show a slice.

    Images that were made alone before are gone on with.

    Raises:
        ParameterError: if the folder holds something else already.
        Stopped: on request.
    """
    folder = parameters.folder
    images = folder / "images"
    made = images if parameters.images_only else folder
    if made.exists() and not made.is_dir():
        raise ParameterError(f"{made} is a file", "Name another folder.", "folder")
    ready = not parameters.images_only and all(path.exists() for path in _image_files(images))
    there = {path.name for path in made.iterdir()} if made.exists() else set()
    if not parameters.overwrite and there - ({images.name} if ready else set()):
        raise ParameterError(f"{made} exists already", "Use --overwrite, or name another folder.", "folder")
    if parameters.dry_run:
        what = "the images of the demo" if parameters.images_only else "the demo's files and carry out its steps"
        return Result(f"Would make {what} in {made}", {"folder": str(folder)})
    folder.mkdir(parents=True, exist_ok=True)
    if ready and not parameters.overwrite:
        context.report.message(f"Step 1: the volumes and their labels are in {images} already")
    else:
        _make_images(parameters, context)
    if parameters.images_only:
        names = words.listed(_VOLUMES)
        summary = f"{made} holds the images {names} and their labels; make data sets of them"
        return Result(summary, {"folder": str(folder), "images": str(made)})
    todo = _steps(folder, parameters.seed)
    results: dict[str, Result] = {}
    commands: list[str] = []
    for number, (title, name, values) in enumerate(todo, start=2):
        action = actions.ACTIONS[name]
        step = actions.build(action, values)
        command = actions.command_line(action, step)
        context.report.message(f"\nStep {number} of {len(todo) + 1}: {title}\n  {command}")
        results[name] = runs.perform(action, step, context.report, context.stop, folder / "runs")
        context.report.message(f"  {results[name].summary}")
        commands.append(command)
    head = [
        "#!/bin/sh",
        "# What the demo did, to be repeated or changed.",
        "set -e",
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"export DEEPSCEM_TUI_RUNS={shlex.quote(str(folder / 'runs'))}",
    ]
    write_text(folder / "commands.sh", "\n".join([*head, *commands]) + "\n")
    scores = results["evaluate"]
    facts: dict[str, Any] = {"folder": str(folder), "training_run": results["train"].facts["run"]}
    summary = f"{folder} holds the images, data sets, model, prediction and commands.sh to go on with"
    return Result(summary, facts, scores.tables, picture=results["preview"].picture)


def _image_files(folder: Path) -> list[Path]:
    """The volumes and their labels."""
    return [folder / f"{name}_{part}.tif" for name in _VOLUMES for part in ("image", _LABEL)]


def _make_images(parameters: p.Demo, context: Context) -> None:
    total = len(_VOLUMES)
    context.report.message(f"Step 1: make {total} synthetic volumes and their labels in {parameters.folder / 'images'}")
    for number, (name, shape) in enumerate(_VOLUMES.items()):
        context.stop.check()
        context.report.progress("Making volumes", number, total, "volumes")
        phantom = make_phantom(shape, parameters.seed * total + number)
        for part, voxels in (("image", phantom.image), (_LABEL, phantom.labels[_LABEL])):
            path = parameters.folder / "images" / f"{name}_{part}.tif"
            with create_volume(path, shape, voxels.dtype, overwrite=parameters.overwrite) as volume:
                volume.write(voxels)
    context.report.progress("Making volumes", total, total, "volumes")


def _steps(folder: Path, seed: int) -> Sequence[tuple[str, str, dict[str, Any]]]:
    """Title, action and parameters of each step."""
    datasets = {name: folder / f"{name}.hdf5" for name in _VOLUMES}
    model, trained, predicted = folder / "untrained.keras", folder / "mitochondria.keras", folder / "predicted.hdf5"
    steps: list[tuple[str, str, dict[str, Any]]] = []
    for name, dataset in datasets.items():
        image, label = folder / "images" / f"{name}_image.tif", folder / "images" / f"{name}_{_LABEL}.tif"
        make = {"file": dataset, "name": name, "n_labels": 1, "overwrite": True}
        steps += [
            (f"make the {name} data set", "create-dataset", make),
            ("name its label", "set-aliases", {"file": dataset, "aliases": (_LABEL,)}),
            (
                "add the volume to it",
                "add-sample",
                {"file": dataset, "name": name, "image": image, "labels": (str(label),)},
            ),
        ]
    network = {"out": model, "like": datasets["train"], "filters": 12, "depth": 4, "seed": seed, "overwrite": True}
    training = {
        "model": model,
        "out": trained,
        "train": datasets["train"],
        "valid": datasets["valid"],
        "batch_size": 4,
        "patch_size": (128, 128),
        "steps_per_epoch": 50,
        "epochs": 8,
        "seed": seed,
        "overwrite": True,
    }
    return [
        *steps,
        ("make a small U-Net", "create-model", network),
        ("train it", "train", training),
        (
            "predict the test volume",
            "predict",
            {"model": trained, "input": datasets["test"], "out": predicted, "overwrite": True},
        ),
        (
            "score the prediction",
            "evaluate",
            {"reference": datasets["test"], "segmentation": predicted, "csv": folder / "scores.csv", "overwrite": True},
        ),
        ("look at a slice", "preview", {"file": predicted, "sample": "test", "reference": datasets["test"]}),
    ]
