"""Planning a training."""

from __future__ import annotations

from pathlib import Path

from deepscem_tui.engine.parameters.kinds import Dimension, Writing, argument, option


class Plan(Writing):
    """Propose a network and a training for a data set, with reasons.

    Looks at the samples' sizes, voxels, labels and grey values and at what this machine has, and says what is unusual.
    `--out` keeps the proposal as a file for `train --from`.
    """

    dataset: Path = argument("Data set to learn from.", opens="dataset")
    valid: Path | None = option(
        None, "Data set for the validation, named in the proposal.", opens="dataset", otherwise="none"
    )
    out: Path | None = option(None, "File to make (.toml) for train --from.", makes="parameters", otherwise="none")
    dimension: Dimension | None = option(
        None, "Propose a network for slices (2) or for volumes (3).", otherwise="chosen"
    )
    measure: bool = option(True, "Measure a step of that training, some seconds, to estimate the time that it takes.")
