"""What a prediction will take, said before it begins: precision, memory, disk, time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Plane, Shape
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.models.files import ModelInfo
from deepscem_tui.engine.networks.geometry import step_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.prediction.averaging import symmetries
from deepscem_tui.engine.prediction.orthogonal import kept_type
from deepscem_tui.engine.prediction.output import kind_in_words, least_output_bytes, output_bytes
from deepscem_tui.engine.prediction.plan import PredictionPlan, make_plan, slab_voxel_bytes, turned
from deepscem_tui.engine.prediction.slabs import SlabStore
from deepscem_tui.engine.prediction.values import values_of
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources.inputs import InputImage
from deepscem_tui.engine.system.devices import best_precision
from deepscem_tui.engine.system.memory import Limit, host_memory, memory_limit
from deepscem_tui.engine.system.space import check_room

__all__ = ["as_deepscem", "check_disk", "check_memory", "chosen_precision", "disk_bytes", "dry_run", "say_plan"]

_MEASURED = {2: (1, 256, 256), 3: (64, 64, 64)}  # tile that the speed is measured with


def chosen_precision(parameters: p.Predict) -> str:
    """The precision that is asked for, or the best there is; what repeats DeepSCEM's predictions is exact."""
    if parameters.precision != "auto":
        return parameters.precision
    return "float32" if as_deepscem(parameters) else best_precision()


def as_deepscem(parameters: p.Predict) -> bool:
    """Whether tiles are laid and joined as DeepSCEM does it."""
    return parameters.join in ("deepscem", "deepscem-no-overlap")


