"""Actions that make of a model what other programs use."""

from __future__ import annotations

from pathlib import Path

from deepscem_tui.engine.parameters.kinds import Writing, argument


class ExportModel(Writing):
    """Write a model as an ONNX file, which other programs compute without TensorFlow.

    It is checked: onnxruntime's results must agree with those of Keras to 0.0001.
    Labels, thresholds, normalisation and voxel size stand in the file as metadata.
    """

    model: Path = argument("Model to read (.keras or .h5).", opens="model")
    out: Path = argument("ONNX file to make (.onnx).", makes="onnx")
