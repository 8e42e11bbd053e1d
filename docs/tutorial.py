"""The tutorials as something that can be carried out: their `keys` blocks are played in the application.

A line of a block is one of::

    press KEY...       keys, as the page names them: `enter`, `ctrl+s`, `f4`, `a`
    type TEXT          into the focused field, in place of what is there
    see TEXT           goes on when the screen shows it
    picture NAME       the screen as it is now but for notices, docs/pictures/NAME.svg
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input

from deepscem_tui.app import DeepscemApp
from deepscem_tui.settings import Settings

HERE = Path(__file__).parent
TUTORIALS = sorted(HERE.glob("tutorial-*.md"))
SIZE = (80, 24)
_BLOCK = re.compile(r"^```keys\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATIENCE = 240.0  # a training, on a slow machine


@dataclass(frozen=True)
class Step:
    """One line of a block."""

    verb: str
    text: str
    where: str


def steps(path: Path) -> Iterator[Step]:
    """What a tutorial has its reader do.

    Raises:
        ValueError: a line is none of the four.
    """
    for block in _BLOCK.finditer(path.read_text(encoding="utf-8")):
        for line in filter(None, map(str.strip, block[1].splitlines())):
            verb, _, text = line.partition(" ")
            if verb not in ("press", "type", "see", "picture") or not text:
                raise ValueError(f"{path.name}: {line!r} is nothing that can be done")
            yield Step(verb, text.strip(), f"{path.name}: {line}")


async def play_all(pictures: Path | None = None) -> None:
    """Follow all tutorials in the current folder, which is empty at first.

    Args:
        pictures: Folder for the pictures; None to make none.
    """
    for path in TUTORIALS:
        app = DeepscemApp(Path(), Path("runs"), Settings(pictures="blocks" if pictures else "auto"))
        async with app.run_test(size=SIZE, notifications=True) as pilot:
            await play(pilot, path, pictures)


async def play(pilot: Pilot[Any], path: Path, pictures: Path | None = None) -> None:
    """Do what a tutorial says.

    Args:
        pictures: Folder for the pictures; None to make none.

    Raises:
        AssertionError: the screen never shows what the tutorial promises.
    """
    for step in steps(path):
        if step.verb == "press":
            await pilot.press(*step.text.split())
        elif step.verb == "type":
            field = pilot.app.focused
            assert isinstance(field, Input), f"{step.where}: {field} is no field"
            await pilot.press("end", "ctrl+u", *("space" if character == " " else character for character in step.text))
        elif step.verb == "see":
            await _see(pilot, step)
        elif pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            pilot.app.clear_notifications()  # they lie over the bar of screens for some seconds
            await pilot.pause()
            picture = pilot.app.export_screenshot(title="deepscem-tui", simplify=True)
            (pictures / f"{step.text}.svg").write_text(picture, encoding="utf-8")
        await pilot.pause()


async def _see(pilot: Pilot[Any], step: Step) -> None:
    end = time.monotonic() + _PATIENCE
    while step.text not in _shown(pilot):
        assert time.monotonic() < end, f"{step.where}\n{_shown(pilot)}"
        await pilot.pause(0.05)


def _shown(pilot: Pilot[Any]) -> str:
    app = pilot.app
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())
