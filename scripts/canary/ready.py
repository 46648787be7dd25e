"""Whether a weight may go up: the ladder, and whether a rollback from there would keep every write in time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from components.config import MigrationConfig
from components.config_gates import GateLimits
from scripts.canary.gates import Decision, Finding
from scripts.canary.limits import GB
from scripts.replication.documents import DirectionState
from scripts.support.figure import figure, short
from scripts.verify.verdict import Verdict


@dataclass(frozen=True)
class ServiceHealth:
    """What ECS and the load balancer say of the Task Service."""

    #: Tasks that there have to be, that ECS is asked for, that run, and that the load balancer finds healthy.
    least: int
    wanted: int
    running: int
    healthy: int
    #: Of the newest deployment: IN_PROGRESS, COMPLETED or FAILED (Amazon ECS, 'Deployment').
    rollout: str
    #: What runs that the stack does not declare, and what it declares: definitions with their images.
    other: tuple[str, str] | None = None
    #: What AWS says of tasks that do not run.
    why: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Each figure that keeps the service from taking requests, with its limit."""
        if not self.wanted:
            return ("no task is wanted",)
        figures = (("run", self.running), ("are healthy", self.healthy))
        found = [f"{count} tasks {what}, {self.least} must" for what, count in figures if not count >= self.least]
        if self.rollout != "COMPLETED":
            found.append(f"its deployment is {self.rollout}, it must be COMPLETED")
        if self.other:
            found.append("it runs {}, the stack declares {}".format(*self.other))
        return tuple(found)

    def __str__(self) -> str:
        return "; ".join((*self.problems, *self.why)) or f"{self.healthy} healthy tasks"


@dataclass(frozen=True)
class Shadowed:
    """The newest `shadow`: whether both sides answered the same, None when there was none, and how many hours ago."""

    match: bool | None
    hours: float = 0.0
    #: Whether the stack still declares the Task Service that was asked, and the target holds the copy that it read.
    same_service: bool = True
    same_copy: bool = True
    #: The task definition that was asked; None outside of AWS.
    definition: str | None = None


@dataclass(frozen=True)
class Readiness:
    """What a rollback would need, as seen before a weight goes up. None: could not be had."""

    forward: DirectionState
    reverse: DirectionState
    #: Seconds until what was written on the target could be read, value by value, on the source.
    probe_seconds: float | None
    #: None: the catalogs could not be compared.
    schema_match: bool | None
    #: What `replicate status` finds failing beside these.
    failing: tuple[str, ...]
    #: Lost writes that both sides' conflict logs tell of.
    told: int
    #: Of the newest `verify`; None when there was none.
    verified: Verdict | None
    #: None outside of AWS.
    service: ServiceHealth | None
    #: See :func:`rollback_estimate`.
    rollback_seconds: float | None
    #: None where none is wanted: users are on the Task Service already, or `requireShadow` is false.
    shadowed: Shadowed | None = None
    #: Schedulers that write on the monolith alone: at 100 % nobody does. None is asked for below.
    not_switched: tuple[str, ...] = ()
    #: Whether the verification must have compared every row.
    whole: bool = True

    def __post_init__(self) -> None:
        for name in ("probe_seconds", "rollback_seconds"):
            object.__setattr__(self, name, figure(getattr(self, name)))


#: A `shadow` counts for so long.
SHADOW_HOURS = 24.0
#: By how much the source's clock may have gone back since the last verification, seconds.
BACK_SECONDS = 60.0
#: Seconds of an `up` that nobody measured yet: a refresh-free `pulumi up` of one changed resource takes well under it.
UNMEASURED_UP = 60.0


