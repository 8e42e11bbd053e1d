"""The registry of actions: what can be done, with which parameters, by which function."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.results import Result


@dataclass(frozen=True)
class Action:
    """One thing that can be done.

    Args:
        name: As on the command line.
        parameters: Its declaration.
        function: ``module:name`` below ``deepscem_tui.engine``, imported when the action is carried out.
        group: Heading in the list of actions.
        tensorflow: Whether it computes with TensorFlow.
        run: Whether it writes a run folder.
        examples: What may be typed after its name.
    """

    name: str
    parameters: type[p.Parameters]
    function: str
    group: str
    tensorflow: bool = False
    run: bool = False
    examples: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        return cleandoc(self.parameters.__doc__ or "")

    @property
    def example_lines(self) -> list[str]:
        """Its examples as they are typed."""
        return [f"deepscem-tui run {self.name} {words}" for words in self.examples]

    def carry_out(self, parameters: p.Parameters, context: Context) -> Result:
        """Import the action's function and call it.

        Raises:
            EngineError: as the action's function says.
        """
        module, _, name = self.function.partition(":")
        result = getattr(import_module(f"deepscem_tui.engine.{module}"), name)(parameters, context)
        assert isinstance(result, Result)
        return result


_DATA, _MODELS, _WORK = "Data sets", "Models", "Training, prediction, evaluation"

ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action("demo", p.Demo, "demo:demo", _WORK, tensorflow=True),
        Action("create-dataset", p.CreateDataset, "dataset_actions.names:create_dataset", _DATA),
        Action(
            "add-sample",
            p.AddSample,
            "dataset_actions.adding:add_sample",
            _DATA,
            examples=(
                "cells.hdf5 cell1 cell1.tif cell1_mito.tif cell1_nuclei.tif",
                "cells.hdf5 cell2 raw.mrc classes.tif --classes mito=1,nuclei=2 --labelled-z 0:40",
            ),
        ),
        Action(
            "import-folder",
            p.ImportFolder,
            "dataset_actions.folder_import:import_folder",
            _DATA,
            examples=(
                "cells.hdf5 images/ --dry-run",
                "cells.hdf5 . --image-pattern '{name}.tif' --label-pattern '{name}_{label}.tif'",
            ),
        ),
        Action("crop-sample", p.CropSample, "dataset_actions.copying:crop_sample", _DATA),
        Action("rename-dataset", p.RenameDataset, "dataset_actions.names:rename_dataset", _DATA),
        Action("rename-sample", p.RenameSample, "dataset_actions.names:rename_sample", _DATA),
        Action("remove-sample", p.RemoveSample, "dataset_actions.names:remove_sample", _DATA),
        Action("set-aliases", p.SetAliases, "dataset_actions.names:set_aliases", _DATA),
        Action("set-labelled", p.SetLabelled, "labels.labelled:set_labelled", _DATA),
        Action("set-voxel-size", p.SetVoxelSize, "sources.voxel_sizes:set_voxel_size", _DATA),
        Action("save-dataset", p.SaveDataset, "dataset_actions.copying:save_dataset", _DATA),
        Action(
            "split-dataset",
            p.SplitDataset,
            "dataset_actions.splitting:split_dataset",
            _DATA,
            examples=(
                "cells.hdf5 parts/ --valid 20% --test 10%",
                "one_volume.hdf5 parts/ --valid 20% --by z --gap 16",
            ),
        ),
        Action("export-sample", p.ExportSample, "dataset_actions.exporting:export_sample", _DATA),
        Action(
            "convert-image",
            p.ConvertImage,
            "image_conversion:convert_image",
            _DATA,
            examples=(
                "tomogram.mrc tomogram.ome.zarr",
                "cremi.h5:/volumes/raw raw.ome.tif --voxel-size '40,4,4 nm'",
            ),
        ),
        Action("distance-transform", p.DistanceTransform, "dataset_actions.distance:distance_transform", _DATA),
        Action("check-dataset", p.CheckDataset, "dataset_actions.check:check_dataset", _DATA),
        Action("info", p.Info, "info:info", _DATA),
        Action("preview", p.Preview, "viewing.preview:preview", _DATA),
        Action("show-augmentation", p.ShowAugmentation, "training.show_augmentation:show_augmentation", _DATA),
        Action(
            "create-model",
            p.CreateModel,
            "models.actions:create_model",
            _MODELS,
            tensorflow=True,
            examples=(
                "new.keras --like train.hdf5",
                "new.keras --labels 2 --dimension 3 --filters 16",
            ),
        ),
        Action("convert-model", p.ConvertModel, "models.actions:convert_model", _MODELS, tensorflow=True),
        Action("export-model", p.ExportModel, "sharing.export:export_model", _MODELS, tensorflow=True),
        Action("package-model", p.PackageModel, "sharing.package:package_model", _MODELS, tensorflow=True),
        Action(
            "plan",
            p.Plan,
            "planning.plan:plan",
            _WORK,
            tensorflow=True,
            examples=(
                "train.hdf5 --valid valid.hdf5 --out plan.toml",
                "train.hdf5 --dimension 3 --no-measure",
            ),
        ),
        Action(
            "train",
            p.Train,
            "training.train:train",
            _WORK,
            tensorflow=True,
            run=True,
            examples=(
                "new.keras liver.keras --train train.hdf5 --valid valid.hdf5",
                "--from plan.toml --epochs 100 --resume",
            ),
        ),
        Action(
            "predict",
            p.Predict,
            "prediction.predict:predict",
            _WORK,
            tensorflow=True,
            run=True,
            examples=(
                "liver.keras cell9.tif cell9_labels.tif",
                "liver.keras test.hdf5 predicted.hdf5 --probabilities --dry-run",
            ),
        ),
        Action("merge", p.Merge, "prediction.shards:merge", _WORK),
        Action("clean-masks", p.CleanMasks, "objects.clean_masks:clean_masks", _WORK),
        Action(
            "find-objects",
            p.FindObjects,
            "objects.find_objects:find_objects",
            _WORK,
            examples=(
                "predicted.hdf5",
                "predicted.hdf5 objects.tif --csv objects.csv --min-size 500 --split-touching 3",
            ),
        ),
        Action(
            "evaluate",
            p.Evaluate,
            "evaluation.evaluate:evaluate",
            _WORK,
            examples=(
                "test.hdf5 predicted.hdf5 --csv scores.csv",
                "test.hdf5 predicted.hdf5 --objects --surfaces",
            ),
        ),
    )
}


@dataclass(frozen=True)
class Declared:
    """A parameter as a command line or a form needs to know it.

    Args:
        kind: ``flag``, ``many`` (any number of texts), ``choice``, ``path`` or ``text``.
        choices: What a ``choice`` may be.
        facts: Unit, range and default in words, such as ``"voxels; at least 1; default 3"``.
        title, unit, opens, makes, within, each, otherwise, joined, more: See
            :func:`~deepscem_tui.engine.parameters.option`.
    """

    name: str
    kind: Literal["flag", "many", "choice", "path", "text"]
    help: str
    facts: str
    choices: tuple[str, ...]
    default: Any
    required: bool
    argument: bool
    title: str
    unit: str
    opens: str
    makes: str
    within: str
    each: str
    otherwise: str
    joined: str
    more: bool

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Ends of the names of the files that belong here; none for any."""
        return p.SUFFIXES[self.opens or self.makes]


