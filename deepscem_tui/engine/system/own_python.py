"""Processes of our own: the same Python with the same modules."""

from __future__ import annotations

import sys

__all__ = ["own_python"]


def own_python(module: str, *options: str) -> list[str]:
    """A command that calls a module's ``main()``, with words to be added.

    It imports from where this process does. ``python -m`` would look first in the folder that it is started in, where
    files of others lie.

    Args:
        options: Of Python itself.
    """
    path = [entry for entry in sys.path if entry]
    code = f"import sys; sys.path[:] = {path!r}; from {module} import main; sys.exit(main())"
    return [sys.executable, *options, "-c", code]
