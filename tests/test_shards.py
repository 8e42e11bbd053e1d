"""Parts of a prediction, computed by several processes, are together the whole; a missing one is told."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_tiled import DIVISOR, RADIUS, Array, network

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.errors import ParameterError, RunError
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.prediction import shards
from deepscem_tui.engine.prediction.plan import PredictionPlan, SamplePlan
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.prediction.slabs import SlabStore
from deepscem_tui.engine.prediction.tiled import predict_sample
from deepscem_tui.engine.prediction.tiling import plan_tiles
from deepscem_tui.engine.prediction.values import Values
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.sources.source import Source

SIZES = st.integers(1, 40)


@settings(max_examples=30, deadline=None)
@example((25, 1, 1), 3, "blend", 13, 3, 0)  # three tiles hold the same slices
@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.sampled_from([2, 3]),
    st.sampled_from(["crop", "blend", "none"]),
    st.integers(8, 24),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
def test_shards_are_together_the_whole_and_none_computes_anothers(
    shape: tuple[int, int, int], dimension: int, join: str, patch: int, of: int, seed: int
) -> None:
    image = np.random.default_rng(seed).random(shape, np.float32)
    tiles = plan_tiles(shape, dimension, DIVISOR, RADIUS, (patch,) * dimension, join)
    plan = SamplePlan("a", tiles, 3, 2 * shape[1] * shape[2])
    source = Source("a", shape, lambda z0, z1: image[z0:z1])

    def run(store: SlabStore | None, only: range | None) -> tuple[Array, list[int]]:
        result, slabs = np.full((2, *shape), 9, np.float32), []

        def sink(first: int, labels: Array, _: Array) -> None:
            slabs.append(first)
            result[:, first : first + labels.shape[1]] = labels

        predict_sample(
            network(dimension), source, plan, sink, values=Values((0.5, 0.5), "float32"),
            before_batch=lambda _: None, store=store, only=only,
        )  # fmt: skip
        return result, slabs

    whole, firsts = run(None, None)
    with tempfile.TemporaryDirectory() as folder:
        store = SlabStore(Path(folder), 0)
        mine = [shards.parts(PredictionPlan((plan,), "float32"), (number, of))[0] for number in range(1, of + 1)]
        assert [index for part in mine for index in part] == list(range(len(plan.layers)))
        made = [first for part in reversed(mine) if part for first in run(store, part)[1]]
        assert sorted(made) == firsts
        joined = np.concatenate([store.read(index) for index in range(len(plan.layers))], axis=1)
    assert np.array_equal(joined, whole)


def test_parts_of_several_samples() -> None:
    samples = tuple(
        SamplePlan(name, plan_tiles((depth, 8, 8), 2, 4, 2), 1, 64) for name, depth in (("a", 3), ("b", 1), ("c", 4))
    )
    plan = PredictionPlan(samples, "float32")
    assert shards.parts(plan, None) == [range(0, 3), range(0, 1), range(0, 4)]
    assert [list(map(list, shards.parts(plan, (number, 3)))) for number in (1, 2, 3)] == [
        [[0, 1], [], []],
        [[2], [0], [0]],
        [[], [], [1, 2, 3]],
    ]


# ------------------------------------------------------------------------------------------------ the actions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shards")
    create_model(p.CreateModel(out=made / "m.keras", labels=2, filters=2, depth=2, dimension=3), Context())
    random = np.random.default_rng(0)
    with new_dataset(made / "set.hdf5", "set", 0) as dataset:
        for name, shape in {"a": (60, 12, 16), "β 2": (30, 9, 9)}.items():
            sample = dataset.add_sample(name, shape, {"image": np.float32})
            sample["image"][0 : shape[0]] = random.random(shape, np.float32)
    np.save(made / "image.npy", random.integers(0, 256, (60, 12, 16)).astype(np.uint8))
    return made


def run(folder: Path, out: Path, shard: str | None = None, **options: Any) -> Result:
    values = {"model": folder / "m.keras", "input": folder / "set.hdf5", "out": out, "shard": shard}
    values |= {"patch_size": "24,12,16", "precision": "float32"} | options
    parameters = build(ACTIONS["predict"], values)
    assert isinstance(parameters, p.Predict)
    return predict(parameters, Context())


def merged(out: Path, *folders: Path, **options: Any) -> Result:
    values = {"out": out, "shards": tuple(map(str, folders)), **options}
    parameters = build(ACTIONS["merge"], values)
    assert isinstance(parameters, p.Merge)
    return shards.merge(parameters, Context())


@pytest.mark.parametrize(
    "options", [{}, {"probabilities": True, "probability_type": "uint8", "join": "blend"}], ids=str
)
def test_merged_shards_are_the_file_that_one_process_makes(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    run(folder, tmp_path / "whole.hdf5", **options)
    out = tmp_path / "out.hdf5"
    for number in (3, 1):
        result = run(folder, out, f"{number}/3", **options)
        assert "deepscem-tui run merge" in result.summary
    assert not out.exists()
    parts = shards.shards_folder(out)
    with pytest.raises(RunError, match=r"Parts are missing.*slices \d+:\d+ of '"):
        merged(out, parts)
    assert not out.exists()
    run(folder, out, "2/3", **options)
    assert "Would merge" in merged(out, parts, dry_run=True).summary
    merged(out, parts)
    with h5py.File(out) as file, h5py.File(tmp_path / "whole.hdf5") as expected:
        assert dict(file.attrs).keys() == dict(expected.attrs).keys()
        for sample in expected:
            assert dict(file[sample].attrs).keys() == dict(expected[sample].attrs).keys()
            for member in expected[sample]:
                assert np.array_equal(file[sample][member], expected[sample][member])
                assert dict(file[sample][member].attrs) == dict(expected[sample][member].attrs)


def test_shards_of_an_image_on_two_disks(folder: Path, tmp_path: Path) -> None:
    image = {"input": folder / "image.npy"}
    run(folder, tmp_path / "whole.tif", **image)
    one, other, out = tmp_path / "one" / "out.tif", tmp_path / "other" / "out.tif", tmp_path / "out.tif"
    run(folder, one, "1/2", **image)
    run(folder, other, "2/2", **image)
    folders = [shards.shards_folder(path) for path in (one, other)]
    with pytest.raises(RunError, match="parts of different predictions"):
        merged(out, *folders)  # for two results
    asked = folders[0] / "predict.json"
    (folders[1] / "predict.json").write_bytes(asked.read_bytes())  # as if each node had called its own disk alike
    merged(out, *folders)
    for name in ("out_label_0000.tif", "out_label_0001.tif"):
        assert np.array_equal(
            tifffile.imread(tmp_path / name), tifffile.imread(tmp_path / name.replace("out", "whole"))
        )


def test_a_shard_that_is_there_is_not_computed_again(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out.hdf5", "1/2")
    slabs = tmp_path / "out.hdf5.shards" / "slabs"
    before = {path: path.stat().st_mtime_ns for path in slabs.iterdir()}
    run(folder, tmp_path / "out.hdf5", "1/2")
    assert {path: path.stat().st_mtime_ns for path in slabs.iterdir()} == before


def test_parts_of_a_model_or_an_image_that_has_changed_are_not_used(folder: Path, tmp_path: Path) -> None:
    model, image, out = tmp_path / "m.keras", tmp_path / "image.npy", tmp_path / "out.tif"
    model.write_bytes((folder / "m.keras").read_bytes())
    image.write_bytes((folder / "image.npy").read_bytes())
    given = {"model": model, "input": image}
    run(folder, out, "1/2", **given)
    kept = model.read_bytes()
    create_model(p.CreateModel(out=model, labels=2, filters=2, depth=2, dimension=3, seed=1, overwrite=True), Context())
    with pytest.raises(RunError, match="before the model changed"):
        run(folder, out, "2/2", **given)
    model.write_bytes(kept)
    assert "Computed part 2" in run(folder, out, "2/2", **given).summary
    assert "Part 2 of 2 was computed already" in run(folder, out, "2/2", **given).summary
    np.save(image, np.load(image)[::-1])
    with pytest.raises(RunError, match="before the image 'image' changed"):
        merged(out, shards.shards_folder(out))
    assert not list(tmp_path.glob("out*.tif"))


def test_the_room_for_a_part_is_that_of_its_own_slabs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "deepscem_tui.engine.prediction.outlook.check_room", lambda needed: asked.append(sum(needed.values()))
    )
    for _ in range(2):
        for number in (1, 2):
            run(folder, tmp_path / "out.tif", f"{number}/2", input=folder / "image.npy", probabilities=True)
    assert min(asked[:2]) > 0
    assert sum(asked[:2]) == 2 * 60 * 12 * 16 * 4
    assert asked[2:] == [0, 0]


def test_shards_that_do_not_belong_together_are_refused(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out.hdf5", "1/2")
    with pytest.raises(RunError, match="another threshold"):
        run(folder, tmp_path / "out.hdf5", "2/2", threshold=0.3)
    with pytest.raises(RunError, match="holds no part"):
        merged(tmp_path / "new.hdf5", tmp_path)
    for wrong in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(ParameterError, match="I/N"):
            run(folder, tmp_path / "out.hdf5", wrong)


def test_all_shards_share_the_plan_of_the_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with less memory would lay other tiles."""
    first = run(folder, tmp_path / "out.hdf5", "1/2", patch_size=None)
    monkeypatch.setattr("deepscem_tui.engine.prediction.plan._MOST_VOXELS", 2000)
    second = run(folder, tmp_path / "out.hdf5", "2/2", patch_size=None)
    assert second.facts["plans"] == first.facts["plans"]
