"""What a table gets after its rows: indexes, the constraints on top of them, foreign keys. And taking it away again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from psycopg import sql

from scripts.copy.slot import QUERIES
from scripts.database.catalog import Table
from scripts.database.connections import Connection
from scripts.schema import statements

Statement = sql.Composed | sql.SQL


@dataclass(frozen=True)
class Index:
    """An index to build; ``bytes`` is its size on the source."""

    statement: Statement
    bytes: int


@dataclass(frozen=True)
class Link:
    """A foreign key to a moved table (``references``): ``bind`` adds it unchecked in no time, ``check`` (None: the source has it
    unchecked too) checks the rows."""

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
    """What the target's tables (``theirs``) lack of the source's (``tables``), both :func:`scripts.schema.choice.chosen`.

    A primary or unique key is built as an index first: CREATE INDEX lets other indexes of the table be built beside it, which
    ALTER TABLE ADD PRIMARY KEY does not (PostgreSQL, ALTER TABLE: ADD table_constraint_using_index).
    """
    rows = source.execute(QUERIES["index_sizes"], ([table.oid for table in tables.values()],)).fetchall()
    sizes = {(int(oid), str(index)): int(size) for oid, index, size in rows}
    after = After()
    for name, table in tables.items():
        under = {index.constraint: index for index in table.indexes if index.constraint and not index.exclusion}
        for stage, item, statement in statements.after_rows(table, theirs[name]):
            size = sizes.get((table.oid, item), 0)
            if stage in ("link", "remark"):
                after.links.setdefault(name, []).append(_link(table, item, statement, stage == "remark"))
            elif stage == "index":
                after.indexes.setdefault(name, {})[item] = Index(statement, size)
            elif stage == "key" and item in under:
                after.indexes.setdefault(name, {})[item] = Index(sql.SQL(under[item].definition), size)
                after.keys.setdefault(name, []).append(_using(table, item))
                after.made.append(["index", name, item])
            else:
                after.keys.setdefault(name, []).append(statement)
            if stage in _TAKEN_AWAY:
                after.made.append([_TAKEN_AWAY[stage], name, item])
    return after


#: What kind each stage makes; the others go with their table's.
_TAKEN_AWAY: Mapping[str, str] = {"link": "link", "key": "key", "check": "key", "index": "index", "trigger": "trigger"}
_KINDS = {"p": "PRIMARY KEY", "u": "UNIQUE"}


def _using(table: Table, name: str) -> Statement:
    """The key made of the index of its name."""
    key = next(c for c in table.constraints if c.name == name)
    suffix = (" DEFERRABLE" if key.deferrable else "") + (" INITIALLY DEFERRED" if key.deferred else "")
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}{}").format(
        table.identifier, sql.Identifier(name), sql.SQL(_KINDS[key.kind]), sql.Identifier(name), sql.SQL(suffix)
    )


def _link(table: Table, name: str, statement: Statement, said: bool) -> Link:
    """``said``: the statement is no key but what is said of it."""
    key = next(item for item in table.foreign_keys if item.name == name)
    references = key.references[1] if key.references else ""
    if said or not key.valid:
        return Link(references, statement, None)
    check = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table.identifier, sql.Identifier(name))
    return Link(references, sql.SQL("{} NOT VALID").format(statement), check)


def take_away(target: Connection, schema: str, made: Iterable[list[str]]) -> None:
    """Drop what an unfinished copy of ours added (``made`` of its :class:`After`), as far as it is there."""
    order = {"trigger": 0, "link": 1, "key": 2, "index": 3}
    for kind, table, name in sorted(made, key=lambda item: order[item[0]]):
        if kind == "trigger":
            # IF EXISTS is about the trigger and its table.
            drop = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}")
            target.execute(drop.format(sql.Identifier(name), sql.Identifier(schema, table)))
        elif kind == "index":
            target.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(schema, name)))
        else:
            target.execute(
                sql.SQL("ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}").format(
                    sql.Identifier(schema, table), sql.Identifier(name)
                )
            )
