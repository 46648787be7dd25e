"""The Task Service and what watches it, as docs/plan.md gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.components.declared_helpers import ACCOUNT, MONOLITH, REGION, Declared, declare

ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"


@pytest.fixture(scope="module", params=["staging", "prod"])
def stack(request: pytest.FixtureRequest) -> Declared:
    return declare(request.param)


def test_the_repository_is_scanned_encrypted_and_trimmed(stack: Declared) -> None:
    inputs = stack.one("aws:ecr/repository:Repository").inputs
    assert inputs["name"] == "myteacher-task-service"
    assert inputs["imageScanningConfiguration"] == {"scanOnPush": True}
    assert inputs["imageTagMutability"] == "IMMUTABLE"
    (encryption,) = inputs["encryptionConfigurations"]
    assert encryption == {"encryptionType": "KMS", "kmsKey": f"arn:aws:kms:{REGION}:{ACCOUNT}:service-key"}
    assert inputs["forceDelete"] is False
    assert stack.one("aws:ecr/lifecyclePolicy:LifecyclePolicy").inputs["repository"] == "myteacher-task-service"


def test_the_service_has_the_names_and_figures_of_the_plan(stack: Declared) -> None:
    inputs = stack.one("aws:ecs/service:Service").inputs
    assert inputs["name"] == "task-service"
    assert inputs["cluster"].endswith(":cluster/myteacher-cluster")
    assert inputs["launchType"] == "FARGATE"
    assert inputs["desiredCount"] == 0
    assert inputs["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    assert inputs["networkConfiguration"]["assignPublicIp"] is False
    (balancer,) = inputs["loadBalancers"]
    assert (balancer["containerName"], balancer["containerPort"]) == ("task-service", 3001)
    assert balancer["targetGroupArn"] == stack.stack_outputs["taskTargetGroupArn"]
    # No task ends before another one answers in its place, and nobody gets a shell in one.
    assert (inputs["deploymentMinimumHealthyPercent"], inputs["deploymentMaximumPercent"]) == (100, 200)
    assert inputs["enableExecuteCommand"] is False


def test_the_service_waits_for_the_smoke_rule(stack: Declared) -> None:
    """ECS refuses a service on a target group that no listener rule uses."""
    service = stack.one("aws:ecs/service:Service")
    assert any(urn.endswith("::routes-smoke-rule") for urn in service.dependencies)


def test_up_does_not_undo_the_number_of_tasks(stack: Declared) -> None:
    """A rollback sets it to 0 and autoscaling up to 10; `up` for the next weight must leave it."""
    assert stack.one("aws:ecs/service:Service").ignore_changes == ("desiredCount",)


def test_tasks_are_asked_for_once_the_service_is_enabled() -> None:
    """Prevents a first `up` that asks for tasks before their image is there: each registration raises a service to its least."""
    for enabled, tasks in ((False, 0), (True, 2)):
        declared = declare(serviceEnabled=enabled)
        assert declared.one("aws:ecs/service:Service").inputs["desiredCount"] == tasks
        assert declared.one("aws:appautoscaling/target:Target").inputs["minCapacity"] == tasks
        assert declared.stack_outputs["serviceTasks"] == tasks


def test_what_is_declared_to_run_is_an_output(stack: Declared) -> None:
    """Prevents a readiness that cannot tell the declared image from one that the circuit breaker went back to."""
    service = stack.one("aws:ecs/service:Service")
    assert stack.stack_outputs["taskDefinitionArn"] == service.inputs["taskDefinition"]
    assert stack.stack_outputs["serviceImage"].endswith(":3f2c1a9")


def test_the_image_that_runs_is_expired_by_no_rule(stack: Declared) -> None:
    """Prevents a lifecycle policy that takes a running service's image, so that no task starts any more."""
    rules = stack.one("aws:ecr/lifecyclePolicy:LifecyclePolicy").json("policy")["rules"]
    images = [(f"tag{number}", number) for number in range(60)] + [("3f2c1a9", 400), (None, 8)]
    kept = unexpired(rules, images)
    assert ("3f2c1a9", 400) in kept
    assert (None, 8) not in kept
    assert len(kept) == 21
    without = unexpired([rule for rule in rules if rule["rulePriority"] > 1], images)
    assert ("3f2c1a9", 400) not in without


