"""The lock file: one writer at a time, who it is, and what becomes of the lock of a dead one."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.errors import DatasetError, LockedError
from deepscem_tui.engine.system import files, lock, processes
from deepscem_tui.engine.system.files import published, temporary_name
from deepscem_tui.engine.system.lock import holder, lock_path, locked
from deepscem_tui.engine.system.processes import Process, this_process


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.hdf5"


def leave_a_lock(path: Path, **changes: Any) -> dict[str, Any]:
    """A lock file that says what it is told to."""
    me = psutil.Process()
    values = {
        "host": socket.gethostname(), "pid": me.pid, "process_started": me.create_time(), "since": 0.0, "token": "abc"
    } | changes  # fmt: skip
    lock_path(path).write_text(json.dumps(values))
    return values


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_held_and_released(path: Path) -> None:
    assert holder(path) is None
    with locked(path):
        found = holder(path)
        assert found is not None
        assert (found.process.host, found.process.pid) == (socket.gethostname(), os.getpid())
        assert abs(found.since - time.time()) < 60
    assert holder(path) is None
    assert list(path.parent.iterdir()) == []


def test_released_when_the_block_fails(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(path):
        _ = 1 / 0
    assert list(path.parent.iterdir()) == []


def test_a_second_writer_is_told_who_holds_it(path: Path) -> None:
    with locked(path):
        with pytest.raises(LockedError, match=r"this process since 2\d\d\d-"), locked(path):
            pytest.fail("both hold it")
        assert holder(path) is not None  # the refused one has not taken the lock away
    code = f"""if True:
        import sys, time
        from pathlib import Path
        from deepscem_tui.engine.system.lock import locked
        with locked(Path({str(path)!r})):
            print("held", flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {other.pid} on"), locked(path):
            pytest.fail("both hold it")
        other.stdin.close()
        other.wait()
    with locked(path):
        pass


def test_a_writer_waits_for_one_who_is_about_to_finish(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 30)
    began = threading.Event()

    def hold() -> None:
        with locked(path):
            began.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    began.wait()
    with locked(path):
        thread.join(0.1)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["gone", "number used again"])
