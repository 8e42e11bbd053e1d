"""What is said of a model: its row in the list, its summary, and the memory that a step takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Static

from deepscem_tui.engine import words
from deepscem_tui.engine.catalogue import ModelEntry
from deepscem_tui.engine.errors import EngineError
from deepscem_tui.engine.models.info import ModelInfo, read_network
from deepscem_tui.engine.networks.geometry import step_bytes
from deepscem_tui.engine.networks.graph import Graph
from deepscem_tui.texts import cell, safe, shortened

_SHOWN_LABELS = 20
_PATCHES = {2: ((256, 256), 8), 3: ((32, 128, 128), 2)}  # patch and batch that training proposes
_SETTINGS = {
    "block": "{} blocks", "kernel_size": "kernels of {} voxels", "filters": "{} filters", "depth": "{} levels",
    "blocks_per_level": "{} convolutions a block", "normalization": "normalisation {}", "down": "down {}",
    "up": "up {}", "dropout": "dropout {}", "attention": "attention gates", "seed": "seed {}",
    "squeeze_excitation": "squeeze-excitation", "anisotropy": "slices apart in {} levels",
    "context_slices": "{} slices on each side",
}  # fmt: skip
# Not said: what networks have where nothing else was asked for.
_USUAL = {
    "down": "max-pool", "up": "transposed", "dropout": 0, "attention": False, "squeeze_excitation": False,
    "anisotropy": 0, "context_slices": 0,
}  # fmt: skip
_TRAINING = {"steps": "Steps", "batch_size": "Patches a step", "loss": "Loss", "learning_rate": "Learning rate"}


def row(entry: ModelEntry, folder: Path, name_width: int) -> list[Text]:
    """A model's cells in the list; the summary says in full what it is called and why it cannot be used."""
    path = entry.path.relative_to(folder) if entry.path.is_relative_to(folder) else entry.path
    name = shortened(safe(path), name_width)
    if entry.info is None:
        return [Text(name), Text("!"), Text(""), Text(""), Text("cannot be used"), Text("")]
    info = entry.info
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.stamp[3] / 1e9)) if entry.stamp else ""
    return [
        Text(name),
        Text(f"{info.dimension}D"),
        Text(str(info.n_labels), justify="right"),
        Text(f"{info.n_parameters:,}", justify="right"),
        Text(trained(info)),
        Text(when),
    ]


def trained(info: ModelInfo) -> str:
    """Whether and how well a model was trained, in a few words."""
    if not info.training:
        return "no" if info.settings else "not known"
    f1 = info.training.get("validation_f1")
    score = f", F1 {f1:.3f}" if isinstance(f1, float) else ""
    return f"{safe(info.training.get('epochs', '?'))} epochs{score}"


def run_of(entry: ModelEntry) -> str | None:
    """The name of the run that trained a model."""
    run = (entry.info.training or {}).get("run") if entry.info else None
    return run if isinstance(run, str) and run and "/" not in run and run not in (".", "..") else None


def summary(entry: ModelEntry) -> Table | Text:
    """All that a model's file says of it."""
    if entry.info is None:
        return Text(f"{safe(entry.path)}\n{safe(entry.problem)}")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in _lines(entry, entry.info):
        table.add_row(Text(name), Text(safe(text)))
    return table


def _lines(entry: ModelEntry, info: ModelInfo) -> list[tuple[str, str]]:
    names = info.label_names[:_SHOWN_LABELS]
    more = f" and {info.n_labels - len(names)} more" if info.n_labels > len(names) else ""
    settings = info.settings or {}
    said = {key: value for key, value in settings.items() if value != _USUAL.get(key)}
    about = [text.format(said[key]) for key, text in _SETTINGS.items() if key in said]
    reach, divisor = (sizes[3 - info.dimension :] for sizes in (info.receptive_radius, info.divisor))
    return [
        ("Model", f"{entry.path.name}, {words.amount(entry.bytes, 'B')}"),
        ("Labels", f"{', '.join(names)}{more}" + (", and the background" if info.background else "")),
        ("Parameters", f"{info.n_parameters:,}"),
        ("Sees", f"{words.alike(2 * far + 1 for far in reach)} voxels across: {info.reach}"),
        ("Divisor", f"{words.alike(divisor)}: sides of a patch are multiples of it"),
        ("Network", ", ".join([f"{info.dimension}D {settings.get('architecture', 'network')}", *about])),
        ("Output", f"{info.activation}; images are taken {info.normalization} normalised"),
        *_training_lines(info),
    ]


