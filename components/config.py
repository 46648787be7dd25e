"""The one validated model of a stack's configuration.

Everything that declares (``components``) and everything that carries out (``scripts``) reads the same model, so the list of
moved tables, the engine and the limits are written down once, in ``Pulumi.<stack>.yaml``. :mod:`components.config_values` reads
that file; nothing here imports pulumi.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from components.config_gates import GateLimits, Model

PROJECT = "task-migration"
#: Keys that carry a secret and therefore never are a plain field of the model.
SECRET_KEYS = frozenset({"smokeHeaderValue"})
DEFAULT_TABLES = (
    "tasks",
    "task_images",
    "task_tag",
    "scheduled_group_tasks",
    "scheduled_task_executions",
    "scheduled_task_tags",
)
DEFAULT_REFERENCED_TABLES = ("users", "groups", "tags", "task_proposals")
DEFAULT_DROPPED_FOREIGN_KEYS = (
    "tasks_user_id_foreign",
    "tasks_assigned_by_user_id_foreign",
    "tasks_approved_by_user_id_foreign",
    "tasks_source_proposal_id_foreign",
    "task_tag_tag_id_foreign",
    "scheduled_group_tasks_group_id_foreign",
    "scheduled_group_tasks_created_by_foreign",
    "scheduled_group_tasks_assigned_user_id_foreign",
)


#: A task is done at a time, and approved by somebody at a time.
DEFAULT_COLUMN_GROUPS = (("is_completed", "completed_at"), ("approved_at", "approved_by_user_id"))


#: What `--max-load` and `maxLoad` take; :mod:`scripts.database.pace` reads it.
MAX_LOAD = r"^(sessions|commit-ms)=[1-9][0-9]{0,5}(,(sessions|commit-ms)=[1-9][0-9]{0,5})?$"


class ConfigError(Exception):
    """The stack's configuration is not usable. The text names each key, its value, the limit and the remedy."""


def _qualified(schema: str, name: str) -> tuple[str, str]:
    first, dot, table = name.partition(".")
    return (first, table) if dot else (schema, name)


def _identifier(name: str) -> str:
    # PostgreSQL, 'Lexical Structure': identifiers are cut at NAMEDATALEN - 1 = 63 bytes.
    if not name or len(name.encode()) > 63 or "\0" in name:
        raise ValueError(f"{name!r} is no identifier: 1 to 63 bytes; correct the name")
    return name


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("a name stands in it twice; remove one")
    return names


