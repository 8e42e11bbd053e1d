"""Training: what is refused before it starts, what it leaves, and that stopping changes nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import Dataset, new_dataset
from deepscem_tui.engine.errors import (
    DatasetError,
    EngineError,
    ModelError,
    ParameterError,
    ResourceError,
    RunError,
    Stopped,
)
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.models.files import load_model, read_info
from deepscem_tui.engine.patches import Batch, PatchSampler, Source
from deepscem_tui.engine.prediction.tiling import along_axes
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.runs import preview as run_preview
from deepscem_tui.engine.sources.voxel_sizes import set_voxel_size
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.training.learning_rate import RateSchedule
from deepscem_tui.engine.training.loop import Schedule, TrainingLoop, smoothed
from deepscem_tui.engine.training.plan import fitting_patch
from deepscem_tui.engine.training.preview import choose_preview
from deepscem_tui.engine.training.train import train
from deepscem_tui.engine.training.trainer import State

NAMES = ("disc", "half")


class Listener(Reporter):
    """Keeps what is said, and asks for a stop after some steps."""

    def __init__(self, stop: Stop | None = None, after: int = 0) -> None:
        self.warnings: list[str] = []
        self.messages: list[str] = []
        self.events: list[tuple[str, dict]] = []
        self._stop, self._after = stop, after

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        if self._stop and task == "Training" and done >= self._after:
            self._stop.request("test")

    def event(self, kind: str, **facts: object) -> None:
        self.events.append((kind, dict(facts)))


def make_dataset(
    path: Path, shape: Sequence[int] = (4, 24, 32), n_labels: int = 2, names: Sequence[str] = NAMES, seed: int = 0
) -> Path:
    """Discs of differing brightness, and the image's left half."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[1], : shape[2]]
    masks = [np.broadcast_to(((y - 12) ** 2 + (x - 16) ** 2 < 40), shape), np.broadcast_to((x < 16) & (y >= 0), shape)]
    image = np.clip(0.3 + 0.4 * masks[0] + 0.2 * masks[1] + rng.normal(0, 0.02, shape), 0, 1)
    with new_dataset(path, path.stem, n_labels, names[:n_labels]) as dataset:
        members = {"image": np.float32} | {f"label_{i:04}": np.uint8 for i in range(n_labels)}
        sample = dataset.add_sample("s", shape, members=members)
        sample["image"][0 : shape[0]] = image.astype(np.float32)
        for i in range(n_labels):
            sample[f"label_{i:04}"][0 : shape[0]] = masks[i].astype(np.uint8)
    return path


def make_model(path: Path, **settings: object) -> Path:
    create_model(p.CreateModel(out=path, **{"labels": 2, "depth": 2, "filters": 2, **settings}), Context())
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "run").mkdir()
    return {
        "model": make_model(tmp_path / "m.keras"),
        "out": tmp_path / "out.keras",
        "train": make_dataset(tmp_path / "train.hdf5"),
    }


SHORT = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 2, "patch_size": (16, 16)}


def run(files: dict, report: Reporter | None = None, stop: Stop | None = None, folder: str = "run", **more: object):
    where = files["train"].parent / folder
    where.mkdir(exist_ok=True)
    context = Context(report or Reporter(), stop or Stop(), where)
    return train(p.Train(**{**SHORT, **files, **more}), context)


# ------------------------------------------------------------------------------------------------ the patch


def of_shapes(shapes: dict[str, Shape]) -> Dataset:
    """What a data set with such samples says of them."""
    samples = {name: SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()}
    return SimpleNamespace(path=Path("train.hdf5"), samples=samples)


@pytest.mark.parametrize(
    ("asked", "dimension", "divisor", "shapes", "expected"),
    [
        (None, 2, 16, [(10, 500, 300)], (1, 256, 256)),
        (None, 2, 16, [(10, 500, 300), (1, 250, 40)], (1, 240, 32)),
        (None, 3, 8, [(20, 500, 100)], (16, 128, 96)),
        (None, 2, 1, [(1, 7, 5)], (1, 7, 5)),
        ((64, 48), 2, 16, [(10, 64, 64)], (1, 64, 48)),
        ((8, 64, 48), 2, 16, [(2, 64, 64)], (1, 64, 48)),
        ((8, 64, 48), 3, 8, [(8, 64, 64)], (8, 64, 48)),
    ],
)
def test_the_patch_fits_the_smallest_sample(asked, dimension, divisor, shapes, expected) -> None:
    dataset = of_shapes({str(index): shape for index, shape in enumerate(shapes)})
    assert fitting_patch(asked, dimension, along_axes(divisor, 1, dimension), dataset) == expected


