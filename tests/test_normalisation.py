"""Grey values become 0 to 1 by a rule that data sets and models remember, and that prediction follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from test_training import make_model

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.errors import ParameterError, VolumeError
from deepscem_tui.engine.formats.volumes import open_volume
from deepscem_tui.engine.models.files import read_info
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.sources.normalisation import (
    MIN_MAX,
    Grey,
    Normalisation,
    _Sampled,
    find_greys,
    normalisation_in,
    normalisation_of,
)
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.training.train import train
from tests.test_ignoring import Heard, do

SHAPE = (6, 32, 40)
RULES = ("min-max", "percentiles", "mean-deviation")


def voxels(dtype: str) -> np.ndarray:
    """Noise that is brighter from slice to slice, and dust."""
    values = np.random.default_rng(0).normal(100, 12, SHAPE) + 10 * np.arange(SHAPE[0])[:, None, None]
    values[0, 0, :3] = 0, 255, 250
    values *= {"uint16": 200, "int16": 40}.get(dtype, 1)
    return (values - (4000 if dtype == "int16" else 0)).astype(dtype)


def expected(values: np.ndarray, rule: str) -> np.ndarray:
    """What a volume, or a slice, becomes."""
    values = values.astype(np.float64)
    if rule == "min-max":
        low, high = values.min(), values.max()
    elif rule == "percentiles":
        low, high = np.percentile(values, (0.5, 99.5), method="inverted_cdf")
    else:
        low, high = values.mean() - 3 * values.std(), values.mean() + 3 * values.std()
    return np.clip((values - low) / (high - low), 0, 1)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
@pytest.mark.parametrize("per_slice", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_a_data_set_is_normalised_by_the_rule(tmp_path: Path, rule: str, per_slice: bool, dtype: str) -> None:
    image, file = voxels(dtype), tmp_path / "d.hdf5"
    tifffile.imwrite(tmp_path / "image.tif", image)
    do("create-dataset", {"file": file, "name": "d", "n_labels": 0})
    values = {"file": file, "name": "s", "image": tmp_path / "image.tif", "normalization": rule, "per_slice": per_slice}
    do("add-sample", values)
    wanted = np.stack([expected(slice_, rule) for slice_ in image]) if per_slice else expected(image, rule)
    with open_dataset(file) as dataset:
        sample = dataset.sample("s")
        stored = np.asarray(sample.image, np.float32)
        assert normalisation_in(sample) == rule + ", each slice" * per_slice
        assert sample.image.dtype == (np.float16 if dtype == "uint8" else np.float32)
        assert ("source_range" in sample.attributes) != per_slice
    near = 2e-3 if dtype == "uint8" else 0.02 if (dtype, rule) == ("float32", "percentiles") else 1e-6
    np.testing.assert_allclose(stored, wanted, atol=near)
    assert do("check-dataset", {"file": file}).ok


def test_what_is_no_number_does_not_count(tmp_path: Path) -> None:
    image = voxels("float32")
    image[1] = np.nan
    image[2, 0, 0] = np.inf
    np.save(tmp_path / "image.npy", image)
    with open_volume(tmp_path / "image.npy") as volume:
        for rule in RULES[1:]:
            found = find_greys(volume, Normalisation(rule, True), Reporter(), Stop())
            assert found.non_finite == image[1].size + 1
            normal = found.normalise(0, image, np.float32)
            assert not normal[1].any()
            assert np.isfinite(normal).all()
            assert found.each[1] == Grey(0.0, 0.0)
    np.save(tmp_path / "image.npy", np.full(SHAPE, np.nan))
    with open_volume(tmp_path / "image.npy") as volume, pytest.raises(VolumeError, match="no finite voxel"):
        find_greys(volume, Normalisation("percentiles"), Reporter(), Stop())


def test_an_even_image_becomes_0(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.full(SHAPE, 7, np.uint8))
    with open_volume(tmp_path / "image.npy") as volume:
        for rule in RULES[1:]:
            found = find_greys(volume, Normalisation(rule), Reporter(), Stop())
            assert found.constant
            assert not found.normalise(0, volume.read(0, 2), np.float16).any()


def test_late_slabs_count_as_much_as_early_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey values that rise from slab to slab: a quarter lies below the first quarter of them."""
    monkeypatch.setattr("deepscem_tui.engine.sources.normalisation._LOOKED_AT", 100)
    monkeypatch.setattr("deepscem_tui.engine.sources.normalisation._MOST_KEPT", 1600)
    monkeypatch.setattr("deepscem_tui.engine.sources.normalisation._PERCENTILES", (25, 75))
    seen = _Sampled(np.dtype(np.float32))
    for slab in range(64):
        seen.add(np.full(400, slab, np.float32))
    grey = seen.grey("percentiles")
    assert (grey.low, grey.high) == pytest.approx((16, 48), abs=1)


