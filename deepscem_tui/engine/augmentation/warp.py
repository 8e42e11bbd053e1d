"""Rotation, scaling, elastic deformation and slipped slices: where the voxels of a patch are read from.

All but the slips, which are whole pixels, are one interpolation: linear for the image, nearest for the labels.
More than the patch is read from the sample, so that its borders are real data; beyond the sample it is mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.augmentation.opencv import as_float32, cv2
from deepscem_tui.engine.axes import Shape

__all__ = ["Read", "Slip", "Warp", "draw_slip", "draw_warp", "mirrored", "turns_in_space", "warped"]

Floats = NDArray[np.float32]
Bits = NDArray[np.uint8]
# Gives the image (Z, Y, X) and the labels' bits (P, Z, Y, X) of a box of a sample.
Read = Callable[[tuple[slice, slice, slice]], tuple[NDArray[Any], Bits]]

_THICKNESS = 1.25  # of voxels, up to which volumes turn in space
_FLATNESS = 3  # of patches, up to which they do; nnU-Net's
_ELONGATION = 1.5  # of patches in the plane, up to which they turn by any angle; nnU-Net's
_TILT = np.pi / 6  # radians at most otherwise; nnU-Net's
_ZOOM = 1.4  # at most, or its inverse; nnU-Net's
_SPACING, _BEND = 32, 3.0  # pixels between points that move independently, and the standard deviation of that
_SLIP, _SMALL_SLIP = 8, 2  # pixels at most, where slices are thick and where they are not
_SIDE = 32_766  # OpenCV maps no larger pictures


@dataclass(frozen=True)
class Slip:
    """Slices from ``first`` up to ``end`` of a patch (both may lie outside) that are displaced by whole pixels."""

    first: int
    end: int
    y: int
    x: int


@dataclass(frozen=True)
class Warp:
    """Where a patch's voxels are read from, as offsets from its middle, in voxels of the sample.

    Args:
        matrix: (3, 3), of an offset (Z, Y, X) in the patch; None for the same.
        bend: float32 (3, points along Z, Y, X), what is added: spread evenly over the patch; None for nothing.
        slip: Slices that are displaced before.
    """

    matrix: NDArray[np.float64] | None = None
    bend: Floats | None = None
    slip: Slip | None = None

    @property
    def interpolates(self) -> bool:
        return self.matrix is not None or self.bend is not None


def turns_in_space(patch: Shape, voxel_size: Sequence[float] | None) -> bool:
    """Whether patches turn about any axis: voxels are known to be nearly cubes, and patches are no flat boxes."""
    if voxel_size is None or patch[0] == 1:
        return False
    return max(voxel_size) <= _THICKNESS * min(voxel_size) and max(patch) <= _FLATNESS * min(patch)


def draw_warp(
    patch: Shape,
    voxel_size: Sequence[float] | None,
    strengths: tuple[float, float, float],
    rng: np.random.Generator,
) -> Warp:
    """A random warp.

    Args:
        patch: (Z, Y, X).
        voxel_size: (Z, Y, X); None where it is not known.
        strengths: Of rotation, scaling, elastic deformation; 0 for none.
        rng: Source of the choice.
    """
    in_space = turns_in_space(patch, voxel_size)
    rotation, scaling, elastic = strengths
    matrix = None
    if rotation or scaling:
        angles = rng.uniform(-1, 1, 3) * min(rotation, np.pi / 2 / _TILT) * _TILT
        if not in_space:
            angles[1:] = 0
            if max(patch[1:]) <= _ELONGATION * min(patch[1:]):
                angles[0] = np.clip(angles[0] * np.pi / _TILT, -np.pi, np.pi)
        zoom = _ZOOM ** (rng.uniform(-1, 1) * scaling)
        sizes = np.asarray(voxel_size if voxel_size is not None else (1, 1, 1), float)
        matrix = _rotation(angles) * sizes / sizes[:, None]
        matrix[0 if in_space else 1 :] /= zoom
    bend = None
    if elastic:
        points = [max(2, round(size / _SPACING) + 1) for size in patch]
        if not in_space:
            points[0] = 1
        bend = rng.standard_normal((3, *points), dtype=np.float32) * np.float32(_BEND * elastic)
        if not in_space:
            bend[0] = 0
    return Warp(matrix, bend)


def draw_slip(patch: Shape, voxel_size: Sequence[float] | None, strength: float, rng: np.random.Generator) -> Slip:
    """One slice, or all from one on, displaced against the others of a patch that has several."""
    most = max(1, round((_SMALL_SLIP if turns_in_space(patch, voxel_size) else _SLIP) * strength))
    first, alone = int(rng.integers(1, patch[0])), bool(rng.integers(2))
    y, x = rng.integers(-most, most + 1, 2).tolist()
    return Slip(first, first + 1 if alone else 1 << 30, y or (0 if x else most), x)


def warped(read: Read, shape: Shape, start: Shape, patch: Shape, warp: Warp) -> tuple[Floats, Bits]:
    """The image and the labels of a patch, warped.

    Args:
        read: Reads a box of the sample.
        shape: Of the sample, (Z, Y, X).
        start: First voxel of the patch.
        patch: Its shape.
        warp: What is done to it.

    Returns:
        Image float32 (Z, Y, X), and bits uint8 (P, Z, Y, X).
    """
    middle = np.array(start) + (np.array(patch) - 1) / 2
    reach = (np.array(patch) - 1) / 2
    if warp.matrix is not None:
        reach = np.abs(warp.matrix) @ reach
    if warp.bend is not None:  # the curves between the points reach a little further than these
        reach = reach + 1.25 * np.abs(warp.bend).max(axis=(1, 2, 3))
    low, high = np.floor(middle - reach + 1e-6).astype(int), np.ceil(middle + reach - 1e-6).astype(int) + 1
    slip = warp.slip
    margin = np.array((0, abs(slip.y), abs(slip.x)) if slip else (0, 0, 0))
    image, bits = _read_beyond(read, shape, low - margin, high + margin)
    if slip:
        first, end = (int(np.clip(z + start[0] - low[0], 0, len(image))) for z in (slip.first, slip.end))
        image, *planes = (_slipped(array, slip, first, end) for array in (image, *bits))
        bits = np.stack(planes) if planes else bits[..., : image.shape[1], : image.shape[2]]
    if not warp.interpolates:
        return image, bits
    matrix = np.eye(3) if warp.matrix is None else warp.matrix
    map_ = _map_in_plane if len(image) == patch[0] and _is_in_plane(matrix, warp.bend) else _map_in_space
    return map_(image, bits, patch, matrix, warp.bend, middle - low)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """A rotation by angles about Z, Y and X, one after the other; of coordinates (Z, Y, X)."""
    result = np.eye(3)
    for angle, (a, b) in zip(angles, ((1, 2), (0, 2), (0, 1)), strict=True):
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def _is_in_plane(matrix: NDArray[np.float64], bend: Floats | None) -> bool:
    still = np.array_equal(matrix[0], (1, 0, 0)) and not matrix[1:, 0].any()
    return still and (bend is None or bend.shape[1] == 1)


def _read_beyond(read: Read, shape: Shape, low: NDArray[np.int_], high: NDArray[np.int_]) -> tuple[Floats, Bits]:
    """A box that may lie partly outside the sample, where it is mirrored at the border; the image as float32."""
    inner_low = [min(max(0, int(a)), n - 1) for a, n in zip(low, shape, strict=True)]
    inner_high = [max(min(n, int(b)), a + 1) for b, n, a in zip(high, shape, inner_low, strict=True)]
    # What is mirrored may reach further back than the box.
    for axis in range(3):
        inner_high[axis] = min(shape[axis], max(inner_high[axis], inner_low[axis] + 1 - min(0, int(low[axis]))))
        inner_low[axis] = max(0, min(inner_low[axis], inner_high[axis] - 1 - max(0, int(high[axis]) - shape[axis])))
    z, y, x = map(slice, inner_low, inner_high)
    image, bits = read((z, y, x))
    image = as_float32(image)
    for axis in range(3):
        a, b = int(low[axis]), int(high[axis])
        if a != inner_low[axis] or b != inner_high[axis]:
            taken = mirrored(np.arange(a, b), shape[axis]) - inner_low[axis]
            image, bits = image.take(taken, axis), bits.take(taken, axis + 1)
    return image, bits


def mirrored(indices: NDArray[np.int_], size: int) -> NDArray[np.int_]:
    """Indices that may lie outside 0 to ``size`` - 1, mirrored at these."""
    if size == 1:
        return np.zeros_like(indices)
    there_and_back = np.mod(indices, 2 * size - 2)
    inside: NDArray[np.int_] = np.minimum(there_and_back, 2 * size - 2 - there_and_back)
    return inside


def _slipped(array: NDArray[Any], slip: Slip, first: int, end: int) -> NDArray[Any]:
    """An array (Z, Y, X) without the margin of a slip, whose slices are read that much further on."""
    y, x = abs(slip.y), abs(slip.x)
    height, width = array.shape[1] - 2 * y, array.shape[2] - 2 * x
    result = array[:, y : y + height, x : x + width].copy()
    y, x = y + slip.y, x + slip.x
    result[first:end] = array[first:end, y : y + height, x : x + width]
    return result


def _map_in_plane(
    image: Floats,
    bits: Bits,
    patch: Shape,
    matrix: NDArray[np.float64],
    bend: Floats | None,
    middle: NDArray[np.float64],
) -> tuple[Floats, Bits]:
    """Every slice alike."""
    z, y, x = (np.arange(size) - (size - 1) / 2 for size in patch)
    rows, columns = (
        np.add.outer(matrix[axis, 1] * y + middle[axis], matrix[axis, 2] * x).astype(np.float32) for axis in (1, 2)
    )
    if bend is not None:
        rows += _enlarged(bend[1, 0], patch)
        columns += _enlarged(bend[2, 0], patch)
    result, labels = np.empty(patch, np.float32), np.empty((len(bits), *patch), np.uint8)
    border = cv2.BORDER_REFLECT_101
    for index in range(len(z)):
        cv2.remap(image[index], columns, rows, cv2.INTER_LINEAR, dst=result[index], borderMode=border)
        for plane, target in zip(bits, labels, strict=True):
            cv2.remap(plane[index], columns, rows, cv2.INTER_NEAREST, dst=target[index], borderMode=border)
    return result, labels


def _enlarged(points: Floats, patch: Shape) -> Floats:
    result: Floats = cv2.resize(points, (patch[2], patch[1]), interpolation=cv2.INTER_CUBIC)
    return result


def _map_in_space(
    image: Floats,
    bits: Bits,
    patch: Shape,
    matrix: NDArray[np.float64],
    bend: Floats | None,
    middle: NDArray[np.float64],
) -> tuple[Floats, Bits]:
    """Slice by slice: OpenCV interpolates in the two nearest slices of the sample, laid side by side as one picture."""
    n_across = -(-image.shape[0] * image.shape[1] // _SIDE)
    picture, planes = _side_by_side(image, n_across), [_side_by_side(plane, n_across) for plane in bits]
    result, labels = np.empty(patch, np.float32), np.empty((len(bits), *patch), np.uint8)
    y, x = (np.arange(size) - (size - 1) / 2 for size in patch[1:])
    flat = [np.add.outer(matrix[axis, 1] * y, matrix[axis, 2] * x).astype(np.float32) for axis in range(3)]
    bends = None if bend is None else [[_enlarged(points, patch) for points in axis] for axis in bend]
    last = [size - 1 for size in image.shape]

    def map_(source: NDArray[Any], slices: NDArray[Any], rows: Floats, columns: Floats, how: int) -> NDArray[Any]:
        if n_across > 1:  # NumPy's divmod of floats takes longer than the rest
            down = np.floor((slices + np.float32(0.5)) * np.float32(1 / n_across))
            columns = columns + (slices - down * n_across) * np.float32(image.shape[2])
            slices = down
        mapped: NDArray[Any] = cv2.remap(source, columns, rows + slices * np.float32(image.shape[1]), how)
        return mapped

    for index in range(patch[0]):
        z, rows, columns = (
            plane + np.float32(matrix[axis, 0] * (index - (patch[0] - 1) / 2) + middle[axis])
            for axis, plane in enumerate(flat)
        )
        if bends is not None:
            for axis, coordinate in enumerate((z, rows, columns)):
                coordinate += _between(bends[axis], index / max(1, patch[0] - 1))
        for coordinate, most in zip((z, rows, columns), last, strict=True):
            np.clip(coordinate, 0, most, out=coordinate)
        below = np.floor(z)
        share = z - below
        above = np.minimum(below + 1, np.float32(last[0]))
        lower = map_(picture, below, rows, columns, cv2.INTER_LINEAR)
        upper = map_(picture, above, rows, columns, cv2.INTER_LINEAR)
        upper -= lower
        upper *= share
        np.add(lower, upper, out=result[index])
        for plane, target in zip(planes, labels, strict=True):
            target[index] = map_(plane, np.rint(z), np.rint(rows), np.rint(columns), cv2.INTER_NEAREST)
    return result, labels


def _side_by_side(array: NDArray[Any], n_across: int) -> NDArray[Any]:
    """The slices of an array (Z, Y, X) in rows of ``n_across``, as one picture."""
    depth, height, width = array.shape
    if n_across == 1:
        return array.reshape(depth * height, width)
    array = np.pad(array, ((0, -depth % n_across), (0, 0), (0, 0)))
    rows = array.reshape(-1, n_across, height, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(rows.reshape(-1, n_across * width))


def _between(fields: Sequence[Floats], where: float) -> Floats:
    """Linear between fields (Y, X) that are spread evenly from 0 to 1."""
    position = where * (len(fields) - 1)
    below = min(int(position), len(fields) - 1)
    above = min(below + 1, len(fields) - 1)
    share = np.float32(position - below)
    return fields[below] * (1 - share) + fields[above] * share
