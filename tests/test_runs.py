"""The run folder: what is written, what a reader makes of it, stopping and resuming."""

import csv
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from pydantic import Field

from deepscem_tui.engine import actions
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import DataError, ParameterError, ResourceError, RunError, Stopped
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs import recorder as run_recorder
from deepscem_tui.engine.runs import runs, watching
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system import native_output


class Work(p.Changing):
    """Pretend to work."""

    out: Path = p.argument("Result.")
    what: str = Field("finish")
    file: Path | None = None
    other: Path | None = None


def work(parameters: Work, context: Context) -> Result:
    if parameters.what == "refuse":
        raise DataError("cannot work on that")
    context.report.event("started", steps=2, device="CPU, 2 cores")
    context.report.message("half way")
    context.report.progress("Working", 1, 2, "steps")
    os.write(2, b"native words\n")
    if parameters.what == "fail":
        raise DataError("broke half way")
    if parameters.what == "wait":
        while not context.stop.requested:
            threading.Event().wait(0.01)
        raise Stopped("saved")
    context.report.event("epoch", epoch=1, loss=0.5, f1=None)
    context.report.event("epoch", epoch=2, loss=0.25, f1=0.5)
    return Result("worked", {"n": 2})


@pytest.fixture(autouse=True)
def pretended_action(monkeypatch: pytest.MonkeyPatch) -> actions.Action:
    action = actions.Action("work", Work, "work:work", "Test", run=True)
    monkeypatch.setitem(actions.ACTIONS, "work", action)
    monkeypatch.setattr(actions.Action, "carry_out", lambda self, parameters, context: work(parameters, context))
    return action


def perform(folder: Path, what: str = "finish", stop: Stop | None = None) -> Result:
    return runs.perform(
        actions.ACTIONS["work"], Work(out=Path("a b.keras"), what=what), Reporter(), stop or Stop(), folder
    )


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def test_what_another_run_is_at_work_on_is_refused(tmp_path: Path) -> None:
    stop, ended = Stop(), []

    def wait() -> None:
        with pytest.raises(Stopped):
            perform(tmp_path / "runs", "wait", stop)
        ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    while not [run for run in runs.find(tmp_path / "runs") if run.progress]:
        threading.Event().wait(0.01)
    name = only_run(tmp_path / "runs").name
    try:
        with pytest.raises(RunError, match=f"{name} is at work on .*a b.keras"):
            perform(tmp_path / "runs")
    finally:
        stop.request("test")
        thread.join()
    assert ended
    perform(tmp_path / "runs")


def test_what_a_finished_run_leaves(tmp_path: Path) -> None:
    result = perform(tmp_path / "runs")
    folder = only_run(tmp_path / "runs")
    assert result.facts == {"n": 2, "run": str(folder)}
    assert folder.name.endswith("-work-a_b")
    description = json.loads((folder / "run.json").read_text())
    assert description["parameters"] == {
        "dry_run": False,
        "out": "a b.keras",
        "what": "finish",
        "file": None,
        "other": None,
    }
    assert (description["pid"], description["host"]) == (os.getpid(), socket.gethostname())
    assert description["command"].startswith("deepscem-tui run work 'a b.keras'")
    kinds = [event["type"] for event in runs.events(folder) if event["type"] != "usage"]  # which comes by the clock
    assert kinds == ["started", "message", "progress", "epoch", "epoch", "finished"]
    with (folder / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["epoch", "loss", "f1"], ["1", "0.5", ""], ["2", "0.25", "0.5"]]
    assert "native words" in (folder / "log.txt").read_text()
    state = runs.read(folder)
    assert (state.state, state.device) == ("finished", "CPU, 2 cores")
    assert state.epoch is not None
    assert state.epoch["loss"] == 0.25


