"""Nobody but the program's own rules decides what is recorded, and as whose: tried by the roles that write to the moved tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from scripts.copy import run as copy
from scripts.preflight import run as preflight
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import Refused
from scripts.support.sides import BOTH, Side
from scripts.verify import run as verify
from scripts.writes import record
from tests.conftest import Pair
from tests.integration.roles import MONOLITH, OPERATOR, REPORTER, SERVICE, Cast

APPLICATIONS: dict[Side, str] = {"source": MONOLITH, "target": SERVICE}

WRITES: dict[Side, str] = {
    "source": "UPDATE tasks SET title = 'hidden' WHERE id = 1",
    "target": "DELETE FROM task_images WHERE id = 1",
}
RECORDED: dict[Side, tuple[str, str, None]] = {
    "source": ("tasks", "update", None),
    "target": ("task_images", "delete", None),
}


@pytest.fixture
def cast(make_pair: Callable[..., Pair]) -> Cast:
    """Replication runs both ways, started by an operator who is no superuser."""
    cast = Cast(make_pair(rows=40))
    schema.apply(cast.settings)
    copy.run(cast.settings)
    replicate.start(cast.settings)
    return cast


def test_a_write_is_recorded_whatever_its_session_says_of_itself(cast: Cast) -> None:
    """Prevents a write that hides from the other side, and from every proof, by a setting that any role may set; and one that passes for
    a rule's own, of which nobody is told when it loses."""
    for side, role in APPLICATIONS.items():
        with cast.session(side, role) as session:
            session.execute("SET task_migration.applying = 'on'")
            session.execute("SET task_migration.cause = 'cascade'")
            session.execute(WRITES[side].encode())
        seen = cast.admin(side).execute(
            f"SELECT table_name, kind, cause FROM task_migration.{record.table_name(side)} WHERE kind <> 'fence'".encode()
        )
        assert seen.fetchall() == [RECORDED[side]]
    replicate.wait(cast.settings)
    for side in BOTH:
        admin = cast.admin(side)
        assert admin.execute("SELECT title FROM tasks WHERE id = 1").fetchone() == ("hidden",)
        assert admin.execute("SELECT 1 FROM task_images WHERE id = 1").fetchone() is None


@pytest.fixture
def writer(cast: Cast) -> Iterator[str]:
    """A role that may read and write all data of both sides (pg_read_all_data, pg_write_all_data), as a job for imports has it."""
    for side in BOTH:
        admin = cast.admin(side)
        if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = 'importing'").fetchone():
            admin.execute("CREATE ROLE importing LOGIN PASSWORD 'pass-of-import'")
        admin.execute("GRANT pg_read_all_data, pg_write_all_data TO importing")
        # Where it may make tables and functions of its own.
        admin.execute("CREATE SCHEMA desk AUTHORIZATION importing")
    yield "importing"
    for side in BOTH:
        cast.admin(side).execute("DROP SCHEMA desk CASCADE")
        # The servers are every test's, and `replicate start` wants no reader of everything.
        cast.admin(side).execute("REVOKE pg_read_all_data, pg_write_all_data FROM importing")


def _as(cast: Cast, side: Side, role: str) -> psycopg.Connection[Any]:
    admin = cast.admin(side)
    return psycopg.connect(cast.server(side).url(admin.info.dbname, role, "pass-of-import"), autocommit=True)


def test_nobody_else_writes_or_runs_what_is_in_the_helper_schema(cast: Cast, writer: str) -> None:
    """Prevents a forged record, a forged line of the conflict log, a forged setting, and a lock in somebody's name."""
    forged = "(v, table_name, key, kind) VALUES (999998, 'tasks', '[\"1\"]', 'delete')"
    statements = [
        f"INSERT INTO task_migration.source_writes {forged}",
        f"INSERT INTO task_migration.target_writes {forged}",
        "DELETE FROM task_migration.source_writes",
        "DELETE FROM task_migration.target_writes",
        "INSERT INTO task_migration.conflicts (table_name, key, kind, v, columns) VALUES ('tasks', '[]', 'update', 1, '{}')",
        "UPDATE task_migration.settings SET value = '\"yes\"'",
        "INSERT INTO task_migration.locks VALUES ('canary', 'me', 1, now()) ON CONFLICT (name) DO UPDATE SET holder = 'me'",
        "DELETE FROM task_migration.keys",
        "SELECT task_migration.tell('tasks', '[]', 'update', 1, '{}', '{}')",
        "SELECT task_migration.newest('tasks', '[]')",
        "TRUNCATE task_migration.conflicts",
    ]
    for side in BOTH:
        names = [
            row[0]
            for row in cast.admin(side).execute(
                "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'task_migration'::regnamespace "
                "AND prorettype = 'trigger'::regtype"
            )
        ]
        assert len(names) > 6
        # A table of one's own under our triggers: what is written to it would be recorded, or applied, as the operator.
        triggers = [
            f"CREATE TRIGGER t{place} AFTER INSERT ON desk.bait FOR EACH ROW EXECUTE FUNCTION {name}"
            for place, name in enumerate(names)
        ]
        for role in (writer, REPORTER, APPLICATIONS[side]):
            with _as(cast, side, writer) if role == writer else cast.session(side, role) as session:
                if role == writer:
                    session.execute("CREATE TABLE desk.bait AS SELECT * FROM tasks LIMIT 0")
                for statement in (*statements, *(triggers if role == writer else ())):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        session.execute(statement.encode())
    assert replicate.status(cast.settings).status != "fail"


