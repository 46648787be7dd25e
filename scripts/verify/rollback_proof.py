"""A rollback's proof, row by row: are the rows that the Task Service wrote, or that both sides claimed, the same now?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from psycopg import sql

from scripts.database import catalog
from scripts.database.connections import Connection, domain_errors
from scripts.database.sides import open_side
from scripts.replication import fence
from scripts.support.settings import Settings
from scripts.verify.documents import RollbackProof, UnequalRow
from scripts.verify.rows import Difference, Found, Key, Pair, Reader, Recheck

#: Rounds of looking for what was written while the round before compared; a side that takes no requests needs one.
ROUNDS = 3
#: Differing rows that are named.
LISTED = 100
#: A commit gets its timestamp shortly before its place in the log.
MARGIN = "1 second"


def now_on_target(settings: Settings) -> str:
    """The target's clock, as text; later given to :func:`prove`."""
    with domain_errors("the target's clock"), open_side(settings, "target", "canary") as target:
        return _clock(target)


def _clock(target: Connection) -> str:
    row = target.execute("SELECT clock_timestamp()::text").fetchone()
    assert row is not None  # a SELECT of one expression gives one row
    return str(row[0])


def _written(target: Connection, table: catalog.Table, since: str | None, engine: str) -> list[Key]:
    """Keys of the rows that were last written on the target itself, by a transaction committed after ``since``."""
    query = sql.SQL(
        "SELECT ARRAY[{key}] FROM {table} t, LATERAL {writer}(t.xmin) c "
        "WHERE c.roident = 0 AND c.timestamp >= coalesce(%s::timestamptz, '-infinity') - interval {margin}"
    ).format(
        key=sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in table.key),
        table=table.identifier,
        margin=sql.Literal(MARGIN),
        # What AWS DMS applied carries no origin; see scripts/replication/conflicts/dms.sql.
        writer=sql.SQL("task_migration.local_write" if engine == "dms" else "pg_xact_commit_timestamp_origin"),
    )
    return [tuple(row[0]) for row in target.execute(query, (since,)).fetchall()]


@contextmanager
def _sides(settings: Settings) -> Iterator[tuple[Pair, dict[str, catalog.Table]]]:
    with (
        domain_errors("comparing rows"),
        open_side(settings, "source", "compare") as source,
        open_side(settings, "target", "compare") as target,
    ):
        tables = catalog.read(source, settings.config.db_schema, settings.config.tables, "source")
        yield Pair(source, target), tables


def _recheck(pair: Pair, table: catalog.Table, keys: Sequence[Key], catch_up: Callable[[], object]) -> Found:
    reader = Reader(table, table, "hash")
    return Recheck(pair, reader, catch_up, Found(len(keys))).rows(keys)


def prove(settings: Settings, since: str | None, timeout: float) -> RollbackProof:
    """Compare each row that the Task Service wrote since ``since`` (the target's clock; None: ever) with the source's.

    The rows are found by their commit's timestamp and origin (PostgreSQL, `track_commit_timestamp`), so what replication
    brought is left out. A row that the monolith changed meanwhile is compared again after fences both ways. A row that the
    Task Service deleted has no version to be found by; the reverse fence before this call speaks for those. What is written
    while rows are compared is looked for again, :data:`ROUNDS` times.

    Returns:
        ``different`` names at most :data:`LISTED` of the rows that differ.

    Raises:
        TimedOut: a fence did not come through in ``timeout`` seconds.
    """
    checked = unsettled = differing = 0
    different: list[UnequalRow] = []
    with _sides(settings) as (pair, tables):
        for turn in range(ROUNDS):
            now = _clock(pair.target)
            written = {
                name: _written(pair.target, table, since, settings.config.replication_engine)
                for name, table in tables.items()
            }
            if turn and not any(written.values()):
                break
            if turn:
                fence.reverse(settings, timeout)
            since, unsettled, differing, different = now, 0, 0, []
            for name, keys in written.items():
                found = _recheck(pair, tables[name], keys, lambda: fence.both(settings, timeout))
                checked += len(keys)
                unsettled += found.moving
                differing += found.total
                different += [_named(tables[name], one) for one in found.listed]
            if different:
                break
    return RollbackProof(
        checked=checked,
        equal=checked - differing - unsettled,
        unsettled=unsettled,
        different=different[:LISTED],
    )


def _named(table: catalog.Table, difference: Difference) -> UnequalRow:
    return UnequalRow(
        table=table.name,
        key=dict(zip(table.key, difference.key, strict=True)),
        kind=difference.kind,
        columns=list(difference.columns),
    )


def unequal_conflicts(
    settings: Settings, timeout: float, fences: Callable[[], object] | None = None
) -> tuple[str, ...]:
    """Rows that a conflict was logged for, still open, and that are not the same on both sides: ``table key``.

    Ties are resolved at heartbeats, and most conflicts end equal by rule, so what is open in the log alone says little; it is
    the row that counts. Fences both ways come first.

    Args:
        fences: what brings over what is under way; by default both fences with ``timeout`` seconds each.

    Raises:
        TimedOut: a fence did not come through.
    """
    catch_up = fences or (lambda: fence.both(settings, timeout))
    catch_up()
    with _sides(settings) as (pair, tables):
        claimed: dict[str, set[Key]] = {}
        for side in (pair.source, pair.target):
            for name, key in side.execute(
                "SELECT DISTINCT table_name, key FROM task_migration.conflicts WHERE settled IS NULL"
            ).fetchall():
                if name in tables and set(key) == set(tables[name].key):
                    claimed.setdefault(name, set()).add(tuple(str(key[column]) for column in tables[name].key))
        return tuple(
            f"{name} {'/'.join(one.key)}"
            for name, keys in claimed.items()
            for one in _recheck(pair, tables[name], sorted(keys), catch_up).listed
        )
