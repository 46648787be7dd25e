"""What differs between the catalogs of the two sides, and the SQL that mends it. Pure: reads descriptions, does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scripts.database.catalog import Column, Constraint, Table, TableName, quoted
from scripts.schema import statements
from scripts.schema.documents import Difference, Kind
from scripts.schema.statements import Enums, normal

#: The order in which mends are carried out: what others lean on goes last and comes first.
DROP_FOREIGN_KEY, DROP, CREATE, COLUMN, SEQUENCE, KEY, INDEX, FOREIGN_KEY = range(8)


@dataclass(frozen=True)
class Drift:
    """One difference; ``sql`` mends it on the target when all are run in the order of their ``stage``."""

    table: str
    kind: Kind
    name: str
    source: str | None
    target: str | None
    sql: tuple[str, ...]
    stage: int
    #: `copy` makes it after the rows, so it is missing until then.
    after_rows: bool = False

    def document(self) -> Difference:
        """As ``schema diff`` prints it."""
        return Difference(
            table=self.table,
            kind=self.kind,
            name=self.name,
            source=self.source,
            target=self.target,
            sql=";\n".join(self.sql),
        )

    def line(self) -> str:
        """In words, for a refusal."""
        said = f"{self.table}: {self.kind} {self.name}: source {self.source or 'has none'}; target {self.target or 'has none'}"
        return said + "".join(f"\n  mend on the target: {statement};" for statement in self.sql)


def compare(
    wanted: Mapping[str, Table],
    found: Mapping[str, Table],
    wanted_enums: Enums | None = None,
    found_enums: Enums | None = None,
    band: int | None = None,
) -> list[Drift]:
    """Every difference of the moved tables, in the order in which its SQL can be run.

    Args:
        wanted: the source's tables; their foreign keys to other tables are left out of the comparison.
        found: those that the target has.
        band: where sequences that a mend makes on the target start (``sequenceBandStart``).
    """
    items = list(_enums(wanted, wanted_enums or {}, found_enums or {}))
    for name, table in wanted.items():
        other = found.get(name)
        if other is None:
            texts = [s.as_string(None) for s in statements.tables_sql([table])]
            items.append(Drift(name, "table", name, "present", None, tuple(texts), CREATE))
            other = replace(table, constraints=tuple(c for c in table.constraints if c.kind == "c"), indexes=())
        items += _table(table, other, {one.full_name for one in wanted.values()}, band)
    items += _leaning(items, wanted, found)
    return sorted(items, key=lambda item: item.stage)


def _enums(wanted: Mapping[str, Table], ours: Enums, theirs: Enums) -> Iterator[Drift]:
    for (schema, name), labels in ours.items():
        have = theirs.get((schema, name))
        if have == labels:
            continue
        user = next((t.name for t in wanted.values() for c in t.columns if not c.builtin), "")
        full = f"{quoted(schema)}.{quoted(name)}"
        if have is None:
            texts = [f"CREATE TYPE {full} AS ENUM ({', '.join(map(statements.literal, labels))})"]
        else:
            texts = [
                f"ALTER TYPE {full} ADD VALUE IF NOT EXISTS {statements.literal(label)}"
                + (f" AFTER {statements.literal(labels[i - 1])}" if i else f" BEFORE {statements.literal(have[0])}")
                for i, label in enumerate(labels)
                if label not in have
            ] or [f"-- {full} has labels that the source lacks: {', '.join(have)}; a label cannot be dropped"]
        yield Drift(user, "type", name, ", ".join(labels), ", ".join(have) if have else None, tuple(texts), CREATE)


def _table(wanted: Table, found: Table, moved: set[TableName], band: int | None) -> Iterator[Drift]:
    if wanted.persistence != found.persistence:
        words = {"p": "LOGGED", "u": "UNLOGGED"}
        text = f"ALTER TABLE {name_of(wanted)} SET {words.get(wanted.persistence, 'LOGGED')}"
        yield Drift(
            wanted.name,
            "table",
            wanted.name,
            words.get(wanted.persistence),
            words.get(found.persistence),
            (text,),
            COLUMN,
        )
    yield from _columns(wanted, found, band)
    yield from _sequences(wanted, found, band)
    yield from _constraints(wanted, found, moved)
    yield from _indexes(wanted, found)


def name_of(table: Table) -> str:
    """The table's name, quoted, with its schema."""
    return table.identifier.as_string(None)


def _same_column(one: Column, other: Column) -> bool:
    return normal(statements.column_text(one)) == normal(statements.column_text(other))


