"""The Task Service on ECS Fargate (docs/plan.md, 'Step 2')."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.config_stack import StackConfig
from components.keys import encryption_key
from components.logs import log_group, use_for_logs
from components.naming import (
    COGNITO_SECRET,
    DATABASE_PASSWORD_SECRET,
    POSTGRES_PORT,
    SERVICE_LOG_GROUP,
    SERVICE_NAME,
    SERVICE_PORT,
    Naming,
)
from components.network import permit, permit_https, security_group
from components.secrets import declare_secret
from components.service_image import declare_repository
from components.service_roles import ServiceRoles, declare_roles
from components.service_scaling import declare_scaling


@dataclass(frozen=True)
class TaskServiceArgs:
    """Arguments of :class:`TaskService`.

    ``attachment`` is the resource that attaches the target group to the load balancer: ECS refuses a service on a
    group that no listener uses.
    """

    naming: Naming
    config: StackConfig
    target_group_arn: pulumi.Input[str]
    attachment: pulumi.Resource
    database_security_group_id: pulumi.Input[str]
    database_host: pulumi.Input[str]
    #: 0 while the service is not enabled.
    min_tasks: int


class TaskService(Component):
    """Repository, secrets, roles, log group, task definition, service and its scaling."""

    component = "service"
    service_name: pulumi.Output[str]
    task_definition_arn: pulumi.Output[str]
    image: pulumi.Output[str]
    """The image of that definition, as it was deployed."""
    repository_url: pulumi.Output[str]
    log_group_name: pulumi.Output[str]
    password_secret_arn: pulumi.Output[str]
    """Secret of the application role's password. Declared without a value; an operator puts it."""

    def __init__(self, name: str, args: TaskServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args.naming, opts)

        key = encryption_key(
            self,
            name,
            purpose="Secrets, images and logs of the Task Service",
            users=(use_for_logs(self.naming, [SERVICE_LOG_GROUP]),),
        )
        repository = declare_repository(self, name, key_arn=key.arn, tag=args.config.service_image_tag)
        password, cognito = (
            declare_secret(self, f"{name}-{secret.rpartition('/')[2]}", secret, key_arn=key.arn, description=held)
            for secret, held in (
                (DATABASE_PASSWORD_SECRET, "Password of the Task Service's database role"),
                (COGNITO_SECRET, "User pool and client that the Task Service trusts"),
            )
        )
        log = log_group(self, f"{name}-log", SERVICE_LOG_GROUP, key_arn=key.arn)
        roles = declare_roles(
            self,
            name,
            repository_arn=repository.arn,
            log_group_arn=log.arn,
            secret_arns=[password.arn, cognito.arn],
            key_arn=key.arn,
        )
        definition = self._declare_task_definition(name, args, roles, repository, log, password, cognito)
        service = self._declare_service(name, args, roles, definition)
        declare_scaling(
            self,
            name,
            cluster_arn=args.config.cluster_arn,
            service_name=service.name,
            min_tasks=args.min_tasks,
            max_tasks=args.config.service_max_tasks,
        )

        self.service_name = service.name
        self.task_definition_arn = definition.arn
        self.image = definition.container_definitions.apply(lambda text: str(json.loads(text)[0]["image"]))
        self.repository_url = repository.repository_url
        self.log_group_name = log.name
        self.password_secret_arn = password.arn
        self.declared()

    def _declare_task_definition(
        self,
        name: str,
        args: TaskServiceArgs,
        roles: ServiceRoles,
        repository: aws.ecr.Repository,
        log: aws.cloudwatch.LogGroup,
        password: aws.secretsmanager.Secret,
        cognito: aws.secretsmanager.Secret,
    ) -> aws.ecs.TaskDefinition:
        environment = {
            "PORT": str(SERVICE_PORT),
            "NODE_ENV": "production",
            "DB_HOST": args.database_host,
            "DB_PORT": str(POSTGRES_PORT),
            "DB_NAME": args.config.target_database,
            "DB_USER": args.config.target_role,
            "DB_SSLMODE": "verify-full",
            "DB_SSLROOTCERT": args.config.service_root_certificate,
            # Node's own, so that a driver that only turns TLS on checks by it too (Node.js, 'Command-line API').
            "NODE_EXTRA_CA_CERTS": args.config.service_root_certificate,
        }
        container = {
            "name": SERVICE_NAME,
            "image": pulumi.Output.concat(repository.repository_url, ":", args.config.service_image_tag),
            "essential": True,
            "portMappings": [{"containerPort": SERVICE_PORT, "hostPort": SERVICE_PORT, "protocol": "tcp"}],
            "environment": [{"name": key, "value": value} for key, value in environment.items()],
            # By ARN: ECS puts the values into the container when it starts; they are in no state and no definition.
            "secrets": [
                {"name": "DB_PASSWORD", "valueFrom": password.arn},
                {"name": "COGNITO_CONFIG", "valueFrom": cognito.arn},
            ],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": log.name,
                    "awslogs-region": self.naming.region,
                    "awslogs-stream-prefix": SERVICE_NAME,
                },
            },
            "stopTimeout": 30,
        }
        return aws.ecs.TaskDefinition(
            f"{name}-task-definition",
            family=SERVICE_NAME,
            cpu=str(args.config.service_cpu),
            memory=str(args.config.service_memory_mb),
            network_mode="awsvpc",
            requires_compatibilities=["FARGATE"],
            runtime_platform=aws.ecs.TaskDefinitionRuntimePlatformArgs(
                cpu_architecture="X86_64", operating_system_family="LINUX"
            ),
            execution_role_arn=roles.execution.arn,
            task_role_arn=roles.task.arn,
            container_definitions=pulumi.Output.json_dumps([container], sort_keys=True),
            tags=self.tags(SERVICE_NAME),
            opts=self.child,
        )

    def _declare_service(
        self, name: str, args: TaskServiceArgs, roles: ServiceRoles, definition: aws.ecs.TaskDefinition
    ) -> aws.ecs.Service:
        group_id = self._declare_network(name, args)
        return aws.ecs.Service(
            f"{name}-service",
            name=SERVICE_NAME,
            cluster=args.config.cluster_arn,
            task_definition=definition.arn,
            desired_count=args.min_tasks,
            launch_type="FARGATE",
            platform_version="LATEST",
            deployment_minimum_healthy_percent=100,
            deployment_maximum_percent=200,
            deployment_circuit_breaker=aws.ecs.ServiceDeploymentCircuitBreakerArgs(enable=True, rollback=True),
            health_check_grace_period_seconds=60,
            load_balancers=[
                aws.ecs.ServiceLoadBalancerArgs(
                    target_group_arn=args.target_group_arn, container_name=SERVICE_NAME, container_port=SERVICE_PORT
                )
            ],
            network_configuration=aws.ecs.ServiceNetworkConfigurationArgs(
                subnets=args.config.private_subnet_ids, security_groups=[group_id], assign_public_ip=False
            ),
            enable_execute_command=False,
            enable_ecs_managed_tags=True,
            propagate_tags="SERVICE",
            # `canary start-service` waits for the tasks, and says why one does not run.
            wait_for_steady_state=False,
            tags=self.tags(SERVICE_NAME),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[args.attachment, roles.execution_policy],
                # Autoscaling sets the count, and so does a rollback that stops the service; `up` must undo neither.
                ignore_changes=["desiredCount"],
            ),
        )

    def _declare_network(self, name: str, args: TaskServiceArgs) -> pulumi.Output[str]:
        group = security_group(self, name, vpc_id=args.config.vpc_id, purpose="Task Service")
        permit(
            self,
            f"{name}-from-load-balancer",
            origin=args.config.load_balancer_security_group_id,
            destination=group.id,
            port=SERVICE_PORT,
            purpose="Load balancer to the Task Service",
        )
        permit(
            self,
            f"{name}-to-database",
            origin=group.id,
            destination=args.database_security_group_id,
            port=POSTGRES_PORT,
            purpose="Task Service to its database",
        )
        permit_https(self, name, origin=group.id, purpose="Images, secrets, logs, the monolith and Cognito keys")
        return group.id
