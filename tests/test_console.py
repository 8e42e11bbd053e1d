"""What is written where: results to stdout, the rest to stderr, and nothing that moves a cursor."""

import errno
import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from textual.color import Color

from deepscem_tui import console as module
from deepscem_tui.cli import main
from deepscem_tui.console import Console
from deepscem_tui.engine.actions import ACTIONS
from deepscem_tui.engine.errors import DataError, ParameterError, ResourceError, Stopped
from deepscem_tui.engine.parameters import Info
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.stop import Stop
from deepscem_tui.harmless import Harmless
from deepscem_tui.jobs import Jobs
from deepscem_tui.outcome import Bug, carry_out, guarded
from deepscem_tui.render.chart import shown
from deepscem_tui.settings import report_folder
from deepscem_tui.texts import safe

RESULT = Result(
    "Did it", {"path": "a.hdf5", "list": [1]}, (Table("scores", ("label", "f1"), (("mito", 0.91234), ("blank", None))),)
)


def test_a_result_as_table(capfd: pytest.CaptureFixture[str]) -> None:
    Console().result(RESULT)
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split() for line in out.splitlines() if line] == [
        ["label", "f1"], ["mito", "0.9123"], ["blank", "-"], ["path:", "a.hdf5"], ["list:", "1"], ["Did", "it"],
    ]  # fmt: skip


