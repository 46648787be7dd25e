"""Locks that a stranger cannot hold: tried by the roles that log in on both sides, and taken over with the documented rights."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from scripts.canary import operator_lock, rollback
from scripts.canary.operator_lock import Operation
from scripts.canary.stage import Stage
from scripts.copy import run as copy
from scripts.database import locks
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import Refused, TimedOut
from scripts.support.sides import BOTH, Side
from tests.cloud import Cloud
from tests.conftest import Pair
from tests.integration.roles import MONOLITH, SERVICE, Cast

APPLICATIONS: dict[Side, str] = {"source": MONOLITH, "target": SERVICE}
#: The advisory keys that this program once used; any login may take them.
ADVISORY = """
SELECT pg_advisory_lock(hashtext('task_migration install')), pg_advisory_lock(hashtext('task_migration'), hashtext('copy')),
       pg_advisory_lock(hashtext('task_migration prune')), pg_advisory_lock(hashtextextended('task_migration canary', 0))
"""


@pytest.fixture
def cast(make_pair: Callable[..., Pair]) -> Iterator[Cast]:
    """Replication runs both ways, started by an operator who is no superuser."""
    cast = Cast(make_pair(rows=40, drainSeconds=0.1))
    schema.apply(cast.settings)
    with ExitStack() as held:
        for side, role in APPLICATIONS.items():
            session = held.enter_context(cast.session(side, role))
            session.execute("SET application_name = 'task-migration rollback op@laptop:1'")
            session.execute(ADVISORY)
            session.execute("SELECT pg_advisory_lock(1416907093, n) FROM generate_series(0, 1023) n")
        yield cast


def test_keys_that_any_login_may_take_stop_nothing(cast: Cast) -> None:
    """Prevents a command, an apply worker, a proof or the live application that waits for ever for what a served role holds."""
    settings = cast.settings
    copy.run(settings)
    replicate.start(settings)
    with cast.session("target", SERVICE) as session:
        # An update of a row that the other side deletes meanwhile asks for the key.
        session.execute("UPDATE tasks SET title = 'gone' WHERE id = 1")
    with cast.session("source", MONOLITH) as session:
        session.execute("DELETE FROM tasks WHERE id = 1")
        session.execute("INSERT INTO tasks (id, user_id, title) SELECT 1, min(user_id), 'again' FROM tasks")
    fence.both(settings, 20)
    with operator_lock.locked(settings, Operation.STEP) as held:
        held.check()
    cloud = Cloud(weight=25)
    stage = Stage(settings, cloud, cloud, None, cloud, metrics=cloud)  # type: ignore[arg-type]
    assert rollback.run(stage).rows.proven
    for side in BOTH:
        published = cast.admin(side).execute("SELECT schemaname, tablename FROM pg_publication_tables").fetchall()
        assert published == [("task_migration", f"{side}_writes")]


def test_the_operator_takes_over_with_the_documented_rights(cast: Cast) -> None:
    """Prevents a hanging step that keeps the operator from going back, since he is no superuser and may not signal others."""
    settings = cast.settings
    copy.run(settings)
    rows = cast.admin("source").execute("SELECT pg_has_role('operator_at_night', 'pg_signal_backend', 'USAGE')")
    assert rows.fetchone() == (False,)
    with operator_lock.locked(settings, Operation.RUN) as first:
        with (
            pytest.raises(Refused, match=r"another operator moves the weight: task-migration canary run .*--take-over"),
            operator_lock.locked(settings, Operation.STEP),
        ):
            pass
        with (
            operator_lock.locked(settings, Operation.ROLLBACK, take_over=True),
            pytest.raises(Refused, match="taken over by task-migration rollback"),
        ):
            first.check()


def test_a_locked_row_is_waited_for_shortly_and_stops_no_rollback(cast: Cast) -> None:
    """Prevents an operator whom a member of pg_write_all_data keeps waiting: LOCK TABLE is allowed to it on every table."""
    settings = cast.settings
    copy.run(settings)
    replicate.start(settings)
    admin = cast.admin("source")
    if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = 'locking'").fetchone():
        admin.execute("CREATE ROLE locking LOGIN PASSWORD 'pass-of-locking'")
        admin.execute("GRANT pg_write_all_data TO locking")
    url = cast.server("source").url(admin.info.dbname, "locking", "pass-of-locking")
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE task_migration.locks")
        began = time.monotonic()
        with (
            pytest.raises(TimedOut, match="row of the lock 'canary' was locked by somebody"),
            operator_lock.locked(settings, Operation.STEP),
        ):
            pass
        assert time.monotonic() - began < 2 * locks.ROW_MS / 1000
        cloud = Cloud(weight=25)
        stage = Stage(settings, cloud, cloud, None, cloud, metrics=cloud)  # type: ignore[arg-type]
        assert rollback.run(stage).rows.proven
        assert cloud.live == 0


def test_no_advisory_lock_is_left() -> None:
    """Prevents one that comes back with the next feature."""
    texts = [path for path in Path("scripts").rglob("*") if path.suffix in (".py", ".sql")]
    assert [str(path) for path in texts if re.search(r"advisory_(xact_)?lock", path.read_text())] == []
