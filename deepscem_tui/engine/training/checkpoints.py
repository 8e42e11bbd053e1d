"""Checkpoints of a training: each a file that is there whole or not at all, the last two kept."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from deepscem_tui.engine.datasets.hdf5_files import writing
from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.system.files import published
from deepscem_tui.engine.training.trainer import State, Trainer

__all__ = ["Checkpoints", "has_checkpoint"]

_KEPT = 2
_PATTERN = "step-*.npz"


class Checkpoints:
    """Those of one training.

    Args:
        folder: Of the run.
        steps_per_epoch: To number them by the steps that were done.
    """

    def __init__(self, folder: Path, steps_per_epoch: int) -> None:
        self._folder = _folder(folder)
        self._steps_per_epoch = steps_per_epoch

    def save(self, trainer: Trainer, state: State) -> None:
        """Write weights, optimizer and state as one file, and remove what is older than the one before.

        Raises:
            ResourceError: the disk is full.
        """
        done = state.epoch * self._steps_per_epoch + state.step
        path = self._folder / f"step-{done:09}.npz"
        kept = np.frombuffer(json.dumps(asdict(state)).encode(), np.uint8)
        arrays = trainer.arrays()
        size = sum(array.nbytes for array in arrays.values())
        with writing(path), published(path, size) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, state=kept, **arrays)
        others = [other for other in self._newest_first() if other != path]
        for old in others[_KEPT - 1 :]:
            old.unlink(missing_ok=True)

    def restore(self, trainer: Trainer, report: Reporter) -> State | None:
        """Take weights, optimizer and state from the newest; from the one before if that is damaged.

        Returns:
            Where the training stands; None if there is no checkpoint.

        Raises:
            RunError: none can be used.
        """
        failed: RunError | None = None
        for path in self._newest_first():
            try:
                with np.load(path, allow_pickle=False) as stored:
                    state = State(**json.loads(stored["state"].tobytes()))
                    trainer.take(stored)
            except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                failed = failed or RunError(
                    f"The checkpoint {path} cannot be used: {error}", "Start the training anew."
                )
                continue
            if failed is not None:
                report.warning(f"{failed.what}. The one before it is used")
            state.best = (state.best[0], state.best[1]) if state.best else None
            return state
        if failed is not None:
            raise failed
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob(_PATTERN), reverse=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has one to go on from."""
    return any(_folder(folder).glob(_PATTERN))


def _folder(run: Path) -> Path:
    return run / "checkpoint"
