"""Voxel sizes: given, kept, compared with a model's, and predictions at the model's size brought back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from test_dataset_actions import do
from test_prediction import Listener, predictions, run
from test_prediction import models as models  # the fixture

from deepscem_tui.engine.actions import ACTIONS, build, command_line
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.errors import ParameterError, Stopped
from deepscem_tui.engine.models.files import load_model, read_info, save_model
from deepscem_tui.engine.prediction.rescaling import Resampling
from deepscem_tui.engine.sources.voxel_sizes import common_size, say_other_sizes, times_as_long
from deepscem_tui.engine.stop import Stop

# ------------------------------------------------------------------------------------------------ given and kept


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("30,8,8 nm", (30.0, 8.0, 8.0, "nm"), "30,8,8 nm"),
        ("8nm", (8.0, 8.0, 8.0, "nm"), "8,8,8 nm"),
        ("0.03 x 0.008 x 0.008 um", (0.03, 0.008, 0.008, "µm"), "0.03,0.008,0.008 µm"),
    ],
)
def test_sizes_are_given_in_one_text(text: str, expected: tuple[Any, ...], shown: str) -> None:
    action = ACTIONS["set-voxel-size"]
    parameters = build(action, {"file": "a", "voxel_size": text})
    assert parameters.voxel_size == expected  # type: ignore[attr-defined]
    assert shown in command_line(action, parameters)


@pytest.mark.parametrize("text", ["8", "8,8 nm", "1,2,3,4 nm", "-8 nm", "0 nm", "8 parsec", "nm", "8..1 nm"])
def test_sizes_that_cannot_be(text: str) -> None:
    with pytest.raises(ParameterError):
        build(ACTIONS["set-voxel-size"], {"file": "a", "voxel_size": text})


def make(path: Path, *names: str, size: tuple[float, float, float] | None = None, unit: str = "nm") -> Path:
    with new_dataset(path, path.stem, 1) as dataset:
        for seed, name in enumerate(names):
            about = {"voxel_size": size, "voxel_unit": unit if size else None}
            sample = dataset.add_sample(name, (3, 24, 32), {"image": np.float32, "label_0000": np.uint8}, about)
            sample["image"][0:3] = np.random.default_rng(seed).random((3, 24, 32), np.float32)
    return path


def sizes(path: Path) -> dict[str, Any]:
    with open_dataset(path) as dataset:
        return {name: (sample.voxel_size, sample.voxel_unit) for name, sample in dataset.samples.items()}


def test_set_voxel_size(tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", "a", "b", size=(9, 9, 9))
    values = {"file": file, "voxel_size": "30,8,8 nm", "sample": ["a"]}
    before = file.read_bytes()
    dry = do("set-voxel-size", {**values, "dry_run": True})
    assert dry.tables[0].rows == [("a", "9 x 9 x 9 nm", "30 x 8 x 8 nm")]
    assert file.read_bytes() == before
    do("set-voxel-size", values)
    assert sizes(file) == {"a": ((30, 8, 8), "nm"), "b": ((9, 9, 9), "nm")}
    do("set-voxel-size", {"file": file, "voxel_size": "0.01 µm"})
    assert set(sizes(file).values()) == {((0.01, 0.01, 0.01), "µm")}


def test_given_when_a_sample_is_added(tmp_path: Path) -> None:
    do("create-dataset", {"file": tmp_path / "set.hdf5", "name": "x", "n_labels": 0})
    tifffile.imwrite(
        tmp_path / "image.tif", np.zeros((4, 5, 6), np.uint8), imagej=True, resolution=(0.25, 0.25),
        metadata={"axes": "ZYX", "spacing": 8.0, "unit": "nm"},
    )  # fmt: skip
    for name, given in (("file", {}), ("given", {"voxel_size": "0.05,0.01,0.01 um"})):
        do("add-sample", {"file": tmp_path / "set.hdf5", "name": name, "image": tmp_path / "image.tif", **given})
    assert sizes(tmp_path / "set.hdf5") == {"file": ((8, 4, 4), "nm"), "given": ((0.05, 0.01, 0.01), "µm")}


def test_sizes_are_compared_across_units() -> None:
    assert times_as_long((30, 8, 8), "nm", (0.03, 0.004, 0.008), "µm") == pytest.approx((1, 2, 1))
    assert times_as_long((2, 1, 1), "", (1, 1, 1), "") == (2, 1, 1)
    assert times_as_long((1, 1, 1), "nm", (1, 1, 1), "") is None
    assert times_as_long(None, "", (1, 1, 1), "nm") is None


@pytest.mark.parametrize(
    ("network", "sizes", "common"),
    [
        ("3d", [(30, 8, 8), (30, 8.00001, 8), None], ((30, 8.000005, 8), "nm")),
        ("3d", [(30, 8, 8), (31, 8.2, 8.2), (30, 8, 8)], ((30, 8, 8), "nm")),
        ("3d", [(30, 8, 8), (60, 8, 8)], (None, "")),
        ("2d", [(30, 8, 8), (60, 8, 8)], ((45, 8, 8), "nm")),
        ("2d", [(30, 8, 8), (30, 16, 16)], (None, "")),
        ("2d", [None, None], (None, "")),
    ],
)
def test_samples_have_one_size_if_they_differ_little(
    network: str, sizes: list[Any], common: Any, models: dict[str, Path], tmp_path: Path
) -> None:
    """What is not known of some counts for nothing, and for a network of slices neither does their distance."""
    info, samples = read_info(models[network]), []
    for number, size in enumerate(sizes):
        with open_dataset(make(tmp_path / f"{number}.hdf5", "a", size=size)) as dataset:
            samples.append(dataset.sample("a"))
    found, unit = common_size(samples, info)
    assert (None if found is None else pytest.approx(found), unit) == common
    trained = replace(info, voxel_size=(30.0, 4.0, 4.0), voxel_unit="nm", training={})
    known = any(sizes)
    for model, told in ((info, known and found is None), (trained, known)):
        heard = Listener()
        say_other_sizes(samples, model, heard)
        assert len(heard.warnings) == told
        assert not told or "things have another size" in heard.warnings[0]


# ------------------------------------------------------------------------------------------------ resampling


def resampled(voxels: np.ndarray, wanted: Shape, steps: int = 2) -> np.ndarray:
    """All slices, given some at a time."""
    resampling = Resampling(voxels.shape[1:], wanted)
    made: list[np.ndarray] = []
    for z in range(0, voxels.shape[1], steps):
        for number, slice_ in resampling.feed(voxels[:, z : z + steps]):
            assert number == len(made)
            made.append(slice_)
    return np.stack(made, axis=1)


def test_the_same_size_is_the_same() -> None:
    voxels = np.random.default_rng(0).random((2, 5, 6, 7), np.float32)
    assert np.array_equal(resampled(voxels, (5, 6, 7)), voxels)


@pytest.mark.parametrize("wanted", [(7, 6, 5), (3, 6, 20), (20, 13, 5), (11, 12, 10), (1, 1, 1)])
def test_what_is_even_stays_so_and_a_slope_one(wanted: Shape) -> None:
    shape = (7, 6, 10)
    assert np.allclose(resampled(np.full((1, *shape), 0.3, np.float32), wanted), 0.3)
    for axis in range(3):
        places = [((np.arange(n) + 0.5) / n) for n in (shape[axis], wanted[axis])]
        slope, expected = (
            np.broadcast_to(place.reshape([-1 if a == axis else 1 for a in range(3)]), size)
            for place, size in zip(places, (shape, wanted), strict=True)
        )
        made = resampled(slope[None].astype(np.float32), wanted)[0]
        inside = [slice(None)] * 3
        margin = -(-wanted[axis] // shape[axis])  # where there is nothing beyond to go by
        inside[axis] = slice(margin, -margin) if wanted[axis] > shape[axis] else slice(None)
        in_parts = wanted[axis] < shape[axis] and shape[axis] % wanted[axis]  # parts of voxels are means, too
        assert np.allclose(made[tuple(inside)], expected[tuple(inside)], atol=0.01 if in_parts else 1e-5)


def test_fewer_rows_are_means_where_there_are_more_columns() -> None:
    rows = np.tile(np.array([1, 0, 0, 1], np.float32), 2)
    voxels = np.broadcast_to(rows[:, None], (1, 1, 8, 5))
    assert np.allclose(resampled(voxels, (1, 2, 9)), 0.5, atol=1e-6)


def test_fewer_voxels_are_means_and_any_part_is_that_of_the_whole() -> None:
    voxels = np.random.default_rng(0).random((1, 8, 6, 10), np.float32)
    means = voxels.reshape(1, 4, 2, 3, 2, 5, 2).mean(axis=(2, 4, 6))
    assert np.allclose(resampled(voxels, (4, 3, 5)), means, atol=1e-6)
    for wanted in ((13, 6, 10), (5, 6, 10)):
        whole = resampled(voxels, wanted)
        part = Resampling((8, 6, 10), wanted, 2, 4)
        start, stop = part.needs
        found = dict(part.feed(voxels[:, start:stop]))
        assert sorted(found) == [2, 3]
        assert np.allclose(np.stack([found[2], found[3]], axis=1), whole[:, 2:4])


# ------------------------------------------------------------------------------------------------ prediction


def sized(
    models: dict[str, Path],
    name: str,
    folder: Path,
    size: tuple[float, float, float] | None,
    normalization: str = "min-max",
) -> Path:
    """A model that learned from voxels of a size."""
    network, info = load_model(models[name])
    path = folder / "model.keras"
    save_model(
        network,
        replace(info, voxel_size=size, voxel_unit="nm" if size else "", normalization=normalization),
        path,
        overwrite=True,
    )
    return path


@pytest.mark.parametrize(
    ("model_size", "size", "said"),
    [
        ((30, 8, 8), (30, 8.5, 8.5), []),
        ((30, 8, 8), (60, 8, 8), []),
        ((30, 8, 8), (30, 4, 4), ["Voxels of 'a' are 30 x 4 x 4 nm, those that the model learned from 30 x 8 x 8 nm"]),
        ((30, 8, 8), None, ["Voxel sizes cannot be compared: that of 'a' is not known, that of the model 30 x 8 x 8"]),
        (None, (9, 9, 9), ["Voxel sizes cannot be compared: that of 'a' is 9 x 9 x 9 nm, that of the model not known"]),
        (None, None, []),
    ],
)
def test_other_sizes_are_told(
    model_size: Any,
    size: Any,
    said: list[str],
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    file, model = make(tmp_path / "set.hdf5", "a", size=size), sized(models, "2d", tmp_path, model_size)
    for dry_run in (True, False):
        heard = Listener()
        run(model, file, tmp_path / "out.hdf5", Context(heard), dry_run=dry_run)
        found = [text for text in (*heard.warnings, *heard.messages) if "oxel sizes" in text or "oxels of 'a'" in text]
        assert [text[: len(start)] for text, start in zip(found, said, strict=True)] == said
    if None in (model_size, size):
        with pytest.raises(ParameterError, match="cannot be compared"):
            run(model, file, tmp_path / "other.hdf5", rescale=True)


@pytest.mark.parametrize("name", ["2d-two", "3d"])
@pytest.mark.parametrize("out", ["out.hdf5", "out.tif"])
def test_rescaled(name: str, out: str, models: dict[str, Path], tmp_path: Path) -> None:
    """An image of twice as many voxels is, for the model, the one that it was made of; slice by slice in 2D."""
    flat = name == "2d-two"
    n_labels, depth = (2, 10) if flat else (1, 5)
    model = sized(models, name, tmp_path, (20, 8, 8))
    voxels = np.random.default_rng(1).random((5, 20, 24), np.float32)
    fine = voxels.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    for path, image, size in (("plain", voxels, (20, 8, 8)), ("fine", fine, (10, 4, 4))):
        with new_dataset(tmp_path / f"{path}.hdf5", path, 0) as dataset:
            about = {"voxel_size": size, "voxel_unit": "nm"}
            dataset.add_sample("s", image.shape, {"image": np.float32}, about)["image"][0 : len(image)] = image
    patch = (16, 16) if name == "2d-two" else (4, 8, 8)
    run(model, tmp_path / "plain.hdf5", tmp_path / "plain-out.hdf5", probabilities=True, patch_size=patch)
    said = predictions(tmp_path / "plain-out.hdf5", "s", n_labels)
    expected = resampled(said.repeat(2, axis=1) if flat else said, fine.shape)
    heard = Listener()
    result = run(
        model, tmp_path / "fine.hdf5", tmp_path / out, Context(heard), rescale=True, threshold=0.5,
        patch_size=patch,
    )  # fmt: skip
    assert f"'s' is predicted as {depth} x 20 x 24 voxels of the model's size, not 10 x 40 x 48" in heard.messages
    if out.endswith(".tif"):
        files = [tmp_path / out] if n_labels == 1 else [tmp_path / f"out_label_000{n}.tif" for n in range(2)]
        masks = np.stack([tifffile.imread(file) > 0 for file in files])
    else:
        masks = predictions(tmp_path / out, "s", n_labels).astype(bool)
        with open_dataset(tmp_path / out) as dataset:
            assert dataset.sample("s").voxel_size == (10, 4, 4)
            assert np.array_equal(dataset.sample("s").image, fine)
    sure = np.abs(expected - 0.5) > 1e-4
    assert np.array_equal(masks[sure], (expected > 0.5)[sure])
    shares = {row["label"]: row["foreground"] for row in result.tables[1].as_dicts()}
    assert list(shares.values()) == pytest.approx(list(masks.mean(axis=(1, 2, 3))), abs=1e-5)


@pytest.mark.parametrize("normalization", ["min-max", "percentiles, each slice"])
def test_rescaled_image_file_and_probabilities(normalization: str, models: dict[str, Path], tmp_path: Path) -> None:
    model = sized(models, "2d", tmp_path, (8, 8, 8), normalization)
    voxels = np.random.default_rng(2).integers(10, 250, (6, 17, 23)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "image.tif", voxels, imagej=True, resolution=(0.2, 0.2),
        metadata={"axes": "ZYX", "spacing": 20.0, "unit": "nm"},
    )  # fmt: skip
    run(model, tmp_path / "image.tif", tmp_path / "out.hdf5", rescale=True, probabilities=True)
    with open_dataset(tmp_path / "out.hdf5") as dataset:
        sample = dataset.sample("image")
        assert (sample.shape, sample.voxel_size) == (voxels.shape, (20, 5, 5))
        low, high = np.percentile(voxels.astype(float), (0.5, 99.5), axis=(1, 2), keepdims=True, method="lower")
        if normalization == "min-max":
            low, high = voxels.min(), voxels.max()
        grey = np.clip((voxels - low) / (high - low), 0, 1)
        assert np.allclose(sample.image, grey, atol=0.02 if low.size > 1 else 1e-3)
        assert 0 <= np.min(sample.predictions[0]) < np.max(sample.predictions[0]) <= 1


def test_the_distance_of_slices_counts_where_a_model_sees_several(models: dict[str, Path], tmp_path: Path) -> None:
    file = make(tmp_path / "set.hdf5", "a", size=(16, 8, 8))
    for name, warned in (("2d", False), ("3d", True)):
        heard, model = Listener(), sized(models, name, tmp_path, (8, 8, 8))
        run(model, file, tmp_path / "out.hdf5", Context(heard), dry_run=True)
        assert any("Voxels of 'a' are 16 x 8 x 8 nm" in text for text in heard.warnings) == warned


def test_rescaling_is_gone_on_with(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a prediction that was stopped has kept is used again, and the result is the same."""
    monkeypatch.setattr("deepscem_tui.engine.prediction.plan.SLAB_VOXELS", 2 * 12 * 16)
    model, file = sized(models, "2d", tmp_path, (10, 8, 8)), make(tmp_path / "set.hdf5", "a", size=(30, 4, 4))
    values = {"rescale": True, "probabilities": True, "patch_size": (12, 16)}
    run(model, file, tmp_path / "at-once.hdf5", **values)
    folder, stop = tmp_path / "run", Stop()
    folder.mkdir()

    class Stops(Listener):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            if done > total / 2:
                stop.request("enough")

    with pytest.raises(Stopped):
        run(model, file, tmp_path / "out.hdf5", Context(Stops(), stop, folder), **values)
    assert not (tmp_path / "out.hdf5").exists()
    assert list((folder / "slabs").glob("*.npy"))
    heard = Listener()
    run(model, file, tmp_path / "out.hdf5", Context(heard, folder=folder), **values)
    assert next(facts["resumed"] for kind, facts in heard.events if kind == "started")
    one, other = (predictions(tmp_path / name, "a", 1) for name in ("at-once.hdf5", "out.hdf5"))
    assert one.shape == (1, 3, 24, 32)
    assert np.array_equal(one, other)


@pytest.mark.parametrize("options", [{"ortho": True}, {"shard": "1/2"}])
def test_rescaling_refuses(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="is not possible with"):
        build(ACTIONS["predict"], {"model": "m", "input": "i.tif", "out": "o.hdf5", "rescale": True, **options})