@pytest.mark.parametrize(
    ("asked", "dimension", "shape", "error", "words"),
    [
        ((64, 64), 3, (64, 64, 64), ParameterError, "Give three"),
        ((128, 128), 2, (1, 64, 200), ParameterError, "sample 'small' of train.hdf5 has 64 voxels along Y. 64 is"),
        ((24, 20), 2, (1, 64, 64), ParameterError, "along X must be a multiple of 8 (it is 20). Use 16 or 24"),
        (None, 2, (9, 7, 64), DatasetError, "sample 'small' of train.hdf5 has 7 voxels along Y"),
        (None, 3, (4, 64, 64), DatasetError, "fewer levels"),
    ],
)
def test_a_patch_that_does_not_fit_is_explained(asked, dimension, shape, error, words: str) -> None:
    dataset = of_shapes({"small": shape, "large": (999, 999, 999)})
    with pytest.raises(error) as caught:
        fitting_patch(asked, dimension, along_axes(8, 1, dimension), dataset)
    assert words in str(caught.value)


@pytest.mark.parametrize("learn", [(8, 24, 32), (16, 64, 48)])
@pytest.mark.parametrize("dimension", [2, 3])
def test_the_patch_fits_what_is_learned_from_and_nothing_else(files, tmp_path: Path, learn, dimension: int) -> None:
    """Validation computes whole samples, of any size; that it names one as training does says nothing."""
    model = make_model(tmp_path / "model.keras", dimension=dimension, normalization="none")
    files |= {"model": model, "train": make_dataset(tmp_path / "learn.hdf5", learn)}
    valid = make_dataset(tmp_path / "valid.hdf5", (16, 64, 48) if learn[0] == 8 else (3, 20, 17), seed=1)
    listener = Listener()
    run(files, listener, valid=valid, patch_size=None, epochs=1)
    facts = dict(listener.events)["started"]
    assert facts["patch_size"] == [*(learn[:1] if dimension == 3 else [1]), *learn[1:]]
    assert "Validating on all voxels" in " ".join(listener.messages)


# ------------------------------------------------------------------------------------------------ refusals


def refused(files: dict, error: type[EngineError], words: str, **more: object) -> None:
    with pytest.raises(error) as caught:
        run(files, **more)
    assert words in str(caught.value)
    assert list((files["train"].parent / "run").iterdir()) == []
    assert not files["out"].exists()


def test_what_does_not_fit_the_model_is_refused(files, tmp_path: Path) -> None:
    refused(
        files, ModelError, "has 1 label a sample, and the model 2", train=make_dataset(tmp_path / "1.hdf5", n_labels=1)
    )
    refused(files, ModelError, "and the model 2", valid=make_dataset(tmp_path / "v.hdf5", n_labels=1))
    with new_dataset(tmp_path / "empty.hdf5", "empty", 2) as _:
        pass
    refused(files, DatasetError, "has no samples", test=tmp_path / "empty.hdf5")
    refused(files, ParameterError, "voxels along Y", patch_size=(64, 64))
    refused(files, ParameterError, "cross-entropy", model=make_model(tmp_path / "t.keras", activation="tanh"))


def test_a_data_set_without_labels_is_refused(files, tmp_path: Path) -> None:
    with new_dataset(tmp_path / "p.hdf5", "p", 2) as dataset:
        sample = dataset.add_sample("s", (1, 32, 32), members={"image": np.float32, "prediction_0000": np.uint8})
        sample["image"][0:1] = np.zeros((1, 32, 32), np.float32)
        sample["prediction_0000"][0:1] = np.zeros((1, 32, 32), np.uint8)
    refused(files, DatasetError, "0 of 2 labels", train=tmp_path / "p.hdf5")


