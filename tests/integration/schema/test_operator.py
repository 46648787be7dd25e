"""The operator's role on the target: made by the master, with a secret that RDS does not change every seven days."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo
from pydantic import SecretStr

from components.config import MigrationConfig
from components.naming import OPERATOR_SECRET
from scripts.database import secrecy
from scripts.database.connections import connect
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.preflight.rights import rights
from scripts.rehearsal.world import EmulatedAws
from scripts.replication import roles
from scripts.schema.operator import appoint
from scripts.support import aws as product
from scripts.support.errors import MigrationError, Refused
from scripts.support.settings import Settings
from tests.conftest import UNSYNCED

DATABASE, NAME, MASTER = "task_service_production", "task_operator", "task_service_admin"
#: What RDS has where plain PostgreSQL has attributes, and its master who is no superuser (Amazon RDS, 'Understanding the rds_superuser role').
RDS = """
CREATE ROLE rds_superuser;
CREATE ROLE rds_replication;
CREATE ROLE rds_master LOGIN PASSWORD 'of-the-master' CREATEROLE;
GRANT pg_create_subscription, pg_read_all_stats, pg_signal_backend TO rds_superuser;
GRANT SET ON PARAMETER session_replication_role TO rds_superuser WITH GRANT OPTION;
GRANT rds_superuser, rds_replication TO rds_master WITH ADMIN OPTION;
"""


@dataclass(frozen=True)
class Target:
    """A server with an empty database, a secret without a value, and what a stack says of both."""

    server: EmbeddedPostgres
    aws: EmulatedAws
    settings: Settings
    outputs: dict[str, Any]

    def master(self, user: str = MASTER, password: str = "of-the-master") -> SecretStr:
        return SecretStr(self.server.url(DATABASE, user, password))

    def secret(self) -> dict[str, Any]:
        found = self.aws.client("secretsmanager").get_secret_value(SecretId=OPERATOR_SECRET)["SecretString"]
        return dict(json.loads(found))

    def operator(self) -> str:
        """The operator's URL, as a command has it from secret and outputs."""
        return product.database_url("target", self.outputs)

    def row(self, query: str) -> tuple[Any, ...] | None:
        with psycopg.connect(self.server.url(DATABASE), autocommit=True) as admin:
            return admin.execute(query.encode()).fetchone()


@pytest.fixture(scope="module")
def server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A server of its own: roles are the whole server's."""
    with EmbeddedPostgres(server_directory, "master", settings=UNSYNCED) as running:
        running.execute(f"CREATE ROLE {MASTER} LOGIN SUPERUSER PASSWORD 'of-the-master'")
        yield running


@pytest.fixture
def target(server: EmbeddedPostgres, aws: EmulatedAws, in_account: None, tmp_path: Path) -> Iterator[Target]:
    server.execute(f"CREATE DATABASE {DATABASE}")
    arn = aws.client("secretsmanager").create_secret(Name=OPERATOR_SECRET)["ARN"]
    where = conninfo.conninfo_to_dict(server.url(DATABASE))
    outputs = {
        "targetSecretArn": arn,
        "targetEndpoint": where["host"],
        "targetPort": int(where["port"] or 0),
        "targetDatabase": DATABASE,
    }
    settings = Settings(MigrationConfig(), None, None, None, tmp_path)
    yield Target(server, aws, settings, outputs)
    aws.client("secretsmanager").delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
    drop(server, NAME)


def drop(server: EmbeddedPostgres, role: str) -> None:
    """The role with all that it was given, where it is there."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        if admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
            admin.execute(f"DROP OWNED BY {role} CASCADE".encode())
            admin.execute(f"DROP ROLE {role}".encode())


def test_without_it_a_command_says_what_makes_it(target: Target) -> None:
    with pytest.raises(MigrationError, match="has no value; task-migration schema role --operator"):
        target.operator()


def test_commands_log_in_with_a_role_that_has_the_tables_rights_and_no_more(target: Target) -> None:
    """Prevents a migration of two weeks that ends at the master's seventh day, and one that runs as a superuser."""
    assert appoint(target.settings, target.outputs, target.master()).status == "created"
    with psycopg.connect(target.operator()) as session:
        assert session.info.user == NAME
    assert target.row(f"SELECT rolsuper, rolcreaterole, rolreplication FROM pg_roles WHERE rolname = '{NAME}'") == (
        False,
        True,
        True,
    )
    assert target.row("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'") == (NAME,)


def test_preflight_finds_each_right_that_commands_need(target: Target) -> None:
    """Prevents a role that is made, and refused at the first step of the night."""
    appoint(target.settings, target.outputs, target.master())
    target.server.execute("CREATE ROLE task_service_user LOGIN")
    try:
        appoint(target.settings, target.outputs, target.master())
        url = SecretStr(target.operator())
        settings = dataclasses.replace(target.settings, source_url=url, target_url=url)
        with connect(target.operator(), step="preflight") as session:
            found = {check.name: check for check in rights(settings, "target", session, {})}
        assert found["target: session_replication_role"].status == "pass"
        assert {name: check.detail for name, check in found.items() if check.status != "pass"} == {}
    finally:
        with psycopg.connect(target.server.url(DATABASE), autocommit=True) as admin:
            admin.execute("DROP OWNED BY task_service_user")
        drop(target.server, "task_service_user")


