"""Several runs side by side: their curves over epochs or time, where their parameters differ, what they gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.runs.watching import RunSnapshot, RunWatcher

__all__ = ["Compared", "RunsComparison", "differing", "measures"]

_FIRST = ("validation_f1", "validation_loss", "loss", "learning_rate")


@dataclass(frozen=True)
class Compared:
    """A run among others.

    Args:
        times: Seconds from the run's first event to the end of each epoch.
    """

    snapshot: RunSnapshot
    times: Mapping[int, float]

    @property
    def name(self) -> str:
        return self.snapshot.folder.name

    def curve(self, measure: str, by_time: bool = False) -> tuple[tuple[float, float], ...]:
        """(epoch, or minutes since it began; value) of a measure; without those where it is not known."""
        points = self._mean(measure) if measure in ("f1", "validation_f1") else self.snapshot.curve(measure)
        known = [(x, y) for x, y in points if not math.isnan(y)]
        if not by_time:
            return tuple(known)
        return tuple((self.times[int(x)] / 60, y) for x, y in known if int(x) in self.times)

    def _mean(self, measure: str) -> tuple[tuple[float, float], ...]:
        """The mean over the labels."""
        found = []
        for epoch in self.snapshot.epochs:
            values = [v for key, v in epoch.items() if key.startswith(f"{measure}_") and v is not None]
            if values:
                found.append((float(epoch.get("epoch") or 0), sum(values) / len(values)))
        return tuple(found)

    def best(self, measure: str) -> float | None:
        """The best value of a measure: the lowest loss, the highest score."""
        values = [y for _, y in self.curve(measure)]
        return (min if "loss" in measure else max)(values) if values else None


class RunsComparison:
    """Follows several runs; one thread at a time may use it.

    Args:
        folders: Of the runs, in the order in which they are shown.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._watchers = [RunWatcher(folder) for folder in folders]
        self._times: dict[Path, dict[int, float]] = {folder: {} for folder in folders}

    def poll(self) -> tuple[Compared, ...]:
        """The runs as they are now; those that cannot be read are left out."""
        found = []
        for watcher in self._watchers:
            with suppress(RunError):
                snapshot = watcher.poll()
                times = self._times[watcher.folder]
                for event in watcher.fresh:
                    if event.get("type") == "epoch" and isinstance(event.get("epoch"), int):
                        times[event["epoch"]] = event["t"] - (snapshot.began or event["t"])
                found.append(Compared(snapshot, dict(times)))
        return tuple(found)


def measures(runs: Sequence[Compared]) -> list[str]:
    """What the runs can be compared by: the mean F1 and the losses first, then each label's scores."""
    keys = {key for run in runs for epoch in run.snapshot.epochs[-1:] for key in epoch} - {"epoch"}
    means = [name for name in ("validation_f1", "f1") if any(key.startswith(f"{name}_") for key in keys)]
    first = [name for name in _FIRST if name in keys or name in means]
    return [*first, *(name for name in means if name not in first), *sorted(keys - set(first))]


def differing(runs: Sequence[Compared]) -> list[tuple[str, tuple[Any, ...]]]:
    """The parameters in which the runs differ, with the value of each run, None where one has not got it."""
    names = dict.fromkeys(name for run in runs for name in run.snapshot.parameters)
    rows = [(name, tuple(run.snapshot.parameters.get(name) for run in runs)) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values)]
