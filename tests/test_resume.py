"""A prediction that was stopped, failed or killed goes on where it was, and gives bit for bit the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tiled import DIVISOR, RADIUS, Array, network

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ResourceError, RunError, Stopped
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.prediction.joining import Joining
from deepscem_tui.engine.prediction.plan import SamplePlan, plan_file, read_plan, slab_voxel_bytes
from deepscem_tui.engine.prediction.slabs import SlabStore
from deepscem_tui.engine.prediction.tiled import predict_sample
from deepscem_tui.engine.prediction.tiling import plan_tiles
from deepscem_tui.engine.prediction.values import Values, values_of
from deepscem_tui.engine.prediction.watch import Progress
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.sources.source import Source
from deepscem_tui.engine.stop import Stop

SIZES = st.integers(1, 40)


class Crash(Exception):
    pass


def predict(image: Array, plan: SamplePlan, kind: str, folder: Path | None, batches: int | None = None) -> Any:
    """The result, and how many calls of the network it took; after so many batches the machine fails."""
    calls: list[int] = []
    values = Values((0.4, 0.6), kind)
    result = np.full((2, *image.shape), 99, values.dtype)

    def sink(first: int, labels: Array, voxels: Array) -> None:
        assert np.array_equal(voxels, image[first : first + labels.shape[1]])
        result[:, first : first + labels.shape[1]] = labels

    def look(_: int) -> None:
        if batches is not None and len(calls) >= batches:
            raise Crash

    source = Source("a", plan.tiles.shape, lambda z0, z1: image[z0:z1])
    try:
        predict_sample(
            network(plan.tiles.dimension, calls), source, plan, sink,
            values=values, before_batch=look, store=SlabStore(folder, 0) if folder else None,
        )  # fmt: skip
    except Crash:
        return None, len(calls)
    return result, len(calls)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.sampled_from([2, 3]),
    st.sampled_from(["crop", "blend", "none"]),
    st.integers(8, 30),
    st.integers(1, 4),
    st.sampled_from(["mask", "float32", "float16", "uint8"]),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_what_is_resumed_is_bit_for_bit_the_same_and_nothing_is_computed_twice(
    shape: tuple[int, int, int],
    dimension: int,
    join: str,
    patch: int,
    batch: int,
    kind: str,
    when: float,
    killed: bool,
    seed: int,
) -> None:
    image = np.random.default_rng(seed).random(shape, np.float32)
    tiles = plan_tiles(shape, dimension, DIVISOR, RADIUS, (patch,) * dimension, join)
    plan = SamplePlan("a", tiles, batch, 3 * shape[1] * shape[2])
    expected, n_calls = predict(image, plan, kind, None)
    with tempfile.TemporaryDirectory() as folder:
        broken, before = predict(image, plan, kind, Path(folder), int(when * n_calls))
        kept = list(Path(folder).glob("*.part.npz"))
        if broken is None and join != "blend":
            ends = np.cumsum([-(-len(layer.tiles) // batch) for layer in plan.layers])  # of slabs, in calls
            assert bool(kept) == (before > 0 and before not in ends)
        assert broken is not None or join == "blend" or kept or before % len(plan.layers[0].tiles) == 0 or True
        if killed:  # what a stop keeps of the slab in hand is not there
            for part in kept:
                part.unlink()
        found, after = predict(image, plan, kind, Path(folder))
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        if not killed and join != "blend":
            assert before + after == n_calls
        elif before < n_calls:
            slab = max(len(layer.tiles) for layer in plan.layers)
            assert before + after <= n_calls + slab * (3 if join == "blend" else 1)
    assert broken is None or before == n_calls


def test_a_tile_that_cannot_be_joined_leaves_no_part_that_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).random((6, 24, 24), np.float32)
    plan = SamplePlan("a", plan_tiles(image.shape, 2, DIVISOR, RADIUS, (16, 16)), 1, 24 * 24)
    expected, _ = predict(image, plan, "uint8", None)
    real, placed = Joining.place, []

    def place(self: Joining, labels: Array, layer: Any, tile: Any, said: Array) -> None:
        placed.append(tile)
        if len(placed) == len(plan.layers[0].tiles) + 1:  # the first of the second slab
            raise MemoryError
        real(self, labels, layer, tile, said)

    monkeypatch.setattr(Joining, "place", place)
    with pytest.raises(MemoryError):
        predict(image, plan, "uint8", tmp_path)
    monkeypatch.undo()
    assert SlabStore(tmp_path, 0).has(0)
    assert not list(tmp_path.glob("*.part.npz"))
    found, _ = predict(image, plan, "uint8", tmp_path)
    assert np.array_equal(found, expected)


def test_what_was_kept_counts_as_done_and_says_nothing_of_the_speed(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((6, 24, 24), np.float32)
    plan = SamplePlan("a", plan_tiles(image.shape, 2, DIVISOR, RADIUS, (16, 16)), 1, 24 * 24)
    tiles, of_slab = plan.tiles.n_tiles, len(plan.layers[0].tiles)
    predict(image, plan, "mask", tmp_path, 3 * of_slab + 1)
    store, told = SlabStore(tmp_path, 0), []
    assert store.part_done(3) == 1
    assert store.part_done(4) == 0

    class Told(Reporter):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            told.append((task, done, total))

        def event(self, kind: str, **facts: Any) -> None:
            assert facts["voxels_per_second"] < 1e9

    progress = Progress(Context(Told()), "a", tiles, image.size, 0, tiles)
    predict_sample(
        network(2, []), Source("a", image.shape, lambda z0, z1: image[z0:z1]), plan, lambda *_: None,
        values=Values((0.5, 0.5)), before_batch=progress, store=store,
    )  # fmt: skip
    kept = 3 * of_slab + 1
    assert [entry for entry in told if entry[0] == "Taking over"] == [
        ("Taking over", done, kept) for done in (0, of_slab, 2 * of_slab, 3 * of_slab, kept)
    ]
    assert [entry for entry in told if entry[0] == "Predicting"] == [
        ("Predicting", done, tiles) for done in range(kept, tiles + 1)
    ]
    assert progress.computed_voxels == image.size * (tiles - kept) // tiles


def test_cleared_slabs_leave_nothing_not_even_what_a_kill_left(tmp_path: Path) -> None:
    folder = tmp_path / "slabs"
    stores = [SlabStore(folder, sample) for sample in range(2)]
    for store in stores:
        store.keep(0, np.zeros((1, 2, 3, 4), np.uint8))
        store.keep_part(1, np.zeros((1, 2, 3, 4), np.uint8), 2)
    (folder / ".0000-0000002-abcd.tmp.npy").write_bytes(b"torn")
    stores[0].clear()
    assert {path.name[:5] for path in folder.iterdir()} == {"0001-"}
    assert stores[1].has(0)
    stores[1].clear()
    assert not folder.exists()


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 3), SIZES, SIZES, SIZES), st.integers(0, 2**32 - 1))
def test_masks_are_kept_as_bits(shape: tuple[int, ...], seed: int) -> None:
    masks = np.random.default_rng(seed).integers(0, 2, shape, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        store = SlabStore(Path(folder), 0)
        assert not store.has(3)
        store.keep(3, masks, masks=True)
        assert store.has(3)
        assert np.array_equal(store.read(3), masks)
        assert np.array_equal(store.read(3, slice(1, 3)), masks[:, :, 1:3])
        (path,) = Path(folder).iterdir()
        assert path.stat().st_size < masks.size / 8 + masks[..., 0].size + 1000  # whole bytes a row, and what it is


def test_a_damaged_slab_is_told_by_name(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((8, 8, 8), np.float32)
    plan = SamplePlan("a", plan_tiles(image.shape, 2, DIVISOR, RADIUS), 2, 128)
    predict(image, plan, "mask", tmp_path)
    slab = sorted(tmp_path.iterdir())[1]
    slab.write_bytes(slab.read_bytes()[:50])
    with pytest.raises(RunError, match=slab.name):
        predict(image, plan, "mask", tmp_path)


def test_memory_does_not_grow_with_the_volume() -> None:
    """What is held of the image, of batches and of the result is counted, for a volume and one eight times as long."""
    most = []
    for length in (64, 512):
        held, peak = 0, 0
        plan = SamplePlan("a", plan_tiles((length, 16, 16), 2, DIVISOR, RADIUS), 4, 8 * 256)

        class Counted(np.ndarray):  # type: ignore[type-arg]
            """An array that counts its voxels while it lives."""

            def __del__(self) -> None:
                nonlocal held
                if self.base is None:
                    held -= self.size

        def counted(array: Array, kind: type[np.ndarray[Any, Any]] = Counted) -> Array:
            nonlocal held, peak
            made = np.ndarray.__new__(kind, array.shape, array.dtype)
            made[...] = array
            held += array.size
            peak = max(peak, held)
            return made

        compute = network(2)
        predict_sample(
            lambda images, compute=compute, counted=counted: counted(compute(images)),
            Source("a", plan.tiles.shape, lambda a, b, counted=counted: counted(np.zeros((b - a, 16, 16), np.uint8))),
            plan, lambda *_: None, values=Values((0.5, 0.5)), before_batch=lambda _: None,
        )  # fmt: skip
        most.append(peak)
    slab, batch = 8 * 256, 4 * 256 * 3
    assert max(most) <= 5 * slab + 6 * batch
    assert most[1] <= 5 * slab + 6 * batch < 512 * 256


@pytest.mark.parametrize(
    ("dimension", "join", "kind"), [(3, "crop", "float32"), (3, "blend", "mask"), (2, "crop", "mask")]
)
def test_no_more_is_held_than_the_plan_says(
    dimension: int, join: Literal["crop", "blend"], kind: Literal["mask", "float32"], tmp_path: Path
) -> None:
    """All that is allocated is counted, with a network that takes nothing; wide slabs, several tiles in each."""
    shape = (64, 96, 96)
    tiles = plan_tiles(shape, dimension, DIVISOR, 4, (32,) * dimension, join)
    plan = SamplePlan("a", tiles, 2, 2**17)
    asked = p.Predict(model=Path("m"), input=Path("i"), out=Path("o.hdf5"), join=join, probabilities=kind == "float32")
    info: Any = SimpleNamespace(n_labels=2, thresholds=None)
    said = plan.held_bytes(slab_voxel_bytes(asked, info), 3)
    answer = np.zeros((2, *tiles.tile, 3), np.float32)

    def copy(_: int, voxels: Array) -> None:
        (voxels / np.float32(255)).astype(np.float32)

    plan.layers  # noqa: B018
    tracemalloc.start()
    predict_sample(
        lambda _: answer.copy(), Source("a", shape, lambda a, b: np.ones((b - a, *shape[1:]), np.float32)),
        plan, lambda *_: time.sleep(0.01), values=values_of(asked, info), before_batch=lambda _: None,
        store=SlabStore(tmp_path, 0), image_sink=copy,
    )  # fmt: skip
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said / 4 < held < said


# ------------------------------------------------------------------------------------------------ the action


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of volumes, and a volume of 24 slabs."""
    made = tmp_path_factory.mktemp("resume")
    create_model(p.CreateModel(out=made / "m.keras", labels=2, filters=2, depth=2, dimension=3), Context())
    np.save(made / "image.npy", np.random.default_rng(0).integers(0, 256, (190, 20, 24)).astype(np.uint8))
    return made


