"""Libraries that are not installed with the program, because few need them or they are large."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from deepscem_tui.engine.errors import MissingLibraryError

__all__ = ["load"]


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
        what = f"{purpose} needs the library {error.name or module}, which is not installed"
        raise MissingLibraryError(what, f"Install it with: pip install 'deepscem-tui[{extra}]'") from error
