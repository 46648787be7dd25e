"""Statements that hold a password, beside what looks into blocks: pg_stat_statements, loaded for real."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from scripts.database import secrecy
from scripts.embedded import decoding, postgres_server
from scripts.embedded.binaries import bin_path
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.support.errors import Refused
from tests.conftest import UNSYNCED

SECRET, EXTENSION = "for-the-server-alone", "pg_stat_statements"
HEAD = sql.SQL("ALTER ROLE served PASSWORD ")
Seen = Callable[[], str]


@pytest.fixture(scope="module")
def server(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A server whose installation is the wheel's and, of the one with the contributed modules, the extension."""
    theirs = bin_path().parent
    place = server_directory / "wheel" / theirs.parent.name / theirs.name
    shutil.copytree(theirs, place)
    # The programs find the wheel's libraries from where they stand.
    libraries = theirs.parent.with_name(f"{theirs.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, server_directory / "wheel" / libraries.name)
    _add_extension(place, server_directory)
    settings = {**UNSYNCED, "shared_preload_libraries": EXTENSION, f"{EXTENSION}.track": "all"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_server, "bin_path", lambda: place / "bin")
        with EmbeddedPostgres(server_directory, "secrecy", settings=settings) as server:
            with psycopg.connect(server.url(), autocommit=True) as admin:
                admin.execute("CREATE ROLE operator LOGIN CREATEROLE PASSWORD 'operators'")
                admin.execute("CREATE ROLE monitor LOGIN PASSWORD 'monitors'; GRANT pg_read_all_stats TO monitor")
            with psycopg.connect(server.url("postgres", "operator", "operators"), autocommit=True) as operator:
                operator.execute("CREATE ROLE served LOGIN")
            yield server
    shutil.rmtree(server_directory / "wheel")


def _add_extension(place: Path, work: Path) -> None:
    wheel = decoding._download(work)
    targets = {
        ".so": next(place.glob("lib/**/pgoutput.so")).parent,
        "share": next(place.glob("share/**/plpgsql.control")).parent,
    }
    with zipfile.ZipFile(wheel) as archive:
        (packed,) = (name for name in archive.namelist() if name.endswith(".tar.gz"))
        with archive.open(packed) as stream, tarfile.open(fileobj=stream, mode="r:gz") as inner:
            for member in inner:
                name = Path(member.name)
                content = inner.extractfile(member) if member.isfile() and name.name.startswith(EXTENSION) else None
                if content is not None:
                    file = targets[".so" if name.suffix == ".so" else "share"] / name.name
                    file.write_bytes(content.read())
                    file.chmod(0o755)


@pytest.fixture
def seen(server: EmbeddedPostgres) -> Iterator[Seen]:
    """What a monitoring role reads in the extension, which is in the database, reset, and nobody's to reset or set."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE EXTENSION {EXTENSION}".encode())
        admin.execute(f"SELECT {EXTENSION}_reset()".encode())
        with psycopg.connect(server.url("postgres", "monitor", "monitors"), autocommit=True) as monitor:
            yield lambda: str(monitor.execute(f"SELECT query FROM {EXTENSION}".encode()).fetchall())
        admin.execute(
            f"DROP EXTENSION {EXTENSION}; REVOKE SET ON PARAMETER {EXTENSION}.track_utility FROM operator".encode()
        )


def _run(server: EmbeddedPostgres, *, force: bool = False) -> list[str]:
    with psycopg.connect(server.url("postgres", "operator", "operators"), autocommit=True) as operator:
        return secrecy.execute(operator, HEAD, SECRET, force=force)


def _admin(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(statement.encode())


def test_a_plain_statement_is_read_by_who_monitors_and_ours_is_refused(server: EmbeddedPostgres, seen: Seen) -> None:
    """Prevents a password in statistics that others read for months; the attack is seen to work, then what stops it."""
    with psycopg.connect(server.url("postgres", "operator", "operators"), autocommit=True) as operator:
        operator.execute("ALTER ROLE served PASSWORD 'in plain text'")
    assert "in plain text" in seen()
    with pytest.raises(Refused, match=r"pg_stat_statements.track_utility is on.*GRANT SET ON PARAMETER.*--force"):
        _run(server)
    assert SECRET not in seen()
    (warning,) = _run(server, force=True)
    assert "track_utility" in warning
    assert SECRET in seen(), "what the warning says is so"


def test_where_the_role_may_it_is_not_tracked(server: EmbeddedPostgres, seen: Seen) -> None:
    """Prevents an entry by the setting, for the one transaction alone."""
    _admin(server, f"GRANT SET ON PARAMETER {EXTENSION}.track_utility TO operator")
    assert _run(server) == []
    assert SECRET not in seen()
    with psycopg.connect(server.url("postgres", "operator", "operators"), autocommit=True) as operator:
        operator.execute("ALTER ROLE served VALID UNTIL 'infinity'")
    assert "VALID UNTIL" in seen(), "it goes on afterwards"


def test_where_it_may_only_reset_its_entry_is_reset_and_no_other(server: EmbeddedPostgres, seen: Seen) -> None:
    """Prevents an entry that stays, and statistics of others that go with it."""
    _admin(server, f"GRANT EXECUTE ON FUNCTION {EXTENSION}_reset TO operator")
    _admin(server, "ALTER ROLE served CONNECTION LIMIT 5")
    assert _run(server) == []
    assert SECRET not in seen()
    assert "CONNECTION LIMIT 5" in seen()


def test_top_level_statements_alone_hold_nothing(server: EmbeddedPostgres, seen: Seen) -> None:
    """Prevents a refusal where the extension stands as it comes: then no text of ours has a password."""
    _admin(server, f"ALTER ROLE operator SET {EXTENSION}.track = 'top'")
    try:
        assert _run(server) == []
        assert "task_migration_secret" in seen()
        assert SECRET not in seen()
    finally:
        _admin(server, f"ALTER ROLE operator RESET {EXTENSION}.track")