def unexpired(rules: list[dict[str, Any]], images: list[tuple[str | None, int]]) -> list[tuple[str | None, int]]:
    """What a lifecycle policy leaves of images with their age in days: what a rule matches, no later rule expires (Amazon ECR,
    'Automate the cleanup of images by using lifecycle policies')."""
    left, expired = sorted(images, key=lambda image: image[1]), []
    for rule in sorted(rules, key=lambda rule: rule["rulePriority"]):
        chosen = rule["selection"]
        matched = [
            image
            for image in left
            if chosen["tagStatus"] == "any"
            or (chosen["tagStatus"] == "untagged" and image[0] is None)
            or (chosen["tagStatus"] == "tagged" and image[0] in chosen["tagPatternList"])
        ]
        if chosen["countType"] == "imageCountMoreThan":
            expired += matched[chosen["countNumber"] :]
        else:
            expired += [image for image in matched if image[1] > chosen["countNumber"]]
        left = [image for image in left if image not in matched]
    return [image for image in images if image not in expired]


def test_the_service_scales_from_2_to_10_on_cpu_70_and_memory_80() -> None:
    stack = declare(serviceEnabled=True)
    target = stack.one("aws:appautoscaling/target:Target").inputs
    assert (target["minCapacity"], target["maxCapacity"]) == (2, 10)
    counted = {
        "resourceId": "service/myteacher-cluster/task-service",
        "scalableDimension": "ecs:service:DesiredCount",
        "serviceNamespace": "ecs",
    }
    goals = {}
    for item in (target, *(policy.inputs for policy in stack.all("aws:appautoscaling/policy:Policy"))):
        assert {key: item[key] for key in counted} == counted
    for policy in stack.all("aws:appautoscaling/policy:Policy"):
        assert policy.inputs["policyType"] == "TargetTrackingScaling"
        tracking = policy.inputs["targetTrackingScalingPolicyConfiguration"]
        goals[tracking["predefinedMetricSpecification"]["predefinedMetricType"]] = tracking["targetValue"]
    assert goals == {"ECSServiceAverageCPUUtilization": 70, "ECSServiceAverageMemoryUtilization": 80}


def test_the_container_takes_its_secrets_by_arn(stack: Declared) -> None:
    """A password in a container's environment is readable by everyone who may describe the task definition."""
    definition = stack.one("aws:ecs/taskDefinition:TaskDefinition")
    (container,) = definition.json("containerDefinitions")
    assert container["name"] == "task-service"
    assert container["portMappings"][0]["containerPort"] == 3001
    assert container["logConfiguration"]["options"]["awslogs-group"] == "/ecs/task-service"
    assert {item["name"]: item["valueFrom"] for item in container["secrets"]} == {
        "DB_PASSWORD": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:service-db-password",
        "COGNITO_CONFIG": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:service-cognito-config",
    }
    assert {secret.inputs["name"] for secret in stack.all("aws:secretsmanager/secret:Secret")} >= {
        "task-service/db-password",
        "task-service/cognito-config",
    }
    environment = {item["name"]: item["value"] for item in container["environment"]}
    assert (environment["DB_HOST"], environment["DB_PORT"]) == ("task-service.example.internal", "5432")
    assert environment["PORT"] == "3001"
    assert environment["DB_NAME"] == "task_service_production"
    assert environment["DB_USER"] == "task_service_user"
    assert environment["DB_SSLMODE"] == "verify-full"
    assert environment["DB_SSLROOTCERT"] == environment["NODE_EXTRA_CA_CERTS"] == "/etc/ssl/certs/rds-global-bundle.pem"
    assert not [name for name in environment if "PASSWORD" in name or "SECRET" in name]
    assert definition.inputs["requiresCompatibilities"] == ["FARGATE"]
    assert definition.inputs["networkMode"] == "awsvpc"
    for role, name in (("executionRoleArn", "service-execution-role"), ("taskRoleArn", "service-task-role")):
        assert definition.inputs[role] == f"arn:aws:iam:{REGION}:{ACCOUNT}:{name}"


def test_the_six_alarms_of_the_plan(stack: Declared) -> None:
    topic = stack.one("aws:sns/topic:Topic")
    assert topic.inputs["name"] == "myteacher-alerts"
    assert topic.inputs["kmsMasterKeyId"]
    assert stack.one("aws:sns/topicPolicy:TopicPolicy").inputs["arn"] == stack.stack_outputs["alarmTopicArn"]
    limits = {}
    for alarm in (*stack.all(ALARM), *declare(serviceEnabled=True).all(ALARM)):
        inputs = alarm.inputs
        assert inputs["comparisonOperator"] == "GreaterThanThreshold"
        assert inputs["alarmActions"] == inputs["okActions"] == [stack.stack_outputs["alarmTopicArn"]]
        # Without traffic a figure is missing, and nobody has to be called.
        assert inputs["treatMissingData"] == "notBreaching"
        assert inputs["evaluationPeriods"] == inputs["datapointsToAlarm"]
        limits[alarm.name.removeprefix("monitoring-alarm-")] = (inputs["threshold"], inputs["tags"]["Severity"])
    planned = {
        "ecs-cpu": (80, "warning"),
        "ecs-memory": (85, "warning"),
        "rds-cpu": (70, "warning"),
        "rds-connections": (80, "critical"),
        "api-errors": (1, "critical"),
        "api-p95": (500, "warning"),
        # Ours: what would fill the monolith's disk, whose slot holds back (10 GiB); whoever met no healthy target; what is late (s).
        **dict.fromkeys(
            [f"{side}-slot-{what}" for side in ("source", "target") for what in ("lag", "disk")],
            (10 * 2**30, "critical"),
        ),
        **dict.fromkeys(
            [f"replication-{way}-{side}-latency" for way in ("forward", "reverse") for side in ("source", "target")],
            (10, "critical"),
        ),
        "balancer-errors": (1, "critical"),
        "no-healthy-target": (0, "critical"),
    }
    assert limits == planned


