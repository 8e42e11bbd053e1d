"""The actions `create-model` and `convert-model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.errors import ParameterError, ResourceError
from deepscem_tui.engine.models.files import ModelInfo, check_format, check_suffix, load_model, save_model
from deepscem_tui.engine.models.info import describe, read_network
from deepscem_tui.engine.networks import build_network, draw_network
from deepscem_tui.engine.networks.geometry import step_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.system.devices import available_memory
from deepscem_tui.engine.system.files import refuse_existing
from deepscem_tui.engine.training.plan import usual_patch

_SETTINGS = (
    "dimension", "architecture", "block", "kernel_size", "filters", "blocks_per_level", "normalization", "depth",
    "down", "up", "attention", "squeeze_excitation", "dropout", "anisotropy", "context_slices",
    "activation", "seed",
)  # fmt: skip


def create_model(parameters: p.CreateModel, context: Context) -> Result:
    """Make a new, untrained network.

    Raises:
        ParameterError: for a name that a model cannot have, or a data set without labels.
        DatasetError: for a data set that cannot be read.
        ResourceError: for a network that does not fit the memory.
    """
    check_suffix(parameters.out)
    refuse_existing(parameters.out, parameters.overwrite)
    n_labels, names = _labels(parameters)
    _check_size(parameters)
    settings = parameters.model_dump(mode="json", include=set(_SETTINGS))
    graph = draw_network(parameters, n_labels)
    check_format(parameters.out, graph)
    info = describe(graph, names, parameters.activation == "softmax", settings)
    if parameters.dry_run:
        what = f"Would make {parameters.out}: {_words(info)}"
        return Result(f"{what}, {_needs(info, graph)}", _facts(parameters.out, info, written=False))
    context.stop.check()
    save_model(build_network(parameters, n_labels), info, parameters.out, parameters.overwrite)
    return Result(f"Made {parameters.out}: {_words(info)}", _facts(parameters.out, info))


def convert_model(parameters: p.ConvertModel, context: Context) -> Result:
    """Write a model in the other file format.

    Raises:
        ParameterError: for a name that a model cannot have.
        ModelError: for a model that cannot be read or written.
    """
    check_suffix(parameters.out)
    refuse_existing(parameters.out, parameters.overwrite)
    if parameters.out.exists() and parameters.model.exists() and parameters.out.samefile(parameters.model):
        raise ParameterError(f"{parameters.out} is the model itself", "Give the result another name.", "out")
    if parameters.dry_run:
        info, graph = read_network(parameters.model)
        check_format(parameters.out, graph)
        what = f"Would write {parameters.model} as {parameters.out}"
        return Result(what, _facts(parameters.out, info, written=False))
    model, info = load_model(parameters.model)
    context.stop.check()
    save_model(model, info, parameters.out, parameters.overwrite)
    return Result(f"Wrote {parameters.model} as {parameters.out}: {_words(info)}", _facts(parameters.out, info))


def _labels(parameters: p.CreateModel) -> tuple[int, tuple[str, ...] | None]:
    """Number of labels, and their names if they have any."""
    if parameters.like is None:
        assert parameters.labels is not None
        return parameters.labels, None
    with open_dataset(parameters.like) as dataset:
        if dataset.n_labels < 1:
            raise ParameterError(f"{parameters.like} has no labels to segment", "Choose another, or give --labels N.")
        return dataset.n_labels, dataset.aliases or None


def _words(info: ModelInfo) -> str:
    labels = f"{info.n_labels} label{'s' * (info.n_labels > 1)} ({', '.join(info.label_names)})"
    return f"{info.dimension}D, {labels}, {info.n_parameters:,} parameters"


def _needs(info: ModelInfo, graph: Graph) -> str:
    """How far it sees, and what a step of training takes, in words."""
    patch, batch = usual_patch(info.dimension)
    needed = step_bytes(graph, patch[3 - info.dimension :], batch, training=True)
    step = f"{batch} patches of {words.sizes(patch)}"
    return f"sees {info.reach}, about {needed / 2**30:.1f} GiB to train on {step}"


def _check_size(parameters: p.CreateModel) -> None:
    """Refuse what cannot be built here, before it is tried.

    Raises:
        ResourceError: the deepest level's convolutions alone do not fit the memory.
    """
    filters = parameters.filters * 2 ** (parameters.depth - 1)
    least = parameters.blocks_per_level * parameters.kernel_size**parameters.dimension * filters * filters // 2
    free = available_memory()
    if 4 * least > free:
        raise ResourceError(
            f"The network would have more than {least:,} parameters, {4 * least / 2**30:.1f} GiB, "
            f"and {free / 2**30:.1f} GiB of memory are free",
            "Use fewer --filters, a smaller --depth or a smaller --kernel-size.",
        )


def _facts(path: Path, info: ModelInfo, written: bool = True) -> dict[str, Any]:
    return {
        "model": str(path),
        "dimension": info.dimension,
        "labels": list(info.label_names),
        "background": info.background,
        "activation": info.activation,
        "parameters": info.n_parameters,
        "receptive_radius": list(info.receptive_radius),
        "divisor": list(info.divisor),
        "sees_all": info.sees_all,
        "bytes": path.stat().st_size if written else None,
    }
