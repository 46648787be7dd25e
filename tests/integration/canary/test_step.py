"""Steps, ladders and ways back on two real servers; only the cloud is a double. One pair serves all: each test leaves it as it was."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from psycopg import sql
from pydantic import SecretStr

from scripts.canary import decisions, history, operator_lock, rollback, verifying, way_back
from scripts.canary import step as canary
from scripts.canary.documents import CanaryRun, Rollback, RollbackPlan, Unfinished
from scripts.canary.figures import Traffic
from scripts.canary.guard import LIVE_RULE
from scripts.canary.operator_lock import Lock, Operation, TakenOver
from scripts.canary.stage import Emergency, Stage
from scripts.canary.status import status
from scripts.database import helper_schema, locks
from scripts.database.sides import open_side
from scripts.replication import fence, untold
from scripts.support.errors import DatabaseError, MigrationError, Refused, TimedOut
from scripts.support.events import Step
from scripts.support.progress import Progress, Work
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from scripts.support.wait import wait_until
from scripts.verify import rollback_proof
from scripts.verify import verdict as verdicts
from tests.cloud import FAILING, HEALTHY, OTHER, RULE, SILENT, Cloud, short, stage_of, stepped
from tests.conftest import Pair
from tests.integration.proxy import Proxy
from tests.integration.test_chain import count
from tests.machine.operators import Killed
from tests.unit.canary.test_rollback import AT, Clock

#: What the monolith gets back.
RIGHTS = ("INSERT", "UPDATE", "DELETE")
WRITE = "INSERT INTO tasks (user_id, title) SELECT min(user_id), %s FROM tasks RETURNING id"


def stage(pair: Pair, cloud: Cloud, **config: Any) -> Stage:
    return stage_of(short(pair.settings, **config), cloud)


def names(at: Stage, step: str = "canary") -> list[str]:
    return [event["event"] for event in at.settings.journal.events(step)]


def ran(at: Stage) -> CanaryRun:
    """The ladder, where no rollback was owed."""
    document = canary.run(at)
    assert isinstance(document, CanaryRun)
    return document


def at_boundary(
    cloud: Cloud, boundary: str, act: Callable[[], object], when: Callable[[], bool] = lambda: True
) -> None:
    """``act`` at the first such boundary at which ``when`` holds."""
    done = False

    def look(name: str) -> None:
        nonlocal done
        if name == boundary and not done and when():
            done = True
            act()

    cloud.at = look


def fails(error: BaseException) -> Callable[..., NoReturn]:
    def act(*_: object, **__: object) -> NoReturn:
        raise error

    return act


@contextmanager
def way_back_cut(pair: Pair) -> Iterator[None]:
    """The reverse subscription is switched off, and its worker gone."""
    name = pair.settings.config.reverse_subscription
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(name)))
    gone = f"SELECT count(*) FROM pg_stat_subscription WHERE subname = '{name}' AND pid IS NOT NULL"
    wait_until(lambda: count(pair.source, gone), lambda left: left == 0, what="the worker to end", timeout=20)
    try:
        yield
    finally:
        pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(name)))
        fence.reverse(pair.settings, 30)


@contextmanager
def through(pair: Pair, side: Side) -> Iterator[tuple[Settings, Proxy]]:
    """Settings that reach one side by a line that can be cut."""
    server = pair.source_server if side == "source" else pair.target_server
    with Proxy(server.port) as line:
        url = SecretStr(pair.settings.url(side).replace(f":{server.port}", f":{line.port}"))
        source, target = (url, pair.settings.target_url) if side == "source" else (pair.settings.source_url, url)
        yield replace(pair.settings, source_url=source, target_url=target), line


# One step.


def test_a_healthy_step_is_promoted_and_kept_with_its_evidence(pair: Pair) -> None:
    """Prevents a decision that nobody can judge anew, and an explanation that repeats the verdict instead."""
    cloud, told = Cloud(), list[str]()
    at = stage(pair, cloud)
    with pytest.raises(Refused, match="nothing was decided yet"):
        decisions.explain(at.settings)
    document = stepped(at, tell=told.append)
    assert (document.from_, document.to, document.decision) == (0, 5, "promote")
    assert document.changed == ["routes-live-rule"]
    assert document.evidence is not None
    assert document.document is not None
    assert document.evidence.periods[0].task_service == Traffic(100, 0, 0, 10.0, 20.0)
    assert (document.evidence.weight, document.evidence.missing) == (5, 0)
    assert (cloud.declared, cloud.live, cloud.ups) == (5, 5, [5])
    assert names(at) == ["begun", "moved", "decided"]
    assert cloud.notices == ["canary 0 -> 5 %: promote"]
    assert f"- {document.document}\n" in cloud.texts[0]
    assert "watched 0.05 of 0.05 s: promote; 100 requests, 0 % errors, P95 20 ms, users 0 % errors, CPU 5 %" in told
    assert any(line.startswith(" ok  a synthetic write on the target was read on the source") for line in told), told
    kept = decisions.read(document.document)
    assert kept["evidence"] == document.plain()["evidence"]
    assert kept["limits"]["errorRatePercent"] == 1.0
    so_far = history.read(at.settings)
    assert (so_far.unfinished, so_far.owed, so_far.reached) == (None, None, 5)
    assert so_far.since is not None

    answer = decisions.explain(at.settings)
    assert (answer.decision, answer.again, answer.same) == ("promote", "promote", True)
    assert "typical P95 20 ms, below 500 ms" in [finding.text for finding in answer.findings]
    location = Path(document.document)
    location.write_text(location.read_text().replace('"errors": 0', '"errors": 50'))
    answer = decisions.explain(at.settings)
    assert (answer.again, answer.same) == ("rollback", False)
    whole = json.loads(location.read_text())
    for value in (float("nan"), float("inf"), 0, "long"):
        location.write_text(json.dumps({**whole, "watch_seconds": value}))
        with pytest.raises(MigrationError, match=r"is no decision \(a watch of"):
            decisions.explain(at.settings)


@pytest.mark.parametrize("changes", [(RULE, OTHER), (OTHER,), (RULE,)])
def test_a_deployment_that_changes_more_is_refused_and_a_dry_run_changes_nothing(
    pair: Pair, changes: tuple[Any, ...]
) -> None:
    """Prevents a canary step that replaces the database on the way, and a trial that is none."""
    cloud = Cloud(changes=changes)
    at = stage(pair, cloud)
    document = stepped(at, dry_run=changes == (RULE,))
    if changes == (RULE,):
        assert (document.decision, document.reasons) == ("hold", ["would update routes-live-rule"])
        assert (list(at.settings.journal.events()), cloud.notices) == ([], [])
    else:
        assert document.decision == "refused"
        assert f"{OTHER.op} {OTHER.name}" in document.reasons[0]
        assert names(at) == ["decided"]
    assert (cloud.ups, cloud.declared, cloud.live) == ([], 0, 0)
    assert history.read(at.settings) == history.History()


def test_a_rule_that_somebody_moved_by_hand_is_refused(pair: Pair) -> None:
    """Prevents a step from a weight that is not the real one."""
    cloud = Cloud(weight=5)
    cloud.live = 50
    document = stepped(stage(pair, cloud))
    assert document.decision == "refused"
    assert "the stack declares 5 %, the load balancer has 50 %" in document.reasons[0]
    assert (cloud.ups, cloud.live) == ([], 50)


def test_a_breach_goes_back_and_cookies_keep_the_weight_down_after_it(pair: Pair) -> None:
    """Prevents users who stay on a service that fails, and a step that gives it everybody whom the rollback has just taken from it."""
    cloud = Cloud(weight=25, observed=FAILING)
    at = stage(pair, cloud)
    document = stepped(at)
    assert document.rollback is not None
    assert (document.decision, document.rollback.to, cloud.live, cloud.ups) == ("rollback", 0, 0, [50, 0])
    assert "error rate is 10 %" in document.reasons[0]
    assert document.rollback.reasons == document.reasons
    assert [text[:26] for text in cloud.notices] == ["rollback from 50 % done in"]
    assert f"The decision with its evidence:\n- {document.document}\n" in cloud.texts[0]
    assert names(at, "rollback") == ["begun", "routed", "done"]
    so_far = history.read(at.settings)
    assert (so_far.owed, so_far.reached, so_far.since) == (None, 0, None)
    cloud.observed, cloud.sticky = HEALTHY, 600
    document = stepped(at)
    assert document.decision == "refused"
    (left,) = re.findall(r"by a cookie that counts for (\d+) s more \(canaryStickySeconds 600\)", document.reasons[0])
    assert 540 < int(left) <= 600
    assert cloud.ups == [50, 0]
    cloud.sticky = 0
    assert stepped(at, dry_run=True).reasons == ["would update routes-live-rule"]


def test_a_step_killed_at_each_boundary_goes_on_when_it_is_run_again(pair: Pair) -> None:
    """Prevents a killed step that leaves a weight nobody watches, or that is taken up from the wrong weight."""
    cloud = Cloud(weight=5)
    at = stage(pair, cloud)
    left = []
    for boundary in ("preview", "before up", "config set", "up done", "confirm", "watch"):
        at_boundary(cloud, boundary, fails(Killed()))
        with pytest.raises(Killed):
            canary.step(at)
        seen = status(at)
        assert seen.rollback_owed is None
        left.append((seen.unfinished, cloud.declared, cloud.live))
    begun = Unfinished(from_=5, to=25)
    assert left == [(None, 5, 5), (begun, 5, 5), (begun, 25, 5), *[(begun, 25, 25)] * 3]
    cloud.at = lambda name: None
    document = stepped(at)
    assert (document.from_, document.to, document.decision) == (5, 25, "promote")
    assert (cloud.declared, cloud.live) == (25, 25)
    assert status(at).unfinished is None


def test_a_rollback_killed_at_each_boundary_is_ended_before_anything_else(pair: Pair) -> None:
    """Prevents a step up after a breach whose rollback was killed."""
    cloud = Cloud(weight=5, observed=FAILING)
    at = stage(pair, cloud)
    for boundary in ("before up", "config set", "up done", "confirm"):
        # The step's own deployment was the first.
        at_boundary(cloud, boundary, fails(Killed()), lambda: 25 in cloud.ups and "begun" in names(at, "rollback"))
        with pytest.raises(Killed):
            canary.step(at)
        assert status(at).rollback_owed
        assert names(at, "rollback")[-1] == "begun"
    cloud.at, cloud.observed = lambda name: None, HEALTHY
    dry = canary.step(at, dry_run=True)
    assert "would end the rollback that was begun or decided: " in dry.reasons[0]
    assert "error rate is 10 %" in dry.reasons[0]
    document = canary.step(at)
    assert isinstance(document, Rollback)
    assert (document.decision, document.to, cloud.declared, cloud.live) == ("rollback", 0, 0, 0)
    assert document.rows.proven
    assert status(at).rollback_owed is None
    assert canary.step(at, dry_run=True).to == 5


def test_a_way_back_that_broke_under_the_watch_holds(pair: Pair) -> None:
    """Prevents a promotion though nothing leads back any more, and a kept decision that cannot be judged anew."""
    cloud = Cloud()
    at = stage(pair, cloud)
    at_boundary(cloud, "watch", lambda: pair.target.execute("ALTER TABLE task_images ADD COLUMN drifted int"))
    try:
        document = stepped(at)
    finally:
        pair.target.execute("ALTER TABLE task_images DROP COLUMN drifted")
    assert (document.decision, cloud.live) == ("hold", 5)
    assert "the two catalogs differ" in " ".join(document.reasons)
    assert document.evidence is not None
    assert document.evidence.failing != ()
    answer = decisions.explain(at.settings)
    assert (answer.again, list(answer.reasons)) == ("hold", document.reasons)


@pytest.mark.parametrize("fenced", [True, False])
def test_a_source_that_goes_away_under_the_watch_promotes_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, fenced: bool
) -> None:
    """Prevents a promotion while nobody can say whether a rollback would keep every write, and users whom nobody takes back."""
    monkeypatch.setattr(operator_lock, "YIELD_SECONDS", 0.01)
    with through(pair, "source") as (settings, line):
        cloud = Cloud(5)
        at = stage(replace(pair, settings=settings), cloud)
        if fenced:
            at_boundary(cloud, "watch", lambda: line.cut("refused"))

        def tell(text: str) -> None:
            if "confirmed after" in text and not fenced:
                line.cut("refused")

        with pytest.raises(DatabaseError) as failed:
            canary.step(at, tell=tell)
        if fenced:  # held, and what was decided cannot be kept
            assert (cloud.live, cloud.declared, names(at)) == (25, 25, ["begun", "moved"])
        else:
            assert "all routes are on the monolith since" in str(failed.value)
            assert (cloud.live, cloud.declared, cloud.ups) == (0, 0, [25, 0])
            assert names(at) == ["begun", "moved", "fence-failed"]
        line.mend()
        assert status(at).unfinished == Unfinished(from_=5, to=25)


@pytest.mark.parametrize(("weight", "comes_back"), [(0, False), (25, True), (25, False)])
def test_a_step_that_is_refused_leaves_nobody_on_a_service_without_a_healthy_target(
    pair: Pair, weight: int, comes_back: bool
) -> None:
    """Prevents a ladder that stops between two watches and leaves a quarter of the users with 503, whom nobody watches."""
    cloud = Cloud(weight)
    looks = 0

    def looked(name: str) -> None:
        nonlocal looks
        looks += name == "health"
        # Not ready at the first look, gone at the second.
        cloud.healthy = 2 if comes_back and looks > 2 else 0

    cloud.at = looked
    document = stepped(stage(pair, cloud))
    left = weight > 0 and not comes_back
    assert (document.decision, cloud.live) == (("rollback", 0) if left else ("refused", weight))
    assert any("no target of the Task Service was healthy for 0.02 s" in one for one in document.reasons) is left
    told = "rollback from 25 % done in" if left else f"canary {weight} -> {document.to} %: refused"
    assert [text[: len(told)] for text in cloud.notices] == [told]
    if not left:
        assert "the Task Service is not ready for requests" in " ".join(document.reasons)
        assert "The weight stays as it is, and no watch looks at it." in cloud.texts[0]


# Another operator.


@contextmanager
def taken_over(at: Stage, cloud: Cloud, boundary: str, operation: Operation) -> Iterator[None]:
    """At the boundary another operator takes the lock over, and has it."""
    with ExitStack() as held:
        lock = operator_lock.locked(at.settings, operation, take_over=True)
        at_boundary(cloud, boundary, lambda: held.enter_context(lock))
        yield


@pytest.mark.parametrize("ended", [False, True])
def test_a_rollback_that_had_no_lock_wins_over_a_step_that_looked_before_it(pair: Pair, ended: bool) -> None:
    """Prevents users who are sent back over a rollback of somebody who could not get the lock, as the source was away for a moment."""
    cloud = Cloud()
    at = stage(pair, cloud)

    def rolled_back() -> None:
        history.keep(at.settings, Step.ROLLBACK, "begun", {"reasons": ["by hand"]})
        if ended:
            history.keep(at.settings, Step.ROLLBACK, "done", {})

    at_boundary(cloud, "preview", rolled_back)
    with pytest.raises(TakenOver, match="a rollback was begun since this command looked"):
        canary.step(at)
    assert (cloud.declared, cloud.live, cloud.ups) == (0, 0, [])


@pytest.mark.parametrize(
    ("operation", "boundary", "declared", "live", "did"),
    [
        (Operation.STEP, "up done", 25, 25, ["begun", "lock-taken-over"]),
        (Operation.ROLLBACK, "up done", 0, 0, ["begun", "lock-taken-over", "rollback begun"]),
        # The copy of the stack's file, which a workflow commits, names no weight from which somebody has gone back.
        (Operation.EMERGENCY, "watch", 0, 25, ["begun", "moved", "lock-taken-over"]),
        (Operation.RUN, "watch", 25, 25, ["begun", "moved", "lock-taken-over"]),
        (Operation.STEP, "preview", 5, 5, ["lock-taken-over", "begun"]),
    ],
)
def test_who_was_taken_over_stops_and_undoes_its_deployment_for_a_way_back_only(
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    operation: Operation,
    boundary: str,
    declared: int,
    live: int,
    did: list[str],
) -> None:
    """Prevents two operators who move one weight, a deployment that outlives a rollback, and one that is undone though another goes on."""
    monkeypatch.setattr(operator_lock, "YIELD_SECONDS", 0.01)
    cloud = Cloud(weight=5, observed=SILENT)
    at = stage(pair, cloud, watch_seconds=5.0)
    with (
        taken_over(at, cloud, boundary, operation),
        pytest.raises(TakenOver, match=f"taken over by task-migration {operation} ") as stopped,
    ):
        canary.step(at)
    assert stopped.value.goes_back is (operation in (Operation.ROLLBACK, Operation.EMERGENCY))
    assert (cloud.declared, cloud.live) == (declared, live)
    events = [(event["step"], event["event"]) for event in at.settings.journal.events()]
    assert [event if step == "canary" else f"{step} {event}" for step, event in events] == did
    if boundary == "up done":
        # A rollback is owed by the next one alone where this one undid what it had moved.
        assert history.read(at.settings).owed == ((str(stopped.value),) if live == 0 else None)
    assert cloud.notices == []


def test_a_rollback_begun_while_a_deployment_ran_wins_over_it(pair: Pair) -> None:
    """Prevents an `up` that ends after an emergency rollback from having the last word."""
    cloud = Cloud(weight=5)
    at = stage(pair, cloud)

    def meanwhile() -> None:
        history.keep(at.settings, Step.ROLLBACK, "begun", {"reasons": ["another operator"]})
        history.keep(at.settings, Step.ROLLBACK, "done", {})

    at_boundary(cloud, "up done", meanwhile)
    with pytest.raises(TakenOver, match="a rollback was begun while the deployment of 25 % ran"):
        canary.run(at)
    assert (cloud.live, cloud.declared, cloud.ups) == (0, 0, [25])
    assert cloud.notices == [], "who was taken over was not stopped by an error"


# The ladder.


def test_run_climbs_the_ladder_and_verifies_before_it_and_beside_each_watch(pair: Pair) -> None:
    """Prevents an unattended ladder that climbs on a comparison of before it, or that leaves rows out before all users come."""
    cloud = Cloud()
    at = stage(pair, cloud, canary_ladder=(5, 50, 100))
    document = ran(at)
    assert (document.from_, document.to, document.decision, cloud.ups) == (0, 100, "promote", [5, 50, 100])
    assert cloud.notices == [f"canary {a} -> {b} %: promote" for a, b in ((0, 5), (5, 50), (50, 100))]
    events = [
        ("all" if event["written"] is None else "some") if event["step"] == "verify" else event["event"]
        for event in at.settings.journal.events()
    ]
    # Every row before the first user, and before the last.
    assert events == [
        "all", "begun", "moved", "some", "decided", "begun", "moved", "all", "decided", "begun", "moved", "some", "decided",
    ]  # fmt: skip


def test_run_watches_a_hold_again_so_many_times_and_goes_on_when_run_again(pair: Pair) -> None:
    cloud = Cloud(50, observed=SILENT)
    at = stage(pair, cloud, watch_rounds=2)
    document = ran(at)
    assert [(step.from_, step.to, step.decision) for step in document.steps] == [(50, 100, "hold")] * 2
    assert cloud.notices == ["canary 50 -> 100 %: hold"] * 2
    cloud.observed = HEALTHY
    document = ran(at)
    assert (document.from_, document.to, document.decision, cloud.live) == (50, 100, "promote", 100)


@pytest.mark.parametrize(("ended", "said"), [(False, "has not ended; it goes on"), (True, "failed: ")])
def test_a_verification_that_fails_or_goes_on_beside_the_watch_promotes_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, ended: bool, said: str
) -> None:
    """Prevents an unattended ladder that climbs on a comparison that failed or never ended."""
    monkeypatch.setattr(verifying, "LAST_SECONDS", 30.0 if ended else 0.1)
    end = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'task-migration verify%' AND wait_event_type = 'Lock'"
    )
    cloud = Cloud(25)
    with open_side(pair.settings, "target", "test") as holder:

        def act(name: str) -> None:
            if name == "up done":
                holder.execute("BEGIN; LOCK TABLE public.task_images")
            if name == "watch" and ended:
                wait_until(lambda: count(pair.target, end), bool, what="the verification to wait", timeout=30)

        cloud.at = act
        document = ran(stage(pair, cloud, watch_rounds=1))
        holder.execute("ROLLBACK")
    assert [(step.to, step.decision) for step in document.steps] == [(50, "hold")]
    assert f"the verification beside the watch {said}" in document.reasons[0]
    wait_until(
        lambda: [one.name for one in threading.enumerate()],
        lambda alive: "verify beside" not in alive,
        what="the verification to end",
        timeout=30,
    )


@pytest.mark.parametrize(
    ("weight", "decision"),
    [
        # Compared a part lately, all rows long ago: enough for a step in between alone.
        (0, "refused"),
        (5, "hold"),
        (50, "refused"),
    ],
)
def test_every_row_was_compared_lately_before_the_first_user_and_the_last(
    pair: Pair, weight: int, decision: str
) -> None:
    """Prevents all users on rows of which the half was compared days ago."""
    kept = helper_schema.get(pair.source, verdicts.VERIFIED)
    long_ago = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    try:
        helper_schema.put(pair.source, verdicts.VERIFIED, {**kept, "whole": long_ago})
        cloud = Cloud(weight)
        document = stepped(stage(pair, cloud), dry_run=True)
    finally:
        helper_schema.put(pair.source, verdicts.VERIFIED, kept)
    assert document.decision == decision, document.reasons
    assert ("verification" in " ".join(document.reasons)) is (decision == "refused")


@pytest.mark.parametrize(("weight", "decision"), [(25, "hold"), (50, "refused")])
def test_a_scheduler_on_the_monolith_keeps_the_weight_from_100_alone(pair: Pair, weight: int, decision: str) -> None:
    """Prevents a night's job that goes on writing where nobody reads any more."""
    with pair.source.transaction():
        pair.source.execute("SET LOCAL application_name = 'the nightly job'")
        pair.source.execute("UPDATE tasks SET priority = 4 WHERE id = (SELECT max(id) FROM tasks)")
    at = stage(pair, Cloud(weight), scheduler_names=("the nightly job",))
    document = stepped(at, dry_run=True)
    assert document.decision == decision, document.reasons
    assert ("the scheduler still runs on the monolith" in " ".join(document.reasons)) is (decision == "refused")


