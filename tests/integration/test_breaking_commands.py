"""Commands killed between any two of their statements, and the ways out of a migration, guarded; rows compared afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from scripts import __main__ as command_line
from scripts.copy import run as copy
from scripts.finish import abandon, finalize, removal
from scripts.replication import fence, native
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import DataDiffer, Refused, UsageError
from scripts.support.settings import Settings
from scripts.verify import run as verify
from tests.conftest import AWKWARD_PASSWORD, Pair, unseen
from tests.integration.test_chain import MakePair, Writer, count, running
from tests.journal import last

#: Runs a command again and again, each time killed (SIGKILL, by itself) after one more of its statements that change
#: something, or of the transactions that end with such, until there is none at which it was not; prints at which it was killed. By number
#: alone the last ones were never reached: what is taken up again has fewer of them left.
_KILLED = """
import json, os, re, signal, sys
from pathlib import Path
import psycopg
from pydantic import SecretStr
from components.config import MigrationConfig
from scripts.finish import abandon, finalize, removal
from scripts.replication import run as replicate
from scripts.support.settings import Settings

given = json.load(sys.stdin)
settings = Settings(MigrationConfig.model_validate(given["config"]), None, SecretStr(given["source"]),
                    SecretStr(given["target"]), Path(given["state"]))
CHANGES = re.compile(r"^\\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE|TRUNCATE|REVOKE|GRANT)"
                     r"|pg_create_logical|pg_drop_replication_slot|pg_copy_logical", re.I)
real, leave = psycopg.Connection.execute, psycopg.Transaction.__exit__
DIED = Path(given["state"]) / "died-at"

def run():
    died, changing = set(DIED.read_text().splitlines()) if DIED.exists() else set(), {}
    def point(connection, what):
        name = f"{connection.info.port} {re.sub('[0-9]+', '#', ' '.join(what.split()))}"
        if name not in died:
            with DIED.open("a") as file:
                file.write(name + "\\n")
            os.kill(os.getpid(), signal.SIGKILL)
    def execute(self, query, *rest, **more):
        result = real(self, query, *rest, **more)
        text = query.as_string(self) if hasattr(query, "as_string") else str(query)
        if CHANGES.search(text):
            changing[id(self)] = text
            point(self, text)
        return result
    def end(self, *error):
        result = leave(self, *error)
        # Committed, and nothing done since: a kill before that takes the statement back.
        if (text := changing.pop(id(self.connection), None)) is not None:
            point(self.connection, f"end of {text}")
        return result
    psycopg.Connection.execute, psycopg.Transaction.__exit__ = execute, end
    {"start": replicate.start, "finalize": finalize.run, "abandon": abandon.run}[given["call"]](settings)

DIED.parent.mkdir(exist_ok=True)
DIED.unlink(missing_ok=True)
while True:
    child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        break
print(json.dumps({"kills": DIED.read_text().splitlines(), "exit": os.waitstatus_to_exitcode(status)}))
"""


def killed_everywhere(settings: Settings, call: str) -> list[str]:
    """Run ``call``, killed after each of its changing statements in turn, to its end; returns at which it was."""
    given = {
        "call": call,
        "config": settings.config.model_dump(by_alias=True),
        "source": settings.source(),
        "target": settings.target(),
        "state": str(settings.state_dir),
    }
    done = subprocess.run(
        [sys.executable, "-c", _KILLED],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert AWKWARD_PASSWORD not in done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["exit"] == 0, done.stderr
    return [str(name) for name in found["kills"]]


class AppWriter(Writer):
    """The monolith's own role; stops when it may no longer write."""

    def _work(self) -> None:
        try:
            super()._work()
        except psycopg.errors.InsufficientPrivilege:
            self.refused = True

    refused = False


def _as_app(pair: Pair) -> str:
    row = pair.source.execute("SELECT current_database()").fetchone()
    assert row is not None
    return pair.source_server.url(row[0], "myteacher_app_user", "secret-of-role")


def _ids(connection: psycopg.Connection[Any]) -> set[int]:
    return {row[0] for row in connection.execute("SELECT id FROM tasks")}


def _ends(killed: list[str]) -> None:
    """An end that is taken up again goes on: it makes nothing anew, on either side, and was killed up to its last act on both."""
    assert len([name for name in killed if "end of DROP ROLE" in name or "end of DROP SCHEMA" in name]) > 1
    assert [name for name in killed if "CREATE" in name] == []


#: Two of the six: each table more is the same statements once more.
TWO = {"tables": ["tasks", "task_tag"]}


