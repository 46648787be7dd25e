"""Giving the migration up loses no write of the Task Service unsaid: what the source lacks is counted, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.canary import ending, history, stage
from scripts.canary.stage import Emergency
from scripts.finish import abandon, finalize, removal
from scripts.replication import run as replicate
from scripts.support.errors import MigrationError, Refused, UsageError
from scripts.support.events import Step
from scripts.support.settings import Settings
from scripts.verify import run as verify
from tests.cloud import Cloud
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, Writer, count, running
from tests.journal import last

TWO = {"tables": ["tasks", "task_tag"]}
INSERT = "INSERT INTO tasks (user_id, title) SELECT min(user_id), 'only here' FROM tasks"


def _way_back(pair: Pair, state: str) -> None:
    pair.source.execute(f"ALTER SUBSCRIPTION {pair.settings.config.reverse_subscription} {state}".encode())


def test_writes_that_the_source_lacks_are_refused_or_named(make_pair: MakePair) -> None:
    """Prevents an attempt given up with status 0 and five acknowledged rows of the Task Service, an edit and a delete gone."""
    pair = running(make_pair, rows=60, **TWO)
    settings = pair.settings
    _way_back(pair, "DISABLE")
    for _ in range(5):
        pair.target.execute(INSERT)
    pair.target.execute("UPDATE tasks SET title = 'edited here' WHERE id = (SELECT min(id) FROM tasks)")
    pair.target.execute("DELETE FROM task_tag WHERE task_id = (SELECT min(task_id) FROM task_tag)")
    tags = count(pair.target, "SELECT count(*) FROM task_migration.target_writes WHERE table_name = 'task_tag'")
    before = removal.leftovers(settings)
    with pytest.raises(
        Refused, match=rf"the source lacks: {6 + tags} .*'tasks': 6.*Nothing was removed.*--force --reason"
    ):
        abandon.run(settings)
    assert removal.leftovers(settings) == before
    assert pair.target.execute("SELECT has_table_privilege('task_service_user', 'tasks', 'INSERT')").fetchone() == (
        True,
    )
    with pytest.raises(UsageError, match="go together"):
        abandon.run(settings, force=True)
    # The way back mended, nothing is lost.
    _way_back(pair, "ENABLE")
    done = abandon.run(settings)
    assert (done.status, done.drained, done.lost) == ("abandoned", True, {})
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'only here'") == 5
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'edited here'") == 1


def test_writes_are_given_up_with_a_reason_only(make_pair: MakePair) -> None:
    """Prevents a loss that the document and the journal do not name."""
    pair = running(make_pair, rows=60, **TWO)
    _way_back(pair, "DISABLE")
    pair.target.execute(INSERT)
    done = abandon.run(pair.settings, force=True, reason="the row is a test's")
    assert (done.drained, done.lost, done.leftovers) == (False, {"tasks": 1}, [])
    told = last(pair.settings.journal, "abandon", "abandoning")
    assert told is not None
    assert (told["lost"], told["reason"]) == ({"tasks": 1}, "the row is a test's")
    assert pair.target.execute("SELECT has_table_privilege('task_service_user', 'tasks', 'INSERT')").fetchone() == (
        False,
    )


def test_a_side_that_is_written_to_is_not_given_up(make_pair: MakePair) -> None:
    """Prevents writes that are acknowledged between the last look and the end of replication."""
    pair = running(make_pair, rows=60, **TWO)
    with Writer(pair.settings.target()) as service:
        service.more()
        with pytest.raises(Refused, match="somebody else, writes to the target.*Nothing was removed"):
            abandon.run(pair.settings)
        service.more(5)
    assert abandon.run(pair.settings).status == "abandoned"
    ids = {row[0] for row in pair.source.execute("SELECT id FROM tasks")}
    assert set(service.ids) <= ids


def test_writes_that_left_no_record_are_looked_for_first(make_pair: MakePair) -> None:
    """Prevents a write of the Task Service that nothing counts, as its trigger was off for a moment."""
    pair = running(make_pair, rows=20, **TWO)
    pair.target.execute("ALTER TABLE tasks DISABLE TRIGGER ALL")
    pair.target.execute(INSERT)
    pair.target.execute("ALTER TABLE tasks ENABLE TRIGGER ALL")
    with pytest.raises(
        Refused,
        match=r"more may have left no record: .* of tasks is on for local sessions only.*`task-migration verify`",
    ):
        abandon.run(pair.settings)
    replicate.start(pair.settings)
    with pytest.raises(Refused, match="more may have left no record"):
        abandon.run(pair.settings)
    assert verify.run(pair.settings, repair="newest").match
    assert abandon.run(pair.settings).status == "abandoned"
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'only here'") == 1


def test_a_half_done_finalize_is_not_given_up(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a monolith without its rights beside a target that nothing brings up to date."""
    pair = running(make_pair, rows=60, **TWO)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finalize._Finalizer, "bring_over", killed)
    with pytest.raises(KeyboardInterrupt):
        finalize.run(pair.settings)
    monkeypatch.undo()
    before = removal.leftovers(pair.settings)
    with pytest.raises(Refused, match="cannot write on the source since `finalize` began"):
        abandon.run(pair.settings)
    assert removal.leftovers(pair.settings) == before != []
    # Forced, it leaves the only side that is written to its rights.
    abandon.run(pair.settings, force=True, reason="the target is current")
    assert pair.target.execute("SELECT has_table_privilege('task_service_user', 'tasks', 'INSERT')").fetchone() == (
        True,
    )


