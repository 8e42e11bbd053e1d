"""What an action may use besides its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.stop import Stop


@dataclass(frozen=True)
class Context:
    """A way to report, a way to be stopped, and the run's folder if the action has one.

    Args:
        measuring: Whether a dry run may take some seconds to measure; not where it is a form's answer to a key.
    """

    report: Reporter = field(default_factory=Reporter)
    stop: Stop = field(default_factory=Stop)
    folder: Path | None = None
    measuring: bool = False