def rollback_estimate(fence_seconds: float | None, ups: Iterable[float], drain_seconds: float) -> float | None:
    """How long a rollback would take, in seconds: the slowest deployment so far, the whole drain, two fences (the second
    for what was written between), or None when the fence did not return.

    Args:
        fence_seconds: the reverse fence, just measured.
        ups: what earlier deployments of a weight took; without any, :data:`UNMEASURED_UP`.
        drain_seconds: the longest that a request may be under way.
    """
    took = figure(fence_seconds)
    if took is None:
        return None
    return max((one for one in ups if figure(one) is not None), default=UNMEASURED_UP) + drain_seconds + 2 * took


def ready(seen: Readiness, config: MigrationConfig) -> Decision:
    """Whether a weight may go up: ``promote`` when a rollback would keep every write in time, else ``refused``."""
    findings = (
        *_replicates("forward", seen.forward, config.gates),
        *_replicates("reverse", seen.reverse, config.gates),
        *_agrees(seen, config.gates.replication_lag_seconds),
        _verified(seen.verified, config.verify_max_age_hours, whole=seen.whole),
        *_answers_alike(seen.shadowed),
        *_goes_back(seen, config.rollback_limit_seconds),
    )
    bad = tuple(finding.text for finding in findings if finding.state != "good")
    good = tuple(finding.text for finding in findings)
    return Decision("refused" if bad else "promote", bad or good, findings)


def _rule(name: str, good: bool, fine: str, bad: str) -> Finding:
    return Finding(name, "good", fine) if good else Finding(name, "breach", bad)


def _replicates(name: str, way: DirectionState, limits: GateLimits) -> Iterator[Finding]:
    """One direction runs, is near, and its slot is safe."""
    lag, took, slot = limits.replication_lag_seconds, figure(way.lag_seconds), way.slot
    kept, wal = (figure(slot.retained_bytes), slot.wal_status) if slot else (0.0, None)
    held = "an unknown amount" if kept is None else f"{short(kept / GB, 3)} GB"
    why = f" ({way.reason})" if way.reason else ""
    yield _rule(
        f"{name} direction",
        way.running,
        f"the {name} direction runs",
        f"the {name} direction of replication does not run{why}; remedy: task-migration replicate status, then replicate start",
    )
    yield _rule(
        f"{name} fence",
        took is not None and took < lag,
        f"the {name} fence took {took or 0:.2f} s, below {lag:g} s",
        f"the {name} fence {'did not return' if took is None else f'took {took:.2f} s'}, the limit is below {lag:g} s; wait "
        "until the lag is gone",
    )
    yield _rule(
        f"{name} slot",
        wal in (None, "reserved", "extended") and kept is not None and kept / GB < limits.slot_disk_gb,
        f"the {name} slot is {wal or 'not ours to hold'}, {held} of WAL held",
        f"the {name} slot is {wal} and holds {held} of WAL, it must be reserved or extended and below "
        f"{limits.slot_disk_gb:g} GB; see task-migration replicate status for why the worker is behind",
    )


def _agrees(seen: Readiness, lag: float) -> Iterator[Finding]:
    """What is written on the target arrives on the source, and the two sides say the same."""
    probe = seen.probe_seconds
    yield _rule(
        "synthetic write",
        probe is not None and probe < lag,
        f"a synthetic write on the target was read on the source after {probe or 0:.2f} s",
        f"a synthetic write on the target was {'not read' if probe is None else f'read after {probe:.2f} s'} on the source, the "
        f"limit is below {lag:g} s; a rollback would lose writes: task-migration replicate status",
    )
    yield _rule(
        "schema",
        seen.schema_match is True,
        "the two catalogs agree",
        f"the two catalogs {'could not be compared' if seen.schema_match is None else 'differ'}; remedy: task-migration schema diff",
    )
    yield _rule(
        "status",
        not seen.failing,
        "nothing else of replicate status fails",
        f"replicate status fails, nothing may: {'; '.join(seen.failing)}",
    )
    yield Finding("lost writes", "good", f"{seen.told:,} writes lost to others so far, each told in a conflict log")


