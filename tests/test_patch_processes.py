"""Patches made by other processes: the same as threads make, and no process is left behind."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import psutil
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.augmentation.recipes import strengths
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.datasets.ignoring import write_ignored
from deepscem_tui.engine.errors import DataError, ResourceError
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.models.files import load_model
from deepscem_tui.engine.patches import (
    Batch,
    Cache,
    PatchSampler,
    Source,
    by_processes,
    by_threads,
    load_sources,
    opened_cache,
    shared_arrays,
    workers,
)
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.training import train as training

SHAPE = (6, 40, 50)


def write(path: Path) -> Path:
    rng = np.random.default_rng(0)
    members = {"image": np.float16, "label_0000": np.uint8, "label_0001": np.uint8}
    with new_dataset(path, "d", 2) as dataset:
        for name in ("a", "b"):
            sample = dataset.add_sample(name, SHAPE, members)
            sample["image"][0 : SHAPE[0]] = rng.random(SHAPE)
            for label in ("label_0000", "label_0001"):
                sample[label][0 : SHAPE[0]] = rng.random(SHAPE) < 0.1
    return path


@pytest.fixture(params=["read from files", "in shared memory", "in shared memory, labelled in part"])
def sampler(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PatchSampler]:
    path, memory = write(tmp_path / "d.hdf5"), 0 if request.param == "read from files" else 1 << 30
    if "in part" in request.param:
        with change_dataset(path) as changed:
            write_ignored(changed, "a", (((1, 3), (0, 40), (5, 50)),), None)
    with open_dataset(path) as dataset, opened_cache(tmp_path / "cache", Reporter()) as cache:
        sources = load_sources(list(dataset.samples.values()), memory, Reporter(), Stop(), cache, shared=True)
        assert all(source.shareable and bool(source.held_bytes) == bool(memory) for source in sources)
        yield PatchSampler(sources, (1, 32, 32), 3, focus=0.5, augmentation=strengths("strong"), flat=True, seed=2)


def same(one: list[Batch], two: list[Batch]) -> bool:
    pairs = list(zip(one, two, strict=True))
    return all(np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels) for a, b in pairs)


def children() -> set[int]:
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            if "worker_process" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_they_give_what_threads_give_in_order_and_again(sampler: PatchSampler, tmp_path: Path) -> None:
    with by_threads(sampler, 2) as batches:
        expected, part = list(batches(range(20), None)), list(batches(range(3), range(1, 3)))
    with by_processes(sampler, 2, tmp_path) as batches:
        begun = batches(range(20), None)
        kept = [next(begun) for _ in range(4)]
        begun.close()  # as an epoch that is stopped
        assert same(kept, expected[:4])
        assert same(list(batches(range(20), None)), expected)
        assert same(kept, expected[:4])  # nothing was written over them
        assert same(list(batches(range(3), range(1, 3))), part)
        assert len(children()) == 2
    assert not children()
    assert not (tmp_path / "batches.raw").exists()


@pytest.mark.parametrize("sampler", ["read from files"], indirect=True)
def test_an_error_there_is_the_same_here(sampler: PatchSampler, tmp_path: Path) -> None:
    with by_processes(sampler, 1, tmp_path) as batches:
        os.truncate(tmp_path / "d.hdf5", 100)
        with pytest.raises(DataError, match="ends too early"):
            list(batches(range(2), None))


@pytest.mark.parametrize("sampler", ["in shared memory"], indirect=True)
def test_a_process_that_is_gone_is_an_error(sampler: PatchSampler, tmp_path: Path) -> None:
    with by_processes(sampler, 2, tmp_path) as batches:
        made = batches(range(1000), None)
        next(made)
        os.kill(children().pop(), signal.SIGKILL)
        with pytest.raises(ResourceError, match="want of memory"):
            list(made)
    assert not children()


class Listener(Reporter):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warning(self, text: str) -> None:
        self.warned.append(text)


def test_what_cannot_be_shared_is_left_to_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(memory: int, cache: Cache | None, shared: bool) -> list[Source]:
        return load_sources(list(dataset.samples.values()), memory, Reporter(), Stop(), cache, shared)

    listener = Listener()
    with open_dataset(write(tmp_path / "d.hdf5")) as dataset, opened_cache(tmp_path / "cache", listener) as cache:
        monkeypatch.setattr(shared_arrays.os, "posix_fallocate", Mock(side_effect=OSError(errno.ENOSPC, "No space")))
        for memory, given, shared in ((1 << 30, cache, False), (0, None, True), (1 << 30, cache, True)):
            assert not any(source.shareable for source in load(memory, given, shared))
        assert "by threads" in listener.warned[0]
        assert not list((tmp_path / "cache").glob("shared*"))


@pytest.mark.parametrize("sampler", ["in shared memory"], indirect=True)
def test_they_take_no_module_from_the_folder_of_the_data(
    sampler: PatchSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("socket", "numpy", "deepscem_tui"):
        (tmp_path / f"{module}.py").write_text("import pathlib; pathlib.Path('hacked').touch()")
    monkeypatch.chdir(tmp_path)
    with by_processes(sampler, 1, tmp_path) as batches:
        assert len(list(batches(range(2), None))) == 2
    assert not (tmp_path / "hacked").exists()


def test_one_that_cannot_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "own_python", lambda _: [sys.executable, "-c", "raise SystemExit(1)"])
    much = SimpleNamespace(batch_bytes=10, more=b"x" * 10_000_000)  # more than a pipe holds
    with pytest.raises(ResourceError, match="is gone"), by_processes(much, 2, tmp_path):
        pass
    assert not (tmp_path / "batches.raw").exists()


_TRAINING = """
import sys, test_patch_processes as t
from pathlib import Path
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with t.open_dataset(t.write(folder / "d.hdf5")) as dataset, t.opened_cache(folder / "c", t.Reporter()) as cache:
        sources = t.load_sources(list(dataset.samples.values()), 0, t.Reporter(), t.Stop(), cache)
        sampler = t.PatchSampler(sources, (1, 32, 32), 3, focus=0.5, augmentation={}, flat=True, seed=2)
        with t.by_processes(sampler, 2, folder) as batches:
            for _ in batches(range(10**9), None):
                print(*t.children(), flush=True)
