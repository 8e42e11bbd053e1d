"""The demo."""

from __future__ import annotations

from pathlib import Path

from deepscem_tui.engine.parameters.kinds import (
    Changing,
    argument,
    option,
)


class Demo(Changing):
    """Do the whole job on a synthetic volume: data sets, training, prediction, scores."""

    folder: Path = argument("Folder for the demo's files.", default=Path("deepscem-demo"), makes="folder")
    seed: int = option(0, "Seed of the volume and of the training.", ge=0, le=2**31 - 1)
    images_only: bool = option(False, "Make the images only, to make data sets of yourself.")
    overwrite: bool = option(False, "Replace an earlier demo in the folder.")
