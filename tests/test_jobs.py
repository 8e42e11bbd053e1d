"""Jobs of the application: lanes, order, stopping, cancelling, errors, detached processes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deepscem_tui.engine import actions
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import DataError
from deepscem_tui.engine.results import Result
from deepscem_tui.jobs import NICENESS, Detached, Job, Jobs, _stand_back, detached_words, start_detached
from deepscem_tui.settings import report_folder


class Gate:
    """An action that waits to be let go, and says what happened to it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.at_work = 0
        self.most = 0
        self.order: list[str] = []

    def __call__(self, parameters: p.Info, context: Context) -> Result:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.order.append(parameters.path.name)
        self.entered.set()
        try:
            context.report.message(f"looking at {parameters.path.name}")
            context.report.warning("odd")
            context.report.progress("Looking", 1, 4, "things")
            while not self.open.wait(0.01):
                context.stop.check()
            if parameters.path.name == "bad":
                raise DataError("bad is bad", "Take another.")
            if parameters.path.name == "bug":
                raise ZeroDivisionError("oh")
            return Result(f"looked at {parameters.path.name}")
        finally:
            self.at_work -= 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr("deepscem_tui.engine.info.info", made)
    yield made
    made.open.set()


def asked(jobs: Jobs, name: str) -> Job:
    action = actions.ACTIONS["info"]
    return jobs.submit(action, actions.build(action, {"path": name}))


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def test_one_at_a_time_in_their_order(gate: Gate) -> None:
    over: list[str] = []
    jobs = Jobs(ended=lambda job: over.append(job.title))
    made = [asked(jobs, name) for name in "abc"]
    gate.entered.wait(5)
    assert [job.state for job in made] == ["running", "queued", "queued"]
    assert [job.title for job in jobs.live()] == ["info a", "info b", "info c"]
    gate.open.set()
    until(lambda: not jobs.live())
    assert gate.order == ["a", "b", "c"]
    assert gate.most == 1
    assert over == ["info a", "info b", "info c"]
    assert [job.result.summary for job in made if job.result] == ["looked at a", "looked at b", "looked at c"]


def test_an_evaluation_is_called_after_what_it_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.evaluation.evaluate.evaluate", lambda *_: Result("Done"))
    jobs, action = Jobs(), actions.ACTIONS["evaluate"]
    job = jobs.submit(action, actions.build(action, {"reference": "test.hdf5", "segmentation": "found.hdf5"}))
    until(lambda: not job.live)
    assert job.title == "evaluate found.hdf5"


def test_what_a_job_says_can_be_read_while_it_works(gate: Gate) -> None:
    job = asked(Jobs(), "a")
    until(lambda: job.progress)
    assert list(job.messages) == ["looking at a", "Warning: odd"]
    assert list(job.warnings) == ["odd"]
    assert job.progress is not None
    assert (job.progress.task, job.progress.share) == ("Looking", 0.25)
    assert job.progress.seconds_left(job.progress.began + 10) is None  # nothing gained yet


def test_stopping_ends_what_is_done_and_cancels_what_waits(gate: Gate) -> None:
    jobs = Jobs()
    first, second = asked(jobs, "a"), asked(jobs, "b")
    gate.entered.wait(5)
    jobs.stop(second)
    assert second.state == "cancelled"
    jobs.stop(first)
    until(lambda: not jobs.live())
    assert (first.state, str(first.error)) == ("stopped", "Stopped: asked in the application")
    assert gate.order == ["a"]


def test_stopping_all_begins_nothing_more(gate: Gate) -> None:
    jobs = Jobs()
    made = [asked(jobs, name) for name in "abc"]
    gate.entered.wait(5)
    jobs.stop_all("SIGTERM received")
    until(lambda: not jobs.live())
    assert [job.state for job in made] == ["stopped", "cancelled", "cancelled"]


