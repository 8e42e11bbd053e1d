"""The tree of data sets: folders, data sets, samples, and the image, labels and predictions of each sample."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from deepscem_tui.engine.catalogue import Catalogue, DatasetEntry, MemberEntry, SampleEntry
from deepscem_tui.texts import safe

__all__ = ["DatasetTree", "Item"]

Kind = Literal["folder", "dataset", "sample", "member"]
Key = tuple[str, ...]

_KINDS = {"label": "label ", "prediction": "predicted ", "dt": "distance ", "image": ""}


@dataclass(frozen=True)
class Item:
    """What stands in a line of the tree.

    Args:
        path: The data set's file; the folder of a ``folder``.
        dataset: None for a ``folder``.
        elsewhere: Whether it was opened from elsewhere.
    """

    kind: Kind
    path: Path
    dataset: DatasetEntry | None = None
    sample: SampleEntry | None = None
    member: MemberEntry | None = None
    elsewhere: bool = False

    @property
    def key(self) -> Key:
        """What tells it from others, whatever has changed in it."""
        names = [part.name for part in (self.sample, self.member) if part is not None]
        kind = "folder" if self.kind == "folder" else "dataset"
        return (kind, "*" if self.elsewhere and kind == "folder" else os.path.abspath(self.path), *names)  # noqa: PTH100


class DatasetTree(Tree[Item]):
    """Data sets and what is in them; a message tells which line is chosen."""

    HELP = """\
## Data sets

The data sets of the folder and its subfolders, and those opened from elsewhere.

