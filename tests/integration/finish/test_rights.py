"""Who may write when: the Task Service only while there is a way back, the monolith again before anyone is sent to it."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.canary import operator_lock, rollback
from scripts.canary.operator_lock import Operation
from scripts.canary.stage import Stage
from scripts.copy import run as copy
from scripts.database import helper_schema
from scripts.finish import abandon, finalize, rights
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import DatabaseError, Refused
from scripts.support.safety import State
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.cloud import Cloud
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, count, running

ROLES = {"source": "myteacher_app_user", "target": "task_service_user"}
INSERT = "INSERT INTO tasks (user_id, title) SELECT min(user_id), '{}' FROM tasks"


def _as_role(pair: Pair, side: str) -> psycopg.Connection[Any]:
    server = pair.source_server if side == "source" else pair.target_server
    url = server.url(pair.source.info.dbname, ROLES[side], "secret-of-role")
    return psycopg.connect(url, autocommit=True)


def _stage(settings: Settings, cloud: Cloud) -> Stage:
    return Stage(settings, cloud, cloud, None, cloud, metrics=cloud)  # type: ignore[arg-type]


def _refused(pair: Pair, side: str, statement: str) -> bool:
    with _as_role(pair, side) as session:
        try:
            session.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return True
    return False


def test_the_task_service_writes_only_while_there_is_a_way_back(make_pair: MakePair) -> None:
    """Prevents a write of the Task Service that no slot holds: before `replicate start`, and after the attempt was given up."""
    pair = make_pair(rows=60)
    settings = pair.settings
    schema.apply(settings)
    writes = (INSERT.format("早い"), "UPDATE tasks SET title = 'x'", "DELETE FROM task_tag", "TRUNCATE task_images")
    assert all(_refused(pair, "target", one) for one in writes)
    copy.run(settings)
    assert all(_refused(pair, "target", one) for one in writes)
    with _as_role(pair, "target") as service:
        assert service.execute("SELECT count(*) FROM tasks").fetchone() == (
            count(pair.source, "SELECT count(*) FROM tasks"),
        )
    replicate.start(settings)
    with _as_role(pair, "target") as service:
        service.execute(INSERT.format("いま").encode())
    replicate.wait(settings)
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'いま'") == 1
    # Made anew by `schema apply` while it runs: nothing is taken.
    schema.apply(settings)
    assert not _refused(pair, "target", INSERT.format("まだ"))
    abandon.run(settings)
    assert all(_refused(pair, "target", one) for one in writes)
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'まだ'") == 1


def test_rights_that_are_not_the_roles_own_are_refused(make_pair: MakePair) -> None:
    """Prevents a copy beside which the Task Service writes by a right of PUBLIC."""
    pair = make_pair(rows=20)
    schema.apply(pair.settings)
    pair.target.execute("GRANT UPDATE (title) ON tasks TO PUBLIC")
    with pytest.raises(Refused, match=r"task_service_user could write to tasks .*PUBLIC"):
        copy.run(pair.settings)
    pair.target.execute("REVOKE UPDATE (title) ON tasks FROM PUBLIC")
    assert copy.run(pair.settings).status == "complete"


def test_a_rollback_gives_back_what_finalize_took(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents people who are sent to a monolith that cannot write, and a right that nobody had given it."""
    pair = running(make_pair, rows=60, drain_seconds=0.1)
    settings = pair.settings
    pair.source.execute("REVOKE UPDATE ON task_images FROM myteacher_app_user")
    pair.source.execute("GRANT UPDATE (file_path) ON task_images TO myteacher_app_user WITH GRANT OPTION")
    before = pair.source.execute(rights.QUERIES["writes_given"], _all(pair)).fetchall()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finalize._Finalizer, "bring_over", killed)
    with pytest.raises(KeyboardInterrupt):
        finalize.run(settings)
    monkeypatch.undo()
    assert _refused(pair, "source", INSERT.format("x"))
    assert not rights.source_leads(settings)
    cloud = Cloud(weight=100)
    # A plan of it says so and changes nothing.
    assert any(one.startswith("GRANT INSERT ON") for one in rights.give_back(settings, dry_run=True))
    assert _refused(pair, "source", INSERT.format("x"))
    # What is kept is data, whoever wrote it: as SQL it would make the monolith's role a superuser.
    kept = helper_schema.get(pair.source, helper_schema.REVOKED)
    evil = "ALTER ROLE myteacher_app_user SUPERUSER"
    for forged in ([evil], [["public", "tasks", None, f"INSERT ON tasks TO PUBLIC; {evil}; GRANT INSERT", False]]):
        helper_schema.put(pair.source, helper_schema.REVOKED, forged)
        with pytest.raises(DatabaseError, match="none of INSERT, UPDATE, DELETE, TRUNCATE"):
            rights.give_back(settings)
    assert count(pair.source, "SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname = 'myteacher_app_user'") == 0
    helper_schema.put(pair.source, helper_schema.REVOKED, kept)
    done = rollback.run(_stage(settings, cloud))
    assert (done.decision, done.rights_given_back, cloud.live) == ("rollback", True, 0)
    assert pair.source.execute(rights.QUERIES["writes_given"], _all(pair)).fetchall() == before
    assert not _refused(pair, "source", INSERT.format("戻った"))
    assert rights.source_leads(settings)
    replicate.wait(settings)
    assert count(pair.target, "SELECT count(*) FROM tasks WHERE title = '戻った'") == 1
    # The next time there is nothing to give.
    assert not rollback.run(_stage(settings, cloud)).rights_given_back
    assert finalize.run(settings).status == "finalized"


