"""Security groups and their rules (EC2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, Tagging, tag_list


def _tags(resource_type: str, inputs: Inputs) -> dict[str, Any]:
    tags = tag_list(inputs)
    return {"TagSpecifications": [{"ResourceType": resource_type, "Tags": tags}]} if tags else {}


class _Ec2(Kind):
    service, tagged_as = "ec2", "id"
    tagging = Tagging(
        "Resources",
        several=True,
        add="create_tags",
        remove="delete_tags",
        keys="Tags",
        keys_written=lambda gone: [{"Key": key} for key in gone],
    )


class SecurityGroup(_Ec2):
    """aws.ec2.SecurityGroup without inline rules; like AWS's provider it takes the default egress rule away."""

    resource_type = "aws:ec2/securityGroup:SecurityGroup"
    params: ClassVar[Mapping[str, Any]] = {"name": "GroupName", "description": "Description", "vpcId": "VpcId"}
    force_new = frozenset({"name", "description", "vpcId"})
    unique = ("name", "vpcId")
    removal = ("delete_security_group", {"GroupId": "id"})

    def create(self, aws: Aws, inputs: Inputs) -> str:
        ec2 = aws.client("ec2")
        parameters = {"Description": "Managed by Pulumi", **self.parameters(inputs)}
        id_ = str(ec2.create_security_group(**parameters, **_tags("security-group", inputs))["GroupId"])
        every = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        ec2.revoke_security_group_egress(GroupId=id_, IpPermissions=every)
        return id_

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        group = aws.client("ec2").describe_security_groups(GroupIds=[id_])["SecurityGroups"][0]
        return {
            "arn": group.get("SecurityGroupArn") or aws.arn("ec2", f"security-group/{id_}"),
            "ownerId": group["OwnerId"],
            "name": group["GroupName"],
            "description": group["Description"],
            "vpcId": group["VpcId"],
        }


class _Rule(_Ec2):
    unique = ("securityGroupId", "ipProtocol", "fromPort", "toPort", "cidrIpv4", "referencedSecurityGroupId")
    special = force_new = frozenset({*unique, "description"})
    egress = False

    @staticmethod
    def _permission(inputs: Inputs) -> dict[str, Any]:
        said = {"Description": inputs["description"]} if inputs.get("description") else {}
        permission: dict[str, Any] = {"IpProtocol": str(inputs["ipProtocol"])}
        if inputs.get("fromPort") is not None:
            permission |= {"FromPort": inputs["fromPort"], "ToPort": inputs["toPort"]}
        if inputs.get("cidrIpv4"):
            permission["IpRanges"] = [{"CidrIp": inputs["cidrIpv4"], **said}]
        if inputs.get("referencedSecurityGroupId"):
            permission["UserIdGroupPairs"] = [{"GroupId": inputs["referencedSecurityGroupId"], **said}]
        return permission

    def create(self, aws: Aws, inputs: Inputs) -> str:
        ec2 = aws.client("ec2")
        call = ec2.authorize_security_group_egress if self.egress else ec2.authorize_security_group_ingress
        answer = call(
            GroupId=inputs["securityGroupId"],
            IpPermissions=[self._permission(inputs)],
            **_tags("security-group-rule", inputs),
        )
        return str(answer["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        rules = aws.client("ec2").describe_security_group_rules(SecurityGroupRuleIds=[id_])["SecurityGroupRules"]
        return {
            "securityGroupRuleId": str(rules[0]["SecurityGroupRuleId"]),
            "arn": aws.arn("ec2", f"security-group-rule/{id_}"),
        }

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        ec2 = aws.client("ec2")
        call = ec2.revoke_security_group_egress if self.egress else ec2.revoke_security_group_ingress
        # By permission: moto 5.2.5 does not take SecurityGroupRuleIds here; AWS takes both.
        call(GroupId=state["securityGroupId"], IpPermissions=[self._permission(state)])


class IngressRule(_Rule):
    """aws.vpc.SecurityGroupIngressRule."""

    resource_type = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"


class EgressRule(_Rule):
    """aws.vpc.SecurityGroupEgressRule."""

    resource_type = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    egress = True


KINDS = (SecurityGroup(), IngressRule(), EgressRule())
