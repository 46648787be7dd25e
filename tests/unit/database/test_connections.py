"""A connection string means what libpq reads in it, or is refused by the variable's name; no part of a password is ever told."""

from __future__ import annotations

import json
import os
from typing import Any, cast
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import conninfo

from scripts.database.connections import Connection, parameters
from scripts.database.tls import stays_here
from scripts.replication.subscriptions import peer_conninfo
from scripts.support import redact
from scripts.support.aws import conninfo_of
from scripts.support.settings import load_settings, open_journal
from tests.foreign import read

NAME = "SOURCE_DATABASE_URL"
#: As PostgreSQL takes them; libpq's texts have no byte 0.
_TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
_HOSTS = st.sampled_from(["db.example", "127.0.0.1", "::1", "10.0.0.1", "localhost", "/tmp", "@abstract"])


@pytest.fixture(autouse=True)
def _authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", "system")


def said(url: str) -> dict[str, Any]:
    """What libpq itself reads."""
    return {key: value for key, value in conninfo.conninfo_to_dict(url).items() if value}


@given(_TEXT, _TEXT, _HOSTS, st.integers(1, 65535), _TEXT, st.booleans())
def test_a_url_of_any_parts_is_these_parts(
    user: str, password: str, host: str, port: int, database: str, as_url: bool
) -> None:
    """Prevents a login, a host or a database that another character of the password made."""
    password = f"Zq7Z{password}"
    wanted = {"user": user, "password": password, "host": host, "port": str(port), "dbname": database}
    wanted = {key: value for key, value in wanted.items() if value}
    if as_url:
        where = f"[{host}]" if ":" in host else quote(host, safe="")
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
        url = f"postgresql://{login}{where}:{port}/{quote(database, safe='')}"
    else:
        url = conninfo.make_conninfo("", **wanted)
    assert said(url) == wanted
    found = parameters(url, NAME)
    assert {key: found[key] for key in wanted} == wanted
    assert found.get("sslmode") == (
        "prefer" if host in ("127.0.0.1", "::1", "localhost", "/tmp", "@abstract") else "verify-full"
    )
    shown = redact.redact(f"{url} and {password}")
    assert "Zq7" not in shown
    redact._known.clear()
    assert "Zq7" not in redact.redact(url)
    # A subscription goes to the same place, as the replication's role and nobody else.
    root = "/etc/root.crt"
    there = said(peer_conninfo(cast(Connection, None), url, "task_replication", password + "'\\ x", root))
    assert (there["host"], there["port"]) == (host, str(port))
    assert (there["user"], there["password"]) == ("task_replication", password + "'\\ x")
    assert there.get("dbname", "") == database
    assert there.get("sslmode") == (None if stays_here(there) else "verify-full")


_PIECES = st.sampled_from(
    ["postgresql://", "postgres://", "u", ":", "@", "/", "?", "&", "=", ",", "[", "]", "::1", "%", "%00", "%ff", "%41", "127.0.0.1", "db.example", "5432", "+1",
     "99999", "0", "host", "hostaddr", "port", "dbname", "password", "sslmode", "disable", "verify-full", "sslrootcert", "service", "options", "-c a=b",
     "'", "\\", " ", "\n", "\udcff", "\ud800", "é", "٣"]
)  # fmt: skip


@settings(max_examples=400)
@given(
    st.lists(_PIECES, max_size=14).map("".join),
    st.sampled_from(["postgresql://", "postgresql://u:Zq7Zq7@h/", "host=/tmp ", ""]),
)
@example("u:Zq7Zq7%ff@h/d", "postgresql://")
@example("u:Zq7Zq7\udcff@h/d", "postgresql://")
def test_any_text_is_what_libpq_reads_or_no_connection_string(text: str, begin: str) -> None:
    url = begin + text
    found, refused = read(lambda: parameters(url, NAME))
    if found is None:
        assert refused.startswith(NAME)
        assert "Zq7" not in redact.redact(refused)
        assert any(word in refused for word in ("write ", "limit: ", "the limit is ", "download ", "percent-encode it"))
        return
    pinned = {"sslmode", "sslrootcert", "gssencmode", "host", "hostaddr", "port", "dbname"}
    wanted = said(url)
    assert {key: value for key, value in found.items() if key not in pinned and value} == {
        key: value for key, value in wanted.items() if key not in pinned
    }
    assert all(found[key] == wanted[key] for key in ("host", "port", "dbname") if key in wanted)
    assert stays_here(found) or found["sslmode"] == "verify-full"
    assert found.get("sslmode") == wanted.get("sslmode", found.get("sslmode"))


_BYTES = st.binary(max_size=12).map(lambda value: value.replace(b"\0", b"")).filter(bool)


@given(
    st.sampled_from([NAME, "PULUMI_STACK", "TASK_MIGRATION_STATE_DIR", "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE"]),
    st.sampled_from([b"", b"s3://", b"s3://b/", b"postgresql://u:Zq7Zq7@/", b"12"]),
    _BYTES,
)
@example(NAME, b"postgresql://u:Zq7Zq7@/", b"\xff")
@example("PGDATABASE", b"", b"\xff")
@example("TASK_MIGRATION_STATE_DIR", b"s3://", b"[x")
def test_any_bytes_of_the_environment_are_a_setting_or_named(
    monkeypatch: pytest.MonkeyPatch, name: str, begin: bytes, value: bytes
) -> None:
    """Prevents a traceback, which shows the connection string, for a byte that is no text."""
    with monkeypatch.context() as patch:
        patch.setenv(NAME, "postgresql://u:Zq7Zq7@/d")
        patch.setenv("AWS_REGION", "ap-northeast-1")
        patch.setenv(name, os.fsdecode(begin + value))

        def work() -> Any:
            given_ = load_settings()
            return parameters(given_.source(), NAME), open_journal(str(given_.state_dir))

        found, refused = read(work)
        assert bool(found) != bool(refused)
        assert "Zq7" not in redact.redact(refused)


@given(st.text(max_size=8), st.text(max_size=12), st.none() | st.integers() | st.lists(st.text(), max_size=1))
def test_a_secret_is_its_login_or_is_named(user: str, password: str, other: Any) -> None:
    """Prevents the role `None`, and a password that ends at its byte 0."""
    outputs = {
        "targetEndpoint": "db.example:5432",
        "targetPort": 5432,
        "targetDatabase": "d",
        "targetSecretArn": "arn:x",
    }
    # Not to be a word of the refusal by chance: Hypothesis draws from the words of the modules too.
    password = password and f"Zq7{password}"
    for given_ in ({"username": user, "password": password}, {"username": other, "password": password}, other):
        text = json.dumps(given_)
        found, refused = read(lambda text=text: conninfo_of("target", outputs, text))  # type: ignore[misc]
        if found is None:
            assert refused.startswith("the secret arn:x ")
            assert "Zq7" not in refused
        else:
            there = said(found)
            assert given_ == {"username": there["user"], "password": there["password"]}
            assert (there["host"], there["port"], there["dbname"]) == ("db.example", "5432", "d")
