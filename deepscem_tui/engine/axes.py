"""Axes and planes, in the order in which everything here has them: Z, Y, X."""

from __future__ import annotations

from typing import Literal

__all__ = ["AXES", "Plane", "Shape"]

Shape = tuple[int, int, int]  # Z, Y, X

Plane = Literal["xy", "xz", "yz"]

# The axis that the index of a slice counts, the one that goes down the picture, and the one across.
AXES: dict[Plane, tuple[int, int, int]] = {"xy": (0, 1, 2), "xz": (1, 0, 2), "yz": (2, 0, 1)}
