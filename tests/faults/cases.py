"""Actions on data sets that faults are tried on, and what a folder holds after them."""

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset, open_dataset

SHAPE = (9, 40, 70)


@dataclass(frozen=True)
class Case:
    """An action, and how to do it again after it was done.

    Args:
        done: What the error says where it was done already; empty where it can be done again.
    """

    action: str
    parameters: dict[str, Any]
    done: str = ""
    again: dict[str, Any] = field(default_factory=dict)


CASES = {
    "add": Case("add-sample", {"file": "set.hdf5", "name": "new", "image": "i.npy", "labels": ["label.tif"]}, "new"),
    "crop": Case("crop-sample", {"file": "set.hdf5", "sample": "a", "z": [2, 9], "x": [3, 60], "name": "new"}, "new"),
    "rename sample": Case("rename-sample", {"file": "set.hdf5", "sample": "a", "new": "Longer name"}, "no sample 'a'"),
    "rename data set": Case("rename-dataset", {"file": "set.hdf5", "new": "another name, " * 9 + "longer"}),
    "remove first": Case("remove-sample", {"file": "set.hdf5", "sample": "a"}, "no sample 'a'"),
    "remove last": Case("remove-sample", {"file": "set.hdf5", "sample": "c"}, "no sample 'c'"),
    "set aliases": Case("set-aliases", {"file": "set.hdf5", "aliases": ["another"]}),
    "label in part": Case("set-labelled", {"file": "set.hdf5", "sample": "a", "labelled_z": "2:5,7:9"}),
    "distances": Case("distance-transform", {"file": "set.hdf5"}, "", {"overwrite": True}),
    "save": Case("save-dataset", {"file": "set.hdf5", "out": "out.hdf5"}, "", {"overwrite": True}),
    "save onto itself": Case("save-dataset", {"file": "set.hdf5", "out": "set.hdf5", "overwrite": True}),
    "create over it": Case("create-dataset", {"file": "set.hdf5", "name": "n", "n_labels": 3, "overwrite": True}),
    "clean": Case(
        "clean-masks", {"input": "set.hdf5", "out": "out.hdf5", "fill_holes": "all"}, "", {"overwrite": True}
    ),
    "export": Case("export-sample", {"file": "set.hdf5", "sample": "a", "folder": "."}, "", {"overwrite": True}),
}  # fmt: skip


def voxels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE).astype(np.float32)


def make_template(folder: Path) -> None:
    """Fill a folder with a data set of our kind and of DeepSCEM's, and the files of a sample to add."""
    with new_dataset(folder / "set.hdf5", "set", 1, aliases=("mito",)):
        pass
    for name, seed in (("a", 1), ("b", 2)):
        with change_dataset(folder / "set.hdf5") as changed:
            sample = changed.add_sample(name, SHAPE, {"image": np.float32, "label_0000": np.uint8}, {"seed": seed})
            sample["image"][:] = voxels(seed)
            sample["label_0000"][:] = voxels(seed) > 0.5
    with h5py.File(folder / "set.hdf5", "r+") as raw:
        group = raw.create_group("c")
        group.attrs["shape"] = SHAPE
        group["image"] = voxels(3)
        group["label_0000"] = (voxels(3) > 0.5).astype(np.uint8)
    np.save(folder / "i.npy", (voxels(4) * 255).astype(np.uint8))
    tifffile.imwrite(folder / "label.tif", (voxels(4) > 0.5).astype(np.uint8))


def digest(path: Path) -> str:
    """Of all that an HDF5 file holds: names, attributes, types, layout, values; of other files, of their bytes."""
    if path.suffix != ".hdf5":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    found = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        found.update(f"{name} {type(item).__name__}\n".encode())
        for key in sorted(item.attrs):
            value = "" if key == "added" else np.asarray(item.attrs[key]).tolist()  # the time of day
            found.update(f"{key}={value!r}\n".encode())
        if isinstance(item, h5py.Dataset):
            found.update(f"{item.shape} {item.dtype} {item.chunks}\n".encode() + item[()].tobytes())

    with h5py.File(path, "r") as file:
        add("/", file)
        file.visititems(add)
    return found.hexdigest()


def state(folder: Path) -> dict[str, str]:
    """Digests of all files in a folder."""
    return {path.name: digest(path) for path in sorted(folder.iterdir())}


def read_all(path: Path) -> None:
    """With our reader: undo what was not finished, and look at every voxel."""
    with open_dataset(path) as dataset:
        for sample in dataset.samples.values():
            for member in sample.members.values():
                np.asarray(member)


def copy(template: Path, folder: Path) -> Path:
    """A folder to work in."""
    return Path(shutil.copytree(template, folder))
