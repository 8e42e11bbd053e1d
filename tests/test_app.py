"""The application around its screens: modes, palette, help, settings, leaving, what the terminal can show."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pilot import screen_text, until
from textual import events
from textual.pilot import Pilot
from textual.widgets import DataTable, HelpPanel, Input

from deepscem_tui import terminal
from deepscem_tui.app import DeepscemApp, run
from deepscem_tui.characters import ascii_text, choose_pictures, is_utf8
from deepscem_tui.engine import actions
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.system.native_output import kept_in
from deepscem_tui.jobs import Detached, Job
from deepscem_tui.modes import SCREENS
from deepscem_tui.outcome import Bug
from deepscem_tui.screens.action_dialog import ActionDialog
from deepscem_tui.screens.base import ModeBar
from deepscem_tui.screens.jobs import JobsScreen
from deepscem_tui.screens.quit import QuitDialog
from deepscem_tui.screens.result_dialog import ResultDialog
from deepscem_tui.settings import Settings, report_folder, settings_file
from deepscem_tui.widgets.slice_view import SliceView


def driven(
    test: Callable[[Pilot[Any], DeepscemApp], Awaitable[None]], folder: Path, size: tuple[int, int] = (80, 24)
) -> DeepscemApp:
    """Run the application without a terminal, and do with it what a test wants."""
    app = DeepscemApp(folder, folder / "runs")

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.current_mode == "datasets", "the first screen")
            await test(pilot, app)

    asyncio.run(run())
    return app


@pytest.fixture
def slow_info(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`info` lasts until it is stopped, or its path is `quick`."""
    said: list[str] = []

    def info(parameters: p.Info, context: Context) -> Result:
        said.append(parameters.path.name)
        context.report.progress("Looking", 1, 4, "things")
        while parameters.path.name != "quick":
            context.stop.check()
            time.sleep(0.01)
        return Result("looked", tables=(Table("what", ("a[b]", "n"), (("x", 1),)),))

    monkeypatch.setattr("deepscem_tui.engine.info.info", info)
    return said


def start(app: DeepscemApp, name: str) -> None:
    action = actions.ACTIONS["info"]
    app.start(action, actions.build(action, {"path": name}))


