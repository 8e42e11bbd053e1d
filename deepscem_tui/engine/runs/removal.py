"""Removing the folder of a run that has ended."""

from __future__ import annotations

import shutil
from pathlib import Path

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.runs import runs

__all__ = ["contents", "remove"]

_MODELS = (".keras", ".h5")


def contents(folder: Path) -> str:
    """What a run's folder holds, and what is lost with it.

    Raises:
        RunError: it is no run, it is running, or it is a link to a folder elsewhere.
        OSError: it cannot be read.
    """
    _check(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    models = sorted(path.name for path in files if path.suffix in _MODELS)
    text = f"{words.counted(len(files), 'file')}, {words.amount(size, 'B')}: its curves, log and previews"
    if models:
        text += f", and the models in it: {', '.join(models)}"
    return text + ". What it wrote elsewhere stays, but it can no longer be resumed."


def remove(folder: Path) -> None:
    """Remove a run's folder with all that is in it.

    Raises:
        RunError: it is no run, it is running, or it is a link to a folder elsewhere.
        OSError: something cannot be removed.
    """
    _check(folder)
    shutil.rmtree(folder)


def _check(folder: Path) -> None:
    if folder.is_symlink():
        raise RunError(f"{folder} is a link to {folder.readlink()}", "Remove it by hand.")
    if runs.read(folder).state == "running":
        raise RunError(f"{folder} is running", "Stop it first.")
