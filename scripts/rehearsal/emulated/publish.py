"""How the stand-ins of AWS's services publish their metrics: minute by minute, late, to the emulated account's CloudWatch."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

log = logging.getLogger(__name__)

#: Names the seconds that the account's minute has: a rehearsal has no time for real ones.
MINUTE_VARIABLE = "EMULATED_MINUTE_SECONDS"
#: How late a minute is published, in minutes; AWS takes one or two, and a rehearsal has no time for these either.
LATE = (0.2, 0.5)


def minute_of(environment: Mapping[str, str]) -> int:
    """The seconds of the account's minute."""
    return int(environment.get(MINUTE_VARIABLE, "60"))


class Minute:
    """What was measured in one minute, by metric."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Counter[float]]] = {}

    def add(self, namespace: str, metric: str, where: Mapping[str, str], value: float) -> None:
        """One more value, where it is one; ``where`` are the metric's dimensions."""
        if not math.isfinite(value):
            return
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


class Publisher:
    """Publishes each of the account's minutes when it is over, and late, from a thread, until it is stopped. What cannot be had is
    missing, as with AWS.

    Args:
        minute: the account's, in seconds.
        measure: puts what was measured into a minute, whose begin it is given.
    """

    def __init__(self, cloudwatch: Any, minute: int, measure: Callable[[Minute, float], None]) -> None:
        self._cloudwatch, self._minute, self._measure = cloudwatch, minute, measure
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; safe to call twice."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        begin = time.time() // self._minute * self._minute
        while not self._stopped.wait(max(0.0, begin + self._minute - time.time())):
            minute, late = Minute(), self._minute * random.uniform(*LATE)
            try:
                self._measure(minute, begin)
                if self._stopped.wait(max(0.0, begin + self._minute + late - time.time())):
                    return
                minute.put(self._cloudwatch, begin)
            except (BotoCoreError, ClientError) as error:
                log.warning("metrics of a minute are missing: %s", error)
            begin += self._minute
