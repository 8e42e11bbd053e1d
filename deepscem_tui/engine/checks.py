"""What a form wants to know while it is typed: what is wrong, for which parameter, and what would be done.

Everything here reads a little of the files that are named; nothing computes, and nothing imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepscem_tui.engine import actions, safe_mode
from deepscem_tui.engine.actions import Action, Declared
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.errors import DatasetError, EngineError, LockedError, ModelError, VolumeError
from deepscem_tui.engine.formats import is_place, place_of
from deepscem_tui.engine.formats.slice_files import is_several_files, open_slices
from deepscem_tui.engine.labels.files import label_paths
from deepscem_tui.engine.models.info import read_info
from deepscem_tui.engine.parameters import Parameters
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.sources.inputs import is_image_file

__all__ = ["Findings", "Outline", "examine", "expanded"]


@dataclass(frozen=True)
class Outline:
    """What in a data set can be chosen: names of its samples and of its labels."""

    samples: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What was found out about the values of a form.

    Args:
        faults: What is wrong, by parameter; "" is what concerns no single one.
        parameters: The values, checked; None where the declaration refuses them.
        summary: What would be done, where that could be told.
        remarks: Messages and warnings that came with it.
        outlines: What the data sets hold in which further parameters choose, by the parameter that names the data set.
    """

    faults: Mapping[str, str]
    parameters: Parameters | None = None
    summary: str = ""
    remarks: tuple[str, ...] = ()
    outlines: Mapping[str, Outline] = field(default_factory=dict)


def examine(action: Action, values: Mapping[str, Any], safe: bool, open_datasets: Sequence[Path] = ()) -> Findings:
    """Check values as the action itself would before it starts. Takes as long as opening the files that are named.

    Args:
        values: As for :func:`~deepscem_tui.engine.actions.build`; paths as they are typed, ``~`` included.
        safe: Whether safe mode is on.
        open_datasets: See :func:`deepscem_tui.engine.safe_mode.mismatch`.
    """
    values = expanded(action, values)
    declared = actions.declared(action)
    outlines = dict(_outlines(declared, values))
    faults = actions.faults(action, values)
    for name, text in _path_faults(declared, values):
        faults.setdefault(name, text)
    if faults:
        for name, text in _content_faults(declared, values):
            faults.setdefault(name, text)
        return Findings(faults, outlines=outlines)
    parameters = actions.build(action, values)
    refused = safe_mode.mismatch(action, parameters, open_datasets) if safe else None
    if refused is not None:
        return Findings({refused.parameter: refused.text}, parameters, outlines=outlines)
    return _tried(action, parameters, outlines)