def test_function_keys_switch_screens(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        for mode, (key, title, _) in SCREENS.items():
            await pilot.press(key)
            await until(pilot, lambda mode=mode: app.current_mode == mode)
            assert title.split()[0] in screen_text(app).splitlines()[0]

    driven(test, tmp_path)


def test_help_opens_and_closes(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await pilot.press("f1")
        await until(pilot, lambda: app.screen.query(HelpPanel))
        await pilot.press("f1")
        await until(pilot, lambda: not app.screen.query(HelpPanel))

    driven(test, tmp_path)


def test_the_palette_has_every_action_screen_and_setting(tmp_path: Path) -> None:
    from deepscem_tui.engine.actions import ACTIONS

    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        titles = {command.title for command in app.get_system_commands(app.screen)}
        assert set(ACTIONS) <= titles
        assert {title for _, title, _ in SCREENS.values()} <= titles
        assert {"Switch safe mode off", "Switch the bell off", "Theme", "Jobs"} <= titles

    driven(test, tmp_path)


def test_settings_are_kept_and_damage_is_forgiven(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        app.toggle_safe_mode()
        app.theme = "high-contrast"
        await pilot.pause()

    driven(test, tmp_path)
    assert json.loads(settings_file().read_text())["safe_mode"] is False
    assert Settings.load().theme == "high-contrast"
    settings_file().write_text('{"theme": "no such theme", "safe_mode": true}')
    assert DeepscemApp(tmp_path).theme == Settings().theme
    settings_file().write_text("{ torn")
    assert Settings.load() == Settings()


def test_forms_are_remembered_by_folder(tmp_path: Path) -> None:
    settings = Settings()
    for number in range(110):
        settings.remember(tmp_path / str(number), "train", {"epochs": number})
    settings.remember(tmp_path / "50", "predict", {"threshold": 0.4})
    assert settings.remembered(tmp_path / "50", "train") == {"epochs": 50}
    assert settings.remembered(tmp_path / "50", "predict") == {"threshold": 0.4}
    assert settings.remembered(tmp_path / "0", "train") == {}
    assert len(Settings.load().folders) == 100

    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        for folder, filters in ((tmp_path, "8"), (tmp_path / "other", "")):
            app.folder = folder
            app.ask("create-model")
            await until(
                pilot, lambda: isinstance(app.screen, ActionDialog) and bool(app.screen.query("#field-filters"))
            )
            assert app.screen.query_one("#field-filters Input", Input).value == filters
            assert ("1 value as the last time here" in screen_text(app)) == bool(filters)
            app.pop_screen()
            await pilot.pause()

    settings.remember(tmp_path, "create-model", {"filters": 8})
    driven(test, tmp_path)


def test_notices_do_not_lie_over_what_a_form_says(tmp_path: Path) -> None:
    app = DeepscemApp(tmp_path, tmp_path / "runs")

    async def run() -> None:
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            app.ask("create-dataset")
            await until(pilot, lambda: isinstance(app.screen, ActionDialog) and bool(app.screen.query("#status")))
            app.notify(
                "Added sample 'volume' 32 x 256 x 256 with 1 label to train.hdf5; F8 shows its tables", timeout=60
            )
            await until(pilot, lambda: any(toast.region.height for toast in app.screen.query("Toast")))
            assert max(toast.region.bottom for toast in app.screen.query("Toast")) <= 2
            app.exit()

    asyncio.run(run())


def test_quitting_with_nothing_to_do_quits(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await pilot.press("ctrl+q")
        await until(pilot, lambda: app.return_value == 0)

    driven(test, tmp_path)


@pytest.mark.parametrize(("key", "stays"), [("c", True), ("escape", True), ("s", False)])
def test_quitting_asks_what_becomes_of_a_job(tmp_path: Path, slow_info: list[str], key: str, stays: bool) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "slow")
        await until(pilot, lambda: app.jobs.all[0].state == "running")
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, QuitDialog))
        assert "info slow" in screen_text(app)
        await pilot.press(key)
        if stays:
            await until(pilot, lambda: not isinstance(app.screen, QuitDialog))
            assert app.jobs.all[0].state == "running"
            app.jobs.stop_all("the test is over")
        else:
            await until(pilot, lambda: app.return_value == 75)
            assert app.jobs.all[0].state == "stopped"

    driven(test, tmp_path)


def test_waiting_ends_the_application_with_its_last_job(tmp_path: Path, slow_info: list[str]) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "slow")
        await until(pilot, lambda: app.jobs.all[0].state == "running")
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, QuitDialog))
        await pilot.press("down", "enter")  # wait
        await pilot.pause(0.3)
        assert app.return_value is None
        app.jobs.stop(app.jobs.all[0])
        await until(pilot, lambda: app.return_value == 75)

    driven(test, tmp_path)


def test_one_job_waits_for_another_and_can_be_cancelled(tmp_path: Path, slow_info: list[str]) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "one")
        start(app, "two")
        await until(pilot, lambda: "● info one" in screen_text(app) and "+1 more" in screen_text(app))
        assert "25 %" in screen_text(app)
        await pilot.press("f8")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        assert "queued" in screen_text(app)
        app.screen.query_one(DataTable).move_cursor(row=1)
        await pilot.press("x")
        await until(pilot, lambda: app.jobs.all[1].state == "cancelled")
        app.screen.query_one(DataTable).move_cursor(row=0)
        await pilot.press("x")
        await until(pilot, lambda: app.jobs.all[0].state == "stopped")
        assert slow_info == ["one"]
        await pilot.press("escape")
        await until(pilot, lambda: "● info" not in screen_text(app))

    driven(test, tmp_path, (100, 30))


def test_a_quick_result_opens_by_itself_and_markup_is_text(tmp_path: Path, slow_info: list[str]) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "quick")
        await until(pilot, lambda: isinstance(app.screen, ResultDialog))
        assert "a[b]" in screen_text(app)
        assert "looked" in screen_text(app)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ResultDialog))

    driven(test, tmp_path)


def test_an_error_is_said_and_stays_in_the_list(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "missing[bold].hdf5")
        await until(pilot, lambda: app.jobs.all and app.jobs.all[0].state == "failed")
        await pilot.press("f8")
        await until(pilot, lambda: "missing[bold].hdf5" in screen_text(app) and "failed" in screen_text(app))

    driven(test, tmp_path, (120, 30))


