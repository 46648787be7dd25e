"""The canary: one step, moved by a deployment of the program, watched, decided; and the whole ladder of them.

A step is: readiness gate, preview (refused when anything but the live rule would change), up of that rule alone, confirmation at the load
balancer, watch, decision. What was done is kept on the source; a step that was killed is told by it, by the stack's weight and
by the load balancer's, which the next command compares first: it goes on, or ends the rollback that was owed.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from components.config import PROJECT
from scripts.canary import decisions, gates, guard, history, notices, operator_lock, readiness, ready, rollback
from scripts.canary.documents import (
    CanaryRun,
    CanaryStep,
    Rollback,
    RollbackRun,
    ServiceStarted,
)
from scripts.canary.figures import Observed
from scripts.canary.gates import Decision
from scripts.canary.operator_lock import Lock, Operation, TakenOver
from scripts.canary.stage import Stage
from scripts.canary.verifying import Verifying
from scripts.canary.watch import Tell, Watch, silent
from scripts.canary.way_back import at_once, kept
from scripts.deployment.deployer import UpResult
from scripts.support import safety
from scripts.support.errors import DatabaseError, MigrationError, Refused
from scripts.support.events import CanaryEvent, RollbackEvent
from scripts.support.events import Step as Steps
from scripts.support.progress import SILENT, Progress
from scripts.support.safety import Transition
from scripts.support.wait import bounded

#: Longest that the deployment of one rule may take, in seconds.
UP_SECONDS = 600.0


def start_service(stage: Stage, progress: Progress = SILENT) -> ServiceStarted:
    """Bring the Task Service's tasks up, for the first time or again, and its autoscaling.

    Raises:
        Refused: there is no ECS service here; the stack declares no task for it; a task does not start, with the reason; or the
            circuit breaker went back to another image than the declared one.
        TimedOut: its tasks do not serve in time.
        MigrationError: AWS refuses.
    """
    if stage.service is None:
        raise Refused("there is no ECS service here; a stack has one: --stack staging|prod")
    enabled = bool(stage.deployer.config().get("serviceEnabled"))
    seen = stage.service.start(enabled, progress=progress)
    stage.settings.journal.record(Steps.CANARY, CanaryEvent.SERVICE_STARTED, tasks=seen.running)
    return ServiceStarted(status="started", tasks=seen.running, healthy=seen.healthy)


def step(
    stage: Stage,
    to: int | None = None,
    *,
    force_reason: str | None = None,
    dry_run: bool = False,
    take_over: bool = False,
    tell: Tell = silent,
    progress: Progress = SILENT,
) -> CanaryStep | Rollback:
    """Raise the weight by one step of the ladder (or to ``to`` percent) and decide; a rollback that is owed is ended instead.

    Args:
        force_reason: allows a weight that is not the ladder's next; kept in the journal.
        dry_run: gate and preview only.
        take_over: end another operator's session that holds the lock.
        tell: called with lines for people: what the gate saw, each look of the watch.

    Raises:
        Refused: another operator moves the weight.
        MigrationError: a deployment failed; the weight is what the message says.
    """
    with operator_lock.locked(stage.settings, Operation.STEP, take_over=take_over) as lock:
        return Step(stage, lock, tell, progress).run(to, force_reason, dry_run)


def run(
    stage: Stage, *, take_over: bool = False, tell: Tell = silent, progress: Progress = SILENT
) -> CanaryRun | RollbackRun:
    """The whole ladder unattended: step after step while each one says promote, a hold watched again up to `watchRounds`
    times, a rollback on a breach or when a deployment fails. Run again after a kill, it goes on where it was. Both sides are
    compared before the first step and beside each watch, which promotes nothing until that has ended: in every row from 0 % and before 100 %,
    else in those written since and a part of the rest.
    """
    steps: list[CanaryStep | Rollback] = []
    rounds = 0
    with (
        operator_lock.locked(stage.settings, Operation.RUN, take_over=take_over) as lock,
        closing(Verifying(stage)) as verifying,
    ):
        while True:
            try:
                last = Step(stage, lock, tell, progress, verifying, first=not steps).run()
            except MigrationError as error:
                if not isinstance(error, TakenOver):
                    stage.notices.send(stage.settings, "canary run STOPPED by an error", notices.stopped(str(error)))
                raise
            steps.append(last)
            rounds = rounds + 1 if last.decision == "hold" else 0
            again = last.decision == "hold" and rounds < stage.settings.config.watch_rounds
            if not again and (last.decision != "promote" or last.to >= 100):
                whole = {**dict(last), "from_": steps[0].from_, "steps": steps}
                return RollbackRun(**whole) if isinstance(last, Rollback) else CanaryRun(**whole)


class Step:
    """One step, under the operator's ``lock``. With ``verifying`` it is one of a ladder that nobody looks at, maybe its ``first``."""

    def __init__(
        self,
        stage: Stage,
        lock: Lock,
        tell: Tell = silent,
        progress: Progress = SILENT,
        verifying: Verifying | None = None,
        *,
        first: bool = False,
    ) -> None:
        self._stage, self._lock, self._tell, self._progress = stage, lock, tell, progress
        self._verifying, self._first = verifying, first
        self._settings, self._config = stage.settings, stage.settings.config
        self._unattended = verifying is not None
        self._started = time.monotonic()

    def run(
        self, to: int | None = None, force_reason: str | None = None, dry_run: bool = False
    ) -> CanaryStep | Rollback:
        """The step from where the source, the stack and the load balancer say that it stands; as :func:`step`."""
        so_far = history.read(self._settings)
        current, live = self._stage.declared_weight(), self._stage.load_balancer.weight()
        state = so_far.state(current, live)
        owed = state.rollback_owed
        if owed is not None and dry_run:
            would = f"would end the rollback that was begun or decided: {'; '.join(owed)}"
            return self._document(current, 0, Decision("hold", (would,)))
        if owed is not None:
            self._tell("a rollback was begun or decided and did not end; ending it first")
            return self._roll_back(("to end what was begun", *owed), unattended=self._unattended)
        if why := safety.unsafe(Transition.RAISE, state):
            return self._refused(current, current, why)
        match state.step:
            case (begun, to) if state.resumed and to == current:
                resumed = True
            case _:
                begun, resumed = current, False
        seconds = int(self._stage.deployer.config().get("canaryStickySeconds") or 0)
        if not current and force_reason is None and (bound := so_far.bound(seconds, datetime.now(UTC))):
            return self._refused(current, current, bound)
        ladder = self._config.canary_ladder
        wanted = to if to is not None else current if resumed else ready.next_weight(current, ladder)
        if wanted is None:
            return self._refused(current, current, "the weight is 100 %: the ladder's end")
        if not resumed or wanted != current:
            allowed = ready.check_step(current, wanted, ladder, forced=force_reason is not None)
            if allowed.verdict == "refused":
                return self._decided(self._document(current, wanted, allowed))
        return self._move(begun, wanted, force_reason, dry_run, so_far.back)

    def _move(self, begun: int, wanted: int, force_reason: str | None, dry_run: bool, back: str | None) -> CanaryStep:
        """``back``: when the last rollback had ended as this began; one that ended since, without the lock, wins."""
        whole, users = not begun or wanted >= 100, self._stage.declared_weight() > 0
        verifying = self._verifying if self._first else None
        if verifying is not None and not users:
            verifying.now(self._progress, whole=whole)
        prepared = self._ready(wanted, whole=whole)
        if prepared.verdict == "refused" and users:
            # A refusal would leave users with it, and nobody watches.
            if not dry_run and (why := readiness.deserted(self._stage, self._tell)):
                prepared = Decision("rollback", (why,), prepared.findings)
            # Nothing looks at users meanwhile: where there are some, only if nothing goes on without it.
            elif verifying is not None:
                verifying.now(self._progress, whole=whole)
                prepared = self._ready(wanted, whole=whole)
        for finding in prepared.findings:
            self._tell(f"{'ok' if finding.state == 'good' else 'NO':>3}  {finding.text}")
        before = list(prepared.findings)
        if prepared.verdict != "promote":
            return self._decided(self._document(begun, wanted, prepared, readiness=before))

        changes = self._stage.deployer.preview({"canaryWeight": wanted})
        if more := guard.beside(changes):
            return self._decided(self._document(begun, wanted, Decision("refused", more), readiness=before))
        if dry_run:
            preview = tuple(f"would {change.op} {change.name}" for change in changes) or ("nothing would change",)
            return self._document(begun, wanted, Decision("hold", preview), readiness=before)

        was = history.record(
            self._settings,
            Steps.CANARY,
            CanaryEvent.BEGUN,
            **{"from": begun, "to": wanted, "reason": force_reason},
        )
        self._lock.check()
        if was.owed or was.back != back:
            raise TakenOver("a rollback was begun since this command looked; see task-migration canary status")
        try:
            deployed = self._up(begun, wanted)
        except MigrationError as error:
            if not self._unattended or isinstance(error, TakenOver):
                raise
            reason = f"the deployment of {wanted} % failed, so nobody knows what the rule says: {error}"
            return self._decided(self._document(begun, wanted, Decision("rollback", (reason,)), readiness=before))
        if self._verifying is not None:
            self._verifying.begin(whole=ready.next_weight(wanted, self._config.canary_ladder) == 100)
        try:
            observed = Watch(self._stage, self._lock, wanted, self._tell, self._progress).run()
        except TakenOver as error:
            if error.goes_back:
                kept(self._stage)  # this copy of the file too, which a workflow commits
            raise
        decision = gates.decide(observed, self._config.gates, self._config.watch_seconds)
        if decision.verdict == "promote":
            # The way back may have broken under the watch: a trigger that was switched off, a column that came.
            observed = replace(observed, failing=self._not_ready(wanted))
            decision = gates.decide(observed, self._config.gates, self._config.watch_seconds)
        changed = [change.name for change in deployed.changes]
        return self._decided(self._document(begun, wanted, decision, observed, readiness=before, changed=changed))

    def _ready(self, wanted: int, *, whole: bool = False) -> Decision:
        """``whole``: every row must have been compared, as before the first user of a ladder and before the last."""
        seen = replace(readiness.observe(self._stage), whole=whole)
        if wanted < 100:
            seen = replace(seen, not_switched=())
        return ready.ready(seen, self._config)

    def _not_ready(self, wanted: int) -> tuple[str, ...]:
        """What a rollback needs and is not there, or who changed the weight meanwhile. Raises TakenOver."""
        if self._verifying is not None and (why := self._verifying.unfinished()) is not None:
            return (why,)
        try:
            seen = self._ready(wanted)
            self._lock.check()
            state = history.read(self._settings).state(
                self._stage.declared_weight(), self._stage.load_balancer.weight()
            )
            if (why := safety.unsafe(Transition.PROMOTE, state)) is not None:
                return (why,)
        except TakenOver:
            raise
        except MigrationError as error:
            return (f"whether a rollback would keep every write cannot be seen: {error}",)
        return seen.reasons if seen.verdict == "refused" else ()

    def _up(self, begun: int, wanted: int) -> UpResult:
        started = time.monotonic()
        with self._progress.work(f"deployment of {wanted} %", UP_SECONDS, "s"):
            deployed = bounded(
                lambda: self._stage.deployer.up({"canaryWeight": wanted}, only=guard.LIVE_RULE),
                UP_SECONDS,
                what=f"the deployment of {wanted} %",
                remedy="look at its backend; run the step again, or task-migration rollback --emergency",
            )
        self._stage.load_balancer.confirm(wanted)
        seconds = time.monotonic() - started
        self._still_wanted(begun, wanted)
        history.record(
            self._settings,
            Steps.CANARY,
            CanaryEvent.MOVED,
            **{"from": begun, "to": wanted, "seconds": round(seconds, 3), "changes": [c.urn for c in deployed.changes]},
        )
        self._tell(f"the live rule gives the Task Service {wanted} %, confirmed after {seconds:.1f} s")
        return deployed

    def _still_wanted(self, begun: int, wanted: int) -> None:
        """Undo the deployment when somebody rolled back while it ran: going back wins, whichever ended last.

        Raises:
            TakenOver: another operator acts now.
        """
        try:
            with suppress(DatabaseError):
                self._lock.check()
            back = self._so_far().unfinished != (begun, wanted)
            lost = TakenOver(f"a rollback was begun while the deployment of {wanted} % ran; the weight is 0 % again")
        except TakenOver as error:
            back, lost = error.goes_back, error
            if not back:
                raise
        if back:
            at_once(self._stage)
            # What the Task Service was told until now is proven by nobody yet.
            with suppress(MigrationError):
                history.record(self._settings, Steps.ROLLBACK, RollbackEvent.BEGUN, reasons=[str(lost)])
            raise lost

    def _so_far(self) -> history.History:
        """What the source has kept; while it is away the journal bears witness, which can only lead back."""
        try:
            return history.read(self._settings)
        except DatabaseError:
            with suppress(MigrationError):
                return history.history(self._settings.journal.events())
            return history.History()

    def _roll_back(self, reasons: tuple[str, ...], *, unattended: bool = True, decision: str | None = None) -> Rollback:
        if self._verifying is not None:
            self._verifying.close()
        return rollback.execute(
            self._stage,
            self._lock,
            reasons=reasons,
            unattended=unattended,
            decision=decision,
            progress=self._progress,
        )

    def _document(
        self, begun: int, wanted: int, decision: Decision, observed: Observed | None = None, **facts: Any
    ) -> CanaryStep:
        return CanaryStep(
            from_=begun,
            to=wanted,
            decision=decision.verdict,
            reasons=list(decision.reasons),
            seconds=round(time.monotonic() - self._started, 3),
            evidence=observed,
            findings=list(decision.findings),
            **facts,
        )

    def _refused(self, begun: int, wanted: int, text: str, **facts: Any) -> CanaryStep:
        return self._decided(self._document(begun, wanted, Decision("refused", (text,)), **facts))

    def _decided(self, document: CanaryStep) -> CanaryStep:
        """The decision kept, journaled, told to the topic and carried out: none of the first three stops a rollback."""
        rolling = document.decision == "rollback"
        try:
            document = document.model_copy(update={"document": self._kept(document)})
        except MigrationError as error:
            if not rolling:
                raise
            self._tell(f"the decision could not be kept, the rollback goes on: {error}")
        if rolling:
            # A rollback tells of itself when it is done: nothing may delay it.
            back = self._roll_back(tuple(document.reasons), decision=document.document)
            return document.model_copy(update={"rollback": back})
        subject = f"canary {document.from_} -> {document.to} %: {document.decision}"
        text = notices.decided(document, self._stage.notices.region, unattended=self._unattended)
        self._stage.notices.send(self._settings, subject, text)
        return document

    def _kept(self, document: CanaryStep) -> str:
        """Where the decision stands, with its evidence and limits, to be judged anew."""
        plain = document.plain()
        facts = {
            "project": PROJECT,
            "limits": self._config.gates.model_dump(by_alias=True),
            "watch_seconds": self._config.watch_seconds,
        }
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        location = decisions.keep(self._settings, at, {**plain, **facts})
        short = {key: plain[key] for key in ("from", "to", "decision", "reasons", "seconds")}
        history.record(self._settings, Steps.CANARY, CanaryEvent.DECIDED, **short, document=location)
        return location
