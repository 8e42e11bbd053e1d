"""The `runs` commands: list, show, watch, stop and resume run folders from any shell."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from deepscem_tui.action_commands import Json, Quiet, RunsDir, Verbose
from deepscem_tui.command_help import Command
from deepscem_tui.console import Console
from deepscem_tui.engine import words
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.runs import runs, watching
from deepscem_tui.engine.runs.watching import RunsIndex, RunSummary
from deepscem_tui.engine.stop import Stop
from deepscem_tui.outcome import carry_out, guarded
from deepscem_tui.signals import asking_to_stop


def _names(ctx: typer.Context, incomplete: str) -> list[str]:
    """What the tab key completes: names of runs, the latest first."""
    folder = ctx.params.get("runs_dir") or runs.default_folder()
    names = sorted((path.parent.name for path in folder.glob("*/run.json")), reverse=True)
    return [name for name in ("latest", *names) if name.startswith(incomplete)]


def _named(which: str = "") -> Any:
    help_ = f"Run: a folder, its name or a part of it, or `latest`{which}."
    return typer.Argument(metavar="RUN", help=help_, autocompletion=_names)


_Run = Annotated[str, _named()]
_Running = Annotated[str, _named(": of those that are running, if any is")]
_Unfinished = Annotated[str, _named(": of those that can go on, if any can")]
_Format = Annotated[
    Literal["table", "tmux", "json"],
    typer.Option("--format", help="A table, one line for tmux's status bar, or JSON.", show_choices=True),
]
_NoBell = Annotated[bool, typer.Option("--no-bell", help="Do not ring the terminal's bell when the run ends.")]
_Now = Annotated[
    bool,
    typer.Option("--now", help="End its process, by force if need be: what came since its last checkpoint is lost."),
]
_Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Epochs in all from now on; goes on with a training that has finished too."),
]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the result even if it is not what this run wrote.")
]
_TMUX_CHARACTERS = 60


def add_commands(application: typer.Typer) -> None:
    """Add `list`, `show`, `watch`, `stop` and `resume`."""
    for name, function in commands().items():
        application.command(name, cls=Command)(function)


def commands() -> dict[str, Callable[..., int]]:
    """What carries out each."""
    return {"list": list_runs, "show": show, "watch": watch, "stop": stop, "resume": resume}


def list_runs(runs_dir: RunsDir = None, format: _Format = "table", json: Json = False, quiet: Quiet = False) -> int:
    """List the runs, the latest last.

    For tmux's status bar: set -g status-right '#(cd FOLDER && deepscem-tui runs list --format tmux)'
    """
    json = json or format == "json"
    console = Console(json, quiet)

    def work(_: Stop) -> Result:
        folder = runs_dir or runs.default_folder()
        found = RunsIndex(folder).poll()
        if json:
            columns: tuple[str, ...] = ("run", "action", "state", "began", "ended", "share", "epoch", "f1", "progress")
            rows: list[Any] = [
                (run.name, run.action, run.state, _iso(run.began), _iso(run.ended),
                 run.progress.share if run.progress else None, run.epoch or None, run.f1, _progress(run))
                for run in found
            ]  # fmt: skip
        else:
            columns = ("run", "action", "state", "began", "progress")
            rows = [(run.name, run.action, run.state, _when(run.began), _progress(run)) for run in found]
        summary = f"{len(found)} runs in {folder}" if len(found) != 1 else f"1 run in {folder}"
        return Result(summary, tables=(Table("runs", columns, rows),) if rows or json else ())

    def say_one_line() -> int:
        line = tmux_line(RunsIndex(runs_dir or runs.default_folder()).poll())
        if line:
            console.text(line)
        return 0

    return guarded(console, say_one_line) if format == "tmux" and not json else carry_out(console, work)


def tmux_line(found: list[RunSummary]) -> str:
    """What runs at the moment in at most 60 characters, such as ``train mito 3/64 F1 0.91 12m left``; or nothing."""
    alive = [run for run in found if run.running]
    if not alive:
        return ""
    run = alive[-1]
    words = [f"{len(alive)} runs:"] if len(alive) > 1 else []
    title = re.sub(r"^\d{8}-\d{6}-", "", run.name).removeprefix(f"{run.action}-")
    rest = []
    if run.epochs:
        rest.append(f"{run.epoch}/{run.epochs}")
    elif run.progress is not None:
        rest.append(f"{100 * run.progress.share:.0f}%")
    if run.f1 is not None:
        rest.append(f"F1 {run.f1:.2f}")
    if run.progress is not None and run.progress.seconds_left and run.progress.task in ("Training", "Predicting"):
        rest.append(f"{_short(run.progress.seconds_left)} left")
    around = " ".join([*words, run.action, *rest])
    room = max(4, _TMUX_CHARACTERS - len(around) - 1)
    title = "".join(c if c.isprintable() else "?" for c in title)
    title = title if len(title) <= room else f"{title[: room - 1]}~"
    line = " ".join([*words, run.action, title, *rest])[:_TMUX_CHARACTERS]
    return line.replace("#", "##")  # which tmux takes for itself


def show(run: _Run, runs_dir: RunsDir = None, json: Json = False, quiet: Quiet = False) -> int:
    """Show what a run was asked to do, how far it is, and how it ended."""

    def work(_: Stop) -> Result:
        folder = runs.locate(run, runs_dir or runs.default_folder())
        state, (summary,) = runs.read(folder), (watching.summary(folder),)
        when = _iso if json else _when
        facts: dict[str, Any] = {
            "run": str(state.folder),
            "state": state.state,
            "action": state.action,
            "command": state.command,
            "host": state.host,
            "pid": state.pid,
            "device": state.device,
            "began": when(state.began),
            "latest_event": when(state.latest),
            "seconds": round(state.latest - state.began, 1),
        }
        if state.end and "error" in state.end:
            facts["error"] = state.end["error"]
        tables = []
        if json:
            facts["parameters"] = state.parameters
        else:
            values = [(key, _plain(value)) for key, value in state.parameters.items()]
            tables.append(Table("parameters", ("parameter", "value"), values))
        if state.epoch:
            latest = {name: value for name, value in state.epoch.items() if name not in ("t", "type")}
            tables.append(Table("latest_epoch", tuple(latest), [tuple(latest.values())]))
        return Result(_progress(summary) or state.state, facts, tables)

    return carry_out(Console(json, quiet), work)


def watch(
    run: _Running = "latest",
    runs_dir: RunsDir = None,
    no_bell: _NoBell = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Follow a run until it ends: a live view on a terminal, lines elsewhere; q or ctrl+c leaves the run alone."""
    console = Console(json, quiet)

    def work() -> int:
        from deepscem_tui.live_watch import can_watch_live, watch_live

        folder = runs.locate(run, runs_dir or runs.default_folder(), runs.is_running)
        runs.read(folder)
        stop = Stop()
        with asking_to_stop(stop, lambda _: None):  # it is not the run that is stopped
            if not json and not quiet and can_watch_live():
                watch_live(folder, stop, bell=not no_bell)
            else:
                _say_lines(console, folder, stop)
        state = watching.summary(folder)
        if state.running:
            again = shlex.join(["deepscem-tui", "runs", "watch", str(folder)])
            console.result(Result(f"{state.name} goes on; watch it again with: {again}", _state_facts(folder, state)))
        else:
            reason = f": {state.text}" if state.text else ""
            console.result(Result(f"{state.name} is {state.state}{reason}", _state_facts(folder, state)))
        return 0

    return guarded(console, work)


