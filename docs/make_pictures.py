"""Make the documentation's pictures from a demo's folder: ``make pictures``."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.preview import preview
from deepscem_tui.render.slices import compared, draw

WIDTH = 72


def main() -> None:
    """Draw the middle slice of the demo's test volume with hits, misses and false alarms."""
    folder = Path(sys.argv[1])
    asked = p.Preview(file=folder / "predicted.hdf5", sample="test", reference=folder / "test.hdf5")
    picture = preview(asked, Context()).picture
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    console.print("[bold]$ deepscem-tui run preview predicted.hdf5 test --reference test.hdf5[/bold]\n")
    scene = compared(picture.image, picture.masks, picture.reference, picture.aspect)
    console.print(draw(scene, "blocks", WIDTH, rows=30))
    target = Path(__file__).parent / "preview.svg"
    console.save_svg(str(target), title="deepscem-tui")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