def declared(action: Action) -> list[Declared]:
    """The parameters of an action, arguments first, in the order of their declaration."""
    found = [_declared(name, field) for name, field in action.parameters.model_fields.items()]
    common = ("dry_run", "overwrite")  # of many actions: last
    return sorted(found, key=lambda parameter: (not parameter.argument, parameter.name in common))


def usage(action: Action) -> list[str]:
    """The arguments of an action as its usage line shows them, such as ``FILE SAMPLE [LABELS...]``."""
    words = []
    for parameter in declared(action):
        if parameter.argument:
            word = parameter.name.upper() + ("..." if parameter.kind == "many" else "")
            words.append(word if parameter.required else f"[{word}]")
    return words


def _declared(name: str, field: FieldInfo) -> Declared:
    alternatives = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not NoneType]
    literal = field.annotation if get_origin(field.annotation) is Literal else alternatives[0]
    choices = tuple(map(str, get_args(literal))) if get_origin(literal) is Literal else ()
    many = get_origin(field.annotation) is tuple
    path = field.annotation is Path or Path in alternatives
    flag = field.annotation is bool
    default = None if field.is_required() else field.get_default()
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    facts = [str(extra["unit"])] if extra.get("unit") else []
    if choices:
        facts.append(" | ".join(choices))
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [(text, getattr(rule, key, None)) for rule in field.metadata for key, text in words.items()]
    facts += [f"{text} {limit}" for text, limit in limits if limit is not None]
    if default not in (None, (), False, ""):
        facts.append("on by default" if default is True else f"default {default}")
    if field.is_required() and not is_argument(field):
        facts.append("required")
    kind: Any = "flag" if flag else "many" if many else "choice" if choices else "path" if path else "text"
    about = {key: str(extra.get(key, "")) for key in ("unit", "opens", "makes", "within", "each", "otherwise")}
    about["joined"] = str(extra.get("joined", ","))
    about["title"] = str(extra.get("title") or name.replace("_", " ").capitalize())
    return Declared(
        name, kind, field.description or "", "; ".join(facts), choices, default, field.is_required(),
        is_argument(field), more=bool(extra.get("more")), **about,
    )  # fmt: skip


