"""Before step 1: everything that would stop the migration half-way, found while nothing has been changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from scripts import catalog, preflight_server, preflight_tables
from scripts.preflight_server import Check
from scripts.support.errors import MigrationError
from scripts.support.postgres import Connection, connect, domain_errors
from scripts.support.settings import Settings


def run(settings: Settings) -> dict[str, Any]:
    """Look at both servers, the roles and the tables. Changes nothing: what is tried is rolled back.

    Returns:
        ``{"checks": [{"name", "status": "pass|warn|fail", "detail", "remedy"}], "passed": bool}``; ``passed`` is whether none
        failed. A server that cannot be reached is a failed check, not an error.

    Raises:
        UsageError: a connection string is missing or cannot be read.
    """
    checks: list[Check] = []
    connections: dict[str, Connection] = {}
    try:
        for side, url in (("source", settings.source()), ("target", settings.target())):
            try:
                connections[side] = connect(
                    url,
                    step="preflight",
                    name=f"{side.upper()}_DATABASE_URL",
                    lock_timeout_ms=1000,
                    statement_timeout_ms=60_000,
                )
                checks.append(Check(f"{side}: connection", "pass", "reached"))
            except MigrationError as error:
                checks.append(
                    Check(
                        f"{side}: connection", "fail", str(error), "mend address, rights or network, then run it again"
                    )
                )
        for side, connection in connections.items():
            checks += _guarded(f"{side}: server", partial(preflight_server.server, settings, side, connection))
            checks += _guarded(f"{side}: rights", partial(preflight_server.rights, settings, side, connection))
        if len(connections) == 2:
            source, target = connections["source"], connections["target"]
            checks += _guarded("both: servers", lambda: preflight_server.both(settings, source, target))
        if "source" in connections:
            checks += _guarded("source: tables", lambda: _tables(settings, "source", connections["source"]))
        if "target" in connections and catalog.existing(
            connections["target"], settings.config.db_schema, settings.config.tables
        ):
            checks += _guarded("target: tables", lambda: _tables(settings, "target", connections["target"]))
    finally:
        for connection in connections.values():
            connection.close()
    passed = all(check.status != "fail" for check in checks)
    settings.journal.record(
        "preflight", "checked", passed=passed, failed=[c.name for c in checks if c.status == "fail"]
    )
    return {
        "checks": [
            {"name": c.name, "status": c.status, "detail": c.detail, "remedy": c.remedy if c.status != "pass" else ""}
            for c in checks
        ],
        "passed": passed,
    }


def _guarded(name: str, work: Callable[[], Iterator[Check]]) -> list[Check]:
    found: list[Check] = []
    try:
        with domain_errors(name):
            found.extend(work())
    except MigrationError as error:
        found.append(Check(name, "fail", str(error), "mend this first; the checks after it could not be made"))
    return found


def _tables(settings: Settings, side: str, connection: Connection) -> Iterator[Check]:
    config = settings.config
    names = catalog.existing(connection, config.db_schema, config.tables)
    missing = [name for name in config.tables if name not in names]
    if missing:
        remedy = "correct `tables` in the stack's configuration" if side == "source" else "task-migration schema apply"
        yield Check(f"{side}: tables", "fail", f"missing: {', '.join(missing)}", remedy)
    tables = catalog.read(connection, config.db_schema, names, side)
    yield from preflight_tables.shape(side, tables)
    yield from preflight_tables.triggers(side, connection, tables)
    if side == "source":
        yield from preflight_tables.border(settings, tables)
        yield from preflight_tables.values(connection, tables)
        yield from preflight_tables.sequences(settings, connection, tables)
