"""`python -m deepscem_tui`: the same as `deepscem-tui`."""

import sys

from deepscem_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
