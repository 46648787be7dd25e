"""Preflight of the tables: keys, kinds, types, triggers, the border, values that an engine cannot carry, sequences."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from scripts import catalog
from scripts.catalog import Table
from scripts.preflight_server import Check
from scripts.support.postgres import Connection
from scripts.support.settings import Settings

#: DMS full LOB mode and pgoutput both build a change in memory; larger values than this want a look first.
LARGE_VALUE_BYTES = 16 * 1024 * 1024


def _named(check: str, wrong: list[str], fine: str, status: str, remedy: str) -> Check:
    if wrong and status == "note":
        return Check(check, "pass", ", ".join(wrong))
    if wrong:
        return Check(check, "fail" if status == "fail" else "warn", ", ".join(wrong), remedy)
    return Check(check, "pass", fine)


def shape(side: str, tables: dict[str, Table]) -> Iterator[Check]:
    """Primary keys, replica identity, kinds of tables and columns."""
    every = list(tables.values())
    yield _named(
        f"{side}: primary keys",
        # On the target they may come after the rows.
        [t.name for t in every if not t.key] if side == "source" else [],
        "every table has one",
        "fail",
        "ALTER TABLE ... ADD PRIMARY KEY: updates and deletes cannot be replicated without",
    )
    yield _named(
        f"{side}: replica identity",
        [
            f"{t.name} ({t.replica_identity})"
            for t in every
            if t.replica_identity == "n" or (t.replica_identity == "f" and not t.key)
        ],
        "the primary key, or FULL beside one",
        "fail",
        "ALTER TABLE ... REPLICA IDENTITY DEFAULT; FULL without a key fails on json columns, which have no equality",
    )
    yield _named(
        f"{side}: kinds of tables",
        [f"{t.name} (relkind {t.kind})" for t in every if t.kind != "r"],
        "ordinary tables",
        "fail",
        "partitioned tables are not moved; take them out of `tables`",
    )
    yield _named(
        f"{side}: unlogged tables",
        [t.name for t in every if t.persistence != "p"],
        "none",
        "fail",
        "ALTER TABLE ... SET LOGGED: unlogged tables are not replicated",
    )
    yield _named(
        f"{side}: generated columns",
        [f"{t.name}.{c.name}" for t in every for c in t.columns if c.generated],
        "none",
        "note",
        "",
    )
    yield _named(
        f"{side}: json columns",
        [f"{t.name}.{c.name}" for t in every for c in t.columns if c.base_type == "json"],
        "none",
        "note",
        "",
    )
    yield _named(
        f"{side}: unbounded numeric",
        [f"{t.name}.{c.name}" for t in every for c in t.columns if c.type == "numeric"],
        "none",
        "warn",
        "DMS carries 28 digits after the point; use the native engine or ALTER COLUMN ... TYPE numeric(p, s)",
    )


def triggers(side: str, connection: Connection, tables: dict[str, Table]) -> Iterator[Check]:
    """Triggers that would fire when a change is applied, and inheritance."""
    oids = [table.oid for table in tables.values()]
    rows = connection.execute(
        "SELECT tgrelid::regclass::text || '.' || tgname FROM pg_trigger WHERE tgrelid = ANY(%s) AND NOT tgisinternal "
        "AND tgenabled IN ('A', 'R') AND tgname <> 'task_migration_apply'",
        (oids,),
    ).fetchall()
    yield _named(
        f"{side}: triggers that fire on apply",
        [row[0] for row in rows],
        "none",
        "fail",
        "ALTER TABLE ... ENABLE TRIGGER (origin only): ALWAYS and REPLICA triggers act twice, once on each side",
    )
    rows = connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhrelid = ANY(%s) OR inhparent = ANY(%s)", (oids, oids)
    ).fetchall()
    yield _named(
        f"{side}: inheritance", [row[0] for row in rows], "none", "fail", "take inherited tables out of `tables`"
    )
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE oid = ANY(%s) AND (relrowsecurity OR relforcerowsecurity)", (oids,)
    ).fetchall()
    yield _named(
        f"{side}: row security",
        [row[0] for row in rows],
        "none",
        "warn",
        "copy and replication must run as a role with BYPASSRLS, or rows are missing",
    )


def border(settings: Settings, tables: dict[str, Table]) -> Iterator[Check]:
    """The foreign keys across the border are exactly the dropped ones."""
    found = {key.name for _, key in catalog.crossing(tables)}
    wanted = set(settings.config.dropped_foreign_keys)
    wrong = [f"not listed: {name}" for name in sorted(found - wanted)]
    wrong += [f"listed, not found: {name}" for name in sorted(wanted - found)]
    yield _named(
        "source: foreign keys across the border",
        wrong,
        f"exactly the {len(wanted)} of droppedForeignKeys",
        "fail",
        "correct droppedForeignKeys, or `tables`",
    )
    stays = set(settings.config.referenced_tables)
    yield _named(
        "source: referenced tables",
        sorted({str(key.references) for _, key in catalog.crossing(tables)} - stays),
        "all are listed in referencedTables",
        "warn",
        "add them to referencedTables, or move them as well",
    )


def values(connection: Connection, tables: dict[str, Table]) -> Iterator[Check]:
    """Infinite timestamps and the largest values; reads the tables once."""
    infinite, large = [], []
    for table in tables.values():
        dated = [c.name for c in table.columns if c.base_type in ("timestamp", "timestamptz", "date")]
        wide = [c.name for c in table.columns if c.base_type in ("text", "varchar", "json", "jsonb", "bytea", "xml")]
        fields: list[sql.Composable] = [
            sql.SQL("count(*) FILTER (WHERE NOT isfinite({}))").format(sql.Identifier(name)) for name in dated
        ]
        # Stored size, which costs no decompression of every value.
        fields += [sql.SQL("max(octet_length({}::text))").format(sql.Identifier(name)) for name in wide]
        if not fields:
            continue
        row = connection.execute(
            sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(fields), table.identifier)
        ).fetchone()
        if row is None:
            continue
        infinite += [f"{table.name}.{name} ({n} rows)" for name, n in zip(dated, row, strict=False) if n]
        large += [
            f"{table.name}.{name} ({n} bytes)"
            for name, n in zip(wide, row[len(dated) :], strict=True)
            if n and n > LARGE_VALUE_BYTES
        ]
    yield _named(
        "source: infinite dates", infinite, "none", "warn", "DMS cannot carry them; use the native engine, or set NULL"
    )
    yield _named(
        "source: largest values",
        large,
        f"none above {LARGE_VALUE_BYTES} bytes",
        "warn",
        "DMS: set LobMaxSize above it; each such change is built in memory",
    )


def sequences(settings: Settings, connection: Connection, tables: dict[str, Table]) -> Iterator[Check]:
    """Kinds of sequences, and how far each is from the target's band."""
    start = settings.config.sequence_band_start
    warn = start * settings.config.sequence_band_warn_percent // 100
    wrong, near, odd = [], [], []
    for table in tables.values():
        for sequence in table.sequences:
            row = connection.execute(sql.SQL("SELECT last_value FROM {}").format(sequence.identifier)).fetchone()
            last = int(row[0]) if row else 0
            if last >= start or sequence.maximum <= start:
                wrong.append(f"{sequence.name} (at {last}, ends at {sequence.maximum})")
            elif last >= warn:
                near.append(f"{sequence.name} (at {last})")
            if sequence.increment < 1 or sequence.cycle:
                odd.append(f"{sequence.name} (increment {sequence.increment}, cycle {sequence.cycle})")
    yield _named(
        "source: sequence band",
        wrong,
        f"all below {start}, and the band within their range",
        "fail",
        "choose sequenceBandStart above every id and below the sequences' ends",
    )
    yield _named("source: distance to the band", near, "far", "warn", "raise sequenceBandStart before the copy")
    yield _named(
        "source: kinds of sequences",
        odd,
        "all rise and end",
        "fail",
        "bands need rising sequences: ALTER SEQUENCE ... INCREMENT 1 NO CYCLE",
    )
