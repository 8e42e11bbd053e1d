"""The table of objects: what each column means, and the rows of one mask's objects."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import pi, prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.formats.volume_writer import writing
from deepscem_tui.engine.objects.physical import Voxels
from deepscem_tui.engine.objects.statistics import Statistics
from deepscem_tui.engine.system.files import Together, published

__all__ = ["COLUMNS", "SHOWN", "Measured", "write_csv"]

# Lengths are in `unit`, surfaces in its square, volumes in its cube; of one slice these are outlines and areas.
COLUMNS = (
    "sample", "label", "id", "unit", "voxels", "volume", "surface", "diameter", "elongation", "flatness",
    "z", "y", "x", "length_z", "length_y", "length_x", "voxel_z", "voxel_y", "voxel_x",
    "z0", "z1", "y0", "y1", "x0", "x1", "touches_edge", "mean_probability",
)  # fmt: skip
SHOWN = (
    "sample", "label", "id", "unit", "voxels", "volume", "surface", "diameter", "elongation", "z", "y", "x",
    "touches_edge",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """The objects of one label of a sample.

    Args:
        sample, label: Their names.
        shape: Of the volume, (Z, Y, X).
        voxels: Of the sample.
        statistics: Of the objects.
        ids: (n,) what they are called.
        surfaces: (n,) in the square of the unit.
        probabilities: Whether there are any.
    """

    sample: str
    label: str
    shape: Shape
    voxels: Voxels
    statistics: Statistics
    ids: npt.NDArray[Any]
    surfaces: npt.NDArray[np.float64]
    probabilities: bool

    @property
    def flat(self) -> bool:
        """Whether this is one slice."""
        return self.shape[0] == 1

    @property
    def volumes(self) -> npt.NDArray[np.float64]:
        """(n,) in the cube of the unit; areas of one slice."""
        each = prod(self.voxels.sides[1:] if self.flat else self.voxels.sides)
        return np.asarray(self.statistics.voxels * each, np.float64)

    @property
    def touching(self) -> npt.NDArray[np.bool_]:
        """(n,) which the border of the volume cuts, or may."""
        return self.statistics.touches_edge(self.shape)

    def rows(self, chosen: npt.NDArray[np.int64] | None = None) -> Iterable[tuple[Any, ...]]:
        """Rows of :data:`COLUMNS` of all objects, or of those at some places.

        Yields:
            Plain values; None where there is nothing to tell.
        """
        wanted = np.arange(len(self.statistics)) if chosen is None else chosen
        found, sides = self.statistics[wanted], np.array(self.voxels.sides)
        volumes = self.volumes[wanted]
        elongation, flatness = _ratios(found, sides, self.flat)
        lengths = (found.high - found.low) * sides
        ends = np.stack([found.low, found.high], axis=2).reshape(-1, 6)
        columns: list[Sequence[Any]] = [
            self.ids[wanted].tolist(), [self.voxels.length_unit] * len(wanted), found.voxels.tolist(),
            volumes.tolist(), self.surfaces[wanted].tolist(), _diameters(volumes, self.flat).tolist(),
            elongation.tolist(), [None] * len(wanted) if self.flat else flatness.tolist(),
            *(found.centroids * sides).T.tolist(), *lengths.T.tolist(), *found.centroids.T.tolist(), *ends.T.tolist(),
            self.touching[wanted].tolist(),
            found.mean_probability.tolist() if self.probabilities else [None] * len(wanted),
        ]  # fmt: skip
        for row in zip(*columns, strict=True):
            yield (self.sample, self.label, *row)


def _diameters(volumes: npt.NDArray[np.float64], flat: bool) -> npt.NDArray[np.float64]:
    """Of balls, or of discs, of these volumes, or areas."""
    return np.asarray(np.sqrt(4 / pi * volumes) if flat else np.cbrt(6 / pi * volumes), np.float64)


def _ratios(
    found: Statistics, sides: npt.NDArray[np.float64], flat: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The longest principal axis over the second, and the second over the third."""
    if not len(found):
        return np.zeros(0), np.zeros(0)
    spread = found.covariances * np.outer(sides, sides)
    axes = np.sqrt(np.linalg.eigvalsh(spread[:, 1:, 1:] if flat else spread))[:, ::-1]
    return axes[:, 0] / axes[:, 1], axes[:, 1] / axes[:, -1]


def write_csv(path: Path, tables: Iterable[Measured], together: Together) -> None:
    """Write all objects as CSV, numbers with eight digits.

    Raises:
        VolumeError, ResourceError: it cannot be written.
    """
    with (
        writing(path),
        published(path, together=together) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for table in tables:
            writer.writerows([_cell(value) for value in row] for row in table.rows())


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.8g}" if isinstance(value, float) else value