def is_argument(field: FieldInfo) -> bool:
    """Whether a parameter stands on the command line without its name."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("argument"))


def spelling(name: str, field: FieldInfo) -> str:
    """A parameter as it is written on the command line: ``IMAGE`` or ``--batch-size``."""
    return name.upper() if is_argument(field) else "--" + name.replace("_", "-")


def build(action: Action, values: Mapping[str, Any]) -> p.Parameters:
    """Check ``values`` against the action's declaration.

    Raises:
        ParameterError: in the terms of the command line, naming every parameter at fault.
    """
    try:
        return action.parameters.model_validate(dict(values))
    except ValidationError as error:
        fields = action.parameters.model_fields
        complaints = [
            f"{spelling(location, fields[location])} {text}" if location else text
            for location, _, text in _complaints(action, error)
        ]
        hint = f"See: deepscem-tui run {action.name} --help"
        raise ParameterError("; ".join(dict.fromkeys(complaints)), hint) from None


def faults(action: Action, values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with ``values`` by the action's declaration, for each parameter at fault; "" is the whole."""
    try:
        action.parameters.model_validate(dict(values))
    except ValidationError as error:
        found: dict[str, str] = {}
        for location, parameter, text in _complaints(action, error):
            found.setdefault(location or parameter, text)
        return found
    return {}


def _complaints(action: Action, error: ValidationError) -> list[tuple[str, str, str]]:
    """Where each complaint is ("" for several together), which parameter should change, and what is wrong."""
    found = []
    for item in error.errors():
        context = item.get("ctx", {})
        text = _plain(item["type"], item["msg"], context, item["input"])
        name = str(item["loc"][0]) if item["loc"] else ""
        if name and name not in action.parameters.model_fields:
            name, text = "", f"there is no parameter {name!r}"
        found.append((name, str(context.get("parameter", "")), text))
    return found


def _plain(kind: str, message: str, limits: Mapping[str, Any], given: Any) -> str:
    """A pydantic complaint in plain words."""
    words = {
        "missing": "is missing",
        "greater_than_equal": "must be at least {ge} (it is {given})",
        "greater_than": "must be above {gt} (it is {given})",
        "less_than_equal": "must be at most {le} (it is {given})",
        "less_than": "must be below {lt} (it is {given})",
        "int_parsing": "must be a whole number (it is {given!r})",
        "int_from_float": "must be a whole number (it is {given!r})",
        "float_parsing": "must be a number (it is {given!r})",
        "finite_number": "must be a finite number (it is {given})",
        "literal_error": "must be {expected} (it is {given!r})",
        "string_type": "must be a text (it is {given!r})",
        "path_type": "must be a path (it is {given!r})",
        "tuple_type": "must be a list (it is {given!r})",
        "int_type": "must be a whole number (it is {given!r})",
        "float_type": "must be a number (it is {given!r})",
        "bool_parsing": "must be true or false (it is {given!r})",
    }
    if kind in words:
        return words[kind].format(given=given, **limits)
    return message.removeprefix("Value error, ")


def command_line(action: Action, parameters: p.Parameters) -> str:
    """The same thing as a command: every parameter that is not at its default."""
    words: list[str] = []
    options: list[str] = []
    shown = parameters.model_dump(mode="json")
    for name, field in action.parameters.model_fields.items():
        value = getattr(parameters, name)
        if not field.is_required() and value == field.get_default():
            continue
        if is_argument(field):
            words += map(str, shown[name] if isinstance(shown[name], list) else (shown[name],))
        elif isinstance(value, bool):
            options.append(spelling(name, field) if value else "--no-" + name.replace("_", "-"))
        elif isinstance(shown[name], list):
            for item in shown[name]:
                options += [spelling(name, field), str(item)]
        else:
            options += [spelling(name, field), str(value if isinstance(value, Path) else shown[name])]
    if any(word.startswith("-") for word in words):  # of a file that others made
        words = [*options, "--", *words]
    else:
        words += options
    return shlex.join(["deepscem-tui", "run", action.name, *words])