def parameters(folder: Path, out: Path, **options: Any) -> p.Predict:
    options = {"patch_size": (32, 20, 24), "batch_size": 1, "probabilities": True} | options
    return p.Predict(model=folder / "m.keras", input=folder / "image.npy", out=out, **options)


def predicted(path: Path) -> Array:
    with h5py.File(path) as file:
        return np.stack([file["image"][f"prediction_{index:04}"][()] for index in range(2)])


class Stopper(Reporter):
    def __init__(self, stop: Stop, after: int) -> None:
        self.stop, self.after = stop, after
        self.warnings: list[str] = []

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        if task == "Predicting" and done >= self.after:
            self.stop.request("test")

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_a_run_that_was_stopped_goes_on(folder: Path, tmp_path: Path, kind: str) -> None:
    action = ACTIONS["predict"]
    whole = parameters(folder, tmp_path / "whole.hdf5", probability_type=kind)
    runs.perform(action, whole, Reporter(), Stop(), tmp_path / "runs")
    out = tmp_path / "out.hdf5"
    values = parameters(folder, out, probability_type=kind)
    stop = Stop()
    with pytest.raises(Stopped):
        runs.perform(action, values, Stopper(stop, 3), stop, tmp_path / "runs")
    (run,) = [run for run in runs.find(tmp_path / "runs") if run.state == "stopped"]
    assert not out.exists()
    plan = read_plan(run.folder)
    assert plan.precision in ("float32", "bfloat16")
    assert len(list((run.folder / "slabs").glob("*.npy"))) == 4  # three, and that which was in hand
    again = values.model_copy(update={"resume": True})
    result = runs.perform(action, again, Reporter(), Stop(), tmp_path / "runs")  # --resume finds it
    assert Path(result.facts["run"]) == run.folder
    assert np.array_equal(predicted(out), predicted(tmp_path / "whole.hdf5"))
    assert read_plan(run.folder) == plan
    assert not (run.folder / "slabs").exists()
    kinds = [event["type"] for event in runs.events(run.folder)]
    assert kinds.count("started") == 2
    assert "resumed" in kinds


