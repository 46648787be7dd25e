"""Whom a session talks to: a server is known by its certificate and its name, and nobody else gets the password."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import conninfo

from scripts.backup import tools
from scripts.database import tls
from scripts.database.connections import connect
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication.subscriptions import peer_conninfo
from scripts.support.errors import DatabaseError, MigrationError, Refused, UsageError
from tests.conftest import AWKWARD_PASSWORD
from tests.integration.tls_front import Authority, TlsFront

#: The name that the certificate is for; where it leads, the URLs say by number, as a resolver would.
NAME = "db.example"


@dataclass
class Place:
    """A server behind TLS, and its authority."""

    front: TlsFront
    authority: Authority

    def url(self, host: str = NAME, **options: str) -> str:
        """The connection string of its superuser by a name of the server."""
        said = {"hostaddr": "127.0.0.1", **options}
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in said.items())
        return f"postgresql://postgres:{quote(AWKWARD_PASSWORD, safe='')}@{host}:{self.front.port}/postgres?{text}"


@pytest.fixture
def place(source_server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The source's server behind TLS; nothing of this machine's user says how to check it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PGSSLROOTCERT", "PGSSLMODE", "PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    source_server.start()
    authority = Authority.make(tmp_path, "authority")
    with TlsFront(source_server.port, authority.server(NAME)) as front:
        yield Place(front, authority)


def test_the_right_certificate_is_taken_and_the_session_is_encrypted(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a check that refuses what is right, from each place where the authorities may stand; and what it cost to have none."""
    with pytest.raises(Refused, match=f"leads to {NAME}.*export PGSSLROOTCERT"):
        connect(place.url(), step="test")
    assert place.front.accepted == 0
    with connect(place.url(sslrootcert=str(place.authority.root)), step="test") as session:
        assert session.pgconn.ssl_in_use
    monkeypatch.setenv("PGSSLROOTCERT", str(place.authority.root))
    for replication in (False, True):
        with connect(place.url(sslmode="verify-full"), step="test", replication=replication) as session:
            assert session.pgconn.ssl_in_use
    monkeypatch.delenv("PGSSLROOTCERT")
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").write_bytes(place.authority.root.read_bytes())
    with connect(place.url(), step="test") as session:
        assert session.pgconn.ssl_in_use
    assert place.front.plain == b""


def test_another_authority_and_another_name_get_no_password(place: Place, tmp_path: Path) -> None:
    """Prevents a password for whoever answers in the server's place."""
    other = Authority.make(tmp_path, "other")
    wrong = {
        "certificate verify failed": place.url(sslrootcert=str(other.root)),
        "does not match host name": place.url("elsewhere.example", sslrootcert=str(place.authority.root)),
        # The system's authorities never signed it.
        "certificate verify failed ": place.url(sslrootcert="system"),
    }
    for said, url in wrong.items():
        with pytest.raises(DatabaseError, match=said.strip()) as caught:
            connect(url, step="test")
        assert AWKWARD_PASSWORD not in str(caught.value)
    assert place.front.plain == b""


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_a_weaker_mode_is_refused_before_anything_is_sent(place: Place, mode: str) -> None:
    """Prevents a URL that was copied from an application, and turns the check off."""
    with pytest.raises(UsageError, match=f"sslmode={mode}, the limit is verify-full"):
        connect(place.url(sslmode=mode, sslrootcert=str(place.authority.root)), step="test")
    assert place.front.accepted == 0


