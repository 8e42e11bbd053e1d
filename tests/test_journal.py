"""The rollback journal: whatever a change is cut off at, the file is the old one or the new one."""

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.dataset_actions.copying import crop_sample
from deepscem_tui.engine.dataset_actions.distance import distance_transform
from deepscem_tui.engine.datasets import journal
from deepscem_tui.engine.datasets.dataset import ChangedDataset, change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.datasets.journal import JournalledFile, journal_path, recover
from deepscem_tui.engine.errors import DatasetError, ResourceError

SHAPE = (10, 20, 70)


def voxels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE).astype(np.float32)


def add(changed: ChangedDataset, name: str, seed: int) -> None:
    sample = changed.add_sample(name, SHAPE, {"image": np.float32, "label_0000": np.uint8}, {"seed": seed})
    sample["image"][:] = voxels(seed)
    sample["label_0000"][:] = voxels(seed) > 0.5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A data set with samples of ours and of DeepSCEM's kind."""
    file = tmp_path / "set.hdf5"
    with new_dataset(file, "set", 1, aliases=("mito",)):
        pass
    with change_dataset(file) as changed:
        add(changed, "a", 1)
        add(changed, "b", 2)
    with h5py.File(file, "r+") as raw:
        group = raw.create_group("c")
        group.attrs["shape"] = SHAPE
        group["image"] = voxels(3)
        group["label_0000"] = (voxels(3) > 0.5).astype(np.uint8)
    return file


def content(file: Path) -> dict[str, Any]:
    """All that a data set holds."""
    with open_dataset(file) as dataset:
        held: dict[str, Any] = {"": (dataset.name, dataset.aliases, dataset.attributes)}
        for name, sample in dataset.samples.items():
            held[name] = sample.attributes
            for key, member in sample.members.items():
                held[f"{name}/{key}"] = np.asarray(member).tobytes()
    return held


def changing(change: Callable[[ChangedDataset], Any]) -> Callable[[Path], None]:
    def carry_out(file: Path) -> None:
        with change_dataset(file) as changed:
            change(changed)

    return carry_out


def crop(file: Path) -> None:
    crop_sample(p.CropSample(file=file, sample="a", z=(2, 9), x=(3, 60)), Context())


def distances_twice(file: Path) -> None:
    distance_transform(p.DistanceTransform(file=file), Context())
    distance_transform(p.DistanceTransform(file=file, overwrite=True), Context())


CHANGES = {
    "add": changing(lambda changed: add(changed, "d", 4)),
    "crop": crop,
    "rename sample": changing(lambda changed: changed.rename_sample("a", "a longer name than before")),
    "rename data set": changing(lambda changed: changed.set_name("other " * 20)),
    "remove first": changing(lambda changed: changed.remove_sample("a")),
    "remove last": changing(lambda changed: changed.remove_sample("c")),
    "set aliases": changing(lambda changed: changed.set_aliases(("some other name",))),
    "clear aliases": changing(lambda changed: changed.set_aliases(())),
    "distances": changing(lambda changed: changed.add_member("b", "label_0000_dt", np.float32).__setitem__(
        slice(None), voxels(9))),
    "many at once": changing(
        lambda changed: [changed.rename_sample("b", "z"), add(changed, "b", 5), changed.remove_sample("c")]
    ),
}  # fmt: skip


