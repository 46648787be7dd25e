"""Sessions with the two databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scripts.database.connections import Connection, connect, domain_errors
from scripts.support.errors import Refused
from scripts.support.settings import Settings
from scripts.support.sides import Side, other


def open_side(
    settings: Settings, side: Side, step: str, lock_timeout_ms: int = 0, statement_timeout_ms: int = 0, **more: Any
) -> Connection:
    """As :func:`scripts.database.connections.connect`, with its other options, to the source or the target of these settings."""
    return connect(
        settings.url(side),
        step=step,
        name=f"{side.upper()}_DATABASE_URL",
        lock_timeout_ms=lock_timeout_ms,
        statement_timeout_ms=statement_timeout_ms,
        **more,
    )


@contextmanager
def session(
    settings: Settings,
    side: Side,
    step: str,
    what: str,
    lock_timeout_ms: int = 0,
    statement_timeout_ms: int = 0,
    **more: Any,
) -> Iterator[Connection]:
    """:func:`open_side` until the block ends; an error of PostgreSQL in it is a DatabaseError that begins with ``what``."""
    timeouts = lock_timeout_ms, statement_timeout_ms
    with domain_errors(what), open_side(settings, side, step, *timeouts, **more) as connection:
        yield connection


@contextmanager
def both(
    settings: Settings,
    step: str,
    what: str,
    lock_timeout_ms: int = 0,
    statement_timeout_ms: int = 0,
    first: Side = "source",
) -> Iterator[tuple[Connection, Connection]]:
    """As :func:`session`, with ``first`` and the other side. Raises Refused when they are one database."""
    timeouts = lock_timeout_ms, statement_timeout_ms
    with (
        domain_errors(what),
        open_side(settings, first, step, *timeouts) as one,
        open_side(settings, other(first), step, *timeouts) as another,
    ):
        refuse_same(one, another)
        yield one, another


def refuse_same(one: Connection, another: Connection) -> None:
    """Raises Refused when both sessions are with one database, by whatever names: each remedy for a target would be carried out on
    the live source."""
    query = "SELECT pg_postmaster_start_time(), oid FROM pg_database WHERE datname = current_database()"
    if one.execute(query).fetchone() == another.execute(query).fetchone():
        raise Refused(
            f"SOURCE_DATABASE_URL and TARGET_DATABASE_URL lead to the same database, {one.info.dbname}; nothing was changed: the target is the "
            "Task Service's, correct the URL that is not"
        )
