"""A form for any action, made from its declaration and checked while it is typed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Button, Collapsible, Input, Static

from deepscem_tui.engine import actions, checks, words
from deepscem_tui.engine.actions import Action, Declared
from deepscem_tui.engine.checks import Findings
from deepscem_tui.engine.parameters import Parameters
from deepscem_tui.texts import safe
from deepscem_tui.widgets.command_line import CommandLine
from deepscem_tui.widgets.form_fields import EachField, Field, make_field, sentence

__all__ = ["ActionForm"]

_MISSING = "is missing"
_OPTION = re.compile(r"--[a-z]+(-[a-z]+)*")
_PAUSE_SECONDS = 0.3  # without a change, before files are looked at
_VERBS = {"info": "Show", "preview": "Show", "demo": "Run demo"}


class ActionForm(Vertical):
    """The parameters of an action as fields, the command that does the same, and buttons.

    What the declaration refuses is said at each key; the files that are named are looked at in a thread, one look at a
    time, after a pause in typing. Nothing is started here: :class:`ActionForm.Submitted` says that it shall be.

    Args:
        action: What the form is for.
        values: What the fields show at first, as typed; the rest at the action's defaults.
        hidden: Parameters that ``values`` settles and that are not shown.
        recommended: What the fields show but for those that are remembered from the last time; None for ``values``.
        open_datasets: Gives the data sets that are open, for safe mode.
        safe_mode: Whether safe mode is on, asked at every look.
        cancel: Whether there is a button that posts :class:`ActionForm.Cancelled`.
    """

    HELP = """\
Each line is a parameter; `*` marks those that are needed. What is wrong is said below a field, after a `!`.

- `enter` goes to the next field, and starts in the last one; `ctrl+s` or `F10` starts from anywhere.
- `ctrl+o` in a field for a file opens a list of files; `right` takes the completion in grey.
- `ctrl+y` copies the command at the foot, which does the same in a shell. In tmux this needs
  `set -g set-clipboard on` in `~/.tmux.conf`, and a terminal that allows OSC 52.
