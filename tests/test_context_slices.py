"""Networks of slices that see neighbouring slices: their patches, tiles, validation, training, files."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.augmentation.recipes import strengths
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.errors import ModelError
from deepscem_tui.engine.models.actions import convert_model, create_model
from deepscem_tui.engine.models.files import load_model, read_info
from deepscem_tui.engine.models.info import describe
from deepscem_tui.engine.networks.geometry import graph_of
from deepscem_tui.engine.patches import PatchSampler, Source, assemble, cut
from deepscem_tui.engine.prediction.network import load_network
from deepscem_tui.engine.prediction.plan import PredictionPlan, SamplePlan
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.prediction.tiling import plan_tiles
from deepscem_tui.engine.training.losses import make_loss
from deepscem_tui.engine.training.train import train
from deepscem_tui.engine.training.validation import Validator

SHAPE = (6, 24, 32)
DEPTH = SHAPE[0]


def mirrored(slices: np.ndarray, context: int) -> np.ndarray:
    """The slices around each, (Z, Y, X, slices), mirrored at the ends."""
    whole = np.pad(slices, [(context, context), (0, 0), (0, 0)], mode="reflect")
    return np.stack([whole[shift : shift + len(slices)] for shift in range(2 * context + 1)], -1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample of noise whose label is what is bright in the slice before."""
    path = tmp_path_factory.mktemp("data") / "d.hdf5"
    image = np.random.default_rng(0).random(SHAPE, np.float32)
    with new_dataset(path, "d", 1) as dataset:
        sample = dataset.add_sample("s", SHAPE, {"image": np.float32, "label_0000": np.uint8})
        sample["image"][0:DEPTH] = image
        sample["label_0000"][0:DEPTH] = (np.roll(image, 1, axis=0) > 0.6).astype(np.uint8)
    return path


@pytest.fixture(scope="module", params=[1, 2])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m.keras"
    settings = {"labels": 1, "depth": 2, "filters": 2, "blocks_per_level": 1}
    create_model(p.CreateModel(out=path, context_slices=request.param, **settings), Context())
    return path


# ------------------------------------------------------------------------------------------------ patches


def numbered(depth: int = DEPTH) -> Source:
    """A sample whose voxels say their place, and whose label is every second slice."""
    shape = (depth, 16, 16)
    image = np.arange(prod(shape), dtype=np.float32).reshape(shape)
    label = np.zeros(shape, np.uint8)
    label[::2] = 1
    return Source("s", shape, (8.0, 8.0, 8.0), image, [label], np.count_nonzero(label, axis=(1, 2))[None])


def sampler(source: Source, augmentation: Mapping[str, float], context: int, **more: Any) -> PatchSampler:
    return PatchSampler(
        [source], (1, 8, 8), 64, focus=0.0, augmentation=augmentation, flat=True, seed=0, context=context, **more
    )


@pytest.mark.parametrize("context", [1, 2])
def test_channels_are_the_slices_around_and_every_slice_has_its_turn(context: int) -> None:
    source = numbered()
    patches = sampler(source, strengths("none"), context)
    batch = patches.batch(0)
    assert batch.images.shape == (64, 8, 8, 2 * context + 1)
    assert batch.labels.shape == (64, 8, 8, 1)
    around = mirrored(source.image, context)
    middles = set()
    for position, (image, label) in enumerate(zip(batch.images, batch.labels, strict=True)):
        z, y, x = patches.box(0, position).start
        np.testing.assert_array_equal(image, around[z, y : y + 8, x : x + 8])
        assert (label == (z % 2 == 0)).all()
        middles.add(z)
    assert middles == set(range(DEPTH))


def test_a_sample_of_one_slice_is_its_own_neighbour() -> None:
    image = sampler(numbered(1), strengths("none"), 2).batch(0).images
    np.testing.assert_array_equal(image, np.repeat(image[..., :1], 5, axis=-1))


def test_the_middle_slice_and_its_labels_are_turned_and_warped_alike() -> None:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(2, size=(5, 4, 4)), np.ones((1, 8, 8))).astype(np.uint8)
    source = Source(
        "s", blocks.shape, None, blocks.astype(np.float32), [blocks], np.count_nonzero(blocks, axis=(1, 2))[None]
    )
    warps = dict.fromkeys(("mirror", "turn", "rotation", "scaling", "elastic", "shift"), 3.0)
    patches = PatchSampler([source], (1, 16, 16), 32, focus=0, augmentation=warps, flat=True, seed=0, context=1)
    batch = patches.batch(0)
    same = (batch.images[..., 1] > 0.5) == (batch.labels[..., 0] > 0)
    assert same.mean() > 0.95  # but for what lies between two voxels
    other = (batch.images[..., 0] > 0.5) == (batch.labels[..., 0] > 0)
    assert other.mean() < 0.8


def test_a_patch_to_show_is_cut_with_its_neighbours() -> None:
    source = numbered()
    image, label = cut(source, (0, 4, 4), (1, 8, 8), 1)
    np.testing.assert_array_equal(image, source.image[[1, 0, 1], 4:12, 4:12])
    batch = assemble([[image, label]], flat=True)
    np.testing.assert_array_equal(batch.images[0], mirrored(source.image, 1)[0, 4:12, 4:12])
    assert batch.labels.shape == (1, 8, 8, 1)
    assert batch.labels.all()