def test_run_that_an_error_ends_says_so_before_anybody_looks(pair: Pair) -> None:
    """Prevents a weight of 25 % that nothing watches until morning, as the run died between two steps."""
    cloud = Cloud(25)
    at_boundary(cloud, "preview", fails(MigrationError("the backend is away")))
    with pytest.raises(MigrationError):
        canary.run(stage(pair, cloud))
    assert cloud.notices == ["canary run STOPPED by an error"]
    assert "- the backend is away\n" in cloud.texts[0]
    assert (cloud.live, cloud.ups) == (25, [])


@pytest.mark.parametrize(("boundary", "live"), [("before up", 5), ("up done", 25)])
def test_a_step_whose_deployment_fails_leaves_it_to_its_operator(pair: Pair, boundary: str, live: int) -> None:
    """Prevents users who are moved behind the back of who is there to look, and a step that is forgotten with its error."""
    cloud = Cloud(5)
    at = stage(pair, cloud)
    at_boundary(cloud, boundary, fails(MigrationError("the backend is away")))
    with pytest.raises(MigrationError, match="the backend is away"):
        canary.step(at)
    assert (cloud.live, names(at), names(at, "rollback")) == (live, ["begun"], [])
    assert history.read(at.settings).state(cloud.declared, cloud.live).step == (5, 25)


