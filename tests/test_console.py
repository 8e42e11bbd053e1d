"""What is written where: results to stdout, the rest to stderr, and nothing that moves a cursor."""

import errno
import json

import pytest

from deepscem_tui import console as module
from deepscem_tui.console import Console, safe
from deepscem_tui.engine.errors import DataError, ParameterError, ResourceError, Stopped
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.stop import Stop
from deepscem_tui.outcome import carry_out, guarded

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


def test_a_fault_that_was_found_is_status_3(capfd: pytest.CaptureFixture[str]) -> None:
    assert carry_out(Console(), lambda _: Result("found 2 problems", ok=False)) == 3
    assert "found 2 problems" in capfd.readouterr().out
