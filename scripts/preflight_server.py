"""Preflight of the servers: settings with their headroom, rights by trying them, transactions, slots, disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql

from scripts import copy_slot
from scripts.support.postgres import Connection
from scripts.support.settings import Settings

Status = Literal["pass", "warn", "fail"]
#: Transactions older than this hold up the slot (it waits for all of them).
LONG_TRANSACTION_SECONDS = 30
#: Fewer hours of WAL than this before the source's limit is reached: warn.
WAL_HOURS = 12.0


@dataclass(frozen=True)
class Check:
    """One finding; ``remedy`` is the SQL or the step that mends it."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def _one(connection: Connection, query: sql.SQL | str, values: Any = None) -> Any:
    row = connection.execute(sql.SQL(query) if isinstance(query, str) else query, values).fetchone()
    return row[0] if row else None


def server(settings: Settings, side: str, connection: Connection) -> Iterator[Check]:
    """Version, static parameters, slots, senders and workers, transactions, existing slots, WAL."""
    version = int(_one(connection, "SELECT current_setting('server_version_num')::int / 10000"))
    # origin = none is PostgreSQL 16's, and both sides subscribe; DMS reads older sources as well.
    needed = 12 if side == "source" and settings.config.replication_engine == "dms" else 16
    yield Check(
        f"{side}: version",
        "pass" if version >= needed else "fail",
        f"PostgreSQL {version}, the limit is {needed} or newer",
        "upgrade the server, or use replicationEngine dms",
    )
    for name, wanted in (("wal_level", "logical"), ("track_commit_timestamp", "on")):
        value = str(_one(connection, "SELECT current_setting(%s)", (name,)))
        yield Check(
            f"{side}: {name}",
            "pass" if value == wanted else "fail",
            f"{value}, it must be {wanted}",
            f"ALTER SYSTEM SET {name} = '{wanted}'; then restart (RDS: parameter group, pending-reboot, reboot; "
            "wal_level by rds.logical_replication = 1)",
        )
    for name, used, query in (
        ("max_replication_slots", "slots", "SELECT count(*) FROM pg_replication_slots"),
        ("max_wal_senders", "senders", "SELECT count(*) FROM pg_stat_replication"),
        ("max_logical_replication_workers", "subscriptions", "SELECT count(*) FROM pg_subscription WHERE subenabled"),
    ):
        limit = int(_one(connection, "SELECT current_setting(%s)::int", (name,)))
        taken = int(_one(connection, query))
        # One each for us, one to spare.
        yield Check(
            f"{side}: {name}",
            "pass" if limit - taken >= 2 else "fail",
            f"{limit}, of which {taken} {used} are taken; 2 must be free",
            f"ALTER SYSTEM SET {name} = {taken + 4}; then restart",
        )
    longest = connection.execute(
        "SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity "
        "WHERE xact_start IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend' ORDER BY xact_start LIMIT 1"
    ).fetchone()
    long = longest is not None and longest[1] > LONG_TRANSACTION_SECONDS
    yield Check(
        f"{side}: long transactions",
        "warn" if long else "pass",
        f"oldest: {longest[1]} s (pid {longest[0]})" if longest else "none",
        f"it holds up the slot; end it: SELECT pg_terminate_backend({longest[0]})" if longest else "",
    )
    prepared = int(_one(connection, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"))
    yield Check(
        f"{side}: prepared transactions",
        "warn" if prepared else "pass",
        f"{prepared} prepared",
        "COMMIT PREPARED or ROLLBACK PREPARED each; the slot waits for them",
    )
    name = settings.config.subscription if side == "source" else settings.config.reverse_subscription
    slot = copy_slot.describe(connection, name)
    yield Check(
        f"{side}: existing slot",
        "pass" if slot is None else "warn",
        "none of our name" if slot is None else f"{name} is there already: {slot}",
        "an earlier attempt; `copy` goes on with it or drops it; `rollback --abandon` removes it",
    )
    yield _wal(side, connection)


def _wal(side: str, connection: Connection) -> Check:
    limit = str(_one(connection, "SELECT current_setting('max_slot_wal_keep_size')"))
    limit_bytes = int(
        _one(connection, "SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'")
    )
    rate = float(
        _one(
            connection,
            "SELECT wal_bytes / greatest(extract(epoch FROM clock_timestamp() - stats_reset), 1) * 3600 FROM pg_stat_wal",
        )
        or 0
    )
    if limit_bytes < 0:
        return Check(
            f"{side}: WAL kept for slots",
            "pass",
            f"no limit; {rate / 2**20:.1f} MiB an hour are written: a stopped subscriber fills the disk at that rate",
        )
    hours = limit_bytes / rate if rate else float("inf")
    return Check(
        f"{side}: WAL kept for slots",
        "pass" if hours >= WAL_HOURS else "warn",
        f"max_slot_wal_keep_size {limit} lasts {hours:.1f} hours at {rate / 2**20:.1f} MiB an hour; {WAL_HOURS:g} are wanted",
        "raise max_slot_wal_keep_size: a slot past it is lost, and the copy starts over",
    )


def rights(settings: Settings, side: str, connection: Connection) -> Iterator[Check]:
    """What the role has to do, done inside a transaction that is rolled back."""
    config = settings.config
    role = str(_one(connection, "SELECT current_user"))
    replication = bool(
        _one(
            connection,
            "SELECT rolsuper OR rolreplication OR EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = 'rds_replication' "
            "AND pg_has_role(current_user, r.oid, 'member')) FROM pg_roles WHERE rolname = current_user",
        )
    )
    yield Check(
        f"{side}: replication right",
        "pass" if replication else "fail",
        f"{role} may {'' if replication else 'not '}make slots",
        f'ALTER ROLE "{role}" REPLICATION (RDS: GRANT rds_replication TO "{role}")',
    )
    tries: list[tuple[str, list[sql.Composed | sql.SQL], str]] = [
        (
            "create schema",
            [sql.SQL("CREATE SCHEMA task_migration_preflight")],
            f'GRANT CREATE ON DATABASE ... TO "{role}"',
        ),
        (
            "session_replication_role",
            [sql.SQL("SET LOCAL session_replication_role = replica")],
            f'GRANT SET ON PARAMETER session_replication_role TO "{role}" (RDS: GRANT rds_superuser)',
        ),
        (
            "replication origins",
            [sql.SQL("SELECT pg_replication_origin_create('task_migration_preflight')")],
            f'GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text) TO "{role}", and of the other pg_replication_origin_*',
        ),
        (
            "create subscription",
            [
                sql.SQL(
                    "CREATE SUBSCRIPTION task_migration_preflight CONNECTION 'dbname=nowhere password=none' PUBLICATION none "
                    "WITH (connect = false)"
                )
            ],
            f'GRANT pg_create_subscription TO "{role}"; GRANT CREATE ON DATABASE ... TO "{role}"',
        ),
    ]
    for name, statements, remedy in tries:
        yield _try(f"{side}: {name}", connection, statements, remedy)
    for table in config.tables:
        identifier = sql.Identifier(config.db_schema, table)
        if _one(connection, "SELECT to_regclass(%s) IS NULL", (identifier.as_string(connection),)):
            continue
        remedy = f'ALTER TABLE {identifier.as_string(connection)} OWNER TO, or run as, the owner; the role is "{role}"'
        yield _try(
            f"{side}: publish and read {table}",
            connection,
            [
                sql.SQL("CREATE PUBLICATION task_migration_preflight FOR TABLE {}").format(identifier),
                sql.SQL("SELECT 1 FROM {} LIMIT 1").format(identifier),
            ],
            remedy,
        )
    wanted = config.source_role if side == "source" else config.target_role
    there = bool(_one(connection, "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %s)", (wanted,)))
    yield Check(
        f"{side}: role {wanted}",
        "pass" if there else ("fail" if side == "source" else "warn"),
        "exists" if there else "does not exist",
        "set sourceRole to the monolith's role" if side == "source" else "`task-migration schema apply` makes it",
    )


def _try(name: str, connection: Connection, statements: list[sql.Composed | sql.SQL], remedy: str) -> Check:
    try:
        with connection.transaction(force_rollback=True):
            for statement in statements:
                connection.execute(statement)
    except psycopg.errors.LockNotAvailable as error:
        return Check(name, "warn", f"could not be tried, a lock is held: {error}", "run it again")
    except psycopg.Error as error:
        return Check(name, "fail", f"refused: {str(error).strip()}", remedy)
    return Check(name, "pass", "tried and rolled back")


def both(settings: Settings, source: Connection, target: Connection) -> Iterator[Check]:
    """What the two servers must have in common."""
    query = "SELECT pg_encoding_to_char(encoding), datcollate, datlocprovider::text FROM pg_database WHERE datname = current_database()"
    ours, theirs = source.execute(query).fetchone(), target.execute(query).fetchone()
    if ours is None or theirs is None:
        return
    yield Check(
        "both: encoding",
        "pass" if ours[0] == theirs[0] else "fail",
        f"source {ours[0]}, target {theirs[0]}",
        f"CREATE DATABASE ... ENCODING '{ours[0]}' TEMPLATE template0 on the target",
    )
    yield Check(
        "both: collation",
        "pass" if ours[1:] == theirs[1:] else "warn",
        f"source {ours[1]}, target {theirs[1]}",
        f"lists sorted by text differ; CREATE DATABASE ... LC_COLLATE '{ours[1]}' TEMPLATE template0 on the target",
    )
    clocks = [float(_one(side, "SELECT extract(epoch FROM clock_timestamp())")) for side in (source, target)]
    apart = abs(clocks[0] - clocks[1])
    yield Check(
        "both: clocks",
        "pass" if apart < 1 else "warn",
        f"{apart:.3f} s apart, the limit is 1 s",
        "set both by NTP: 'newest wins' trusts them",
    )
    same = [str(_one(side, "SELECT system_identifier FROM pg_control_system()")) for side in (source, target)]
    names = [str(_one(side, "SELECT current_database()")) for side in (source, target)]
    yield Check(
        "both: two databases",
        "fail" if same[0] == same[1] and names[0] == names[1] else "pass",
        "the same database" if same[0] == same[1] and names[0] == names[1] else "different databases",
        "correct TARGET_DATABASE_URL",
    )
    if settings.config.sequence_band_start < 10**6:
        yield Check(
            "both: sequence band",
            "warn",
            f"sequenceBandStart is {settings.config.sequence_band_start}, at least 1000000 is wanted",
            "raise sequenceBandStart",
        )
