"""A whole stack's configuration: what the database commands need (:mod:`components.config`) and what is declared."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from components.config import ARN, MigrationConfig, PlaceConfig, aws_id
from components.naming import STANDING

SubnetId = Annotated[str, aws_id("subnet", "subnet-0a1b2c3d")]
#: Elastic Load Balancing, 'Host conditions': 128 characters, * and ? as wildcards, a dot, letters alone behind the last one.
HostPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9.*?-]*\.[A-Za-z*?]+$", max_length=128)]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[a-z0-9.-]+(:\d{1,5})?)$")]
SecurityGroupId = Annotated[str, aws_id("sg", "sg-0a1b2c3d")]


def _may_stand(name: str) -> str:
    known = [one for names in STANDING.values() for one in names]
    if name not in known:
        raise ValueError(f"{name} is nothing that can be taken over; known are {', '.join(known)}")
    return name


#: Memory that Fargate has for so many CPU units: least, most and step, MiB (Amazon ECS, 'Task definition parameters for
#: Fargate': task size). 256 units know 512 MiB, 1 and 2 GiB.
FARGATE_MEMORY = {
    256: (1024, 2048, 1024),
    512: (1024, 4096, 1024),
    1024: (2048, 8192, 1024),
    2048: (4096, 16384, 1024),
    4096: (8192, 30720, 1024),
}


class StackConfig(MigrationConfig, PlaceConfig):
    """A whole stack: what the database commands need and what the declared infrastructure needs."""

    canary_weight: int = Field(0, ge=0, le=100, description="Percent of task requests that the Task Service gets.")
    canary_sticky_seconds: int = Field(
        0,
        ge=0,
        le=604_800,
        description="Between 0 and 100 %, how long the load balancer's cookie keeps a client on the side that answered last, from its last answer on; 0: no cookie. What each choice costs is in the runbook.",
    )
    vpc_id: Annotated[str, aws_id("vpc", "vpc-0a1b2c3d")]
    private_subnet_ids: tuple[SubnetId, ...] = Field(
        min_length=2, description="Private subnets in two availability zones or more: database, DMS, service, VPC link."
    )
    listener_protocol: Literal["HTTPS", "HTTP"] = Field(
        "HTTPS", description="What that listener speaks; tokens pass there, so HTTP only where there is no other."
    )
    listener_port: int = Field(443, ge=1, le=65535, description="Its port.")
    listener_server_name: str | None = Field(
        None,
        validate_default=True,
        pattern=r"^[A-Za-z0-9*.-]+$",
        description="Name in that listener's certificate, which API Gateway checks; needed where it speaks HTTPS.",
    )
    host_headers: tuple[HostPattern, ...] = Field(
        (),
        max_length=3,
        description="Hosts whose task requests the live rule takes, 3 at most beside its paths; none: every host. API Gateway sends the first one.",
    )
    custom_domain_name: str | None = Field(
        None,
        pattern=r"^(\*\.)?([a-z0-9-]+\.)+[a-z]+$",
        max_length=253,
        description="Name of the HTTP API beside its own.",
    )
    custom_domain_certificate_arn: str | None = Field(
        None,
        validate_default=True,
        pattern=ARN.format(service="acm", rest=r"certificate/.+"),
        description="Certificate of that name, in the stack's region.",
    )
    cors_allowed_origins: tuple[Origin, ...] = Field(
        (), description="Origins whose pages may call the HTTP API (https://app.example.com); none: no CORS."
    )
    load_balancer_security_group_id: SecurityGroupId = Field(description="Security group of that load balancer.")
    cognito_user_pool_id: str = Field(
        pattern=r"^[a-z]{2}(-[a-z]+)+-\d_[0-9A-Za-z]+$", description="User pool that issues the tokens."
    )
    cognito_client_ids: tuple[str, ...] = Field(min_length=1, description="App clients whose tokens are accepted.")
    source_host: str = Field(min_length=1, description="Host name of the monolith's PostgreSQL.")
    source_port: int = Field(5432, ge=1, le=65535, description="Its port.")
    source_database: str = Field("myteacher_production", min_length=1, description="Its database.")
    source_instance_identifier: str = Field(min_length=1, description="RDS identifier of the source, for its alarms.")
    source_security_group_id: SecurityGroupId = Field(description="Security group of the source database.")
    operator_security_group_ids: tuple[SecurityGroupId, ...] = Field(
        (),
        description="Security groups of the shells and runners that commands run on: they may reach the target database.",
    )
    operator_reaches_source: bool = Field(
        False,
        description="Whether they get a way to the source database too, where its security group has none for them yet.",
    )
    source_secret_arn: str = Field(
        pattern=ARN.format(service="secretsmanager", rest=r"secret:.+"),
        description="Secret with username, password, host and port of the replication role on the source; DMS reads all four.",
    )
    source_operator_secret_arn: str | None = Field(
        None,
        pattern=ARN.format(service="secretsmanager", rest=r"secret:.+"),
        description="Secret with username and password of the operator's role on the source, for commands without SOURCE_DATABASE_URL.",
    )
    dms_certificate_arn: str | None = Field(
        None,
        pattern=ARN.format(service="dms", rest=r"cert:.+"),
        description="Certificate of DMS with the authorities of RDS, by which its endpoints know the databases (`aws dms import-certificate`).",
    )
    secrets_manager_endpoint_override: str | None = Field(
        None,
        pattern=r"^vpce-[a-z0-9-]+\.secretsmanager\.[a-z0-9-]+\.vpce\.amazonaws\.com$",
        description="DNS name of a VPC endpoint of Secrets Manager, from which DMS reads its secrets where subnets have no way out.",
    )
    service_root_certificate: str = Field(
        "/etc/ssl/certs/rds-global-bundle.pem",
        pattern=r"^/[^\s]+$",
        description="File in the service's image with the authorities of RDS, by which it knows its database.",
    )
    target_database: str = Field(
        "task_service_production", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Target DB."
    )
    db_instance_class: str = Field("db.t3.medium", pattern=r"^db\.[a-z0-9]+\.[a-z0-9]+$", description="RDS class.")
    db_allocated_storage_gb: int = Field(100, ge=20, le=65536, description="gp3 storage, GB.")
    dms_instance_class: str = Field("dms.t3.medium", pattern=r"^dms\.[a-z0-9]+\.[a-z0-9]+$", description="DMS class.")
    dms_allocated_storage_gb: int = Field(50, ge=5, le=6144, description="DMS storage, GB.")
    dms_create_account_roles: bool = Field(
        False, description="Make the two account-wide DMS roles; only where they do not exist yet."
    )
    service_image_tag: str = Field(
        pattern=r"^[\w][\w.-]{0,127}$", description="Image tag to run, one that never moves; a commit's id."
    )
    service_enabled: bool = Field(
        False,
        description="Whether the service has tasks; true once its image is pushed and its secrets have values (`preflight --account`).",
    )
    service_cpu: Literal[256, 512, 1024, 2048, 4096] = Field(512, description="Fargate CPU units of one task.")
    service_memory_mb: int = Field(1024, ge=512, le=30720, description="Fargate memory of one task, MiB.")
    service_min_tasks: int = Field(2, ge=1, le=100, description="Least number of tasks.")
    service_max_tasks: int = Field(10, ge=1, le=100, description="Largest number of tasks.")
    deregistration_delay_seconds: int = Field(
        30, ge=0, le=120, description="Drain of a target; the 300 s default would eat the rollback budget."
    )
    database_alarm_connections: int = Field(80, ge=1, description="RDS connections above this: critical.")
    backup_bucket: str = Field(
        "myteacher-backups", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="S3 bucket of the backups."
    )
    state_bucket: str = Field(
        "myteacher-migration-state",
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="S3 bucket of the journal and the decisions, apart from the dumps.",
    )
    state_lock_days: int = Field(
        0, ge=0, le=3650, description="Days for which Object Lock keeps each object of that bucket; 0: no lock."
    )
    alarm_emails: tuple[str, ...] = Field((), description="Addresses that the alarm topic mails to.")
    existing: dict[Annotated[str, AfterValidator(_may_stand)], str] = Field(
        {},
        alias="import",
        description="What stands in the account already and is taken over as it is, by the program's names: a secret's ARN, else the name. Take them out after that `up`.",
    )

    @field_validator("*")
    @classmethod
    def _one_place(cls, value: Any, info: ValidationInfo) -> Any:
        """Every ARN is of the stack's region, and of the account that the first one names."""
        for one in value.values() if isinstance(value, dict) else ():
            cls._one_place(one, info)
        if not isinstance(value, str) or not value.startswith("arn:"):
            return value
        if value.count(":") < 5:
            raise ValueError("no whole ARN: arn:aws:SERVICE:REGION:ACCOUNT:NAME; copy it anew")
        _, _, _, region, account, _ = value.split(":", 5)
        wanted = info.data.get("region", region)
        if region and region != wanted:
            raise ValueError(f"its region is {region}, that of the stack {wanted}; name the one of that region")
        for name, other in info.data.items():
            if isinstance(other, str) and other.startswith("arn:") and (had := other.split(":")[4]) != account:
                key = cls.model_fields[name].alias
                raise ValueError(f"its account is {account}, that of {key} {had}; name resources of one account")
        return value

    @field_validator("cognito_user_pool_id")
    @classmethod
    def _pool_of_region(cls, pool: str, info: ValidationInfo) -> str:
        region = info.data.get("region")
        if region and not pool.startswith(f"{region}_"):
            raise ValueError(f"the pool is not of the stack's region, {region}; name one of that region")
        return pool

    @field_validator("service_memory_mb")
    @classmethod
    def _fargate(cls, memory: int, info: ValidationInfo) -> int:
        cpu = info.data.get("service_cpu")
        if cpu in FARGATE_MEMORY and not (cpu == 256 and memory == 512):
            least, most, step = FARGATE_MEMORY[cpu]
            if not least <= memory <= most or memory % step:
                also = "512, or " if cpu == 256 else ""
                raise ValueError(
                    f"with serviceCpu {cpu} Fargate has {also}{least} to {most} MiB in steps of {step}; choose one of them"
                )
        return memory

    @field_validator("listener_server_name")
    @classmethod
    def _named(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is None and info.data.get("listener_protocol") == "HTTPS":
            raise ValueError("it is not set, and API Gateway checks the certificate of an HTTPS listener by it")
        return name

    @field_validator("host_headers")
    @classmethod
    def _sent(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if hosts and re.search(r"[*?]", hosts[0]):
            raise ValueError(
                f"{hosts[0]} comes first, and API Gateway sends the first one; begin with one without * and ?"
            )
        # One wildcard is in the paths (Elastic Load Balancing, 'Quotas': 5 condition wildcards a rule).
        if len(re.findall(r"[*?]", "".join(hosts))) > 4:
            raise ValueError("more than 4 wildcards; name the hosts")
        return hosts

    @field_validator("cors_allowed_origins")
    @classmethod
    def _named_for_cookies(cls, origins: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        # API Gateway, 'Configure CORS for HTTP APIs': every origin and credentials exclude each other, as for browsers.
        if "*" in origins and info.data.get("canary_sticky_seconds"):
            raise ValueError(
                "* lets the pages of every origin in, which get no cookie then, and canaryStickySeconds needs one; name the origins, or "
                "set it to 0"
            )
        return origins

    @field_validator("custom_domain_certificate_arn")
    @classmethod
    def _certified(cls, arn: str | None, info: ValidationInfo) -> str | None:
        if (arn is None) != (info.data.get("custom_domain_name") is None):
            raise ValueError("customDomainName and its certificate go together; set both, or neither")
        return arn

    @field_validator("service_image_tag")
    @classmethod
    def _fixed(cls, tag: str) -> str:
        if tag == "latest":
            raise ValueError("latest says not what runs; name one image, such as a commit's id")
        return tag

    @field_validator("operator_reaches_source")
    @classmethod
    def _somebody_reaches(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and not info.data.get("operator_security_group_ids"):
            raise ValueError("true, and operatorSecurityGroupIds names no group that could; name one")
        return wanted

    @field_validator("dms_certificate_arn")
    @classmethod
    def _known_databases(cls, arn: str | None, info: ValidationInfo) -> str | None:
        if arn is None and info.data.get("replication_engine") == "dms":
            raise ValueError(
                "it is not set, and DMS would take any server for the databases; aws dms import-certificate --certificate-identifier rds "
                "--certificate-pem file://<region>-bundle.pem, then its ARN"
            )
        return arn

    @field_validator("service_max_tasks")
    @classmethod
    def _tasks(cls, largest: int, info: ValidationInfo) -> int:
        least = info.data.get("service_min_tasks", 1)
        if largest < least:
            raise ValueError(f"{largest} is below serviceMinTasks ({least}); raise it")
        return largest