def test_who_takes_over_sees_what_a_revoke_under_way_takes(make_pair: MakePair) -> None:
    """Prevents users who are sent to a monolith that loses its rights a moment after the rollback has looked at them."""
    pair = running(make_pair, rows=20)
    settings = pair.settings
    seen: list[bool] = []

    def take_over() -> None:
        with operator_lock.locked(settings, Operation.ROLLBACK, take_over=True):
            seen.append(rights.source_leads(settings))

    other = threading.Thread(target=take_over)
    looks = itertools.count(1)

    def in_the_revoke() -> State:
        if next(looks) == 2:
            other.start()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_until(
                lambda: bool(seen) or count(pair.source, waits) > 0, bool, what="who takes over to look", timeout=20
            )
        return State()

    assert finalize.run(settings, look=in_the_revoke).status == "finalized"
    other.join()
    assert seen == [False]


def test_a_rollback_after_the_end_is_refused_and_moves_nobody(make_pair: MakePair) -> None:
    """Prevents people who are sent to old tables that lack what the Task Service wrote since, with or without rights to write."""
    pair = running(make_pair, rows=60, drain_seconds=0.1)
    settings = pair.settings
    finalize.run(settings)
    assert not _refused(pair, "target", INSERT.format("新しい"))
    cloud = Cloud(weight=100)
    for given in (False, True):
        if given:
            pair.source.execute("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO myteacher_app_user")
        with pytest.raises(Refused, match=r"`finalize` ended on .* Requests stay on the Task Service"):
            rollback.run(_stage(settings, cloud))
        assert (cloud.live, cloud.ups) == (100, [])
    # Nor does giving up take the rights of the only side that is left.
    assert abandon.run(settings).status == "nothing-there"
    assert not _refused(pair, "target", INSERT.format("なお"))


def test_a_rollback_while_the_way_back_is_off_moves_nobody_to_a_monolith_without_rights(make_pair: MakePair) -> None:
    """Prevents rights that are given back while the two sides no longer bring each other up to date."""
    pair = running(make_pair, rows=60, drain_seconds=0.1)
    settings = pair.settings
    cloud = Cloud(weight=100)
    tables = ", ".join(settings.config.tables)
    pair.source.execute(f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {tables} FROM myteacher_app_user".encode())
    replicate.stop(settings)
    with pytest.raises(Refused, match=r"replication does not run both ways: requests stay where they are"):
        rollback.run(_stage(settings, cloud))
    assert (cloud.live, cloud.ups) == (100, [])
    replicate.start(settings)
    done = rollback.run(_stage(settings, cloud))
    assert (done.rights_given_back, cloud.live) == (True, 0)
    assert not _refused(pair, "source", INSERT.format("x"))


def test_a_source_that_cannot_be_asked_stops_no_rollback(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents requests that stay on a failing Task Service as the monolith's database is away for a moment."""
    pair = running(make_pair, rows=20, drain_seconds=0.1, rollback_limit_seconds=5)
    cloud = Cloud(weight=100)
    pair.source.close()
    pair.source_server.stop()
    with pytest.raises(Exception, match="all routes are on the monolith"):
        rollback.run(_stage(pair.settings, cloud))
    assert cloud.live == 0
    pair.source_server.start()
    pair.source = psycopg.connect(pair.settings.source(), autocommit=True)
    wait_until(lambda: pair.source.execute("SELECT 1").fetchone(), bool, what="the source", timeout=10)


def _all(pair: Pair) -> dict[str, object]:
    rows = pair.source.execute("SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
    return {"role": "myteacher_app_user", "oids": [row[0] for row in rows]}


def test_a_rollback_proves_nothing_by_records_that_were_not_made(make_pair: MakePair) -> None:
    """Prevents a proof of 'every write' of which one left no record: a trigger of the target was off for a moment."""
    pair = running(make_pair, rows=20, drain_seconds=0.1)
    settings = pair.settings
    pair.target.execute("ALTER TABLE tasks DISABLE TRIGGER ALL")
    pair.target.execute(INSERT.format("だれも知らない"))
    pair.target.execute("ALTER TABLE tasks ENABLE TRIGGER ALL")
    for _ in range(2):
        cloud = Cloud(weight=25)
        with pytest.raises(Refused, match=r"all routes are on the monolith .*not proven .* may have left no record"):
            rollback.run(_stage(settings, cloud))
        assert cloud.live == 0
        # What the triggers missed is not made good by putting them back.
        replicate.start(settings)
    assert verify.run(settings, repair="newest").match
    assert rollback.run(_stage(settings, Cloud(weight=0))).decision == "rollback"
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'だれも知らない'") == 1
