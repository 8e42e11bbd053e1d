"""What a folder holds: data sets, models and image files, found by what is in them. Nothing is kept open.

A scan lists the folder and its subfolders two levels deep, without hidden ones and run folders, and opens only files
that it does not know or that have changed: a folder that stays as it was costs one look at each file's date. What
takes long is left for the next scan, so that a list can grow on the screen.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import EngineError
from deepscem_tui.engine.formats import HDF5, PICTURES, suffixes
from deepscem_tui.engine.system.files import MASKS
from deepscem_tui.engine.system.lock import holder, lock_path

if TYPE_CHECKING:
    from deepscem_tui.engine.models.info import ModelInfo

__all__ = ["Catalogue", "Cataloguer", "DatasetEntry", "MemberEntry", "ModelEntry", "SampleEntry"]

Stamp = tuple[int, int, int, int]  # device, inode, bytes, nanoseconds since the epoch

_MODELS = (".keras",)
_IMAGES = tuple(suffix for suffix in suffixes("read") if suffix not in (*HDF5, *PICTURES))
_DEPTH = 2
_MOST_NAMES = 20_000  # that one scan looks at; the nearest come first
_MOST_FOLDERS = 200
_MOST_IMAGES = 1_000
_MOST_SAMPLES = 1_000  # of a data set
_YOUNG_SECONDS = 2.0  # a file as young as that may change again without another date


@dataclass(frozen=True)
class MemberEntry:
    """An array of a sample.

    Args:
        name: In the file, such as ``label_0000``.
        kind: ``image``, ``label``, ``prediction`` or ``dt``, a distance transform.
        title: The label's alias, or the name where it has none.
        dtype: Type of its voxels.
        bytes: That it takes in the file.
    """

    name: str
    kind: str
    title: str
    dtype: str
    bytes: int


@dataclass(frozen=True)
class SampleEntry:
    """A sample of a data set.

    Args:
        shape: (Z, Y, X) in voxels; None if it is broken.
        members: Image, labels, predictions, distance transforms, in this order.
        voxel_size: (Z, Y, X) in ``voxel_unit``; None if not known.
        problem: Why it cannot be used; empty if it can.
        labelled: Which part of it is labelled, in words; empty for all of it.
    """

    name: str
    shape: tuple[int, int, int] | None = None
    members: tuple[MemberEntry, ...] = ()
    voxel_size: tuple[float, float, float] | None = None
    voxel_unit: str = ""
    problem: str = ""
    labelled: str = ""

    def of_kind(self, kind: str) -> tuple[MemberEntry, ...]:
        """Its members of a kind."""
        return tuple(member for member in self.members if member.kind == kind)


@dataclass(frozen=True)
class DatasetEntry:
    """A data set file.

    Args:
        stamp: Changes whenever the file does; None if the file cannot be looked at.
        name: That it carries inside.
        more: Samples that are not listed, for there are too many.
        problem: Why it cannot be used; empty if it can.
        busy: Who is changing it; the rest is as it was before, or empty if that is not known.
    """

    path: Path
    bytes: int = 0
    stamp: Stamp | None = None
    name: str = ""
    n_labels: int = 0
    aliases: tuple[str, ...] = ()
    samples: tuple[SampleEntry, ...] = ()
    more: int = 0
    problem: str = ""
    busy: str = ""

    @property
    def readable(self) -> bool:
        """Whether it can be read now."""
        return not self.problem and not self.busy

    @property
    def has_predictions(self) -> bool:
        return any(member.kind == "prediction" for sample in self.samples for member in sample.members)

    def sample(self, name: str) -> SampleEntry | None:
        """The sample of that name."""
        return next((sample for sample in self.samples if sample.name == name), None)


@dataclass(frozen=True)
class ModelEntry:
    """A model file.

    Args:
        info: What it says of itself; None if it cannot be read.
        problem: Why it cannot be used; empty if it can.
    """

    path: Path
    bytes: int = 0
    stamp: Stamp | None = None
    info: ModelInfo | None = None
    problem: str = ""


@dataclass(frozen=True)
class Catalogue:
    """What was found.

    Args:
        elsewhere: Data sets that were asked for by their paths.
        images: Paths of image files, at most a thousand.
        n_images: How many there are.
        unread: Files that a further scan will open.
        cut: Whether there are more names than a scan looks at.
    """

    folder: Path
    datasets: tuple[DatasetEntry, ...] = ()
    elsewhere: tuple[DatasetEntry, ...] = ()
    models: tuple[ModelEntry, ...] = ()
    images: tuple[Path, ...] = ()
    n_images: int = 0
    unread: int = 0
    cut: bool = False


@dataclass
class _Found:
    """Paths of a listing, by what their names promise."""

    hdf5: list[Path] = field(default_factory=list)
    models: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    cut: bool = False


class Cataloguer:
    """Scans folders and remembers what it read; one thread at a time may use it."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Stamp, DatasetEntry | ModelEntry]] = {}

    def scan(
        self, folder: Path, further: Sequence[Path] = (), models: Sequence[Path] = (), seconds: float = 0.5
    ) -> Catalogue:
        """List a folder; what cannot be read is an entry that says why.

        Args:
            further: Data sets that lie elsewhere.
            models: Models that lie elsewhere.
            seconds: After which no further file is opened.
        """
        found = _listed(folder)
        until = time.monotonic() + seconds
        entries: list[DatasetEntry | ModelEntry] = []
        unread, keras = 0, set(found.models)
        for path in [*found.hdf5, *found.models]:
            entry = self._entry(path, path in keras, unread == 0 or time.monotonic() < until)
            if entry is None:
                unread += 1
            else:
                entries.append(entry)
        elsewhere = [_as_dataset(self._entry(path, False, True)) for path in further]
        listed = {entry.path for entry in entries if isinstance(entry, ModelEntry)}
        entries += [_as_model(self._entry(path, True, True)) for path in models if path not in listed]
        seen = {entry.path for entry in (*entries, *elsewhere) if entry is not None}
        self._known = {path: known for path, known in self._known.items() if path in seen}
        found.images.sort(key=_order)
        return Catalogue(
            folder,
            tuple(entry for entry in entries if isinstance(entry, DatasetEntry)),
            tuple(entry for entry in elsewhere if entry is not None),
            tuple(entry for entry in entries if isinstance(entry, ModelEntry)),
            tuple(found.images[:_MOST_IMAGES]),
            len(found.images),
            unread,
            found.cut,
        )

    def _entry(self, path: Path, model: bool, may_read: bool) -> DatasetEntry | ModelEntry | None:
        """What a file is; None if it is not known and may not be read now."""
        try:
            status = path.stat()
        except OSError as error:
            problem = "is not there any more" if isinstance(error, FileNotFoundError) else _reason(error)
            return ModelEntry(path, problem=problem) if model else DatasetEntry(path, problem=problem)
        stamp: Stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        old_stamp, old = self._known.get(path, (None, None))
        if not model and lock_path(path).exists() and (who := holder(path)) is not None:
            before = old if isinstance(old, DatasetEntry) else DatasetEntry(path)
            return replace(before, bytes=status.st_size, stamp=stamp, busy=f"is being changed by {who}")
        if old is not None and old_stamp == stamp:
            return old
        if not may_read:
            return None
        if not stat.S_ISREG(status.st_mode):
            return DatasetEntry(path, problem="is no regular file")
        entry = _read(path, status.st_size, stamp, model)
        if abs(time.time() - status.st_mtime) > _YOUNG_SECONDS:
            self._known[path] = (stamp, entry)
        else:  # read again next time, but keep it for while it is being changed
            self._known[path] = ((0, 0, 0, 0), entry)
        return entry


