"""What the gateway measures: one sample per answered request, and the figures of a window of them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, Literal, NamedTuple

from scripts.rehearsal.emulated.metric_math import percentile

#: At 100 requests/s this holds more than half an hour.
CAPACITY = 200_000


#: How far a request came: API Gateway answered it; the load balancer did, without a target; no connection to the target was to
#: be had; the connection broke or took too long; the target answered.
Outcome = Literal["api", "balancer", "unreachable", "broken", "target"]
#: Those in which a target was chosen.
CHOSEN: tuple[Outcome, ...] = ("unreachable", "broken", "target")


class Sample(NamedTuple):
    """One answered request. ``group`` is the target group's ARN, None when the gateway itself answered."""

    at: float
    group: str | None
    rule: str | None
    #: What the client got, and after how long.
    status: int
    milliseconds: float
    outcome: Outcome = "target"
    #: The status that the load balancer made up itself, None where it did not: 460 where the API gave up on it.
    balancer: int | None = None
    #: What the target took.
    target_ms: float | None = None
    #: False for what was sent to the load balancer past the API.
    through_api: bool = True
    #: Whether a cookie, and not the weights, chose the group: a user who comes back.
    bound: bool = False


def _figures(samples: Sequence[Sample], of_target: bool = False) -> dict[str, Any]:
    """With ``of_target`` the times are the target's alone, and what it did not answer is one more error."""
    every = [sample.target_ms if of_target else sample.milliseconds for sample in samples]
    times = sorted(one for one in every if one is not None)

    def failed(sample: Sample) -> bool:
        return sample.status >= 500 or (of_target and sample.outcome != "target")

    def rounded(share: float) -> float | None:
        value = percentile(times, share)
        return None if value is None else round(value, 2)

    return {
        "requests": len(samples),
        "5xx": sum(map(failed, samples)),
        "4xx": sum(400 <= sample.status < 500 for sample in samples),
        **{f"p{share}_ms": rounded(share) for share in (50, 95, 99)},
    }


def _parts(samples: Sequence[Sample], groups: Iterable[str]) -> dict[str, Any]:
    """What the API and each target group answered."""
    return {
        "api": _figures([one for one in samples if one.through_api]),
        "target_groups": {
            group: _figures([one for one in samples if one.group == group and one.outcome in CHOSEN], of_target=True)
            for group in groups
        },
    }


def _shares(samples: Sequence[Sample], groups: Iterable[str]) -> dict[str, float]:
    """The part of the samples, 0 to 1, that each group had; empty without samples."""
    counts = Counter(sample.group for sample in samples)
    return {group: round(counts[group] / len(samples), 4) for group in groups} if samples else {}


class Stats:
    """Samples of the newest requests, and what is in flight."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=CAPACITY)
        self._last_request: dict[tuple[str, str], float] = {}
        self._in_flight: Counter[str] = Counter()

    def begin(self, group: str, rule: str, at: float) -> None:
        """A request goes to this target group by this rule. ``at`` is in seconds since the epoch."""
        self._in_flight[group] += 1
        self._last_request[group, rule] = at

    def _last(self, group: str, rule: str | None = None) -> float | None:
        times = [at for (to, by), at in self._last_request.items() if to == group and rule in (None, by)]
        return max(times, default=None)

    def end(self, group: str) -> None:
        """The request that :meth:`begin` counted was answered or failed."""
        self._in_flight[group] -= 1

    def record(self, sample: Sample) -> None:
        """One request was answered."""
        self._samples.append(sample)

    def minute(self, begin: float, seconds: float) -> list[Sample]:
        """The requests answered in so many ``seconds`` from ``begin`` (since the epoch) on."""
        found = []
        for sample in reversed(self._samples.copy()):  # a thread asks too, while requests are noted
            if sample.at < begin - 1.0:  # answers are noted in order, but for a moment
                break
            if begin <= sample.at < begin + seconds:
                found.append(sample)
        return found

    def window(self, since: float, groups: Sequence[str], live_rule: str | None) -> dict[str, Any]:
        """The figures of requests answered from ``since`` (seconds since the epoch) on.

        ``share`` and ``share_of_new`` count only requests that the live rule sent, so that smoke checks do not blur them.
        """
        samples = self.minute(since, inf)
        live = [sample for sample in samples if sample.group is not None and sample.rule == live_rule]
        found = _parts(samples, groups)
        for group, figures in found["target_groups"].items():
            figures["in_flight"] = self._in_flight[group]
            figures["last_request_at"] = self._last(group)
            # Smoke checks left out: it tells when the last request of the live traffic went there.
            figures["last_live_request_at"] = self._last(group, live_rule) if live_rule else None
        # Of those for whom the weights chose: users who were new, or who keep no cookie.
        new = [sample for sample in live if not sample.bound]
        total = {**_figures(samples), "codes": Counter(sample.status for sample in samples)}
        return {**found, "total": total, "share": _shares(live, groups), "share_of_new": _shares(new, groups)}

    def periods(self, begins: Sequence[float], seconds: float, groups: Sequence[str]) -> list[dict[str, Any]]:
        """The figures of each period of so many ``seconds`` that begins there (since the epoch)."""
        return [{"at": at, **_parts(self.minute(at, seconds), groups)} for at in begins]