def test_start_and_finalize_killed_at_every_step(make_pair: MakePair) -> None:
    """Prevents a step that cannot be taken up again: a lost write, rights given back, or something left behind."""
    pair = make_pair(rows=60, **TWO)
    settings = pair.settings
    schema.apply(settings)
    copy.run(settings)
    with AppWriter(_as_app(pair)) as monolith:
        assert len(killed_everywhere(settings, "start")) > 10
        assert replicate.start(settings).status == "already-running"
        with Writer(settings.target()) as service:
            _ends(killed_everywhere(settings, "finalize"))
            service.more(11)
    assert monolith.refused
    assert len(monolith.ids) > 10
    assert len(service.ids) > 10
    assert removal.leftovers(settings) == []
    assert monolith.lost(pair.target) + service.lost(pair.target) == []
    # The old tables stay as they were at the end, and nothing has given the rights back.
    assert set(monolith.ids) <= _ids(pair.source)
    with psycopg.connect(_as_app(pair), autocommit=True) as app:
        assert count(app, "SELECT count(*) FROM tasks") > 60
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("DELETE FROM task_tag")
    assert finalize.run(settings).status == "already-finalized"


def test_abandon_killed_at_every_step(make_pair: MakePair) -> None:
    """Prevents an attempt that is neither running nor gone: what is left would fill the source's disk."""
    pair = running(make_pair, rows=60, **TWO)
    settings = pair.settings
    with Writer(settings.target()) as service:
        service.more()
    with AppWriter(_as_app(pair)) as monolith:
        _ends(killed_everywhere(settings, "abandon"))
    assert not monolith.refused
    assert removal.leftovers(settings) == []
    assert monolith.lost(pair.source) + service.lost(pair.source) == []
    # Its end has emptied nothing: whoever wants the target empty must say so.
    assert set(service.ids) <= _ids(pair.target)
    with pytest.raises(Refused, match="rows of its own"):
        abandon.start_over(settings, "copy", weight=0)


def test_finalize_waits_for_the_last_writer_and_sees_another(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a row that only the old tables have: a statement that began before the revoke, or another role's write."""
    pair = running(make_pair, rows=60)
    settings = pair.settings
    pair.source.execute("GRANT UPDATE ON tasks TO PUBLIC")
    with pytest.raises(Refused, match=r"PUBLIC.*Nothing was changed"):
        finalize.run(settings)
    pair.source.execute("REVOKE UPDATE ON tasks FROM PUBLIC")
    with psycopg.connect(_as_app(pair)) as app:
        app.execute("INSERT INTO tasks (user_id, title) SELECT min(id), 'the last one' FROM users")
        ending = threading.Timer(2.0, app.commit)
        real_stop = native.Native.stop

        def stop_after_another(self: native.Native, settings: Settings, timeout: float) -> list[str]:
            stopped = real_stop(self, settings, timeout)
            pair.source.execute("UPDATE tasks SET title = 'by hand' WHERE id = (SELECT min(id) FROM tasks)")
            return stopped

        monkeypatch.setattr(native.Native, "stop", stop_after_another)
        ending.start()
        with pytest.raises(Refused, match="tasks: written on the source after the last comparison"):
            finalize.run(settings)
        monkeypatch.undo()
    # Nothing was lost and nothing given back: replication goes on, the monolith stays without its rights.
    with psycopg.connect(_as_app(pair), autocommit=True) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("UPDATE tasks SET title = 'x'")
    # Nor is what was proven then proof of what came since.
    with unseen(pair.target):
        pair.target.execute("DELETE FROM tasks WHERE title = 'the last one'")
    with pytest.raises(DataDiffer, match="the sides differ before the revoke"):
        finalize.run(settings)
    assert verify.run(settings, repair="newest").match
    done = finalize.run(settings)
    assert done.status == "finalized"
    for title in ("the last one", "by hand"):
        assert count(pair.target, f"SELECT count(*) FROM tasks WHERE title = '{title}'") == 1
    assert _ids(pair.source) == _ids(pair.target)
    with pytest.raises(Refused, match="not emptied"):
        abandon.start_over(settings, "data", weight=0, reason="try", force=True)


def test_the_target_is_emptied_only_when_nothing_is_lost(make_pair: MakePair) -> None:
    """Prevents scenarios 1 and 3 of the rollback from losing what the Task Service acknowledged."""
    pair = running(make_pair, rows=60)
    settings = pair.settings
    with Writer(settings.target()) as service:
        service.more()
    for scenario in ("copy", "data"):
        with pytest.raises(Refused, match=r"5 % of the requests"):
            abandon.start_over(settings, scenario, weight=5, reason="now", force=True)
    with pytest.raises(UsageError, match="go together"):
        abandon.start_over(settings, "copy", weight=0, force=True)
    # The way back is down: what the target wrote is not proven to be on the source.
    pair.source.execute(f"ALTER SUBSCRIPTION {settings.config.reverse_subscription} DISABLE".encode())
    pair.target.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), 'only here' FROM tasks")
    with pytest.raises(Refused, match=r"rows of its own.*'tasks': "):
        abandon.start_over(settings, "copy", weight=0)
    assert count(pair.target, "SELECT count(*) FROM tasks WHERE title = 'only here'") == 1
    replicate.start(settings)
    shown = abandon.start_over(settings, "copy", weight=0, dry_run=True)
    assert (shown.status, shown.truncated, shown.drained) == ("dry-run", [], True)
    assert fence.available(settings)
    # A row that only the target has, though replication runs: data disagree.
    pair.source.execute("SET session_replication_role = replica")
    pair.source.execute("SET task_migration.applying = 'on'")
    pair.source.execute("DELETE FROM tasks WHERE title = 'only here'")
    pair.source.execute("RESET task_migration.applying")
    pair.source.execute("SET session_replication_role = origin")
    with pytest.raises(Refused, match=r"\{'tasks': 1\}.*verify --repair newest"):
        abandon.start_over(settings, "data", weight=0)
    done = abandon.start_over(settings, "data", weight=0, reason="the row is known to be wrong", force=True)
    assert done.only_on_target["tasks"] == 1
    assert done.leftovers == []
    assert set(done.truncated) == set(settings.config.tables)
    assert last(settings.journal, "rollback", "emptied")
    assert set(service.ids) <= _ids(pair.source)
    # Step 1 starts again.
    copy.run(settings)
    replicate.start(settings)
    assert verify.run(settings).match
    assert _ids(pair.target) == _ids(pair.source)


