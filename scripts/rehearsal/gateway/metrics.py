"""What API Gateway and the load balancer publish of the requests that the gateway answered, and of the targets' health."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import boto3
from botocore.config import Config

from scripts.rehearsal.emulated.publish import Minute, Publisher
from scripts.rehearsal.gateway.stats import CHOSEN, Sample, Stats
from scripts.rehearsal.gateway.targets import Targets
from scripts.rehearsal.gateway.watch import Watcher

API, BALANCER = "AWS/ApiGateway", "AWS/ApplicationELB"


def balancer_of(arn: str) -> str:
    """The load balancer of a listener or of a rule, as metrics name it: ``app/<name>/<id>``."""
    return "/".join(arn.split(":", 5)[5].split("/")[1:4])


def measure(samples: Iterable[Sample], api: str, minute: Minute) -> None:
    """What the two count of these requests (Elastic Load Balancing, 'CloudWatch metrics for your Application Load Balancer'; API
    Gateway, 'Working with metrics for HTTP APIs')."""
    for one in samples:
        if one.through_api:
            where = {"ApiId": api}
            minute.add(API, "Count", where, 1.0)
            # As of a REST API, whose errors have an average that is their rate.
            minute.add(API, "4xx", where, float(400 <= one.status < 500))
            minute.add(API, "5xx", where, float(one.status >= 500))
            minute.add(API, "Latency", where, round(one.milliseconds, 2))
        if one.outcome == "api" or one.rule is None:
            continue
        balancer = {"LoadBalancer": balancer_of(one.rule)}
        if one.balancer is not None:
            family = one.balancer // 100
            minute.add(BALANCER, f"HTTPCode_ELB_{family}XX_Count", balancer, 1.0)
            if one.balancer in (500, 502, 503, 504):
                minute.add(BALANCER, f"HTTPCode_ELB_{one.balancer}_Count", balancer, 1.0)
        if one.group is None or one.outcome not in CHOSEN:
            continue
        for where in (balancer, _group(one.group, balancer)):
            minute.add(BALANCER, "RequestCount", where, 1.0)
            if one.outcome == "unreachable":
                minute.add(BALANCER, "TargetConnectionErrorCount", where, 1.0)
            if one.outcome == "target":
                minute.add(BALANCER, f"HTTPCode_Target_{one.status // 100}XX_Count", where, 1.0)
                if one.target_ms is not None:
                    minute.add(BALANCER, "TargetResponseTime", where, round(one.target_ms / 1000, 5))


def _group(arn: str, balancer: Mapping[str, str]) -> dict[str, str]:
    return {"TargetGroup": arn[arn.index("targetgroup/") :], **balancer}


def health(watcher: Watcher, targets: Targets, minute: Minute) -> None:
    """How many targets of each group that the rules name are healthy; nothing of a group without targets."""
    for listener, rules in watcher.view.rules.items():
        balancer = {"LoadBalancer": balancer_of(listener)}
        for arn in sorted({group for rule in rules for group in rule.weights}):
            if states := [one.health[0] if one.health else "initial" for one in targets.known.get(arn, {}).values()]:
                where = _group(arn, balancer)
                minute.add(BALANCER, "HealthyHostCount", where, float(states.count("healthy")))
                minute.add(BALANCER, "UnHealthyHostCount", where, float(states.count("unhealthy")))
                # Reported where targets are registered, whether any request came or none.
                minute.add(BALANCER, "RequestCount", where, 0.0)


def publisher(stats: Stats, watcher: Watcher, targets: Targets, seconds: int) -> Publisher:
    """Publishes both, of each minute of so many ``seconds``."""

    def measured(minute: Minute, begin: float) -> None:
        measure(stats.minute(begin, seconds), watcher.api, minute)
        health(watcher, targets, minute)

    # One attempt, short, as a minute that is missing is a gap; packed costs more here than sent as it is.
    config = Config(
        connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, disable_request_compression=True
    )
    make: Any = boto3.Session().client
    return Publisher(make("cloudwatch", config=config), seconds, measured)
