"""The slice view: its cells, its place in the volume, every key, and volumes that change or cannot be read."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from golden_texts import Golden
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Footer, Input

from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset
from deepscem_tui.engine.datasets.ignoring import write_ignored
from deepscem_tui.engine.stop import Stop
from deepscem_tui.engine.system.lock import locked
from deepscem_tui.engine.viewing.slices import FileSlices, Part, SliceData, SliceTarget
from deepscem_tui.render.cells import SHADES, UPPER_HALF, cells, coloured, with_cursor
from deepscem_tui.render.scenes import Scene, compared, labelled
from deepscem_tui.render.viewport import Viewport
from deepscem_tui.widgets.slice_lines import scale_bar
from deepscem_tui.widgets.slice_picture import ALL_LABELS
from deepscem_tui.widgets.slice_view import SliceView
from tests.pilot import screen_text, until

Array = npt.NDArray[Any]
SHAPE = (10, 40, 60)
SIZES = [(80, 24), (120, 40), (200, 60)]


def ball(z: float, y: float, x: float, radius: float) -> Array:
    grid = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    centre = np.array([z, y, x]).reshape(3, 1, 1, 1)
    inside: Array = (((grid - centre) * np.array([3, 1, 1]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < radius**2
    return inside


TRUE = np.stack([ball(5, 20, 20, 12), ball(5, 18, 42, 8)]).astype(np.uint8)
FOUND = np.stack([ball(5, 20, 23, 12), ball(5, 18, 42, 8)]) * np.float32(0.7)
RAMP = np.broadcast_to(np.linspace(0, 1, SHAPE[2], dtype=np.float32), SHAPE) * np.float32(0.9)
IMAGE = (RAMP + np.linspace(0, 0.1, SHAPE[0], dtype=np.float32)[:, None, None]).astype(np.float32)


def dataset(
    path: Path, members: dict[str, Array], sample: str = "cell", aliases: Sequence[str] = ("mito", "ER")
) -> Path:
    with new_dataset(path, "test", len(aliases), aliases) as made:
        stored = made.add_sample(
            sample, SHAPE, {key: value.dtype for key, value in members.items()}, {"voxel_size": (30.0, 10.0, 10.0)}
        )
        for key, value in members.items():
            stored[key][0 : SHAPE[0]] = value
    return path


def named(kind: str, masks: Array) -> dict[str, Array]:
    return {f"{kind}_{index:04d}": mask for index, mask in enumerate(masks)}


@pytest.fixture
def true(tmp_path: Path) -> Path:
    return dataset(tmp_path / "true.hdf5", {"image": IMAGE} | named("label", TRUE))


@pytest.fixture
def found(tmp_path: Path) -> Path:
    return dataset(tmp_path / "found.hdf5", {"image": IMAGE} | named("prediction", FOUND))


class Shown(App[None]):
    """An application that is a slice view and a footer."""

    def __init__(self, target: SliceTarget | None, folder: Path, pictures: Any = "ascii") -> None:
        super().__init__()
        self.view = SliceView(pictures=pictures, folder=folder)
        self.target = target
        self.saved: list[Path] = []

    def compose(self) -> ComposeResult:
        yield self.view
        yield Footer()

    def on_mount(self) -> None:
        self.view.show(self.target)
        self.view.focus()

    def on_slice_view_saved(self, event: SliceView.Saved) -> None:
        self.saved.append(event.path)


def drive(
    app: Shown, steps: Callable[[Pilot[None]], Awaitable[None]], size: tuple[int, int] = (80, 24), ready: bool = True
) -> None:
    async def run() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            if ready:
                await settled(pilot, app.view)
            await steps(pilot)

    asyncio.run(run())


async def settled(pilot: Pilot[None], view: SliceView) -> None:
    """Until what is wanted is on the screen."""
    await pilot.pause()
    await until(pilot, lambda: not view.busy and view.picture is not None)


async def press(pilot: Pilot[None], view: SliceView, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(pilot, view)


def words(app: Shown) -> str:
    """The text on the screen, wherever its lines end."""
    return " ".join(screen_text(app).split())


def last_line(app: Shown) -> str:
    """The status line: above the footer."""
    return screen_text(app).split("\n")[-2]


def legend(app: Shown) -> str:
    return screen_text(app).split("\n")[-3]


# ------------------------------------------------------------------------------------------------ cells


def text_of(rows: list[list[Segment]]) -> list[str]:
    return ["".join(segment.text for segment in row) for row in rows]


def test_cells_of_equal_pixels_are_one_segment_and_all_have_a_style() -> None:
    image = np.repeat(np.array([[0, 0, 0, 255], [9, 9, 9, 255]], np.uint8), 2, axis=0)
    rows = cells(Scene(image), "blocks", (4, 4))
    assert [[segment.text for segment in row] for row in rows] == [[UPPER_HALF * 3, UPPER_HALF]] * 2
    for style in ("blocks", "ascii"):
        made = cells(labelled(image, [image > 99], ["a"]), "ascii" if style == "ascii" else "blocks", (4, 4))
        assert all(segment.style is not None for row in made for segment in row)


def test_greys_are_rounded_only_where_it_is_asked_for() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(2, 128)
    assert len(np.unique(coloured(Scene(image), (2, 128), 64))) == 64
    assert len(np.unique(coloured(Scene(image), (2, 128)))) == 256


def test_a_cursor_replaces_one_cell() -> None:
    (row,) = cells(Scene(np.zeros((2, 10), np.uint8)), "ascii", (2, 10))
    for column in (0, 4, 9):
        marked = with_cursor(row, column, "ascii")
        assert text_of([marked]) == [" " * column + "+" + " " * (9 - column)]
    (row,) = cells(Scene(np.zeros((2, 10), np.uint8)), "blocks", (2, 10))
    assert text_of([with_cursor(row, 3, "blocks")])[0].index("\N{BOX DRAWINGS LIGHT VERTICAL AND HORIZONTAL}") == 3


def test_a_comparison_in_cells() -> None:
    flat, found, true = np.zeros((8, 8), np.uint8), np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    found[:, :4], true[:, 2:6] = True, True
    assert text_of(cells(compared(flat, [found], [true]), "ascii", (8, 8))) == ["FFHHMM  "] * 4


# ------------------------------------------------------------------------------------------------ the window


def test_a_fitted_viewport_shows_everything_in_proportion() -> None:
    view = Viewport((100, 200), (20, 80), centre=(50, 100))
    assert (view.rows, view.columns, view.shape, view.offset) == ((0, 100), (0, 200), (40, 80), (0, 0))
    tall = Viewport((100, 200), (20, 80), aspect=2.0, centre=(50, 100))
    assert (tall.shape, tall.offset) == ((40, 40), (0, 20))
    assert tall.voxel_at(0, 19) is None
    assert tall.voxel_at(0, 20) == (2, 2)


@pytest.mark.parametrize("zoom", [1.0, 1.7, 9.0, 1e9])
@pytest.mark.parametrize("size", [(7, 900), (250, 250), (1, 1), (4000, 3)])
def test_cells_and_voxels_agree(size: tuple[int, int], zoom: float) -> None:
    view = Viewport(size, (21, 80), 1.3, centre=(size[0] / 2, size[1] / 2)).zoomed(zoom, (0, 0))
    for row in range(21):
        for column in range(80):
            voxel = view.voxel_at(row, column)
            if voxel is not None:
                assert view.rows[0] <= voxel[0] < view.rows[1]
                assert view.columns[0] <= voxel[1] < view.columns[1]
                there = view.cell_of(voxel)
                assert there is not None
                if view.scale < 1 and view.scale * view.aspect < 2:  # no voxel fills several cells
                    assert abs(there[0] - row) <= 1
                    assert abs(there[1] - column) <= 1


def test_zooming_keeps_the_voxel_under_the_cursor_in_place_and_ends_where_it_began() -> None:
    view = Viewport((1000, 1000), (40, 80), centre=(500, 500))
    before = view.cell_of((700, 300))
    closer = view.zoomed(1.5, (700, 300))
    after = closer.cell_of((700, 300))
    assert before is not None
    assert after is not None
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) <= 1
    assert closer.columns[1] - closer.columns[0] == 667
    back = closer.zoomed(1 / 1.5, (700, 300))
    assert (back.zoom, back.rows, back.columns) == (1.0, (0, 1000), (0, 1000))


def test_panning_stops_at_the_border_and_the_way_back_begins_at_once() -> None:
    view = Viewport((1000, 1000), (40, 80), centre=(500, 500)).zoomed(4, (500, 500))
    far = view.panned(0, 9999)
    assert far.columns[1] == 1000
    assert far.panned(0, -10).columns[1] == 990
    assert view.showing((0, 0)).rows[0] == 0
    assert view.showing((500, 500)) == view


# ------------------------------------------------------------------------------------------------ the screen


@pytest.mark.parametrize("size", [*SIZES, (48, 20), (60, 15)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_what_is_on_the_screen(found: Path, true: Path, golden: Golden, size: tuple[int, int]) -> None:
    app = Shown(SliceTarget(found, None, true), found.parent)

    async def steps(pilot: Pilot[None]) -> None:
        golden(f"slice_view_{size[0]}x{size[1]}", screen_text(app))
        await press(pilot, app.view, "m")
        golden(f"slice_view_compared_{size[0]}x{size[1]}", screen_text(app))

    drive(app, steps, size)


def test_blocks_are_drawn_where_asked_for(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent, "blocks")

    async def steps(pilot: Pilot[None]) -> None:
        assert UPPER_HALF in screen_text(app)
        await press(pilot, app.view, "b")
        assert screen_text(app).isascii() or UPPER_HALF not in screen_text(app)
        assert app.view.look.style == "ascii"

    drive(app, steps)


@pytest.mark.parametrize(
    ("variables", "system", "expected"),
    [
        ({"LANG": "de_DE.UTF-8"}, "truecolor", "blocks"),
        ({"LANG": "de_DE.UTF-8"}, "256", "blocks"),
        ({"LANG": "de_DE.UTF-8"}, "standard", "ascii"),
        ({"LANG": "de_DE.UTF-8", "NO_COLOR": "1"}, "truecolor", "ascii"),
        ({"LANG": "C"}, "truecolor", "ascii"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "truecolor", "ascii"),  # what Python makes of the C locale
        ({"LANG": "C", "LC_CTYPE": "en_GB.utf8"}, "truecolor", "blocks"),
        ({"LC_ALL": "POSIX", "LANG": "en_GB.UTF-8"}, "truecolor", "ascii"),
    ],
)
def test_the_style_suits_the_terminal(
    true: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], system: Any, expected: str
) -> None:
    for name in ("LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = Shown(SliceTarget(true), true.parent, "auto")
    monkeypatch.setattr(type(app.console), "color_system", property(lambda _: system))

    async def steps(pilot: Pilot[None]) -> None:
        assert app.view.look.style == expected
        shades = set("".join(screen_text(app).split("\n")[1:-3]))
        assert (UPPER_HALF in shades) == (expected == "blocks")
        assert expected == "blocks" or shades <= set(SHADES + "AB+\n")

    drive(app, steps)


# ------------------------------------------------------------------------------------------------ keys


def test_moving_through_slices(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view
        assert view.index == 5
        for key, expected in (
            ("full_stop", 6), ("j", 7), ("comma", 6), ("k", 5), ("pagedown", 9), ("full_stop", 9), ("pageup", 0),
            ("comma", 0), ("end", 9), ("home", 0),
        ):  # fmt: skip
            await press(pilot, view, key)
            assert view.index == expected, key
            assert view.picture is not None
            assert view.picture.data.part.index == expected
            assert f"z {expected} (0-9)" in screen_text(app)

    drive(app, steps)


@pytest.mark.parametrize(
    ("typed", "expected"), [("3", 3), ("50%", 4), ("100%", 9), ("999", 9), ("-4", 0), (" 7 ", 7), ("1e3%", 9)]
)
def test_going_to_a_slice(true: Path, typed: str, expected: int) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("g")
        await until(pilot, lambda: isinstance(app.focused, Input))
        assert "Go to slice 0 to 9, or 50%" in last_line(app)
        app.query_one(Input).value = typed
        await press(pilot, app.view, "enter")
        assert app.view.index == expected
        assert app.focused is app.view
        assert last_line(app).startswith(f"z {expected} ")
        none = {
            "999": ["There is no slice 999: this is the last one, 9"],
            "-4": ["There is no slice -4: this is the first one, 0"],
        }
        assert [notice.message for notice in app._notifications] == none.get(typed, [])

    drive(app, steps)


def test_a_slice_that_is_none_is_asked_for_again_and_escape_leaves(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("g", "[", "b", "]", "enter")
        await until(pilot, lambda: "'[b]' is no slice" in words(app))
        assert isinstance(app.focused, Input)
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is app.view)
        assert app.view.index == 5
        assert last_line(app).startswith("z 5")

    drive(app, steps)


def test_the_cursor_moves_by_what_can_be_seen_and_tells_values(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view
        z, y, x = view.cursor
        assert last_line(app).startswith(f"z 5 y 20 x 30  image {IMAGE[z, y, x]:.4g}  mito 1  ER 0")
        await press(pilot, view, "up", "left", "left")
        assert view.cursor == (z, y - 2, x - 2)
        await press(pilot, view, "down", "down", "right")
        assert view.cursor == (z, y + 2, x - 1)
        for _ in range(30):
            await pilot.press("down")
        await settled(pilot, view)
        assert view.cursor[1] == SHAPE[1] - 1
        assert last_line(app).startswith(f"z 5 y 39 x 29  image {IMAGE[5, 39, 29]:.4g}  mito 0  ER 0")

    drive(app, steps)


def test_zoom_pan_and_fit(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view

        def part() -> Part:
            assert view.picture is not None
            return view.picture.data.part

        whole = part()
        assert (whole.rows, whole.columns) == ((0, 40), (0, 60))
        await press(pilot, view, "plus", "plus", "equals_sign")
        assert part().lengths[0] < 20
        assert "zoom 3.4" in last_line(app)
        before = part()
        await press(pilot, view, "shift+left", "shift+up")
        assert (part().rows[0], part().columns[0]) < (before.rows[0], before.columns[0])
        await press(pilot, view, "shift+right", "shift+down")
        assert (part().rows, part().columns) == (before.rows, before.columns)
        for _ in range(30):
            await pilot.press("right")
        await settled(pilot, view)
        assert part().columns[0] <= view.cursor[2] < part().columns[1]  # the picture goes with the cursor
        assert part().columns != before.columns
        await press(pilot, view, "minus")
        assert "zoom 2.2" in last_line(app)
        await press(pilot, view, "0")
        assert part() == whole
        await press(pilot, view, "minus")
        assert part() == whole

    drive(app, steps)


def test_planes_through_the_cursor(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view
        await press(pilot, view, "up", "p")
        assert (view.plane, view.index) == ("xz", 18)
        assert "xz y 18 (0-39)" in screen_text(app)
        assert view.picture is not None
        assert np.array_equal(view.picture.data.image, IMAGE[:, 18])  # type: ignore[arg-type]
        await press(pilot, view, "full_stop", "p")
        assert (view.plane, view.index, view.cursor) == ("yz", 30, (5, 19, 30))
        assert view.picture.data.facts.aspect("yz") == 3.0
        await press(pilot, view, "p")
        assert (view.plane, view.cursor) == ("xy", (5, 19, 30))

    drive(app, steps)


@pytest.mark.parametrize(
    ("metres", "expected"),
    [
        (1e-9, "|------------------| 20 nm"),
        (3.9e-9, "|-----------| 50 nm"),
        (1.3e-7, "|-------------| 2 µm"),
        (4.2e-8, "|----------------------| 1 µm"),
        (3e-14, "|---------------| 0.5 pm"),
        (0.7, "|------------| 10 m"),
    ],
)
def test_scale_bars_are_of_round_lengths(metres: float, expected: str) -> None:
    assert scale_bar(metres, "ascii") == expected
    assert len(scale_bar(metres, "blocks")) == len(expected)


def test_the_scale_bar_is_as_long_as_it_says(true: Path) -> None:
    """In every plane and at every zoom."""
    with change_dataset(true) as dataset:
        for name in dataset.samples:
            dataset.set_attributes({"voxel_size": (30.0, 10.0, 10.0), "voxel_unit": "nm"}, sample=name)
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        said = set()
        for keys in ((), ("plus", "plus"), ("p",), ("p",)):
            await press(pilot, app.view, *keys)
            found = re.search(r"([|├][-─]*[|┤]) (\d+) nm$", legend(app).rstrip())
            assert found is not None
            assert app.view.picture is not None
            viewport = app.view.picture.viewport
            left, right = viewport.columns
            width = 10 * (right - left) / viewport.shape[1]  # nm
            assert abs(len(found[1]) * width - int(found[2])) <= width / 2
            said.add(found[0])
        assert len(said) > 1

    drive(app, steps)


def test_overlays_one_by_one_and_all(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    def letters() -> set[str]:
        return set("".join(screen_text(app).split("\n")[1:-3])) & set("AB")

    async def steps(pilot: Pilot[None]) -> None:
        assert letters() == {"A", "B"}
        assert legend(app) == "1 A=mito  2 B=ER"
        await press(pilot, app.view, "1")
        assert letters() == {"B"}
        assert legend(app) == "1 (mito)  2 B=ER"
        await press(pilot, app.view, "l")
        assert letters() == set()
        await press(pilot, app.view, "2")
        assert letters() == {"B"}
        await press(pilot, app.view, "l", "l")
        assert letters() == {"A", "B"}
        await pilot.press("9")
        await until(pilot, lambda: "There is no overlay 9: there are 2" in words(app))

    drive(app, steps)


def test_comparing_all_labels_then_one_by_one(found: Path, true: Path) -> None:
    app = Shown(SliceTarget(found, None, true), true.parent)

    def letters() -> set[str]:
        return set("".join(screen_text(app).split("\n")[1:-3])) & set("HMF")

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view
        assert [layer.name for layer in view.facts.layers] == ["mito", "ER", "true mito", "true ER"]  # type: ignore[union-attr]
        assert legend(app) == "1 A=mito  2 B=ER  3 (true mito)  4 (true ER)"
        for comparison, prefix, seen in (
            (ALL_LABELS, "all labels", {"H", "M", "F"}), (0, "mito", {"H", "M", "F"}), (1, "ER", {"H"}),
        ):  # fmt: skip
            await press(pilot, view, "m")
            assert view.look.comparison == comparison
            assert letters() == seen
            assert legend(app) == f"{prefix}  H=hits  M=misses  F=false alarms"
        await press(pilot, view, "m")
        assert view.look.comparison is None

    drive(app, steps)


def test_what_is_not_labelled_is_hatched_and_not_judged(found: Path, true: Path) -> None:
    depth, height, width = IMAGE.shape
    with change_dataset(true) as changed:
        (name,) = changed.samples
        write_ignored(changed, name, (((0, depth), (0, height // 2), (0, width)),), None)
    app = Shown(SliceTarget(true), true.parent)

    def picture() -> list[str]:
        return screen_text(app).split("\n")[1:-3]

    async def steps(pilot: Pilot[None]) -> None:
        assert legend(app) == "1 A=mito  2 B=ER  3 /=not labelled"
        lines = picture()
        middle = len(lines) // 2
        assert not any("/" in line for line in lines[: middle - 1])
        assert all("/" in line for line in lines[middle + 1 : -1])
        await press(pilot, app.view, "3")
        assert legend(app) == "1 A=mito  2 B=ER  3 (not labelled)"
        assert not any("/" in line for line in picture())
        app.view.show(SliceTarget(found, None, true))
        await until(pilot, lambda: "true mito" in legend(app))
        await press(pilot, app.view, "m")
        assert legend(app).endswith("H=hits  M=misses  F=false alarms  /=not labelled")
        lines = picture()
        assert set("".join(lines[: middle - 1])) & set("HMF")
        assert not set("".join(lines[middle + 1 :])) & set("HMF")

    drive(app, steps)


def test_a_key_that_can_do_nothing_says_why(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("m")
        await until(pilot, lambda: "There is no reference to compare" in screen_text(app))
        await pilot.press("t")
        await until(pilot, lambda: "There are no probabilities here" in screen_text(app))

    drive(app, steps)


def test_the_threshold_of_probabilities(found: Path) -> None:
    app = Shown(SliceTarget(found), found.parent)

    async def steps(pilot: Pilot[None]) -> None:
        assert "threshold 0.5" in last_line(app)
        assert "A" in screen_text(app).split("\n", 1)[1].rsplit("\n", 3)[0]
        await press(pilot, app.view, *["t"] * 5)
        assert "threshold 0.75" in last_line(app)
        assert "A" not in screen_text(app).split("\n", 1)[1].rsplit("\n", 3)[0]
        await press(pilot, app.view, *["T"] * 20)
        assert "threshold 0.05" in last_line(app)

    drive(app, steps)


def test_contrast_by_hand_and_automatic(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view

        def span() -> tuple[float, float]:
            assert view.picture is not None
            assert view.picture.span is not None
            return view.picture.span

        low, high = span()
        await press(pilot, view, "right_square_bracket")
        assert span()[0] < low
        assert span()[1] < high
        assert "contrast " in last_line(app)
        await press(pilot, view, "left_square_bracket", "right_curly_bracket")
        assert low < span()[0] < span()[1] < high
        await press(pilot, view, "left_curly_bracket")
        assert span() == pytest.approx((low, high))
        await press(pilot, view, "left_curly_bracket", "c")
        assert span() == (low, high)
        assert "contrast" not in last_line(app)

    drive(app, steps)


def test_every_key_has_a_word_and_a_tooltip() -> None:
    for binding in SliceView.BINDINGS:
        assert binding.description, binding  # type: ignore[union-attr]
        assert binding.tooltip, binding  # type: ignore[union-attr]
    assert "`g`" in SliceView.HELP


# ------------------------------------------------------------------------------------------------ reading


def test_a_held_key_shows_the_newest_slice_and_reads_few(true: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Shown(SliceTarget(true), true.parent)
    go, reads, real = threading.Event(), [], FileSlices.read
    go.set()

    def slow(self: FileSlices, part: Part, layers: Sequence[str], stop: Stop | None = None) -> SliceData:
        reads.append(part.index)
        assert go.wait(20)
        return real(self, part, layers, stop)

    monkeypatch.setattr(FileSlices, "read", slow)

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, app.view, "home")
        reads.clear()
        go.clear()
        for _ in range(40):
            await pilot.press("full_stop", "full_stop", "comma")
        assert "z 9 (0-9)" in screen_text(app) or "z 8 (0-9)" in screen_text(app)  # told before it is read
        go.set()
        await settled(pilot, app.view)
        assert app.view.picture is not None
        assert app.view.picture.data.part.index == app.view.index
        assert len(reads) == 2

    drive(app, steps)


def test_a_read_that_takes_long_is_told(true: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Shown(SliceTarget(true), true.parent)
    go, real = threading.Event(), FileSlices.read

    def slow(self: FileSlices, part: Part, layers: Sequence[str], stop: Stop | None = None) -> SliceData:
        assert go.wait(20)
        return real(self, part, layers, stop)

    monkeypatch.setattr(FileSlices, "read", slow)

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "reading ..." in screen_text(app))
        go.set()
        await settled(pilot, app.view)
        assert "reading" not in screen_text(app)

    drive(app, steps, ready=False)


def test_a_large_part_is_coarse_then_has_labels_then_is_fine(true: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Part, "large", property(lambda _: True))
    app, read, real = Shown(SliceTarget(true), true.parent), [], FileSlices.read

    def noted(self: FileSlices, part: Part, layers: Sequence[str], stop: Stop | None = None) -> SliceData:
        read.append((part.index, part.coarse, bool(layers)))
        return real(self, part, layers, stop)

    monkeypatch.setattr(FileSlices, "read", noted)

    async def steps(pilot: Pilot[None]) -> None:
        assert read == [(5, True, False), (5, True, True), (5, False, True)]
        await press(pilot, app.view, "full_stop")
        assert read[3:] == [(6, True, False), (6, True, True), (6, False, True)]
        await press(pilot, app.view, "b")  # what was read is drawn again
        assert len(read) == 6

    drive(app, steps)


def test_a_data_set_that_is_being_changed_is_told_and_shown_afterwards(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        with locked(true):
            await pilot.press("full_stop")
            await until(pilot, lambda: "is being changed by this process" in words(app))
            assert app.view.picture is not None  # what was read before stays
        await until(pilot, lambda: "is being changed" not in words(app))
        assert app.view.picture.data.part.index == 6

    drive(app, steps)


def test_a_sample_that_changes_while_it_is_shown(true: Path) -> None:
    app = Shown(SliceTarget(true, "cell"), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        with change_dataset(true) as changed:
            changed.set_aliases(("axon", "myelin"))
            changed.add_member("cell", "prediction_0000", np.uint8)[0 : SHAPE[0]] = TRUE[1]
        await press(pilot, app.view, "full_stop")
        assert legend(app) == "1 A=axon  2 B=myelin  3 C=axon, predicted"
        with change_dataset(true) as changed:
            changed.remove_sample("cell")
        await pilot.press("full_stop")
        await until(pilot, lambda: "has no sample 'cell'" in words(app))
        await pilot.press("s")
        await until(pilot, lambda: "There is no picture to save" in words(app))

    drive(app, steps)


def test_what_cannot_be_read_is_told_and_another_can_be_shown(true: Path, tmp_path: Path) -> None:
    app = Shown(SliceTarget(tmp_path / "none.hdf5"), tmp_path)

    async def steps(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "There is no data set" in words(app))
        app.view.show(SliceTarget(true))
        await settled(pilot, app.view)
        assert "There is no data set" not in words(app)
        app.view.show(None)
        await until(pilot, lambda: "Nothing to show" in words(app))
        await pilot.press("full_stop", "p", "l", "m", "plus", "g", "s", "up", "c", "t", "left_square_bracket", "0", "1")

    drive(app, steps, ready=False)


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path) -> None:
    hostile = "\x1b[31m[bold red]\u202e\N{SNOWMAN}"
    path = dataset(tmp_path / "a.hdf5", {"image": IMAGE} | named("label", TRUE), hostile, (hostile, "[/]"))
    app = Shown(SliceTarget(path, hostile), tmp_path)

    async def steps(pilot: Pilot[None]) -> None:
        text = screen_text(app)
        assert "\\x1b[31m[bold red]\\u202e\N{SNOWMAN}" in text
        assert "B=[/]" in text
        assert "\x1b" not in text
        await press(pilot, app.view, "s")
        await until(pilot, lambda: app.saved)
        assert app.saved[0].parent == tmp_path

    drive(app, steps)


# ------------------------------------------------------------------------------------------------ pictures


def test_a_screenshot_is_the_slice_at_full_resolution(true: Path, tmp_path: Path) -> None:
    app = Shown(SliceTarget(true), tmp_path)

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view
        await press(pilot, view, "2", "s")
        await until(pilot, lambda: app.saved)
        await press(pilot, view, "l", "p", "s")
        await until(pilot, lambda: len(app.saved) == 2)
        await press(pilot, view, "s")
        await until(pilot, lambda: len(app.saved) == 3)
        assert [path.name for path in app.saved] == ["cell_xy_z0005.png", "cell_xz_y0020.png", "cell_xz_y0020-2.png"]
        xy, xz = (imagecodecs.png_decode(path.read_bytes()) for path in app.saved[:2])
        assert xy.shape == (40, 60, 3)
        assert tuple(xy[20, 9]) == (230, 159, 0)  # the outline of the first label
        assert tuple(xy[18, 50]) == tuple([xy[18, 50, 0]] * 3)  # the second one is off
        assert xz.shape == (30, 60, 3)  # slices are three times as thick as voxels are wide
        assert (xz[0] == xz[2]).all()
        assert not (xz[..., 0] - xz[..., 1]).any()

    drive(app, steps)


def test_a_screenshot_of_a_part_has_its_size(true: Path, tmp_path: Path) -> None:
    app = Shown(SliceTarget(true), tmp_path)

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, app.view, "plus", "plus", "s")
        await until(pilot, lambda: app.saved)
        assert app.view.picture is not None
        assert imagecodecs.png_decode(app.saved[0].read_bytes()).shape[:2] == app.view.picture.data.part.lengths

    drive(app, steps)


def test_a_folder_that_cannot_be_written_is_told(true: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    app = Shown(SliceTarget(true), tmp_path / "file")

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("s")
        await until(pilot, lambda: "No picture can be written" in words(app))

    drive(app, steps)


def test_a_prediction_without_an_image_lies_on_grey(tmp_path: Path) -> None:
    path = dataset(tmp_path / "bare.hdf5", named("prediction", FOUND))
    app = Shown(SliceTarget(path), tmp_path)

    async def steps(pilot: Pilot[None]) -> None:
        picture = "".join(screen_text(app).split("\n")[1:-3])
        assert set(picture) <= {" ", "+", "A", "B"}
        assert "A" in picture
        assert "image" not in last_line(app)
        await press(pilot, app.view, "l")  # with nothing else to read either
        assert set("".join(screen_text(app).split("\n")[1:-3])) <= {" ", "+"}
        await press(pilot, app.view, "s")
        await until(pilot, lambda: app.saved)
        assert imagecodecs.png_decode(app.saved[0].read_bytes()).shape == (40, 60, 3)

    drive(app, steps)


def test_a_slice_in_memory_keeps_place_and_overlays_when_it_changes(tmp_path: Path, golden: Golden) -> None:
    app = Shown(None, tmp_path)
    image = np.round(IMAGE[5] * 255).astype(np.uint8)

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view
        found = np.round(FOUND[:, 5] * 255).astype(np.uint8)
        view.show_arrays(image, found, ["mito", "ER"], TRUE[:, 5], "validation, epoch 1", probabilities=True)
        await settled(pilot, view)
        golden("slice_view_in_memory_80x24", screen_text(app))
        await press(pilot, view, "full_stop", "plus", "plus", "1", "m", "t")
        assert view.index == 0
        assert view.picture is not None
        part = view.picture.data.part
        view.show_arrays(image, found // 4, ["mito", "ER"], TRUE[:, 5], "validation, epoch 2", probabilities=True)
        await until(pilot, lambda: "epoch 2" in screen_text(app) and not view.busy)
        assert view.picture.data.part == part
        assert view.look.comparison == ALL_LABELS
        picture = "".join(screen_text(app).split("\n")[1:-3])
        assert "M" in picture
        assert "H" not in picture
        await pilot.press("p")
        await until(pilot, lambda: "There is one slice only" in words(app))

    drive(app, steps, ready=False)


def test_probabilities_are_cut_at_the_threshold_of_each_label_until_a_key_chooses_one(tmp_path: Path) -> None:
    app = Shown(None, tmp_path)
    found = np.zeros((2, 40, 60), np.uint8)
    found[0, :, :30], found[1, :, 30:] = 77, 179  # 0.3 and 0.7

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view

        def drawn() -> list[bool]:  # the letter of each label's outline
            picture = "".join(screen_text(app).split("\n")[1:-3])
            return [letter in picture for letter in "AB"]

        def show(*limits: float) -> None:
            view.show_arrays(None, found, ["mito", "ER"], probabilities=True, thresholds=limits)

        show()
        await settled(pilot, view)
        assert drawn() == [False, True]
        assert "threshold 0.5" in last_line(app)
        show(0.25, 0.75)
        await until(pilot, lambda: "threshold 0.25 0.75" in last_line(app) and not view.busy)
        assert drawn() == [True, False]
        await press(pilot, view, "t")
        assert "threshold 0.3" in last_line(app)
        assert drawn() == [True, True]
        show(0.9, 0.9)  # the next epoch's leave it as it was chosen
        await settled(pilot, view)
        assert drawn() == [True, True]

    drive(app, steps, ready=False)


# ------------------------------------------------------------------------------------------------ mouse


def test_the_mouse(true: Path) -> None:
    app = Shown(SliceTarget(true), true.parent)

    async def steps(pilot: Pilot[None]) -> None:
        view = app.view
        await pilot.hover(view, offset=(30, 6))
        await settled(pilot, view)
        assert view.cursor == (5, 20, 30)
        assert not last_line(app).startswith("z 5 y 20 x 30")
        await pilot.click(view, offset=(30, 6))
        await settled(pilot, view)
        assert last_line(app).startswith(f"z 5 y {view.cursor[1]} x {view.cursor[2]}  image")
        assert view.cursor[1:] != (20, 30)
        await press(pilot, view, "plus", "plus", "plus")
        assert view.picture is not None
        before = view.picture.data.part.columns
        await pilot.mouse_down(view, offset=(40, 10))
        await pilot.hover(view, offset=(30, 10))
        await pilot.mouse_up(view, offset=(30, 10))
        await settled(pilot, view)
        assert view.picture.data.part.columns[0] > before[0]

    drive(app, steps)
