"""What is in a model file, read with care and without a framework.

A model file is a ``.keras`` archive of Keras 3 or an HDF5 file of Keras 2 or 3, told apart by what they begin with.
Of both only JSON and arrays are read; sizes and links are looked at before anything large is.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import h5py

from deepscem_tui.engine import words
from deepscem_tui.engine.datasets.probing import probe
from deepscem_tui.engine.datasets.tree import FILTERS
from deepscem_tui.engine.errors import ModelError
from deepscem_tui.engine.networks import keras2
from deepscem_tui.engine.networks.graph import Graph, read_graph
from deepscem_tui.engine.system.files import missing_hint
from deepscem_tui.engine.system.space import is_full, no_room

METADATA_MEMBER = "deepscem_tui.json"  # of a .keras archive
METADATA_ATTRIBUTE = "deepscem_tui"  # of an HDF5 file's root
_WEIGHTS_MEMBER = "model.weights.h5"
_LONGEST_TEXT = 16 << 20  # bytes of JSON
_FREE_BYTES = 64 << 20  # that a file may make us hold whatever its own size is
_EXPANSION = 20  # times a file's own size that it may make us hold beyond that
_DEEPEST = 16
_ANOTHER = "Save it again, or use another model."
_MOST_OBJECTS = 100_000


@dataclass(frozen=True)
class Contents:
    """A model file's description.

    Args:
        metadata: What this program stored about the model; None in files of others.
    """

    format: Literal["keras", "h5"]
    graph: Graph
    metadata: Any


def read_contents(path: Path) -> Contents:
    """Read the description in a model file, not its weights.

    Raises:
        ModelError: it is no model file, is damaged, or holds layers that cannot be used.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a FIFO would wait for ever
        raise ModelError(f"{path} is no regular file", "Give a model file (.keras or .h5).")
    with explained(path):
        form = _format(path)
        graph, metadata = _read_keras(path) if form == "keras" else _read_h5(path)
        if 4 * graph.n_parameters > _allowance(path):
            raise ModelError(
                f"The network has {graph.n_parameters:,} parameters, more than the file holds", "The file is damaged."
            )
        return Contents(form, graph, metadata)


