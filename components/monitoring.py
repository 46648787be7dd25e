"""What watches the move: topic, alarms, dashboard and saved queries (docs/plan.md, 'Watching')."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.alarms import AlarmScope, declare_alarms
from components.component import Component
from components.dashboard import dashboard_body
from components.keys import encryption_key
from components.naming import ALARM_TOPIC, Naming
from components.policies import bound, document, statement

#: Saved Logs Insights queries, by name.
QUERIES: Mapping[str, str] = {
    "task-service/errors-per-5-minutes": (
        "fields @timestamp, @message\n| filter @message like /ERROR/\n| stats count(*) as errors by bin(5m)"
    ),
    "task-service/response-time-per-5-minutes": (
        "filter ispresent(responseTime)\n"
        "| stats avg(responseTime) as average, max(responseTime) as maximum, pct(responseTime, 95) as p95 by bin(5m)"
    ),
}


@dataclass(frozen=True)
class MonitoringArgs:
    """Arguments of :class:`Monitoring`."""

    naming: Naming
    scope: AlarmScope
    log_group_name: pulumi.Input[str]
    monolith_target_group_arn: str
    emails: Sequence[str] = ()


class Monitoring(Component):
    """Encrypted topic with its subscriptions, the alarms, the dashboard and the saved queries."""

    component = "monitoring"
    topic_arn: pulumi.Output[str]
    dashboard_name: pulumi.Output[str]

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args.naming, opts)

        topic = self._declare_topic(name, args)
        declare_alarms(self, name, scope=args.scope, topic_arn=topic.arn)
        dashboard = aws.cloudwatch.Dashboard(
            f"{name}-dashboard",
            dashboard_name=self.naming.prefix,
            dashboard_body=dashboard_body(
                region=self.naming.region,
                scope=args.scope,
                monolith=args.monolith_target_group_arn.rsplit(":", 1)[1],
            ),
            opts=self.child,
        )
        for number, (query_name, query) in enumerate(QUERIES.items(), start=1):
            aws.cloudwatch.QueryDefinition(
                f"{name}-query-{number}",
                name=query_name,
                log_group_names=[args.log_group_name],
                query_string=query,
                opts=self.child,
            )
        self.topic_arn = topic.arn
        self.dashboard_name = dashboard.dashboard_name
        self.declared()

    def _declare_topic(self, name: str, args: MonitoringArgs) -> aws.sns.Topic:
        alarms_only = bound(self.naming, self.naming.arn("cloudwatch", "alarm:*"))
        key = encryption_key(
            self,
            name,
            purpose="Alarm topic",
            # CloudWatch publishes in its own name, and an encrypted topic asks it for the key (Amazon SNS,
            # 'Key management').
            users=(
                statement(
                    "Alarms",
                    ["kms:Decrypt", "kms:GenerateDataKey"],
                    ["*"],
                    principal={"Service": "cloudwatch.amazonaws.com"},
                    condition=alarms_only,
                ),
            ),
        )
        topic = aws.sns.Topic(
            f"{name}-topic",
            name=ALARM_TOPIC,
            kms_master_key_id=key.arn,
            tags=self.tags(ALARM_TOPIC),
            opts=self.child,
        )
        aws.sns.TopicPolicy(
            f"{name}-topic-policy",
            arn=topic.arn,
            policy=document(
                statement(
                    "Alarms",
                    ["sns:Publish"],
                    [topic.arn],
                    principal={"Service": "cloudwatch.amazonaws.com"},
                    condition=alarms_only,
                )
            ),
            opts=self.child,
        )
        for address in args.emails:
            aws.sns.TopicSubscription(
                f"{name}-mail-{address}", topic=topic.arn, protocol="email", endpoint=address, opts=self.child
            )
        return topic
