"""What the rules need beyond the catalog: columns that are decided together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from scripts.database.catalog import Constraint, Index, Table
from scripts.writes import record


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
        return record.at(self.table, [sql.SQL(f"{key}::jsonb ->> {place}") for place in range(len(self.table.key))])

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


def refers(key: Constraint, parent: str, values: Iterable[sql.Composable]) -> sql.Composed:
    """The condition of the row ``parent`` to which the SQL ``values`` of a foreign key's columns refer."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(sql.Identifier(parent, name), sql.SQL(operator), value)
        for name, operator, value in zip(key.references_columns, key.operators, values, strict=True)
    )


def filled(key: Constraint, values: Iterable[sql.Composable]) -> sql.Composed:
    """Whether a row whose foreign key's columns are the SQL ``values`` has to find a parent: one that is MATCH FULL allows no NULL beside
    a value, and then there is none to find (PostgreSQL, 'CREATE TABLE')."""
    parts = (sql.SQL("{} IS NOT NULL").format(value) for value in values)
    return sql.SQL("({})").format(sql.SQL(" OR " if key.match_full else " AND ").join(parts))


def written(table: Table, columns: Collection[str]) -> Collection[str]:
    """The columns whose write may change one of ``columns``: what a computed one is computed from stands in its expression alone. Pure."""
    return table.stored if any(table.column(name).generated for name in columns) else columns


def used(table: Table, claim: Index) -> Collection[str]:
    """The columns by whose write a row may come to claim something else; all where a function is given the whole row. Pure."""
    whole = any(".*" in text for text in (*(one.expression for one in claim.elements), claim.condition or ""))
    return table.stored if whole else written(table, claim.uses)


def lets_go(key: Constraint, child: Table) -> bool:
    """Whether SET NULL can never be refused. Pure."""
    checks = [one for one in child.constraints if one.kind == "c"]
    if key.on_delete != "n" or any(".*" in one.definition for one in checks):
        return False
    bound = {name for one in checks for name in one.columns}.union(*(used(child, claim) for claim in child.claims))
    held = {one.name for one in child.columns if one.not_null or one.category == "domain" or one.identity} | bound
    return not held & set(key.sets) and not any(child.column(name).generated for name in held)


def clashing(claim: Index) -> dict[str, sql.Composable]:
    """Of rows ``t`` and ``n`` the `expressions` of a claim, the `condition` under which it holds for one, and whether they `clash`."""
    expressions = [f"{element.compared} AS _tm_e{place}" for place, element in enumerate(claim.elements)]
    clash = [
        f"(t._tm_e{place} {element.operator} n._tm_e{place}"
        + (f" OR t._tm_e{place} IS NULL AND n._tm_e{place} IS NULL)" if claim.nulls_equal else ")")
        for place, element in enumerate(claim.elements)
    ]
    return {
        "expressions": sql.SQL(", ").join(map(sql.SQL, expressions)),
        "condition": sql.SQL(f"WHERE {claim.condition}" if claim.condition else ""),
        "clash": sql.SQL(" AND ").join(map(sql.SQL, clash)),
    }


def names(columns: Iterable[str], before: str = "", after: str = "") -> sql.Composed:
    """``before`` + column + ``after``, joined with commas."""
    one = sql.SQL(f"{before}{{}}{after}")
    return sql.SQL(", ").join(one.format(sql.Identifier(name)) for name in columns)


def literals(values: Iterable[str]) -> sql.Composed:
    """A text[] constant."""
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(sql.Literal(value) for value in values))