def check_memory(
    parameters: p.Predict, plan: PredictionPlan, info: ModelInfo, graph: Graph, limit: Limit | None, devices: int = 1
) -> None:
    """Raise :class:`ResourceError` where a call of the network or a slab cannot fit, rather than be killed later."""
    here, each = host_memory(limit), slab_voxel_bytes(parameters, info)
    on_cpu = limit is not None and not limit.gpu  # a GPU says so itself, and tiles become smaller
    for sample in plan.samples:
        tile, batch = sample.tiles.tile, -(-sample.batch // devices)
        needed = step_bytes(graph, tile[3 - sample.tiles.dimension :], batch, training=False) if on_cpu else 0
        held = sample.held_bytes(each, graph.n_outputs)
        if needed + held > here >= needed:
            raise ResourceError(
                f"Slabs of {words.sizes((sample.slab_depth, *sample.tiles.shape[1:]))} voxels of {sample.title!r} need "
                f"about {words.amount(held, 'B')} of memory, the network {words.amount(needed, 'B')}, and "
                f"{words.amount(here, 'B')} are free",
                "Use a smaller --patch-size (its Z above all, with a 3D network), or masks instead of probabilities.",
                "patch_size",
            )
        if on_cpu and needed > here:
            assert limit is not None
            raise ResourceError(
                f"{batch} tiles of {words.sizes(tile)} voxels need about {needed / 2**30:.1f} GiB of memory, "
                f"and {limit.words}",
                "Use a smaller --patch-size, or --batch-size 1.",
                "batch_size" if batch > 1 else "patch_size",
            )


def say_plan(plan: PredictionPlan, info: ModelInfo, context: Context) -> None:
    """What is unusual about the plans, each thing once."""
    for note in dict.fromkeys(note for sample in plan.samples for note in sample.tiles.notes):
        context.report.message(note)
    for shortfall in dict.fromkeys(sample.tiles.shortfall for sample in plan.samples):
        if shortfall:
            context.report.warning(shortfall)
    flat = [sample.sample for sample in plan.samples if sample.tiles.shape[0] == 1]
    if info.dimension == 3 and flat:
        context.report.warning(f"A 3D network was made for volumes, but {', '.join(map(repr, flat))} is a single slice")


def check_disk(
    parameters: p.Predict,
    info: ModelInfo,
    images: Sequence[InputImage],
    plan: PredictionPlan,
    wanted: Sequence[range],
    home: Path | None,
) -> None:
    """Raise :class:`ResourceError` where slabs and result cannot fit on their disks, whatever the result will be.

    Args:
        wanted: The slabs of each of the plan's entries that are computed here.
        home: Where slabs are kept; those that are there already count no more.
    """
    needed: dict[Path, int] = {}
    if parameters.shard is None:
        needed[parameters.out] = sum(least_output_bytes(parameters, info, image) for image in images)
    if home is not None:
        there = home / "slabs"
        needed[there] = sum(
            _kept_bytes(parameters, info, plan.precision, (layer.own[1] - layer.own[0], *sample.tiles.shape[1:]))
            for index, (sample, numbers) in enumerate(zip(plan.samples, wanted, strict=True))
            for number, layer in enumerate(sample.layers)
            if number in numbers and not SlabStore(there, index).has(number)
        )
    check_room(needed)


def _kept_bytes(parameters: p.Predict, info: ModelInfo, precision: str, shape: Shape) -> int:
    """Bytes of the labels of so many voxels in slabs."""
    values = values_of(parameters, info)
    if parameters.ortho or parameters.rescale:
        row = shape[2] * np.dtype(kept_type(precision.replace("auto", "float32"))).itemsize
    else:
        row = ceil(shape[2] / 8) if values.kind == "mask" else shape[2] * values.dtype.itemsize
    return info.n_labels * prod(shape[:2]) * row


def disk_bytes(parameters: p.Predict, info: ModelInfo, image: InputImage, plane: Plane) -> int:
    """Bytes that a sample, or a plane of it, takes on the disk until all is done: the most that it may come to.

    Slabs are kept until the result is made; with `--ortho` and `--rescale` as what the network says, and with `--ortho`
    those of all three planes, and for a while a copy of the image.
    """
    voxels = prod(image.source.shape)
    bytes_ = _kept_bytes(parameters, info, parameters.precision, turned(image.source.shape, plane))
    if plane == "xy":
        bytes_ += output_bytes(parameters, info, image)
    elif plane == "yz":  # the copy for the other plane comes when this one is gone
        bytes_ += voxels * image.in_file.itemsize
    return bytes_


def dry_run(
    parameters: p.Predict, context: Context, info: ModelInfo, graph: Graph, images: Sequence[InputImage]
) -> Result:
    """What `--dry-run` says."""
    limit = memory_limit()
    plan = make_plan(parameters, {image.source.name: image.source.shape for image in images}, info, graph, limit)
    say_plan(plan, info, context)
    check_memory(parameters, plan, info, graph, limit)
    each = slab_voxel_bytes(parameters, info)
    memory = [
        step_bytes(graph, sample.tiles.tile[3 - sample.tiles.dimension :], sample.batch, training=False)
        + sample.held_bytes(each, graph.n_outputs)
        for sample in plan.samples
    ]
    by_name = {image.source.name: image for image in images}
    disk = [disk_bytes(parameters, info, by_name[sample.sample], sample.plane) for sample in plan.samples]
    columns = ("sample", "shape", "tile", "margin", "batch", "tiles", "wasted", "memory_gib", "disk_gib")
    rows = [
        (
            sample.title, list(sample.tiles.shape), list(sample.tiles.tile), list(sample.tiles.margin),
            sample.batch, sample.tiles.n_tiles, round(sample.wasted, 4),
            round(needed / 2**30, 2), round(taken / 2**30, 2),
        )
        for sample, needed, taken in zip(plan.samples, memory, disk, strict=True)
    ]  # fmt: skip
    facts: dict[str, Any] = {"plans": plan.as_json()["samples"], "memory_bytes": max(memory), "disk_bytes": sum(disk)}
    n_tiles = sum(sample.tiles.n_tiles for sample in plan.samples)
    summary = f"Would predict {words.counted(len(images), 'sample')}, {n_tiles} tiles, into {parameters.out}"
    summary += f" ({kind_in_words(parameters)})"
    if context.measuring:
        facts["seconds"] = round(_estimated_seconds(parameters, plan, info), 1)
        summary += f", in about {words.duration(facts['seconds'])}"
    return Result(summary, facts, (Table("samples", columns, rows),))


def _estimated_seconds(parameters: p.Predict, plan: PredictionPlan, info: ModelInfo) -> float:
    """Time that the network takes for a plan, by the speed that it has on a small tile."""
    from deepscem_tui.engine.prediction.network import load_network

    precision = chosen_precision(parameters)
    network = load_network(parameters.model, precision)
    largest = max((sample.tiles.tile for sample in plan.samples), key=prod)
    sizes = zip(largest, _MEASURED[info.dimension], info.divisor, strict=True)
    depth, *sides = (max(step, min(side, most) // step * step) for side, most, step in sizes)
    tile = np.zeros((1, depth + 2 * info.context, *sides), np.float32)
    network(tile)  # traced
    began = time.monotonic()
    network(tile)
    seconds = time.monotonic() - began
    turns = [len(symmetries(sample.tiles.tile, info.dimension)) if parameters.tta else 1 for sample in plan.samples]
    voxels = sum(sample.computed_voxels * n for sample, n in zip(plan.samples, turns, strict=True))
    return seconds / (depth * prod(sides)) * voxels
