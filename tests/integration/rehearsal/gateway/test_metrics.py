"""The gate's figures of real requests: gateway, emulated CloudWatch, and the code that reads the real one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest

from scripts.canary.cloudwatch import CloudWatchMetrics
from scripts.canary.figures import Period, Traffic
from scripts.rehearsal.agreement import differences
from scripts.rehearsal.emulated.metrics import FAULTY
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import MigrationError
from scripts.support.wait import wait_until
from tests.integration.rehearsal.app.app_world import AppWorld
from tests.integration.rehearsal.gateway.gateway_world import (
    SMOKE_HEADER,
    SMOKE_VALUE,
    GatewayWorld,
    Upstream,
    drop,
)

#: Ids of tasks that are answered otherwise than with 200, and how often each side is asked for them: no two counts are one.
ASKED = {
    "task": {"1": 12, "slow": 3, "301": 2, "404": 4, "500": 5, "cut": 1},
    "monolith": {"1": 21, "slow": 2, "301": 3, "404": 7, "500": 1, "cut": 2},
}
TOTAL = sum(sum(asked.values()) for asked in ASKED.values())
#: Each side's own, so that no latency of one is taken for the other's.
SLOW_SECONDS = {"task": 0.03, "monolith": 0.06}
#: Of every other answer, and how much longer each slow one takes than the one before: no percentile is within rounding of another one, nor
#: of a count.
PAUSE_SECONDS, LONGER_SECONDS = {"task": 0.0, "monolith": 0.0145}, 0.02
_slow = dict.fromkeys(PAUSE_SECONDS, 0)
#: Seconds of the account's minute, in which all are asked.
MINUTE = 3
DELAY = 2.0


def behave(side: str, handler: BaseHTTPRequestHandler) -> bool:
    """As the task's id says."""
    name = handler.path.rpartition("/")[2]
    if name == "cut":
        return drop(handler)
    if name == "slow":
        time.sleep(SLOW_SECONDS[side] + LONGER_SECONDS * _slow[side])  # noqa: TID251  # the latency itself
        _slow[side] += 1
    else:
        time.sleep(PAUSE_SECONDS[side])  # noqa: TID251  # the latency itself
    if not name.isdigit() or name == "1":
        return False
    handler.send_response(int(name))
    handler.send_header("content-length", "0")
    handler.end_headers()
    return True


@dataclass
class Measured:
    """A gateway whose minute is some seconds, and the gate's view of it."""

    gateway: GatewayWorld
    outputs: dict[str, Any]

    @property
    def client(self) -> Any:
        return self.gateway.world.aws.client("cloudwatch")

    def metrics(self) -> CloudWatchMetrics:
        return CloudWatchMetrics(self.client, self.outputs, MINUTE, DELAY)

    def ask(self) -> float:
        """Each side as often as :data:`ASKED` says, at weight 0, within one minute of the account; when that began."""
        for _ in range(8):
            time.sleep(MINUTE - time.time() % MINUTE)  # noqa: TID251  # the account's minute itself
            minute = time.time() // MINUTE
            _slow.update(dict.fromkeys(_slow, 0))
            for side, asked in ASKED.items():
                headers = {SMOKE_HEADER: SMOKE_VALUE} if side == "task" else {}
                for name, times in asked.items():
                    for _ in range(times):
                        self.gateway.send(path=f"/api/tasks/{name}", headers=headers)
            if time.time() // MINUTE == minute:
                return minute * MINUTE
        pytest.fail(f"{TOTAL} requests never went through within {MINUTE} s")

    def seen(self, minute: float) -> Period:
        """The minute as the gate sees it, once the API's count is there, which is published last."""
        dimensions = [{"Name": "ApiId", "Value": self.outputs["apiId"]}]
        metric = {"Namespace": "AWS/ApiGateway", "MetricName": "Count", "Dimensions": dimensions}
        query = {"Id": "n", "MetricStat": {"Metric": metric, "Period": MINUTE, "Stat": "Sum"}}
        begin, end = (datetime.fromtimestamp(minute + seconds, UTC) for seconds in (0, MINUTE))

        def count() -> tuple[bool, list[float]]:
            (result,) = self.client.get_metric_data(MetricDataQueries=[query], StartTime=begin, EndTime=end)[
                "MetricDataResults"
            ]
            assert result["StatusCode"] == "Complete"
            return time.time() >= minute + MINUTE, result["Values"]

        over, early = count()
        assert over or early == [], "a minute was published before its end"
        _, values = wait_until(count, lambda seen: bool(seen[1]), what="the minute in CloudWatch", timeout=30)
        assert values == [TOTAL]
        time.sleep(max(0.0, minute + MINUTE + DELAY - time.time()))  # noqa: TID251  # the gate's own delay
        return self.metrics().observe(minute).periods[0]

    def differences(self, *periods: Period) -> list[str]:
        parameters = {"since": periods[0].at, "period": MINUTE}
        answer = self.gateway.http.get("/__gateway/stats", params=parameters).raise_for_status().json()
        return differences(periods, answer["periods"], self.gateway.groups["task"], self.gateway.groups["monolith"])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    directory = tmp_path_factory.mktemp("metrics")
    monolith, task = Upstream("monolith"), Upstream("task-service")
    with EmulatedAws(directory / "aws.log", minute=MINUTE) as aws, httpx.Client(trust_env=False, timeout=20.0) as http:
        world = AppWorld(aws, directory)
        try:
            world.login_users()
            gateway = GatewayWorld(world, monolith, task, http)
            gateway.build("metrics")
            gateway.start()
            monolith.behave, task.behave = partial(behave, "monolith"), partial(behave, "task")
            outputs = {
                "taskTargetGroupArn": gateway.groups["task"],
                "monolithTargetGroupArn": gateway.groups["monolith"],
                "listenerArn": gateway.listener,
                "apiId": gateway.api_id,
                "clusterArn": "arn:aws:ecs:ap-northeast-1:123456789012:cluster/myteacher-cluster",
                "serviceName": "task-service",
                "sourceInstanceIdentifier": "myteacher-production",
                "targetInstanceIdentifier": "task-service-db",
            }
            made = Measured(gateway, outputs)
            quiet = made.metrics().observe(time.time() - 3 * MINUTE).periods
            assert [one.users for one in quiet] == [None] * len(quiet), "there were figures before the first request"
            yield made
        finally:
            world.stop()
            monolith.stop()
            task.stop()