@pytest.mark.parametrize("boundary", ["config set", "up done"])
def test_run_rolls_back_at_the_load_balancer_when_deployments_fail(pair: Pair, boundary: str) -> None:
    """Prevents an unattended ladder that ends with an unknown weight because Pulumi stopped working."""
    cloud = Cloud(weight=5)
    away = Refused("the backend is away") if boundary == "config set" else MigrationError("the backend is away")

    def broken(name: str) -> None:
        if name == boundary:
            raise away

    cloud.at = broken
    document = ran(stage(pair, cloud))
    assert (document.decision, document.from_, [step.to for step in document.steps]) == ("rollback", 5, [25])
    assert document.rollback is not None
    assert document.rollback.by == "load balancer API"
    assert "the backend is away" in str(document.rollback.pulumi)
    assert document.rollback.rows.proven
    assert (cloud.declared, cloud.live) == (0, 0)


# The way back.


def test_a_write_acknowledged_while_it_drains_is_kept_and_no_fence_goes_before_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a rollback that proves what was there when the routes moved, and loses what a request under way wrote after that."""
    cloud = Cloud(weight=50)
    at = stage(pair, cloud)
    fences = "SELECT count(*) FROM task_migration.target_writes WHERE kind = 'fence'"
    idle, acknowledged, seen = iter([0.0, 0.0, 0.99, way_back.QUIET_SECONDS]), dict[int, str](), list[tuple[int, int]]()
    order = list[tuple[str, dict[str, Any]]]()

    def look() -> float:
        seen.append((cloud.live, count(pair.target, fences)))
        seconds = next(idle)
        if not seconds:
            row = pair.target.execute(WRITE, (f"under way {len(seen)}",)).fetchone()
            assert row is not None
            acknowledged[row[0]] = f"under way {len(seen)}"
        return seconds

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*given: Any, **more: Any) -> Any:
            order.append((real.__name__, more))
            return real(*given, **more)

        return noting

    for module, name in ((fence, "reverse"), (untold, "tell"), (rollback_proof, "prove")):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    cloud.idle = look
    before = count(pair.target, fences)
    document = rollback.run(at)
    # What was lost is told before the proof, of which it is a part; the fence has what the budget leaves.
    assert [name for name, _ in order] == ["reverse", "tell", "prove"]
    assert 0 < order[0][1]["timeout"] < at.settings.config.rollback_limit_seconds
    rows = pair.source.execute("SELECT id, title FROM tasks WHERE id = ANY(%s)", (list(acknowledged),)).fetchall()
    assert dict(rows) == acknowledged
    assert len(acknowledged) == 2
    # Each look came after the routes had moved, and no fence was there yet: one of before would not have waited for these.
    assert seen == [(0, before)] * 4
    assert next(idle, None) is None
    assert document.rows.proven
    assert document.rows.writes.insert >= 2
    phases = document.phases
    assert phases.routed + phases.drained + phases.fenced + phases.compared == pytest.approx(document.seconds, abs=0.01)


@pytest.mark.parametrize(("visible", "longest"), [(True, 60.0), (False, 0.4)])
def test_requests_that_nobody_can_see_are_waited_for_as_long_as_one_may_take(
    pair: Pair, visible: bool, longest: float
) -> None:
    """Prevents a proof while requests are under way of which no figure tells: drainSeconds is what they may take."""
    cloud = Cloud(weight=50)
    cloud.idle = (lambda: 60.0) if visible else fails(MigrationError("no figures"))
    document = rollback.run(stage(pair, cloud, drain_seconds=longest))
    assert (document.phases.drained < longest) is visible


class Passing(Progress):
    """Each piece of work takes so long by ``clock``, and is kept as it was announced."""

    def __init__(self, clock: Clock, **seconds: float) -> None:
        self.clock, self.seconds, self.seen = clock, seconds, list[tuple[str, float | None, str]]()

    @contextmanager
    def work(self, name: str, total: float | None, unit: str, *, detail: bool = False) -> Iterator[Work]:
        self.seen += [(name, total, unit)]
        self.clock.sleep(self.seconds.get(name.partition(" ")[0], 0.0))
        with super().work(name, total, unit, detail=detail) as work:
            yield work


@pytest.mark.parametrize("within", [True, False])
def test_a_rollback_is_told_with_what_each_part_of_it_took(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    """Prevents a rollback over the plan's limit that is told as within it, and one whose slow part nobody can name."""
    clock, little = Clock(), 2.0**-14  # exact in binary, and told in milliseconds
    limit = 15 + 4 * little if within else 15.0
    for module in (rollback, way_back):
        monkeypatch.setattr(module, "time", clock)
    cloud, seen = (
        Cloud(weight=25),
        Passing(clock, deployment=1 + little, drain=2 + little, fence=4 + little, writes=8 + little),
    )
    at = stage(pair, cloud, rollback_limit_seconds=limit)
    document = rollback.run(at, reasons=("asked by a test",), progress=seen)
    assert document.rows.proven
    assert {**document.plain(), "rows": None} == {
        "from": 25, "to": 0, "decision": "rollback", "reasons": ["asked by a test"], "seconds": 15.0, "limit_seconds": limit,
        "within_limit": within, "by": "pulumi up", "seconds_of_up": 1.0, "config_set": None, "drift": None, "pulumi": None,
        "moved_again": False, "rights_given_back": False, "rows": None, "service_stopped": False,
        "phases": {"routed": 1.0, "drained": 2.0, "fenced": 4.0, "compared": 8.0},
    }  # fmt: skip
    assert seen.seen == [
        ("deployment of weight 0", limit / 2, "s"),
        ("drain", at.settings.config.drain_seconds, "s"),
        ("fence", limit - 3 - 2 * little, "s"),
        ("writes compared", None, "s"),
    ]
    (done,) = [event for event in at.settings.journal.events("rollback") if event["event"] == "done"]
    assert {key: done[key] for key in document.plain()} == document.plain()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_the_configuration_did_not_take_is_tried_again_and_then_told(pair: Pair, times: int) -> None:
    """Prevents a weight, or a service, that the next `up` brings back as a lock kept the stack's file from being written."""
    cloud, left = Cloud(weight=25), [times]

    def look(name: str) -> None:
        if name == "keep" and left[0]:
            left[0] -= 1
            raise MigrationError("locked")

    cloud.at = look
    document = rollback.emergency(stage(pair, cloud), stop_service=True)
    weight = "canaryWeight could NOT be set to 0 in the configuration (locked): set it before the next `up`, or that raises the weight again"
    enabled = "serviceEnabled could NOT be set to false in the configuration (locked): set it before the next `up`, or that may start the service"
    assert document.reasons == ["asked for"]
    assert (document.config_set, document.service_stopped, cloud.stopped) == (times == 1, True, True)
    assert (cloud.declared, cloud.enabled) == (0 if times == 1 else 25, times == 3)
    if times == 1:
        assert str(document.drift).startswith("Pulumi's state still has the old weight")
    else:
        assert document.drift == "; ".join([weight, enabled][: times - 1])


