"""GetMetricData of the emulated account: statistics, periods, gaps, and what AWS would leave unsaid."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from math import fsum
from statistics import fmean
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from moto.cloudwatch.exceptions import InvalidParameterValue, ValidationError

from scripts.rehearsal.emulated.metrics import FAULTY, Metrics, statistic
from scripts.rehearsal.emulated.publish import MINUTE_VARIABLE, Minute, Publisher, minute_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
GROUP = {"TargetGroup": "targetgroup/task/1", "LoadBalancer": "app/main/2"}
ELB = "AWS/ApplicationELB"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    monkeypatch.delenv(MINUTE_VARIABLE, raising=False)
    return Metrics("ap-northeast-1", "123456789012")


class Client:
    """Calls the backend as moto's server does."""

    def __init__(self, account: Metrics) -> None:
        self._account = account

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
        self._account.put_metric_data(Namespace, MetricData)


def publish(account: Metrics, minute: int, metric: str, *values: float, where: Mapping[str, str] = GROUP) -> None:
    """Values of a metric of the load balancer in that minute after noon."""
    measured = Minute()
    for value in values:
        measured.add(ELB, metric, where, value)
    measured.put(Client(account), NOON + 60 * minute)


def query(key: str, metric: str, stat: str, *, period: int = 60, where: Mapping[str, str] = GROUP) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in where.items()]
    found = {"Namespace": ELB, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": key, "MetricStat": {"Metric": found, "Period": period, "Stat": stat}}


def ask(account: Metrics, *queries: dict[str, Any], begin: float = 0, end: float = 600, **how: Any) -> dict[str, Any]:
    """What is answered: the values by Id as {minute after noon: value}, in the order of the answer."""
    first, last = (datetime.fromtimestamp(NOON + seconds, UTC).replace(tzinfo=None) for seconds in (begin, end))
    answer = account.get_metric_data(list(queries), first, last, **how)
    return {
        one["id"]: {
            (at.timestamp() - NOON) / 60: value for at, value in zip(one["timestamps"], one["values"], strict=True)
        }
        for one in answer
    }


def test_statistics_are_of_the_values_of_a_period_and_a_gap_is_left_out(account: Metrics) -> None:
    """Prevents a percentile that is an average, and a quiet minute that is answered with 0."""
    publish(account, 0, "TargetResponseTime", *(value / 100 for value in range(1, 101)))
    publish(account, 2, "TargetResponseTime", 3.0, 3.0, 1.0)
    stats = ("Sum", "Average", "Minimum", "Maximum", "SampleCount", "p50", "p95", "p99.9")
    found = ask(account, *(query(f"s{number}", "TargetResponseTime", stat) for number, stat in enumerate(stats)))
    first, second = ([found[f"s{number}"][minute] for number in range(len(stats))] for minute in (0, 2))
    assert first == pytest.approx([50.5, 0.505, 0.01, 1.0, 100, 0.5, 0.95, 1.0])
    assert second == pytest.approx([7.0, 7 / 3, 1.0, 3.0, 3, 3.0, 3.0, 3.0])
    assert set(found["s0"]) == {0, 2}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused_by_the_account_and_never_published(account: Metrics, value: float) -> None:
    """Prevents a whole minute without figures as one of its values is none, and one that CloudWatch would not have."""
    publish(account, 0, "RequestCount", 1.0, value, 1.0)
    with pytest.raises(InvalidParameterValue, match="is invalid"):
        account.put_metric_data(ELB, [{"MetricName": "RequestCount", "Value": value}])
    assert ask(account, query("m", "RequestCount", "Sum")) == {"m": {0: 2.0}}


def test_periods_are_whole_and_begin_where_the_account_says(account: Metrics) -> None:
    """Prevents periods that begin where the question does, and an end that is answered too."""
    for minute in range(6):
        publish(account, minute, "RequestCount", *[1.0] * (minute + 1))
    asked = query("n", "RequestCount", "Sum")
    assert ask(account, asked, begin=90, end=240)["n"] == {1: 2, 2: 3, 3: 4}
    assert ask(account, query("n", "RequestCount", "Sum", period=180))["n"] == {0: 6, 3: 15}
    assert list(ask(account, asked, scan_by="TimestampDescending")["n"]) == [5, 4, 3, 2, 1, 0]
    with pytest.raises(InvalidParameterValue, match="Period must be a multiple of 60"):
        ask(account, query("n", "RequestCount", "Sum", period=30))
    with pytest.raises(ValidationError, match="StartTime must be less"):
        ask(account, asked, begin=60, end=60)
    with pytest.raises(InvalidParameterValue, match="p95x"):
        ask(account, query("n", "RequestCount", "p95x"))


def test_a_metric_is_told_from_that_of_another_thing(account: Metrics) -> None:
    """Prevents the monolith's figures for the Task Service's, and a balancer's sum for a group's."""
    publish(account, 0, "RequestCount", 1.0)
    publish(account, 0, "RequestCount", 1.0, 1.0, where={"LoadBalancer": "app/main/2"})
    other = {**GROUP, "TargetGroup": "targetgroup/monolith/1"}
    asked = (
        query("ours", "RequestCount", "Sum"),
        query("theirs", "RequestCount", "Sum", where=other),
        query("both", "RequestCount", "Sum", where={"LoadBalancer": "app/main/2"}),
    )
    assert ask(account, *asked) == {"ours": {0: 1}, "theirs": {}, "both": {0: 2}}


@pytest.mark.parametrize(
    ("metric", "where"),
    [
        ("HTTPCode_Target_5XX", GROUP),
        ("HTTPCode_ELB_5XX_Count", GROUP),
        ("HealthyHostCount", {"LoadBalancer": "app/main/2"}),
        ("RequestCount", {"TargetGroup": "targetgroup/task/1"}),
        ("RequestCount", {}),
    ],
)
def test_what_nobody_publishes_is_refused_in_queries_and_alarms(
    account: Metrics, metric: str, where: dict[str, str]
) -> None:
    """Prevents a figure that is always missing, and an alarm that is always quiet; AWS takes both without a word."""
    with pytest.raises(ValidationError, match=f"AWS publishes no metric {metric} in AWS/ApplicationELB"):
        ask(account, query("n", metric, "Sum", where=where))
    dimensions = [{"Name": name, "Value": value} for name, value in where.items()]
    with pytest.raises(ValidationError, match=f"AWS publishes no metric {metric}"):
        account.put_metric_alarm(name="quiet", namespace=ELB, metric_name=metric, dimensions=dimensions)
    assert account.alarms == {}


def test_metric_math_works_on_what_was_asked_beside_it(account: Metrics) -> None:
    publish(account, 0, "RequestCount", *[1.0] * 50)
    publish(account, 1, "RequestCount", *[1.0] * 20)
    publish(account, 1, "HTTPCode_Target_5XX_Count", 1.0)
    asked = [
        {**query("requests", "RequestCount", "Sum"), "ReturnData": False},
        {**query("errors", "HTTPCode_Target_5XX_Count", "Sum"), "ReturnData": False},
        {"Id": "rate", "Expression": "IF(requests > 0, 100 * FILL(errors, 0) / requests, 0)"},
    ]
    assert ask(account, *asked, end=180) == {"rate": {0: 0, 1: 5}}
    with pytest.raises(ValidationError, match="Error in expression 'rate': 'requests' is not known"):
        ask(account, asked[2])


def test_what_is_wrong_with_cloudwatch_itself_can_be_rehearsed(account: Metrics) -> None:
    """Prevents a gate that nobody saw without figures, with a part of them, or refused."""

    def wrong(fault: str, value: float) -> None:
        dimension = {"Name": "Namespace", "Value": ELB}
        account.put_metric_data(FAULTY, [{"MetricName": fault, "Dimensions": [dimension], "Value": value}])

    asked = query("n", "RequestCount", "Sum")
    for minute in (0, 1, 2):
        publish(account, minute, "RequestCount", 1.0)
    wrong("Withheld", 1.0)
    publish(account, 3, "RequestCount", 1.0)
    assert set(ask(account, asked)["n"]) == {0, 1, 2}
    wrong("PartialData", 1.0)
    first, last = (datetime.fromtimestamp(NOON + at, UTC) for at in (0, 600))
    (answer,) = account.get_metric_data([asked], first, last)
    assert (answer["status_code"], len(answer["values"])) == ("PartialData", 2)
    wrong("InternalError", 1.0)
    assert ask(account, asked)["n"] == {}
    wrong("InternalError", 0.0)
    publish(account, 4, "RequestCount", 1.0)
    assert set(ask(account, asked)["n"]) == {0, 1, 2, 4}
    with pytest.raises(ValidationError, match="Slow is no fault"):
        wrong("Slow", 1.0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 99))
