"""What binds the rows of a repair to each other and to rows that stay: foreign keys and unique claims.

A repaired row arrives as any write, and the rules of its table (scripts/writes/apply.sql) take away what breaks a key or claims what another
row has, on both sides. So rows that need each other are sent in one transaction, and a row that cannot stand on the other side is not sent:
a person decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from scripts.database import queries
from scripts.database.catalog import Constraint, Index, Table, TableName
from scripts.database.connections import Connection
from scripts.support.sides import Side, other
from scripts.verify.rows import BATCH, Difference, Key, at_keys
from scripts.writes import record
from scripts.writes.relations import Relations, clashing, filled, lets_go, literals, names, refers, used, written

_SQL = queries.load("scripts.verify")
#: A table's name and a key's values as text.
Row = tuple[str, Key]
Value = tuple[str, ...]


@dataclass
class Bindings:
    """The rows that ``best`` sends to the other side: those that come there, and those that go, as ``best`` has none.

    Args:
        found: by side, its tables.
    """

    sides: Mapping[Side, Connection]
    found: Mapping[Side, Mapping[str, Table]]
    best: Side
    coming: Mapping[Row, Difference]
    leaving: Collection[Row]
    #: Rows that come and go first: what differs no update may set, or they hold what another one claims.
    vacating: set[Row]
    #: Rows that are not sent, each with what a person has to decide; empty where another one's sentence says it.
    refused: dict[Row, str] = field(default_factory=dict)
    #: What becomes of rows that are not sent and refer to one that goes, as their keys say, in words.
    _followed: list[tuple[Row, str]] = field(default_factory=list)
    _following: set[Row] = field(default_factory=set)
    _needs: dict[Row, set[Row]] = field(default_factory=lambda: defaultdict(set))

    def look(self) -> None:
        """Look at both sides; fills in what is said above."""
        for table in self.found[self._worst].values():
            for claim in Relations(table).claims:
                self._claims(table, claim)
        going = {*self.leaving, *(row for row in self.coming if self.coming[row].kind == "different")}
        while going:
            before = set(self._following)
            for table in self.found[self._worst].values():
                for key in table.children:
                    self._children(table, key, going)
            going = self._following - before
        for table in self.found[self._worst].values():
            for key in table.foreign_keys:
                self._parents(table, key)
        for row in needing(self.refused, self._needs):
            self.refused.setdefault(row, "")

    def followed(self) -> list[str]:
        """What becomes of rows that are the same on both sides and refer to one that goes, as their keys say, in words."""
        return [text for row, text in self._followed if row not in self.refused]

    def groups(self) -> list[list[Row]]:
        """The rows that are sent, those together that need each other or the same one."""
        return grouped([row for row in (*self.coming, *self.leaving) if row not in self.refused], self._needs)

    @property
    def _worst(self) -> Side:
        return other(self.best)

    def _whole(self, row: Row) -> bool:
        return self.coming[row].kind != "different" or row in self.vacating

    def _changing(self, row: Row, columns: Collection[str]) -> bool:
        """Whether a row that comes brings one of these columns, or what one may be computed from."""
        return self._whole(row) or bool(
            set(written(self.found[self._worst][row[0]], columns)) & set(self.coming[row].columns)
        )

    def _keys(self, table: str, rows: Iterable[Row]) -> Iterator[list[Key]]:
        keys = [key for name, key in rows if name == table]
        return (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))

    def _refuse(self, row: Row, why: str) -> None:
        self.refused.setdefault(row, why)

    def _claims(self, table: Table, claim: Index) -> None:
        """Rows that come and claim what a row there has: it must be one that goes, or changes."""
        uses = used(table, claim)
        rows = (row for row in self.coming if row[0] == table.name and self._changing(row, uses))
        for keys in self._keys(table.name, rows):
            for own, rival in self._rivals(table, claim, keys):
                row, holder = (table.name, own), (table.name, rival)
                if holder in self.coming or holder in self.leaving:
                    if row != holder:
                        self._needs[row].add(holder)
                        self.vacating.update([holder] if holder in self.coming else [])
                elif row != holder:
                    ours, theirs = (row, holder) if self.best == "source" else (holder, row)
                    self._refuse(
                        row,
                        f"{_named(ours)} of the source and {_named(theirs)} of the target both claim {claim.name} ({', '.join(claim.uses)}), "
                        "which one row may: change or delete the one that is wrong, then verify again",
                    )

    def _rivals(self, table: Table, claim: Index, keys: Sequence[Key]) -> Iterator[tuple[Key, Key]]:
        here, there = self.found[self.best][table.name], table
        wanted = set(used(table, claim)) & set(here.stored)
        stored = [name for name in there.stored if name in wanted]
        given = self._ask(
            self.best,
            "texts",
            len(here.key),
            key=record.texts(here, here.key, "t"),
            names=literals(stored),
            values=record.texts(here, stored, "t"),
            rows=at_keys(here, keys),
        )
        if not given:
            return
        generated = [
            sql.SQL("{}::text, {}").format(
                sql.Literal(column.name), record.text_of(column, sql.SQL(f"({column.default})"))
            )
            for column in there.columns
            if column.generated and column.name in claim.uses
        ]
        for (place,), rival in self._ask(
            self._worst,
            "rivals",
            1,
            key=record.texts(there, there.key, "t"),
            table=there.identifier,
            row=sql.Identifier(there.name),
            generated=sql.SQL(", ").join(generated),
            texts=literals([values for _, (values,) in given]),
            **clashing(claim),
        ):
            yield given[int(place) - 1][0], rival

    def _parents(self, table: Table, key: Constraint) -> None:
        """Rows that come must find what they refer to, or bring it."""
        name, here = table.name, self.found[self.best][table.name]
        if set(key.columns) - {column.name for column in here.columns}:
            return
        rows = (row for row in self.coming if row[0] == name and self._changing(row, key.columns))
        for keys in self._keys(name, rows):
            referring = self._ask(
                self.best,
                "referring",
                len(here.key),
                key=record.texts(here, here.key, "t"),
                values=record.texts(here, key.columns, "t"),
                rows=at_keys(here, keys),
                given=filled(key, [sql.SQL("t.{}").format(sql.Identifier(column)) for column in key.columns]),
            )
            held = self._held(key, {value for _, (value,) in referring})
            for own, (value,) in referring:
                row, holders = (name, own), held.get(value)
                if holders is None:
                    self._refuse(
                        row,
                        f"{_named(row)} of the {self.best} refers to {_pointed(key, value)}, which the {self._worst} has not and does not "
                        f"get: bring that row back, or change the one that refers to it, then verify again",
                    )
                self._needs[row].update(one for one in holders or () if one != row)

    def _children(self, table: Table, key: Constraint, going: Collection[Row]) -> None:
        """What refers to a row that goes must go as well, or refer to another one, or let go of it as its key says."""
        child = self._moved(self._worst, key.table)
        of_table = [row for row in going if row[0] == table.name]
        if child is None and key.on_delete in "cnd":
            # When the row is deleted, its own key says what becomes of it.
            of_table = [row for row in of_table if row in self.coming]
        rows = (row for row in of_table if row not in self.coming or self._changing(row, key.references_columns))
        for keys in self._keys(table.name, rows):
            referring = self._ask(
                self._worst,
                "held",
                len(table.key),
                key=record.texts(table, table.key, "t"),
                values=record.texts(child, key.columns, "c") if child else names(key.columns, "c.", "::text"),
                child_key=record.texts(child, child.key, "c") if child else sql.SQL("NULL::text"),
                rows=at_keys(table, keys),
                child=sql.Identifier(*key.table),
                match=refers(key, "t", [sql.SQL("c.{}").format(sql.Identifier(name)) for name in key.columns]),
            )
            held = self._held(key, {value for _, (value, *_) in referring}) if child else {}
            for own, (value, *parts) in referring:
                self._left(key, (table.name, own), value, (key.table[1], tuple(parts)) if child else None, held)

    def _left(
        self, key: Constraint, row: Row, value: Value, child: Row | None, held: Mapping[Value, Collection[Row]]
    ) -> None:
        """One row that refers to ``row``, which goes; None for one of a table that stays behind."""
        if child == row:
            return
        if value in held:
            self._needs[row].update(one for one in held[value] if one != row)
        elif child and (self._gone(child, key) or self._follows(row, key, child)):
            self._needs[row].add(child)
        else:
            self._refuse(
                row,
                f"{_named(row)} is to go from the {self._worst}, or to change, as the {self.best} has it, and "
                f"{_named(child) if child else 'a row of ' + '.'.join(key.table)} there refers to {_pointed(key, value)}: bring that back on "
                f"the {self.best}, or change what refers to it, then verify again",
            )

    def _gone(self, child: Row, key: Constraint) -> bool:
        return child in self.leaving or (child in self.coming and self._changing(child, key.columns))

    def _follows(self, row: Row, key: Constraint, child: Row) -> bool:
        """Whether the key itself says what becomes of a row that is the same on both sides when ``row`` is deleted, and the rules can do it."""
        table = self.found[self._worst][child[0]]
        if row in self.coming or child in self.coming:
            return False
        if key.on_delete == "c":
            self._following.add(child)
        elif not lets_go(key, table):
            return False
        what = "goes too" if key.on_delete == "c" else f"lets go of it ({', '.join(key.sets)})"
        self._followed.append((row, f"{_named(child)} of both sides refers to {_named(row)}, which goes, and {what}"))
        return True

    def _held(self, key: Constraint, values: Collection[Value]) -> dict[Value, set[Row]]:
        """Which of the ``values`` a row of the other side has once all is sent, and the rows that have to come for it."""
        found: dict[Value, set[Row]] = {}
        if self._moved(self.best, key.references):
            for value, row in self._holders(self.best, key, values):
                if row in self.coming:
                    found.setdefault(value, set()).add(row)
        for value, row in self._holders(self._worst, key, values):
            if row not in self.coming and row not in self.leaving and row not in self._following:
                found[value] = set()
        return found

    def _holders(self, side: Side, key: Constraint, values: Collection[Value]) -> Iterator[tuple[Value, Row]]:
        child, parent = self.found[side][key.table[1]], self._moved(side, key.references)
        casts = [
            record.value_of(child.column(name), sql.Identifier("v", f"v{place}"))
            for place, name in enumerate(key.columns)
        ]
        places = [f"v{place}" for place in range(len(key.columns))]
        wanted = list(values)
        for start in range(0, len(wanted), BATCH):
            piece = wanted[start : start + BATCH]
            rows = self.sides[side].execute(
                sql.SQL(_SQL["holders"]).format(
                    values=names(places, "v."),
                    key=record.texts(parent, parent.key, "t") if parent else sql.SQL("NULL"),
                    given=sql.SQL("unnest({}) v({})").format(
                        sql.SQL(", ").join(literals([value[place] for value in piece]) for place in range(len(places))),
                        names(places),
                    ),
                    parent=sql.Identifier(*(key.references or ())),
                    match=refers(key, "t", casts),
                )
            )
            for value, *parts in rows.fetchall():
                yield tuple(value), (key.parent, tuple(map(str, parts)))

    def _moved(self, side: Side, name: TableName | None) -> Table | None:
        """The table of that name and schema, when it moves."""
        found = self.found[side].get(name[1]) if name else None
        return found if found is not None and found.full_name == name else None

    def _ask(self, side: Side, query: str, parts: int, **holes: sql.Composable) -> list[tuple[Key, tuple[Any, ...]]]:
        """Rows of which the first columns are a key's."""
        rows = self.sides[side].execute(sql.SQL(_SQL[query]).format(**holes)).fetchall()
        plain = [tuple(tuple(part) if isinstance(part, list) else part for part in row) for row in rows]
        return [(tuple(map(str, row[:parts])), row[parts:]) for row in plain]


