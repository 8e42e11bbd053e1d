"""A run in so many cells: state, bars, curve, scores, what it takes, the last message."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text

from deepscem_tui.engine.words import duration
from deepscem_tui.render.chart import Chart, Series, draw_chart, shown

__all__ = [
    "SCORES", "Bar", "bars", "draw_bar", "draw_run", "facts", "losses", "score_rows", "state_line",
]  # fmt: skip

Snapshot = Any  # a RunSnapshot of deepscem_tui.engine.runs.watching: to draw, the engine need not be there

_PLAIN, _FAINT, _BOLD = Style(), Style(dim=True), Style(bold=True)
_STATES = {
    "running": Style(bold=True, color="green"),
    "finished": Style(bold=True, color="cyan"),
    "stopped": Style(bold=True, color="yellow"),
    "failed": Style(bold=True, color="red"),
    "dead": Style(bold=True, color="red"),
    "gone": Style(bold=True, color="red"),
}
_BAR = Style(color="green")
_GIB = 1 << 30
_NAME = 15  # cells of a bar's name, such as `reading samples`

# Of training and validation, by the names that they have in the facts of an epoch. Those of the validation are at the
# threshold of the label, the others at 0.5.
SCORES = (
    "f1", "iou", "validation_f1", "validation_iou", "validation_precision", "validation_recall", "validation_threshold",
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """How far something is: its name, a share from 0 to 1, and what stands behind it."""

    name: str
    share: float
    text: str


def draw_run(
    snapshot: Snapshot, width: int, height: int, ascii_only: bool = False, now: float | None = None, colour: bool = True
) -> Text:
    """A whole run, ``height`` lines of ``width`` cells.

    Args:
        snapshot: A :class:`deepscem_tui.engine.runs.watching.RunSnapshot`.
        ascii_only: Whether the terminal shows ASCII characters only.
        now: A ``time.monotonic()``.
        colour: Whether it has colours.
    """
    top = [_top_line(snapshot, width, ascii_only, now), *(draw_bar(b, width, ascii_only) for b in bars(snapshot))]
    bottom = [*_wrapped(_score_words(snapshot), width, 2), *_wrapped(facts(snapshot), width, 2)]
    last = _last_words(snapshot)
    if last:
        bottom.append(Text(last, style=_STATES["failed"] if snapshot.error else _FAINT))
    room = height - len(top) - len(bottom)
    while room < 0 and len(bottom) > 1:
        bottom.pop(0)
        room += 1
    lines = [*top, *_middle(snapshot, width, room, ascii_only, colour), *bottom]
    return _block(lines, width, height, ascii_only)


def state_line(snapshot: Snapshot, now: float | None = None) -> Text:
    """State, how long the run has worked, and its name."""
    line = Text(snapshot.state, style=_STATES.get(snapshot.state, _BOLD))
    line.append(f"  {duration(snapshot.seconds(now))}  ", _PLAIN)
    line.append(shown(snapshot.folder.name), _BOLD)
    return line


def _top_line(snapshot: Snapshot, width: int, ascii_only: bool, now: float | None) -> Text:
    line = state_line(snapshot, now)
    device = shown(snapshot.device, ascii_only)
    gap = width - cell_len(line.plain) - cell_len(device)
    if device and gap >= 2:
        line.append(" " * gap + device, _FAINT)
    return line


def bars(snapshot: Snapshot) -> list[Bar]:
    """The bars of a run: epochs and steps of a training, all tiles and the sample's of a prediction."""
    step, progress = snapshot.step, snapshot.progress
    found = []
    if snapshot.n_epochs:
        done = int(snapshot.epochs[-1]["epoch"]) if snapshot.epochs else 0
        share = float(done)
        if step is not None and step.steps_per_epoch and step.epoch > done:
            share = step.epoch - 1 + min(1.0, step.step / step.steps_per_epoch)
        text = f"{done}/{snapshot.n_epochs}{_left(snapshot) if progress and progress.task == 'Training' else ''}"
        found.append(Bar("epochs", min(1.0, share / snapshot.n_epochs), text))
        if step is not None and step.steps_per_epoch and (not snapshot.running or _training(snapshot)):
            loss = f"  loss {step.mean_loss:.4f}" if step.mean_loss is not None else ""
            found.append(Bar("steps", step.step / step.steps_per_epoch, f"{step.step}/{step.steps_per_epoch}{loss}"))
    if progress is not None and progress.task != "Training" and (snapshot.running or not found):
        text = f"{progress.done:,.0f}/{progress.total:,.0f} {shown(progress.unit)}{_left(snapshot)}"
        found.append(Bar(shown(progress.task).lower(), progress.share, text))
    if snapshot.tiles and not snapshot.n_epochs:
        tiles = snapshot.tiles[-1]
        share = tiles.done / tiles.total if tiles.total else 1.0
        count = f"  sample {len(snapshot.tiles)}/{snapshot.samples}" if snapshot.samples > 1 else ""
        found.append(Bar(shown(tiles.sample), share, f"{tiles.done:,}/{tiles.total:,} tiles{count}"))
    return found


