"""How commands answer: one JSON object per call for programs; short lines, tables and progress for people."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, Protocol

import typer

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object, for programs.")]
FAILED = 1
"""Exit code of a command that ran and has bad news: a failed check, a job that could not be changed."""
PIPED_WIDTH = 1_000
# What a terminal would obey instead of showing, the marks that turn the direction of text among them.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def answer(facts: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the facts as JSON, or the text."""
    typer.echo(json.dumps(facts, default=_as_json) if as_json else text)


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)


def show(value: object, *, most: int | None = None) -> str:
    """A value for people: local times to the second, nothing for None, no control characters, at most `most` long."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return show_duration(value.total_seconds())
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    text = _UNSHOWABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), str(value))
    return text if most is None or len(text) <= most else text[: most - 1] + "…"


def show_lines(text: str) -> str:
    """A text of several lines, a traceback for instance, without control characters."""
    return "\n".join(show(line.replace("\t", "    ")) for line in text.splitlines())


def show_duration(seconds: float) -> str:
    """The two largest units: 3d 4h, 5m 12s, 0.25s."""
    if abs(seconds) < 60:
        return f"{seconds:.3g}s"
    parts = []
    rest = int(abs(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if seconds < 0 else "") + " ".join(parts[:2])


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], *, empty: str) -> str:
    """Rows under the headings of `columns` (key to heading), wrapped to the terminal; `empty` when there are none."""
    if not rows:
        return empty
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for key, heading in columns.items():
        numbers = all(isinstance(row.get(key), int | float | None) for row in rows)
        made.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(show(row.get(key))) for key in columns))
    page = io.StringIO()
    terminal = _terminal()
    Console(file=page, width=terminal or PIPED_WIDTH, force_terminal=terminal is not None).print(made)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _terminal() -> int | None:
    """The width of the terminal that reads standard output; None when a program reads it."""
    import shutil
    import sys

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def pairs(facts: Mapping[str, Any]) -> str:
    """Names and values, one pair a line, aligned; what is None is left out."""
    told = {name: show(value) for name, value in facts.items() if value is not None}
    width = max(map(len, told), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in told.items())


class Bar(Protocol):
    """A progress bar, moved by how much is done."""

    def __call__(self, done: int) -> None: ...


@contextmanager
def progress(title: str, total: int) -> Iterator[Bar]:
    """A bar on standard error while a block works; nothing where no terminal reads it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(title, total=total)
        yield lambda done: shown.update(task, completed=done)


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person on standard error unless `yes`; anything but a yes ends the command with exit code 1."""
    if not yes:
        typer.confirm(question, abort=True, err=True)
