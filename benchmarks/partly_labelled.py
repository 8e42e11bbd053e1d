"""What training on a partly labelled volume reaches, against the labelled slices cropped by hand and against neglect.

    python benchmarks/partly_labelled.py            the table; what is missing is computed, piece by piece, and kept
    python benchmarks/partly_labelled.py --seeds 1  some of it

The first 40 slices of fib25, of which every tenth, from the fifth on, is labelled: 4 in all. `partly` is the volume
without the others, by `--labelled-z auto`; `cropped` is four samples of one slice, by `crop-sample`; `background` is
the volume as it is without being told, with nothing in the other slices. Each trains the same 2D U-Net for the same
steps with the defaults of `train`, and is scored on 20 slices far from them, 200-220, at a threshold of 0.5.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import tifffile
from real_data import run

NETWORK = ["--filters", "16", "--depth", "4"]
STEPS, BATCH, SIDE = 240, 4, 128
VOLUME, LABELLED, TEST = 40, range(5, 40, 10), (200, 220)
KINDS = ("cropped", "partly", "background")


def prepare(data: Path, work: Path) -> None:
    """The data sets ``cropped.hdf5``, ``partly.hdf5``, ``background.hdf5`` and ``test.hdf5``."""
    if (work / "test.hdf5").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    image, label = tifffile.imread(data / "raw.tif"), tifffile.imread(data / "boundary_derived.tif")
    few = np.zeros_like(label[:VOLUME])
    few[LABELLED] = label[LABELLED]
    files = {}
    for name, voxels in (("image", image[:VOLUME]), ("few", few), ("test", image[slice(*TEST)])):
        files[name] = work / f"{name}.tif"
        tifffile.imwrite(files[name], voxels, compression="zlib")
    files["test label"] = work / "test_label.tif"
    tifffile.imwrite(files["test label"], label[slice(*TEST)], compression="zlib")
    for kind in (*KINDS, "test"):
        file = work / f"{kind}.hdf5"
        sources = [files["test"], files["test label"]] if kind == "test" else [files["image"], files["few"]]
        run("create-dataset", file, "fib25", 1, "--overwrite")
        run("set-aliases", file, "boundary")
        run("add-sample", file, "volume", *sources, *(["--labelled-z", "auto"] if kind == "partly" else []))
        if kind == "cropped":
            for z in LABELLED:
                run("crop-sample", file, "volume", "--z", f"{z}:{z + 1}", "--name", f"slice {z}")
            run("remove-sample", file, "volume")


def piece(work: Path, kind: str, seed: int) -> float:
    """F1 of one training; computed once."""
    kept = work / f"{kind}-{seed}.json"
    if not kept.exists():
        new, model = work / f"new-{kind}-{seed}.keras", work / f"{kind}-{seed}.keras"
        predicted, runs, data = work / f"{kind}-{seed}.hdf5", work / "runs", work / f"{kind}.hdf5"
        run("create-model", new, "--like", data, *NETWORK, "--seed", seed, "--overwrite")
        words = [new, model, "--train", data, "--batch-size", BATCH, "--patch-size", f"{SIDE},{SIDE}", "--seed", seed]
        run("train", *words, "--epochs", 4, "--steps-per-epoch", STEPS // 4, "--runs-dir", runs, "--overwrite")
        run("predict", model, work / "test.hdf5", predicted, "--runs-dir", runs, "--overwrite")
        (row,) = run("evaluate", work / "test.hdf5", predicted)["scores"][-1:]
        kept.write_text(json.dumps(row["f1"]))
    found: float = json.loads(kept.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "fib25")
    parser.add_argument("--work", type=Path, default=Path("partly-work"), help="folder where all is kept")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    prepare(options.data, options.work)
    scores = {kind: [] for kind in KINDS}
    for seed in range(options.seeds):
        for kind in KINDS:
            scores[kind].append(piece(options.work, kind, seed))
            print(f"{kind}, seed {seed}: F1 {scores[kind][-1]:.4f}", flush=True)
    print("\n| training data | F1 | by seed |\n|---|---|---|")
    for kind, values in scores.items():
        print(f"| {kind} | {np.mean(values):.3f} | {', '.join(f'{value:.3f}' for value in values)} |")


if __name__ == "__main__":
    main()
