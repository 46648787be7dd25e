"""Strategies for what binds the columns of tables: keys, claims, checks, and what else a schema has."""

from __future__ import annotations

from tests.fuzz import values
from tests.fuzz.schemas import DELETES, FUNCTIONS, LATE, UPDATES, Builder, Column, Table
from tests.fuzz.values import literal, quoted


def table(it: Builder, outside: str | None = None) -> Table:
    """One more table of the island.

    Args:
        outside: the schema of a table that does not move; None: it moves.
    """
    made = Table(outside or it.schema, it.name())
    made.key = [it.counted(made)] if it.chance(3) else [it.column(made, key=True) for _ in range(1 + it.chance(4))]
    for _ in range(it.number_of(0, 4)):
        it.column(made)
    more = ""
    if made.columns[-1] not in made.key:
        if it.chance(5):
            it.computed(made)
        if it.chance(8):
            more = f" INCLUDE ({made.columns[-1].q})"
    late = it.one(LATE) if it.chance(6) else ""
    made.parts.append(f"PRIMARY KEY ({names(made.key)}){more}{late}")
    made.claims.append(made.key)
    it.source.append(made.made)
    for _ in range(it.number_of(0, 2)):
        _claim(it, made)
    it.tables.append(made)
    return made


def names(columns: list[Column]) -> str:
    """Quoted, with commas."""
    return ", ".join(column.q for column in columns)


def _plain(it: Builder, made: Table) -> list[Column]:
    """One or two columns that a claim may be about."""
    some = [column for column in made.columns if column.type not in values.OTHERS]
    first = it.one(some)
    rest = [column for column in some if column is not first]
    return [first, it.one(rest)] if rest and it.chance(2) else [first]


def _claim(it: Builder, made: Table) -> None:
    """A unique or exclusion claim, of one kind."""
    columns = _plain(it, made)
    listed, name = names(columns), quoted(it.name())
    last = columns[-1]
    if last.type in ("text", "character varying(9)") and it.chance(2):
        expression = f"lower({last.q})"
    else:
        expression = it.one((f"({last.q}::text)", f"coalesce({last.q}, {literal(it.one(last.values or ['1']))})"))
    alter = f"ALTER TABLE {made.q} ADD CONSTRAINT {name} "
    before = f"{listed.rpartition(', ')[0]}, " if len(columns) > 1 else ""
    kind = it.number_of(0, 8)
    if kind < 3:
        late = it.one(LATE)
        including = f" INCLUDE ({made.columns[-1].q})" if it.chance(6) else ""
        it.source.append(f"{alter}UNIQUE ({listed}){including}{late}")
        if not late:
            made.claims.append(columns)
        return
    it.source.append(
        {
            3: f"{alter}UNIQUE NULLS NOT DISTINCT ({listed})",
            4: f"CREATE UNIQUE INDEX {name} ON {made.q} ({before}{expression})",
            5: f"CREATE UNIQUE INDEX {name} ON {made.q} ({listed}) WHERE {made.columns[-1].q} IS NOT NULL",
            6: f"{alter}EXCLUDE ({listed.replace(', ', ' WITH =, ')} WITH =) WHERE ({made.columns[-1].q} IS NOT NULL)"
            + it.one(LATE),
            7: f"{alter}EXCLUDE USING gist ({last.q} WITH &&)",
            8: f"CREATE INDEX {name} ON {made.q} ({before}{expression} DESC NULLS LAST)",
        }[kind]
    )


