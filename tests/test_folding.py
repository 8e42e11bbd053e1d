"""Networks without their normalisations compute what they computed with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.models.files import load_model, save_model
from deepscem_tui.engine.models.info import read_network
from deepscem_tui.engine.networks.assemble import delicate
from deepscem_tui.engine.networks.folding import folded
from deepscem_tui.engine.networks.graph import Graph, Layer
from deepscem_tui.engine.prediction.network import TileNetwork, load_network
from deepscem_tui.engine.system.devices import cpu_has_bfloat16


def lived_in(path: Path, **settings: object) -> Path:
    """A network whose normalisations are anything but the fresh ones."""
    create_model(p.CreateModel(out=path, labels=2, filters=4, depth=2, **settings), Context())
    model, info = load_model(path)
    random = np.random.default_rng(0)
    for layer in model.layers:
        weights = layer.get_weights()
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape).astype(np.float32) for weight in weights])
    save_model(model, info, path, overwrite=True)
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"block": "residual"},
        {"block": "vgg", "architecture": "fcn"},
        {"dimension": 3, "block": "vgg"},
        {"normalization": "none"},
    ],
    ids=str,
)
def test_a_folded_network_gives_the_same(tmp_path: Path, settings: dict[str, object]) -> None:
    path = lived_in(tmp_path / "m.keras", **settings)
    model, info = load_model(path)
    images = np.random.default_rng(1).random((2, 8 if info.dimension == 3 else 1, 16, 16), np.float32)
    expected = TileNetwork(lambda: model)(images)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(load_network(path, "float32")(images), expected, atol=1e-5)


def test_normalisations_are_gone_and_only_those_behind_a_plain_convolution(tmp_path: Path) -> None:
    path = lived_in(tmp_path / "m.keras")
    _, graph = read_network(path)
    model, _ = load_model(path)
    weights = {layer.name: model.get_layer(layer.name).get_weights() for layer in graph.layers}
    kinds = [layer.kind for layer in folded(graph, weights)[0].layers]
    assert "BatchNormalization" in [layer.kind for layer in graph.layers]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv2D") == [layer.kind for layer in graph.layers].count("Conv2D")


def test_deepscems_normalisation_after_an_activation_stays(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "shared" / "data" / "deepscem" / "unet2d_residual.h5"
    if not path.exists():
        pytest.skip("../shared/data/deepscem is not here")
    model, _ = load_model(path)
    images = np.random.default_rng(1).random((1, 1, 32, 32), np.float32)
    np.testing.assert_allclose(load_network(path, "float32")(images), TileNetwork(lambda: model)(images), atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_not_the_same(tmp_path: Path, precision: str) -> None:
    path = lived_in(tmp_path / "m.keras")
    images = np.random.default_rng(1).random((1, 1, 32, 32), np.float32)
    exact, near = load_network(path, "float32")(images), load_network(path, precision)(images)
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).mean() < 0.02


def test_a_batch_is_shared_out_among_devices(tmp_path: Path) -> None:
    path = lived_in(tmp_path / "m.keras")
    model, _ = load_model(path)
    images = np.random.default_rng(1).random((5, 1, 16, 16), np.float32)
    one, two = TileNetwork(lambda: model), TileNetwork(lambda: model, ("/CPU:0", "/CPU:0"))
    np.testing.assert_allclose(two(images), one(images), atol=1e-6)
    assert two(images[:1]).shape == (1, 1, 16, 16, 2)


def test_what_a_processor_says_of_bfloat16(tmp_path: Path) -> None:
    for flags, has in (("fpu avx512f avx512_bf16", True), ("amx_bf16", True), ("avx2 avx512f", False)):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t:\n")
        assert cpu_has_bfloat16(tmp_path / "cpuinfo") is has
    assert cpu_has_bfloat16(tmp_path / "nothing") is False


@pytest.mark.parametrize("architecture", ["u-net", "fcn"])
def test_early_layers_and_the_last_stay_exact(tmp_path: Path, architecture: str) -> None:
    """What reads the image or the first pooling; the way up, at the same resolutions, does not."""
    create_model(
        p.CreateModel(out=tmp_path / "m.keras", labels=2, filters=2, depth=3, architecture=architecture), Context()
    )
    (model,) = load_network(tmp_path / "m.keras", "bfloat16")._models
    exact = {layer.name for layer in model.layers if layer.compute_dtype == "float32"}
    first, second = ("down_0", "down_1") if architecture == "u-net" else ("level_0", "level_1")
    early = {f"{level}_{part}" for level in (first, second) for part in ("convolution_1", "shortcut")}
    assert exact == early | {"image", "output"}


def test_a_convolution_in_place_of_the_first_pooling_stays_exact_with_what_reads_it() -> None:
    layers = [Layer("image", "InputLayer", {}, ())]
    for name, kind, strides, given in (
        ("first", "Conv2D", 1, "image"), ("second", "Conv2D", 1, "first"), ("half", "Conv2D", 2, "second"),
        ("relu", "Activation", 0, "half"), ("third", "Conv2D", 1, "relu"), ("quarter", "Conv2D", 2, "third"),
        ("fourth", "Conv2D", 1, "quarter"), ("up", "Conv2DTranspose", 2, "fourth"),
    ):  # fmt: skip
        layers.append(Layer(name, kind, {"strides": (strides, strides)}, (given,)))
    assert delicate(Graph("n", tuple(layers), "up", 2)) == {"first", "half", "relu", "third"}
