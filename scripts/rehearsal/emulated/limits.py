"""What moto 5.2.5 cannot hold, all in one place, and how such a resource is answered from its declared inputs.

The parameters of each such call are judged by botocore's validator against the service's model, exactly as if the call
were sent; only the sending is left out. Everything else that the program declares is really held by moto. One thing is
sent and lost all the same: moto takes an alarm's percentile statistic (``extendedStatistic``, ``p95``) and does not
answer it when the alarm is described; the resource's outputs have it from the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator

from scripts.rehearsal.emulated.core import Aws


@dataclass(frozen=True)
class Limit:
    """One operation that is judged and not sent."""

    service: str
    operation: str
    reason: str


QUERY_DEFINITION_PUT = Limit("logs", "PutQueryDefinition", "moto does not implement saved queries")
QUERY_DEFINITION_DELETE = Limit("logs", "DeleteQueryDefinition", "moto does not implement saved queries")
BUCKET_POLICY = Limit(
    "s3", "PutBucketPolicy", "moto judges a Deny without its Condition, so one for plain HTTP refuses all"
)
LOGS_ASSOCIATE_KEY = Limit("logs", "AssociateKmsKey", "moto keeps a log group's key as it was created")
LOGS_DISASSOCIATE_KEY = Limit("logs", "DisassociateKmsKey", "moto keeps a log group's key as it was created")
STAGE_UPDATE = Limit("apigatewayv2", "UpdateStage", "moto keeps a stage as it was created")
DOMAIN_UPDATE = Limit("apigatewayv2", "UpdateDomainName", "moto keeps a domain as it was created")
MAPPING_UPDATE = Limit("apigatewayv2", "UpdateApiMapping", "moto keeps a mapping as it was created")
AUTHORIZER_LIST = Limit("apigatewayv2", "GetAuthorizers", "moto answers one authorizer by its id, and no list")
RDS_MODIFY_SUBNET_GROUP = Limit("rds", "ModifyDBSubnetGroup", "moto forgets a subnet group when it is modified")
DMS_MODIFY_ENDPOINT = Limit("dms", "ModifyEndpoint", "moto keeps an endpoint as it was created")
DMS_MODIFY_TASK = Limit("dms", "ModifyReplicationTask", "moto keeps a task as it was created")
DMS_MOVE_TASK = Limit("dms", "MoveReplicationTask", "moto keeps a task where it was created")
DMS_MODIFY_SUBNET_GROUP = Limit("dms", "ModifyReplicationSubnetGroup", "moto keeps a subnet group as it was created")
DMS_ADD_TAGS = Limit("dms", "AddTagsToResource", "moto keeps tags as they were created")
DMS_REMOVE_TAGS = Limit("dms", "RemoveTagsFromResource", "moto keeps tags as they were created")

LIMITS = (
    QUERY_DEFINITION_PUT,
    QUERY_DEFINITION_DELETE,
    BUCKET_POLICY,
    LOGS_ASSOCIATE_KEY,
    LOGS_DISASSOCIATE_KEY,
    STAGE_UPDATE,
    DOMAIN_UPDATE,
    MAPPING_UPDATE,
    AUTHORIZER_LIST,
    RDS_MODIFY_SUBNET_GROUP,
    DMS_MODIFY_ENDPOINT,
    DMS_MODIFY_TASK,
    DMS_MOVE_TASK,
    DMS_MODIFY_SUBNET_GROUP,
    DMS_ADD_TAGS,
    DMS_REMOVE_TAGS,
)


def judge(aws: Aws, limit: Limit, parameters: dict[str, Any]) -> None:
    """Have botocore validate ``parameters`` for the operation, without sending it.

    Raises:
        ParamValidationError: as the call itself would.
    """
    model = aws.client(limit.service).meta.service_model.operation_model(limit.operation)
    report = ParamValidator().validate(parameters, model.input_shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())