def _as_dataset(entry: DatasetEntry | ModelEntry | None) -> DatasetEntry | None:
    """What was opened as a data set; a model says that it is none."""
    if isinstance(entry, ModelEntry):
        return DatasetEntry(entry.path, entry.bytes, entry.stamp, problem="is a model: F3 shows models")
    return entry


def _as_model(entry: DatasetEntry | ModelEntry | None) -> ModelEntry:
    """What was opened as a model; a data set of the folder says that it is none."""
    assert entry is not None  # since it might be read
    if isinstance(entry, ModelEntry):
        return entry
    problem = entry.problem or "is a data set, not a model: it describes no network"
    return ModelEntry(entry.path, entry.bytes, entry.stamp, problem=problem)


# ------------------------------------------------------------------------------------------------ listing


def _listed(folder: Path) -> _Found:
    """Files of a folder and its subfolders that may be ours, the nearest folders first."""
    found = _Found()
    level, left, folders, visited = [folder], _MOST_NAMES, _MOST_FOLDERS, set()
    for depth in range(_DEPTH + 1):
        below: list[Path] = []
        for here in level:
            identity = _identity(here)
            if identity is None or identity in visited:  # gone, or a link in a circle
                continue
            visited.add(identity)
            inner: list[Path] = []
            for entry in _entries(here):
                left -= 1
                if left < 0:
                    found.cut = True
                    return _sorted(found)
                if entry.name == "run.json":  # what a run keeps is its own
                    inner = []
                    break
                _take(found, here / entry.name, entry, inner)
            below += inner
        if depth < _DEPTH and len(below) > folders:
            found.cut = True
        level = sorted(below, key=_order)[:folders]
        folders -= len(level)
    return _sorted(found)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError:
        return


