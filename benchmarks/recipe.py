"""What quality the default training reaches, against DeepSCEM's recipe after the same steps on the same patches' size.

    python benchmarks/recipe.py            the table; what is missing is computed, piece by piece, and kept
    python benchmarks/recipe.py --seeds 1 --data-sets fib25 --labels few    some of it

Each of two data sets with few labels (4 slices or images) and many: both train a 2D U-Net of 16 filters and depth 4 for
300 steps of 4 x 192 x 192, and predict and score the same held-out images.
DeepSCEM's recipe is written afresh here from a description of it and the layers of a model that it wrote: no
normalisation in the blocks (only in the shortcut), Dice alone, Adam at 1e-3, flips and quarter turns, three of four
patches around a labelled voxel. Ours is `deepscem-tui run train` with its defaults, or with other --recipe options.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from real_data import AXONSEM_TEST, NETWORK, make_axonsem, make_fib25, run

from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.system.devices import keras, tensorflow

STEPS, BATCH, SIDE = 300, 4, 192
FEW = {
    "fib25": [("train", f"{z}:{z + 1}") for z in (20, 70, 120, 170)],
    "axonsem": [
        "sub-rat1_sample-data1",
        "sub-rat3_sample-data9",
        "sub-rat5_sample-data14",
        "sub-rat7_sample-Maxo03img60",
    ],
}

Array = npt.NDArray[np.float32]


def prepare(name: str, data: Path, work: Path) -> None:
    """The data sets ``many.hdf5``, ``few.hdf5`` and ``test.hdf5``."""
    if (work / "few.hdf5").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    {"fib25": make_fib25, "axonsem": make_axonsem}[name](data / name, work)
    (work / "train.hdf5").rename(work / "many.hdf5")
    run("save-dataset", work / "many.hdf5", work / "some.hdf5")
    if name == "fib25":
        for number, (sample, bounds) in enumerate(FEW[name]):
            run("crop-sample", work / "some.hdf5", sample, "--z", bounds, "--name", f"slice {number}")
        run("remove-sample", work / "some.hdf5", "train")
    else:
        with open_dataset(work / "some.hdf5") as dataset:
            others = set(dataset.samples) - set(FEW[name])
        for sample in sorted(others):
            assert sample not in AXONSEM_TEST
            run("remove-sample", work / "some.hdf5", sample)
    (work / "some.hdf5").rename(work / "few.hdf5")


# ------------------------------------------------------------------------------------------------ DeepSCEM's recipe


def deepscem_network(n_labels: int, filters: int = 16, depth: int = 4) -> Any:
    """DeepSCEM's residual U-Net, as the models that it writes have it."""
    layers = keras().layers

    def block(x: Any, n: int) -> Any:
        first = x
        for _ in range(2):
            x = layers.Conv2D(n, 3, padding="same", kernel_initializer="he_normal")(x)
            x = layers.Activation("relu")(x)
        shortcut = layers.Conv2D(n, 1, padding="same", kernel_initializer="he_normal")(first)
        shortcut = layers.BatchNormalization()(layers.Activation("relu")(shortcut))
        return layers.Activation("relu")(layers.Add()([shortcut, x]))

    given = x = keras().Input((None, None, 1))
    skips = []
    for level in range(depth - 1):
        x = block(x, filters * 2**level)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, filters * 2 ** (depth - 1))
    for level in reversed(range(depth - 1)):
        x = layers.Conv2DTranspose(filters * 2**level, 2, 2, padding="same")(x)
        x = block(layers.Concatenate()([x, skips[level]]), filters * 2**level)
    x = layers.Activation("sigmoid")(layers.Conv2D(n_labels, 1, padding="same")(x))
    return keras().Model(given, x)


