"""What the Task Service deletes goes on the monolith too: an unusual share of it a minute is told of, and holds the canary."""

from __future__ import annotations

import psycopg
import pytest

from scripts.canary.gates import decide
from scripts.canary.operator_lock import Lock
from scripts.canary.watch import Watch
from scripts.copy import run as copy
from scripts.database.sides import open_side
from scripts.replication import deletes, fence, status, writes
from scripts.replication import run as replicate
from scripts.replication.documents import DeletedRows
from scripts.schema import run as schema
from scripts.support.wait import wait_until
from tests.cloud import SILENT, Cloud, short, stage_of
from tests.integration.roles import SERVICE, Cast
from tests.integration.test_chain import MakePair, count


def running(make_pair: MakePair, rows: int) -> Cast:
    """Replication both ways as the operator set it up, not a superuser."""
    cast = Cast(make_pair(rows=rows))
    schema.apply(cast.settings)
    copy.run(cast.settings)
    replicate.start(cast.settings)
    return cast


def counted(cast: Cast) -> tuple[DeletedRows, ...]:
    """What the operator reads of the last hour."""
    with open_side(cast.settings, "target", "status") as target:
        return deletes.read(target, cast.settings.config)


def found(cast: Cast) -> list[str]:
    """What `replicate status` says of deletes."""
    return [one.detail for one in status.read(cast.settings).findings if one.what == "target: unusual deletes"]


def test_a_table_that_the_service_empties_is_told_of_and_stays_told_when_its_records_are_pruned(
    make_pair: MakePair,
) -> None:
    """Prevents a service that empties the monolith's tables while status is fine and the canary goes on: both were so."""
    cast = running(make_pair, rows=300)
    before = count(cast.admin("source"), "SELECT count(*) FROM tasks")
    with cast.session("target", SERVICE) as service:
        gone = service.execute("DELETE FROM tasks WHERE id % 3 > 0").rowcount
    assert gone > 100
    fence.both(cast.settings)
    # It is so: what it deletes is deleted on the monolith, with what hangs on it.
    assert count(cast.admin("source"), "SELECT count(*) FROM tasks") == before - gone
    text = " ".join(found(cast))
    assert f"deleted {gone} of {before} rows of tasks" in text
    assert "the limit is below 50 % a minute" in text
    config = cast.settings.config

    def pruned() -> int:
        status.look(cast.settings, 10)
        with open_side(cast.settings, "target", "status") as target:
            return writes.pruned(target).delete

    wait_until(pruned, lambda number: number >= gone, what="the deletions' records to be pruned", timeout=60)
    looked = status.look(cast.settings, 10)
    kept = {(one.table): one.deleted for one in looked.deletes}
    assert kept["tasks"] == gone, "each deletion counts once, whether its record is there or was pruned"
    # A watch holds, and tells the alarms' topic at once, and once: it would go on to its end for half an hour.
    cloud = Cloud(5, observed=SILENT)
    at = stage_of(short(cast.settings, watch_seconds=1.0), cloud)
    decision = decide(Watch(at, Lock(), 5).run(), config.gates, 1.0)
    assert decision.verdict == "hold"
    assert any(f"deleted {gone} of" in reason for reason in decision.reasons)
    assert cloud.notices == ["ALARM: unusual deletes by the Task Service"]
    assert f"deleted {gone} of" in cloud.texts[0]
    assert f"deleted {gone} of" in " ".join(found(cast))


def test_ordinary_work_of_the_service_is_not_unusual(make_pair: MakePair) -> None:
    """Prevents a canary that holds at what people do: tags put on and taken off, old tasks cleared up, a schedule that ends."""
    cast = running(make_pair, rows=1000)
    with cast.session("target", SERVICE) as service:
        # A minute of the plan's load at 100 %: 50 requests/s, of which a quarter are edits that change the tags of some.
        service.execute(
            "DELETE FROM task_tag WHERE (task_id, tag_id) IN (SELECT task_id, tag_id FROM task_tag LIMIT 500)"
        )
        service.execute("DELETE FROM tasks WHERE id IN (SELECT id FROM tasks ORDER BY id LIMIT 60)")
        service.execute("DELETE FROM scheduled_group_tasks WHERE id = (SELECT min(id) FROM scheduled_group_tasks)")
    fence.both(cast.settings)
    assert found(cast) == []
    seen = counted(cast)
    assert {one.table for one in seen} >= {"tasks", "task_tag"}, "they are counted, and not unusual"


def test_what_the_monolith_or_a_rule_deletes_is_not_the_services(make_pair: MakePair) -> None:
    """Prevents a canary that is held by the monolith's own clearing up, which arrives as the rules' deletes."""
    cast = running(make_pair, rows=300)
    cast.admin("source").execute("DELETE FROM tasks WHERE id % 3 > 0")
    fence.both(cast.settings)
    assert counted(cast) == ()
    assert found(cast) == []


def test_the_service_cannot_make_its_deletes_others(make_pair: MakePair) -> None:
    """Prevents deletes that are hidden: by a cause of the rules' in the session, by the clock, by the record or the count itself."""
    cast = running(make_pair, rows=300)
    with cast.session("target", SERVICE) as service:
        service.execute("SET task_migration.cause = 'parent gone'")
        service.execute("SET task_migration.applying = 'on'")
        service.execute("SET timezone = 'Pacific/Kiritimati'")
        gone = service.execute("DELETE FROM tasks WHERE id % 3 > 0").rowcount
        for statement in (
            "DELETE FROM task_migration.target_writes",
            "UPDATE task_migration.target_writes SET cause = 'cascade'",
            "DELETE FROM task_migration.settings WHERE name = 'deletes'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(statement.encode())
    fence.both(cast.settings)
    assert f"deleted {gone} of" in " ".join(found(cast))
