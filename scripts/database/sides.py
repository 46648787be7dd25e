"""A session with one of the two databases."""

from __future__ import annotations

from scripts.database.connections import Connection, connect
from scripts.support.settings import Settings
from scripts.support.sides import Side


def open_side(
    settings: Settings, side: Side, step: str, lock_timeout_ms: int = 0, statement_timeout_ms: int = 0
) -> Connection:
    """As :func:`scripts.database.connections.connect`, to the source or the target of these settings."""
    return connect(
        settings.url(side),
        step=step,
        name=f"{side.upper()}_DATABASE_URL",
        lock_timeout_ms=lock_timeout_ms,
        statement_timeout_ms=statement_timeout_ms,
    )