def test_each_alarm_reads_the_figure_that_it_is_named_for(stack: Declared) -> None:
    """Prevents an alarm of the CPU that reads the memory, the other database's, or a mean in which nobody sees a slot grow."""
    prefix = stack.one("aws:rds/instance:Instance").inputs["identifier"]
    ecs = {"ClusterName": "myteacher-cluster", "ServiceName": "task-service"}
    target, source = ({"DBInstanceIdentifier": name} for name in (prefix, "myteacher-production"))
    wanted: dict[str, tuple[str, str, str, Mapping[str, str]]] = {
        "ecs-cpu": ("AWS/ECS", "CPUUtilization", "Average", ecs),
        "ecs-memory": ("AWS/ECS", "MemoryUtilization", "Average", ecs),
        "rds-cpu": ("AWS/RDS", "CPUUtilization", "Average", target),
        "rds-connections": ("AWS/RDS", "DatabaseConnections", "Maximum", target),
        "api-p95": ("AWS/ApiGateway", "Latency", "p95", {"ApiId": "routes-api-id"}),
    }
    for side, of_side in (("source", source), ("target", target)):
        # A slot that nobody reads fills the monolith's disk; that is the outage this move could cause.
        wanted[f"{side}-slot-lag"] = ("AWS/RDS", "OldestReplicationSlotLag", "Maximum", of_side)
        wanted[f"{side}-slot-disk"] = ("AWS/RDS", "TransactionLogsDiskUsage", "Maximum", of_side)
    for way in ("forward", "reverse"):
        for side in ("source", "target"):
            wanted[f"replication-{way}-{side}-latency"] = (
                *("AWS/DMS", f"CDCLatency{side.capitalize()}", "Maximum"),
                {
                    "ReplicationInstanceIdentifier": "myteacher-task-replication",
                    # DMS names a task in its metrics by the end of its ARN.
                    "ReplicationTaskIdentifier": f"RESOURCE-replication-{way}-task",
                },
            )
    found = {}
    for alarm in stack.all(ALARM):
        if "metricQueries" not in (inputs := alarm.inputs):
            assert inputs["period"] == 60
            statistic = inputs.get("statistic") or inputs.get("extendedStatistic")
            figure = (inputs["namespace"], inputs["metricName"], statistic, inputs["dimensions"])
            found[alarm.name.removeprefix("monitoring-alarm-")] = figure
    assert found == wanted


def test_error_rate_is_a_rate(stack: Declared) -> None:
    """A count of errors would alarm on load."""
    errors = stack.one(ALARM, "monitoring-alarm-api-errors").inputs
    returned = [query for query in errors["metricQueries"] if query["returnData"]]
    assert [query["expression"] for query in returned] == ["IF(requests > 0, 100 * FILL(errors, 0) / requests, 0)"]
    assert measured(errors) == {"errors": ("5xx", "Sum", ["ApiId"]), "requests": ("Count", "Sum", ["ApiId"])}


def measured(alarm: Mapping[str, Any]) -> dict[str, tuple[str, str, list[str]]]:
    """What an alarm of a computed value looks at: metric, statistic and names of the dimensions, by id."""
    found = {query["id"]: query["metric"] for query in alarm["metricQueries"] if "metric" in query}
    assert all(metric["period"] == 60 for metric in found.values())
    return {key: (one["metricName"], one["stat"], sorted(one["dimensions"])) for key, one in found.items()}


