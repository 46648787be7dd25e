"""Preflight of the roles: what a step will do is done, inside a transaction that is rolled back. Nothing is guessed.

The operator's role need not be a superuser, as nobody is on RDS: LOGIN, REPLICATION (RDS: rds_replication),
pg_create_subscription and CREATE on the database, SET on session_replication_role (RDS: rds_superuser), and the tables for its own. Docs: runbook, 'The operator's role'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import psycopg
from psycopg import sql

from scripts.database import catalog
from scripts.database.catalog import Table, quoted
from scripts.database.connections import Connection, scalar
from scripts.database.error_text import told
from scripts.database.sides import open_side
from scripts.preflight import operator
from scripts.preflight.documents import Check
from scripts.preflight.server import NAME, QUERIES, try_slot
from scripts.replication import roles
from scripts.replication.subscriptions import peer_conninfo
from scripts.schema import ownership, role
from scripts.support.errors import MigrationError
from scripts.support.settings import Settings
from scripts.support.sides import Side, other

Statement = sql.Composed | sql.SQL
#: Until a server says that it cannot reach its peer, in seconds.
PEER_SECONDS = 10


def rights(settings: Settings, side: Side, connection: Connection, tables: Mapping[str, Table]) -> Iterator[Check]:
    """What the role of this side's URL has to do, with the ``tables`` that are there."""
    config = settings.config
    native = config.replication_engine == "native"
    role = str(scalar(connection, "SELECT quote_ident(current_user)"))
    database = str(scalar(connection, "SELECT quote_ident(current_database())"))
    yield _slot(side, connection, role)
    yield _walsender(settings, side, role)
    yield _try(
        f"{side}: create schema",
        connection,
        [sql.SQL("CREATE SCHEMA " + NAME)],
        f"GRANT CREATE ON DATABASE {database} TO {role}",
    )
    yield _try(
        f"{side}: session_replication_role",
        connection,
        [sql.SQL("SET LOCAL session_replication_role = replica")],
        f"GRANT SET ON PARAMETER session_replication_role TO {role} (RDS: GRANT rds_superuser TO {role})",
    )
    yield _replication_role(settings, side, connection, role)
    yield from operator.checks(config, side, connection)
    if native:
        yield _readers(settings, side, connection)
        yield _peer(settings, side, connection, role, database)
    yield from _tables(settings, side, connection, role)
    if side == "source":
        yield from _referenced(tables, connection, role)
        yield _everything(connection, role)
    else:
        yield from _new_tables(settings, connection, role)
    yield _application_role(settings, side, connection)


def _try(name: str, connection: Connection, statements: Sequence[Statement], remedy: str) -> Check:
    try:
        with connection.transaction(force_rollback=True):
            for statement in statements:
                connection.execute(statement)
    except psycopg.errors.LockNotAvailable as error:
        return Check(name, "warn", f"could not be tried, a lock is held: {told(error)}", "run it again")
    except psycopg.Error as error:
        return Check(name, "fail", f"refused: {told(error)}", remedy)
    return Check(name, "pass", "tried and rolled back")


def _slot(side: Side, connection: Connection, role: str) -> Check:
    """A temporary slot, gone again at once. The right is looked at first, then wal_level, then all open transactions are
    waited for, which is not what is asked here."""
    name = f"{side}: replication right"
    try:
        try_slot(connection, "pgoutput")
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        return Check(name, "pass", f"{role} may make slots; this one waited for open transactions and was given up")
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        return Check(name, "pass", f"{role} may make slots; none was made: {told(error)}")
    except psycopg.Error as error:
        return Check(
            name,
            "fail",
            f"{role} may not make slots: {told(error)}",
            f"ALTER ROLE {role} REPLICATION (RDS: GRANT rds_replication TO {role})",
        )
    return Check(name, "pass", f"{role} made a temporary slot")


def _walsender(settings: Settings, side: Side, role: str) -> Check:
    name = f"{side}: replication connection"
    try:
        with open_side(settings, side, "preflight", replication=True) as connection:
            connection.execute("IDENTIFY_SYSTEM")
    except (MigrationError, psycopg.Error) as error:
        return Check(
            name,
            "fail",
            told(error),
            f"ALTER ROLE {role} REPLICATION (RDS: GRANT rds_replication TO {role}), and a line in pg_hba.conf that lets it in",
        )
    return Check(name, "pass", "opened")


