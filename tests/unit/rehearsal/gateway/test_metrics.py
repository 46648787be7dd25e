"""What API Gateway and the load balancer count of a request, by how far it came."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.rehearsal.emulated.publish import Minute
from scripts.rehearsal.gateway.metrics import balancer_of, measure
from scripts.rehearsal.gateway.stats import Outcome, Sample

ELB = "arn:aws:elasticloadbalancing:ap-northeast-1:123456789012"
RULE, GROUP = f"{ELB}:listener-rule/app/main/b1/l1/r1", f"{ELB}:targetgroup/task/g1"
BALANCER = "LoadBalancer=app/main/b1"


class Kept:
    """Keeps what is published: sums by ``metric`` and dimensions."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], float] = {}

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
        for datum in MetricData:
            where = ",".join(sorted(f"{one['Name']}={one['Value']}" for one in datum["Dimensions"]))
            pairs = zip(datum["Values"], datum["Counts"], strict=True)
            self.sums[datum["MetricName"], where] = sum(value * count for value, count in pairs)


def counted(*samples: Sample) -> Kept:
    minute, kept = Minute(), Kept()
    measure(samples, "api1", minute)
    minute.put(kept, 0.0)
    return kept


def sample(outcome: Outcome, status: int, balancer: int | None = None, **more: Any) -> Sample:
    target_ms = 20.0 if outcome == "target" else None
    return Sample(1.0, GROUP, RULE, status, 25.0, outcome, balancer, target_ms, **more)


@pytest.mark.parametrize(
    ("request_", "balancer", "target"),
    [
        (sample("target", 200), {}, {"RequestCount": 1, "HTTPCode_Target_2XX_Count": 1, "TargetResponseTime": 0.02}),
        (sample("target", 503), {}, {"RequestCount": 1, "HTTPCode_Target_5XX_Count": 1, "TargetResponseTime": 0.02}),
        (
            sample("unreachable", 502, 502),
            {"HTTPCode_ELB_5XX_Count": 1, "HTTPCode_ELB_502_Count": 1},
            {"RequestCount": 1, "TargetConnectionErrorCount": 1},
        ),
        (
            sample("broken", 504, 504),
            {"HTTPCode_ELB_5XX_Count": 1, "HTTPCode_ELB_504_Count": 1},
            {"RequestCount": 1},
        ),
        (sample("broken", 503, 460), {"HTTPCode_ELB_4XX_Count": 1}, {"RequestCount": 1}),
        (sample("balancer", 503, 503), {"HTTPCode_ELB_5XX_Count": 1, "HTTPCode_ELB_503_Count": 1}, {}),
        (sample("api", 401), {}, {}),
    ],
)
def test_each_part_counts_what_it_answered(
    request_: Sample, balancer: dict[str, float], target: dict[str, float]
) -> None:
    """Prevents a balancer's own 503 among the targets' answers: on AWS the group counts nothing when no target is left."""
    found = counted(request_).sums
    group = f"{BALANCER},TargetGroup=targetgroup/task/g1"
    seen = {where: {name: value for (name, at), value in found.items() if at == where} for where in (BALANCER, group)}
    assert seen[group] == pytest.approx(target)
    # What targets answer is counted for the balancer as a whole too.
    assert seen[BALANCER] == pytest.approx({**balancer, **target})
    api = {name: value for (name, where), value in found.items() if where == "ApiId=api1"}
    failed, refused = request_.status >= 500, 400 <= request_.status < 500
    assert api == {"Count": 1, "5xx": failed, "4xx": refused, "Latency": 25.0}


def test_what_goes_past_the_api_is_none_of_its_requests() -> None:
    found = counted(sample("target", 200, through_api=False), sample("target", 404))
    assert found.sums["Count", "ApiId=api1"] == 1
    assert found.sums["RequestCount", BALANCER] == 2
    assert found.sums["HTTPCode_Target_4XX_Count", BALANCER] == 1


def test_a_listeners_and_a_rules_balancer_are_the_same() -> None:
    assert balancer_of(RULE) == balancer_of(f"{ELB}:listener/app/main/b1/l1") == "app/main/b1"
