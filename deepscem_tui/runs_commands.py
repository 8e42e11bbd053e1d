"""The `runs` commands: list, show, watch, stop and resume run folders from any shell."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from deepscem_tui.action_commands import Json, Quiet, RunsDir
from deepscem_tui.console import Console
from deepscem_tui.engine import runs, watching
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.stop import Stop
from deepscem_tui.outcome import carry_out

_Run = Annotated[str, typer.Argument(metavar="RUN", help="Run: a folder, its name or a part of it, or `latest`.")]


def add_commands(application: typer.Typer) -> None:
    """Add `list`, `show`, `watch`, `stop` and `resume`."""
    for function in (list_runs, show, watch, stop, resume):
        application.command(function.__name__.removesuffix("_runs"))(function)


def list_runs(runs_dir: RunsDir = None, json: Json = False, quiet: Quiet = False) -> int:
    """List the runs, the latest last."""

    def work(_: Stop) -> Result:
        folder = runs_dir or runs.default_folder()
        found = runs.find(folder)
        rows = [(run.folder.name, run.action, run.state, _when(run.began), _progress(run)) for run in found]
        table = Table("runs", ("run", "action", "state", "began", "progress"), rows)
        summary = f"{len(found)} runs in {folder}" if len(found) != 1 else f"1 run in {folder}"
        return Result(summary, tables=(table,) if rows else ())

    return carry_out(Console(json, quiet), work)


def show(run: _Run, runs_dir: RunsDir = None, json: Json = False, quiet: Quiet = False) -> int:
    """Show what a run was asked to do, how far it is, and how it ended."""

    def work(_: Stop) -> Result:
        state = runs.read(runs.locate(run, runs_dir or runs.default_folder()))
        facts: dict[str, Any] = {
            "run": str(state.folder),
            "state": state.state,
            "action": state.action,
            "command": state.command,
            "host": state.host,
            "pid": state.pid,
            "began": _when(state.began),
            "latest_event": _when(state.latest),
        }
        if state.end and "error" in state.end:
            facts["error"] = state.end["error"]
        parameters = Table("parameters", ("parameter", "value"), [(k, _plain(v)) for k, v in state.parameters.items()])
        tables = [parameters]
        if state.epoch:
            latest = {name: value for name, value in state.epoch.items() if name not in ("t", "type")}
            tables.append(Table("latest_epoch", tuple(latest), [tuple(latest.values())]))
        return Result(_progress(state) or state.state, facts, tables)

    return carry_out(Console(json, quiet), work)


def watch(run: _Run = "latest", runs_dir: RunsDir = None, json: Json = False, quiet: Quiet = False) -> int:
    """Follow a run until it ends; ctrl+c leaves the run alone."""
    console = Console(json, quiet)

    def work(stop: Stop) -> Result:
        folder = runs.locate(run, runs_dir or runs.default_folder())
        runs.read(folder)
        for event in watching.follow(folder, stop):
            if event["type"] == "progress":
                console.progress(*(event[key] for key in ("task", "done", "total", "unit", "note")))
            elif event["type"] == "message":
                console.message(event["text"])
            elif event["type"] == "warning":
                console.warning(event["text"])
        state = runs.read(folder)
        reason = f": {state.end['error']}" if state.end and "error" in state.end else ""
        return Result(f"{folder} is {state.state}{reason}", {"run": str(folder), "state": state.state})

    return carry_out(console, work)


def stop(run: _Run, runs_dir: RunsDir = None, json: Json = False, quiet: Quiet = False) -> int:
    """Ask a run to save its state and end; `resume` goes on with it."""

    def work(_: Stop) -> Result:
        folder = runs.locate(run, runs_dir or runs.default_folder())
        runs.ask_to_stop(folder)
        return Result(f"Asked {folder.name} to stop; it does so after what is in hand", {"run": str(folder)})

    return carry_out(Console(json, quiet), work)


def resume(run: _Run, runs_dir: RunsDir = None, json: Json = False, quiet: Quiet = False) -> int:
    """Go on with a run that was stopped, failed or killed."""
    console = Console(json, quiet)

    def work(stop: Stop) -> Result:
        return runs.resume(runs.locate(run, runs_dir or runs.default_folder()), console, stop)

    return carry_out(console, work)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _progress(run: runs.RunState) -> str:
    if run.end and "error" in run.end:
        return str(run.end["error"])
    if run.state == "finished" and run.end:
        return str(run.end.get("result", {}).get("summary", ""))
    if run.progress is None:
        return ""
    done, total = run.progress["done"], run.progress["total"]
    return f"{run.progress['task']}: {100 * done / total if total else 100:.0f} %"


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