def is_model(path: Path) -> bool:
    """Whether an HDF5 file holds a Keras model."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        probe(path, ModelError)
        with h5py.File(path, "r", locking=False) as file:
            return "model_config" in file.attrs or "model_weights" in file
    except Exception:  # h5py raises nearly anything on a damaged file: whoever opens it next says so
        return False


@contextmanager
def checked_weights(path: Path, form: Literal["keras", "h5"]) -> Iterator[Path]:
    """Give the HDF5 file with a model's weights: the model file itself, or a temporary copy of an archive's member.

    Raises:
        ModelError: it leads out of the file, or claims more than the file's size allows.
        ResourceError: there is no room for the copy.
    """
    with tempfile.TemporaryDirectory(prefix="deepscem-tui-") as folder:
        with explained(path):
            weights = path if form == "h5" else _extracted(path, Path(folder) / _WEIGHTS_MEMBER)
            probe(weights, ModelError, known_as=path)
            with h5py.File(weights, "r", locking=False) as file:
                _check_tree(file, _allowance(path))
        yield weights


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong on reading ``path`` into a :class:`ModelError` that names it."""
    try:
        yield
    except ModelError as error:
        named = str(path) in error.what
        what = error.what if named else f"{path} cannot be used: {error.what[:1].lower()}{error.what[1:]}"
        raise ModelError(what, error.hint or _ANOTHER) from None
    except FileNotFoundError:
        raise ModelError(f"There is no model {path}", missing_hint(path)) from None
    except PermissionError:
        raise ModelError(f"{path} may not be read", "Ask its owner for the permission to read it.") from None
    except (
        OSError, KeyError, ValueError, TypeError, RuntimeError, RecursionError, EOFError, NotImplementedError,
        MemoryError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        what = f"{path} is damaged, or is no model file ({words.reason(error)})"
        raise ModelError(what, "Copy or save it again.") from None


def _format(path: Path) -> Literal["keras", "h5"]:
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not a model file", "Models are .keras or .h5 files.")
    with path.open("rb") as file:
        start = file.read(8)
    if start[:4] == b"PK\x03\x04":
        return "keras"
    if start == b"\x89HDF\r\n\x1a\n":
        return "h5"
    raise ModelError(f"{path} is no model file", "Models are .keras or .h5 files of Keras.")


def _read_keras(path: Path) -> tuple[Graph, Any]:
    with zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        if "config.json" not in members or _WEIGHTS_MEMBER not in members:
            raise ModelError(f"{path} is an archive, but not one of Keras", "Models are .keras or .h5 files of Keras.")
        graph = read_graph(_json(archive, "config.json"))
        return graph, _json(archive, METADATA_MEMBER) if METADATA_MEMBER in members else None


def _opened(archive: zipfile.ZipFile, member: str) -> IO[bytes]:
    """A member, stored or deflated as Keras does it: other methods may take any amount of memory."""
    if archive.getinfo(member).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelError(f"its {member} is compressed in a way that Keras does not use")
    return archive.open(member)


def _json(archive: zipfile.ZipFile, member: str) -> Any:
    with _opened(archive, member) as file:
        text = file.read(_LONGEST_TEXT + 1)
    if len(text) > _LONGEST_TEXT:
        raise ModelError(f"its {member} is longer than {_LONGEST_TEXT >> 20} MiB")
    return json.loads(text)


def _read_h5(path: Path) -> tuple[Graph, Any]:
    probe(path, ModelError)
    with h5py.File(path, "r", locking=False) as file:
        if "model_config" not in file.attrs:
            kind = "a data set" if "labels" in file.attrs else "an HDF5 file"
            raise ModelError(
                f"{path} is {kind}, not a model: it describes no network", "Models are .keras or .h5 files of Keras."
            )
        graph = read_graph(json.loads(_text(file.attrs["model_config"])))
        keras2.check_origin(graph, *(_text(file.attrs.get(key, "")) for key in ("keras_version", "backend")))
        stored = file.attrs.get(METADATA_ATTRIBUTE)
        return graph, None if stored is None else json.loads(_text(stored))


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _extracted(path: Path, target: Path) -> Path:
    """A copy of the weights of a .keras archive."""
    with zipfile.ZipFile(path) as archive, _opened(archive, _WEIGHTS_MEMBER) as source, target.open("wb") as copy:
        left = _allowance(path)
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise ModelError("Its weights expand to many times the size of the file", "The file is damaged.")
            try:
                copy.write(block)
                copy.flush()
            except OSError as error:
                if is_full(error):  # of the disk, and nothing is wrong with the model
                    raise no_room(target, error, archive.getinfo(_WEIGHTS_MEMBER).file_size) from error
                raise
    return target


def _check_tree(file: h5py.File, most: int) -> None:
    """Raise unless all weights lie in this file, as Keras stores them, and are not more bytes than ``most``."""
    total = 0
    for count, (name, item) in enumerate(_walk(file, 0)):
        if count > _MOST_OBJECTS:  # hard links may lead round in circles
            raise ModelError("its weights are too many, or lead round in circles")
        if isinstance(item, h5py.Dataset):
            stored = item.id.get_create_plist()
            if item.external or item.is_virtual:
                raise ModelError(f"its weights {name!r} lie in another file", "Such a file cannot be trusted.")
            if {stored.get_filter(index)[0] for index in range(stored.get_nfilters())} - FILTERS:
                raise ModelError(f"its weights {name!r} are compressed in a way that is not supported")
            total += int(item.nbytes)
    if total > most:
        raise ModelError(f"The weights claim {total:,} bytes, more than the file holds", "The file is damaged.")


def _walk(group: h5py.Group, depth: int) -> Iterator[tuple[str, Any]]:
    """Everything below a group by its name; links that lead elsewhere are refused."""
    if depth > _DEEPEST:
        raise ModelError("its weights are nested too deep")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelError(f"its weights {name!r} lead to another place", "Such a file cannot be trusted.")
        item = group[name]
        yield name, item
        if isinstance(item, h5py.Group):
            yield from _walk(item, depth + 1)


def _allowance(path: Path) -> int:
    return _FREE_BYTES + _EXPANSION * path.stat().st_size
