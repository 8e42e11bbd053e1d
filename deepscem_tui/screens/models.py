"""The screen of models: those of the folder, and what the chosen one is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Input

from deepscem_tui.engine.catalogue import Cataloguer, ModelEntry
from deepscem_tui.engine.parameters import SUFFIXES
from deepscem_tui.screens.base import WorkScreen
from deepscem_tui.screens.model_summary import ModelSummary, row, run_of
from deepscem_tui.screens.proposals import to_learn_from
from deepscem_tui.texts import safe
from deepscem_tui.widgets.refilled_table import RefilledTable

_LOOK_SECONDS = 2.0
_COLUMNS = (
    ("model", "Model"), ("dimension", "Dim"), ("labels", "Labels"), ("parameters", "Parameters"),
    ("trained", "Trained"), ("date", "Date"),
)  # fmt: skip
_USED, _PARAMETERS = 56, 12  # cells of the columns beside the name, and of `parameters`, which is the first to go
_SHORTEST_NAME = 16
_NONE = "There is no model in this folder yet.\n\nn makes one, o opens one from elsewhere."
_LOOKING = "Looking for models ..."


class ModelTable(RefilledTable):
    """The list of models."""

    HELP = """\
The **models** in this folder and those opened from elsewhere (`o`).

- `n` makes a new network; `t` trains the chosen one, `p` predicts with it.
- `s` saves it under another name, `c` converts it between `.keras` and DeepSCEM's `.h5`.
- `e` exports it to ONNX, for other programs; `k` makes a package for the BioImage Model Zoo.
- `enter` shows the run that trained it.
"""


class ModelsScreen(WorkScreen):
    """Models of the folder and from elsewhere; the chosen one's summary beside or below."""

    MODE = "models"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (150, "-wide")]  # noqa: RUF012 (as the base declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", tooltip="Make a new, untrained network"),
        Binding("o", "open", "Open", tooltip="List a model from elsewhere"),
        Binding("s", "save_as", "Save as", tooltip="Write a copy; .keras or .h5 by its name"),
        Binding("c", "convert", "Convert", tooltip="Write it in the other format: .keras, or DeepSCEM's .h5"),
        Binding("t", "train", "Train", tooltip="Train the chosen model"),
        Binding("p", "predict", "Predict", tooltip="Predict with the chosen model"),
        Binding("e", "export", "Export", tooltip="Write it as an ONNX file, for other programs"),
        Binding("k", "package", "Package", tooltip="Make a model package for the BioImage Model Zoo"),
        Binding("i", "info", "Info", tooltip="All that the file says, as a table"),
    ]
    DEFAULT_CSS = """
    ModelsScreen #models { layout: vertical; height: 1fr; }
    ModelsScreen ModelTable { height: 1fr; min-height: 4; max-height: 40%; }
    ModelsScreen ModelSummary { height: 1fr; border-top: solid $primary-muted; }
    ModelsScreen.-wide #models { layout: horizontal; }
    ModelsScreen.-wide ModelTable { width: 3fr; max-height: 100%; height: 100%; }
    ModelsScreen.-wide ModelSummary { width: 2fr; border-top: none; border-left: solid $primary-muted; height: 100%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._cataloguer = Cataloguer()
        self._entries: tuple[ModelEntry, ...] = ()
        self._elsewhere: list[Path] = []
        self._looking = self._looked = False
        self._wanted: Path | None = None
        self._name_width = 0
        self._columns: tuple[tuple[str, str], ...] = ()

    def compose_content(self) -> ComposeResult:
        with Container(id="models"):
            yield ModelTable()
            yield ModelSummary()

    def on_mount(self) -> None:
        table = self.query_one(ModelTable)
        self.query_one(ModelSummary).show(None, _LOOKING)
        table.focus()
        self.app.job_ended.subscribe(self, lambda _: self.look())
        self.set_interval(_LOOK_SECONDS, self._look_if_shown)
        self.look()

    def on_screen_resume(self) -> None:
        self.look()

    # ---------------------------------------------------------------------------------------------- the list

    def _look_if_shown(self) -> None:
        if self.is_current:
            self.look()

    def look(self) -> None:
        """Look what the folder holds, in a thread."""
        if not self._looking and self.is_mounted:
            self._looking = True
            self.run_worker(self._look(), group="look")

    async def _look(self) -> None:
        try:
            catalogue = await asyncio.to_thread(self._scan)
        finally:
            self._looking = False
        if self.is_attached:
            self._take(catalogue)

    def _scan(self) -> tuple[ModelEntry, ...]:
        return self._cataloguer.scan(self.app.folder, models=self._elsewhere).models

    def _take(self, entries: tuple[ModelEntry, ...]) -> None:
        self._looked = True
        if entries != self._entries:
            chosen = self._wanted or (self.chosen.path if self.chosen else None)
            self._entries = entries
            if self._fill(chosen):
                self._wanted = None
        self._show()

    def _fill(self, chosen: Path | None) -> bool:
        """List the models; give whether the one to be chosen is there."""
        rows = []
        for entry in self._entries if self._columns else ():
            cells = row(entry, self.app.folder, self._name_width)
            shown = [cell for cell, column in zip(cells, _COLUMNS, strict=True) if column in self._columns]
            rows.append((str(entry.path), shown))
        places = [index for index, entry in enumerate(self._entries) if entry.path == chosen]
        self.query_one(ModelTable).refill(self._columns, rows, places[0] if places else 0)
        return bool(places)

    def on_refilled_table_resized(self, event: RefilledTable.Resized) -> None:
        """Give the names what room the other columns leave; the summary has the parameters too."""
        room = event.width - _USED
        with_parameters = room - _PARAMETERS >= _SHORTEST_NAME
        name_width = max(_SHORTEST_NAME, room - _PARAMETERS * with_parameters)
        if name_width != self._name_width:
            chosen = self.chosen
            self._name_width = name_width
            self._columns = tuple(column for column in _COLUMNS if with_parameters or column[0] != "parameters")
            self._fill(chosen.path if chosen else None)

    def on_data_table_row_highlighted(self) -> None:
        self._show()

    def _show(self) -> None:
        self.query_one(ModelSummary).show(self.chosen, _NONE if self._looked else _LOOKING)

    @property
    def chosen(self) -> ModelEntry | None:
        """The model that the cursor is on."""
        index = self.query_one(ModelTable).cursor_row
        return self._entries[index] if 0 <= index < len(self._entries) else None

    # ---------------------------------------------------------------------------------------------- keys

    def on_data_table_row_selected(self) -> None:
        entry = self.chosen
        if entry is None:
            return
        run = run_of(entry)
        folder = self.app.runs_folder / run if run else None
        if folder is not None and (folder / "run.json").exists():
            self.app.show_run(folder)
        elif run:
            self._refuse(f"The run that trained it, {run}, is not in {self.app.runs_folder}")
        else:
            self._refuse(f"{entry.path.name} names no run that trained it")

    def action_new(self) -> None:
        """Open the form for a new model."""
        like = to_learn_from(self.app.open_datasets)
        self.app.ask("create-model", {"like": like} if like else {})

    def action_open(self) -> None:
        """Choose a model anywhere."""
        from deepscem_tui.screens.file_dialog import FileDialog

        def chosen(typed: str | None) -> None:
            if typed is not None:
                path = Path(typed).expanduser()
                if path not in self._elsewhere:
                    self._elsewhere.append(path)
                self._wanted = path
                self.look()

        self.app.push_screen(FileDialog("", SUFFIXES["model"], title="Open a model"), chosen)

    def action_save_as(self) -> None:
        """Write the chosen model under another name."""
        if entry := self._usable():
            copy = entry.path.with_name(f"{entry.path.stem}-copy{entry.path.suffix}")
            self.app.ask("convert-model", {"model": entry.path, "out": copy}, ("model",))

    def action_convert(self) -> None:
        """Write the chosen model in the other format."""
        if entry := self._usable():
            other = entry.path.with_suffix(".h5" if entry.path.suffix == ".keras" else ".keras")
            self.app.ask("convert-model", {"model": entry.path, "out": other}, ("model",))

    def action_export(self) -> None:
        """Write the chosen model as an ONNX file."""
        if entry := self._usable():
            self.app.ask("export-model", {"model": entry.path, "out": entry.path.with_suffix(".onnx")}, ("model",))

    def action_package(self) -> None:
        """Make a package of the chosen model."""
        if entry := self._usable():
            self.app.ask("package-model", {"model": entry.path, "out": entry.path.with_suffix(".zip")}, ("model",))

    def action_train(self) -> None:
        """Go to the screen of training with the chosen model."""
        if entry := self._usable():
            self.app.fill_form("training", {"model": entry.path})

    def action_predict(self) -> None:
        """Go to the screen of prediction with the chosen model."""
        if entry := self._usable():
            self.app.fill_form("prediction", {"model": entry.path})

    def action_info(self) -> None:
        """Show all that the file says."""
        if entry := self._usable():
            from deepscem_tui.engine import actions

            action = actions.ACTIONS["info"]
            self.app.start(action, actions.build(action, {"path": entry.path}))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Letters are for typing while there is a field to type in."""
        typing = isinstance(self.focused, Input)
        letters = ("new", "open", "save_as", "convert", "export", "package", "train", "predict", "info")
        return not (typing and action in letters)

    def _usable(self) -> ModelEntry | None:
        entry = self.chosen
        if entry is None:
            self._refuse("There is no model: n makes one, o opens one from elsewhere")
        elif entry.info is None:
            self._refuse(f"{entry.path.name} cannot be used: {entry.problem}")
            return None
        return entry

    def _refuse(self, text: str) -> None:
        self.app.notify(safe(text), severity="warning", markup=False)
