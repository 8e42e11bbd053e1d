"""The only writer of stdout and stderr: results to stdout, messages and progress to stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import EngineError, Stopped
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result, Table, finite
from deepscem_tui.texts import are_sizes, cell, one_line, safe

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

    from deepscem_tui.engine.viewing.preview import SlicePicture

_SILENT_SECONDS = 2.0  # what is over sooner needs no progress
_LINE_SECONDS = 10.0  # between two progress lines in a log file


def _json_escaped(character: str) -> str:
    """JSON lets through control characters beyond ASCII, which a terminal obeys."""
    return json.dumps(character)[1:-1] if words.acts(character) and character != "\n" else character


class ReaderGoneError(BrokenPipeError):
    """Nobody reads stdout any more; other pipes may break too."""


@contextmanager
def _for_a_reader() -> Iterator[None]:
    """Raise :class:`ReaderGoneError` where stdout cannot be written since its reader has gone."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError(error.errno, error.strerror) from error


class Console(Reporter):
    """Shows what an action says, and its result, in the way that was asked for.

    Args:
        as_json: One JSON document on stdout in place of tables.
        quiet: Neither messages nor progress.
        verbose: Also what is opened, written and decided, with the time since the beginning.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self._warnings: list[str] = []
        self._gone = False
        self._rich_err: RichConsole | None = None
        # Duplicates, since the engine points the descriptors themselves elsewhere while TensorFlow runs.
        self._out = _duplicate(sys.stdout)
        self._err = _duplicate(sys.stderr)
        self._bars = _Bars(self._err_console) if _is_terminal(self._err) else _Lines(self._say)

    # -------------------------------------------------------------------------------------------- while it runs

    def message(self, text: str) -> None:
        if not self.quiet:
            self._say(text)

    def warning(self, text: str) -> None:
        self._warnings.append(text)
        self._say(one_line(f"Warning: {text}"), style="yellow")

    def progress(self, task: str, done: float, total: float, unit: str = "", note: str = "") -> None:
        if not self.quiet:
            self._unless_gone(lambda: self._bars.update(task, done, total, unit, note))

    @contextmanager
    def logging(self) -> Iterator[None]:
        """While the block lasts, show what this program's modules log, if that was asked for."""
        if not self.verbose:
            yield
            return
        log, handler, began = logging.getLogger("deepscem_tui"), _Handler(self._say), time.time()
        handler.setFormatter(_Seconds(began))
        before = log.level
        log.setLevel(logging.DEBUG)
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(before)

    def close(self) -> None:
        """End what is being drawn."""
        self._unless_gone(self._bars.close)

    def show_cursor(self) -> None:
        """Bring back the cursor, which a progress bar hides, where there is no time to end the bar."""
        if _is_terminal(self._err):
            os.write(self._err.fileno(), b"\x1b[?25h\n")

    def _unless_gone(self, write: Callable[[], None]) -> None:
        """Write to stderr; what cannot be written, since the terminal or pipe is gone, must not end the work."""
        if not self._gone:
            try:
                write()
            except (OSError, ValueError):
                self._gone = True

    # -------------------------------------------------------------------------------------------- at the end

    @_for_a_reader()
    def result(self, result: Result) -> None:
        self.close()
        if self.as_json:
            document = result.as_json()
            if self._warnings:
                document["warnings"] = self._warnings
            self._write_json(document)
            return
        for table in result.shown_tables:
            self.table(table)
        if result.picture is not None:
            self._picture(result.picture)
        if not self.quiet:
            for key, value in result.facts.items():
                if isinstance(value, (str, int, float)) or are_sizes(value):
                    self.text(one_line(_fact(key, value)))
            self.text(one_line(result.summary))

    def table(self, table: Table) -> None:
        from rich.table import Table as RichTable
        from rich.text import Text

        grid = RichTable(box=None, pad_edge=False, header_style="bold")
        for index, column in enumerate(table.columns):
            numbers = all(isinstance(row[index], (int, float)) or row[index] is None for row in table.rows)
            justify: Any = "right" if numbers and table.rows else "left"
            # Names come first, and are what one copies: whole.
            grid.add_column(safe(column), justify=justify, overflow="fold", no_wrap=index == 0)
        for row in table.rows:
            missing = map(table.stands_for_none, table.columns)
            grid.add_row(*(Text(one_line(cell(value, none))) for value, none in zip(row, missing, strict=True)))
        console = self._out_console()
        console.print(grid)
        console.print()

    @_for_a_reader()
    def text(self, text: str) -> None:
        self._print(self._out, safe(text) + "\n")

    def error(self, error: EngineError) -> None:
        self.close()
        if isinstance(error, Stopped):  # as asked: no error
            self._say(one_line(error.what))
        else:
            self._say(one_line(f"Error: {error.what}"), style="bold red")
        if error.hint:
            self._say(one_line(error.hint))
        if self.as_json:
            run = {"run": str(error.run)} if isinstance(error, Stopped) and error.run else {}
            self._write_json({"error": error.what, "hint": error.hint, "exit_status": error.exit_code, **run})

    # -------------------------------------------------------------------------------------------- drawing

    def _picture(self, picture: SlicePicture) -> None:
        from deepscem_tui.render.slices import choose_style, compared, draw, labelled

        terminal = _is_terminal(self._out)
        colour = terminal and self._out_console().color_system is not None and not os.environ.get("NO_COLOR")
        encoding = getattr(self._out, "encoding", None)
        style = choose_style(picture.style, terminal=terminal, colour=colour, encoding=encoding)
        if picture.reference is None:
            scene = labelled(picture.image, picture.masks, picture.names, picture.aspect, picture.ignored)
        else:
            scene = compared(picture.image, picture.masks, picture.reference, picture.aspect, picture.ignored)
        width = picture.width or (self._out_console().width if terminal else 80)
        # Blocks that were asked for keep their colours in a pipe too (to `less -R`).
        forced = picture.style == "blocks" or None
        color_system = "truecolor" if forced else "auto"
        console = _rich(self._out, width=max(width, 20), force_terminal=forced, color_system=color_system)
        rows = max(8, console.height - 8) if terminal and picture.width is None else None  # with what is said below it
        console.print(draw(scene, style, width, rows), crop=False, soft_wrap=True)
        console.print()

    def _write_json(self, document: Any) -> None:
        text = json.dumps(finite(document), ensure_ascii=False, indent=2, default=str)
        self._print(self._out, "".join(_json_escaped(character) for character in text) + "\n")

    def _say(self, text: str, style: str = "") -> None:
        self._unless_gone(lambda: self._write_message(text, style))

    def _write_message(self, text: str, style: str) -> None:
        if (style and _is_terminal(self._err)) or (isinstance(self._bars, _Bars) and self._bars.drawing):
            from rich.text import Text

            self._err_console().print(Text(safe(text), style=style))
        else:
            self._print(self._err, safe(text) + "\n")

    @staticmethod
    def _print(stream: IO[str], text: str) -> None:
        stream.write(text)
        stream.flush()

    def _out_console(self) -> RichConsole:
        # A pipe has no width: never fold or cut what a script reads.
        return _rich(self._out, width=None if _is_terminal(self._out) else 1000)

    def _err_console(self) -> RichConsole:
        if self._rich_err is None:
            self._rich_err = _rich(self._err)
        return self._rich_err


