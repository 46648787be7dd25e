"""What a person reads of canary, rollback and api-check: documents in, views out. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from scripts.api.documents import ApiCheck
from scripts.canary.documents import (
    CanaryRun,
    CanaryStatus,
    CanaryStep,
    Explanation,
    Rollback,
    RollbackPlan,
    RollbackRun,
    ServiceStarted,
)
from scripts.canary.figures import Observed
from scripts.canary.gates import Finding
from scripts.canary.gates import State as RuleState
from scripts.cli.finish_text import proof
from scripts.cli.view import Column, State, View, finding, table
from scripts.support import commands

STATES: dict[RuleState, State] = {"good": "good", "breach": "bad", "hold": "warning", "not compared": "plain"}
STATUS, EXPLAIN = (f"task-migration canary {word}" for word in ("status", "status --explain"))
#: Reasons of the last decision that are listed; the document has them all.
LISTED = 5


def status(document: CanaryStatus) -> View:
    """Where the canary stands."""
    parts: list[RenderableType] = [
        table(
            [Column("declared %", True), Column("load balancer %", True), Column("next %", True), "ladder %"],
            [(document.declared, document.live, document.next, ", ".join(map(str, document.ladder)))],
        )
    ]
    findings = []
    if document.drift:
        text = "somebody changed the rule beside the program; see which weight is meant"
        findings.append(finding("bad", text, "pulumi up --refresh, or task-migration rollback"))
    if (left := document.unfinished) is not None:
        text = (
            f"a step from {left.from_} to {left.to} % was begun and did not end; the next `canary step` goes on with it"
        )
        findings.append(finding("warning", text))
    findings += [finding("bad", f"a rollback is owed: {reason}") for reason in document.rollback_owed or ()]
    if (last := document.last) is not None:
        reasons = "; ".join(last.reasons[:LISTED])
        findings.append(
            finding(
                "plain", f"last decision, {_minute(last.at)}: {last.from_} -> {last.to} %: {last.decision}: {reasons}"
            )
        )
    parts += [Group(*findings)] if findings else []
    if document.drift:
        verdict = (
            f"The load balancer gives the Task Service {document.live} %, the stack declares {document.declared} %."
        )
        return View(verdict, "bad", parts, STATUS + ", after one of the two")
    verdict = f"The Task Service gets {document.live} % of the requests, as declared."
    if document.rollback_owed:
        return View(f"{verdict} A rollback is owed.", "bad", parts, commands.ROLLBACK)
    if document.unfinished:
        return View(f"{verdict} A step is not finished.", "warning", parts, commands.STEP)
    following = commands.STEP if document.next is not None else commands.LAST
    return View(verdict, "good", parts, following)


def step(document: CanaryStep | Rollback) -> View:
    """What one step, or a whole ladder, came to."""
    steps = document.steps if isinstance(document, CanaryRun | RollbackRun) else []
    ladder: list[RenderableType] = []
    if len(steps) > 1:
        columns: list[str | Column] = [
            Column("from %", True),
            Column("to %", True),
            "decision",
            Column("seconds", True),
        ]
        ladder = [table(columns, [(one.from_, one.to, one.decision, one.seconds) for one in steps])]
    if isinstance(document, Rollback):
        back = rollback(document)
        return View(f"A rollback that was owed is ended. {back.verdict}", back.state, [*ladder, *back.parts], back.next)
    parts = [*ladder, *_watched(document.evidence), *_judged(document)]
    weights = f"{document.from_} -> {document.to} %"
    if document.decision == "rollback" and document.rollback is not None:
        back = rollback(document.rollback)
        return View(f"{weights}: ROLLED BACK. {back.verdict}", "bad", [*parts, *back.parts], EXPLAIN)
    if document.decision == "promote":
        verdict = f"{weights}: promoted. The Task Service gets {document.to} % of the requests."
        return View(verdict, "good", parts, commands.STEP if document.to < 100 else commands.LAST)
    if document.decision == "refused":
        return View(
            f"{weights}: refused. Nothing was changed.", "bad", parts, "mend what is said above, then " + commands.STEP
        )
    if document.document is None:
        would = [finding("plain", reason) for reason in document.reasons]
        return View(f"Dry run of {weights}: the gate lets it through.", "good", [Group(*would)], commands.STEP)
    verdict = f"{weights}: on hold. The weight stays at {document.to} %, as the watch did not decide."
    return View(verdict, "warning", parts, f"{commands.STEP}, to watch again")


def _minute(at: str) -> str:
    """An ISO 8601 time in UTC, to the minute."""
    return f"{at[:16].replace('T', ' ')} UTC"


def _watched(evidence: Observed | None) -> list[RenderableType]:
    """Both sides, and all users at the API, below each other over the whole watch."""
    if evidence is None or not evidence.periods:
        return []
    rows = [
        (name, one.requests, one.error_rate_percent if one.requests else None, one.p50_ms, one.p95_ms)
        for name, one in evidence.sides()
    ]
    columns: list[str | Column] = [
        "side",
        *(Column(name, True) for name in ("requests", "errors %", "typical P50 ms", "typical P95 ms")),
    ]
    return [table(columns, rows, f"watched {evidence.watched_seconds:.0f} s")]


def _judged(document: CanaryStep) -> list[RenderableType]:
    """The rules that decided, and how many the others are."""
    if not document.findings:
        return [Group(*(finding("bad", reason) for reason in document.reasons))]
    if document.decision == "promote":
        return [_counted(document.findings)]
    wanted: RuleState = "hold" if document.decision == "hold" else "breach"
    telling = [one for one in document.findings if one.state == wanted]
    return [Group(*_rules(telling), _counted(one for one in document.findings if one.state != wanted))]


def _rules(findings: Iterable[Finding]) -> list[RenderableType]:
    return [finding(STATES[one.state], one.text) for one in findings]


def _counted(findings: Iterable[Finding]) -> Text:
    counts = Counter(one.state for one in findings)
    words = {"good": "good", "breach": "past a limit", "hold": "on hold", "not compared": "not compared"}
    told = [f"{number} {words[state]}" for state, number in counts.items()]
    return Text(f"rules: {', '.join(told)}" if told else "")


def explanation(document: Explanation) -> View:
    """The last decision, rule by rule."""
    verdict = f"{document.from_} -> {document.to} %: {document.decision}, decided {_minute(document.at)}."
    state: State = {"promote": "good", "hold": "warning"}.get(document.decision, "bad")  # type: ignore[assignment]
    parts: list[RenderableType] = [Group(*_rules(document.findings))] if document.findings else []
    if not document.findings:
        parts = [Group(*(finding("bad", reason) for reason in document.reasons))]
    if document.again is not None and document.same:
        parts.append(finding("good", f"judged again from the evidence kept: {document.again}, the same"))
    elif document.again is not None:
        text = f"judged again from the evidence kept: {document.again}, NOT THE SAME: the program's rules changed since"
        parts.append(finding("warning", text))
    parts.append(Text(f"kept in {document.location}"))
    return View(verdict, state, parts, commands.STATUS)


def service_started(document: ServiceStarted) -> View:
    """The service runs again."""
    verdict = (
        f"{document.tasks} tasks of the Task Service run, {document.healthy} are healthy; its autoscaling goes on."
    )
    return View(verdict, "good", (), commands.STATUS)


def rollback(document: Rollback | RollbackPlan) -> View:
    """What a rollback came to."""
    if isinstance(document, RollbackPlan):
        would = [finding("plain", f"would {one}") for one in document.would]
        verdict = f"Dry run: the weight would go from {document.from_} to {document.to} %."
        if document.from_ == document.to and not would:
            verdict = f"Dry run: the weight is {document.to} % already, nothing would change."
        return View(verdict, "plain", [Group(*would)] if would else [], commands.ROLLBACK)
    findings = proof(document.rows)
    if document.pulumi is not None:
        findings.append(finding("warning", f"moved by the {document.by}, as Pulumi could not: {document.pulumi}"))
    if document.drift is not None:
        findings.append(finding("bad" if document.config_set is False else "warning", document.drift))
    if document.moved_again:
        findings.append(
            finding("warning", "a deployment had raised the weight again meanwhile; it was moved back once more")
        )
    if document.rights_given_back:
        findings.append(finding("warning", "the monolith has its rights to write again, which finalize had taken"))
    if document.service_stopped:
        findings.append(
            finding(
                "plain",
                "no task of the Task Service is wanted now, and serviceEnabled is false",
                "commit the stack's file; back: serviceEnabled true, pulumi up, task-migration canary start-service",
            )
        )
    told = f"within the limit of {document.limit_seconds:g} s"
    if not document.within_limit:
        told = f"the limit is {document.limit_seconds:g} s"
    verdict = (
        f"All requests are on the monolith, with every write of the Task Service: {document.seconds:.1f} s, {told}."
    )
    return View(
        verdict, "good" if document.within_limit else "warning", [_phases(document), Group(*findings)], commands.STATUS
    )


def _phases(document: Rollback) -> RenderableType:
    took = document.phases
    rows = [
        (f"routes moved from {document.from_} to 0 %, by {document.by}", took.routed),
        ("requests under way ended", took.drained),
        ("fence: every write arrived", took.fenced),
        ("writes compared", took.compared),
    ]
    rows.append(("together", document.seconds))
    return table(["phase", Column("seconds", True)], [(name, f"{seconds:,.1f}") for name, seconds in rows])


def api_check(document: ApiCheck) -> View:
    """The contract of the API, endpoint by endpoint."""
    made = Counter(check.endpoint for check in document.checks)
    failed = Counter(check.endpoint for check in document.checks if not check.passed)
    columns: list[str | Column] = ["endpoint", Column("checks", True), Column("failed", True)]
    parts: list[RenderableType] = [table(columns, [(name, made[name], failed[name]) for name in document.endpoints])]
    findings = [finding("bad", check.detail) for check in document.checks if not check.passed]
    findings += [finding("plain", f"not checked: {clause}") for clause in document.not_checked]
    if document.served_by:
        findings.append(finding("plain", f"served by: {', '.join(document.served_by)}"))
    for one in document.stale_reads:
        where = "" if one.weight is None else f" at weight {one.weight} %"
        findings.append(finding("plain", f"stale reads{where}: {one.stale} of {one.reads} answers of the {one.side}"))
    parts += [Group(*findings)] if findings else []
    if document.healthy:
        verdict = (
            f"All {len(document.endpoints)} endpoints answer as the contract says ({len(document.checks)} checks)."
        )
        return View(verdict, "good", parts, commands.STATUS)
    bad = sum(not healthy for healthy in document.endpoints.values())
    verdict = f"{bad} of {len(document.endpoints)} endpoints do not answer as the contract says."
    return View(verdict, "bad", parts, "mend them, then task-migration api-check again")
