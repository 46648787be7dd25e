"""The topic that alarms are told on (SNS)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, Tagging, capitals


class Topic(Kind):
    """aws.sns.Topic; creating one again with the same attributes answers the same ARN."""

    resource_type = "aws:sns/topic:Topic"
    service = "sns"
    params: ClassVar[Mapping[str, Any]] = {"name": "Name"}
    special = frozenset({"kmsMasterKeyId", "policy"})
    force_new = frozenset({"name"})
    unique = ("name",)
    policies = frozenset({"policy"})
    tagging = Tagging("ResourceArn")
    _ATTRIBUTES: ClassVar[Mapping[str, Any]] = capitals("kmsMasterKeyId policy")
    creation, made = "create_topic", ("TopicArn",)
    removal = ("delete_topic", {"TopicArn": "id"})

    def call(self, inputs: Inputs) -> dict[str, Any]:
        attributes = {name: inputs[key] for key, name in self._ATTRIBUTES.items() if inputs.get(key) is not None}
        return {**self.parameters(inputs), "Attributes": attributes}

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        attributes = aws.client("sns").get_topic_attributes(TopicArn=id_)["Attributes"]
        return {"arn": id_, "owner": attributes.get("Owner", ""), "name": id_.rpartition(":")[2]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        sns = aws.client("sns")
        for key in sorted(changed & set(self._ATTRIBUTES)):
            if new.get(key) is not None or old.get(key) is not None:
                sns.set_topic_attributes(
                    TopicArn=id_, AttributeName=self._ATTRIBUTES[key], AttributeValue=new.get(key) or ""
                )


class TopicPolicy(Kind):
    """aws.sns.TopicPolicy; deleting it sets the owner-only policy, as AWS's provider does, since a topic has always one."""

    resource_type = "aws:sns/topicPolicy:TopicPolicy"
    service = "sns"
    params: ClassVar[Mapping[str, Any]] = {"arn": "TopicArn", "policy": "AttributeValue"}
    force_new = frozenset({"arn"})
    unique = ("arn",)
    policies = frozenset({"policy"})
    creation, identity, puts = "set_topic_attributes", "{arn}", True

    def call(self, inputs: Inputs) -> dict[str, Any]:
        return {**self.parameters(inputs), "AttributeName": "Policy"}

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        return {"owner": aws.client("sns").get_topic_attributes(TopicArn=id_)["Attributes"].get("Owner", "")}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        owner = self.read(aws, id_, state)["owner"]
        statement = {
            "Sid": "__default_statement_ID",
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": ["SNS:Publish", "SNS:Subscribe", "SNS:GetTopicAttributes", "SNS:SetTopicAttributes"],
            "Resource": id_,
            "Condition": {"StringEquals": {"AWS:SourceOwner": owner}},
        }
        policy = json.dumps({"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]})
        self.create(aws, {"arn": id_, "policy": policy})


class TopicSubscription(Kind):
    """aws.sns.TopicSubscription; subscribing the same endpoint again answers the same ARN."""

    resource_type = "aws:sns/topicSubscription:TopicSubscription"
    service = "sns"
    params: ClassVar[Mapping[str, Any]] = {"topic": "TopicArn", "protocol": "Protocol", "endpoint": "Endpoint"}
    force_new = frozenset({"topic", "protocol", "endpoint"})
    unique = ("topic", "protocol", "endpoint")
    creation, made = "subscribe", ("SubscriptionArn",)
    removal = ("unsubscribe", {"SubscriptionArn": "id"})

    def call(self, inputs: Inputs) -> dict[str, Any]:
        return {**self.parameters(inputs), "ReturnSubscriptionArn": True}

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client("sns").get_subscription_attributes(SubscriptionArn=id_)
        return {"arn": id_}


KINDS = (Topic(), TopicPolicy(), TopicSubscription())
