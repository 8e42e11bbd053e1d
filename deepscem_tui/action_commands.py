"""Typer commands made from the declarations of the actions."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from deepscem_tui.command_help import Command
from deepscem_tui.console import Console
from deepscem_tui.engine import actions
from deepscem_tui.engine.errors import DataError, ParameterError
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.stop import Stop
from deepscem_tui.outcome import carry_out

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel="Output")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No messages, no progress.", rich_help_panel="Output")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say which files are opened and what is decided.", rich_help_panel="Output"),
]
RunsDir = Annotated[
    Path | None,
    typer.Option(
        "--runs-dir",
        envvar="DEEPSCEM_TUI_RUNS",
        help="Folder of the runs; `runs` in the current folder if not given.",
        show_default=False,
        show_envvar=True,
        rich_help_panel="Output",
    ),
]
_From = Annotated[
    Path | None,
    typer.Option("--from", help="TOML file with parameters; the command line comes before it.", show_default=False),
]


def add_commands(application: typer.Typer, wanted: str) -> None:
    """Add a command for the action that is wanted; for every action if there is none of that name."""
    for action in [actions.ACTIONS[wanted]] if wanted in actions.ACTIONS else actions.ACTIONS.values():
        about = action.help
        if action.examples:
            about += "\n\n" + "\n".join(["Examples:", *(f"  {line}" for line in action.example_lines)])
        register = application.command(
            action.name, cls=_Command, help=about.replace("[", r"\["), rich_help_panel=action.group
        )
        register(_function(action))


class _Command(Command):
    """A command of which what is required is shown as such although ``--from`` may supply it."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", *actions.usage(actions.ACTIONS[str(ctx.info_name)])]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        required = {given.name for given in actions.declared(actions.ACTIONS[str(ctx.info_name)]) if given.required}
        for parameter in self.get_params(ctx):
            parameter.required = parameter.name in required
        super().format_help(ctx, formatter)


def _function(action: actions.Action) -> Callable[..., int]:
    """A function with the signature that Typer makes a command of.

    Every parameter is optional text there: the declaration checks values wherever they come from.
    """
    parameters = actions.declared(action)
    common: dict[str, Any] = {"from_": _From} | ({"runs_dir_": RunsDir} if action.run else {})
    common |= {"json_": Json, "quiet_": Quiet, "verbose_": Verbose}

    def function(**given: Any) -> int:
        console = Console(given["json_"], given["quiet_"], given["verbose_"])

        def work(stop: Stop) -> Result:
            values = _from_file(given["from_"], action) if given["from_"] else {}
            names = [parameter.name for parameter in parameters]
            values |= {name: given[name] for name in names if given[name] not in (None, [])}
            return runs.perform(action, actions.build(action, values), console, stop, given.get("runs_dir_"))

        return carry_out(console, work)

    annotations = {parameter.name: _annotation(parameter) for parameter in parameters} | common
    signature = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if name in ("json_", "quiet_", "verbose_") else None,
            annotation=annotation,
        )
        for name, annotation in annotations.items()
    ]
    function.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    function.__annotations__ = annotations
    return function


def _annotation(parameter: actions.Declared) -> Any:
    kind = {"flag": bool, "many": list[str]}.get(parameter.kind, str)
    facts = parameter.facts.removesuffix("required").removesuffix("; ")  # which the help says by itself
    about = f" ({facts})" if facts else ""
    settings: dict[str, Any] = {
        "help": f"{parameter.help}{about}".replace("[", r"\["),
        "show_default": False,
    }
    if parameter.choices:
        settings["autocompletion"] = _completion(parameter.choices)
    if parameter.argument:
        return Annotated[kind | None, typer.Argument(**settings)]
    word = "--" + parameter.name.replace("_", "-")
    if parameter.kind == "flag":
        words = f"{word}/--no-{word[2:]}" if parameter.default else word
        return Annotated[bool | None, typer.Option(words, **settings)]
    settings["metavar"] = {"path": "FILE", "choice": "CHOICE", "many": "NAME"}.get(parameter.kind, "VALUE")
    return Annotated[kind | None, typer.Option(word, **settings)]


def _completion(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def _from_file(path: Path, action: actions.Action) -> dict[str, Any]:
    """The parameters in a TOML file; ``batch-size`` and ``batch_size`` are the same."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    if path.exists() and not path.is_file():  # opening a FIFO would wait for ever
        raise DataError(f"{path} is no regular file", "Give a TOML file.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "Check its name and folder.") from None
    except ValueError as error:  # TOML and UTF-8 errors alike
        raise DataError(
            f"{path} is not valid TOML: {error}", "Mend it, or make it with: deepscem-tui run plan"
        ) from None
    values = {name.replace("-", "_"): value for name, value in values.items()}
    unknown = sorted(set(values) - set(action.parameters.model_fields))
    if unknown:
        raise ParameterError(
            f"{path} has parameters that {action.name} does not know: {', '.join(unknown)}",
            f"See: deepscem-tui run {action.name} --help",
        )
    return values