def test_no_output_has_a_password(
    make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a password in what any command prints, keeps or has the servers log, whether it succeeds or fails."""
    pair = make_pair(rows=20)
    config = pair.settings.config
    keys = {"replicationEngine": "native", "subscription": config.subscription, "publication": config.publication}
    (tmp_path / "Pulumi.secret.yaml").write_text(
        json.dumps({"config": {f"task-migration:{key}": value for key, value in keys.items()}})
    )
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("PULUMI_STACK", "secret"),
        ("SOURCE_DATABASE_URL", pair.settings.source()),
        ("TARGET_DATABASE_URL", pair.settings.target()),
        ("TASK_MIGRATION_STATE_DIR", str(tmp_path / "state")),
    ):
        monkeypatch.setenv(name, value)
    begins = {server: server.log.stat().st_size for server in (pair.source_server, pair.target_server)}
    lines = [
        ("preflight", 0),
        (f"backup --output {tmp_path / 'backup'}", 0),
        ("replicate start", 10),
        ("schema apply", 0),
        ("schema diff", 0),
        ("copy", 0),
        ("replicate start", 0),
        ("replicate status", 0),
        ("replicate wait", 0),
        ("verify --show-values", 0),
        ("finalize --dry-run", 0),
        ("replicate stop", 0),
        ("replicate status --json", 10),
        ("status", None),
        ("finalize --dry-run", 10),
        ("rollback --abandon", 0),
        ("replicate wait", 10),
    ]
    printed = ""
    for line, expected in lines:
        code = _command(line)
        captured = capfd.readouterr()
        printed += captured.out + captured.err
        assert expected is None or code == expected, (line, code, captured.err)
    # Refused by the server, and a server that is not there.
    wrong = "Wr0ng&pass word"
    url = pair.settings.target().replace(quote(AWKWARD_PASSWORD, safe=""), quote(wrong, safe=""))
    for bad in (
        url,
        f"postgresql://u:{quote(wrong, safe='')}@127.0.0.1:1/x",
        f"host=127.0.0.1 port=1 password='{wrong}'",
    ):
        monkeypatch.setenv("TARGET_DATABASE_URL", bad)
        for line in ("preflight", "copy", "replicate start", "replicate status", "verify", "rollback --abandon"):
            assert _command(line) != 0
            captured = capfd.readouterr()
            printed += captured.out + captured.err
    kept = "".join(file.read_text(errors="replace") for file in (tmp_path / "state").rglob("*") if file.is_file())
    logged = "".join(server.log.read_bytes()[at:].decode(errors="replace") for server, at in begins.items())
    assert len(printed) > 5000
    for secret in (AWKWARD_PASSWORD, wrong):
        for form in (
            secret,
            quote(secret, safe=""),
            quote(secret),
            secret.replace("'", "\\'"),
            secret.replace("'", "''"),
        ):
            for where, text in (("printed", printed), ("kept", kept), ("logged", logged)):
                assert form not in text, (where, text[max(0, text.index(form) - 200) : text.index(form)])


def _command(line: str) -> int:
    """Run one line of the console command as the entry point does; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["task-migration", *line.split()])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
    return int(ended.value.code or 0)
