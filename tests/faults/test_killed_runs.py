"""Trainings and predictions that are killed, or find no room: resumed to the end they are what they would have been."""

import csv
import io
import random
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from kills import Driver, killed

from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.runs.watching import RunsIndex
from deepscem_tui.engine.system.lock import locked

KILLS = 10  # of each action

TRAIN = {
    "model": "new.keras", "out": "out.keras", "train": "train.hdf5", "valid": "valid.hdf5", "epochs": 2,
    "steps_per_epoch": 3, "batch_size": 1, "patch_size": [16, 16], "checkpoint_minutes": 1e-6, "precision": "float32",
}  # fmt: skip
PREDICT = {
    "model": "volume.keras", "input": "image.npy", "out": "out.hdf5", "patch_size": [16, 16, 16], "batch_size": 1,
    "probabilities": True, "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tensorflow_driver: Driver) -> Path:
    """What the runs need, and what they make when nobody ends them."""
    made = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    for name in ("train", "valid"):
        with new_dataset(made / f"{name}.hdf5", name, 1) as dataset:
            sample = dataset.add_sample("s", (3, 24, 24), {"image": np.float32, "label_0000": np.uint8})
            image = rng.random((3, 24, 24)).astype(np.float32)
            sample["image"][:] = image
            sample["label_0000"][:] = image > 0.5
    np.save(made / "image.npy", rng.integers(0, 256, (60, 16, 24)).astype(np.uint8))
    small = {"labels": 1, "filters": 2, "depth": 2, "blocks_per_level": 1}
    for name, dimension in (("new.keras", 2), ("volume.keras", 3)):
        create = small | {"out": name, "dimension": dimension}
        tensorflow_driver.whole(folder=made, action="create-model", parameters=create)
    return made


def kill_until(
    number: int, action: str, parameters: dict[str, Any], template: Path, tmp_path: Path, tensorflow: Driver
) -> list[Path]:
    """Kill runs so often, at calls spread over all of a run and at random times; the folders, each with a result."""
    chance = random.Random(action)
    whole = tmp_path / "whole"
    shutil.copytree(template, whole)
    ready = tensorflow.whole(folder=whole, action=action, parameters=parameters, count=True)
    folders, deaths = [whole], 0
    while deaths < number:
        place = tmp_path / f"killed-{len(folders)}"
        folders.append(Path(shutil.copytree(template, place)))
        asked = {"folder": place, "action": action, "parameters": parameters | {"resume": True}}
        while deaths < number:
            share = 1 - chance.random() ** 2  # rather late: each begins where the one before was killed
            cut = {"at": int(share * ready["count"])} if deaths % 2 else {"seconds": share * ready["seconds"]}
            if not killed(tensorflow.ask(**asked, **cut)):
                break
            deaths += 1
            (run,) = runs.find(place / "runs") or [None]
            if run is not None and run.state == "finished":  # it was killed at its very end
                with locked(run.folder / "run.json"):  # as whoever comes next takes over the lock that it may have left
                    break
        else:
            tensorflow.whole(**asked)
    return folders


def clean(place: Path, template: Path, out: str) -> Path:
    """The run of a folder, after a look that nothing else was left there."""
    assert {path.name for path in place.iterdir()} == {path.name for path in template.iterdir()} | {"runs", out}
    (run,) = runs.find(place / "runs")
    assert run.state == "finished"
    assert not list(run.folder.rglob("*.tmp*"))
    assert not list(run.folder.rglob("*.lock*"))
    return run.folder


def weights(model: Path) -> list[bytes]:
    """Of a .keras file."""
    found: list[bytes] = []
    with zipfile.ZipFile(model) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda _, item: found.append(item[()].tobytes()) if isinstance(item, h5py.Dataset) else None)
    return found


def test_trainings_that_were_killed_learn_the_same(
    folder: Path, tmp_path: Path, tensorflow_driver: Driver, times: int
) -> None:
    whole, *others = kill_until(KILLS * times, "train", TRAIN, folder, tmp_path, tensorflow_driver)
    expected = weights(whole / "out.keras")
    assert expected
    table = (clean(whole, folder, "out.keras") / "metrics.csv").read_text()
    for place in others:
        run = clean(place, folder, "out.keras")
        assert weights(place / "out.keras") == expected, place
        assert columns((run / "metrics.csv").read_text()) == columns(table), place
        (summary,) = RunsIndex(place / "runs").poll()
        assert summary.epoch == 2