def grouped(rows: Iterable[Row], needs: Mapping[Row, Collection[Row]]) -> list[list[Row]]:
    """The rows in groups: together are those of which one needs the other, over whichever rows. Pure."""
    first: dict[Row, Row] = {}

    def root(row: Row) -> Row:
        while first.setdefault(row, row) != row:
            first[row] = row = first[first[row]]
        return row

    for row, needed in needs.items():
        for one in needed:
            first[root(row)] = root(one)
    found: dict[Row, list[Row]] = defaultdict(list)
    for row in rows:
        found[root(row)].append(row)
    return list(found.values())


def needing(rows: Iterable[Row], needs: Mapping[Row, Collection[Row]]) -> set[Row]:
    """The rows, and all that need one of them, or one that does. Pure."""
    wanted: dict[Row, list[Row]] = defaultdict(list)
    for row, needed in needs.items():
        for one in needed:
            wanted[one].append(row)
    found = set(rows)
    waiting = list(found)
    while waiting:
        more = [row for row in wanted[waiting.pop()] if row not in found]
        found.update(more)
        waiting += more
    return found


def _named(row: Row) -> str:
    return f"{row[0]} {'/'.join(row[1])}"


def _pointed(key: Constraint, value: Value) -> str:
    pairs = zip(key.references_columns, value, strict=True)
    return f"{key.parent} with {', '.join(f'{name} {text}' for name, text in pairs)}"
