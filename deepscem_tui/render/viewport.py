"""Which part of a plane a canvas of cells shows, and where in it a voxel lies."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Viewport"]

_LARGEST = 16.0  # pixels that a voxel may be wide


@dataclass(frozen=True)
class Viewport:
    """A window on a plane of voxels; a cell holds two pixels, one above the other.

    Args:
        size: Voxels of the plane, down and across.
        canvas: Cells, down and across.
        aspect: Height of a voxel divided by its width.
        zoom: How much larger than fitted.
        centre: The voxel in the middle, down and across, as far as the borders of the plane allow.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    aspect: float = 1.0
    zoom: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    @property
    def scale(self) -> float:
        """Pixels that a voxel is wide."""
        return self._fitted * self.zoom

    @property
    def rows(self) -> tuple[int, int]:
        """First voxel down that is shown, and the one behind the last."""
        return _span(self.centre[0], self.size[0], 2 * self.canvas[0] / (self.scale * self.aspect))

    @property
    def columns(self) -> tuple[int, int]:
        """The same across."""
        return _span(self.centre[1], self.size[1], self.canvas[1] / self.scale)

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels of the picture, down (even) and across."""
        (top, bottom), (left, right) = self.rows, self.columns
        down = 2 * max(1, round((bottom - top) * self.scale * self.aspect / 2))
        return min(down, 2 * self.canvas[0]), max(1, min(round((right - left) * self.scale), self.canvas[1]))

    @property
    def offset(self) -> tuple[int, int]:
        """Cells above and to the left of the picture."""
        return (self.canvas[0] - self.shape[0] // 2) // 2, (self.canvas[1] - self.shape[1]) // 2

    def voxel_at(self, row: int, column: int) -> tuple[int, int] | None:
        """The voxel (down, across) in the middle of a cell; None beside the picture."""
        row, column = row - self.offset[0], column - self.offset[1]
        down, across = self.shape
        if not (0 <= 2 * row < down and 0 <= column < across):
            return None
        (top, bottom), (left, right) = self.rows, self.columns
        return top + int((2 * row + 1) * (bottom - top) / down), left + int((column + 0.5) * (right - left) / across)

    def cell_of(self, voxel: tuple[int, int]) -> tuple[int, int] | None:
        """The cell (row, column) that a voxel's middle lies in; None if it is not shown."""
        (top, bottom), (left, right) = self.rows, self.columns
        if not (top <= voxel[0] < bottom and left <= voxel[1] < right):
            return None
        row = int((voxel[0] - top + 0.5) * self.shape[0] / (bottom - top) / 2)
        column = int((voxel[1] - left + 0.5) * self.shape[1] / (right - left))
        return row + self.offset[0], column + self.offset[1]

    def zoomed(self, factor: float, about: tuple[int, int]) -> Viewport:
        """Larger or smaller by a factor, with a voxel where it is on the canvas; never smaller than fitted."""
        zoom = max(1.0, min(self.zoom * factor, max(1.0, _LARGEST / self._fitted)))
        share = self.zoom / zoom
        middle = self._middle
        centre = (about[0] + (middle[0] - about[0]) * share, about[1] + (middle[1] - about[1]) * share)
        return replace(self, zoom=zoom, centre=centre)

    def panned(self, down: float, across: float) -> Viewport:
        """Moved by so many voxels, up to the border."""
        middle = self._middle
        return replace(self, centre=(middle[0] + down, middle[1] + across))._held()

    def showing(self, voxel: tuple[int, int]) -> Viewport:
        """Moved as little as is needed for a voxel to be seen."""
        moves = []
        for at, (first, last) in zip(voxel, (self.rows, self.columns), strict=True):
            moves.append(min(0, at - first) + max(0, at - last + 1))
        return self.panned(*moves) if any(moves) else self

    @property
    def _fitted(self) -> float:
        return min(self.canvas[1] / self.size[1], 2 * self.canvas[0] / (self.size[0] * self.aspect))

    @property
    def _middle(self) -> tuple[float, float]:
        (top, bottom), (left, right) = self.rows, self.columns
        return (top + bottom) / 2, (left + right) / 2

    def _held(self) -> Viewport:
        """With the centre where it really is, so that the way back from a border begins at once."""
        return replace(self, centre=self._middle)


def _span(centre: float, size: int, shown: float) -> tuple[int, int]:
    length = min(size, max(1, round(shown)))
    first = min(max(0, round(centre - length / 2)), size - length)
    return first, first + length
