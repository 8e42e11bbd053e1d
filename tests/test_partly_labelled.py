"""What is not labelled has no part in training, validation and evaluation, and what is labelled all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_optimisation import batch, made, plain  # noqa: F401
from test_training import make_model
from test_validation import MUCH, validating

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.augmentation.recipes import strengths
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.datasets.ignoring import Box, write_ignored
from deepscem_tui.engine.datasets.leaks import find_overlaps
from deepscem_tui.engine.datasets.survey import survey
from deepscem_tui.engine.errors import DatasetError
from deepscem_tui.engine.evaluation.evaluate import evaluate
from deepscem_tui.engine.models.files import load_model
from deepscem_tui.engine.patches import Batch, PatchSampler, Source, load_sources, opened_cache
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.devices import tensorflow
from deepscem_tui.engine.training.losses import make_loss
from deepscem_tui.engine.training.train import train
from deepscem_tui.engine.training.trainer import State

SHAPE = (16, 40, 36)
SLICES: tuple[Box, ...] = (((3, 4), (0, 40), (0, 36)), ((9, 11), (0, 40), (0, 36)))
SOME = (3, 9, 10)  # the same slices


def known_voxels(how: str) -> np.ndarray:
    """Which voxels are labelled, bool (Z, Y, X)."""
    known = np.zeros(SHAPE, bool)
    if how == "slices":
        known[list(SOME)] = True
    elif how == "mask":
        known[4:12, 5:30, 8:20] = np.random.default_rng(1).random((8, 25, 12)) < 0.8
    return known


def make(path: Path, how: str, n_labels: int = 2, further: bool = True) -> Path:
    """A data set of a sample that is labelled in part, lies about the rest, and of one that is labelled in full."""
    members = {"image": np.float32} | {f"label_{index:04d}": np.uint8 for index in range(n_labels)}
    known = known_voxels(how)
    with new_dataset(path, path.stem, n_labels) as dataset:
        for number, name in enumerate(("part", "whole")[: 1 + further]):
            rng = np.random.default_rng(number)
            sample = dataset.add_sample(name, SHAPE, members)
            image = rng.random(SHAPE, np.float32)
            sample["image"][0 : SHAPE[0]] = image
            for index in range(n_labels):
                label = (image > 0.5 + 0.3 * index).astype(np.uint8)
                sample[f"label_{index:04d}"][0 : SHAPE[0]] = np.where(known, label, 1) if name == "part" else label
    with change_dataset(path) as changed:
        if how == "slices":
            write_ignored(changed, "part", SLICES, None)
        else:
            write_ignored(changed, "part", None, lambda _, z0, z1: ~known[z0:z1])
    return path


# ------------------------------------------------------------------------------------------------ patches


def loaded(path: Path, memory: int, folder: Path | None) -> list[Source]:
    with open_dataset(path) as dataset:
        samples = list(dataset.samples.values())
        if folder is None:
            return load_sources(samples, memory, Reporter(), Stop())
        with opened_cache(folder, Reporter()) as cache:
            return load_sources(samples, memory, Reporter(), Stop(), cache)


@pytest.mark.parametrize("how", ["slices", "mask"])
@pytest.mark.parametrize("n_labels", [2, 8])  # with 8 the bit of what is ignored lies in a plane of its own
def test_patches_carry_what_is_not_labelled_wherever_they_are_read_from(
    tmp_path: Path, how: str, n_labels: int
) -> None:
    path = make(tmp_path / "d.hdf5", how, n_labels)
    known = known_voxels(how)
    with open_dataset(path) as dataset, opened_cache(tmp_path / "cache", Reporter()) as cache:
        samples = list(dataset.samples.values())
        ways = {
            "memory": load_sources(samples, 1 << 30, Reporter(), Stop()),
            "file": load_sources(samples, 0, Reporter(), Stop()),
            "cache": load_sources(samples, 0, Reporter(), Stop(), cache),
        }
        for sources in ways.values():
            part, whole = sources
            assert part.n_annotated == known.sum()
            assert whole.n_annotated == known.size
            image, label = (np.asarray(member) for member in (samples[0].image, samples[0].labels[0]))
            assert part.foreground[0].tolist() == (label.astype(bool) & known).sum(axis=(1, 2)).tolist()
            sampler = PatchSampler(sources, (4, 16, 16), 6, focus=0.5, augmentation={}, flat=False, seed=0)
            for step in range(4):
                drawn = sampler.batch(step)
                for row in range(6):
                    box = sampler.box(step, row)
                    z, y, x = (slice(s, s + side) for s, side in zip(box.start, (4, 16, 16), strict=True))
                    here = known[z, y, x] if box.source == 0 else np.ones((4, 16, 16), bool)
                    assert np.array_equal(drawn.labels[row, ..., n_labels] == 0, here)
                    assert here.any()
                    if box.source == 0:
                        assert np.array_equal(drawn.images[row, ..., 0], image[z, y, x])
                        true = drawn.labels[row, ..., 0].astype(bool)
                        assert np.array_equal(true[here], label[z, y, x].astype(bool)[here])
        one, *others = (
            PatchSampler(sources, (4, 16, 16), 4, focus=0.5, augmentation=strengths("strong"), flat=False, seed=0)
            for sources in ways.values()
        )
        for other in others:
            for step in range(3):
                assert np.array_equal(one.batch(step).images, other.batch(step).images)
                ours, theirs = one.batch(step).labels, other.batch(step).labels
                assert np.array_equal(ours[..., -1], theirs[..., -1])
                where = ours[..., -1] == 0
                assert np.array_equal(ours[where], theirs[where])


def test_nothing_is_carried_where_all_is_labelled(tmp_path: Path) -> None:
    path = make(tmp_path / "d.hdf5", "slices")
    with change_dataset(path) as changed:
        write_ignored(changed, "part", None, None)
    sources = loaded(path, 1 << 30, None)
    assert [source.ignored for source in sources] == [None, None]
    sampler = PatchSampler(sources, (1, 16, 16), 4, focus=0.5, augmentation={}, flat=True, seed=0)
    assert sampler.batch(0).labels.shape == (4, 16, 16, 2)


def test_patches_of_a_flat_network_are_labelled_slices_drawn_evenly(tmp_path: Path) -> None:
    sources = loaded(make(tmp_path / "d.hdf5", "slices", further=False), 1 << 30, None)
    sampler = PatchSampler(sources, (1, 16, 16), 600, focus=0.0, augmentation={}, flat=True, seed=0)
    drawn = [sampler.box(0, position).start for position in range(600)]
    counts = [sum(z == wanted for z, _, _ in drawn) for wanted in SOME]
    assert sum(counts) == 600
    assert all(abs(count - 200) < 4 * np.sqrt(600 * 2 / 9) for count in counts)  # 4 standard deviations
    assert {y for _, y, _ in drawn} == set(range(25))
    assert {x for _, _, x in drawn} == set(range(21))


def test_samples_count_by_their_labelled_voxels(tmp_path: Path) -> None:
    sources = loaded(make(tmp_path / "d.hdf5", "slices"), 1 << 30, None)
    for weights, share in (("volume", 3 / 19), ("equal", 1 / 2)):
        sampler = PatchSampler(
            sources, (1, 16, 16), 1, focus=0.0, augmentation={}, flat=True, seed=0, weights=weights
        )  # fmt: skip
        count = sum(sampler.box(step, 0).source == 0 for step in range(800))
        assert abs(count - 800 * share) < 4 * np.sqrt(800 * share * (1 - share))


# ------------------------------------------------------------------------------------------------ the loss


@pytest.mark.parametrize("name", ["dice", "cross-entropy", "dice-cross-entropy", "mean-squared-error"])
@pytest.mark.parametrize(
    ("activation", "n_labels", "n_outputs"), [("sigmoid", 2, 2), ("softmax", 2, 3), ("softmax", 2, 2)]
)
def test_the_loss_is_that_of_the_labelled_voxels_alone(
    name: str, activation: str, n_labels: int, n_outputs: int
) -> None:
    tf = tensorflow()
    rng = np.random.default_rng(0)
    targets = (rng.random((2, 6, 7, n_labels)) < 0.4).astype(np.float32)
    known = rng.random((2, 6, 7, 1)) < 0.3
    outputs = rng.random((2, 6, 7, n_outputs)).astype(np.float32)
    loss = make_loss(name, activation, n_labels, n_outputs, 0.1)
    alone = loss(targets[known[..., 0]][None], outputs[known[..., 0]][None])
    given = tf.constant(outputs)
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = loss(targets, given, known)
    gradient = tape.gradient(value, given).numpy()
    assert float(value) == pytest.approx(float(alone), rel=1e-5)
    assert not gradient[~known[..., 0]].any()
    assert gradient[known[..., 0]].any()
    lied = np.where(known, targets, 1 - targets)
    assert float(loss(lied, outputs, known)) == float(value)
    with tf.GradientTape() as tape:
        tape.watch(given)
        nothing = loss(targets, given, np.zeros_like(known))
    assert float(nothing) == 0
    assert not tape.gradient(nothing, given).numpy().any()
    compiled = tf.function(loss, jit_compile=True)(targets, outputs, known)
    assert float(compiled) == pytest.approx(float(value), rel=1e-5)
    everything = loss(targets, outputs, np.ones_like(known))
    assert float(everything) == pytest.approx(float(loss(targets, outputs)), rel=1e-6)


def with_ignored(ignored: np.ndarray, lie: bool, size: int = 4) -> Batch:
    """A batch of which some voxels (B, Y, X) are not labelled, and which lies about them or not."""
    given = batch(size)
    labels = np.where(ignored[..., None], 1 - given.labels, given.labels) if lie else given.labels
    return Batch(given.images, np.concatenate([labels, ignored[..., None]], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("how", [{}, {"parts": 2}, {"loss": "dice"}])
def test_a_step_learns_nothing_of_what_is_not_labelled(plain: Path, how: dict[str, Any]) -> None:  # noqa: F811
    ignored = np.random.default_rng(3).random((4, 16, 16)) < 0.6
    results = []
    for lie in (False, True):
        trainer = made(plain, **how)
        step = trainer.step(with_ignored(ignored, lie), 1e-2, State())
        results.append((step.loss, step.norm, step.counts.tolist(), [w.copy() for w in trainer.model.get_weights()]))
    assert results[0][:3] == results[1][:3]
    assert all(np.array_equal(a, b) for a, b in zip(results[0][3], results[1][3], strict=True))
    assert np.sum(results[0][2], axis=1).tolist() == [int((~ignored).sum())] * 2


def test_a_batch_without_a_labelled_voxel_changes_nothing(plain: Path) -> None:  # noqa: F811
    trainer = made(plain, optimizer="sgd", loss="dice-cross-entropy")
    before = [w.copy() for w in trainer.model.get_weights()]
    step = trainer.step(with_ignored(np.ones((4, 16, 16), bool), True), 1e-2, State())
    assert (step.loss, step.norm, step.finite) == (0, 0, True)
    assert not step.counts.any()
    assert all(np.array_equal(a, b) for a, b in zip(before, trainer.model.get_weights(), strict=True))


def test_coarser_levels_learn_of_the_labelled_voxels_too(tmp_path: Path) -> None:
    """A single column counts at every resolution, wherever it lies, and what surrounds it never."""
    deep = make_model(tmp_path / "deep.keras", depth=4, normalization="none")
    ignored = np.ones((4, 16, 16), bool)
    ignored[:, :, 4] = False  # the middles of coarser voxels are at 1, 3, 5 ... and 2, 6, 10 ...
    results = []
    trainer = made(deep, supervised=True)
    for lie in (False, True):
        given = with_ignored(ignored, lie)
        said = trainer._model(given.images, training=False)
        results.append(float(trainer._outcome(tensorflow().constant(given.labels), said)[0]))
        for number, side in enumerate(said[1:], 1):
            true = given.labels[..., :2].astype(bool) & ~ignored[..., None]
            size = 2**number
            blocks = true.reshape(4, 16 // size, size, 16 // size, size, 2).sum(axis=(2, 4))
            column = 4 // size
            expected = trainer._loss(
                (2 * blocks[:, :, column] >= size).astype(np.float32), np.asarray(side)[:, :, column]
            )
            sums = trainer._outcome(tensorflow().constant(given.labels), [said[0], side])[0] * 1.5
            fine = trainer._outcome(tensorflow().constant(given.labels), said[0])[0]
            assert float((sums - fine) * 2) == pytest.approx(float(expected), rel=1e-4)
    assert results[0] == results[1]


# ------------------------------------------------------------------------------------------------ what judges


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "m.keras", labels=2)


@pytest.mark.parametrize("how", ["slices", "mask"])
@pytest.mark.parametrize("tile", [MUCH, 16 * 16 * 4])
def test_validation_and_evaluation_judge_what_is_labelled(network: Path, tmp_path: Path, how: str, tile: int) -> None:
    data, known = make(tmp_path / "d.hdf5", how), known_voxels(how)
    model, _ = load_model(network)
    with validating(network, data, tile=tile) as validator:
        assert "all labelled voxels" in validator.words(data)
        assert how != "slices" or {part.core[0].start for part in validator.parts if part.sample == "part"} == set(SOME)
        validated = validator(model)
    out = tmp_path / "out.hdf5"
    predict(p.Predict(model=network, input=data, out=out, precision="float32"), Context())
    result = evaluate(p.Evaluate(reference=data, segmentation=out), Context())
    rows = {(row[0], row[1]): row[-3:] for row in result.tables[0].rows}
    with open_dataset(data) as dataset, open_dataset(out) as predicted:
        for index in range(2):
            total = np.zeros(3, int)
            for name, where in (("part", known), ("whole", np.ones(SHAPE, bool))):
                true = np.asarray(dataset.sample(name).labels[index])[where] > 0
                found = np.asarray(predicted.sample(name).predictions[index])[where] > 0
                counts = [(true & found).sum(), (found & ~true).sum(), (true & ~found).sum()]
                assert rows[f"label_{index:04d}", name] == tuple(counts)
                total += counts
            count = validated.untuned.labels[index]
            np.testing.assert_allclose([count.tp, count.fp, count.fn], total, atol=2)
            assert count.voxels == known.sum() + known.size
    assert result.facts["left_out"] == {"part": pytest.approx(1 - known.mean())}


def test_a_part_of_it_is_validated_where_something_is_labelled(network: Path, tmp_path: Path) -> None:
    data = make(tmp_path / "d.hdf5", "slices", further=False)
    model, _ = load_model(network)
    with validating(network, data, most=2000, tile=16 * 16) as validator:
        assert 1 < len(validator.parts) < 3 * 9
        assert all(part.core[0].start in SOME for part in validator.parts)
        assert "of its labelled voxels" in validator.words(data)
        assert validator(model).untuned.labels[0].voxels == sum(part.voxels for part in validator.parts)


def test_a_part_of_it_has_labelled_voxels_where_a_mask_leaves_few(network: Path, tmp_path: Path) -> None:
    data = make(tmp_path / "d.hdf5", "slices", further=False)
    known = np.zeros(SHAPE, bool)
    known[2:14, 20:24, 20:24] = True
    with change_dataset(data) as changed:
        write_ignored(changed, "part", None, lambda _, z0, z1: ~known[z0:z1])
    with validating(network, data, most=2000, tile=16 * 16) as validator:
        assert validator.parts
        assert all(known[part.core].any() for part in validator.parts)


def test_leaks_are_of_what_is_labelled_in_both(tmp_path: Path) -> None:
    one, other, third = (make(tmp_path / f"{name}.hdf5", "slices", further=False) for name in "abc")
    boxes: tuple[Box, ...] = (((5, 9), (0, 40), (0, 36)),)
    with change_dataset(other) as changed:
        write_ignored(changed, "part", boxes, None)
    with open_dataset(one) as first, open_dataset(other) as second, open_dataset(third) as last:
        assert find_overlaps(first, second, Stop()) == []
        assert len(find_overlaps(first, last, Stop())) == 1


def test_a_plan_counts_what_is_labelled(tmp_path: Path) -> None:
    with open_dataset(make(tmp_path / "d.hdf5", "slices", further=False)) as dataset:
        found = survey(dataset, Context())
        label = np.asarray(dataset.sample("part").labels[1])[list(SOME)]
    assert found.fraction(1) == pytest.approx(label.mean())
    assert "18.75% of the voxels are labelled: the others are left out" in found.warnings
    assert any("There are 3 labelled slices in all" in text for text in found.warnings)


def test_training_on_nothing_labelled_is_refused(network: Path, tmp_path: Path) -> None:
    data = make(tmp_path / "d.hdf5", "slices", further=False)
    with change_dataset(data) as changed:
        write_ignored(changed, "part", (), None)
    with pytest.raises(DatasetError, match=r"Nothing of .* is labelled"):
        train(p.Train(model=network, out=tmp_path / "out.keras", train=data, dry_run=True), Context())


def test_a_data_set_that_says_more_is_labelled_than_is_is_refused_too(tmp_path: Path) -> None:
    data = make(tmp_path / "d.hdf5", "slices", further=False)
    with change_dataset(data) as changed:
        write_ignored(changed, "part", (), None)
        changed.set_attributes({"annotated_voxels": 7}, "part")
    with pytest.raises(DatasetError, match=r"Nothing of .* is labelled"):
        loaded(data, 1 << 30, None)


@pytest.mark.parametrize("how", ["slices", "mask"])
def test_a_training_ends_well(network: Path, tmp_path: Path, how: str) -> None:
    data = make(tmp_path / "d.hdf5", how)
    folder = tmp_path / "run"
    folder.mkdir()
    asked = p.Train(
        model=network, out=tmp_path / "out.keras", train=data, valid=data, test=data, patch_size=(16, 16),
        batch_size=2, epochs=2, steps_per_epoch=2, validation_steps=100,
    )  # fmt: skip
    result = train(asked, Context(folder=folder))
    assert result.facts["epochs"] == 2
    assert [table.name for table in result.tables] == ["scores"]
    assert (folder / "preview" / "epoch-0002.npz").exists()
