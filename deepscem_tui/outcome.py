"""From work to exit status: whatever is raised ends in one message and the status that fits it."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from deepscem_tui import __version__
from deepscem_tui.console import Console, ReaderGoneError
from deepscem_tui.engine.errors import EngineError, ResourceError
from deepscem_tui.engine.stop import Stop
from deepscem_tui.signals import asking_to_stop

if TYPE_CHECKING:
    from deepscem_tui.engine.results import Result


def guarded(console: Console, work: Callable[[], int]) -> int:
    """Do ``work`` and give its exit status; whatever is raised ends in a message and the status that fits it."""
    try:
        with console.logging():
            return work()
    except ReaderGoneError:  # nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        known = explained(error)
        with suppress(OSError):  # stdout may be what cannot be written
            console.error(known)
        return known.exit_code


class Bug(EngineError):
    """A mistake of this program."""

    exit_code = 1


def explained(error: Exception, doing: str = "") -> EngineError:
    """Whatever an action raised, as an error that says what, where and what to do next.

    What nobody foresaw is a :class:`Bug`; a report of it is written to a file.

    Args:
        doing: What was being done, as a command; the one that this process was started with if empty.
    """
    if isinstance(error, EngineError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError("There is not enough memory", "Use a smaller patch or batch, or a larger machine.")
    if isinstance(error, OSError):
        return _from_system(error)
    return Bug(f"A bug in deepscem-tui: {type(error).__name__}: {error}", report(error, doing))


def _from_system(error: OSError) -> EngineError:
    where = f"{error.filename}: " if error.filename else ""
    what = f"{where}{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG):
        return ResourceError(what, "Make space, or write somewhere else.")
    return EngineError(what, "Check the name and the folder, and that they are yours.")


def report(error: BaseException, doing: str = "") -> str:
    """Write what is needed to look for the bug, and say where: beside the application's log, else with temporary files.

    It holds versions, the command and the traceback; nothing of the environment and no values of variables.
    """
    from deepscem_tui.settings import report_folder  # with pydantic: only where it is needed

    for folder in (report_folder(), None):
        with suppress(OSError):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", prefix=f"deepscem-tui-{time.strftime('%Y%m%d-%H%M%S')}-", suffix=".txt", dir=folder, delete=False,
                encoding="utf-8", errors="backslashreplace",
            ) as file:  # fmt: skip
                file.write(_described(doing))
                traceback.print_exception(type(error), error, error.__traceback__, file=file)
                return f"Please report it with the file {file.name}"
    return "A report could not be written."


def _described(doing: str) -> str:
    """What runs here, and what it was asked for."""
    versions = []
    for package in ("tensorflow", "keras", "numpy", "h5py", "tifffile", "textual"):
        with suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    here = f"deepscem-tui {__version__}, Python {platform.python_version()}, {platform.platform()}"
    return f"{here}\n{', '.join(versions)}\n\n{doing or shlex.join(sys.argv)}\n\n"


def carry_out(console: Console, work: Callable[[Stop], Result]) -> int:
    """Do ``work`` under signal handlers, show its result, and give the exit status."""

    def do() -> int:
        stop = Stop()
        with asking_to_stop(stop, console.message, console.show_cursor):
            result = work(stop)
        try:
            console.result(result)
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that is gone: nobody is left to tell
                raise
        return 0 if result.ok else EngineError.exit_code

    return guarded(console, do)
