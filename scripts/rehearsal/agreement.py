"""Whether the figures that a gate decided on are those of the requests that the gateway answered.

The gate has them from CloudWatch, by metrics, dimensions and statistics; the gateway counts its own. A figure that is asked for wrongly
looks well as long as all goes well, and is missed on the one night that it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.canary.figures import LATENCIES, Period, Traffic

#: Milliseconds that rounding on either way may make.
ROUNDING = 0.02


def differences(
    periods: Sequence[Period], measured: Sequence[Mapping[str, Any]], task_group: str, monolith_group: str
) -> list[str]:
    """Each figure that is another one, or is missing, with both values.

    Args:
        measured: the same periods as ``/__gateway/stats`` has them.
    """
    by_begin = {float(one["at"]): one for one in measured}
    found = []
    for period in periods:
        seen = by_begin.get(period.at, {"target_groups": {}})
        for name, traffic, figures in (
            ("the Task Service", period.task_service, seen["target_groups"].get(task_group)),
            ("the monolith", period.monolith, seen["target_groups"].get(monolith_group)),
            ("users", period.users, seen.get("api")),
        ):
            one, other = _figures(traffic), _measured(figures)
            near = len(one) == len(other) and all(abs(a - b) <= ROUNDING for a, b in zip(one, other, strict=True))
            if not near:
                found.append(f"{name} in the period from {period.at:.0f}: {one} instead of {other}")
    return found


def _figures(traffic: Traffic | None) -> list[float]:
    """Requests, errors, refusals and latencies in ms; nothing of no request."""
    if traffic is None or not traffic.requests:
        return []
    counts = (traffic.requests, traffic.errors, traffic.refusals)
    return [*counts, *(getattr(traffic, name) or 0.0 for name in LATENCIES)]


def _measured(figures: Mapping[str, Any] | None) -> list[float]:
    if not figures or not figures["requests"]:
        return []
    return [*(figures[name] for name in ("requests", "5xx", "4xx")), *(figures[name] or 0.0 for name in LATENCIES)]
