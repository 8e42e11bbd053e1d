"""The mean over three planes: that of three direct predictions, after any interruption, by any number of processes."""

from __future__ import annotations

import errno
import tempfile
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tiled import DIVISOR, RADIUS, Array, network
from test_tiled import predict as predict_directly

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.axes import AXES
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import ParameterError, ResourceError, Stopped
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.prediction import orthogonal, shards
from deepscem_tui.engine.prediction.plan import PredictionPlan, SamplePlan, read_plan, turned
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.prediction.tiling import plan_tiles
from deepscem_tui.engine.prediction.values import Values
from deepscem_tui.engine.prediction.work import Predicting, Work, slab_store
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs import preview as run_preview
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.sources.inputs import InputImage
from deepscem_tui.engine.sources.source import Source
from deepscem_tui.engine.stop import Stop

SIZES = st.integers(2, 24)
SHAPES = st.tuples(SIZES, SIZES, SIZES)
PLANES = ("yz", "xz", "xy")


def plan_of(shape: tuple[int, int, int], patch: int | None, join: str, batch: int, slab_voxels: int) -> PredictionPlan:
    patches = None if patch is None else (patch, patch)
    entries = []
    for plane in PLANES:
        tiles = plan_tiles(turned(shape, plane), 2, DIVISOR, RADIUS, patches, join)
        entries.append(SamplePlan("a", tiles, batch, slab_voxels, plane))
    return PredictionPlan(tuple(entries), "float32")


class Result3:
    """Takes the result, and can break off."""

    def __init__(self, shape: tuple[int, int, int], values: Values, image: Array, last: int | None = None) -> None:
        self.array = np.full((2, *shape), 99, values.dtype)
        self._image, self._left = image, last

    def sinks(self, _: InputImage) -> Any:
        def take(first: int, labels: Array, voxels: Array) -> None:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise Crash
            assert labels.dtype == self.array.dtype
            assert np.array_equal(voxels, self._image[first : first + labels.shape[1]])
            self.array[:, first : first + labels.shape[1]] = labels

        return take, lambda *_: None


class Crash(Exception):
    pass


def run_planes(
    image: Array, plan: PredictionPlan, values: Values, home: Path, *, calls: int | None = None,
    output: Any = None, shard: tuple[int, int] | None = None, report: Reporter | None = None,
) -> list[int]:  # fmt: skip
    """Predict; after so many calls of the network the machine fails."""
    made: list[int] = []
    compute = network(2, made)

    def failing(images: Any) -> Any:
        if calls is not None and len(made) >= calls:
            raise Crash
        return compute(images)

    source = Source("a", image.shape, lambda z0, z1: image[z0:z1])  # type: ignore[arg-type]
    given_image = InputImage(source, np.dtype(np.float32), None, "")
    slabs = shards.parts(plan, shard)
    works = [Work(given_image, entry, part) for entry, part in zip(plan.samples, slabs, strict=True)]
    info: Any = SimpleNamespace(label_names=("one", "two"))
    context = Context(report or Reporter())
    Predicting(context, info, failing, values, plan.precision, output, home).predict(works)
    return made


def mean_of_three(image: Array, plan: PredictionPlan) -> Array:
    """Each plane predicted directly, of an array that is turned in memory."""
    total = np.zeros((2, *image.shape), np.float32)
    for entry in reversed(plan.samples):
        axes = AXES[entry.plane]
        said = predict_directly(np.ascontiguousarray(image.transpose(axes)), entry.tiles)
        total += said.transpose(0, *(1 + np.argsort(axes)))
    return total / 3