- What was chosen in this folder the last time is there again; `ctrl+r` brings back the recommended values.
- `ctrl+t` starts a training or prediction **detached**: it outlives this window, a crash of the graphics driver does
  not take the application along, and the GPU's memory is free again when it ends. It appears under Runs (F7).
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s,f10", "submit", "Start", tooltip="Check everything and start"),
        Binding("ctrl+t", "detach", "Detached", tooltip="Start in a process of its own, which outlives this window"),
        Binding("enter", "next", "Next", show=False),
        Binding("ctrl+r", "recommended", "Recommended", show=False, tooltip="Bring back the recommended values"),
        Binding("ctrl+y", "copy", "Copy command", tooltip="Copy the command that does the same"),
    ]
    DEFAULT_CSS = """
    ActionForm { height: 1fr; }
    ActionForm > #fields { height: 1fr; min-height: 3; }
    ActionForm > #foot { height: auto; max-height: 50%; border-top: solid $primary-muted; }
    ActionForm #status { height: auto; max-height: 4; overflow-y: auto; }
    ActionForm #remembered { height: 1; color: $text-warning; }
    ActionForm #status.-fault { color: $text-error; text-style: bold; }
    ActionForm #buttons { height: 1; }
    ActionForm #buttons Button { min-width: 0; margin-right: 2; }
    ActionForm #buttons .hint { color: $text-muted; width: 1fr; height: 1; }
    ActionForm Collapsible { border: none; padding: 0; background: transparent; }
    ActionForm Collapsible > Contents { padding: 0; }
    """

    @dataclass
    class Submitted(Message):
        """Everything was checked and the action shall be carried out."""

        form: ActionForm
        action: Action
        parameters: Parameters
        detached: bool

        @property
        def control(self) -> ActionForm:
            return self.form

    @dataclass
    class Changed(Message):
        """A value was changed."""

        form: ActionForm

        @property
        def control(self) -> ActionForm:
            return self.form

    @dataclass
    class Cancelled(Message):
        """The form is not wanted any more."""

        form: ActionForm

        @property
        def control(self) -> ActionForm:
            return self.form

    def __init__(
        self,
        action: Action,
        values: Mapping[str, Any] | None = None,
        hidden: Sequence[str] = (),
        *,
        recommended: Mapping[str, Any] | None = None,
        open_datasets: Callable[[], Sequence[Path]] = tuple,
        safe_mode: Callable[[], bool] = lambda: True,
        cancel: bool = False,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.action = action
        self._hidden = {name: _as_typed(value) for name, value in (values or {}).items() if name in hidden}
        self._first = {name: _as_typed(value) for name, value in (values or {}).items() if name not in hidden}
        recommended = self._first if recommended is None else recommended
        self._recommended = {name: _as_typed(value) for name, value in recommended.items()}
        self._open_datasets, self._safe_mode, self._cancel = open_datasets, safe_mode, cancel
        left_out = {"dry_run", *hidden}
        self._declared = [parameter for parameter in _ordered(action) if parameter.name not in left_out]
        self._begun: dict[str, Any] = {}  # what the fields showed at first
        self._timer: Timer | None = None
        self._version = 0  # of the values
        self._looking = False
        self._findings: Findings | None = None
        self._found_version = -1
        self._looked_at: dict[str, Any] | None = None
        self._asked_before = False
        self._wanted: bool | None = None  # to be started when the look is over; whether detached

    # -------------------------------------------------------------------------------------------- what it shows

    def compose(self) -> ComposeResult:
        fields = [make_field(parameter, self._first.get(parameter.name)) for parameter in self._declared]
        rare = [field for field in fields if field.declared.more]
        with VerticalScroll(id="fields", can_focus=False):
            yield from (field for field in fields if not field.declared.more)
            if rare:
                yield Collapsible(*rare, title=f"More options ({len(rare)})", id="more")
        with Vertical(id="foot"):
            yield Static(markup=False, id="remembered")
            yield Static(markup=False, id="status")
            yield CommandLine(self.action.name, id="command")
            with Horizontal(id="buttons"):
                yield _button(_verb(self.action), "start", "Check everything and start (ctrl+s)", "primary")
                if self.action.run:
                    about = "In a process of its own: long runs: outlives a crash, frees the GPU when it ends (ctrl+t)"
                    yield _button("Start detached", "detached", about)
                if self._cancel:
                    yield _button("Cancel", "cancel", "Start nothing (escape)")
                yield Static("long runs: outlives a crash, frees the GPU" if self.action.run else "",
                             classes="hint", markup=False)  # fmt: skip

    def on_mount(self) -> None:
        self._begun = {field.declared.name: field.value for field in self.fields}
        self._look_now()
        self._judge()

    @property
    def fields(self) -> list[Field]:
        """The fields, in the order they are shown."""
        return list(self.query(Field))

    def enter(self) -> None:
        """Focus the first field that is still to be filled in."""
        fields = self.fields
        empty = [field for field in fields if field.declared.required and field.value in ("", [])]
        if fields:
            (empty or fields)[0].enter()

    # -------------------------------------------------------------------------------------------- values

    def values(self) -> dict[str, Any]:
        """Every value as it is typed (JSON types), hidden ones included."""
        return {**self._hidden, **{field.declared.name: field.value for field in self.fields}}

    def fill(self, values: Mapping[str, Any]) -> None:
        """Set fields; what the form does not have is left out."""
        for field in self.fields:
            if field.declared.name in values:
                field.value = _as_typed(values[field.declared.name])
                self._recommended[field.declared.name] = field.value
        self._changed()

    def propose(self, values: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        """Set the fields that nobody touched to what is proposed now, and look at the files again.

        Args:
            before: What was proposed last; a field that holds something else is left as it is.
        """
        if self._wanted is not None:  # what is about to be started is what its user saw
            return
        for field in self.fields:
            name = field.declared.name
            ours = not field.touched and field.value in ("", _as_typed(before.get(name)))
            if ours and (name in values or name in before):
                field.propose(_as_typed(values.get(name, "")))
                self._recommended[name] = field.value
        self.check()

    def _remembered(self) -> list[Field]:
        """The fields that still hold what they held the last time, where that is not what is recommended."""
        found = []
        for field in self.fields:
            first = self._first.get(field.declared.name)
            usual = first == self._recommended.get(field.declared.name) or field.is_default(first)
            if not (usual or _is_empty(first)) and field.value == self._begun.get(field.declared.name):
                found.append(field)
        return found

    def action_recommended(self) -> None:
        """Bring back what is recommended in the place of what is remembered."""
        for field in self._remembered():
            field.propose(self._recommended.get(field.declared.name, field.usual))
        self._changed()

    def _given(self) -> dict[str, Any]:
        """Values as the declaration takes them: what is left empty is not given."""
        given: dict[str, Any] = {}
        for name, value in self.values().items():
            if isinstance(value, list):
                if any(item is not None for item in value):
                    given[name] = [item or "" for item in value]
            elif value not in ("", None):
                given[name] = value
        return checks.expanded(self.action, given)

    def _left_out(self) -> dict[str, str]:
        """Labels that have neither a file nor a word that they are blank."""
        found = {}
        for field in self.query(EachField):
            empty = field.value.count(None)
            if field.declared.opens and 0 < empty < len(field.value):
                found[field.declared.name] = (
                    f"{'one label has' if empty == 1 else f'{empty} labels have'} no file. Choose one, or say: blank"
                )
        return found

    @property
    def settled(self) -> bool:
        """Whether what is shown is about what is typed."""
        return not self._looking and self._found_version == self._version and self._looked_at == self._given()

    # -------------------------------------------------------------------------------------------- changes and checks

    def on_field_changed(self, event: Field.Changed) -> None:
        event.stop()
        self._changed()
        self.post_message(self.Changed(self))

    def _changed(self) -> None:
        self._version += 1
        self._wanted = None
        self._judge()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_PAUSE_SECONDS, self._look_now)

    def check(self) -> None:
        """Look at the files again: something has changed that the form does not know of."""
        self._version += 1
        self._look_now()

    def _judge(self) -> None:
        """Say what the declaration refuses, and what is known of the files."""
        given = self._given()
        declared = actions.faults(self.action, given)
        faults = {**self._left_out(), **declared}
        current = self._found_version == self._version
        if self._findings is not None and (current or not faults):
            faults = {**(self._findings.faults if current else {}), **faults}
        begun = self._asked_before or any(field.touched for field in self.fields)
        complaints: dict[str, str] = {}
        waiting: list[tuple[Declared, str]] = []
        for field in self.fields:
            fault = faults.get(field.declared.name, "")
            expected = field.declared.name in declared and _is_empty(field.value) and not self._asked_before
            if expected and not (field.touched if fault == _MISSING else begun):
                fault = ""  # there was no time to fill it in
            field.complain(self._in_words(fault))
            if fault and fault != _MISSING:
                complaints[field.declared.title] = fault
            elif field.declared.name in faults:
                waiting.append((field.declared, faults[field.declared.name]))
        shown = {field.declared.name for field in self.fields}
        others = [text for name, text in faults.items() if name not in shown]
        command = self.query_one(CommandLine)
        plain = not declared and not self._left_out()
        command.show(actions.command_line(self.action, actions.build(self.action, given)) if plain else "")
        self._say(others, complaints, waiting, current)
        remembered = len(self._remembered())
        line = self.query_one("#remembered", Static)
        line.display = remembered > 0
        line.update(f"{words.counted(remembered, 'value')} as the last time here; ctrl+r for what is recommended")

    def _in_words(self, text: str) -> str:
        """A complaint with the titles of the fields in the place of the command line's names."""
        titles = {"--" + parameter.name.replace("_", "-"): parameter.title for parameter in self._declared}
        return _OPTION.sub(lambda found: titles.get(found[0], found[0]), text)

    def _named(self, title: str, text: str) -> str:
        """A complaint with the title of its field, unless it begins with it."""
        text = self._in_words(text)
        return text if text.startswith(title) else f"{title}: {text}"

    def _say(
        self,
        others: Sequence[str],
        complaints: Mapping[str, str],
        waiting: Sequence[tuple[Declared, str]],
        current: bool,
    ) -> None:
        """The line above the command.

        Args:
            others: Complaints about nothing that the form shows.
            complaints: Those that are said beside a field, by its title; the first is said here too.
            waiting: What is still to be filled in, without a complaint beside it, and what it lacks.
        """
        status = self.query_one("#status", Static)
        status.set_class(bool(others or (current and complaints)), "-fault")
        if others:
            text = self._in_words("; ".join(map(sentence, others)))
            status.update(safe(f"! {text}"))
        elif not current:
            status.update("Checking ..." if self._looking or self._wanted is not None else " ")
        elif complaints or waiting:
            lines = []
            if complaints:
                title, text = next(iter(complaints.items()))
                more = f" ({len(complaints) - 1} more)" if len(complaints) > 1 else ""
                lines.append(f"! {self._named(title, text)}{more}")
            if waiting:
                unmarked = [text for parameter, text in waiting if not parameter.required]
                which = self._in_words(f": {unmarked[0]}") if unmarked else " (*)"
                lines.append(f"{len(waiting)} to be filled in{which}")
            status.update(safe("\n".join(lines)))
        elif self._findings is not None:
            lines = [self._findings.summary or "Ready", *dict.fromkeys(self._findings.remarks)]
            status.update(safe("\n".join(lines)))

    def _look_now(self) -> None:
        """Look at the files in a thread; while a look is under way, once more after it."""
        if not self._looking and self.is_attached:
            self._looking = True
            self.run_worker(self._look(), group="look")

    async def _look(self) -> None:
        try:
            while self._found_version != self._version:
                version, given = self._version, self._given()
                safe_mode, datasets = self._safe_mode(), tuple(self._open_datasets())
                try:
                    found = await asyncio.to_thread(checks.examine, self.action, given, safe_mode, datasets)
                except Exception as error:  # a check that fails must not keep anybody from starting
                    found = Findings({}, remarks=(f"Could not be checked: {type(error).__name__}: {error}",))
                if not self.is_attached:
                    return
                for field in self.fields:
                    source = field.declared.within.partition(".")[0] or field.declared.each
                    if source and (source in found.outlines or version == self._version):
                        await field.offer(found.outlines.get(source, checks.Outline()))
                if version == self._version:
                    self._findings, self._found_version, self._looked_at = found, version, given
        finally:
            self._looking = False
        self._judge()
        if self._wanted is not None:
            self._start(self._wanted)

    # -------------------------------------------------------------------------------------------- starting

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_next()

    def action_next(self) -> None:
        """Go on to the next line; start in the last one."""
        focused = self.screen.focused
        lines = [line for field in self.fields if not _folded(field) for line in field.lines()]
        here = [i for i, line in enumerate(lines) if focused is not None and line.parent is focused.parent]
        following = lines[here[-1] + 1 :] if here else []
        if following:
            following[0].focus()
        else:
            self.action_submit()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "cancel":
            self.post_message(self.Cancelled(self))
        elif event.button.id == "detached":
            self.action_detach()
        else:
            self.action_submit()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        return self.action.run if action == "detach" else True

    def action_submit(self) -> None:
        """Check everything and start."""
        self._ask_for(False)

    def action_detach(self) -> None:
        """Check everything and start in a process of its own."""
        self._ask_for(True)

    def _ask_for(self, detached: bool) -> None:
        self._asked_before = True
        if self._found_version == self._version and not self._looking:
            # What is in the files may have changed since: look again rather than trust what was found.
            self._found_version = -1
        self._wanted = detached
        if self._timer is not None:
            self._timer.stop()
        self._judge()
        self._look_now()

    def _start(self, detached: bool) -> None:
        """Send the form, or lead to what keeps it from being sent."""
        self._wanted = None
        given = self._given()
        faults = {**self._left_out(), **actions.faults(self.action, given)}
        if self._findings is not None:
            faults = {**self._findings.faults, **faults}
        if not faults:
            self.post_message(self.Submitted(self, self.action, actions.build(self.action, given), detached))
            return
        at_fault = next((field for field in self.fields if field.declared.name in faults), None)
        if at_fault is None:
            text = next(iter(faults.values()))
        else:
            text = self._named(at_fault.declared.title, faults[at_fault.declared.name])
            if at_fault.declared.more:
                self.query_one(Collapsible).collapsed = False
            self.call_after_refresh(at_fault.enter)
            self.call_after_refresh(at_fault.scroll_visible, animate=False)  # with its complaint, below what is focused
        self.app.notify(safe(self._in_words(text)), title="Not started", severity="error", markup=False)

    # -------------------------------------------------------------------------------------------- the command

    def action_copy(self) -> None:
        """Copy the command that does the same."""
        command = self.query_one(CommandLine)
        if not command.complete:
            self.app.notify("The command is not complete yet", severity="warning")
            return
        self.app.copy_to_clipboard(command.command)
        self.app.notify("The command is copied, if the terminal allows it (in tmux: set -g set-clipboard on)")


def _ordered(action: Action) -> list[Declared]:
    """Needed and common parameters first; whether to overwrite beside what is made."""
    found = actions.declared(action)
    overwrite = [parameter for parameter in found if parameter.name == "overwrite"]
    rest = [parameter for parameter in found if parameter.name != "overwrite"]
    made = [index for index, parameter in enumerate(rest) if parameter.makes]
    where = made[0] + 1 if made else len(rest)
    return [*rest[:where], *overwrite, *rest[where:]]


def _verb(action: Action) -> str:
    return _VERBS.get(action.name, action.name.replace("-", " ").capitalize())


def _button(label: str, id: str, tooltip: str, variant: Any = "default") -> Button:
    return Button(Content(f"[ {label} ]"), variant, id=id, tooltip=tooltip, compact=True)


def _folded(field: Field) -> bool:
    return any(isinstance(node, Collapsible) and node.collapsed for node in field.ancestors)


def _is_empty(value: Any) -> bool:
    return value in ("", None, []) or (isinstance(value, list) and all(item is None for item in value))


def _as_typed(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_as_typed(item) for item in value]
    return value if value is None or isinstance(value, (str, bool)) else str(value)