def _replication_role(settings: Settings, side: Side, connection: Connection, role: str) -> Check:
    """The role that replication logs in with, made and given a password as `replicate start` does."""
    name = f"{side}: role of replication"
    try:
        with connection.transaction(force_rollback=True):
            roles.ensure(connection, settings.config, side)
            roles.set_password(connection, settings.config.replication_role)
    except (MigrationError, psycopg.Error) as error:
        text = told(error)
        remedy = f"ALTER ROLE {role} CREATEROLE REPLICATION (RDS: GRANT rds_replication TO {role} WITH ADMIN OPTION), or what the detail says"
        return Check(name, "fail", text, remedy)
    return Check(name, "pass", f"{settings.config.replication_role}: tried and rolled back")


def _readers(settings: Settings, side: Side, connection: Connection) -> Check:
    found = roles.readers(connection, settings.config)
    return Check(
        f"{side}: readers of passwords",
        "fail" if found else "pass",
        f"{', '.join(found)} {roles.READABLE}" if found else "superusers and the operator alone",
        roles.reader_remedy(found),
    )


def _peer(settings: Settings, side: Side, connection: Connection, role: str, database: str) -> Check:
    """A subscription as `replicate start` makes it: the right to it, and the way from server to server. No password is tried, as it
    would stand in a statement: the peer's answer that this one is wrong is what shows that the way is open."""
    name = f"{side}: create subscription"
    config = settings.config
    peer_side = other(side)
    remedy = (
        f"GRANT pg_create_subscription TO {role}; GRANT CREATE ON DATABASE {database} TO {role}; and the {side}'s server itself "
        f"must reach the host of {peer_side.upper()}_DATABASE_URL, which lets {config.replication_role} in by password"
    )
    try:
        dsn = peer_conninfo(
            connection, settings.url(peer_side), config.replication_role, "none", config.server_root_certificate
        )
        statement = sql.SQL(
            "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH (create_slot = false, slot_name = NONE, "
            "enabled = false, copy_data = false)"
        ).format(
            sql.Identifier(NAME),
            sql.Literal(dsn),
            sql.Identifier(config.publication if side == "target" else config.reverse_publication),
        )
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(f"{PEER_SECONDS}s")))
            # libpq in the server knows no deadline of its own; the statement's ends it.
            connection.execute(statement)
    except MigrationError as error:
        return Check(name, "fail", str(error), "what the detail says")
    except psycopg.errors.QueryCanceled:
        return Check(name, "fail", f"the {side}'s server did not reach the {peer_side}'s in {PEER_SECONDS} s", remedy)
    except psycopg.errors.ConnectionFailure as error:
        text = told(error)
        # The peer's own words, in whatever language: of all that it refuses only the password is about the role alone.
        if config.replication_role not in text or "pg_hba.conf" in text:
            return Check(name, "fail", f"refused: {text}", remedy)
    except psycopg.Error as error:
        return Check(name, "fail", f"refused: {told(error)}", remedy)
    return Check(name, "pass", f"the {side}'s server reached the {peer_side}'s; rolled back")


def _tables(settings: Settings, side: Side, connection: Connection, role: str) -> Iterator[Check]:
    config = settings.config
    for table in config.tables:
        identifier = sql.Identifier(config.db_schema, table)
        text = identifier.as_string(connection)
        owner = scalar(
            connection, "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass(%s)", (text,)
        )
        if owner is None:
            continue
        name = f"{side}: record and read {table}"
        remedy = f"ALTER TABLE {text} OWNER TO {role}; where a policy hides rows: ALTER ROLE {role} BYPASSRLS"
        # Triggers and REVOKE are the owner's; what arrives is written with the rights of whoever made the triggers.
        if not scalar(connection, "SELECT pg_has_role(%s, 'USAGE')", (owner,)):
            yield Check(
                name, "fail", f"{role} is not in {quoted(owner)}, who owns it: it can put no trigger on it", remedy
            )
            continue
        yield _try(name, connection, [sql.SQL("SELECT 1 FROM {} LIMIT 1").format(identifier)], remedy)