def _training_lines(info: ModelInfo) -> list[tuple[str, str]]:
    training: Mapping[str, Any] = info.training or {}
    if not training:
        return [("Trained", trained(info))]
    when = str(training.get("when", ""))[:16].replace("T", " ")
    lines = [("Trained", f"{when} on {training.get('data_set', '?')}, {training.get('epochs', '?')} epochs")]
    if info.patch_size:
        lines.append(("Patch", f"{words.sizes(info.patch_size)} voxels"))
    if info.voxel_size:
        lines.append(("Voxel size", f"{words.sizes(info.voxel_size)} {info.voxel_unit}"))
    lines += [(title, cell(training[key])) for key, title in _TRAINING.items() if key in training]
    scores = [(name, training.get(f"validation_{key}")) for key, name in (("f1", "F1"), ("loss", "loss"))]
    shown = [f"{name} {cell(value)}" for name, value in scores if value is not None]
    if shown:
        lines.append(("Validation", ", ".join(shown)))
    if info.thresholds:
        named = zip(info.label_names[:_SHOWN_LABELS], info.thresholds, strict=False)
        lines.append(("Thresholds", ", ".join(f"{name} {threshold:.3g}" for name, threshold in named)))
    if training.get("run"):
        lines.append(("Run", f"{training['run']}  (enter shows it)"))
    return lines


class ModelSummary(VerticalScroll):
    """A model's summary, and the memory of a step for a patch and a batch that are typed."""

    HELP = """\
What the model's file says. Type a patch size and a batch to see the **memory** that a step takes beside the weights,
in training and in prediction, computed from the network's layers.
"""
    DEFAULT_CSS = """
    ModelSummary { padding: 0 1; }
    ModelSummary #step { height: 1; margin-top: 1; }
    ModelSummary #step Static { width: auto; padding-right: 1; }
    ModelSummary #step Input { width: 14; margin-right: 2; background: $panel; }
    ModelSummary #step #batch { width: 6; }
    ModelSummary #memory { height: auto; }
    """
    can_focus = True
    BINDINGS: ClassVar[list[Any]] = []

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entry: ModelEntry | None = None
        self._graph: Graph | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="text", markup=False)
        with Horizontal(id="step"):
            yield Static("Memory: patch")
            yield Input(id="patch", compact=True, restrict=r"[0-9,x ]*", max_length=20)
            yield Static("batch")
            yield Input(id="batch", compact=True, type="integer", max_length=5)
        yield Static(id="memory", markup=False)

    def on_mount(self) -> None:
        self.show(None, "")

    def show(self, entry: ModelEntry | None, otherwise: str) -> None:
        """Show a model; ``otherwise`` is said if there is none."""
        if entry is not None and entry == self._entry:
            return
        again = entry is not None and self._entry is not None and entry.path == self._entry.path
        self._entry, self._graph = entry, None
        self.query_one("#text", Static).update(Text(otherwise) if entry is None else summary(entry))
        readable = entry is not None and entry.info is not None
        self.query_one("#step").display = self.query_one("#memory").display = readable
        if entry is not None and entry.info is not None:
            if not again:
                patch, batch = _PATCHES[entry.info.dimension]
                self.query_one("#patch", Input).value = ",".join(map(str, patch))
                self.query_one("#batch", Input).value = str(batch)
            self.run_worker(self._read(entry), group="network", exclusive=True)

    async def _read(self, entry: ModelEntry) -> None:
        try:
            _, graph = await asyncio.to_thread(read_network, entry.path)
        except (EngineError, OSError) as error:
            self.query_one("#memory", Static).update(safe(str(error)))
            return
        if entry is self._entry:
            self._graph = graph
            self._tell_memory()

    @on(Input.Changed)
    def _tell_memory(self) -> None:
        info = self._entry.info if self._entry else None
        if self._graph is None or info is None:
            return
        typed = self.query_one("#patch", Input).value.replace("x", ",").split(",")
        batch = self.query_one("#batch", Input).value
        try:
            sides = [int(side) for side in typed]
            text = memory_words(self._graph, info, sides, int(batch))
        except ValueError as error:
            text = f"! {error}" if "invalid literal" not in str(error) else "! Give Z,Y,X or Y,X, and a batch"
        self.query_one("#memory", Static).update(text)


def memory_words(graph: Graph, info: ModelInfo, sides: Sequence[int], batch: int) -> str:
    """The memory of a step, in words.

    Args:
        sides: Of a patch, Y, X or Z, Y, X in voxels.

    Raises:
        ValueError: the patch does not suit the network.
    """
    if len(sides) not in (2, 3) or (info.dimension == 3 and len(sides) == 2):
        raise ValueError("Give Z,Y,X" if info.dimension == 3 else "Give Y,X")
    shape = sides[3 - info.dimension :] if len(sides) == 3 else sides
    if min(*shape, batch) < 1 or max(shape) > 1 << 20:
        raise ValueError("Sides and batch are at least 1")
    for side, step in zip(shape, info.divisor[3 - info.dimension :], strict=True):
        if side % step:
            raise ValueError(f"{side} is no multiple of {step}: {max(step, side // step * step)} is")
    learn, look = (step_bytes(graph, shape, batch, training) for training in (True, False))
    return f"About {words.amount(learn, 'B')} in training, {words.amount(look, 'B')} in prediction"