# ------------------------------------------------------------------------------------------------ prediction


def in_one_piece(model: Path, image: np.ndarray) -> np.ndarray:
    """What the network says of whole slices, (Z, Y, X)."""
    network, info = load_model(model)
    return np.asarray(network(mirrored(image, info.context)))[..., 0]


def test_it_says_how_far_it_sees(model: Path) -> None:
    info = read_info(model)
    n = info.context
    assert info.settings is not None
    assert info.settings["context_slices"] == n
    assert info.receptive_radius == (n, 5, 5)
    assert info.divisor == (1, 2, 2)
    assert f"{n} slice{'s' * (n > 1)} before and behind" in info.reach
    assert load_model(model)[0].input_shape == (None, None, None, 2 * n + 1)


@pytest.mark.parametrize("how", [{}, {"patch_size": (20, 20)}, {"join": "blend"}, {"tta": True}], ids=str)
def test_tiles_with_neighbours_join_to_the_whole(model: Path, data: Path, how: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "o.hdf5"
    asked = {"probabilities": True, "precision": "float32", **how}
    predict(p.Predict(model=model, input=data, out=out, **asked), Context())
    with h5py.File(data) as given, h5py.File(out) as made:
        image, said = given["s/image"][()], made["s/prediction_0000"][()]
    if "tta" not in how:
        np.testing.assert_allclose(said, in_one_piece(model, image), atol=1e-5 if how.get("join") != "blend" else 0.1)
    assert said.shape == SHAPE
    other = image.copy()
    other[3] = 0.5  # its neighbours see it
    changed = in_one_piece(model, other) - in_one_piece(model, image)
    assert np.abs(changed[2]).max() > 1e-4


def test_slabs_read_the_slices_around_what_they_own(model: Path) -> None:
    info = read_info(model)
    plan = plan_tiles((20, 24, 32), 2, info.divisor, info.receptive_radius)
    layers = list(plan.layers(5 * 24 * 32))
    n = info.context
    assert [layer.own for layer in layers] == [(0, 5), (5, 10), (10, 15), (15, 20)]
    assert [layer.read for layer in layers] == [(0, 5 + n), (5 - n, 10 + n), (10 - n, 15 + n), (15 - n, 20)]
    assert plan.given == (2 * n + 1, *plan.tile[1:])
    assert type(plan).from_json(plan.as_json()) == plan


def test_validation_judges_what_prediction_says(model: Path, data: Path) -> None:
    network, info = load_model(model)
    loss = make_loss("dice-cross-entropy", info.activation, 1, 1)
    tiles = plan_tiles(SHAPE, 2, info.divisor, info.receptive_radius)

    def planned(_: int) -> PredictionPlan:
        return PredictionPlan((SamplePlan("s", tiles, 1),), "float32")

    with open_dataset(data) as dataset:
        sample = dataset.samples["s"]
        said = in_one_piece(model, np.asarray(sample.image)) > 0.5
        true = np.asarray(sample.labels[0]) > 0
        for most in (1 << 30, 2 * 24 * 32):  # all of it, and two of its slices
            validator = Validator({"s": sample}, info, loss, planned, most, tune=False, check=lambda: None)
            judged = np.zeros(SHAPE, bool)
            for part in validator.parts:
                judged[part.core] = True
            assert judged.sum() == min(most, true.size)
            (label,) = validator(network).untuned.labels
            expected = [np.count_nonzero(judged & a & b) for a, b in ((true, said), (~true, said), (true, ~said))]
            assert [label.tp, label.fp, label.fn] == expected


def test_the_network_for_prediction_takes_neighbours(model: Path) -> None:
    n = read_info(model).context
    images = np.random.default_rng(0).random((2, 2 * n + 1, 16, 16), np.float32)
    assert load_network(model, "float32")(images).shape == (2, 1, 16, 16, 1)


# ------------------------------------------------------------------------------------------------ training, files


def test_a_training_from_end_to_end(model: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    asked = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "patch_size": (16, 16), "valid": data}
    out = tmp_path / "out.keras"
    train(p.Train(model=model, out=out, train=data, **asked), Context(folder=folder))
    assert read_info(out).context == read_info(model).context
    assert read_info(out).patch_size == (1, 16, 16)
    with np.load(folder / "preview" / "epoch-0001.npz") as preview:
        assert preview["image"].shape == (16, 16)


def test_what_knows_no_neighbours_refuses_them(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="slices at a time"):
        convert_model(p.ConvertModel(model=model, out=tmp_path / "m.h5"), Context())
    with pytest.raises(ValueError, match="for networks for slices"):
        p.CreateModel(out=tmp_path / "m.keras", labels=1, dimension=3, context_slices=1)
    image = keras.Input((None, None, 3))
    colours = graph_of(keras.Model(image, keras.layers.Conv2D(1, 1)(image)))
    with pytest.raises(ModelError, match="3 channels"):
        describe(colours, None, False, None)
