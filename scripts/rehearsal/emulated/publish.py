"""How the stand-ins of AWS's services publish their metrics: minute by minute, late, to the emulated account's CloudWatch."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: Names the seconds that the account's minute has: a rehearsal has no time for real ones.
MINUTE_VARIABLE = "EMULATED_MINUTE_SECONDS"
#: How late a minute is published, in minutes; AWS takes one or two, and a rehearsal has no time for these either.
LATE = (0.2, 0.5)


def minute_of(environment: Mapping[str, str]) -> int:
    """The seconds of the account's minute."""
    return int(environment.get(MINUTE_VARIABLE, "60"))


def late(minute: int) -> float:
    """How late this minute is published, in seconds."""
    return minute * random.uniform(*LATE)


class Minute:
    """What was measured in one minute, by metric."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Counter[float]]] = {}

    def add(self, namespace: str, metric: str, where: Mapping[str, str], value: float) -> None:
        """One more value; ``where`` are the metric's dimensions."""
        key = (metric, tuple(where.items()))
        self._values.setdefault(namespace, {}).setdefault(key, Counter())[value] += 1

    def put(self, client: Any, at: float) -> None:
        """Publish it by PutMetricData as the minute that began ``at`` (seconds since the epoch); each namespace comes as a whole.

        Raises:
            BotoCoreError, ClientError: the account does not answer.
        """
        # API Gateway's last: where it tells of requests, the load balancer's figures are there.
        for namespace, metrics in sorted(self._values.items(), reverse=True):
            data = [
                {
                    "MetricName": metric,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in where],
                    "Timestamp": datetime.fromtimestamp(at, UTC),
                    "Values": list(values),
                    "Counts": [float(count) for count in values.values()],
                }
                for (metric, where), values in metrics.items()
            ]
            client.put_metric_data(Namespace=namespace, MetricData=data)
