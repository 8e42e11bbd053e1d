"""The main job on real data, all through the command line; prints the F1 that was reached.

    python benchmarks/real_data.py fib25   [--data DIR] [--work DIR] [--epochs N] [--steps N]
    python benchmarks/real_data.py axonsem [--data DIR] [--work DIR] [--epochs N] [--steps N]

fib25: FIB-SEM, one isotropic volume of 250 x 250 x 250 voxels, cell boundaries; slices 0-180 to train, 180-200 to
choose the best model, 200-250 to test. axonsem: ten scanning EM images, axon and myelin; eight to train, two to test.
Data: https://github.com/janelia-flyem/neuroproof_examples and https://doi.org/10.5281/zenodo.5498378.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NETWORK = ["--filters", "16", "--depth", "4"]
AXONSEM_TEST = ("sub-rat6_sample-data15", "sub-rat8_sample-V915")


def run(*words: object) -> dict[str, Any]:
    """One command of deepscem-tui, shown and carried out; its JSON document."""
    command = ["run", *map(str, words)]
    print(f"$ deepscem-tui {shlex.join(command)}", flush=True)
    program = [sys.executable, "-c", "import sys; from deepscem_tui.cli import main; sys.exit(main())"]
    done = subprocess.run([*program, *command, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"exit status {done.returncode}: {done.stdout.decode()}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def make_fib25(data: Path, work: Path) -> None:
    """Data sets of the slices to train, to choose and to test on, by crop and remove."""
    for name, bounds in (("train", "0:180"), ("valid", "180:200"), ("test", "200:250")):
        file = work / f"{name}.hdf5"
        run("create-dataset", file, "fib25", 1)
        run("set-aliases", file, "boundary")
        run("add-sample", file, "whole", data / "raw.tif", data / "boundary_derived.tif")
        run("crop-sample", file, "whole", "--z", bounds, "--name", name)
        run("remove-sample", file, "whole")


def make_axonsem(data: Path, work: Path) -> None:
    """Data sets with a label for each class of the class maps: 1 axon, 2 myelin."""
    for name in ("train", "test"):
        run("create-dataset", work / f"{name}.hdf5", "axonsem", 2)
        run("set-aliases", work / f"{name}.hdf5", "axon", "myelin")
    for image in sorted(data.glob("*_SEM_raw.tif")):
        sample = image.name.removesuffix("_SEM_raw.tif")
        classes = image.with_name(f"{sample}_SEM_classes.tif")
        name = "test" if sample in AXONSEM_TEST else "train"
        run("add-sample", work / f"{name}.hdf5", sample, image, classes, "--classes", "axon=1,myelin=2")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", choices=("fib25", "axonsem"))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--work", type=Path, help="folder to keep; a temporary one if not given")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=50, help="steps an epoch")
    options = parser.parse_args(arguments)
    work = options.work or Path(tempfile.mkdtemp(prefix="deepscem-tui-"))
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        make = {"fib25": make_fib25, "axonsem": make_axonsem}[options.data_set]
        make(options.data / options.data_set, work)
        train, test = work / "train.hdf5", work / "test.hdf5"
        run("create-model", work / "new.keras", "--like", train, *NETWORK)
        words: list[object] = [work / "new.keras", work / "trained.keras", "--train", train]
        words += ["--valid", work / "valid.hdf5"] if (work / "valid.hdf5").exists() else []
        words += ["--batch-size", 4, "--patch-size", "192,192", "--runs-dir", work / "runs"]
        trained = run("train", *words, "--epochs", options.epochs, "--steps-per-epoch", options.steps)
        run("predict", work / "trained.keras", test, work / "predicted.hdf5", "--runs-dir", work / "runs")
        scores = run("evaluate", test, work / "predicted.hdf5", "--csv", work / "scores.csv")
        steps, seconds = options.epochs * options.steps, time.monotonic() - began
        print(f"\n{options.data_set}: {steps} steps of 4 x 192 x 192, {seconds:.0f} s in all")
        print(json.dumps({key: trained[key] for key in ("best_epoch", "validation_f1") if key in trained}))
        for row in scores["scores"]:
            print(
                "  ".join(
                    f"{key} {value:.4f}" if isinstance(value, float) else f"{value}" for key, value in row.items()
                )
            )
    finally:
        if options.work is None:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
