"""The conflict logs of both sides, as the tests ask them."""

from __future__ import annotations

from typing import Any

from scripts.database.sides import open_side
from scripts.support.settings import Settings
from scripts.support.sides import BOTH


def told(settings: Settings) -> list[dict[str, Any]]:
    """Writes that lost to others, oldest first: side, id, at, table, key, kind, v, columns."""
    found: list[dict[str, Any]] = []
    names = ("id", "at", "table", "key", "kind", "v", "columns")
    for side in BOTH:
        with open_side(settings, side, "conflicts") as connection:
            rows = connection.execute(
                "SELECT id, at, table_name, key, kind, v, columns FROM task_migration.conflicts ORDER BY id"
            ).fetchall()
            found += [{"side": side, **dict(zip(names, row, strict=True))} for row in rows]
    return sorted(found, key=lambda entry: (str(entry["at"]), str(entry["id"])))