def test_what_no_target_answered_is_watched() -> None:
    """With every task gone the load balancer answers by itself, and no metric of the target group tells of it."""
    assert not [alarm for alarm in declare().all(ALARM) if alarm.name.endswith("no-healthy-target")]
    stack = declare(serviceEnabled=True)
    own = stack.one(ALARM, "monitoring-alarm-balancer-errors").inputs
    assert measured(own)["errors"] == ("HTTPCode_ELB_5XX_Count", "Sum", ["LoadBalancer"])
    none = stack.one(ALARM, "monitoring-alarm-no-healthy-target").inputs
    group = ["LoadBalancer", "TargetGroup"]
    assert measured(none) == {
        "healthy": ("HealthyHostCount", "Maximum", group),
        "requests": ("RequestCount", "Sum", group),
        "unavailable": ("HTTPCode_ELB_503_Count", "Sum", ["LoadBalancer"]),
    }
    (computed,) = [query["expression"] for query in none["metricQueries"] if "expression" in query]
    assert computed == "IF(FILL(healthy, 0) < 1, FILL(requests, 0) + FILL(unavailable, 0), 0)"
    dimensions = next(query["metric"]["dimensions"] for query in none["metricQueries"] if query["id"] == "healthy")
    assert dimensions == {
        "LoadBalancer": "app/myteacher/50dc6c495c0c9188",
        "TargetGroup": "targetgroup/routes-target-group/0",
    }
    for inputs in (own, none):
        assert inputs["evaluationPeriods"] == inputs["datapointsToAlarm"] == 2
        assert inputs["tags"]["Severity"] == "critical"


def test_the_dashboard_has_both_sides_beside_each_other(stack: Declared) -> None:
    widgets = stack.one("aws:cloudwatch/dashboard:Dashboard").json("dashboardBody")["widgets"]
    sides: dict[str, dict[str, tuple[int, int]]] = {}
    for widget in widgets:
        side, _, what = widget["properties"]["title"].partition(": ")
        sides.setdefault(what, {})[side] = (widget["x"], widget["y"])
    both = [places for places in sides.values() if {"Monolith", "Task Service"} <= set(places)]
    # A figure of one side is one of the other's, of its own target group.
    shown: dict[str, list[tuple[str, str]]] = {"Monolith": [], "Task Service": []}
    for widget in widgets:
        side = widget["properties"]["title"].partition(": ")[0]
        for _, name, *where, how in (
            widget["properties"]["metrics"] if side in shown and "CPU" not in str(widget) else ()
        ):
            assert where == [
                *("LoadBalancer", "app/myteacher/50dc6c495c0c9188", "TargetGroup"),
                {"Monolith": MONOLITH.rpartition(":")[2], "Task Service": "targetgroup/routes-target-group/0"}[side],
            ]
            shown[side].append((name, how["stat"]))
    figures = {
        *(("RequestCount", "Sum"), ("HTTPCode_Target_5XX_Count", "Sum"), ("HTTPCode_Target_4XX_Count", "Sum")),
        *(("TargetResponseTime", "p50"), ("TargetResponseTime", "p95")),
        *(("HealthyHostCount", "Minimum"), ("UnHealthyHostCount", "Maximum")),
    }
    assert shown["Monolith"] == shown["Task Service"]
    assert set(shown["Monolith"]) == figures
    assert len(both) == 3
    for places in both:
        assert places["Monolith"][0] < places["Task Service"][0]
        assert places["Monolith"][1] == places["Task Service"][1]
    taken = [(widget["x"], widget["y"]) for widget in widgets]
    assert len(taken) == len(set(taken))


def test_the_two_saved_queries(stack: Declared) -> None:
    queries = [item.inputs for item in stack.all("aws:cloudwatch/queryDefinition:QueryDefinition")]
    assert [inputs["logGroupNames"] for inputs in queries] == [["/ecs/task-service"]] * 2
    # What is counted of which lines, per 5 minutes: the plan's words.
    found = {}
    for inputs in queries:
        (lines,) = re.findall(r"filter (.+)", inputs["queryString"])
        ((counted, each),) = re.findall(r"stats (.+) by (.+)", inputs["queryString"])
        found[lines] = ({re.sub(" as .*", "", one) for one in re.split(r", (?=\w+\()", counted)}, each)
    assert found == {
        "@message like /ERROR/": ({"count(*)"}, "bin(5m)"),
        "ispresent(responseTime)": ({"avg(responseTime)", "max(responseTime)", "pct(responseTime, 95)"}, "bin(5m)"),
    }


def test_mails_of_alarms_go_to_the_configured_addresses() -> None:
    declared = declare(alarmEmails=["oncall@example.com"])
    inputs = declared.one("aws:sns/topicSubscription:TopicSubscription").inputs
    topic = declared.stack_outputs["alarmTopicArn"]
    assert inputs == {"protocol": "email", "endpoint": "oncall@example.com", "topic": topic}