def deepscem_patches(path: Path, seed: int) -> Iterator[tuple[Array, Array]]:
    """Batches, images (4, 192, 192, 1) and labels (4, 192, 192, L), drawn as its generator does."""
    with open_dataset(path) as dataset:
        samples = [
            (
                np.asarray(s.image[...], np.float32),
                np.stack([np.asarray(label[...], np.float32) for label in s.labels], -1),
            )
            for s in dataset.samples.values()
        ]
    rng = np.random.default_rng(seed)
    marked = [np.argwhere(labels.any(axis=-1)) for _, labels in samples]
    while True:
        images, targets = np.empty((BATCH, SIDE, SIDE, 1), np.float32), []
        for position in range(BATCH):
            index = int(rng.integers(len(samples)))
            image, labels = samples[index]
            limits = np.array([image.shape[1] - SIDE, image.shape[2] - SIDE])
            if rng.random() < 0.75:
                z, *centre = marked[index][rng.integers(len(marked[index]))]
                y, x = np.clip(np.array(centre) - SIDE // 2, 0, limits)
            else:
                z, y, x = rng.integers(len(image)), *(rng.integers(limits + 1))
            patch, mask = image[z, y : y + SIDE, x : x + SIDE], labels[z, y : y + SIDE, x : x + SIDE]
            turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            patch, mask = np.rot90(patch, turns), np.rot90(mask, turns)
            images[position, ..., 0] = patch[:, ::-1] if mirrored else patch
            targets.append(mask[:, ::-1] if mirrored else mask)
        yield images, np.stack(targets)


def train_as_deepscem(path: Path, out: Path, seed: int) -> None:
    """Its training: Dice alone, Adam at 1e-3."""
    tf = tensorflow()
    keras().utils.set_random_seed(seed)
    with open_dataset(path) as dataset:
        model = deepscem_network(dataset.n_labels)
    optimizer = keras().optimizers.Adam(1e-3)

    @tf.function
    def step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            said = model(images, training=True)
            axes = [0, 1, 2]
            both, either = tf.reduce_sum(labels * said, axes), tf.reduce_sum(labels + said, axes)
            loss = 1 - tf.reduce_mean((2 * both + 1) / (either + 1))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    patches = deepscem_patches(path, seed)
    for number in range(STEPS):
        loss = float(step(*next(patches)))
        if number % 50 == 49:
            print(f"step {number + 1}: loss {loss:.4f}", flush=True)
    model.save(out)


# ------------------------------------------------------------------------------------------------ the comparison


def train_as_default(path: Path, out: Path, seed: int, options: list[str]) -> None:
    """Ours."""
    new = out.with_name(f"new-{out.name}")
    run("create-model", new, "--like", path, *NETWORK, "--seed", seed, "--overwrite")
    words = [new, out, "--train", path, "--batch-size", BATCH, "--patch-size", f"{SIDE},{SIDE}", "--seed", seed]
    run("train", *words, "--epochs", 6, "--steps-per-epoch", STEPS // 6, "--runs-dir", out.parent / "runs", *options)


def piece(work: Path, labels: str, seed: int, recipe: str, options: list[str]) -> dict[str, float]:
    """F1 by label of one training, mean over the samples of the test; computed once."""
    name = f"{labels}-{seed}-{recipe}"
    kept = work / f"{name}.json"
    if not kept.exists():
        model, predicted = work / f"{name}.keras", work / f"{name}.hdf5"
        if not model.exists():
            if recipe == "deepscem":
                train_as_deepscem(work / f"{labels}.hdf5", model, seed)
            else:
                train_as_default(work / f"{labels}.hdf5", model, seed, options)
        run("predict", model, work / "test.hdf5", predicted, "--runs-dir", work / "runs", "--overwrite")
        rows = run("evaluate", work / "test.hdf5", predicted)["scores"]
        predicted.unlink()
        names = dict.fromkeys(row["label"] for row in rows)
        scores = {label: [row["f1"] for row in rows if row["label"] == label] for label in names}
        kept.write_text(json.dumps({label: float(np.mean(values)) for label, values in scores.items()}))
    found: dict[str, float] = json.loads(kept.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("recipe-work"), help="folder where all is kept")
    parser.add_argument("--data-sets", nargs="+", choices=("fib25", "axonsem"), default=["fib25", "axonsem"])
    parser.add_argument("--labels", nargs="+", choices=("few", "many"), default=["few", "many"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--recipe", default="default", help="a name for the options of `train` that follow in --options"
    )
    parser.add_argument("--options", default="", help="of `train`, in one string")
    options = parser.parse_args()
    print("| data | labels | label | DeepSCEM's recipe | ours |\n|---|---|---|---|---|")
    lines = []
    for data_set in options.data_sets:
        work = options.work / data_set
        prepare(data_set, options.data, work)
        for labels in options.labels:
            found = {
                recipe: [
                    piece(work, labels, seed, recipe, shlex.split(options.options)) for seed in range(options.seeds)
                ]
                for recipe in ("deepscem", options.recipe)
            }
            for label in found["deepscem"][0]:
                cells = []
                for recipe in ("deepscem", options.recipe):
                    values = [scores[label] for scores in found[recipe]]
                    cells.append(f"{np.mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})")
                lines.append(f"| {data_set} | {labels} | {label} | {' | '.join(cells)} |")
                print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