def expanded(action: Action, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with ``~`` at the start of paths replaced by the home that it stands for."""
    paths = {declared.name for declared in actions.declared(action) if declared.opens or declared.makes}
    return {name: _expanded(value) if name in paths else value for name, value in values.items()}


def _expanded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_expanded(item) for item in value)
    if not isinstance(value, str) or not value.startswith("~"):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError:  # no such user
        return value


def _outlines(declared: Sequence[Declared], values: Mapping[str, Any]) -> Iterator[tuple[str, Outline]]:
    wanted = {parameter.within.partition(".")[0] or parameter.each for parameter in declared} - {""}
    for name in sorted(wanted):
        path = Path(str(values.get(name) or ""))
        if path.is_file() and not is_image_file(path):
            try:
                with open_dataset(path) as dataset:
                    yield name, Outline(tuple(dataset.samples), dataset.label_names)
            except (EngineError, OSError):  # said by the checks that follow
                continue


def _path_faults(declared: Sequence[Declared], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Files that are not there, and files that are there already."""
    for parameter in declared:
        given = values.get(parameter.name)
        for item in given if isinstance(given, (list, tuple)) else (given,):
            if not item:
                continue
            path = Path(str(item))
            if parameter.opens:
                text = _not_there(str(item), parameter)
            elif parameter.makes not in ("", "folder") and "overwrite" in values:
                text = _there(path, bool(values["overwrite"]))
            else:
                text = ""
            if text:
                yield parameter.name, text


def _not_there(given: str, parameter: Declared) -> str:
    path = Path(given)
    try:
        if parameter.opens == "folder":
            return "" if path.is_dir() else f"there is no folder {path}"
        if parameter.opens == "image":
            missing = [path for path in label_paths(given) if not (_exists(path) or is_several_files(path))]
            return f"there is no file {place_of(missing[0]).file}" if missing else ""
        if parameter.opens == "dataset or image" and is_several_files(path):
            return ""
        if parameter.opens in ("dataset or image", "file") and is_place(path):
            return "" if _exists(path) else f"there is no file {place_of(path).file}"
        if path.is_dir() and parameter.opens != "file":
            return "it is a folder. Give the name of a file"
        if not path.exists():
            return f"there is no file {path}"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return ""


def _exists(path: Path) -> bool:
    """Whether the file, or the store, is there that a path leads to or into."""
    return place_of(path).file.exists()


def _there(path: Path, overwrite: bool) -> str:
    try:
        place = place_of(path)
        path = place.file
        if path.is_dir() and not (place.format is not None and place.format.folder):
            return "it is a folder. Give the name of a file"
        if path.exists() and not overwrite:
            return "it exists already. Choose another name, or switch Overwrite on to replace it"
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"
    return ""


def _content_faults(declared: Sequence[Declared], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Files that are not what is wanted; said here where other faults keep the action itself from being tried."""
    for parameter in declared:
        given = values.get(parameter.name)
        for item in given if isinstance(given, (list, tuple)) else (given,):
            if not item or not (Path(str(item)).is_file() or (is_place(Path(str(item))) and _exists(Path(str(item))))):
                continue
            try:
                _look_into(Path(str(item)), parameter.opens)
            except LockedError:  # passes
                continue
            except (EngineError, OSError) as error:
                yield parameter.name, str(error)


def _look_into(path: Path, wanted: str) -> None:
    """Open a file as what it is to be.

    Args:
        wanted: As in the declaration: ``"dataset"``, ``"model"``, ``"image"``, ``"dataset or image"``, ...
    """
    if wanted == "model":
        read_info(path)
    elif wanted == "image":
        with open_slices(path, colours=True):
            pass
    elif wanted == "dataset or image" and is_image_file(path):
        with open_slices(path, colours=False):
            pass
    elif wanted.startswith("dataset"):
        with open_dataset(path):
            pass


class _Heard(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)

    def warning(self, text: str) -> None:
        self.said.append(f"Warning: {text}")


def _tried(action: Action, parameters: Parameters, outlines: Mapping[str, Outline]) -> Findings:
    """What a dry run says."""
    if "dry_run" not in action.parameters.model_fields:
        return Findings({}, parameters, outlines=outlines)
    heard = _Heard()
    try:
        result = action.carry_out(parameters.model_copy(update={"dry_run": True}), Context(heard))
    except LockedError as error:  # passes
        return Findings({}, parameters, "", (f"Cannot be checked now: {error}",), outlines)
    except EngineError as error:
        return Findings({_culprit(action, parameters, error): str(error)}, parameters, "", tuple(heard.said), outlines)
    except OSError as error:
        return Findings({"": f"{error.filename or ''}: {error.strerror or error}"}, parameters, outlines=outlines)
    faults = {} if result.ok else {"": result.summary}
    return Findings(faults, parameters, result.summary, tuple(heard.said), outlines)


def _culprit(action: Action, parameters: Parameters, error: EngineError) -> str:
    """The parameter that an error is about: the one it names, else one whose path it begins with."""
    declared = {parameter.name: parameter for parameter in actions.declared(action)}
    if error.parameter in declared:
        return error.parameter
    found = []
    for name, value in parameters:
        paths = [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, (Path, str))]
        if any(item and error.what.startswith((f"{item} ", f"There is no file {item}")) for item in paths):
            found.append(name)
    kinds: dict[type[EngineError], str] = {DatasetError: "dataset", ModelError: "model", VolumeError: "image"}
    kind = kinds.get(type(error), "")
    return next((name for name in found if kind and kind in declared[name].opens), found[0] if found else "")
