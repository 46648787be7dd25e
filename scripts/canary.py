"""The canary: one step, moved by a deployment of the program, watched, decided.

A step is: readiness gate, preview (refused when anything but the live rule would change), up, confirmation at the load
balancer, watch, decision. What was done is in the journal; a step that was killed is told by the stack's weight and the
load balancer's, which the next command compares first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from components.config import PROJECT
from scripts import conflicts, fence, gates, replicate, rollback
from scripts.deploy import Change, Deployer
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.settings import Settings
from scripts.traffic import LoadBalancer, Metrics

LIVE_RULE = "aws:lb/listenerRule:ListenerRule"


@dataclass(frozen=True)
class Stage:
    """What a step acts on: the deployment, the load balancer, the figures."""

    settings: Settings
    deployer: Deployer
    load_balancer: LoadBalancer
    metrics: Metrics

    def declared_weight(self) -> int:
        """The stack's ``canaryWeight``, percent."""
        return int(self.deployer.config().get("canaryWeight", 0))


def only_live_rule(changes: tuple[Change, ...]) -> bool:
    """Whether a preview's changes are the live rule's update and nothing else."""
    return [(change.type, change.op) for change in changes] == [(LIVE_RULE, "update")] and "live" in changes[0].name


def readiness(settings: Settings) -> gates.Readiness:
    """Look whether a rollback from here would keep every write: both directions run, both fences return (seconds)."""
    status = replicate.status(settings)
    limit = settings.config.gates.replication_lag_seconds

    def returned(crossing: Callable[..., float]) -> float | None:
        try:
            return crossing(settings, timeout=limit)
        except TimedOut:
            return None

    forward, reverse = bool(status["forward"]["running"]), bool(status["reverse"]["running"])
    return gates.Readiness(
        forward_running=forward,
        reverse_running=reverse,
        forward_fence_seconds=returned(fence.forward) if forward else None,
        reverse_fence_seconds=returned(fence.reverse) if reverse else None,
    )


def status(stage: Stage) -> dict[str, Any]:
    """The declared weight, the load balancer's and the ladder's next."""
    declared, live = stage.declared_weight(), stage.load_balancer.weight()
    return {
        "declared": declared,
        "live": live,
        "drift": declared != live,
        "next": gates.next_weight(declared, stage.settings.config.canary_ladder),
        "ladder": list(stage.settings.config.canary_ladder),
        "last": stage.settings.journal.last("canary", "decided"),
    }


def step(
    stage: Stage,
    to: int | None = None,
    *,
    force_reason: str | None = None,
    dry_run: bool = False,
    watching: Callable[[gates.Observed], None] | None = None,
) -> dict[str, Any]:
    """Raise the weight by one step of the ladder (or to ``to`` percent) and decide.

    Args:
        force_reason: allows a weight that is not the ladder's next; kept in the journal.
        dry_run: gate and preview only.
        watching: called with each observation of the watch.

    Returns:
        ``from``, ``to`` (percent), ``decision`` (promote, hold, rollback, refused), ``reasons``, ``seconds``, ``evidence``.

    Raises:
        MigrationError: a deployment failed; the weight is what the message says.
    """
    config, journal, started = stage.settings.config, stage.settings.journal, time.monotonic()
    current = stage.declared_weight()
    resumed = _unfinished(stage, current)
    wanted = (
        to if to is not None else (current if resumed is not None else gates.next_weight(current, config.canary_ladder))
    )
    if wanted is None:
        return _result(
            stage, current, current, gates.Decision("refused", ("the weight is 100 %: the ladder's end",)), started
        )
    begun = current
    if resumed is not None and wanted == current:
        begun = resumed
    else:
        allowed = gates.check_step(current, wanted, config.canary_ladder, forced=force_reason is not None)
        if allowed.verdict == "refused":
            return _result(stage, current, wanted, allowed, started)
    prepared = gates.ready(readiness(stage.settings), config.gates)
    if prepared.verdict == "refused":
        return _result(stage, begun, wanted, prepared, started)

    changes = stage.deployer.preview({"canaryWeight": wanted}).changes
    if changes and not only_live_rule(changes):
        listed = ", ".join(f"{change.op} {change.name} ({change.type})" for change in changes)
        refusal = (
            f"the deployment would change more than the live rule: {listed}; deploy that first, by itself: pulumi up"
        )
        return _result(stage, begun, wanted, gates.Decision("refused", (refusal,)), started)
    if dry_run:
        preview = tuple(f"would {change.op} {change.name}" for change in changes) or ("nothing would change",)
        return _result(stage, begun, wanted, gates.Decision("hold", preview), started, final=False)

    journal.record("canary", "begun", **{"from": begun, "to": wanted, "reason": force_reason})
    deployed = stage.deployer.up({"canaryWeight": wanted})
    stage.load_balancer.confirm(wanted)
    if wanted == 100:
        # From here on the Task Service alone takes writes, so its version of a row counts (design.md).
        conflicts.set_tie_winner(stage.settings, "target")
    journal.record("canary", "moved", **{"from": begun, "to": wanted, "changes": [c.urn for c in deployed.changes]})

    observed = _watch(stage, watching)
    decision = gates.decide(observed, config.gates, config.watch_seconds)
    document = _result(stage, begun, wanted, decision, started, evidence=gates.as_json(observed))
    document["changed"] = [change.name for change in deployed.changes]
    if decision.verdict == "rollback":
        document["rollback"] = rollback.run(stage, reasons=decision.reasons)
    return document


