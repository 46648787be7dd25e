"""The role of replication and its password: who may read it, where it is shown, and what becomes of it when it is changed."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import conninfo, sql

from scripts.copy import run as copy
from scripts.database import helper_schema, secrecy
from scripts.database.sides import open_side
from scripts.finish import abandon, removal
from scripts.preflight.run import run as preflight
from scripts.replication import roles
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import Refused
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from scripts.support.wait import wait_until
from tests.conftest import Pair
from tests.integration.roles import MONOLITH, OPERATOR, PASSWORDS, REPORTER, Cast

MakePair = Callable[..., Pair]


def copied(make_pair: MakePair) -> Cast:
    """A cast whose operator has carried the plan out up to the copy."""
    cast = Cast(make_pair(rows=20))
    schema.apply(cast.settings)
    copy.run(cast.settings)
    return cast


def untrusting(cast: Cast) -> Settings:
    """The operator's settings, with nobody accepted as a reader of passwords."""
    config = cast.settings.config.model_copy(update={"password_readers": ()})
    return dataclasses.replace(cast.settings, config=config)


def kept(cast: Cast) -> dict[Side, dict[str, str]]:
    """The connection that the subscription of each side keeps."""
    query = "SELECT subconninfo FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()"
    found: dict[Side, dict[str, str]] = {}
    for side in BOTH:
        row = cast.admin(side).execute(query).fetchone()
        assert row is not None
        found[side] = {key: str(value) for key, value in conninfo.conninfo_to_dict(row[0]).items()}
    return found


@pytest.fixture
def loud(make_pair: MakePair) -> Iterator[Cast]:
    """A cast up to the copy, whose servers log every statement."""
    cast = copied(make_pair)
    settings = ("log_statement = 'all'", "log_min_duration_statement = 0", "log_min_error_statement = 'error'")
    for side in BOTH:
        for setting in settings:
            cast.admin(side).execute(f"ALTER SYSTEM SET {setting}".encode())
        cast.admin(side).execute("SELECT pg_reload_conf()")
    yield cast
    for side in BOTH:
        cast.admin(side).execute("ALTER SYSTEM RESET ALL")
        cast.admin(side).execute("SELECT pg_reload_conf()")


def test_a_subscription_has_a_role_of_its_own_and_no_log_has_its_password(loud: Cast) -> None:
    """Prevents the operator's password in pg_subscription, and any in the log of a server that logs every statement of an operator
    without a right to switch that off."""
    cast = loud
    role = cast.settings.config.replication_role
    begins = {side: cast.server(side).log.stat().st_size for side in BOTH}
    replicate.start(cast.settings)
    found = kept(cast)
    for side in BOTH:
        assert found[side]["user"] == role
        assert len(found[side]["password"]) > 40
        logged = cast.server(side).log.read_bytes()[begins[side] :].decode(errors="replace")
        assert f'ALTER ROLE "{role}"' in logged, "the log was on"
        for secret in (found["source"]["password"], found["target"]["password"], "SCRAM-SHA-256", PASSWORDS[OPERATOR]):
            assert secret not in logged
    assert found["source"]["password"] != found["target"]["password"]
    for side in BOTH:
        rights = (
            cast.admin(side)
            .execute(
                "SELECT rolreplication, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = %s",
                (role,),
            )
            .fetchone()
        )
        assert rights == (True, False, False, False, False)
        peer: Side = "target" if side == "source" else "source"
        with psycopg.connect(
            cast.server(side).url(cast.admin(side).info.dbname, role, found[peer]["password"])
        ) as thief:
            thief.execute(f"SELECT count(*) FROM task_migration.{side}_writes".encode())
            for table in ("public.tasks", f"task_migration.{peer}_writes", "task_migration.settings"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), thief.transaction():
                    thief.execute(f"SELECT count(*) FROM {table}".encode())
    # Nothing of it is left when the attempt is given up.
    abandon.run(cast.settings)
    assert removal.leftovers(cast.settings) == []
    for side in BOTH:
        assert cast.admin(side).execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None


def test_a_role_that_reads_every_catalog_is_named_before_a_password_stands_in_one(make_pair: MakePair) -> None:
    """Prevents a reporting role that reads the password in pg_subscription, and with it everything of the other server."""
    cast = copied(make_pair)
    settings = untrusting(cast)
    with pytest.raises(Refused, match=rf"(?s){REPORTER} of the source.*REVOKE pg_read_all_data FROM {REPORTER}"):
        replicate.start(settings)
    for side in BOTH:
        assert cast.admin(side).execute("SELECT count(*) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())").fetchone() == (0,)  # fmt: skip
    checks = {check.name: check for check in preflight(settings, wal_seconds=0).checks}
    assert REPORTER in checks["target: readers of passwords"].detail
    assert checks["target: readers of passwords"].status == "fail"
    assert checks["source: role of replication"].status == "pass"
    assert checks["source: create subscription"].status == "pass"
    # What it would have read, where it is accepted by name.
    replicate.start(cast.settings)
    with cast.session("source", REPORTER) as reporter:
        assert str(kept(cast)["source"]["password"]) in str(
            reporter.execute("SELECT subconninfo FROM pg_subscription").fetchall()
        )
    with cast.session("source", MONOLITH) as monolith, pytest.raises(psycopg.errors.InsufficientPrivilege):
        monolith.execute("SELECT subconninfo FROM pg_subscription")


