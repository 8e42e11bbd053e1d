"""The form of an action in a dialog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from deepscem_tui.engine.actions import Action
from deepscem_tui.engine.parameters import Parameters
from deepscem_tui.screens.confirm import Answer, Confirm
from deepscem_tui.screens.file_dialog import browse
from deepscem_tui.widgets.action_form import ActionForm
from deepscem_tui.widgets.footer import Footer
from deepscem_tui.widgets.path_input import PathInput

_MANY_CHANGES = 2  # from here on escape asks first


class ActionDialog(ModalScreen[tuple[Parameters, bool] | None]):
    """Asks for the parameters of an action; gives them back, and whether to start detached; None if it was left.

    Args:
        action: What is asked for.
        values: What the fields show at first.
        hidden: Parameters that ``values`` settles and that are not shown.
        recommended: See :class:`ActionForm`.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]
    DEFAULT_CSS = """
    ActionDialog > Vertical {
        width: 96%; max-width: 100; height: 96%; max-height: 40; border: round $primary; padding: 0 1;
        background: $surface;
    }
    ActionDialog .name { text-style: bold; height: auto; }
    """

    def __init__(
        self,
        action: Action,
        values: Mapping[str, Any] | None = None,
        hidden: Sequence[str] = (),
        recommended: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._action, self._values, self._hidden = action, dict(values or {}), tuple(hidden)
        self._recommended = recommended
        self._before: dict[str, Any] = {}

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"{self._action.name}: {self._action.help.splitlines()[0]}", classes="name", markup=False)
            yield ActionForm(
                self._action,
                self._values,
                self._hidden,
                recommended=self._recommended,
                open_datasets=self._open_datasets,
                safe_mode=self._safe_mode,
                cancel=True,
            )
        yield Footer()

    def on_mount(self) -> None:
        form = self.query_one(ActionForm)
        self._before = form.values()
        form.enter()

    def _safe_mode(self) -> bool:
        return bool(getattr(getattr(self.app, "settings", None), "safe_mode", True))

    def _open_datasets(self) -> Sequence[Path]:
        return tuple(getattr(self.app, "open_datasets", ()))

    def on_path_input_browse(self, event: PathInput.Browse) -> None:
        browse(event)

    def on_action_form_submitted(self, event: ActionForm.Submitted) -> None:
        event.stop()
        self.dismiss((event.parameters, event.detached))

    def on_action_form_cancelled(self, event: ActionForm.Cancelled) -> None:
        event.stop()
        self.action_leave()

    def action_leave(self) -> None:
        """Leave; ask first where more than one field was filled in."""
        now = self.query_one(ActionForm).values()
        if sum(now[name] != self._before.get(name) for name in now) < _MANY_CHANGES:
            self.dismiss(None)
            return

        def answered(answer: str | None) -> None:
            if answer == "leave":
                self.dismiss(None)

        stay, leave = Answer("stay", "b", "Back to the form"), Answer("leave", "d", "Discard it")
        self.app.push_screen(Confirm("Discard what was filled in?", (stay, leave)), answered)