def test_the_environment_turns_nothing_off(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents a variable or a service file, read by libpq where the URL says nothing, that leads elsewhere or weakens the check."""
    monkeypatch.setenv("PGSSLMODE", "disable")
    monkeypatch.setenv("PGGSSENCMODE", "prefer")
    with pytest.raises(Refused, match="no certificates"):
        connect(place.url(), step="test")
    # A URL that names no host goes where the environment says, which is then no less checked.
    monkeypatch.setenv("PGHOST", NAME)
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    nowhere = f"postgresql://postgres:x@/postgres?port={place.front.port}"
    with pytest.raises(Refused, match=f"leads to {NAME}"):
        connect(nowhere, step="test")
    monkeypatch.delenv("PGHOST")
    monkeypatch.delenv("PGHOSTADDR")
    services = tmp_path / "pg_service.conf"
    services.write_text(f"[elsewhere]\nhostaddr=127.0.0.2\nport={place.front.port}\nsslmode=disable\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with pytest.raises(UsageError, match="names a service"):
        connect(place.url(service="elsewhere"), step="test")
    assert place.front.accepted == 0
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    with connect(place.url(sslrootcert=str(place.authority.root)), step="test") as session:
        assert (session.info.hostaddr, session.pgconn.ssl_in_use) == ("127.0.0.1", True)


@pytest.mark.parametrize(
    ("values", "stays"),
    [
        ({}, True),
        ({"host": "127.0.0.1"}, True),
        ({"host": "127.8.9.10"}, True),
        ({"host": "::1"}, True),
        ({"host": "/var/run/postgresql"}, True),
        ({"hostaddr": "127.0.0.1"}, True),
        ({"host": "127.0.0.1,::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "localhost", "hostaddr": "10.0.0.5"}, False),
        ({"host": "127.0.0.1", "hostaddr": "10.0.0.5"}, False),
        ({"host": "/var/run/postgresql", "hostaddr": "10.0.0.5"}, False),
        ({"host": "127.0.0.1,db.example"}, False),
        ({"host": "127.0.0.1.example"}, False),
        ({"host": "localhost.example"}, False),
        ({"host": "localhost."}, False),
        ({"host": "db.example", "hostaddr": "127.0.0.1"}, False),
        ({"host": "10.0.0.5"}, False),
        ({"host": "0.0.0.0"}, False),
    ],
)
def test_only_what_cannot_leave_the_machine_goes_without_tls(
    values: dict[str, str], stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a name that looks like this machine's, or resolves to it on a good day, from going past the check."""
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    assert tls.stays_here(tls.address(values)) is stays


def test_the_name_localhost_is_this_machine_whatever_a_resolver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a resolver that has another localhost."""
    monkeypatch.delenv("PGHOSTADDR", raising=False)
    assert tls.secured({"host": "localhost"}, "x")["hostaddr"] == "127.0.0.1"


def test_a_server_of_this_machine_is_reached_whatever_the_environment_asks_of_others(
    source_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a backup whose scratch server, which has no TLS, is refused by what the operator exported for RDS."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    source_server.stop()
    source_server.start()
    connect(source_server.url(), step="test").close()


def test_a_subscription_checks_its_publisher_by_the_servers_own_file(
    source_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Prevents a server that gives the password of replication to whoever answers; the file is one on the server, as RDS has it in
    ssl_ca_file."""
    monkeypatch.setenv("PGSSLROOTCERT", str(Authority.make(tmp_path, "authority").root))
    source_server.start()
    url = f"postgresql://operator:operators-own@{NAME}:5433/production"
    with psycopg.connect(source_server.url(), autocommit=True) as session:
        with pytest.raises(Refused, match=f"no ssl_ca_file.*{NAME}.*serverRootCertificate"):
            peer_conninfo(session, url, "task_replication", "random", None)
        session.execute("ALTER SYSTEM SET ssl_ca_file = '/rdsdbdata/rds-metadata/ca-cert.pem'")
        session.execute("SELECT pg_reload_conf()")
        try:
            with psycopg.connect(source_server.url()) as other:
                found = conninfo.conninfo_to_dict(peer_conninfo(other, url, "task_replication", "random", None))
        finally:
            session.execute("ALTER SYSTEM RESET ssl_ca_file")
            session.execute("SELECT pg_reload_conf()")
        given = conninfo.conninfo_to_dict(peer_conninfo(session, url, "task_replication", "random", "system"))
        here = conninfo.conninfo_to_dict(
            peer_conninfo(session, source_server.url(), "task_replication", "random", None)
        )
    assert (found["host"], found["user"], found["password"]) == (NAME, "task_replication", "random")
    assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", "/rdsdbdata/rds-metadata/ca-cert.pem")
    assert (given["sslmode"], given["sslrootcert"]) == ("verify-full", "system")
    assert "sslmode" not in here
    assert "operators-own" not in str((found, given, here))


def test_a_client_program_without_tls_is_not_sent_to_another_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Prevents a backup at night that ends with libpq's 'SSL support is not compiled in', from the wheel's pg_dump."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.find("pg_dump", 16, "postgresql://postgres@127.0.0.1/postgres").name == "pg_dump"
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    with pytest.raises(Refused, match="speaks no TLS.*install postgresql-client-16"):
        tools.find("pg_dump", 16, f"postgresql://postgres@{NAME}/postgres")


def test_a_client_program_checks_what_a_session_checks(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a pg_dump that takes the whole database from, or a restore that gives it to, whoever answers."""
    said = tmp_path / "said"
    program = tmp_path / "pg_dump"
    program.write_text(f'#!/bin/sh\necho "$*" > {said}\necho "$PGPASSWORD" >> {said}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PGSSLMODE", "disable")
    with pytest.raises(MigrationError, match="the limit is verify-full"):
        tools.run(program, [], place.url(sslmode="prefer"), lambda _: None)
    assert not said.exists()
    tools.run(program, [], place.url(sslrootcert=str(place.authority.root)), lambda _: None)
    arguments, password = said.read_text().splitlines()
    assert "sslmode=verify-full" in arguments
    assert f"sslrootcert={place.authority.root}" in arguments
    assert AWKWARD_PASSWORD not in arguments
    assert password == AWKWARD_PASSWORD