def test_a_changed_password_is_taken_up_by_the_next_start(make_pair: MakePair) -> None:
    """Prevents a rotation after which replication stands still at the next cut line, with nobody who knows the password."""
    cast = copied(make_pair)
    replicate.start(cast.settings)
    role = cast.settings.config.replication_role
    before = kept(cast)
    with open_side(cast.settings, "target", "test") as target:
        roles.set_password(target, role, "changed by somebody")
    # Before the line is cut, and after it.
    replicate.start(cast.settings)
    between = kept(cast)
    assert between["source"]["password"] != before["source"]["password"]
    assert between["target"] == before["target"], "the other direction had nothing to take up"
    with open_side(cast.settings, "target", "test") as target:
        roles.set_password(target, role, "changed again")
    reader = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active"
    slot = (cast.settings.config.reverse_subscription,)
    cast.admin("target").execute(reader, slot)
    down = wait_until(
        lambda: replicate.status(cast.settings, 1.0).reverse,
        lambda reverse: "password authentication failed" in (reverse.reason or ""),
        what="the worker to be down",
        timeout=40,
    )
    assert not down.running
    replicate.start(cast.settings)
    assert kept(cast)["source"]["password"] not in (before["source"]["password"], between["source"]["password"])
    assert replicate.status(cast.settings).reverse.running


def test_a_role_that_may_do_more_is_not_taken_for_replications(make_pair: MakePair) -> None:
    """Prevents a squatter: whoever has a role of that name first, or is in it, gets the right to read every write."""
    cast = copied(make_pair)
    role = sql.Identifier(cast.settings.config.replication_role)
    admin = cast.admin("source")
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE").format(role))
    with pytest.raises(Refused, match=r"the source.*may do more than replicate: it is CREATEROLE"):
        replicate.start(cast.settings)
    admin.execute(sql.SQL("ALTER ROLE {} NOCREATEROLE").format(role))
    admin.execute(sql.SQL("GRANT {} TO {}").format(role, sql.Identifier(MONOLITH)))
    with pytest.raises(Refused, match=f"{MONOLITH} is in it"):
        replicate.start(cast.settings)
    admin.execute(sql.SQL("REVOKE {} FROM {}").format(role, sql.Identifier(MONOLITH)))
    with pytest.raises(Refused, match=r"may not set its password: GRANT .* WITH ADMIN TRUE"):
        replicate.start(cast.settings)
    admin.execute(sql.SQL("DROP ROLE {}").format(role))
    own = cast.settings.config.model_copy(update={"replication_role": OPERATOR})
    with pytest.raises(Refused, match="the operator's own role"):
        replicate.start(dataclasses.replace(cast.settings, config=own))
    replicate.start(cast.settings)


def test_a_statement_that_hangs_and_is_cancelled_shows_no_password(make_pair: MakePair) -> None:
    """Prevents a monitoring role that reads the statement of another session while it runs, and an error that quotes it."""
    cast = Cast(make_pair(rows=5))
    secret = "only-for-the-server-to-see"
    with socket.create_server(("127.0.0.1", 0)) as silent, open_side(cast.settings, "source", "test") as operator:
        operator.execute("SET statement_timeout = '3s'")
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x password={secret}"
        tail = sql.SQL(" PUBLICATION p WITH (create_slot = false, slot_name = NONE, enabled = false)")
        failed: list[Exception] = []

        def hang() -> None:
            try:
                secrecy.execute(operator, sql.SQL("CREATE SUBSCRIPTION hanging CONNECTION "), dsn, tail)
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        with cast.session("source", REPORTER) as monitor:
            cast.admin("source").execute(f"GRANT pg_read_all_stats TO {REPORTER}".encode())
            try:
                shown = wait_until(
                    lambda: str(
                        monitor.execute(
                            "SELECT query FROM pg_stat_activity WHERE pid = %s", (operator.info.backend_pid,)
                        ).fetchall()
                    ),
                    lambda text: "CREATE SUBSCRIPTION hanging" in text,
                    what="the statement to be seen",
                    timeout=10,
                    interval=0.01,
                )
            finally:
                cast.admin("source").execute(f"REVOKE pg_read_all_stats FROM {REPORTER}".encode())
                thread.join()
    assert isinstance(failed[0], psycopg.errors.QueryCanceled)
    log = cast.server("source").log.read_text(errors="replace")
    assert "inline_code_block" in log, "the error was logged"
    for text in (shown, log, str(failed[0])):
        assert secret not in text


def test_the_role_of_dms_is_made_and_dropped_with_the_operators_rights(make_pair: MakePair) -> None:
    """Prevents a `finalize` that stops at its very end, as what DMS's sessions may set, or a table of DMS's own, hangs on the role."""
    cast = copied(make_pair)
    config = cast.settings.config.model_copy(update={"replication_engine": "dms"})
    role = config.replication_role
    for side in BOTH:
        with open_side(cast.settings, side, "test") as operator:
            helper_schema.install(operator)
            assert roles.ensure(operator, config, side)
            assert not roles.ensure(operator, config, side)
            password, _ = roles.set_password(operator, role)
            url = cast.server(side).url(cast.admin(side).info.dbname, role, password)
            with psycopg.connect(url, autocommit=True) as dms:
                dms.execute("SET session_replication_role = replica")
                dms.execute("CREATE TABLE task_migration.awsdms_apply_exceptions (task_name text)")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    dms.execute("SELECT count(*) FROM task_migration.settings")
            operator.execute("SELECT count(*) FROM task_migration.awsdms_apply_exceptions")
            assert roles.problem(operator, config) is None
    removal.remove(cast.settings)
    for side in BOTH:
        with open_side(cast.settings, side, "test") as operator:
            # The role is still there where the engine is another; what is granted to it beside the schema goes with it.
            assert roles.leftovers(operator, config) == []
