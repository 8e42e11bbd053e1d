"""DeepSCEM's own flags under `run`, as its manual has them, carried out in its order whatever theirs is on the line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from deepscem_tui.console import Console
from deepscem_tui.engine import actions
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.stop import Stop
from deepscem_tui.outcome import carry_out

_TRAIN_VALUES = (
    "MODEL_IN", "MODEL_OUT", "TRAIN", "VALID", "LOSS", "BATCH", "PZ", "PY", "PX", "STEPS", "EPOCHS", "VALIDATION_STEPS",
)  # fmt: skip
_LOSSES = {"dice": "dice", "crossentropy": "cross-entropy", "meansquarederror": "mean-squared-error"}
_FLAGS = ("--create-dataset", "--add-sample", "--train-model")


def used_in(words: Sequence[str]) -> bool:
    """Whether a command line is written with DeepSCEM's flags."""
    return any(word.split("=")[0] in _FLAGS for word in words[:1]) or (
        bool(words) and words[0].startswith("-") and any(word in _FLAGS for word in words)
    )


def run(words: Sequence[str]) -> int:
    """Carry out what DeepSCEM's flags ask for and give the exit status."""
    options = _parser().parse_args(list(words))
    console = Console(options.json, options.quiet, options.verbose)

    def work(stop: Stop) -> Result:
        # Everything is checked before anything is done.
        todo = [(action, actions.build(action, values)) for action, values in _asked_for(options)]
        results: list[Result] = []
        for action, parameters in todo:
            if results:
                console.message(results[-1].summary)
            results.append(runs.perform(action, parameters, console, stop, options.runs_dir))
        steps = [{"action": action.name, **result.as_json()} for (action, _), result in zip(todo, results, strict=True)]
        return Result(results[-1].summary, {"steps": steps}, results[-1].tables)

    return carry_out(console, work)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ParameterError(message, "See: deepscem-tui run --help")


def _parser() -> _Parser:
    parser = _Parser(prog="deepscem-tui run", add_help=False, allow_abbrev=False)
    parser.add_argument("--create-dataset", nargs=3, action="append", default=[], metavar=("FILE", "NAME", "N_LABELS"))
    parser.add_argument("--add-sample", nargs="+", action="append", default=[], metavar="VALUE")
    parser.add_argument("--train-model", nargs=12, action="append", default=[], metavar=_TRAIN_VALUES)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quiet", "-q", action="store_true")
    parser.add_argument("--verbose", "-v", action="store_true")
    parser.add_argument("--runs-dir", type=Path, default=None)
    return parser


def _asked_for(options: argparse.Namespace) -> list[tuple[actions.Action, dict[str, Any]]]:
    """The actions in DeepSCEM's order: data sets, samples, training."""
    asked: list[tuple[actions.Action, dict[str, Any]]] = []
    for file, name, n_labels in options.create_dataset:
        values = {"file": file, "name": name, "n_labels": n_labels, "overwrite": options.overwrite}
        asked.append((actions.ACTIONS["create-dataset"], values))
    for given in options.add_sample:
        if len(given) < 3:
            raise ParameterError(
                "--add-sample needs FILE NAME IMAGE and the labels", f"It was given: {' '.join(given)}"
            )
        file, name, image, *labels = given
        asked.append(
            (actions.ACTIONS["add-sample"], {"file": file, "name": name, "image": image, "labels": tuple(labels)})
        )
    for given in options.train_model:
        asked.append((actions.ACTIONS["train"], _training(dict(zip(_TRAIN_VALUES, given, strict=True)), options)))
    return asked


def _training(given: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    loss = given["LOSS"]
    return {
        "model": given["MODEL_IN"],
        "out": given["MODEL_OUT"],
        "train": given["TRAIN"],
        "valid": given["VALID"] or None,
        "loss": _LOSSES.get(loss.lower().replace(" ", "").replace("-", ""), loss),
        "batch_size": given["BATCH"],
        "patch_size": f"{given['PZ']},{given['PY']},{given['PX']}",
        "steps_per_epoch": given["STEPS"],
        "epochs": given["EPOCHS"],
        "validation_steps": given["VALIDATION_STEPS"],
        "overwrite": options.overwrite,
    }
