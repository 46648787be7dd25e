"""A criterion passes only on its evidence: each piece that is taken away or spoilt fails it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from scripts.api.documents import ApiCheck
from scripts.backup.documents import Backup
from scripts.canary.documents import Rollback
from scripts.cli import rehearse_text
from scripts.finish.documents import Finalization
from scripts.rehearsal import criteria, report
from scripts.rehearsal.criteria import Evidence, Wanted
from scripts.rehearsal.documents import Criterion, Drill, LedgerCheck, LoadFigures, MachineShare, Report, Step
from scripts.report.documents import Story
from scripts.support.document import Document
from scripts.support.errors import UsageError
from scripts.verify.documents import ComparedTable, Verification

D = TypeVar("D", bound=Document)
TABLES = ("tasks", "task_tag")
LADDER = (5, 100)
WANTED = Wanted(TABLES, LADDER, users=10, rate=50.0)
LOAD = LoadFigures(
    requests=1000, failed=0, acknowledged_writes=300, lag_misses=0, cut_off=3, stale_reads=[], users=10, rate=49.0, p50_ms=9,
    p95_ms=90, seconds=20.0,
)  # fmt: skip
ENDPOINTS = [f"endpoint {number}" for number in range(8)]


STORY = Story(
    began=0.0, ended=1.0, series=[], limits=[], marks=[], tables=[], conflicts=[], decisions=[], rollbacks=[], shadow=[], parts=[],
)  # fmt: skip


def partly(model: type[D], **fields: Any) -> D:
    """A document of a command, with those of its fields that the report reads."""
    return cast(D, model.model_construct(**fields))


def compared(table: str) -> ComparedTable:
    return partly(ComparedTable, table=table, source_rows=7, target_rows=7, match=True)


def proven() -> Evidence:
    return Evidence(
        backup=partly(
            Backup, restore_verified=True, bytes=1234, tables=["tasks", "task_tag"], sha256="0123456789abcdef"
        ),
        verify=partly(Verification, match=True, tables=[compared(table) for table in TABLES]),
        api_check=partly(ApiCheck, endpoints={"GET /health": True, **dict.fromkeys(ENDPOINTS, True)}),
        rollback=partly(Rollback, from_=5, seconds=3.0, limit_seconds=300.0, within_limit=True),
        finalize=partly(Finalization, leftovers=[]),
        load=LOAD,
        ledger=LedgerCheck(total=300, lost=0, told=4, unknown=2, lost_items=[]),
        rollback_ledger=LedgerCheck(total=100, lost=0, told=1, unknown=0, lost_items=[]),
        steps=[
            Step(weight=weight, share=float(weight), seconds=1.0, decision=decision)
            for weight, decision in ((5, "promote"), (0, "rollback"), (5, "promote"), (100, "promote"))
        ],
        changed=[["live"], ["live"], ["live"]],
        periods=18,
    )


def judged(evidence: Evidence) -> dict[str, bool]:
    found = criteria.of_plan(evidence, WANTED)
    assert all(criterion.evidence for criterion in found)
    return {criterion.name: criterion.passed for criterion in found}


def made(evidence: Evidence, *, drill: bool = False) -> Report:
    judged = criteria.of_drill(evidence, WANTED) if drill else criteria.of_plan(evidence, WANTED)
    return report.make(evidence, judged, seconds=1.0, engine="embedded", rows={"tasks": 7}, story=STORY)


def test_whole_evidence_passes() -> None:
    assert all(judged(proven()).values())
    document = made(proven())
    assert document.passed
    assert document.requests.plain() == {"total": 1000, "failed": 0, "p50_ms": 9, "p95_ms": 90}
    assert document.acknowledged_writes.plain() == {"total": 300, "lost": 0, "told": 4}
    assert document.rollback.plain() == {
        "seconds": 3.0, "acknowledged_writes_lost": 0, "acknowledged_writes_told": 1,
    }  # fmt: skip
    assert rehearse_text.report(document).verdict.startswith("Passed: all 13 criteria")


def test_no_evidence_fails_every_criterion_that_needs_some() -> None:
    passed = {name for name, good in judged(Evidence(failure="x")).items() if good}
    assert passed == set()


def test_a_count_of_one_is_no_plural() -> None:
    evidence = spoil("changed", [["live"]])
    (moved,) = [one for one in made(evidence).criteria if one.name == "each weight moved by one resource"]
    assert moved.evidence == "1 deployment changed live in all"


def replaced(at: Any, keys: list[str], value: Any) -> Any:
    """``at`` with what stands at the end of ``keys`` replaced: indexes, names in a dict, fields of a model."""
    if not keys:
        return value
    name, rest = keys[0], keys[1:]
    if isinstance(at, list):
        index = int(name)
        return [*at[:index], replaced(at[index], rest, value), *at[index + 1 :]]
    if isinstance(at, Document):
        return at.model_copy(update={name: replaced(getattr(at, name), rest, value)})
    return {**at, name: replaced(at[name], rest, value)}


def spoil(path: str, value: Any) -> Evidence:
    evidence = proven()
    name, *keys = path.split(".")
    setattr(evidence, name, replaced(getattr(evidence, name), keys, value))
    return evidence


@pytest.mark.parametrize(
    ("path", "value", "fails"),
    [
        ("differing", ["the monolith in the period from 1"], "the gate's figures are the gateway's"),
        ("periods", 0, "the gate's figures are the gateway's"),
        ("backup.restore_verified", False, "backup restored and compared"),
        ("verify.tables.0.target_rows", 6, "row counts equal"),
        ("verify.tables", [compared("tasks")], "row counts equal; checksums equal"),
        ("verify.tables.1.match", False, "checksums equal"),
        ("api_check.endpoints.endpoint 3", False, "8 API endpoints healthy"),
        ("load.p95_ms", 500, "load test passed"),
        ("load.rate", 44.9, "load test passed"),
        *(("load.p95_ms", value, "load test passed") for value in (None, float("nan"), float("-inf"), -1.0)),
        *(("load.rate", value, "load test passed") for value in (float("nan"), float("inf"), True)),
        ("load.users", 9, "load test passed"),
        ("load.requests", 0, "load test passed; zero downtime"),
        ("load.failed", 10, "load test passed; zero downtime"),
        ("load.failed", 1, "zero downtime"),
        ("ledger.lost", 1, "no acknowledged write lost unsaid"),
        ("ledger.total", 0, "no acknowledged write lost unsaid"),
        ("rollback.within_limit", False, "rollback rehearsed and timed"),
        ("rollback_ledger.lost", 1, "rollback rehearsed and timed"),
        ("rollback_ledger", None, "rollback rehearsed and timed"),
        ("steps.3.decision", "hold", "canary promoted to 100 %"),
        ("changed.1", ["live", "database"], "each weight moved by one resource"),
        ("changed.1", [], "each weight moved by one resource"),
        ("finalize.leftovers", ["slot x"], "nothing left behind"),
        ("failure", "copy failed", "every step ended"),
    ],
)
def test_spoilt_evidence_fails_its_criterion(path: str, value: Any, fails: str) -> None:
    document = made(spoil(path, value))
    assert not document.passed
    assert rehearse_text.report(document).verdict.startswith("NOT PASSED: ")
    # That one and no other.
    assert [one.name for one in document.criteria if not one.passed] == fails.split("; ")
    # Where the run ended by nothing but time, what was found stays a failure, and what was not come to is none.
    evidence = spoil(path, value)
    evidence.by_machine = True
    excused = {one.name for one in made(evidence).criteria if not one.judged}
    assert excused == set(NOT_COME_TO.get(path, ()))


#: Of the evidence spoilt above, what a run that ended too early explains.
NOT_COME_TO = {
    "periods": ["the gate's figures are the gateway's"],
    "load.requests": ["zero downtime"],
    "rollback_ledger": ["rollback rehearsed and timed"],
    "steps.3.decision": ["canary promoted to 100 %"],
    "failure": ["every step ended"],
}


def test_a_run_that_came_to_nothing_has_failed_unless_the_machine_is_why() -> None:
    for by_machine in (False, True):
        nothing = Evidence(failure="a time-out", by_machine=by_machine)
        for found in (criteria.of_plan(nothing, WANTED), criteria.of_drill(nothing, WANTED)):
            assert {(one.passed, one.judged) for one in found} == {(False, not by_machine)}


def test_a_load_at_its_limits_passes_and_one_without_a_request_is_all_errors() -> None:
    for path, value in (
        *(("load.rate", 45.0), ("load.requests", 1), ("load.failed", 0)),
        *(("ledger.total", 1), ("rollback_ledger.total", 1), ("periods", 1)),
    ):
        assert made(spoil(path, value)).passed, path
    for path, value, errors in (("load.failed", 5, "0.50"), ("load.requests", 0, "100.00")):
        (load,) = (one for one in made(spoil(path, value)).criteria if one.name == "load test passed")
        assert load.evidence.endswith(f"errors {errors} %")


def told(found: list[Criterion]) -> list[str]:
    return [f"{one.name}: {one.evidence}" for one in found]


def test_each_criterion_says_what_it_rests_on() -> None:
    """Prevents a report whose verdict is right, beside figures of something else."""
    assert told(criteria.of_plan(proven(), WANTED)) == [
        "backup restored and compared: 1,234 bytes, 2 tables, sha256 0123456789ab",
        "row counts equal: tasks 7=7; task_tag 7=7",
        "checksums equal: 2 of 2 tables",
        "8 API endpoints healthy: 8 of 8 on the Task Service, by the smoke rule, at weight 0",
        "load test passed: 10 users, 49.0 requests/s of 50, P95 90 ms, errors 0.00 %",
        "zero downtime: 0 of 1,000 requests failed, over every step and the rollback",
        "no acknowledged write lost unsaid: 0 of 300 acknowledged writes lost unsaid, 4 told in the conflict log; looked up on the target at the end",
        "rollback rehearsed and timed: from 5 % in 3.0 s (limit 300.0 s); on the monolith 0 of 100 acknowledged writes lost unsaid, 1 told in the conflict log",
        "canary promoted to 100 %: promoted at 5 %, 5 %, 100 %",
        "each weight moved by one resource: 3 deployments changed live in all",
        "the gate's figures are the gateway's: 18 periods by CloudWatch",
        "nothing left behind: slots, publications, subscriptions, triggers, origins, schemas of ours in both catalogs: none",
        "every step ended: all steps of the plan ran",
    ]
    evidence = proven()
    evidence.drills = [drilled(5, {"proof_seconds": 59.9}), drilled(100, {"proof_seconds": 60.0})]
    rests = "0 of 30 acknowledged writes lost unsaid, 2 told, 5 rows compared"
    assert told(criteria.of_drill(evidence, WANTED)) == [
        f"rollback from 5 %: last request on the Task Service after 2.0 s, proof after 59.9 s (limit 300 s, within the aim of 60 s), {rests}",
        f"rollback from 100 %: last request on the Task Service after 2.0 s, proof after 60.0 s (limit 300 s, past the aim of 60 s), {rests}",
        "zero downtime: 0 of 1,000 requests failed, over every rollback",
        "both sides equal: verify at rest: match True",
        "every step ended: all steps of the drill ran",
    ]
    assert told(criteria.of_drill(Evidence(), WANTED)) == [
        "rollback from 5 %: it did not run",
        "rollback from 100 %: it did not run",
        "zero downtime: 0 of 0 requests failed, over every rollback",
        "both sides equal: verify did not run",
        "every step ended: all steps of the drill ran",
    ]
    assert told(
        criteria.of_plan(Evidence(differing=["the monolith's", "the users'"], failure="a time-out"), WANTED)
    ) == [
        "backup restored and compared: backup did not end",
        "row counts equal: verify did not run",
        "checksums equal: 0 of 2 tables",
        "8 API endpoints healthy: 0 of 0 on the Task Service, by the smoke rule, at weight 0",
        "load test passed: no load ran",
        "zero downtime: 0 of 0 requests failed, over every step and the rollback",
        "no acknowledged write lost unsaid: acknowledged writes were not looked up; looked up on the target at the end",
        "rollback rehearsed and timed: it did not end",
        "canary promoted to 100 %: promoted at no weight",
        "each weight moved by one resource: 0 deployments changed nothing in all",
        "the gate's figures are the gateway's: 0 periods by CloudWatch; 2 differ: the monolith's",
        "nothing left behind: finalize did not end",
        "every step ended: a time-out",
    ]


def test_a_report_is_read_back_as_written_and_a_missing_one_names_the_command(tmp_path: Path) -> None:
    document = made(proven())
    report.save(tmp_path / "a" / "report.json", document)
    assert report.load(tmp_path / "a" / "report.json") == document
    with pytest.raises(UsageError, match="make rehearsal"):
        report.load(tmp_path / "report.json")


def drilled(weight: int, change: Mapping[str, Any] | None = None) -> Drill:
    measured = {
        "weight": weight,
        "from": weight,
        "seconds": 9.0,
        "phases": {},
        "last_request_seconds": 2.0,
        "proof_seconds": 9.0,
        "rows_compared": 5,
        "total": 30,
        "lost": 0,
        "told": 2,
    }
    return Drill.model_validate({**measured, **(change or {})})


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({}, None),
        ({"lost": 1}, "rollback from 5 %"),
        ({"total": 0}, "rollback from 5 %"),
        ({"total": 1}, None),
        ({"from": 0}, "rollback from 5 %"),
        ({"proof_seconds": 300.0}, "rollback from 5 %"),
        ({"last_request_seconds": 300.0}, "rollback from 5 %"),
        ({"last_request_seconds": None}, "rollback from 5 %"),
        ({"weight": 7}, "rollback from 5 %"),
        *(
            ({name: float(value)}, "rollback from 5 %")
            for name in ("last_request_seconds", "proof_seconds")
            for value in ("nan", "inf", "-1")
        ),
    ],
)
def test_a_drill_passes_only_when_each_weight_was_left_in_time_without_a_loss(
    change: dict[str, Any], fails: str | None
) -> None:
    """Prevents a drill that says it passed where a write was lost, no request was there, or a weight was left out."""
    evidence = proven()
    evidence.drills = [drilled(5, change), drilled(100)]
    document = made(evidence, drill=True)
    assert {one.name for one in document.criteria if not one.passed} == ({fails} if fails else set())
    assert document.passed is (fails is None)
    # Others who kept the machine busy explain that it was late, and no lost write, and no weight that was not left.
    evidence.machine = MachineShare(
        seconds=60.0, cores=2, ours_percent=45.0, others_percent=55.0, idle_percent=0.0, throttled_percent=0.0, pressure_percent=None,
        timer_late_ms=1.0, users_late_ms=1.0, busy_percent=25.0, quiet_p95_ms=None,
    )  # fmt: skip
    late = (
        bool({"proof_seconds", "last_request_seconds"} & set(change))
        and change.get("last_request_seconds", 0) is not None
    )
    assert [one.judged for one in made(evidence, drill=True).criteria if not one.passed] == (
        [not late] if fails else []
    )
    failing = LOAD.model_copy(update={"requests": 9, "failed": 1})
    spoils: list[dict[str, Any]] = [
        {"load": failing},
        {"verify": partly(Verification, match=False, tables=[])},
        {"failure": "x"},
    ]
    for spoilt in spoils:
        evidence = proven()
        evidence.drills = [drilled(5), drilled(100)]
        for name, value in spoilt.items():
            setattr(evidence, name, value)
        assert not made(evidence, drill=True).passed