def _columns(wanted: Table, found: Table, band: int | None) -> Iterator[Drift]:
    theirs = {column.name: column for column in found.columns}
    for column in wanted.columns:
        other = theirs.pop(column.name, None)
        text = statements.column_text(column)
        if other is None:
            yield Drift(wanted.name, "column", column.name, text, None, _add_column(wanted, column, band), COLUMN)
        elif not _same_column(column, other):
            mend = tuple(_column_mend(wanted, found, column, other, band))
            yield Drift(wanted.name, "column", column.name, text, statements.column_text(other), mend, COLUMN)
    for column in theirs.values():
        mend = (f"ALTER TABLE {name_of(wanted)} DROP COLUMN {quoted(column.name)}",)
        yield Drift(wanted.name, "column", column.name, None, statements.column_text(column), mend, COLUMN)


def _add_column(table: Table, column: Column, band: int | None) -> tuple[str, ...]:
    identity = next((s for s in table.sequences if s.identity and s.column == column.name), None)
    texts = [f"ALTER TABLE {name_of(table)} ADD COLUMN {statements.column_text(column, identity)}"]
    for sequence in table.sequences:
        if sequence.column == column.name:
            if not sequence.identity:
                texts.append(statements.owned_by(sequence, table))
            texts += statements.into_band(sequence, table, band)
    return tuple(texts)


def _column_mend(wanted: Table, found: Table, column: Column, other: Column, band: int | None) -> Iterator[str]:
    table, name = name_of(wanted), quoted(column.name)
    alter = f"ALTER TABLE {table} ALTER COLUMN {name}"
    if column.generated:
        # PostgreSQL 16 can neither make a column generated nor change its expression ('ALTER TABLE').
        yield f"ALTER TABLE {table} DROP COLUMN {name}"
        yield f"ALTER TABLE {table} ADD COLUMN {statements.column_text(column)}"
        yield from _gone_with_column(wanted, found, column.name)
        return
    if other.generated:
        yield f"{alter} DROP EXPRESSION"
        other = replace(other, generated=False, default=None)
    if other.identity and not column.identity:
        yield f"{alter} DROP IDENTITY IF EXISTS"
    retyped = column.type != other.type or column.collation != other.collation
    default_stays = not retyped and normal(column.default or "") == normal(other.default or "")
    if other.default is not None and not default_stays:
        # A default of the old type may have no cast to the new one.
        yield f"{alter} DROP DEFAULT"
    if other.not_null and not column.not_null:
        yield f"{alter} DROP NOT NULL"
    if retyped:
        collation = f" COLLATE {column.collation}" if column.collation else ""
        yield f"{alter} TYPE {column.type}{collation}{statements.using(column, other)}"
    if column.not_null and not other.not_null:
        yield f"{alter} SET NOT NULL"
    if column.default is not None and not default_stays:
        yield f"{alter} SET DEFAULT {column.default}"
    if column.type != other.type:
        have = {(sequence.schema, sequence.name) for sequence in found.sequences if not sequence.identity}
        for serial in wanted.sequences:
            if serial.column == column.name and not serial.identity and (serial.schema, serial.name) not in have:
                yield from statements.into_band(serial, wanted, band)
    if column.identity and not other.identity:
        sequence = next((s for s in wanted.sequences if s.identity and s.column == column.name), None)
        yield f"{alter} ADD {statements.identity_text(column, sequence)}"
        if sequence is not None:
            yield from statements.into_band(sequence, wanted, band)
    elif column.identity != other.identity and column.identity:
        yield f"{alter} SET GENERATED {'ALWAYS' if column.identity == 'a' else 'BY DEFAULT'}"


def _gone_with_column(wanted: Table, found: Table, column: str) -> Iterator[str]:
    """What a dropped column takes along and no other item of the comparison brings back, as both sides had it."""
    have = {(c.kind, normal(c.definition)) for c in found.constraints}
    for constraint in wanted.constraints:
        if column in constraint.columns and (constraint.kind, normal(constraint.definition)) in have:
            yield _add_constraint(wanted, constraint)
    shapes = {statements.index_shape(index) for index in found.plain_indexes}
    for index in wanted.plain_indexes:
        if column in index.uses and statements.index_shape(index) in shapes:
            yield index.definition