def test_a_batch_that_cannot_fit_is_refused_with_one_that_does(files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.system.memory.available_memory", lambda: 1 << 20)
    refused(files, ResourceError, "GiB of memory", batch_size=100_000)


def test_an_existing_result_is_kept(files) -> None:
    files["out"].write_text("mine")
    with pytest.raises(ParameterError, match="--overwrite"):
        run(files)
    assert files["out"].read_text() == "mine"


def test_a_dry_run_says_the_plan_and_writes_nothing(files) -> None:
    result = run(files, dry_run=True, patch_size=None)
    assert result.facts["patch_size"] == [1, 24, 32]
    assert not files["out"].exists()
    assert list((files["train"].parent / "run").iterdir()) == []


# ------------------------------------------------------------------------------------------------ what it does


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({"dimension": 2, "activation": "sigmoid"}, "dice-cross-entropy"),
        ({"dimension": 2, "activation": "softmax", "architecture": "fcn", "block": "vgg"}, "cross-entropy"),
        ({"dimension": 3, "activation": "sigmoid"}, "dice"),
        ({"dimension": 2, "activation": "linear", "normalization": "none"}, "mean-squared-error"),
    ],
)
def test_weights_change_and_the_model_says_how_it_was_trained(files, tmp_path: Path, settings, loss) -> None:
    model = make_model(tmp_path / "own.keras", **settings)
    patch = (2, 16, 16) if settings["dimension"] == 3 else (16, 16)
    result = run(files, model=model, loss=loss, valid=files["train"], patch_size=patch)
    before, after = (load_model(path)[0].get_weights() for path in (model, files["out"]))
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    info = read_info(files["out"])
    assert info.label_names == NAMES
    assert info.patch_size == ((2, 16, 16) if settings["dimension"] == 3 else (1, 16, 16))
    assert info.training is not None
    assert info.training["loss"] == loss
    assert result.facts["best_epoch"] in (1, 2)


def test_it_learns(files) -> None:
    listener = Listener()
    model = make_model(files["train"].parent / "wide.keras", filters=8)
    run(
        files,
        listener,
        model=model,
        valid=files["train"],
        epochs=6,
        steps_per_epoch=15,
        batch_size=4,
        learning_rate=5e-3,
        augmentation="flips",
    )
    epochs = [facts for kind, facts in listener.events if kind == "epoch"]
    assert epochs[-1]["loss"] < 0.5 * epochs[0]["loss"]
    assert epochs[-1]["validation_f1_disc"] > 0.8
    assert epochs[-1]["validation_f1_half"] > 0.8


def test_stopping_in_mid_epoch_and_resuming_gives_the_same_weights(files) -> None:
    run(files, valid=files["train"], folder="whole")
    whole = load_model(files["out"])[0].get_weights()
    files["out"].unlink()

    stop = Stop()
    listener = Listener(stop, after=5)
    with pytest.raises(Stopped, match="after 1 epoch and 2 steps"):
        run(files, listener, stop, valid=files["train"])  # in the second epoch of three steps
    assert not files["out"].exists()
    assert [(e["epoch"], e["step"]) for kind, e in listener.events if kind == "step"][-1] == (2, 2)
    listener = Listener()
    run(files, listener, valid=files["train"])
    assert any("Going on after epoch 1, step 2" in message for message in listener.messages)
    resumed = load_model(files["out"])[0].get_weights()
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_the_best_is_kept_when_the_end_is_worse(files) -> None:
    listener = Listener()
    result = run(files, listener, valid=files["train"], epochs=5, learning_rate=1.0)
    epochs = [facts for kind, facts in listener.events if kind == "epoch"]
    judged = [round(facts["validation_smoothed_f1"], 6) for facts in epochs]
    best = result.facts["best_epoch"] - 1
    assert judged[best] == max(judged)
    assert [facts["best"] for facts in epochs][best:] == [True] + [False] * (len(epochs) - 1 - best)
    scores = [(facts["validation_f1_disc"] + facts["validation_f1_half"]) / 2 for facts in epochs]
    assert result.facts["validation_f1"] == pytest.approx(scores[best])
    assert read_info(files["out"]).training["validation_f1"] == pytest.approx(scores[best])
    last = run(files, listener, valid=files["train"], epochs=2, keep_best=False, overwrite=True, folder="other")
    assert "best_epoch" not in last.facts