def _state_facts(folder: Path, state: RunSummary) -> dict[str, Any]:
    return {"run": str(folder), "state": state.state}


def _say_lines(console: Console, folder: Path, stop: Stop) -> None:
    for event in watching.follow(folder, stop):
        texts = [event.get(key) for key in ("task", "unit", "note", "text")]
        if event["type"] == "progress" and isinstance(texts[0], str):
            done, total = event.get("done"), event.get("total")
            if isinstance(done, (int, float)) and isinstance(total, (int, float)):
                console.progress(texts[0], done, total, str(texts[1] or ""), str(texts[2] or ""))
        elif event["type"] == "message":
            console.message(str(texts[3]))
        elif event["type"] == "warning":
            console.warning(str(texts[3]))


def stop(run: _Running, now: _Now = False, runs_dir: RunsDir = None, json: Json = False, quiet: Quiet = False) -> int:
    """Ask a run to save its state and end, which it does after the step in hand; `resume` goes on with it."""

    def work(_: Stop) -> Result:
        folder = runs.locate(run, runs_dir or runs.default_folder(), runs.is_running)
        if not now:
            runs.ask_to_stop(folder)
            return Result(f"Asked {folder.name} to stop; it does so after what is in hand", {"run": str(folder)})
        state = runs.stop_now(folder)
        said = "It saved its state in time"
        if state.state == "dead":
            said = "It had no time to save its state: what came since its last checkpoint is lost"
        return Result(f"{folder.name} has ended: {state.state}. {said}", {"run": str(folder), "state": state.state})

    return carry_out(Console(json, quiet), work)


def resume(
    run: _Unfinished,
    epochs: _Epochs = None,
    overwrite: _Overwrite = False,
    runs_dir: RunsDir = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Go on with a run that was stopped, failed or killed.

    With --epochs a training goes on until it has so many epochs in all, even if it had finished or ended early:
    from its checkpoint, in the same run folder. Its result is replaced, unless another has changed it since.
    """
    console = Console(json, quiet, verbose)

    def work(stop: Stop) -> Result:
        def meant(found: runs.RunState) -> bool:
            return runs.can_be_resumed(found, epochs)

        folder = runs.locate(run, runs_dir or runs.default_folder(), meant)
        return runs.resume(folder, console, stop, epochs, overwrite)

    return carry_out(console, work)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else words.moment(seconds)


def _short(seconds: float) -> str:
    """Such as ``3h05``, ``12m`` or ``40s``."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f}s"
    return f"{minutes}m" if minutes < 100 else f"{minutes // 60}h{minutes % 60:02}"


def _progress(run: RunSummary) -> str:
    if run.text:
        return run.text
    return f"{run.progress.task}: {100 * run.progress.share:.0f} %" if run.progress else ""


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
