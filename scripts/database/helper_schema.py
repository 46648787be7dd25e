"""The program's own schema, ``task_migration``, on both databases: the record of writes, state of the copy, conflict log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from components.config import MigrationConfig
from scripts.database.catalog import quoted
from scripts.database.connections import Connection, scalar
from scripts.database.error_text import told
from scripts.database.queries import QUERIES
from scripts.support.errors import Refused, TimedOut
from scripts.support.sides import BOTH

HELPER_SCHEMA = "task_migration"
#: What the settings hold, by name: how far the copy is (on the target); that both sides were equal with the source read-only (on
#: the target); which rights the monolith gets back (on the source). An engine adds what it was started with (`engines`), the
#: record of writes what it was made for (`scripts.writes`).
COPY = "copy"
FINALIZE = "finalize"
REVOKED = "revoked"
#: Where the slot of the way back stood when it was made (on the target).
SLOT_BACK = "slot_back"
#: The newest `shadow`: whether both sides answered the same, when it began, of which copy and which definition of the Task Service
#: (on the source).
SHADOWED = "shadowed"
#: The weight that the live rule was last seen at, and since when nothing of before is under way (on the source).
ROUTED = "routed"
#: Of a `rollback --abandon` that was killed in its removal: the target's newest write, which the source has.
DRAINED = "drained"
T = TypeVar("T")


class Holding(NamedTuple):
    """An object of the helper schema, and who has ``rights`` to it besides its owner: ``grantee``, or everybody when that is None.
    Without ``rights`` nobody has."""

    kind: str
    name: str
    owner: str
    grantee: str | None
    rights: str | None


@dataclass(frozen=True)
class Open:
    """Something of the helper schema that is not the operator's alone, and SQL that mends it."""

    detail: str
    remedy: str


def install(connection: Connection) -> None:
    """Make the helper schema, or what a former version of it lacks, closed to everybody else. Safe to run again, and twice at once.

    Raises:
        Refused: somebody else made a schema of its name.
        TimedOut: somebody else is making one, and does not commit.
    """

    def work() -> None:
        there = whole(connection)
        if there:
            return
        with connection.transaction():
            connection.execute(sql.SQL(QUERIES["install"]).format(owner=sql.Literal(operator(connection))))
            # A former version's tables are left as they are: what carries records may have been given rights to them.
            close(connection, *(("SCHEMA", "TABLE") if there is None else ()))

    try:
        with_lock_retries(work, f"making the schema {HELPER_SCHEMA}")
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
        # Another command made it at the same moment: IF NOT EXISTS does not see what is not committed (PostgreSQL, 'CREATE TABLE').
        with_lock_retries(work, f"making the schema {HELPER_SCHEMA}")


def installed(connection: Connection) -> bool:
    """Whether the helper schema is there. Raises Refused when it is somebody else's."""
    return whole(connection) is not None


def whole(connection: Connection) -> bool | None:
    """Whether it has all that this version of the program keeps in it; None when it is not there at all. Raises as :func:`installed`."""
    row = connection.execute(QUERIES["state"]).fetchone()
    if row is None:
        return None
    owner, mine, there, all_of_it = row
    if not mine:
        raise Refused(
            f"the schema {HELPER_SCHEMA} of {connection.info.dbname} belongs to {owner} and not to {operator(connection)}, as whom this "
            "command works: nothing that stands in it is trusted, nothing was changed. Work as the role that began; or, where "
            f"{owner} is no operator: DROP SCHEMA {HELPER_SCHEMA} CASCADE"
        )
    return bool(all_of_it) if there else None


def operator(connection: Connection) -> str:
    """The role that this session works as."""
    return str(scalar(connection, "SELECT current_user"))


def close(connection: Connection, *kinds: str) -> None:
    """Take every right to functions and sequences of the helper schema, and to objects of ``kinds``, from everybody but their owner, in
    the transaction that made them: PUBLIC may execute new functions, and default privileges may give more (PostgreSQL, 'ALTER
    DEFAULT PRIVILEGES')."""
    for one in holdings(connection):
        if one.rights is not None and one.kind in ("ROUTINE", "SEQUENCE", *kinds):
            connection.execute(sql.SQL(_revoke(one)))


def holdings(connection: Connection) -> list[Holding]:
    """Every object of the helper schema with everybody who has a right to it."""
    return [Holding(*row) for row in connection.execute(QUERIES["holdings"]).fetchall()]


def judge(found: Iterable[Holding], operator: str, carriers: Collection[str] = ()) -> list[Open]:
    """What others could read, run or change. Pure.

    Args:
        operator: who must own each object.
        carriers: roles that carry the records from side to side: they have rights to those, and what AWS DMS keeps for itself is theirs.
    """
    seen = []
    records = {f"{HELPER_SCHEMA}.{side}_writes" for side in BOTH}
    for one in found:
        if one.owner not in {operator, *carriers}:
            seen.append(
                Open(f"{one.kind.lower()} {one.name} belongs to {one.owner}", f"DROP {one.kind} {one.name} CASCADE")
            )
        carries = one.grantee in carriers and (one.kind == "SCHEMA" or one.name in records)
        if one.rights is not None and one.grantee != operator and not carries:
            who = one.grantee or "everybody"
            seen.append(Open(f"{who} has {one.rights} on {one.kind.lower()} {one.name}", _revoke(one)))
    return seen


def exposed(connection: Connection, config: MigrationConfig) -> list[Open]:
    """What :func:`judge` says of this side; empty as well where nothing is installed."""
    return judge(holdings(connection), operator(connection), {config.replication_role})


def _revoke(one: Holding) -> str:
    return f"REVOKE ALL ON {one.kind} {one.name} FROM {quoted(one.grantee) if one.grantee else 'PUBLIC'}"


def get(connection: Connection, name: str) -> Any:
    """A value kept in the helper schema, or None."""
    if not installed(connection):
        return None
    return scalar(connection, "SELECT value FROM task_migration.settings WHERE name = %s", (name,))


def several(connection: Connection, names: Collection[str]) -> dict[str, Any]:
    """Of :func:`get` many at once, by name, without those that are not kept."""
    if not installed(connection):
        return {}
    query = "SELECT name, value FROM task_migration.settings WHERE name = ANY(%s)"
    return dict(connection.execute(query, (list(names),)).fetchall())


def _plain(value: Any) -> str:
    """JSON without escapes, of which a database of another encoding than UTF8 takes few (PostgreSQL, 'JSON Types')."""
    return json.dumps(value, ensure_ascii=False)


def put(connection: Connection, name: str, value: Any) -> None:
    """Keep a JSON value in the helper schema."""
    connection.execute(
        "INSERT INTO task_migration.settings (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, Jsonb(value, dumps=_plain)),
    )


def with_lock_retries(work: Callable[[], T], what: str, timeout: float = 60.0) -> T:
    """Run ``work``, whose session has a ``lock_timeout``, again until it gets its locks: a live table is never queued on.

    Raises:
        TimedOut: the locks were not to be had within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.1
    while True:
        try:
            return work()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"{what}: no lock after {timeout:g} s (the limit); last seen: {told(error)}; end the long transaction that holds it "
                    "(SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start) and run the command again"
                ) from None
            # Long enough for the queue that built up behind the attempt to pass.
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
