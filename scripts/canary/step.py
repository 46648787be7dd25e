"""The canary: one step, moved by a deployment of the program, watched, decided; and the whole ladder of them.

A step is: readiness gate, preview (refused when anything but the live rule would change), up, confirmation at the load
balancer, watch, decision. What was done is in the journal; a step that was killed is told by it, by the stack's weight and
by the load balancer's, which the next command compares first: it goes on, or ends the rollback that was owed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from components import naming
from components.config import PROJECT
from scripts.canary import decisions, gates, operator_lock, readiness, ready, rollback
from scripts.canary.figures import Observed, with_replication
from scripts.canary.gates import Decision
from scripts.canary.operator_lock import Held, Operation, TakenOver
from scripts.canary.stage import Stage
from scripts.deployment.deployer import Change, UpResult
from scripts.replication import fence
from scripts.replication.conflicts import install as conflicts
from scripts.support.errors import DatabaseError, MigrationError, TimedOut
from scripts.support.events import CanaryEvent, Step
from scripts.support.wait import bounded
from scripts.verify import rollback_proof

LIVE_RULE = "aws:lb/listenerRule:ListenerRule"
#: Longest between two looks of a watch, in seconds.
LOOK_SECONDS = 30.0
#: Periods that a watch may last beyond its length, for the first one to begin and the last one to settle.
GRACE_PERIODS = 3

#: Longest that the deployment of one rule may take, in seconds.
UP_SECONDS = 600.0

Tell = Callable[[str], None]


def _silent(_: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class _Run:
    """What the parts of one step share."""

    stage: Stage
    lock: Held
    tell: Tell
    started: float
    unattended: bool = False


def only_live_rule(changes: tuple[Change, ...]) -> bool:
    """Whether a preview's changes are the live rule's update and nothing else."""
    found = [(change.type, change.name, change.op) for change in changes]
    return found == [(LIVE_RULE, f"{naming.ROUTES}-{naming.LIVE_RULE}", "update")]


def status(stage: Stage) -> dict[str, Any]:
    """The declared weight, the load balancer's, the ladder's next, and what was not brought to its end."""
    declared, live = stage.declared_weight(), stage.load_balancer.weight()
    past = ready.past(readiness.events(stage.settings))
    return {
        "declared": declared,
        "live": live,
        "drift": declared != live,
        "next": ready.next_weight(declared, stage.settings.config.canary_ladder),
        "ladder": list(stage.settings.config.canary_ladder),
        "unfinished": None if past.unfinished is None else {"from": past.unfinished[0], "to": past.unfinished[1]},
        "rollback_owed": None if past.owed is None else list(past.owed),
        "last": stage.settings.journal.last(Step.CANARY, CanaryEvent.DECIDED),
    }


def step(
    stage: Stage,
    to: int | None = None,
    *,
    force_reason: str | None = None,
    dry_run: bool = False,
    take_over: bool = False,
    tell: Tell = _silent,
) -> dict[str, Any]:
    """Raise the weight by one step of the ladder (or to ``to`` percent) and decide.

    Args:
        force_reason: allows a weight that is not the ladder's next; kept in the journal.
        dry_run: gate and preview only.
        take_over: end another operator's session that holds the lock.
        tell: called with lines for people: what the gate saw, each look of the watch.

    Returns:
        ``from``, ``to`` (percent), ``decision`` (promote, hold, rollback, refused), ``reasons``, ``seconds``, ``readiness``,
        ``evidence``, ``findings`` and, where the weight moved, ``changed``.

    Raises:
        Refused: another operator moves the weight.
        MigrationError: a deployment failed; the weight is what the message says.
    """
    with operator_lock.locked(stage.settings, Operation.STEP, take_over=take_over) as lock:
        return _step(_Run(stage, lock, tell, time.monotonic()), to, force_reason, dry_run)


def run(stage: Stage, *, take_over: bool = False, tell: Tell = _silent) -> dict[str, Any]:
    """The whole ladder unattended: step after step while each one says promote, a hold watched again up to `watchRounds`
    times, a rollback on a breach or when a deployment fails. Run again after a kill, it goes on where it was.

    Returns:
        The last step's document with the first one's ``from``, and all of them in ``steps``.
    """
    steps: list[dict[str, Any]] = []
    rounds = 0
    with operator_lock.locked(stage.settings, Operation.RUN, take_over=take_over) as lock:
        while True:
            last = _step(_Run(stage, lock, tell, time.monotonic(), unattended=True), None, None, False)
            steps.append(last)
            rounds = rounds + 1 if last["decision"] == "hold" else 0
            again = last["decision"] == "hold" and rounds < stage.settings.config.watch_rounds
            if not again and (last["decision"] != "promote" or last["to"] >= 100):
                return {**last, "from": steps[0]["from"], "steps": steps}


def _step(this: _Run, to: int | None, force_reason: str | None, dry_run: bool) -> dict[str, Any]:
    stage = this.stage
    config = stage.settings.config
    past = ready.past(readiness.events(stage.settings))
    if past.owed is not None and dry_run:
        would = f"would end the rollback that was begun or decided: {'; '.join(past.owed)}"
        return _result(this, stage.declared_weight(), 0, Decision("hold", (would,)), final=False)
    if past.owed is not None:
        this.tell("a rollback was begun or decided and did not end; ending it first")
        return rollback.execute(
            stage, this.lock, reasons=("to end what was begun", *past.owed), unattended=this.unattended
        )
    current, live = stage.declared_weight(), stage.load_balancer.weight()
    begun, resumed = current, False
    if past.unfinished is not None and {current, live} <= set(past.unfinished):
        resumed = past.unfinished[1] == current
        begun = past.unfinished[0] if resumed else current
    elif live != current:
        text = (
            f"the stack declares {current} %, the load balancer has {live} %: somebody changed the rule beside the program; see "
            "which one is meant, then: pulumi up --refresh, or task-migration rollback"
        )
        return _result(this, current, current, Decision("refused", (text,)))
    wanted = to if to is not None else current if resumed else ready.next_weight(current, config.canary_ladder)
    if wanted is None:
        return _result(this, current, current, Decision("refused", ("the weight is 100 %: the ladder's end",)))
    if not resumed or wanted != current:
        allowed = ready.check_step(current, wanted, config.canary_ladder, forced=force_reason is not None)
        if allowed.verdict == "refused":
            return _result(this, current, wanted, allowed)
    return _move(this, begun, wanted, force_reason, dry_run)


def _move(this: _Run, begun: int, wanted: int, force_reason: str | None, dry_run: bool) -> dict[str, Any]:
    stage, config = this.stage, this.stage.settings.config
    prepared = ready.ready(readiness.observe(stage), config.gates, config.rollback_limit_seconds)
    for finding in prepared.findings:
        this.tell(f"{'ok' if finding.state == 'good' else 'NO':>3}  {finding.text}")
    before = prepared.explained()
    if prepared.verdict == "refused":
        return _result(this, begun, wanted, prepared, readiness=before)

    changes = stage.deployer.preview({"canaryWeight": wanted}).changes
    if changes and not only_live_rule(changes):
        listed = ", ".join(f"{change.op} {change.name} ({change.type})" for change in changes)
        refusal = (
            f"the deployment would change more than the live rule: {listed}; deploy that first, by itself: pulumi up"
        )
        return _result(this, begun, wanted, Decision("refused", (refusal,)), readiness=before)
    if dry_run:
        preview = tuple(f"would {change.op} {change.name}" for change in changes) or ("nothing would change",)
        return _result(this, begun, wanted, Decision("hold", preview), final=False, readiness=before)

    stage.settings.journal.record(
        Step.CANARY,
        CanaryEvent.BEGUN,
        **{"from": begun, "to": wanted, "reason": force_reason},
        target_time=rollback_proof.now_on_target(stage.settings),
    )
    this.lock.check()
    try:
        deployed = _up(this, begun, wanted)
    except MigrationError as error:
        if not this.unattended or isinstance(error, TakenOver):
            raise
        reason = f"the deployment of {wanted} % failed, so nobody knows what the rule says: {error}"
        document = _result(this, begun, wanted, Decision("rollback", (reason,)), readiness=before)
        document["rollback"] = rollback.execute(stage, this.lock, reasons=(reason,), unattended=True)
        return document
    observed = _watch(this)
    decision = gates.decide(observed, config.gates, config.watch_seconds)
    changed = [change.name for change in deployed.changes]
    document = _result(this, begun, wanted, decision, observed=observed, readiness=before, changed=changed)
    if decision.verdict == "rollback":
        document["rollback"] = rollback.execute(stage, this.lock, reasons=decision.reasons, unattended=True)
    return document


def _up(this: _Run, begun: int, wanted: int) -> UpResult:
    stage, started = this.stage, time.monotonic()
    deployed = bounded(
        lambda: stage.deployer.up({"canaryWeight": wanted}),
        UP_SECONDS,
        what=f"the deployment of {wanted} %",
        remedy="look at its backend; run the step again, or task-migration rollback --emergency",
    )
    stage.load_balancer.confirm(wanted)
    seconds = time.monotonic() - started
    _still_wanted(this, begun, wanted)
    if wanted == 100:
        # From here on the Task Service alone takes writes, so its version of a row counts (design.md).
        conflicts.set_tie_winner(stage.settings, "target")
    stage.settings.journal.record(
        Step.CANARY,
        CanaryEvent.MOVED,
        **{"from": begun, "to": wanted, "seconds": round(seconds, 3), "changes": [c.urn for c in deployed.changes]},
    )
    this.tell(f"the live rule gives the Task Service {wanted} %, confirmed at the load balancer after {seconds:.1f} s")
    return deployed


def _still_wanted(this: _Run, begun: int, wanted: int) -> None:
    """Undo the deployment when somebody rolled back while it ran: going back wins, whichever ended last.

    Raises:
        TakenOver: another operator acts now.
    """
    try:
        with suppress(DatabaseError):
            this.lock.check()
        back = ready.past(readiness.events(this.stage.settings)).unfinished != (begun, wanted)
        lost = TakenOver(f"a rollback was begun while the deployment of {wanted} % ran; the weight is 0 % again")
    except TakenOver as error:
        back, lost = error.goes_back, error
        if not back:
            raise
    if back:
        rollback.at_once(this.stage.load_balancer, this.stage.deployer)
        raise lost


def _watch(this: _Run) -> Observed:
    """Look until a breach, or the whole watch decides, or its grace is over."""
    stage, config = this.stage, this.stage.settings.config
    since, begun = time.time(), time.monotonic()
    last = config.watch_seconds + config.metric_delay_seconds + GRACE_PERIODS * config.period_seconds
    pause = min(LOOK_SECONDS, config.period_seconds / 2)
    fences: list[tuple[float, float]] = []
    unreadable: str | None = None
    seen = 0
    while True:
        time.sleep(pause)
        with suppress(DatabaseError):  # a source that is away fails the fence below, and that is what rolls back
            this.lock.check()
        fences.append((time.time(), _fenced(stage)))
        try:
            observed = with_replication(stage.metrics.observe(since), fences)
        except MigrationError as error:
            # Metrics that cannot be read are no figures: the gate holds on them.
            observed = Observed(config.period_seconds)
            if unreadable != str(error):
                unreadable = str(error)
                stage.settings.journal.record(Step.CANARY, CanaryEvent.METRICS_UNREADABLE, reason=unreadable)
        verdict = gates.decide(observed, config.gates, config.watch_seconds).verdict
        if len(observed.periods) != seen:
            seen = len(observed.periods)
            this.tell(f"watched {observed.watched_seconds:.4g} of {config.watch_seconds:g} s: {verdict}")
        if verdict != "hold" or time.monotonic() - begun >= last:
            return observed


def _fenced(stage: Stage) -> float:
    """Seconds of the slower fence; the limit, which is a breach, when one does not return.

    A heartbeat each way also settles ties of both writers by the order of their commits while the canary runs.
    """
    limit = stage.settings.config.gates.replication_lag_seconds
    try:
        return max(fence.both(stage.settings, timeout=limit).values(), default=0.0)
    except TimedOut:
        return limit
    except MigrationError as error:
        stage.settings.journal.record(Step.CANARY, CanaryEvent.FENCE_FAILED, reason=str(error))
        return limit


def _result(
    this: _Run,
    begun: int,
    wanted: int,
    decision: Decision,
    *,
    observed: Observed | None = None,
    final: bool = True,
    **facts: Any,
) -> dict[str, Any]:
    """The step's document; when final it is kept, journaled and told to the topic, none of which stops a rollback."""
    settings = this.stage.settings
    document: dict[str, Any] = {
        "from": begun,
        "to": wanted,
        **decision.document(),
        "seconds": round(time.monotonic() - this.started, 3),
        "evidence": observed.document() if observed is not None else None,
        "findings": decision.explained(),
        **facts,
    }
    if not final:
        return document
    kept = {
        **document,
        "project": PROJECT,
        "limits": settings.config.gates.model_dump(by_alias=True),
        "watch_seconds": settings.config.watch_seconds,
    }
    rolling = decision.verdict == "rollback"
    try:
        document["document"] = decisions.keep(settings, datetime.now(UTC).isoformat(timespec="microseconds"), kept)
        short = {key: document[key] for key in ("from", "to", "decision", "reasons", "seconds", "document")}
        settings.journal.record(Step.CANARY, CanaryEvent.DECIDED, **short)
    except MigrationError as error:
        if not rolling:
            raise
        this.tell(f"the decision could not be kept, the rollback goes on: {error}")
    if not rolling:
        # A rollback tells of itself when it is done: nothing may delay it.
        this.stage.notices.send(settings, f"canary {begun} -> {wanted} %: {decision.verdict}", decision.document())
    return document
