"""Snapshots of run folders: what is read, what is left out, and that only what is new is read again."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import made_runs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.runs import event_story, runs, watching
from deepscem_tui.engine.runs import preview as run_preview
from deepscem_tui.engine.runs import recorder as run_recorder
from deepscem_tui.engine.runs.watching import RunsIndex, RunWatcher
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.usage import Meter


def test_a_training_under_way(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    snapshot = RunWatcher(folder).poll()
    assert (snapshot.state, snapshot.action, snapshot.n_epochs) == ("running", "train", 8)
    assert [epoch["epoch"] for epoch in snapshot.epochs] == [1, 2, 3]
    assert snapshot.labels == made_runs.LABELS
    assert len(snapshot.curve("validation_f1_membrane")) == 3
    assert snapshot.score() == pytest.approx(0.6444951993)
    assert snapshot.step is not None
    assert (snapshot.step.epoch, snapshot.step.step, snapshot.step.waiting_for_data) == (4, 32, 0.031)
    assert len(snapshot.losses) == 28
    assert snapshot.losses[0][0] == 0.125
    assert snapshot.progress is not None
    assert snapshot.progress.share == 3.5 / 8
    # 3.375 epochs in 33.75 s since the first, so that 4.5 epochs take 45 s
    assert snapshot.progress.seconds_left == pytest.approx(45)
    assert snapshot.usage is not None
    assert (snapshot.usage.cores, snapshot.usage.gpus[0].percent) == (16, 93)
    assert snapshot.said[0].text == "Loading TensorFlow"
    assert "library prints" in snapshot.log[0]
    assert snapshot.preview is not None
    assert run_preview.read(snapshot.preview.path).names == made_runs.LABELS
    assert snapshot.checkpoint == made_runs.BEGAN + 32
    assert snapshot.seconds(snapshot.looked + 5) == pytest.approx(37 + 5)


def test_a_prediction_under_way(tmp_path: Path) -> None:
    snapshot = RunWatcher(made_runs.predicting(tmp_path / "run")).poll()
    assert [(tiles.sample, tiles.done) for tiles in snapshot.tiles] == [("one", 40), ("two", 12)]
    assert snapshot.samples == 3
    assert snapshot.preview is not None
    preview = run_preview.read(snapshot.preview.path)
    assert preview.known is not None
    assert 0 < preview.known.mean() < 1


def test_nothing_new_is_the_same_object(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    watcher = RunWatcher(folder)
    first = watcher.poll()
    assert watcher.poll() is first
    assert watcher.fresh == []
    made_runs.say(folder, "warning", 50, text="hm")
    second = watcher.poll()
    assert second is not first
    assert [event["type"] for event in watcher.fresh] == ["warning"]
    assert second.said[-1].kind == "warning"
    assert second.epochs == first.epochs
    (folder / "log.txt").write_text("more\n")
    assert watcher.poll().log == ("more",)


def test_a_line_written_in_two_parts_is_read_once_it_is_whole(tmp_path: Path) -> None:
    folder = made_runs.describe(tmp_path / "run")
    watcher = RunWatcher(folder)
    line = json.dumps({"t": made_runs.BEGAN, "type": "message", "text": "ä" * 10}, ensure_ascii=False).encode() + b"\n"
    for cut in (10, len(line) - 12, len(line)):  # in the middle of a letter, too
        with (folder / "events.jsonl").open("ab") as file:
            file.write(line[:cut] if cut == 10 else line[10:cut] if cut < len(line) else line[len(line) - 12 :])
        snapshot = watcher.poll()
        assert len(snapshot.said) == (cut == len(line))
    assert snapshot.said[0].text == "ä" * 10


def test_the_end_and_the_time_it_took(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run", epochs=8)
    made_runs.say(folder, "finished", 100, result={"summary": "Trained out.keras"})
    snapshot = RunWatcher(folder).poll()
    assert (snapshot.state, snapshot.ended, snapshot.seconds()) == ("finished", made_runs.BEGAN + 100, 100)
    assert snapshot.result == {"summary": "Trained out.keras"}


def test_a_resumed_run_goes_on_and_redone_epochs_replace_the_old(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    watcher = RunWatcher(folder)
    made_runs.say(folder, "stopped", 40, error="Training stopped")
    before = watcher.poll()
    assert (before.state, before.error) == ("stopped", "Training stopped")
    made_runs.say(folder, "resumed", 1040)
    made_runs.say(folder, "started", 1041, device="CPU")
    made_runs.step(folder, 3, 32, 1042)
    snapshot = watcher.poll()
    assert (snapshot.state, snapshot.error) == ("running", "")
    assert snapshot.losses[-1][0] == 2.5
    assert [x for x, _ in snapshot.losses] == sorted(x for x, _ in snapshot.losses)
    assert snapshot.seconds(snapshot.looked) == pytest.approx(42)  # without the pause
    made_runs.epoch(folder, 3, 1050)
    assert [epoch["epoch"] for epoch in watcher.poll().epochs] == [1, 2, 3]


def test_many_steps_become_a_bounded_number_of_means(tmp_path: Path) -> None:
    folder = made_runs.describe(tmp_path / "run")
    with (folder / "events.jsonl").open("w") as file:
        for n in range(1, 9001):
            facts = {"epoch": 1, "step": n, "steps_per_epoch": 9000, "epochs": 1, "loss": n / 9000}
            file.write(json.dumps({"t": n, "type": "step", **facts}) + "\n")
    losses = RunWatcher(folder).poll().losses
    assert event_story.STEP_POINTS <= len(losses) <= 2 * event_story.STEP_POINTS
    assert losses[-1][0] == pytest.approx(1, abs=0.01)
    assert all(abs(x - y) < 0.01 for x, y in losses)


def test_of_a_long_past_every_epoch_is_read_and_the_latest_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_story, "_CHUNK", 2000)
    monkeypatch.setattr(event_story, "_BACKLOG", 20_000)
    snapshot = RunWatcher(made_runs.training(tmp_path / "run", epochs=6.5, steps=32)).poll()
    assert [epoch["epoch"] for epoch in snapshot.epochs] == [1, 2, 3, 4, 5, 6]
    assert snapshot.step is not None
    assert (snapshot.step.epoch, snapshot.step.step) == (7, 32)
    assert snapshot.progress is not None
    assert snapshot.progress.share == 6.5 / 8
    assert 10 < len(snapshot.losses) < 100  # of 208


def test_a_folder_that_disappears_is_gone(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    watcher = RunWatcher(folder)
    before = watcher.poll()
    shutil.rmtree(folder)
    after = watcher.poll()
    assert (before.state, after.state, after.epochs) == ("running", "gone", before.epochs)
    assert watcher.poll() is after
    with pytest.raises(RunError, match="not a run folder"):
        RunWatcher(folder).poll()


def test_a_file_of_events_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    watcher = RunWatcher(folder)
    assert len(watcher.poll().epochs) == 3
    (folder / "events.jsonl").unlink()
    made_runs.epoch(folder, 1, 0)
    assert len(watcher.poll().epochs) == 1


def test_clocks_may_differ_between_hosts(tmp_path: Path) -> None:
    """The heartbeat of another host is hours off, but it beats."""
    folder = made_runs.training(tmp_path / "run")
    made_runs.describe(folder, host="another-node")
    heartbeat = folder / "heartbeat"
    heartbeat.touch()
    os.utime(heartbeat, (1, 1))
    watcher = RunWatcher(folder)
    assert watcher.poll().state == "dead"
    os.utime(heartbeat, (6, 6))
    assert watcher.poll().state == "running"


@pytest.mark.parametrize("file", ["../secret.npz", "/etc/passwd", "preview/../../x.npz", "preview/a\0.npz", 5, None])
def test_a_preview_lies_in_the_folder(tmp_path: Path, file: Any) -> None:
    folder = made_runs.describe(tmp_path / "run")
    made_runs.say(folder, "preview", 0, file=file)
    assert RunWatcher(folder).poll().preview is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KINDS = ["started", "resumed", "message", "warning", "progress", "step", "epoch", "usage", "preview", "checkpoint",
         "tiles", "test", "finished", "stopped", "failed", "take", "__init__", ""]  # fmt: skip
NAMES = ["t", "epoch", "step", "steps_per_epoch", "epochs", "loss", "task", "done", "total", "text", "file", "gpus",
         "cpu", "cores", "sample", "plans", "result", "error", "f1_x", "device", "name"]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=6), st.booleans()),
        max_size=12,
    ),
    st.binary(max_size=40),
)
@settings(max_examples=150)
def test_hostile_events_break_nothing(tmp_path_factory: pytest.TempPathFactory, events: list, tail: bytes) -> None:
    from deepscem_tui.render.run_text import draw_run

    folder = made_runs.describe(tmp_path_factory.mktemp("hostile") / "run")
    with (folder / "events.jsonl").open("wb") as file:
        for kind, facts, timed in events:
            file.write(json.dumps({**facts, **({"t": 5.0} if timed else {}), "type": kind}).encode() + b"\n")
        file.write(tail)
    snapshot = RunWatcher(folder).poll()
    text = draw_run(snapshot, 60, 12).plain
    assert all(character.isprintable() or character == "\n" for character in text)
    RunsIndex(folder.parent).poll()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"[" * 100_000, b'{"action": 1}', b"\xff\xfe"])
def test_a_description_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "runs" / "none"
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(content)
    with pytest.raises(RunError):
        RunWatcher(folder).poll()
    assert RunsIndex(folder.parent).poll() == []


def test_a_huge_line_is_left_out_and_what_follows_is_read(tmp_path: Path) -> None:
    folder = made_runs.describe(tmp_path / "run")
    made_runs.say(folder, "message", 0, text="x" * (3 << 20))
    made_runs.say(folder, "message", 1, text="y" * 5000)
    snapshot = RunWatcher(folder).poll()
    assert [len(said.text) for said in snapshot.said] == [2000]


def test_following_a_run_of_another_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2]); import made_runs; from pathlib import Path\n"
        "folder = made_runs.describe(Path(sys.argv[1]))\n"
        "made_runs.say(folder, 'started', 0); print('there', flush=True); sys.stdin.readline()\n"
        "made_runs.epoch(folder, 1, 5); made_runs.say(folder, 'finished', 9, result={})\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run"), str(Path(__file__).parent)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        watcher = RunWatcher(tmp_path / "run")
        assert watcher.poll().state == "running"
        assert watcher.poll().pid == process.pid
        process.stdin.write("\n")
        process.stdin.flush()
        kinds = [event["type"] for event in watching.follow(tmp_path / "run", Stop(), 0.01)]
    assert kinds == ["started", "epoch", "message", "finished"]
    assert watcher.poll().state == "finished"


def test_a_killed_run_is_dead(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); import made_runs; from pathlib import Path\n"
        "made_runs.say(made_runs.describe(Path(sys.argv[1])), 'started', 0); print('there', flush=True); input()"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run"), str(Path(__file__).parent)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        watcher = RunWatcher(tmp_path / "run")
        assert watcher.poll().state == "running"
        state = runs.stop_now(tmp_path / "run", seconds=20)  # of a process that does not know SIGTERM
        process.wait(20)
    assert state.state == "dead"
    assert watcher.poll().state == "dead"
    with pytest.raises(RunError, match="not running"):
        runs.stop_now(tmp_path / "run")


def test_a_run_is_ended_at_once_only_where_it_is_sure_to_be_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="very process"):
        runs.stop_now(made_runs.describe(tmp_path / "here"))
    elsewhere = made_runs.describe(tmp_path / "there", host="another-node")
    (elsewhere / "heartbeat").touch()
    with pytest.raises(RunError, match="runs on another-node"):
        runs.stop_now(elsewhere)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        reused = made_runs.describe(tmp_path / "reused", pid=other.pid, pid_started=1.0)  # its number was given again
        with pytest.raises(RunError, match="not running"):
            runs.stop_now(reused)
        assert other.poll() is None
        other.communicate(b"\n")


# ------------------------------------------------------------------------------------------------ all runs


def test_the_runs_of_a_folder_in_short(tmp_path: Path) -> None:
    index = RunsIndex(tmp_path / "runs")
    assert index.poll() == []
    made_runs.training(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "stray").mkdir()
    (one,) = index.poll()
    assert (one.name, one.state, one.epoch, one.epochs) == ("a", "running", 3, 8)
    assert one.f1 == pytest.approx(0.6444951993)
    made_runs.predicting(tmp_path / "runs" / "b")
    assert [run.name for run in index.poll()] == ["a", "b"]
    made_runs.epoch(tmp_path / "runs" / "a", 4, 60)
    made_runs.say(tmp_path / "runs" / "a", "finished", 61, result={"summary": "done"})
    first, second = index.poll()
    assert (first.state, first.epoch, first.text, first.ended) == ("finished", 4, "done", made_runs.BEGAN + 61)
    assert index.poll()[0] is first  # nothing is read again
    assert second.progress is not None
    shutil.rmtree(tmp_path / "runs" / "b")
    made_runs.say(tmp_path / "runs" / "a", "resumed", 70)
    (again,) = index.poll()
    assert again.state == "running"


def test_the_f1_of_a_finished_training_is_that_of_the_model_that_it_kept(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    made_runs.say(folder, "finished", 61, result={"summary": "done", "validation_f1": 0.55})  # not of the last epoch
    (run,) = RunsIndex(tmp_path).poll()
    assert run.f1 == 0.55


def test_of_a_long_run_the_beginning_and_the_end_are_read(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    line = json.dumps({"t": made_runs.BEGAN + 50, "type": "message", "text": "x" * 100}) + "\n"
    with (folder / "events.jsonl").open("a") as file:
        file.write(line * 20_000)
    (run,) = RunsIndex(tmp_path).poll()
    assert (run.began, run.epoch, run.latest) == (made_runs.BEGAN, 3, made_runs.BEGAN + 50)


def test_hundreds_of_ended_runs_are_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        folder = made_runs.describe(tmp_path / f"run{number:03}")
        made_runs.say(folder, "finished", number, result={})
    index = RunsIndex(tmp_path)
    assert len(index.poll()) == 100
    opened: list[Path] = []
    original = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *rest, **more: (opened.append(self), original(self, *rest, **more))[1]
    )
    made_runs.say(tmp_path / "run007", "resumed", 500)
    opened.clear()
    index.poll()
    assert {path.parent.name for path in opened} == {"run007"}


# ------------------------------------------------------------------------------------------------ previews, usage


def test_a_preview_is_reduced_and_comes_back(tmp_path: Path) -> None:
    import numpy as np

    image = np.linspace(0, 1, 1000 * 700).reshape(1000, 700)
    prediction = np.zeros((2, 1000, 700))
    prediction[1, :500] = 1
    known = np.arange(1000)[:, None] < np.full(700, 600)
    run_preview.write(tmp_path / "p" / "a.npz", image, prediction, ["a", "b"], "s", 3, prediction, known)
    preview = run_preview.read(tmp_path / "p" / "a.npz")
    assert preview.image.shape == (500, 350)
    assert preview.prediction[:, 100, 100].tolist() == [0, 255]
    assert preview.labels is not None
    assert preview.labels[:, 100, 100].tolist() == [0, 1]
    assert preview.known is not None
    assert (preview.known[299, 0], preview.known[300, 0]) == (1, 0)
    assert (preview.sample, preview.z, preview.names) == ("s", 3, ("a", "b"))
    assert preview.thresholds == (0.5, 0.5)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["a.npz"]


def test_a_preview_of_others_is_checked(tmp_path: Path) -> None:
    import numpy as np

    about = np.frombuffer(json.dumps({"sample": "s", "z": 1, "names": ["a"]}).encode(), np.uint8)
    good = {"image": np.zeros((4, 5), np.uint8), "prediction": np.zeros((1, 4, 5), np.uint8), "about": about}
    path = tmp_path / "a.npz"
    np.savez(path, **good)
    assert run_preview.read(path).image.shape == (4, 5)
    bad: list[dict[str, Any]] = [
        {"image": np.zeros((4, 5), np.float32)},
        {"image": np.zeros((4, 6), np.uint8)},
        {"image": np.zeros((4, 5, 1), np.uint8)},
        {"labels": np.zeros((2, 4, 5), np.uint8)},
        {"known": np.array([[None]], object)},
        {"about": np.frombuffer(b"[]", np.uint8)},
        {"about": np.frombuffer(b'{"names": 5}', np.uint8)},
        {"image": np.zeros((9000, 9000), np.uint8)},
    ]
    for change in bad:
        np.savez(path, **{**good, **change})
        with pytest.raises(RunError):
            run_preview.read(path)
    for content in (b"", b"PK\x03\x04rubbish", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(RunError):
            run_preview.read(path)
    with pytest.raises(RunError):
        run_preview.read(tmp_path / "nowhere.npz")


def test_what_a_process_takes_is_measured() -> None:
    meter = Meter()
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    facts = meter.measure()
    assert facts["cores"] >= 1
    assert facts["cpu"] > 0
    assert facts["memory"] > 1 << 20
    assert facts["memory_available"] > 0


def test_a_measurement_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such thing")

    meter = Meter()
    monkeypatch.setattr("psutil.Process.memory_info", broken)
    monkeypatch.setattr("deepscem_tui.engine.system.usage.import_module", broken)
    assert set(meter.measure()) == {"cores", "cpu", "machine_percent"}


class FakeNvml:
    NVMLError = RuntimeError

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index > 1:
            raise RuntimeError("no such device")
        return f"gpu{index}"

    def nvmlDeviceGetName(self, gpu: str) -> str:
        return gpu

    def nvmlDeviceGetUtilizationRates(self, gpu: str) -> Any:
        if gpu == "gpu1":
            raise RuntimeError("not supported")  # as a part of a device says
        return type("Rates", (), {"gpu": 55})

    def nvmlDeviceGetMemoryInfo(self, gpu: str) -> Any:
        return type("Memory", (), {"used": 5, "total": 10})


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ["gpu0", "gpu1"]), ("1", ["gpu1"]), ("", []), ("-1,0", []), ("7,0", ["gpu0"])]
)
def test_the_gpus_that_the_process_may_use(visible: str | None, names: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.system.usage.import_module", lambda _: FakeNvml())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = Meter().measure().get("gpus", [])
    assert [gpu["name"] for gpu in gpus] == names
    assert all(("percent" in gpu) == (gpu["name"] == "gpu0") for gpu in gpus)


def test_the_heartbeat_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that lasts records what it takes, beginning with its start."""
    monkeypatch.setattr(run_recorder, "HEARTBEAT_SECONDS", 0.0)
    folder = made_runs.describe(tmp_path / "run")
    recorder = run_recorder.Recorder(folder, runs.Reporter())
    with run_recorder.heartbeat(folder, Stop(), recorder):
        recorder.event("started")
        watcher = RunWatcher(folder)
        while watcher.poll().usage is None:
            threading.Event().wait(0.05)
    recorder.close()
    recorder.usage(cpu=1)  # too late, and no harm
    usage = watcher.poll().usage
    assert usage is not None
    assert usage.memory
    assert socket.gethostname() == watcher.poll().host


