"""What the slice view shows and where in the volume it is, read off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
from textual.geometry import Region
from textual.timer import Timer
from textual.widget import Widget

from deepscem_tui.engine.axes import AXES, Plane
from deepscem_tui.engine.errors import EngineError, LockedError, Stopped
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.viewing.slices import ArraySlices, FileSlices, Part, SliceFacts, SliceSource, SliceTarget
from deepscem_tui.render.viewport import Viewport
from deepscem_tui.widgets.slice_picture import Look, Picture, layers_of, make_picture

__all__ = ["SliceReading", "Voxel"]

Voxel = tuple[int, int, int]

_SAY_READING = 0.3  # seconds after which a read is told
_RETRY = 1.0  # seconds until a data set that is being changed is tried again


@dataclass(frozen=True)
class _Job:
    """What the screen should show: read, or made of what was read before."""

    source: SliceSource
    part: Part | None  # None: only the facts are asked for
    viewport: Viewport | None
    look: Look
    layers: tuple[str, ...]
    follow: bool
    stop: Stop | None = None  # given for what refines the picture of a large part, after its first one
    fine: bool = False  # of a large part: the image comes first, coarse, then with its labels, then fine


class SliceReading(Widget):
    """The state of a slice view and its reading; how it looks and which keys change it is for others to say.

    Nothing is read in the event loop; while something is read only the newest wish is kept.

    Args:
        pictures: ``"blocks"`` or ``"ascii"``; ``"auto"`` chooses blocks where there are 256 colours and UTF-8.
        folder: Where screenshots go; the current folder if not given.
    """

    def __init__(
        self,
        *,
        pictures: Literal["auto", "blocks", "ascii"] = "auto",
        folder: Path | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._pictures = pictures
        self._folder = folder
        self._source: SliceSource | None = None
        self._facts: SliceFacts | None = None
        self._plane: Plane = "xy"
        self._cursor: Voxel = (0, 0, 0)
        self._views: dict[Plane, tuple[float, tuple[float, float]]] = {}  # zoom and centre of each plane
        self._look = Look("ascii")
        self._picture: Picture | None = None
        self._values: tuple[Voxel, dict[str, float]] | None = None
        self._hover: tuple[int, int] | None = None  # voxel of the plane
        self._drag: tuple[int, int] | None = None
        self._dragged = False
        self._notice = ""
        self._wanted: _Job | None = None
        self._refining = Stop()
        self._wanted_values: Voxel | None = None
        self._working = False
        self._timer: Timer | None = None
        self._retry: Timer | None = None

    # -------------------------------------------------------------------------------------------- what is shown

    def show(self, target: SliceTarget | None) -> None:
        """Show a volume, or nothing; the same one again is read anew and keeps the place, zoom and overlays."""
        same = isinstance(self._source, FileSlices) and self._source.target == target
        self._show(None if target is None else FileSlices(target), same)

    def show_arrays(
        self,
        image: npt.NDArray[Any] | None,
        masks: Sequence[npt.NDArray[Any]],
        names: Sequence[str],
        reference: Sequence[npt.NDArray[Any]] | None = None,
        title: str = "",
        probabilities: bool = False,
        thresholds: Sequence[float] = (),
    ) -> None:
        """Show a slice that is in memory; one of the same size and labels as before keeps zoom and overlays.

        Args:
            image: (Y, X), uint8 or float; None for plain grey.
            masks: (L, Y, X): masks, or probabilities as floats 0 to 1 or, if ``probabilities``, uint8 0 to 255.
            names: Of the labels, one a mask.
            reference: True masks (L, Y, X), if known: then ``m`` compares.
            title: What is shown.
            probabilities: Whether uint8 masks are probabilities.
            thresholds: Where probabilities are cut, one a mask; none for 0.5.
        """
        source = ArraySlices(image, masks, names, reference, title, probabilities, thresholds)
        old, new = self._facts, source.facts()
        same = isinstance(self._source, ArraySlices) and old is not None
        self._show(source, same and old is not None and (old.shape, old.layers) == (new.shape, new.layers))

    @property
    def facts(self) -> SliceFacts | None:
        """What is known of the volume that is shown."""
        return self._facts

    @property
    def plane(self) -> Plane:
        """Which axes are seen."""
        return self._plane

    @property
    def cursor(self) -> Voxel:
        """The voxel (z, y, x) under the crosshair."""
        return self._cursor

    @property
    def index(self) -> int:
        """Which slice of the plane is wanted."""
        return self._cursor[AXES[self._plane][0]]

    @property
    def look(self) -> Look:
        """How it is shown."""
        return self._look

    @property
    def picture(self) -> Picture | None:
        """What is on the screen."""
        return self._picture

    @property
    def busy(self) -> bool:
        """Whether something is being read, or waits for it."""
        return self._working

    def go_to(self, index: int) -> None:
        """Show a slice of the present plane, or the nearest there is."""
        if self._facts is None:
            return
        axis = AXES[self._plane][0]
        cursor = list(self._cursor)
        cursor[axis] = min(max(0, index), self._facts.shape[axis] - 1)
        self._move((cursor[0], cursor[1], cursor[2]), follow=True)

    def _show(self, source: SliceSource | None, same: bool) -> None:
        self._source = source
        self._notice = ""
        if not same:
            self._facts = self._picture = self._values = self._hover = None
            self._views.clear()
            self._plane = "xy"
            self._look = Look(self._look.style, threshold=self._look.threshold)
        if source is None:
            self._wanted = None
        self._want(follow=same and not self._is_array)  # what has changed may have another range
        if same:
            self._values = None
            self._ask_values()
        self.refresh()

    # -------------------------------------------------------------------------------------------- reading

    def _want(self, follow: bool = False) -> None:
        """Ask for the picture that belongs to the present state; older wishes are forgotten."""
        if self._source is None or not self.is_mounted:
            return
        viewport = self._viewport()
        part = None
        if viewport is not None:
            part = Part(self._plane, self.index, viewport.rows, viewport.columns, viewport.shape)
        follow = follow or (self._wanted is not None and self._wanted.follow)
        layers = () if self._facts is None else tuple(layers_of(self._facts, self._look))
        self._wanted = _Job(self._source, part, viewport, self._look, layers, follow)
        self._refining.request("the view has moved on")
        self._work()

    def _work(self) -> None:
        if not self._working and self.is_mounted:
            self._working = True
            self.run_worker(self._read_newest(), group="slices", exit_on_error=True)

    async def _read_newest(self) -> None:
        """Read what is wanted until nothing is wanted any more: one thing at a time, always the newest."""
        self._timer = self.set_timer(_SAY_READING, self._say_reading)
        try:
            while self._wanted is not None or self._wanted_values is not None:
                job, self._wanted = self._wanted, None
                if job is None:
                    await self._read_values()
                else:
                    await self._read_picture(job)
        finally:
            self._working = False
            self._timer.stop()
            self._reading_said(False)

    async def _read_picture(self, job: _Job) -> None:
        try:
            made = await asyncio.to_thread(_carry_out, job, self._picture)
        except Stopped:
            return
        except EngineError as error:
            if job.source is self._source:
                self._failed(error)
            return
        except (MemoryError, OSError, RuntimeError, ValueError, KeyError) as error:  # as h5py's, of what is damaged
            if job.source is self._source:
                self._failed(EngineError(f"It cannot be read: {error or type(error).__name__}"))
            return
        if job.source is not self._source:
            return
        self._notice = ""
        if isinstance(made, Picture):
            self._picture = made
            self._adopt(made.data.facts)
            if made.data.part.coarse and self._wanted is None:
                self._refining = Stop()
                fine = set(job.layers) <= set(made.data.masks)
                self._wanted = replace(job, follow=False, stop=self._refining, fine=fine)
            self._ask_values()
            self.refresh()
        else:
            self._adopt(made)

    async def _read_values(self) -> None:
        voxel, self._wanted_values, source = self._wanted_values, None, self._source
        if voxel is None or source is None:
            return
        try:
            values = await asyncio.to_thread(source.values, voxel)
        except (EngineError, MemoryError, OSError, RuntimeError, ValueError, KeyError):
            return  # the picture's reading tells what is wrong
        if source is self._source:
            self._values = voxel, values
            self._refresh_row(-1)

    def _failed(self, error: EngineError) -> None:
        self._notice = str(error)
        if isinstance(error, LockedError):
            if self._retry is not None:
                self._retry.stop()
            self._retry = self.set_timer(_RETRY, self._want)
        else:
            self._picture = None
        self.refresh()

    def _adopt(self, facts: SliceFacts) -> None:
        """Take up what is known of the volume: at first, and when it has changed."""
        old, self._facts = self._facts, facts
        if old is not None and (old.shape, old.layers) == (facts.shape, facts.layers):
            return
        if old is None:
            z, y, x = (size // 2 for size in facts.shape)
            self._cursor = z, y, x
        else:
            z, y, x = (min(at, size - 1) for at, size in zip(self._cursor, facts.shape, strict=True))
            self._cursor = z, y, x
        known = {layer.key for layer in old.layers} if old is not None else set()
        new = {layer.key for layer in facts.layers if layer.usual} - known
        kept = self._look.overlays & {layer.key for layer in facts.layers}
        compared = self._look.comparison
        comparison = compared if facts.compared and (compared or 0) < len(facts.compared) else None
        self._look = replace(self._look, overlays=kept | new, comparison=comparison)
        self._want(follow=True)
        self.refresh()

    def _ask_values(self) -> None:
        """Ask for the values under the pointer or cursor; pictures come first."""
        voxel = self._pointed()
        if self._values is not None and self._values[0] == voxel and not self._is_array:
            return
        self._wanted_values = voxel
        self._work()

    @property
    def _is_array(self) -> bool:
        return isinstance(self._source, ArraySlices)

    def _say_reading(self) -> None:
        if self._working:
            self._reading_said(True)

    def _reading_said(self, reading: bool) -> None:
        if self.has_class("-reading") != reading:
            self.set_class(reading, "-reading")
            self._refresh_row(0)

    # -------------------------------------------------------------------------------------------- state

    @property
    def _canvas(self) -> tuple[int, int]:
        """Cells of the picture, down and across: all but the header, the legend and the status."""
        return self.size.height - 3, self.size.width

    def _viewport(self) -> Viewport | None:
        facts = self._facts
        if facts is None or min(self._canvas) < 1:
            return None
        _, down, across = AXES[self._plane]
        size = facts.shape[down], facts.shape[across]
        zoom, centre = self._views.get(self._plane, (1.0, (size[0] / 2, size[1] / 2)))
        return Viewport(size, self._canvas, facts.aspect(self._plane), zoom, centre)

    def _keep(self, viewport: Viewport) -> None:
        self._views[self._plane] = viewport.zoom, viewport.centre

    def _place(self) -> tuple[int, int]:
        """The cursor in the plane, down and across."""
        _, down, across = AXES[self._plane]
        return self._cursor[down], self._cursor[across]

    def _pointed(self) -> Voxel:
        """The voxel that the status line tells of: under the mouse, else under the cursor."""
        return self._cursor if self._hover is None else self._with_place(self._hover)

    def _with_place(self, place: tuple[int, int]) -> Voxel:
        _, down, across = AXES[self._plane]
        cursor = list(self._cursor)
        cursor[down], cursor[across] = place
        return cursor[0], cursor[1], cursor[2]

    def _move(self, cursor: Voxel, follow: bool = False) -> None:
        if cursor == self._cursor:
            return
        old, self._cursor = self._cursor, cursor
        viewport = self._viewport()
        assert viewport is not None
        shown = viewport.showing(self._place())
        moved = shown != viewport
        if moved:
            self._keep(shown)
        fixed = AXES[self._plane][0]
        if moved or old[fixed] != cursor[fixed]:
            self._want(follow)
        else:
            self._ask_values()
        self.refresh()

    def _change(self, look: Look) -> None:
        if look != self._look:
            self._look = look
            self._want()
            self.refresh()

    def _zoom_by(self, factor: float, about: tuple[int, int]) -> None:
        viewport = self._viewport()
        if viewport is not None:
            self._keep(viewport.zoomed(factor, about))
            self._want()
            self.refresh()

    def _refresh_row(self, row: int) -> None:
        width, height = self.size
        self.refresh(Region(0, row % max(1, height), width, 1))


def _carry_out(job: _Job, shown: Picture | None) -> Picture | SliceFacts:
    """Read and draw, in a thread.

    Args:
        shown: The picture on the screen: what it was made from is used again where it will do.
    """
    if job.part is None or job.viewport is None:
        return job.source.facts()
    known = shown is not None and shown.source is job.source and shown.data.part == job.part
    if shown is not None and known and set(job.layers) <= set(shown.data.masks):
        data = shown.data
    else:
        coarse = job.part.large and not job.fine
        elsewhere = (
            shown is None or shown.source is not job.source or replace(shown.data.part, coarse=False) != job.part
        )
        layers = () if coarse and job.stop is None and elsewhere else job.layers  # the image before what lies on it
        data = job.source.read(replace(job.part, coarse=coarse), layers, job.stop)
    return make_picture(job.source, data, job.look, job.viewport, None if shown is None else shown.span, job.follow)