def test_the_lock_of_a_dead_process_is_taken_over(path: Path, kind: str) -> None:
    leave_a_lock(path, **({"pid": dead_process()} if kind == "gone" else {"process_started": 1e9}))
    assert holder(path) is None
    with locked(path):
        found = holder(path)
        assert found is not None
        assert found.process.pid == os.getpid()
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs what Linux tells of processes")
def test_a_clock_that_is_set_makes_nobody_dead(path: Path) -> None:
    me = this_process()
    leave_a_lock(path, process_started=me.started - 3600, process_birth=me.birth)
    with pytest.raises(LockedError, match="this process"), locked(path):
        pytest.fail("taken over from who lives")
    leave_a_lock(path, process_started=me.started - 3600, process_birth=me.birth.partition("@")[0])
    with pytest.raises(LockedError, match="this process"), locked(path):
        pytest.fail("taken over from who lives, and did not say where its number counts")
    leave_a_lock(path, process_birth=me.birth.replace("@", "0@"))  # the same number and time, but not the same process
    with locked(path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no zombies")
def test_a_process_that_nobody_has_buried_is_dead(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()  # it has ended now, or does at once
        zombie = psutil.Process(process.pid)
        while zombie.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        leave_a_lock(path, pid=zombie.pid, process_started=zombie.create_time())
        with locked(path):
            pass


@pytest.mark.skipif(os.name != "posix", reason="hides processes as Linux does")
def test_a_process_that_is_hidden_from_others_is_not_dead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid, /proc shows nothing of other users' processes: only a signal tells that they are there."""
    own, theirs, nobody = psutil.Process, os.getppid(), dead_process()

    def shown(pid: int | None = None) -> psutil.Process:
        if pid == theirs:
            raise psutil.NoSuchProcess(pid)
        return own(pid)

    def signalled(pid: int, number: int) -> None:
        assert number == 0
        raise PermissionError if pid == theirs else ProcessLookupError

    monkeypatch.setattr(psutil, "Process", shown)
    monkeypatch.setattr(os, "kill", signalled)
    assert not Process(socket.gethostname(), theirs, 1.0).dead
    assert Process(socket.gethostname(), nobody, 1.0).dead


def test_many_take_over_and_one_at_a_time_wins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 60)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.001)
    pid, inside, together, done = dead_process(), [], [], []

    def work(start: threading.Barrier) -> None:
        start.wait()
        with locked(path):
            inside.append(1)
            time.sleep(0.001)
            together.append(len(inside))
            inside.pop()
        done.append(1)

    for number in range(10):
        leave_a_lock(path, pid=pid, token=f"dead{number}")
        start = threading.Barrier(6)
        threads = [threading.Thread(target=work, args=(start,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(done) == 60
    assert set(together) == {1}
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs what Linux tells of processes")
def test_a_container_of_the_same_name_is_another_host(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of its process may be nobody's here, or another's."""
    monkeypatch.setattr(processes, "_numbers", lambda: "pid:[1]")
    theirs, left = this_process(), temporary_name(path)
    monkeypatch.undo()
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.2)
    leave_a_lock(path, pid=dead_process(), process_birth=theirs.birth)
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{dead_process()}-"))
    left.touch()
    with pytest.raises(LockedError, match=f"on {socket.gethostname()} since"), locked(path):
        pytest.fail("taken over")
    assert left.exists()


def test_the_lock_of_another_host_is_respected(path: Path) -> None:
    leave_a_lock(path, host="gpu-node-7", pid=dead_process())
    with pytest.raises(LockedError) as caught, locked(path):
        pytest.fail("taken over")
    assert "gpu-node-7" in caught.value.what
    assert f"delete {lock_path(path)}" in caught.value.hint
    assert lock_path(path).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "x"}', '{"host": "x", "pid": "a"}', "\0" * 99])
def test_a_lock_that_says_nothing_is_respected(path: Path, content: str) -> None:
    lock_path(path).write_text(content)
    with pytest.raises(LockedError, match="another process") as caught, locked(path):
        pytest.fail("taken over")
    assert str(lock_path(path)) in caught.value.hint


def test_a_take_over_that_broke_off_is_told(path: Path) -> None:
    leave_a_lock(path, pid=dead_process(), token="t")
    claim = lock_path(path).with_name("set.hdf5.lock.t")
    claim.touch()
    with pytest.raises(LockedError) as caught, locked(path):
        pytest.fail("taken over")
    assert claim.name in caught.value.hint


def test_a_take_over_whose_process_died_is_taken_over(path: Path) -> None:
    leave_a_lock(path, pid=dead_process(), token="t")
    claim = lock_path(path).with_name("set.hdf5.lock.t")
    leave_a_lock(path.with_name("claim"), pid=dead_process(), token="u")
    lock_path(path.with_name("claim")).rename(claim)
    with locked(path):
        assert not claim.exists()
    assert list(path.parent.iterdir()) == []


def test_what_the_heartbeat_of_a_run_tells_of_another_host(path: Path) -> None:
    leave_a_lock(path, host="gpu-node-7")
    with pytest.raises(LockedError), locked(path, gone=lambda found: found.process.here):
        pytest.fail("taken over")
    with locked(path, gone=lambda found: found.process.host == "gpu-node-7"):
        pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EEXIST, errno.EIO])
def test_a_link_that_was_made_though_the_server_says_otherwise(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """NFS repeats a request whose answer was lost: the link is there by then."""
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    with locked(path):
        assert json.loads(lock_path(path).read_text())["pid"] == os.getpid()
    assert list(path.parent.iterdir()) == []


def test_somebody_elses_lock_is_not_removed_at_the_end(path: Path) -> None:
    with locked(path):
        theirs = leave_a_lock(path, host="elsewhere")  # as if this one had been deleted by hand
    assert json.loads(lock_path(path).read_text()) == theirs


def test_file_systems_without_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with locked(path):
        assert json.loads(lock_path(path).read_text())["pid"] == os.getpid()
        with pytest.raises(LockedError), locked(path):
            pytest.fail("both hold it")
    assert list(path.parent.iterdir()) == []


def test_a_link_that_fails_is_no_reason_to_do_without(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(DatasetError, match="Input/output error"), locked(path):
        pytest.fail("locked without a link")
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = path.parent / "missing" / "set.hdf5"
    with pytest.raises(DatasetError, match="no lock file can be made"), locked(missing):
        pytest.fail("locked nothing")


# ------------------------------------------------------------------------------------------------ what is left behind


def test_temporary_files_of_the_dead_are_swept_and_no_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; from pathlib import Path; from deepscem_tui.engine.system.files import temporary_name as name; "
    code += "print(name(Path(sys.argv[1])).name)"
    dead = [
        path.with_name(subprocess.check_output([sys.executable, "-c", code, file], text=True).strip())
        for file in ("set.hdf5", "masks", "é ü.tif")
    ]
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-node-7")
    elsewhere, long_ago = temporary_name(path), temporary_name(path)
    monkeypatch.undo()
    alive, other = temporary_name(path), path.with_name(".set-12-34.tmp.hdf5")
    for file in (*dead, elsewhere, long_ago, alive, other):
        file.touch()
    os.utime(long_ago, (1, 1))
    files._swept.clear()
    with published(path) as temporary:
        assert set(path.parent.iterdir()) == {temporary, elsewhere, alive, other}
    assert path.exists()


def test_what_others_left_and_may_not_be_looked_at_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = temporary_name(path)
    theirs.touch()

    def refused(pid: int) -> None:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(files, "running", refused)
    monkeypatch.setattr(files, "_swept", set())
    files.sweep(path.parent)
    assert theirs.exists()


def test_what_cannot_be_removed_keeps_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-node-7")
    left = [temporary_name(path) for _ in range(3)]
    monkeypatch.undo()
    for file in left:
        file.touch()
        os.utime(file, (1, 1))
    listed = os.listdir(path.parent)  # noqa: PTH208 -- in this order
    real = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.name == listed[0]:
            raise PermissionError
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(files, "_swept", set())
    files.sweep(path.parent)
    assert os.listdir(path.parent) == listed[:1]  # noqa: PTH208


# ------------------------------------------------------------------------------------------------ data sets


@contextmanager
def made(path: Path) -> Iterator[Path]:
    with new_dataset(path, "set", 1):
        pass
    yield path


def test_readers_wait_for_a_writer_and_say_whom_they_waited_for(path: Path) -> None:
    with made(path), change_dataset(path) as changed:
        changed.set_name("new")
        for opening in (open_dataset, change_dataset):
            with pytest.raises(LockedError, match="is being changed by this process"), opening(path):
                pytest.fail("opened in the middle of a change")
        with pytest.raises(LockedError), new_dataset(path, "other", 1, overwrite=True):
            pytest.fail("replaced in the middle of a change")
    with open_dataset(path) as dataset:
        assert dataset.name == "new"


def test_readers_do_not_mind_a_dead_writers_lock(path: Path) -> None:
    with made(path):
        leave_a_lock(path, pid=dead_process())
        with open_dataset(path) as dataset:
            assert dataset.name == "set"


def test_a_link_to_a_data_set_shares_its_lock(path: Path) -> None:
    with made(path):
        link = path.parent / "other folder" / "link.hdf5"
        link.parent.mkdir()
        link.symlink_to(path)
        with change_dataset(link), pytest.raises(LockedError), change_dataset(path):
            pytest.fail("two writers")
        with change_dataset(link) as changed:
            changed.set_name("through the link")
        assert link.is_symlink()
        with open_dataset(path) as dataset:
            assert dataset.name == "through the link"


def test_a_file_system_that_knows_no_kernel_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with made(path):
        with change_dataset(path) as changed:
            changed.set_name("changed")
            with pytest.raises(LockedError), change_dataset(path):
                pytest.fail("two writers")
        with open_dataset(path) as dataset:
            assert dataset.name == "changed"
