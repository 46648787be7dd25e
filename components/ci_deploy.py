"""What the deploy role may do. Pure data."""

from __future__ import annotations

from typing import Any

from components.ci_boundary import makes_roles
from components.ci_place import Place, state, tagged, via, words
from components.naming import ALARM_TOPIC, REPLICATION_SECRET, REPOSITORY_NAME, SERVICE_NAME
from components.policies import statement

#: What makes security groups and their rules.
MAKES_GROUPS = ["CreateSecurityGroup", "AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress"]


def deploy(place: Place) -> dict[str, list[dict[str, Any]]]:
    """What `pulumi up` does, by policy. It reads no secret's value, no dump and no image, and deletes nothing that holds data."""
    return {
        "state": [*state(place, writes=True), *_reads()],
        "named": _named(place),
        "tagged": _tagged(place),
        "roles": makes_roles(place),
    }


def _reads() -> list[dict[str, Any]]:
    """What describes things: most of these actions know no resource, and none shows a value."""
    return [
        statement(
            "Looks",
            [
                *words(
                    "application-autoscaling", "DescribeScalableTargets DescribeScalingPolicies ListTagsForResource"
                ),
                *words("cloudwatch", "DescribeAlarms GetDashboard ListTagsForResource"),
                *words(
                    "dms",
                    "DescribeEndpoints DescribeReplicationInstances DescribeReplicationSubnetGroups DescribeReplicationTasks "
                    "ListTagsForResource",
                ),
                *words(
                    "ec2",
                    "DescribeAvailabilityZones DescribeNetworkInterfaces DescribeSecurityGroupRules DescribeSecurityGroups "
                    "DescribeSubnets DescribeVpcAttribute DescribeVpcs",
                ),
                *words("ecr", "DescribeRepositories GetLifecyclePolicy ListTagsForResource"),
                *words("ecs", "DeregisterTaskDefinition DescribeServices DescribeTaskDefinition ListTagsForResource"),
                *words(
                    "elasticloadbalancing",
                    "DescribeRules DescribeTags DescribeTargetGroupAttributes DescribeTargetGroups",
                ),
                *words("kms", "ListAliases"),
                *words("logs", "DescribeLogGroups DescribeQueryDefinitions ListTagsForResource"),
                # The API's access log is delivered in the name of who sets it (API Gateway, 'Configure logging for HTTP APIs').
                *words(
                    "logs",
                    "CreateLogDelivery DeleteLogDelivery DescribeResourcePolicies GetLogDelivery ListLogDeliveries "
                    "PutResourcePolicy UpdateLogDelivery",
                ),
                *words("logs", "DeleteQueryDefinition PutQueryDefinition"),
                *words(
                    "rds",
                    "DescribeDBInstances DescribeDBParameterGroups DescribeDBParameters DescribeDBSubnetGroups "
                    "ListTagsForResource",
                ),
                *words("sns", "GetSubscriptionAttributes Unsubscribe"),
            ],
            ["*"],
        )
    ]


