"""Whether prediction works on this machine's GPUs: ``python benchmarks/gpu_check.py``. Says so where there is none.

Checks that every visible GPU computes, that memory is taken as it is needed, that all GPUs together give what one and
the CPU give, in float32 and in bfloat16, and that tiles become smaller when the memory does not suffice. Ends with
status 1 if something is wrong. Written without a GPU at hand: nothing here has been seen to pass on one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.models.actions import create_model
from deepscem_tui.engine.models.files import load_model
from deepscem_tui.engine.prediction import plan as prediction_plan
from deepscem_tui.engine.prediction.network import OutOfMemory, TileNetwork, load_network
from deepscem_tui.engine.prediction.predict import predict
from deepscem_tui.engine.system.devices import best_precision, device_summary, gpu_names, tensorflow

_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}  # TensorFloat-32 has 10 bits


def check(what: str, fine: bool) -> bool:
    print(f"{'ok  ' if fine else 'FAIL'}  {what}", flush=True)
    return fine


def main() -> int:
    gpus = gpu_names()
    if not gpus:
        print(f"There is no GPU here that TensorFlow can use ({device_summary()}): nothing was checked.")
        return 0
    print(f"{device_summary()}; precision chosen by itself: {best_precision()}")
    tf = tensorflow()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "m.keras"
        create_model(p.CreateModel(out=model, labels=2), Context())
        growing = [tf.config.experimental.get_memory_growth(gpu) for gpu in tf.config.list_physical_devices("GPU")]
        found.append(check("memory is taken as it is needed", all(growing)))
        images = np.random.default_rng(0).random((2 * len(gpus) + 1, 1, 256, 256), np.float32)
        expected = TileNetwork(lambda: load_model(model)[0], ["/CPU:0"])(images)
        for precision, tolerance in _TOLERANCE.items():
            network = load_network(model, precision)
            network(images)  # traced
            began = time.perf_counter()
            off = np.abs(network(images) - expected).mean()
            rate = images.size / (time.perf_counter() - began) / 1e6
            found.append(
                check(f"{precision}: mean difference to the CPU {off:.1e}, {rate:.1f} Mvoxel/s", off < tolerance)
            )
        used = [tf.config.experimental.get_memory_info(f"GPU:{index}")["peak"] for index in range(len(gpus))]
        found.append(check(f"all of {len(gpus)} GPUs computed (peaks {used} bytes)", min(used) > 0))
        found.append(check("an allocation that cannot succeed is told as a lack of memory", _too_much(model)))
        found.append(check("a plan with smaller tiles follows", _smaller(folder, model)))
    return 0 if all(found) else 1


def _too_much(model: Path) -> bool:
    try:
        load_network(model, "float32")(np.zeros((1, 1, 65536, 32768), np.float32))
    except OutOfMemory:
        return True
    return False


def _smaller(folder: Path, model: Path) -> bool:
    """A slice that no GPU holds in one piece, with a plan that does not know."""
    np.save(folder / "image.npy", np.random.default_rng(0).integers(0, 256, (1, 16384, 16384)).astype(np.uint8))
    real = prediction_plan._most_voxels
    prediction_plan._most_voxels = lambda *_: 2**30
    try:
        run = folder / "run"
        run.mkdir()
        predict(p.Predict(model=model, input=folder / "image.npy", out=folder / "out.hdf5"), Context(folder=run))
    finally:
        prediction_plan._most_voxels = real
    with h5py.File(folder / "out.hdf5") as file:
        whole = file["image"]["prediction_0000"].shape == (1, 16384, 16384)
    return whole and prediction_plan.read_plan(run).version > 1


if __name__ == "__main__":
    sys.exit(main())
