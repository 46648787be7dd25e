"""Who writes where, on real servers, by roles as a real night has them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from scripts.canary import history
from scripts.canary.gates import decide
from scripts.canary.operator_lock import Lock
from scripts.canary.watch import Watch
from scripts.copy import run as copy
from scripts.database import helper_schema
from scripts.database.sides import open_side
from scripts.finish import finalize
from scripts.replication import deletes, fence, status, writers, writes
from scripts.replication import run as replicate
from scripts.replication.documents import Finding
from scripts.replication.writers import BOTH_SIDES
from scripts.schema import run as schema
from scripts.support.errors import Refused
from scripts.support.events import CanaryEvent, RollbackEvent, Step
from scripts.support.sides import Side
from scripts.support.wait import wait_until
from scripts.writes import install
from tests.cloud import Cloud, short, stage_of
from tests.integration.roles import MONOLITH, OPERATOR, SERVICE, Cast
from tests.integration.test_chain import MakePair

RUN = "INSERT INTO scheduled_task_executions (scheduled_task_id, executed_at) SELECT min(id), now() FROM scheduled_group_tasks"


def running(make_pair: MakePair, **config: Any) -> Cast:
    """Replication both ways as the operator set it up."""
    cast = Cast(make_pair(rows=30, drain_seconds=0.0, **config))
    schema.apply(cast.settings)
    copy.run(cast.settings)
    replicate.start(cast.settings)
    return cast


def seen(cast: Cast) -> writers.Seen:
    with open_side(cast.settings, "source", "status") as source, open_side(cast.settings, "target", "status") as target:
        return writers.read(cast.settings.config, {"source": source, "target": target})


def counted(cast: Cast, side: Side) -> dict[tuple[str, str], dict[str, int]]:
    return {(one.role, one.application): one.tables for one in seen(cast).day if one.side == side}


def found(cast: Cast) -> list[Finding]:
    return list(writers.judge(cast.settings.config, seen(cast)))


def wrote(cast: Cast, side: Side, application: str, *statements: str) -> None:
    """As the application's role of that side, under that name."""
    with cast.session(side, MONOLITH if side == "source" else SERVICE, application_name=application) as session:
        for statement in statements:
            session.execute(statement.encode())


def routed(cast: Cast, weight: int) -> None:
    """What a step, or a rollback, keeps when the load balancer has confirmed its weight."""
    if weight:
        history.keep(cast.settings, Step.CANARY, CanaryEvent.MOVED, {"from": 0, "to": weight, "seconds": 1.0})
    else:
        history.keep(cast.settings, Step.ROLLBACK, RollbackEvent.ROUTED, {"seconds": 1.0})


def test_each_write_has_its_writer_whether_its_record_is_there_or_was_pruned(make_pair: MakePair) -> None:
    """Prevents a job that is not seen, by its time zone or as its record is gone, or is counted twice."""
    cast = running(make_pair)
    wrote(cast, "source", "web", "UPDATE tasks SET title = 'x' WHERE id <= 3", "DELETE FROM task_tag")
    wrote(cast, "source", "php schedule:run", "SET timezone = 'Pacific/Kiritimati'", RUN, RUN)
    cast.admin("source").execute(f"SET SESSION AUTHORIZATION {OPERATOR}".encode())
    cast.admin("source").execute("SET application_name = 'psql'")
    cast.admin("source").execute("UPDATE tasks SET title = 'y' WHERE id = 1")
    cast.admin("source").execute("RESET SESSION AUTHORIZATION")
    before = counted(cast, "source")
    assert before[MONOLITH, "web"]["tasks"] == 3
    assert before[MONOLITH, "php schedule:run"] == {"scheduled_task_executions": 2}
    assert before[OPERATOR, "psql"] == {"tasks": 1}
    assert counted(cast, "target") == {}, "what arrives is nobody's of that side"

    def pruned() -> int:
        status.look(cast.settings, 10)
        with open_side(cast.settings, "source", "status") as source:
            return writes.pruned(source).total

    total = sum(count for tables in before.values() for count in tables.values())
    wait_until(pruned, lambda number: number >= total, what="the records to be pruned", timeout=60)
    assert counted(cast, "source") == before
    shown = status.read(cast.settings)
    assert {(one.side, one.role, one.application) for one in shown.writers} == {("source", *name) for name in before}
    with cast.session("source", MONOLITH) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("DELETE FROM task_migration.writers")


def test_what_foreign_keys_and_rules_write_is_no_job(make_pair: MakePair) -> None:
    """Prevents a finding at 100 % for each user who leaves and each tag that goes: their rows go by the key, on the source too."""
    cast = running(make_pair)
    routed(cast, 100)
    admin = cast.admin("source")
    admin.execute("UPDATE tasks SET assigned_by_user_id = (SELECT max(id) FROM users) WHERE id = 1")
    admin.execute("UPDATE task_migration.source_writes SET at = at - interval '1 minute'")
    admin.execute("DELETE FROM tags WHERE id IN (SELECT tag_id FROM task_tag)")
    admin.execute("DELETE FROM users WHERE id = (SELECT max(id) FROM users)")
    assert {"tasks", "task_tag"} <= set(next(iter(counted(cast, "source").values())))
    assert found(cast) == []
    fence.both(cast.settings)
    assert counted(cast, "target") == {}