def test_run_again_it_changes_nothing_and_mends_a_password_that_somebody_changed(target: Target) -> None:
    appoint(target.settings, target.outputs, target.master())
    first = target.secret()
    assert appoint(target.settings, target.outputs, target.master()).status == "there"
    target.server.execute(f"ALTER ROLE {NAME} PASSWORD 'changed by hand'")
    assert appoint(target.settings, target.outputs, target.master()).status == "password"
    assert target.secret() == first
    psycopg.connect(target.operator()).close()


def test_a_kill_after_the_secret_was_written_is_taken_up(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a role whose password nobody has: the secret comes first, and the role takes what stands there."""

    def killed(*_: object, **__: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(secrecy, "execute", killed)
        with pytest.raises(KeyboardInterrupt):
            appoint(target.settings, target.outputs, target.master())
    assert target.row(f"SELECT 1 FROM pg_roles WHERE rolname = '{NAME}'") is None
    written = target.secret()
    assert appoint(target.settings, target.outputs, target.master()).status == "created"
    assert target.secret() == written
    psycopg.connect(target.operator()).close()


def test_a_dry_run_changes_neither_the_role_nor_the_secret(target: Target) -> None:
    assert appoint(target.settings, target.outputs, target.master(), dry_run=True).status == "created"
    assert target.row(f"SELECT 1 FROM pg_roles WHERE rolname = '{NAME}'") is None
    with pytest.raises(MigrationError, match="has no value"):
        target.operator()


@pytest.mark.parametrize(
    ("name", "why"),
    [("task_service_user", "targetRole"), ("task_replication", "replicationRole"), (MASTER, "the master itself")],
)
def test_a_role_of_somebody_elses_is_refused(target: Target, name: str, why: str) -> None:
    config = target.settings.config.model_copy(update={"operator_role": name})
    with pytest.raises(Refused, match=f"operatorRole is {name}: .*{why}.*; set operatorRole to a name of its own"):
        appoint(dataclasses.replace(target.settings, config=config), target.outputs, target.master())
    with pytest.raises(MigrationError, match="has no value"):
        target.operator()


def test_a_secret_of_another_role_is_refused(target: Target) -> None:
    value = json.dumps({"username": "somebody", "password": "x"})
    target.aws.client("secretsmanager").put_secret_value(SecretId=OPERATOR_SECRET, SecretString=value)
    with pytest.raises(Refused, match="is of the role somebody, operatorRole is task_operator"):
        appoint(target.settings, target.outputs, target.master())
    assert target.secret() == json.loads(value)
    assert target.row(f"SELECT 1 FROM pg_roles WHERE rolname = '{NAME}'") is None


def test_a_master_who_may_not_give_a_right_is_told_which(target: Target) -> None:
    target.server.execute("CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'of-the-maker'")
    try:
        with pytest.raises(
            Refused, match="maker may not give the operator what commands need: ALTER ROLE .* REPLICATION"
        ):
            appoint(target.settings, target.outputs, target.master("maker", "of-the-maker"))
        assert target.row(f"SELECT 1 FROM pg_roles WHERE rolname = '{NAME}'") is None
    finally:
        target.server.execute("DROP ROLE maker")


def test_the_master_of_rds_is_no_superuser_and_gives_what_rds_has_instead(target: Target) -> None:
    target.server.execute(RDS)
    target.server.execute(f"ALTER DATABASE {DATABASE} OWNER TO rds_master")
    try:
        assert appoint(target.settings, target.outputs, target.master("rds_master")).status == "created"
        assert target.row(
            f"SELECT pg_has_role('{NAME}', 'rds_superuser', 'USAGE'), pg_has_role('{NAME}', 'rds_replication', 'USAGE WITH ADMIN OPTION')"
        ) == (True, True)
        assert target.row("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'") == (NAME,)
        assert target.row(f"SELECT pg_has_role('rds_master', '{NAME}', 'SET')") == (False,)
        with psycopg.connect(target.operator(), autocommit=True) as session:
            session.execute("SET session_replication_role = replica")
            assert roles.ensure(session, target.settings.config, "target")
            session.execute("DROP OWNED BY task_replication")
            session.execute("DROP ROLE task_replication")
    finally:
        target.server.execute(f"ALTER DATABASE {DATABASE} OWNER TO {MASTER}")
        with psycopg.connect(target.server.url(DATABASE), autocommit=True) as admin:
            admin.execute(f"DROP OWNED BY {NAME} CASCADE".encode())
        for role in (NAME, "rds_master", "rds_replication", "rds_superuser"):
            drop(target.server, role)
