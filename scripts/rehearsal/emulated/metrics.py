"""CloudWatch of the emulated account: what the stand-ins of AWS's services publish (`publish`), and GetMetricData as AWS answers it.

moto's own keeps each value by itself and looks through all of them for each query and period; it knows no percentile and no metric
math, and lets a period begin where the question does. Here a metric's values are kept by the account's minute.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch import models
from moto.cloudwatch.exceptions import InvalidParameterValue, ValidationError

from scripts.rehearsal.emulated.metric_math import Series, calculate, percentile
from scripts.rehearsal.emulated.publish import minute_of

#: A team's own namespace, in which a rehearsal says by PutMetricData what is wrong with another one: its name as the only dimension,
#: as metric one of FAULTS, as value 1 or 0.
FAULTY = "Emulated/Faults"
#: Nothing new is kept of it; half of what there is is answered, as partial; a failure is answered.
FAULTS = ("Withheld", "PartialData", "InternalError")
#: What AWS publishes of what the product looks at, by namespace and dimensions: Elastic Load Balancing, 'CloudWatch metrics for your
#: Application Load Balancer'; API Gateway, 'Working with metrics for HTTP APIs'; Amazon ECS, 'CloudWatch metrics'; Amazon RDS,
#: 'CloudWatch metrics for Amazon RDS'; AWS DMS, 'Monitoring AWS DMS tasks'.
_OF_TARGETS = (
    "RequestCount TargetConnectionErrorCount TargetResponseTime HTTPCode_Target_2XX_Count HTTPCode_Target_3XX_Count "
    "HTTPCode_Target_4XX_Count HTTPCode_Target_5XX_Count"
)
_OF_API = "Count 4xx 5xx Latency IntegrationLatency DataProcessed"
PUBLISHED: Mapping[tuple[str, ...], str] = {
    ("AWS/ApplicationELB", "LoadBalancer"): f"{_OF_TARGETS} HTTPCode_ELB_3XX_Count HTTPCode_ELB_4XX_Count "
    "HTTPCode_ELB_5XX_Count HTTPCode_ELB_500_Count HTTPCode_ELB_502_Count HTTPCode_ELB_503_Count HTTPCode_ELB_504_Count",
    ("AWS/ApplicationELB", "LoadBalancer", "TargetGroup"): f"{_OF_TARGETS} HealthyHostCount UnHealthyHostCount",
    ("AWS/ApiGateway", "ApiId"): _OF_API,
    ("AWS/ApiGateway", "ApiId", "Stage"): _OF_API,
    ("AWS/ApiGateway", "ApiId", "Method", "Resource", "Stage"): _OF_API,
    ("AWS/ECS", "ClusterName", "ServiceName"): "CPUUtilization MemoryUtilization",
    ("AWS/RDS", "DBInstanceIdentifier"): "CPUUtilization DatabaseConnections FreeStorageSpace OldestReplicationSlotLag "
    "TransactionLogsDiskUsage",
    ("AWS/DMS", "ReplicationInstanceIdentifier"): "FreeStorageSpace",
    ("AWS/DMS", "ReplicationInstanceIdentifier", "ReplicationTaskIdentifier"): "CDCLatencySource CDCLatencyTarget",
}
Dimensions = Iterable[tuple[str, str]]


def statistic(name: str, values: Sequence[float]) -> float:
    """One of CloudWatch's statistics of a period's values, which are not none.

    Raises:
        InvalidParameterValue: it is none, or none that is known here.
    """
    match name:
        case "Sum":
            return sum(values)
        case "SampleCount":
            return float(len(values))
        case "Average":
            return sum(values) / len(values)
        case "Minimum":
            return min(values)
        case "Maximum":
            return max(values)
    if re.fullmatch(r"p\d{1,2}(\.\d+)?", name) and (found := percentile(sorted(values), float(name[1:]))) is not None:
        return found
    raise InvalidParameterValue(f"The value {name} for parameter Stat is not supported.")


def known(namespace: str, metric: str, dimensions: Dimensions) -> None:
    """On AWS one that nobody publishes is no error: a figure that is always missing, and an alarm that is always quiet.

    Raises:
        ValidationError: it is such a one.
    """
    names = sorted(name for name, _ in dimensions)
    if namespace.startswith("AWS/") and metric not in PUBLISHED.get((namespace, *names), "").split():
        raise ValidationError(
            f"AWS publishes no metric {metric} in {namespace} with the dimensions {', '.join(names) or 'none'}; correct the "
            "query, or teach it in scripts/rehearsal/emulated/metrics.py"
        )


def _pairs(dimensions: Iterable[Any]) -> list[tuple[str, str]]:
    """Dimensions as a call has them, and as moto keeps an alarm's."""
    return [(one["Name"], one["Value"]) if isinstance(one, Mapping) else (one.name, one.value) for one in dimensions]


