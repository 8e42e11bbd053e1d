"""Kinds of value, and what every declaration of an action is made with."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from deepscem_tui.engine import words
from deepscem_tui.engine.formats import suffixes


def _name(value: str) -> str:
    """A name that HDF5, a path and a terminal can all carry."""
    if not value or not value.strip():
        raise ValueError("must not be empty")
    if value != value.strip():
        raise ValueError("must not begin or end with a space")
    if "/" in value or value in (".", ".."):
        raise ValueError("must not be '.' or '..' nor contain '/'")
    if value.startswith("-"):
        raise ValueError("must not begin with '-'")
    if any(map(words.acts, value)):
        raise ValueError("must not contain control characters")
    if len(value.encode()) > 200:
        raise ValueError("must not be longer than 200 bytes")
    return value


def _bounds(value: Any) -> Any:
    """``"A:B"``, ``"A:"`` or ``":B"`` as (start, stop), half open."""
    if not isinstance(value, str):
        return value
    start, colon, stop = value.partition(":")
    try:
        if not colon:
            raise ValueError
        return (int(start) if start.strip() else None, int(stop) if stop.strip() else None)
    except ValueError:
        raise ValueError("must be START:STOP, such as 0:40 (STOP is not included)") from None


def _check_bounds(value: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    start, stop = value
    if (start is not None and start < 0) or (stop is not None and stop < 0):
        raise ValueError("START and STOP must not be negative")
    if stop is not None and stop <= (start or 0):
        raise ValueError("STOP must be greater than START")
    return value


def _one_or_bounds(value: Any) -> Any:
    """A single number, such as ``"4"``, as (4, 5); bounds as :func:`_bounds` has them."""
    if isinstance(value, (int, str)) and str(value).strip().isdecimal():
        return int(value), int(value) + 1
    return _bounds(value)


def _ranges(value: Any) -> Any:
    """``"A:B,C:D"`` as ranges in order, half open, ``"A"`` as ``"A:A+1"``; ``"auto"`` as it is."""
    if value == "auto":
        return value
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not parts:
        raise ValueError("must be START:STOP,START:STOP,..., single numbers, or auto")
    ranges = [_check_bounds(_one_or_bounds(part)) for part in parts]
    ordered = sorted(ranges, key=lambda item: item[0] or 0)
    for (_, stop), (start, _) in pairwise(ordered):
        if stop is None or (start or 0) < stop:
            raise ValueError("ranges must not overlap")
    return tuple(ordered)


_COLOUR = re.compile(r"#[0-9a-f]{6}")
_NUMBER = re.compile(r"-?[0-9]{1,18}")


def _value(value: Any) -> Any:
    """``"255"``, or ``"#808080"`` as 0x808080."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if _COLOUR.fullmatch(text):
        return int(text[1:], 16)
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a whole number, or a colour such as #808080")
    return int(text)


def _classes(value: Any) -> Any:
    """``"mito=1,er=2"`` or ``"mito=#ff0000"`` as pairs of a name and a value's text."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not parts:
        raise ValueError("must be NAME=VALUE,NAME=VALUE,...")
    pairs = []
    for part in parts:
        name, equals, number = part.partition("=") if isinstance(part, str) else (part[0], "=", str(part[1]))
        number = number.strip().lower()
        if not equals or not name.strip() or not (_COLOUR.fullmatch(number) or _NUMBER.fullmatch(number)):
            raise ValueError("must be NAME=VALUE,NAME=VALUE,..., such as mito=1,er=2 or mito=#ff0000,er=#00ff00")
        pairs.append((name.strip(), number))
    if len({number for _, number in pairs}) < len(pairs):
        raise ValueError("must not give a value to two names")
    if len({number.startswith("#") for _, number in pairs}) > 1:
        raise ValueError("must be all colours or all numbers")
    return tuple(pairs)


def _sizes(value: Any) -> Any:
    """``"Z,Y,X"`` or ``"Y,X"`` as a tuple of integers."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(int(size) for size in value.replace("x", ",").split(","))
    except ValueError:
        raise ValueError("must be Y,X or Z,Y,X, such as 256,256") from None


