"""What a run's live view shows, out of its snapshot: curves, a table of scores, lines of the log."""

from __future__ import annotations

import time

from rich.style import Style
from rich.text import Text

from deepscem_tui.engine.runs.watching import RunSnapshot, Said
from deepscem_tui.render.chart import Series, shown
from deepscem_tui.render.run_text import losses, score_rows

__all__ = ["log_line", "score_table", "series"]

# Title and width of each of the SCORES; the last is the threshold.
_COLUMNS = (
    ("F1", 7), ("IoU", 7), ("valid.F1", 10), ("IoU", 7), ("precision", 11), ("recall", 8), ("above", 8),
)  # fmt: skip
_WARNING, _FAINT, _PLAIN = Style(color="yellow"), Style(dim=True), Style()


def series(snapshot: RunSnapshot, key: str) -> list[Series]:
    if key == "loss":
        return list(losses(snapshot).series)
    if key == "learning_rate":
        return [Series("learning rate", snapshot.curve(key))]
    found = []
    for name in snapshot.labels:
        found += [
            Series(f"{name}{kind}", points)
            for kind, prefix in ((" (valid.)", "validation_"), ("", ""))
            if (points := snapshot.curve(f"{prefix}{key}_{name}"))
        ]
    return found


def score_table(snapshot: RunSnapshot, width: int) -> list[Text]:
    """Scores of each label, of training and validation: F1 and IoU, and more of the validation's if they fit."""
    rows = score_rows(snapshot)
    if not rows:
        return [Text("Scores come after the first epoch", style=_FAINT)]
    wide = min(max(5, *(len(name) for name, _ in rows)), 24)
    validated = any(score is not None for _, scores in rows for score in scores[2:])
    columns = _COLUMNS if validated and wide + sum(size for _, size in _COLUMNS) <= width else _COLUMNS[:4]
    lines = [Text(f"{'label':<{wide}}{''.join(f'{title:>{size}}' for title, size in columns)}", style=_FAINT)]
    for name, scores in rows:
        cells = [
            f"{'-' if score is None else f'{score:.3f}':>{size}}"
            for score, (_, size) in zip(scores, columns, strict=False)
        ]
        lines.append(Text(f"{shown(name)[:wide]:<{wide}}{''.join(cells)}", style=_PLAIN))
    return lines


def log_line(line: object) -> Text:
    if isinstance(line, Said):
        text = Text(time.strftime("%H:%M:%S ", time.localtime(line.t)), style=_FAINT)
        text.append(shown(line.text), _WARNING if line.kind == "warning" else _PLAIN)
        return text
    return Text(shown(str(line)), style=_PLAIN)
