"""What another user of this machine reads of a backup while it is made, put back, or was killed: nothing."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.backup import compare
from scripts.backup import run as backup
from scripts.backup import store as backup_store
from scripts.support.errors import Refused
from tests.conftest import Pair
from tests.stranger import entered_by_all, files_below, readable

MakePair = Callable[..., Pair]


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where all may go, and in it a temporary directory as /tmp."""
    with entered_by_all() as place:
        (place / "tmp").mkdir()
        (place / "tmp").chmod(0o1777)
        monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
        yield place


def test_nobody_else_reads_a_dump_at_any_moment(
    make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents every local user from reading the whole database beside the scratch server, as the 0711 directory let him."""
    pair = make_pair(rows=30)
    seen: list[str] = []
    held: list[str] = []

    def looking(module: Any, name: str) -> None:
        original = getattr(module, name)

        def look(*arguments: Any, **named: Any) -> Any:
            try:
                return original(*arguments, **named)
            finally:
                files = files_below(tmp_path)
                held.extend(file.name for file in files)
                seen.extend(readable(files))

        monkeypatch.setattr(module, name, look)

    for module, name in ((backup, "_dump"), (backup, "_restore"), (backup_store, "sha256"), (compare, "same")):
        looking(module, name)
    out = tmp_path / "backups"
    done = backup.run(pair.settings, str(out))
    backup.restore(pair.settings, done.manifest, pair.target_server.url(pair.target.info.dbname))
    # They were there to be read: the dump, the one read back, and the server's files.
    assert {"dump", "stored", "PG_VERSION", "owner.pid"} <= set(held)
    assert seen == []
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in out.iterdir()} == {0o600}
    assert readable(files_below(Path(tempfile.gettempdir()))) == []


def test_a_place_that_others_may_read_or_that_somebody_planted_takes_no_dump(
    make_pair: MakePair, tmp_path: Path
) -> None:
    """Prevents a dump in a shared folder, or where a link leads it."""
    pair = make_pair(rows=5)
    shared = tmp_path / "shared"
    shared.mkdir(0o755)
    (shared / "theirs").touch()
    (tmp_path / "link").symlink_to(shared)
    for place, why in (("shared", "is open to others"), ("link", "is no directory of its own")):
        with pytest.raises(Refused, match=f"{place} {why}"):
            backup.run(pair.settings, str(tmp_path / place))
    assert [one.name for one in shared.iterdir()] == ["theirs"]


def test_nobodys_function_becomes_the_scratch_servers_superuser(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents the monolith's role from running programs as the operator's user of this machine, by a check or an index of its own."""
    pair = make_pair(rows=5)
    database = pair.source.info.dbname
    pair.source.execute("CREATE SCHEMA kinds; CREATE EXTENSION vector SCHEMA kinds")
    pair.source.execute("GRANT CREATE ON SCHEMA public TO myteacher_app_user")
    mark = tmp_path / "tmp" / "mark"
    url = pair.source_server.url(database, "myteacher_app_user", "secret-of-role")
    with psycopg.connect(url, autocommit=True) as theirs:
        # Harmless where its maker is nobody.
        theirs.execute(
            "CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
            f"EXECUTE $x$COPY (SELECT current_user) TO PROGRAM 'cat >> {mark}'$x$; END $$"
        )
        theirs.execute(
            "CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN "
            "IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN PERFORM public.g(); END IF; "
            "RETURN $1; END $$"
        )
        theirs.execute("CREATE DOMAIN d AS int CHECK (public.f(VALUE) > 0)")
        theirs.execute(
            "CREATE TABLE t (a int CHECK (public.f(a) > 0), b int GENERATED ALWAYS AS (public.f(a)) STORED, c d)"
        )
        theirs.execute("CREATE INDEX ON t (public.f(a)); INSERT INTO t VALUES (1, DEFAULT, 1)")
        theirs.execute("CREATE TABLE p (a d) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
        theirs.execute("CREATE MATERIALIZED VIEW m AS SELECT public.f(a) FROM t")
    pair.source.execute(
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
        "CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION e(); COMMENT ON EVENT TRIGGER watching IS 'x'"
    )
    assert backup.run(pair.settings, str(tmp_path / "backups")).restore_verified
    assert not mark.exists(), mark.read_text()