def run(stage: Stage, watching: Callable[[gates.Observed], None] | None = None) -> dict[str, Any]:
    """The whole ladder: step after step while each one says promote. Returns the steps and the last decision."""
    steps: list[dict[str, Any]] = []
    while not steps or (steps[-1]["decision"] == "promote" and steps[-1]["to"] < 100):
        steps.append(step(stage, watching=watching))
    last = steps[-1]
    return {**last, "from": steps[0]["from"], "steps": steps}


def _unfinished(stage: Stage, current: int) -> int | None:
    """The weight that a step to ``current`` came from when it was never promoted: killed on the way, or held."""
    origin: int | None = None
    for event in stage.settings.journal.events():
        if event["step"] == "canary" and event["event"] == "begun":
            origin = int(event["from"]) if event["to"] == current else None
        elif (event["step"] == "rollback" and event["event"] == "done") or event.get("decision") in (
            "promote",
            "rollback",
        ):
            origin = None
    return origin


def _watch(stage: Stage, watching: Callable[[gates.Observed], None] | None) -> gates.Observed:
    config = stage.settings.config
    since, begun = time.time(), time.monotonic()
    elapsed = 0.0
    while True:
        time.sleep(max(0.0, min(config.watch_seconds / 10, 30.0, config.watch_seconds - elapsed)))
        elapsed = time.monotonic() - begun
        try:
            # One clock for the length of the watch: the wall clock may be set back while it lasts.
            observed = replace(stage.metrics.observe(since), watched_seconds=elapsed)
        except MigrationError as error:
            # A metric that cannot be read is no figure: the gate holds on it.
            observed = gates.Observed(elapsed, None, None, None)
            stage.settings.journal.record("canary", "metrics_unreadable", reason=str(error))
        # A heartbeat each way settles ties of both writers by the order of their commits while the canary runs.
        with suppress(TimedOut):
            fence.both(stage.settings, timeout=config.gates.replication_lag_seconds)
        if watching is not None:
            watching(observed)
        breached = gates.decide(observed, config.gates, config.watch_seconds).verdict == "rollback"
        if breached or elapsed >= config.watch_seconds:
            return observed


def _result(
    stage: Stage,
    begun: int,
    wanted: int,
    decision: gates.Decision,
    started: float,
    *,
    evidence: dict[str, Any] | None = None,
    final: bool = True,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "from": begun,
        "to": wanted,
        **decision.document(),
        "seconds": round(time.monotonic() - started, 3),
        "evidence": evidence,
    }
    if final:
        stage.settings.journal.record("canary", "decided", project=PROJECT, **document)
    return document