def test_names_are_read_back() -> None:
    for rule in RULES:
        for per_slice in (False, True):
            assert normalisation_of(str(Normalisation(rule, per_slice))) == Normalisation(rule, per_slice)
    assert normalisation_of("by eye") is None
    with pytest.raises(ParameterError, match="suits neither"):
        do("add-sample", {"file": "d", "name": "s", "image": "i.tif", "range": "type", "per_slice": True})


@pytest.mark.parametrize("rule", ["min-max", "percentiles, each slice", "type range"])
def test_a_model_normalises_images_as_those_it_learned_on(tmp_path: Path, rule: str) -> None:
    """An image file is predicted as its sample in a data set is."""
    image, file = voxels("uint16"), tmp_path / "d.hdf5"
    tifffile.imwrite(tmp_path / "image.tif", image)
    tifffile.imwrite(tmp_path / "label.tif", (image > np.median(image)).astype(np.uint8))
    do("create-dataset", {"file": file, "name": "d", "n_labels": 1})
    name, _, each = rule.partition(", ")
    values: dict[str, Any] = {"file": file, "image": tmp_path / "image.tif", "labels": (str(tmp_path / "label.tif"),)}
    how_added = {"range": "type"} if name == "type range" else {"normalization": name, "per_slice": bool(each)}
    do("add-sample", values | {"name": "image"} | how_added)
    model, folder = make_model(tmp_path / "m.keras", labels=1), tmp_path / "run"
    folder.mkdir()
    asked = p.Train(
        model=model, out=tmp_path / "out.keras", train=file, patch_size=(16, 16), batch_size=2, epochs=1,
        steps_per_epoch=2,
    )  # fmt: skip
    train(asked, Context(folder=folder))
    assert read_info(tmp_path / "out.keras").normalization == rule
    found = []
    for number, source in enumerate((file, tmp_path / "image.tif")):
        heard, out = Heard(), tmp_path / f"{number}.hdf5"
        how = {"probabilities": True, "precision": "float32"}
        predict(p.Predict(model=tmp_path / "out.keras", input=source, out=out, **how), Context(heard))
        assert not [text for text in heard.warnings if "normalised" in text]
        with open_dataset(out) as dataset:
            sample = dataset.sample("image")
            found.append((np.asarray(sample.predictions[0]), np.asarray(sample.image, np.float32)))
            assert normalisation_in(sample) == rule
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)


def test_data_that_are_normalised_otherwise_are_told_of(tmp_path: Path) -> None:
    file = tmp_path / "d.hdf5"
    tifffile.imwrite(tmp_path / "image.tif", voxels("uint8"))
    tifffile.imwrite(tmp_path / "label.tif", (voxels("uint8") > 120).astype(np.uint8))
    do("create-dataset", {"file": file, "name": "d", "n_labels": 1})
    values = {"file": file, "image": tmp_path / "image.tif", "labels": (str(tmp_path / "label.tif"),)}
    for rule in RULES[:2]:
        do("add-sample", values | {"name": rule, "normalization": rule})
    model = make_model(tmp_path / "m.keras", labels=1)
    heard = Heard()
    predict(p.Predict(model=model, input=file, out=tmp_path / "o.hdf5"), Context(heard))
    assert do("info", {"path": file}).facts["normalization"] == {rule: rule for rule in RULES[:2]}
    (text,) = [text for text in heard.warnings if "normalised" in text]
    assert f"'percentiles' is normalised by percentiles, and the images of the model by {MIN_MAX}" in text
    heard = Heard()
    train(p.Train(model=model, out=tmp_path / "out.keras", train=file, dry_run=True), Context(heard))
    assert any("normalised in different ways: min-max; percentiles" in text for text in heard.warnings)
