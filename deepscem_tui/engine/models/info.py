"""What a model is and how it came to be, read from its file without a framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from deepscem_tui import __version__
from deepscem_tui.engine import words
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.errors import UPDATE, ModelError
from deepscem_tui.engine.models.containers import Contents, explained, read_contents
from deepscem_tui.engine.networks import geometry
from deepscem_tui.engine.networks.graph import Graph

_VERSION = 1  # of what is stored

GREY_VALUES = "grey_values"  # in what is said of a training: the share of its voxels in each range of grey values


@dataclass(frozen=True)
class ModelInfo:
    """A model in words and numbers.

    Args:
        label_names: One for each label, in the order of the outputs.
        named: Whether somebody gave the labels these names.
        background: Whether one more output, the last, is the background (softmax).
        dimension: 2 for a network of slices, 3 for one of volumes.
        activation: Function that the outputs come from.
        n_parameters: Numbers in all weights.
        divisor: Sides of an image, Z, Y, X, must be multiples of these; 1 along Z for a network of slices.
        receptive_radius: How far a voxel's result reaches into the image, Z, Y, X in voxels.
        sees_all: Whether it also depends on means over the whole image, or over a tile where it is computed in tiles.
        settings: What the network was built by; None for networks of others.
        normalization: Of the images that it takes: ``"min-max"``, each to 0-1.
        voxel_size: Z, Y, X of what it was trained on, in ``voxel_unit``, if known.
        patch_size: Z, Y, X in voxels of what it was trained on, if known.
        training: How it was trained (JSON types only); None if it was not, or not by this program.
        thresholds: One a label, above which a value is foreground, where training tuned them; None for 0.5.
    """

    label_names: tuple[str, ...]
    named: bool
    background: bool
    dimension: Literal[2, 3]
    activation: str
    n_parameters: int
    divisor: tuple[int, int, int]
    receptive_radius: tuple[int, int, int]
    sees_all: bool = False
    settings: Mapping[str, Any] | None = None
    normalization: str = "min-max"
    voxel_size: tuple[float, float, float] | None = None
    voxel_unit: str = ""
    patch_size: tuple[int, int, int] | None = None
    training: Mapping[str, Any] | None = None
    thresholds: tuple[float, ...] | None = None

    @property
    def context(self) -> int:
        """Slices that a network of slices takes on each side of the one that its result is for."""
        return self.receptive_radius[0] if self.dimension == 2 else 0

    @property
    def reach(self) -> str:
        """How far a voxel's result reaches into the image, in words, such as ``23 voxels to each side``."""
        text = f"{words.alike(self.receptive_radius[3 - self.dimension :])} voxels to each side"
        if self.context:
            text += f", {words.counted(self.context, 'slice')} before and behind"
        return text + (", and means over the whole image" if self.sees_all else "")

    @property
    def n_labels(self) -> int:
        return len(self.label_names)

    @property
    def n_outputs(self) -> int:
        return self.n_labels + self.background

    def as_json(self) -> dict[str, Any]:
        """What is stored in a model file; the rest follows from the network itself."""
        return {
            "version": _VERSION,
            "program": f"deepscem-tui {__version__}",
            "label_names": list(self.label_names) if self.named else None,
            "background": self.background,
            "settings": dict(self.settings) if self.settings is not None else None,
            "normalization": self.normalization,
            "voxel_size": self.voxel_size,
            "voxel_unit": self.voxel_unit,
            "patch_size": self.patch_size,
            "training": dict(self.training) if self.training is not None else None,
            "thresholds": self.thresholds,
        }


def read_info(path: Path) -> ModelInfo:
    """Read what a model file says of its model, quickly: weights are not read, TensorFlow is not imported.

    Raises:
        ModelError: it is no model file, is damaged, or holds a network that cannot be used.
    """
    return read_network(path)[0]


def read_network(path: Path) -> tuple[ModelInfo, Graph]:
    """The same, with the network's layers."""
    contents = read_contents(path)
    return info_of(path, contents), contents.graph


def describe(
    graph: Graph, label_names: Sequence[str] | None, background: bool, settings: Mapping[str, Any] | None
) -> ModelInfo:
    """The description of a network that is not trained.

    Args:
        label_names: None for labels without names.

    Raises:
        ModelError: the network has not the outputs for these labels, does not give a result of the image's size, or
            takes channels that are no neighbouring slices.
    """
    if graph.n_inputs != 1 + 2 * int((settings or {}).get("context_slices", 0)):
        raise ModelError(f"The network takes images of {graph.n_inputs} channels", "Only grey images can be.")
    n_labels = graph.n_outputs - background
    if n_labels < 1:
        raise ModelError("The network has no output but the background")
    if label_names is not None and len(label_names) != n_labels:
        raise ModelError(f"The network has outputs for {n_labels} labels, but {len(label_names)} have names")
    return ModelInfo(
        label_names=tuple(label_names) if label_names is not None else default_label_names(n_labels),
        named=label_names is not None,
        background=background,
        dimension=3 if graph.dimension == 3 else 2,
        activation=graph.activation,
        n_parameters=graph.n_parameters,
        divisor=geometry.divisor(graph),
        receptive_radius=geometry.receptive_radius(graph),
        sees_all=graph.sees_all,
        settings=settings,
    )


def info_of(path: Path, contents: Contents) -> ModelInfo:
    """The description of a model file that was read.

    Raises:
        ModelError: what it says does not fit its network.
    """
    with explained(path):
        stored = _stored(contents.metadata)
        info = describe(contents.graph, stored.label_names, stored.background, stored.settings)
        further = stored.model_dump(
            include={"normalization", "voxel_size", "voxel_unit", "patch_size", "training", "thresholds"}
        )
        if stored.thresholds is not None and len(stored.thresholds) != info.n_labels:
            raise ModelError(f"It has {len(stored.thresholds)} thresholds for {info.n_labels} labels")
        return ModelInfo(**{**vars(info), **further})


def default_label_names(n_labels: int) -> tuple[str, ...]:
    """Names of labels that have none."""
    return tuple(member_name("label", index) for index in range(n_labels))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


_Text = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
_Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Side = Annotated[int, Field(ge=1)]


class _Stored(BaseModel):
    """What :meth:`ModelInfo.as_json` wrote, checked; the values of a file of others where it is left out."""

    model_config = ConfigDict(extra="ignore", strict=False)

    label_names: Annotated[tuple[_Text, ...], Field(max_length=1 << 16)] | None = None
    background: bool = False
    settings: dict[str, Any] | None = None
    normalization: _Text = "min-max"
    voxel_size: tuple[_Size, _Size, _Size] | None = None
    voxel_unit: _Text = ""
    patch_size: tuple[_Side, _Side, _Side] | None = None
    training: dict[str, Any] | None = None
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None


def _stored(metadata: Any) -> _Stored:
    if metadata is None:
        return _Stored()
    version = metadata.get("version") if isinstance(metadata, dict) else None
    if isinstance(version, int) and version > _VERSION:
        raise ModelError("It was written by a newer version of deepscem-tui", UPDATE)
    try:
        return _Stored.model_validate(metadata)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "it"
        raise ModelError(f"What deepscem-tui stored in it is damaged: {where} is not as expected") from None