def test_whoever_writes_on_the_source_at_100_percent_is_named_at_once_and_keeps_finalize_away(
    make_pair: MakePair,
) -> None:
    """Prevents a `finalize` that takes the rights of a scheduler which nobody switched over: what it does would be missing."""
    cast = running(make_pair)
    wrote(cast, "source", "scheduler", RUN)
    routed(cast, 50)
    assert found(cast) == []
    routed(cast, 100)
    assert found(cast) == [], "what was written before is nothing"
    assert status.look(cast.settings, 10).writing == ()
    wrote(cast, "source", "scheduler", RUN)
    (text,) = status.look(cast.settings, 10).writing
    assert f"1 writes by {MONOLITH} as 'scheduler' (scheduled_task_executions 1; the last at " in text
    (finding,) = [one for one in status.read(cast.settings).findings if one.status == "fail"]
    assert (finding.what, finding.detail in text) == ("source: somebody else writes", True)
    # A watch that is fine by its figures holds, and tells the alarms' topic at once.
    cloud = Cloud(100)
    at = stage_of(short(cast.settings), cloud)
    decision = decide(Watch(at, Lock(), 100).run(), at.settings.config.gates, 0.05)
    (reason,) = decision.reasons
    assert (decision.verdict, f" by {MONOLITH} as 'scheduler' (scheduled_task_executions " in reason) == ("hold", True)
    assert cloud.notices == ["ALARM: somebody else writes"]
    assert reason in cloud.texts[0]
    with pytest.raises(
        Refused, match=r"nobody but replication writes on the source.*as 'scheduler'.*Nothing was changed"
    ):
        finalize.run(cast.settings)
    # Watched again at 100 %: that is no new move, so what was seen stays seen.
    routed(cast, 100)
    assert len(found(cast)) == 1
    # Back at 0 % the source is the one that writes.
    routed(cast, 0)
    assert found(cast) == []
    wrote(cast, "target", "task-service", "UPDATE tasks SET title = 'z' WHERE id = 1")
    assert [(one.status, one.what) for one in found(cast)] == [("warn", "target: somebody else writes")]


def test_after_hours_of_silence_finalize_goes_on(make_pair: MakePair) -> None:
    """Prevents a migration that never ends for one late job; `silentHours` says how late."""
    cast = running(make_pair, silent_hours=0.02)
    routed(cast, 100)
    wrote(cast, "source", "late", RUN)
    with pytest.raises(Refused, match="'late'"):
        finalize.run(cast.settings)
    # As if two minutes had gone by.
    cast.admin("source").execute("UPDATE task_migration.source_writes SET at = at - interval '2 minutes'")
    assert finalize.run(cast.settings, dry_run=True).status == "dry-run"


def test_a_scheduler_on_both_sides_is_told_at_every_weight_and_a_switch_is_not(make_pair: MakePair) -> None:
    """Prevents a scheduler that runs on both sides from the day that the Task Service is started, and doubles what it makes."""
    cast = running(make_pair)
    wrote(cast, "source", "myteacher-scheduler", RUN)
    assert found(cast) == []
    wrote(cast, "target", "task-service-cron", RUN)
    (text,) = [one.detail for one in found(cast) if one.status == "fail" and one.what == BOTH_SIDES]
    assert (
        f"on the source: {MONOLITH} as 'myteacher-scheduler'; on the target: {SERVICE} as 'task-service-cron'" in text
    )
    with pytest.raises(Refused, match=BOTH_SIDES):
        finalize.run(cast.settings)
    # The same with the monolith's stopped well before: a switch.
    cast.admin("source").execute("UPDATE task_migration.source_writes SET at = at - interval '1 minute'")
    assert [one for one in found(cast) if one.status == "fail"] == []


def test_a_former_versions_schema_is_looked_at_and_made_whole(make_pair: MakePair) -> None:
    """Prevents a newer program that crashes at a migration which an older one began, or calls everybody before it the operator."""
    cast = running(make_pair)
    wrote(cast, "source", "before", "UPDATE tasks SET title = 'x' WHERE id = 1")
    for side in ("source", "target"):
        with open_side(cast.settings, side, "test") as operator:
            operator.execute("DROP TABLE task_migration.writers")
            for record in ("source_writes", "target_writes"):
                operator.execute(
                    f"ALTER TABLE task_migration.{record} DROP COLUMN role, DROP COLUMN application".encode()
                )
            helper_schema.put(operator, install.CODE, install.code(operator))
            assert helper_schema.installed(operator)
            assert deletes.read(operator, cast.settings.config) == ()
    assert status.look(cast.settings, 20).writing == ()
    assert seen(cast) == writers.Seen()
    replicate.start(cast.settings)
    wrote(cast, "source", "after", "UPDATE tasks SET title = 'y' WHERE id = 1")
    assert counted(cast, "source") == {("", ""): {"tasks": 1}, (MONOLITH, "after"): {"tasks": 1}}
    fence.both(cast.settings)
    assert [one.what for one in status.read(cast.settings).findings if one.status == "fail"] == []