class _Handler(logging.Handler):
    """Passes on what is logged."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._show = say

    def emit(self, record: logging.LogRecord) -> None:
        self._show(self.format(record))


class _Seconds(logging.Formatter):
    """Such as ``  0.123 s  datasets: open train.hdf5``."""

    def __init__(self, began: float) -> None:
        super().__init__()
        self._began = began

    def format(self, record: logging.LogRecord) -> str:
        module = record.name.rpartition(".")[2]
        return one_line(f"{record.created - self._began:7.3f} s  {module}: {record.getMessage()}")


def _rich(file: IO[str], **settings: Any) -> RichConsole:
    from rich.console import Console as RichConsole

    class Quitting(RichConsole):
        def on_broken_pipe(self) -> None:
            raise  # rich would exit with status 1

    return Quitting(file=file, highlight=False, **settings)


class _Bars:
    """Progress bars on a terminal."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, float]] = {}

    @property
    def drawing(self) -> bool:
        return self._progress is not None

    def update(self, task: str, done: float, total: float, unit: str, note: str) -> None:
        began, before = self._began.setdefault(task, (time.monotonic(), done))
        if task not in self._tasks:
            if done >= total:
                del self._began[task]
                return
            if time.monotonic() - began < 0.3:  # most tasks are over at once
                return
            if self._progress is None:
                self._progress = self._start()
            self._tasks[task] = self._progress.add_task(safe(task), total=total, unit="", note="")
        assert self._progress is not None
        seconds = time.monotonic() - began
        rate = f"{words.amount((done - before) / seconds, unit)}/s" if seconds > 0 else ""
        self._progress.update(self._tasks[task], completed=done, total=total, unit=rate, note=safe(note))
        if done >= total:
            self._began.pop(task)
            self._progress.stop_task(self._tasks.pop(task))

    def _start(self) -> Progress:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        text = {"markup": False}
        progress = Progress(
            TextColumn("{task.description}", **text),  # type: ignore[arg-type]
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[unit]}", **text),  # type: ignore[arg-type]
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", **text),  # type: ignore[arg-type]
            console=self._console(),
            refresh_per_second=5,
        )
        progress.start()
        return progress

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._tasks.clear()
        self._began.clear()


