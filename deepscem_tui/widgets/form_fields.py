"""The fields of a form: one for each kind of parameter, with its help or what is wrong with it below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Input, Select, Static

from deepscem_tui.engine.actions import Declared
from deepscem_tui.engine.checks import Outline
from deepscem_tui.texts import safe
from deepscem_tui.widgets.flag import Flag
from deepscem_tui.widgets.path_input import PathInput


class Field(Vertical):
    """A parameter with its title, its control, and a line of help that gives way to what is wrong.

    Its ``value`` is as typed, of JSON types: texts, a flag, or a list of texts.
    """

    DEFAULT_CSS = """
    Field { height: auto; }
    Field > .line { height: auto; }
    Field .field-title { width: 20; color: $foreground; }
    Field:focus-within > .line > .field-title { text-style: bold; }
    Field > .note { color: $text-muted; padding-left: 2; height: auto; }
    Field > .note.-fault { color: $text-error; text-style: bold; }
    Field .unit { width: auto; padding-left: 1; color: $text-muted; }
    Field Input { width: 1fr; background: $panel; }
    Field Input:focus { background: $panel-lighten-1; }
    Field Select { width: 1fr; }
    Field SelectCurrent { background: $panel; }
    Field Button { min-width: 0; width: auto; margin-left: 1; }
    Field .rows { height: auto; }
    Field .row { height: 1; }
    Field .choices { height: auto; max-height: 6; width: 1fr; }
    """

    @dataclass
    class Changed(Message):
        """The value was changed by its user."""

        field: Field

        @property
        def control(self) -> Field:
            return self.field

    def __init__(self, declared: Declared, value: Any = None) -> None:
        super().__init__(id=f"field-{declared.name}")
        self.declared = declared
        self.touched = False
        self.fault = ""
        self._first = value
        self._known: Any = None

    @property
    def value(self) -> Any:
        raise NotImplementedError

    @value.setter
    def value(self, value: Any) -> None:
        raise NotImplementedError

    def control_widgets(self) -> ComposeResult:
        """What stands beside the title."""
        raise NotImplementedError

    @property
    def usual(self) -> str | bool:
        """What it shows where no value is given."""
        if self.declared.kind == "flag":
            return self.declared.default is True
        return str(self.declared.default) if self.declared.kind == "choice" else ""

    def is_default(self, value: Any) -> bool:
        """Whether a value, as typed, is what is taken where none is given."""
        return value in (self.usual, _text(self.declared.default))

    def propose(self, value: Any) -> None:
        """Set the value as if it had been there from the beginning: nobody has touched it."""
        self.value = value
        self._known = self.value
        self.touched = False

    async def offer(self, outline: Outline) -> None:
        """Take what there is to choose from."""

    def compose(self) -> ComposeResult:
        title = self.declared.title + (" *" if self.declared.required else "")
        with Horizontal(classes="line"):
            yield Static(title, classes="field-title", markup=False)
            yield from self.control_widgets()
        yield Static(self.declared.help, classes="note", markup=False)

    def complain(self, fault: str) -> None:
        """Show what is wrong in the place of the help; the help again if nothing is."""
        if fault == self.fault:
            return
        self.fault = fault
        note = self.query_one(".note", Static)
        note.update(safe(f"! {sentence(fault)}") if fault else self.declared.help)
        note.set_class(bool(fault), "-fault")

    def lines(self) -> list[Widget]:
        """What ``enter`` goes through: the control, or the one in each row."""
        return [widget for widget in self.query("*") if widget.focusable][:1]

    def enter(self) -> None:
        """Focus the control."""
        for line in self.lines():
            line.focus()

    def on_mount(self) -> None:
        self._known = self.value

    def changed(self) -> None:
        """Pass on that the value was changed, if it was: some controls say so as they appear."""
        if self.value == self._known:
            return
        self._known = self.value
        self.touched = True
        self.post_message(self.Changed(self))

    def _placeholder(self) -> str:
        declared = self.declared
        if declared.otherwise:
            return f"({declared.otherwise})"
        return "" if declared.required or declared.default in (None, ()) else f"({declared.default})"


class TextField(Field):
    """A text, a number, sizes or bounds."""

    def control_widgets(self) -> ComposeResult:
        yield Input(_text(self._first), self._placeholder(), compact=True)
        if self.declared.unit:
            yield Static(self.declared.unit, classes="unit", markup=False)

    @property
    def value(self) -> str | list[str]:
        return self.query_one(Input).value

    @value.setter
    def value(self, value: Any) -> None:
        self.query_one(Input).value = _text(value)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.changed()


class TextsField(TextField):
    """Several texts in a line."""

    def control_widgets(self) -> ComposeResult:
        yield Input(self._line(self._first), self._placeholder(), compact=True)

    @property
    def value(self) -> list[str]:
        parts = self.query_one(Input).value.split(self.declared.joined)
        return [part.strip() for part in parts if part.strip()]

    @value.setter
    def value(self, value: Any) -> None:
        self.query_one(Input).value = self._line(value)

    def _line(self, value: Any) -> str:
        mark = self.declared.joined
        return (mark if mark == "," else f" {mark} ").join(_texts(value))


class PathField(TextField):
    """A path, completed while it is typed, or chosen from a list."""

    def control_widgets(self) -> ComposeResult:
        yield _path_input(self.declared, _text(self._first), self._placeholder(), self.declared.title)
        yield _browse_button()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.query_one(PathInput).action_browse()


class ChoiceField(Field):
    """One of a few words."""

    def control_widgets(self) -> ComposeResult:
        value = _text(self._first)
        first = value if value in self.declared.choices else str(self.declared.default)
        options = [(Content(choice), choice) for choice in self.declared.choices]
        yield Select(options, value=first, allow_blank=False, compact=True)

    @property
    def value(self) -> str:
        return str(self.query_one(Select).value)

    @value.setter
    def value(self, value: Any) -> None:
        if _text(value) in self.declared.choices:
            self.query_one(Select).value = _text(value)

    def on_select_changed(self, event: Select.Changed) -> None:
        event.stop()
        self.changed()


class FlagField(Field):
    """On or off."""

    def control_widgets(self) -> ComposeResult:
        yield Flag(self.declared.default is True if self._first is None else bool(self._first))

    @property
    def value(self) -> bool:
        return self.query_one(Flag).value

    @value.setter
    def value(self, value: Any) -> None:
        self.query_one(Flag).value = bool(value)

    def on_flag_changed(self, event: Flag.Changed) -> None:
        event.stop()
        self.changed()


class SampleField(Field):
    """The name of something in a data set that another field names, chosen from a list."""

    def __init__(self, declared: Declared, value: Any = None) -> None:
        super().__init__(declared, value)
        self._wanted = _text(value)  # may not be on offer yet
        self._offered: tuple[str, ...] = ()

    def control_widgets(self) -> ComposeResult:
        first = [(Content(safe(self._wanted)), self._wanted)] if self._wanted else []
        yield Select(first, prompt=self._placeholder() or "choose", compact=True, value=self._wanted or Select.NULL)

    @property
    def value(self) -> str:
        return self._wanted

    @value.setter
    def value(self, value: Any) -> None:
        self._wanted = _text(value)
        self._show()

    async def offer(self, outline: Outline) -> None:
        names = outline.samples if self.declared.within.endswith(".samples") else outline.labels
        if names != self._offered:
            self._offered = names
            self._show()

    def _show(self) -> None:
        names = self._offered if self._wanted in ("", *self._offered) else (self._wanted, *self._offered)
        select = self.query_one(Select)
        with select.prevent(Select.Changed):
            select.set_options([(Content(safe(name)), name) for name in names])
            select.value = self._wanted or Select.NULL

    def on_select_changed(self, event: Select.Changed) -> None:
        event.stop()
        chosen = "" if event.value is Select.NULL else str(event.value)
        if chosen != self._wanted:
            self._wanted = chosen
            self.changed()


class SamplesField(Field):
    """Any number of the samples of a data set that another field names."""

    def __init__(self, declared: Declared, value: Any = None) -> None:
        super().__init__(declared, value)
        self._wanted = _texts(value)
        self._offered: tuple[str, ...] = ()

    def control_widgets(self) -> ComposeResult:
        yield VerticalScroll(classes="choices", can_focus=False)

    def on_mount(self) -> None:
        super().on_mount()
        self.call_later(self._show)

    @property
    def value(self) -> list[str]:
        return list(self._wanted)

    @value.setter
    def value(self, value: Any) -> None:
        self._wanted = _texts(value)
        self.call_later(self._show)

    async def offer(self, outline: Outline) -> None:
        if outline.samples != self._offered:
            self._offered = outline.samples
            await self._show()

    async def _show(self) -> None:
        names = [*(name for name in self._wanted if name not in self._offered), *self._offered]
        box = self.query_one(VerticalScroll)
        await box.remove_children()
        if names:
            await box.mount(*(Flag(name in self._wanted, name) for name in names))
        else:
            await box.mount(Static(self._placeholder(), classes="unit", markup=False))

    def on_flag_changed(self, event: Flag.Changed) -> None:
        event.stop()
        self._wanted = [flag.label for flag in self.query(Flag) if flag.value]
        self.changed()


class EachField(Field):
    """A text or a file for each label of the data set that another field names."""

    def __init__(self, declared: Declared, value: Any = None) -> None:
        super().__init__(declared, value)
        self._values: list[str | None] = list(value) if isinstance(value, (list, tuple)) else []
        self._labels: tuple[str, ...] = ()
        self._entering = False

    def compose(self) -> ComposeResult:
        with Horizontal(classes="line"):
            yield Static(self.declared.title, classes="field-title", markup=False)
            yield Static(f"as many as the data set has labels: choose {self.declared.each} first", classes="unit waits")
        yield Vertical(classes="rows")
        yield Static(self.declared.help, classes="note", markup=False)

    @property
    def value(self) -> list[str | None]:
        """One for each label: what was typed, "" for a blank label, None for nothing."""
        return list(self._values)

    @value.setter
    def value(self, value: Any) -> None:
        self._values = list(value) if isinstance(value, (list, tuple)) else []
        self.call_later(self._show)

    async def offer(self, outline: Outline) -> None:
        if outline.labels != self._labels:
            self._labels = outline.labels
            await self._show()

    async def _show(self) -> None:
        rows = self.query_one(".rows", Vertical)
        self.query_one(".waits").display = not self._labels
        self._values = (self._values + [None] * len(self._labels))[: max(len(self._labels), len(self._values))]
        await rows.remove_children()
        if self._labels:
            self._values = self._values[: len(self._labels)]
            await rows.mount(*(self._row(name, self._values[i]) for i, name in enumerate(self._labels)))
        if self._entering and self.query(Input):
            self.enter()

    def _row(self, name: str, value: str | None) -> Horizontal:
        title = Static(f"  {safe(name)}", classes="field-title", markup=False)
        if not self.declared.opens:
            return Horizontal(title, Input(value or "", compact=True), classes="row")
        line = _path_input(self.declared, value or "", "", f"{self.declared.title}: {name}")
        return Horizontal(title, line, _browse_button(), Flag(value == "", "blank"), classes="row")

    def lines(self) -> list[Widget]:
        return list(self.query(Input))

    def enter(self) -> None:
        empty = [line for line, value in zip(self.query(Input), self._values, strict=False) if value is None]
        self._entering = not self.query(Input)  # as soon as the labels are known
        for line in [*empty, *self.query(Input)][:1]:
            line.focus()

    def _read(self) -> None:
        self._values = [self._row_value(row) for row in self.query(".row")]
        self.changed()

    def _row_value(self, row: Widget) -> str | None:
        typed = row.query_one(Input).value
        blank = row.query(Flag)
        if blank and blank.first().value:
            return ""
        return typed or None

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        assert event.input.parent is not None
        for flag in event.input.parent.query(Flag):
            if event.value:
                with flag.prevent(Flag.Changed):
                    flag.value = False
        self._read()

    def on_flag_changed(self, event: Flag.Changed) -> None:
        event.stop()
        if event.value:
            assert event.flag.parent is not None
            line = event.flag.parent.query_one(Input)
            with line.prevent(Input.Changed):
                line.value = ""
        self._read()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        assert event.button.parent is not None
        event.button.parent.query_one(PathInput).action_browse()


def make_field(declared: Declared, value: Any = None) -> Field:
    """The field that suits a parameter."""
    if declared.each:
        kind: type[Field] = EachField
    elif declared.within:
        kind = SamplesField if declared.kind == "many" else SampleField
    else:
        kinds = {"flag": FlagField, "choice": ChoiceField, "path": PathField, "many": TextsField}
        kind = kinds.get(declared.kind, TextField)
    return kind(declared, value)


def sentence(text: str) -> str:
    """A complaint with a capital letter, unless it begins with the name of a file."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def _path_input(declared: Declared, value: str, placeholder: str, title: str) -> PathInput:
    return PathInput(
        value,
        suffixes=declared.suffixes,
        folder="folder" in (declared.opens, declared.makes),
        makes=bool(declared.makes),
        placeholder=placeholder,
        title=title,
    )


def _browse_button() -> Button:
    button = Button(Content("[...]"), compact=True, tooltip="Choose from a list of files (ctrl+o)")
    button.can_focus = False  # ctrl+o does the same: one stop less on the way through the form
    return button


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return [str(item) for item in value] if isinstance(value, Sequence) else []
