"""How weights are changed: optimizers, rates, averages, parts of a batch, frozen layers, several devices."""

import gc
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_training import files, make_model, run  # noqa: F401

from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.models.files import load_model
from deepscem_tui.engine.models.info import read_network
from deepscem_tui.engine.networks.learning import encoder, learning_network
from deepscem_tui.engine.patches import Batch
from deepscem_tui.engine.system.devices import tensorflow
from deepscem_tui.engine.training.distribution import Distribution, distribution
from deepscem_tui.engine.training.learning_rate import RateSchedule
from deepscem_tui.engine.training.losses import make_loss
from deepscem_tui.engine.training.trainer import Optimisation, State, Trainer


def batch(size: int = 4, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    labels = (rng.random((size, 16, 16, 2)) < 0.3).astype(np.uint8)
    images = (0.5 * labels[..., :1] + 0.5 * rng.random((size, 16, 16, 1))).astype(np.float32)
    return Batch(images, labels)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network without normalisation: what a batch says is the mean of what its patches say."""
    return make_model(tmp_path_factory.mktemp("models") / "plain.keras", normalization="none")


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "normal.keras")


def made(
    path: Path, precision: str = "float32", loss: str = "cross-entropy", shared: Distribution | None = None, **how: Any
) -> Trainer:
    model, info = load_model(path)
    _, graph = read_network(path)
    freeze, supervised = how.pop("freeze", False), how.pop("supervised", False)
    return Trainer(
        lambda: learning_network(graph, precision, frozen_encoder=freeze, supervised=supervised),
        model,
        make_loss(loss, info.activation, info.n_labels, info.n_outputs),
        info.n_labels,
        Optimisation(**how),
        shared or distribution("cpu"),
    )


def weights(trainer: Trainer) -> list[np.ndarray]:
    return [np.array(weight) for weight in trainer.model.get_weights()]


def close(one: list[np.ndarray], other: list[np.ndarray], atol: float = 1e-6) -> bool:
    return all(np.allclose(a, b, rtol=0, atol=atol) for a, b in zip(one, other, strict=True))


# ------------------------------------------------------------------------------------------------ rates


@given(
    st.sampled_from(["constant", "plateau", "cosine", "polynomial"]),
    st.floats(1e-5, 1),
    st.integers(0, 50),
    st.integers(1, 500),
)
def test_rates_rise_and_then_fall(kind: str, base: float, warm_up: int, steps: int) -> None:
    schedule = RateSchedule(kind, base, warm_up, warm_up + steps)
    rates = [schedule.rate(step) for step in range(warm_up + steps)]
    assert all(0 < rate <= base * (1 + 1e-9) for rate in rates)
    assert rates[warm_up] == pytest.approx(base)
    assert all(a < b for a, b in pairwise(rates[: warm_up + 1]))
    later = rates[warm_up:]
    if kind in ("constant", "plateau"):
        assert later == [base] * steps
    else:
        assert all(a > b for a, b in pairwise(later))


def test_the_curves_are_those_of_their_papers() -> None:
    assert RateSchedule("cosine", 1.0, 0, 100).rate(25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert RateSchedule("polynomial", 1.0, 0, 100).rate(25) == pytest.approx(0.75**0.9)


# ------------------------------------------------------------------------------------------------ steps


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_lowers_the_loss(normal: Path, optimizer: str) -> None:
    trainer, state = made(normal, optimizer=optimizer, weight_decay=1e-3), State()
    losses = [trainer.step(batch(), 1e-2, state).loss for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    assert state.updates == 30


def test_a_training_leaves_no_graph_behind(normal: Path) -> None:
    def graphs() -> int:
        gc.collect()
        return sum(type(one).__name__ == "FuncGraph" for one in gc.get_objects())

    made(normal).step(batch(), 1e-3, State())
    before, frozen = graphs(), gc.get_freeze_count()
    for _ in range(3):
        made(normal).step(batch(), 1e-3, State())
    assert gc.get_freeze_count() == frozen  # what is frozen is never collected, nor listed
    assert graphs() <= before


def test_in_bfloat16_it_learns_too_and_the_result_is_float32(normal: Path) -> None:
    trainer, state = made(normal, "bfloat16"), State()
    losses = [trainer.step(batch(), 1e-2, state).loss for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    assert {layer.dtype_policy.name for layer in trainer.model.layers} == {"float32"}
    assert {weight.dtype for weight in weights(trainer)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_batch(plain: Path, parts: int) -> None:
    """Of a loss that is a mean over patches."""
    whole, divided = made(plain, optimizer="sgd"), made(plain, optimizer="sgd", parts=parts)
    for number in range(3):
        one = whole.step(batch(seed=number), 1e-2, State())
        other = divided.step(batch(seed=number), 1e-2, State())
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.norm == pytest.approx(other.norm, rel=1e-4)
        assert np.array_equal(one.counts, other.counts)
    assert close(weights(whole), weights(divided), 1e-5)


def test_counts_are_those_of_the_voxels(plain: Path) -> None:
    trainer, given = made(plain), batch()
    said = trainer.predict(given) > 0.5
    true = given.labels > 0
    counts = trainer.step(given, 1e-3, State()).counts
    for label in range(2):
        t, s = true[..., label], said[..., label]
        assert counts[label].tolist() == [(t & s).sum(), (~t & s).sum(), (t & ~s).sum(), (~t & ~s).sum()]


def test_gradients_are_shortened_together(plain: Path) -> None:
    free, clipped = made(plain, optimizer="sgd"), made(plain, optimizer="sgd", clip=0.01)
    before = weights(free)
    norm = free.step(batch(), 1.0, State()).norm
    assert clipped.step(batch(), 1.0, State()).norm == pytest.approx(norm)
    moved = [a - b for a, b in zip(weights(free), before, strict=True)]
    short = [a - b for a, b in zip(weights(clipped), before, strict=True)]
    for far, near in zip(moved, short, strict=True):
        assert np.allclose(near, far * 0.01 / norm, atol=1e-6)


def test_weight_decay_leaves_biases_alone(plain: Path) -> None:
    trainer = made(plain, optimizer="adamw", weight_decay=0.1)
    before = weights(trainer)
    still = Batch(np.zeros((2, 16, 16, 1), np.float32), batch(2).labels)
    without = made(plain, optimizer="adamw")
    trainer.step(still, 1e-2, State())
    without.step(still, 1e-2, State())
    for old, decayed, plainly in zip(before, weights(trainer), weights(without), strict=True):
        lost = plainly - decayed
        assert np.allclose(lost, 1e-3 * old if old.ndim > 1 else 0, atol=1e-6)


def test_the_average_follows_the_weights(normal: Path) -> None:
    trainer, state = made(normal, ema=0.9), State()
    expected = weights(trainer)
    for number in range(4):
        trainer.step(batch(seed=number), 1e-2, state)
        kept = min(0.9, (2 + number) / (11 + number))
        learning = [weight.numpy() for _, weight in trainer._pairs]
        expected = [kept * a + (1 - kept) * b for a, b in zip(expected, learning, strict=True)]
    assert close([average.numpy() for average, _ in trainer._pairs], expected)
    assert not close(expected, [weight.numpy() for _, weight in trainer._pairs])


def test_a_frozen_encoder_stays_as_it_is(normal: Path) -> None:
    trainer = made(normal, freeze=True)
    _, graph = read_network(normal)
    frozen = set(encoder(graph))
    assert {name.split("_")[0] for name in frozen} == {"image", "down", "bottom"}
    before = {layer.name: layer.get_weights() for layer in trainer.model.layers}
    for _ in range(2):
        trainer.step(batch(), 1e-2, State())
    for layer in trainer.model.layers:
        if layer.get_weights():
            assert close(before[layer.name], layer.get_weights(), 0) == (layer.name in frozen), layer.name


def test_a_bad_step_changes_nothing(normal: Path) -> None:
    trainer, state = made(normal, ema=0.9), State()
    trainer.step(batch(), 1e-2, state)
    before = trainer.arrays()
    bad = batch()
    bad.images[1, 2, 3] = np.inf
    assert not trainer.step(bad, 1e-2, state).finite
    assert state.updates == 1
    after = trainer.arrays()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    losses = trainer.losses(bad)
    assert [math.isfinite(loss) for loss in losses] == [True, False, True, True]


def test_what_a_checkpoint_holds_is_all_there_is(normal: Path) -> None:
    one, state = made(normal, ema=0.9, optimizer="adamw", weight_decay=0.01), State()
    one.step(batch(), 1e-2, state)
    kept, known = one.arrays(), State(**vars(state))
    one.step(batch(seed=1), 1e-2, state)
    other = made(normal, ema=0.9, optimizer="adamw", weight_decay=0.01)
    other.take(kept)
    other.step(batch(seed=1), 1e-2, known)
    assert close(weights(one), weights(other), 1e-7)
    with pytest.raises((KeyError, ValueError)):
        made(normal, ema=0.9, optimizer="sgd").take({"model_0": np.zeros(3)})


def test_coarser_levels_are_taught_too_and_not_kept(tmp_path: Path) -> None:
    deep = make_model(tmp_path / "deep.keras", depth=4)
    trainer, alone = made(deep, supervised=True), made(deep)
    count = len(trainer.model.weights)
    losses = [trainer.step(batch(), 1e-2, State()).loss for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    assert len(trainer._model.outputs) == 3
    assert len(trainer.model.weights) == count == len(alone.model.weights)
    said, given = trainer._model(batch().images, training=False), batch().labels
    shares = []
    for number, output in enumerate(said):
        step = 2**number
        targets = given[:, step // 2 :: step, step // 2 :: step]
        shares.append(float(trainer._loss(targets.astype(np.float32), output)))
    expected = (shares[0] + shares[1] / 2 + shares[2] / 4) / 1.75
    assert float(trainer._outcome(tensorflow().constant(given), said)[0]) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ParameterError, match="deep supervision"):
        made(make_model(tmp_path / "flat.keras"), supervised=True)


def test_dropout_follows_from_seed_and_step(tmp_path: Path) -> None:
    path = make_model(tmp_path / "dropped.keras", dropout=0.5)
    results = []
    for seed in (0, 0, 1):
        trainer, state = made(path, seed=seed, optimizer="sgd"), State()
        results.append([trainer.step(batch(), 1e-2, state).loss for _ in range(2)])
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    assert results[0] != pytest.approx(results[2], rel=1e-5)
    assert results[0][0] != pytest.approx(results[0][1], rel=1e-5)


def test_smoothed_targets_are_less_sure() -> None:
    tf = tensorflow()
    targets = tf.constant([[[[1.0, 0.0]]]])
    outputs = tf.constant([[[[0.7, 0.2]]]])
    loss = make_loss("cross-entropy", "sigmoid", 2, 2, 0.2)
    expected = -np.mean([0.9 * np.log(0.7) + 0.1 * np.log(0.3), 0.1 * np.log(0.2) + 0.9 * np.log(0.8)])
    assert float(loss(targets, outputs)) == pytest.approx(expected, rel=1e-5)
    shared = make_loss("cross-entropy", "softmax", 1, 2, 0.2)
    expected = -(0.9 * np.log(0.7) + 0.1 * np.log(0.3))
    assert float(shared(targets[..., :1], tf.constant([[[[0.7, 0.3]]]]))) == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------------------------------------------ devices


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if tensorflow().config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(ParameterError, match=r"no GPU 3"):
        distribution("3")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}']
)
def test_a_wrong_cluster_is_said(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ParameterError, match="TF_CONFIG"):
        distribution("auto")


_MIRRORED = """
import sys, numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, {tests!r})
from test_optimisation import batch, made, weights
from deepscem_tui.engine.training.distribution import Distribution
from deepscem_tui.engine.training.trainer import State
from pathlib import Path
model = Path({model!r})
one = made(model, optimizer="sgd", clip=1.0, ema=0.5)
both = Distribution(tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]))
two = made(model, optimizer="sgd", clip=1.0, ema=0.5, shared=both)
assert two.distribution.n_replicas == 2
for number in range(3):
    a, b = one.step(batch(seed=number), 0.1, State()), two.step(batch(seed=number), 0.1, State())
    assert abs(a.loss - b.loss) < 1e-5 and abs(a.norm - b.norm) < 1e-4, (a, b)
    assert np.array_equal(a.counts, b.counts)
