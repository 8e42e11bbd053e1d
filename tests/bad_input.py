"""Files and names that are wrong in one way each, and the commands that they are given to."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from screens import make_dataset

from deepscem_tui.engine import actions

SHAPE = (8, 32, 32)


# ------------------------------------------------------------------------------------------------- what is right


def make_kit(folder: Path, run: Callable[..., int]) -> Path:
    """Files that every command below is content with.

    Args:
        run: Carries out a command line in the folder.
    """
    z, y, x = np.ogrid[:8, :32, :32]
    disc = ((y - 16) ** 2 + (x - 16) ** 2 < 80) & (z >= 0)
    image = (60 + 100 * disc + np.random.default_rng(0).normal(0, 5, SHAPE)).astype(np.uint8)
    tifffile.imwrite(folder / "image.tif", image, imagej=True)
    tifffile.imwrite(folder / "mask.tif", disc.astype(np.uint8) * 255, compression="deflate")
    np.save(folder / "image.npy", image)
    for name, source in (("images", "image.tif"), ("labels", "mask.tif")):
        (folder / "pairs" / name).mkdir(parents=True)
        shutil.copy(folder / source, folder / "pairs" / name / "x.tif")
    make_dataset(folder / "data.hdf5", ("a", "b"))
    make_dataset(folder / "segmented.hdf5", ("a", "b"), probabilities=True)
    model = "run create-model model.keras --like data.hdf5 --depth 2 --filters 2"
    shard = "run predict model.keras image.tif part.tif --shard 1/1 --precision float32"
    for line in (model, "run convert-model model.keras model.h5", shard):
        assert run(*line.split()) == 0
    return folder


COMMANDS: dict[str, dict[str, Any]] = {
    "demo": {"folder": "demo", "images_only": True},
    "create-dataset": {"file": "new.hdf5", "name": "new", "n_labels": 1},
    "add-sample": {"file": "data.hdf5", "name": "new", "image": "image.tif", "labels": ["mask.tif"],
                   "ignore_mask": "mask.tif"},
    "import-folder": {"file": "new.hdf5", "folder": "pairs", "voxel_size": "8 nm"},
    "split-dataset": {"file": "data.hdf5", "out_dir": "parts", "valid": 50},
    "set-voxel-size": {"file": "data.hdf5", "sample": "a", "voxel_size": "8 nm"},
    "crop-sample": {"file": "data.hdf5", "sample": "a", "z": "0:2", "name": "new"},
    "rename-dataset": {"file": "data.hdf5", "new": "new"},
    "rename-sample": {"file": "data.hdf5", "sample": "a", "new": "new"},
    "remove-sample": {"file": "data.hdf5", "sample": "a"},
    "set-aliases": {"file": "data.hdf5", "aliases": ["new"]},
    "set-labelled": {"file": "data.hdf5", "sample": "a", "labelled_z": "0:2", "ignore_mask": "mask.tif"},
    "save-dataset": {"file": "data.hdf5", "out": "new.hdf5"},
    "export-sample": {"file": "data.hdf5", "sample": "a", "folder": "new"},
    "convert-image": {"image": "image.tif", "out": "new.mrc"},
    "distance-transform": {"file": "data.hdf5"},
    "check-dataset": {"file": "data.hdf5"},
    "info": {"path": "data.hdf5"},
    "preview": {"file": "data.hdf5", "sample": "a", "reference": "data.hdf5", "width": 20},
    "show-augmentation": {"file": "data.hdf5", "out": "new.png", "rows": 1, "columns": 2, "width": 20},
    "create-model": {"out": "new.keras", "like": "data.hdf5", "depth": 2, "filters": 2, "dry_run": True},
    "convert-model": {"model": "model.keras", "out": "new.h5"},
    "export-model": {"model": "model.keras", "out": "new.onnx"},
    "package-model": {"model": "model.keras", "out": "new.zip", "image": "data.hdf5", "author": ["A B"],
                      "dry_run": True},
    "plan": {"dataset": "data.hdf5", "valid": "segmented.hdf5", "out": "new.toml", "measure": False},
    "train": {"model": "model.keras", "out": "new.keras", "train": "data.hdf5", "valid": "data.hdf5",
              "test": "data.hdf5", "dry_run": True},
    "predict": {"model": "model.keras", "input": "data.hdf5", "out": "new.hdf5", "dry_run": True},
    "merge": {"out": "part.tif", "shards": ["part.tif.shards"], "dry_run": True},
    "clean-masks": {"input": "segmented.hdf5", "out": "new.hdf5", "fill_holes": "all", "min_size": 5},
    "find-objects": {"input": "segmented.hdf5", "out": "new.tif", "csv": "new.csv", "split_touching": 2},
    "evaluate": {"reference": "data.hdf5", "segmentation": "segmented.hdf5", "csv": "new.csv", "objects": True,
                 "surfaces": True},
}  # fmt: skip
"""A command of every action that does what it should. Dry runs where the whole takes long: they check the same."""

RIGHT = {"dataset": "data.hdf5", "model": "model.keras", "image": "image.tif", "file": "data.hdf5"}
RIGHT |= {"dataset or image": "data.hdf5"}


def words(action: str, values: dict[str, Any]) -> list[str]:
    """A command line."""
    options: list[str] = []
    arguments: list[str] = []
    for parameter in actions.declared(actions.ACTIONS[action]):
        value = values.get(parameter.name)
        if value is None:
            continue
        given = [str(item) for item in (value if isinstance(value, list) else [value])]
        if parameter.argument:
            arguments += given
        elif isinstance(value, bool):
            options.append(("--" if value else "--no-") + parameter.name.replace("_", "-"))
        else:
            options += [word for item in given for word in ("--" + parameter.name.replace("_", "-"), item)]
    return ["run", action, *options, "--json", "--", *arguments]


# ------------------------------------------------------------------------------------------------- what is wrong


@dataclass(frozen=True)
class Bad:
    """A wrong file.

    Args:
        name: What is wrong.
        make: Makes it, given the right one's path and the path to make.
        fine: Whether there are actions that it does not keep from their work.
    """

    name: str
    make: Callable[[Path, Path], Any]
    fine: bool = False


def _write(content: bytes) -> Callable[[Path, Path], Any]:
    return lambda _, path: path.write_bytes(content)


def _cut(share: float) -> Callable[[Path, Path], Any]:
    def make(right: Path, path: Path) -> None:
        content = right.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return make


def _link(target: str) -> Callable[[Path, Path], Any]:
    return lambda _, path: path.symlink_to(target)


def _copy(name: str) -> Callable[[Path, Path], Any]:
    return lambda right, path: shutil.copy(right.with_name(name), path)


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000a49444154789c63000100000500010d0a2db4"
)

ANYTHING = [
    Bad("missing", lambda right, path: None),
    Bad("empty", _write(b"")),
    *(Bad(f"cut at {10 * tenth} %", _cut(tenth / 10)) for tenth in range(1, 10)),
    Bad("text", _write(b"this is no such file\n" * 100)),
    Bad("PNG", _write(PNG)),
    Bad("zeros", _write(bytes(5000))),
    Bad("a folder", lambda right, path: path.mkdir()),
    Bad("a FIFO", lambda right, path: os.mkfifo(path)),
    Bad("/dev/zero", _link("/dev/zero")),
    Bad("/dev/null", _link("/dev/null")),
    Bad("a link to nothing", _link("nowhere")),
    Bad("a link to itself", lambda right, path: path.symlink_to(path.name)),
]


def _saved(make: Callable[[], Any]) -> Callable[[Path, Path], Any]:
    def write(_: Path, path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, make(), allow_pickle=True)

    return write


def _tiff(make: Callable[[], Any], **options: Any) -> Callable[[Path, Path], Any]:
    return lambda _, path: tifffile.imwrite(path, make(), **options)


def _with_nan() -> Any:
    values = np.arange(8 * 32 * 32, dtype=np.float32).reshape(SHAPE)
    return np.where(values % 7, values, np.nan)


CODE = b"\x93NUMPY\x01\x00" + struct.pack("<H", 40) + b"__import__('os').system('touch hacked')".ljust(40)


def _header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _swapped_tiff(right: Path, path: Path) -> None:
    """A header that says the other byte order."""
    content = bytearray(right.read_bytes())
    content[:4] = b"MM\0*" if content[:2] == b"II" else b"II*\0"
    path.write_bytes(content)


def _huge_tiff(right: Path, path: Path) -> None:
    """Deflated pages that claim to be of 2**20 x 2**20 voxels."""
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="deflate", rowsperstrip=64)
    content = bytearray(path.read_bytes())
    for tag in (256, 257, 278):
        at = next(at for kind in (3, 4) if (at := content.find(struct.pack("<HH", tag, kind))) >= 0)
        content[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 2**20)
    path.write_bytes(content)


IMAGES = {
    ".tif": [
        Bad("the other byte order", _swapped_tiff),
        Bad("claims 1 TB", _huge_tiff),
        Bad("NPY", _copy("image.npy")),
        Bad("HDF5", _copy("data.hdf5")),
        Bad("colour", _tiff(lambda: np.zeros((32, 32, 3), np.uint8), photometric="rgb")),
        Bad("four dimensions", _tiff(lambda: np.zeros((2, 8, 32, 32), np.uint8), imagej=True)),
        Bad("another shape", _tiff(lambda: np.ones((8, 16, 16), np.uint8)), fine=True),
        Bad("complex", _tiff(lambda: np.zeros(SHAPE, np.complex64))),
        Bad("all NaN", _tiff(lambda: np.full(SHAPE, np.nan, np.float32)), fine=True),
        Bad("some NaN", _tiff(_with_nan), fine=True),
        Bad("constant", _tiff(lambda: np.full(SHAPE, 7, np.uint8)), fine=True),
        Bad("one voxel", _tiff(lambda: np.zeros((1, 1), np.uint8)), fine=True),
    ],
    ".npy": [
        Bad("claims 1 TB", _write(_header((2**20, 2**10, 2**10)) + bytes(1000))),
        Bad("claims more than there can be", _write(_header((2**40, 2**40, 2**40)) + bytes(1000))),
        Bad("negative sizes", _write(_header((-8, 32, 32)) + bytes(10_000))),
        Bad("code in its header", _write(CODE)),
        Bad("Python objects", _saved(lambda: np.array([{"a": 1}, "b"], object))),
        Bad("texts", _saved(lambda: np.array([["a", "b"], ["c", "d"]]))),
        Bad("one dimension", _saved(lambda: np.zeros(100, np.uint8))),
        Bad("five dimensions", _saved(lambda: np.zeros((2, 2, 2, 2, 2), np.uint8))),
        Bad("no voxels", _saved(lambda: np.zeros((0, 32, 32), np.uint8))),
        Bad("the other byte order", _saved(lambda: np.arange(8 * 32 * 32).reshape(SHAPE).astype(">u2")), fine=True),
        Bad("TIFF", _copy("image.tif")),
        Bad("HDF5", _copy("data.hdf5")),
    ],
}  # fmt: skip


def _changed(change: Callable[[h5py.File], Any]) -> Callable[[Path, Path], Any]:
    """A data set that is changed by h5py."""

    def make(right: Path, path: Path) -> None:
        shutil.copy(right.with_name("data.hdf5"), path)
        with h5py.File(path, "r+") as file:
            change(file)

    return make


def _replaced(name: str, make: Callable[[h5py.File], Any]) -> Callable[[Path, Path], Any]:
    def change(file: h5py.File) -> None:
        del file[name]
        make(file)

    return _changed(change)


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(SHAPE, np.float32)
    layout[:] = h5py.VirtualSource("other.hdf5", "image", SHAPE)
    file.create_virtual_dataset("a/image", layout)


def _huge(file: h5py.File) -> None:
    """A sample of 1 TB in a few kilobytes."""
    file["a"].attrs["shape"] = (1, 2**20, 2**20)
    del file["a/image"], file["a/label_0000"]
    for name, kind in (("image", "f4"), ("label_0000", "u1")):
        made = file.create_dataset(f"a/{name}", (1, 2**20, 2**20), kind, chunks=(1, 1024, 1024), compression="gzip")
        made[0, :10, :10] = 1


def _cycle(file: h5py.File) -> None:
    for number in range(10):
        file[f"a/again{number}"] = file["a"]
        file[f"again{number}"] = file["/"]


def _image(**options: Any) -> Callable[[Path, Path], Any]:
    """A data set whose first image is another array."""
    given = {"shape": SHAPE, "dtype": "f4"} | options
    return _replaced("a/image", lambda file: file.create_dataset("a/image", **given))


def _attribute(name: str, value: Any) -> Callable[[Path, Path], Any]:
    return _changed(lambda file: file.attrs.__setitem__(name, value))


def _sample(link: Any) -> Callable[[Path, Path], Any]:
    return _replaced("a", lambda file: file.__setitem__("a", link))


def _more_labels(file: h5py.File) -> None:
    file.attrs["labels"] = 3
    del file.attrs["labels_aliases"]


def _hostile(file: h5py.File) -> None:
    file.move("a", "\x1b[31m[bold]a[/]\n")
    file.attrs["name"] = "\x1b]0;x\x07[/]"
    file.attrs["labels_aliases"] = ["../../\x1b[2J[/b]"]


def _emptied(file: h5py.File) -> None:
    del file["a"], file["b"]


DATASETS = [
    Bad("a model", _copy("model.h5")),
    Bad("TIFF", _copy("image.tif")),
    Bad("HDF5 of others", lambda right, path: h5py.File(path, "w").close()),
    Bad("no number of labels", _changed(lambda file: file.attrs.__delitem__("labels"))),
    Bad("a negative number of labels", _attribute("labels", -1)),
    Bad("a huge number of labels", _attribute("labels", 2**40)),
    Bad("a text for the number of labels", _attribute("labels", "two")),
    Bad("another number of labels", _changed(_more_labels), fine=True),
    Bad("an image elsewhere", _image(external=[("/etc/passwd", 0, 4 * 8192)]), fine=True),
    Bad("a virtual image", _replaced("a/image", _virtual), fine=True),
    Bad("a sample in another file", _sample(h5py.ExternalLink("other.hdf5", "/a")), fine=True),
    Bad("a soft link for a sample", _sample(h5py.SoftLink("/b")), fine=True),
    Bad("a filter to be loaded", _image(chunks=SHAPE, compression=32001, allow_unknown_filter=True), fine=True),
    Bad("claims 1 TB", _changed(_huge), fine=True),
    Bad("leads round in circles", _changed(_cycle), fine=True),
    Bad("an image of another shape", _image(shape=(8, 16, 16)), fine=True),
    Bad("complex voxels", _image(dtype="c8"), fine=True),
    Bad("texts for voxels", _image(dtype=h5py.string_dtype()), fine=True),
    Bad("big-endian voxels", _image(dtype=">f4"), fine=True),
    Bad("voxels of NaN", _image(fillvalue=np.nan), fine=True),
    Bad("constant voxels", _image(fillvalue=0.5), fine=True),
    Bad("no samples", _changed(_emptied), fine=True),
    Bad("hostile names", _changed(_hostile), fine=True),
    Bad("a name that is no UTF-8", _changed(lambda file: file.move("a", b"\xff\xfe")), fine=True),
]  # fmt: skip


def described(change: Callable[[Any], Any]) -> Callable[[Path, Path], Any]:
    """A model whose description is changed."""

    def make(right: Path, path: Path) -> None:
        if path.suffix == ".h5":
            path.write_bytes(right.with_name("model.h5").read_bytes())
            with h5py.File(path, "r+") as file:
                about = json.loads(file.attrs["model_config"])
                file.attrs["model_config"] = json.dumps(change(about) or about)
            return
        with zipfile.ZipFile(right.with_name("model.keras")) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        about = json.loads(members["config.json"])
        members["config.json"] = json.dumps(change(about) or about).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return make


COLOUR = [None, None, None, 3]


def layered(kind: str, **changes: Any) -> Callable[[Path, Path], Any]:
    """A model whose first layer of a kind says something else."""

    def change(about: Any) -> None:
        layer = next(layer for layer in about["config"]["layers"] if layer["class_name"] == kind)
        for name, value in changes.items():
            (layer if name in ("class_name", "module", "registered_name") else layer["config"])[name] = value

    return described(change)


MODELS = [
    Bad("a data set", _copy("data.hdf5")),
    Bad("TIFF", _copy("image.tif")),
    Bad("an empty archive", lambda right, path: zipfile.ZipFile(path, "w").close()),
    Bad("a description of nothing", described(lambda about: {"class_name": "Functional"})),
    Bad("a layer of program code", layered("Conv2D", class_name="Lambda")),
    Bad("a class of elsewhere", layered("Conv2D", module="os", class_name="system")),
    Bad("a registered class", layered("Conv2D", registered_name="x>Conv2D")),
    Bad("a huge kernel", layered("Conv2D", kernel_size=[10**9, 10**9])),
    Bad("a huge number of filters", layered("Conv2D", filters=60_000), fine=True),
    Bad("three channels", layered("InputLayer", batch_shape=COLOUR, batch_input_shape=COLOUR)),
]  # fmt: skip


def bad_files(opens: str, right: str) -> list[Bad]:
    """What can be wrong with a file that a parameter opens."""
    suffix = Path(right).suffix
    own = {".hdf5": DATASETS, ".keras": MODELS, ".h5": MODELS}.get(suffix) or IMAGES[suffix]
    return [*ANYTHING, *own]


NAMES = {
    "empty": "", "a space": " ", "a path": "a/b", "up": "..", "here": ".", "an absolute path": "/etc/passwd",
    "a line break": "a\nb", "a carriage return": "a\rb", "an escape": "\x1b[31mred", "a title": "\x1b]0;owned\x07",
    "C1": "a\x9b31m", "from right to left": "a\u202egnp", "no width": "a\u200bb", "a line separator": "a\u2028b",
    "markup": "[bold]x[/bold]", "a closing tag": "[/]", "half a tag": "[bold", "a link": "[link=http://x]y[/link]",
    "an action": "[@click=app.quit]x[/]", "long": "x" * 300, "an option": "--help", "a dash": "-x",
    "no UTF-8": "a\udcffb",
    "a device of Windows": "CON", "a member": "image", "a label": "label_0000", "everything": "%s{}$HOME`id`;*?~\\\"'",
    "Cyrillic": "митохондрия", "Chinese": "線粒體", "Hebrew": "מיטוכונדריה", "Devanagari": "सूत्रकणिका",
    "Thai": "ไมโทคอนเดรีย",
    "Japanese": "ミトコンドリア", "combined": "e\u0301\u0323", "emoji": "\U0001f9ec",
}  # fmt: skip
"""Names that somebody gives, by what is special about them."""


def mutated(content: bytes, seed: int) -> bytes:
    """A file that is damaged a little: bytes changed, blocks swapped, repeated or left out, cut."""
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        # The beginning, where headers are, as often as everywhere.
        end = len(data) if chance.random() < 0.5 else min(len(data), 2048)
        at = chance.randrange(max(1, end))
        size = chance.choice((1, 2, 4, 8, 64, 512))
        other = chance.randrange(max(1, len(data)))
        match chance.randrange(8):
            case 0 | 1 | 2:
                data[at : at + 1] = bytes([data[at] ^ chance.randint(1, 255)]) if data else b"x"
            case 3:
                data[at : at + size] = chance.choice((b"\0", b"\xff", b"\x7f")) * size
            case 4:
                data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
            case 5:
                del data[at : at + size]
            case 6:
                data[at:at] = data[other : other + size]
            case _:
                if chance.random() < 0.3:
                    del data[other:]
                else:
                    data[at : at + 4] = struct.pack(
                        "<I", chance.choice((0, 1, 2**31 - 1, 2**32 - 1, chance.getrandbits(32)))
                    )
    return bytes(data)


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    """What is in a folder and below: what may not change where something is refused."""
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder)).hex()
        if path.is_symlink() or not path.is_file():
            yield name, "a link, a folder or a device"
        else:
            yield name, hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