def test_statistics_are_those_of_the_values(values: list[float], share: int) -> None:
    """Prevents an emulated account in which a query for the wrong statistic finds the right figure."""
    ordered = sorted(values)
    assert (statistic("Minimum", values), statistic("Maximum", values)) == (ordered[0], ordered[-1])
    assert statistic("Average", values) == pytest.approx(fmean(values))
    assert statistic("Sum", values) == pytest.approx(fsum(values))
    assert statistic("SampleCount", values) == len(values)
    # The least value that so many of them do not exceed.
    rank = next(one for one in ordered if sum(value <= one for value in values) * 100 >= share * len(values))
    assert statistic(f"p{share}", values) == rank


def test_each_minute_is_published_when_it_is_over_and_one_that_cannot_be_is_a_gap() -> None:
    """Prevents figures of a minute that goes on, and a sampler that ends with the first call that fails."""
    assert (minute_of({}), minute_of({MINUTE_VARIABLE: "2"})) == (60, 2)
    told: queue.Queue[tuple[float, float]] = queue.Queue()

    class Account:
        away = True

        def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
            told.put((time.time(), MetricData[0]["Timestamp"].timestamp()))
            if self.away:
                self.away = False
                raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    publisher = Publisher(Account(), 1, lambda minute, begin: minute.add("Own", "Count", {}, begin))
    seen = [told.get(timeout=20) for _ in range(2)]
    publisher.stop()
    assert [at - begin > 1.0 for at, begin in seen] == [True, True]
    assert seen[1][1] - seen[0][1] == 1.0