def _training(snapshot: Snapshot) -> bool:
    return snapshot.progress is None or snapshot.progress.task == "Training"


def _left(snapshot: Snapshot) -> str:
    left = snapshot.progress.seconds_left if snapshot.progress else None
    return f"  {duration(left)} left" if snapshot.running and left else ""


def draw_bar(bar: Bar, width: int, ascii_only: bool = False) -> Text:
    """One line: the name, a bar, and what stands behind it."""
    name = set_cell_size(shown(bar.name, ascii_only), 10 if width < 80 else _NAME)
    text = f" {bar.text}"
    cells = max(4, width - cell_len(name) - 1 - max(26, cell_len(text)))
    full = round(cells * min(1.0, max(0.0, bar.share)))
    line = Text(f"{name} ", style=_PLAIN)
    line.append(("#" if ascii_only else "━") * full, _PLAIN if ascii_only else _BAR)
    line.append(("." if ascii_only else "╌") * (cells - full), _FAINT)
    line.append(text, _PLAIN)
    return line


def losses(snapshot: Snapshot) -> Chart:
    """The loss of training and validation by epochs."""
    series = [Series("training", snapshot.losses or snapshot.curve("loss"))]
    validation = snapshot.curve("validation_loss")
    if validation:
        series.append(Series("validation", validation))
    return Chart(series, title="loss", x_name="epoch", smoothing=0.6 if len(snapshot.losses) > 20 else 0.0)


def score_rows(snapshot: Snapshot) -> list[tuple[str, list[float | None]]]:
    """For each label the :data:`SCORES` after the last epoch; None where there is none."""
    if not snapshot.epochs:
        return []
    last = snapshot.epochs[-1]
    return [(name, [last.get(f"{key}_{name}") for key in SCORES]) for name in snapshot.labels]


def facts(snapshot: Snapshot) -> list[str]:
    """What the run does a second, and what it takes of its machine."""
    step, usage, found = snapshot.step, snapshot.usage, []
    if step is not None and step.patches_per_second is not None:
        found.append(f"{step.patches_per_second:.3g} patches/s")
    if step is not None and step.waiting_for_data is not None:
        found.append(f"waiting for data {100 * step.waiting_for_data:.0f} %")
    if snapshot.tiles and snapshot.tiles[-1].voxels_per_second:
        found.append(f"{snapshot.tiles[-1].voxels_per_second / 1e6:.2f} Mvoxel/s")
    if step is not None and step.learning_rate is not None:
        found.append(f"rate {step.learning_rate:.2g}")
    if usage is not None and snapshot.running:
        if usage.cpu is not None and usage.cores:
            found.append(f"CPU {usage.cpu:.1f}/{usage.cores:g}")
        if usage.memory is not None:
            free = f" ({usage.memory_available / _GIB:.0f} free)" if usage.memory_available is not None else ""
            found.append(f"memory {usage.memory / _GIB:.1f} GiB{free}")
        found += [_gpu_words(gpu) for gpu in usage.gpus]
    return found


