"""What DeepSCEM reads of a data set and what it does with it, as a model to hold our files against.

Written down from its behaviour: each class of error here is a crash, an exception or a wrong picture there. It opens
files for writing, so give it copies of what is to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import tifffile

Array = npt.NDArray[Any]


class Stumbles(AssertionError):
    """DeepSCEM would fail, or show or compute something else than what is meant."""


@dataclass(frozen=True)
class Tree:
    """What its list of data sets shows: members by sample, in its order."""

    name: str
    labels: int
    aliases: tuple[str, ...]
    samples: dict[str, list[str]]


class DeepSCEM:
    """A data set that is loaded in DeepSCEM."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "a")

    def __enter__(self) -> DeepSCEM:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    # -------------------------------------------------------------------------------------------- list and view

    def tree(self) -> Tree:
        """Load it: everything at the root is a sample, everything in a sample an array."""
        for key in ("name", "labels"):
            if key not in self.file.attrs:
                raise Stumbles(f"no attribute {key!r}")
        name, labels = self.file.attrs["name"], self.file.attrs["labels"]
        if not isinstance(name, str) or not isinstance(labels, np.integer):
            raise Stumbles(f"name {name!r}, labels {labels!r}")
        aliases = tuple(self.file.attrs.get("labels_aliases", ()))
        if aliases and (len(aliases) != labels or not all(isinstance(alias, str) for alias in aliases)):
            raise Stumbles(f"aliases {aliases}")
        samples = {}
        for sample in self.file:
            if not isinstance(self.file[sample], h5py.Group):
                raise Stumbles(f"{sample!r} is no group")
            samples[sample] = list(self.file[sample])
        return Tree(name, int(labels), aliases, samples)

    def view(self, sample: str, z: int, chosen: Sequence[str]) -> Array:
        """A slice as it paints it: the first member in grey, each further one in a colour where it is above 0.

        Returns:
            uint8 (Y, X), or (Y, X, 3) with further members.
        """
        data = self.file[sample]
        first = data[chosen[0]]
        if first.ndim != 3 or first.shape[0] <= z:
            raise Stumbles(f"{chosen[0]} of {sample!r} is {first.shape}")
        scaled = first[z] * 255
        if not np.isfinite(scaled).all() or scaled.min() < 0 or scaled.max() > 255:
            raise Stumbles(f"{chosen[0]} of {sample!r} leaves the 256 grey values")
        picture = scaled.astype(np.uint8)
        if len(chosen) == 1:
            return picture
        colours = np.stack([picture] * 3, -1)
        for index, member in enumerate(chosen[1:]):
            colours[data[member][z] > 0, index % 3] = 255
        return colours

    # -------------------------------------------------------------------------------------------- training, evaluation

    def training_data(self) -> tuple[list[Array], list[Array]]:
        """Images (Z, Y, X, 1) and labels (Z, Y, X, L) of all samples, read whole."""
        images, labels = [], []
        for sample in self.file.values():
            image, masks = None, []
            for name, member in sample.items():
                if "image" in name:
                    image = member[...][..., None]
                elif "label" in name:
                    masks.append(member[...].astype(np.float32))
                else:
                    raise Stumbles(f"{sample.name} has {name}, which is neither image nor label")
            if image is None or not masks:
                raise Stumbles(f"{sample.name} has no image or no labels")
            if any(mask.shape != image.shape[:3] for mask in masks) or image.ndim != 4:
                raise Stumbles(f"{sample.name}: shapes differ")
            images.append(image)
            labels.append(np.stack(masks, -1))
        return images, labels

    def prediction_data(self) -> dict[str, Array]:
        """The images that it would predict, (Z, Y, X, 1)."""
        found = {}
        for name, sample in self.file.items():
            if "image" not in sample:
                raise Stumbles(f"{name!r} has no image")
            found[name] = sample["image"][...][..., None]
        return found

    def evaluate(self, segmentation: DeepSCEM) -> dict[tuple[int, str], tuple[float, float]]:
        """F1 and IoU of label ``i`` against prediction ``i``, everything above 0 counts."""
        scores = {}
        for sample in segmentation.file:
            for index in range(int(self.file.attrs["labels"])):
                true = self.file[sample][f"label_{index:04}"][...].astype(bool)
                found = segmentation.file[sample][f"prediction_{index:04}"][...].astype(bool)
                common, either = int((true & found).sum()), int((true | found).sum())
                if either:  # else it divides by zero
                    scores[index, sample] = (2 * common / (either + common), common / either)
        return scores

    # -------------------------------------------------------------------------------------------- changes, export

    def add_sample(self, name: str, image: Array, labels: Sequence[Array]) -> None:
        """Add arrays as it stores them: in one piece, without a filter."""
        group = self.file.create_group(name)
        group.attrs["shape"] = image.shape
        group["image"] = image.astype(np.float32)
        for index, label in enumerate(labels):
            group[f"label_{index:04}"] = label.astype(np.uint8)
        self.file.flush()

    def crop(self, sample: str, box: Sequence[tuple[int, int]]) -> str:
        """Copy a box of each member to a new sample."""
        name = "_".join([sample, "crop", *(str(end) for side in box for end in side)])
        inside = tuple(slice(*side) for side in box)
        group = self.file.create_group(name)
        for member, array in self.file[sample].items():
            if array.ndim != 3:
                raise Stumbles(f"{member} of {sample!r} cannot be cropped")
            group[member] = array[...][inside]
        group.attrs["shape"] = [stop - start for start, stop in box]
        return name

    def export(self, sample: str, folder: Path) -> list[Path]:
        """A TIFF file for each member."""
        files = []
        for member, array in self.file[sample].items():
            files.append(folder / f"{member}.tif")
            tifffile.imwrite(files[-1], array[...], photometric="minisblack")
            if not np.array_equal(tifffile.imread(files[-1]).reshape(array.shape), array[...]):
                raise Stumbles(f"{member} of {sample!r} is not what was exported")
        return files


