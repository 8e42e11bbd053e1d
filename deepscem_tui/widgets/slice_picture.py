"""What is made of a slice that was read: contrast, overlays, comparison, and a screenshot of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.system.devices import available_memory
from deepscem_tui.engine.viewing.contrast import Range, contrast, settled, stretched
from deepscem_tui.engine.viewing.picture_files import write_new_png
from deepscem_tui.engine.viewing.slices import Layer, Part, SliceData, SliceFacts, SliceSource
from deepscem_tui.render.cells import Row, cells, coloured
from deepscem_tui.render.marks import FALSE_ALARM, HIT, IGNORED, MISS, Mark, marks_of
from deepscem_tui.render.scenes import PictureStyle, Scene, compared
from deepscem_tui.render.viewport import Viewport

__all__ = ["Legend", "Look", "Picture", "Range", "layers_of", "legend", "make_picture", "save_png", "thresholds"]

Mask = npt.NDArray[np.bool_]

ALL_LABELS = -1
_BANDS = 8  # of a distance transform, between the border and the farthest voxel of a slice


_PNG_BYTES = 20  # a pixel, while a picture is made: grey values, colours of four bytes, masks


@dataclass(frozen=True)
class Look:
    """How a slice is shown.

    Args:
        style: Half blocks or characters.
        overlays: Keys of the layers that are drawn.
        comparison: None, a label's number, or :data:`ALL_LABELS`.
        threshold: Above which a probability counts, chosen by hand; None for that of its layer.
        span: Grey values that become black and white, chosen by hand; None for automatic contrast.
    """

    style: PictureStyle
    overlays: frozenset[str] = frozenset()
    comparison: int | None = None
    threshold: float | None = None
    span: Range | None = None


@dataclass(frozen=True)
class Picture:
    """A slice as cells.

    Args:
        source: Where it is from.
        data: What it was made from.
        look: How.
        viewport: Of the canvas it was made for.
        span: Grey values that are black and white.
        rows: Of cells.
    """

    source: SliceSource
    data: SliceData
    look: Look
    viewport: Viewport
    span: Range | None
    rows: list[Row]


@dataclass(frozen=True)
class Legend:
    """An entry of the legend: what a mark means, and whether it is drawn."""

    name: str
    mark: Mark
    shown: bool


def layers_of(facts: SliceFacts, look: Look) -> list[str]:
    """Keys of the layers that have to be read."""
    if look.comparison is None:
        return [layer.key for layer in facts.layers if layer.key in look.overlays]
    ignored = [layer.key for layer in facts.layers if layer.kind == "ignored"]
    return [key for pair in _pairs(facts, look) for key in pair[:2]] + ignored


def legend(facts: SliceFacts, look: Look) -> list[Legend]:
    """What the marks mean, in the order of the keys 1, 2 ... or of the comparison."""
    if look.comparison is not None:
        marks = list(zip(("hits", "misses", "false alarms"), (HIT, MISS, FALSE_ALARM), strict=True))
        marks += [(layer.name, IGNORED) for layer in facts.layers if layer.kind == "ignored"]
        return [Legend(name, mark, True) for name, mark in marks]
    layers = zip(facts.layers, _marks(facts), strict=True)
    return [Legend(layer.name, mark, layer.key in look.overlays) for layer, mark in layers]


def thresholds(facts: SliceFacts, look: Look) -> list[float]:
    """Where probabilities are cut, each number once, in the order of the layers; none where there are none."""
    own = dict.fromkeys(layer.threshold for layer in facts.layers if layer.probability)
    return [look.threshold] if own and look.threshold is not None else list(own)


def _marks(facts: SliceFacts) -> list[Mark]:
    """The mark of each layer."""
    marks = marks_of(len(facts.layers))
    return [IGNORED if layer.kind == "ignored" else mark for layer, mark in zip(facts.layers, marks, strict=True)]


def make_picture(
    source: SliceSource, data: SliceData, look: Look, viewport: Viewport, previous: Range | None, follow: bool
) -> Picture:
    """Draw a slice.

    Args:
        previous: Contrast of the picture before.
        follow: Whether the contrast may change, as from slice to slice; not when the same one is zoomed.
    """
    span = _span(data, look, previous, follow)
    return Picture(source, data, look, viewport, span, cells(_scene(data, look, span), look.style, viewport.shape))


def save_png(picture: Picture, folder: Path, name: str) -> Path:
    """Write what a picture shows at full resolution, with square pixels, and give the new file's path.

    Raises:
        EngineError: it cannot be read or written, or does not fit the memory.
    """
    shown = picture.data.part
    if _PNG_BYTES * prod(shown.lengths) > available_memory() / 2:
        raise ResourceError(
            f"A picture of {words.sizes(shown.lengths)} voxels takes more memory than there is", "Zoom in first."
        )
    part = replace(shown, pixels=shown.lengths, coarse=False)
    data = picture.source.read(part, layers_of(picture.data.facts, picture.look))
    aspect = data.facts.aspect(part.plane)
    data = replace(
        data,
        image=None if data.image is None else _squared(data.image, aspect),
        masks={key: _squared(mask, aspect) for key, mask in data.masks.items()},
    )
    scene = _scene(data, picture.look, picture.span, _squared_shape(data.part, aspect))
    size = (scene.image.shape[0], scene.image.shape[1])
    return write_new_png(folder, name, coloured(scene, size))


def _span(data: SliceData, look: Look, previous: Range | None, follow: bool) -> Range | None:
    if look.span is not None or data.image is None:
        return look.span
    if previous is not None and not follow:
        return previous
    return settled(previous, contrast(data.image))


def _scene(data: SliceData, look: Look, span: Range | None, size: tuple[int, int] | None = None) -> Scene:
    facts = data.facts
    arrays = {layer.key: _mask(layer, data.masks[layer.key], look) for layer in facts.layers if layer.key in data.masks}
    if data.image is not None:
        image = stretched(data.image, span)
    else:
        shape = next((mask.shape for mask in arrays.values()), size or (1, 1))
        image = np.full(shape, 0.5, np.float32)
    if look.comparison is not None:
        pairs = [pair for pair in _pairs(facts, look) if pair[0] in arrays and pair[1] in arrays]
        ignored = next((arrays[layer.key] for layer in facts.layers if layer.kind == "ignored"), None)
        found, true = ([arrays[pair[which]] for pair in pairs] for which in (0, 1))
        return compared(image, found, true, ignored=ignored)
    drawn = [
        (layer, mark)
        for layer, mark in zip(facts.layers, _marks(facts), strict=True)
        if layer.key in arrays and layer.key in look.overlays
    ]
    return Scene(
        image,
        [arrays[layer.key] for layer, _ in drawn],
        [layer.name for layer, _ in drawn],
        [mark for _, mark in drawn],
    )


def _mask(layer: Layer, values: npt.NDArray[Any], look: Look) -> Mask:
    if layer.kind == "distance":  # every second band of equal distances
        most = float(np.nanmax(values, initial=0))
        bands = np.nan_to_num(values, nan=0.0) * (_BANDS / most) if most > 0 else np.zeros(values.shape)
        return np.asarray(bands.astype(np.int64) % 2 == 1)
    if not layer.probability:
        return np.asarray(values != 0)
    return np.asarray(values > (layer.threshold if look.threshold is None else look.threshold))


def _pairs(facts: SliceFacts, look: Look) -> Sequence[tuple[str, str, str]]:
    if look.comparison is None or look.comparison == ALL_LABELS:
        return facts.compared
    return facts.compared[look.comparison : look.comparison + 1]


def _squared_shape(part: Part, aspect: float) -> tuple[int, int]:
    rows, columns = part.lengths
    return (max(1, round(rows * aspect)), columns) if aspect >= 1 else (rows, max(1, round(columns / aspect)))


def _squared(values: npt.NDArray[Any], aspect: float) -> npt.NDArray[Any]:
    """Voxels that are not square repeated along their longer side, by the nearest."""
    rows, columns = values.shape
    if aspect >= 1:
        size = max(1, round(rows * aspect))
        return values if size == rows else values[np.arange(size) * rows // size]
    size = max(1, round(columns / aspect))
    return values[:, np.arange(size) * columns // size]
