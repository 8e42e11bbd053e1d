"""A training's curves for TensorBoard, beside the run's own events.

Event files are records of protocol buffers, which TensorFlow writes without TensorBoard being installed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from deepscem_tui.engine.reporting import Reporter, Spoken
from deepscem_tui.engine.system.devices import tensorflow

__all__ = ["FOLDER", "TensorBoard"]

FOLDER = "tensorboard"  # in a run's
_STEP_FACTS = ("loss", "learning_rate", "gradient_norm", "patches_per_second")
_SCORES = ("loss", "f1", "iou", "precision", "recall", "threshold", "untuned_f1")


class TensorBoard(Spoken):
    """Passes on what a training says, and writes its steps and epochs as scalars.

    All curves have the number of steps since the beginning of the training along their axis. Where a resumed training
    goes back behind what was written, TensorBoard is told to forget what came after.

    Args:
        folder: Where to; made when there is something to write.
        inner: Who else hears.
        label_names: As they stand in what is said of an epoch.
        steps_per_epoch: By which epochs are placed.
    """

    def __init__(self, folder: Path, inner: Reporter, label_names: Sequence[str], steps_per_epoch: int) -> None:
        self._folder = folder
        super().__init__(inner)
        self._names = tuple(label_names)
        self._steps_per_epoch = steps_per_epoch
        self._file: Any = None
        self._last = -1
        self._failed = False

    def event(self, kind: str, **facts: Any) -> None:
        self._inner.event(kind, **facts)
        if kind == "step":
            place = (facts["epoch"] - 1) * self._steps_per_epoch + facts["step"]
            self._write(place, {f"step/{name}": facts[name] for name in _STEP_FACTS})
        elif kind == "epoch":
            self._write(facts["epoch"] * self._steps_per_epoch, dict(self._curves(facts)))

    def _curves(self, facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Names and values of an epoch's points: ``validation_f1/mitochondria``."""
        for prefix, title in (("", "training"), ("validation_", "validation")):
            yield f"epoch/{title}_loss", facts.get(f"{prefix}loss")
            for score, name in product(_SCORES, self._names):
                yield f"{title}_{score}/{name}", facts.get(f"{prefix}{score}_{name}")
        yield "epoch/validation_smoothed_f1", facts.get("validation_smoothed_f1")
        yield "epoch/learning_rate", facts["learning_rate"]

    def _write(self, step: int, points: dict[str, float | None]) -> None:
        """Add points; where the disk is full they are left out, as the run's own steps are."""
        if self._failed:
            return
        tf = tensorflow()
        try:
            if self._file is None:
                self._begin()
            if step < self._last or self._last < 0:
                log = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
                self._add(step, session_log=log)
            self._last = step
            values = [
                tf.compat.v1.Summary.Value(tag=name, simple_value=value)
                for name, value in points.items()
                if value is not None
            ]
            self._add(step, summary=tf.compat.v1.Summary(value=values))
            self._file.flush()
        except (OSError, tf.errors.OpError) as error:
            self._failed = True
            self._inner.warning(f"No more curves for TensorBoard can be written to {self._folder}: {error}")

    def _begin(self) -> None:
        """A new file: names are in the order of time, and TensorBoard reads one after the other."""
        self._folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._file = tensorflow().io.TFRecordWriter(str(self._folder / name))
        self._add(0, file_version="brain.Event:2")

    def _add(self, step: int, **content: Any) -> None:
        event = tensorflow().compat.v1.Event(wall_time=time.time(), step=step, **content)
        self._file.write(event.SerializeToString())
