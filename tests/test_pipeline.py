"""Three stages overlap, keep their order, hold little, and end together."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from deepscem_tui.engine.errors import Stopped
from deepscem_tui.engine.prediction import pipeline


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("predict-")}


def test_everything_passes_in_order_and_computing_stays_with_the_caller() -> None:
    made: list[int] = []
    who: set[threading.Thread] = set()

    def compute(number: int) -> int:
        who.add(threading.current_thread())
        return number * number

    pipeline.run(range(50), compute, made.append, pipeline.Waits())
    assert made == [number * number for number in range(50)]
    assert who == {threading.current_thread()}
    assert not threads()


def test_the_stages_overlap() -> None:
    """The second is produced while the first is computed, and consumed while the third is: each waits for the other."""
    second_produced, third_computed = threading.Event(), threading.Event()

    def produce() -> Iterator[int]:
        for number in range(3):
            if number == 1:
                second_produced.set()
            yield number

    def compute(number: int) -> int:
        if number == 0:
            assert second_produced.wait(20)
        if number == 2:
            third_computed.set()
        return number

    def consume(number: int) -> None:
        if number == 1:
            assert third_computed.wait(20)

    pipeline.run(produce(), compute, consume, pipeline.Waits())


def test_little_is_held_at_a_time() -> None:
    lock = threading.Lock()
    held, most = 0, 0

    def produce() -> Iterator[int]:
        nonlocal held, most
        for number in range(200):
            with lock:
                held += 1
                most = max(most, held)
            yield number

    def consume(_: int) -> None:
        nonlocal held
        with lock:
            held -= 1

    pipeline.run(produce(), lambda number: number, consume, pipeline.Waits(), depth=2)
    assert held == 0
    assert most <= 2 + 2 + 3  # in both queues, and in the hands of the three


@pytest.mark.parametrize("stage", ["produce", "compute", "consume"])
def test_an_error_of_any_stage_ends_all(stage: str) -> None:
    consumed: list[int] = []

    def fail(where: str, number: int) -> int:
        if where == stage and number == 5:
            raise OSError(f"{where} failed")
        return number

    def consume(number: int) -> None:
        consumed.append(fail("consume", number))

    with pytest.raises(OSError, match=f"{stage} failed"):
        pipeline.run(
            (fail("produce", number) for number in range(10**6)),
            lambda number: fail("compute", number),
            consume,
            pipeline.Waits(),
        )
    assert not threads()
    assert consumed == list(range(5))  # what came before is not lost


def test_a_stop_lets_what_is_computed_be_written() -> None:
    consumed: list[int] = []

    def compute(number: int) -> int:
        if number == 7:
            raise Stopped("asked")
        return number

    with pytest.raises(Stopped):
        pipeline.run(range(10**6), compute, consumed.append, pipeline.Waits())
    assert consumed == list(range(7))
    assert not threads()
