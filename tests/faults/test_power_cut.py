"""The power fails while a data set is changed: whichever of the last writes reached the disk, it is old or new."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kills import TIMES

from deepscem_tui.engine.datasets import journal
from deepscem_tui.engine.datasets.dataset import ChangedDataset, change_dataset, new_dataset
from deepscem_tui.engine.datasets.journal import journal_path, recover

STATES = 400  # of each change; `make faults` looks at ten times as many
SECTOR = 512
SHAPE = (9, 24, 40)


def voxels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE).astype(np.float32)


def add(changed: ChangedDataset, name: str, seed: int) -> None:
    sample = changed.add_sample(name, SHAPE, {"image": np.float32, "label_0000": np.uint8}, {"seed": seed})
    sample["image"][:] = voxels(seed)
    sample["label_0000"][:] = voxels(seed) > 0.5


def several(changed: ChangedDataset) -> None:
    changed.rename_sample("b", "z")
    add(changed, "b", 5)
    changed.remove_sample("c")
    changed.set_aliases(("other",))


CHANGES = {
    "add": lambda changed: add(changed, "d", 4),
    "rename": lambda changed: changed.rename_sample("a", "a longer name than before"),
    "remove first": lambda changed: changed.remove_sample("a"),
    "remove last": lambda changed: changed.remove_sample("c"),
    "replace": lambda changed: changed.add_member("b", "label_0000", np.uint8).__setitem__(
        slice(0, 9), voxels(7) > 0.3
    ),
    "several": several,
}


@dataclass
class OnDisk:
    """A file: what is durable, and what may be on the disk or not.

    Args:
        pending: Since the last sync: an offset and bytes, or a size and None.
    """

    durable: bytes
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        """Sectors reach the disk one by one."""
        position = 0
        while position < len(data):
            length = min(SECTOR - (offset + position) % SECTOR, len(data) - position)
            self.pending.append((offset + position, data[position : position + length]))
            position += length

    def after(self, reached: list[bool]) -> bytes:
        """What the disk holds if only those of the pending that are true have reached it."""
        held = bytearray(self.durable)
        for (offset, data), there in zip(self.pending, reached, strict=True):
            if not there:
                continue
            held += bytes(max(0, offset - len(held)))
            if data is None:
                del held[offset:]
            else:
                held[offset : offset + len(data)] = data
        return bytes(held)


@dataclass(frozen=True)
class Moment:
    """The disk between two operations.

    Args:
        file: The data set.
        journal: Its journal; None while there is none.
        may_be_gone: Whether the folder on the disk may not have the journal.
        may_be_there: Whether it may still have one that was removed.
    """

    file: OnDisk
    journal: OnDisk | None
    may_be_gone: bool
    may_be_there: OnDisk | None


class Recorder:
    """Follows every change of the disk that the journal makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path = path
        self.files = {path: OnDisk(path.read_bytes())}
        self.moments: list[Moment] = []
        self.journal_durable = False  # its name, in the folder
        self.removed: OnDisk | None = None
        for name in ("_put", "_resize", "_sync", "_remove", "sync_folder"):
            monkeypatch.setattr(journal, name, self._watched(name, getattr(journal, name)))

    def _watched(self, name: str, real: Any) -> Any:
        def call(*given: Any) -> None:
            if name == "_put":
                self._of(given[0]).write(given[1], bytes(given[2]))
            elif name == "_resize":
                self._of(given[0]).pending.append((given[1], None))
            self._keep()
            real(*given)
            if name == "_sync":
                file = self._of(given[0])
                file.durable, file.pending = Path(given[0].name).read_bytes(), []
            elif name == "_remove":
                self.removed = self.files.pop(given[0])
            elif name == "sync_folder":
                self.journal_durable, self.removed = journal_path(self.path) in self.files, None
            self._keep()

        return call

    def _of(self, file: Any) -> OnDisk:
        return self.files.setdefault(Path(file.name), OnDisk(b""))

    def _keep(self) -> None:
        kept = {name: OnDisk(file.durable, list(file.pending)) for name, file in self.files.items()}
        there = kept.get(journal_path(self.path))
        self.moments.append(Moment(kept[self.path], there, not self.journal_durable, self.removed))


