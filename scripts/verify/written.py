"""Row by row: are the rows that one side wrote, or that both claimed, the same on both sides now?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from psycopg import sql

from scripts.database import catalog
from scripts.database.connections import Connection, connect, domain_errors
from scripts.replication import fence
from scripts.support.settings import Settings
from scripts.verify import rows as verify_rows
from scripts.verify.documents import RollbackProof, UnequalRow
from scripts.verify.rows import Key

#: Rounds of looking for what was written while the round before compared; a side that takes no requests needs one.
ROUNDS = 3
#: Differing rows that are named.
LISTED = 100
#: A commit gets its timestamp shortly before its place in the log.
MARGIN = "1 second"


def now_on_target(settings: Settings) -> str:
    """The target's clock, as text; later given to :func:`check`."""
    with domain_errors("the target's clock"), connect(settings.target(), step="canary") as target:
        row = target.execute("SELECT clock_timestamp()::text").fetchone()
    assert row is not None  # a SELECT of one expression gives one row
    return str(row[0])


def _changed(target: Connection, table: catalog.Table, since: str | None, engine: str) -> list[Key]:
    """Keys of the rows that were last written on the target itself, by a transaction committed after ``since``."""
    query = sql.SQL(
        "SELECT ARRAY[{key}] FROM {table} t, LATERAL {writer}(t.xmin) c "
        "WHERE c.roident = 0 AND c.timestamp >= coalesce(%s::timestamptz, '-infinity') - interval {margin}"
    ).format(
        key=sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in table.key),
        table=table.identifier,
        margin=sql.Literal(MARGIN),
        # What AWS DMS applied carries no origin; see scripts/replication/conflicts/dms.py.
        writer=sql.SQL("task_migration.local_write" if engine == "dms" else "pg_xact_commit_timestamp_origin"),
    )
    return [tuple(row[0]) for row in target.execute(query, (since,)).fetchall()]


@contextmanager
def _sides(settings: Settings) -> Iterator[tuple[verify_rows.Pair, dict[str, catalog.Table]]]:
    with (
        domain_errors("comparing rows"),
        connect(settings.source(), step="compare", name="SOURCE_DATABASE_URL") as source,
        connect(settings.target(), step="compare", name="TARGET_DATABASE_URL") as target,
    ):
        tables = catalog.read(source, settings.config.db_schema, settings.config.tables, "source")
        yield verify_rows.Pair(source, target), tables


def _named(table: catalog.Table, difference: verify_rows.Difference) -> UnequalRow:
    return UnequalRow(
        table=table.name,
        key=dict(zip(table.key, difference.key, strict=True)),
        kind=difference.kind,
        columns=list(difference.columns),
    )


def check(settings: Settings, since: str | None, timeout: float) -> RollbackProof:
    """Compare each row that the Task Service wrote since ``since`` (the target's clock; None: ever) with the source's.

    The rows are found by their commit's timestamp and origin (PostgreSQL, `track_commit_timestamp`), so what replication
    brought is left out. A row that the monolith changed meanwhile is compared again after fences both ways. A row that the
    Task Service deleted has no version to be found by; the reverse fence before this call speaks for those.

    Returns:
        ``different`` names at most :data:`LISTED` of the rows that differ.

    Raises:
        TimedOut: a fence did not come through in ``timeout`` seconds.
    """

    def settle() -> None:
        fence.both(settings, timeout)

    checked = unsettled = differing = 0
    different: list[UnequalRow] = []
    with _sides(settings) as (pair, tables):
        for turn in range(ROUNDS):
            row = pair.target.execute("SELECT clock_timestamp()::text").fetchone()
            found = {
                name: _changed(pair.target, table, since, settings.config.replication_engine)
                for name, table in tables.items()
            }
            if turn and not any(found.values()):
                break
            if turn:
                fence.reverse(settings, timeout)
            since = row[0] if row else since
            unsettled = differing = 0
            different = []
            for name, keys in found.items():
                real, moving = verify_rows.recheck(pair, tables[name], keys, "hash", settle)
                checked += len(keys)
                unsettled += moving
                differing += len(real)
                different += [_named(tables[name], one) for one in real]
            if different:
                break
    return RollbackProof(
        checked=checked,
        equal=checked - differing - unsettled,
        unsettled=unsettled,
        different=different[:LISTED],
    )


def unmended(settings: Settings, timeout: float, fences: Callable[[], object] | None = None) -> tuple[str, ...]:
    """Rows that a conflict was logged for, still open, and that are not the same on both sides: ``table key``.

    Ties settle at heartbeats, and most conflicts end equal by rule, so what is open in the log alone says little; it is the
    row that counts. Fences both ways come first.

    Args:
        fences: what settles; by default both fences with ``timeout`` seconds each.

    Raises:
        TimedOut: a fence did not come through.
    """

    def settle() -> None:
        (fences or (lambda: fence.both(settings, timeout)))()

    settle()
    found: list[str] = []
    with _sides(settings) as (pair, tables):
        claimed: dict[str, set[Key]] = {}
        for side in (pair.source, pair.target):
            for name, key in side.execute(
                "SELECT DISTINCT table_name, key FROM task_migration.conflicts WHERE settled IS NULL"
            ).fetchall():
                if name in tables and set(key) == set(tables[name].key):
                    claimed.setdefault(name, set()).add(tuple(str(key[column]) for column in tables[name].key))
        for name, keys in claimed.items():
            real, _ = verify_rows.recheck(pair, tables[name], _ordered(keys), "hash", settle)
            found += [f"{name} {'/'.join(one.key)}" for one in real]
    return tuple(found)


def _ordered(keys: set[Key]) -> Sequence[Key]:
    return sorted(keys)