@pytest.mark.parametrize("boundary", ["before the rollback", "before up", None])
def test_a_monolith_that_cannot_write_gets_its_rights_back_before_its_users(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, boundary: str | None
) -> None:
    """Prevents users who are sent to a monolith whose writes are refused, also where they were taken while the routes moved."""
    config, cloud = pair.settings.config, Cloud(weight=25)
    tables = sql.SQL(", ").join(map(sql.Identifier, config.tables))
    revoke = sql.SQL("REVOKE INSERT, UPDATE, DELETE ON {} FROM {}").format(tables, sql.Identifier(config.source_role))
    if boundary == "before up":
        at_boundary(cloud, boundary, lambda: pair.source.execute(revoke))
    elif boundary:
        pair.source.execute(revoke)
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(way_back, "say", lambda text, style: said.append((text, style)))
    assert rollback.run(stage(pair, cloud)).rights_given_back is (boundary is not None)
    may = "SELECT bool_and(has_table_privilege(%s, name, 'INSERT')) FROM unnest(%s::text[]) name"
    assert pair.source.execute(may, (config.source_role, list(config.tables))).fetchone() == (True,)
    given = "finalize had taken the monolith's rights; given back on the source: GRANT "
    styles = [style for text, style in said if text.startswith(given)]
    assert styles == ["yellow"] * (3 * len(config.tables) if boundary else 0)


