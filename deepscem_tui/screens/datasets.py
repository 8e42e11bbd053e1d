"""The screen of data sets: the tree of what the folder holds, the slices of what is chosen, and what can be done."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Static

from deepscem_tui.engine import actions, words
from deepscem_tui.engine.catalogue import Catalogue, Cataloguer, DatasetEntry
from deepscem_tui.engine.formats import HDF5
from deepscem_tui.engine.viewing.slices import SliceTarget
from deepscem_tui.jobs import Job
from deepscem_tui.screens.base import WorkScreen
from deepscem_tui.screens.confirm import Answer, Confirm
from deepscem_tui.screens.dataset_facts import facts, references
from deepscem_tui.screens.dataset_keys import DEEDS, bindings, refusal, shown
from deepscem_tui.screens.file_dialog import FileDialog
from deepscem_tui.screens.proposals import cleaned, objects_of
from deepscem_tui.screens.welcome import Welcome
from deepscem_tui.texts import safe
from deepscem_tui.widgets.dataset_tree import DatasetTree, Item, Key
from deepscem_tui.widgets.slice_view import SliceView

_RESCAN_SECONDS = 2.0
_SHOW_SECONDS = 0.08  # while the cursor runs through the tree nothing is shown
_READY_SECONDS = 0.1
_DEED = "screen.deed('"


class _Tree(DatasetTree):
    """The tree with the keys of this screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "View", show=False, tooltip="Show the slices in the whole window"),
        *bindings(),
    ]


