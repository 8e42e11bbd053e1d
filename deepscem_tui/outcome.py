"""From work to exit status: whatever is raised ends in one message and the status that fits it."""

from __future__ import annotations

import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from deepscem_tui import __version__
from deepscem_tui.console import Console
from deepscem_tui.engine.errors import EngineError, ResourceError
from deepscem_tui.engine.stop import Stop
from deepscem_tui.signals import asking_to_stop

if TYPE_CHECKING:
    from deepscem_tui.engine.results import Result


def guarded(console: Console, work: Callable[[], int]) -> int:
    """Do ``work`` and give its exit status; whatever is raised ends in a message and the status that fits it."""
    try:
        return work()
    except BrokenPipeError:  # stdout's, whose reader has gone: nobody is left to tell
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


def explained(error: Exception) -> EngineError:
    """Whatever an action raised, as an error that says what, where and what to do next.

    What nobody foresaw is a :class:`Bug`; a report of it is written to a file.
    """
    if isinstance(error, EngineError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError("There is not enough memory", "Use a smaller patch or batch, or a larger machine.")
    if isinstance(error, OSError):
        return _from_system(error)
    return Bug(f"A bug in deepscem-tui: {type(error).__name__}: {error}", report(error))


def _from_system(error: OSError) -> EngineError:
    where = f"{error.filename}: " if error.filename else ""
    what = f"{where}{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG):
        return ResourceError(what, "Make space, or write somewhere else.")
    return EngineError(what, "Check the name and the folder, and that they are yours.")


def report(error: BaseException) -> str:
    """Write what is needed to look for the bug, and say where."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"deepscem-tui-{time.strftime('%Y%m%d-%H%M%S')}-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(f"deepscem-tui {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
            file.write(f"{sys.argv}\n\n")
            traceback.print_exception(type(error), error, error.__traceback__, file=file)
            return f"Please report it with the file {file.name}"
    except OSError:
        return "A report could not be written."


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