def _take(found: _Found, path: Path, entry: os.DirEntry[str], folders: list[Path]) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (many times a second)
    try:
        if entry.name.lower().endswith(_IMAGES):
            found.images.append(path)
        elif suffix in HDF5 and entry.name.endswith(f"{MASKS}{suffix}"):
            return  # what of a data set is not labelled belongs to it
        elif suffix in HDF5 and entry.is_file():
            found.hdf5.append(path)
        elif suffix in _MODELS and entry.is_file():
            found.models.append(path)
        elif entry.is_dir(follow_symlinks=not suffix):
            folders.append(path)
    except OSError:
        return


def _sorted(found: _Found) -> _Found:
    found.hdf5.sort(key=_order)
    found.models.sort(key=_order)
    return found


def _order(path: Path) -> tuple[int, str, list[tuple[int, str]]]:
    """Nearest folder first, then by name, 2 before 10."""
    return len(path.parts), str(path.parent), words.natural(path.name)


# ------------------------------------------------------------------------------------------------ reading


def _read(path: Path, size: int, stamp: Stamp, model: bool) -> DatasetEntry | ModelEntry:
    """What is in a file, which is said to be a model or not."""
    from deepscem_tui.engine.models.containers import is_model  # h5py takes a while

    if model or path.suffix.lower() in _MODELS or is_model(path):
        return _read_model(path, size, stamp)
    try:
        return _read_dataset(path, size, stamp)
    except (EngineError, OSError, RuntimeError, ValueError, KeyError) as error:  # as h5py's, of what is damaged
        return DatasetEntry(path, size, stamp, problem=_reason(error, path))


def _read_model(path: Path, size: int, stamp: Stamp) -> ModelEntry:
    from deepscem_tui.engine.models.info import read_info

    try:
        return ModelEntry(path, size, stamp, read_info(path))
    except (EngineError, OSError, RuntimeError, ValueError, KeyError) as error:
        return ModelEntry(path, size, stamp, problem=_reason(error, path))


def _read_dataset(path: Path, size: int, stamp: Stamp) -> DatasetEntry:
    from deepscem_tui.engine.datasets.dataset import open_dataset
    from deepscem_tui.engine.datasets.ignoring import ignored_in
    from deepscem_tui.engine.datasets.samples import Dataset, Sample

    def read(dataset: Dataset, name: str) -> SampleEntry:
        try:
            sample = Sample(path, dataset.file, name)
            ignored = ignored_in(sample)
        except EngineError as error:
            return SampleEntry(name, problem=_reason(error, path, f"Sample {name!r} of {path} "))
        members = tuple(
            sorted(
                (_member(key, member, dataset.label_names) for key, member in sample.members.items()),
                key=lambda member: (_KINDS.index(member.kind), member.name),
            )
        )
        return SampleEntry(
            name, sample.shape, members, sample.voxel_size, sample.voxel_unit, labelled=str(ignored or "")
        )

    with open_dataset(path) as dataset:
        names = list(dataset.samples)
        samples = tuple(read(dataset, name) for name in names[:_MOST_SAMPLES])
        more = len(names) - len(samples)
        return DatasetEntry(path, size, stamp, dataset.name, dataset.n_labels, dataset.aliases, samples, more)


_KINDS = ("image", "label", "prediction", "dt")


def _member(name: str, member: object, label_names: Sequence[str]) -> MemberEntry:
    from deepscem_tui.engine.datasets.samples import Member
    from deepscem_tui.engine.datasets.tree import member_kind

    assert isinstance(member, Member)
    kind, index = member_kind(name) or ("image", 0)
    title = label_names[index] if kind != "image" and index < len(label_names) else name
    return MemberEntry(name, kind, title, member.dtype.name, member.stored_bytes)


def _reason(error: Exception, path: Path | None = None, prefix: str = "") -> str:
    """What is wrong, without the file's name, which is shown already."""
    if isinstance(error, EngineError):
        return error.what.removeprefix(prefix).removeprefix(f"{path} ")
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