def test_a_rollback_that_is_tried_changes_nothing_and_one_stops_the_service_only_when_asked(pair: Pair) -> None:
    """Prevents a trial that moves a route or gives rights back, and a rollback that leaves no task for who is still there."""
    config, cloud = pair.settings.config, Cloud(weight=25)
    AT[:] = [at := stage(pair, cloud)]
    settings = replace(at.settings, stage="tests.unit.canary.test_rollback:here")
    cloud.declared = 10
    tables = sql.SQL(", ").join(map(sql.Identifier, config.tables))
    pair.source.execute(
        sql.SQL("REVOKE INSERT, UPDATE, DELETE ON {} FROM {}").format(tables, sql.Identifier(config.source_role))
    )
    given = {
        f'GRANT {right} ON "public"."{name}" TO "{config.source_role}"' for name in config.tables for right in RIGHTS
    }
    for without_pulumi, weight, way in (
        (True, 25, "change the live rule by the API"),
        (False, 10, "update routes-live-rule"),
    ):
        plan = rollback.roll_back(settings, dry_run=True, without_pulumi=without_pulumi)
        assert isinstance(plan, RollbackPlan)
        assert (plan.from_, plan.to, plan.would[-1]) == (weight, 0, way)
        assert (set(plan.would[:-1]), len(plan.would)) == (given, len(given) + 1)
    assert (names(at, "rollback"), cloud.live, cloud.declared, cloud.ups) == ([], 25, 10, [])
    assert cloud.previewed == LIVE_RULE
    may = pair.source.execute("SELECT has_table_privilege(%s, 'tasks', 'INSERT')", (config.source_role,)).fetchone()
    assert may == (False,)
    for asked in (True, False):
        for done in (
            rollback.roll_back(settings, without_pulumi=True, stop_service=asked),
            rollback.roll_back(settings, stop_service=asked),
            rollback.run(at, stop_service=asked),
        ):
            assert isinstance(done, Rollback)
            assert done.service_stopped is asked
    plain = (rollback.roll_back(settings), rollback.run(at), rollback.execute(at, Lock()), rollback.emergency(at))
    assert [isinstance(done, Rollback) and done.service_stopped for done in plain] == [False] * 4


