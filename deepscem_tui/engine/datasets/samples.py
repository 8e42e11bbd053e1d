"""A data set and its samples as they are read: every access is checked, and what is broken is told by its name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape
from deepscem_tui.engine.datasets import tree
from deepscem_tui.engine.datasets.layout import SCALE, read_attributes
from deepscem_tui.engine.datasets.tree import Unusable
from deepscem_tui.engine.errors import DatasetError

__all__ = ["Dataset", "Member", "Sample"]


CHECK = "List what is wrong with: deepscem-tui run check-dataset FILE"
_ROOT = ("name", "labels", "labels_aliases")


class Member:
    """An array (Z, Y, X) of a sample, read by slicing as h5py's are; damage is told with the member's name.

    Probabilities that are stored as uint8 with the attribute :data:`SCALE` are read as float32 from 0 to 1.

    Attributes:
        shape: (Z, Y, X).
        dtype: Of the voxels as they are read.
        chunks: Shape of a chunk; None where the array lies in one piece.
        compression: Such as "gzip"; None for none.
        id: h5py's low-level identifier.
    """

    def __init__(self, dataset: h5py.Dataset, what: str) -> None:
        self.shape: Shape = dataset.shape
        self._scale = _scale(dataset)
        self.dtype: np.dtype[Any] = dataset.dtype if self._scale is None else np.dtype(np.float32)
        self.chunks: Shape | None = dataset.chunks
        self.compression: str | None = dataset.compression
        self.id = dataset.id
        self.what = what
        self._dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        try:
            stored = self._dataset[key]
            return stored if self._scale is None else stored * self._scale
        except (OSError, RuntimeError) as error:  # of a damaged chunk, or of the disk
            raise DatasetError(f"{self.what} cannot be read ({words.reason(error)})", CHECK) from error

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[...], dtype)

    @property
    def depth(self) -> int:
        """Slices that are best read together."""
        return self.chunks[0] if self.chunks else 1

    @property
    def stored_bytes(self) -> int:
        """Bytes that the array takes in the file; 0 where damage hides it, which reading the array tells."""
        try:
            return int(self.id.get_storage_size())
        except (OSError, RuntimeError):
            return 0


def _scale(dataset: h5py.Dataset) -> np.float32 | None:
    """What the stored values are multiplied by; None where they stand for themselves."""
    scale = read_attributes(dataset.attrs).get(SCALE) if dataset.dtype == np.uint8 else None
    return np.float32(scale) if isinstance(scale, float) and 0 < scale <= 1 else None


class Sample:
    """An image with its labels or predictions.

    Attributes:
        name: Of the sample.
        path: Of the data set.
        shape: (Z, Y, X).
        members: All arrays by their names in the file.
        others: Names of what else is in the sample, which neither DeepSCEM nor we know.
        labels: Masks, uint8 0 or 1, in order.
        predictions: Masks (uint8 0 or 1) or probabilities (float32), in order.
        distance_transforms: float32, distances to the background, in order of the labels that have one.
        attributes: What is stored beside DeepSCEM's own.
        voxel_size: Size of a voxel (Z, Y, X) in ``voxel_unit``, None if not known.
        voxel_unit: Such as "nm"; empty if not known.
    """

    def __init__(self, path: Path, file: h5py.File, name: str) -> None:
        self.name = name
        self.path = path
        self.what = f"Sample {name!r} of {path}"
        try:
            self._group, self.shape = tree.open_sample(file, name)
            found = tree.names(self._group)
            self.others = tuple(name for name in found if tree.member_kind(name) is None)
            self.members = {
                member: Member(self._open(member), f"{self.what}, {member},")
                for member in found
                if member not in self.others
            }
        except Unusable as error:
            raise DatasetError(f"{self.what} {error}", CHECK) from error
        self.labels = self._in_order("label")
        self.predictions = self._in_order("prediction")
        self.distance_transforms = tuple(self.members[name] for name in sorted(self.members) if name.endswith("_dt"))
        self.attributes = {
            key: value for key, value in read_attributes(self._group.attrs).items() if key != "shape"
        }  # fmt: skip
        self.voxel_size = _voxel_size(self.attributes.get("voxel_size"))
        self.voxel_unit = str(self.attributes.get("voxel_unit", "")) if self.voxel_size else ""

    @property
    def image(self) -> Member:
        """The image, float, 0-1.

        Raises:
            DatasetError: the sample has none, as a prediction may.
        """
        if "image" not in self.members:
            raise DatasetError(f"{self.what} has no image", "Use a data set whose samples have images.")
        return self.members["image"]

    def _open(self, member: str) -> h5py.Dataset:
        try:
            return tree.open_member(self._group, member, self.shape)
        except Unusable as error:
            raise Unusable(f"has a member {member} that {error}") from error

    def _in_order(self, kind: str) -> tuple[Member, ...]:
        found = sorted(name for name in self.members if tree.member_kind(name)[0] == kind)  # type: ignore[index]
        wanted = [tree.member_name(kind, index) for index in range(len(found))]
        if found != wanted:
            missing = next(name for name in wanted if name not in found)
            raise DatasetError(f"{self.what} has {found[-1]}, but no {missing}", CHECK)
        return tuple(self.members[name] for name in found)


def _voxel_size(value: Any) -> tuple[float, float, float] | None:
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    if not all(isinstance(size, int | float) and 0 < size < float("inf") for size in value):
        return None
    z, y, x = map(float, value)
    return z, y, x


class _Samples(Mapping[str, Sample]):
    """Samples by name; each is looked at when it is asked for, so that one that is broken hides no other."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path, self._file = path, file

    def __iter__(self) -> Iterator[str]:
        try:
            return iter(tree.names(self._file))
        except Unusable as error:
            raise DatasetError(f"{self._path}: {error}", "Restore it from a copy.") from error

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in list(iter(self))

    def __getitem__(self, name: str) -> Sample:
        if name not in self:
            raise KeyError(name)
        return Sample(self._path, self._file, name)


