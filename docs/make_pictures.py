"""Make the documentation's pictures: a slice of a demo's folder, and what the tutorials show: ``make pictures``."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile
from pathlib import Path

import tutorial
from rich.console import Console

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.preview import preview
from deepscem_tui.render.slices import compared, draw

WIDTH = 72
HERE = Path(__file__).parent.absolute()


def main() -> None:
    draw_preview(Path(sys.argv[1]))
    play_tutorials()


def draw_preview(folder: Path) -> None:
    """Draw the middle slice of the demo's test volume with hits, misses and false alarms."""
    asked = p.Preview(file=folder / "predicted.hdf5", sample="test", reference=folder / "test.hdf5")
    picture = preview(asked, Context()).picture
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    console.print("[bold]$ deepscem-tui run preview predicted.hdf5 test --reference test.hdf5[/bold]\n")
    scene = compared(picture.image, picture.masks, picture.reference, picture.aspect)
    console.print(draw(scene, "blocks", WIDTH, rows=30))
    target = HERE / "preview.svg"
    console.save_svg(str(target), title="deepscem-tui")
    print(f"wrote {target}")


def play_tutorials() -> None:
    """Follow the tutorials in a folder of their own, in a terminal of many colours, with nobody's settings."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        os.environ[name] = tempfile.mkdtemp()
    os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        asyncio.run(tutorial.play_all(HERE / "pictures"))
        os.chdir(HERE)
    print(f"wrote {HERE / 'pictures'}")


if __name__ == "__main__":
    main()
