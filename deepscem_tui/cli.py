"""The command line: `run ACTION`, made from the actions' declarations, and `runs …`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deepscem_tui import __version__
from deepscem_tui.command_help import UntypedFlags
from deepscem_tui.console import Console
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.outcome import guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command line and give its exit status.

    0 done; 1 a bug of ours; 2 the command line; 3 the data or a file; 4 memory, disk or device;
    75 stopped on request with everything saved; 130 left at once.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words and sys.stdin.isatty() and sys.stderr.isatty():
        return guarded(Console(), _open_application)
    console = Console(as_json="--json" in words)
    return guarded(console, lambda: _dispatch(words))


def _open_application() -> int:
    from deepscem_tui.app import run

    return run()


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["run"]:
        from deepscem_tui import deepscem_flags

        if deepscem_flags.used_in(words[1:]):
            return deepscem_flags.run(words[1:])
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    elif words == ["version"]:
        words = ["--version"]
    command = typer.main.get_command(_application(words))
    try:
        status = command.main(args=words or ["--help"], prog_name="deepscem-tui", standalone_mode=False)
    except (typer.Exit, typer.Abort) as end:
        return int(getattr(end, "exit_code", 1))
    except SystemExit:  # Typer's own way out where nobody reads its help to the end, such as `head`
        return 0
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("typer", "click") and hasattr(error, "format_message"):
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "deepscem-tui"
            raise ParameterError(error.format_message().rstrip("."), f"See: {path} --help") from None
        raise
    return status if isinstance(status, int) else 0


# ------------------------------------------------------------------------------------------------ the application


_ALIKE = 0.65  # how alike words are, from 0 to 1, that may be mistaken for each other: `rnu` and `run`


class _Group(UntypedFlags, TyperGroup):
    """A group that suggests what may have been meant, in itself and in its neighbours."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from deepscem_tui.engine.actions import ACTIONS

            here = ctx.command_path
            known = {word: f"deepscem-tui run {word}" for word in ACTIONS}
            known |= {word: f"deepscem-tui runs {word}" for word in ("list", "show", "watch", "stop", "resume")}
            known |= {word: f"{here} {word}" for word in self.list_commands(ctx)}
            near = [known[word] for word in get_close_matches(name, known, n=2, cutoff=_ALIKE)]
            hint = f"Did you mean: {' or '.join(near)}?" if near else f"See: {here} --help"
            if ctx.parent is None and Path(name).is_dir():
                hint = f"To work in that folder: cd {shlex.quote(name)}, then deepscem-tui"
            elif ctx.parent is None and Path(name).is_file():
                hint = f"To see what it holds: {shlex.join(['deepscem-tui', 'run', 'info', name])}"
            raise ParameterError(f"There is no {here} {name}", hint)
        return super().resolve_command(ctx, args)


def _show_version(asked: bool) -> None:
    if asked:
        Console().text(f"deepscem-tui {__version__}")
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", "-V", help="Print the version.", is_eager=True, callback=_show_version)
]


def _application(words: Sequence[str]) -> typer.Typer:
    """The Typer application. Only the part that ``words`` ask for is built, which keeps ``--help`` instant."""
    names: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
    title = "Segment electron-microscopy volumes in a terminal."
    application = typer.Typer(cls=_Group, help=title, context_settings=names, rich_markup_mode="rich")

    @application.callback()
    def _options(version: _Version = False) -> None:
        """Options of the program itself."""

    run = typer.Typer(cls=_Group, no_args_is_help=True, context_settings=names, rich_markup_mode="rich")
    runs = typer.Typer(cls=_Group, no_args_is_help=True, context_settings=names, rich_markup_mode="rich")
    completing = "_DEEPSCEM_TUI_COMPLETE" in os.environ
    if completing or "run" in words[:1]:
        from deepscem_tui.action_commands import add_commands

        add_commands(run, "" if completing else "".join(words[1:2]))
    if completing or "runs" in words[:1]:
        from deepscem_tui.runs_commands import add_commands as add_runs_commands

        add_runs_commands(runs)
    application.add_typer(
        run, name="run", help="Carry out one action: data sets, models, training, prediction, evaluation."
    )
    application.add_typer(runs, name="runs", help="List, show, watch, stop and resume runs.")
    return application