class MigrationConfig(Model):
    """What the database commands need: with both database URLs set, nothing of AWS is asked for."""

    db_schema: str = Field("public", alias="schema", description="Schema of the tables.")
    tables: tuple[str, ...] = Field(
        DEFAULT_TABLES, min_length=1, description="The tables that move, in the plan's order."
    )
    referenced_tables: tuple[str, ...] = Field(
        DEFAULT_REFERENCED_TABLES,
        description="Tables that stay behind and are only referenced; of another schema `schema.table`.",
    )
    dropped_foreign_keys: tuple[str, ...] = Field(
        DEFAULT_DROPPED_FOREIGN_KEYS,
        description="Foreign keys across the border that cannot exist on the target; `table.name` where two tables have a key of one name.",
    )
    carry_triggers: tuple[str, ...] = Field(
        (),
        description="Triggers (`table.trigger`) that the target gets too, after the rows; the others stay behind, and preflight names them.",
    )
    leave_behind: tuple[str, ...] = Field(
        (),
        description="What the target deliberately lacks (`table.name`): policies, checks, indexes, statistics objects, defaults (by column).",
    )
    replication_engine: Literal["dms", "native", "none"] = Field(
        "dms",
        description="What carries changes, both ways: AWS DMS, or PostgreSQL logical replication; none once `finalize` has ended it.",
    )
    dms_lob_max_size_kb: int = Field(
        4096,
        ge=1,
        le=102_400,
        description="Largest row that DMS carries, as JSON text, KB; above what preflight measured. A larger one stops the task.",
    )
    publication: str = Field(
        "task_service_pub", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Publication (native)."
    )
    subscription: str = Field(
        "task_service_sub", pattern=r"^[a-z_][a-z0-9_]{0,50}$", description="Subscription and slot name (native)."
    )
    column_groups: tuple[tuple[str, ...], ...] = Field(
        DEFAULT_COLUMN_GROUPS,
        description="Columns that mean something only together: two writes that did not know of each other never mix them.",
    )
    bookkeeping_columns: tuple[str, ...] = Field(
        ("updated_at",),
        description="Columns that every write sets beside what it is about: that one of them lost is not told by itself.",
    )
    sequence_band_start: int = Field(
        1_000_000_000, ge=1, lt=2**62, description="First id the target hands out; far above the source's ids."
    )
    sequence_band_warn_percent: int = Field(
        80, ge=1, le=99, description="A source sequence past this share of the way to the band is reported."
    )
    slot_stalled_seconds: float = Field(
        60.0, gt=0, description="A slot that does not advance for so long while its log grows is reported as stalled."
    )
    wal_allowance_gb: float = Field(
        10.0, gt=0, description="Disk (GiB) that the log kept for a slot may use on either server; alarms look at 10."
    )
    wal_runway_warn_hours: float = Field(
        24.0, gt=0, description="Less time than this until that disk is used, at the present rate, is reported."
    )
    copy_memory_mb: int = Field(
        512,
        ge=64,
        le=65_536,
        description="Memory of the target for building indexes while `copy` runs, MiB, shared by its jobs (64 each at least).",
    )
    max_load: str | None = Field(
        None,
        pattern=MAX_LOAD,
        description="Where `copy`, `verify`, `backup` and `canary run` pause, as `--max-load`: `sessions=8,commit-ms=20`; each looks at the live server every second.",
    )
    source_role: str = Field("myteacher_app_user", description="The monolith's role.")
    target_role: str = Field("task_service_user", description="The Task Service's role.")
    replication_role: str = Field(
        "task_replication",
        description="The role that replication logs in with, on each side; `replicate start` makes it (DMS: of its secrets).",
    )
    operator_role: str = Field(
        "task_operator",
        description="The role that commands log in with on the target; `schema role --operator` makes it, and puts its password into its secret.",
    )
    password_readers: tuple[str, ...] = Field(
        (),
        description="Roles that may read the password of that role where a subscription keeps it, as `pg_read_all_data` lets them; others are refused.",
    )
    server_root_certificate: str | None = Field(
        None,
        min_length=1,
        description="File on the database servers with the authorities by which one knows the other, or `system`; default: their `ssl_ca_file`.",
    )
    hand_over_ownership: bool = Field(
        False,
        description="Whether `finalize` gives the target's tables to targetRole as its last act, for a service that migrates them itself.",
    )
    canary_ladder: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (5, 25, 50, 100), min_length=1, description="The canary weights, in order, percent."
    )
    watch_seconds: float = Field(1800.0, gt=0, description="How long each canary step is watched; 30 minutes.")
    period_seconds: float = Field(
        60.0, gt=0, description="Length of one period of a watch; on AWS a multiple of 60, CloudWatch's resolution."
    )
    metric_delay_seconds: float = Field(
        120.0, ge=0, description="Figures younger than this are not complete yet and count neither as good nor as bad."
    )
    watch_rounds: int = Field(
        3, ge=1, description="`canary run` watches a step that holds so many times before it stops and asks."
    )
    drain_seconds: float = Field(
        40.0,
        ge=0,
        description="Longest that a request may be under way after the routes moved: API Gateway's 30 s and the rule's spread.",
    )
    require_shadow: bool = Field(
        True, description="The first step wants a `shadow` of the last day in which both sides answered the same."
    )
    verify_max_age_hours: float = Field(
        24.0,
        gt=0,
        description="Each canary step needs a `verify` that matched, began after the copy, and is younger than this.",
    )
    scheduler_names: tuple[str, ...] = Field(
        ("*schedul*", "*cron*"),
        description="`application_name` of the sessions of schedulers and jobs, with wildcards: they may write on one side only.",
    )
    silent_hours: float = Field(
        24.0,
        gt=0,
        le=24,
        description="Nobody but replication wrote on the source at 100 % for so long: else no `finalize`; a scheduler there: else no 100 %.",
    )
    rollback_limit_seconds: float = Field(300.0, gt=0, le=300, description="The rollback budget: 5 minutes at most.")
    gates: GateLimits = Field(default_factory=GateLimits, description="Limits of a canary step.")

    @field_validator("tables", "referenced_tables", "dropped_foreign_keys")
    @classmethod
    def _names(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for name in names:
            # Of a schema or a table and a name in it, the first may have no dot.
            for part in [name] if info.field_name == "tables" else name.split(".", 1):
                _identifier(part)
        return _once(names)

    @field_validator("db_schema", "source_role", "target_role", "replication_role", "operator_role")
    @classmethod
    def _own(cls, name: str, info: ValidationInfo) -> str:
        # PostgreSQL, 'CREATE ROLE', 'CREATE SCHEMA', 'GRANT': to public, in quotes too, is to everybody.
        if name.startswith("pg_") or (name in ("public", "none") and info.field_name != "db_schema"):
            raise ValueError("PostgreSQL keeps this name for itself; name one of your own")
        return _identifier(name)

    @field_validator("carry_triggers", "leave_behind")
    @classmethod
    def _objects(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not all(name.partition(".")[::2]):
                raise ValueError(
                    f"{name!r} names nothing of a table; write table.name, for example tasks.tasks_title_check"
                )
        return _once(names)

    @field_validator("canary_ladder")
    @classmethod
    def _ladder(cls, ladder: tuple[int, ...]) -> tuple[int, ...]:
        if list(ladder) != sorted(set(ladder)) or ladder[-1] != 100:
            raise ValueError(f"{list(ladder)} must rise and end at 100; for example [5, 25, 50, 100]")
        return ladder

    # A field's validator, not the model's: it must speak up beside the other wrong keys, not after them.
    @field_validator("referenced_tables")
    @classmethod
    def _disjoint(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        schema = str(info.data.get("db_schema"))
        moved = {(schema, name) for name in info.data.get("tables", ())}
        both = sorted(name for name in names if _qualified(schema, name) in moved)
        if both:
            raise ValueError(f"{', '.join(both)}: a table either moves or stays; take it out of one list")
        return names

    def qualified(self, name: str) -> tuple[str, str]:
        """Schema and name of an entry of ``referenced_tables``: `schema.table`, or a table of the moved ones' schema."""
        return _qualified(self.db_schema, name)

    @property
    def reverse_publication(self) -> str:
        """Publication on the target for the way back."""
        return f"{self.publication}_reverse"

    @property
    def reverse_subscription(self) -> str:
        """Subscription on the source, and its slot on the target, for the way back."""
        return f"{self.subscription}_reverse"


def aws_id(prefix: str, example: str) -> Any:
    return Field(pattern=rf"^{prefix}-[0-9a-z]+$", description=f"For example {example}.")


ARN = r"^arn:aws[a-z-]*:{service}:[a-z0-9-]+:\d{{12}}:{rest}$"


class PlaceConfig(Model):
    """Where a stack stands, and its live rule: all that an emergency needs, so that no other key can stop one."""

    environment: Literal["staging", "prod"] = Field(description="Which stack this is; production is Multi-AZ.")
    region: str = Field("ap-northeast-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="AWS region.")
    listener_arn: str = Field(
        pattern=ARN.format(service="elasticloadbalancing", rest=r"listener/app/.+"),
        description="The existing HTTPS listener of the load balancer in front of the monolith.",
    )
    monolith_target_group_arn: str = Field(
        pattern=ARN.format(service="elasticloadbalancing", rest=r"targetgroup/.+"),
        description="The monolith's existing target group.",
    )
    live_rule_priority: int = Field(
        110, ge=2, le=50_000, description="Priority of the live rule; the smoke rule stands one above (smaller number)."
    )
    cluster_arn: str = Field(
        pattern=ARN.format(service="ecs", rest=r"cluster/.+"), description="ECS cluster `myteacher-cluster`."
    )
    protected: bool = Field(
        True,
        description="Whether database, buckets and their keys refuse to go; false only to take the stack down (docs/runbook.md).",
    )
    permissions_boundary: bool = Field(
        False, description="Each role bears the boundary that `ci-roles` prints; the deploy role makes no other."
    )