def test_requests_that_go_on_are_no_proof(pair: Pair) -> None:
    """Prevents a rollback that is told as proven while somebody still writes on the side that was left."""
    cloud = Cloud(weight=50)
    cloud.idle = lambda: 0.5
    at = stage(pair, cloud, rollback_limit_seconds=0.5, drain_seconds=0.0)
    with pytest.raises(
        TimedOut, match="all routes are on the monolith since .* no request on the Task Service for 1 s"
    ):
        rollback.run(at)
    assert (cloud.live, cloud.declared) == (0, 0)
    assert names(at, "rollback") == ["begun", "routed", "unproven"]
    assert cloud.notices == ["rollback from 50 %: routes moved, NOT proven"]


def test_a_rollback_moves_the_routes_even_when_the_proof_fails(pair: Pair) -> None:
    """Prevents users who wait for a fence on the side that fails; and a step up before what was begun is proven."""
    cloud = Cloud(weight=50)
    at = stage(pair, cloud)
    with way_back_cut(pair):
        wrote = pair.target.execute(WRITE, ("not yet there",)).fetchone()
        with pytest.raises(
            TimedOut, match="all routes are on the monolith since .*cannot come through.* keep both databases"
        ):
            rollback.run(at)
        assert cloud.live == 0
        assert names(at, "rollback") == ["begun", "routed", "unproven"]
        assert status(at).rollback_owed == ["begun"]
    ended = canary.step(at)
    assert isinstance(ended, Rollback)
    assert ended.rows.proven
    found = pair.source.execute("SELECT title FROM tasks WHERE id = %s", wrote).fetchone()
    assert found == ("not yet there",)
    assert status(at).rollback_owed is None


