"""Write docs/reference.md from the declarations of the actions: ``make reference``."""

from __future__ import annotations

from pathlib import Path

from deepscem_tui.engine.actions import ACTIONS, Action, declared, usage

_TOP = """# Reference

Every action of `deepscem-tui run`, made from its declaration (`make reference`). Besides its own parameters each takes
`--json` (one JSON document on stdout), `--quiet`, `--verbose` (which files are opened, what is decided) and
`--from FILE.toml` (parameters from a file; the command line comes before it); `train` and `predict` take `--runs-dir`.
"""


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([_TOP, *(_section(action) for action in ACTIONS.values())])


def _section(action: Action) -> str:
    rows = [
        f"| `{_spelling(parameter.name, parameter.argument)}` | {_cell(parameter.help)} | {_cell(parameter.facts)} |"
        for parameter in declared(action)
    ]
    table = ["| parameter | what it is | unit, range, default |", "|---|---|---|", *rows]
    line = " ".join([f"    deepscem-tui run {action.name}", *usage(action), "[OPTIONS]"])
    return "\n".join([f"## {action.name}", "", action.help, "", line, "", *table, ""])


def _spelling(name: str, argument: bool) -> str:
    return name.upper() if argument else "--" + name.replace("_", "-")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(__file__).with_name("reference.md").write_text(reference(), encoding="utf-8")