def test_nothing_begins_once_the_application_ends(tmp_path: Path, slow_info: list[str]) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "slow")
        await until(pilot, lambda: app.jobs.all[0].state == "running")
        app.leave("SIGTERM received")
        start(app, "late")
        await until(pilot, lambda: app.return_value == 75)
        assert slow_info == ["slow"]

    driven(test, tmp_path)


def test_how_slices_are_drawn_changes_at_once(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        views = app.screen.query(SliceView)
        await until(pilot, lambda: bool(views))
        for style in ("blocks", "ascii"):
            app.draw_slices(style)
            assert {view.look.style for view in views} == {style}

    driven(test, tmp_path)


def test_leaving_on_a_signal_saves_first(tmp_path: Path, slow_info: list[str]) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "slow")
        await until(pilot, lambda: app.jobs.all[0].state == "running")
        app.leave("SIGTERM received")
        await until(pilot, lambda: app.return_value == 75)
        assert str(app.jobs.all[0].error) == "Stopped: SIGTERM received"

    driven(test, tmp_path)


def test_what_is_typed_ahead_goes_to_the_field_after_tab(tmp_path: Path) -> None:
    """Keys that come faster than they are worked off, as over a slow line."""

    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        app.ask("rename-dataset", {"file": "x.hdf5"}, ())
        await until(pilot, lambda: bool(app.screen.query("Field")) and app.focused is not None)
        fields = list(app.screen.query(Input))
        fields[0].focus()
        await pilot.pause()
        for key in ("a", "tab", "b", "c", "shift+tab", "d"):
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: app.focused is fields[0] and fields[1].value == "bc")
        assert fields[0].value.endswith("ad")

    driven(test, tmp_path)


def test_a_click_on_the_bar_of_screens_switches(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await pilot.click(ModeBar, offset=(screen_text(app).split("\n")[0].index("Models"), 0))
        await until(pilot, lambda: app.current_mode == "models")

    driven(test, tmp_path)


def test_the_bell_rings_when_a_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        rung: list[str] = []
        monkeypatch.setattr(app, "bell", lambda: rung.append("bell"))
        for action, bell in (("train", True), ("info", True), ("train", False)):
            app.settings.bell = bell
            app._job_ended(Job(1, action, "files", action, state="finished", result=Result("Done")))
        assert rung == ["bell"]  # neither for what is short nor when it is switched off

    driven(test, tmp_path)


def test_a_result_that_took_long_does_not_open_by_itself(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        result = Result("Looked at it", tables=(Table("samples", ("sample",), (("one",),)),))
        for seconds, opens in ((10.0, False), (1.0, True)):
            app._job_ended(Job(1, "info", "files", "info", state="finished", result=result, began=0.0, ended=seconds))
            await pilot.pause()
            assert isinstance(app.screen, ResultDialog) == opens
        assert [notice.message for notice in app._notifications] == ["Looked at it; F8 shows its tables"]

    driven(test, tmp_path)


@pytest.mark.parametrize("code", [0, 3, 75])
def test_what_a_detached_process_failed_of_is_said(code: int, tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    output.write_text("Error: train.hdf5 is damaged\n")

    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
        app._look_after(Detached([], process, output), "train")
        await until(pilot, lambda: not output.exists())
        said = [notice.message for notice in app._notifications]
        assert said == (["train: Error: train.hdf5 is damaged"] if code == 3 else [])

    driven(test, tmp_path)


def test_the_palette_has_what_the_keys_do(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        await pilot.press("f7")
        await until(pilot, lambda: app.current_mode == "runs" and app.focused is not None)
        commands = {command.title: command for command in app.get_system_commands(app.screen)}
        assert {"Filter", "Compare", "Help", "Jobs", "train", "crop-sample"} <= set(commands)
        assert "^q" in commands["Quit"].help
        await commands["Help"].callback()
        await until(pilot, lambda: bool(app.screen.query(HelpPanel)))
        await pilot.press("escape")
        await until(pilot, lambda: not app.screen.query(HelpPanel))

    driven(test, tmp_path)


def test_a_form_that_failed_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        action = actions.ACTIONS["rename-dataset"]
        file = tmp_path / "none.hdf5"
        app.start(action, actions.build(action, {"file": file, "new": "liver"}))
        await until(pilot, lambda: app.jobs.all and app.jobs.all[0].state == "failed")
        for asked, expected in (("other.hdf5", ""), ("none.hdf5", "liver"), ("none.hdf5", "")):
            if expected:  # what is about something else does not count
                app.start(action, actions.build(action, {"file": file, "new": "liver"}))
                await until(pilot, lambda: not app.jobs.live())
                await pilot.pause()
            app.ask("rename-dataset", {"file": tmp_path / asked}, ("file",))
            await until(pilot, lambda: isinstance(app.screen, ActionDialog) and bool(app.screen.query(Input)))
            assert app.screen.query_one(Input).value == expected
            app.pop_screen()
            await pilot.pause()

    driven(test, tmp_path)


def test_waiting_for_the_end_is_said_as_long_as_it_is_so(tmp_path: Path, slow_info: list[str]) -> None:
    async def test(pilot: Pilot[Any], app: DeepscemApp) -> None:
        start(app, "slow")
        await until(pilot, lambda: "● info slow" in screen_text(app))
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, QuitDialog))
        await pilot.press("w")
        await until(pilot, lambda: "then quits" in screen_text(app))
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, QuitDialog))
        await pilot.press("c")
        await until(pilot, lambda: "● info slow" in screen_text(app) and "then quits" not in screen_text(app))
        app.jobs.stop(app.jobs.all[0])
        await until(pilot, lambda: not app.jobs.live())
        assert app.return_value is None

    driven(test, tmp_path)


