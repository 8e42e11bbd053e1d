"""The parameters of every action: names, defaults, ranges, units and help, declared once.

The command line, the TOML files of ``--from``, the run folder and the forms on the screens are all made from these.
A class's docstring is the action's help: its first line stands in the list of actions.
The modules here import pydantic and nothing heavier, so that ``--help`` stays instant.
"""

from __future__ import annotations

from deepscem_tui.engine.parameters.augmentation import ShowAugmentation
from deepscem_tui.engine.parameters.datasets import (
    AddSample,
    CheckDataset,
    ConvertImage,
    CreateDataset,
    CropSample,
    DistanceTransform,
    ExportSample,
    ImportFolder,
    Info,
    Preview,
    RemoveSample,
    RenameDataset,
    RenameSample,
    SampleOptions,
    SaveDataset,
    SetAliases,
    SetLabelled,
    SetVoxelSize,
    SplitDataset,
)
from deepscem_tui.engine.parameters.demo import Demo
from deepscem_tui.engine.parameters.kinds import (
    SUFFIXES,
    Changing,
    Name,
    Parameters,
    PatchSize,
    Writing,
    argument,
    option,
)
from deepscem_tui.engine.parameters.models import ConvertModel, CreateModel
from deepscem_tui.engine.parameters.objects import Cleaning, CleanMasks, FindObjects
from deepscem_tui.engine.parameters.planning import Plan
from deepscem_tui.engine.parameters.prediction import Evaluate, Merge, Predict
from deepscem_tui.engine.parameters.sharing import ExportModel, PackageModel
from deepscem_tui.engine.parameters.training import Train

__all__ = [
    "SUFFIXES",
    "AddSample",
    "Changing",
    "CheckDataset",
    "CleanMasks",
    "Cleaning",
    "ConvertImage",
    "ConvertModel",
    "CreateDataset",
    "CreateModel",
    "CropSample",
    "Demo",
    "DistanceTransform",
    "Evaluate",
    "ExportModel",
    "ExportSample",
    "FindObjects",
    "ImportFolder",
    "Info",
    "Merge",
    "Name",
    "PackageModel",
    "Parameters",
    "PatchSize",
    "Plan",
    "Predict",
    "Preview",
    "RemoveSample",
    "RenameDataset",
    "RenameSample",
    "SampleOptions",
    "SaveDataset",
    "SetAliases",
    "SetLabelled",
    "SetVoxelSize",
    "ShowAugmentation",
    "SplitDataset",
    "Train",
    "Writing",
    "argument",
    "option",
]
