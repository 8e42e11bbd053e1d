"""The rules by which a network and a training are proposed for a data set and a machine. Imports no framework.

Most are those of nnU-Net (Isensee et al. 2021): the patch as large as the memory allows, levels as many as the patch
can be halved, at least two patches in a batch, no pooling along thick slices. The limits of patch, batch and training
are ours, near DeepSCEM's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, prod
from pathlib import Path
from typing import Any

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets.survey import Survey
from deepscem_tui.engine.networks import draw_network
from deepscem_tui.engine.networks.geometry import step_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.engine.system.memory import Limit

__all__ = ["Machine", "Proposal", "propose"]

_FEW_SLICES = 16  # fewer give no volume to learn from
_THICK, _FLAT = 3.0, 8.0  # times as thick as wide: leave slices apart in some levels; take them one by one
_MOST_POOLS = 4
_BOTTOM = {2: (1, 8, 8), 3: (4, 8, 8)}  # least side of the deepest level, voxels, Z, Y, X
_NARROWEST = {2: (1, 64, 64), 3: (8, 32, 32)}  # sides of a patch, Z, Y, X, before filters give way
_WIDEST = {2: {True: 512, False: 256}, 3: {True: 160, False: 96}}  # side of a patch: by dimension, on a GPU or not
_MOST_PATCHES = {2: 8, 3: 4}
_LEAST_PATCHES = 2
_SHARE = {True: 0.8, False: 0.5}  # of the GPU's memory; of the free memory
_STEPS_AN_EPOCH = 256
_PASSES = 200  # how often each voxel is seen
_EPOCHS = (16, 64)
_RARE = 0.01  # share of the voxels


@dataclass(frozen=True)
class Machine:
    """What computes: the memory that a step may take (None if not known), and how many cores there are."""

    limit: Limit | None
    cores: int

    @property
    def gpu(self) -> bool:
        return self.limit is not None and self.limit.gpu

    @property
    def budget(self) -> float:
        """Bytes that a step should take at most."""
        return _SHARE[self.gpu] * self.limit.size if self.limit else float("inf")

    def __str__(self) -> str:
        memory = self.limit.words if self.limit else "its memory is not known"
        device = "a GPU" if self.gpu else f"the CPU, {words.counted(self.cores, 'core')}"
        return f"{device}: {memory}"


@dataclass(frozen=True)
class Proposal:
    """A network and a training.

    Args:
        patch: Z, Y, X in voxels.
        reasons: Why, by the name of each.
    """

    dimension: int
    depth: int
    filters: int
    anisotropy: int
    patch: Shape
    batch_size: int
    epochs: int
    label_focus: float
    graph: Graph
    reasons: dict[str, str]

    @property
    def steps(self) -> int:
        return self.epochs * _STEPS_AN_EPOCH

    @property
    def memory(self) -> int:
        """Bytes that a step takes, by estimate."""
        return step_bytes(self.graph, self.patch[3 - self.dimension :], self.batch_size, training=True)

    def network(self, out: Path, dataset: Path) -> p.CreateModel:
        """How to make the network."""
        settings = {name: getattr(self, name) for name in ("dimension", "depth", "filters", "anisotropy")}
        return p.CreateModel(out=out, like=dataset, **settings)

    @property
    def training(self) -> dict[str, Any]:
        """What to train it with, as ``train`` takes it."""
        return {
            "patch_size": ",".join(map(str, self.patch[3 - self.dimension :])),
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "steps_per_epoch": _STEPS_AN_EPOCH,
            "label_focus": self.label_focus,
        }


def propose(found: Survey, machine: Machine, dimension: int | None = None) -> Proposal:
    """Choose a network and a training.

    Args:
        found: What there is to learn from.
        machine: What computes.
        dimension: 2 or 3 where it is decided already.
    """
    reasons: dict[str, str] = {}
    ratio = found.anisotropy or 1.0
    chosen, reasons["dimension"] = (dimension, "as asked for") if dimension else _dimension(found, machine, ratio)
    shape, batch, filters = _patch(found, machine, chosen, ratio, reasons)
    depth, anisotropy = _levels(shape, chosen, ratio)
    graph = _drawn(found, chosen, depth, anisotropy, filters)
    reasons["depth"] = f"the patch halved {depth - 1} times is still {_BOTTOM[chosen][1]} voxels wide or more"
    if chosen == 3:
        thick = f"voxels are {ratio:.1f} times as long along Z as in the slice"
        thin = f"patches are {shape[0]} slices thick"
        reasons["anisotropy"] = f"{thick}, {thin}" if anisotropy else f"{thick}: slices need not be left apart"
    epochs, reasons["epochs"] = _epochs(found, shape, batch)
    focus, reasons["label_focus"] = _focus(found)
    return Proposal(chosen, depth, filters, anisotropy, shape, batch, epochs, focus, graph, reasons)


def _dimension(found: Survey, machine: Machine, ratio: float) -> tuple[int, str]:
    slices = found.smallest[0]
    if slices < _FEW_SLICES:
        return 2, f"the thinnest sample has {words.counted(slices, 'slice')}; networks for volumes need {_FEW_SLICES}"
    if ratio >= _FLAT:
        return 2, f"slices are {ratio:.0f} times as thick as pixels are wide: neighbours tell little"
    if not machine.gpu:
        return 2, "there is no GPU, and slices take less work; --dimension 3 asks for a network for volumes"
    return 3, f"samples have {slices} slices and more, {ratio:.1f} times as thick as pixels are wide"


def _patch(
    found: Survey, machine: Machine, dimension: int, ratio: float, reasons: dict[str, str]
) -> tuple[Shape, int, int]:
    """Patch, batch and filters: the largest patch of which two fit the memory, then as many as fit."""
    filters = 32 if machine.gpu else 16
    reasons["filters"] = (
        "usual on a GPU" if machine.gpu else "half the usual, for there is no GPU: a quarter of the work"
    )
    widest = _WIDEST[dimension][machine.gpu]
    limits = (1, widest, widest) if dimension == 2 else (max(_BOTTOM[3][0], round(widest / ratio)), widest, widest)
    wanted = [min(side, limit) for side, limit in zip(found.smallest, limits, strict=True)]

    def fits(patch: Shape, batch: int) -> bool:
        levels = _levels(patch, dimension, ratio)
        graph = _drawn(found, dimension, *levels, filters)
        return step_bytes(graph, patch[3 - dimension :], batch, training=True) <= machine.budget

    patch = _on_grid(wanted, dimension, ratio)
    while not fits(patch, _LEAST_PATCHES):
        smaller = _smaller(patch, dimension, ratio)
        if smaller == patch and filters > 4:
            filters //= 2
            reasons["filters"] = "more do not fit the memory"
        elif smaller == patch:
            break
        patch = smaller
    batch = _LEAST_PATCHES
    while batch < _MOST_PATCHES[dimension] and fits(patch, batch + 1):
        batch += 1
    most_wanted = _on_grid(wanted, dimension, ratio)
    if patch != most_wanted:
        reasons["patch_size"] = "as large as the memory allows"
    elif most_wanted == _on_grid(found.smallest, dimension, ratio):
        reasons["patch_size"] = "all of the smallest sample"
    else:
        reasons["patch_size"] = f"the largest that is proposed {'with' if machine.gpu else 'without'} a GPU"
    most = batch == _MOST_PATCHES[dimension]
    reasons["batch_size"] = "the usual number, which fits the memory" if most else "what the memory allows, at least 2"
    return patch, batch, filters


def _levels(patch: Sequence[int], dimension: int, ratio: float) -> tuple[int, int]:
    """Depth, and how many levels leave slices apart: pools as many as the sides of the patch allow."""
    bottom = _BOTTOM[dimension]
    along, *within = (int(log2(max(1, side // least))) for side, least in zip(patch, bottom, strict=True))
    across = min(_MOST_POOLS, *within)
    if dimension == 2:
        return across + 1, 0
    thick = int(log2(ratio)) if ratio >= _THICK else 0
    return across + 1, min(across, max(thick, across - along))


def _on_grid(sides: Sequence[int], dimension: int, ratio: float) -> Shape:
    """The largest patch no larger than ``sides`` that the network for it takes."""
    depth, anisotropy = _levels(sides, dimension, ratio)
    steps = (2 ** (depth - 1 - anisotropy) if dimension == 3 else 1, 2 ** (depth - 1), 2 ** (depth - 1))
    z, y, x = (max(1, side // step) * step for side, step in zip(sides, steps, strict=True))
    return z, y, x


def _smaller(patch: Shape, dimension: int, ratio: float) -> Shape:
    """A patch with a quarter less along the side that is longest in space; the same one if it cannot be smaller."""
    lengths = [patch[0] * ratio if dimension == 3 else 0.0, *map(float, patch[1:])]
    for axis in sorted(range(3), key=lambda axis: -lengths[axis]):
        sides = list(patch)
        sides[axis] = patch[axis] * 3 // 4
        if sides[axis] >= _NARROWEST[dimension][axis]:
            return _on_grid(sides, dimension, ratio)
    return patch


def _drawn(found: Survey, dimension: int, depth: int, anisotropy: int, filters: int) -> Graph:
    settings: Any = {"dimension": dimension, "depth": depth, "anisotropy": anisotropy, "filters": filters}
    n_labels = len(found.labels)
    return draw_network(p.CreateModel(out=Path("plan.keras"), labels=n_labels, **settings), n_labels)


def _epochs(found: Survey, patch: Shape, batch: int) -> tuple[int, str]:
    steps = _PASSES * found.voxels / (batch * prod(patch))
    least, most = _EPOCHS
    epochs = max(least, min(most, ceil(steps / _STEPS_AN_EPOCH)))
    times = epochs * _STEPS_AN_EPOCH * batch * prod(patch) / found.voxels
    return epochs, f"each voxel is seen about {times:,.0f} times; raise it while the validation still improves"


def _focus(found: Survey) -> tuple[float, str]:
    name, share = found.rarest
    if share < _RARE:
        return 50.0, f"label {name!r} has {share:.2%} of the voxels"
    return 33.0, f"the rarest label, {name!r}, has {share:.1%} of the voxels"
