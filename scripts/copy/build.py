"""What a table gets after its rows: indexes, the constraints on top of them, foreign keys. And taking it away again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from scripts.copy.slot import QUERIES
from scripts.database.catalog import Table
from scripts.database.connections import Connection
from scripts.schema import statements

Statement = sql.Composed | sql.SQL
_NOT_VALID = " NOT VALID"


@dataclass(frozen=True)
class Index:
    """An index to build; ``bytes`` is its size on the source."""

    statement: Statement
    bytes: int


@dataclass(frozen=True)
class Link:
    """A foreign key between moved tables, which are of one schema: ``references`` is the name; ``bind`` adds it unchecked in no time, ``check`` (None: the source has it unchecked too) checks the rows."""

    references: str
    bind: Statement
    check: Statement | None


@dataclass(frozen=True)
class After:
    """By table, what the target still lacks. ``made`` names all of it, so that another run can take it away."""

    indexes: dict[str, dict[str, Index]] = field(default_factory=dict)
    keys: dict[str, list[Statement]] = field(default_factory=dict)
    links: dict[str, list[Link]] = field(default_factory=dict)
    made: list[list[str]] = field(default_factory=list)


def read(source: Connection, tables: Mapping[str, Table], theirs: Mapping[str, Table]) -> After:
    """What the target's tables (``theirs``) lack of the source's (``tables``).

    A primary or unique key is built as an index first: CREATE INDEX lets other indexes of the table be built beside it, which
    ALTER TABLE ADD PRIMARY KEY does not (PostgreSQL, ALTER TABLE: ADD table_constraint_using_index).
    """
    owned, sizes = _indexes(source, tables)
    after = After()
    moved = {table.full_name for table in tables.values()}
    for name, table in tables.items():
        for stage, item, statement in statements.after_rows(table, theirs[name], moved):
            if stage == 2:
                after.links.setdefault(name, []).append(_link(table, item, statement))
                after.made.append(["link", name, item])
            elif stage == 0 and (name, item) in owned:
                definition, suffix = owned[name, item]
                after.indexes.setdefault(name, {})[item] = Index(sql.SQL(definition), sizes.get((name, item), 0))
                after.keys.setdefault(name, []).append(
                    sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}{}").format(
                        table.identifier,
                        sql.Identifier(item),
                        sql.SQL(_KINDS[next(c.kind for c in table.constraints if c.name == item)]),
                        sql.Identifier(item),
                        sql.SQL(suffix),
                    )
                )
                after.made.extend([["key", name, item], ["index", name, item]])
            elif stage == 0:
                after.keys.setdefault(name, []).append(statement)
                after.made.append(["key", name, item])
            else:
                after.indexes.setdefault(name, {})[item] = Index(statement, sizes.get((name, item), 0))
                after.made.append(["index", name, item])
    return after


_KINDS = {"p": "PRIMARY KEY", "u": "UNIQUE"}


def _indexes(
    source: Connection, tables: Mapping[str, Table]
) -> tuple[dict[tuple[str, str], tuple[str, str]], dict[tuple[str, str], int]]:
    """The source's indexes under primary and unique keys (definition, suffix of the constraint), and all indexes' sizes."""
    rows = source.execute(QUERIES["indexes"], ([table.oid for table in tables.values()],)).fetchall()
    names = {table.oid: name for name, table in tables.items()}
    owned, sizes = {}, {}
    for oid, index, size, definition, kind, deferrable, deferred in rows:
        sizes[names[oid], str(index)] = int(size)
        if kind:
            suffix = (" DEFERRABLE" if deferrable else "") + (" INITIALLY DEFERRED" if deferred else "")
            owned[names[oid], str(index)] = (str(definition), suffix)
    return owned, sizes


def _link(table: Table, name: str, statement: Statement) -> Link:
    constraint = next(item for item in table.constraints if item.name == name and item.kind == "f")
    unchecked = constraint.definition.endswith(_NOT_VALID)
    check = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table.identifier, sql.Identifier(name))
    return Link(
        references=constraint.references[1] if constraint.references else "",
        bind=statement if unchecked else sql.SQL("{}{}").format(statement, sql.SQL(_NOT_VALID)),
        check=None if unchecked else check,
    )


def take_away(target: Connection, schema: str, made: Iterable[list[str]]) -> None:
    """Drop what an unfinished copy of ours added (``made`` of its :class:`After`), as far as it is there."""
    order = {"link": 0, "key": 1, "index": 2}
    for kind, table, name in sorted(made, key=lambda item: order[item[0]]):
        if kind == "index":
            target.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(schema, name)))
        else:
            target.execute(
                sql.SQL("ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}").format(
                    sql.Identifier(schema, table), sql.Identifier(name)
                )
            )


def referenced(target: Connection, theirs: Mapping[str, Table]) -> set[str]:
    """Tables that a foreign key on the target refers to: they cannot be emptied alone (PostgreSQL, TRUNCATE)."""
    rows: list[Any] = target.execute(
        "SELECT DISTINCT confrelid FROM pg_constraint WHERE contype = 'f' AND confrelid = ANY(%s)",
        ([table.oid for table in theirs.values()],),
    ).fetchall()
    found = {int(row[0]) for row in rows}
    return {name for name, table in theirs.items() if table.oid in found}
