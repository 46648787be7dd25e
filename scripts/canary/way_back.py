"""The way back to the monolith: routes, drain, a fence, and the record of writes as the proof that every one arrived.

The routes go first, whatever state the data are in: a fence that does not return must not keep traffic on the side that
is being left.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

from scripts.canary import history, notices
from scripts.canary.documents import Moved, Phases, Rollback
from scripts.canary.stage import Emergency
from scripts.finish import rights
from scripts.replication import fence, untold
from scripts.support.console import say
from scripts.support.errors import DataDiffer, MigrationError, Refused
from scripts.support.events import RollbackEvent, Step
from scripts.support.progress import SILENT, Progress
from scripts.support.wait import bounded, wait_until
from scripts.verify import rollback_proof
from scripts.verify.documents import WritesProof

#: The Task Service must have had no request for so long, in seconds, where that can be seen.
QUIET_SECONDS = 1.0
#: Longest that the journal may keep a rollback waiting, in seconds.
JOURNAL_SECONDS = 10.0
#: Longest that a look at the monolith's rights may keep a rollback waiting, in seconds.
RIGHTS_SECONDS = 10.0
ZERO: Mapping[str, object] = {"canaryWeight": 0}


class WayBack(ABC):
    """One rollback of what ``at`` names. How the routes are moved differs with and without Pulumi."""

    def __init__(self, at: Emergency, progress: Progress = SILENT) -> None:
        self.at, self.settings, self.load_balancer = at, at.settings, at.load_balancer
        self.progress = progress
        self.limit = at.settings.config.rollback_limit_seconds
        self._started = time.monotonic()

    @abstractmethod
    def move(self) -> Moved:
        """Move the routes. Raises MigrationError: they are where they were."""

    def go(self, reasons: tuple[str, ...], stop_service: bool, decision: str | None = None) -> Rollback:
        """The whole of it, once; ``decision``: where the one that led to it is kept. Raises as :func:`scripts.canary.rollback.execute`."""
        self._started = time.monotonic()
        given_back = self._let_write()
        begun = self._weight()
        self._note(RollbackEvent.BEGUN, **{"from": begun, "reasons": list(reasons)})
        try:
            moved = self.move()
            self.load_balancer.confirm(0)
        except MigrationError as error:
            self._tell(f"rollback from {begun} %: the routes did NOT move", notices.not_moved(str(error)))
            raise
        routed = self._elapsed()
        self._note(RollbackEvent.ROUTED, seconds=round(routed, 3), **moved.plain())
        say(f"all routes are on the monolith after {routed:.1f} s, by {moved.by}", "green")
        try:
            # `finalize` may have taken them while the routes moved; from here whoever holds the lock is this command.
            given_back = self._let_write() or given_back
            drained, fenced, rows = self._prove()
        except MigrationError as error:
            self._note(RollbackEvent.UNPROVEN, reason=str(error))
            self._tell(f"rollback from {begun} %: routes moved, NOT proven", notices.unproven(str(error)))
            raise error.reworded(
                f"all routes are on the monolith since {routed:.1f} s, but it is not proven that every write arrived: {error}; keep both "
                "databases, mend replication, then run rollback again"
            ) from None
        if moved.config_set is False:
            # The lock that kept the configuration from being written may be gone by now.
            again = kept(self.at)
            moved = moved.model_copy(update={"config_set": again.config_set, "drift": again.drift})
        moved_again = self._held_there()
        if stop_service and (left := self._stop()):
            moved = moved.model_copy(update={"drift": "; ".join(filter(None, (moved.drift, left)))})
        seconds = self._elapsed()
        document = Rollback(
            from_=begun,
            to=0,
            decision="rollback",
            reasons=list(reasons) or ["asked for"],
            seconds=round(seconds, 3),
            limit_seconds=self.limit,
            within_limit=seconds <= self.limit,
            **dict(moved),
            moved_again=moved_again,
            rights_given_back=given_back,
            rows=rows,
            service_stopped=stop_service,
            phases=Phases(
                routed=round(routed, 3),
                drained=round(drained - routed, 3),
                fenced=round(fenced - drained, 3),
                compared=round(seconds - fenced, 3),
            ),
        )
        return self._ended(document, decision)

    def _ended(self, document: Rollback, decision: str | None) -> Rollback:
        """Told and journaled, and refused when it is not proven."""
        begun, proof = document.from_, document.rows
        text = notices.went_back(document, decision, self.at.notices.region)
        if not proof.proven:
            self._note(RollbackEvent.UNPROVEN, **document.plain())
            self._tell(f"rollback from {begun} %: NOT proven", text)
            raise DataDiffer(
                f"all routes are on the monolith since {document.phases.routed:.1f} s, but it is not proven that it has every write: "
                f"{proof.problem()}; keep both databases; look at `task-migration replicate status` and mend what it says, rows that differ by "
                "`task-migration verify --repair newest`, then rollback again"
            )
        self._note(RollbackEvent.DONE, **document.plain())
        self._tell(f"rollback from {begun} % done in {document.seconds:.0f} s", text)
        return document

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _left(self) -> float:
        """Seconds of the budget that are left, at least one."""
        return max(1.0, self.limit - self._elapsed())

    def _tell(self, subject: str, text: str) -> None:
        self.at.notices.send(self.settings, subject, text)

    def _note(self, event: RollbackEvent, **facts: object) -> None:
        """Keep and journal an event of the rollback; what cannot be written, or not now, stops no rollback."""

        def write() -> None:
            try:
                history.keep(self.settings, Step.ROLLBACK, event, facts)
            except MigrationError as error:
                say(f"not kept on the source, the rollback goes on: {error}", "yellow")
            self.settings.journal.record(Step.ROLLBACK, event, **facts)

        try:
            bounded(write, JOURNAL_SECONDS, what="writing the journal", remedy="look at TASK_MIGRATION_STATE_DIR")
        except (MigrationError, OSError) as error:
            say(f"not journaled, the rollback goes on: {error}", "yellow")

    def _let_write(self) -> bool:
        """Nobody is sent to a monolith that cannot write: whether rights were given back. Raises Refused when it cannot."""
        try:
            given = bounded(
                lambda: rights.give_back(self.settings),
                RIGHTS_SECONDS,
                what="the monolith's rights",
                remedy="look at the source",
            )
        except Refused:
            raise
        except (MigrationError, OSError) as error:
            say(f"whether the monolith can write is not known, the rollback goes on: {error}", "yellow")
            return False
        for statement in given:
            say(f"finalize had taken the monolith's rights; given back on the source: {statement}", "yellow")
        return bool(given)

    def _weight(self) -> int:
        """The weight that is left; that it is not known is no reason to wait."""
        weights = []
        for look in (self.at.declared_weight, self.load_balancer.weight):
            try:
                weights.append(look())
            except MigrationError as error:
                say(f"the weight is not known for sure, the rollback goes on: {error}", "yellow")
        return max(weights, default=0)

    def _prove(self) -> tuple[float, float, WritesProof]:
        """Drain, fence, compare: when the first two ended, in seconds from the begin, and the proof.

        Raises:
            MigrationError: of the kind of what failed.
        """
        with self.progress.work("drain", self.settings.config.drain_seconds, "s"):
            self._drain()
        drained = self._elapsed()
        with self.progress.work("fence", self._left(), "s"):
            fence.reverse(self.settings, timeout=self._left())
        fenced = self._elapsed()
        self._tell_losses()
        with self.progress.work("writes compared", None, "s"):
            return drained, fenced, rollback_proof.prove(self.settings, "target", self._left())

    def _tell_losses(self) -> None:
        """What the monolith wrote and nothing carries any more may have lost to the Task Service's writes: that is told before the proof."""
        try:
            told = bounded(
                lambda: untold.tell(self.settings),
                self._left() / 2,
                what="telling losses",
                remedy="look at both databases",
            )
        except MigrationError as error:
            say(f"whether the monolith's own last writes lost to others is not known: {error}", "yellow")
            return
        if told:
            say(
                f"{told:,} writes of the monolith, which never reached the Task Service, lost to its writes: each is told",
                "yellow",
            )

    def _drain(self) -> None:
        """Wait until no request is under way on the Task Service: seen where it can be seen, else the longest that one may take.

        Raises:
            TimedOut: requests are still seen when the budget is over.
        """
        wait, begun = self.settings.config.drain_seconds, time.monotonic()

        def look() -> tuple[float | None, float]:
            try:
                return self.at.idle_seconds(), time.monotonic() - begun
            except MigrationError:
                return None, time.monotonic() - begun

        wait_until(
            look,
            lambda seen: seen[0] >= QUIET_SECONDS if seen[0] is not None else seen[1] >= wait,
            what=f"no request on the Task Service for {QUIET_SECONDS:g} s",
            timeout=max(self._left(), wait + 1.0),
            remedy="the routes are on the monolith; look who still calls the Task Service directly",
        )

    def _held_there(self) -> bool:
        """Whether the rule had to be moved once more: a deployment that ran meanwhile may have raised the weight again."""
        if self.load_balancer.weight() == 0:
            return False
        self.load_balancer.to_monolith()
        wait_until(
            self.load_balancer.weight,
            lambda weight: weight == 0,
            what="the live rule at 0 %, for the second time",
            timeout=30.0,
            remedy="a deployment raises the weight: stop it (pulumi cancel), then roll back again",
        )
        return True

    def _stop(self) -> str | None:
        """Ask for no task, and declare none: autoscaling's least number, deployed again, would start the service.

        Returns what is left to be done when that cannot be written.
        """
        if self.at.service is None:
            raise MigrationError("there is no ECS service here to stop; leave --stop-service out")
        self.at.service.stop()
        try:
            self.at.configuration.keep({"serviceEnabled": False})
        except MigrationError as error:
            return f"serviceEnabled could NOT be set to false in the configuration ({error}): set it before the next `up`, or that may start the service"
        return None


def at_once(at: Emergency) -> Moved:
    """Change the rule by the API and keep weight 0 in the configuration, whichever of the two works."""
    at.load_balancer.to_monolith()
    return kept(at)


def kept(at: Emergency) -> Moved:
    """Weight 0 kept in the configuration, or what to do as it could not be."""
    try:
        at.configuration.keep(ZERO)
    except MigrationError as error:
        drift = (
            f"canaryWeight could NOT be set to 0 in the configuration ({error}): set it before the next `up`, or that raises the "
            "weight again"
        )
        return Moved(by="load balancer API", config_set=False, drift=drift)
    drift = (
        "Pulumi's state still has the old weight: the next `up` will show an update of the live rule to 0 % and change nothing "
        "at the load balancer; commit the stack's file, so that no other copy of it raises the weight again"
    )
    return Moved(by="load balancer API", config_set=True, drift=drift)
