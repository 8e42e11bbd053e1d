"""The plan of a prediction: tiles, batches, slabs and precision, fixed before the first tile and kept as ``plan.json``.

Whoever goes on with a prediction reads it from there, so that it computes the same numbers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import Any

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.axes import AXES, Plane, Shape
from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.models.info import ModelInfo
from deepscem_tui.engine.networks.geometry import activation_bytes, step_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.prediction.tiling import DEFAULT_VOXELS, Layer, TilePlan, plan_tiles
from deepscem_tui.engine.prediction.tiling_deepscem import plan_as_deepscem
from deepscem_tui.engine.prediction.values import values_of
from deepscem_tui.engine.system.files import regular, write_text
from deepscem_tui.engine.system.memory import Limit, host_memory

__all__ = [
    "PredictionPlan",
    "SamplePlan",
    "make_plan",
    "plan_file",
    "read_plan",
    "slab_voxel_bytes",
    "turned",
    "write_plan",
]

_log = logging.getLogger(__name__)

SLAB_VOXELS = 2**22  # of a slab of slices; with networks for volumes a slab is as thick as its tiles
_BATCH_VOXELS = 2**20  # in a call of the network; larger tiles come one at a time
_MOST_TILES = 32
_MEMORY_SHARE = 0.5  # of what may be used, for a call of the network
_SLAB_SHARE = 0.25  # the same for slabs
_IN_QUEUES = 7, 4  # batches on their way to the network and behind it, at most; see pipeline.py
_MOST_VOXELS = 2**22  # of a tile of a volume: a larger one takes too long to be stopped, or told of


@dataclass(frozen=True)
class SamplePlan:
    """How a sample is predicted, or one plane of it.

    Args:
        sample: Its name.
        tiles: Where its tiles lie.
        batch: Tiles in every call of the network.
        slab_voxels: See :meth:`TilePlan.layers`.
        plane: What a slice shows. The axes of ``tiles`` are then those of :data:`AXES`, the first across the slices.
    """

    sample: str
    tiles: TilePlan
    batch: int
    slab_voxels: int = SLAB_VOXELS
    plane: Plane = "xy"

    @property
    def shape(self) -> Shape:
        """Of the sample, Z, Y, X."""
        z, y, x = (self.tiles.shape[AXES[self.plane].index(axis)] for axis in range(3))
        return z, y, x

    @property
    def title(self) -> str:
        """What to call it: the sample, and the plane if it is not the usual one."""
        return self.sample if self.plane == "xy" else f"{self.sample}, {self.plane}"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The slabs, each computed, and kept, as a whole."""
        return tuple(self.tiles.layers(self.slab_voxels))

    @property
    def slab_depth(self) -> int:
        """Slices of the thickest slab, as it is read."""
        return max(layer.read[1] - layer.read[0] for layer in self.layers)

    def held_bytes(self, each: int, n_outputs: int) -> int:
        """Memory that is held beside the network: slabs, and batches on their way; the most that it may come to.

        Args:
            each: See :func:`slab_voxel_bytes`.
            n_outputs: Of the network.
        """
        n_batches = sum(ceil(len(layer.tiles) / self.batch) for layer in self.layers)
        before, after = (min(n_batches, number) for number in _IN_QUEUES)
        given, said = prod(self.tiles.given), self.tiles.tile_voxels * n_outputs  # voxels, numbers
        batches = 4 * self.batch * (before * given + after * said)
        return self.slab_depth * prod(self.tiles.shape[1:]) * each + batches

    @property
    def computed_voxels(self) -> int:
        """Voxels that the network is given, with those that fill the last batch of each slab up."""
        calls = sum(ceil(len(layer.tiles) / self.batch) for layer in self.layers)
        return calls * self.batch * self.tiles.tile_voxels

    @property
    def wasted(self) -> float:
        """Share, 0 to 1, of the computed voxels that is thrown away."""
        return 1 - prod(self.tiles.shape) / self.computed_voxels

    def as_json(self) -> dict[str, Any]:
        facts = {"sample": self.sample, "plane": self.plane, **self.tiles.as_json(), "batch": self.batch}
        facts |= {"slab_voxels": self.slab_voxels, "slabs": len(self.layers), "wasted": round(self.wasted, 4)}
        return facts

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> SamplePlan:
        tiles = TilePlan.from_json(facts)
        plane = facts.get("plane", "xy")  # plans of older runs say nothing of it
        if plane not in AXES:
            raise ValueError(f"there is no plane {plane!r}")
        return cls(str(facts["sample"]), tiles, int(facts["batch"]), int(facts["slab_voxels"]), plane)


@dataclass(frozen=True)
class PredictionPlan:
    """How samples are predicted.

    Args:
        samples: In order; where planes are averaged, each sample's come one after the other, those across first.
        precision: That the network is computed with; ``"auto"`` while that is not known.
        version: 1, and one more whenever the memory did not suffice and tiles became smaller.
    """

    samples: tuple[SamplePlan, ...]
    precision: str
    version: int = 1

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of each sample, by name."""
        return {entry.sample: entry.shape for entry in self.samples}

    def as_json(self) -> dict[str, Any]:
        samples = [sample.as_json() for sample in self.samples]
        return {"version": self.version, "precision": self.precision, "samples": samples}


def turned(shape: Shape, plane: Plane) -> Shape:
    """A shape Z, Y, X as slices of a plane have it: their number, rows, columns."""
    z, y, x = (shape[axis] for axis in AXES[plane])
    return z, y, x


def plan_file(folder: Path) -> Path:
    """Where a run keeps its plan."""
    return folder / "plan.json"


def write_plan(folder: Path, plan: PredictionPlan) -> None:
    """Keep a plan in a run's folder."""
    write_text(plan_file(folder), json.dumps(plan.as_json(), indent=1, ensure_ascii=False) + "\n")


