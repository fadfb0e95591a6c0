"""Where words go: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

NOT_A_DEVICE = "Research software, not a medical device."


def print_error(message: str) -> None:
    """Print one line that begins with "error:" on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def say(message: str) -> None:
    """Print a line about the work, not a result, on standard error."""
    print(message, file=sys.stderr)


def print_json(row: dict[str, Any]) -> None:
    """Print one result as one line of JSON."""
    print(json.dumps(row, ensure_ascii=False), flush=True)


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table that fits the terminal; plain, whole columns where the output is not a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False).print(table)


@contextmanager
def progress(description: str, total: int, in_percent: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left on a terminal; yield what advances it by so many steps."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    count = TaskProgressColumn() if in_percent else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Show on a terminal that something is going on which has no steps."""
    from rich.console import Console

    with Console(stderr=True).status(description):
        yield


def percent(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Return a callback for (steps done, steps in all) that advances a bar of 100."""
    shown = 0

    def count(done: int, total: int) -> None:
        nonlocal shown
        advance(100 * done // total - shown)
        shown = 100 * done // total

    return count