def columns(text: str) -> list[list[str]]:
    """Of metrics, those that do not tell of time."""
    rows = list(csv.DictReader(text.splitlines()))
    return [
        [value for name, value in row.items() if name not in ("patches_per_second", "waiting_for_data")] for row in rows
    ]


def test_predictions_that_were_killed_say_the_same(
    folder: Path, tmp_path: Path, tensorflow_driver: Driver, times: int
) -> None:
    whole, *others = kill_until(KILLS * times, "predict", PREDICT, folder, tmp_path, tensorflow_driver)
    for place in (whole, *others):
        clean(place, folder, "out.hdf5")
        same(place / "out.hdf5", whole / "out.hdf5")


# ------------------------------------------------------------------------------------------------ no room


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Make a folder a disk of its own, of 1 MiB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(("action", "out"), [("train", "out.keras"), ("predict", "out.hdf5")])
def test_a_limit_of_bytes_ends_a_run_that_goes_on_without_it(
    action: str, out: str, folder: Path, tmp_path: Path, tensorflow_driver: Driver
) -> None:
    parameters = {"train": TRAIN, "predict": PREDICT}[action]
    whole, place = (Path(shutil.copytree(folder, tmp_path / name)) for name in ("whole", "limited"))
    tensorflow_driver.whole(folder=whole, action=action, parameters=parameters)
    limit = (whole / out).stat().st_size * 9 // 10
    answer = tensorflow_driver.ask(folder=place, action=action, parameters=parameters, limit=limit)
    refused(answer)
    (run,) = runs.find(place / "runs")
    assert run.state == "failed"
    assert not list(place.rglob("*.tmp*"))
    assert not (place / out).exists()
    tensorflow_driver.whole(folder=place, resume=run.folder)
    same(place / out, whole / out)


@pytest.mark.parametrize(("action", "out"), [("train", "out.keras"), ("predict", "out.hdf5")])
def test_a_disk_that_is_full_ends_a_run_that_goes_on_when_there_is_room(
    action: str, out: str, folder: Path, tmp_path: Path, tensorflow_driver: Driver
) -> None:
    parameters = {"train": TRAIN, "predict": PREDICT}[action]
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    tensorflow_driver.whole(folder=whole, action=action, parameters=parameters)
    with small_disk(tmp_path / "disk"):
        place = Path(shutil.copytree(folder, tmp_path / "disk" / "place"))
        kept = {name: (tmp_path / "elsewhere" / str(parameters[name])) for name in ("out",)}
        kept["out"].parent.mkdir()
        filler = tmp_path / "disk" / "filler"
        free = shutil.disk_usage(place).free
        taken = sum(path.stat().st_size for path in (whole / "runs").rglob("*") if path.is_file())
        filler.write_bytes(bytes(max(0, free - max(4096 * 8, taken // 2))))
        answer = tensorflow_driver.ask(folder=place, action=action, parameters=parameters | kept)
        refused(answer)
        assert not list(place.rglob("*.tmp*"))
        filler.unlink()
        tensorflow_driver.whole(folder=place, action=action, parameters=parameters | kept | {"resume": True})
        (run,) = runs.find(place / "runs")
        assert run.state == "finished"
        same(kept["out"], whole / out)


def refused(answer: dict[str, Any]) -> None:
    """It ended for want of room, and said how many bytes it would have taken."""
    assert answer["status"] == 4, answer["error"]
    assert re.search(r"[1-9][0-9,]* bytes are needed", answer["error"]), answer["error"]


def same(one: Path, other: Path) -> None:
    """Two results hold the same."""
    if one.suffix == ".keras":
        assert weights(one) == weights(other) != []
        return
    with h5py.File(one) as file, h5py.File(other) as expected:
        for name in ("image", "prediction_0000"):
            assert np.array_equal(file["image"][name], expected["image"][name])
