"""The service: images (ECR), task definition and service (ECS)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import (
    Aws,
    Inputs,
    Kind,
    Tagging,
    compact,
    declared_tags,
    first,
    missing,
    same,
    tag_list,
)

_ECS_TAGGING = Tagging(
    "resourceArn", tags="tags", keys="tagKeys", written=lambda inputs: tag_list(inputs, "key", "value")
)


class Repository(Kind):
    """aws.ecr.Repository."""

    resource_type = "aws:ecr/repository:Repository"
    service = "ecr"
    params: ClassVar[Mapping[str, Any]] = {
        "name": "repositoryName",
        "imageTagMutability": "imageTagMutability",
        "imageScanningConfiguration": "imageScanningConfiguration",
    }
    special = frozenset({"encryptionConfigurations"})
    kept = frozenset({"forceDelete"})
    force_new = frozenset({"name", "encryptionConfigurations"})
    tagging = Tagging("resourceArn", tags="tags", keys="tagKeys")
    unique = ("name",)
    creation, identity = "create_repository", "{name}"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        encryption = [compact(item) for item in inputs.get("encryptionConfigurations") or []]
        return self.parameters(inputs) | ({"encryptionConfiguration": encryption[0]} if encryption else {})

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = aws.client("ecr").describe_repositories(repositoryNames=[id_])["repositories"][0]
        return {
            "arn": found["repositoryArn"],
            "repositoryUrl": found["repositoryUri"],
            "registryId": found["registryId"],
            "name": found["repositoryName"],
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        ecr = aws.client("ecr")
        if "imageTagMutability" in changed:
            mutability = new.get("imageTagMutability") or "MUTABLE"
            ecr.put_image_tag_mutability(repositoryName=id_, imageTagMutability=mutability)
        if "imageScanningConfiguration" in changed:
            scanning = new.get("imageScanningConfiguration") or {"scanOnPush": False}
            ecr.put_image_scanning_configuration(repositoryName=id_, imageScanningConfiguration=scanning)

    def standing(self, aws: Aws, id_: str) -> dict[str, Any]:
        ecr = aws.client("ecr")
        found = ecr.describe_repositories(repositoryNames=[id_])["repositories"][0]
        tags = ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"]
        parts = {"name": "repositoryName", "imageTagMutability": "imageTagMutability"}
        encryption = found.get("encryptionConfiguration") or {"encryptionType": "AES256"}
        return {
            **{key: found.get(name) for key, name in parts.items()},
            "imageScanningConfiguration": found.get("imageScanningConfiguration"),
            # AWS's own key is as if nothing were said, as with the provider.
            "encryptionConfigurations": None if encryption["encryptionType"] == "AES256" else [encryption],
            "tags": declared_tags(tags),
        }

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ecr").delete_repository(repositoryName=id_, force=bool(state.get("forceDelete")))


class LifecyclePolicy(Kind):
    """aws.ecr.LifecyclePolicy; putting is idempotent."""

    resource_type = "aws:ecr/lifecyclePolicy:LifecyclePolicy"
    service = "ecr"
    params: ClassVar[Mapping[str, Any]] = {"repository": "repositoryName", "policy": "lifecyclePolicyText"}
    force_new = frozenset({"repository"})
    unique = ("repository",)
    documents = frozenset({"policy"})
    identity = "{repository}"
    creation, puts = "put_lifecycle_policy", True
    removal = ("delete_lifecycle_policy", {"repositoryName": "id"})

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        return {"registryId": aws.client("ecr").get_lifecycle_policy(repositoryName=id_)["registryId"]}


def _reduced(container: Mapping[str, Any]) -> dict[str, Any]:
    """A container without what is empty, and lists that have no order in one."""
    made = {key: value for key, value in container.items() if value not in (None, 0, [], {})}
    for key in ("environment", "secrets"):
        made[key] = sorted(container.get(key, []), key=lambda item: str(item["name"]))
    # The provider knows the port of the host of a task with an interface of its own, not the protocol.
    made["portMappings"] = [{"hostPort": port["containerPort"], **port} for port in container.get("portMappings", [])]
    return {"essential": True, **made}


class TaskDefinition(Kind):
    """aws.ecs.TaskDefinition: every change is a new revision, the old one is deregistered."""

    resource_type = "aws:ecs/taskDefinition:TaskDefinition"
    service = "ecs"
    params: ClassVar[Mapping[str, Any]] = same(
        "family cpu memory networkMode requiresCompatibilities executionRoleArn taskRoleArn runtimePlatform"
    )
    special = frozenset({"containerDefinitions"})
    force_new = frozenset(params) | {"containerDefinitions"}
    documents = frozenset({"containerDefinitions"})
    tagging = _ECS_TAGGING
    creation, made = "register_task_definition", ("taskDefinition", "taskDefinitionArn")
    removal = ("deregister_task_definition", {"taskDefinition": "id"})

    def answered(self, inputs: Inputs) -> dict[str, Any]:
        """ECS fills in what a container leaves open (Amazon ECS API, 'ContainerDefinition')."""
        filled = [
            {
                **{"cpu": 0, "mountPoints": [], "volumesFrom": [], "systemControls": [], **container},
                "portMappings": [
                    {"protocol": "tcp", "hostPort": port["containerPort"], **port}
                    for port in container.get("portMappings", [])
                ],
            }
            for container in json.loads(inputs["containerDefinitions"])
        ]
        return {"containerDefinitions": json.dumps(filled)}

    def same(self, key: str, left: Any, right: Any) -> bool:
        """As the provider compares (terraform-provider-aws, internal/service/ecs/task_definition_equivalency.go)."""
        if key != "containerDefinitions":
            return super().same(key, left, right)
        try:
            return [_reduced(one) for one in json.loads(left)] == [_reduced(one) for one in json.loads(right)]
        except (AttributeError, KeyError, TypeError, ValueError):  # What is not known yet is no document.
            return False

    def call(self, inputs: Inputs) -> dict[str, Any]:
        return {**self.parameters(inputs), "containerDefinitions": json.loads(inputs["containerDefinitions"])}

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = aws.client("ecs").describe_task_definition(taskDefinition=id_)["taskDefinition"]
        arn = found["taskDefinitionArn"]
        return {"arn": arn, "arnWithoutRevision": arn.rpartition(":")[0], "revision": found["revision"]}


class Service(Kind):
    """aws.ecs.Service on Fargate."""

    resource_type = "aws:ecs/service:Service"
    service = "ecs"
    params: ClassVar[Mapping[str, Any]] = same(
        "cluster taskDefinition desiredCount launchType platformVersion loadBalancers "
        "healthCheckGracePeriodSeconds enableExecuteCommand propagateTags"
    ) | {"name": "serviceName", "enableEcsManagedTags": "enableECSManagedTags"}
    special = frozenset(
        {
            "networkConfiguration",
            "deploymentCircuitBreaker",
            "deploymentMinimumHealthyPercent",
            "deploymentMaximumPercent",
        }
    )
    kept = frozenset({"waitForSteadyState", "forceDelete"})
    force_new = frozenset({"name", "cluster", "launchType"})
    unique = ("name", "cluster")
    creation, made = "create_service", ("service", "serviceArn")
    tagging = _ECS_TAGGING

    def call(self, inputs: Inputs) -> dict[str, Any]:
        call = self.parameters(inputs)
        call["loadBalancers"] = [
            {key: value for key, value in item.items() if value is not None}
            for item in inputs.get("loadBalancers") or []
        ]
        if network := inputs.get("networkConfiguration"):
            call["networkConfiguration"] = {
                "awsvpcConfiguration": {
                    "subnets": network["subnets"],
                    "securityGroups": network.get("securityGroups") or [],
                    "assignPublicIp": "ENABLED" if network.get("assignPublicIp") else "DISABLED",
                }
            }
        deployment: dict[str, Any] = {}
        if breaker := inputs.get("deploymentCircuitBreaker"):
            deployment["deploymentCircuitBreaker"] = dict(breaker)
        if inputs.get("deploymentMinimumHealthyPercent") is not None:
            deployment["minimumHealthyPercent"] = inputs["deploymentMinimumHealthyPercent"]
        if inputs.get("deploymentMaximumPercent") is not None:
            deployment["maximumPercent"] = inputs["deploymentMaximumPercent"]
        if deployment:
            call["deploymentConfiguration"] = deployment
        return call

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = self._one(aws, inputs)
        return {"arn": found["serviceArn"], "name": found["serviceName"]}

    def drift(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        """What autoscaling and the circuit breaker change."""
        found = self._one(aws, inputs)
        return {key: found[key] for key in ("desiredCount", "taskDefinition")}

    def _one(self, aws: Aws, inputs: Inputs) -> Any:
        answer = aws.client("ecs").describe_services(cluster=inputs["cluster"], services=[inputs["name"]])
        found = first(answer["services"], lambda item: item["status"] != "INACTIVE")
        if found is None:
            raise missing(inputs["name"], "DescribeServices")
        return found

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        call = {key: value for key, value in self.call(new).items() if key not in {"serviceName", "launchType"}}
        if "desiredCount" not in changed:
            call.pop("desiredCount", None)  # Autoscaling may have moved it.
        aws.client("ecs").update_service(service=new["name"], **call)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("ecs").delete_service(cluster=state["cluster"], service=state["name"], force=True)


KINDS = (Repository(), LifecyclePolicy(), TaskDefinition(), Service())