@pytest.mark.parametrize("t", [1e18, -1.0, 1e300])
def test_a_time_that_no_calendar_has_is_no_event(t: float, tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"t": t, "type": "message", "text": "late"}) + "\n")
    assert "late" not in [said.text for said in RunWatcher(folder).poll().said]


def test_a_run_that_goes_while_it_is_looked_at_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_runs.training(tmp_path / "run")

    def gone(_: Path) -> float:
        raise FileNotFoundError

    monkeypatch.setattr(watching, "_first_time", gone)
    assert RunsIndex(tmp_path).poll() == []


def test_a_pause_is_no_time_that_a_run_took(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run", epochs=1)
    made_runs.say(folder, "stopped", 20, error="Stopped")
    made_runs.say(folder, "resumed", 3620)
    made_runs.say(folder, "stopped", 3630, error="Stopped")
    (run,) = RunsIndex(tmp_path).poll()
    assert run.paused == 3600


def test_a_run_is_known_by_its_process(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    now = (folder / "run.json").stat().st_mtime
    assert runs.started_by(folder, os.getpid(), now - 1)
    assert not runs.started_by(folder, os.getpid(), now + 1)  # another process had that number before
    assert not runs.started_by(folder, os.getpid() + 1, now - 1)
    made_runs.describe(folder, host="elsewhere")
    assert not runs.started_by(folder, os.getpid(), now - 1)
    assert not runs.started_by(tmp_path, os.getpid(), 0)
