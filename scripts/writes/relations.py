"""What the rules need of the catalog beyond columns: keys both ways, unique claims, and columns that are decided together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from scripts.database import queries
from scripts.database.catalog import Table
from scripts.database.connections import Connection

QUERIES = queries.load("scripts.writes")


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key. ``child`` and ``parent`` are (schema, table); ``on_delete`` is pg_constraint.confdeltype;
    ``sets`` are the columns that SET NULL or SET DEFAULT sets; ``operators`` compare parent with child, column by column."""

    child: tuple[str, str]
    parent: tuple[str, str]
    on_delete: str
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    sets: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """A unique index or an exclusion constraint, of which no two rows may hold the same. ``expressions`` and ``condition`` are SQL
    over the table's columns; ``late``: checked at the end of a transaction."""

    name: str
    late: bool
    nulls_equal: bool
    condition: str | None
    expressions: tuple[str, ...]
    operators: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Relations:
    """One table as the rules see it. ``types`` are without length; ``exact`` columns are equal by `=` only when they are the same;
    ``shape`` counts all columns it ever had; ``groups`` are the sets of columns that are decided together."""

    table: Table
    types: Mapping[str, str]
    exact: frozenset[str]
    shape: int
    parents: tuple[ForeignKey, ...]
    children: tuple[ForeignKey, ...]
    claims: tuple[Claim, ...]
    key_operators: tuple[str, ...]
    key_late: bool
    groups: tuple[tuple[str, ...], ...] = field(default=())

    @property
    def settable(self) -> tuple[str, ...]:
        """Columns that an update may set: not the key, nothing computed, no GENERATED ALWAYS AS IDENTITY."""
        table = self.table
        return tuple(n for n in table.stored if n not in table.key and table.column(n).identity != "a")

    def at(self, key: str) -> sql.Composed:
        """The condition of the row `t` whose key is the text that the SQL ``key`` gives."""
        return sql.SQL(" AND ").join(
            sql.SQL("t.{} {} ({}::jsonb ->> {})::{}").format(
                sql.Identifier(name), sql.SQL(operator), sql.SQL(key), sql.Literal(place), sql.SQL(self.types[name])
            )
            for place, (name, operator) in enumerate(zip(self.table.key, self.key_operators, strict=True))
        )

    @property
    def referenced(self) -> tuple[str, ...]:
        """Columns outside the key that other tables refer to: a delete's record holds them."""
        found = {name for key in self.children for name in key.parent_columns} - set(self.table.key)
        return tuple(column.name for column in self.table.columns if column.name in found)


def together(groups: Iterable[Sequence[str]], columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The sets of ``columns`` that are decided together, disjoint: groups that share a column are one. Pure."""
    sets: list[set[str]] = []
    for group in groups:
        new = set(group) & set(columns)
        if len(new) < 2:
            continue
        for old in [one for one in sets if one & new]:
            sets.remove(old)
            new |= old
        sets.append(new)
    return tuple(sorted(tuple(name for name in columns if name in one) for one in sets))


def read(
    connection: Connection, tables: Mapping[str, Table], column_groups: Sequence[Sequence[str]]
) -> dict[str, Relations]:
    """The relations of ``tables`` on this side, by table name. ``column_groups`` are the configured ones."""
    oids = [table.oid for table in tables.values()]
    columns = connection.execute(QUERIES["columns"], (oids,)).fetchall()
    shapes: dict[int, int] = dict(connection.execute(QUERIES["shapes"], (oids,)).fetchall())
    keys = connection.execute(QUERIES["foreign_keys"], {"oids": oids}).fetchall()
    claims = connection.execute(QUERIES["claims"], (oids,)).fetchall()
    checks = connection.execute(QUERIES["checks"], (oids,)).fetchall()
    found = {}
    for name, table in tables.items():
        oid = table.oid
        parents = tuple(_key(row) for row in keys if row[0] == oid)
        own = [row for row in claims if row[0] == oid]
        primary = next((row for row in own if row[2]), None)
        groups = [*column_groups, *(row[1] for row in checks if row[0] == oid), *(key.columns for key in parents)]
        found[name] = Relations(
            table=table,
            types={row[1]: row[2] for row in columns if row[0] == oid},
            exact=frozenset(row[1] for row in columns if row[0] == oid and row[3]),
            shape=int(shapes[oid]),
            parents=parents,
            children=tuple(_key(row) for row in keys if row[1] == oid),
            claims=tuple(
                Claim(row[1], row[3], row[4], row[5], tuple(row[6]), tuple(row[7]), tuple(row[8]))
                for row in own
                if not row[2]
            ),
            key_operators=tuple(primary[7]) if primary else tuple("OPERATOR(pg_catalog.=)" for _ in table.key),
            key_late=bool(primary and primary[3]),
            groups=together(groups, [n for n in table.stored if n not in table.key]),
        )
    return found


def _key(row: Sequence[object]) -> ForeignKey:
    _, _, schema, child, parent_schema, parent, action, columns, parent_columns, sets, operators = row
    return ForeignKey(
        child=(str(schema), str(child)),
        parent=(str(parent_schema), str(parent)),
        on_delete=str(action),
        columns=tuple(columns),  # type: ignore[arg-type]
        parent_columns=tuple(parent_columns),  # type: ignore[arg-type]
        sets=tuple(sets),  # type: ignore[arg-type]
        operators=tuple(operators),  # type: ignore[arg-type]
    )


def names(columns: Iterable[str], before: str = "", after: str = "") -> sql.Composed:
    """``before`` + column + ``after``, joined with commas."""
    one = sql.SQL(f"{before}{{}}{after}")
    return sql.SQL(", ").join(one.format(sql.Identifier(name)) for name in columns)


def literals(values: Iterable[str]) -> sql.Composed:
    """A text[] constant."""
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(sql.Literal(value) for value in values))
