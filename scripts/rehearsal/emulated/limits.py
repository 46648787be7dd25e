"""What moto 5.2.5 cannot hold, all in one place, and how such a resource is answered from its declared inputs.

The parameters of each such call are judged by botocore's validator against the service's model, exactly as if the call
were sent; only the sending is left out. Everything else that the program declares is really held by moto. One thing is
sent and lost all the same: moto takes an alarm's percentile statistic (``extendedStatistic``, ``p95``) and does not
answer it when the alarm is described; the resource's outputs have it from the inputs.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator

from scripts.rehearsal.emulated.core import Aws


class Limit(Enum):
    """One operation that is judged and not sent: its service, its name, the reason."""

    QUERY_DEFINITION_PUT = ("logs", "PutQueryDefinition", "moto does not implement saved queries")
    QUERY_DEFINITION_DELETE = ("logs", "DeleteQueryDefinition", "moto does not implement saved queries")
    BUCKET_POLICY = (
        "s3",
        "PutBucketPolicy",
        "moto judges a Deny without its Condition, so one for plain HTTP refuses all",
    )
    LOGS_ASSOCIATE_KEY = ("logs", "AssociateKmsKey", "moto keeps a log group's key as it was created")
    LOGS_DISASSOCIATE_KEY = ("logs", "DisassociateKmsKey", "moto keeps a log group's key as it was created")
    STAGE_UPDATE = ("apigatewayv2", "UpdateStage", "moto keeps a stage as it was created")
    DOMAIN_UPDATE = ("apigatewayv2", "UpdateDomainName", "moto keeps a domain as it was created")
    MAPPING_UPDATE = ("apigatewayv2", "UpdateApiMapping", "moto keeps a mapping as it was created")
    RDS_MODIFY_SUBNET_GROUP = ("rds", "ModifyDBSubnetGroup", "moto forgets a subnet group when it is modified")
    DMS_MODIFY_ENDPOINT = ("dms", "ModifyEndpoint", "moto keeps an endpoint as it was created")
    DMS_MODIFY_TASK = ("dms", "ModifyReplicationTask", "moto keeps a task as it was created")
    DMS_MOVE_TASK = ("dms", "MoveReplicationTask", "moto keeps a task where it was created")
    DMS_MODIFY_SUBNET_GROUP = ("dms", "ModifyReplicationSubnetGroup", "moto keeps a subnet group as it was created")
    DMS_ADD_TAGS = ("dms", "AddTagsToResource", "moto keeps tags as they were created")
    DMS_REMOVE_TAGS = ("dms", "RemoveTagsFromResource", "moto keeps tags as they were created")


def judge(aws: Aws, limit: Limit, parameters: dict[str, Any]) -> None:
    """Have botocore validate ``parameters`` for the operation, without sending it.

    Raises:
        ParamValidationError: as the call itself would.
    """
    service, operation, _ = limit.value
    model = aws.client(service).meta.service_model.operation_model(operation)
    report = ParamValidator().validate(parameters, model.input_shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())