@pytest.mark.parametrize("where", ["the loop", "a worker"])
def test_a_mistake_of_ours_is_reported_whole(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Textual's own report goes to the log of a run, since that has the descriptors."""

    class Faulty(DeepscemApp):
        def run(self, *_: Any, **__: Any) -> Any:
            with kept_in(tmp_path / "log.txt"):
                return super().run(headless=True)

        def on_ready(self) -> None:
            if where == "the loop":
                raise ZeroDivisionError("ours")
            self.run_worker(self.fail())

        async def fail(self) -> None:
            raise ZeroDivisionError("ours")

    monkeypatch.setattr("deepscem_tui.app.DeepscemApp", Faulty)
    with pytest.raises(Bug, match=r"ended the application.*with the file (.+)") as caught:
        run(tmp_path, tmp_path / "runs")
    (file,) = report_folder().glob("deepscem-tui-*.txt")
    assert str(file) in str(caught.value)
    report = file.read_text()
    assert "ZeroDivisionError: ours" in report
    assert "in fail" in report or "in on_ready" in report


# ------------------------------------------------------------------------------------------------ the terminal


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"LANG": "C"}, False),
        ({"LANG": "en_GB.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
    ],
)
def test_utf8_is_what_the_locale_says(environment: dict[str, str], expected: bool) -> None:
    assert is_utf8(environment) is expected


def test_plain_text_is_as_wide_as_what_it_stands_for() -> None:
    assert ascii_text("plain") == "plain"
    assert ascii_text("┌─┐│▀ … 50 µm ● é 界") == "+-+|# . 50 um * ? ??"


@pytest.mark.parametrize(
    ("wanted", "ascii_only", "colours", "no_color", "expected"),
    [
        ("auto", False, "truecolor", False, "blocks"),
        ("auto", False, "256", False, "blocks"),
        ("auto", False, "standard", False, "ascii"),
        ("auto", False, None, False, "ascii"),
        ("auto", True, "truecolor", False, "ascii"),
        ("auto", False, "truecolor", True, "ascii"),
        ("blocks", True, "standard", True, "blocks"),
        ("ascii", False, "truecolor", False, "ascii"),
    ],
)
def test_pictures(wanted: str, ascii_only: bool, colours: str | None, no_color: bool, expected: str) -> None:
    assert choose_pictures(wanted, ascii_only, colours, no_color) == expected


def test_native_output_goes_to_the_log_and_the_terminal_stays(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "state" / "log.txt"
    with terminal.own_terminal(log, ascii_only=True) as own:
        os.write(1, b"native one\n")
        os.write(2, b"native two\n")
        own.write("drawn ─\n")
    assert log.read_text() == "native one\nnative two\n"
    os.write(2, b"again\n")
    assert capfd.readouterr().err == "drawn -\nagain\n"


def test_a_terminal_that_is_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    terminal.Terminal(writing, ascii_only=False).write("nobody reads this")
    os.close(writing)
