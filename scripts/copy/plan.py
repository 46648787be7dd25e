"""What a copy has to do, and in which order: pure decisions, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["rows", "index", "key", "bind", "links", "statistics"]
#: Kind, table, and what of it: names of tables hold any character, so they are never glued together.
Name = tuple[Kind, str, str]

#: Below this many pages (8 KiB each) a table is one part.
SMALLEST_PART_PAGES = 1024
#: A table up to this share of what one job has to move is loaded whole and frozen; beyond it, one session would still load
#: long after the others have nothing left to do.
WHOLE_SHARE = 1.5
#: Rows come first, as they hold a snapshot open on the live source; then what others wait for.
_ORDER: Mapping[Kind, int] = {"rows": 0, "key": 1, "bind": 1, "index": 2, "links": 2, "statistics": 3}


@dataclass(frozen=True)
class Size:
    """How large a table is on the source: pages of its heap, and bytes with what is stored out of line."""

    pages: int
    bytes: int


@dataclass(frozen=True)
class Part:
    """The pages ``first`` to ``last`` (exclusive; None: to the end) of a table; ``whole`` when it is all of the table."""

    table: str
    first: int
    last: int | None
    bytes: int
    whole: bool


@dataclass(frozen=True)
class Step:
    """One piece of work. ``needs`` are the steps that must be done before; ``cost`` is in bytes, to order by."""

    name: Name
    cost: int = 0
    needs: frozenset[Name] = frozenset()
    part: Part | None = None

    @property
    def kind(self) -> Kind:
        """What is to be done."""
        return self.name[0]

    @property
    def table(self) -> str:
        """For which table."""
        return self.name[1]


def cut(sizes: Mapping[str, Size], jobs: int) -> list[Part]:
    """Cut the tables into parts, the largest first; a table that is not out of proportion stays whole.

    A whole table is loaded by one session, which can freeze its rows (PostgreSQL, COPY: FREEZE needs a table truncated in the
    same transaction). A table that would keep one job busy long after the others is cut into page ranges instead.

    Rows visible to the snapshot do not move between pages while locks keep rewrites out, so page ranges hold each row once,
    with or without gaps in the keys. The last part is open: pages added since hold no visible row, or hold it.
    """
    fair = max(1.0, sum(size.pages for size in sizes.values()) / jobs)
    parts: list[Part] = []
    for table, size in sizes.items():
        pages = max(size.pages, 1)
        # Two parts a job even out differences between parts.
        step = pages if pages <= fair * WHOLE_SHARE else max(SMALLEST_PART_PAGES, -(-pages // (jobs * 2)))
        starts = list(range(0, pages, step))
        for start in starts:
            last = None if start == starts[-1] else start + step
            share = ((last or pages) - start) / pages
            parts.append(Part(table, start, last, int(size.bytes * share), len(starts) == 1))
    return sorted(parts, key=lambda part: -part.bytes)


def steps(
    parts: Sequence[Part],
    indexes: Mapping[str, Mapping[str, int]],
    keyed: Collection[str],
    links: Mapping[str, Collection[str]],
) -> list[Step]:
    """All steps of a copy.

    Args:
        indexes: by table, the indexes to build and their sizes in bytes.
        keyed: tables that get constraints on top of those indexes.
        links: by table, the moved tables that its new foreign keys refer to.
    """
    found = [Step(("rows", part.table, str(part.first)), part.bytes, part=part) for part in parts]
    whole: dict[str, int] = {}
    for part in parts:
        whole[part.table] = whole.get(part.table, 0) + part.bytes
    ready: dict[str, frozenset[Name]] = {}
    for table in whole:
        last = frozenset(step.name for step in found if step.kind == "rows" and step.table == table)
        builds = [Step(("index", table, name), size, last) for name, size in indexes.get(table, {}).items()]
        last = frozenset(step.name for step in builds) or last
        found += builds
        if table in keyed:
            # ADD CONSTRAINT shuts everybody out, so it waits until no index of the table is being built.
            found.append(Step(("key", table, ""), 0, last))
            last = frozenset({found[-1].name})
        ready[table] = last
        # ANALYZE and CREATE INDEX shut each other out.
        found.append(Step(("statistics", table, ""), whole[table], last))
    for table, others in links.items():
        if table not in whole or not others:
            continue
        # Rows of the table itself are checked against its statistics; those of the others may still be gathered.
        needs = frozenset[Name]({("statistics", table, "")}).union(*(ready[name] for name in others if name in ready))
        found.append(Step(("bind", table, ""), 0, needs))
        found.append(Step(("links", table, ""), whole[table], frozenset({("bind", table, "")})))
    return found


@dataclass
class Queue:
    """Which step comes next. Not safe for threads: its user locks."""

    todo: list[Step]
    running: set[Name] = field(default_factory=set)
    done: set[Name] = field(default_factory=set)

    def take(self) -> Step | None:
        """The most urgent step that may start now, or None: wait for one that runs, or stop when :attr:`finished`."""
        ready = [step for step in self.todo if step.needs <= self.done]
        if not ready:
            return None
        step = min(ready, key=lambda step: (_ORDER[step.kind], -step.cost, step.name))
        self.todo.remove(step)
        self.running.add(step.name)
        return step

    def finish(self, step: Step) -> None:
        """``step`` was done."""
        self.running.remove(step.name)
        self.done.add(step.name)

    @property
    def finished(self) -> bool:
        """Whether everything was done."""
        return not self.todo and not self.running

    def open(self, kind: Kind, table: str | None = None) -> bool:
        """Whether steps of this kind (of this table) wait or run."""
        names = [step.name for step in self.todo] + list(self.running)
        return any(name[0] == kind and table in (None, name[1]) for name in names)

    def spare(self, jobs: int) -> int:
        """How many jobs have nothing to do now: so many parallel workers may help with an index."""
        ready = sum(step.needs <= self.done for step in self.todo)
        return max(0, jobs - len(self.running) - ready)
