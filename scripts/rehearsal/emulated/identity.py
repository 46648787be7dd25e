"""Roles and their policies (IAM), keys (KMS), secrets (Secrets Manager)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import (
    Aws,
    Inputs,
    Kind,
    ProviderError,
    Tagging,
    capitals,
    declared_tags,
    missing,
    pages,
    tag_list,
)


class Role(Kind):
    """aws.iam.Role."""

    resource_type = "aws:iam/role:Role"
    service = "iam"
    params: ClassVar[Mapping[str, Any]] = capitals("path description permissionsBoundary") | {
        "name": "RoleName",
        "assumeRolePolicy": "AssumeRolePolicyDocument",
    }
    force_new = frozenset({"name", "path"})
    unique = ("name",)
    policies = frozenset({"assumeRolePolicy"})
    tagging, tagged_as = Tagging("RoleName", add="tag_role", remove="untag_role"), "id"
    identity = "{name}"
    creation = "create_role"
    removal = ("delete_role", {"RoleName": "id"})

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        role = aws.client("iam").get_role(RoleName=id_)["Role"]
        return {"arn": role["Arn"], "uniqueId": role["RoleId"], "name": role["RoleName"], "path": role["Path"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        iam = aws.client("iam")
        if "assumeRolePolicy" in changed:
            iam.update_assume_role_policy(RoleName=id_, PolicyDocument=new["assumeRolePolicy"])
        if "description" in changed:
            iam.update_role(RoleName=id_, **self.parameters(new, {"description"}))
        if "permissionsBoundary" in changed:
            if new.get("permissionsBoundary"):
                iam.put_role_permissions_boundary(RoleName=id_, PermissionsBoundary=new["permissionsBoundary"])
            elif old.get("permissionsBoundary"):
                iam.delete_role_permissions_boundary(RoleName=id_)

    def standing(self, aws: Aws, id_: str) -> dict[str, Any]:
        role = aws.client("iam").get_role(RoleName=id_)["Role"]
        return {
            "name": id_,
            # What is so by default is as if it were not said, as with the provider.
            "path": None if role["Path"] == "/" else role["Path"],
            "description": role.get("Description"),
            "assumeRolePolicy": json.dumps(role["AssumeRolePolicyDocument"]),
            "tags": declared_tags(role.get("Tags", [])),
        }


class RolePolicy(Kind):
    """aws.iam.RolePolicy: an inline policy."""

    resource_type = "aws:iam/rolePolicy:RolePolicy"
    service = "iam"
    params: ClassVar[Mapping[str, Any]] = {"role": "RoleName", "name": "PolicyName", "policy": "PolicyDocument"}
    force_new = frozenset({"role", "name"})
    unique = ("role", "name")
    policies = frozenset({"policy"})
    identity = "{role}:{name}"
    creation, puts = "put_role_policy", True
    removal = ("delete_role_policy", {"RoleName": "role", "PolicyName": "name"})

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        role, name = id_.split(":", 1)
        aws.client("iam").get_role_policy(RoleName=role, PolicyName=name)
        return {"role": role, "name": name}


class RolePolicyAttachment(Kind):
    """aws.iam.RolePolicyAttachment."""

    resource_type = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    service = "iam"
    params: ClassVar[Mapping[str, Any]] = {"role": "RoleName", "policyArn": "PolicyArn"}
    force_new = frozenset({"role", "policyArn"})
    unique = ("role", "policyArn")
    identity = "{role}/{policyArn}"
    creation = "attach_role_policy"
    removal = ("detach_role_policy", {"RoleName": "role", "PolicyArn": "policyArn"})

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        role, policy = id_.split("/", 1)
        attached = pages(aws.client("iam"), "list_attached_role_policies", "AttachedPolicies", RoleName=role)
        if not any(item["PolicyArn"] == policy for item in attached):
            raise missing(id_, "ListAttachedRolePolicies")
        return {}


class Key(Kind):
    """aws.kms.Key. Deleting schedules the deletion, as AWS knows no other."""

    resource_type = "aws:kms/key:Key"
    service = "kms"
    params: ClassVar[Mapping[str, Any]] = capitals("description policy")
    kept = frozenset({"deletionWindowInDays"})
    special = frozenset({"enableKeyRotation"})
    policies = frozenset({"policy"})
    tagging, tagged_as = Tagging("KeyId", written=lambda inputs: tag_list(inputs, "TagKey", "TagValue")), "id"

    def create(self, aws: Aws, inputs: Inputs) -> str:
        kms = aws.client("kms")
        key = kms.create_key(**self.tagged(self.parameters(inputs), inputs))["KeyMetadata"]["KeyId"]
        if inputs.get("enableKeyRotation"):
            kms.enable_key_rotation(KeyId=key)
        return str(key)

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        kms = aws.client("kms")
        key = kms.describe_key(KeyId=id_)["KeyMetadata"]
        policy = inputs.get("policy") or kms.get_key_policy(KeyId=id_, PolicyName="default")["Policy"]
        return {"arn": key["Arn"], "keyId": key["KeyId"], "policy": policy}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        kms = aws.client("kms")
        if "description" in changed:
            kms.update_key_description(KeyId=id_, Description=new.get("description") or "")
        if "policy" in changed and new.get("policy"):
            kms.put_key_policy(KeyId=id_, PolicyName="default", Policy=new["policy"])
        if "enableKeyRotation" in changed:
            call = kms.enable_key_rotation if new.get("enableKeyRotation") else kms.disable_key_rotation
            call(KeyId=id_)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        days = state.get("deletionWindowInDays") or 30
        aws.client("kms").schedule_key_deletion(KeyId=id_, PendingWindowInDays=days)


class Alias(Kind):
    """aws.kms.Alias."""

    resource_type = "aws:kms/alias:Alias"
    service = "kms"
    params: ClassVar[Mapping[str, Any]] = {"name": "AliasName", "targetKeyId": "TargetKeyId"}
    force_new = frozenset({"name"})
    unique = ("name",)
    identity = "{name}"
    creation = "create_alias"
    removal = ("delete_alias", {"AliasName": "id"})

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        key = aws.client("kms").describe_key(KeyId=id_)["KeyMetadata"]
        return {"arn": aws.arn("kms", id_), "targetKeyArn": key["Arn"], "name": id_}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        aws.client("kms").update_alias(AliasName=id_, TargetKeyId=new["targetKeyId"])


class Secret(Kind):
    """aws.secretsmanager.Secret. With a recovery window of 0 the secret goes at once."""

    resource_type = "aws:secretsmanager/secret:Secret"
    service = "secretsmanager"
    params: ClassVar[Mapping[str, Any]] = {"name": "Name", "description": "Description", "kmsKeyId": "KmsKeyId"}
    kept = frozenset({"recoveryWindowInDays"})
    tagging = Tagging("SecretId")
    force_new = frozenset({"name"})
    unique = ("name",)

    def create(self, aws: Aws, inputs: Inputs) -> str:
        client = aws.client("secretsmanager")
        try:
            return str(client.create_secret(**self.tagged(self.parameters(inputs), inputs))["ARN"])
        except client.exceptions.ResourceExistsException:
            gone = client.describe_secret(SecretId=inputs["name"]).get("DeletedDate")
            if gone is None:
                raise
            raise ProviderError(
                f"InvalidRequestException: a secret with the name {inputs['name']} is already scheduled for deletion, until {gone:%Y-%m-%d}"
            ) from None

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        secret = aws.client("secretsmanager").describe_secret(SecretId=id_)
        return {"arn": secret["ARN"], "name": secret["Name"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        client = aws.client("secretsmanager")
        if changed & {"description", "kmsKeyId"}:
            client.update_secret(SecretId=id_, **self.parameters(new, {"description", "kmsKeyId"}))

    def standing(self, aws: Aws, id_: str) -> dict[str, Any]:
        found = aws.client("secretsmanager").describe_secret(SecretId=id_)
        names = {key: found.get(name) for key, name in self.params.items()}
        return {**names, "tags": declared_tags(found.get("Tags", []))}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        window = state.get("recoveryWindowInDays")
        how = {"ForceDeleteWithoutRecovery": True} if window == 0 else {"RecoveryWindowInDays": window or 30}
        aws.client("secretsmanager").delete_secret(SecretId=id_, **how)


KINDS = (Role(), RolePolicy(), RolePolicyAttachment(), Key(), Alias(), Secret())