def _verified(last: Verdict | None, limit: float, *, whole: bool) -> Finding:
    """Both sides were found equal, since the copy and not too long ago (``limit`` in hours); in every row if ``whole``."""
    if last is None:
        bad = "nothing was verified yet; remedy: task-migration verify"
    elif not last.of_this_copy:
        bad = "the last verification began before this copy was complete, it must begin after; remedy: task-migration verify"
    elif not last.match:
        bad = "the last verification found differences; mend them: task-migration verify --repair newest, then verify"
    elif not -BACK_SECONDS <= last.age_seconds < 3600 * limit:
        bad = f"the last verification began {last.age_seconds / 3600:,.1f} h ago, the limit is below {limit:g} h (verifyMaxAgeHours); remedy: task-migration verify"
    elif whole and not -BACK_SECONDS <= last.whole_seconds < 3600 * limit:
        bad = (
            f"the last verification of every row began {last.whole_seconds / 3600:,.1f} h ago, the limit is below {limit:g} h (verifyMaxAgeHours), and "
            "an incremental one does not stand for it; remedy: task-migration verify"
        )
    else:
        text = f"both sides were found equal {last.age_seconds / 3600:.1f} h ago, below {limit:g} h"
        return Finding("verification", "good", text)
    return Finding("verification", "breach", bad)


def _answers_alike(seen: Shadowed | None) -> Iterator[Finding]:
    """Before the first user: what users will read is what they read."""
    if seen is None:
        return
    young = -BACK_SECONDS / 3600 <= seen.hours < SHADOW_HOURS
    if seen.match is None:
        bad = "nobody has compared the two sides' answers yet"
    elif not seen.match:
        bad = f"the two sides' answers differed when they were compared {seen.hours:.1f} h ago"
    elif not seen.same_service:
        bad = "the two sides' answers were compared with another task definition than the stack declares"
    elif not seen.same_copy:
        bad = "the two sides' answers were compared before this copy was complete"
    else:
        bad = f"the two sides' answers were compared {seen.hours:.1f} h ago, the limit is below {SHADOW_HOURS:g} h"
    yield _rule(
        "shadow reads",
        seen.match is True and seen.same_service and seen.same_copy and young,
        f"both sides' answers were the same {seen.hours:.1f} h ago",
        f"{bad}; remedy: task-migration shadow --base-url URL --token-file FILE",
    )


def _goes_back(seen: Readiness, limit: float) -> Iterator[Finding]:
    """There is a service to send requests to, and a way back in time."""
    yield from (Finding("scheduler", "breach", text) for text in seen.not_switched)
    if seen.service is not None:
        yield _rule(
            "service",
            not seen.service.problems,
            f"the Task Service serves: {seen.service}",
            f"the Task Service is not ready for requests: {seen.service}; mend that, then task-migration canary start-service",
        )
    took = seen.rollback_seconds
    yield _rule(
        "rollback time",
        took is not None and took < limit,
        f"a rollback would take about {took or 0:.1f} s, below {limit:g} s",
        f"a rollback would take {'an unknown time' if took is None else f'about {took:.1f} s'}, the limit is below "
        f"{limit:g} s; lower drainSeconds, or find out why deployments or fences are slow",
    )


def next_weight(current: int, ladder: tuple[int, ...]) -> int | None:
    """The ladder's next weight above ``current`` (percent), or None at its end."""
    return next((weight for weight in ladder if weight > current), None)


def check_step(current: int, wanted: int, ladder: tuple[int, ...], *, forced: bool) -> Decision:
    """Whether a step from ``current`` to ``wanted`` (percent) is one of the ladder's. A way down is a rollback, not a step."""
    if wanted <= current:
        return Decision(
            "refused",
            (f"the weight is {current} %, {wanted} % is not above it; the way down is: task-migration rollback",),
        )
    following = next_weight(current, ladder)
    if wanted != following and not forced:
        return Decision(
            "refused",
            (
                f"from {current} % the ladder's next weight is {following} %, not {wanted} %; use it, or --force with --reason",
            ),
        )
    return Decision("promote", ())