def reference(it: Builder, made: Table, parent: Table, *, after_rows: bool = False) -> None:
    """A foreign key, with columns of its own, or the table's key."""
    claim = it.one(parent.claims)
    if made is not parent and len(claim) == len(made.key) and it.chance(6):
        columns = made.key
        if [one.type for one in columns] != [one.type for one in claim]:
            return
    else:
        columns = []
        for to in claim:
            column = Column(f"r{len(made.columns)}", to.type, to.values, it.chance(4) is False, (parent.q, to.q))
            columns.append(column)
            made.columns.append(column)
            filled = "" if column.nullable or not to.values else f" DEFAULT {literal(it.one(to.values))}"
            column.nullable = column.nullable or not filled
            it.source.append(
                f"ALTER TABLE {made.q} ADD {column.q} {to.type}{filled}{'' if column.nullable else ' NOT NULL'}"
            )
    deletes, updates, late = it.one(DELETES), it.one(UPDATES), it.one(LATE)
    if "SET" in deletes and len(columns) > 1 and it.chance(2):
        deletes += f" ({columns[-1].q})"
    match = " MATCH FULL" if it.chance(5) else ""
    statement = (
        f"ALTER TABLE {made.q} ADD CONSTRAINT {quoted(it.name())} FOREIGN KEY ({names(columns)}) "
        f"REFERENCES {parent.q} ({names(claim)}){match} {deletes} {updates}{late}"
    )
    (it.late if after_rows else it.source).append(statement + (" NOT VALID" if after_rows else ""))


def check(it: Builder, made: Table) -> None:
    """A check of one or two columns."""
    first, last = it.one(made.columns), it.one(made.columns)
    said = it.one(
        (
            f"{first.q} IS NOT NULL OR {last.q} IS NOT NULL",
            f"{first.q} IS DISTINCT FROM {last.q}" if first.type == last.type else f"{first.q} IS NOT NULL",
            f"{last.q} <> {literal(last.values[0])}" if last.values else f"{last.q} IS NOT NULL",
        )
    )
    statement = f"ALTER TABLE {made.q} ADD CONSTRAINT {quoted(it.name())} CHECK ({said})"
    if it.chance(3):
        it.late.append(f"{statement} NOT VALID")
    else:
        it.source.append(statement)


def beside(it: Builder, made: Table) -> None:
    """What a table may have beside its columns, and rows do not depend on."""
    column = made.columns[-1].q
    it.source.append(
        it.one(
            (
                f"COMMENT ON TABLE {made.q} IS 'it''s'",
                f"COMMENT ON COLUMN {made.q}.{column} IS '100%'",
                f"CREATE STATISTICS {quoted(made.schema, it.name())} ON {made.columns[0].q}, {column} FROM {made.q}",
                f"ALTER TABLE {made.q} ALTER {column} SET STATISTICS 7",
                f"ALTER TABLE {made.q} SET (fillfactor = 70)",
                f"ALTER TABLE {made.q} REPLICA IDENTITY FULL",
                f"ALTER TABLE {made.q} REPLICA IDENTITY NOTHING",
                f"CREATE INDEX {quoted(it.name())} ON {made.q} USING brin ({made.columns[0].q})",
                f"CREATE INDEX {quoted(it.name())} ON {made.q} USING hash ({column})",
                f"ALTER TABLE {made.q} DROP COLUMN {column}",
                f"ALTER TABLE {made.q} ENABLE ROW LEVEL SECURITY; CREATE POLICY {quoted(it.name())} ON {made.q} "
                "TO myteacher_app_user USING (true)",
            )
        )
    )


def function(it: Builder, made: Table) -> None:
    """A function of the application's, in an index or a default, without its schema's name in the function's body."""
    texts = [column for column in made.columns if column.type == "text"]
    if not texts:
        return
    name = quoted(it.schema, it.name())
    it.both.append(f"CREATE SCHEMA IF NOT EXISTS {quoted(it.schema)}")
    it.both.append(it.one(FUNCTIONS).format(name))
    column = it.one(texts).q
    it.source.append(
        it.one(
            (
                f"CREATE UNIQUE INDEX {quoted(it.name())} ON {made.q} ({name}({column}))",
                f"ALTER TABLE {made.q} ALTER {column} SET DEFAULT {name}('A')",
                f"ALTER TABLE {made.q} ADD CONSTRAINT {quoted(it.name())} CHECK ({name}({column}) <> 'b')",
            )
        )
    )
