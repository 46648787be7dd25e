"""Why a session does not come about, told apart on a real server: each kind has another remedy."""

from __future__ import annotations

import socket
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from scripts.database import reach
from scripts.database.connections import NotConnected, connect
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.preflight import run as preflight
from scripts.rehearsal.emulated.reach import nowhere
from scripts.support.process import free_port
from tests.conftest import AWKWARD_PASSWORD, Pair
from tests.integration.test_chain import MakePair


def failed(url: str, name: str = "TARGET_DATABASE_URL") -> NotConnected:
    with pytest.raises(NotConnected) as caught:
        connect(url, step="test", name=name, connect_timeout=2)
    assert AWKWARD_PASSWORD not in str(caught.value)
    assert str(caught.value) == f"{caught.value.cause}; {caught.value.remedy}"
    return caught.value


def test_what_a_server_answers_is_told_apart(source_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Prevents a night that is spent on security groups while the password is wrong, or the other way round."""
    source_server.start()
    url = source_server.url()

    def other(**values: str | int) -> str:
        return conninfo.make_conninfo(url, **values)

    wrong = failed(other(password="wrong"))
    assert (wrong.kind, "password authentication failed" in wrong.cause) == ("password", True)
    assert "does not take this password" in wrong.remedy
    none = failed(other(password=""))
    assert (none.kind, "none was given: put it into the URL of" in none.remedy) == ("silence", True)
    nowhere_else = failed(other(dbname="no_such"))
    assert (nowhere_else.kind, 'database "no_such" does not exist' in nowhere_else.cause) == ("database", True)
    dead = failed(other(port=free_port()))
    assert (dead.kind, "nothing takes connections there" in dead.remedy) == ("server", True)
    # The servers of the wheel have no TLS.
    (tmp_path / "authority.pem").write_text("none\n")
    plain = failed(other(sslmode="require"))
    assert (plain.kind, "speaks no TLS" in plain.remedy) == ("encryption", True)
    unknown = failed("postgresql://someone:x@no-such-host.invalid:5432/x?sslrootcert=system")
    assert (unknown.kind, "no-such-host.invalid:5432" in unknown.remedy) == ("name", True)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "op", database "x", SSL encryption', "other"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "op", database "x", no encryption', "encryption"),
        ("SSL error: certificate verify failed", "certificate"),
    ],
)
def test_a_server_that_lets_nobody_in_from_there_is_not_one_with_a_wrong_certificate(text: str, kind: str) -> None:
    """Prevents a night that is spent on authorities while the session was encrypted and the server's rules refuse it."""
    assert reach.kind(psycopg.OperationalError(text)) == kind


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("TARGET_DATABASE_URL", "into operatorSecurityGroupIds, then pulumi up"),
        ("SOURCE_DATABASE_URL", "into operatorSecurityGroupIds, with operatorReachesSource: true, then pulumi up"),
    ],
)
def test_a_way_that_is_closed_names_the_key_that_opens_it(
    name: str, keys: str, source_server: EmbeddedPostgres
) -> None:
    """A security group drops what it does not let in, so nothing is ever answered: not even a refusal."""
    source_server.start()
    with nowhere() as silent:
        port = silent.getsockname()[1]
        closed = failed(conninfo.make_conninfo(source_server.url(), port=port), name)
    assert closed.kind == "way"
    assert f"127.0.0.1:{port} answered within 2 s" in closed.remedy
    assert keys in closed.remedy


def test_preflight_tells_an_unreachable_host_from_a_wrong_password(make_pair: MakePair) -> None:
    """Each is a failed check of its own with its remedy, and the other side is looked at all the same."""
    pair: Pair = make_pair(rows=None)
    urls = {side: pair.settings.url(side) for side in ("source", "target")}
    with nowhere() as silent, pytest.MonkeyPatch.context() as patch:
        lost = {
            "source": conninfo.make_conninfo(urls["source"], password="wrong"),
            "target": conninfo.make_conninfo(urls["target"], port=silent.getsockname()[1], connect_timeout=2),
        }
        patch.setattr(type(pair.settings), "url", lambda self, side: lost[side])
        patch.setattr(type(pair.settings), "source", lambda self: lost["source"])
        patch.setattr(type(pair.settings), "target", lambda self: lost["target"])
        found = {check.name: check for check in preflight.run(pair.settings, wal_seconds=0.1).checks}
    assert isinstance(silent, socket.socket)
    assert found["source: connection"].status == found["target: connection"].status == "fail"
    assert "does not take this password" in found["source: connection"].remedy
    assert "operatorSecurityGroupIds" in found["target: connection"].remedy
