"""Repair of rows that differ: the winning side sends its row once more, as a write of its own that travels and is decided as any other.

A write of somebody else that meets the repair is kept: before the repair gets its number both rows are held and must still be as
they were compared, and the other side's clock is moved past that number, so that what is written there afterwards ranks above it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from scripts.database import helper_schema
from scripts.database.catalog import Table
from scripts.database.connections import Connection
from scripts.database.sides import both
from scripts.support.events import Step, VerifyEvent
from scripts.support.order import in_order
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side, other
from scripts.verify.bindings import Bindings
from scripts.verify.bindings import Row as Name
from scripts.verify.hash import as_text, shared
from scripts.verify.rows import Difference, Values
from scripts.writes import install, record, relations
from scripts.writes.relations import Relations, literals

#: Rows that one transaction sends: their locks keep the live application waiting for some milliseconds.
BATCH = 200
#: Moves a side's clock past a number, by nextval alone, as what arrives does (scripts/writes/apply.sql).
_CLOCK_PAST = "SELECT max(nextval('task_migration.clock')) FROM task_migration.clock, generate_series(1, (%s::bigint - last_value) / 2 + 1)"


@dataclass(frozen=True)
class Repaired:
    """The rows sent; what a person has to decide of others, a sentence each; and what follows rows that went, as its key says."""

    sent: list[Name]
    undecided: list[str]
    followed: list[str]


def repair(
    settings: Settings,
    tables: dict[str, Table],
    theirs: dict[str, Table],
    differences: dict[str, list[Difference]],
    rule: str,
) -> Repaired:
    """Have the winner of each row send it again, or its deletion. They arrive with the next fence.

    ``tables`` are as the source's catalog describes them, ``theirs`` as the target's; columns that one lacks are left out. A row that
    was written since it was compared is left alone, with those that need it, and so is one that cannot stand on the other side
    (:mod:`scripts.verify.bindings`). In a transaction deletions go first, children before their parents, then rows, parents first.
    """
    done = Repaired([], [], [])
    with both(settings, "repair", "repair", install.LOCK_MS) as (source, target):
        sides: dict[Side, Connection] = {"source": source, "target": target}
        found = relations.of(tables, settings.config.column_groups)
        rows = {
            (table.name, difference.key): _Row(sides, found[table.name], shared(table, theirs[table.name]), difference)
            for table in parents_first(tables.values())
            for difference in differences.get(table.name, [])
        }
        winners = {name: row.winner(rule) for name, row in rows.items()}
        for best in BOTH:
            sent = {name: row for name, row in rows.items() if winners[name] == best}
            bound = Bindings(
                sides,
                {"source": tables, "target": theirs},
                best,
                coming={name: row.difference for name, row in sent.items() if not row.is_deleted(best)},
                leaving={name for name, row in sent.items() if row.is_deleted(best)},
                vacating={
                    name for name, row in sent.items() if set(row.difference.columns) - set(row.relations.settable)
                },
            )
            bound.look()
            done.undecided.extend(why for why in bound.refused.values() if why and why not in done.undecided)
            done.followed.extend(bound.followed())
            for batch in _batches(sent, bound, best):
                # Whoever holds one of the rows is waited for shortly, again and again.
                done.sent.extend(helper_schema.with_lock_retries(batch.send, "repairing rows"))
    counts = Counter(name for name, _ in done.sent)
    settings.journal.record(
        Step.VERIFY,
        VerifyEvent.REPAIRED,
        rule=rule,
        rows={name: counts[name] for name in differences},
        undecided=len(done.undecided),
    )
    return done


def parents_first(tables: Iterable[Table]) -> list[Table]:
    """The tables ordered so that a referenced one comes before those that refer to it; cycles in the given order."""
    known = {table.full_name: table for table in tables}
    order = in_order(
        {name: [key.references for key in table.foreign_keys if key.references] for name, table in known.items()}
    )
    return [known[name] for name in order]


@dataclass(frozen=True, eq=False)
class _Row:
    """A row that differs, with a session on each side."""

    sides: dict[Side, Connection]
    relations: Relations
    #: The columns that both sides have.
    names: Sequence[str]
    difference: Difference

    @property
    def table(self) -> Table:
        """The row's table, as the source has it."""
        return self.relations.table

    def winner(self, rule: str) -> Side:
        """Whose row is right by ``rule``; of two that have no later updated_at the source's."""
        if rule in ("source", "target"):
            return "source" if rule == "source" else "target"
        if self.difference.kind != "different":
            return "source" if self.difference.kind == "missing_on_target" else "target"
        return self._newer() or "source"

    def is_deleted(self, best: Side) -> bool:
        """Whether the winner's version is that there is no such row."""
        return self.difference.kind == ("missing_on_source" if best == "source" else "missing_on_target")

    def unchanged(self, side: Side) -> bool:
        """Whether the side's row, held until its transaction ends, is as it was compared. A row that is not there cannot be held."""
        seen = self.difference.source_seen if side == "source" else self.difference.target_seen
        query = sql.SQL("SELECT t.xmin::text FROM {} t WHERE {} FOR NO KEY UPDATE")
        row = self._row(side, query.format(self.table.identifier, self._where))
        return (row[0] if row else None) == (seen[0] if seen else None)

    def leave(self, best: Side) -> sql.Composed:
        """INSERT of the record that deletes the row, with what other tables refer to of it."""
        here = best if self.difference.kind == "different" else other(best)
        values = self._values(here, self.relations.referenced) or {}
        named = [name for name in self.relations.referenced if name in values]
        given: sql.Composable = sql.SQL("NULL")
        if named:
            given = sql.SQL("json_object({}, {})::text").format(
                literals(named), sql.Literal([values[name] for name in named]) + sql.SQL("::text[]")
            )
        return self._record(best, "delete", given, sql.SQL("(SELECT {}) t").format(self._key_values))

    def come(self, best: Side, again: bool) -> sql.Composed:
        """INSERT of the record with the row: an edit of what differs where the other side has the row, so that no row comes back that
        somebody deletes there; the whole row where it has none, or lets go of it before it comes ``again``."""
        insert = again or self.difference.kind != "different"
        names = [name for name in self.names if insert or name in self.difference.columns]
        texts = sql.SQL(", ").join(as_text(self.table.column(name)) for name in names)
        vals = sql.SQL("json_object({}, ARRAY[{}]::text[])::text").format(literals(names), texts)
        at = sql.SQL("{} t WHERE {}").format(self.table.identifier, self._where)
        return self._record(best, "insert" if insert else "update", vals, at)

    def _record(self, best: Side, kind: str, vals: sql.Composable, source: sql.Composable) -> sql.Composed:
        return sql.SQL(
            "INSERT INTO {} (v, table_name, key, kind, vals, cause) SELECT nextval('task_migration.clock'), {}, {}, {}, {}, {} FROM {} "
            "RETURNING v"
        ).format(
            record.table(best),
            sql.Literal(self.table.name),
            record.key_of(self.table, "t"),
            sql.Literal(kind),
            vals,
            sql.Literal(record.REPAIR),
            source,
        )

    @property
    def _key_values(self) -> sql.Composed:
        pairs = zip(self.table.key, self.difference.key, strict=True)
        return sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(self._literal(name, value), sql.Identifier(name)) for name, value in pairs
        )

    @property
    def _where(self) -> sql.Composed:
        return record.at(self.table, [sql.Literal(value) + sql.SQL("::text") for value in self.difference.key])

    def _literal(self, name: str, value: str | None) -> sql.Composable:
        # A literal, not a parameter: with parameters a percent sign in a name would count as one.
        return record.value_of(self.table.column(name), sql.Literal(value) + sql.SQL("::text"))

    def _newer(self) -> Side | None:
        """The side whose updated_at is later; None when that does not tell."""
        if "updated_at" not in self.table.stored:
            return None
        seen = [self._values(side, ("updated_at",)) for side in self.sides]
        ours, theirs = (values["updated_at"] if values else None for values in seen)
        if ours is None or theirs is None or ours == theirs:
            return None
        # The server compares: it knows infinity, years before Christ and whatever type the column has.
        both = (self._literal("updated_at", ours), self._literal("updated_at", theirs))
        try:
            row = self._row("source", sql.SQL("SELECT {} > {}").format(*both))
        except psycopg.errors.UndefinedFunction:  # of a type that has no order
            return None
        return "source" if row and row[0] else "target"

    def _values(self, side: Side, names: Sequence[str]) -> Values | None:
        texts = sql.SQL(", ").join(as_text(self.table.column(name)) for name in names)
        query = sql.SQL("SELECT ARRAY[{}]::text[] FROM {} t WHERE {}").format(texts, self.table.identifier, self._where)
        row = self._row(side, query)
        return dict(zip(names, row[0], strict=True)) if row else None

    def _row(self, side: Side, query: sql.Composed) -> TupleRow | None:
        return self.sides[side].execute(query).fetchone()