@settings(max_examples=12)
@given(
    SHAPES, st.none() | st.integers(8, 24), st.sampled_from(["crop", "blend", "none"]), st.integers(1, 4),
    st.integers(1, 4), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_it_is_the_mean_of_three_direct_predictions(
    shape: tuple[int, int, int], patch: int | None, join: str, batch: int, slices: int, seed: int
) -> None:
    image = np.random.default_rng(seed).random(shape, np.float32)
    plan = plan_of(shape, patch, join, batch, slices * max(shape) ** 2)
    expected = mean_of_three(image, plan)
    level = np.float32(np.median(expected))
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("float32", "mask", "uint8"):
            values = Values((float(level),) * 2, kind)
            result = Result3(shape, values, image)
            run_planes(image, plan, values, Path(folder) / kind, output=result)
            if kind == "float32":
                np.testing.assert_allclose(result.array, expected, atol=1e-6)
            elif kind == "mask":
                sure = np.abs(expected - level) > 1e-6
                assert np.array_equal(result.array[sure], (expected > level)[sure])
            else:
                assert np.abs(result.array - expected * 255).max() < 0.51
        assert not list(Path(folder).glob("*/turned/*"))


@settings(max_examples=12)
@given(
    SHAPES, st.sampled_from(["crop", "blend"]), st.integers(1, 3), st.integers(1, 3), st.floats(0, 1), st.booleans(),
    st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_is_resumed_is_bit_for_bit_the_same(
    shape: tuple[int, int, int],
    join: str,
    batch: int,
    slices: int,
    when: float,
    killed: bool,
    while_writing: bool,
    seed: int,
) -> None:
    """It breaks off at any call of the network, or at any slab of the result."""
    image = np.random.default_rng(seed).random(shape, np.float32)
    plan = plan_of(shape, 12, join, batch, slices * max(shape) ** 2)
    values = Values((0.4, 0.6))
    with tempfile.TemporaryDirectory() as folder:
        whole = Result3(shape, values, image)
        n_calls = len(run_planes(image, plan, values, Path(folder) / "whole", output=whole))
        home, cut = Path(folder) / "cut", None if while_writing else int(when * (n_calls - 1))
        n_slabs = len(plan.samples[-1].layers)
        broken = Result3(shape, values, image, int(when * (n_slabs - 1)) if while_writing else None)
        with pytest.raises(Crash):
            run_planes(image, plan, values, home, calls=cut, output=broken)
        if killed:  # what a stop keeps of the slab in hand is not there, and the turned copy still is
            for part in home.glob("slabs/*.part.npz"):
                part.unlink()
            (home / "turned").mkdir(exist_ok=True)
            (home / "turned" / "0000-0000000").write_bytes(b"torn")
        again = Result3(shape, values, image)
        after = run_planes(image, plan, values, home, output=again)
        assert np.array_equal(again.array, whole.array)
        if not killed and join == "crop" and cut is not None:
            assert cut + len(after) == n_calls  # nothing is computed twice
        assert not list(home.glob("turned/*")) or killed


@settings(max_examples=5)
@given(SHAPES, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_shards_of_planes_are_together_the_whole(shape: tuple[int, int, int], of: int, slices: int, seed: int) -> None:
    image = np.random.default_rng(seed).random(shape, np.float32)
    plan = plan_of(shape, 12, "crop", 2, slices * max(shape) ** 2)
    values = Values((0.5, 0.5), "float32")
    with tempfile.TemporaryDirectory() as folder:
        whole = Result3(shape, values, image)
        n_calls = len(run_planes(image, plan, values, Path(folder) / "whole", output=whole))
        home = Path(folder) / "parts"
        computed = sum(len(run_planes(image, plan, values, home, shard=(n, of))) for n in range(of, 0, -1))
        assert n_calls <= computed <= n_calls + of * 3 * 2  # the batches that a cut leaves smaller
        stores = [slab_store(home, index) for index in range(3)]
        mean = orthogonal.Mean([(plan.samples[k], stores[k].read) for k in range(2)], values)  # type: ignore[union-attr]
        for index, layer in enumerate(plan.samples[2].layers):
            assert stores[2] is not None
            made = mean.of(layer.own[0], stores[2].read(index))
            assert np.array_equal(made, whole.array[:, slice(*layer.own)])


def test_memory_does_not_grow_with_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is allocated is counted, plans and paths too: for a volume, and for one of eight times its size."""
    monkeypatch.setattr(orthogonal, "_SLAB_BYTES", 2**13)
    peaks = []
    for side in (32, 64):
        shape = (side, side, side)
        plan = plan_of(shape, 32, "none", 1, 2 * 64 * 64)

        class Made:
            """An image that is not in memory."""

            def __init__(self, shape: tuple[int, int, int]) -> None:
                self.shape = shape

            def __getitem__(self, z: slice) -> Array:
                return np.ones((z.stop - z.start, *self.shape[1:]), np.uint8)

        class Nothing:
            def sinks(self, _: InputImage) -> Any:
                return lambda *_: None, lambda *_: None

        with tempfile.TemporaryDirectory() as folder:
            image: Any = Made(shape)
            tracemalloc.start()
            run_planes(image, plan, Values((0.5, 0.5)), Path(folder), output=Nothing())
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 2 < 64**3 * 4  # the larger image as the network sees it, all of it


def test_progress_adds_up_over_the_planes_and_after_a_resume(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((9, 12, 16), np.float32)
    plan = plan_of((9, 12, 16), None, "crop", 2, 2 * 16 * 16)
    total = sum(entry.tiles.n_tiles for entry in plan.samples)
    assert total == 9 + 12 + 16
    values = Values((0.5, 0.5))
    for calls in (9, None):
        listener = Listener()
        result = Result3((9, 12, 16), values, image)
        if calls is None:
            run_planes(image, plan, values, tmp_path, output=result, report=listener)
            assert listener.progressed[-1] == (total, total)
        else:
            with pytest.raises(Crash):
                run_planes(image, plan, values, tmp_path, calls=calls, output=result, report=listener)
        done = [done for done, _ in listener.progressed]
        assert done == sorted(done)
    last = {facts["sample"]: (facts["done"], facts["total"]) for kind, facts in listener.events if kind == "tiles"}
    assert last == {"a, yz": (16, 16), "a, xz": (12, 12), "a": (9, 9)}
    assert [kind for kind, _ in listener.events].count("diagnostics") == 1


class Listener(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.progressed: list[tuple[float, float]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def message(self, text: str) -> None:
        self.said.append(text)

    def warning(self, text: str) -> None:
        self.said.append(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        if task == "Predicting":
            self.progressed.append((done, total))

    def event(self, kind: str, **facts: Any) -> None:
        self.events.append((kind, facts))


# ------------------------------------------------------------------------------------------------ the action


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of two labels, and a volume as a file and as a data set with its voxel size."""
    made = tmp_path_factory.mktemp("orthogonal")
    create_model(p.CreateModel(out=made / "m.keras", labels=2, filters=2, depth=2), Context())
    create_model(p.CreateModel(out=made / "3d.keras", labels=1, filters=2, depth=2, dimension=3), Context())
    voxels = np.random.default_rng(0).integers(0, 256, (10, 14, 12)).astype(np.uint8)
    voxels.flat[:2] = 0, 255
    np.save(made / "image.npy", voxels)
    tifffile.imwrite(made / "flat.tif", voxels[0])
    with new_dataset(made / "set.hdf5", "set", 0) as dataset:
        for name, size in (("cube", (8.0, 8.0, 8.2)), ("thick", (40.0, 8.0, 8.0))):
            about = {"voxel_size": size, "voxel_unit": "nm"}
            sample = dataset.add_sample(name, voxels.shape, {"image": np.float32}, about)
            sample["image"][0 : len(voxels)] = voxels / np.float32(255)
    return made


def predicted(path: Path, sample: str = "image") -> Array:
    with h5py.File(path) as file:
        return np.stack([file[sample][f"prediction_{index:04}"][()] for index in range(2)])


def asked(folder: Path, out: Path, **options: Any) -> p.Predict:
    values = {"model": folder / "m.keras", "input": folder / "image.npy", "out": out, "ortho": True}
    parameters = build(ACTIONS["predict"], values | {"precision": "float32"} | options)
    assert isinstance(parameters, p.Predict)
    return parameters


def run(folder: Path, out: Path, report: Reporter | None = None, **options: Any) -> Result:
    return predict(asked(folder, out, **options), Context(report or Reporter()))


@pytest.mark.parametrize("options", [{}, {"tta": True, "join": "blend", "patch_size": (8, 8)}], ids=str)
def test_the_action_gives_the_mean_over_turned_files(folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    voxels = np.load(folder / "image.npy")
    total = np.zeros((2, *voxels.shape), np.float32)
    for plane, axes in AXES.items():
        np.save(tmp_path / "turned.npy", voxels.transpose(axes))
        single = {"input": tmp_path / "turned.npy", "ortho": False, "probabilities": True} | options
        run(folder, tmp_path / f"{plane}.hdf5", **single)
        total += predicted(tmp_path / f"{plane}.hdf5", "turned").transpose(0, *(1 + np.argsort(axes)))
    listener = Listener()
    result = run(folder, tmp_path / "p.hdf5", listener, probabilities=True, **options)
    np.testing.assert_allclose(predicted(tmp_path / "p.hdf5"), total / 3, atol=1e-5)
    (row,) = result.tables[0].as_dicts()
    assert row["shape"] == [10, 14, 12]
    assert row["tiles"] == sum(plan["tiles"] for plan in result.facts["plans"])
    assert [plan["plane"] for plan in result.facts["plans"]] == list(PLANES)
    assert any("not known" in text for text in listener.said)
    assert any("free" in text for text in listener.said)
    level = float(np.median(predicted(tmp_path / "p.hdf5")))
    masks = run(folder, tmp_path / "m.hdf5", threshold=level, **options)
    expected = predicted(tmp_path / "p.hdf5") > np.float32(level)
    assert np.array_equal(predicted(tmp_path / "m.hdf5"), expected)
    shares = [row["foreground"] for row in masks.tables[1].as_dicts()]
    assert shares == pytest.approx(expected.mean(axis=(1, 2, 3)), abs=1e-6)


def test_half_precision_keeps_half_of_the_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = set()
    real = orthogonal.Mean.of

    def of(self: Any, first: int, labels: Array) -> Array:
        kinds.add(labels.dtype.name)
        return real(self, first, labels)

    monkeypatch.setattr(orthogonal.Mean, "of", of)
    run(folder, tmp_path / "exact.hdf5", probabilities=True)
    run(folder, tmp_path / "half.hdf5", probabilities=True, precision="bfloat16")
    assert kinds == {"float32", "float16"}
    np.testing.assert_allclose(predicted(tmp_path / "half.hdf5"), predicted(tmp_path / "exact.hdf5"), atol=0.05)


def test_a_run_that_was_stopped_goes_on_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    stop = Stop()

    class Stopper(Listener):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            super().progress(task, done, total, unit, note)
            if task == "Predicting" and done >= 20:  # in the second plane
                stop.request("test")

    action, values = ACTIONS["predict"], asked(folder, tmp_path / "out.hdf5", batch_size=1)
    with pytest.raises(Stopped):
        runs.perform(action, values, Stopper(), stop, tmp_path / "runs")
    (stopped,) = runs.find(tmp_path / "runs")
    assert not list(stopped.folder.glob("turned/*"))
    assert [entry.plane for entry in read_plan(stopped.folder).samples] == list(PLANES)
    runs.resume(stopped.folder, Reporter(), Stop())
    run(folder, tmp_path / "whole.hdf5", batch_size=1)
    assert np.array_equal(predicted(tmp_path / "out.hdf5"), predicted(tmp_path / "whole.hdf5"))
    assert not (stopped.folder / "slabs").exists()
    previews = {run_preview.read(path).axis for path in (stopped.folder / "preview").glob("*.npz")}
    assert previews == {"x", "y", "z"}


def test_merged_parts_are_the_file_that_one_process_makes(folder: Path, tmp_path: Path) -> None:
    options = {"input": folder / "set.hdf5", "sample": ("cube",), "probabilities": True, "probability_type": "uint8"}
    run(folder, tmp_path / "whole.hdf5", **options)
    out = tmp_path / "out.hdf5"
    for number in (2, 1, 3):
        run(folder, out, shard=f"{number}/3", **options)
    parameters = build(ACTIONS["merge"], {"out": out, "shards": (str(shards.shards_folder(out)),)})
    assert isinstance(parameters, p.Merge)
    shards.merge(parameters, Context())
    assert np.array_equal(predicted(out, "cube"), predicted(tmp_path / "whole.hdf5", "cube"))


def test_a_disk_that_is_full_is_told_by_the_name_of_the_copy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(orthogonal, "_copy", full)
    with pytest.raises(ResourceError, match=r"turned.*No space left"):
        run(folder, tmp_path / "out.hdf5")
    assert not list(tmp_path.iterdir())


def test_a_dry_run_counts_the_planes_and_the_disk(folder: Path, tmp_path: Path) -> None:
    result = run(folder, tmp_path / "out.hdf5", dry_run=True)
    voxels = 10 * 14 * 12
    planes, copy, masks, image = 3 * 2 * 4, 1, 2, 2  # bytes a voxel: three of two labels; the copy; the result
    assert result.facts["disk_bytes"] == voxels * (planes + copy + masks + image)
    assert [row["sample"] for row in result.tables[0].as_dicts()] == ["image, yz", "image, xz", "image"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "3d.keras"}, "for 2D networks"),
        ({"input": "flat.tif"}, "single slice of 1 x 14 x 12"),
        ({"input": "set.hdf5"}, "'thick' have 40 x 8 x 8 nm"),
        ({"join": "deepscem"}, "repeat DeepSCEM"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_has_no_three_like_planes_is_refused(
    folder: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    options = {name: folder / value if name != "join" else value for name, value in options.items()}
    with pytest.raises(ParameterError, match=words):
        run(folder, tmp_path / "out.hdf5", **options)
    assert not list(tmp_path.iterdir())
