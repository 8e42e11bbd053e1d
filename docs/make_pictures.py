"""Make the documentation's pictures: a slice of a demo's folder, and what the tutorials show: ``make pictures``."""

from __future__ import annotations

import asyncio
import colorsys
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import tutorial
from rich.console import Console

from deepscem_tui.cli import main as main_of_program
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.formats.volumes import open_volume
from deepscem_tui.engine.viewing.picture_files import write_png
from deepscem_tui.engine.viewing.preview import preview
from deepscem_tui.render.slices import compared, draw

WIDTH = 72
HERE = Path(__file__).parent.absolute()


def main() -> None:
    draw_preview(Path(sys.argv[1]))
    draw_objects(Path(sys.argv[1]))
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


def draw_objects(folder: Path) -> None:
    """Colour and number the objects in a slice, with the commands of the page that shows it."""
    page = (HERE / "microscope-to-table.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in re.findall(r"^    deepscem-tui (run .*)$", page, re.MULTILINE)]
    with tempfile.TemporaryDirectory() as here:
        Path(here, "deepscem-demo").symlink_to(folder.absolute())
        os.chdir(here)
        for name in ("convert-image", "predict", "find-objects"):
            command = next(words for words in commands if words[1] == name)
            assert main_of_program(command) == 0, command
        with open_volume(Path("cell.mrc")) as stack, open_volume(Path("objects.tif")) as objects:
            grey, numbers = stack.read(8, 9)[0], objects.read(8, 9)[0]
        os.chdir(HERE)
    write_png(HERE / "pictures" / "objects.png", _coloured(grey, numbers, scale=3))
    print(f"wrote {HERE / 'pictures' / 'objects.png'}")


def _coloured(grey: np.ndarray, numbers: np.ndarray, scale: int) -> np.ndarray:
    """A slice (Y, X) several times as large, as colours uint8 (Y, X, 3): each object tinted, with its number on it."""
    large = cv2.resize(grey.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    low, high = np.percentile(grey, (1, 99))
    colours = np.repeat(np.clip((large - low) / (high - low), 0, 1)[..., None], 3, axis=2)
    ids = cv2.resize(numbers, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    found = [int(number) for number in np.unique(ids[ids > 0])]
    for number in found:
        inside = ids == number
        colour = np.array(colorsys.hsv_to_rgb(0.618 * number % 1, 0.7, 1))  # the golden angle: neighbours differ
        colours[inside] = 0.55 * colours[inside] + 0.45 * colour
    picture = np.rint(255 * colours).astype(np.uint8)
    for number in found:
        y, x = (int(np.mean(axis)) for axis in np.nonzero(ids == number))
        for shade, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            place = (x - 8 * len(str(number)), y + 8)
            cv2.putText(picture, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, shade, width, cv2.LINE_AA)
    return picture


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
