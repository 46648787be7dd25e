"""What a person reads of a document: first the verdict, then what matters as tables and findings, last what to type next.

Rendered for the terminal's width, 80 columns where there is none. Colour only on a terminal, none with NO_COLOR.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

State = Literal["good", "warning", "bad", "plain"]
STYLES: dict[State, str] = {"good": "bold green", "warning": "bold yellow", "bad": "bold red", "plain": "bold"}
#: The width that every text fits, columns.
WIDTH = 80


@dataclass(frozen=True)
class View:
    """One command's answer: ``verdict`` says what is so now, ``parts`` what it rests on, ``next`` what to type."""

    verdict: str
    state: State
    parts: Sequence[RenderableType] = ()
    #: A command, or a sentence where there is none to type; left out only where nothing follows.
    next: str | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table. The unit of its numbers stands in its title: ``size MiB``."""

    title: str
    number: bool = False


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[object]], title: str | None = None) -> Table | Group:
    """Rows under aligned titles: numbers to the right with thousands apart, text folded rather than cut, None as ``-``."""
    heads = [Column(one) if isinstance(one, str) else one for one in columns]
    made = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for head in heads:
        made.add_column(head.title, justify="right" if head.number else "left", overflow="fold", no_wrap=head.number)
    for row in rows:
        made.add_row(*(Text(cell(value)) for value in row))
    # rich would fold a title of its own to the table's width.
    return Group(Text(title), made) if title else made


def cell(value: object) -> str:
    """One value as people read it: ``12,345``, ``1.25``, ``yes``, ``-`` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def finding(state: State, text: str, remedy: str | None = None) -> RenderableType:
    """One finding with its limit, and below it, set in, the remedy."""
    mark = {"good": "ok", "warning": "warn", "bad": "FAIL", "plain": "-"}[state]
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=4)
    line.add_column(overflow="fold")
    line.add_row(Text(mark, style=STYLES[state]), Text(text))
    if remedy:
        line.add_row("", Text(f"remedy: {remedy}"))
    return line


def facts(*pairs: tuple[str, object], indent: int = 0) -> Table:
    """Names, and beside each its value, folded where it is long."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(" " * indent + name, Text(cell(value)))
    return made


def verbatim(text: str) -> Text:
    """Text to be copied out, such as SQL: its lines stay as they are, however long, below an empty one."""
    return Text("\n" + text.rstrip("\n"), no_wrap=True)


def mebibytes(count: int) -> float:
    """Bytes as MiB, for a column that says so."""
    return count / 2**20


def drawn(view: View) -> Group:
    """All of a view."""
    parts = [Padding(part, (1, 0, 0, 0)) if isinstance(part, Table | Group) else part for part in view.parts]
    following = [Text(f"Next: {view.next}", style="bold")] if view.next else []
    return Group(Text(view.verdict, style=STYLES[view.state]), *parts, *following)


def render(view: View, console: Console) -> None:
    """Print a view to ``console``."""
    for part in drawn(view).renderables:
        console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))


class _Output(Console):
    """Standard output. That its reader has ended is an error as any other of it, not a silent end with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def show(view: View) -> None:
    """Print a view on standard output. Raises OSError when that takes nothing."""
    console = _Output(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    render(view, console)
