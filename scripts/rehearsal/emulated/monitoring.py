"""Watching: log groups and saved queries (CloudWatch Logs), alarms and dashboard (CloudWatch), the topic (SNS)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import (
    Aws,
    Inputs,
    Kind,
    Tagging,
    capitals,
    first,
    missing,
    pages,
    pascal,
    same,
    tag_map,
)
from scripts.rehearsal.emulated.limits import Limit, judge


class LogGroup(Kind):
    """aws.cloudwatch.LogGroup."""

    resource_type = "aws:cloudwatch/logGroup:LogGroup"
    service = "logs"
    params: ClassVar[Mapping[str, Any]] = same("kmsKeyId logGroupClass") | {"name": "logGroupName"}
    special = frozenset({"retentionInDays"})
    force_new = frozenset({"name", "logGroupClass"})
    tagging = Tagging("resourceArn", tags="tags", keys="tagKeys", written=tag_map)
    unique = ("name",)
    creation, identity = "create_log_group", "{name}"
    removal = ("delete_log_group", {"logGroupName": "id"})

    def create(self, aws: Aws, inputs: Inputs) -> str:
        id_ = super().create(aws, inputs)
        if days := inputs.get("retentionInDays"):
            aws.client("logs").put_retention_policy(logGroupName=id_, retentionInDays=days)
        return id_

    def _one(self, aws: Aws, name: str) -> Any:
        groups = pages(aws.client("logs"), "describe_log_groups", "logGroups", logGroupNamePrefix=name)
        found = first(groups, lambda group: group["logGroupName"] == name)
        if found is None:
            raise missing(name, "DescribeLogGroups")
        return found

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = self._one(aws, id_)
        return {"arn": str(found["arn"]).removesuffix(":*"), "name": found["logGroupName"]}

    def standing(self, aws: Aws, id_: str) -> dict[str, Any]:
        found = self._one(aws, id_)
        tags = aws.client("logs").list_tags_for_resource(resourceArn=str(found["arn"]).removesuffix(":*"))["tags"]
        return {
            "name": id_,
            "retentionInDays": found.get("retentionInDays"),
            "kmsKeyId": found.get("kmsKeyId"),
            "tags": tags,
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        logs = aws.client("logs")
        if "retentionInDays" in changed:
            if new.get("retentionInDays"):
                logs.put_retention_policy(logGroupName=id_, retentionInDays=new["retentionInDays"])
            elif old.get("retentionInDays"):
                logs.delete_retention_policy(logGroupName=id_)
        if "kmsKeyId" in changed:
            if new.get("kmsKeyId"):
                call = {"logGroupName": id_, "kmsKeyId": new["kmsKeyId"]}
                judge(aws, Limit.LOGS_ASSOCIATE_KEY, call)
            elif old.get("kmsKeyId"):
                judge(aws, Limit.LOGS_DISASSOCIATE_KEY, {"logGroupName": id_})


class QueryDefinition(Kind):
    """aws.cloudwatch.QueryDefinition: judged and answered from the inputs (Limit.QUERY_DEFINITION_PUT)."""

    resource_type = "aws:cloudwatch/queryDefinition:QueryDefinition"
    service = "logs"
    params: ClassVar[Mapping[str, Any]] = same("name queryString logGroupNames")

    def create(self, aws: Aws, inputs: Inputs) -> str:
        judge(aws, Limit.QUERY_DEFINITION_PUT, self.parameters(inputs))
        return hashlib.sha256(str(inputs["name"]).encode()).hexdigest()[:32]

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        return {"queryDefinitionId": id_}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        judge(aws, Limit.QUERY_DEFINITION_PUT, {**self.parameters(new), "queryDefinitionId": id_})

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        judge(aws, Limit.QUERY_DEFINITION_DELETE, {"queryDefinitionId": id_})


class MetricAlarm(Kind):
    """aws.cloudwatch.MetricAlarm; putting is idempotent."""

    resource_type = "aws:cloudwatch/metricAlarm:MetricAlarm"
    service = "cloudwatch"
    params: ClassVar[Mapping[str, Any]] = capitals(
        "alarmDescription alarmActions metricName namespace statistic extendedStatistic period evaluationPeriods "
        "datapointsToAlarm threshold comparisonOperator treatMissingData"
    ) | {
        "name": "AlarmName",
        "okActions": "OKActions",
        "evaluateLowSampleCountPercentiles": "EvaluateLowSampleCountPercentile",
    }
    special = frozenset({"dimensions", "metricQueries"})
    tagging = Tagging("ResourceARN")
    force_new = frozenset({"name"})
    unique = ("name",)
    creation, identity, puts = "put_metric_alarm", "{name}", True

    @staticmethod
    def _dimensions(dimensions: Any) -> list[dict[str, str]]:
        return [{"Name": name, "Value": str(value)} for name, value in sorted((dimensions or {}).items())]

    def call(self, inputs: Inputs) -> dict[str, Any]:
        call = self.parameters(inputs)
        if inputs.get("dimensions"):
            call["Dimensions"] = self._dimensions(inputs["dimensions"])
        queries = []
        for query in inputs.get("metricQueries") or []:
            made = pascal({key: value for key, value in query.items() if key != "metric"})
            if metric := query.get("metric"):
                stat = {"period": "Period", "stat": "Stat", "unit": "Unit"}
                made["MetricStat"] = {name: metric[key] for key, name in stat.items() if metric.get(key) is not None}
                made["MetricStat"]["Metric"] = {
                    "MetricName": metric["metricName"],
                    "Dimensions": self._dimensions(metric.get("dimensions")),
                    **({"Namespace": metric["namespace"]} if metric.get("namespace") else {}),
                }
            queries.append(made)
        if queries:
            call["Metrics"] = queries
        return call

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        alarms = aws.client("cloudwatch").describe_alarms(AlarmNames=[id_])["MetricAlarms"]
        if not alarms:
            raise missing(id_, "DescribeAlarms")
        return {"arn": alarms[0]["AlarmArn"]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("cloudwatch").delete_alarms(AlarmNames=[id_])


class Dashboard(Kind):
    """aws.cloudwatch.Dashboard; putting is idempotent."""

    resource_type = "aws:cloudwatch/dashboard:Dashboard"
    service = "cloudwatch"
    params: ClassVar[Mapping[str, Any]] = {"dashboardName": "DashboardName", "dashboardBody": "DashboardBody"}
    force_new = frozenset({"dashboardName"})
    unique = ("dashboardName",)
    documents = frozenset({"dashboardBody"})
    identity = "{dashboardName}"
    creation, puts = "put_dashboard", True

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        return {"dashboardArn": aws.client("cloudwatch").get_dashboard(DashboardName=id_)["DashboardArn"]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("cloudwatch").delete_dashboards(DashboardNames=[id_])


KINDS = (LogGroup(), QueryDefinition(), MetricAlarm(), Dashboard())
