"""ONNX files of models: written whole, checked by another program's arithmetic, described in themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui import __version__
from deepscem_tui.engine import words
from deepscem_tui.engine.errors import ModelError, ResourceError
from deepscem_tui.engine.models.files import load_model
from deepscem_tui.engine.models.info import ModelInfo, read_network
from deepscem_tui.engine.networks.folding import folded
from deepscem_tui.engine.networks.geometry import activation_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.sharing.onnx_graph import INPUT, as_onnx, axis_names
from deepscem_tui.engine.system import extras
from deepscem_tui.engine.system.devices import available_memory, tensorflow

__all__ = ["Shared", "check_room", "check_same", "check_shape", "load_shared", "write_onnx"]

TOLERANCE = 1e-4  # between the results of Keras and of onnxruntime, as a share of the largest if that is above 1
_LARGEST = 2**31 - 2**20  # bytes of a file of protocol buffers, with something left for what is not weights
_COPIES = 5  # of the weights at a time: of Keras, folded, as ONNX, as bytes, of onnxruntime
_CHECKED_SIDE = {2: 64, 3: 16}  # voxels of the checked patch, or one step of the network's grid if that is more


@dataclass(frozen=True)
class Shared:
    """A model to be shared.

    Args:
        model: As Keras has it, on the CPU: a GPU may multiply with fewer bits.
    """

    model: Any
    info: ModelInfo
    graph: Graph

    def compute(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 (B, C, [Z,] Y, X) to the same with a channel for each output."""
        tf = tensorflow()
        with tf.device("CPU:0"):
            result = self.model(np.moveaxis(image, 1, -1), training=False).numpy()
        return np.ascontiguousarray(np.moveaxis(result, -1, 1))


def load_shared(path: Path) -> Shared:
    """Read a model from its file.

    Raises:
        ModelError: it is no model file, is damaged, or holds a network that cannot be used.
    """
    with tensorflow().device("CPU:0"):
        model, info = load_model(path)
    return Shared(model, info, read_network(path)[1])


def check_room(path: Path, graph: Graph, sides: Sequence[int]) -> None:
    """Refuse a model that does not fit an ONNX file, or the memory while it is made and checked.

    Args:
        sides: [Z,] Y, X of the largest patches, two at a time, that it is checked with.

    Raises:
        ResourceError: it does not.
    """
    weights = 4 * graph.n_parameters
    if weights > _LARGEST:
        raise ResourceError(
            f"The network in {path} has {graph.n_parameters:,} parameters, {weights / 2**30:.1f} GiB, "
            "and an ONNX file holds less than 2 GiB",
            "Share the .keras file instead.",
        )
    needed, free = _COPIES * weights + 2 * activation_bytes(graph, sides, 2, training=False), available_memory()
    if needed > free:
        raise ResourceError(
            f"To export {path} takes about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free",
            "End what else is running, or export it on a larger machine.",
        )


def write_onnx(shared: Shared, path: Path) -> None:
    """Write a model as an ONNX file that says in itself what its numbers are.

    Raises:
        MissingLibraryError: the library onnx is not installed.
        OSError: the file cannot be written.
    """
    from deepscem_tui.engine.networks.assemble import keras_name

    layers = shared.graph.layers
    weights = {layer.name: shared.model.get_layer(keras_name(layer.name)).get_weights() for layer in layers}
    onnx = extras.load("onnx", "onnx", "Writing an ONNX file")
    made = as_onnx(*folded(shared.graph, weights))
    made.producer_name, made.producer_version = "deepscem-tui", __version__
    onnx.helper.set_model_props(made, _described(shared.info))
    onnx.checker.check_model(made, full_check=True)
    path.write_bytes(made.SerializeToString())


def _described(info: ModelInfo) -> dict[str, str]:
    """What stands in the file as metadata: texts, those of several values as JSON."""
    used = 3 - info.dimension  # axes
    axes = axis_names(info.dimension)
    channels = "1 (grey values)"
    if info.context:
        channels = f"{1 + 2 * info.context} (neighbouring slices, the one that the result is for in the middle)"
    return {
        "program": f"deepscem-tui {__version__}",
        "labels": json.dumps(info.label_names, ensure_ascii=False),
        "background": "the last channel of the output" if info.background else "none",
        "thresholds": json.dumps(info.thresholds or (0.5,) * info.n_labels),
        "normalization": f"{info.normalization}: the whole image, or stack, to 0-1",
        "axes": json.dumps(axes),
        "input_channels": channels,
        "sizes_multiple_of": json.dumps(dict(zip(axes[2:], info.divisor[used:], strict=True))),
        "receptive_radius": json.dumps(dict(zip(axes[2:], info.receptive_radius[used:], strict=True))),
        "voxel_size_zyx": json.dumps(info.voxel_size),
        "voxel_unit": info.voxel_unit,
    }


def check_shape(info: ModelInfo) -> tuple[int, ...]:
    """A small patch that the network takes, (B, C, [Z,] Y, X), no two sides of which are alike."""
    sides = [
        step * (-(-_CHECKED_SIDE[info.dimension] // step) + axis)
        for axis, step in enumerate(info.divisor[3 - info.dimension :])
    ]
    return (2, 1 + 2 * info.context, *sides)


def check_same(shared: Shared, path: Path, known_as: Path) -> float:
    """Compute a patch of noise with onnxruntime and with Keras.

    Returns:
        The largest difference; of results beyond 1 as a share of the largest.

    Raises:
        MissingLibraryError: the library onnxruntime is not installed.
        ModelError: they differ by more than :data:`TOLERANCE`, or onnxruntime cannot use the file.
    """
    onnxruntime = extras.load("onnxruntime", "onnx", "Checking an ONNX file")
    image = np.random.default_rng(0).random(check_shape(shared.info), dtype=np.float32)
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {INPUT: image})
    except Exception as error:  # onnxruntime has a dozen classes of its own, without a common base
        what = f"{known_as} is not written, since onnxruntime cannot use it ({words.reason(error)})"
        raise ModelError(what, _REPORT) from error
    expected = shared.compute(image)
    difference = float("nan")
    if found.shape == expected.shape:
        difference = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not difference <= TOLERANCE:  # NaN is none
        raise ModelError(
            f"{known_as} is not written: onnxruntime's results differ from those of Keras by {difference:.2g}, "
            f"more than {TOLERANCE:g}",
            _REPORT,
        )
    return difference


_REPORT = "Please report it, with the model's file."