def test_what_waits_is_cancelled_before_what_runs_is_stopped(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next one could begin in between."""
    jobs = Jobs()
    for name in "abc":
        asked(jobs, name)
    gate.entered.wait(5)
    order: list[str] = []
    stop = jobs.stop
    monkeypatch.setattr(jobs, "stop", lambda job, reason: (order.append(job.title), stop(job, reason)))
    jobs.stop_all("SIGTERM received")
    assert order == ["info b", "info c", "info a"]
    until(lambda: not jobs.live())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is the whole process's")
def test_what_works_lets_the_keys_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    monkeypatch.setattr("deepscem_tui.engine.info.info", lambda *_: Result(str(priority())))
    jobs = Jobs()
    job = asked(jobs, "a")
    until(lambda: not job.live)
    assert job.result is not None
    assert int(job.result.summary) == max(NICENESS, priority())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is the whole process's")
def test_who_was_nicer_before_stays_so() -> None:
    """Only root may take it back: jobs of a user who began the application with `nice` would fail."""
    found = []

    def work() -> None:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, 19)
        _stand_back()
        found.append(os.getpriority(os.PRIO_PROCESS, thread))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [19]


def test_errors_become_words(gate: Gate) -> None:
    gate.open.set()
    jobs = Jobs()
    bad, bug, good = asked(jobs, "bad"), asked(jobs, "bug"), asked(jobs, "good")
    until(lambda: not jobs.live())
    assert [job.state for job in (bad, bug, good)] == ["failed", "failed", "finished"]
    assert str(bad.error) == "bad is bad. Take another."
    assert "A bug in deepscem-tui: ZeroDivisionError: oh" in str(bug.error)
    assert len(list(report_folder().glob("deepscem-tui-*.txt"))) == 1


def test_files_go_on_beside_what_computes(gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    computing = threading.Event()

    def compute(parameters: p.CreateModel, context: Context) -> Result:
        computing.set()
        while True:
            context.stop.check()
            time.sleep(0.01)

    monkeypatch.setattr("deepscem_tui.engine.models.actions.create_model", compute)
    jobs = Jobs()
    action = actions.ACTIONS["create-model"]
    heavy = jobs.submit(action, actions.build(action, {"out": tmp_path / "m.keras", "labels": 1}))
    assert computing.wait(5)
    gate.open.set()
    light = asked(jobs, "a")
    until(lambda: light.state == "finished")
    assert heavy.state == "running"
    jobs.stop(heavy)
    until(lambda: heavy.state == "stopped")


# ------------------------------------------------------------------------------------------------ detached


def test_a_detached_action_has_a_session_of_its_own_and_says_what_went_wrong(tmp_path: Path) -> None:
    detached = start_detached(["run", "info", str(tmp_path / "missing.hdf5")], tmp_path / "runs")
    assert psutil.pid_exists(detached.process.pid) is False or os.getsid(detached.process.pid) != os.getsid(0)
    until(lambda: detached.process.poll() is not None, 60)
    assert detached.process.poll() == 3
    assert "missing.hdf5" in str(detached.complaint)
    detached.output.unlink()


def test_words_for_a_detached_action_are_those_of_the_command_line() -> None:
    action = actions.ACTIONS["train"]
    parameters = actions.build(action, {"model": "a b.keras", "out": "o.keras", "train": "d.hdf5", "epochs": "3"})
    words = detached_words(action, parameters)
    assert words == ["run", "train", "a b.keras", "o.keras", "--train", "d.hdf5", "--epochs", "3"]


def test_a_library_that_exits_ends_its_job(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(*_: object) -> Result:
        raise SystemExit(3)

    monkeypatch.setattr("deepscem_tui.engine.runs.runs.perform", leaves)
    jobs = Jobs()
    job = asked(jobs, "one")
    until(lambda: not job.live)
    assert (job.state, str(job.error)) == ("failed", "It was ended by SystemExit: 3")


def test_of_a_long_complaint_the_end_is_shown(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    output.write_text("".join(f"line {number}\n" for number in range(5000)))
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    complaint = Detached([], process, output).complaint
    assert complaint is not None
    assert complaint.splitlines()[-1] == "line 4999"
    assert len(complaint.splitlines()) < 10
