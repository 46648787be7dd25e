"""What a side's rules undo is told with every value, also when the other side gets the write and its undoing in one transaction.

AWS DMS gathers transactions: a row, and the write by which the rules took it away again, arrive together, and then no look at the end of
the applying transaction finds the row.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest

from tests.integration.replication.servers import PLACES, Servers
from tests.integration.replication.test_protocol import servers
from tests.model.scenarios import SCENARIOS
from tests.model.world import SIDES

__all__ = ["servers"]
CASES = {"cascading": "a parent and a child", "emptying": "a child that is set to null"}


def begin(servers: Servers, table: str, ahead: int = 0) -> int:
    """A parent row on both sides, and a child; the parent's id. The first side's clock is ``ahead``."""
    name = CASES[table]
    assert PLACES[name].name == table
    servers.begin(PLACES[name], SCENARIOS[name]._replace(ahead=(ahead, 0)))
    return servers.first


def write(servers: Servers, side: int, *statements: str) -> None:
    """Each a transaction of the side's application."""
    for statement in statements:
        servers.apps[side].execute(statement.encode())
        servers.collect(side)


def exchange(servers: Servers, *, together: bool) -> None:
    """The second side's writes arrive at the first one, then each side's at the other until there are no more."""
    taken = [0, 0]
    for round_ in range(8):
        side = round_ % 2
        fresh = servers.sent[1 - side][taken[1 - side] :]
        taken[1 - side] += len(fresh)
        for records in [list(chain(*fresh))] if together and fresh else fresh:
            servers.apply(side, records)
        servers.collect(side)


def told(servers: Servers, key: int) -> dict[str, str | None]:
    """Every value of the row that either log tells as lost."""
    found: dict[str, str | None] = {}
    for side in SIDES:
        for (lost,) in servers.workers[side].execute(
            "SELECT lost FROM task_migration.conflicts WHERE id > %s AND key = %s AND lost IS NOT NULL",
            (servers.told_before[side], json.dumps([str(key)])),
        ):
            found |= {name: None if value is None else str(value) for name, value in json.loads(lost).items()}
    return found


def rows(servers: Servers, key: int) -> list[Any]:
    table = servers.table.name
    return [servers.workers[side].execute(f"SELECT parent, a FROM {table} WHERE id = %s".encode(), (key,)).fetchall() for side in SIDES]  # fmt: skip


@pytest.mark.parametrize("together", [False, True])
def test_a_new_child_of_a_parent_that_is_gone_is_told_whole(servers: Servers, together: bool) -> None:
    parent = begin(servers, "cascading")
    child = parent + 5
    write(servers, 0, f"INSERT INTO cascading VALUES ({child}, {parent}, 7)")
    write(servers, 1, f"DELETE FROM cascading WHERE id = {parent}")
    exchange(servers, together=together)
    assert rows(servers, child) == [[], []]
    assert told(servers, child) == {"id": str(child), "parent": str(parent), "a": "7"}


@pytest.mark.parametrize("together", [False, True])
def test_a_child_that_was_inserted_anew_is_told_whole(servers: Servers, together: bool) -> None:
    """Prevents a log that says which parent was gone and not what went with it."""
    parent = begin(servers, "cascading", ahead=9)
    child = parent + 1
    write(
        servers,
        0,
        f"DELETE FROM cascading WHERE id = {child}",
        f"INSERT INTO cascading VALUES ({child}, {parent}, 7)",
    )
    write(servers, 1, f"DELETE FROM cascading WHERE id = {parent}")
    exchange(servers, together=together)
    assert rows(servers, child) == [[], []]
    assert told(servers, child) == {"id": str(child), "parent": str(parent), "a": "7"}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("new", [True, False])
def test_a_reference_to_a_parent_that_is_gone_is_told_and_nothing_else(
    servers: Servers, new: bool, together: bool
) -> None:
    """Prevents a reference that vanishes unsaid, and a log that calls lost what stands there."""
    parent = begin(servers, "emptying")
    child = parent + (5 if new else 1)
    if new:
        write(servers, 0, f"INSERT INTO emptying VALUES ({child}, {parent}, 7)")
    else:
        for side in SIDES:
            write(servers, side, f"UPDATE emptying SET parent = NULL WHERE id = {child}")
        exchange(servers, together=together)
        write(servers, 0, f"UPDATE emptying SET parent = {parent} WHERE id = {child}")
    write(servers, 1, f"DELETE FROM emptying WHERE id = {parent}")
    exchange(servers, together=together)
    assert rows(servers, child) == [[(None, 7 if new else 0)]] * 2
    assert told(servers, child) == {"parent": str(parent)}
