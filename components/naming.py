"""Names: those that the plan fixes, and those that it leaves open, which are derived here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from components.config import PlaceConfig
from components.dms_settings import INSTANCE_ID

#: Names that the plan fixes (docs/plan.md), the same in each environment.
SERVICE_NAME = "task-service"
REPOSITORY_NAME = "myteacher-task-service"
SERVICE_LOG_GROUP = "/ecs/task-service"
ALARM_TOPIC = "myteacher-alerts"
DATABASE_PASSWORD_SECRET = "task-service/db-password"  # noqa: S105 - the secret's name
OPERATOR_SECRET = "task-service/operator"  # noqa: S105 - the secret's name
COGNITO_SECRET = "task-service/cognito-config"  # noqa: S105 - the secret's name
REPLICATION_SECRET = "task-service/replication"  # noqa: S105 - the secret's name
SERVICE_PORT = 3001
#: The component of the routes, and the live rule in it, as a preview names them.
ROUTES = "routes"
LIVE_RULE = "live-rule"
HEALTH_PATH = "/health"
#: What the live rule takes, and what leads to the Task Service at every weight.
TASK_PATHS = ("/api/tasks", "/api/tasks/*")
SMOKE_HEADER = "X-Task-Service-Smoke"
#: Logical name of each route of the HTTP API and its route key; each takes a token, the one for health takes none.
TASK_ROUTES = {
    "list": "GET /api/tasks",
    "create": "POST /api/tasks",
    "show": "GET /api/tasks/{id}",
    "update": "PUT /api/tasks/{id}",
    "delete": "DELETE /api/tasks/{id}",
    "complete": "POST /api/tasks/{id}/complete",
    "approve": "POST /api/tasks/{id}/approve",
    "reject": "POST /api/tasks/{id}/reject",
}
HEALTH_ROUTE = f"GET {HEALTH_PATH}"
#: The HTTP API, and what it logs each request in.
API_NAME = "myteacher-tasks"
API_LOG_GROUP = f"/aws/apigateway/{API_NAME}"
#: DMS writes the log of its tasks into a group that it names after the instance (AWS DMS, 'Viewing and managing task logs').
DMS_LOG_GROUP = f"dms-tasks-{INSTANCE_ID}"
#: What RDS for PostgreSQL exports to CloudWatch Logs.
DATABASE_EXPORTS = ("postgresql", "upgrade")
#: Policies of AWS that roles of the program bear, after ``policy/service-role/``.
MANAGED_POLICIES = (
    "AmazonDMSCloudWatchLogsRole",
    "AmazonDMSVPCManagementRole",
    "AmazonRDSEnhancedMonitoringRole",
)
POSTGRES_PORT = 5432
#: Roles that AWS DMS looks for by name, once an account (AWS DMS, 'Creating the IAM roles to use with AWS DMS').
DMS_ROLES = ("dms-vpc-role", "dms-cloudwatch-logs-role")
#: What an account may have already under a name that the program gives: by kind, the program's own word for it and that name.
STANDING: Mapping[str, Mapping[str, str]] = {
    "bucket": {"backups-bucket": "{backupBucket}", "state-bucket": "{stateBucket}"},
    "secret": {
        "replication-target-secret": REPLICATION_SECRET,
        "database-operator-secret": OPERATOR_SECRET,
        "service-db-password": DATABASE_PASSWORD_SECRET,
        "service-cognito-config": COGNITO_SECRET,
    },
    "log group": {
        "service-log": SERVICE_LOG_GROUP,
        "routes-access-log": API_LOG_GROUP,
        "logs-dms": DMS_LOG_GROUP,
        **{f"database-log-{export}": f"/aws/rds/instance/{{prefix}}/{export}" for export in DATABASE_EXPORTS},
    },
    "role": {
        "database-monitoring-role": "{prefix}-rds-monitoring",
        "replication-secrets-role": "{prefix}-dms-secrets",
        **{f"replication-{role}": role for role in DMS_ROLES},
        "service-execution-role": "{prefix}-execution",
        "service-task-role": "{prefix}-task",
    },
    "repository": {"service-repository": REPOSITORY_NAME},
}


@dataclass(frozen=True)
class Naming:
    """Where a stack stands (AWS partition, region, account) and what its resources are called."""

    environment: str
    partition: str
    region: str
    account: str
    bounded: bool = False
    """Whether each role bears the boundary."""
    protected: bool = True
    """Whether what holds data refuses to go."""

    @classmethod
    def of(cls, config: PlaceConfig) -> Naming:
        """Derive it from the stack's configuration.

        The account is the cluster's: reading it from that ARN spares a call to AWS while the program runs.
        """
        _, partition, _, _, account, _ = config.cluster_arn.split(":", 5)
        return cls(
            environment=config.environment,
            partition=partition,
            region=config.region,
            account=account,
            bounded=config.permissions_boundary,
            protected=config.protected,
        )

    @property
    def is_production(self) -> bool:
        """Whether this is production: Multi-AZ and long retention."""
        return self.environment == "prod"

    @property
    def prefix(self) -> str:
        """Start of the names that the plan leaves open, for example ``task-service-prod``."""
        return f"{SERVICE_NAME}-{self.environment}"

    @property
    def log_retention_days(self) -> int:
        """How long logs are kept, in days: a quarter in production, a month in staging."""
        return 90 if self.is_production else 30

    def database_log_group(self, export: str) -> str:
        """The log group that RDS writes one of its exports to (Amazon RDS, 'Publishing database logs to CloudWatch Logs')."""
        return f"/aws/rds/instance/{self.prefix}/{export}"

    @property
    def log_groups(self) -> tuple[str, ...]:
        """Every log group of the stack."""
        return (SERVICE_LOG_GROUP, API_LOG_GROUP, DMS_LOG_GROUP, *map(self.database_log_group, DATABASE_EXPORTS))

    @property
    def boundary_arn(self) -> str:
        """The permissions boundary of the program's roles, which an administrator makes (`task-migration ci-roles`)."""
        return f"arn:{self.partition}:iam::{self.account}:policy/ci-{self.prefix}-boundary"

    def arn(self, service: str, resource: str) -> str:
        """An ARN in this account and region, for example ``arn("logs", "log-group:/ecs/task-service")``."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def managed_policy(self, name: str) -> str:
        """ARN of a policy that AWS manages, for example ``service-role/AmazonRDSEnhancedMonitoringRole``."""
        return f"arn:{self.partition}:iam::aws:policy/{name}"

    @property
    def root_principal(self) -> str:
        """The account itself as a principal: its IAM policies then decide."""
        return f"arn:{self.partition}:iam::{self.account}:root"