def read_plan(folder: Path) -> PredictionPlan:
    """The plan in a run's folder.

    Raises:
        RunError: it is damaged.
    """
    try:
        facts = json.loads(regular(plan_file(folder)).read_text(encoding="utf-8"))
        samples = tuple(SamplePlan.from_json(sample) for sample in facts["samples"])
        return PredictionPlan(samples, str(facts["precision"]), int(facts["version"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"The plan {plan_file(folder)} cannot be used: {error}", "Predict anew.") from None


def make_plan(
    parameters: p.Predict,
    samples: Mapping[str, Shape],
    info: ModelInfo,
    graph: Graph,
    limit: Limit | None,
    devices: int = 1,
    most_voxels: int | None = None,
    version: int = 1,
) -> PredictionPlan:
    """Choose tiles, batches and slabs for samples.

    Args:
        samples: Shape of each, Z, Y, X, by name.
        limit: Memory that a call of the network may take; None if not known.
        devices: That a batch is shared out among.
        most_voxels: In a call of the network, where the memory is known not to suffice for more.

    Raises:
        ParameterError: ``--patch-size`` does not suit the network or the join.
    """
    plans = []
    planes: tuple[Plane, ...] = ("yz", "xz", "xy") if parameters.ortho else ("xy",)
    slab_voxels = int(host_memory(limit) * _SLAB_SHARE / slab_voxel_bytes(parameters, info))
    for (name, shape), plane in product(samples.items(), planes):
        tiles = _tiles(parameters, turned(shape, plane), info, graph, limit, slab_voxels, most_voxels)
        slab = min(SLAB_VOXELS, slab_voxels)
        batch = parameters.batch_size or _batch(tiles, slab, graph, limit, devices, most_voxels)
        _log.debug(
            "sample %r in planes %s: %s, batches of %d, slabs of %d voxels", name, plane, tiles.axes, batch, slab
        )
        plans.append(SamplePlan(name, tiles, batch, slab, plane))
    return PredictionPlan(tuple(plans), parameters.precision, version)


def slab_voxel_bytes(parameters: p.Predict, info: ModelInfo) -> int:
    """Memory for each voxel of a slab, at most, of two slabs under way.

    Of the image: both as they are read, a normalised copy, and one as it is stored. Of labels: both. Blending has sums
    and weights beside them, and those that the slab before left; means over planes are summed up.
    """
    labels = info.n_labels
    said = parameters.ortho or parameters.rescale
    each = 4 * 4 + 2 * labels * (4 if said else values_of(parameters, info).dtype.itemsize)
    if parameters.join == "blend":
        each += 2 * 4 * (labels + 1)
    if parameters.ortho:
        each += 2 * 4 * labels
    return each


def _tiles(
    parameters: p.Predict,
    shape: Shape,
    info: ModelInfo,
    graph: Graph,
    limit: Limit | None,
    slab_voxels: int,
    most_voxels: int | None,
) -> TilePlan:
    network = (info.dimension, info.divisor, info.receptive_radius)
    match parameters.join:
        case "deepscem" | "deepscem-no-overlap" as join:
            return plan_as_deepscem(shape, *network, parameters.patch_size, join == "deepscem", info.sees_all)
        case join:
            most = _most_voxels(info, graph, limit)
            if most_voxels is not None:
                most = min(most, most_voxels)
            most_deep = slab_voxels // prod(shape[1:])
            return plan_tiles(shape, *network, parameters.patch_size, join, most, most_deep, info.sees_all)


def _most_voxels(info: ModelInfo, graph: Graph, limit: Limit | None) -> int:
    """Voxels of the largest tile: what fits the memory; of volumes no more than is computed in reasonable time."""
    if limit is None:
        return DEFAULT_VOXELS[info.dimension]
    least = info.divisor[3 - info.dimension :]
    each = activation_bytes(graph, least, 1, training=False) / prod(least)
    fitting = int((limit.size * _MEMORY_SHARE - step_bytes(graph, least, 0, training=False)) / each)
    return max(prod(least), fitting if info.dimension == 2 else min(fitting, _MOST_VOXELS))


def _batch(
    tiles: TilePlan, slab_voxels: int, graph: Graph, limit: Limit | None, devices: int, most_voxels: int | None
) -> int:
    """Tiles in a call: some at a time where they are small, and as many in each as the slab divides into."""
    in_slab = len(next(iter(tiles.layers(slab_voxels))).tiles)
    most = max(1, min(_MOST_TILES, min(_BATCH_VOXELS, most_voxels or _BATCH_VOXELS) // tiles.tile_voxels))
    if limit is not None:
        each = activation_bytes(graph, tiles.tile[3 - tiles.dimension :], 1, training=False)
        most = max(1, min(most, int(limit.size * _MEMORY_SHARE / each)))
    most = min(most * devices, in_slab)
    calls = ceil(in_slab / most)
    return ceil(in_slab / calls)
