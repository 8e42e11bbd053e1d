"""Networks of every option in files, folded for prediction, in tiles, and in half precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ModelError
from deepscem_tui.engine.models.actions import convert_model, create_model
from deepscem_tui.engine.models.files import load_model, read_info, save_model
from deepscem_tui.engine.models.info import read_network
from deepscem_tui.engine.networks.folding import folded
from deepscem_tui.engine.prediction.network import TileNetwork, load_network
from deepscem_tui.engine.prediction.plan import SamplePlan
from deepscem_tui.engine.prediction.tiled import predict_sample
from deepscem_tui.engine.prediction.tiling import plan_tiles
from deepscem_tui.engine.prediction.values import Values
from deepscem_tui.engine.sources.source import Source

FOR_DEEPSCEM: list[dict[str, Any]] = [
    {"attention": True, "up": "interpolated", "dropout": 0.2},
    {"attention": True, "dimension": 3, "down": "strided", "anisotropy": 1},
    {"squeeze_excitation": True, "down": "strided", "up": "interpolated", "dimension": 3, "dropout": 0.5},
    {"squeeze_excitation": True, "architecture": "fcn", "up": "interpolated", "block": "vgg"},
]
FOR_KERAS_3: list[dict[str, Any]] = [
    {"normalization": "instance", "squeeze_excitation": True},
    {"normalization": "group", "dimension": 3, "anisotropy": 1},
    {"normalization": "layer", "architecture": "fcn", "down": "strided"},
]


def lived_in(path: Path, **settings: Any) -> Path:
    """A network whose weights are not those that it began with."""
    create_model(p.CreateModel(**{"out": path, "labels": 2, "filters": 3, "depth": 2, **settings}), Context())
    model, info = load_model(path)
    rng = np.random.default_rng(0)
    model.set_weights([weight + rng.uniform(0.01, 0.2, weight.shape) for weight in model.get_weights()])
    save_model(model, info, path, overwrite=True)
    return path


def images(info: Any) -> np.ndarray:
    """float32 (2, Z, Y, X)."""
    shape = (8, 16, 16) if info.dimension == 3 else (1, 16, 16)
    return np.random.default_rng(1).random((2, *shape), dtype=np.float32)


@pytest.mark.parametrize("settings", FOR_DEEPSCEM + FOR_KERAS_3, ids=str)
def test_a_file_returns_what_was_written(settings: dict[str, Any], tmp_path: Path) -> None:
    path = lived_in(tmp_path / "m.keras", **settings)
    model, info = load_model(path)
    assert info == read_info(path)
    assert info.settings is not None
    assert {key: info.settings[key] for key in settings} == settings
    assert info.sees_all == (settings.get("squeeze_excitation", False) or "normalization" in settings)
    save_model(model, info, tmp_path / "n.keras", overwrite=False)
    again, same = load_model(tmp_path / "n.keras")
    assert same == info
    given = images(info) if info.dimension == 3 else images(info)[:, 0]
    np.testing.assert_array_equal(again(given[..., None]), model(given[..., None]))


# What Keras 2.10's classes take, of kinds that the other tests of its files do not have.
_ANY = {"name", "trainable", "dtype"}
KERAS_2_10 = {
    "Multiply": _ANY,
    "SpatialDropout": _ANY | {"rate"},
    "GlobalAveragePooling": _ANY | {"data_format", "keepdims"},
    "UpSampling2D": _ANY | {"size", "data_format", "interpolation"},
    "UpSampling3D": _ANY | {"size", "data_format"},
}


@pytest.mark.parametrize("settings", FOR_DEEPSCEM, ids=str)
def test_a_file_for_deepscem_holds_what_keras_2_10_knows(settings: dict[str, Any], tmp_path: Path) -> None:
    path = lived_in(tmp_path / "m.keras", **settings)
    convert_model(p.ConvertModel(model=path, out=tmp_path / "m.h5"), Context())
    (model, info), (again, same) = load_model(path), load_model(tmp_path / "m.h5")
    assert same == info
    given = images(info) if info.dimension == 3 else images(info)[:, 0]
    np.testing.assert_array_equal(again(given[..., None]), model(given[..., None]))
    with h5py.File(tmp_path / "m.h5") as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
    seen = 0
    for layer in layers:
        for kind, known in KERAS_2_10.items():
            if layer["class_name"].startswith(kind):
                seen += 1
                assert set(layer["config"]) == known
    assert seen


@pytest.mark.parametrize("settings", FOR_KERAS_3, ids=str)
def test_what_keras_2_10_does_not_know_is_refused_by_name(settings: dict[str, Any], tmp_path: Path) -> None:
    path = lived_in(tmp_path / "m.keras", **settings)
    for dry_run in (True, False):
        with pytest.raises(ModelError, match=r"normalization_1' is a GroupNormalization.*does not know"):
            convert_model(p.ConvertModel(model=path, out=tmp_path / "m.h5", dry_run=dry_run), Context())
    with pytest.raises(ModelError, match="GroupNormalization"):
        create_model(p.CreateModel(out=tmp_path / "m.h5", labels=1, **settings), Context())
    assert [item.name for item in tmp_path.iterdir()] == ["m.keras"]


@pytest.mark.parametrize("settings", FOR_DEEPSCEM + FOR_KERAS_3, ids=str)
def test_a_folded_network_computes_the_same(settings: dict[str, Any], tmp_path: Path) -> None:
    path = lived_in(tmp_path / "m.keras", **settings)
    model, info = load_model(path)
    expected = TileNetwork(lambda: model)(images(info))
    assert expected.std() > 1e-4
    np.testing.assert_allclose(load_network(path, "float32")(images(info)), expected, atol=5e-5)
    _, graph = read_network(path)
    arrays = {layer.name: model.get_layer(layer.name).get_weights() for layer in graph.layers}
    assert "BatchNormalization" not in {layer.kind for layer in folded(graph, arrays)[0].layers}


@pytest.mark.parametrize("settings", FOR_KERAS_3[:2] + FOR_DEEPSCEM[:1], ids=str)
def test_half_precision_is_near(settings: dict[str, Any], tmp_path: Path) -> None:
    path = lived_in(tmp_path / "m.keras", **settings)
    given = images(read_info(path))
    exact, near = load_network(path, "float32")(given), load_network(path, "bfloat16")(given)
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).mean() < 0.03


def test_tiles_of_an_anisotropic_network_join_to_the_whole(tmp_path: Path) -> None:
    settings = {"dimension": 3, "depth": 3, "anisotropy": 2, "blocks_per_level": 1, "attention": True}
    path = lived_in(tmp_path / "m.keras", **settings)
    info = read_info(path)
    assert info.divisor == (1, 4, 4)
    image = np.random.default_rng(0).random((13, 40, 60), dtype=np.float32)
    plan = plan_tiles(image.shape, 3, info.divisor, info.receptive_radius, (6, 40, 48))
    assert plan.exact
    assert [len(axis.starts) > 1 for axis in plan.axes] == [True, False, True]
    network = load_network(path, "float32")
    joined = np.zeros((2, *image.shape), np.float32)

    def sink(first: int, labels: Any, _: Any) -> None:
        joined[:, first : first + labels.shape[1]] = labels

    predict_sample(
        network, Source("a", plan.shape, lambda z0, z1: image[z0:z1]), SamplePlan("a", plan, 2), sink,
        values=Values((0.0, 0.0), "float32"), before_batch=lambda _: None,
    )  # fmt: skip
    np.testing.assert_allclose(joined, np.moveaxis(network(image[None])[0], -1, 0), atol=1e-5)
