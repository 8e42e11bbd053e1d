"""Who makes batches, a few ahead of the one in use: threads, or processes where a device takes more than they make.

Threads share what is in memory and cost nothing, but 2D patches are so quickly made that threads mostly wait for the
interpreter's lock; processes have one each. They give the same batches in the same order.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.patches.batches import Batch
from deepscem_tui.engine.patches.sampler import PatchSampler
from deepscem_tui.engine.patches.shared_arrays import SharedArray

__all__ = ["Batches", "by_processes", "by_threads"]

# Steps; positions in the batch that are wanted, None for all -> their batches, in order.
Batches = Callable[[Iterable[int], range | None], Generator[Batch, None, None]]

_AHEAD = 2  # batches that are made or ready beyond one a worker


@contextmanager
def by_threads(sampler: PatchSampler, n_workers: int) -> Iterator[Batches]:
    """Make batches in threads of this process."""
    with ThreadPoolExecutor(n_workers, thread_name_prefix="patches") as pool:

        def batches(steps: Iterable[int], share: range | None = None) -> Generator[Batch, None, None]:
            waiting: deque[Future[Batch]] = deque()
            try:
                for step in steps:
                    waiting.append(pool.submit(sampler.batch, step, share))
                    if len(waiting) > n_workers + _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

        yield batches


@contextmanager
def by_processes(sampler: PatchSampler, n_workers: int, folder: Path) -> Iterator[Batches]:
    """Make batches in processes of their own, which end with this one, however it ends.

    Args:
        sampler: Of samples that can be shared: it is copied to each process.
        n_workers: How many.
        folder: Where the file lies through which batches are passed on.

    Raises:
        ResourceError: there is no room for that file. A batch raises it when a process is gone.
    """
    path = folder / "batches.raw"
    slots = SharedArray(path, (n_workers + _AHEAD, sampler.batch_bytes), np.uint8)
    workers: list[_Worker] = []

    def batches(steps: Iterable[int], share: range | None = None) -> Generator[Batch, None, None]:
        turns = cycle(workers)
        waiting: deque[tuple[int, _Worker]] = deque()  # by slot
        try:
            for number, step in enumerate(steps):
                if len(waiting) == len(slots):
                    yield take(*waiting.popleft())
                slot, worker = number % len(slots), next(turns)
                worker.ask(step, share, slot)
                waiting.append((slot, worker))
            while waiting:
                yield take(*waiting.popleft())
        finally:  # else answers would be taken for those of the next steps
            with suppress(ResourceError):
                for _, worker in waiting:
                    worker.answer()

    def take(slot: int, worker: _Worker) -> Batch:
        answer = worker.answer()
        if isinstance(answer, _Failure):
            raise answer.error from RuntimeError(f"in a process that makes patches:\n{answer.traceback}")
        images, labels = _parts(slots[slot], answer)
        return Batch(images.copy(), labels.copy())

    try:
        with _signals_held():
            for _ in range(n_workers):
                workers.append(_Worker(sampler, slots))
        yield batches
    finally:
        for worker in workers:
            worker.end()
        path.unlink(missing_ok=True)


_Shapes = tuple[Sequence[int], Sequence[int]]  # of a batch's images and labels


@dataclass(frozen=True)
class _Failure:
    """What a process answers that could not make a batch."""

    error: Exception
    traceback: str


class _Worker:
    """A process that makes batches; it answers in the order in which it is asked."""

    def __init__(self, sampler: PatchSampler, slots: SharedArray) -> None:
        context = multiprocessing.get_context("spawn")  # a copy of this process would hang: TensorFlow has threads
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, sampler, slots), daemon=True)
        self._process.start()
        there.close()

    def ask(self, step: int, share: range | None, slot: int) -> None:
        with self._checked():
            self._pipe.send((step, share, slot))

    def answer(self) -> _Shapes | _Failure:
        with self._checked():
            answer: _Shapes | _Failure = self._pipe.recv()
            return answer

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            what = "A process that makes patches is gone; the system may have ended it for want of memory"
            raise ResourceError(what, "Resume the run; smaller patches need less.") from error


@contextmanager
def _signals_held() -> Iterator[None]:
    """Start processes that hear no signals that ask to stop: these are meant for the training, which ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which lets signals through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, sampler: PatchSampler, slots: SharedArray) -> None:
    """What such a process does until it is ended, or the one that started it is."""
    with suppress(EOFError, OSError):
        while True:
            step, share, slot = pipe.recv()
            try:
                batch = sampler.batch(step, share)
                shapes = batch.images.shape, batch.labels.shape
                images, labels = _parts(slots[slot], shapes)
                images[...], labels[...] = batch.images, batch.labels
                pipe.send(shapes)
            except Exception as error:  # whatever it is, it is raised again where the batch is wanted
                pipe.send(_Failure(error, traceback.format_exc()))


def _parts(slot: NDArray[np.uint8], shapes: _Shapes) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The images and the labels (as in :class:`Batch`) that lie in a slot."""
    n_images, n_labels = (int(np.prod(shape)) for shape in shapes)
    end = n_images * 4
    return slot[:end].view(np.float32).reshape(shapes[0]), slot[end : end + n_labels].reshape(shapes[1])