def test_a_right_that_somebody_gave_is_told(cast: Cast) -> None:
    """Prevents a helper schema that was opened afterwards, by hand, and that nobody looks at again."""
    cast.admin("target").execute(f"GRANT INSERT ON task_migration.conflicts TO {REPORTER}")
    cast.admin("source").execute("GRANT EXECUTE ON FUNCTION task_migration.tell TO PUBLIC")
    carrier = cast.settings.config.replication_role
    cast.admin("source").execute(f"GRANT INSERT ON task_migration.settings TO {carrier}".encode())
    seen = replicate.status(cast.settings)
    found = {one.what: one for one in seen.findings if one.what.endswith("open to others")}
    assert set(found) == {"source: helper schema open to others", "target: helper schema open to others"}
    assert (
        "everybody has EXECUTE on routine task_migration.tell" in found["source: helper schema open to others"].detail
    )
    # What carries the records has rights to those alone.
    assert (
        f"{carrier} has INSERT on table task_migration.settings" in found["source: helper schema open to others"].detail
    )
    checks = {check.name: check for check in preflight.run(cast.settings, wal_seconds=0.2).checks}
    for side in BOTH:
        check = checks[f"{side}: schema task_migration"]
        assert check.status == "fail"
        with cast.session(side, OPERATOR) as session:
            session.execute(check.remedy.encode())
    seen = replicate.status(cast.settings)
    assert [one.what for one in seen.findings if one.status == "fail"] == []


def test_a_schema_that_a_stranger_made_first_is_refused(make_pair: Callable[..., Pair]) -> None:
    """Prevents tables with triggers of a stranger's, into which the operator writes, or settings that he made up."""
    cast = Cast(make_pair(rows=40))
    schema.apply(cast.settings)
    for side, role in APPLICATIONS.items():
        admin = cast.admin(side)
        admin.execute(
            f'GRANT CREATE ON DATABASE "{admin.info.dbname.replace(chr(34), chr(34) * 2)}" TO {role}'.encode()
        )
        if side == "target":
            admin.execute("DROP SCHEMA task_migration CASCADE")
        with cast.session(side, role) as session:
            session.execute("CREATE SCHEMA task_migration")
            session.execute("CREATE TABLE task_migration.conflicts (id int)")
            session.execute("CREATE TABLE task_migration.settings (name text PRIMARY KEY, value jsonb)")
            session.execute(f"GRANT ALL ON SCHEMA task_migration TO {OPERATOR}".encode())
            session.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA task_migration TO {OPERATOR}".encode())
    said = f"schema task_migration of .* belongs to .* and not to {OPERATOR}"
    for command in (copy.run, replicate.start, replicate.status, verify.run):
        with pytest.raises(Refused, match=said):
            command(cast.settings)
    checks = {check.name: check for check in preflight.run(cast.settings, wal_seconds=0.2).checks}
    for side in BOTH:
        check = checks[f"{side}: schema task_migration"]
        assert (check.status, check.remedy.split("; ")[-1]) == ("fail", "DROP TABLE task_migration.settings CASCADE")
        assert f"schema task_migration belongs to {APPLICATIONS[side]}" in check.detail


def test_what_a_former_version_made_is_closed_by_the_next_start(cast: Cast) -> None:
    """Prevents a migration under way that stays open, or without its locks, when the program is replaced; and one whose carriers lose
    their rights by that."""
    for side in BOTH:
        admin = cast.admin(side)
        admin.execute("DROP TABLE task_migration.locks, task_migration.keys")
        admin.execute("DROP FUNCTION task_migration.guard CASCADE")
        admin.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA task_migration TO PUBLIC")
    replicate.start(cast.settings)
    # A trigger of ours was not as it had been made: that is told until a verification.
    assert verify.run(cast.settings).match
    seen = replicate.status(cast.settings)
    assert [one.what for one in seen.findings if one.status == "fail"] == []
    for side in BOTH:
        guards = cast.admin(side).execute(
            "SELECT count(*) FROM pg_trigger WHERE tgname = '00_task_migration_guard' AND tgenabled = 'A'"
        )
        assert guards.fetchone() == (8,)