def counts(traffic: Traffic | None) -> tuple[int, int, int]:
    assert traffic is not None
    return traffic.requests, traffic.errors, traffic.refusals


@pytest.fixture(scope="module")
def minute(measured: Measured) -> float:
    """The minute in which each side was asked."""
    return measured.ask()


def test_the_gate_sees_each_request_on_its_side_and_as_users_do(measured: Measured, minute: float) -> None:
    """Prevents production's own way to its figures from being tried for the first time in production."""
    period = measured.seen(minute)
    assert period.at == minute
    # What was cut off has no answer of a target: an error of the side that was to give it.
    assert counts(period.task_service) == (27, 6, 4)
    assert counts(period.monolith) == (36, 3, 7)
    assert counts(period.users) == (63, 9, 11)
    assert period.balancer_errors == 3
    assert period.task_service is not None
    assert 1000 * SLOW_SECONDS["task"] <= (period.task_service.p95_ms or 0.0) < 5000
    assert measured.differences(period) == []


def test_any_other_query_in_the_place_of_one_is_seen(measured: Measured, minute: float) -> None:
    """Prevents a rehearsal that passes with a figure that is asked for wrongly: another metric, group, statistic or dimension."""
    unseen = _unseen(measured, minute)
    # By chance two latencies of one minute are within rounding of each other; those of another are then apart.
    assert not unseen or unseen & _unseen(measured, measured.ask()) == set()


def _unseen(measured: Measured, minute: float) -> set[str]:
    """The wrong queries whose figures of that minute pass for right."""
    assert measured.differences(measured.seen(minute)) == []
    metrics = measured.metrics()
    right = {query.key: query for query in metrics.queries}
    # Nobody asks for health here. A target's errors are what is left of its requests, however many of them were 5xx and how many
    # had no connection; who is healthy is not counted by the gateway.
    left = ("_checks", "_healthy", "_failed_connections", "task_errors", "monolith_errors")
    decided = [key for key in right if key.startswith(("task_", "monolith_", "users_")) and not key.endswith(left)]
    assert len(decided) > 15
    unseen = set()
    for index, key in enumerate(decided):
        # The next ones, among them each percentile's neighbours and the other side's.
        others = [right[decided[(index + step) % len(decided)]] for step in (1, 2, 4, 7)]
        wrong = [
            replace(
                right[key],
                metric=one.metric,
                statistic=one.statistic,
                dimensions=one.dimensions,
                namespace=one.namespace,
            )
            for one in others
        ]
        wrong.append(replace(right[key], statistic="Average" if right[key].statistic == "Sum" else "p10"))
        for one in wrong:
            metrics.queries = tuple(one if query.key == key else query for query in right.values())
            if not measured.differences(metrics.observe(minute).periods[0]):
                unseen.add(f"{key} as {one.metric} {one.statistic} of {one.dimensions}")
    return unseen


def test_a_metric_that_nobody_publishes_is_refused(measured: Measured) -> None:
    """Prevents a name that AWS does not know: there it is a figure that is always missing, and no error."""
    metrics = measured.metrics()
    for change in ({"metric": "HTTPCode_Target_5XX"}, {"dimensions": {"TargetGroup": "x"}}, {"namespace": "AWS/ELB"}):
        metrics.queries = tuple(
            replace(query, **change) if query.key == "task_errors" else query for query in measured.metrics().queries
        )
        with pytest.raises(MigrationError, match=r"AWS publishes no metric .*; check cloudwatch:GetMetricData"):
            metrics.observe(time.time() - 4 * MINUTE)


def test_figures_come_late_and_with_gaps(measured: Measured) -> None:
    """Prevents a gate that counts a minute that is not published, or not wholly, as one without requests."""

    def fault(on: float) -> None:
        where = [{"Name": "Namespace", "Value": "AWS/ApplicationELB"}]
        data = [{"MetricName": "Withheld", "Dimensions": where, "Value": on}]
        measured.client.put_metric_data(Namespace=FAULTY, MetricData=data)

    fault(1.0)
    try:
        period = measured.seen(measured.ask())
    finally:
        fault(0.0)
    assert (period.task_service, period.monolith) == (None, None)
    assert len(measured.differences(period)) == 2


def test_a_side_that_nobody_asks_counts_none_beside_its_targets(measured: Measured) -> None:
    """Prevents a rollback for want of figures where the weights, or cookies, drew nobody: AWS reports none where targets are registered."""
    since = time.time()

    def asked() -> list[Period]:
        measured.gateway.send(path="/api/tasks/1")
        return [one for one in measured.metrics().observe(since).periods if one.users is not None]

    seen = wait_until(asked, bool, what="a minute of the monolith's alone", timeout=30)[0]
    assert seen.monolith is not None
    assert seen.monolith.requests > 0
    assert (seen.task_service, seen.healthy_hosts) == (Traffic(0), 1.0)
