"""What a form shows at first: what was used last time, and what the folder suggests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepscem_tui.engine import actions, words
from deepscem_tui.engine.actions import Action
from deepscem_tui.engine.catalogue import Catalogue, Cataloguer, DatasetEntry, ModelEntry
from deepscem_tui.engine.formats import place_of
from deepscem_tui.engine.sources.inputs import is_image_file

_SCAN_SECONDS = 2.0
_NAMES = {
    "train": ("train", "training", "learn"),
    "valid": ("valid", "validation", "val"),
    "test": ("test", "testing"),
}
_FREE = 1000


class Proposer:
    """Proposes values for the form of an action by what a folder holds; one thread at a time may use it."""

    def __init__(self, action: Action, folder: Path) -> None:
        self._action, self._folder = action, folder
        self._cataloguer = Cataloguer()

    def propose(self, settled: Mapping[str, Any]) -> dict[str, str]:
        """Values, as typed, for what is not settled; reads the folder."""
        found = self._cataloguer.scan(self._folder, seconds=_SCAN_SECONDS)
        proposed = _PROPOSALS[self._action.name](found, settled)
        return {name: str(value) for name, value in proposed.items() if value and not settled.get(name)}


def still_there(action: Action, last: Mapping[str, Any]) -> dict[str, Any]:
    """What a form was sent with last time, without files that are not there any more or were made, and without what
    was chosen in these.
    """
    declared = {parameter.name: parameter for parameter in actions.declared(action)}
    gone = {
        name
        for name, parameter in declared.items()
        if parameter.kind == "path" and not (parameter.opens and _is_there(last.get(name)))
    }
    gone |= {name for name, parameter in declared.items() if parameter.within.partition(".")[0] in gone}  # chosen in it
    return {name: value for name, value in last.items() if name != "overwrite" and name not in gone}


def _is_there(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_file()


def _for_training(found: Catalogue, values: Mapping[str, Any]) -> dict[str, Any]:
    untrained = [entry for entry in found.models if entry.info and not entry.info.training]
    model = values.get("model") or _newest(untrained or found.models)
    proposed: dict[str, Any] = {name: _named(found.datasets, names) for name, names in _NAMES.items()}
    labelled = _labelled(found)
    if len(labelled) == 1:
        proposed["train"] = labelled[0].path
    if model:
        stem = Path(model).stem
        name = stem.replace("untrained", "trained") if "untrained" in stem else f"{stem}-trained"
        proposed |= {"model": model, "out": free(Path(model).with_name(f"{name}.keras"))}
    return proposed


def _for_prediction(found: Catalogue, values: Mapping[str, Any]) -> dict[str, Any]:
    trained = [entry for entry in found.models if entry.info and entry.info.training]
    images = [entry for entry in found.datasets if entry.readable and entry.samples and not entry.has_predictions]
    only = images[0].path if len(images) == 1 else None
    source = values.get("input") or _named(images, _NAMES["test"]) or only
    proposed: dict[str, Any] = {"model": _newest(trained), "input": source}
    if source:
        place = place_of(Path(source))
        proposed["out"] = free(place.file.with_name(f"{place.stem}-predicted.hdf5"))
    return proposed


def _for_evaluation(found: Catalogue, values: Mapping[str, Any]) -> dict[str, Any]:
    predicted = [entry for entry in found.datasets if entry.has_predictions]
    labelled = _labelled(found)
    segmentation = values.get("segmentation") or _newest(predicted)
    samples = next((_sample_names(entry) for entry in predicted if entry.path == segmentation), set())
    fitting = [entry for entry in labelled if samples and samples <= _sample_names(entry)]
    reference = _named(fitting, _NAMES["test"]) or (fitting[0].path if fitting else None)
    return {"reference": reference or _named(labelled, _NAMES["test"]), "segmentation": segmentation}


_PROPOSALS = {"train": _for_training, "predict": _for_prediction, "evaluate": _for_evaluation}


def to_learn_from(datasets: Sequence[Path]) -> Path | None:
    """The data set that a new model is most likely for."""
    named = [path for path in datasets if path.stem.casefold() in _NAMES["train"]]
    return next(iter([*named, *datasets]), None)


def free(path: Path) -> Path:
    """The path, or the like with a number if it is taken."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(2, _FREE))
    return next((candidate for candidate in (path, *numbered) if not candidate.exists()), path)


def objects_of(masks: Path) -> dict[str, Path]:
    """Where the objects of a data set or image file go: their numbers and their table."""
    stem = words.file_name(f"{masks.stem}-objects")
    return {"out": free(masks.with_name(f"{stem}.tif")), "csv": free(masks.with_name(f"{stem}.csv"))}


def cleaned(masks: Path) -> Path:
    """Where the cleaned masks of a data set or image file go."""
    suffix = ".tif" if is_image_file(masks) else ".hdf5"
    return free(masks.with_name(words.file_name(f"{masks.stem}-clean") + suffix))


def _labelled(found: Catalogue) -> list[DatasetEntry]:
    return [entry for entry in found.datasets if entry.readable and any(s.of_kind("label") for s in entry.samples)]


def _sample_names(entry: DatasetEntry) -> set[str]:
    return {sample.name for sample in entry.samples}


def _named(datasets: Iterable[DatasetEntry], names: Iterable[str]) -> Path | None:
    """The nearest data set whose file has one of these names."""
    wanted = set(names)
    return next((entry.path for entry in datasets if entry.path.stem.casefold() in wanted and entry.readable), None)


def _newest(entries: Iterable[DatasetEntry] | Iterable[ModelEntry]) -> Path | None:
    stamped = [(entry.stamp[3], entry.path) for entry in entries if entry.stamp is not None and not entry.problem]
    return max(stamped)[1] if stamped else None
