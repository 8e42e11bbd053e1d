"""The live view of a run, and a run in so many cells."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import made_runs
import pytest
from golden_texts import Golden
from pilot import screen_text, until
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Footer

from deepscem_tui.engine.runs.watching import RunSnapshot, RunWatcher
from deepscem_tui.render.run_text import draw_run
from deepscem_tui.widgets.line_chart import LineChart
from deepscem_tui.widgets.run_view import RunView
from deepscem_tui.widgets.slice_view import SliceView

SIZES = [(80, 24), (120, 40), (200, 60)]

pytestmark = pytest.mark.usefixtures("server_in_utc")


class Viewer(App[None]):
    """An application that is a run's view, and keeps what it asks for."""

    pictures = "ascii"  # does not depend on the terminal that the tests run in

    def __init__(self, folder: Path | None, ascii_only: bool = False) -> None:
        super().__init__()
        self._folder = folder
        self.ascii_only = ascii_only
        self.asked: list[tuple[str, Path]] = []
        self.ended: list[str] = []
        self.said: list[str] = []

    def compose(self) -> ComposeResult:
        yield RunView(self._folder, clock=lambda: 0.0)
        yield Footer()

    def notify(self, message: str, **more: Any) -> None:  # type: ignore[override]
        self.said.append(message)

    def on_run_view_stop_asked(self, event: RunView.StopAsked) -> None:
        self.asked.append(("stop", event.folder))

    def on_run_view_stop_now_asked(self, event: RunView.StopNowAsked) -> None:
        self.asked.append(("now", event.folder))

    def on_run_view_continue_asked(self, event: RunView.ContinueAsked) -> None:
        self.asked.append(("continue", event.folder))

    def on_run_view_ended(self, event: RunView.Ended) -> None:
        self.ended.append(event.state)


def drive(
    app: Viewer, script: Callable[[Pilot[None], RunView], Coroutine[Any, Any, None]], size: tuple[int, int] = (80, 24)
) -> None:
    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            view = app.query_one(RunView)
            await until(pilot, lambda: view.snapshot is not None or view.folder is None)
            await script(pilot, view)

    asyncio.run(run())


async def settled(pilot: Pilot[None], view: RunView) -> None:
    """Wait until everything that is shown is drawn."""
    charts = [chart for chart in view.query(LineChart) if chart.display]
    await until(pilot, lambda: view._preview is not None and all(c._text.plain or not c.size.width for c in charts))
    slices = view.query_one(SliceView)
    await until(pilot, lambda: slices.picture is not None or not slices.size.width or not slices.display)
    await until(pilot, lambda: not slices.busy and not any(chart._drawing for chart in charts))
    before = ""
    while before != (before := screen_text(pilot.app)):
        await pilot.pause(0.2)


# ------------------------------------------------------------------------------------------------ as text