- `up` and `down` choose; what is chosen is shown beside.
- `space` or `right` opens a data set or a sample, `left` closes it.
- `enter` on a sample shows its slices in the whole window; `escape` comes back.
- What a key does is done to the chosen line; the keys below fit it.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "open_node", "Open", show=False, tooltip="Show what is in it"),
        Binding("left", "close_node", "Close", show=False, tooltip="Hide what is in it, or go to what it is in"),
        Binding("home", "scroll_home_line", "First", show=False),
        Binding("end", "scroll_end_line", "Last", show=False),
    ]
    DEFAULT_CSS = """
    DatasetTree { padding: 0; scrollbar-size-vertical: 1; }
    """

    class Chosen(Message):
        """Another line is chosen, or what is in it has changed."""

        def __init__(self, item: Item | None, moved: bool) -> None:
            self.item = item
            self.moved = moved
            super().__init__()

    class Entered(Message):
        """Enter was pressed, or a line was clicked, that holds something to look at."""

        def __init__(self, item: Item) -> None:
            self.item = item
            super().__init__()

    def __init__(self, id: str | None = None) -> None:
        super().__init__("", id=id)
        self.show_root = False
        self.guide_depth = 2
        self.auto_expand = False
        self._catalogue: Catalogue | None = None
        self._expanded: set[Key] = set()
        self._folded: set[Key] = set()  # folders that were closed: they are open at first
        self._told: Item | None = None
        self._building = False

    @property
    def chosen(self) -> Item | None:
        """What stands in the line with the cursor."""
        node = self.cursor_node
        return None if node is None else node.data

    # -------------------------------------------------------------------------------------------- building

    def show(self, catalogue: Catalogue, hidden: frozenset[Path] = frozenset()) -> None:
        """Show what was found; what is open stays open, and the cursor stays where it is or near.

        Args:
            hidden: Data sets of the folder that are not shown.
        """
        before = [node.data.key for node in self._shown() if node.data is not None]
        now = self.chosen.key if self.chosen else None
        self._catalogue = catalogue
        self._building = True
        self.clear()
        self._fill(catalogue, hidden)
        self._building = False
        if now is not None:
            index = before.index(now)
            for key in [*before[index:], *reversed(before[:index])]:
                if len(key) >= len(now) - 1 and self._go(key):
                    break
            else:
                self._go(now[:2])
        if self.cursor_line < 0:
            self._first()
        self._tell()

    def choose(self, path: Path, *names: str) -> bool:
        """Put the cursor on a data set, a sample or a member; False if it is not there."""
        key = ("dataset", os.path.abspath(path), *names)  # noqa: PTH100
        for length in range(2, len(key)):
            node = self._node(key[:length])
            if node is None:
                return False
            self._open(node)
        return self._go(key)

    def _fill(self, catalogue: Catalogue, hidden: frozenset[Path]) -> None:
        folders: dict[Path, TreeNode[Item]] = {catalogue.folder: self.root}
        for dataset in catalogue.datasets:
            if dataset.path in hidden:
                continue
            folder = dataset.path.parent
            if folder not in folders:
                folders[folder] = self._add(self.root, Item("folder", folder))
            self._add(folders[folder], Item("dataset", dataset.path, dataset))
        if catalogue.elsewhere:
            group = self._add(self.root, Item("folder", Path(), elsewhere=True))
            for dataset in catalogue.elsewhere:
                self._add(group, Item("dataset", dataset.path, dataset, elsewhere=True))

    def _add(self, parent: TreeNode[Item], item: Item) -> TreeNode[Item]:
        holds = item.kind == "folder" or bool(_inside(item))
        node = parent.add(Text(_title(item)), item, allow_expand=holds)
        if item.key in self._expanded or (item.kind == "folder" and item.key not in self._folded):
            self._open(node)
        return node

    def _open(self, node: TreeNode[Item]) -> None:
        """Open a node; what is in it is made only now."""
        if node.data is None or not node.allow_expand:
            return
        if not node.children:
            for item in _inside(node.data):
                self._add(node, item)
        self._folded.discard(node.data.key)
        self._expanded.add(node.data.key)
        if not node.is_expanded:  # expanding sends a message, which leads here
            node.expand()

    def _shown(self, node: TreeNode[Item] | None = None) -> Iterator[TreeNode[Item]]:
        """The nodes that can be seen, from top to bottom."""
        for child in (node or self.root).children:
            yield child
            if child.is_expanded:
                yield from self._shown(child)

    def _node(self, key: Key) -> TreeNode[Item] | None:
        return next((node for node in self._shown() if node.data is not None and node.data.key == key), None)

    def _go(self, key: Key) -> bool:
        node = self._node(key)
        if node is not None:
            self._tree_lines  # noqa: B018 (gives the nodes their lines)
            self.move_cursor(node)
            self.scroll_to_line(node.line, animate=False)
        return node is not None

    def _first(self) -> None:
        """Put the cursor on the first sample there is, else on the first data set."""
        nodes = [node for node in self._shown() if node.data is not None and node.data.kind == "dataset"]
        for node in nodes:
            assert node.data is not None
            assert node.data.dataset is not None
            if node.data.dataset.samples:
                self._open(node)
                self.choose(node.data.path, node.data.dataset.samples[0].name)
                return
        if nodes and nodes[0].data is not None:
            self._go(nodes[0].data.key)

    # -------------------------------------------------------------------------------------------- telling

    def _tell(self, moved: bool = False) -> None:
        if not self._building and self.chosen != self._told:
            self._told = self.chosen
            self.post_message(self.Chosen(self.chosen, moved))

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Item]) -> None:
        event.stop()
        told = self._told.key if self._told else None
        self._tell(moved=self.chosen is not None and self.chosen.key != told)

    def on_tree_node_selected(self, event: Tree.NodeSelected[Item]) -> None:
        event.stop()
        item = event.node.data
        if item is None:
            return
        if item.kind in ("sample", "member"):
            self.post_message(self.Entered(item))
        elif event.node.is_expanded:
            event.node.collapse()
        else:
            self._open(event.node)

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[Item]) -> None:
        event.stop()
        self._open(event.node)

    def on_tree_node_collapsed(self, event: Tree.NodeCollapsed[Item]) -> None:
        event.stop()
        if event.node.data is not None:
            self._expanded.discard(event.node.data.key)
            self._folded.add(event.node.data.key)

    # -------------------------------------------------------------------------------------------- keys

    def action_open_node(self) -> None:
        """Show what is in the chosen line; if it is shown, go into it."""
        node = self.cursor_node
        if node is None or not node.allow_expand:
            return
        if node.is_expanded:
            self.action_cursor_down()
        else:
            self._open(node)

    def action_close_node(self) -> None:
        """Hide what is in the chosen line, or go to the line that it belongs to."""
        node = self.cursor_node
        if node is None:
            return
        if node.is_expanded and node.allow_expand:
            node.collapse()
        elif node.parent is not None and not node.parent.is_root:
            self.move_cursor(node.parent)

    def action_scroll_home_line(self) -> None:
        """Go to the first line."""
        self.cursor_line = 0

    def action_scroll_end_line(self) -> None:
        """Go to the last line."""
        self.cursor_line = self.last_line

    # -------------------------------------------------------------------------------------------- drawing

    def render_label(self, node: TreeNode[Item], base_style: Style, style: Style) -> Text:
        """A line: what opens it, its name, and in other colours what is special about it."""
        item = node.data
        if item is None:
            return Text("")
        icon = ("▼ " if node.is_expanded else "▶ ") if node.allow_expand else "  "
        text = Text(icon, base_style + style, no_wrap=True, end="")
        under_cursor = node is self.cursor_node
        if _problem(item):
            text.append("! ", Style(bold=True))
        text.append(_title(item), Style(bold=True) if item.kind == "folder" else Style())
        note = _note(item)
        if note:
            text.append(f" {note}", Style() if under_cursor else Style(dim=True))
        return text


def _inside(item: Item) -> list[Item]:
    """What a line holds."""
    if item.kind == "dataset" and item.dataset is not None:
        return [Item("sample", item.path, item.dataset, s, elsewhere=item.elsewhere) for s in item.dataset.samples]
    if item.kind == "sample" and item.sample is not None:
        return [
            Item("member", item.path, item.dataset, item.sample, member, item.elsewhere)
            for member in item.sample.members
        ]
    return []


def _title(item: Item) -> str:
    if item.kind == "folder":
        return "opened from elsewhere" if item.elsewhere else f"{safe(item.path.name)}/"
    if item.member is not None:
        return _KINDS[item.member.kind] + safe(item.member.title.replace("\n", " "))
    return safe((item.sample.name if item.sample is not None else item.path.name).replace("\n", " "))


def _note(item: Item) -> str:
    if item.kind == "dataset" and item.dataset is not None:
        if item.dataset.busy:
            return "being changed"
        name = item.dataset.name
        return safe(name.replace("\n", " ")) if name and name != item.path.stem else ""
    return ""


def _problem(item: Item) -> str:
    if item.kind == "dataset" and item.dataset is not None:
        return item.dataset.problem
    return item.sample.problem if item.kind == "sample" and item.sample is not None else ""
