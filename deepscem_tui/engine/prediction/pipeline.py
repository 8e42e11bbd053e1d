"""Three stages that overlap: one thread produces, the caller computes, another thread consumes.

Bounded queues lie between them, so that no more than a few things are held. An error of any stage ends all of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Waits", "run"]

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


@dataclass
class Waits:
    """Seconds that the caller's stage waited: for what is produced, and for room for what it made."""

    before: float = 0.0
    after: float = 0.0


def run(
    produce: Iterable[A], compute: Callable[[A], B], consume: Callable[[B], None], waits: Waits, depth: int = 2
) -> None:
    """Take everything from ``produce`` through ``compute`` to ``consume``, in order.

    ``compute`` is called in the caller's own thread. What it raises ends the run once all that was made before is
    consumed; what another stage raises is raised here. No thread is left when this returns or raises.

    Args:
        waits: Counted on while it runs.
        depth: Things that wait in each queue, at most.
    """
    given: _Queue[A] = _Queue(depth)
    made: _Queue[B] = _Queue(depth)
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for item in produce:
                given.put(item)
        except _Ended:
            pass
        except BaseException as error:  # raised again below
            failures.append(error)
        given.finish()

    def write() -> None:
        try:
            while True:
                consume(made.get())
        except _Ended:
            pass
        except BaseException as error:  # raised again below
            failures.append(error)
            given.close()
            made.close()

    threads = [threading.Thread(target=work, name=f"predict-{work.__name__}") for work in (read, write)]
    for thread in threads:
        thread.start()
    try:
        while True:
            began = time.monotonic()
            item = given.get()
            waits.before += time.monotonic() - began
            result = compute(item)
            began = time.monotonic()
            made.put(result)
            waits.after += time.monotonic() - began
            del item, result
    except _Ended:
        pass
    finally:
        given.close()
        began = time.monotonic()
        made.finish()
        for thread in threads:
            thread.join()
        waits.after += time.monotonic() - began
        if failures:
            raise failures[0]


class _Ended(Exception):
    """Nothing more comes out of a queue, or goes into it."""


class _Queue(Generic[T]):
    """A bounded queue between two threads that either may end."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False

    def put(self, item: T) -> None:
        """Add an item when there is room; :class:`_Ended` if nothing takes it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or len(self._items) < self._depth)
            if self._finished:
                raise _Ended
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """The next item when there is one; :class:`_Ended` if none is left and none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or self._items)
            if not self._items:
                raise _Ended
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Nothing is added any more; what is in it can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """The same, and what is in it is dropped."""
        with self._changed:
            self._finished = True
            self._items.clear()
            self._changed.notify_all()
