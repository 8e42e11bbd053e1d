"""The line of keys at the foot of every screen and dialog."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.cells import cell_len
from textual import events, widgets
from textual.app import ComposeResult
from textual.binding import ActiveBinding
from textual.containers import HorizontalGroup
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets._footer import FooterKey, FooterLabel, KeyGroup

__all__ = ["Footer"]


class Footer(widgets.Footer):
    """The first keys, as many as fit; an ellipsis where there are more, and always the key of help, which has all."""

    DEFAULT_CSS = """
    Footer #always { dock: right; width: auto; height: 1; border-left: vkey $foreground 20%; }
    Footer #always FooterKey.-command-palette { dock: none; border: none; padding: 0; }
    """

    _width = 0  # that the keys were chosen for

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width != self._width:
            self.refresh(recompose=True)

    def compose(self) -> ComposeResult:
        self._width = self.size.width
        if not self._bindings_ready or not self._width:
            return
        active = self.screen.active_bindings
        always = [_Key("f1", "f1", "Help", "app.help", tooltip="Explain the focused part and list its keys")]
        if palette := active.get(self.app.COMMAND_PALETTE_BINDING):
            always.append(self._key(palette, "-command-palette"))
        with HorizontalGroup(id="always"):
            yield from always
        room = self._width - 1 - sum(_cells(key.key_display, key.description) for key in always)
        parts = list(self._parts(active))
        if sum(width for width, _ in parts) > room:
            room -= 2
        for width, part in parts:
            if width > room:
                yield FooterLabel("\N{HORIZONTAL ELLIPSIS}", classes="more")
                return
            room -= width
            yield from part

    def _parts(self, active: dict[str, ActiveBinding]) -> Iterator[tuple[int, list[Widget]]]:
        """What belongs together, with the cells that it takes: a key, or a group of keys with one name."""
        shown: dict[str, ActiveBinding] = {}  # of several keys that do the same the first
        for one in active.values():
            if one.binding.show:
                shown.setdefault(one.binding.action, one)
        for group, found in groupby(shown.values(), lambda one: one.binding.group):
            members = list(found)
            if group is None or len(members) == 1:
                for one in members:
                    key = self._key(one)
                    yield _cells(key.key_display, key.description), [key]
            else:
                keys = [self._key(one, "-grouped") for one in members]
                width = _cells("".join(key.key_display for key in keys), group.description)
                yield width, [KeyGroup(*keys, classes="-compact"), FooterLabel(group.description)]

    def _key(self, active: ActiveBinding, classes: str = "") -> _Key:
        binding = active.binding
        return _Key(
            binding.key,
            self.app.get_key_display(binding),
            "" if classes == "-grouped" else binding.description,
            binding.action,
            disabled=not active.enabled,
            tooltip=active.tooltip or binding.description,
            classes=classes,
        )


class _Key(FooterKey):
    compact = reactive(False)


def _cells(keys: str, description: str) -> int:
    """As Textual draws them: a space on both sides of the keys, and one behind the words."""
    return cell_len(keys) + cell_len(description) + 3