"""


def test_they_end_with_a_process_that_is_killed_and_not_by_its_signals(tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text(_TRAINING)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        while len(pids := [int(word) for word in parent.stdout.readline().split()]) < 2:
            assert parent.poll() is None
        others = [psutil.Process(pid) for pid in pids]
        for other in others:
            os.kill(other.pid, signal.SIGINT)
            os.kill(other.pid, signal.SIGTERM)
        parent.stdout.readline()
        time.sleep(0.2)
        assert all(other.is_running() and other.status() != psutil.STATUS_ZOMBIE for other in others)
        parent.kill()
        parent.stdout.read()
    gone, alive = psutil.wait_procs(others, timeout=30)
    assert len(gone) == 2
    assert not alive


def test_a_training_beside_a_gpu_is_the_same_by_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_model(p.CreateModel(out=tmp_path / "m.keras", labels=2, depth=2, filters=2), Context())
    write(tmp_path / "d.hdf5")
    weights, used = [], []
    real = training.by_processes
    monkeypatch.setattr(training, "by_processes", lambda *given: (used.append(given[1]), real(*given))[1])
    for device in ("CPU", "GPU 0, as far as this test goes"):
        monkeypatch.setattr(training, "device_summary", lambda _, device=device: device)
        (folder := tmp_path / device[:3]).mkdir()
        asked = p.Train(
            model=tmp_path / "m.keras", out=folder / "out.keras", train=tmp_path / "d.hdf5", epochs=2,
            steps_per_epoch=3, batch_size=2, patch_size=(16, 16), precision="float32",
        )  # fmt: skip
        training.train(asked, Context(folder=folder))
        weights.append(load_model(folder / "out.keras")[0].get_weights())
    assert len(used) == 1
    assert not children()
    for one, two in zip(*weights, strict=True):  # sums of several threads are not bit for bit the same
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
    assert not (tmp_path / "GPU" / "cache").exists()
