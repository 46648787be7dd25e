"""Comparing one table: bucket sums on both sides at once, rows of the buckets that differ, rows again after a fence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from psycopg import sql

from scripts.catalog import Table, identifiers
from scripts.support.postgres import Connection

Algorithm = Literal["hash", "md5"]
Kind = Literal["missing_on_target", "missing_on_source", "different"]
Key = tuple[str, ...]
#: Rows a bucket holds, about.
BUCKET_ROWS = 1000
#: How often a row that keeps changing is looked at.
ROUNDS = 8
#: How often a table is passed over until counts and sums come out equal, while rows are under way.
PASSES = 5
#: Keys looked up with one statement.
BATCH = 2000


@dataclass(frozen=True)
class Pair:
    """A session on each side."""

    source: Connection
    target: Connection


@dataclass(frozen=True)
class Difference:
    """One row that is not the same; key values and values as text."""

    key: Key
    kind: Kind
    columns: tuple[str, ...]
    source_values: dict[str, str | None] | None = field(default=None, repr=False)
    target_values: dict[str, str | None] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Compared:
    """What comparing one table came to."""

    source_rows: int
    target_rows: int
    source_checksum: str
    target_checksum: str
    differences: list[Difference]
    unsettled: int


def row_hash(table: Table, algorithm: Algorithm) -> sql.Composed:
    """A 64-bit hash of a row ``t``: the columns in the source's order, by name, so that the target's order does not matter.

    ``json`` has no equality and no hash, so such columns count by their text. The MD5 is cut to 64 bits to be summed.
    """
    if algorithm == "md5":
        fields = [sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in table.stored]
        return sql.SQL("('x' || substr(md5(ROW({})::text), 1, 16))::bit(64)::bigint").format(sql.SQL(", ").join(fields))
    parts = []
    for name in table.stored:
        column = table.column(name)
        cast = sql.SQL("" if column.hashable and column.builtin else "::text")
        parts.append(sql.SQL("t.{}{}").format(sql.Identifier(name), cast))
    return sql.SQL("hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(parts))


def _bucket(table: Table, rows: int) -> sql.Composable:
    if table.numeric_key:
        return sql.SQL("t.{} / {}").format(sql.Identifier(table.numeric_key), sql.Literal(BUCKET_ROWS))
    mask = 1
    while mask * BUCKET_ROWS < rows:
        mask *= 2
    return sql.SQL("hashtextextended(ROW({})::text, 0) & {}").format(
        sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in table.key),
        sql.Literal(mask - 1),
    )


def compare(
    pair: Pair, table: Table, theirs: Table, pool: ThreadPoolExecutor, algorithm: Algorithm, settle: Callable[[], None]
) -> Compared:
    """Compare ``table`` on both sides; ``settle`` waits until both have applied what the other had committed."""
    bucket = _bucket(table, max(table.rows_estimate, theirs.rows_estimate))
    sums = sql.SQL("SELECT {}, count(*), sum({}) FROM {} t GROUP BY 1").format(
        bucket, row_hash(table, algorithm), table.identifier
    )
    differences: list[Difference] = []
    unsettled = 0
    # Rows under way make a pass unequal without a difference: another pass gives counts and sums taken at a better moment.
    for _ in range(PASSES if table.rows_estimate < 100_000 else 2):
        ours, others = (
            {row[0]: (int(row[1]), int(row[2])) for row in rows}
            for rows in pool.map(lambda side: side.execute(sums).fetchall(), (pair.source, pair.target))
        )
        suspect = sorted(b for b in ours.keys() | others.keys() if ours.get(b) != others.get(b))
        differences, unsettled = [], 0
        if not suspect:
            break
        keys = _suspect_keys(pair, table, bucket, suspect, pool, algorithm)
        differences, unsettled = recheck(pair, table, keys, algorithm, settle)
        if differences or unsettled:
            break
    return Compared(
        source_rows=sum(count for count, _ in ours.values()),
        target_rows=sum(count for count, _ in others.values()),
        source_checksum=_checksum(ours.values()),
        target_checksum=_checksum(others.values()),
        differences=differences,
        unsettled=unsettled,
    )


def _checksum(sums: Iterable[tuple[int, int]]) -> str:
    return f"{sum(total for _, total in sums) % 2**64:016x}"


def _key_texts(table: Table) -> sql.Composed:
    return sql.SQL("ARRAY[{}]").format(
        sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in table.key)
    )


def _suspect_keys(
    pair: Pair,
    table: Table,
    bucket: sql.Composable,
    suspect: Sequence[int],
    pool: ThreadPoolExecutor,
    algorithm: Algorithm,
) -> list[Key]:
    """Keys whose rows differ, within the buckets that differ; read bucket by bucket where the key is a number."""
    if table.numeric_key:
        number = sql.Identifier(table.numeric_key)
        width = BUCKET_ROWS
        # SQL's division goes towards zero, so bucket 0 reaches to both sides of it.
        bounds = [
            ((b if b > 0 else b - 1) * width + (1 if b <= 0 else 0), (b + 1 if b >= 0 else b) * width) for b in suspect
        ]
        condition = sql.SQL(
            "EXISTS (SELECT 1 FROM unnest(%(low)s::bigint[], %(high)s::bigint[]) r(low, high) "
            "WHERE t.{0} >= r.low AND t.{0} < r.high)"
        ).format(number)
        if len(bounds) <= 64:
            condition = sql.SQL("({})").format(
                sql.SQL(" OR ").join(
                    sql.SQL("(t.{0} >= {1} AND t.{0} < {2})").format(number, sql.Literal(low), sql.Literal(high))
                    for low, high in bounds
                )
            )
    else:
        bounds = []
        condition = sql.SQL("{} = ANY(%(buckets)s)").format(bucket)
    query = sql.SQL("SELECT {}, {} FROM {} t WHERE {}").format(
        _key_texts(table), row_hash(table, algorithm), table.identifier, condition
    )
    values = {"low": [b[0] for b in bounds], "high": [b[1] for b in bounds], "buckets": list(suspect)}
    ours, others = (
        {tuple(row[0]): row[1] for row in rows}
        for rows in pool.map(lambda side: side.execute(query, values).fetchall(), (pair.source, pair.target))
    )
    return [key for key in ours.keys() | others.keys() if ours.get(key) != others.get(key)]


def read_rows(
    connection: Connection, table: Table, keys: Sequence[Key], algorithm: Algorithm
) -> dict[Key, tuple[str, int, dict[str, str | None]]]:
    """The rows of ``keys``: their version (xmin, place), hash, and values as text."""
    found: dict[Key, tuple[str, int, dict[str, str | None]]] = {}
    match = sql.SQL(" AND ").join(
        sql.SQL("t.{} = k.{}::{}").format(
            sql.Identifier(name), sql.Identifier(f"k{i}"), sql.SQL(table.column(name).type)
        )
        for i, name in enumerate(table.key)
    )
    query = sql.SQL("SELECT {}, t.xmin::text, {}, ARRAY[{}] FROM unnest({}) k({}) JOIN {} t ON {}").format(
        _key_texts(table),
        row_hash(table, algorithm),
        sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in table.stored),
        sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in table.key),
        identifiers([f"k{i}" for i in range(len(table.key))]),
        table.identifier,
        match,
    )
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        columns = [[key[i] for key in batch] for i in range(len(table.key))]
        for key, version, digest, values in connection.execute(query, columns).fetchall():
            found[tuple(key)] = (version, digest, dict(zip(table.stored, values, strict=True)))
    return found


def recheck(
    pair: Pair, table: Table, keys: Sequence[Key], algorithm: Algorithm, settle: Callable[[], None]
) -> tuple[list[Difference], int]:
    """The differences among ``keys`` that are real, and how many rows kept changing.

    A fence between two looks at a row that neither side changed in between has brought everything that was under way.
    """
    waiting = list(keys)
    real: list[Difference] = []
    for _ in range(ROUNDS):
        if not waiting:
            break
        before = [read_rows(side, table, waiting, algorithm) for side in (pair.source, pair.target)]
        waiting = [key for key in waiting if _digest(before[0], key) != _digest(before[1], key)]
        if not waiting:
            break
        settle()
        after = [read_rows(side, table, waiting, algorithm) for side in (pair.source, pair.target)]
        moving = []
        for key in waiting:
            if _digest(after[0], key) == _digest(after[1], key):
                continue
            if all(_version(b, key) == _version(a, key) for b, a in zip(before, after, strict=True)):
                real.append(_difference(table, key, after[0].get(key), after[1].get(key)))
            else:
                moving.append(key)
        waiting = moving
    return sorted(real, key=lambda d: _order(d.key)), len(waiting)


def _digest(rows: dict[Key, tuple[str, int, dict[str, str | None]]], key: Key) -> int | None:
    return rows[key][1] if key in rows else None


def _version(rows: dict[Key, tuple[str, int, dict[str, str | None]]], key: Key) -> tuple[str, int] | None:
    return rows[key][:2] if key in rows else None


def _order(key: Key) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.lstrip("-").isdigit() else (0, part) for part in key)


def _difference(table: Table, key: Key, ours: Any, theirs: Any) -> Difference:
    if theirs is None:
        return Difference(key, "missing_on_target", (), ours[2], None)
    if ours is None:
        return Difference(key, "missing_on_source", (), None, theirs[2])
    columns = tuple(name for name in table.stored if ours[2][name] != theirs[2][name])
    return Difference(key, "different", columns, ours[2], theirs[2])
