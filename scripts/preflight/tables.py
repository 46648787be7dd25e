"""Preflight of the tables: keys, kinds, types, triggers, the border, sequences."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from scripts.database import catalog, queries, strangers
from scripts.database.catalog import Column, Sequence, Table, quoted
from scripts.database.connections import Connection, scalar
from scripts.database.strangers import Kind, Stranger
from scripts.preflight.documents import Check, Status
from scripts.preflight.server import QUERIES
from scripts.schema import choice
from scripts.schema.sequences import Taken, taken
from scripts.support.settings import Settings
from scripts.support.sides import Side


def named(check: str, wrong: list[str], fine: str, status: Status, remedy: str) -> Check:
    """A check that passes when nothing is wrong, and else names all that is."""
    if wrong:
        return Check(check, status, ", ".join(wrong), remedy)
    return Check(check, "pass", fine)


def others(side: Side, found: list[Stranger], takes: bool) -> Iterator[Check]:
    """Code of others that a command would run with the operator's rights.

    Args:
        takes: `schema apply` takes tables that are another's.
    """
    wanted: tuple[tuple[str, tuple[Kind, ...], str], ...] = (
        ("owner of the tables", ("owner", "schema"), "the operator's, and so is their schema, or a superuser's"),
        ("triggers that fire on apply", ("trigger", "rule"), "none, and no rule"),
        ("event triggers", ("event trigger",), "none that calls a function of others"),
        ("functions and types of others", ("function", "type"), "none in indexes, checks, defaults and columns"),
    )
    for name, kinds, fine in wanted:
        there = [one for one in found if one.kind in kinds]
        look = (
            "" if "owner" in kinds else "it acts with the operator's rights when he writes; read what it does, then: "
        )
        remedy = look + "; ".join(one.remedy for one in there)
        mended = takes and all(one.kind == "owner" for one in there)
        yield named(
            f"{side}: {name}",
            [one.what for one in there],
            fine,
            "warn" if mended else "fail",
            "`task-migration schema apply` takes them" if mended else remedy,
        )


def truncation(settings: Settings, side: Side, connection: Connection, tables: dict[str, Table]) -> Iterator[Check]:
    """TRUNCATE is refused while replication runs: what may empty a table, and what already does so."""
    role = settings.config.source_role
    oids = [table.oid for table in tables.values()]
    # On the target the service's role owns the tables, and `copy` empties them with its right.
    rights = connection.execute(QUERIES["may_truncate"], (oids, role)).fetchall() if side == "source" else []
    fired = connection.execute(QUERIES["truncate_triggers"], (oids,)).fetchall()
    seen = statements_like(connection, tables, r"\mtruncate\M")
    wrong = [f"{name}: {text}" for name, text in seen]
    wrong += [f"{row[0]}: a trigger waits for TRUNCATE" for row in fired]
    wrong += [f"{row[0]}: {role} may" for row in rights]
    yield named(
        f"{side}: truncate",
        wrong,
        f"{f'{role} may not, ' if side == 'source' else ''}no trigger waits for it, none was seen",
        "warn",
        "TRUNCATE is not carried over, and refused from `copy` to the end; empty tables by DELETE, and: "
        + "; ".join(f"REVOKE TRUNCATE ON {row[0]} FROM {quoted(role)}" for row in rights),
    )


def statements_like(connection: Connection, tables: dict[str, Table], pattern: str) -> list[tuple[str, str]]:
    """Statements of this database that pg_stat_statements has seen, that match ``pattern`` and name one of the tables;
    none where that extension is not there."""
    row = connection.execute(queries.QUERIES["statements_schema"]).fetchone()
    if row is None:
        return []
    query = sql.SQL(QUERIES["statements_like"]).format(schema=sql.Identifier(str(row[0])))
    seen = connection.execute(query, (list(tables), pattern)).fetchall()
    return [(str(name), str(text)) for name, text in seen]


def border(settings: Settings, tables: dict[str, Table]) -> Iterator[Check]:
    """The foreign keys across the border are exactly the dropped ones, and none leads back over it."""
    config, crossing = settings.config, catalog.crossing(tables)
    # A name stands for every key of that name; one is told apart by its table.
    wanted = set(config.dropped_foreign_keys)
    wrong = [
        f"not listed: {key.name} of {table.name}"
        for table, key in crossing
        if not wanted & {key.name, f"{table.name}.{key.name}"}
    ]
    there = {form for table, key in crossing for form in (key.name, f"{table.name}.{key.name}")}
    wrong += [f"listed, not found: {name}" for name in sorted(wanted - there)]
    yield named(
        "source: foreign keys across the border",
        wrong,
        f"exactly the {len(wanted)} of droppedForeignKeys",
        "fail",
        f"correct `tables`, or droppedForeignKeys: [{', '.join(sorted({key.name for _, key in crossing}))}]",
    )
    stays = {config.qualified(name) for name in config.referenced_tables}
    lacking = sorted({key.parent for _, key in crossing if key.references not in stays})
    yield named(
        "source: referenced tables",
        lacking,
        "all are listed in referencedTables",
        "warn",
        f"move them as well, or referencedTables: [{', '.join([*config.referenced_tables, *lacking])}]",
    )
    moved = {table.full_name for table in tables.values()}
    outside = [key for table in tables.values() for key in table.children if key.table not in moved]
    yield named(
        "source: foreign keys from outside",
        [f"{key.name} of {'.'.join(key.table)}" for key in outside],
        "none",
        "fail",
        "a task deleted by the Task Service cascades to nobody there, and a new one is unknown there after the end; move those "
        "tables too, or: "
        + "; ".join(f"ALTER TABLE {quoted(*key.table)} DROP CONSTRAINT {quoted(key.name)}" for key in outside),
    )


def called(source: Connection, target: Connection, settings: Settings) -> Iterator[Check]:
    """Functions on the target that the source's indexes and keys name: `copy` makes these there."""
    found = strangers.find_called(source, target, settings.config)
    yield named(
        "target: functions that `copy` calls",
        [one.what for one in found],
        "the operator's own, or none",
        "fail",
        "read what they do, then: " + "; ".join(one.remedy for one in found),
    )


