"""The page about a model in its package (README.md), from what its file says of its training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deepscem_tui import __version__
from deepscem_tui.engine import words
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.sharing.description import Facts, halos, least_sides

__all__ = ["page"]

_RULES = {
    "min-max": "the smallest becomes 0, the largest 1",
    "percentiles": "those of 0.5 and 99.5 % of the voxels become 0 and 1",
    "mean-deviation": "three standard deviations below and above the mean become 0 and 1",
    "type range": "the smallest and largest that the file's type has become 0 and 1; give the model 0 to 1",
}


def page(info: ModelInfo, facts: Facts) -> str:
    """Markdown, with the sections that the zoo asks for."""
    return "\n".join([f"# {facts.name}", "", facts.description, "", *_sections(info, facts), ""])


def _sections(info: ModelInfo, facts: Facts) -> Iterator[str]:
    yield from _outputs(info)
    yield from _inputs(info)
    yield from _training(info)
    yield from _validation(info)
    yield from (
        "## Use", "",
        "`model.onnx` takes images that are normalised as said above; onnxruntime computes the same as Keras.",
        f"`{facts.original}` is the same model for deepscem-tui, which can go on with its training.", "",
        f"The test patch is {facts.origin}. Made with deepscem-tui {__version__}.",
    )  # fmt: skip


def _outputs(info: ModelInfo) -> Iterator[str]:
    thresholds = info.thresholds or (0.5,) * info.n_labels
    yield from ("## What it gives", "", "| channel | label | foreground above |", "|---|---|---|")
    for channel, (label, threshold) in enumerate(zip(info.label_names, thresholds, strict=True)):
        yield f"| {channel} | {label.replace('|', '/')} | {threshold:g} |"
    if info.background:
        yield f"| {info.n_labels} | background | |"
    yield ""


def _inputs(info: ModelInfo) -> Iterator[str]:
    used = 3 - info.dimension
    yield from ("## What it takes", "")
    kind = "volumes" if info.dimension == 3 else "slices"
    neighbours = f", each with {words.counted(info.context, 'neighbour')} on each side" if info.context else ""
    yield f"- Grey {kind} of an electron microscope{neighbours}."
    rule, _, each = info.normalization.partition(", ")
    yield f"- Grey values of 0 to 1: {_RULES.get(rule, rule)}, of {each or 'the whole image or stack'}."
    if info.voxel_size:
        yield f"- Voxels of {words.sizes(info.voxel_size)} {info.voxel_unit} (Z x Y x X) in training."
    steps, least = words.alike(info.divisor[used:]), words.alike(least_sides(info)[used:])
    yield f"- Sides that are multiples of {steps}. It sees {info.reach}."
    yield f"- Tiles of {least} voxels a side or more, of which the outer {words.alike(halos(info)[used:])} at each end"
    yield "  are left to the neighbours."
    yield ""


def _training(info: ModelInfo) -> Iterator[str]:
    yield from ("## Training", "")
    said: dict[str, Any] = dict(info.training or {})
    if not said:
        yield from ("Nothing is known of it: the model's file says nothing.", "")
        return
    patch = words.sizes(info.patch_size) if info.patch_size else None
    for name, value in (
        ("Data set", said.get("data_set")), ("When", said.get("when")), ("Epochs", said.get("epochs")),
        ("Steps", said.get("steps")), ("Batch", said.get("batch_size")), ("Patch (Z x Y x X)", patch),
        ("Loss", said.get("loss")), ("Parameters", f"{info.n_parameters:,}"),
    ):  # fmt: skip
        if value is not None:
            yield f"- {name}: {value}"
    yield ""


def _validation(info: ModelInfo) -> Iterator[str]:
    yield from ("## Validation", "")
    said = info.training or {}
    if isinstance(f1 := said.get("validation_f1"), int | float):
        yield f"Mean F1 {f1:.4f}, on data that it did not learn from but that chose among the epochs of the training."
    else:
        yield "It was not validated in training."
    yield from ("Compare its result with your own labels before you rely on it.", "")
