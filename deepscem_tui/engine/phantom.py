"""A synthetic volume that looks like cells in a focused-ion-beam scanning electron microscope.

Cells with membranes, mitochondria with cristae, endoplasmic reticulum, vesicles, and dense bodies that are as dark as
mitochondria but have no cristae; then what the microscope adds: blur, uneven brightness, curtains, noise.
Lengths are in voxels, which are isotropic; grey values are those of uint8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import Shape

Field = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]  # (n, 3) as Z, Y, X
Mask = npt.NDArray[np.bool_]
Generator = np.random.Generator
Box = tuple[slice, slice, slice]

CYTOPLASM, MEMBRANE, MATRIX, CRISTA, LUMEN = 168.0, 62.0, 134.0, 78.0, 188.0
CELL = 100.0  # typical distance between the centres of cells
MITOCHONDRIA = 0.12  # share of the volume that is aimed at
DENSE_BODIES = 0.03
TRIES = 1000


@dataclass(frozen=True)
class Phantom:
    """A synthetic image and what is in it.

    Attributes:
        image: uint8 (Z, Y, X).
        labels: "mitochondria" (their outer membrane included) and "membranes" (of the cells), each bool (Z, Y, X).
    """

    image: npt.NDArray[np.uint8]
    labels: dict[str, Mask]


def make_phantom(shape: Shape, seed: int) -> Phantom:
    """Make a volume of cells; the same seed and shape give the same volume.

    Args:
        shape: (Z, Y, X), each at least 1. Structures shrink with images below 160 voxels a side.
        seed: Any integer from 0.
    """
    rng = np.random.default_rng(seed)
    scale = float(np.clip(min(shape[1:]) / 160, 0.25, 1.0))
    edge, image = _cells(rng, shape, scale)
    image += 11 * _texture(rng, shape)
    _reticulum(rng, image, edge, scale)
    room = _Room(image, edge, np.zeros(shape, bool), scale, 0.8 * float(edge.max()))
    mitochondria = _mitochondria(rng, room)
    _dense_bodies(rng, room)
    _vesicles(rng, room)
    image += (MEMBRANE - image) * np.exp(-((np.abs(edge) - 1.3) ** 2) / 1.1)
    return Phantom(_microscope(rng, image), {"mitochondria": mitochondria, "membranes": edge < 2.2})


# ------------------------------------------------------------------------------------------------ cells


def _cells(rng: Generator, shape: Shape, scale: float) -> tuple[Field, Field]:
    """Distance to the nearest membrane, and the grey values of the cells' cytoplasm.

    Cells are the Voronoi regions of random centres in a space that smooth noise has bent.
    """
    spacing = CELL * scale
    low, high = -0.6 * spacing, np.array(shape) + 0.6 * spacing
    count = max(4, round(float(np.prod(high - low)) / spacing**3))
    centres = rng.uniform(low, high, (count, 3)).astype(np.float32)
    greys = (CYTOPLASM + rng.normal(0, 9, count)).astype(np.float32)
    bend = [0.12 * spacing * smooth_noise(rng, shape, 0.6 * spacing) for _ in range(3)]
    edge, grey = np.empty(shape, np.float32), np.empty(shape, np.float32)
    grids = [np.arange(size, dtype=np.float32) for size in shape]
    for z in range(shape[0]):  # a slice at a time stays in the processor's cache
        here = (bend[0][z] + grids[0][z], bend[1][z] + grids[1][:, None], bend[2][z] + grids[2])
        nearest, second = np.full((2, *shape[1:]), np.inf, np.float32)
        owner, other = np.zeros((2, *shape[1:]), np.intp)
        for index, centre in enumerate(centres):
            squared = (here[0] - centre[0]) ** 2 + (here[1] - centre[1]) ** 2 + (here[2] - centre[2]) ** 2
            closer, close = squared < nearest, squared < second
            second = np.where(closer, nearest, np.where(close, squared, second))
            other = np.where(closer, owner, np.where(close, index, other))
            nearest = np.where(closer, squared, nearest)
            owner = np.where(closer, index, owner)
        apart = np.linalg.norm(centres[owner] - centres[other], axis=-1)
        edge[z] = (second - nearest) / (2 * np.maximum(apart, 1e-3))  # distance to the plane between the two
        grey[z] = greys[owner]
    return edge, grey


def _reticulum(rng: Generator, image: Field, edge: Field, scale: float) -> None:
    """Sheets of endoplasmic reticulum: where a smooth field crosses certain values, in parts of the cells."""
    level = 1.6 * smooth_noise(rng, image.shape, 40 * scale)
    where = smooth_noise(rng, image.shape, 55 * scale) - 0.35
    wave = np.abs(level - np.round(level)) * 12 * scale  # about the distance to the nearest sheet
    strength = np.clip(4 * where, 0, 0.6) * np.clip((edge - 5) / 3, 0, 1)
    image += (0.5 * MEMBRANE + 0.5 * MATRIX - image) * strength * np.exp(-((wave - 0.9) ** 2))


# ------------------------------------------------------------------------------------------------ organelles


@dataclass(frozen=True)
class _Room:
    """The volume that organelles are put into.

    Attributes:
        image: float32 (Z, Y, X), drawn into.
        edge: Distance to the nearest cell membrane.
        taken: Where there is an organelle already.
        scale: Factor of all lengths.
        deepest: The most distance from the membranes that can be asked for in cells as small as these.
    """

    image: Field
    edge: Field
    taken: Mask
    scale: float
    deepest: float

    def fits(self, path: Points, margin: float) -> bool:
        """Whether a path keeps its distance from the membranes, as far as it lies in the volume."""
        points = np.floor(path).astype(int)
        points = points[((points >= 0) & (points < self.edge.shape)).all(axis=1)]
        return len(points) > 0 and bool((self.edge[tuple(points.T)] > min(margin, self.deepest)).all())

    def free(self, box: Box, inside: Mask) -> bool:
        """Whether there is something to draw in a box, and nothing there yet."""
        return bool(inside.any()) and not (self.taken[box] & inside).any()

    def draw(self, box: Box, inside: Mask, grey: Field) -> int:
        """Draw something; returns how many voxels it has."""
        self.image[box][inside] = grey[inside]
        self.taken[box][inside] = True
        return int(np.count_nonzero(inside))


def _mitochondria(rng: Generator, room: _Room) -> Mask:
    """Draw bent tubes with a double membrane, a dark matrix and cristae across them; return where they are."""
    shape = room.edge.shape
    mask = np.zeros(shape, bool)
    target, found = MITOCHONDRIA * mask.size, 0
    for smaller in np.linspace(1, 0.65, TRIES):
        if found >= target:
            break
        radius = max(2.0, rng.uniform(10, 16) * room.scale * smaller)
        length = rng.uniform(1.5, 8) * radius
        path, axis = _path(rng, shape, length)
        if not room.fits(path, radius + 2 * room.scale):
            continue
        waist = 1 + 0.12 * np.sin(np.linspace(0, length / radius, len(path)) + rng.uniform(0, 6))
        box, depth = _tube(path, radius * waist, shape)
        inside = depth > 0
        too_much = found > 0 and found + np.count_nonzero(inside) > 1.25 * target
        if too_much or not room.free(box, depth > -3 * room.scale):
            continue
        found += room.draw(box, inside, _mitochondrion(rng, depth, axis, room.scale))
        mask[box] |= inside
    return mask


def _mitochondrion(rng: Generator, depth: Field, axis: Points, scale: float) -> Field:
    """The grey values of one; ``depth`` is the distance to its surface, positive inside."""
    period = rng.uniform(5.0, 6.8) * max(scale, 0.6)
    across = axis + rng.normal(0, 0.25, 3)
    across /= np.linalg.norm(across)
    grids = np.ogrid[tuple(slice(0, size) for size in depth.shape)]
    along = sum(grid * part for grid, part in zip(grids, across, strict=True))
    phase = along + 2.2 * smooth_noise(rng, depth.shape, 14 * scale)
    stripes = np.cos(phase * (2 * np.pi / period)).astype(np.float32)
    strength = np.clip(0.85 + 0.3 * smooth_noise(rng, depth.shape, 12 * scale), 0.3, 1)
    grey = MATRIX + rng.normal(0, 6) + (CRISTA - MATRIX) * strength * np.clip(1.6 * stripes - 0.3, -0.35, 1)
    grey = np.where(depth < 3.6 * scale, MATRIX + 22, grey)  # the space between the two membranes
    for position in (0.9, 3.6 * scale):
        grey += (MEMBRANE - grey) * 0.9 * np.exp(-((depth - position) ** 2) / 0.9)
    return grey.astype(np.float32)


def _dense_bodies(rng: Generator, room: _Room) -> None:
    """Draw lysosomes: as dark and as large as mitochondria in cross-section, but granular, with one membrane."""
    scale, shape = room.scale, room.edge.shape
    target, found = DENSE_BODIES * room.edge.size, 0
    for _ in range(TRIES):
        if found >= target:
            break
        radius = max(1.5, rng.uniform(6, 12) * scale)
        path, _axis = _path(rng, shape, rng.uniform(0.1, 1.2) * radius)
        if not room.fits(path, radius + 2):
            continue
        box, depth = _tube(path, np.full(len(path), radius), shape)
        if not room.free(box, depth > -3 * scale):
            continue
        grains = 9 * smooth_noise(rng, depth.shape, 3.0) + 8 * smooth_noise(rng, depth.shape, 9 * scale)
        grey = rng.uniform(88, 120) + grains
        grey += (MEMBRANE - grey) * 0.8 * np.exp(-((depth - 0.9) ** 2) / 0.9)
        found += room.draw(box, depth > 0, grey)


def _vesicles(rng: Generator, room: _Room) -> None:
    """Draw clusters of small balls with a dark rim and a light lumen."""
    scale, shape = room.scale, room.edge.shape
    for _ in range(max(2, round(room.edge.size / (60 * scale) ** 3))):
        middle = rng.uniform(0, shape)
        spread = rng.uniform(9, 16) * scale
        for point in middle + rng.normal(0, spread, (int(rng.integers(20, 60)), 3)):
            radius = max(1.4, rng.uniform(2.4, 3.8) * scale)
            if not room.fits(point[None], radius + 1):
                continue
            box, depth = _tube(point[None], np.array([radius]), shape)
            if room.free(box, depth > 0):
                room.draw(box, depth > 0, LUMEN + (MEMBRANE + 25 - LUMEN) * np.exp(-((depth - 0.9) ** 2) / 0.7))


def _path(rng: Generator, shape: Shape, length: float) -> tuple[Points, Points]:
    """Points along a bent line through a random place, and the direction of the line."""
    axis = rng.normal(0, (0.6, 1, 1))
    axis /= np.linalg.norm(axis)
    side = np.cross(axis, rng.normal(0, 1, 3))
    side /= max(float(np.linalg.norm(side)), 1e-6)
    t = np.linspace(-0.5, 0.5, max(2, round(length / 2)))[:, None]
    bent = axis * t + side * rng.uniform(0, 0.5) * (t**2 - 0.08)
    return rng.uniform(0, shape) + length * bent, axis


def _tube(path: Points, radii: Points, shape: Shape) -> tuple[Box, Field]:
    """The part of the volume around a path, and the distance there to the surface of the balls along the path.

    Positive inside; beyond 4 voxels outside it is only known to be there.
    """
    reach = float(radii.max()) + 4
    low = np.clip(np.floor(path.min(axis=0) - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(path.max(axis=0) + reach) + 1, 0, shape).astype(int)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    grids = [np.arange(start, stop, dtype=np.float32) for start, stop in zip(low, high, strict=True)]
    depth = np.full(tuple(high - low), -np.inf, np.float32)
    for (z, y, x), radius in zip(path.astype(np.float32), radii.astype(np.float32), strict=True):
        squares = (grids[0] - z)[:, None, None] ** 2 + (grids[1] - y)[:, None] ** 2 + (grids[2] - x) ** 2
        np.maximum(depth, radius - np.sqrt(squares), out=depth)
    return box, depth


# ------------------------------------------------------------------------------------------------ microscope


def _microscope(rng: Generator, image: Field) -> npt.NDArray[np.uint8]:
    """What the microscope makes of the cells: blur, uneven brightness, curtains, noise that grows with the signal."""
    depth, height, width = image.shape
    image = _blurred(image)
    shade = smooth_noise(rng, (1, height, width), 0.7 * max(height, width))
    drift = smooth_noise(rng, (depth, 1, 1), 25.0) + 0.4 * rng.standard_normal((depth, 1, 1), np.float32)
    curtains = smooth_noise(rng, (depth, 1, width), 7.0)
    image *= 1 + 0.07 * shade
    image += 2.5 * drift + 1.2 * curtains
    np.maximum(image, 0, out=image)
    image += np.sqrt(0.35 * image + 20) * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _texture(rng: Generator, shape: Shape) -> Field:
    """Grains of the cytoplasm at two sizes, standard deviation about 1."""
    return 0.8 * smooth_noise(rng, shape, 2.2) + 0.6 * smooth_noise(rng, shape, 6.0)


def _blurred(image: Field) -> Field:
    """Smooth with the weights 1/4, 1/2, 1/4 along each axis, edges repeated."""
    for axis in range(3):
        padded = np.pad(image, [(1, 1) if other == axis else (0, 0) for other in range(3)], mode="edge")
        parts = [np.moveaxis(padded, axis, 0)[start : start + image.shape[axis]] for start in range(3)]
        image = np.moveaxis(0.25 * (parts[0] + parts[2]) + 0.5 * parts[1], 0, axis)
    return image


def smooth_noise(rng: Generator, shape: tuple[int, ...], size: float) -> Field:
    """Random values (Z, Y, X) that vary over a length of about ``size``, mean 0 and standard deviation about 1.

    Cubic B-splines on a coarse grid of normal random numbers.
    """
    size = max(size, 1.0)
    noise = rng.standard_normal([int(length / size) + 5 for length in shape], np.float32)
    for axis, weights in enumerate(_spline_weights(shape, size)):
        base, parts = weights
        moved = np.moveaxis(noise, axis, -1)
        taps = [moved[..., base + tap] * part for tap, part in enumerate(parts)]
        noise = np.moveaxis(taps[0] + taps[1] + taps[2] + taps[3], -1, axis)
    return np.ascontiguousarray(noise / 0.479**1.5, np.float32)


def _spline_weights(shape: tuple[int, ...], size: float) -> Iterator[tuple[npt.NDArray[np.intp], list[Field]]]:
    """For each axis, the first of the four grid points of each voxel and the weights of the four."""
    for length in shape:
        position = (np.arange(length) + 0.5) / size
        base = position.astype(np.intp)
        t = position - base
        parts = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
        yield base, [(part / 6).astype(np.float32) for part in parts]
