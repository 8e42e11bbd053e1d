"""A process that makes batches for :mod:`deepscem_tui.engine.patches.workers`, until that one ends.

Over its standard input it is given the sampler and the slots, and then steps; over its standard output it answers each
with the shapes of the batch that it has put in a slot, or with what went wrong.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.errors import EngineError

__all__ = ["Failure", "Shapes", "main", "parts"]

Shapes = tuple[Sequence[int], Sequence[int]]  # of a batch's images and labels


@dataclass(frozen=True)
class Failure:
    """What is answered where a batch could not be made."""

    error: Exception
    traceback: str


def parts(slot: NDArray[np.uint8], shapes: Shapes) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The images and the labels (as in :class:`~deepscem_tui.engine.patches.batches.Batch`) that lie in a slot."""
    n_images, n_labels = (int(np.prod(shape)) for shape in shapes)
    end = n_images * 4
    return slot[:end].view(np.float32).reshape(shapes[0]), slot[end : end + n_labels].reshape(shapes[1])


def main() -> None:
    """Make batches."""
    questions, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # what libraries print is no answer
    with suppress(EOFError, OSError):  # the one that asks is gone
        sampler, slots = questions.recv()
        while True:
            step, share, slot = questions.recv()
            try:
                batch = sampler.batch(step, share)
                shapes = batch.images.shape, batch.labels.shape
                images, labels = parts(slots[slot], shapes)
                images[...], labels[...] = batch.images, batch.labels
                answer: Shapes | Failure = shapes
            except EngineError as error:
                answer = Failure(error, traceback.format_exc())
            except Exception as error:  # its type may be one that cannot be sent
                answer = Failure(RuntimeError(f"{type(error).__name__}: {error}"), traceback.format_exc())
            answers.send(answer)