def _named(place: Place) -> list[dict[str, Any]]:
    """What has a name that the program gives."""
    naming, config, prefix = place.naming, place.config, place.naming.prefix
    cluster = config.cluster_arn.rsplit("/", 1)[-1]
    nowhere = f"arn:{naming.partition}:apigateway:{naming.region}::"
    return [
        statement(
            "Api",
            words("apigateway", "DELETE GET PATCH POST PUT"),
            [
                nowhere + path
                for path in (
                    "/apis",
                    "/apis/*",
                    "/domainnames",
                    "/domainnames/*",
                    "/vpclinks",
                    "/vpclinks/*",
                    "/tags/*",
                )
            ],
        ),
        statement(
            "Scaling",
            words(
                "application-autoscaling",
                "DeleteScalingPolicy DeregisterScalableTarget PutScalingPolicy RegisterScalableTarget TagResource "
                "UntagResource",
            ),
            place.arns("application-autoscaling", "scalable-target/*"),
        ),
        statement(
            "Watching",
            words("cloudwatch", "DeleteAlarms DeleteDashboards PutDashboard PutMetricAlarm TagResource UntagResource"),
            [
                *place.arns("cloudwatch", f"alarm:{prefix}-*"),
                f"arn:{naming.partition}:cloudwatch::{naming.account}:dashboard/{prefix}",
            ],
        ),
        statement(
            "Images",
            words(
                "ecr",
                "CreateRepository DeleteLifecyclePolicy PutImageScanningConfiguration PutImageTagMutability "
                "PutLifecyclePolicy TagResource UntagResource",
            ),
            place.arns("ecr", f"repository/{REPOSITORY_NAME}"),
        ),
        statement(
            "Service",
            words("ecs", "CreateService DeleteService RegisterTaskDefinition TagResource UntagResource UpdateService"),
            place.arns("ecs", f"service/{cluster}/{SERVICE_NAME}", f"task-definition/{SERVICE_NAME}:*"),
        ),
        statement(
            "LogGroups",
            words("logs", "AssociateKmsKey CreateLogGroup PutRetentionPolicy TagResource UntagResource"),
            [
                arn
                for group in naming.log_groups
                for arn in place.arns("logs", f"log-group:{group}", f"log-group:{group}:*")
            ],
        ),
        statement(
            "Database",
            words(
                "rds",
                "AddTagsToResource CreateDBInstance CreateDBParameterGroup CreateDBSubnetGroup DeleteDBParameterGroup "
                "DeleteDBSubnetGroup ModifyDBInstance ModifyDBParameterGroup ModifyDBSubnetGroup RemoveTagsFromResource "
                "ResetDBParameterGroup",
            ),
            place.arns("rds", f"db:{prefix}", f"pg:{prefix}", f"subgrp:{prefix}"),
        ),
        statement(
            "Secrets",
            words(
                "secretsmanager",
                "CreateSecret DescribeSecret GetResourcePolicy TagResource UntagResource UpdateSecret",
            ),
            place.arns("secretsmanager", f"secret:{SERVICE_NAME}/*", "secret:rds!db-*"),
        ),
        # It goes with `replicationEngine: none`, and holds nothing that is not made anew.
        statement(
            "ReplicationSecret",
            words("secretsmanager", "DeleteSecret"),
            place.arns("secretsmanager", f"secret:{REPLICATION_SECRET}-*"),
        ),
        statement(
            "Topic",
            words(
                "sns",
                "CreateTopic DeleteTopic GetTopicAttributes ListTagsForResource SetTopicAttributes Subscribe TagResource "
                "UntagResource",
            ),
            place.arns("sns", ALARM_TOPIC),
        ),
        # The bucket itself, no object in it.
        statement(
            "Backups",
            words(
                "s3",
                "CreateBucket GetAccelerateConfiguration GetBucketAcl GetBucketCORS GetBucketLogging "
                "GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy GetBucketPublicAccessBlock "
                "GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite GetEncryptionConfiguration "
                "GetLifecycleConfiguration GetReplicationConfiguration ListBucket PutBucketOwnershipControls PutBucketObjectLockConfiguration "
                "PutBucketPolicy "
                "PutBucketPublicAccessBlock PutBucketTagging PutBucketVersioning PutEncryptionConfiguration "
                "PutLifecycleConfiguration",
            ),
            [*place.bucket(config.backup_bucket), *place.bucket(config.state_bucket)],
        ),
    ]


