"""The action `export-model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import DataError, ParameterError
from deepscem_tui.engine.models.info import ModelInfo, read_network
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sharing.onnx_files import check_room, check_same, check_shape, load_shared, write_onnx
from deepscem_tui.engine.sharing.onnx_graph import axis_names
from deepscem_tui.engine.system import extras
from deepscem_tui.engine.system.files import check_writable, published, refuse_existing

__all__ = ["export_model"]


def export_model(parameters: p.ExportModel, context: Context) -> Result:
    """Write a model as an ONNX file, and check what onnxruntime makes of it.

    Raises:
        ParameterError: for a name that an ONNX file cannot have.
        MissingLibraryError: for want of the libraries onnx or onnxruntime.
        ModelError: for a model that cannot be read, or that onnxruntime computes otherwise.
        ResourceError: for a network that no ONNX file can hold, or the memory.
        DataError: for a file that cannot be written.
    """
    out = parameters.out
    if out.suffix != ".onnx":
        raise ParameterError(f"{out} does not end in .onnx", "Name the ONNX file .onnx.", "out")
    refuse_existing(out, parameters.overwrite)
    info, graph = read_network(parameters.model)
    check_room(parameters.model, graph, check_shape(info)[2:])
    for library in ("onnx", "onnxruntime"):
        extras.check(library, "onnx", "Writing an ONNX file")
    check_writable(out.parent)
    if parameters.dry_run:
        return Result(f"Would write {parameters.model} as {out}", _facts(out, info, None), [_outputs(info)])
    shared = load_shared(parameters.model)
    context.stop.check()
    try:
        with published(out) as temporary:
            write_onnx(shared, temporary)
            context.stop.check()
            context.report.message("Computing a patch with onnxruntime and with Keras")
            difference = check_same(shared, temporary, out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}", "Is the folder yours?") from None
    takes = f"takes float32 ({', '.join(axis_names(info.dimension))})"
    steps = f"{', '.join(axis_names(info.dimension)[2:])} multiples of {words.alike(_steps(info))}"
    summary = f"Wrote {parameters.model} as {out}: {takes}, {steps}; onnxruntime agrees with Keras to {difference:.7f}"
    return Result(summary, _facts(out, info, difference), [_outputs(info)])


def _steps(info: ModelInfo) -> tuple[int, ...]:
    return info.divisor[3 - info.dimension :]


def _outputs(info: ModelInfo) -> Table:
    """What the channels of the output are."""
    thresholds = info.thresholds or (0.5,) * info.n_labels
    rows: list[Any] = list(zip(range(info.n_labels), info.label_names, thresholds, strict=True))
    if info.background:
        rows.append((info.n_labels, "background", None))
    return Table("outputs", ("channel", "label", "threshold"), rows)


def _facts(path: Path, info: ModelInfo, difference: float | None) -> dict[str, Any]:
    return {
        "onnx": str(path),
        "axes": ", ".join(axis_names(info.dimension)),
        "sizes_multiple_of": list(_steps(info)),
        "largest_difference": difference,
        "bytes": path.stat().st_size if difference is not None else None,
    }
