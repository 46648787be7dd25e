"""Preflight of the servers: settings with their headroom, transactions, slots; what the two must have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator

from scripts.copy import slot as slots
from scripts.database import queries
from scripts.database.connections import Connection, scalar
from scripts.preflight.documents import Check
from scripts.support.settings import Settings
from scripts.support.sides import Side

QUERIES = queries.load("scripts.preflight")
#: How what is only tried is called.
NAME = "task_migration_preflight"
#: Transactions older than this hold up the slot (it waits for all of them).
LONG_TRANSACTION_SECONDS = 30
#: Processes that take no place of max_worker_processes (PostgreSQL, 'pg_stat_activity', backend_type); all others do.
BUILT_IN = (
    *("client backend", "walsender", "walreceiver", "startup", "checkpointer", "background writer", "walwriter"),
    *("autovacuum launcher", "autovacuum worker", "archiver", "standalone backend", "slotsync worker"),
)
#: Connections that a copy with four jobs, both directions and the commands beside it take.
CONNECTIONS = 15


def try_slot(connection: Connection, plugin: str) -> None:
    """Make a temporary slot with the output plugin, gone again at once, in two seconds. Raises psycopg.Error."""
    slot, before = f"{NAME}_{os.getpid()}", scalar(connection, "SELECT current_setting('statement_timeout')")
    try:
        connection.execute("SELECT set_config('statement_timeout', '2s', false)")
        connection.execute("SELECT pg_create_logical_replication_slot(%s, %s, true)", (slot, plugin))
        connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    finally:
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (before,))


def least_version(settings: Settings, side: Side) -> int:
    """Subscriptions as we make them are PostgreSQL 16's. With DMS the source only needs what checksums and triggers use, which is 14's."""
    return 14 if side == "source" and settings.config.replication_engine == "dms" else 16


def server(settings: Settings, side: Side, connection: Connection) -> Iterator[Check]:
    """Version, static parameters, slots, senders, origins and workers, transactions, existing slots."""
    version = int(scalar(connection, "SELECT current_setting('server_version_num')::int / 10000"))
    needed = least_version(settings, side)
    yield Check(
        f"{side}: version",
        "pass" if version >= needed else "fail",
        f"PostgreSQL {version}, the limit is {needed} or newer",
        "upgrade the server" + ("; replicationEngine dms takes 14 or newer" if side == "source" else ""),
    )
    value = str(scalar(connection, "SHOW wal_level"))
    yield Check(
        f"{side}: wal_level",
        "pass" if value == "logical" else "fail",
        f"{value}, it must be logical",
        "ALTER SYSTEM SET wal_level = 'logical'; then restart (RDS: parameter group, pending-reboot, reboot; "
        "rds.logical_replication = 1)",
    )
    isolation = str(scalar(connection, "SHOW default_transaction_isolation"))
    yield Check(
        f"{side}: default_transaction_isolation",
        "pass" if isolation == "read committed" else "fail",
        f"{isolation}, it must be read committed: what applies a write has to see a row anew that it waited for",
        "ALTER DATABASE ... RESET default_transaction_isolation, or of the role: ALTER ROLE ... RESET default_transaction_isolation",
    )
    yield _log(side, connection)
    yield from _headroom(settings, side, connection)
    yield from _transactions(side, connection)
    yield from _slots(settings, side, connection)
    found = [str(row[0]) for row in connection.execute(QUERIES["all_tables"]).fetchall()]
    yield Check(
        f"{side}: publications of all tables",
        "warn" if found else "pass",
        f"{', '.join(found)} will send the tables of task_migration too, from `copy` to the end" if found else "none",
        "a subscriber of PostgreSQL stops at a table that it does not have, and its slot keeps the log from then on: name the tables "
        "(CREATE PUBLICATION ... FOR TABLES IN SCHEMA ..., then ALTER SUBSCRIPTION ... SET PUBLICATION there); others may leave them out",
    )


def _log(side: Side, connection: Connection) -> Check:
    """What the server writes of rows into its own log, whatever the commands leave out."""
    verbosity, length, slow, every = (
        str(scalar(connection, f"SHOW {name}"))
        for name in ("log_error_verbosity", "log_parameter_max_length", "log_min_duration_statement", "log_statement")
    )
    found = (
        []
        if verbosity == "terse"
        else [f"log_error_verbosity is {verbosity}, it should be terse: errors log the failing row"]
    )
    if length != "0" and (slow != "-1" or every in ("mod", "all")):
        found.append(f"log_parameter_max_length is {length}, it should be 0: statements are logged with their values")
    return Check(
        f"{side}: rows in the server's log",
        "warn" if found else "pass",
        "; ".join(found) or "neither failing rows nor values",
        "ALTER SYSTEM SET log_error_verbosity = 'terse'; ALTER SYSTEM SET log_parameter_max_length = 0; SELECT pg_reload_conf() "
        "(RDS: in the parameter group, applied at once)",
    )


def _headroom(settings: Settings, side: Side, connection: Connection) -> Iterator[Check]:
    config = settings.config
    native = config.replication_engine == "native"
    values = {
        "names": [config.subscription, config.reverse_subscription],
        "built_in": list(BUILT_IN),
    }
    # Of each: what we take beside what others have, and one to spare.
    wanted = [
        ("max_replication_slots", "slots", 2),
        ("max_wal_senders", "senders", 2),
        ("max_connections", "connections", CONNECTIONS),
    ]
    if native:
        wanted += [
            ("max_logical_replication_workers", "apply workers", 2),
            ("max_worker_processes", "background workers", 2),
        ]
    for name, used, needed in wanted:
        limit = int(scalar(connection, "SELECT current_setting(%s)::int", (name,)))
        taken = int(scalar(connection, QUERIES[name], values))
        yield Check(
            f"{side}: {name}",
            "pass" if limit - taken >= needed else "fail",
            f"{limit}, of which {taken} {used} are taken; {needed} must be free",
            f"ALTER SYSTEM SET {name} = {taken + needed + 2}; then restart (RDS: parameter group, reboot)",
        )
    # Progress of origins is kept in as many places as there may be slots (PostgreSQL 16, 'max_replication_slots').
    limit = int(scalar(connection, "SELECT current_setting('max_replication_slots')::int"))
    taken = int(scalar(connection, QUERIES["replication_origins"], values))
    yield Check(
        f"{side}: replication origins",
        "pass" if limit - taken >= 1 or not native else "fail",
        f"max_replication_slots {limit} limits origins too, of which {taken} are taken; 1 must be free",
        f"ALTER SYSTEM SET max_replication_slots = {taken + 3}; then restart (RDS: parameter group, reboot)",
    )


def _transactions(side: Side, connection: Connection) -> Iterator[Check]:
    sees = bool(scalar(connection, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"))
    longest = connection.execute(QUERIES["oldest_transaction"]).fetchone()
    long = longest is not None and longest[1] > LONG_TRANSACTION_SECONDS
    if not sees and not long:
        role = scalar(connection, "SELECT quote_ident(current_user)")
        yield Check(
            f"{side}: long transactions",
            "warn",
            f"not seen: {role} may not look at other roles' sessions, and the slot waits for every open transaction",
            f"GRANT pg_read_all_stats TO {role}",
        )
    else:
        yield Check(
            f"{side}: long transactions",
            "warn" if long else "pass",
            f"oldest: {longest[1]} s (pid {longest[0]}), the limit is {LONG_TRANSACTION_SECONDS} s"
            if longest
            else "none",
            f"it holds up the slot; end it: SELECT pg_terminate_backend({longest[0]})" if longest else "",
        )
    prepared = int(scalar(connection, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"))
    yield Check(
        f"{side}: prepared transactions",
        "warn" if prepared else "pass",
        f"{prepared} prepared, the slot waits for them",
        "COMMIT PREPARED or ROLLBACK PREPARED each: SELECT gid, prepared, owner FROM pg_prepared_xacts",
    )


def _slots(settings: Settings, side: Side, connection: Connection) -> Iterator[Check]:
    name = settings.config.subscription if side == "source" else settings.config.reverse_subscription
    slot = slots.describe(connection, name)
    yield Check(
        f"{side}: existing slot",
        "pass" if slot is None else "warn",
        "none of our name" if slot is None else f"{name} is there already: {slot}",
        "an earlier attempt; `copy` goes on with it or drops it; `rollback --abandon` removes it",
    )
    ours = [settings.config.subscription, settings.config.reverse_subscription]
    idle = connection.execute(QUERIES["idle_slots"], (ours,)).fetchall()
    yield Check(
        f"{side}: other slots",
        "warn" if idle else "pass",
        ", ".join(f"{row[0]} keeps {row[1] / 2**20:.1f} MiB of WAL ({row[2]})" for row in idle)
        or "none that nobody reads",
        "; ".join(f"SELECT pg_drop_replication_slot({row[0]})" for row in idle),
    )


def both(settings: Settings, source: Connection, target: Connection) -> Iterator[Check]:
    """What the two servers must have in common."""
    newer = int(scalar(source, "SELECT current_setting('server_version_num')::int")) >= 150000
    query = QUERIES["locale" if newer else "locale_14"]
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
        f"source {ours[1:]}, target {theirs[1:]}",
        f"lists sorted by text differ; CREATE DATABASE ... LC_COLLATE '{ours[1]}' LC_CTYPE '{ours[2]}' TEMPLATE template0 on "
        "the target",
    )
    clocks = [float(scalar(side, "SELECT extract(epoch FROM clock_timestamp())")) for side in (source, target)]
    apart = abs(clocks[0] - clocks[1])
    yield Check(
        "both: clocks",
        "pass" if apart < 1 else "warn",
        f"{apart:.3f} s apart, the limit is 1 s",
        "set both by NTP: 'newest wins' trusts them",
    )
    same = [str(scalar(side, "SELECT system_identifier FROM pg_control_system()")) for side in (source, target)]
    names = [str(scalar(side, "SELECT current_database()")) for side in (source, target)]
    twice = same[0] == same[1] and names[0] == names[1]
    yield Check(
        "both: two databases",
        "fail" if twice else "pass",
        "the same database" if twice else "different databases",
        "correct TARGET_DATABASE_URL",
    )
    band = settings.config.sequence_band_start
    yield Check(
        "both: sequence band",
        "pass" if band >= 10**6 else "warn",
        f"sequenceBandStart is {band}, at least 1000000 is wanted",
        "raise sequenceBandStart",
    )