def test_the_model_says_its_thresholds_and_the_events_what_scores_are_at_them(files) -> None:
    listener = Listener()
    run(files, listener, valid=make_dataset(files["train"].with_name("valid.hdf5"), seed=1))
    epochs = [facts for kind, facts in listener.events if kind == "epoch"]
    best = max(facts["epoch"] for facts in epochs if facts["best"])
    stored = read_info(files["out"]).thresholds
    assert stored == tuple(epochs[best - 1][f"validation_threshold_{name}"] for name in NAMES)
    for facts in epochs:
        for name in NAMES:
            assert facts[f"validation_f1_{name}"] >= facts[f"validation_untuned_f1_{name}"]
            for prefix in ("", "validation_"):
                precision, recall = facts[f"{prefix}precision_{name}"], facts[f"{prefix}recall_{name}"]
                harmonic = 2 * precision * recall / (precision + recall) if precision else 0.0
                assert facts[f"{prefix}f1_{name}"] == pytest.approx(harmonic)
    assert any("Validating on all voxels" in text for text in listener.messages)
    plain = Listener()
    run(files, plain, valid=files["train"], tune_thresholds=False, overwrite=True, folder="plain", epochs=1)
    assert read_info(files["out"]).thresholds is None
    facts = next(facts for kind, facts in plain.events if kind == "epoch")
    assert all(facts[f"validation_f1_{name}"] == facts[f"validation_untuned_f1_{name}"] for name in NAMES)
    assert not any("at a threshold of" in text for text in plain.messages if text.startswith("Epoch"))
    run(files, model=files["out"], overwrite=True, folder="unvalidated", epochs=1)
    assert read_info(files["out"]).thresholds is None


def test_few_validation_steps_validate_on_a_part(files) -> None:
    listener = Listener()
    valid = make_dataset(files["train"].with_name("valid.hdf5"), (8, 24, 32), seed=1)
    run(files, listener, valid=valid, validation_steps=4, epochs=1)
    assert any("Validating on 2 tiles" in text and "the same 25 % of" in text for text in listener.messages)


def test_smoothing_forgets_by_halves_and_begins_without_bias() -> None:
    mean = 123.0
    for epoch, f1 in enumerate((0.4, 0.8, 0.2), 1):
        mean = smoothed(mean, f1, epoch)
    assert mean == pytest.approx((0.2 + 0.8 / 2 + 0.4 / 4) / 1.75)
    assert smoothed(0.0, 0.7, 1) == 0.7


def test_early_stopping_ends_a_training_that_learns_nothing(files) -> None:
    result = run(files, valid=files["train"], epochs=40, steps_per_epoch=1, learning_rate=1e-9, early_stopping=True)
    assert result.facts["epochs"] < 40


def test_the_rate_is_halved_on_a_plateau() -> None:
    loop = TrainingLoop(*[None] * 9)  # type: ignore[arg-type]
    loop.schedule = Schedule(1, 30, False, RateSchedule("plateau", 8e-6, 0, 30), 600)
    state, rates = State(), []
    for loss in (1.0, 0.9, 0.9, 0.95, 0.9, 0.8, 0.8, 0.8, 0.8, *[0.8] * 12):
        loop._follow_plateau(state, loss)
        rates.append(loop._rate(state, 0))
    assert rates[:9] == [8e-6] * 4 + [4e-6] * 4 + [2e-6]
    assert rates[-1] == 1e-6


def test_a_stop_during_validation_keeps_the_columns_of_the_metrics(files, tmp_path: Path) -> None:
    stop = Stop()

    class Stopping(Listener):
        def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
            if task == "Training" and done == 3:  # the last step of the first epoch
                stop.request("test")

    with pytest.raises(Stopped):
        run(files, Stopping(), stop, valid=files["train"])
    listener = Listener()
    run(files, listener, valid=files["train"])
    epochs = [facts for kind, facts in listener.events if kind == "epoch"]
    assert [facts["epoch"] for facts in epochs] == [1, 2]
    assert list(epochs[0]) == list(epochs[1])
    assert epochs[0]["patches_per_second"] is None


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"rubbish"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(files, damage) -> None:
    run(files)
    before, newest = sorted((files["train"].parent / "run" / "checkpoint").iterdir())
    assert (before.name, newest.name) == ("step-000000003.npz", "step-000000006.npz")
    whole = newest.read_bytes()
    newest.write_bytes(damage(whole))
    listener = Listener()
    run(files, listener)
    assert any("step-000000006.npz cannot be used" in text for text in listener.warnings)
    assert any("Going on after epoch 1, step 0" in text for text in listener.messages)
    for path in (before, newest):
        path.write_bytes(damage(whole))
    with pytest.raises(RunError, match=r"step-000000006\.npz cannot be used"):
        run(files)