class Disk:
    """Watches every operation, and keeps what the disk may hold if the process or the power goes at that moment.

    Without power, writes that no sync has followed may be there or not, in any combination.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path = path
        self.states: list[tuple[bytes, bytes | None]] = []
        self.durable: dict[Path, bytes] = {path: path.read_bytes()}
        self.pending: dict[Path, list[tuple[int, bytes | None]]] = {}
        self.random = random.Random(0)
        real = {name: getattr(journal, name) for name in ("_put", "_resize", "_sync", "_remove")}

        def put(file: Any, offset: int, data: Any) -> None:
            whole = bytes(data)
            self.keep()
            real["_put"](file, offset, whole[: len(whole) // 2])
            self.pending.setdefault(Path(file.name), []).append((offset, whole[: len(whole) // 2]))
            self.keep()
            real["_put"](file, offset, whole)
            self.pending[Path(file.name)].append((offset, whole))

        def resize(file: Any, size: int) -> None:
            self.keep()
            real["_resize"](file, size)
            self.pending.setdefault(Path(file.name), []).append((size, None))

        def sync(file: Any) -> None:
            self.keep()
            real["_sync"](file)
            self.durable[Path(file.name)] = Path(file.name).read_bytes()
            self.pending[Path(file.name)] = []
            self.keep()

        def remove(name: Path) -> None:
            self.keep()
            real["_remove"](name)
            self.keep()
            self.states.append((path.read_bytes(), self.durable[name]))  # the removal itself may not be on the disk
            del self.durable[name]

        for name, function in {"_put": put, "_resize": resize, "_sync": sync, "_remove": remove}.items():
            monkeypatch.setattr(journal, name, function)

    def keep(self) -> None:
        name = journal_path(self.path)
        self.states.append((self.path.read_bytes(), name.read_bytes() if name.exists() else None))
        if name in self.durable:
            self.states.append((self.after_a_power_cut(self.path), self.after_a_power_cut(name)))

    def after_a_power_cut(self, name: Path) -> bytes:
        held = bytearray(self.durable[name])
        for offset, data in self.pending.get(name, []):
            if self.random.random() < 0.5:
                continue
            if data is None:
                held = held[:offset] + bytes(max(0, offset - len(held)))
            else:
                held += bytes(max(0, offset - len(held)))
                held[offset : offset + len(data)] = data
        return bytes(held)


@pytest.mark.parametrize("change", CHANGES)
def test_cut_off_anywhere_it_is_the_old_or_the_new_file(
    change: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = content(path)
    with monkeypatch.context() as patched:
        disk = Disk(patched, path)
        CHANGES[change](path)
    new = content(path)
    assert new != old
    assert len(disk.states) > 20
    seen = []
    for number, (data, journalled) in enumerate(dict.fromkeys(disk.states)):
        file = tmp_path / str(number) / "set.hdf5"
        file.parent.mkdir()
        file.write_bytes(data)
        if journalled is not None:
            journal_path(file).write_bytes(journalled)
        found = content(file)
        assert found in (old, new), number
        seen.append(found == new)
        assert not journal_path(file).exists()
        with change_dataset(file) as changed:  # and it can be gone on with
            changed.set_name("next")
    assert not seen[0]
    assert seen[-1] or change == "remove last"
    assert True in seen


def test_the_test_finds_what_a_missing_journal_breaks(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = content(path)
    with monkeypatch.context() as patched:
        disk = Disk(patched, path)
        CHANGES["many at once"](path)
    new, broken = content(path), 0
    for number, (data, _) in enumerate(dict.fromkeys(disk.states)):
        file = tmp_path / str(number) / "set.hdf5"
        file.parent.mkdir()
        file.write_bytes(data)
        try:
            broken += content(file) not in (old, new)
        except DatasetError:
            broken += 1
    assert broken


def test_the_journal_is_small(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = journal._remove
    monkeypatch.setattr(journal, "_remove", lambda name: (sizes.append(name.stat().st_size), real(name)))
    CHANGES["add"](path)
    CHANGES["remove last"](path)  # cuts off the end, which is not copied
    distances_twice(path)
    assert len(sizes) == 4
    assert max(sizes) < 40_000 < path.stat().st_size


# ------------------------------------------------------------------------------------------------ the disk fails


@pytest.mark.parametrize(
    ("change", "number", "words"),
    [("add", errno.ENOSPC, "more than [0-9,]+ bytes"), ("many at once", errno.EIO, "Input/output")],
)
def test_a_disk_that_fails_leaves_the_old_file(
    change: str, number: int, words: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, old, real = path.read_bytes(), content(path), journal._put
    calls, failed = 0, False

    def put(file: Any, offset: int, data: Any) -> None:
        nonlocal calls, failed
        calls += 1
        if calls == fails_at:
            failed = True
            real(file, offset, bytes(data)[: len(bytes(data)) // 2])
            raise OSError(number, os.strerror(number))
        real(file, offset, data)

    fails_at, failures = 1, 0
    monkeypatch.setattr(journal, "_put", put)
    while True:
        calls, failed = 0, False
        with suppress(ResourceError):
            CHANGES[change](path)
            assert not failed
        assert not journal_path(path).exists()
        if not failed:
            break
        assert path.read_bytes() == before, fails_at
        assert content(path) == old
        failures, fails_at = failures + 1, fails_at + 1
    assert failures > 10
    assert content(path) != old
    calls, fails_at = 0, 6  # in the middle of it
    with pytest.raises(ResourceError, match=words):
        CHANGES["crop"](path)
    assert [file.name for file in path.parent.iterdir()] == ["set.hdf5"]


@pytest.mark.parametrize("fails_at", [1, 3, 9])
def test_nothing_is_left_of_a_new_file_that_fits_no_disk(
    fails_at: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real, calls = path.read_bytes(), journal._put, 0

    def put(file: Any, offset: int, data: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file, offset, data)

    monkeypatch.setattr(journal, "_put", put)
    with pytest.raises(ResourceError, match="more than"), new_dataset(path, "new", 1, overwrite=True) as made:
        add(made, "a", 7)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["set.hdf5"]


def test_a_roll_back_that_fails_is_made_up_for_at_the_next_opening(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = content(path)

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_remove", fail)  # neither commit nor roll-back can end
        with pytest.raises(ResourceError):
            CHANGES["many at once"](path)
    assert journal_path(path).exists()
    assert content(path) == old
    assert not journal_path(path).exists()


def break_off(path: Path, changed: ChangedDataset) -> None:
    """Change much, see it in the file, and fail."""
    before = path.read_bytes()
    changed.set_name("new")
    add(changed, "d", 4)
    changed.remove_sample("a")
    changed.file.flush()
    assert path.read_bytes() != before
    raise ZeroDivisionError


def test_an_error_in_the_block_rolls_back(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), change_dataset(path) as changed:
        break_off(path, changed)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["set.hdf5"]


# ------------------------------------------------------------------------------------------------ killed

KILLED = """
import itertools, sys, numpy as np
from deepscem_tui.engine.datasets.dataset import change_dataset
for number in itertools.count(int(sys.argv[2])):
    with change_dataset(sys.argv[1]) as changed:
        for name in changed.samples:
            changed.remove_sample(name)
        for name in ("x", "y"):
            sample = changed.add_sample(f"{name}{number}", (9, 70, 70), {"image": np.float32}, {"number": number})
            sample["image"][:] = np.full((9, 70, 70), number % 100 / 100 + 0.001)
        changed.set_name(str(number))
    print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_killed_at_any_time(tmp_path: Path) -> None:
    file, number = tmp_path / "set.hdf5", 0
    with new_dataset(file, "-1", 0):
        pass
    delays = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", KILLED, file, str(number)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delays.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
        process.wait()
        with open_dataset(file) as dataset:
            found = int(dataset.name)
            assert found >= max([number, *map(int, said)])
            assert set(dataset.samples) == {f"x{found}", f"y{found}"}
            for sample in dataset.samples.values():
                np.testing.assert_allclose(sample.image[...], found % 100 / 100 + 0.001, rtol=1e-6)
        with change_dataset(file):  # the dead process's lock is taken over
            pass
        number = found + 1