class Dataset:
    """A data set that is open.

    Attributes:
        path: The file.
        name: The name inside it.
        n_labels: Labels of each sample.
        aliases: Names of the labels; empty if they have none.
        file: h5py's.
        samples: By name, in h5py's order; getting one that is broken raises :class:`DatasetError`.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.file = file
        try:
            self.name, self.n_labels, self.aliases = tree.root_facts(file)
        except Unusable as error:
            hint = "Give a data set made by DeepSCEM or create-dataset."
            if str(error).startswith(tree.OF_OTHERS):
                from deepscem_tui.engine.formats.hdf5_arrays import hint_in  # which only a file of others needs

                hint = hint_in(path, file) or hint
            raise DatasetError(f"{path} {error}", hint) from error
        self.samples: Mapping[str, Sample] = _Samples(path, file)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The aliases, or ``label_0000`` ... where there are none."""
        return self.names_for(self.n_labels)

    def names_for(self, count: int) -> tuple[str, ...]:
        """The names of so many labels; DeepSCEM lets a sample have more than the data set says."""
        further = range(len(self.aliases), count)
        return self.aliases[:count] + tuple(tree.member_name("label", index) for index in further)

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the root beside DeepSCEM's own."""
        return {key: value for key, value in read_attributes(self.file.attrs).items() if key not in _ROOT}

    def sample(self, name: str) -> Sample:
        """A sample by its name.

        Raises:
            DatasetError: there is none of that name, or it is broken.
        """
        self.require(name)
        return self.samples[name]

    def require(self, name: str) -> None:
        """Raise :class:`DatasetError`, which names the nearest ones, if there is no sample of that name."""
        names = list(self.samples)
        if name in names:
            return
        near = difflib.get_close_matches(name, names, 3) or names[:10]
        listed = ", ".join(map(repr, near)) + (", ..." if len(near) == 10 < len(names) else "")
        hint = f"It has {listed}." if names else "It has no samples."
        raise DatasetError(f"{self.path} has no sample {name!r}", hint, "sample")

    def check_new(self, name: str, parameter: str = "name") -> None:
        """Raise :class:`DatasetError` about a parameter if a new sample cannot have that name."""
        unfit = not name or "/" in name or "\0" in name or name in (".", "..")
        if unfit or any("\ud800" <= character <= "\udfff" for character in name):
            what = f"{name!r} cannot be the name of a sample of {self.path}"
            raise DatasetError(what, "Use a name of letters and digits, without '/'.", parameter)
        if name in self.samples:
            raise DatasetError(f"{self.path} has a sample {name!r} already", "Choose another name.", parameter)