def _gpu_words(gpu: Any) -> str:
    parts = ["GPU"]
    if gpu.percent is not None:
        parts.append(f"{gpu.percent:.0f} %")
    if gpu.memory is not None and gpu.memory_total:
        parts.append(f"{gpu.memory / _GIB:.0f}/{gpu.memory_total / _GIB:.0f} GiB")
    return " ".join(parts) if len(parts) > 1 else ""


# ------------------------------------------------------------------------------------------------ parts


def _middle(snapshot: Snapshot, width: int, rows: int, ascii_only: bool, colour: bool) -> list[Text]:
    """What fills the rest: the loss, the samples of a prediction, or what was said."""
    if rows <= 0:
        return []
    if snapshot.losses or snapshot.epochs:
        if rows < 3:
            return [Text()] * rows
        return list(draw_chart(losses(snapshot), width, rows, ascii_only, colour).split("\n"))
    if snapshot.tiles and snapshot.samples > 1:
        chosen: Sequence[Any] = snapshot.tiles[:-1][-rows:]
        lines = [
            draw_bar(Bar(t.sample, t.done / t.total if t.total else 1.0, f"{t.done:,}/{t.total:,}"), width, ascii_only)
            for t in chosen
        ]
    else:
        said = [entry for entry in snapshot.said if snapshot.error or entry is not snapshot.said[-1]]
        lines = [_said(entry) for entry in said[-rows:]]
    return [*lines, *[Text()] * (rows - len(lines))]


def _said(entry: Any) -> Text:
    when = time.strftime("%H:%M:%S", time.localtime(entry.t))
    warning = entry.kind == "warning"
    line = Text(f"{when} ", style=_FAINT)
    line.append(f"{'Warning: ' if warning else ''}{shown(entry.text)}", Style(color="yellow") if warning else _PLAIN)
    return line


def _score_words(snapshot: Snapshot) -> list[str]:
    rows = score_rows(snapshot)
    validated = any(scores[2] is not None or scores[3] is not None for _, scores in rows)
    found = [
        f"{shown(name)} {'-' if (score := scores[2 if validated else 0]) is None else f'{score:.3f}'}"
        for name, scores in rows
    ]
    return [f"F1 ({'validation' if validated else 'training'}): {found[0]}", *found[1:]] if found else []


def _last_words(snapshot: Snapshot) -> str:
    if snapshot.error:
        return shown(snapshot.error)
    if snapshot.result is not None and isinstance(snapshot.result.get("summary"), str):
        return shown(snapshot.result["summary"])
    return shown(snapshot.said[-1].text) if snapshot.said else ""


def _wrapped(parts: Sequence[str], width: int, most: int) -> list[Text]:
    """Words side by side, on at most so many lines."""
    lines: list[str] = []
    for word in filter(None, parts):
        if lines and cell_len(lines[-1]) + 3 + cell_len(word) <= width:
            lines[-1] += f"   {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines[most - 1] += "   ..."
    return [Text(line) for line in lines[:most]]


def _block(lines: Sequence[Text], width: int, height: int, ascii_only: bool) -> Text:
    """Exactly so many lines of exactly that width, each part with a style."""
    result = Text(no_wrap=True, end="")
    for index in range(height):
        line = lines[index].copy() if index < len(lines) else Text()
        if ascii_only and not line.plain.isascii():
            line.plain = shown(line.plain, ascii_only)
        line.truncate(width, overflow="crop")
        line.append(" " * (width - cell_len(line.plain)), _PLAIN)
        result.append_text(line)
        if index < height - 1:
            result.append("\n", _PLAIN)
    return result
