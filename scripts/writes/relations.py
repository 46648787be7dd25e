"""What the rules need beyond the catalog: columns that are decided together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from scripts.database.catalog import Index, Table


@dataclass(frozen=True)
class Relations:
    """One table as the rules see it; ``groups`` are the sets of columns that are decided together."""

    table: Table
    groups: tuple[tuple[str, ...], ...] = ()

    @property
    def key_late(self) -> bool:
        """Whether the key may be checked at the end of a transaction only."""
        return bool(self.table.primary and self.table.primary.late)

    @cached_property
    def settable(self) -> tuple[str, ...]:
        """Columns that an update may set: not the key, nothing computed, no GENERATED ALWAYS AS IDENTITY."""
        table = self.table
        return tuple(n for n in table.stored if n not in table.key and table.column(n).identity != "a")

    @property
    def alike(self) -> bool:
        """Whether `=` calls keys the same that are not written the same, as 1.0 and 1.00 are: two rows, of which one can be there."""
        return not all(self.table.column(name).exact for name in self.table.key)

    @property
    def claims(self) -> tuple[Index, ...]:
        """What no two rows may both hold, the key among it where it is more than what a row is told by."""
        table = self.table
        return (table.primary, *table.claims) if self.alike and table.primary else table.claims

    def at(self, key: str) -> sql.Composed:
        """The condition of the row `t` whose key is the text that the SQL ``key`` gives."""
        table = self.table
        elements = table.primary.elements if table.primary else ()
        return sql.SQL(" AND ").join(
            sql.SQL(
                "t.{0} {1} ({2}::jsonb ->> {3})::{4}"
                + ("" if table.column(name).exact else " AND t.{0}::text = {2}::jsonb ->> {3}")
            ).format(
                sql.Identifier(name),
                sql.SQL(str(element.operator)),
                sql.SQL(key),
                sql.Literal(place),
                sql.SQL(table.column(name).cast),
            )
            for place, (name, element) in enumerate(zip(table.key, elements, strict=True))
        )

    @property
    def referenced(self) -> tuple[str, ...]:
        """Columns outside the key that other tables refer to: a delete's record holds them."""
        found = {name for key in self.table.children for name in key.references_columns} - set(self.table.key)
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


def of(tables: Mapping[str, Table], column_groups: Sequence[Sequence[str]]) -> dict[str, Relations]:
    """The relations of ``tables``, by table name. ``column_groups`` are the configured ones; the columns of a check, and of a foreign
    key, are decided together as well. Pure."""
    found = {}
    for name, table in tables.items():
        groups = [*column_groups, *(one.columns for one in table.constraints if one.kind in ("c", "f"))]
        found[name] = Relations(table, together(groups, [n for n in table.stored if n not in table.key]))
    return found


def names(columns: Iterable[str], before: str = "", after: str = "") -> sql.Composed:
    """``before`` + column + ``after``, joined with commas."""
    one = sql.SQL(f"{before}{{}}{after}")
    return sql.SQL(", ").join(one.format(sql.Identifier(name)) for name in columns)


def literals(values: Iterable[str]) -> sql.Composed:
    """A text[] constant."""
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(sql.Literal(value) for value in values))