def check_format(path: Path) -> None:
    """The file holds what DeepSCEM writes, in the way that it writes it, and nothing else but attributes."""
    with path.open("rb") as raw:
        if raw.read(9)[8] != 0:
            raise Stumbles("not the oldest format version of HDF5")
    with h5py.File(path, "r") as file:
        kinds = {key: file.attrs.get_id(key).get_type() for key in ("name", "labels")}
        if not kinds["name"].is_variable_str() or file.attrs.get_id("labels").dtype != np.int64:
            raise Stumbles(f"types of attributes: {kinds}")
        owners = [file, *file.values()]
        for owner in owners:
            for key in owner.attrs:
                if owner.attrs.get_id(key).get_storage_size() > 64_000:
                    raise Stumbles(f"attribute {key} is too large")
        n_labels = int(file.attrs["labels"])
        for name, sample in file.items():
            if sample.attrs.get_id("shape").dtype.kind != "i" or sample.attrs["shape"].shape != (3,):
                raise Stumbles(f"shape of {name!r}")
            _check_members(name, sample, n_labels)


def _check_members(name: str, sample: h5py.Group, n_labels: int) -> None:
    labels = [f"label_{index:04}" for index in range(n_labels)]
    predictions = [f"prediction_{index:04}" for index in range(n_labels)]
    transforms = [f"{label}_dt" for label in labels]
    found = set(sample) - {"image"}
    if found not in (set(labels), set(labels) | set(transforms), set(predictions)):
        raise Stumbles(f"{name!r} has {sorted(sample)}")
    for member, array in sample.items():
        if array.shape != tuple(sample.attrs["shape"]):
            raise Stumbles(f"{member} of {name!r} is {array.shape}")
        if array.compression not in (None, "gzip") or array.external or array.is_virtual:
            raise Stumbles(f"{member} of {name!r} cannot be read everywhere")
        values = array[...]
        if not np.isfinite(values).all():
            raise Stumbles(f"{member} of {name!r} is not finite")
        floating, mask = values.dtype.kind == "f", values.dtype == np.uint8
        if member == "image":
            fits = floating and values.min() >= 0 and values.max() <= 1
        elif member.endswith("_dt"):
            fits = values.dtype == np.float32
        elif member.startswith("label"):
            fits = mask and values.max() <= 1
        else:
            fits = (mask or values.dtype == np.float32) and values.min() >= 0 and values.max() <= 1
        if not fits:
            raise Stumbles(f"{member} of {name!r} is {values.dtype}, {values.min()} to {values.max()}")