def test_names_that_are_no_text_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dir\udcff"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "non\udcff.tif").touch()
    parameters = Work(out=Path("out\udcff.tif"), file=Path("non\udcff.tif"))
    runs.perform(actions.ACTIONS["work"], parameters, Reporter(), Stop(), tmp_path / "runs")
    run = only_run(tmp_path / "runs")
    state = runs.read(run)
    assert Work(**state.parameters) == parameters
    assert state.working_folder == folder
    assert [item["path"] for item in state.inputs] == [str(folder / "non\udcff.tif")]
    assert state.command == "deepscem-tui run work 'out\udcff.tif' --file 'non\udcff.tif'"
    recorder = run_recorder.Recorder(run, Reporter())
    recorder.message("non\udcff.tif")
    recorder.close()
    assert runs.events(run)[-1]["text"] == "non\udcff.tif"


def test_a_run_that_is_refused_before_it_starts_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot work"):
        perform(tmp_path / "runs", "refuse")
    assert not (tmp_path / "runs").exists()


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        perform(tmp_path, "fail")
    state = runs.read(only_run(tmp_path))
    assert state.state == "failed"
    assert state.end is not None
    assert state.end["error"] == "broke half way"


def test_a_dry_run_has_no_folder(tmp_path: Path) -> None:
    parameters = Work(out=Path("x"), dry_run=True)
    runs.perform(actions.ACTIONS["work"], parameters, Reporter(), Stop(), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_stopping_through_the_folder_and_resuming(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            perform(tmp_path, "wait")
        except Stopped as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not list(tmp_path.glob("*/events.jsonl")) or runs.read(only_run(tmp_path)).progress is None:
        threading.Event().wait(0.01)
    folder = only_run(tmp_path)
    with pytest.raises(RunError, match="running"):
        runs.resume(folder, Reporter(), Stop())
    assert runs.ask_to_stop(folder).state == "running"
    thread.join(timeout=20)
    (error,) = caught
    assert isinstance(error, Stopped)
    assert (error.what, error.hint) == ("saved", f"Go on with: deepscem-tui runs resume {folder}")
    assert error.run == folder
    assert runs.read(folder).state == "stopped"
    with pytest.raises(RunError, match="not running"):
        runs.ask_to_stop(folder)

    description = json.loads((folder / "run.json").read_text())
    description["parameters"]["what"] = "finish"
    (folder / "run.json").write_text(json.dumps(description))
    result = runs.resume(folder, Reporter(), Stop())
    assert result.summary == "worked"
    assert runs.read(folder).state == "finished"
    with pytest.raises(RunError, match=r"finished\. Its result is a b.keras; the same command with --overwrite"):
        runs.resume(folder, Reporter(), Stop())


def forge(folder: Path, **changes: object) -> Path:
    """A run folder whose process is not this one."""
    folder.mkdir()
    description = {
        "action": "work", "parameters": {}, "command": "", "working_folder": ".", "inputs": [],
        "host": socket.gethostname(), "pid": os.getpid(), "pid_started": 1.0,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(description | changes))
    return folder


@pytest.mark.parametrize(
    "change", [lambda file: file.write_text("b" * 4), lambda file: os.utime(file, (1, 1)), Path.unlink]
)
def test_an_input_that_has_changed_is_told_of(tmp_path: Path, change: Callable[[Path], Any]) -> None:
    file, kept = tmp_path / "file.tif", tmp_path / "kept.tif"
    for path in (file, kept):
        path.write_text("a" * 3)
    asked = Work(out=Path("x"), what="fail", file=file, other=kept)
    with pytest.raises(DataError):
        runs.perform(actions.ACTIONS["work"], asked, Reporter(), Stop(), tmp_path / "runs")
    warned: list[str] = []

    class Warned(Reporter):
        def warning(self, text: str) -> None:
            warned.append(text)

    for expected in ([], [f"{file} is not what it was when the run began"]):
        with pytest.raises(DataError):
            runs.resume(only_run(tmp_path / "runs"), Warned(), Stop())
        assert warned == expected
        if not expected:
            change(file)


def test_a_run_whose_process_is_gone_is_dead(tmp_path: Path) -> None:
    assert runs.read(forge(tmp_path / "a")).state == "dead"  # the process number was given to another
    elsewhere = forge(tmp_path / "b", host="another-node")
    assert runs.read(elsewhere).state == "dead"
    (elsewhere / "heartbeat").touch()
    assert runs.read(elsewhere).state == "running"
    os.utime(elsewhere / "heartbeat", (1, 1))
    assert runs.read(elsewhere).state == "dead"


def test_a_job_that_begins_anew_on_another_node_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node has died in the middle of a resumed run: neither the lock nor the last heartbeat keep it."""
    parameters = {"out": "x", "what": "finish"}
    folder = forge(tmp_path / "a", host="dead-node", parameters=parameters)
    lock = {"host": "dead-node", "pid": 1, "process_started": 1.0, "since": 1.0, "token": "t"}
    (folder / "run.json.lock").write_text(json.dumps(lock))
    (folder / "heartbeat").touch()
    monkeypatch.setattr(runs, "DEAD_AFTER_SECONDS", 0.5)
    monkeypatch.setattr(runs, "_SIGN_SECONDS", 0.01)
    assert runs.resume(folder, Reporter(), Stop()).summary == "worked"
    assert not list(folder.glob("*.lock*"))


def test_a_run_that_lives_on_another_node_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = forge(tmp_path / "a", host="another-node")
    (folder / "heartbeat").touch()
    monkeypatch.setattr(runs.time, "sleep", lambda _: (folder / "heartbeat").touch())
    with pytest.raises(RunError, match="is running"):
        runs.resume(folder, Reporter(), Stop())


def test_a_torn_or_foreign_line_is_left_out(tmp_path: Path) -> None:
    folder = forge(tmp_path / "a")
    (folder / "events.jsonl").write_text('{"t": 1, "type": "started"}\nrubbish\n[1]\n{"t": 2, "type": "epo')
    assert [event["type"] for event in runs.events(folder)] == ["started"]
    assert runs.read(folder).latest == 1


@pytest.mark.parametrize("content", ["", "{}", "[1]", "not json", '{"action": 1}'])
def test_what_is_no_run_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError):
        runs.read(tmp_path)
    with pytest.raises(RunError):
        runs.read(tmp_path / "nowhere")


def test_a_run_is_found_by_path_name_part_and_age(tmp_path: Path) -> None:
    one, two = forge(tmp_path / "20260101-train-mito"), forge(tmp_path / "20260102-train-nuclei")
    (tmp_path / "stray").mkdir()
    assert [run.folder for run in runs.find(tmp_path)] == [one, two]
    assert runs.locate(str(one), Path("nowhere")) == one
    assert runs.locate("20260101-train-mito", tmp_path) == one
    assert runs.locate("nuclei", tmp_path) == two
    assert runs.locate("latest", tmp_path) == two
    with pytest.raises(RunError, match="may be any of"):
        runs.locate("train", tmp_path)
    with pytest.raises(RunError, match="There is no run"):
        runs.locate("axon", tmp_path)


def test_latest_is_one_that_can_be_stopped_or_resumed_where_there_is_one(tmp_path: Path) -> None:
    perform(tmp_path)
    (other,) = tmp_path.iterdir()
    assert runs.locate("latest", tmp_path, runs.is_running) == other  # for want of one that is
    assert runs.locate("latest", tmp_path, runs.can_be_resumed) == other
    with pytest.raises(DataError):
        perform(tmp_path, "fail")
    (failed,) = set(tmp_path.iterdir()) - {other}
    running = forge(tmp_path / "running", host="another-node")
    (running / "heartbeat").touch()
    perform(tmp_path)
    assert runs.locate("latest", tmp_path) not in (other, failed, running)
    assert runs.locate("latest", tmp_path, runs.is_running) == running
    assert runs.locate("latest", tmp_path, runs.can_be_resumed) == failed
    assert runs.locate(other.name, tmp_path, runs.is_running) == other


def test_following_ends_when_the_run_has(tmp_path: Path) -> None:
    perform(tmp_path)
    kinds = [event["type"] for event in watching.follow(only_run(tmp_path), Stop(), seconds=0.01)]
    assert kinds[-1] == "finished"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--runs-dir"):
        perform(tmp_path / "file")


def test_native_output_is_kept_and_then_restored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"before\n")
    with native_output.kept_in(tmp_path / "log.txt"):
        os.write(1, b"one\n")
        with native_output.kept_off_the_terminal():
            os.write(2, b"dropped\n")
        print("two", file=sys.__stderr__)
    os.write(1, b"after\n")
    assert (tmp_path / "log.txt").read_bytes().startswith(b"one\n")
    assert capfd.readouterr().out == "before\nafter\n"


# ------------------------------------------------------------------------------------------------ going on, and ending


class Learn(p.Changing):
    """Pretend to train."""

    out: Path = p.argument("Result.")
    epochs: int = Field(2)
    overwrite: bool = Field(False)


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> list[Learn]:
    """An action with epochs; gives the parameters of each time that it was carried out."""
    seen: list[Learn] = []

    def learn(_: actions.Action, parameters: Learn, context: Context) -> Result:
        seen.append(parameters)
        if parameters.out.name == "refused":
            raise DataError("cannot learn that")
        context.report.event("started")
        context.report.event("epoch", epoch=parameters.epochs)
        return Result("learned")

    monkeypatch.setitem(actions.ACTIONS, "learn", actions.Action("learn", Learn, "work:learn", "Test", run=True))
    monkeypatch.setattr(actions.Action, "carry_out", learn)
    return seen


def learned(tmp_path: Path) -> Path:
    runs.perform(actions.ACTIONS["learn"], Learn(out=Path("a"), overwrite=True), Reporter(), Stop(), tmp_path)
    return only_run(tmp_path)


def test_a_finished_training_goes_on_for_more_epochs(tmp_path: Path, learning: list[Learn]) -> None:
    folder = learned(tmp_path)
    with pytest.raises(RunError, match="--epochs"):
        runs.resume(folder, Reporter(), Stop())
    for epochs in (1, 2):
        with pytest.raises(ParameterError, match="has 2 epochs already"):
            runs.resume(folder, Reporter(), Stop(), epochs)
    assert runs.read(folder).state == "finished"
    runs.resume(folder, Reporter(), Stop(), 5)
    assert (learning[-1].epochs, learning[-1].overwrite) == (5, False)  # that the first might replace says nothing now
    kinds = [event["type"] for event in runs.events(folder) if event["type"] != "usage"]
    assert kinds == ["started", "epoch", "finished", "resumed", "started", "epoch", "finished"]
    assert json.loads((folder / "run.json").read_text())["parameters"]["epochs"] == 5
    runs.resume(folder, Reporter(), Stop(), 6, overwrite=True)
    assert learning[-1].overwrite


@pytest.mark.usefixtures("learning")
def test_more_epochs_are_for_the_latest_training(tmp_path: Path) -> None:
    training, other = learned(tmp_path), forge(tmp_path / "other")
    assert runs.locate("latest", tmp_path, runs.can_be_resumed) == other
    assert runs.locate("latest", tmp_path, lambda run: runs.can_be_resumed(run, 9)) == training


def test_a_refused_resume_leaves_the_run_what_it_was(tmp_path: Path, learning: list[Learn]) -> None:
    folder = learned(tmp_path)
    description = json.loads((folder / "run.json").read_text())
    description["parameters"]["out"] = "refused"
    (folder / "run.json").write_text(json.dumps(description))
    before = (folder / "run.json").read_text()
    with pytest.raises(DataError, match="cannot learn"):
        runs.resume(folder, Reporter(), Stop(), 5)
    assert (folder / "run.json").read_text() == before
    state = runs.read(folder)
    assert state.state == "finished"
    assert state.end is not None
    assert state.end["result"]["summary"] == "learned"
    assert runs.events(folder)[-2]["text"].startswith("Not resumed: cannot learn")


def test_epochs_mean_nothing_to_what_is_no_training(tmp_path: Path) -> None:
    perform(tmp_path)
    with pytest.raises(ParameterError, match="no training"):
        runs.resume(only_run(tmp_path), Reporter(), Stop(), 5)


def test_who_carries_it_out_learns_the_folder_at_once(tmp_path: Path) -> None:
    seen: list[Path] = []

    class Curious(Reporter):
        def began(self, folder: Path) -> None:
            assert (folder / "run.json").exists()
            seen.append(folder)

        def event(self, kind: str, **facts: object) -> None:
            assert seen

    runs.perform(actions.ACTIONS["work"], Work(out=Path("x")), Curious(), Stop(), tmp_path)
    assert seen == [only_run(tmp_path)]


def test_latest_of_no_runs_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run in"):
        runs.locate("latest", tmp_path)


# ------------------------------------------------------------------------------------------------ again, and no room


def test_an_epoch_that_is_done_again_has_one_row(tmp_path: Path) -> None:
    recorder = run_recorder.Recorder(tmp_path, Reporter())
    for epoch in (1, 2, 3):
        recorder.event("epoch", epoch=epoch, loss=1.0, **{"f1_a,b": None})
    recorder.close()
    path = tmp_path / "metrics.csv"
    path.write_bytes(path.read_bytes() + b"4,0.")  # killed in the middle of a row, and resumed from epoch 1
    recorder = run_recorder.Recorder(tmp_path, Reporter())
    for epoch in (2, 3, 4):
        recorder.event("epoch", epoch=epoch, loss=0.5, **{"f1_a,b": 0.25})
    recorder.close()
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["epoch", "loss", "f1_a,b"], ["1", "1.0", ""], ["2", "0.5", "0.25"], ["3", "0.5", "0.25"], ["4", "0.5", "0.25"]
    ]  # fmt: skip


def test_rows_keep_to_the_columns_that_an_earlier_version_began(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,loss,f1_a\r\n1,1.0,0.5\r\n")
    recorder = run_recorder.Recorder(tmp_path, Reporter())
    recorder.event("epoch", epoch=2, f1_a=0.75, new=3, loss=0.5)
    recorder.close()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["epoch,loss,f1_a", "1,1.0,0.5", "2,0.5,0.75"]


class FullDisk:
    """A file on a disk that is full, after a few bytes, until somebody makes room."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.full = True

    def write(self, data: bytes) -> int:
        return self._file.write(data[:5] if self.full else data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_loses_steps_but_no_epoch(tmp_path: Path) -> None:
    recorder = run_recorder.Recorder(tmp_path, Reporter())
    recorder.event("started")
    recorder._events = disk = FullDisk(recorder._events)  # type: ignore[assignment]
    recorder.event("step", loss=1.0)
    recorder.message("lost")
    with pytest.raises(ResourceError, match=r"events\.jsonl could not be written: No space left.*\d+ bytes are needed"):
        recorder.event("epoch", epoch=1)
    disk.full = False
    recorder.event("epoch", epoch=1)
    recorder.close()
    assert [event["type"] for event in runs.events(tmp_path)] == ["started", "epoch"]


class Part(p.Changing):
    """Pretend to compute a part."""

    out: Path = p.argument("Result.")
    shard: tuple[int, int] | None = Field(None)
    resume: bool = Field(False)


def test_each_part_of_a_result_goes_on_with_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: actions.Action, parameters: Part, context: Context) -> Result:
        context.report.event("started")
        raise Stopped("saved")

    action = actions.Action("part", Part, "work:part", "Test", run=True)
    monkeypatch.setitem(actions.ACTIONS, "part", action)
    monkeypatch.setattr(actions.Action, "carry_out", stopped)
    for _ in range(2):
        for number in (1, 2, 3):
            part = Part(out=Path("x"), shard=(number, 3), resume=True)
            with pytest.raises(Stopped):
                runs.perform(action, part, Reporter(), Stop(), tmp_path)
    found = runs.find(tmp_path)
    assert [run.parameters["shard"] for run in found] == [[1, 3], [2, 3], [3, 3]]
    assert all([event["type"] for event in runs.events(run.folder)].count("resumed") == 1 for run in found)