class _Lines:
    """A plain line now and then, for a log file."""

    def __init__(self, say: Any) -> None:
        self._say = say
        self._began: dict[str, tuple[float, float]] = {}
        self._said: dict[str, float] = {}

    def update(self, task: str, done: float, total: float, unit: str, note: str) -> None:
        now = time.monotonic()
        began, before = self._began.setdefault(task, (now, done))
        ended = done >= total
        due = now - self._said.get(task, began - _LINE_SECONDS + _SILENT_SECONDS) >= _LINE_SECONDS
        if due or (ended and task in self._said):
            self._said[task] = now
            rate = (done - before) / (now - began) if now > began else 0.0
            parts = [f"{words.amount(done, unit if unit == 'B' else '')} of {words.amount(total, unit)}"]
            if rate > 0:
                parts.append(f"{words.amount(rate, unit)}/s")
                parts.append(
                    f"{words.duration(now - began)} in all"
                    if ended
                    else f"{words.duration((total - done) / rate)} left"
                )
            if note:
                parts.append(note)
            self._say(f"{task}: {100 * done / total if total else 100:.0f} % ({', '.join(parts)})")
        if ended:
            self._began.pop(task, None)
            self._said.pop(task, None)

    def close(self) -> None:
        """Nothing is being drawn."""


def _duplicate(stream: IO[str]) -> IO[str]:
    """A stream of our own on the same file; the stream itself where it has no descriptor."""
    try:
        stream.flush()
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return stream
    return os.fdopen(
        descriptor, "w", encoding=getattr(stream, "encoding", None) or "utf-8", errors="backslashreplace", buffering=-1
    )


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty()


def _fact(key: str, value: Any) -> str:
    """Such as ``memory: 908.1 MiB`` for 952164880 ``memory_bytes``."""
    name = key.replace("_", " ")
    if isinstance(value, (int, float)) and "bytes" in name.split():
        return f"{name.replace('bytes', '').strip() or 'size'}: {words.amount(value, 'B')}"
    if isinstance(value, (int, float)) and key == "seconds":
        return f"time: {words.duration(value)}"
    return f"{name}: {cell(value)}"
