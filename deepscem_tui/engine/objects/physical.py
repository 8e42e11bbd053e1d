"""Lengths and volumes that are given in voxels or in real units, as voxels of a sample."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats.tiff_metadata import METRES

__all__ = ["Voxels"]

Size = tuple[float, float, float]

_MICROMETRE = METRES["µm"]


@dataclass(frozen=True)
class Voxels:
    """The voxels of a sample.

    Args:
        name: Of the sample, for messages.
        size: Z, Y, X in ``unit``; None if not known.
        unit: Such as "nm".
    """

    name: str
    size: Size | None
    unit: str

    @property
    def known(self) -> bool:
        """Whether their size is known."""
        return self.size is not None and self.unit in METRES

    @property
    def sides(self) -> Size:
        """Z, Y, X in micrometres, or 1 where they are not known."""
        if self.size is None or not self.known:
            return 1.0, 1.0, 1.0
        z, y, x = (side * METRES[self.unit] / _MICROMETRE for side in self.size)
        return z, y, x

    @property
    def length_unit(self) -> str:
        """Of :attr:`sides`: "µm", or "voxels" where they are not known."""
        return "µm" if self.known else "voxels"

    def length(self, given: tuple[float, str], parameter: str) -> float:
        """A length in the unit of :attr:`sides`; a number of voxels is one of their shortest sides.

        Raises:
            ParameterError: it has a unit, and the size of the voxels is not known.
        """
        value, unit = given
        if not unit:
            return value * min(self.sides)
        self._require(value, unit, parameter)
        return value * METRES[unit] / _MICROMETRE

    def count(self, given: tuple[float, str], parameter: str) -> float:
        """A volume as a number of voxels.

        Raises:
            ParameterError: it has a unit, and the size of the voxels is not known.
        """
        value, unit = given
        if not unit:
            return value
        self._require(value, f"{unit}3", parameter)
        return value * (METRES[unit] / _MICROMETRE) ** 3 / prod(self.sides)

    def _require(self, value: float, unit: str, parameter: str) -> None:
        if not self.known:
            option = parameter.replace("_", "-")
            raise ParameterError(
                f"--{option} is {value:g}{unit}, and the size of the voxels of {self.name!r} is not known",
                "Give it in voxels, without a unit, or say how large they are: deepscem-tui run set-voxel-size",
                parameter,
            )
