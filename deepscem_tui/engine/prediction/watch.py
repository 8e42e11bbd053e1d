"""What a prediction shows while it works: progress, events, and slices that fill in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import AXES, Plane
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.prediction.tiled import Done, InHand
from deepscem_tui.engine.prediction.values import BYTE_SCALE, Values
from deepscem_tui.engine.runs import preview as run_preview
from deepscem_tui.engine.sources.source import Source

__all__ = ["Preview", "Progress"]

_EVENT_SECONDS = 0.5
_PREVIEW_SECONDS = 1.0  # between two slices for whoever watches
_PREVIEW_SHARE = 0.02  # of the time that they take, at most


class Progress:
    """Says how far a sample is, and ends it on request; called before each batch.

    What was computed before is told apart: it says nothing of the speed.

    Args:
        name: What is predicted.
        n_tiles: Of it.
        voxels: Of it.
        before: Tiles of other samples that are done.
        total: Tiles of all samples.
    """

    def __init__(self, context: Context, name: str, n_tiles: int, voxels: int, before: int, total: int) -> None:
        self._context = context
        self._name, self._n_tiles, self._voxels = name, n_tiles, voxels
        self._before, self._total = before, total
        self._began = time.monotonic()
        self._last_event = 0.0
        self.computed_voxels = 0

    def __call__(self, done: Done, skipped: int = 0) -> None:
        """Tell it.

        Args:
            skipped: Tiles of slabs that are finished, and need not be passed on.
        """
        self._context.stop.check()
        now, name = time.monotonic(), self._name
        if not done.computed:
            self._began = now
            if done.kept:
                self._context.report.progress("Taking over", done.taken, done.kept, "tiles", name)
                if done.taken < done.kept:
                    return
        self.computed_voxels = self._voxels * done.computed // self._n_tiles
        finished, rate = skipped + done.kept + done.computed, self.computed_voxels / max(now - self._began, 1e-9)
        note = f"{name}, {_rate(rate)}" if done.computed else name
        self._context.report.progress("Predicting", self._before + finished, self._total, "tiles", note)
        if finished == self._n_tiles or now - self._last_event >= _EVENT_SECONDS:
            self._last_event = now
            facts = {"done": finished, "total": self._n_tiles, "voxels_per_second": round(rate)}
            self._context.report.event("tiles", sample=name, **facts)

    @property
    def computing(self) -> float:
        """Seconds since what was kept is taken over."""
        return time.monotonic() - self._began


class Preview:
    """Shows a sample in the run folder, for whoever watches: the slice in hand as it fills in, at last the middle one.

    There is one file a sample and plane, ``preview/NNN-SAMPLE.npz``, replaced each time.
    """

    def __init__(
        self,
        context: Context,
        index: int,
        source: Source,
        names: Sequence[str],
        values: Values,
        plane: Plane = "xy",
    ) -> None:
        self._context = context
        self._file = f"preview/{index:03d}-{words.file_name(source.name)}.npz"
        self._source, self._names = source, names
        self._values = values
        self._axis = "zyx"[AXES[plane][0]]
        self._middle_z = source.shape[0] // 2
        self._middle: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
        self._next = time.monotonic() + _PREVIEW_SECONDS

    def fill_in(self, in_hand: InHand) -> None:
        """Show the slice in the middle of the tile that was computed last, as far as it is known."""
        began = time.monotonic()
        if self._context.folder is None or began < self._next:
            return
        first, tiles = in_hand.layer.own[0], in_hand.layer.tiles[: in_hand.done]
        thick = tiles[-1].core[0]
        z = min(sum(thick) // 2, in_hand.layer.own[1] - 1)
        if z < thick[0]:  # what this tile owns belongs to the next slab
            return
        known = np.zeros(in_hand.voxels.shape[1:], bool)
        for tile in tiles:
            if tile.core[0] == thick:
                known[slice(*tile.core[1]), slice(*tile.core[2])] = True
        prediction = np.where(known, in_hand.labels[:, z - first], 0)
        self._write(z, in_hand.voxels[z - first], prediction, known)
        ended = time.monotonic()
        self._next = ended + max(_PREVIEW_SECONDS, (ended - began) / _PREVIEW_SHARE)

    def take(self, first: int, labels: npt.NDArray[Any], voxels: npt.NDArray[Any]) -> None:
        """Keep the sample's middle slice, of a slab that is computed."""
        z = self._middle_z
        if self._context.folder is not None and first <= z < first + len(voxels):
            self._middle = voxels[z - first].copy(), labels[:, z - first].copy()

    def end(self) -> None:
        if self._middle is not None:
            self._write(self._middle_z, *self._middle)

    def _write(
        self, z: int, voxels: npt.NDArray[Any], prediction: npt.NDArray[Any], known: npt.NDArray[np.bool_] | None = None
    ) -> None:
        assert self._context.folder is not None
        image, name = self._source.normalised(voxels), self._source.name
        thresholds: tuple[float, ...] | None = self._values.thresholds
        if prediction.dtype == np.uint8:  # planes that are to be averaged are neither masks nor scaled yet
            if self._values.kind == "mask":
                thresholds = None
            else:
                prediction = prediction.astype(np.float32) / BYTE_SCALE
        file = self._context.folder / self._file
        if run_preview.write(
            file, image, prediction, self._names, name, z, known=known, axis=self._axis, thresholds=thresholds
        ):
            self._context.report.event("preview", sample=name, z=z, file=self._file)


def _rate(rate: float) -> str:
    return f"{rate / 1e6:.2f} Mvoxel/s" if rate >= 1e6 else f"{rate / 1e3:.1f} kvoxel/s"