@pytest.mark.parametrize("side", BOTH)
def test_a_rollback_goes_on_without_a_database_and_is_told_as_what_it_is(pair: Pair, side: Side) -> None:
    """Prevents a rollback that waits for a database which is down, and one told as a time-out: a script waits and tries again."""
    with through(pair, side) as (settings, line):
        line.cut("refused")
        for way in (rollback.run, rollback.emergency):
            cloud = Cloud(weight=50)
            at = stage(replace(pair, settings=settings), cloud)
            with pytest.raises(DatabaseError, match="(?s)all routes are on the monolith since .*; keep both") as failed:
                way(at)
            assert failed.value.exit_status == 1
            assert (cloud.live, cloud.declared) == (0, 0)
            assert cloud.notices == ["rollback from 50 %: routes moved, NOT proven"]
        assert names(at, "rollback") == ["begun", "routed", "unproven"] * 2


def test_a_way_back_holds_the_lock_and_an_emergency_moves_the_routes_before_it(pair: Pair) -> None:
    """Prevents a step up while somebody goes back, and users who wait for a lock on a database that may be down."""
    both = [Operation.ROLLBACK, Operation.ROLLBACK]
    for way, expected in ((rollback.run, both), (rollback.emergency, [None, Operation.EMERGENCY])):
        cloud, seen = Cloud(weight=25), list[Operation | None]()

        def look(seen: list[Operation | None] = seen) -> float:
            holder = locks.holder(pair.source, locks.CANARY)
            seen.append(operator_lock.operation(holder) if holder else None)
            return 60.0

        cloud.at = lambda name, look=look: look() if name in ("before up", "to monolith") else None  # type: ignore[misc]
        cloud.idle = look
        way(stage(pair, cloud))
        assert seen == expected
        # A session that was closed is seen for a moment more.
        wait_until(
            lambda: locks.holder(pair.source, locks.CANARY), lambda left: left is None, what="a free lock", timeout=10
        )


