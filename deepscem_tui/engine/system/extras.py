"""Libraries that are not installed with the program, because few need them or they are large."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from deepscem_tui.engine.errors import MissingLibraryError

__all__ = ["check", "load"]


def load(module: str, extra: str, purpose: str) -> Any:
    """Import a library that belongs to an extra of ``pyproject.toml``.

    Args:
        module: Such as ``"zarr"``.
        extra: The extra's name.
        purpose: What it is needed for, as the subject of a sentence, such as ``"Reading a Zarr store"``.

    Raises:
        MissingLibraryError: it is not installed, or not whole.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise _missing(error.name or module, extra, purpose) from error


def check(module: str, extra: str, purpose: str) -> None:
    """Look for a library as :func:`load` does, without importing it, which may take seconds.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        found = find_spec(module)
    except ImportError:  # not even the package that it is part of
        found = None
    if found is None:
        raise _missing(module, extra, purpose)


def _missing(library: str, extra: str, purpose: str) -> MissingLibraryError:
    what = f"{purpose} needs the library {library}, which is not installed"
    return MissingLibraryError(what, f"Install it with: pip install 'deepscem-tui[{extra}]'")
