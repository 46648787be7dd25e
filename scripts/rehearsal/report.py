"""The rehearsal's report: plan.md's success criteria, each a pure function of the evidence, and their text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.rehearsal import drill as drilling
from scripts.support.errors import UsageError

#: plan.md, 'What must be true at the end' and the load test.
P95_LIMIT_MS = 500.0
ERROR_LIMIT_PERCENT = 1.0
RATE_SHARE = 0.9  # of the rate asked for; below it the load itself was too weak to prove anything


@dataclass
class Evidence:
    """What the steps gave. A step that did not run leaves None, and its criterion fails."""

    preflight: Mapping[str, Any] | None = None
    backup: Mapping[str, Any] | None = None
    copy: Mapping[str, Any] | None = None
    verify: Mapping[str, Any] | None = None
    api_check: Mapping[str, Any] | None = None
    rollback: Mapping[str, Any] | None = None
    finalize: Mapping[str, Any] | None = None
    load: Mapping[str, Any] | None = None
    ledger: Mapping[str, Any] | None = None
    rollback_ledger: Mapping[str, Any] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    changed: list[Sequence[str]] = field(default_factory=list)
    drills: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None


def _criterion(name: str, passed: bool, evidence: str) -> dict[str, Any]:
    return {"name": name, "passed": passed, "evidence": evidence}


def criteria(
    seen: Evidence, tables: Sequence[str], ladder: Sequence[int], users: int, rate: float
) -> list[dict[str, Any]]:
    """Each success criterion of plan.md, passed or failed, with what was measured.

    Args:
        tables: the tables that had to move.
        ladder: the canary weights, percent, that had to be promoted after the rollback.
        users, rate: the load asked for, requests per second.
    """
    compared = list((seen.verify or {}).get("tables", []))
    complete = {row["table"] for row in compared} == set(tables)
    counts = (
        "; ".join(f"{row['table']} {row['source_rows']}={row['target_rows']}" for row in compared)
        or "verify did not run"
    )
    equal = sum(bool(row["match"]) for row in compared)
    endpoints = {k: v for k, v in ((seen.api_check or {}).get("endpoints") or {}).items() if k != "GET /health"}
    load, ledger, back, lost = seen.load or {}, seen.ledger or {}, seen.rollback or {}, seen.rollback_ledger or {}
    total, failed = int(load.get("requests", 0)), int(load.get("failed", 0))
    achieved, p95 = float(load.get("rate", 0.0)), load.get("p95_ms")
    errors = 100.0 * failed / total if total else 100.0
    backup = seen.backup or {}
    promoted = [step["weight"] for step in seen.steps if step["decision"] == "promote"]
    return [
        _criterion(
            "backup restored and compared",
            bool(backup.get("restore_verified")),
            f"{backup.get('bytes', 0)} bytes, {len(backup.get('tables', []))} tables, sha256 {str(backup.get('sha256'))[:12]}",
        ),
        _criterion(
            "row counts equal", complete and all(r["source_rows"] == r["target_rows"] for r in compared), counts
        ),
        _criterion("checksums equal", complete and equal == len(tables), f"{equal} of {len(tables)} tables"),
        _criterion(
            "8 API endpoints healthy",
            len(endpoints) == 8 and all(endpoints.values()),
            f"{sum(map(bool, endpoints.values()))} of {len(endpoints)} on the Task Service, by the smoke rule, at weight 0",
        ),
        _criterion(
            "load test passed",
            total > 0
            and load.get("users") == users
            and achieved >= RATE_SHARE * rate
            and p95 is not None
            and float(p95) < P95_LIMIT_MS
            and errors < ERROR_LIMIT_PERCENT,
            f"{load.get('users', 0)} users, {achieved:.1f} requests/s of {rate:g}, P95 {p95} ms, errors {errors:.2f} %",
        ),
        _criterion(
            "zero downtime",
            total > 0 and failed == 0,
            f"{failed} of {total} requests failed, over every step and the rollback",
        ),
        _criterion(
            "zero acknowledged writes lost",
            int(ledger.get("total", 0)) > 0 and ledger.get("lost") == 0,
            f"{ledger.get('lost', 'unknown')} of {ledger.get('total', 0)} lost, looked up on the target at the end",
        ),
        _criterion(
            "rollback rehearsed and timed",
            bool(back.get("within_limit")) and int(lost.get("total", 0)) > 0 and lost.get("lost") == 0,
            f"from {back.get('from')} % in {back.get('seconds')} s (limit {back.get('limit_seconds')} s), "
            f"{lost.get('lost', 'unknown')} of {lost.get('total', 0)} acknowledged writes lost on the monolith",
        ),
        _criterion(
            "canary promoted to 100 %",
            promoted[-len(ladder) :] == list(ladder),
            f"promoted at {', '.join(f'{weight} %' for weight in promoted) or 'no weight'}",
        ),
        _criterion(
            "each weight moved by one resource",
            bool(seen.changed) and all(len(names) == 1 for names in seen.changed),
            f"{len(seen.changed)} deployments, each changed {sorted({name for names in seen.changed for name in names})}",
        ),
        _criterion(
            "nothing left behind",
            seen.finalize is not None and seen.finalize.get("leftovers") == [],
            "finalize did not end"
            if seen.finalize is None
            else f"slots, publications, subscriptions, triggers, origins, schemas of ours in both catalogs: {seen.finalize.get('leftovers')}",
        ),
        _criterion("every step ended", seen.failure is None, seen.failure or "all steps of the plan ran"),
    ]


def document(
    seen: Evidence,
    tables: Sequence[str],
    ladder: Sequence[int],
    users: int,
    rate: float,
    *,
    drill: bool = False,
    **facts: Any,
) -> dict[str, Any]:
    """The report as JSON, with the fields that issue and design name; ``facts`` are added. ``drill``: of a rollback drill."""
    if drill:
        judged = drilling.criteria(seen.drills, ladder, seen.load, seen.verify, seen.failure)
    else:
        judged = criteria(seen, tables, ladder, users, rate)
    load, ledger, lost = seen.load or {}, seen.ledger or {}, seen.rollback_ledger or {}
    return {
        "passed": all(criterion["passed"] for criterion in judged),
        "criteria": judged,
        "requests": {
            "total": load.get("requests", 0),
            "failed": load.get("failed", 0),
            "p50_ms": load.get("p50_ms"),
            "p95_ms": load.get("p95_ms"),
        },
        "acknowledged_writes": {"total": ledger.get("total", 0), "lost": ledger.get("lost")},
        "rollback": {
            "seconds": (seen.rollback or {}).get("seconds"),
            "acknowledged_writes_lost": lost.get("lost"),
        },
        "steps": seen.steps,
        "drills": seen.drills,
        **facts,
    }


def save(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(report, ensure_ascii=False, indent=2, default=str) + "\n", encoding="utf-8")
    draft.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read a report. Raises UsageError when there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; run first: make rehearsal, or name another with --path") from None
    except ValueError as error:
        raise UsageError(f"{path} is no report: {error}; run again: make rehearsal") from None


def as_text(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [f"{'PASS' if c['passed'] else 'FAIL'}  {c['name']}: {c['evidence']}" for c in report["criteria"]]
    for step in report["steps"]:
        share = "-" if step["share"] is None else f"{step['share']:.1f} %"
        lines.append(
            f"      weight {step['weight']:>3} %  measured {share:>7}  {step['seconds']:6.1f} s  {step['decision']}"
        )
    lines.append("every criterion passed" if report["passed"] else "NOT PASSED: see the lines with FAIL")
    return "\n".join(lines)
