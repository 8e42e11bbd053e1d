"""What can go wrong, as exceptions that say what, where and what to do next.

The tree, with the exit status that the command line gives each::

    EngineError                  3
    ├── ParameterError           2   a parameter, or a combination of them, that cannot be right
    ├── DataError                3   something is wrong with a file or with what is in it
    │   ├── VolumeError              an image or label file
    │   ├── DatasetError             a data set
    │   │   └── LockedError          a data set that another process is changing
    │   ├── ModelError               a model file
    │   └── RunError                 a run folder
    ├── ResourceError            4   memory, disk or device do not suffice
    ├── MissingLibraryError      4   a library of an extra is not installed
    └── Stopped                 75   stopped on request, with everything saved
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "UPDATE",
    "DataError",
    "DatasetError",
    "EngineError",
    "LockedError",
    "MissingLibraryError",
    "ModelError",
    "ParameterError",
    "ResourceError",
    "RunError",
    "Stopped",
    "VolumeError",
]

UPDATE = "Update deepscem-tui, in its newer source: pip install -c constraints.txt ."  # as the README installs it


class EngineError(Exception):
    """Base of every error that the engine raises on purpose.

    Args:
        what: What is wrong and where, one sentence without a full stop.
        hint: What the user can do about it, one sentence; may be empty.
        parameter: The parameter at fault, as it is declared; empty if it is none, or not known.
    """

    exit_code = 3

    def __init__(self, what: str, hint: str = "", parameter: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint
        self.parameter = parameter

    def __str__(self) -> str:
        return f"{self.what}. {self.hint}" if self.hint else self.what


class ParameterError(EngineError):
    """A parameter, or a combination of parameters, that cannot be right."""

    exit_code = 2


class DataError(EngineError):
    """Something is wrong with a file or with what is in it."""


class VolumeError(DataError):
    """An image or label file that cannot be used."""


class DatasetError(DataError):
    """A data set that cannot be used, or a change to it that cannot be made."""


class LockedError(DatasetError):
    """A data set that another process is changing."""


class ModelError(DataError):
    """A model file that cannot be used, or a model that does not fit the data."""


class RunError(DataError):
    """A run folder that cannot be used."""


class ResourceError(EngineError):
    """Memory, disk or device do not suffice."""

    exit_code = 4


class MissingLibraryError(EngineError):
    """A library that is installed on request only, and is needed now."""

    exit_code = 4


class Stopped(EngineError):
    """The user asked to stop; everything that was finished is saved.

    Args:
        run: The folder of the run that was stopped; None if it is none.
    """

    exit_code = 75

    def __init__(self, what: str, hint: str = "", run: Path | None = None) -> None:
        super().__init__(what, hint)
        self.run = run
