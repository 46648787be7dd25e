"""A watch on two real servers: what its fences and its looks at both databases see is what the gate judges. The clock and AWS are the edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from psycopg import sql

from components.config_gates import GateLimits
from scripts.canary import gates, history, operator_lock, watch
from scripts.canary.figures import Observed, complete
from scripts.canary.operator_lock import Operation, TakenOver
from scripts.canary.ready import ServiceHealth
from scripts.canary.stage import Stage
from scripts.replication import fence
from scripts.support.errors import MigrationError
from scripts.support.events import CanaryEvent, Step
from scripts.support.settings import Settings
from tests.conftest import Pair, Recorder
from tests.integration.test_chain import MakePair, count, running
from tests.unit.canary.test_gates import PERIOD

#: A watch of two minutes: its periods begin 50 s after it, and are complete a minute after their end.
CONFIG: dict[str, Any] = {"watch_seconds": 120.0, "period_seconds": 60.0, "metric_delay_seconds": 60.0}
BEGAN = 1_800_000_010.0


def quiet(_: int) -> None:
    """Nothing happens at a look."""


@dataclass
class Edge:
    """A clock that a sleep turns on, and AWS: figures of whole periods, the load balancer's word, an alarms' topic."""

    now: float = BEGAN
    healthy: int = 2
    looks: int = 0
    #: Called at each look with its number.
    at: Callable[[int], None] = quiet
    notices: list[tuple[str, str]] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.looks += 1
        self.at(self.looks)

    def observe(self, since: float) -> Observed:
        begins = complete(since, self.now, 60.0, 60.0)
        return Observed(60.0, tuple(replace(PERIOD, at=begin, replication_seconds=None) for begin in begins))

    def health(self) -> ServiceHealth:
        return ServiceHealth(2, 2, self.healthy, self.healthy, "COMPLETED")

    def send(self, settings: Settings, subject: str, text: str) -> None:
        self.notices.append((subject, text))


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Edge:
    edge = Edge()
    monkeypatch.setattr(watch, "time", edge)
    return edge


def watched(settings: Settings, edge: Edge, told: list[str]) -> tuple[Observed, str]:
    """What a watch at 25 % brings, and what the gate says to it."""
    edge.now, edge.looks = BEGAN, 0
    edge.notices.clear()
    stage, progress = Stage(settings, edge, edge, edge, edge, metrics=edge), Recorder()  # type: ignore[arg-type]
    with operator_lock.locked(settings, Operation.RUN) as lock:
        observed = watch.Watch(stage, lock, 25, told.append, progress).run()
    (work,) = progress.works.values()
    config = settings.config
    assert (work.name, work.total, work.unit) == ("watch", config.watch_seconds + config.metric_delay_seconds, "s")
    return observed, gates.decide(observed, settings.config.gates, settings.config.watch_seconds).verdict


def noted(settings: Settings, name: str) -> list[str]:
    return [event["reason"] for event in settings.journal.events(Step.CANARY) if event["event"] == name]


@contextmanager
def disabled(pair: Pair) -> Iterator[None]:
    """The way back cut."""
    name = sql.Identifier(pair.settings.config.reverse_subscription)
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
    yield
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))
    fence.both(pair.settings, 20)


def test_a_watch_judges_what_both_databases_show_at_each_look(make_pair: MakePair, edge: Edge) -> None:
    """Prevents a promotion on figures of CloudWatch alone, while writes do not arrive, rows go, or somebody else writes."""
    pair = running(make_pair, gates=GateLimits(), drain_seconds=0.0, **CONFIG)
    settings = pair.settings

    told: list[str] = []
    observed, verdict = watched(settings, edge, told)
    assert (verdict, edge.looks, edge.notices) == ("promote", 8, []), "the second minute is whole 230 s after the begin"
    assert (observed.weight, observed.missing, observed.told, observed.failing) == (25, 0, 0, ())
    assert (observed.halted, observed.unserved_seconds, len(observed.periods)) == (None, 0.0, 2)
    assert all(0 < (one.replication_seconds or 0) < 10 for one in observed.periods)
    figures = "100 requests, 0 % errors, P95 80 ms, users 0.05 % errors, CPU 20 %"
    assert told == [
        f"watched 60 of 120 s: hold; {figures}",
        f"watched 120 of 120 s: promote; {figures}",
    ]

    # Whoever takes over ends it at its next look; a lost session alone does not.
    with ExitStack() as other:

        def lose(look: int) -> None:
            if look == 2:
                pair.source.execute("SELECT pg_terminate_backend(pid) FROM task_migration.locks WHERE name = 'canary'")
            if look == 4:
                other.enter_context(operator_lock.locked(settings, Operation.ROLLBACK, take_over=True))

        edge.at = lose
        with pytest.raises(TakenOver, match="taken over by task-migration rollback"):
            watched(settings, edge, [])
        assert edge.looks == 4
    edge.at = quiet

    # All of a table goes from the Task Service, then somebody writes where nobody should: it holds to the end of the grace, and each
    # is told once, at once.
    gone = count(pair.target, "SELECT count(*) FROM task_tag")
    history.keep(settings, Step.CANARY, CanaryEvent.MOVED, {"from": 50, "to": 100, "seconds": 1.0})

    def happen(look: int) -> None:
        if look == 2:
            pair.target.execute("DELETE FROM task_tag")
        if look == 3:
            pair.source.execute("UPDATE tasks SET title = '誰か' WHERE id = (SELECT min(id) FROM tasks)")
        assert len(edge.notices) == max(0, min(look - 2, 2))

    edge.at, told = happen, []
    observed, verdict = watched(settings, edge, told)
    edge.at = quiet
    assert (verdict, edge.looks) == ("hold", 12), "three periods beyond the watch and the metrics' delay"
    assert [(one.table, one.deleted, one.rows) for one in observed.deletes] == [("task_tag", gone, gone)]
    (writing,) = observed.failing
    assert "at weight 100 % nobody but replication writes on the source" in writing
    (deletes, emptied), (writes, who) = edge.notices
    assert (deletes, writes) == ("ALARM: unusual deletes by the Task Service", "ALARM: somebody else writes")
    assert f"deleted {gone} of {gone} rows of task_tag" in emptied
    assert writing in who
    assert told[:2] == [text.split("- ")[1].split("\n")[0] for text in (emptied, who)]
    history.keep(settings, Step.ROLLBACK, "done", {})

    # A write whose record is gone where it should have arrived.
    pair.target.execute("UPDATE tasks SET title = '届かない' WHERE id = (SELECT min(id) FROM tasks)")
    fence.reverse(settings, 20)
    pair.source.execute("DELETE FROM task_migration.target_writes WHERE kind = 'update'")
    observed, verdict = watched(settings, edge, [])
    assert (observed.missing, verdict, edge.looks) == (1, "rollback", 1)

    # The way back is cut: that is said, and not a lag.
    with disabled(pair):
        observed, verdict = watched(settings, edge, [])
    assert (verdict, edge.looks) == ("rollback", 1)
    assert "the subscription" in str(observed.halted)

    # A fence that does not return in time has taken as long as the limit, and more looks may tell of another moment.
    slow = pair.config(gates={"replicationLagSeconds": 0.3}, metricDelaySeconds=0)
    with pair.source.transaction():
        pair.source.execute("LOCK TABLE task_migration.target_writes IN EXCLUSIVE MODE")
        observed, verdict = watched(slow, edge, [])
    assert (verdict, observed.halted) == ("rollback", None)
    assert [one.replication_seconds for one in observed.periods] == [0.3, 0.3, 0.3]
    assert noted(settings, "fence-failed") == []


def _delete(pair: Pair) -> None:
    pair.target.execute("DELETE FROM task_tag")


def test_a_watch_goes_on_where_nothing_can_be_read(make_pair: MakePair, edge: Edge) -> None:
    """Prevents a watch that an outage ends, at a weight that nobody looks at any more, and minutes of 503 before the metrics tell."""
    pair = make_pair(rows=None, gates=GateLimits(), **CONFIG)
    settings, told = pair.settings, list[str]()

    # No replication, and CloudWatch is away for two reasons.
    def away(look: int) -> None:
        reason = "throttled" if look < 3 else "no right"
        edge.observe = lambda since: _raise(reason)  # type: ignore[method-assign]

    edge.at = away
    observed, verdict = watched(settings, edge, told)
    assert (verdict, edge.looks, observed.failing, observed.periods) == ("hold", 12, ("no figures: no right",), ())
    assert told == ["no figures: throttled", "no figures: no right"]
    assert noted(settings, "metrics-unreadable") == ["throttled", "no right"]
    failed = noted(settings, "fence-failed")
    assert len(failed) == 12
    assert "task_migration.source_writes" in failed[0]

    # It looks twice a period, and each half minute at the least.
    for period, pause in ((20.0, 10.0), (45.0, 22.5), (600.0, 30.0)):
        edge.at = lambda look: _raise("enough") if look == 2 else None
        with pytest.raises(MigrationError, match="enough"):
            watched(pair.config(periodSeconds=period), edge, [])
        assert edge.now - BEGAN == 2 * pause
    edge.at = away

    # Nor where the journal cannot be written either.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(settings.journal), "record", lambda *_, **__: _raise("S3 is away"))
        assert (watched(settings, edge, [])[1], edge.looks) == ("hold", 12)

    # By the load balancer's word alone: two minutes from the first look without a healthy target; one look is not enough, and what
    # cannot be read says nothing.
    def empties(look: int) -> None:
        edge.healthy = 2 if look == 3 else 0
        edge.health = (lambda: _raise("ECS is away")) if look == 6 else lambda: ServiceHealth(2, 2, 0, edge.healthy, "")  # type: ignore[method-assign]

    edge.at, told[:] = empties, []
    observed, verdict = watched(settings, edge, told)
    assert (verdict, edge.looks, observed.unserved_seconds) == ("rollback", 11, 120.0)
    assert told.count("no target of the Task Service is healthy") == 3


def _raise(reason: str) -> Any:
    raise MigrationError(reason)
