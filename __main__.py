"""The task migration's infrastructure: reads the stack's configuration, wires the components, exports outputs."""

from __future__ import annotations

import pulumi

from components.adoption import take_over
from components.alarms import AlarmScope
from components.backups import Backups, BackupsArgs
from components.database import TargetDatabase, TargetDatabaseArgs
from components.logs import Logs, LogsArgs
from components.monitoring import Monitoring, MonitoringArgs
from components.naming import ROUTES, SMOKE_HEADER, Naming
from components.replication import Replication, ReplicationArgs
from components.routes import Routes, RoutesArgs
from components.service import TaskService, TaskServiceArgs
from components.stack_config import read_smoke_header_value, read_stack_config
from components.state import State, StateArgs

config = read_stack_config()
smoke_header_value = read_smoke_header_value()
naming = Naming.of(config)
tasks = config.service_min_tasks if config.service_enabled else 0
take_over(config.existing)

logs = Logs("logs", LogsArgs(naming=naming))

backups = Backups("backups", BackupsArgs(naming=naming, bucket=config.backup_bucket))

state = State("state", StateArgs(naming=naming, bucket=config.state_bucket, lock_days=config.state_lock_days))

database = TargetDatabase(
    "database",
    TargetDatabaseArgs(naming=naming, config=config, log_key_arn=logs.key_arn),
)

replication = (
    Replication(
        "replication",
        ReplicationArgs(
            naming=naming,
            config=config,
            key_arn=database.key_arn,
            log_group=logs.dms_group,
            target_security_group_id=database.security_group_id,
        ),
    )
    if config.replication_engine == "dms"
    else None
)

routes = Routes(
    ROUTES,
    RoutesArgs(naming=naming, config=config, smoke_header_value=smoke_header_value, log_key_arn=logs.key_arn),
)

service = TaskService(
    "service",
    TaskServiceArgs(
        naming=naming,
        config=config,
        target_group_arn=routes.target_group_arn,
        attachment=routes.attachment,
        database_security_group_id=database.security_group_id,
        database_host=database.endpoint,
        min_tasks=tasks,
    ),
)

monitoring = Monitoring(
    "monitoring",
    MonitoringArgs(
        naming=naming,
        scope=AlarmScope(
            cluster=config.cluster_arn.rsplit("/", 1)[-1],
            service=service.service_name,
            database=database.identifier,
            source=config.source_instance_identifier,
            api_id=routes.api_id,
            load_balancer=config.listener_arn.split(":listener/", 1)[1].rsplit("/", 1)[0],
            target_group=routes.target_group_suffix,
            serving=config.service_enabled,
            connections_limit=config.database_alarm_connections,
            gates=config.gates,
            replication_instance=replication.instance_id if replication else None,
            replication_tasks={"forward": replication.forward_task_arn, "reverse": replication.reverse_task_arn}
            if replication
            else {},
        ),
        log_group_name=service.log_group_name,
        monolith_target_group_arn=config.monolith_target_group_arn,
        emails=config.alarm_emails,
    ),
)

pulumi.export("canaryWeight", config.canary_weight)
pulumi.export("targetEndpoint", database.endpoint)
pulumi.export("targetInstanceIdentifier", database.identifier)
pulumi.export("targetPort", database.port)
pulumi.export("targetDatabase", config.target_database)
pulumi.export("targetSecretArn", database.operator_secret_arn)
pulumi.export("targetMasterSecretArn", database.master_secret_arn)
pulumi.export("sourceHost", config.source_host)
pulumi.export("sourceInstanceIdentifier", config.source_instance_identifier)
pulumi.export("sourcePort", config.source_port)
pulumi.export("sourceDatabase", config.source_database)
pulumi.export("sourceSecretArn", config.source_operator_secret_arn or config.source_secret_arn)
pulumi.export("liveRuleArn", routes.live_rule_arn)
pulumi.export("smokeRuleArn", routes.smoke_rule_arn)
pulumi.export("listenerArn", config.listener_arn)
pulumi.export("taskTargetGroupArn", routes.target_group_arn)
pulumi.export("monolithTargetGroupArn", config.monolith_target_group_arn)
pulumi.export("clusterArn", config.cluster_arn)
pulumi.export("serviceName", service.service_name)
pulumi.export("serviceTasks", tasks)
pulumi.export("taskDefinitionArn", service.task_definition_arn)
pulumi.export("serviceImage", service.image)
pulumi.export("servicePasswordSecretArn", service.password_secret_arn)
pulumi.export("repositoryUrl", service.repository_url)
pulumi.export("apiId", routes.api_id)
pulumi.export("apiEndpoint", routes.api_endpoint)
if routes.domain_target is not None:
    pulumi.export("customDomainTarget", routes.domain_target)
pulumi.export("userPoolId", config.cognito_user_pool_id)
pulumi.export("backupBucket", backups.bucket)
pulumi.export("stateBucket", state.bucket)
pulumi.export("alarmTopicArn", monitoring.topic_arn)
pulumi.export("smokeHeaderName", SMOKE_HEADER)
pulumi.export("smokeHeaderValue", pulumi.Output.secret(smoke_header_value))
if replication:
    pulumi.export("dmsForwardTaskArn", replication.forward_task_arn)
    pulumi.export("dmsReverseTaskArn", replication.reverse_task_arn)
    pulumi.export("dmsInstanceArn", replication.instance_arn)
    pulumi.export("dmsInstanceId", replication.instance_id)
    pulumi.export("dmsSourceEndpointArn", replication.source_endpoint_arn)
    pulumi.export("dmsTargetEndpointArn", replication.target_endpoint_arn)
    pulumi.export("dmsTargetSecretArn", replication.target_secret_arn)
