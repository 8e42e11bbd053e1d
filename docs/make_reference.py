"""Write docs/reference.md from the declarations of the actions and commands: ``make reference``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from deepscem_tui import runs_commands
from deepscem_tui.engine import errors
from deepscem_tui.engine.actions import ACTIONS, Action, declared, usage
from deepscem_tui.outcome import Bug

_TOP = """# Reference

Every action of `deepscem-tui run`, made from its declaration (`make reference`), then the
[commands of runs](#runs), the [exit statuses](#exit-statuses) and the [environment variables](#environment-variables).
Besides its own parameters each action takes `--json` (one JSON document on stdout), `--quiet`, `--verbose` (which files
are opened, what is decided) and
`--from FILE.toml` (parameters from a file; the command line comes before it); `train` and `predict` take `--runs-dir`.
"""

STATUSES = (
    (0, "done"),
    (Bug.exit_code, "a bug of ours; a report file is named"),
    (errors.ParameterError.exit_code, "the command line"),
    (errors.DataError.exit_code, "the data or a file"),
    (errors.ResourceError.exit_code, "memory, disk or device, or a library of an extra that is missing"),
    (errors.Stopped.exit_code, "stopped on request, everything saved; `runs resume` goes on"),
    (130, "left at once by a second ctrl+c"),
)

VARIABLES = {
    "DEEPSCEM_TUI_RUNS": "folder of the runs, as `--runs-dir` says it",
    "XDG_CONFIG_HOME": "folder of `deepscem-tui/settings.json`, what was chosen and typed; `~/.config` if not set",
    "XDG_STATE_HOME": "folder of `deepscem-tui/`, reports of bugs and a log; `~/.local/state` if not set",
    "CUDA_VISIBLE_DEVICES": "the GPUs that may be used, as CUDA has it",
    "TF_CONFIG": "the machines that train together, as TensorFlow has it (docs/training.md)",
    "TF_CPP_MIN_LOG_LEVEL": "how little TensorFlow says; 1 if not set",
    "SLURM_CPUS_PER_TASK": "cores that a job was granted, set by SLURM",
    "SLURM_MEM_PER_NODE": "memory that a job was granted, set by SLURM",
    "NO_COLOR": "no colours",
    "TERM": "a terminal that is `dumb`, or none, gets lines in place of live views",
    "LC_ALL": "with LC_CTYPE and LANG: where it is not UTF-8, only ASCII characters are drawn",
}


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([_TOP, *(_section(action) for action in ACTIONS.values()), _runs(), _statuses(), _variables()])


def _section(action: Action) -> str:
    rows = [
        (f"`{_spelling(parameter.name, parameter.argument)}`", parameter.help, parameter.facts)
        for parameter in declared(action)
    ]
    line = " ".join([f"    deepscem-tui run {action.name}", *usage(action), "[OPTIONS]"])
    examples = ["For example:", "", *(f"    {line}" for line in action.example_lines), ""] if action.examples else []
    return "\n".join([f"## {action.name}", "", action.help, "", line, "", *_table(rows), *examples])


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    cells = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]
    return ["| parameter | what it is | unit, range, default |", "|---|---|---|", *cells, ""]


def _spelling(name: str, argument: bool) -> str:
    return name.upper() if argument else "--" + name.replace("_", "-")


def _runs() -> str:
    """The commands of `deepscem-tui runs`."""
    about = "What looks at runs and stops them, from any shell, on any node that sees their folder."
    return "\n".join(["## runs", "", about, "", *(_command(*item) for item in runs_commands.commands().items())])


def _command(name: str, function: Callable[..., int]) -> str:
    rows, arguments = [], []
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind, declaration = get_args(hints[parameter.name])
        if isinstance(declaration, typer.models.ArgumentInfo):
            word = str(declaration.metavar)
            arguments.append(word if parameter.default is parameter.empty else f"[{word}]")
        else:
            given = (declaration.default, *declaration.param_decls)  # Typer takes the first for the default
            word = ", ".join(word for word in given if str(word).startswith("-"))
        rows.append((f"`{word}`", str(declaration.help), _facts(kind, declaration, parameter.default)))
    line = " ".join([f"    deepscem-tui runs {name}", *arguments, "[OPTIONS]"])
    return "\n".join([f"### runs {name}", "", inspect.cleandoc(function.__doc__ or ""), "", line, "", *_table(rows)])


def _facts(kind: Any, declaration: Any, default: Any) -> str:
    facts = []
    alternatives = [kind, *get_args(kind)]
    choices = next((get_args(item) for item in alternatives if get_origin(item) is Literal), ())
    if choices:
        facts.append(" | ".join(choices))
    if declaration.min is not None:
        facts.append(f"at least {declaration.min}")
    if isinstance(default, str):
        facts.append(f"default {default}")
    if declaration.envvar:
        facts.append(f"or the variable {declaration.envvar}")
    return "; ".join(facts)


def _statuses() -> str:
    rows = [f"| {status} | {meaning} |" for status, meaning in STATUSES]
    return "\n".join(["## Exit statuses", "", "| exit status | meaning |", "|---|---|", *rows, ""])


def _variables() -> str:
    rows = [f"| `{name}` | {meaning} |" for name, meaning in VARIABLES.items()]
    return "\n".join(["## Environment variables", "", "| variable | what it says |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    Path(__file__).with_name("reference.md").write_text(reference(), encoding="utf-8")
