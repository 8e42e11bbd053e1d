"""Driving the terminal application in tests: what is on the screen, and waiting for it."""

import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot


def screen_text(app: App[Any]) -> str:
    """The screen as lines of text."""
    width, height = app.size
    strips = app.screen._compositor.render_strips()
    lines = [strip.text.ljust(width)[:width].rstrip() for strip in strips[:height]]
    return "\n".join(lines)


async def until(pilot: Pilot[Any], condition: Callable[[], object], what: str = "", seconds: float = 20.0) -> None:
    """Wait until a condition holds; fail with what is on the screen if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never came: {what or condition}\n{screen_text(pilot.app)}")
        await pilot.pause(0.05)
    await pilot.pause()