def test_a_blank_label_and_other_names_are_warned_of(files, tmp_path: Path) -> None:
    with new_dataset(tmp_path / "blank.hdf5", "blank", 2, ("disc", "void")) as dataset:
        members = {"image": np.float32, "label_0000": np.uint8, "label_0001": np.uint8}
        sample = dataset.add_sample("s", (2, 16, 16), members=members)
        sample["image"][0:2] = np.random.default_rng(0).random((2, 16, 16)).astype(np.float32)
        sample["label_0000"][0:2] = np.ones((2, 16, 16), np.uint8)
        sample["label_0001"][0:2] = np.zeros((2, 16, 16), np.uint8)
    named = make_model(tmp_path / "named.keras", labels=None, like=files["train"])
    listener = Listener()
    run(files, listener, model=named, train=tmp_path / "blank.hdf5", valid=tmp_path / "blank.hdf5")
    assert any("'void' is blank" in text for text in listener.warnings)
    assert any("disc, void; those of the model disc, half" in text for text in listener.warnings)
    epoch = next(facts for kind, facts in listener.events if kind == "epoch")
    assert epoch["validation_f1_void"] is None


def test_the_test_set_is_scored_and_kept(files) -> None:
    listener = Listener()
    result = run(files, listener, test=files["train"])
    folder = files["train"].parent / "run"
    assert (folder / "test.hdf5").exists()
    assert (folder / "test.csv").read_text().startswith("label,sample,f1,iou")
    assert result.tables[0].name == "scores"
    assert [kind for kind, _ in listener.events].count("started") == 1
    json.dumps(dict(listener.events)["test"])


def test_previews_show_one_slice(files) -> None:
    run(files, valid=files["train"])
    folder = files["train"].parent / "run" / "preview"
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-0001.npz", "epoch-0002.npz", "now.npz"]
    preview = run_preview.read(folder / "epoch-0002.npz")
    assert preview.image.shape == (16, 16)
    assert preview.labels is not None
    assert preview.labels.shape == preview.prediction.shape == (2, 16, 16)
    assert preview.labels.any(axis=(1, 2)).all()  # it shows some of either label
    assert (preview.names, preview.sample, preview.known) == (NAMES, "s", None)
    assert preview.thresholds == read_info(folder.parent / "last.keras").thresholds


