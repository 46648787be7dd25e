"""Preflight of the values: one reading of each table finds infinite dates, numbers too wide for DMS, the largest values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from scripts.database.catalog import Table
from scripts.database.connections import Connection
from scripts.preflight.documents import Check, LargestValue
from scripts.preflight.tables import named
from scripts.support.settings import Settings

#: pgoutput builds a change in memory whole; larger values than this want a look first.
LARGE_VALUE_BYTES = 16 * 1024 * 1024
#: What DMS makes of a numeric without precision (AWS DMS, 'Source data types for PostgreSQL'): NUMERIC(28,6).
DMS_SCALE, DMS_WHOLE_DIGITS = 6, 22
DATED = ("timestamp", "timestamptz", "date")
WIDE = ("text", "varchar", "bpchar", "json", "jsonb", "bytea", "xml")


@dataclass(frozen=True)
class Measured:
    """What a table's rows hold; counts of rows by column, sizes in bytes by column."""

    table: str
    infinite: Mapping[str, int] = field(default_factory=dict)
    too_wide: Mapping[str, int] = field(default_factory=dict)
    largest: Mapping[str, int] = field(default_factory=dict)
    #: Why it was not read to its end, else None.
    unread: str | None = None


def measure(connection: Connection, tables: Mapping[str, Table]) -> list[Measured]:
    """Read each table once. One that cannot be read in the session's statement_timeout says so."""
    return [_measure(connection, table) for table in tables.values()]


def _measure(connection: Connection, table: Table) -> Measured:
    dated = [c.name for c in table.columns if c.base_type in DATED]
    loose = [c.name for c in table.columns if c.type == "numeric"]
    wide = [c.name for c in table.columns if c.base_type in WIDE]
    fields: list[sql.Composable] = [
        sql.SQL("count(*) FILTER (WHERE NOT isfinite({}))").format(sql.Identifier(name)) for name in dated
    ]
    fields += [
        sql.SQL(
            "count(*) FILTER (WHERE {0} IN ('NaN', 'Infinity', '-Infinity') OR scale(trim_scale({0})) > {1} OR abs({0}) >= {2})"
        ).format(sql.Identifier(name), sql.Literal(DMS_SCALE), sql.SQL(f"1e{DMS_WHOLE_DIGITS}"))
        for name in loose
    ]
    fields += [sql.SQL("max(octet_length({}::text))").format(sql.Identifier(name)) for name in wide]
    if not fields:
        return Measured(table.name)
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(fields), table.identifier)
    try:
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
        return Measured(table.name, unread=str(error).splitlines()[0])
    values = [int(value or 0) for value in row or ()]
    ends = (len(dated), len(dated) + len(loose))
    return Measured(
        table.name,
        {name: n for name, n in zip(dated, values, strict=False) if n},
        dict(zip(loose, values[ends[0] : ends[1]], strict=True)),
        {name: n for name, n in zip(wide, values[ends[1] :], strict=True) if n},
    )


def largest(found: list[Measured]) -> list[LargestValue]:
    """The largest value of each table."""
    values = []
    for entry in found:
        column, size = max(entry.largest.items(), key=lambda item: item[1], default=("", 0))
        values.append(LargestValue(table=entry.table, column=column, bytes=size))
    return values


def judge(settings: Settings, found: list[Measured]) -> Iterator[Check]:
    """The verdicts: what PostgreSQL's own replication carries is a note, what DMS changes or cuts is a failure. Pure."""
    dms = settings.config.replication_engine == "dms"
    limit = settings.config.dms_lob_max_size_kb * 1024 if dms else LARGE_VALUE_BYTES
    yield named(
        "source: tables read",
        [f"{entry.table}: {entry.unread}" for entry in found if entry.unread],
        f"{len(found)}, every row",
        "warn",
        "its values are not known: run it again, or look yourself with SET statement_timeout = 0",
    )
    infinite = [f"{e.table}.{name} ({n} rows)" for e in found for name, n in e.infinite.items()]
    if infinite and not dms:
        yield Check("source: infinite dates", "pass", f"{', '.join(infinite)}; this engine carries them")
    else:
        yield named(
            "source: infinite dates",
            infinite,
            "none",
            "fail",
            "DMS makes another date of them: UPDATE ... SET column = NULL (or a far date) WHERE NOT isfinite(column), or use "
            "replicationEngine native",
        )
    loose = [(e.table, name, n) for e in found for name, n in e.too_wide.items()]
    over = [f"{table}.{name} ({n} rows are over it now)" for table, name, n in loose if n]
    if not dms:
        names = ", ".join(f"{table}.{name}" for table, name, _ in loose)
        yield Check("source: unbounded numeric", "pass", f"{names}; this engine carries them" if loose else "none")
    else:
        yield named(
            "source: unbounded numeric",
            over or [f"{table}.{name} (no row is over it now)" for table, name, _ in loose],
            "none",
            "fail" if over else "warn",
            f"DMS carries NUMERIC({DMS_SCALE + DMS_WHOLE_DIGITS},{DMS_SCALE}) and cuts the rest: ALTER TABLE ... ALTER COLUMN ... TYPE "
            "numeric(p, s), or use replicationEngine native",
        )
    sizes = [(f"{e.table}.{name}", n) for e in found for name, n in e.largest.items()]
    large = [f"{name} ({n} bytes)" for name, n in sizes if n > limit]
    near = [f"{name} ({n} bytes)" for name, n in sizes if limit // 2 < n <= limit]
    tops = "; ".join(f"{top.table}.{top.column} {top.bytes} bytes" for top in largest(found) if top.bytes)
    says = f"dmsLobMaxSizeKb {settings.config.dms_lob_max_size_kb}" if dms else f"{LARGE_VALUE_BYTES} bytes"
    remedy = (
        "a larger value stops the task: raise dmsLobMaxSizeKb above it and deploy"
        if dms
        else "each such change is built in memory, on both servers; see that there is room for a few at once"
    )
    yield Check(
        "source: largest values",
        ("fail" if dms else "warn") if large else ("warn" if near and dms else "pass"),
        f"{', '.join(large or near)}, the limit is {says}"
        if large or (near and dms)
        else f"the limit is {says}; {tops or 'no such column'}",
        remedy,
    )
