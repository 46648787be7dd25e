"""What every scenario acts on: a rehearsal at work, the commands of its operators, and what is measured from the fault on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from pydantic import ValidationError

from scripts.canary.documents import CanaryStep, Rollback
from scripts.copy.documents import Copy
from scripts.deployment.stack_file import StackFile
from scripts.rehearsal.app.faults import Fault
from scripts.rehearsal.databases import SOURCE_DATABASE, TARGET_DATABASE
from scripts.rehearsal.documents import Criterion, ScenarioOutcome, Users
from scripts.rehearsal.plan import STACK
from scripts.rehearsal.steps import Ran, Steps
from scripts.rehearsal.testbed import PATIENT
from scripts.replication.documents import Started, Waited
from scripts.report.documents import MarkKind
from scripts.schema.documents import SchemaApplied
from scripts.support import private
from scripts.support.errors import MigrationError
from scripts.support.events import CanaryEvent, RollbackEvent, Step
from scripts.support.journal import FileJournal, moment
from scripts.support.redact import redact
from scripts.support.sides import Side
from scripts.support.wait import wait_until
from scripts.verify.documents import Verification

#: A watch that breaches ends at once: so many times the plan's it lasts only where nothing is seen.
LONG = 3.0
#: Percent that a scenario's step gives the Task Service.
WEIGHT = 25


@dataclass
class Found:
    """What was measured of one scenario so far: moments in seconds since the epoch; see :class:`ScenarioOutcome`."""

    at: float | None = None
    detected: float | None = None
    by: str = ""
    decided: float | None = None
    decision: str = ""
    routed: float | None = None
    over: float | None = None
    outcome: str = ""
    shown: list[Criterion] = field(default_factory=list)
    #: The step's own document, of those that took one.
    document: CanaryStep | None = None


class Night:
    """One rehearsal with a load; a scenario after the other may use it, each from :meth:`begin` on."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.bed, self.view = steps, steps.testbed, steps.view
        self.journal = FileJournal(self.bed.state_dir)
        self.found = Found()
        self._copied = False

    # -- before -------------------------------------------------------------------------------------------------------

    def begin(self, *, replicating: bool) -> None:
        """Weight 0, no fault, everybody healthy; ``replicating``: both directions run and every row was compared, else nothing is copied."""
        self.found = Found()
        self.configure(requireShadow=False, canaryLadder=[10, WEIGHT, 50, 100])
        if self._copied and self.weight:
            self.steps.command(Rollback, "rollback", "--reason", "the next scenario begins at 0 %")
        if self._copied and not replicating:
            self.steps.run("rollback", "--scenario", "copy", "--reason", "the next scenario begins before the copy")
            self._copied = False
        if replicating and not self._copied:
            self.steps.command(SchemaApplied, "schema", "apply")
            self.steps.command(Copy, "copy")
            self.replicate()

    def replicate(self) -> None:
        """From a complete copy on: both directions, and every row compared."""
        self.steps.command(Started, "replicate", "start")
        self.steps.command(Verification, "verify")
        self._copied = True

    @property
    def weight(self) -> int:
        """Percent that the live rule gives the Task Service now."""
        weights = self.bed.stats(time.time())["weights"]
        return round(100 * weights.get(self.bed.task_group, 0) / sum(weights.values())) if weights else 0

    def configure(self, **config: Any) -> None:
        """Other values for the commands; of `gates` those that are named, beside what is patient with a busy machine."""
        file = StackFile(STACK, self.bed.directory)
        gates = {**file.config()["gates"], **PATIENT, "tailRequests": 20, **config.pop("gates", {})}
        file.keep({**config, "gates": gates})

    # -- the fault and what follows it --------------------------------------------------------------------------------

    def fault(self, text: str, inject: Callable[[], object]) -> None:
        """Bring it about: everything is counted from here."""
        self.found.at = time.time()
        self._mark("fault", text, self.found.at)
        inject()

    def seen(self, by: str, at: float | None = None) -> None:
        """The product has said what is wrong, in these words; the first time counts."""
        if self.found.detected is None:
            self.found.detected, self.found.by = at or time.time(), redact(by)
            self._mark("breach", self.found.by, self.found.detected)

    def seen_at(self, event: dict[str, Any], by: str) -> None:
        """As :meth:`seen`, at that event of the journal."""
        self.seen(by, moment(event))

    def decided(self, decision: str, at: float | None = None) -> None:
        """The product has decided what to do."""
        self.found.decided, self.found.decision = at or time.time(), decision

    def over(self, outcome: str) -> None:
        """All is as it should be again, for users and writes."""
        self.found.over, self.found.outcome = time.time(), outcome
        self._mark("other", outcome, self.found.over)

    def show(self, name: str, passed: bool, evidence: str) -> None:
        """Something that this scenario alone has to show."""
        self.found.shown.append(Criterion(name=name, passed=passed, evidence=redact(evidence)))

    def _mark(self, kind: MarkKind, text: str, at: float) -> None:
        self.view.mark(kind, text, at)
        self.view.event(f"{kind}: {text}")

    # -- commands -----------------------------------------------------------------------------------------------------

    def stepped(
        self, text: str, inject: Callable[[], object], *, how: tuple[str, ...] = (), watch: float = LONG, sign: str | None = None,
        **config: Any,
    ) -> Ran:  # fmt: skip
        """`canary step` to 25 % (or what ``how`` says) with the fault as soon as requests come there; what it came to is measured.

        Args:
            watch: how long it watches, in watches of the plan.
            sign: what the command says before it decides; by default the decision is the first that is seen.
        """
        self.configure(watchSeconds=watch * self.bed.plan.watch, **config)
        how = how or ("step", "--to", str(WEIGHT), "--force", "--reason", text)
        since = time.time()
        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(self.steps.run, "canary", *how)
            self.serves(since, going)
            self.fault(text, inject)
            if sign is not None:
                self.said(f"canary-{how[0]}", sign, going)
            ran = going.result()
        self.read(ran)
        return ran

    def serves(self, since: float, going: Future[Ran]) -> None:
        """Returns when the live rule has 25 % and the Task Service has had requests since. Raises MigrationError when the step ended before."""
        group = self.bed.task_group

        def there() -> bool:
            stats = self.bed.stats(since)
            return bool(stats["weights"].get(group) == WEIGHT and stats["target_groups"][group]["requests"] > 5)

        wait_until(
            lambda: going.done() or there(), bool, what=f"requests on the Task Service at {WEIGHT} %", timeout=120.0
        )
        if going.done():
            raise MigrationError(f"the step ended before the fault: {going.result().said[-1000:]}")

    def said(self, log: str, sign: str, going: Future[Ran]) -> None:
        """Wait until a command says ``sign``, or ends without."""
        path = self.bed.logs / f"{log}.log"
        before = path.stat().st_size

        def line() -> str:
            lines = path.read_bytes()[before:].decode(errors="replace").splitlines()
            return next((one.strip() for one in lines if sign in one), "")

        found = wait_until(lambda: line() or going.done(), bool, what=sign, timeout=180.0, interval=0.1)
        if isinstance(found, str):
            self.seen(found)

    def read(self, ran: Ran, kind: type[CanaryStep] = CanaryStep) -> None:
        """What a command decided and did since the fault, by the journal; how a rollback ended, by its document."""
        found = self.found
        with suppress(ValidationError):
            found.document = kind.model_validate_json(ran.answer)
        if decided := self.event(Step.CANARY, CanaryEvent.DECIDED):
            self.seen("; ".join(decided["reasons"]), moment(decided))
            self.decided(decided["decision"], moment(decided))
        if routed := self.event(Step.ROLLBACK, RollbackEvent.ROUTED):
            found.routed = moment(routed)
            self._mark("rollback", f"all routes on the monolith, by {routed['by']}", found.routed)
        if found.document is not None and (back := found.document.rollback) is not None:
            self.steps.evidence.rollback = back
            if back.rows.proven and back.within_limit:
                self.over(
                    f"all requests on the monolith by {back.by}, which has every write: {back.rows.checked} looked up"
                )

    def event(self, step: Step, event: str, since: float | None = None) -> dict[str, Any] | None:
        """The newest such event of the journal since then (seconds since the epoch), or since the fault."""
        since = self.found.at or 0.0 if since is None else since
        found = [one for one in self.journal.events(step) if one["event"] == event and moment(one) >= since]
        return found[-1] if found else None

    def equal(self, name: str) -> bool:
        """Whether both directions run, and every row is the same on both sides; that is shown."""
        self.steps.command(Waited, "replicate", "wait")
        ran = self.steps.run("verify")
        self.show(name, ran.status == 0, "verify: every row of both sides equal" if not ran.status else ran.last)
        return ran.status == 0

    # -- the account and the application ------------------------------------------------------------------------------

    def release(self, fault: Fault | None) -> None:
        """The Task Service's release is this wrong from now on, or whole again."""
        if fault is None:
            self.bed.fault_file.unlink(missing_ok=True)
        else:
            private.write(self.bed.fault_file, json.dumps(fault))

    def desired(self, tasks: int) -> None:
        """How many tasks ECS is asked for."""
        outputs = self.bed.outputs
        self.bed.aws.client("ecs").update_service(
            cluster=outputs["clusterArn"], service=outputs["serviceName"], desiredCount=tasks
        )

    # -- after --------------------------------------------------------------------------------------------------------

    def outcome(self, name: str, what: str, must: str) -> ScenarioOutcome:
        """What became of it, with what users saw until now."""
        found = self.found

        def after(at: float | None) -> float | None:
            return None if at is None or found.at is None else round(at - found.at, 2)

        begun = found.at if found.at is not None else time.time()
        # Who was being answered when it ended belongs to what went before.
        total, last = (self.bed.stats(since)["total"] for since in (begun, (found.over or time.time()) + 0.5))
        return ScenarioOutcome(
            name=name, what=what, must=must, at=found.at, detected=after(found.detected), by=found.by, decided=after(found.decided),
            decision=found.decision, routed=after(found.routed), over=after(found.over), outcome=found.outcome,
            users=Users(
                requests=total["requests"], failed=total["5xx"], p95_ms=total["p95_ms"],
                codes={code: count for code, count in sorted(total["codes"].items()) if int(code) >= 500},
                requests_after=last["requests"], failed_after=last["5xx"],
            ),
            shown=found.shown,
        )  # fmt: skip


def superuser(night: Night, side: Side) -> psycopg.Connection[Any]:
    """A session of a side's superuser, whom nothing of ours keeps from anything."""
    database = SOURCE_DATABASE if side == "source" else TARGET_DATABASE
    return psycopg.connect(night.bed.databases.server(side).url(database), autocommit=True)
