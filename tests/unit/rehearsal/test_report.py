"""A criterion passes only on its evidence: each piece that is taken away or spoilt fails it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from scripts.rehearsal import report
from scripts.rehearsal.report import Evidence
from scripts.support.errors import UsageError

TABLES = ("tasks", "task_tag")
LADDER = (5, 100)
ENDPOINTS = [f"endpoint {number}" for number in range(8)]


def proven() -> Evidence:
    return Evidence(
        preflight={"checks": []},
        backup={"restore_verified": True, "bytes": 1, "tables": [], "sha256": "ab"},
        verify={"tables": [{"table": t, "source_rows": 7, "target_rows": 7, "match": True} for t in TABLES]},
        api_check={"endpoints": {"GET /health": True, **dict.fromkeys(ENDPOINTS, True)}},
        rollback={"from": 5, "seconds": 3.0, "limit_seconds": 300.0, "within_limit": True},
        finalize={"leftovers": []},
        load={"requests": 1000, "failed": 0, "users": 10, "rate": 49.0, "p50_ms": 9, "p95_ms": 90},
        ledger={"total": 300, "lost": 0},
        rollback_ledger={"total": 100, "lost": 0},
        steps=[
            {"weight": weight, "share": float(weight), "seconds": 1.0, "decision": decision}
            for weight, decision in ((5, "promote"), (0, "rollback"), (5, "promote"), (100, "promote"))
        ],
        changed=[["live"], ["live"], ["live"]],
    )


def judged(evidence: Evidence) -> dict[str, bool]:
    found = report.criteria(evidence, TABLES, LADDER, users=10, rate=50.0)
    assert all(criterion["evidence"] for criterion in found)
    return {criterion["name"]: criterion["passed"] for criterion in found}


def test_whole_evidence_passes() -> None:
    assert all(judged(proven()).values())
    document = report.document(proven(), TABLES, LADDER, 10, 50.0)
    assert document["passed"]
    assert document["requests"] == {"total": 1000, "failed": 0, "p50_ms": 9, "p95_ms": 90}
    assert "every criterion passed" in report.as_text(document)


def test_no_evidence_fails_every_criterion_that_needs_some() -> None:
    passed = {name for name, good in judged(Evidence(failure="x")).items() if good}
    assert passed == set()


def spoil(path: str, value: Any) -> Evidence:
    evidence = deepcopy(proven())
    name, *keys = path.split(".")
    at: Any = getattr(evidence, name)
    if not keys:
        setattr(evidence, name, value)
        return evidence
    for key in keys[:-1]:
        at = at[int(key) if key.isdigit() else key]
    at[int(keys[-1]) if keys[-1].isdigit() else keys[-1]] = value
    return evidence


@pytest.mark.parametrize(
    ("path", "value", "fails"),
    [
        ("backup.restore_verified", False, "backup restored and compared"),
        ("verify.tables.0.target_rows", 6, "row counts equal"),
        ("verify.tables", [{"table": "tasks", "source_rows": 7, "target_rows": 7, "match": True}], "row counts equal"),
        ("verify.tables.1.match", False, "checksums equal"),
        ("api_check.endpoints.endpoint 3", False, "8 API endpoints healthy"),
        ("load.p95_ms", 500, "load test passed"),
        ("load.rate", 44.9, "load test passed"),
        ("load.users", 9, "load test passed"),
        ("load.failed", 10, "load test passed"),
        ("load.failed", 1, "zero downtime"),
        ("ledger.lost", 1, "zero acknowledged writes lost"),
        ("ledger.total", 0, "zero acknowledged writes lost"),
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
    evidence = spoil(path, value)
    assert not judged(evidence)[fails]
    document = report.document(evidence, TABLES, LADDER, 10, 50.0)
    assert not document["passed"]
    assert f"FAIL  {fails}" in report.as_text(document)


def test_a_report_is_read_back_as_written_and_a_missing_one_names_the_command(tmp_path: Path) -> None:
    document = report.document(proven(), TABLES, LADDER, 10, 50.0)
    report.save(tmp_path / "a" / "report.json", document)
    assert report.load(tmp_path / "a" / "report.json") == document
    with pytest.raises(UsageError, match="make rehearsal"):
        report.load(tmp_path / "report.json")


def drilled(weight: int) -> dict[str, Any]:
    return {
        "weight": weight,
        "from": weight,
        "last_request_seconds": 2.0,
        "proof_seconds": 9.0,
        "rows_compared": 5,
        "total": 30,
        "lost": 0,
    }


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({}, None),
        ({"lost": 1}, "rollback from 5 %"),
        ({"total": 0}, "rollback from 5 %"),
        ({"from": 0}, "rollback from 5 %"),
        ({"proof_seconds": 300.0}, "rollback from 5 %"),
        ({"last_request_seconds": 300.0}, "rollback from 5 %"),
        ({"last_request_seconds": None}, "rollback from 5 %"),
        ({"weight": 7}, "rollback from 5 %"),
    ],
)
def test_a_drill_passes_only_when_each_weight_was_left_in_time_without_a_loss(
    change: dict[str, Any], fails: str | None
) -> None:
    """Prevents a drill that says it passed where a write was lost, no request was there, or a weight was left out."""
    evidence = proven()
    evidence.drills = [{**drilled(5), **change}, drilled(100)]
    evidence.verify = {"match": True}
    document = report.document(evidence, TABLES, LADDER, 10, 50.0, drill=True)
    assert {c["name"] for c in document["criteria"] if not c["passed"]} == ({fails} if fails else set())
    assert document["passed"] is (fails is None)
    for spoilt in ({"load": {"requests": 9, "failed": 1}}, {"verify": {"match": False}}, {"failure": "x"}):
        evidence = proven()
        evidence.drills, evidence.verify = [drilled(5), drilled(100)], {"match": True}
        for name, value in spoilt.items():
            setattr(evidence, name, value)
        assert not report.document(evidence, TABLES, LADDER, 10, 50.0, drill=True)["passed"]