def _tagged(place: Place) -> list[dict[str, Any]]:
    """What AWS names at random: made freely, changed only where it bears this stack's tags."""
    config, naming = place.config, place.naming
    mine = tagged(place)
    rules = config.listener_arn.replace(":listener/", ":listener-rule/") + "/*"
    groups, ways = place.arns("ec2", "security-group/*"), place.arns("ec2", "security-group-rule/*")
    foreign = place.arns(
        "ec2",
        *(
            f"security-group/{id_}"
            for id_ in (
                config.load_balancer_security_group_id,
                config.source_security_group_id,
                *config.operator_security_group_ids,
            )
        ),
    )
    balanced = [config.listener_arn, rules, *place.arns("elasticloadbalancing", "targetgroup/*")]
    permits = (
        "AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress ModifySecurityGroupRules RevokeSecurityGroupEgress "
        "RevokeSecurityGroupIngress"
    )
    replicated = place.arns("dms", "endpoint:*", "rep:*", "subgrp:*", "task:*")
    keys = place.arns("kms", "key/*")
    return [
        statement(
            "GroupsMade",
            words("ec2", "CreateSecurityGroup"),
            [*groups, *place.arns("ec2", f"vpc/{config.vpc_id}")],
        ),
        # Tags say what is this stack's, so they are given to what is being made, never to what somebody else has.
        statement(
            "GroupsTagged", words("ec2", "CreateTags"), [*groups, *ways], condition=_made_by("ec2", MAKES_GROUPS)
        ),
        statement(
            "Groups",
            words("ec2", f"CreateTags DeleteSecurityGroup DeleteTags {permits}"),
            [*groups, *ways],
            condition=mine,
        ),
        # The ways into what was there before: these groups by name, and the rules in them.
        statement("Ways", words("ec2", permits), [*foreign, *ways]),
        statement("RulesMade", words("elasticloadbalancing", "CreateRule CreateTargetGroup"), balanced),
        statement(
            "RulesTagged",
            words("elasticloadbalancing", "AddTags"),
            balanced,
            condition=_made_by("elasticloadbalancing", ["CreateRule", "CreateTargetGroup"]),
        ),
        statement(
            "Rules",
            words(
                "elasticloadbalancing",
                "AddTags DeleteRule DeleteTargetGroup ModifyRule ModifyTargetGroup ModifyTargetGroupAttributes RemoveTags "
                "SetRulePriorities",
            ),
            balanced,
            condition=mine,
        ),
        statement(
            "ReplicationMade",
            words(
                "dms",
                "AddTagsToResource CreateEndpoint CreateReplicationInstance CreateReplicationSubnetGroup "
                "CreateReplicationTask",
            ),
            replicated,
            condition=tagged(place, "RequestTag"),
        ),
        statement(
            "Replication",
            words(
                "dms",
                "DeleteEndpoint DeleteReplicationInstance DeleteReplicationSubnetGroup DeleteReplicationTask ModifyEndpoint "
                "ModifyReplicationInstance ModifyReplicationSubnetGroup ModifyReplicationTask MoveReplicationTask "
                "RemoveTagsFromResource",
            ),
            replicated,
            condition=mine,
        ),
        # An endpoint's certificate is a resource of its calls too, and was there before.
        *(
            [statement("Certificate", words("dms", "CreateEndpoint ModifyEndpoint"), [config.dms_certificate_arn])]
            if config.dms_certificate_arn
            else []
        ),
        statement("KeysMade", words("kms", "CreateKey TagResource"), ["*"], condition=tagged(place, "RequestTag")),
        statement("Aliases", words("kms", "CreateAlias UpdateAlias"), place.arns("kms", f"alias/{naming.prefix}-*")),
        statement(
            "Keys",
            words(
                "kms",
                "CreateAlias CreateGrant DescribeKey EnableKeyRotation GetKeyPolicy GetKeyRotationStatus ListResourceTags "
                "PutKeyPolicy UntagResource UpdateAlias UpdateKeyDescription",
            ),
            keys,
            condition=mine,
        ),
        # A new secret's first, empty version (AWS Secrets Manager, 'Permissions for the KMS key').
        statement("SecretKeys", words("kms", "Decrypt GenerateDataKey"), keys, condition=via(place, "secretsmanager")),
    ]


def _made_by(service: str, calls: list[str]) -> dict[str, Any]:
    return {"StringEquals": {f"{service}:CreateAction": calls}}