def test_a_failing_journal_or_notice_stops_no_rollback(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an S3 outage from keeping users on a service that fails."""
    cloud = Cloud(weight=25, observed=FAILING)
    at = stage(pair, cloud)
    original = type(at.settings.journal).record

    def record(self: Any, step: str, event: str, **facts: Any) -> Any:
        if step == "rollback" or event == "decided":
            raise MigrationError("S3 is away")
        return original(self, step, event, **facts)

    monkeypatch.setattr(type(at.settings.journal), "record", record)
    document = stepped(at)
    assert document.rollback is not None
    assert document.rollback.rows.proven
    assert (document.document, cloud.live) == (None, 0)
    # What decides stands on the source all the same.
    assert history.read(at.settings).owed is None
    assert history.read(at.settings).back is not None


def test_a_deployment_that_fails_names_the_emergency(pair: Pair) -> None:
    """Prevents an operator who waits for a backend that is away, and does not know the other way."""
    cloud = Cloud(weight=50)
    at = stage(pair, cloud)
    at_boundary(cloud, "before up", fails(Refused("the stack is locked")))
    with pytest.raises(Refused, match=r"the stack is locked; .* rollback --emergency"):
        rollback.run(at)
    assert (cloud.live, cloud.declared) == (50, 50)
    assert cloud.notices == ["rollback from 50 %: the routes did NOT move"]
    assert status(at).rollback_owed == ["begun"]
    emergency = Emergency(at.settings, cloud, cloud, cloud, cloud)  # type: ignore[arg-type]
    document = rollback.emergency(emergency, reasons=("locked",), stop_service=True)
    assert (cloud.live, cloud.declared, document.by, document.reasons) == (0, 0, "load balancer API", ["locked"])
    assert (cloud.stopped, cloud.enabled, document.service_stopped) == (True, False, True)
    assert "the next `up` will show an update of the live rule to 0 %" in str(document.drift)
    assert status(at).rollback_owed is None


def test_a_rule_that_was_changed_beside_pulumi_goes_back_too(pair: Pair) -> None:
    """Prevents a rollback that changes nothing, as Pulumi's state says 0 % already, while the rule does not."""
    cloud = Cloud()

    def deployed(name: str) -> None:
        if name == "up done":
            cloud.live = 30

    cloud.at = deployed
    document = rollback.run(stage(pair, cloud))
    assert (cloud.live, document.by) == (0, "load balancer API")
    assert "pulumi refresh" in str(document.drift)


def test_a_deployment_that_raises_the_weight_meanwhile_is_undone(pair: Pair) -> None:
    """Prevents an `up` of somebody else, under way when the emergency came, from having the last word."""
    cloud = Cloud(weight=50)

    def raised() -> float:
        cloud.live = 25
        return 60.0

    cloud.idle = raised
    at = stage(pair, cloud)
    document = rollback.run(at)
    assert (document.moved_again, cloud.live) == (True, 0)
    cloud.idle = lambda: 60.0
    assert rollback.run(at).moved_again is False


def test_a_hanging_deployment_and_a_hanging_journal_are_not_waited_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a rollback that waits for S3, or for a backend that never answers, while users meet errors."""
    cloud, over = Cloud(weight=50), threading.Event()
    at = stage(pair, cloud, rollback_limit_seconds=0.4)

    def hang(*_: Any, **__: Any) -> Any:
        over.wait(30)
        raise MigrationError("too late")

    cloud.at = lambda name: hang() if name == "before up" else None
    monkeypatch.setattr(way_back, "JOURNAL_SECONDS", 0.3)
    monkeypatch.setattr(type(at.settings.journal), "record", hang)
    try:
        with operator_lock.locked(at.settings, Operation.STEP) as lock:
            document = rollback.execute(at, lock, unattended=True)
    finally:
        over.set()
    assert (cloud.live, document.by) == (0, "load balancer API")
    assert "did not end within 0.2 s" in str(document.pulumi)
    assert document.rows.proven
    assert (document.limit_seconds, document.within_limit) == (0.4, document.seconds <= 0.4)
