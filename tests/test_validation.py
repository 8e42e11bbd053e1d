"""Validation: the very scores that `predict` and `evaluate` give, on whole samples or on tiles of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import new_dataset, open_dataset
from deepscem_tui.engine.errors import Stopped
from deepscem_tui.engine.evaluation.evaluate import evaluate
from deepscem_tui.engine.evaluation.metrics import Confusion
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.models.files import load_model, save_model
from deepscem_tui.engine.models.info import read_network
from deepscem_tui.engine.prediction.network import OutOfMemory, TileNetwork
from deepscem_tui.engine.prediction.plan import PredictionPlan, SamplePlan, make_plan
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.prediction.tiling import plan_tiles
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.training.losses import make_loss
from deepscem_tui.engine.training.validation import Part, Validator, choose_parts

MUCH = 1 << 40
SHAPES = {"a": (5, 40, 53), "b": (3, 24, 24)}
KINDS = {
    "2d": {"dimension": 2},
    "2d-softmax": {"dimension": 2, "activation": "softmax"},
    "3d": {"dimension": 3, "depth": 1, "normalization": "none"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samples with two labels, of which one is rare."""
    path = tmp_path_factory.mktemp("data") / "valid.hdf5"
    rng = np.random.default_rng(0)
    members = {"image": np.float32, "label_0000": np.uint8, "label_0001": np.uint8}
    with new_dataset(path, "valid", 2, ("bright", "rare")) as dataset:
        for name, shape in SHAPES.items():
            sample = dataset.add_sample(name, shape, members=members)
            image = rng.random(shape, np.float32)
            sample["image"][0 : shape[0]] = image
            sample["label_0000"][0 : shape[0]] = (image > 0.4).astype(np.uint8)
            sample["label_0001"][0 : shape[0]] = (rng.random(shape) > 0.95).astype(np.uint8)
    return path