def test_requests_on_the_task_service_refuse_it(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an attempt given up while people's requests go to the side that nobody will look at again."""
    pair = running(make_pair, rows=20, **TWO)
    config, keys = pair.settings.config, ("source_url", "target_url", "state_dir")
    settings = Settings(config, "night", *(getattr(pair.settings, key) for key in keys))
    cloud: Any = Cloud(weight=25)
    monkeypatch.setattr(stage, "build_emergency", lambda given: Emergency(given, cloud, cloud))
    with pytest.raises(
        Refused, match=r"25 % of the requests are on the Task Service, the limit is 0 %.*`task-migration rollback`"
    ):
        ending.give_up(settings)
    assert ending.give_up(settings, dry_run=True).status == "dry-run"
    # The file says 0, somebody raised the rule beside it.
    cloud.declared = 0
    with pytest.raises(Refused, match="25 %"):
        ending.give_up(settings)

    # AWS is away: what the source has kept tells whether the weight ever left 0.
    def away(given: Settings) -> Emergency:
        raise MigrationError("AWS cannot be reached")

    monkeypatch.setattr(stage, "build_emergency", away)
    history.keep(settings, Step.CANARY, "begun", {"from": 0, "to": 5})
    settings.journal.record("rollback", "done")
    with pytest.raises(Refused, match=r"AWS cannot be reached.*since 20.* without a rollback that ended"):
        ending.give_up(settings)
    history.keep(settings, Step.ROLLBACK, "done", {})
    assert ending.give_up(settings).status == "abandoned"


def test_the_command_passes_force_and_reason_on(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents an option of the command line that does nothing."""
    from tests.integration.test_breaking_commands import _command

    pair = running(make_pair, rows=20, **TWO)
    config = pair.settings.config
    keys = {
        "replicationEngine": "native",
        "subscription": config.subscription,
        "publication": config.publication,
        **TWO,
    }
    (tmp_path / "Pulumi.given.yaml").write_text(
        json.dumps({"config": {f"task-migration:{key}": value for key, value in keys.items()}})
    )
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("PULUMI_STACK", "given"),
        ("SOURCE_DATABASE_URL", pair.settings.source()),
        ("TARGET_DATABASE_URL", pair.settings.target()),
        ("TASK_MIGRATION_STATE_DIR", str(pair.settings.state_dir)),
    ):
        monkeypatch.setenv(name, value)
    _way_back(pair, "DISABLE")
    pair.target.execute(INSERT)
    assert _command("rollback --abandon") == Refused.exit_status
    assert _command("rollback --abandon --force") == UsageError.exit_status
    capfd.readouterr()
    assert _command("rollback --abandon --force --reason night --json") == 0
    assert json.loads(capfd.readouterr().out)["lost"] == {"tasks": 1}


def test_a_stopped_replication_with_nothing_missing_is_given_up(make_pair: MakePair) -> None:
    """Prevents a refusal where nothing would be lost: both sides were drained before they were stopped."""
    pair = running(make_pair, rows=20, **TWO)
    pair.target.execute(INSERT)
    replicate.stop(pair.settings)
    assert abandon.run(pair.settings).status == "abandoned"
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'only here'") == 1