def test_a_result_as_json_has_the_same_facts(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.warning("odd")
    console.message("working")
    console.result(RESULT)
    out, err = capfd.readouterr()
    assert json.loads(out) == {
        "summary": "Did it",
        "path": "a.hdf5",
        "list": [1],
        "scores": [{"label": "mito", "f1": 0.91234}, {"label": "blank", "f1": None}],
        "warnings": ["odd"],
    }
    assert err == "Warning: odd\nworking\n"


def test_quiet_leaves_tables_and_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.message("working")
    console.warning("odd")
    console.result(RESULT)
    out, err = capfd.readouterr()
    assert "mito" in out
    assert "Did it" not in out
    assert err == "Warning: odd\n"


def test_numbers_that_json_has_not_become_null(capfd: pytest.CaptureFixture[str]) -> None:
    Console(as_json=True).result(Result("x", {"a": float("nan"), "b": [float("inf")], "c": {"d": 1.5}}))
    assert json.loads(capfd.readouterr().out) == {"summary": "x", "a": None, "b": [None], "c": {"d": 1.5}}


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\rb", "\x07", "\u202eabc", "\x9b31m"])
def test_control_characters_are_shown_not_sent(hostile: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert not any(character in safe(hostile) for character in "\x1b\r\x07\u202e\x9b")
    console = Console()
    console.message(hostile)
    console.warning(hostile)
    console.error(DataError(hostile, hostile))
    console.result(Result(hostile, {hostile: hostile}, (Table("t", (hostile,), ((hostile,),)),)))
    out, err = capfd.readouterr()
    assert not any(character in out + err for character in "\x1b\r\x07\u202e\x9b")


def test_markup_in_a_name_is_text(capfd: pytest.CaptureFixture[str]) -> None:
    Console().result(Result("[red]x[/red]", tables=(Table("t", ("[b]c",), (("[/nonsense]",),)),)))
    out = capfd.readouterr().out
    assert "[red]x[/red]" in out
    assert "[/nonsense]" in out


def test_progress_on_a_pipe_is_a_line_now_and_then(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    console = Console()
    for second in range(31):
        clock[0] = float(second)
        console.progress("Adding", second * 100, 3000, "slices", "note")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "Adding: 7 % (200 of 3,000 slices, 100 slices/s, 28 s left, note)"
    assert lines[-1] == "Adding: 100 % (3,000 of 3,000 slices, 100 slices/s, 30 s in all, note)"


def test_what_is_over_at_once_shows_no_progress(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.progress("Adding", 0, 2, "slices")
    console.progress("Adding", 2, 2, "slices")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ParameterError("bad", "do this"), 2, ["Error: bad", "do this"]),
        (DataError("broken"), 3, ["Error: broken"]),
        (ResourceError("full"), 4, ["Error: full"]),
        (Stopped("stopped"), 75, ["stopped"]),
        (MemoryError(), 4, ["memory"]),
        (OSError(errno.ENOSPC, "No space left on device", "out.hdf5"), 4, ["out.hdf5", "No space left", "Make space"]),
        (PermissionError(errno.EACCES, "Permission denied", "out.hdf5"), 3, ["out.hdf5: Permission denied"]),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 3, ["Broken pipe"]),  # of a process of ours, not stdout's
        (ZeroDivisionError("oops"), 1, ["bug in deepscem-tui", "ZeroDivisionError", "report"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_become_a_message_and_a_status(
    error: Exception, status: int, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert guarded(Console(), work) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert all(word in err for word in words)
    assert "Traceback" not in err


def test_an_error_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    def work(_: Stop) -> Result:
        raise DataError("broken", "mend it")

    assert carry_out(Console(as_json=True), work) == 3
    assert json.loads(capfd.readouterr().out) == {"error": "broken", "hint": "mend it", "exit_status": 3}


def test_what_is_stopped_names_its_run(capfd: pytest.CaptureFixture[str]) -> None:
    Console(as_json=True).error(Stopped("saved", "go on", Path("runs/a")))
    assert json.loads(capfd.readouterr().out)["run"] == "runs/a"


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"memory_bytes": 952164880}, "memory: 908.1 MiB"),
        ({"bytes": 512}, "size: 512 B"),
        ({"bytes_uncompressed": 2097152}, "uncompressed: 2.0 MiB"),
        ({"seconds": 2882.4}, "time: 48 min 02 s"),
        ({"pid": 15966}, "pid: 15966"),
        ({"shape": [32, 256, 256]}, "shape: 32 x 256 x 256"),
        ({"voxels": 21502.0}, "voxels: 21502"),
    ],
)
def test_facts_have_units_and_numbers_are_alike(facts: dict, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    Console().result(Result("Did it", facts, (Table("t", ("n", "mean"), ((21502, 21502.0),)),)))
    out = capfd.readouterr().out.splitlines()
    assert out[-2] == line
    assert out[1].split() == ["21502", "21502"]


def test_a_fault_that_was_found_is_status_3(capfd: pytest.CaptureFixture[str]) -> None:
    assert carry_out(Console(), lambda _: Result("found 2 problems", ok=False)) == 3
    assert "found 2 problems" in capfd.readouterr().out


# ------------------------------------------------------------------------------------------------ logs and reports


def test_verbose_shows_what_our_modules_log_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ("create-dataset d.hdf5 d 1", "check-dataset d.hdf5"):
        assert main(["run", *words.split(), "--verbose"]) == 0
    said = capfd.readouterr().err
    assert "wrote d.hdf5" in said
    assert "read d.hdf5" in said
    assert all(re.match(r" +\d+\.\d{3} s  \w+: ", line) for line in said.splitlines()), said
    assert main(["run", "info", "d.hdf5"]) == 0
    assert capfd.readouterr().err == ""
    assert not logging.getLogger("deepscem_tui").handlers


def test_a_message_stays_on_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.error(DataError("a\nError: another is damaged", "b\nc"))
    console.warning("d\ne")
    console.table(Table("t", ("a\nb",), [("c\nd",)]))
    out, err = capfd.readouterr()
    assert err.splitlines() == ["Error: a\\nError: another is damaged", "b\\nc", "Warning: d\\ne"]
    assert "c\\nd" in out


def _bug(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """What a command with a bug says, and its report."""
    assert main(words) == 1
    said = capfd.readouterr().err.splitlines()
    name = re.search(r"the file (.*)$", said[-1])
    assert name
    return said, Path(name[1]).read_text(encoding="utf-8")


def test_a_bug_leaves_a_report_to_be_attached(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(*_: Any) -> None:
        secret = "in a variable"
        raise ZeroDivisionError(f"oops\n{len(secret)}")

    monkeypatch.setenv("TOKEN", "secret of the environment")
    monkeypatch.setattr("deepscem_tui.engine.info.info", buggy)
    monkeypatch.setattr("sys.argv", ["deepscem-tui", "run", "info", "my data.hdf5"])
    said, report = _bug(["run", "info", "x.hdf5"], capfd)
    assert said[0] == "Error: A bug in deepscem-tui: ZeroDivisionError: oops\\n13"
    assert len(said) == 2
    for word in ("deepscem-tui", "Python", "tensorflow", "h5py", "run info 'my data.hdf5'", "Traceback", "buggy"):
        assert word in report
    assert "secret of the environment" not in report
    file = next(report_folder().glob("deepscem-tui-*.txt"))
    assert os.name != "posix" or file.stat().st_mode & 0o077 == 0, "for the user's eyes only"


def test_a_report_finds_another_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("deepscem_tui.engine.info.info", lambda *_: 1 / 0)
    _bug(["run", "info", "x.hdf5"], capfd)
    assert list(tmp_path.glob("deepscem-tui-*.txt"))


def test_a_bug_in_the_application_leaves_one_too_and_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepscem_tui.engine.info.info", lambda *_: 1 / 0)
    jobs = Jobs()
    job = jobs.submit(ACTIONS["info"], Info(path=Path("my data.hdf5")))
    jobs.wait()
    assert job.state == "failed"
    assert isinstance(job.error, Bug)
    report = Path(job.error.hint.removeprefix("Please report it with the file ")).read_text(encoding="utf-8")
    assert "deepscem-tui run info 'my data.hdf5'" in report
    assert "ZeroDivisionError" in report


@pytest.mark.parametrize("character", ["\x1b", "\x9b", "\u202e", "\u2028", "\udc80"])
def test_what_a_terminal_obeys_is_nowhere_shown_as_it_is(character: str) -> None:
    name = f"a{character}b"
    assert character not in safe(name)
    assert shown(name) == "a?b"
    (segment,) = Harmless().apply([Segment(name)], Color(0, 0, 0))
    assert character not in segment.text
