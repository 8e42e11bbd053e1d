"""Whatever an action is given ends in one message that says what, where and what to do, and leaves all as it was."""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bad_input
import pytest
from bad_input import COMMANDS, NAMES, RIGHT, Bad

from deepscem_tui.cli import main
from deepscem_tui.engine import actions
from deepscem_tui.engine.parameters import Changing

_ALL = Path("../..")
HANG_SECONDS = 120  # after which pytest itself is ended, with the place where it stood


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    before = Path.cwd()
    os.chdir(folder)
    try:
        return bad_input.make_kit(folder, lambda *words: main([*words, "--quiet"]))
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def place(kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files that are right, to work in, so deep that what is made two levels above is noticed too."""
    folder = tmp_path / "above" / "place"
    shutil.copytree(kit, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DEEPSCEM_TUI_RUNS", str(folder / "runs"))
    return folder


def judged(words: list[str], capfd: pytest.CaptureFixture[str], fine: bool, where: str = "") -> int:
    """Carry out a command and look at what it says and leaves; give its status.

    Args:
        fine: Whether it may succeed.
        where: What a refusal must name.
    """
    before = dict(bad_input.contents(_ALL))
    capfd.readouterr()
    status = main(words)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    sent = {character for character in out + err if unicodedata.category(character) in ("Cc", "Cf", "Cs")}
    assert sent <= {"\n"}, f"{sent} would reach the terminal"
    if status == 0 and fine:
        return status
    too_large = fine and status == 4 and "of memory are free" in err  # which what is described may well be
    assert status in (2, 3) or too_large, f"{status}: {err}"
    answer = json.loads(out)
    if "error" not in answer:  # a fault that was looked for and found
        assert status == 3
        assert answer["summary"]
        return status
    assert err.count("Error: ") == 1
    assert answer["hint"], answer
    assert where in answer["error"], answer
    assert dict(bad_input.contents(_ALL)) == before
    return status


def _opened() -> Iterator[Any]:
    """Every action, every file that it opens, and everything that may be wrong with it."""
    turn = 0
    for action, values in COMMANDS.items():
        for parameter in actions.declared(actions.ACTIONS[action]):
            if not parameter.opens or parameter.name not in values:
                continue
            rights = {"image": ("image.tif", "image.npy"), "dataset or image": ("data.hdf5", "image.tif", "image.npy")}
            rights |= {
                "model": ("model.keras", "model.h5"),
                "file": ("data.hdf5", "image.tif", "model.keras", "model.h5"),
            }
            for number, right in enumerate(rights.get(parameter.opens, (RIGHT.get(parameter.opens, "data.hdf5"),))):
                bads = bad_input.bad_files(parameter.opens, right)
                if number:  # of what is the same whatever the format, a third for each further one, another each time
                    common = len(bad_input.ANYTHING)
                    bads = bads[turn % 3 : common : 3] + bads[common:]
                    turn += 1
                for bad in bads:
                    yield pytest.param(
                        action,
                        parameter.name,
                        right,
                        bad,
                        id=f"{action} {parameter.name} {Path(right).suffix} {bad.name}",
                    )


def _given(action: str, parameter: str, value: str) -> dict[str, Any]:
    before = COMMANDS[action][parameter]
    return COMMANDS[action] | {parameter: [value] if isinstance(before, list) else value}


@pytest.mark.parametrize(("action", "parameter", "right", "bad"), list(_opened()))
def test_a_wrong_file(
    place: Path, capfd: pytest.CaptureFixture[str], action: str, parameter: str, right: str, bad: Bad
) -> None:
    path = Path(f"bad{Path(right).suffix}")
    bad.make(place / right, path)
    fine = bad.fine or (action == "info" and bad.name in ("a model", "a data set"))  # it says what that is
    judged(bad_input.words(action, _given(action, parameter, str(path))), capfd, fine, "bad")


def test_every_action_has_its_command() -> None:
    assert set(COMMANDS) == set(actions.ACTIONS)


@pytest.mark.parametrize("action", COMMANDS)
def test_the_commands_themselves_are_right(place: Path, capfd: pytest.CaptureFixture[str], action: str) -> None:
    assert main(bad_input.words(action, COMMANDS[action])) == 0, capfd.readouterr().err


# ------------------------------------------------------------------------------------------------------- names


def _named() -> Iterator[Any]:
    """Every action, and every name that it is given."""
    for action, values in COMMANDS.items():
        for parameter in actions.declared(actions.ACTIONS[action]):
            if parameter.name in ("name", "new", "sample", "aliases") and parameter.name in values:
                yield action, parameter.name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("action", "parameter"), list(_named()))
def test_a_name(place: Path, capfd: pytest.CaptureFixture[str], action: str, parameter: str, name: str) -> None:
    judged(bad_input.words(action, _given(action, parameter, NAMES[name])), capfd, fine=True)


def _files(made: bool) -> Iterator[Any]:
    for action, values in COMMANDS.items():
        for parameter in actions.declared(actions.ACTIONS[action]):
            kind = parameter.makes if made else parameter.opens
            if kind and kind != "folder" and parameter.name in values:
                yield action, parameter.name


def _files_with_names(made: bool) -> Iterator[Any]:
    """Every file with some of the names, every name with some of the files, and one that is no text with all."""
    for number, (action, parameter) in enumerate(_files(made)):
        names = [name for name in NAMES if not NAMES[name].startswith("/")][number % 3 :: 3]
        for name in dict.fromkeys((*names, "no UTF-8")):
            yield pytest.param(action, parameter, name, id=f"{action} {parameter} {name}")


@pytest.mark.parametrize(("action", "parameter", "name"), list(_files_with_names(made=False)))
def test_a_file_with_a_name(
    place: Path, capfd: pytest.CaptureFixture[str], action: str, parameter: str, name: str
) -> None:
    """The file is right, whatever it is called."""
    value = COMMANDS[action][parameter]
    right = place / (value[0] if isinstance(value, list) else value)
    path = Path(NAMES[name] + right.suffix)
    if there := path.name == str(path) and path.suffix == right.suffix and len(path.name) < 200:
        shutil.copy(right, path)
    there = there and bool(path.suffix or right.suffix != ".tif")  # an image is told by the end of its name
    status = judged(bad_input.words(action, _given(action, parameter, str(path))), capfd, fine=there)
    if (action, name) != ("plan", "no UTF-8"):  # what it writes is TOML, which cannot name it
        assert (status == 0) == there


@pytest.mark.parametrize(("action", "parameter", "name"), list(_files_with_names(made=True)))
def test_a_result_with_a_name(
    place: Path, capfd: pytest.CaptureFixture[str], action: str, parameter: str, name: str
) -> None:
    suffix = Path(COMMANDS[action][parameter]).suffix
    judged(bad_input.words(action, _given(action, parameter, NAMES[name] + suffix)), capfd, fine=True)


PLACES = {
    "a folder": lambda path: path.mkdir(),
    "a folder with something in it": lambda path: (path.mkdir(), (path / "file").touch()),
    "a FIFO": os.mkfifo,
    "a link to a FIFO": lambda path: (os.mkfifo("pipe"), path.symlink_to("pipe")),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "something": lambda path: path.write_text("something"),
}
UNREACHABLE = {
    "below a file": "image.tif/bad",
    "where nobody can write": "/proc/bad",
    "a name of dots": "../..",
    "empty": "",
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there", [*PLACES, *UNREACHABLE])
@pytest.mark.parametrize(("action", "parameter"), list(_files(made=True)))
def test_a_result_where_it_cannot_be(
    place: Path, capfd: pytest.CaptureFixture[str], action: str, parameter: str, there: str, overwrite: bool
) -> None:
    suffix = Path(COMMANDS[action][parameter]).suffix
    path = Path(UNREACHABLE.get(there, "bad") + suffix)
    if there in PLACES:
        PLACES[there](path)
    values = _given(action, parameter, str(path))
    known = [parameter.name for parameter in actions.declared(actions.ACTIONS[action])]
    if overwrite and "overwrite" not in known:
        pytest.skip("it never overwrites")
    judged(bad_input.words(action, values | ({"overwrite": True} if overwrite else {})), capfd, fine=True)
    if there in ("a FIFO", "a link to a FIFO"):
        assert not path.is_file()


# --------------------------------------------------------------------------------------------------- permissions

AS_OTHERS = """
import contextlib, io, json, sys
from deepscem_tui.cli import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(json.loads(line))
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


def as_others(commands: list[list[str]]) -> list[tuple[int, str, str]]:
    """Carry out commands as somebody whom permissions keep out, in one process: root may do anything otherwise."""
    program = [sys.executable, "-c", AS_OTHERS]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read and write anywhere, and there is no setpriv to take that away")
        program = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", *program]
    lines = "".join(f"{json.dumps(words)}\n" for words in commands)
    done = subprocess.run(program, input=lines, capture_output=True, text=True, timeout=300, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(commands), done.stderr
    return [(status, out, err) for status, out, err in answers]


def refused(commands: list[list[str]], where: str) -> None:
    before = dict(bad_input.contents(_ALL))
    for words, (status, out, err) in zip(commands, as_others(commands), strict=True):
        assert status in (2, 3), (words, status, out, err)
        assert "Traceback" not in out + err
        answer = json.loads(out)
        assert where in answer["error"], answer
        assert answer["hint"], answer
    assert dict(bad_input.contents(_ALL)) == before


def test_files_that_may_not_be_read(place: Path) -> None:
    commands = []
    for action, parameter in _files(made=False):
        value = COMMANDS[action][parameter]
        right = Path(value[0] if isinstance(value, list) else value)
        if right.is_file():
            path = Path(f"secret-{len(commands)}{right.suffix}")
            shutil.copy(right, path)
            path.chmod(0)
            commands.append(bad_input.words(action, _given(action, parameter, str(path))))
    assert len(commands) > 25
    refused(commands, "secret-")


def test_results_where_nobody_may_write(place: Path) -> None:
    Path("shut").mkdir(0o555)
    commands = []
    for action, parameter in _files(made=True):
        if not COMMANDS[action].get("dry_run"):
            name = Path(COMMANDS[action][parameter]).name
            commands.append(bad_input.words(action, _given(action, parameter, f"shut/{name}")))
    assert len(commands) > 8
    refused(commands, "shut")


def test_data_sets_that_may_not_be_changed(place: Path) -> None:
    Path("shut").mkdir()
    shutil.copy("data.hdf5", "shut/data.hdf5")
    Path("shut").chmod(0o555)
    changing = [
        name
        for name, action in actions.ACTIONS.items()
        if issubclass(action.parameters, Changing) and not any(item.makes for item in actions.declared(action))
    ]
    commands = [bad_input.words(name, COMMANDS[name] | {"file": "shut/data.hdf5"}) for name in changing]
    assert len(commands) > 8
    refused(commands, "shut")


# -------------------------------------------------------------------------------------------------- run folders


def _described(text: bytes) -> Callable[[Path], Any]:
    return lambda path: (path.mkdir(), (path / "run.json").write_bytes(text))


RUNS: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: None,
    "a file": lambda path: path.write_text("no folder"),
    "empty": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an empty description": _described(b""),
    "a description that is cut": _described(b'{"action": "train", "para'),
    "a description of something else": _described(b"[1, 2]"),
    "a description of nothing": _described(b"null"),
    "a description that is no text": _described(b"\xff\xfe\x00"),
    "a description nested without end": _described(b"[" * 100_000),
    "a FIFO for its description": lambda path: (path.mkdir(), os.mkfifo(path / "run.json")),
    "a folder for its description": lambda path: (path / "run.json").mkdir(parents=True),
    "a device for its description": lambda path: (path.mkdir(), (path / "run.json").symlink_to("/dev/zero")),
    "parameters of another kind": _described(
        b'{"action": "train", "parameters": [], "command": 3, "host": "h", "pid": 1, "pid_started": 0, '
        b'"working_folder": "."}'
    ),
    "an action that is unknown": _described(
        b'{"action": "\\u001b[31m", "parameters": {}, "command": "", "host": "h", "pid": 1, "pid_started": 0, '
        b'"working_folder": "."}'
    ),
}


@pytest.mark.parametrize("wrong", RUNS)
@pytest.mark.parametrize("line", ["runs show {}", "runs resume {}", "runs list", "run info {}", "run merge new.tif {}"])
def test_a_wrong_run(place: Path, capfd: pytest.CaptureFixture[str], line: str, wrong: str) -> None:
    (place / "runs").mkdir(exist_ok=True)
    RUNS[wrong](place / "runs" / "bad")
    judged([*line.format("runs/bad").split(), "--json"], capfd, fine=line != "runs resume {}")


# --------------------------------------------------------------------------------------------------- mutations

TIMES = int(os.environ.get("DEEPSCEM_TUI_FAULTS", "1"))
BLOCK = 25  # mutations in a test
MUTATED = {  # how often; what is done with the file
    "data.hdf5": (250, ["run check-dataset {}", "run preview {}", "run info {}"]),
    "segmented.hdf5": (50, ["run evaluate data.hdf5 {}"]),
    "image.tif": (200, ["run evaluate mask.tif {}", "run info {}"]),
    "mask.tif": (150, ["run evaluate mask.tif {}", "run info {}"]),
    "image.npy": (150, ["run evaluate mask.tif {}"]),
    "model.keras": (100, ["run info {}", "run convert-model {} new.keras --overwrite"]),
    "model.h5": (100, ["run info {}", "run convert-model {} new.keras --overwrite"]),
}


@pytest.mark.parametrize(
    ("name", "first"),
    [(name, first) for name, (count, _) in MUTATED.items() for first in range(0, TIMES * count, BLOCK)],
)
def test_a_file_that_is_damaged(place: Path, capfd: pytest.CaptureFixture[str], name: str, first: int) -> None:
    right, path = (place / name).read_bytes(), place / f"bad{Path(name).suffix}"
    for seed in range(first, first + BLOCK):
        path.write_bytes(bad_input.mutated(right, seed))
        for line in MUTATED[name][1]:
            try:
                judged([*line.format(path.name).split(), "--json"], capfd, fine=True)
            except BaseException:
                print(f"mutation {seed} of {name}: {line}")
                raise
