"""A journal's story: all that was journaled and kept, nothing of what is damaged, foreign or of another attempt, and no invented figure."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.config_gates import GateLimits
from scripts.canary.figures import Observed, Period, Traffic
from scripts.report import journal, run
from scripts.report.documents import Run, Story

T0 = 1_760_000_000.0
GATES = GateLimits(p95_ms=321.0)
Events = list[dict[str, Any]]


def event(after: float, step: str, name: str, **facts: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(T0 + after, UTC).isoformat()
    return {"at": at, "step": step, "event": name, **facts}


def watched(begin: float, requests: int = 120, errors: int = 0) -> Observed:
    """Three periods of a minute with a fourth of the requests on the Task Service; of the last one nothing is known of it."""
    periods = tuple(
        Period(
            at=T0 + begin + 60 * number,
            task_service=None if number == 2 else Traffic(requests, errors, p50_ms=11.0, p95_ms=40.0 + number),
            monolith=Traffic(3 * requests, 0, p50_ms=9.0, p95_ms=30.0),
            users=Traffic(4 * requests, errors, p50_ms=12.0, p95_ms=45.0),
            replication_seconds=0.5 * number,
        )
        for number in range(3)
    )
    return Observed(60.0, periods, told=2, weight=25)


def kept(begin: float, **facts: Any) -> dict[str, Any]:
    return {"evidence": asdict(watched(begin)), "limits": GATES.model_dump(by_alias=True), **facts}


PROOF = {
    "missing": 0, "unsettled": 0, "different_total": 0, "checked": 17, "told": 3,
    "told_by_kind": [{"table": "tasks", "kind": "update", "count": 2}, {"table": "task_tag", "kind": "cascade", "count": 1}],
}  # fmt: skip
COPIED = [
    {"table": "tasks", "rows": 70, "bytes": 900, "seconds": 4.5},
    {"table": "task_tag", "rows": 30, "bytes": 90, "seconds": 0.5},
]
ROLLBACK = {
    "from": 25, "to": 0, "decision": "rollback", "reasons": ["asked for"], "seconds": 42.0, "limit_seconds": 300.0, "rows": PROOF,
    "phases": {"routed": 3.0, "drained": 30.0, "fenced": 1.0, "compared": 8.0},
}  # fmt: skip


def compared(after: float, **facts: Any) -> dict[str, Any]:
    both = {"tasks": 71, "task_tag": 30}
    return event(
        after, "verify", "compared",
        **{"match": True, "written": None, "differences": dict.fromkeys(both, 0), "rows": both, "target_rows": both,
           "equal": dict.fromkeys(both, True), **facts},
    )  # fmt: skip


def decided(
    after: float, of: int, to: int, decision: str, document: str | None, reasons: list[str] | None = None
) -> dict[str, Any]:
    facts = {
        "from": of,
        "to": to,
        "decision": decision,
        "reasons": reasons or [],
        "seconds": 200.0,
        "document": document,
    }
    return event(after, "canary", "decided", **facts)


WHOLE: Events = [
    event(0, "preflight", "checked", passed=True, failed=[], stage=None),
    event(10, "backup", "verified", location="s3://b/k", sha256="ab" * 32),
    event(20, "copy", "started", found="nothing", jobs=2),
    event(21, "copy", "slot", slot="s", lsn="0/1", snapshot="x"),
    event(24, "copy", "moved", rows={"tasks": 40, "task_tag": 30}),
    event(28, "copy", "rows", table="tasks", rows=70),
    event(30, "copy", "complete", slot="s", lsn="0/1", snapshot="x", tables=COPIED, sequences=[], seconds=10.0),
    event(40, "replicate", "started", found=[], forward_seconds=0.1, reverse_seconds=0.1),
    compared(50),
    event(60, "shadow", "compared", match=True, users=6, answers={"GET /api/tasks": 40}, different={"GET /api/tasks": 0}, differing={"GET /api/tasks": []}),
    event(100, "canary", "begun", **{"from": 0, "to": 25, "reason": None}),
    event(110, "canary", "moved", **{"from": 0, "to": 25, "seconds": 9.0, "changes": ["u"]}),
    decided(300, 0, 25, "promote", "/elsewhere/decisions/one.json"),
    event(400, "rollback", "begun", **{"from": 25, "reasons": ["asked for"]}),
    event(403, "rollback", "routed", seconds=3.0, by="pulumi up"),
    event(442, "rollback", "done", **ROLLBACK),
    event(500, "canary", "moved", **{"from": 0, "to": 100, "seconds": 9.0, "changes": ["u"]}),
    decided(700, 0, 100, "promote", "s3://bucket/decisions/two.json"),
    compared(710, written=5, rows={"tasks": 5, "task_tag": 0}, target_rows={"tasks": 5, "task_tag": 0}),
    event(800, "finalize", "revoking", role="r"),
    event(810, "finalize", "verified", rows=[], proof=PROOF),
    event(820, "finalize", "finalized", removed=[]),
]  # fmt: skip
KEPT = {"one.json": kept(115), "two.json": kept(510)}


def told(events: Events, decisions: dict[str, Any] | None = None) -> Story:
    return journal.tell(events, KEPT if decisions is None else decisions, gates=GateLimits())


def curve(story: Story, what: str, of: str) -> list[tuple[float, float | None]]:
    (found,) = (one.points for one in story.series if (one.what, one.of) == (what, of))
    return [(at - T0, value) for at, value in found]


def judged(events: Events) -> tuple[bool | None, dict[str, bool]]:
    passed, verdict, criteria = run.judge(events, told(events))
    assert verdict
    assert all(one.evidence for one in criteria)
    return passed, {one.name: one.passed for one in criteria}


def test_a_whole_run_is_told_from_its_first_event_to_its_last() -> None:
    story = told(WHOLE)
    assert (story.began - T0, story.ended - T0) == (0, 820)
    assert [(round(mark.at - T0), mark.kind) for mark in story.marks if mark.kind != "other"] == [
        (30, "copied"), (40, "replicating"), (110, "step"), (300, "promoted"), (400, "rollback"), (442, "rollback"),
        (500, "step"), (700, "promoted"), (820, "finalized"),
    ]  # fmt: skip
    assert curve(story, "weight", "asked") == [(0, 0), (110, 25), (403, 0), (500, 100), (820, 100)]
    assert curve(story, "copied", "tasks") == [(20, 0), (24, 40), (28, 70), (30, 70)]
    # An incremental comparison's counts are no table's.
    assert [one.plain() for one in story.tables] == [
        {**COPIED[0], "source_rows": 71, "target_rows": 71, "equal": True},
        {**COPIED[1], "source_rows": 30, "target_rows": 30, "equal": True},
    ]
    assert [one.plain() for one in story.conflicts] == [
        {"table": "tasks", "kind": "update", "decided": "the later value", "count": 2},
        {"table": "task_tag", "kind": "cascade", "decided": "the delete of what it refers to", "count": 1},
    ]
    (back,) = story.rollbacks
    assert (back.from_, back.phases, back.rows_compared, back.proven) == (25, ROLLBACK["phases"], 17, True)
    assert [one.plain() for one in story.shadow] == [{"endpoint": "GET /api/tasks", "answers": 40, "different": 0}]
    assert [(one.to, one.decision) for one in story.decisions] == [(25, "promote"), (100, "promote")]
    assert story.decisions[0].evidence == (
        "3 periods of 60 s; Task Service 240 requests, 0 errors, P50 11 ms, P95 40 ms; monolith 1,080 requests, 0 errors, P50 9 ms, "
        "P95 30 ms; users (API) 1,440 requests, 0 errors, P50 12 ms, P95 45 ms; replication at most 1 s; 0 writes missing; 2 told as lost"
    )
    assert [(one.what, one.value) for one in story.limits if one.what == "p95"] == [("p95", 321.0), ("p95", 500.0)]
    assert story.parts == []


def test_the_curves_hold_every_request_of_the_evidence_and_a_gap_where_nobody_watched() -> None:
    story = told(WHOLE)
    for side, each in (("monolith", 360), ("task-service", 120), ("users", 480)):
        points = curve(story, "requests", side)
        assert sum(60 * (value or 0) for _, value in points) == pytest.approx(
            2 * each * (2 if side == "task-service" else 3)
        )
        # After each watch nothing is known, and a figure that is missing is no 0.
        assert [at for at, value in points if value is None] == (
            [235, 295, 630, 690] if side == "task-service" else [295, 690]
        )
    assert curve(story, "weight", "measured")[:3] == [(115, 25), (175, 25), (235, None)]
    assert curve(story, "lag", "slower way")[:3] == [(115, 0), (175, 0.5), (235, 1)]
    fewer = {**KEPT, "two.json": {**KEPT["two.json"], "evidence": {**KEPT["two.json"]["evidence"], "periods": []}}}
    assert sum(value or 0 for _, value in curve(told(WHOLE, fewer), "requests", "users")) == 24  # and not 48


@pytest.mark.parametrize(
    ("document", "evidence"),
    [
        (None, "what it was decided by is not there any more"),
        ({}, "nothing was watched"),
        ({"evidence": None}, "nothing was watched"),
        ({"evidence": "none"}, "what it was decided by cannot be read"),
        ({"evidence": {"period_seconds": 0}}, "what it was decided by cannot be read"),
        ({"evidence": asdict(watched(-86_400.0 * 365))}, "what it was decided by cannot be read"),
        ({"evidence": {"period_seconds": 60, "periods": [{"at": float("nan")}]}}, "what it was decided by cannot be read"),
        ({"evidence": {"period_seconds": 60, "periods": [{"at": 115.0, "task_service": {"requests": 7, "errors": -1}}]}}, "what it was decided by cannot be read"),
    ],
)  # fmt: skip
def test_a_decision_without_readable_evidence_says_so_and_stays_a_decision(document: Any, evidence: str) -> None:
    story = told(WHOLE, {} if document is None else {"one.json": document})
    assert story.decisions[0].evidence == evidence
    assert story.decisions[0].decision == "promote"
    assert not [one for one in story.series if one.what == "requests"]


def without(name: str, *facts: str) -> Events:
    """The run as a version before this one journaled it."""
    events = copy.deepcopy(WHOLE)
    for one in events:
        if (one["step"], one["event"]) == tuple(name.split(" ")):
            for fact in facts:
                one.pop(fact, None)
                if isinstance(one.get("proof"), dict):
                    one["proof"].pop(fact, None)
    return events


def test_what_an_older_version_did_not_journal_is_left_out_or_not_known() -> None:
    assert told(without("verify compared", "target_rows", "equal", "written")).tables[0].plain() == {
        **COPIED[0], "source_rows": 5, "target_rows": None, "equal": True,
    }  # fmt: skip
    events = without("shadow compared", "different")
    events[9]["differing"] = {"GET /api/tasks": ["title: value"]}
    assert told(events).shadow[0].different == 1
    assert told(without("finalize verified", "told_by_kind")).conflicts == []
    assert told(without("preflight checked", "stage")).parts == []


#: What stands where facts should.
SPOILT: list[Any] = [None, "x", 3.5, [1], {"a": 1}, float("nan")]


def spoils() -> list[tuple[int, str, Any]]:
    return [(number, fact, value) for number, one in enumerate(WHOLE) for fact in one for value in SPOILT]


def test_a_damaged_event_is_passed_by_whole_and_takes_nothing_else_with_it() -> None:
    """Prevents a report that cannot be had of the very run in which something went wrong."""
    passed_by = 0
    without_it = [told([*WHOLE[:number], *WHOLE[number + 1 :]]) for number in range(len(WHOLE))]
    for number, fact, value in spoils():
        events = copy.deepcopy(WHOLE)
        events[number][fact] = value
        story = told(events)
        json.dumps(story.plain(), allow_nan=False)
        run.judge(events, story)
        run.parts(events)
        if lost := [one for one in story.parts if one.part == "journal"]:
            passed_by += 1
            assert "1 events" in lost[0].what
            assert story.model_copy(update={"parts": []}) == without_it[number]
    assert passed_by > 100


#: Where, by remainder, and what comes there.
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.integers(0, 50),
        st.sampled_from([*SPOILT, -1, True, [], 10**400, "2026-01-01T00:00:00+00:00", {"tasks": "x"}, [{}]]),
    ),
    max_size=6,
)


@settings(suppress_health_check=list(HealthCheck))
@given(CHANGES, st.randoms(use_true_random=False))
def test_no_journal_of_whatever_facts_in_whatever_order_breaks_the_story(
    changes: list[tuple[int, int, Any]], order: Random
) -> None:
    events = copy.deepcopy(WHOLE)
    order.shuffle(events)
    for number, fact, value in changes:
        one = events[number % len(events)]
        one[sorted(one)[fact % len(one)]] = value
    story = told(events)
    json.dumps(story.plain(), allow_nan=False)
    run.judge(events, story)
    run.parts(events)


def test_half_a_run_is_told_up_to_where_it_came() -> None:
    for count in range(len(WHOLE)):
        story = told(WHOLE[:count])
        passed, _ = judged(WHOLE[:count])
        # A rollback that was begun is owed, until it is proven.
        owed = WHOLE[count - 1]["event"] in ("begun", "routed") and WHOLE[count - 1]["step"] == "rollback"
        assert passed is (False if owed else None), count
        assert bool(story.rollbacks) == (count > 15)


def test_a_given_up_attempt_is_not_told_once_another_one_began() -> None:
    given_up = [*WHOLE[:9], event(60, "abandon", "abandoned", removed=[], drained=True, lost={})]
    assert journal.attempt(given_up) == given_up
    assert judged(given_up)[0] is False
    again = [event(5000, "preflight", "checked", passed=True, failed=[])]
    assert journal.attempt([*given_up, *again]) == again
    # Whoever looks again after the end does not lose what he looks for.
    assert journal.attempt([*WHOLE, *again]) == [*WHOLE, *again]
    assert journal.attempt([*WHOLE, *again, WHOLE[2]]) == [*again, WHOLE[2]]


def test_a_copy_that_is_made_anew_forgets_the_one_before() -> None:
    story = told([*WHOLE[:8], event(100, "rollback", "emptied"), event(110, "copy", "started", found="x", jobs=1)])
    assert story.tables == []
    assert not [one for one in story.series if one.what == "copied"]
    # And neither do both sides' answers of then count: only the backup is as it was.
    again = [*WHOLE[:10], event(90, "rollback", "emptied"), *WHOLE[2:9], *WHOLE[16:]]
    assert [name for name, good in judged(again)[1].items() if not good] == ["both sides answer alike"]


def changed(name: str, **facts: Any) -> Callable[[], Events]:
    def make() -> Events:
        events = copy.deepcopy(WHOLE)
        for one in events:
            if (one["step"], one["event"]) == tuple(name.split(" ")):
                one.update(facts)
        return events

    return make


def left_out(name: str) -> Callable[[], Events]:
    return lambda: [one for one in WHOLE if (one["step"], one["event"]) != tuple(name.split(" "))]


def test_a_run_that_came_to_its_end_passes_every_criterion() -> None:
    passed, criteria = judged(WHOLE)
    assert passed is True
    assert len(criteria) == 8
    assert all(criteria.values())


@pytest.mark.parametrize(
    ("events", "fails"),
    [
        (left_out("backup verified"), "backup restored and compared"),
        (left_out("copy complete"), "rows copied"),
        (left_out("verify compared"), "both sides equal at the last look at every row"),
        (changed("verify compared", match=False, written=None), "both sides equal at the last look at every row"),
        (changed("shadow compared", match=False), "both sides answer alike"),
        (left_out("shadow compared"), "both sides answer alike"),
        (changed("canary decided", decision="hold"), "canary promoted to 100 %"),
        (lambda: [*WHOLE[:18], *WHOLE[13:16], *WHOLE[18:]], "canary promoted to 100 %"),
        (left_out("rollback done"), "each rollback proven and within its limit"),
        (changed("rollback done", seconds=301.0), "each rollback proven and within its limit"),
        (changed("finalize verified", proof={**PROOF, "missing": 1}), "the target has every write of the monolith"),
        (changed("finalize verified", proof=None), "the target has every write of the monolith"),
        (left_out("finalize verified"), "the target has every write of the monolith"),
    ],
)
def test_each_criterion_fails_on_what_it_is_there_for(events: Callable[[], Events], fails: str) -> None:
    passed, criteria = judged(events())
    assert passed is False
    assert [name for name, good in criteria.items() if not good] == [fails]


def test_a_rehearsals_journal_does_not_call_its_account_real() -> None:
    def account(events: Events) -> str:
        return next(one.how for one in run.parts(events) if one.part.startswith("AWS account"))

    assert account(WHOLE) == "real"
    assert account(changed("preflight checked", stage="scripts.rehearsal.stage:stage")()) == "stand-in"


@settings(suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.none() | st.floats(0, 1000)), max_size=4000, unique_by=lambda one: one[0]
    )
)
def test_a_curve_is_bounded_and_keeps_what_it_counted(points: list[tuple[int, float | None]]) -> None:
    found = journal.series("requests", "users", {float(at): value for at, value in points}).points
    assert len(found) <= journal.POINTS
    each = -(-len(points) // journal.POINTS) or 1
    if all(value is not None for _, value in points) and len(points) % each == 0:
        assert each * sum(value or 0 for _, value in found) == pytest.approx(
            sum(value or 0 for _, value in points), abs=1
        )
    worst = journal.series("p95", "users", {float(at): value for at, value in points}).points
    assert max((value or 0 for _, value in worst), default=0) == pytest.approx(
        max((v or 0 for _, v in points), default=0), abs=1e-4
    )


def test_a_run_document_is_read_back_as_written() -> None:
    story = told(WHOLE)
    passed, verdict, criteria = run.judge(WHOLE, story)
    document = Run(stack=None, state_dir="s", passed=passed, verdict=verdict, criteria=criteria, story=story)
    assert Run.model_validate_json(document.json_text()) == document
    assert replace(watched(0), told=None) != watched(0)