def test_a_step_that_is_no_number_is_left_out(files, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(monkeypatch, {1, 2, 4})
    listener = Listener()
    run(files, listener)
    assert [text for text in listener.warnings if "left out" in text] == [
        f"The loss is not a number in epoch {epoch}, step {step}: the step is left out"
        for epoch, step in ((1, 2), (1, 3), (2, 2))
    ]
    assert all(np.isfinite(weight).all() for weight in load_model(files["out"])[0].get_weights())
    assert next(facts["loss"] for kind, facts in listener.events if kind == "step" and facts["step"] == 3) is None


def test_after_three_bad_steps_the_last_good_state_is_tried_at_half_the_rate(files, monkeypatch) -> None:
    poisoned(monkeypatch, {3, 4, 5}, times=3)
    listener = Listener()
    run(files, listener, epochs=3, schedule="constant", warm_up=0, learning_rate=0.5)
    assert any("going back to epoch 1, step 0, with half the learning rate" in text for text in listener.warnings)
    rates = [facts["learning_rate"] for kind, facts in listener.events if kind == "epoch"]
    assert rates == [0.5, 0.25, 0.25]


def test_a_training_that_explodes_again_says_where(files, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(monkeypatch, {3, 4, 5})
    with pytest.raises(EngineError, match=r"3 steps in a row, again.* of sample 's' from voxel .* alone gives nan"):
        run(files)
    assert not files["out"].exists()


def poisoned(monkeypatch: pytest.MonkeyPatch, steps: set[int], times: int = 1000) -> None:
    """Have the second patch of these steps hold values that no image has, so many times."""
    real, left = PatchSampler.batch, [times]

    def batch(self: PatchSampler, step: int, *rest: object) -> Batch:
        made = real(self, step, *rest)
        if step in steps and left[0] > 0:
            left[0] -= 1
            made.images[1, 3, 3] = np.nan
        return made

    monkeypatch.setattr(PatchSampler, "batch", batch)


def test_in_bfloat16_a_level_two_slices_deep_is_trained_in_float32(files, tmp_path: Path) -> None:
    """Where it would be left to luck whether gradients are numbers."""
    volume = make_model(tmp_path / "volume.keras", dimension=3)
    deep = make_dataset(tmp_path / "deep.hdf5", (8, 24, 32))
    for slices, said in ((4, True), (2, True), (8, False)):
        listener = Listener()
        run(
            files, listener, folder=f"run{slices}", train=deep, model=volume, patch_size=(slices, 16, 16), epochs=1,
            precision="bfloat16", devices="cpu", overwrite=True,
        )  # fmt: skip
        assert any("2 slices deep" in text for text in listener.warnings) == said, slices
        assert dict(listener.events)["started"]["precision"] == ("float32" if said else "bfloat16")


# ------------------------------------------------------------------------------------------------ watching, going on


def test_steps_are_told_now_and_then_and_at_the_end_of_an_epoch(files, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    run(files, listener)
    steps = [facts for kind, facts in listener.events if kind == "step"]
    assert [(s["epoch"], s["step"]) for s in steps if s["step"] == 3] == [(1, 3), (2, 3)]
    for facts in steps:
        assert (facts["steps_per_epoch"], facts["epochs"]) == (3, 2)
        assert facts["loss"] > 0
        assert facts["patches_per_second"] > 0
        assert 0 <= facts["waiting_for_data"] <= 1
    monkeypatch.setattr("deepscem_tui.engine.training.loop._STEP_SECONDS", 0.0)
    every = Listener()
    run(files, every, folder="run2", overwrite=True)
    assert len([kind for kind, _ in every.events if kind == "step"]) == 6


def test_a_long_epoch_shows_its_slice_again_and_again(files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.training.loop.PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr("deepscem_tui.engine.training.loop._PREVIEW_SHARE", 1e9)
    listener = Listener()
    run(files, listener)
    previews = [facts["epoch"] for kind, facts in listener.events if kind == "preview"]
    assert previews == [None, None, None, 1, None, None, None, 2]


def test_the_slice_that_is_shown_has_labels_where_there_are_any() -> None:
    rng = np.random.default_rng(0)
    blank = np.zeros((6, 40, 40), np.uint8)
    rare = blank.copy()
    rare[5, 30:34, 1:4] = 1
    image = rng.random((6, 40, 40)).astype(np.float32)
    sources = [
        Source(name, image.shape, None, image, [label], np.count_nonzero(label, axis=(1, 2))[None])
        for name, label in (("blank", blank), ("rare", rare))
    ]
    chosen = choose_preview(sources, (1, 16, 16), True)
    assert (chosen.sample, chosen.z) == ("rare", 5)
    assert chosen.batch.labels.sum() == 12
    assert choose_preview(sources[:1], (1, 16, 16), True).sample == "blank"


def test_a_finished_training_goes_on_from_where_it_was(files) -> None:
    """Two epochs and then two more are the same as four, where the rate does not depend on how many there are."""
    run(files, schedule="constant", warm_up=0)
    run(files, schedule="constant", warm_up=0, epochs=4)
    continued = [np.array(w) for w in load_model(files["out"])[0].get_weights()]
    whole = {**files, "out": files["out"].with_name("whole.keras")}
    run(whole, schedule="constant", warm_up=0, folder="whole", epochs=4)
    for one, other in zip(continued, load_model(whole["out"])[0].get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_a_result_that_is_not_the_runs_own_is_not_replaced(files) -> None:
    run(files)
    files["out"].write_bytes(b"somebody else's")
    with pytest.raises(ParameterError, match=r"exists already.*--overwrite"):
        run(files, epochs=3)
    assert files["out"].read_bytes() == b"somebody else's"
    run(files, epochs=3, overwrite=True)
    assert read_info(files["out"]).n_labels == 2


def test_early_stopping_begins_anew_with_more_epochs(files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.training.loop.Schedule.patience", 1)
    monkeypatch.setattr("deepscem_tui.engine.training.loop._rank", lambda *_: (0.5, -1.0))  # nothing ever improves
    ended = Listener()
    run(files, ended, epochs=10, early_stopping=True)
    assert [facts["epoch"] for kind, facts in ended.events if kind == "epoch"] == [1, 2]
    again = Listener()
    run(files, again, epochs=20, early_stopping=True)
    assert [facts["epoch"] for kind, facts in again.events if kind == "epoch"] == [3]


def test_voxel_sizes_are_compared_and_remembered(files) -> None:
    """Those of the data of a training with each other; the model knows what it has learned from."""
    valid, heard = make_dataset(files["train"].with_name("valid.hdf5"), seed=1), Listener()
    for file, size in ((files["train"], "30,8,8 nm"), (valid, "30,16,16 nm")):
        set_voxel_size(p.SetVoxelSize(file=file, voxel_size=size), Context())
    run(files, heard, valid=valid, epochs=1, steps_per_epoch=1)
    (warning,) = [text for text in heard.warnings if "have another size" in text]
    assert "are 30 x 16 x 16 nm, those of" in warning
    info = read_info(files["out"])
    assert (info.voxel_size, info.voxel_unit) == ((30, 8, 8), "nm")