class Metrics(models.CloudWatchBackend):
    """moto's CloudWatch with metrics."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._minute = minute_of(os.environ)
        self._lock = threading.Lock()
        self._values: dict[tuple[str, str, frozenset[tuple[str, str]]], dict[float, list[float]]] = {}
        self._faults: dict[str, str] = {}

    def put_metric_data(self, namespace: str, metric_data: list[dict[str, Any]]) -> None:
        """AWS keeps namespaces that begin with ``AWS/`` to its services; here the stand-ins of these publish in them."""
        with self._lock:
            for datum in metric_data:
                dimensions = _pairs(datum.get("Dimensions") or ())
                values = [float(one) for one in datum.get("Values") or [datum["Value"]]]
                if not all(map(math.isfinite, values)):
                    # CloudWatch API reference, 'MetricDatum': NaN and the infinite ones are not supported.
                    raise InvalidParameterValue(
                        f"The value {values} for parameter MetricData.member.Values is invalid."
                    )
                if namespace == FAULTY:
                    self._fault(dimensions[0][1], datum["MetricName"], bool(values[0]))
                    continue
                known(namespace, datum["MetricName"], dimensions)
                if self._faults.get(namespace) == "Withheld":
                    continue
                at = _seconds(datum.get("Timestamp") or datetime.now(UTC))
                key = (namespace, datum["MetricName"], frozenset(dimensions))
                kept = self._values.setdefault(key, {}).setdefault(at - at % self._minute, [])
                for value, count in zip(values, datum.get("Counts") or [1] * len(values), strict=True):
                    kept += [value] * int(count)

    def _fault(self, namespace: str, fault: str, on: bool) -> None:
        if fault not in FAULTS:
            raise ValidationError(f"{fault} is no fault; there are {', '.join(FAULTS)}")
        self._faults.pop(namespace, None)
        if on:
            self._faults[namespace] = fault

    def get_metric_data(
        self,
        queries: list[dict[str, Any]],
        start_time: datetime,
        end_time: datetime,
        scan_by: str = "TimestampDescending",
    ) -> list[dict[str, Any]]:
        """The start rounded down to a minute, the end exclusive, gaps left out (CloudWatch API reference, 'GetMetricData')."""
        begin, end = _seconds(start_time), _seconds(end_time)
        if begin >= end:
            raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
        begin -= begin % self._minute
        found: dict[str, Series] = {}
        statuses: dict[str, str] = {}
        for query in queries:
            key = query["Id"]
            if "MetricStat" in query:
                found[key] = self._series(query["MetricStat"], begin, end)
                fault = self._faults.get(query["MetricStat"]["Metric"]["Namespace"])
                if fault in ("PartialData", "InternalError"):
                    statuses[key] = fault
                    found[key] = dict(list(found[key].items())[::2]) if fault == "PartialData" else {}
        for query in queries:
            if "Expression" in query:
                found[query["Id"]] = self._calculated(query, queries, found, begin, end)
        newest_first = scan_by == "TimestampDescending"
        return [
            {
                "id": query["Id"],
                "label": query.get("Label") or query["Id"],
                "timestamps": [datetime.fromtimestamp(at, UTC) for at in stamps],
                "values": [found[query["Id"]][at] for at in stamps],
                "status_code": statuses.get(query["Id"], "Complete"),
            }
            for query in queries
            if query.get("ReturnData", True)
            for stamps in (sorted(found[query["Id"]], reverse=newest_first),)
        ]

    def get_metric_statistics(
        self,
        namespace: str,
        metric_name: str,
        start_time: datetime,
        end_time: datetime,
        period: int,
        stats: list[str],
        dimensions: list[dict[str, str]],
        unit: str | None = None,
    ) -> Any:
        """As :meth:`get_metric_data`, of one metric."""
        asked = {"Namespace": namespace, "MetricName": metric_name, "Dimensions": dimensions}
        begin, end = _seconds(start_time), _seconds(end_time)
        points: dict[float, dict[str, Any]] = {}
        for name in stats:
            key = "sample_count" if name == "SampleCount" else name.lower()
            found = self._series({"Metric": asked, "Period": period, "Stat": name}, begin - begin % self._minute, end)
            for at, value in found.items():
                points.setdefault(at, {"timestamp": datetime.fromtimestamp(at, UTC)})[key] = value
        return list(points.values())

    def _series(self, stat: Mapping[str, Any], begin: float, end: float) -> Series:
        metric, period = stat["Metric"], int(stat["Period"])
        if period % self._minute:
            raise InvalidParameterValue(
                f"The parameter Period must be a multiple of {self._minute}, the account's minute; it is {period}."
            )
        dimensions = _pairs(metric.get("Dimensions") or ())
        known(metric["Namespace"], metric["MetricName"], dimensions)
        key = (metric["Namespace"], metric["MetricName"], frozenset(dimensions))
        periods: dict[float, list[float]] = {}
        with self._lock:
            for at, values in self._values.get(key, {}).items():
                if begin <= at < end:
                    periods.setdefault(at - at % period, []).extend(values)
        return {at: statistic(stat["Stat"], values) for at, values in sorted(periods.items())}

    def _calculated(
        self,
        query: Mapping[str, Any],
        queries: Sequence[Mapping[str, Any]],
        found: Mapping[str, Series],
        begin: float,
        end: float,
    ) -> Series:
        lengths = {int(one["MetricStat"]["Period"]) for one in queries if "MetricStat" in one}
        period = int(query.get("Period") or max(lengths, default=self._minute))
        periods = [float(at) for at in range(int(begin - begin % period), int(end), period)]
        try:
            return calculate(query["Expression"], found, periods)
        except ValueError as error:
            raise ValidationError(f"Error in expression '{query['Id']}': {error}") from None

    def put_metric_alarm(self, **alarm: Any) -> Any:  # type: ignore[override]
        """As moto, of metrics that somebody publishes."""
        if alarm.get("metric_name"):
            known(alarm["namespace"], alarm["metric_name"], _pairs(alarm.get("dimensions") or ()))
        for query in alarm.get("metric_data_queries") or ():
            if query.metric_stat is not None:
                metric = query.metric_stat.metric
                known(metric.namespace, metric.metric_name, _pairs(metric.dimensions))
        return super().put_metric_alarm(**alarm)


def _seconds(moment: datetime) -> float:
    """Seconds since the epoch; moto's moments are UTC and do not say so."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