@pytest.mark.parametrize("size", [(60, 12), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", ["training", "predicting"])
@pytest.mark.parametrize("ascii_only", [False, True], ids=["unicode", "ascii"])
def test_a_run_as_text(kind: str, size: tuple[int, int], ascii_only: bool, tmp_path: Path, golden: Golden) -> None:
    snapshot = RunWatcher(getattr(made_runs, kind)(tmp_path / "20260101-120000-mito")).poll()
    text = draw_run(snapshot, *size, ascii_only, now=0.0).plain
    assert text.isascii() or not ascii_only
    golden(f"run_{kind}_{size[0]}x{size[1]}{'_ascii' if ascii_only else ''}", text)


@pytest.mark.parametrize("state", ["failed", "stopped", "finished", "dead", "gone"])
def test_how_a_run_ended_stands_at_its_end(state: str, tmp_path: Path) -> None:
    snapshot = RunWatcher(made_runs.training(tmp_path / "run")).poll()
    ended = {"failed": {"error": "The loss is nan"}, "finished": {"result": {"summary": "Trained out.keras"}}}
    from dataclasses import replace

    text = draw_run(replace(snapshot, state=state, **ended.get(state, {})), 60, 12).plain
    assert text.startswith(state)
    if state == "failed":
        assert "The loss is nan" in text.splitlines()[-1]
    if state == "finished":
        assert "Trained out.keras" in text.splitlines()[-1]


@pytest.mark.parametrize("size", [(10, 3), (20, 5), (33, 9), (200, 60)])
@pytest.mark.parametrize("make", [made_runs.training, made_runs.predicting, made_runs.describe])
def test_any_size_is_filled_exactly(make: Any, size: tuple[int, int], tmp_path: Path) -> None:
    snapshot: RunSnapshot = RunWatcher(make(tmp_path / "run")).poll()
    rows = draw_run(snapshot, *size).plain.split("\n")
    assert [cell_len(row) for row in rows] == [size[0]] * size[1]


# ------------------------------------------------------------------------------------------------ on screen


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", ["training", "predicting"])
def test_the_view_at_three_sizes(kind: str, size: tuple[int, int], tmp_path: Path, golden: Golden) -> None:
    folder = getattr(made_runs, kind)(tmp_path / "20260101-120000-mito")

    async def script(pilot: Pilot[None], view: RunView) -> None:
        await settled(pilot, view)
        golden(f"run_view_{kind}_{size[0]}x{size[1]}", screen_text(pilot.app))

    app = Viewer(folder, ascii_only=True)
    drive(app, script, size)


def test_tabs_by_key_and_by_mouse(tmp_path: Path) -> None:
    async def script(pilot: Pilot[None], view: RunView) -> None:
        await pilot.press("tab")
        assert isinstance(pilot.app.focused, LineChart)
        await until(pilot, lambda: "validation" in screen_text(pilot.app))
        await pilot.press("v")
        await until(pilot, lambda: "z 12" in screen_text(pilot.app))
        assert isinstance(pilot.app.focused, SliceView)
        await pilot.press("v")
        await until(pilot, lambda: "Loading TensorFlow" in screen_text(pilot.app))
        assert "0.717" in screen_text(pilot.app)  # the validation's F1
        await pilot.press("o")
        await until(pilot, lambda: "a library prints" in screen_text(pilot.app))
        assert "Loading TensorFlow" not in screen_text(pilot.app)
        await pilot.click("#tabs", offset=(2, 0))
        await until(pilot, lambda: isinstance(pilot.app.focused, LineChart))

    drive(Viewer(made_runs.training(tmp_path / "run")), script)


def test_curves_scales_and_smoothing(tmp_path: Path) -> None:
    async def script(pilot: Pilot[None], view: RunView) -> None:
        view.show_tab("curves")
        await until(pilot, lambda: "validation" in screen_text(pilot.app))
        for key, words in (("y", "(log)"), ("w", "smooth 0.6"), ("r", "last 50 %")):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in screen_text(pilot.app))  # type: ignore[misc]
        for title in ("F1", "IoU", "learning rate", "loss"):
            await pilot.press("n")
            await until(pilot, lambda title=title: title in screen_text(pilot.app))  # type: ignore[misc]
            assert pilot.app.focused is not None
            assert pilot.app.focused.display

    drive(Viewer(made_runs.training(tmp_path / "run")), script)


def test_it_follows_the_run_to_its_end_and_says_so_once(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")

    async def script(pilot: Pilot[None], view: RunView) -> None:
        app = pilot.app
        assert isinstance(app, Viewer)
        assert "3/8" in screen_text(app)
        made_runs.epoch(folder, 4, 45)
        await until(pilot, lambda: "4/8" in screen_text(app))
        made_runs.preview(folder, "preview/now.npz")
        made_runs.say(folder, "preview", 46, file="preview/now.npz")
        await until(pilot, lambda: view._preview is not None and view._preview.path.name == "now.npz")
        made_runs.say(folder, "failed", 50, error="The disk is full\x1b[2J")
        await until(pilot, lambda: "The disk is full?[2J" in screen_text(app))
        await until(pilot, lambda: bool(app.ended))
        made_runs.say(folder, "message", 51, text="after the end")
        await until(pilot, lambda: view.snapshot is not None and view.snapshot.said[-1].text == "after the end")
        assert app.ended == ["failed"]
        made_runs.say(folder, "resumed", 60)
        await until(pilot, lambda: view.snapshot is not None and view.snapshot.running)
        made_runs.say(folder, "finished", 70, result={})
        await until(pilot, lambda: app.ended == ["failed", "finished"])

    drive(Viewer(folder), script)


def test_what_can_be_asked_of_a_run(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")

    async def script(pilot: Pilot[None], view: RunView) -> None:
        app = pilot.app
        assert isinstance(app, Viewer)
        view.show_tab("curves")
        await pilot.pause()
        await pilot.press("e")  # it runs: refused, with the reason
        await until(pilot, lambda: app.said == ["The run is running"])
        await pilot.press("x", "X")
        await until(pilot, lambda: app.asked == [("stop", folder), ("now", folder)])
        made_runs.say(folder, "finished", 50, result={})
        await until(pilot, lambda: view.snapshot is not None and not view.snapshot.running)
        await pilot.press("x")
        await until(pilot, lambda: app.said[1:] == ["The run is finished"])
        await pilot.press("e")
        await until(pilot, lambda: app.asked[2:] == [("continue", folder)])

    drive(Viewer(folder), script)


def test_no_run_another_run_and_a_broken_one(tmp_path: Path) -> None:
    one, other = made_runs.training(tmp_path / "one"), made_runs.predicting(tmp_path / "other")

    async def script(pilot: Pilot[None], view: RunView) -> None:
        app = pilot.app
        await until(pilot, lambda: "No run is chosen" in screen_text(app))
        await pilot.press("v", "n", "o", "x", "e")  # nothing to show, nothing breaks
        view.watch_run(one)
        await until(pilot, lambda: "3/8" in screen_text(app))
        view.watch_run(other)
        await until(pilot, lambda: "12/40" in screen_text(app))
        assert "3/8" not in screen_text(app)
        (tmp_path / "broken").mkdir()
        view.watch_run(tmp_path / "broken")
        await until(pilot, lambda: "run.json" in screen_text(app))
        view.watch_run(None)
        await until(pilot, lambda: "No run is chosen" in screen_text(app))

    drive(Viewer(None), script)


def test_a_long_message_is_wrapped(tmp_path: Path) -> None:
    folder = made_runs.training(tmp_path / "run")
    text = "Sample 'liver' is left out: its labels are empty, and the last words matter"

    async def script(pilot: Pilot[None], view: RunView) -> None:
        made_runs.say(folder, "message", 46, text=text)
        await until(pilot, lambda: "matter" in screen_text(pilot.app))
        await pilot.resize_terminal(300, 40)
        await until(pilot, lambda: text in screen_text(pilot.app))
        await pilot.resize_terminal(110, 40)
        await until(pilot, lambda: text not in screen_text(pilot.app) and "matter" in screen_text(pilot.app))

    drive(Viewer(folder), script, (120, 40))


def test_from_large_to_small_and_back(tmp_path: Path) -> None:
    async def script(pilot: Pilot[None], view: RunView) -> None:
        app = pilot.app
        await settled(pilot, view)
        assert all(chart.display for chart in view.query(LineChart))
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: view.has_class("-one"))
        await until(pilot, lambda: "Curves" in screen_text(app))
        assert len([chart for chart in view.query(LineChart) if chart.display]) == 1
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: view.has_class("-four") and "IoU" in screen_text(app))

    drive(Viewer(made_runs.training(tmp_path / "run")), script, (200, 60))


def test_without_colours_nothing_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def script(pilot: Pilot[None], view: RunView) -> None:
        await settled(pilot, view)
        view.show_tab("slice")
        await until(pilot, lambda: "z 12" in screen_text(pilot.app))
        view.show_tab("log")
        await until(pilot, lambda: "Loading TensorFlow" in screen_text(pilot.app))

    drive(Viewer(made_runs.training(tmp_path / "run"), ascii_only=True), script)
