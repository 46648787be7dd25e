"""Who can write to the source's tables, whether the monolith's role can be kept from it, and how it gets its rights back."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from components.config import MigrationConfig
from scripts.database import catalog, end_mark, helper_schema, queries, strangers
from scripts.database.connections import Connection, scalar
from scripts.database.sides import open_side, session
from scripts.finish.documents import Privileges
from scripts.replication import fence
from scripts.support.errors import DatabaseError, MigrationError, Refused
from scripts.support.events import FinalizeEvent, Step
from scripts.support.journal import note
from scripts.support.settings import Settings

QUERIES = queries.load("scripts.finish")
#: What of writing to a table can be given.
RIGHTS = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


def check_role(source: Connection, config: MigrationConfig, tables: dict[str, catalog.Table]) -> list[str]:
    """What a REVOKE from the monolith's role will not prevent, in words.

    Raises:
        Refused: there is no such role, or it is a superuser, whom no REVOKE binds.
    """
    role = config.source_role
    row = source.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if row is None:
        raise Refused(f"the role {role} does not exist on the source; set sourceRole to the monolith's role")
    if row[0]:
        raise Refused(
            f"{role} is a superuser, whose writes no REVOKE stops; take that from it: ALTER ROLE ... NOSUPERUSER"
        )
    # Other roles that log in and can write, and roles that ``role`` could change to (SET ROLE) in order to write.
    oids = [table.oid for table in tables.values()]
    rows = source.execute(QUERIES["other_writers"], {"role": role, "oids": oids}).fetchall()
    found = []
    for name, member, login in rows:
        if member:
            found.append(
                f"{role} is a member of {name}, which can write: REVOKE {catalog.quoted(name)} FROM {catalog.quoted(role)}"
            )
        elif login:
            found.append(
                f"the role {name} can write to these tables too and is left alone; what it writes after this is in the old tables only"
            )
    return found


def try_revoke(
    source: Connection, role: str, tables: dict[str, catalog.Table], statements: Sequence[sql.Composed]
) -> None:
    """Revoke, look, roll back: a role that would still write is found before anything is changed.

    Raises:
        Refused: it would, by a grant to PUBLIC, to a role that it is in, or by another grantor.
    """
    with source.transaction(force_rollback=True):
        for statement in statements:
            source.execute(statement)
        after = privileges(source, role, tables)
    still = [entry.table for entry in after if entry.writes or not entry.select]
    if still:
        raise Refused(
            f"{role} could still write to, or not read, {', '.join(still)} after the revoke: rights of PUBLIC, of a role it is in or of "
            f"another grantor. Nothing was changed; revoke those (REVOKE INSERT, UPDATE, DELETE ON ... FROM PUBLIC), then finalize "
            "again"
        )


def privileges(source: Connection, role: str, tables: dict[str, catalog.Table]) -> list[Privileges]:
    """What the role can do in effect, by whatever grant (own, PUBLIC, roles it is in, single columns)."""
    found = []
    for table in tables.values():
        row = source.execute(QUERIES["privileges"], {"role": role, "oid": table.oid}).fetchone()
        if row is None:
            raise DatabaseError(f"{table.name}: the source answered nothing about the rights of {role}")
        found.append(
            Privileges(table=table.name, select=row[0], insert=row[1], update=row[2], delete=row[3]),
        )
    return found


def keep(source: Connection, role: str, tables: dict[str, catalog.Table]) -> None:
    """Write down, in the revoke's own transaction, what gives the role back what it is about to lose."""
    oids = [table.oid for table in tables.values()]
    given = [list(row) for row in source.execute(QUERIES["writes_given"], {"role": role, "oids": oids})]
    if given:
        helper_schema.put(source, helper_schema.REVOKED, given)


def _grant(role: str, kept: object) -> sql.Composed:
    """The statement for one of the rights that :func:`keep` kept. What is kept is data: it names a right, and is never SQL itself."""
    if not isinstance(kept, list) or len(kept) != 5 or kept[3] not in RIGHTS:
        raise DatabaseError(
            f"{kept!r} is kept as a right of {role}, which is none of {', '.join(RIGHTS)}; give it its rights by hand"
        )
    schema, table, column, right, grantable = kept
    return sql.SQL("GRANT {}{} ON {} TO {}{}").format(
        sql.SQL(str(right)),
        sql.SQL(" ({})").format(sql.Identifier(str(column))) if column is not None else sql.SQL(""),
        sql.Identifier(str(schema), str(table)),
        sql.Identifier(role),
        sql.SQL(" WITH GRANT OPTION" if grantable else ""),
    )


def give_back(settings: Settings, dry_run: bool = False) -> list[str]:
    """What `finalize` took from the monolith's role, given back while replication runs both ways.

    Returns:
        the SQL; empty when the role can write.

    Raises:
        Refused: it cannot write, or lacks what the Task Service wrote, and replication no longer mends that.
        DatabaseError: the source cannot be asked.
    """
    config, role = settings.config, settings.config.source_role
    with session(settings, "source", "rollback", "the monolith's rights", lock_timeout_ms=300) as source:
        end_mark.refuse(
            source,
            config,
            f"replication is gone, the source lacks what the Task Service wrote since and {role} cannot write there. Requests stay on the Task "
            "Service. To get back its older state, restore a backup of the target (`task-migration backup`); to leave it for the monolith is "
            "a migration of its own, the other way",
        )
        if source.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
            return []
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        if any(entry.writes for entry in privileges(source, role, tables)):
            return []
        if not _runs(settings):
            raise Refused(
                f"{role} cannot write to the source's tables since `finalize` began, and replication does not run both ways: requests "
                "stay where they are. Run `task-migration replicate start`, then rollback again; or go on with `task-migration finalize`"
            )
        kept = helper_schema.get(source, helper_schema.REVOKED)
        rights = kept or [
            [table.schema, table.name, None, right, False] for table in tables.values() for right in RIGHTS[:3]
        ]
        statements = [_grant(role, right) for right in rights]
        texts = [statement.as_string(source) for statement in statements]
        if dry_run:
            return texts
        # A GRANT fires no other code.
        found = strangers.find(source, config, "source")
        strangers.refuse_any("source", [one for one in found if one.kind == "event trigger"])
        with open_side(settings, "target", "rollback") as target:
            # First: `finalize` goes straight to its end where this stands.
            helper_schema.put(target, helper_schema.FINALIZE, None)
        with source.transaction():
            for statement in statements:
                source.execute(statement)
            helper_schema.put(source, helper_schema.REVOKED, None)
    note(settings.journal, Step.FINALIZE, FinalizeEvent.GIVEN_BACK, role=role)
    return texts


def _runs(settings: Settings) -> bool:
    try:
        return fence.available(settings)
    except MigrationError:
        return False


def source_leads(settings: Settings) -> bool:
    """Whether the source holds the current rows; not so since `finalize` took the monolith's rights."""
    config = settings.config
    with session(settings, "source", "abandon", "looking at the source's rights") as source:
        writable = may_write(source, config, config.source_role)
        # Kept in the revoke's own transaction, taken away as they are given back.
        taken = helper_schema.get(source, helper_schema.REVOKED) or end_mark.found(source, config)
    return not taken and writable is not False


def may_write(connection: Connection, config: MigrationConfig, role: str) -> bool | None:
    """Whether an application's role can write to any of the tables; None where there is no such role or table."""
    writes: bool | None = scalar(connection, QUERIES["writable"], (role, config.db_schema, list(config.tables)))
    return writes
