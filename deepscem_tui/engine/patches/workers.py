"""Who makes batches, a few ahead of the one in use: threads, or processes where a device takes more than they make.

Threads share what is in memory and cost nothing, but 2D patches are so quickly made that threads mostly wait for the
interpreter's lock; processes have one each. They give the same batches in the same order.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from deepscem_tui.engine.errors import ResourceError
from deepscem_tui.engine.patches.batches import Batch
from deepscem_tui.engine.patches.sampler import PatchSampler
from deepscem_tui.engine.patches.shared_arrays import SharedArray
from deepscem_tui.engine.patches.worker_process import Failure, Shapes, parts
from deepscem_tui.engine.system.own_python import own_python

__all__ = ["Batches", "by_processes", "by_threads"]

# Steps; positions in the batch that are wanted, None for all -> their batches, in order.
Batches = Callable[[Iterable[int], range | None], Generator[Batch, None, None]]

_MODULE = "deepscem_tui.engine.patches.worker_process"
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
        if isinstance(answer, Failure):
            raise answer.error from RuntimeError(f"in a process that makes patches:\n{answer.traceback}")
        images, labels = parts(slots[slot], answer)
        return Batch(images.copy(), labels.copy())

    try:
        with _signals_held():
            for _ in range(n_workers):
                workers.append(_Worker())
        for worker in workers:
            worker.begin(sampler, slots)
        yield batches
    finally:
        for worker in workers:
            worker.end()
        path.unlink(missing_ok=True)


class _Worker:
    """A process that makes batches; it answers in the order in which it is asked."""

    def __init__(self) -> None:
        read_questions, write_questions = os.pipe()
        read_answers, write_answers = os.pipe()
        self._questions = Connection(write_questions, readable=False)
        self._answers = Connection(read_answers, writable=False)
        try:
            # A copy of this process would hang, for TensorFlow has threads; multiprocessing's own way of starting
            # another would take modules that lie beside the data.
            self._process = subprocess.Popen(own_python(_MODULE), stdin=read_questions, stdout=write_answers)
        finally:
            os.close(read_questions)
            os.close(write_answers)

    def begin(self, sampler: PatchSampler, slots: SharedArray) -> None:
        with self._checked():
            self._questions.send((sampler, slots))

    def ask(self, step: int, share: range | None, slot: int) -> None:
        with self._checked():
            self._questions.send((step, share, slot))

    def answer(self) -> Shapes | Failure:
        with self._checked():
            answer: Shapes | Failure = self._answers.recv()
            return answer

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._questions.close()
        self._answers.close()

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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
