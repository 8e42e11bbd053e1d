"""Data sets in DeepSCEM's HDF5 format: reading, making, and changing in place.

A file holds what DeepSCEM reads and nothing else in the tree: a group for each sample with ``image``, ``label_0000``
..., ``prediction_0000`` ...; what we add lies in attributes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets import tree
from deepscem_tui.engine.datasets.hdf5_files import check_file, h5py_file, real_path, session, unopened, writing
from deepscem_tui.engine.datasets.journal import JournalledFile, WatchedFile, is_journalled, journal_path, recover
from deepscem_tui.engine.datasets.layout import MemberWriter, create_member, write_attributes
from deepscem_tui.engine.datasets.probing import remember
from deepscem_tui.engine.datasets.samples import Dataset, Member, Sample
from deepscem_tui.engine.errors import DatasetError, LockedError
from deepscem_tui.engine.system.files import Together, published, refuse_existing
from deepscem_tui.engine.system.lock import locked, wait_until_free

__all__ = [
    "ChangedDataset",
    "Dataset",
    "Member",
    "MemberWriter",
    "NewDataset",
    "Sample",
    "change_dataset",
    "datasets_together",
    "new_dataset",
    "open_dataset",
    "real_path",
]

_log = logging.getLogger(__name__)


_PUBLISH_SECONDS = 60.0  # the work of hours waits longer for another's change than a command does


class NewSample:
    """A sample that is being filled: ``sample["image"][z0:z1] = slab``, slices in ascending order."""

    def __init__(self, name: str, members: Mapping[str, MemberWriter]) -> None:
        self.name = name
        self._members = members

    def __getitem__(self, member: str) -> MemberWriter:
        return self._members[member]


class NewDataset(Dataset):
    """A data set that samples can be added to."""

    def __init__(self, path: Path, file: h5py.File, pool: ThreadPoolExecutor) -> None:
        super().__init__(path, file)
        self._pool = pool
        self._writers: list[MemberWriter] = []

    def add_sample(
        self,
        name: str,
        shape: Sequence[int],
        members: Mapping[str, npt.DTypeLike],
        attributes: Mapping[str, Any] | None = None,
    ) -> NewSample:
        """Add a sample whose members are all 0 until they are filled.

        Args:
            name: Of the sample.
            shape: (Z, Y, X).
            members: Names, such as ``image`` and ``label_0000``, with their types.
            attributes: What to store with it: texts, numbers, or sequences of them; None is left out.

        Raises:
            DatasetError: the name is taken, or no name for a sample.
        """
        unknown = [member for member in members if tree.member_kind(member) is None]
        if unknown or len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"members {unknown} or shape {shape} do not belong in a data set")
        self.check_new(name)
        size: Shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        group = self.file.create_group(name)
        group.attrs["shape"] = np.asarray(size, np.int64)
        write_attributes(group.attrs, attributes or {}, f"Sample {name!r} of {self.path}")
        made = {member: self._member(group, member, size, dtype) for member, dtype in members.items()}
        return NewSample(name, made)

    def _member(self, group: h5py.Group, name: str, shape: Shape, dtype: npt.DTypeLike) -> MemberWriter:
        writer = MemberWriter(create_member(group, name, shape, dtype), self._pool)
        self._writers.append(writer)
        return writer

    def set_attributes(self, values: Mapping[str, Any], sample: str | None = None) -> None:
        """Store values as attributes of the root or of a sample; None is left out."""
        owner = self.file if sample is None else tree.open_sample(self.file, sample)[0]
        whose = str(self.path) if sample is None else f"Sample {sample!r} of {self.path}"
        write_attributes(owner.attrs, values, whose)

    def remove_attributes(self, names: Sequence[str], sample: str) -> None:
        """Take attributes away from a sample, those of them that it has."""
        attributes = tree.open_sample(self.file, sample)[0].attrs
        for name in names:
            if name in attributes:
                del attributes[name]

    def finish(self) -> None:
        """Write what is still held; called when the block that made or changed the data set ends well."""
        for writer in self._writers:
            writer.finish()


class ChangedDataset(NewDataset):
    """A data set that is changed in place; nothing of it is final until the block ends well."""

    def __init__(self, path: Path, file: h5py.File, pool: ThreadPoolExecutor) -> None:
        super().__init__(path, file, pool)
        self._replaced: list[tuple[h5py.Group, str]] = []

    def set_name(self, name: str) -> None:
        """Change the name inside the file."""
        self.file.attrs["name"] = name
        self.name = name

    def set_aliases(self, aliases: Sequence[str]) -> None:
        """Name the labels, one name for each; none takes the names away."""
        if aliases and len(aliases) != self.n_labels:
            raise ValueError(f"{len(aliases)} aliases for {self.n_labels} labels")
        if aliases:
            write_attributes(self.file.attrs, {"labels_aliases": tuple(aliases)}, str(self.path))
        elif "labels_aliases" in self.file.attrs:
            del self.file.attrs["labels_aliases"]
        self.aliases = tuple(aliases)

    def rename_sample(self, old: str, new: str) -> None:
        """Rename a sample, a broken one too.

        Raises:
            DatasetError: there is none, or the new name is taken or no name.
        """
        self.require(old)
        self.check_new(new, "new")
        self.file.move(tree.stored_name(old), new)

    def remove_sample(self, name: str) -> None:
        """Remove a sample, a broken one too.

        Raises:
            DatasetError: there is none.
        """
        self.require(name)
        del self.file[tree.stored_name(name)]

    def add_member(self, sample: str, member: str, dtype: npt.DTypeLike) -> MemberWriter:
        """Add a member to a sample, in place of one that it has."""
        group, shape = tree.open_sample(self.file, sample)
        if member in tree.names(group):
            # Removed at the end only: its space would be used for the new one, and had to be journalled first.
            group.move(member, f"{member}.replaced")
            self._replaced.append((group, f"{member}.replaced"))
        return self._member(group, member, shape, dtype)

    def finish(self) -> None:
        super().finish()
        for group, name in self._replaced:
            del group[name]


# ------------------------------------------------------------------------------------------------ opening


@contextmanager
def open_dataset(path: Path) -> Iterator[Dataset]:
    """Open a data set for reading. Nothing is written, unless a change that broke off has to be undone first.

    Raises:
        LockedError: another process is changing it.
        DatasetError: it does not exist, or is no data set.
    """
    path = Path(path)
    check_file(path)
    for _ in range(3):
        _wait_for_a_whole_file(real_path(path))
        with h5py_file(path, path, "r", locking=False) as file:
            _log.debug("read %s", path)
            dataset = Dataset(path, file)
            if not is_journalled(real_path(path)):  # else a change has begun since
                yield dataset
                return
    raise LockedError(f"{path} is being changed again and again", "Try again later.")


def _wait_for_a_whole_file(path: Path) -> None:
    wait_until_free(path)
    if not is_journalled(path):
        return
    _log.debug("undo the change of %s that broke off", path)
    try:
        with locked(path):
            recover(path)
    except LockedError:
        raise
    except (OSError, DatasetError) as error:
        if isinstance(error, DatasetError) and str(journal_path(path)) in error.what:
            raise
        what = f"A change of {path} broke off and must be undone before it can be read, but it may not be written"
        raise DatasetError(what, "Let somebody who may write it open it once (run check-dataset).") from error


@contextmanager
def new_dataset(
    path: Path,
    name: str,
    n_labels: int,
    aliases: Sequence[str] = (),
    overwrite: bool = False,
    before_publishing: Callable[[], None] = lambda: None,
    before: Callable[[Path], None] = lambda _: None,
    together: Together | None = None,
) -> Iterator[NewDataset]:
    """Make a data set; it appears when the block ends well, and nothing is left of it otherwise.

    Args:
        path: File to make.
        name: The name inside it.
        n_labels: Labels of each sample.
        aliases: Names of the labels; none or one for each.
        overwrite: Replace the file if it exists.
        before_publishing: Called under the file's lock when all is written; what it raises prevents the publishing.
        before: See :func:`~deepscem_tui.engine.system.files.published`.
        together: Of :func:`datasets_together`, which publishes it with others.

    Raises:
        ParameterError: the file exists already.
        LockedError: it exists and is being changed.
        ResourceError: the disk is full.
        DatasetError: it cannot be written.
    """
    path = real_path(Path(path))
    if aliases and len(aliases) != n_labels:
        raise ValueError(f"{len(aliases)} aliases for {n_labels} labels")
    refuse_existing(path, overwrite)
    wait_until_free(path)
    with ExitStack() as stack:
        with writing(path):
            temporary = stack.enter_context(published(path, before=before, together=together))
            watched = stack.enter_context(WatchedFile(temporary))
        with session(path, watched, "w") as (file, pool):
            write_attributes(file.attrs, {"name": name, "labels": np.int64(n_labels)}, str(path))
            if aliases:
                write_attributes(file.attrs, {"labels_aliases": tuple(aliases)}, str(path))
            dataset = NewDataset(path, file, pool)
            yield dataset
            dataset.finish()
        watched.close()
        with writing(path), locked(path, _PUBLISH_SECONDS):
            _forget_journal(path)
            refuse_existing(path, overwrite)
            before_publishing()
            stack.close()
    if together is None:
        remember(path)


@contextmanager
def datasets_together() -> Iterator[Together]:
    """New data sets that appear together when the block ends well, in place of what was there, or not at all.

    Raises:
        LockedError: one that is there is being changed.
    """
    with ExitStack() as locks, Together() as together:
        yield together
        for path in together.paths:
            with writing(path):
                locks.enter_context(locked(path, _PUBLISH_SECONDS))
                _forget_journal(path)
    for path in together.paths:
        remember(path)


def _forget_journal(path: Path) -> None:
    """Finish with a journal before the file is replaced: it would be played back into the new one."""
    if is_journalled(path):
        if path.exists():
            recover(path)
        else:
            journal_path(path).unlink()


@contextmanager
def change_dataset(path: Path) -> Iterator[ChangedDataset]:
    """Change a data set in place: all of it when the block ends well, nothing of it otherwise, even after a crash.

    Raises:
        LockedError: another process is changing it.
        ResourceError: the disk is full, or fails.
        DatasetError: it does not exist, is no data set, or may not be written.
    """
    check_file(Path(path))
    path = real_path(Path(path))
    with locked(path), unopened(path), ExitStack() as stack:
        with writing(path):
            recover(path)
            with h5py_file(path, path, "r", locking=False) as file:
                Dataset(path, file)  # what is no data set is not touched
            journalled = JournalledFile(path)
        _log.debug("change %s", path)
        stack.callback(_roll_back, journalled)
        with session(path, journalled, "r+") as (file, pool):
            dataset = ChangedDataset(path, file, pool)
            yield dataset
            dataset.finish()
        with writing(path, journalled):
            journalled.commit()
    remember(path)


def _roll_back(file: JournalledFile) -> None:
    if not file.closed:
        with writing(file.path):
            file.roll_back()