# ------------------------------------------------------------------------------------------------ journals of others


def unfinished(path: Path, tmp_path: Path) -> Path:
    """A copy of a data set with the journal of a change that broke off after it had overwritten something."""
    file = tmp_path / "unfinished" / "set.hdf5"
    file.parent.mkdir()
    file.write_bytes(path.read_bytes())
    kept: list[bytes] = []

    def keep(changed: ChangedDataset) -> None:
        try:
            break_off(file, changed)
        finally:
            kept.extend((file.read_bytes(), journal_path(file).read_bytes()))

    with pytest.raises(ZeroDivisionError), change_dataset(file) as changed:
        keep(changed)
    file.write_bytes(kept[0])
    journal_path(file).write_bytes(kept[1])
    return file


def test_a_journal_that_is_none_stays_and_is_named(path: Path) -> None:
    journal_path(path).write_text("Dear diary")
    before = path.read_bytes()
    for opening in (open_dataset, change_dataset):
        with pytest.raises(DatasetError, match="no journal"), opening(path):
            pass
    journal_path(path).write_bytes(journal._FAMILY + b"2\nof a later version")
    with pytest.raises(DatasetError, match="another version"), open_dataset(path):
        pass
    assert path.read_bytes() == before
    assert journal_path(path).exists()


@pytest.mark.parametrize("torn", [b"", b"DEEP", b"DEEPSCEM-TUI journal 1\n", bytes(300)])
def test_a_journal_whose_header_is_torn_means_nothing(torn: bytes, path: Path) -> None:
    before = path.read_bytes()
    journal_path(path).write_bytes(torn)
    with open_dataset(path) as dataset:
        assert dataset.name == "set"
    assert path.read_bytes() == before
    assert not journal_path(path).exists()