@pytest.fixture(scope="module", params=list(KINDS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned nothing: what it says depends on every voxel in its reach."""
    path = tmp_path_factory.mktemp("models") / "m.keras"
    settings = {"labels": 2, "depth": 2, "filters": 2, "blocks_per_level": 1, "block": "vgg", **KINDS[request.param]}
    create_model(p.CreateModel(out=path, **settings), Context())
    return path


@contextmanager
def validating(model: Path, data: Path, most: int = MUCH, tile: int = MUCH, **how: Any) -> Iterator[Validator]:
    """A validator as training makes it, with tiles of at most so many voxels."""
    info, graph = read_network(model)
    loss = make_loss("dice-cross-entropy", info.activation, info.n_labels, info.n_outputs)
    asked = p.Predict(model=model, input=data, out=data.with_name("o.hdf5"))
    with open_dataset(data) as dataset:
        samples = dict(dataset.samples)
        shapes = {name: sample.shape for name, sample in samples.items()}

        def planned(voxels: int) -> PredictionPlan:
            return make_plan(asked, shapes, info, graph, None, most_voxels=min(voxels, tile))

        yield Validator(samples, info, loss, planned, most, **{"tune": True, "check": lambda: None, **how})


def counts(table: Any, names: tuple[str, ...] = ("bright", "rare")) -> list[tuple[int, ...]]:
    """TP, FP and FN of each label over all samples."""
    rows = {row[0]: row for row in table.rows if row[1] == "all"}
    return [tuple(rows[name][-3:]) for name in names]


@pytest.mark.parametrize("tile", [MUCH, 24**3 // 8])
def test_it_gives_what_predict_and_evaluate_give(model: Path, data: Path, tmp_path: Path, tile: int) -> None:
    network, info = load_model(model)
    with validating(model, data, tile=tile) as validator:
        validated = validator(network)
    tuned = tmp_path / "tuned.keras"
    save_model(network, replace(info, thresholds=validated.thresholds), tuned, overwrite=False)
    for threshold, scores in ((0.5, validated.untuned), (None, validated.scores)):
        out = tmp_path / f"{threshold}.hdf5"
        predict(p.Predict(model=tuned, input=data, out=out, threshold=threshold, precision="float32"), Context())
        table = evaluate(p.Evaluate(reference=data, segmentation=out), Context()).tables[0]
        found = [(label.tp, label.fp, label.fn) for label in scores.labels]
        # Folded into the convolutions, batch normalisation rounds otherwise.
        np.testing.assert_allclose(found, counts(table), atol=1)


def test_the_loss_is_that_of_all_voxels_at_once(model: Path, data: Path) -> None:
    network, info = load_model(model)
    loss = make_loss("dice-cross-entropy", info.activation, info.n_labels, info.n_outputs)
    with validating(model, data) as validator, open_dataset(data) as dataset:
        validated = validator(network)
        targets, outputs = [], []
        for sample in dataset.samples.values():
            images = np.asarray(sample.image)[..., None]
            z, y, x = sample.shape
            pad = [(0, -side % step) for side, step in zip(sample.shape, info.divisor, strict=True)]
            whole = np.pad(images, [*pad, (0, 0)], mode="reflect")
            said = np.asarray(network(whole if info.dimension == 2 else whole[None]))
            outputs.append(said.reshape(*whole.shape[:3], info.n_outputs)[:z, :y, :x].reshape(-1, info.n_outputs))
            targets.append(np.stack([np.asarray(label) for label in sample.labels], -1).reshape(-1, info.n_labels))
        sums = loss.sums(np.concatenate(targets)[None], np.concatenate(outputs)[None], None)
    assert validated.loss == pytest.approx(float(loss.value(sums)), rel=1e-4)  # logarithms of values near 0 and 1
    assert validated.losses == pytest.approx(loss.each(sums).numpy(), rel=1e-4)


def test_what_is_too_much_is_validated_on_tiles_of_it(model: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tile owns is counted as if all had been predicted."""
    network, _ = load_model(model)
    with validating(model, data, tile=24**3 // 8) as everything:
        plan = everything._plan
        half = sum(sample.computed_voxels for sample in plan.samples) // 2
        tiles = sum(sample.tiles.n_tiles for sample in plan.samples)
    with validating(model, data, most=half, tile=24**3 // 8) as validator:
        assert 1 < len(validator.parts) < tiles
        assert "always the same" in validator.words(data)
        some = validator(network)
        judged = sum(part.voxels for part in validator.parts)
    assert all(curve.inside.sum() + curve.outside.sum() == judged for curve in some.curves)
    # Every tile on its own, and all of them together as the whole.
    monkeypatch.setattr(
        "deepscem_tui.engine.training.validation.choose_parts", lambda plan, most, ignored: every_tile(plan)
    )
    with validating(model, data, tile=24**3 // 8) as apart:
        assert len(apart.parts) == tiles
        assert f"all voxels of {data}, each label at its best" in apart.words(data)
        pieces = apart(network)
    monkeypatch.undo()
    with validating(model, data, tile=24**3 // 8) as whole:
        together = whole(network)
    for one, other in zip(pieces.curves, together.curves, strict=True):
        assert np.array_equal(one.inside, other.inside)
        assert np.array_equal(one.outside, other.outside)
    assert pieces.loss == pytest.approx(together.loss, rel=1e-4)


def every_tile(plan: PredictionPlan) -> list[Part]:
    """All tiles of a plan, as parts: so many that each run of them has one."""
    total = sum(sample.tiles.n_tiles * sample.tiles.tile_voxels for sample in plan.samples)
    padded = replace(plan, samples=tuple(replace(sample, batch=1000) for sample in plan.samples))
    return choose_parts(padded, total)


def test_parts_are_spread_over_samples_and_axes() -> None:
    tiles = plan_tiles((64, 100, 100), 2, 4, 2, (28, 28))
    plan = PredictionPlan((SamplePlan("a", tiles, 1), SamplePlan("b", tiles, 1)), "float32")
    parts = choose_parts(plan, 128 * tiles.tile_voxels)
    assert parts == choose_parts(plan, 128 * tiles.tile_voxels)
    assert len(parts) == 128
    assert [part.sample for part in parts] == ["a"] * 64 + ["b"] * 64
    for axis, least in ((0, 64), (1, 4), (2, 4)):
        assert len({part.core[axis].start for part in parts}) >= least
    for part in parts:
        assert part.plan.tiles.n_tiles == 1
        assert part.plan.tiles.tile == tiles.tile
        assert prod(side.stop - side.start for side in part.box) <= tiles.tile_voxels
    assert len(choose_parts(plan, 1)) == 1  # never nothing


def test_memory_that_does_not_suffice_makes_tiles_smaller(data: Path, tmp_path: Path, monkeypatch) -> None:
    model = tmp_path / "m.keras"
    create_model(p.CreateModel(out=model, labels=2, depth=2, filters=2), Context())
    compute, refused = TileNetwork.__call__, []

    def limited(self: TileNetwork, images: Any) -> Any:
        if images.size > 3000:
            refused.append(images.size)
            raise OutOfMemory("full")
        return compute(self, images)

    network, _ = load_model(model)
    with validating(model, data) as validator:
        expected = validator(network)
    monkeypatch.setattr(TileNetwork, "__call__", limited)
    with validating(model, data) as validator:
        found = validator(network)
    assert refused
    for one, other in zip(found.untuned.labels, expected.untuned.labels, strict=True):
        assert one.tp == pytest.approx(other.tp, abs=1)
    monkeypatch.setattr(TileNetwork, "__call__", lambda self, images: limited(self, np.zeros(4000)))
    with validating(model, data) as validator, pytest.raises(OutOfMemory):
        validator(network)


def test_a_stop_ends_it_and_thresholds_stay_where_they_are_not_tuned(model: Path, data: Path) -> None:
    network, _ = load_model(model)
    stop = Stop()
    with validating(model, data, tune=False, check=stop.check) as validator:
        validated = validator(network)
        assert validated.thresholds == (0.5, 0.5)
        assert validated.scores.labels == validated.untuned.labels
        assert all(isinstance(label, Confusion) for label in validated.scores.labels)
        stop.request("test")
        with pytest.raises(Stopped):
            validator(network)
