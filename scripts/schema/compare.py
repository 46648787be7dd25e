"""What differs between the catalogs of the two sides, and the SQL that mends it. Pure: reads descriptions, does no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scripts.database.catalog import Column, Table, TableName, Type, quoted
from scripts.schema import compare_sequences, sequences, statements
from scripts.schema.compare_sequences import identity, identity_into_band
from scripts.schema.documents import Kind
from scripts.schema.drift import COLUMN, CREATE, DROP, DROP_FOREIGN_KEY, FOREIGN_KEY, INDEX, KEY, PART, REMADE, Drift
from scripts.schema.parts import objects, parts
from scripts.schema.sequences import literal
from scripts.schema.statements import add_constraint, normal


@dataclass(frozen=True)
class Types:
    """Types that the moved tables need: the source's, the target's own of them, and the names of those that are there."""

    wanted: Sequence[Type] = ()
    found: Sequence[Type] = ()
    there: Collection[TableName] = ()


def compare(
    wanted: Mapping[str, Table], found: Mapping[str, Table], types: Types, band: int | None = None
) -> list[Drift]:
    """Every difference of the moved tables, in the order in which its SQL can be run.

    Args:
        wanted: the source's tables, :func:`scripts.schema.choice.chosen`.
        found: those that the target has, likewise.
        band: where sequences that a mend makes on the target start (``sequenceBandStart``).
    """
    items = list(_types(wanted, types))
    missing = [table for name, table in wanted.items() if name not in found]
    made = statements.pre_data(missing, (), ()) if missing else []
    for name, table in wanted.items():
        other = found.get(name)
        if other is None:
            # What several of them need stands with the first.
            texts, made = tuple(s.as_string(None) for s in made), []
            items.append(Drift(name, "table", name, "present", None, texts, CREATE))
            other = statements.bare(table)
        items += _names(table, other)
        items += _table(statements.aligned(table, other), other, band)
    items += compare_sequences.shared(wanted, {**{table.name: table for table in missing}, **found}, band)
    items += _leaning(items, wanted, found)
    return sorted(items, key=lambda item: item.stage)


def _types(wanted: Mapping[str, Table], types: Types) -> Iterator[Drift]:
    theirs = {(one.schema, one.name): one for one in types.found}
    for one in types.wanted:
        have = theirs.get((one.schema, one.name))
        if one.definition is None or (have is None and (one.schema, one.name) in types.there):
            continue
        if have is not None and (have.definition is None or normal(have.definition) == normal(one.definition)):
            continue
        user = next((t.name for t in wanted.values() for c in t.columns if c.root == f"{one.schema}.{one.name}"), "")
        user = user or next((t.name for t in wanted.values() for c in t.columns if not c.builtin), "")
        made = [f"CREATE SCHEMA IF NOT EXISTS {quoted(one.schema)}", *statements.type_texts(one)]
        texts = made if have is None else _type_mend(one, have)
        shown = None if have is None else have.definition
        yield Drift(user, "type", one.name, one.definition, shown, tuple(texts), CREATE)


def _type_mend(one: Type, have: Type) -> list[str]:
    full, labels = quoted(one.schema, one.name), one.labels
    lacking = [
        f"ALTER TYPE {full} ADD VALUE IF NOT EXISTS {literal(label)}"
        + (f" AFTER {literal(labels[i - 1])}" if i else f" BEFORE {literal(have.labels[0])}" if have.labels else "")
        for i, label in enumerate(labels)
        if label not in have.labels
    ]
    if lacking and one.kind == have.kind:
        return lacking
    if one.kind == "enum":
        return [f"-- {full} has labels that the source lacks: {', '.join(have.labels)}; a label cannot be dropped"]
    return [
        f"-- {full} is {have.definition}; ALTER {'DOMAIN' if one.kind == 'domain' else 'TYPE'} it on the target until it is the source's"
    ]


def _table(wanted: Table, found: Table, band: int | None) -> Iterator[Drift]:
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
    yield from compare_sequences.identities(wanted, found)
    yield from _constraints(wanted, found)
    yield from _indexes(wanted, found)
    yield from _parts(wanted, found)


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
    text = statements.column_text(column, identity(table, column.name))
    return f"ALTER TABLE {name_of(table)} ADD COLUMN {text}", *identity_into_band(table, column.name, band)


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
    if column.identity and not other.identity:
        yield f"{alter} ADD {sequences.identity_text(column, identity(wanted, column.name))}"
        yield from identity_into_band(wanted, column.name, band)
    elif column.identity != other.identity and column.identity:
        yield f"{alter} SET GENERATED {'ALWAYS' if column.identity == 'a' else 'BY DEFAULT'}"


def _gone_with_column(wanted: Table, found: Table, column: str) -> Iterator[str]:
    """What a dropped column takes along and no other item of the comparison brings back, as both sides had it."""
    have = {(c.kind, normal(c.definition)) for c in found.constraints}
    for constraint in wanted.constraints:
        if column in constraint.columns and (constraint.kind, normal(constraint.definition)) in have:
            yield add_constraint(wanted, constraint)
    shapes = {statements.index_shape(index) for index in found.plain_indexes}
    for index in wanted.plain_indexes:
        if column in index.uses and statements.index_shape(index) in shapes:
            yield index.definition
    for part in parts(wanted):
        if part.of == f"column {column}":
            yield part.make


def _constraints(wanted: Table, found: Table) -> Iterator[Drift]:
    # Keys and checks are compared by what they say, not by their names: another migration tool names them otherwise.
    have = {(c.kind, normal(c.definition)) for c in found.constraints}
    want = {(c.kind, normal(c.definition)): c for c in wanted.constraints}
    for key, constraint in want.items():
        if key not in have:
            stage = FOREIGN_KEY if constraint.kind == "f" else KEY
            mend = (add_constraint(wanted, constraint),)
            late = constraint.kind != "c" or not constraint.valid
            yield Drift(wanted.name, "constraint", constraint.name, constraint.definition, None, mend, stage, late)
    for constraint in found.constraints:
        if (constraint.kind, normal(constraint.definition)) not in want:
            stage = DROP_FOREIGN_KEY if constraint.kind == "f" else DROP
            mend = (f"ALTER TABLE {name_of(wanted)} DROP CONSTRAINT IF EXISTS {quoted(constraint.name)}",)
            yield Drift(wanted.name, "constraint", constraint.name, None, constraint.definition, mend, stage)


def _indexes(wanted: Table, found: Table) -> Iterator[Drift]:
    ours = {statements.index_shape(i): i for i in wanted.plain_indexes}
    others = {statements.index_shape(i) for i in found.plain_indexes if i.valid}
    for shape, index in ours.items():
        if shape not in others:
            yield Drift(wanted.name, "index", index.name, index.definition, None, (index.definition,), INDEX, True)
    for index in found.plain_indexes:
        if statements.index_shape(index) not in ours or not index.valid:
            mend = (f"DROP INDEX IF EXISTS {quoted(found.schema, index.name)}",)
            shown = index.definition + ("" if index.valid else " (not valid)")
            yield Drift(wanted.name, "index", index.name, None, shown, mend, DROP)


def _names(wanted: Table, found: Table) -> Iterator[Drift]:
    """Names of what the target lacks that are taken there by something else of the source's: that is given another one first."""
    constraints = {(c.kind, normal(c.definition)) for c in wanted.constraints}
    shapes = {statements.index_shape(i) for i in wanted.plain_indexes}
    stays = {
        c.name: (c.kind, normal(c.definition))
        for c in found.constraints
        if (c.kind, normal(c.definition)) in constraints
    }
    others = {i.name: statements.index_shape(i) for i in found.plain_indexes if statements.index_shape(i) in shapes}
    lacking = [
        (c.name, c.definition) for c in wanted.constraints if (c.kind, normal(c.definition)) not in stays.values()
    ]
    lacking += [
        (i.name, i.definition) for i in wanted.plain_indexes if statements.index_shape(i) not in others.values()
    ]
    used = {
        name
        for table in (wanted, found)
        for name in (*(c.name for c in table.constraints), *(i.name for i in table.indexes))
    }
    for name, definition in lacking:
        if name not in stays and name not in others:
            continue
        free = next(new for n in range(1, len(used) + 2) if (new := f"{name[:50]}_{n}") not in used)
        used.add(free)
        kind: Kind = "constraint" if name in stays else "index"
        what = f"ALTER TABLE {name_of(found)} RENAME CONSTRAINT {quoted(name)}"
        what = what if name in stays else f"ALTER INDEX {quoted(found.schema, name)} RENAME"
        yield Drift(
            wanted.name, kind, name, definition, "the name of something else", (f"{what} TO {quoted(free)}",), DROP
        )


def _parts(wanted: Table, found: Table) -> Iterator[Drift]:
    theirs = {(part.kind, part.name): part for part in parts(found)}
    for part in parts(wanted):
        other = theirs.pop((part.kind, part.name), None)
        if other is not None and normal(other.shown) == normal(part.shown):
            continue
        mend = (other.drop, part.make) if other is not None and part.kind in REMADE else (part.make,)
        shown = None if other is None else other.shown
        yield Drift(wanted.name, part.kind, part.name, part.shown, shown, mend, PART, part.late, part.of_rows)
    kept = {of for of, *_ in objects(wanted)}
    for extra in theirs.values():
        # What goes takes along what is said of it.
        if not extra.of or extra.of in kept:
            stage = DROP if extra.kind in REMADE else PART
            yield Drift(
                wanted.name, extra.kind, extra.name, None, extra.shown, (extra.drop,), stage, of_rows=extra.of_rows
            )


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
            back = (add_constraint(table, key),)
            yield Drift(table.name, "constraint", key.name, key.definition, shown, back, FOREIGN_KEY)
