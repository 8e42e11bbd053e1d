"""Which files a run has made itself: those it may replace when it goes on, even if it was killed when they appeared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepscem_tui.engine.system.files import regular, write_text

__all__ = ["is_own", "noting"]


def noting(folder: Path | None, out: Path) -> Callable[[Path], None]:
    """What notes a result in a run's folder, to be called with its temporary file before that becomes ``out``."""

    def note(temporary: Path) -> None:
        if folder is not None:
            noted = _noted(folder) | {str(out.absolute()): _marks(temporary)}
            write_text(_file(folder), json.dumps(noted, indent=1) + "\n")

    return note


def is_own(folder: Path | None, out: Path) -> bool:
    """Whether a file is there, and still what the run wrote."""
    try:
        return folder is not None and _noted(folder).get(str(out.absolute())) == _marks(out)
    except OSError:
        return False


def _marks(path: Path) -> list[int]:
    """What a rename leaves as it is, and no change does."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _noted(folder: Path) -> dict[str, Any]:
    try:
        noted = json.loads(regular(_file(folder)).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _file(folder: Path) -> Path:
    return folder / "result.json"