def _sequences(wanted: Table, found: Table, band: int | None) -> Iterator[Drift]:
    columns = {column.name: column for column in found.columns}
    identities = {s.column: s for s in found.sequences if s.identity}
    plain = {(s.schema, s.name): s for s in found.sequences if not s.identity}
    for sequence in wanted.sequences:
        text = statements.sequence_options(sequence)
        if sequence.identity:
            # Its name is PostgreSQL's choice, and its type the column's.
            other = identities.get(sequence.column)
            if other is not None and not statements.same_options(sequence, other):
                sets = " ".join(f"SET {part}" for part in statements.option_parts(sequence))
                mend: tuple[str, ...] = (
                    f"ALTER TABLE {name_of(wanted)} ALTER COLUMN {quoted(sequence.column)} {sets}",
                )
                shown = statements.sequence_options(other)
                yield Drift(wanted.name, "sequence", sequence.name, text, shown, mend, SEQUENCE)
            continue
        other = plain.pop((sequence.schema, sequence.name), None)
        same_column = other is not None and (other.column, other.type) == (sequence.column, sequence.type)
        if other is not None and same_column and statements.same_options(sequence, other):
            continue
        full = sequence.identifier.as_string(None)
        if other is not None:
            mend = (f"ALTER SEQUENCE {full} AS {sequence.type} {text}", statements.owned_by(sequence, wanted))
            shown = f"{other.type} {statements.sequence_options(other)}"
            yield Drift(wanted.name, "sequence", sequence.name, f"{sequence.type} {text}", shown, mend, SEQUENCE)
            continue
        column = columns.get(sequence.column)
        create = [statements.create_sequence(sequence).as_string(None)]
        if column is not None:
            if column.identity:
                # The identity's own sequence may have the very name.
                create.insert(
                    0, f"ALTER TABLE {name_of(wanted)} ALTER COLUMN {quoted(column.name)} DROP IDENTITY IF EXISTS"
                )
            create.append(statements.owned_by(sequence, wanted))
            if column.type == wanted.column(sequence.column).type:
                # Else when the column has its type: what is no number has no largest one.
                create += statements.into_band(sequence, wanted, band)
        yield Drift(wanted.name, "sequence", sequence.name, f"{sequence.type} {text}", None, tuple(create), CREATE)
    for extra in plain.values():
        mend = (f"DROP SEQUENCE IF EXISTS {extra.identifier.as_string(None)}",)
        yield Drift(wanted.name, "sequence", extra.name, None, statements.sequence_options(extra), mend, SEQUENCE)


def _add_constraint(table: Table, constraint: Constraint) -> str:
    return f"ALTER TABLE {name_of(table)} ADD CONSTRAINT {quoted(constraint.name)} {constraint.definition}"


def _constraints(wanted: Table, found: Table, moved: set[TableName]) -> Iterator[Drift]:
    # Keys and checks are compared by what they say, not by their names: another migration tool names them otherwise.
    kept = [c for c in wanted.constraints if c.kind != "f" or c.references in moved]
    have = {(c.kind, normal(c.definition)) for c in found.constraints}
    want = {(c.kind, normal(c.definition)): c for c in kept}
    for key, constraint in want.items():
        if key not in have:
            stage = FOREIGN_KEY if constraint.kind == "f" else KEY
            mend = (_add_constraint(wanted, constraint),)
            yield Drift(
                wanted.name, "constraint", constraint.name, constraint.definition, None, mend, stage, constraint.kind != "c"
            )  # fmt: skip
    for constraint in found.constraints:
        if (constraint.kind, normal(constraint.definition)) not in want:
            stage = DROP_FOREIGN_KEY if constraint.kind == "f" else DROP
            mend = (f"ALTER TABLE {name_of(wanted)} DROP CONSTRAINT IF EXISTS {quoted(constraint.name)}",)
            yield Drift(wanted.name, "constraint", constraint.name, None, constraint.definition, mend, stage)


def _indexes(wanted: Table, found: Table) -> Iterator[Drift]:
    ours = {statements.index_shape(i): i for i in wanted.plain_indexes}
    others = {statements.index_shape(i) for i in found.plain_indexes}
    for shape, index in ours.items():
        if shape not in others:
            yield Drift(wanted.name, "index", index.name, index.definition, None, (index.definition,), INDEX, True)
    for index in found.plain_indexes:
        if statements.index_shape(index) not in ours:
            mend = (f"DROP INDEX IF EXISTS {quoted(found.schema)}.{quoted(index.name)}",)
            yield Drift(wanted.name, "index", index.name, None, index.definition, mend, DROP)


def _leaning(items: list[Drift], wanted: Mapping[str, Table], found: Mapping[str, Table]) -> Iterator[Drift]:
    """Foreign keys that both sides have and that lean on a key which a mend drops: they go first and come back last."""
    dropped = {(item.table, item.name) for item in items if item.stage == DROP}
    gone = []
    for table in found.values():
        keys = [(c.name, c.columns) for c in table.constraints if c.kind in "pu"]
        keys += [(i.name, i.columns) for i in table.plain_indexes if i.unique]
        gone += [(table.full_name, frozenset(columns)) for name, columns in keys if (table.name, name) in dropped]
    for table in found.values():
        for key in table.constraints:
            if key.kind != "f" or (key.references, frozenset(key.references_columns)) not in gone:
                continue
            if not any(
                c.kind == "f" and normal(c.definition) == normal(key.definition) for c in wanted[table.name].constraints
            ):
                continue  # fmt: skip
            drop = (f"ALTER TABLE {name_of(table)} DROP CONSTRAINT IF EXISTS {quoted(key.name)}",)
            shown = f"{key.definition} (leans on a key that goes)"
            yield Drift(table.name, "constraint", key.name, key.definition, shown, drop, DROP_FOREIGN_KEY)
            back = (_add_constraint(table, key),)
            yield Drift(table.name, "constraint", key.name, key.definition, shown, back, FOREIGN_KEY)
