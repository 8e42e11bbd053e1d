"""What a package says of a model: the BioImage Model Zoo's description (bioimageio.yaml), as plain data.

Written for version 0.5.4 of the zoo's format, so that programs that know no newer one read it, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepscem_tui import __version__
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.sharing.onnx_graph import INPUT, OPSET, OUTPUT, axis_names
from deepscem_tui.engine.sources.normalisation import MIN_MAX, TYPE_RANGE, normalisation_of
from deepscem_tui.engine.training.plan import usual_patch

__all__ = ["Facts", "described", "halos", "least_sides", "patch_sides"]

_FORMAT = "0.5.4"
_UNITS = {"nm": "nanometer", "µm": "micrometer", "mm": "millimeter", "pm": "picometer", "Å": "angstrom", "m": "meter"}


@dataclass(frozen=True)
class Facts:
    """What people say of a model, and its package's parts.

    Args:
        name, description: Texts of one line.
        authors: ``NAME``, ``NAME; INSTITUTE`` or ``NAME; INSTITUTE; ORCID``.
        license: As SPDX names it; empty for none.
        citations: ``TEXT; DOI``.
        origin: Of the test patch, in words.
        when: Time of the package, as ISO 8601 writes it.
        checksums: SHA-256 of the package's files, by their names.
        original: Name of the model's own file among them.
    """

    name: str
    description: str
    authors: tuple[str, ...]
    license: str
    citations: tuple[str, ...]
    origin: str
    when: str
    checksums: Mapping[str, str]
    original: str


def halos(info: ModelInfo) -> tuple[int, int, int]:
    """Voxels along Z, Y, X at each end of a tile that others are to leave to its neighbours.

    The receptive radius, but no more than about a quarter of a usual patch: a program that fits tiles into little
    memory could not use the network otherwise. Even, since earlier versions of the zoo's validator refuse others. 0
    along Z for a network of slices.
    """
    usual = info.patch_size or usual_patch(info.dimension)[0]
    wanted = (min(radius, max(1, side // 4)) for radius, side in zip(info.receptive_radius, usual, strict=True))
    z, y, x = (radius + radius % 2 for radius in wanted)
    return (z if info.dimension == 3 else 0, y, x)


def least_sides(info: ModelInfo) -> tuple[int, int, int]:
    """Z, Y, X of the smallest tile that leaves anything within its halos."""
    z, y, x = ((2 * halo // step + 1) * step for halo, step in zip(halos(info), info.divisor, strict=True))
    return z, y, x


def patch_sides(info: ModelInfo) -> tuple[int, int, int]:
    """Z, Y, X of a patch as in training, that others may give the network; Z are the channels of one of slices."""
    usual = usual_patch(info.dimension)[0]
    z, y, x = (
        max(least, min(side, limit) // step * step)
        for least, side, limit, step in zip(
            least_sides(info), info.patch_size or usual, usual, info.divisor, strict=True
        )
    )
    return (z if info.dimension == 3 else 1 + 2 * info.context, y, x)


def described(info: ModelInfo, facts: Facts) -> dict[str, Any]:
    """The description, JSON types only."""
    document: dict[str, Any] = {
        "type": "model",
        "format_version": _FORMAT,
        "name": facts.name,
        "description": facts.description,
        "authors": [_author(text) for text in facts.authors],
        "cite": [_citation(text) for text in facts.citations],
        "license": facts.license,
        "tags": _tags(info),
        "covers": ["cover.png"],
        "documentation": "README.md",
        "attachments": [_file(facts, facts.original)],
        "timestamp": facts.when,
        "inputs": [_input(info, facts)],
        "outputs": [_output(info, facts)],
        "weights": {"onnx": _file(facts, "model.onnx") | {"opset_version": OPSET}},
        "config": {"deepscem_tui": _own(info)},
    }
    return {key: value for key, value in document.items() if value not in ("", [])}


def _file(facts: Facts, name: str) -> dict[str, Any]:
    return {"source": name, "sha256": facts.checksums[name]}


def _author(text: str) -> dict[str, str]:
    return dict(zip(("name", "affiliation", "orcid"), text.split("; "), strict=False))


def _citation(text: str) -> dict[str, str]:
    said, _, doi = text.rpartition("; ")
    return {"text": said, "doi": doi}


def _tags(info: ModelInfo) -> list[str]:
    architecture = str((info.settings or {}).get("architecture", "network"))
    return [
        "electron-microscopy", "segmentation", "semantic-segmentation", architecture, f"{info.dimension}d",
        "deepscem-tui", *_channel_names(info)[: info.n_labels],
    ]  # fmt: skip


def _channel_names(info: ModelInfo) -> list[str]:
    """Of the outputs: of letters, digits and underscores, as the zoo wants them, no two alike."""
    names: list[str] = []
    for index, label in enumerate((*info.label_names, *("background",) * info.background)):
        name = re.sub(r"\W+", "_", label, flags=re.ASCII).strip("_")
        if not name or name[0].isdigit() or name in names:
            name = member_name("label", index)
        names.append(name)
    return names


# ------------------------------------------------------------------------------------------------ tensors


def _input(info: ModelInfo, facts: Facts) -> dict[str, Any]:
    names = ["grey"]
    text = "Grey values of an electron microscope"
    if info.context:
        names = [f"slice_{number}" for number in range(1 + 2 * info.context)]
        text += f"; neighbouring slices, the result is for {names[info.context]}"
    steps = {
        axis: {"size": {"min": least, "step": step}}
        for axis, least, step in zip("zyx", least_sides(info), info.divisor, strict=True)
    }
    return {
        "id": INPUT,
        "description": text,
        "axes": _axes(info, names, steps),
        "test_tensor": _file(facts, "test_input.npy"),
        "data": {"type": "float32"},
        "preprocessing": _preprocessing(info),
    }


def _output(info: ModelInfo, facts: Facts) -> dict[str, Any]:
    thresholds = info.thresholds or (0.5,) * info.n_labels
    above = (f"{name!r} above {value:g}" for name, value in zip(info.label_names, thresholds, strict=True))
    sizes: dict[str, dict[str, Any]] = {}
    for axis, halo in zip("zyx", halos(info), strict=True):
        sizes[axis] = {"size": {"tensor_id": INPUT, "axis_id": axis}} | ({"halo": halo} if halo else {})
    data: dict[str, Any] = {"type": "float32"}
    if info.activation in ("sigmoid", "softmax"):
        data["range"] = [0.0, 1.0]
    return {
        "id": OUTPUT,
        "description": f"What the network says of each label; a voxel is {', '.join(above)}"[:1024],
        "axes": _axes(info, _channel_names(info), sizes),
        "test_tensor": _file(facts, "test_output.npy"),
        "data": data,
    }


def _axes(info: ModelInfo, channels: Sequence[str], sizes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    unit = _UNITS.get(info.voxel_unit)
    scales = dict(zip("zyx", info.voxel_size, strict=True)) if info.voxel_size and unit else {}
    axes: list[dict[str, Any]] = [{"type": "batch"}, {"type": "channel", "channel_names": list(channels)}]
    for name in axis_names(info.dimension)[2:]:
        scale = {"unit": unit, "scale": scales[name]} if name in scales else {}
        axes.append({"type": "space", "id": name, **sizes[name], **scale})
    return axes


def _preprocessing(info: ModelInfo) -> list[dict[str, Any]]:
    """What makes of grey values what the network takes, each image of a batch by itself."""
    how = normalisation_of(info.normalization) or MIN_MAX
    axes = [axis for axis in axis_names(info.dimension)[1:] if not (how.per_slice and axis in _across(info))]
    steps: list[dict[str, Any]] = [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]
    if how == TYPE_RANGE:
        return steps
    if how.rule == "mean-deviation":  # three deviations to each side of the mean
        steps.append({"id": "zero_mean_unit_variance", "kwargs": {"axes": axes}})
        steps.append({"id": "scale_linear", "kwargs": {"gain": 1 / 6, "offset": 0.5}})
    else:
        low, high = (0.0, 100.0) if how.rule == "min-max" else (0.5, 99.5)
        steps.append({"id": "scale_range", "kwargs": {"axes": axes, "min_percentile": low, "max_percentile": high}})
    return [*steps, {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}]


def _across(info: ModelInfo) -> str:
    """The axis that slices lie one after the other on."""
    return "z" if info.dimension == 3 else "channel"


def _own(info: ModelInfo) -> dict[str, Any]:
    return {
        "version": __version__,
        "labels": list(info.label_names),
        "thresholds": list(info.thresholds or (0.5,) * info.n_labels),
        "normalization": info.normalization,
        "receptive_radius_zyx": list(info.receptive_radius),
        "parameters": info.n_parameters,
    }