def _check_sizes(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(value) not in (2, 3):
        raise ValueError("must have two sizes (Y,X) or three (Z,Y,X)")
    if min(value) < 1:
        raise ValueError("sizes must be at least 1")
    return value


def _as_bounds_text(value: tuple[int | None, int | None]) -> str:
    return ":".join("" if end is None else str(end) for end in value)


def _as_ranges_text(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(map(_as_bounds_text, value))


def _as_sizes_text(value: tuple[int, ...]) -> str:
    return ",".join(map(str, value))


def _shard(value: Any) -> Any:
    """``"I/N"`` as two numbers."""
    if not isinstance(value, str):
        return value
    part, slash, of = value.partition("/")
    if not slash or not part.strip().isdecimal() or not of.strip().isdecimal():
        raise ValueError("must be I/N, such as 1/4 for the first of four")
    return int(part), int(of)


def _check_shard(value: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= value[0] <= value[1]:
        raise ValueError("must be I/N with I from 1 to N")
    return value


_UNITS = {"nm": "nm", "µm": "µm", "μm": "µm", "um": "µm", "mm": "mm", "pm": "pm", "Å": "Å", "A": "Å"}


def _voxel_size(value: Any) -> Any:
    """``"30,8,8 nm"``, or ``"8 nm"`` for voxels of equal sides, as three numbers and a unit."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([0-9.][0-9.,x\s]*?)\s*([^0-9.,\s]*)\s*", value)
    try:
        numbers = [float(number) for number in re.split(r"[,x\s]+", found[1])] if found else []
    except ValueError:
        numbers = []
    if found is None or len(numbers) not in (1, 3) or found[2] not in _UNITS:
        raise ValueError("must be Z,Y,X and a unit, such as 30,8,8 nm or 8 nm (nm, um, mm, pm or A)")
    return (*(numbers * 3 if len(numbers) == 1 else numbers), _UNITS[found[2]])


def _check_voxel_size(value: tuple[float, float, float, str]) -> tuple[float, float, float, str]:
    if not all(0 < size < 1e9 for size in value[:3]):
        raise ValueError("sizes must be above 0")
    return value


_MEASURE = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(\S*)")


def _length(value: Any) -> Any:
    """``"2"`` voxels or ``"40 nm"`` as a number and a unit, which is empty for voxels."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value), ""
    return _measure(value, "", "must be a number of voxels, such as 2, or a length, such as 40nm (nm, um, mm, pm or A)")


def _extent(value: Any) -> Any:
    """``"500"`` voxels or ``"0.01 um3"`` as a number and the unit of length that is cubed, empty for voxels."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value), ""
    return _measure(value, "3", "must be a number of voxels, such as 500, or a volume, such as 0.01um3 (or nm3, mm3)")


def _measure(value: Any, power: str, wanted: str) -> Any:
    if not isinstance(value, str):
        return value
    found = _MEASURE.fullmatch(value.strip())
    unit = found[2].replace("³", "3") if found else ""
    if found is None or (unit and (not unit.endswith(power) or unit.removesuffix(power) not in _UNITS)):
        raise ValueError(wanted)
    try:
        return float(found[1]), _UNITS[unit.removesuffix(power)] if unit else ""
    except ValueError:
        raise ValueError(wanted) from None


def _check_measure(value: tuple[float, str]) -> tuple[float, str]:
    if not 0 < value[0] < 1e15:
        raise ValueError("must be above 0")
    return value


def _devices(value: str) -> str:
    if value not in ("auto", "cpu") and not all(part.strip().isdecimal() for part in value.split(",")):
        raise ValueError("must be auto, cpu, or numbers of GPUs, such as 0,1")
    return value


def _percent(value: Any) -> Any:
    """``"20%"`` or ``"20"`` as 20; what may be meant as a fraction of 1 is refused."""
    text = str(value).strip()
    number = text.removesuffix("%").strip()
    try:
        fraction = number == text and 0 < float(number) < 1
    except ValueError:
        fraction = False
    if fraction:
        share = f"{100 * float(number):.4g}"
        raise ValueError(f"{number} is less than one percent: write {share}% for {share} in a hundred, or {number}%")
    return number if isinstance(value, str) else value


def odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd (it is {value})")
    return value


Name = Annotated[str, AfterValidator(_name)]
Bounds = Annotated[
    tuple[int | None, int | None],
    BeforeValidator(_bounds),
    AfterValidator(_check_bounds),
    PlainSerializer(_as_bounds_text),
]
Ranges = Annotated[
    tuple[tuple[int | None, int | None], ...] | Literal["auto"],
    BeforeValidator(_ranges),
    PlainSerializer(_as_ranges_text),
]
Value = Annotated[int, BeforeValidator(_value)]
Classes = Annotated[
    tuple[tuple[Name, str], ...],
    BeforeValidator(_classes),
    PlainSerializer(lambda value: ",".join(f"{name}={number}" for name, number in value)),
]
PatchSize = Annotated[
    tuple[int, ...], BeforeValidator(_sizes), AfterValidator(_check_sizes), PlainSerializer(_as_sizes_text)
]

VoxelSize = Annotated[
    tuple[float, float, float, str],
    BeforeValidator(_voxel_size),
    AfterValidator(_check_voxel_size),
    PlainSerializer(lambda value: ",".join(f"{size:g}" for size in value[:3]) + f" {value[3]}"),
]
Length = Annotated[
    tuple[float, str],
    BeforeValidator(_length),
    AfterValidator(_check_measure),
    PlainSerializer(lambda value: f"{value[0]:g}{value[1]}"),
]
Extent = Annotated[
    tuple[float, str],
    BeforeValidator(_extent),
    AfterValidator(_check_measure),
    PlainSerializer(lambda value: f"{value[0]:g}{value[1]}{3 if value[1] else ''}"),
]
Holes = Annotated[
    tuple[float, str] | Literal["all"],
    BeforeValidator(lambda value: value if value == "all" else _extent(value)),
    AfterValidator(lambda value: value if value == "all" else _check_measure(value)),
    PlainSerializer(lambda value: value if value == "all" else f"{value[0]:g}{value[1]}{3 if value[1] else ''}"),
]
Percent = Annotated[float, BeforeValidator(_percent), PlainSerializer(lambda value: f"{value:g}%")]
Devices = Annotated[str, AfterValidator(_devices)]
Shard = Annotated[
    tuple[int, int],
    BeforeValidator(_shard),
    AfterValidator(_check_shard),
    PlainSerializer(lambda value: f"{value[0]}/{value[1]}"),
]

Dimension = Annotated[
    Literal[2, 3],
    BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value),
]
Connectivity = Annotated[
    Literal[6, 18, 26],
    BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value),
]
Loss = Literal["dice-cross-entropy", "dice", "cross-entropy", "mean-squared-error"]
Activation = Literal["sigmoid", "softmax", "tanh", "linear"]


def argument(help: str, **facts: Any) -> Any:
    """A parameter that stands on the command line without its name; see :func:`option` for ``facts``."""
    return _field(help, facts | {"argument": True})


def option(default: Any, help: str, unit: str = "", **facts: Any) -> Any:
    """A parameter given as ``--name value``.

    Args:
        default: ``...`` if it is required.
        unit: Of the number.
        facts: Rules of pydantic (``ge``, ``le``, ...), and what a form needs to know:
            ``opens`` and ``makes``, what a path leads to, a key of :data:`SUFFIXES`;
            ``within``, that this names something in the file of another parameter: ``"file.samples"`` or
            ``"file.labels"``;
            ``each``, that there is one of these for each label of the data set that another parameter names;
            ``title``, what it is called where its name is no good title;
            ``otherwise``, in a word, what is taken where it is not given;
            ``joined``, what stands between several texts in a line of a form; a comma if not given;
            ``more``, that it is rarely changed.
    """
    return _field(help, facts | {"default": default, "unit": unit})


# Ends of the names of the files that a parameter opens or makes; none for any file, and for a folder.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "dataset": (".hdf5", ".h5"),
    "model": (".keras", ".h5"),
    "image": suffixes("read"),
    "dataset or image": tuple(dict.fromkeys((".hdf5", ".h5", *suffixes("read")))),
    "made image": suffixes("written"),
    "dataset or made image": tuple(dict.fromkeys((".hdf5", *suffixes("written")))),
    "file": tuple(dict.fromkeys((".hdf5", ".keras", ".h5", *suffixes("read")))),
    "csv": (".csv",),
    "parameters": (".toml",),
    "picture": (".png",),
    "onnx": (".onnx",),
    "package": (".zip",),
    "folder": (),
}
_FOR_FORMS = ("argument", "unit", "opens", "makes", "within", "each", "title", "otherwise", "joined", "more")


def _field(help: str, facts: dict[str, Any]) -> Any:
    extra = {name: value for name, value in facts.items() if name in _FOR_FORMS and value}
    rules = {name: value for name, value in facts.items() if name not in _FOR_FORMS}
    return Field(description=help, json_schema_extra=extra, **rules)


def wrong(parameter: str, text: str) -> PydanticCustomError:
    """What a check of several parameters together raises.

    Args:
        parameter: The one to change, beside which a form shows the text.
        text: A sentence that names it as the command line does: there it stands by itself.
    """
    return PydanticCustomError("value_error", text, {"parameter": parameter})


class Parameters(BaseModel):
    """Base of every declaration: frozen, and a name that is not declared is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, validate_default=False)


class Changing(Parameters):
    """An action that writes."""

    dry_run: bool = option(False, "Check everything and say what would be done, but write nothing.")


class Writing(Changing):
    """An action that makes a new file."""

    overwrite: bool = option(False, "Replace the result if it exists.")
