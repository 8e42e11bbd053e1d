"""What shall become of the jobs when the application is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from deepscem_tui.jobs import Job
from deepscem_tui.texts import safe, shortened
from deepscem_tui.widgets.footer import Footer

if TYPE_CHECKING:
    from deepscem_tui.app import DeepscemApp


_LONGEST_TITLE = 40


class QuitDialog(ModalScreen[None]):
    """Asks whether jobs are stopped and saved, waited for, or gone on with."""

    app: DeepscemApp
    HELP = """\
Something is still **at work**.

- `s` stops it: its state is saved first, and `R` on the screen of its kind or of runs (F7) goes on with it later.
- `w` waits until all is done, then quits; `ctrl+q` again takes that back.
- `c` or escape stays.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,c", "choose('cancel')", "Stay"),
        Binding("s", "choose('stop')", "Stop and save"),
        Binding("w", "choose('wait')", "Wait"),
    ]

    def __init__(self, live: list[Job]) -> None:
        super().__init__()
        self._live = live

    def compose(self) -> ComposeResult:
        titles = [(shortened(safe(job.title), _LONGEST_TITLE), job.state) for job in self._live[:6]]
        jobs = "\n".join(f"  {title} ({state})" for title, state in titles)
        more = f"\n  and {len(self._live) - 6} more" if len(self._live) > 6 else ""
        with Vertical(classes="dialog"):
            yield Static(f"Still to do:\n{jobs}{more}", markup=False)
            yield OptionList(
                Option("s  Stop and save, then quit; Runs (F7) resumes them later", id="stop"),
                Option("w  Wait until everything is done, then quit", id="wait"),
                Option("c  Stay here", id="cancel"),
            )
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_choose(event.option.id or "cancel")

    def action_choose(self, choice: str) -> None:
        """Do what was chosen."""
        self.dismiss()
        if choice == "stop":
            self.app.notify("Stopping: what is in hand is saved, then the application ends", timeout=60)
            self.app.leave("the application is left")
        elif choice == "wait":
            self.app.notify("The application ends when everything is done; ctrl+q again to choose anew")
            self.app.leave_when_done()
        else:
            self.app.stay()
