"""The screens that one switches between: the modes of the application."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["SCREENS"]

SCREENS: Mapping[str, tuple[str, str, str]] = {  # mode: its key, its title, and that where there is little room
    "datasets": ("f2", "Data sets", "Data"),
    "models": ("f3", "Models", "Models"),
    "training": ("f4", "Training", "Train"),
    "prediction": ("f5", "Prediction", "Predict"),
    "evaluation": ("f6", "Evaluation", "Evaluate"),
    "runs": ("f7", "Runs", "Runs"),
}
