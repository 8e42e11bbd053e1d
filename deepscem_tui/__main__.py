"""The program's beginning: `deepscem-tui`, and `python -m deepscem_tui`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Carry out the command line; ctrl+c has no traceback while the program is being loaded either."""
    try:
        from deepscem_tui.cli import main as carry_out

        return carry_out()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