def _referenced(tables: Mapping[str, Table], connection: Connection, role: str) -> Iterator[Check]:
    """Tables that stay behind: the row that one which arrives refers to is held until that is committed, as its key would."""
    parents = {key.references: key for _, key in catalog.crossing(tables) if key.references}
    for parent, key in parents.items():
        table = quoted(*parent)
        yield _try(
            f"source: hold rows of {'.'.join(parent)}",
            connection,
            [sql.SQL(f"SELECT 1 FROM {table} FOR KEY SHARE SKIP LOCKED LIMIT 1")],
            # FOR KEY SHARE asks for UPDATE of one column at least (PostgreSQL, 'SELECT').
            f"GRANT USAGE ON SCHEMA {quoted(parent[0])} TO {role}; GRANT SELECT, UPDATE ({quoted(key.references_columns[0])}) ON {table} "
            f"TO {role}; where a policy hides rows: ALTER ROLE {role} BYPASSRLS",
        )


def _everything(connection: Connection, role: str) -> Check:
    """What pg_dump does first: it locks every table, and reads every sequence."""
    rows = connection.execute(QUERIES["everything"]).fetchall()
    refused, locked = [], []
    for schema, name, kind in rows:
        identifier = sql.Identifier(schema, name)
        try:
            with connection.transaction(force_rollback=True):
                if kind == "S":
                    connection.execute(sql.SQL("SELECT last_value FROM {}").format(identifier))
                else:
                    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(identifier))
        except psycopg.errors.InsufficientPrivilege:
            refused.append(f"{schema}.{name}")
        except psycopg.errors.LockNotAvailable:
            locked.append(f"{schema}.{name}")
    if locked and not refused:
        return Check("source: back everything up", "warn", f"locked by somebody: {', '.join(locked)}", "run it again")
    return Check(
        "source: back everything up",
        "fail" if refused else "pass",
        f"not to be read: {', '.join(refused)}" if refused else f"{len(rows)} tables and sequences can be read",
        f"GRANT pg_read_all_data TO {role}",
    )


def _new_tables(settings: Settings, connection: Connection, operator: str) -> Iterator[Check]:
    schema, target_role = settings.config.db_schema, settings.config.target_role
    there = scalar(connection, "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", (schema,))
    space = sql.Identifier(schema)
    name = quoted(schema)
    table = sql.Identifier(schema, NAME)
    statements: list[Statement] = [] if there else [sql.SQL("CREATE SCHEMA {}").format(space)]
    statements.append(sql.SQL("CREATE TABLE {} ()").format(table))
    remedy = f"GRANT CREATE ON SCHEMA {name} TO {operator}"
    yield _try("target: create tables", connection, statements, remedy)
    given = sql.Identifier(target_role)
    if scalar(connection, "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %s)", (target_role,)):
        statements += role.grants([], target_role, [schema])
        statements.append(sql.SQL("GRANT SELECT ON {} TO {}").format(table, given))
        remedy = f"GRANT USAGE, CREATE ON SCHEMA {name} TO {operator} WITH GRANT OPTION"
        if settings.config.hand_over_ownership:
            statements += ownership.giving(connection, settings.config, NAME)
            remedy += f"; GRANT {quoted(target_role)} TO {operator} WITH ADMIN OPTION"
    else:
        statements = [sql.SQL("CREATE ROLE {}").format(given)]
        remedy = f"ALTER ROLE {operator} CREATEROLE, or CREATE ROLE {quoted(target_role)} LOGIN yourself"
    yield _try("target: rights of the service's role", connection, statements, remedy)


def _application_role(settings: Settings, side: Side, connection: Connection) -> Check:
    config = settings.config
    wanted = config.source_role if side == "source" else config.target_role
    name = f"{side}: role {wanted}"
    row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (wanted,)).fetchone()
    if row is None:
        return Check(
            name,
            "fail" if side == "source" else "warn",
            "does not exist",
            "set sourceRole to the monolith's role"
            if side == "source"
            else "`task-migration schema apply` makes it, with TARGET_ROLE_PASSWORD or the stack's secret",
        )
    if row[0] and side == "source":
        remedy = f"ALTER ROLE {quoted(wanted)} NOSUPERUSER"
        return Check(name, "fail", "is a superuser, whose writes no REVOKE of `finalize` stops", remedy)
    return Check(name, "pass", "exists")