@dataclass(frozen=True)
class _Batch:
    """Rows that one side sends in one transaction, in groups of those that need each other, parents first; ``again``: those that go
    before they come."""

    groups: Sequence[Sequence[_Row]]
    best: Side
    again: Collection[_Row]

    def send(self) -> list[Name]:
        """Send the groups whose rows all are as they were compared; returns the rows."""
        first = self.groups[0][0]
        worst = other(self.best)
        here, there = first.sides[self.best], first.sides[worst]
        with there.transaction(), here.transaction():
            for table in sorted(
                {row.table.name: row.table.identifier for row in self._deleted(chain(*self.groups))}.items()
            ):
                # What is not there cannot be held, but who would insert it waits for this.
                here.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table[1]))
            rows = [row for group in self.groups if all(map(self._unchanged, group)) for row in group]
            numbers = [here.execute(statement).fetchone() for statement in self._statements(rows)]
            newest = max((int(number[0]) for number in numbers if number), default=None)
            if newest is not None:
                there.execute(_CLOCK_PAST, (newest,))
        return [(row.table.name, row.difference.key) for row in rows]

    def _unchanged(self, row: _Row) -> bool:
        return row.unchanged(other(self.best)) and row.unchanged(self.best)

    def _deleted(self, rows: Iterable[_Row]) -> list[_Row]:
        return [row for row in rows if row.is_deleted(self.best)]

    def _statements(self, rows: Sequence[_Row]) -> Iterator[sql.Composed]:
        """Rows that claim what others of them hold go first, and come again."""
        gone = self._deleted(rows)
        yield from (row.leave(self.best) for row in reversed(rows) if row in gone or row in self.again)
        yield from (row.come(self.best, row in self.again) for row in rows if row not in gone)


def _batches(rows: Mapping[Name, _Row], bound: Bindings, best: Side) -> Iterator[_Batch]:
    """Of ``rows``, given parents first, those that are sent: :data:`BATCH` at a time, and a group whole."""
    order = {name: place for place, name in enumerate(rows)}
    again = {rows[name] for name in bound.vacating}
    groups = sorted(
        (sorted(group, key=order.__getitem__) for group in bound.groups()), key=lambda group: order[group[0]]
    )
    batch: list[list[Name]] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > BATCH:
            yield _Batch([[rows[name] for name in one] for one in batch], best, again)
            batch = []
        batch.append(group)
    if batch:
        yield _Batch([[rows[name] for name in one] for one in batch], best, again)
