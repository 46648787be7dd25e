"""Whether the product reacted to a fault as its users need it to: a pure function of what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from scripts.rehearsal.criteria import kept
from scripts.rehearsal.documents import Criterion, LedgerCheck, ScenarioOutcome

#: Seconds that a machine whose cores are busy may take longer than the rules say.
BUSY = 8.0

#: The criteria of time.
DETECTED, OVER = "detected in time, by what was wrong", "over in time"


@dataclass(frozen=True)
class Must:
    """What has to be seen of a fault."""

    #: One of these is what the product decides.
    decision: frozenset[str]
    #: What its words about the fault have to hold, a regular expression.
    by: str
    #: It is seen within so many bad periods of the figures, or, without them, within so many ``seconds``.
    periods: float | None = None
    seconds: float = 10.0
    #: Seconds from the fault until all is over: users are served by a side that works, and every write is accounted for.
    over: float = 120.0
    #: Server errors that users may get meanwhile.
    codes: frozenset[int] = frozenset()

    def within(self, minute: float) -> float:
        """Seconds in which it has to be seen: the bad periods, the one that the fault came into, their lateness, a look."""
        return BUSY + (self.seconds if self.periods is None else (self.periods + 2.5) * minute + 1.0)


def judge(
    outcome: ScenarioOutcome, must: Must, ledger: LedgerCheck | None, minute: float, *, busy: bool = False
) -> list[Criterion]:
    """The criteria of one scenario, each with what was measured.

    Args:
        minute: seconds that AWS's minute had.
        busy: others kept the machine busy since the fault, so that what came late alone is not judged.
    """
    late = {
        DETECTED: outcome.detected is not None and re.search(must.by, outcome.by) is not None,
        OVER: outcome.over is not None,
    }
    return [
        Criterion(name=name, passed=passed, judged=passed or not (busy and late.get(name, False)), evidence=evidence)
        for name, passed, evidence in (
            _detected(outcome, must, minute),
            _decided(outcome, must),
            _over(outcome, must),
            *_users(outcome, must),
            ("no acknowledged write lost unsaid", *kept(ledger)),
        )
    ] + list(outcome.shown)


def _at(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s after the fault"


def _detected(seen: ScenarioOutcome, must: Must, minute: float) -> tuple[str, bool, str]:
    limit = must.within(minute)
    return (
        DETECTED,
        seen.detected is not None and seen.detected <= limit and re.search(must.by, seen.by) is not None,
        f"{_at(seen.detected)} (limit {limit:.1f} s), by: {seen.by or 'nothing'}",
    )


def _decided(seen: ScenarioOutcome, must: Must) -> tuple[str, bool, str]:
    wanted = " or ".join(sorted(must.decision))
    return (
        "decided as it should",
        seen.decided is not None and seen.decision in must.decision,
        f"{seen.decision or 'nothing'}, {_at(seen.decided)}; wanted: {wanted}",
    )


def _over(seen: ScenarioOutcome, must: Must) -> tuple[str, bool, str]:
    return (
        OVER,
        seen.over is not None and seen.over <= must.over,
        f"{_at(seen.over)} (limit {must.over:g} s): {seen.outcome or 'it did not end'}",
    )


def _users(seen: ScenarioOutcome, must: Must) -> Iterator[tuple[str, bool, str]]:
    users = seen.users
    codes = ", ".join(f"{count} with {code}" for code, count in users.codes.items()) or "none failed"
    expected = ", ".join(map(str, sorted(must.codes))) or "none"
    yield (
        "users saw nothing else",
        users.requests > 0 and {int(code) for code in users.codes} <= must.codes,
        f"of {users.requests:,} requests since the fault: {codes}; expected codes: {expected}",
    )
    yield (
        "users are served when it is over",
        users.requests_after > 0 and users.failed_after == 0,
        f"{users.failed_after:,} of {users.requests_after:,} requests failed after it",
    )