def test_a_journal_of_a_file_that_was_replaced_is_not_played_back(path: Path, tmp_path: Path) -> None:
    file = unfinished(path, tmp_path)
    assert file.read_bytes() != path.read_bytes()
    with new_dataset(tmp_path / "other.hdf5", "other", 1) as made:
        for number in range(4):
            add(made, f"sample {number}", number + 100)  # type: ignore[arg-type]
    replaced = (tmp_path / "other.hdf5").read_bytes()
    for data in (replaced, replaced[:5000]):
        file.write_bytes(data)
        with pytest.raises(DatasetError, match="does not belong"), open_dataset(file):
            pass
        assert file.read_bytes() == data
        assert journal_path(file).exists()


def test_a_journal_is_not_played_back_into_the_file_that_replaces_its_own(path: Path, tmp_path: Path) -> None:
    file = unfinished(path, tmp_path)
    with new_dataset(file, "brand new", 0, overwrite=True):
        pass
    with open_dataset(file) as dataset:
        assert (dataset.name, list(dataset.samples)) == ("brand new", [])
    file = unfinished(path, tmp_path / "unfinished")
    file.unlink()
    with new_dataset(file, "brand new", 0):
        pass
    with open_dataset(file) as dataset:
        assert dataset.name == "brand new"


def test_a_reader_who_may_not_write_is_told(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = unfinished(path, tmp_path)

    def refuse(_: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("deepscem_tui.engine.datasets.dataset.recover", refuse)
        with pytest.raises(DatasetError, match="may not be written"), open_dataset(file):
            pass
    assert content(file) == content(path)


# ------------------------------------------------------------------------------------------------ the file by itself

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 30_000), st.integers(1, 9_000)),
        st.tuples(st.just("truncate"), st.integers(0, 30_000), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(st.integers(0, 20_000), OPERATIONS, st.booleans())
def test_any_writes_are_committed_or_rolled_back(
    tmp_path_factory: pytest.TempPathFactory, size: int, operations: list[tuple[str, int, int]], commits: bool
) -> None:
    path = tmp_path_factory.mktemp("file") / "data"
    original = random.Random(size).randbytes(size)
    path.write_bytes(original)
    model, known = bytearray(original), bytearray(b"\1" * size)  # bytes behind a cut that grows again are anything
    file = JournalledFile(path)
    for number, (what, offset, length) in enumerate(operations):
        if what == "write":
            data = random.Random(number).randbytes(length)
            file.seek(offset)
            assert file.write(data) == length
            for array, part in ((model, data), (known, b"\1" * length)):
                array += bytes(max(0, offset - len(array)))
                array[offset : offset + length] = part
        else:
            file.truncate(offset)
            for array in (model, known):
                array += bytes(max(0, offset - len(array)))
                del array[offset:]
        assert file.seek(0, os.SEEK_END) == len(model)
        file.seek(0)
        assert masked(file.read(len(model)), known) == masked(model, known)
    if commits:
        file.commit()
        assert masked(path.read_bytes(), known) == masked(model, known)
    else:
        file.roll_back()
        assert path.read_bytes() == original
    assert not journal_path(path).exists()
    assert not recover(path)


def masked(data: bytes | bytearray, known: bytes | bytearray) -> list[int]:
    assert len(data) == len(known)
    return [byte if sure else -1 for byte, sure in zip(data, known, strict=True)]


def test_what_a_torn_record_held_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "data"
    original = random.Random(0).randbytes(50_000)
    path.write_bytes(original)
    file = JournalledFile(path)
    for offset in (100, 9_000, 30_000):
        file.seek(offset)
        file.write(b"new")
    file.close()
    changed, records = path.read_bytes(), journal_path(path).read_bytes()
    torn = records[:-1000]  # the last record did not reach the disk; so neither did what it protects
    path.write_bytes(changed[:30_000] + original[30_000:])
    journal_path(path).write_bytes(torn)
    assert recover(path)
    assert path.read_bytes() == original
