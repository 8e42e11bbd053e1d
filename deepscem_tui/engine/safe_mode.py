"""Safe mode: what names different numbers of labels is refused before it starts, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.actions import Action
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.errors import EngineError
from deepscem_tui.engine.formats import place_of
from deepscem_tui.engine.models.info import read_info
from deepscem_tui.engine.sources.inputs import is_image_file

__all__ = ["label_count", "mismatch", "model_label_count"]

_SWITCH = "Switch safe mode off to do it all the same"


@dataclass(frozen=True)
class Fault:
    """Why an action is refused.

    Args:
        parameter: The one to change, as it is declared.
        text: The reason and what to do about it.
    """

    parameter: str
    text: str


def mismatch(action: Action, parameters: p.Parameters, open_datasets: Sequence[Path] = ()) -> Fault | None:
    """Where the numbers of labels differ between what an action names: data sets, models, files and forms.

    Only attributes are read; what cannot be read is left to the action itself, which says why.

    Args:
        open_datasets: What the user has open, which a new model is meant for.
    """
    check = _CHECKS.get(action.name)
    return check(parameters, open_datasets) if check else None


def label_count(path: Path | None) -> int | None:
    """Labels of a data set, 1 for an image file; None for no path and for what is neither."""
    if path is None or not place_of(path).file.exists():
        return None
    if is_image_file(path):
        return 1
    try:
        with open_dataset(path) as dataset:
            return dataset.n_labels
    except (EngineError, OSError):
        return None


def model_label_count(path: Path) -> int | None:
    """Labels of a model; None for what is none."""
    try:
        return read_info(path).n_labels
    except (EngineError, OSError):
        return None


def _train(parameters: p.Parameters, _: Sequence[Path]) -> Fault | None:
    assert isinstance(parameters, p.Train)
    wanted = model_label_count(parameters.model)
    for name in ("train", "valid", "test"):
        found = label_count(getattr(parameters, name))
        if None not in (wanted, found) and wanted != found:
            return Fault(
                name, f"{_has(found)} a sample, and the model {wanted}. Choose another, or make a model like it"
            )
    return None


def _predict(parameters: p.Parameters, _: Sequence[Path]) -> Fault | None:
    assert isinstance(parameters, p.Predict)
    wanted, found = model_label_count(parameters.model), label_count(parameters.input)
    if not wanted or not found or is_image_file(parameters.input) or wanted == found:
        return None  # an image, or a data set without labels, has none that could differ
    return Fault("input", f"{_has(found)}, and the model {wanted}: they were not made for each other. {_SWITCH}")


def _evaluate(parameters: p.Parameters, _: Sequence[Path]) -> Fault | None:
    assert isinstance(parameters, p.Evaluate)
    wanted, found = label_count(parameters.reference), label_count(parameters.segmentation)
    if wanted is None or found is None or wanted == found:
        return None
    return Fault("segmentation", f"{_has(found)}, and the reference {wanted}. Choose two that belong together")


def _add_sample(parameters: p.Parameters, _: Sequence[Path]) -> Fault | None:
    assert isinstance(parameters, p.AddSample)
    wanted, given = label_count(parameters.file), len(parameters.labels)
    if wanted is None or wanted == given or parameters.classes is not None or parameters.instances == "boundaries":
        return None
    if given == 0:
        text = f"no file is given, and the data set has {words.counted(wanted, 'label')}: they would be blank"
        return Fault("labels", f"{text}. Give a file for each, or say that it is blank. {_SWITCH}")
    return Fault("labels", f"{words.counted(given, 'file')} for {words.counted(wanted, 'label')}. Give one for each")


def _set_aliases(parameters: p.Parameters, _: Sequence[Path]) -> Fault | None:
    assert isinstance(parameters, p.SetAliases)
    wanted, given = label_count(parameters.file), len(parameters.aliases)
    if wanted is None or parameters.clear or wanted == given:
        return None
    return Fault("aliases", f"{words.counted(given, 'name')} for {words.counted(wanted, 'label')}. Give one for each")


def _create_model(parameters: p.Parameters, open_datasets: Sequence[Path]) -> Fault | None:
    assert isinstance(parameters, p.CreateModel)
    counts = {path: count for path in open_datasets if (count := label_count(path))}
    if parameters.labels is None or not counts or parameters.labels in counts.values():
        return None
    listed = ", ".join(f"{path.name} has {count}" for path, count in list(counts.items())[:3])
    return Fault("labels", f"no open data set has {words.counted(parameters.labels, 'label')}: {listed}. {_SWITCH}")


def _has(count: int | None) -> str:
    return f"has {words.counted(count or 0, 'label')}"


_CHECKS: dict[str, Callable[[p.Parameters, Sequence[Path]], Fault | None]] = {
    "train": _train,
    "predict": _predict,
    "evaluate": _evaluate,
    "add-sample": _add_sample,
    "set-aliases": _set_aliases,
    "create-model": _create_model,
}
