"""What is in a data set file, looked at without following anything that leads out of it.

A file may come from anywhere: links to other files, voxels stored in other files and filters that would have to be
loaded are refused, and whatever h5py raises on a damaged file becomes one kind of error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import h5py
import numpy as np

from deepscem_tui.engine import words
from deepscem_tui.engine.axes import Shape

__all__ = [
    "BLANK",
    "EXPANSION",
    "OF_OTHERS",
    "Unusable",
    "check_stored",
    "child",
    "member_kind",
    "member_name",
    "names",
    "open_member",
    "open_sample",
    "root_facts",
    "stored_name",
]


_MEMBER = re.compile(r"(image)|(label|prediction)_(\d{4})|label_(\d{4})_dt", re.ASCII)
OF_OTHERS = "is no data set"  # how what is said of an HDF5 file that nobody calls a data set begins
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
# What is not backed by the file's size may be blank, which takes no space; but not without end.
EXPANSION = 1100  # bytes that gzip makes of one at most
_BLANK_PLANE, BLANK = 4 << 30, 256 << 30
_LAYOUTS = {h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED}


class Unusable(Exception):
    """Something in a file that cannot be used; the text goes on after the thing's name."""


@contextmanager
def damaged(what: str) -> Iterator[None]:
    """Turn whatever h5py raises into :class:`Unusable`."""
    try:
        yield
    except Unusable:
        raise
    except Exception as error:  # h5py raises nearly anything on a damaged file
        raise Unusable(f"{what} ({words.reason(error)})") from error


def member_kind(name: str) -> tuple[str, int] | None:
    """``image``, ``label``, ``prediction`` or ``dt`` and the index; None for what DeepSCEM does not know."""
    found = _MEMBER.fullmatch(name)
    if found is None:
        return None
    if found[1]:
        return "image", 0
    return (found[2], int(found[3])) if found[2] else ("dt", int(found[4]))


def member_name(kind: str, index: int = 0) -> str:
    """The name of a member, such as ``label_0000``."""
    return {"image": "image", "dt": f"label_{index:04d}_dt"}.get(kind, f"{kind}_{index:04d}")


def names(group: h5py.Group) -> list[str]:
    """Names of everything in a group, in h5py's order."""
    with damaged("its contents cannot be listed"):
        return [name if isinstance(name, str) else name.decode("utf-8", "surrogateescape") for name in group]


def stored_name(name: str) -> bytes:
    """A name as it is in the file, which need not be UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def child(group: h5py.Group, name: str) -> Any:
    """What a hard link leads to; other links are not followed."""
    with damaged("cannot be opened"):
        link = group.id.links.get_info(stored_name(name))
        if link.type != h5py.h5l.TYPE_HARD:
            kind = "another file" if link.type == h5py.h5l.TYPE_EXTERNAL else "elsewhere"
            raise Unusable(f"is a link to {kind}, which is not followed")
        return group[stored_name(name)]


def root_facts(file: h5py.File) -> tuple[str, int, tuple[str, ...]]:
    """Name, labels a sample, and aliases (none: empty)."""
    with damaged("its attributes cannot be read"):
        attributes = dict(file.attrs)
    if "model_config" in attributes or "model_weights" in names(file):
        raise Unusable("is a model, not a data set")
    for name in ("name", "labels"):
        if name not in attributes:
            raise Unusable(f"{OF_OTHERS}: it lacks the attribute {name!r}")
    name, labels = _text(attributes["name"], "name"), attributes["labels"]
    if np.ndim(labels) != 0 or not isinstance(labels, int | np.integer) or not 0 <= int(labels) <= 9999:
        raise Unusable(f"has an attribute 'labels' that is no number of labels: {labels!r}"[:200])
    aliases: tuple[str, ...] = ()
    if "labels_aliases" in attributes:
        found = attributes["labels_aliases"]
        if np.ndim(found) != 1 or len(found) != int(labels):
            raise Unusable(f"has 'labels_aliases' that do not fit its {labels} labels")
        aliases = tuple(_text(alias, "labels_aliases") for alias in found)
    return name, int(labels), aliases


def _text(value: Any, name: str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise Unusable(f"has an attribute {name!r} that is no text")
    return str(value)


def open_sample(file: h5py.File, name: str) -> tuple[h5py.Group, Shape]:
    """A sample's group and its shape (Z, Y, X)."""
    group = child(file, name)
    if not isinstance(group, h5py.Group):
        raise Unusable("is an array where a sample should be")
    with damaged("its attribute 'shape' cannot be read"):
        if "shape" not in group.attrs:
            raise Unusable("lacks the attribute 'shape'")
        shape = np.asarray(group.attrs["shape"])
    if shape.shape != (3,) or shape.dtype.kind not in "iu" or shape.min() < 1:
        raise Unusable(f"has an attribute 'shape' that is no shape (Z, Y, X): {shape.tolist()!r}"[:200])
    z, y, x = map(int, shape)
    return group, (z, y, x)


def open_member(group: h5py.Group, name: str, shape: Shape) -> h5py.Dataset:
    """An array of a sample, which has the sample's shape and a type that fits its name."""
    member = child(group, name)
    if not isinstance(member, h5py.Dataset):
        raise Unusable("is a group where an array should be")
    with damaged("cannot be opened"):
        if member.shape != shape:
            raise Unusable(f"has the shape {member.shape}, but the sample has {shape}")
        check_type(name, member)
        check_stored(member)
    return member


def check_stored(member: h5py.Dataset) -> None:
    """Raise :class:`Unusable` unless an array is whole in this file, no larger than it can be, and can be decoded."""
    with damaged("cannot be opened"):
        _check_size(member)
        stored = member.id.get_create_plist()
        if stored.get_layout() not in _LAYOUTS or stored.get_external_count():
            raise Unusable("has its voxels in other files, which are not opened")
        unknown = {stored.get_filter(index)[0] for index in range(stored.get_nfilters())} - FILTERS
        if unknown:
            raise Unusable(f"is compressed in a way that is not supported (HDF5 filter {min(unknown)})")


def _check_size(member: h5py.Dataset) -> None:
    """A file of a megabyte cannot hold a terabyte."""
    backed = EXPANSION * member.file.id.get_filesize()
    plane, whole = prod(member.shape[1:]) * member.dtype.itemsize, prod(member.shape) * member.dtype.itemsize
    if plane > _BLANK_PLANE + backed or whole > BLANK + backed:
        raise Unusable(f"claims {words.amount(whole, 'B')}, more than the file can hold")


def check_type(name: str, member: h5py.Dataset) -> None:
    """Images and distances are floats, labels masks of 8 bits, predictions either."""
    kind = member_kind(name)
    dtype = member.dtype
    floating, mask = dtype.kind == "f", dtype == np.uint8 or dtype == np.bool_
    wanted = {"image": floating, "dt": floating, "label": mask, "prediction": floating or mask}
    if kind is None or not wanted[kind[0]]:
        expected = {"image": "float32", "dt": "float32", "label": "uint8", "prediction": "uint8 or float32"}
        raise Unusable(f"holds values of type {dtype}" + (f", not {expected[kind[0]]}" if kind else ""))