def states(moment: Moment, chance: random.Random, number: int) -> Iterator[tuple[bytes, bytes | None]]:
    """What the disk may hold: nothing of what is pending, all of it, all but one, the first so many, any of it."""
    for index in range(number):
        kind = chance.choice(("none", "all", "all but one", "first", "any")) if index > 1 else ("none", "all")[index]
        journals = [moment.journal] if not moment.may_be_gone else [moment.journal, None]
        journals += [moment.may_be_there] if moment.may_be_there is not None else []
        chosen = chance.choice(journals)
        file = moment.file.after(reached(kind, len(moment.file.pending), chance))
        there = None
        if chosen is not None:
            how = chance.choice((kind, "any", "all"))
            there = chosen.after(reached(how, len(chosen.pending), chance))
        yield file, there


def reached(kind: str, count: int, chance: random.Random) -> list[bool]:
    if kind == "all but one":
        left_out = chance.randrange(count) if count else 0
        return [index != left_out for index in range(count)]
    if kind == "first":
        first = chance.randint(0, count)
        return [index < first for index in range(count)]
    share = {"none": 0.0, "all": 1.0}.get(kind, chance.choice((0.1, 0.5, 0.9)))
    return [chance.random() < share for _ in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A data set of three samples."""
    made = tmp_path / "set.hdf5"
    with new_dataset(made, "set", 1, aliases=("mito",)):
        pass
    with change_dataset(made) as changed:
        for sample, seed in (("a", 1), ("b", 2), ("c", 3)):
            add(changed, sample, seed)
    return made


def put_on(path: Path, file: bytes, there: bytes | None) -> None:
    """Make a data set and its journal what a disk holds."""
    path.write_bytes(file)
    journal_path(path).unlink(missing_ok=True)
    if there is not None:
        journal_path(path).write_bytes(there)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: of no use to the thousands that are made up here."""
    for durable in ("_sync", "sync_folder"):
        monkeypatch.setattr(journal, durable, lambda *_: None)


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_reached_the_disk_it_is_old_or_new(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = path.read_bytes()
    with monkeypatch.context() as patched:
        recorder = Recorder(patched, path)
        with change_dataset(path) as changed:
            CHANGES[name](changed)
    new = path.read_bytes()
    assert new != old
    quick(monkeypatch)
    chance = random.Random(name)
    each = max(2, STATES * TIMES // len(recorder.moments))
    outcomes = {"old": 0, "new": 0}
    for number, moment in enumerate(recorder.moments):
        for file, there in states(moment, chance, each):
            put_on(path, file, there)
            recover(path)
            found = path.read_bytes()
            where = f"{name}, moment {number} of {len(recorder.moments)}"
            # A file that was cut off at the end of its change may still have what lay behind.
            assert found == old or found[: len(new)] == new, where
            assert not journal_path(path).exists()
            outcomes["old" if found == old else "new"] += 1
    assert min(outcomes.values()) > 0
    assert sum(outcomes.values()) >= STATES * TIMES // 2


def test_the_power_fails_again_while_a_change_is_undone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, journalled = path.read_bytes(), b""

    def break_off(changed: ChangedDataset) -> None:
        nonlocal journalled
        several(changed)
        changed.file.flush()
        journalled = journal_path(path).read_bytes()
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("deepscem_tui.engine.datasets.dataset._roll_back", lambda file: file.close())
        with pytest.raises(ZeroDivisionError), change_dataset(path) as changed:
            break_off(changed)
    half = path.read_bytes()
    assert half != old
    with monkeypatch.context() as patched:
        recorder = Recorder(patched, path)
        recorder.files[journal_path(path)] = OnDisk(journalled)
        recorder.journal_durable = True
        recover(path)
    assert path.read_bytes() == old
    quick(monkeypatch)
    chance = random.Random(0)
    for number, moment in enumerate(recorder.moments):
        for file, there in states(moment, chance, max(2, STATES * TIMES // len(recorder.moments))):
            put_on(path, file, there)
            recover(path)
            assert path.read_bytes() == old, number