_BOUNDS = {"int2": 2**15 - 1, "int4": 2**31 - 1}


def sequences(settings: Settings, connection: Connection, tables: dict[str, Table]) -> Iterator[Check]:
    """Kinds of sequences and identities, and how far each is from the target's band."""
    start = settings.config.sequence_band_start
    warn = start * settings.config.sequence_band_warn_percent // 100
    near, odd, kinds = [], [], []
    wrong: dict[str, str] = {}
    chosen = choice.chosen(tables, settings.config, "source")
    for one in taken(chosen.values()):
        sequence, name, holders = one.sequence, one.sequence.name, _holders(one, chosen)
        last = catalog.last_value(connection, sequence)
        end = min([sequence.maximum, *(_BOUNDS[column.root] for _, column in holders)])
        if sequence.increment < 1 or sequence.cycle:
            odd.append((f"{name} (increment {sequence.increment}, {'cycles' if sequence.cycle else 'ends'})", one))
        elif last >= start:
            wrong[f"{name} (at {last}, ends at {end})"] = f"sequenceBandStart: {10 ** (len(str(last)) + 1)}"
        elif end <= start:
            wrong[f"{name} (at {last}, ends at {end})"] = _widened(sequence, holders, start)
        elif last >= warn:
            near.append(f"{name} (at {last})")
        for table, column in one.columns:
            how = {"a": "identity always", "d": "identity by default"}.get(column.identity, f"takes from {name}")
            kinds.append(f"{table.name}.{column.name} {how}")
    yield named(
        "source: sequence band",
        list(wrong),
        f"all below {start}, and the band within their range",
        "fail",
        "choose sequenceBandStart above every id and below the ends, or give a narrow column room (rewrites the table, locked): "
        + "; ".join(dict.fromkeys(wrong.values())),
    )
    yield named(
        "source: distance to the band", near, f"far: below {warn}", "warn", "raise sequenceBandStart before the copy"
    )
    yield named(
        "source: kinds of sequences",
        [text for text, _ in odd],
        "; ".join(kinds) or "none",
        "fail",
        "bands need rising sequences: " + "; ".join(_rising(connection, one) for _, one in odd),
    )


def _holders(one: Taken, tables: dict[str, Table]) -> list[tuple[Table, Column]]:
    """The narrow columns that take its ids, and those of keys that refer to them."""
    by_name = {table.full_name: table for table in tables.values()}
    found = list(one.columns)
    for table, column in one.columns:
        for key in table.children:
            if key.table in by_name and column.name in key.references_columns:
                child = by_name[key.table]
                found.append((child, child.column(key.columns[key.references_columns.index(column.name)])))
    return [(table, column) for table, column in found if column.root in _BOUNDS]


def _widened(sequence: Sequence, holders: list[tuple[Table, Column]], start: int) -> str:
    """SQL after which the band is within the range."""
    texts = [
        f"ALTER TABLE {quoted(table.schema, table.name)} ALTER COLUMN {quoted(column.name)} TYPE bigint"
        for table, column in holders
        if _BOUNDS[column.root] <= start
    ]
    if sequence.maximum <= start:
        # An identity's type is its column's.
        kind = "" if sequence.identity else " AS bigint"
        texts.append(f"ALTER SEQUENCE {sequence.identifier.as_string(None)}{kind} NO MAXVALUE")
    return "; ".join(texts)


def _rising(connection: Connection, one: Taken) -> str:
    """SQL after which the sequence rises, above every id there is."""
    name = one.sequence.identifier.as_string(None)
    if one.sequence.increment >= 1:
        return f"ALTER SEQUENCE {name} NO CYCLE"
    first = max(1, int(scalar(connection, f"SELECT {one.top}")) + 1)
    return (
        f"ALTER SEQUENCE {name} INCREMENT BY 1 NO MINVALUE NO MAXVALUE START WITH {first} RESTART WITH {first} NO CYCLE"
    )
