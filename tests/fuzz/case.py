"""One example: schemas that have nothing to do with each other, each with what is written to it, as SQL that a person can run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scripts.support.sides import BOTH, Side


class Transaction(NamedTuple):
    """What one side writes at once; a statement that PostgreSQL refuses is no write."""

    side: Side
    isolation: str
    statements: tuple[str, ...]


#: What a statement makes, and names.
_MAKES = re.compile(
    r'(?:TABLE|TYPE|DOMAIN|SEQUENCE|FUNCTION|INDEX|STATISTICS|CONSTRAINT|POLICY) ((?:"(?:[^"]|"")+"|\w+)(?:\."(?:[^"]|"")+"|\.\w+)?)'
)
#: Transactions of both sides that do not know of each other: each side's in order, and nothing travels before the last.
Round = tuple[Transaction, ...]


@dataclass(frozen=True)
class Island:
    """Tables that refer to each other and to no other island's. ``both`` is run on both sides first, ``source`` on the source. All tables of
    the case's schema move but those of ``left``."""

    both: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    rounds: tuple[Round, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """What its statements make, each name bare and as it stands quoted."""
        found = {name.split(".")[-1] for one in (*self.both, *self.source) for name in _MAKES.findall(one)}
        return found | {name.strip('"').replace('""', '"') for name in found}


@dataclass(frozen=True)
class Case:
    """What one chain carries."""

    schema: str = "public"
    islands: tuple[Island, ...] = field(default=())


def text(case: Case, title: str) -> str:
    """The case as a file of the corpus, islands one after the other."""
    head = {"schema": case.schema, "left": [name for island in case.islands for name in island.left]}
    lines = [*(f"-- {line}" for line in title.splitlines()), f"-- case: {json.dumps(head, ensure_ascii=False)}"]
    for island in case.islands:
        lines += ["-- island"]
        for name, statements in (("both", island.both), ("source", island.source)):
            lines += [f"-- {name}", *(f"{statement};" for statement in statements)] if statements else []
        for number, one in enumerate(island.rounds):
            lines.append(f"-- round {number + 1}")
            for transaction in one:
                lines.append(f"-- {transaction.side} writes, {transaction.isolation}")
                lines += [f"{statement};" for statement in transaction.statements]
    return "\n".join(lines) + "\n"


def parse(written: str) -> Case:
    """The case of a corpus file's text; see :func:`text`."""
    head: dict[str, object] = {}
    islands: list[dict[str, list[list[str]]]] = []
    statements: list[str] = []
    rounds: list[list[tuple[Side, str, list[str]]]] = []
    found: list[Island] = []
    parts: dict[str, list[str]] = {}

    def finish() -> None:
        made = tuple(tuple(Transaction(s, i, tuple(w)) for s, i, w in one) for one in rounds)
        found.append(Island(tuple(parts["both"]), tuple(parts["source"]), made, tuple(map(str, _list(head["left"])))))

    for line, comment in _statements(written):
        if not comment:
            statements.append(line)
        elif line.startswith("case: "):
            head = json.loads(line.removeprefix("case: "))
        elif line == "island":
            if parts:
                finish()
            parts, rounds = {"both": [], "source": []}, []
            islands.append({})
        elif line in ("both", "source") and parts:
            statements = parts[line]
        elif line.startswith("round ") and parts:
            rounds.append([])
        elif " writes, " in line and rounds:
            side, _, isolation = line.partition(" writes, ")
            statements = []
            rounds[-1].append((next(one for one in BOTH if one == side), isolation, statements))
    finish()
    return Case(str(head["schema"]), tuple(found))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _statements(written: str) -> Iterator[tuple[str, bool]]:
    """Statements without their semicolon, and the comments between them."""
    open_lines: list[str] = []
    for line in written.splitlines():
        if not open_lines and line.startswith("-- "):
            yield line.removeprefix("-- "), True
        elif line or open_lines:
            open_lines.append(line)
            if line.endswith(";"):
                yield "\n".join(open_lines).removesuffix(";"), False
                open_lines = []


def corpus() -> list[Path]:
    """The files of the corpus."""
    return sorted((Path(__file__).parent / "corpus").glob("*.sql"))


def together(cases: Iterable[Case]) -> dict[str, Case]:
    """One case a schema, with the islands of all."""
    found: dict[str, list[Island]] = {}
    for case in cases:
        found.setdefault(case.schema, []).extend(case.islands)
    return {schema: Case(schema, tuple(islands)) for schema, islands in found.items()}