class DatasetsScreen(WorkScreen):
    """Data sets of the folder and opened from elsewhere.

    ``app.open_datasets`` is kept up here: every readable data set of the folder that was not closed, and those opened
    from elsewhere. That is what safe mode compares with. No file is kept open.
    """

    MODE = "datasets"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-medium"), (160, "-wide")]  # noqa: RUF012 (as Textual declares it)
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-usual"), (36, "-high")]  # noqa: RUF012 (as Textual declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="Back to the tree"),
    ]
    DEFAULT_CSS = """
    DatasetsScreen #browse { height: 1fr; }
    DatasetsScreen #left { width: 30; border-right: vkey $primary-muted; }
    DatasetsScreen.-medium #left { width: 38; }
    DatasetsScreen.-wide #left { width: 54; }
    DatasetsScreen.-full #left { display: none; }
    DatasetsScreen #keys { height: 1; }
    DatasetsScreen #keys.-here { text-style: reverse bold; }
    DatasetsScreen DatasetTree { height: 1fr; }
    DatasetsScreen #facts { height: auto; max-height: 6; padding: 0 1; color: $text-muted; background: $panel; }
    DatasetsScreen.-low #facts { max-height: 2; }
    DatasetsScreen.-high #facts { max-height: 16; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._cataloguer = Cataloguer()
        self._catalogue: Catalogue | None = None
        self._elsewhere: list[Path] = []
        self._put_away: frozenset[Path] = frozenset()
        self._references: dict[Key, Path | None] = {}  # chosen by the user for a sample; None: no comparison
        self._wanted: tuple[Path, tuple[str, ...]] | None = None  # to be chosen when it is found
        self._moved_at = 0.0
        self._scanning = self._again = False
        self._viewed: tuple[Any, ...] = ()
        self._member: Item | None = None  # whose overlay alone is to be shown
        self._timer: Timer | None = None
        self._ready: Timer | None = None

    def compose_content(self) -> ComposeResult:
        style: Any = self.app.pictures
        with Horizontal(id="browse"):
            with Vertical(id="left"):
                yield Static(" Data sets", id="keys", markup=False)
                yield _Tree()
                yield Static("Looking for data sets", id="facts", markup=False)
            yield SliceView(pictures=style, folder=self.app.folder)
        yield Welcome()

    def on_mount(self) -> None:
        self._tree, self._view, self._welcome = (
            self.query_one(_Tree), self.query_one(SliceView), self.query_one(Welcome)
        )  # fmt: skip
        self._welcome.display = False
        self.app.job_ended.subscribe(self, self._job_ended)
        self.set_interval(_RESCAN_SECONDS, self._look_again)
        self._tree.focus()
        self.rescan()

    def on_screen_resume(self) -> None:
        if self.is_mounted:
            self.rescan()

    # -------------------------------------------------------------------------------------------- what is there

    def rescan(self) -> None:
        """Look for data sets, off the event loop."""
        self._again = True
        if not self._scanning:
            self._scanning = True
            self.run_worker(self._scan(), group="scan")

    def _look_again(self) -> None:
        if self.is_current:
            self.rescan()

    async def _scan(self) -> None:
        try:
            while self._again:
                self._again = False
                folder, further = self.app.folder, tuple(self._elsewhere)
                catalogue = await asyncio.to_thread(self._cataloguer.scan, folder, further)
                self._found(catalogue)
                self._again = self._again or bool(catalogue.unread)
        finally:
            self._scanning = False

    def _found(self, catalogue: Catalogue) -> None:
        """Show what was found."""
        if catalogue != self._catalogue:
            self._catalogue = catalogue
            self._refill()
        self._choose_wanted()

    def _refill(self) -> None:
        catalogue = self._catalogue
        if catalogue is None:
            return
        datasets = self._datasets()
        self.app.open_datasets[:] = [dataset.path for dataset in datasets if not dataset.problem]
        self._tree.show(catalogue, self._put_away)
        empty = not datasets and not catalogue.unread
        if empty:
            self._welcome.tell(catalogue, bool(self._put_away))
        self._show_welcome(empty)
        if not self._tree.chosen:
            self.query_one("#facts", Static).update("")

    def _show_welcome(self, wanted: bool) -> None:
        if wanted == self._welcome.display and self.query_one("#browse").display != wanted:
            return
        self._welcome.display, self.query_one("#browse").display = wanted, not wanted
        if wanted:
            self.remove_class("-full")
            self._welcome.enter()
        else:
            self._tree.focus()

    def _datasets(self) -> list[DatasetEntry]:
        """What is listed."""
        if self._catalogue is None:
            return []
        inside = [dataset for dataset in self._catalogue.datasets if dataset.path not in self._put_away]
        return [*inside, *self._catalogue.elsewhere]

    # -------------------------------------------------------------------------------------------- what is chosen

    def on_descendant_focus(self) -> None:
        """Say which part has the keys: many letters mean one thing in the tree and another in the slices."""
        keys = self.query_one("#keys", Static)
        keys.set_class(not self._in_slices, "-here")
        keys.update(f" Data sets   keys: {'slices' if self._in_slices else 'here'}")

    @property
    def _in_slices(self) -> bool:
        return self.focused is not None and self._view in self.focused.ancestors_with_self

    def on_dataset_tree_chosen(self, event: DatasetTree.Chosen) -> None:
        if event.moved:
            self._moved_at = time.time()
        self._tell_facts()
        self.refresh_bindings()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_SHOW_SECONDS, self._show_chosen)

    def on_dataset_tree_entered(self) -> None:
        self._do_full(self._tree.chosen)

    def _tell_facts(self) -> None:
        item = self._tree.chosen
        lines = facts(item, self._reference(item))
        self.query_one("#facts", Static).update("\n".join(safe(line) for line in lines))

    def _show_chosen(self) -> None:
        """Show the chosen sample, read anew if its file has changed."""
        item = self._tree.chosen
        sample = item.sample if item is not None else None
        if item is not None and item.kind == "dataset" and item.dataset is not None and not item.dataset.problem:
            sample = next((found for found in item.dataset.samples if not found.problem), None)
        if item is None or item.dataset is None or sample is None:
            self._viewed = ()
            self._view.show(None)
            return
        reference = self._reference(replace(item, kind="sample", sample=sample, member=None))
        target = SliceTarget(item.path, sample.name, reference)
        other = next((dataset.stamp for dataset in self._datasets() if dataset.path == reference), None)
        state = (target, item.dataset.stamp, other)
        if state != self._viewed and not (item.dataset.busy and self._viewed[:1] == (target,)):
            self._viewed = state
            self._view.show(target)
        if item.member is not None or self._member is not None:
            self._member = item if item.member is not None else None
            self._overlay_when_ready()

    def _overlay_when_ready(self) -> None:
        """Show the chosen label alone, or all of them again, as soon as the sample is known."""
        if self._ready is not None:
            self._ready.stop()
        self._ready = self.set_interval(_READY_SECONDS, self._overlay)
        self._overlay()

    def _overlay(self) -> None:
        known, item = self._view.facts, self._tree.chosen
        if known is None or item is None:
            return
        if self._ready is not None:
            self._ready.stop()
        for number, layer in enumerate(known.layers, start=1):
            alone = item.member is not None and (layer.key == item.member.name or layer.kind == "ignored")
            wanted = alone if item.member is not None else layer.usual
            if wanted != (layer.key in self._view.look.overlays):
                self._view.action_overlay(number)

    def _reference(self, item: Item | None) -> Path | None:
        """What a sample is compared with: as was chosen, else what has labels for a sample that is predicted."""
        if item is None or item.sample is None or self._catalogue is None:
            return None
        key = replace(item, member=None).key
        if key in self._references:
            return self._references[key]
        found = references(self._catalogue, item.path, item.sample)
        alone = item.sample.of_kind("prediction") and not item.sample.of_kind("label")
        return found[0].path if alone and found else None

    # -------------------------------------------------------------------------------------------- jobs that ended

    def _job_ended(self, job: Job) -> None:
        made = _made(job)
        if made is not None and (job.began is None or self._moved_at <= job.began):
            self._wanted = made
            self._put_away -= {made[0]}
        self.rescan()

    def _choose_wanted(self) -> None:
        """Choose what a job has made; what lies elsewhere is opened."""
        if self._wanted is None or self._catalogue is None:
            return
        path, names = self._wanted
        if self._tree.choose(path, *names) or self._tree.choose(path):
            self._wanted = None
        elif self._again:  # the look that comes next may find it
            return
        elif path.is_absolute() or not self._catalogue.unread:
            self._wanted = None
            self.open(path, *names)

    def open(self, path: Path, *names: str) -> None:
        """Show a data set, wherever it lies, and choose it or a sample of it."""
        self._put_away = frozenset(other for other in self._put_away if not _same(path, other))
        known = [] if self._catalogue is None else [*self._catalogue.datasets, *self._catalogue.elsewhere]
        if not any(_same(path, other) for other in (*(dataset.path for dataset in known), *self._elsewhere)):
            self._elsewhere.append(path)
            self._wanted = (path, names)
            self.rescan()
            return
        self._refill()
        self._tree.choose(path, *names)

    # -------------------------------------------------------------------------------------------- keys

    @property
    def active_bindings(self) -> dict[str, Any]:
        """Those of the screen; keys that do not fit what is chosen are not in the footer, but say why when pressed."""
        found = super().active_bindings
        item = self._tree.chosen if self.is_mounted and self.query(_Tree) else None
        for key, active in found.items():
            action = active.binding.action
            if action.startswith(_DEED) and not shown(action.removeprefix(_DEED).removesuffix("')"), item):
                found[key] = active._replace(binding=replace(active.binding, show=False))
        return found

    def fits(self, action: str) -> bool:
        """Whether a key of the screen means something: in the tree there is nothing to go back to."""
        return action != "back" or self._in_slices

    def action_deed(self, name: str) -> None:
        """Do something to what is chosen, or say why not."""
        item = self._tree.chosen
        deed = next(deed for deed in DEEDS if deed.name == name)
        why = refusal(deed, item)
        if why:
            self.app.notify(safe(why), severity="warning", markup=False)
        else:
            getattr(self, f"_do_{name}")(item)

    def action_back(self) -> None:
        """Show the tree again and go to it."""
        self.remove_class("-full")
        if self.query_one("#browse").display:
            self._tree.focus()

    def on_welcome_choice(self, event: Welcome.Choice) -> None:
        event.stop()
        if event.name in ("images", "demo"):
            self.app.ask("demo", {"folder": "deepscem-demo", "images_only": event.name == "images"})
        elif event.name == "create":
            self._do_new(None)
        elif event.name == "folder":
            self.app.ask("import-folder", {"folder": "."})
        else:
            self._do_open(None)

    def _do_new(self, _: Item | None) -> None:
        self.app.ask("create-dataset")

    def _do_open(self, _: Item | None) -> None:
        def chosen(path: str | None) -> None:
            if path:
                self.open(Path(path).expanduser())

        self.app.push_screen(FileDialog("", HDF5, title="Open a data set"), chosen)

    def _do_close(self, item: Item) -> None:
        if item.elsewhere:
            self._elsewhere.remove(item.path)
            self.rescan()
        else:
            self._put_away |= {item.path}
            self._refill()
        more = "" if item.elsewhere else "; ctrl+r shows it again"
        self.app.notify(f"Closed {safe(item.path.name)}{more}", markup=False)

    def _do_rescan(self, _: Item | None) -> None:
        self._put_away = frozenset()
        self._refill()
        self.rescan()

    def _do_full(self, _: Item | None) -> None:
        self.add_class("-full")
        self._view.focus()

    def _do_add(self, item: Item) -> None:
        self.app.ask("add-sample", {"file": item.path}, ("file",))

    def _do_folder(self, item: Item | None) -> None:
        dataset = item.dataset if item is not None else None
        self.app.ask("import-folder", {"file": dataset.path} if dataset and not dataset.has_predictions else {})

    def _do_convert(self, _: Item | None) -> None:
        self.app.ask("convert-image", {})

    def _do_rename(self, item: Item) -> None:
        if item.sample is None:
            assert item.dataset is not None
            self.app.ask("rename-dataset", {"file": item.path, "new": item.dataset.name}, ("file",))
        else:
            self._ask_sample("rename-sample", item, {"new": item.sample.name})

    def _do_crop(self, item: Item) -> None:
        self._ask_sample("crop-sample", item, self._seen(item))

    def _do_export(self, item: Item) -> None:
        assert item.sample is not None
        folder = item.path.with_name(words.file_name(f"{item.path.stem}-{item.sample.name}"))
        self._ask_sample("export-sample", item, {"folder": folder})

    def _do_labelled(self, item: Item) -> None:
        self._ask_sample("set-labelled", item, {"labelled_z": "auto"})

    def _do_aliases(self, item: Item) -> None:
        assert item.dataset is not None
        self.app.ask("set-aliases", {"file": item.path, "aliases": item.dataset.aliases}, ("file",))

    def _do_save(self, item: Item) -> None:
        self.app.ask("save-dataset", {"file": item.path}, ("file",))

    def _do_size(self, item: Item) -> None:
        assert item.dataset is not None
        samples = item.dataset.samples if item.sample is None else (item.sample,)
        known = next((found for found in samples if found.voxel_size), None)
        values: dict[str, Any] = {"file": item.path, "sample": () if item.sample is None else (item.sample.name,)}
        if known is not None and known.voxel_size is not None:
            values["voxel_size"] = f"{','.join(f'{side:g}' for side in known.voxel_size)} {known.voxel_unit}"
        self.app.ask("set-voxel-size", values, ("file",))

    def _do_split(self, item: Item) -> None:
        folder = item.path.with_name(words.file_name(f"{item.path.stem}-parts"))
        self.app.ask("split-dataset", {"file": item.path, "out_dir": folder}, ("file",))

    def _do_distance(self, item: Item) -> None:
        self.app.ask("distance-transform", {"file": item.path}, ("file",))

    def _do_objects(self, item: Item) -> None:
        sample = () if item.sample is None else (item.sample.name,)
        self.app.ask("find-objects", {"input": item.path, "sample": sample, **objects_of(item.path)}, ("input",))

    def _do_clean(self, item: Item) -> None:
        sample = () if item.sample is None else (item.sample.name,)
        self.app.ask("clean-masks", {"input": item.path, "sample": sample, "out": cleaned(item.path)}, ("input",))

    def _do_predict(self, item: Item) -> None:
        self.app.ask("predict", {"input": item.path, "sample": (item.sample.name,) if item.sample else ()})

    def _do_augment(self, item: Item) -> None:
        out = item.path.with_name(words.file_name(f"{item.path.stem}-augmented")).with_suffix(".png")
        self.app.ask("show-augmentation", {"file": item.path, "out": out}, ("file",))

    def _do_check(self, item: Item) -> None:
        self._start("check-dataset", {"file": item.path})

    def _do_info(self, item: Item) -> None:
        self._start("info", {"path": item.path})

    def _do_remove(self, item: Item) -> None:
        assert item.sample is not None
        sample = item.sample.name

        def answered(answer: str | None) -> None:
            if answer == "remove":
                self._start("remove-sample", {"file": item.path, "sample": sample})

        question = f"Remove sample {sample} from {item.path}?\nIts image and labels are lost: this cannot be undone."
        keep, remove = Answer("keep", "k", "Keep it"), Answer("remove", "r", "Remove it for good")
        self.app.push_screen(Confirm(question, (keep, remove)), answered)

    def _do_compare(self, item: Item) -> None:
        assert item.sample is not None
        assert self._catalogue is not None
        found = references(self._catalogue, item.path, item.sample)[:9]
        if not found:
            text = f"No other data set here has labels for a sample {item.sample.name} of this size; o opens one"
            self.app.notify(safe(text), severity="warning", markup=False)
            return

        def answered(answer: str | None) -> None:
            if answer is not None:
                self._references[replace(item, member=None).key] = Path(answer) if answer != "none" else None
                self._tell_facts()
                self._show_chosen()

        choices = [Answer(str(dataset.path), str(n), str(dataset.path)) for n, dataset in enumerate(found, start=1)]
        question = f"Compare sample {item.sample.name} with the labels of"
        self.app.push_screen(Confirm(question, (*choices, Answer("none", "n", "nothing"))), answered)

    def _ask_sample(self, action: str, item: Item, values: dict[str, Any] | None = None) -> None:
        assert item.sample is not None
        self.app.ask(action, {"file": item.path, "sample": item.sample.name, **(values or {})}, ("file", "sample"))

    def _start(self, action: str, values: dict[str, Any]) -> None:
        self.app.start(actions.ACTIONS[action], actions.build(actions.ACTIONS[action], values))

    def _seen(self, item: Item) -> dict[str, str]:
        """The part of the sample that is seen, as bounds."""
        if item.sample is None or item.sample.shape is None:
            return {}
        sizes = dict(zip("zyx", item.sample.shape, strict=True))
        sides = {axis: (0.0, float(size)) for axis, size in sizes.items()}
        if (picture := self._view.picture) is not None:
            part = picture.data.part
            axes = {"xy": "yx", "xz": "zx", "yz": "yz"}[part.plane]
            sides |= dict(zip(axes, (part.rows, part.columns), strict=True))
        return {axis: f"{max(0, int(a))}:{min(sizes[axis], int(b))}" for axis, (a, b) in sides.items()}


def _made(job: Job) -> tuple[Path, tuple[str, ...]] | None:
    """The data set, or the sample in it, that a job has made or renamed."""
    given: Any = job.parameters
    if job.state != "finished" or job.result is None or getattr(given, "dry_run", False):
        return None
    if job.action in ("create-dataset", "import-folder"):
        return given.file, ()
    if job.action in ("save-dataset", "predict", "clean-masks"):
        return (given.out, ()) if given.out.suffix.lower() == ".hdf5" else None
    if job.action in ("add-sample", "rename-sample"):
        return given.file, (given.name if job.action == "add-sample" else given.new,)
    if job.action == "crop-sample":
        return given.file, (str(job.result.facts["sample"]),)
    return None


def _same(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)  # noqa: PTH100