def test_resume_refuses_other_parameters_and_another_input(folder: Path, tmp_path: Path) -> None:
    action, stop = ACTIONS["predict"], Stop()
    image = tmp_path / "image.npy"
    image.write_bytes((folder / "image.npy").read_bytes())
    values = parameters(folder, tmp_path / "out.hdf5").model_copy(update={"input": image})
    with pytest.raises(Stopped):
        runs.perform(action, values, Stopper(stop, 3), stop, tmp_path / "runs")
    other = values.model_copy(update={"resume": True, "threshold": 0.7})
    with pytest.raises(RunError, match="another threshold"):
        runs.perform(action, other, Reporter(), Stop(), tmp_path / "runs")
    np.save(image, np.zeros((4, 5, 6), np.uint8))
    (run,) = runs.find(tmp_path / "runs")
    with pytest.raises(RunError, match="other samples or shapes"):
        runs.resume(run.folder, Reporter(), Stop())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_that_was_killed_goes_on(folder: Path, tmp_path: Path) -> None:
    words = f"run predict {folder / 'm.keras'} {folder / 'image.npy'} out.hdf5 --patch-size 32,20,24 --probabilities"
    code = f"""
import sys, time
from deepscem_tui.engine.prediction import tiled
from deepscem_tui.cli import main
real = tiled.cut
def slow(*given):
    time.sleep(0.3)
    return real(*given)
tiled.cut = slow
sys.exit(main({words.split()!r}))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 100
    while time.monotonic() < until and len(list(tmp_path.glob("runs/*/slabs/*.npy"))) < 2:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (run,) = runs.find(tmp_path / "runs")
    assert run.state == "dead"
    before = {path.name: path.stat().st_mtime_ns for path in (run.folder / "slabs").glob("*.npy")}
    assert len(before) >= 2
    runs.resume(run.folder, Reporter(), Stop())
    runs.perform(
        ACTIONS["predict"],
        parameters(folder, tmp_path / "whole.hdf5", batch_size=None),
        Reporter(),
        Stop(),
        tmp_path / "w",
    )
    assert np.array_equal(predicted(tmp_path / "out.hdf5"), predicted(tmp_path / "whole.hdf5"))


def test_after_a_lack_of_memory_a_new_plan_has_smaller_tiles(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepscem_tui.engine.prediction import network as prediction_network

    real, refused = prediction_network.TileNetwork.__call__, []

    def call(self: Any, images: Array) -> Array:
        if images.size > 50_000:
            refused.append(images.shape)
            raise prediction_network.OutOfMemory("No memory", "Use less.")
        return real(self, images)

    monkeypatch.setattr(prediction_network.TileNetwork, "__call__", call)
    report = Stopper(Stop(), 10**9)
    values = parameters(folder, tmp_path / "out.hdf5", patch_size=None, batch_size=None, precision="float32")
    result = runs.perform(ACTIONS["predict"], values, report, Stop(), tmp_path / "runs")
    assert refused
    plan = read_plan(Path(result.facts["run"]))
    assert plan.version > 1
    assert any("a new plan goes on with tiles of" in text for text in report.warnings)
    monkeypatch.undo()
    runs.perform(
        ACTIONS["predict"],
        values.model_copy(update={"out": tmp_path / "w.hdf5"}),
        Reporter(),
        Stop(),
        tmp_path / "runs",
    )
    np.testing.assert_allclose(predicted(tmp_path / "out.hdf5"), predicted(tmp_path / "w.hdf5"), atol=1e-5)
    monkeypatch.setattr(
        prediction_network.TileNetwork,
        "__call__",
        lambda *_: (_ for _ in ()).throw(prediction_network.OutOfMemory("No")),
    )
    with pytest.raises(ResourceError, match="No"):
        runs.perform(
            ACTIONS["predict"],
            values.model_copy(update={"out": tmp_path / "n.hdf5"}),
            report,
            Stop(),
            tmp_path / "runs",
        )


def test_the_plan_is_kept_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    plan_file(tmp_path).write_text("{")
    with pytest.raises(RunError, match=r"plan\.json"):
        read_plan(tmp_path)
