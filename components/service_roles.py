"""The two roles of an ECS task, with the least that each needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.policies import document, statement
from components.roles import service_role


@dataclass(frozen=True)
class ServiceRoles:
    """What the service is declared with."""

    execution: aws.iam.Role
    execution_policy: aws.iam.RolePolicy
    task: aws.iam.Role


def declare_roles(
    owner: Component,
    name: str,
    *,
    repository_arn: pulumi.Input[str],
    log_group_arn: pulumi.Input[str],
    secret_arns: Sequence[pulumi.Input[str]],
    key_arn: pulumi.Input[str],
) -> ServiceRoles:
    """Declare the execution role (ECS itself: image, secrets, logs) and the task role (the program: nothing of AWS)."""

    def role(suffix: str, description: str) -> aws.iam.Role:
        return service_role(
            owner,
            f"{name}-{suffix}-role",
            f"{owner.naming.prefix}-{suffix}",
            service="ecs-tasks.amazonaws.com",
            source_arn=owner.naming.arn("ecs", "*"),
            description=description,
        )

    execution = role("execution", "ECS starts the Task Service with it")
    policy = aws.iam.RolePolicy(
        f"{name}-execution-policy",
        name="start-tasks",
        role=execution.name,
        policy=document(
            # This one action knows no resource (Service Authorization Reference, Amazon ECR).
            statement("RegistryToken", ["ecr:GetAuthorizationToken"], ["*"]),
            statement(
                "Image",
                ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [repository_arn],
            ),
            statement(
                "Logs",
                ["logs:CreateLogStream", "logs:PutLogEvents"],
                [pulumi.Output.concat(log_group_arn, ":log-stream:*")],
            ),
            statement("Secrets", ["secretsmanager:GetSecretValue"], secret_arns),
            statement(
                "Key",
                ["kms:Decrypt"],
                [key_arn],
                condition={"StringEquals": {"kms:ViaService": f"secretsmanager.{owner.naming.region}.amazonaws.com"}},
            ),
        ),
        opts=owner.child,
    )
    return ServiceRoles(
        execution=execution, execution_policy=policy, task=role("task", "The Task Service runs under it")
    )