for a, b in zip(weights(one), weights(two)):
    assert np.allclose(a, b, atol=1e-5)
kept = two.arrays()
two.step(batch(), 0.1, State())
two.take(kept)
for a, b in zip(weights(one), weights(two)):
    assert np.allclose(a, b, atol=1e-5)
bad = batch(); bad.images[0] = np.nan
assert not two.step(bad, 0.1, State()).finite
print("alike")
"""


def test_two_devices_learn_as_one(plain: Path) -> None:
    """Logical devices of one processor, in the place of two GPUs."""
    script = _MIRRORED.format(tests=str(Path(__file__).parent), model=str(plain))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip().endswith("alike"), done.stderr[-3000:]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_processes_keep_the_same_weights_as_one(files: dict[str, Path], plain: Path) -> None:  # noqa: F811
    """Each with its own part of every batch, as on two machines."""
    here = files["train"].parent
    how = {"loss": "cross-entropy", "optimizer": "sgd", "learning_rate": 0.05, "precision": "float32"}
    run(files, model=plain, steps_per_epoch=2, **how)
    alone = load_model(files["out"])[0].get_weights()
    files["out"].unlink()
    workers = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    processes = []
    for index in range(2):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        command = [
            sys.executable, "-m", "deepscem_tui", "run", "train", str(plain), str(files["out"]),
            "--train", str(files["train"]), "--valid", str(files["train"]), "--epochs", "2", "--steps-per-epoch", "2",
            "--batch-size", "2", "--patch-size", "16,16", "--no-keep-best",
            *(word for name, value in how.items() for word in (f"--{name.replace('_', '-')}", str(value))),
        ]  # fmt: skip
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), "DEEPSCEM_TUI_RUNS": str(here / f"runs{index}")}
        processes.append(
            subprocess.Popen(
                command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    stored = []
    for index in range(2):
        (newest,) = (here / f"runs{index}").glob("*/checkpoint/step-000000004.npz")
        with np.load(newest) as arrays:
            stored.append({name: arrays[name] for name in arrays if name.startswith("model")})
    assert stored[0].keys() == stored[1].keys()
    for name, value in stored[0].items():
        assert np.array_equal(value, stored[1][name]), name
    assert len(list(here.glob("runs*/*/last.keras"))) == 1
    together = load_model(files["out"])[0].get_weights()
    assert all(np.allclose(a, b, rtol=0, atol=1e-5) for a, b in zip(alone, together, strict=True))


# ------------------------------------------------------------------------------------------------ resuming


def test_killed_and_resumed_it_reaches_the_same_weights_bit_for_bit(files: dict[str, Path]) -> None:  # noqa: F811
    """Killed without warning, at whatever it is doing; with deterministic operations."""
    here = files["train"].parent
    command = [
        sys.executable, "-m", "deepscem_tui", "run", "train", str(files["model"]), "OUT",
        "--train", str(files["train"]), "--epochs", "3", "--steps-per-epoch", "20", "--batch-size", "2",
        "--patch-size", "16,16", "--precision", "float32", "--deterministic", "--ema", "0.9",
        "--checkpoint-minutes", "0.0005",
    ]  # fmt: skip

    def asked(out: str) -> list[str]:
        return [out if part == "OUT" else part for part in command]

    environment = {**os.environ, "DEEPSCEM_TUI_RUNS": str(here / "runs")}
    started = subprocess.Popen(asked("killed.keras"), cwd=here, env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: list((here / "runs").glob("*/checkpoint/step-00000002*.npz")) or started.poll() is not None)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert not (here / "killed.keras").exists()
    resume = [sys.executable, "-m", "deepscem_tui", "runs", "resume", next((here / "runs").iterdir()).name]
    for more in (resume, asked("whole.keras")):
        done = subprocess.run(more, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, other = (load_model(here / name)[0].get_weights() for name in ("killed.keras", "whole.keras"))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
