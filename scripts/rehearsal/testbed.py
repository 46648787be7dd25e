"""What a rehearsal happens in: two databases, an AWS account, two applications, a gateway, users with tokens, a load."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from psycopg import conninfo

from components.config import PROJECT, MigrationConfig
from components.config_stack import StackConfig
from components.config_values import parse, read_stack_file
from scripts.preflight.account import run as account
from scripts.preflight.account.ways import closed
from scripts.rehearsal import tokens, wrong
from scripts.rehearsal.databases import Databases
from scripts.rehearsal.dms.run import Dms
from scripts.rehearsal.documents import MachineShare
from scripts.rehearsal.emulated import reach
from scripts.rehearsal.engine.pulumi_cli import PulumiDeployer, make_deployer
from scripts.rehearsal.load import Load
from scripts.rehearsal.machine import Machine
from scripts.rehearsal.meters import Meters
from scripts.rehearsal.plan import STACK, Plan
from scripts.rehearsal.processes import Processes
from scripts.rehearsal.release import push_image, put_values
from scripts.rehearsal.stage import REHEARSAL_VARIABLE, STAGE, gateway_figures
from scripts.rehearsal.world import OPERATORS, EmulatedAws, build_world
from scripts.support import private
from scripts.support.errors import MigrationError
from scripts.support.process import free_port
from scripts.support.redact import remember_secret
from scripts.support.settings import PROJECT_ROOT, STAGE_VARIABLE
from scripts.support.sides import BOTH, Side

#: Limits of the gate for a drill of rollbacks and for a scenario, in milliseconds: latency that a busy machine does not reach.
PATIENT = {"p50Ms": 10_000.0, **dict.fromkeys(("p95Ms", "p99Ms", "usersP95Ms"), 20_000.0), "worseLatencyMs": 10_000.0}


class Testbed:
    """A context manager: leaving it stops every process and removes the databases; logs and reports stay."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.directory = plan, plan.output
        self.logs = self.directory / "logs"
        self.processes = Processes(self.logs)
        #: Seconds that AWS's minute has here: a watch has at least five; what asks for real minutes gets whole ones.
        self.minute = max(one for one in range(1, 61) if 60 % one == 0 and one <= max(1.0, plan.watch / 5))
        self.aws = EmulatedAws(log=self.logs / "moto.log", minute=self.minute)
        self._meters: Meters | None = None
        #: Of each application and of the gateway: its URL, its command and its variables.
        self._commands: dict[str, tuple[str, list[str], dict[str, str]]] = {}
        self.dms = Dms(self.aws, self.processes, self.directory, plan.dms_lag) if plan.replication == "dms" else None
        self.databases = Databases(self.directory / "postgres", self.dms.server_settings() if self.dms else None)
        self.load = Load(self.processes, self.directory, plan.seed, plan.without_cookies)
        #: `pulumi` or `embedded`, once it is known.
        self.engine: str = plan.engine
        self.outputs: dict[str, Any] = {}
        self.gateway = ""
        #: Seconds for which the live rule's cookie counts.
        self.sticky = 0
        self.token_files = (self.directory / "token-1", self.directory / "token-2")
        #: Everybody's, one a line.
        self.users_file = self.directory / "tokens"
        #: Tokens that must be refused.
        self.refused_files: tuple[Path, ...] = ()
        #: What is wrong with the Task Service's release, while there is one: scripts/rehearsal/app/faults.py.
        self.fault_file = self.directory / "fault.json"
        self.stack_file = self.directory / f"Pulumi.{STACK}.yaml"
        self.state_dir = self.directory / "state"
        #: What the commands' stage reads of this rehearsal: scripts/rehearsal/stage.py.
        self._running: dict[str, Any] = {}
        self.machine = Machine(self._named, self.load.waits)
        #: When there was a load first, in seconds since the epoch.
        self._loaded_at: float | None = None
        self._nowhere = reach.nowhere()

    def __enter__(self) -> Testbed:
        private.directory(self.directory, narrow=True)
        private.directory(self.logs, narrow=True)
        self.machine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.machine.stop()
        self._nowhere.close()
        if self._meters is not None:
            self._meters.stop()
        self.processes.stop_all()
        self.aws.stop()
        self.databases.stop(self.logs)

    @property
    def bucket(self) -> str:
        """The declared bucket of the backups."""
        return str(self.outputs["backupBucket"])

    @property
    def task_group(self) -> str:
        """The Task Service's target group."""
        return str(self.outputs["taskTargetGroupArn"])

    def environment(self) -> dict[str, str]:
        """What the commands get in their environment."""
        return {
            **self.aws.environment(),
            **(self.dms.environment() if self.dms else {}),
            "SOURCE_DATABASE_URL": self.by_groups("source", self.databases.source_url),
            "TARGET_DATABASE_URL": self.by_groups("target", self.databases.target_url),
            "PULUMI_STACK": STACK,
            "TASK_MIGRATION_STATE_DIR": str(self.state_dir),
            STAGE_VARIABLE: STAGE,
            REHEARSAL_VARIABLE: str(self.directory / "running.json"),
            "PYTHONPATH": str(PROJECT_ROOT),
        }

    def by_groups(self, side: Side, url: str, origin: Sequence[str] | None = None) -> str:
        """``url``, if the account's security groups let whoever is in ``origin`` (the operators' without it) through to that side's
        database; else one where nobody answers, as in a VPC."""
        identifier = self.outputs.get(f"{side}InstanceIdentifier")
        if identifier is None:  # nothing is deployed yet
            return url
        ec2, rds = self.aws.client("ec2"), self.aws.client("rds")
        if origin is None:
            by_name = [{"Name": "group-name", "Values": [OPERATORS]}]
            origin = [group["GroupId"] for group in ec2.describe_security_groups(Filters=by_name)["SecurityGroups"]]
        (database,) = rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
        groups = reach.groups_of(database["VpcSecurityGroups"])
        if closed(ec2, origin, groups, int(self.outputs[f"{side}Port"])) is None:
            return url
        return conninfo.make_conninfo(url, port=self._nowhere.getsockname()[1], connect_timeout=3)

    def prepare(self, event: Callable[[str], None]) -> None:
        """Start and fill everything, deploy the program at weight 0, give the users their tokens.

        Raises:
            Refused: the generated data has fewer users than the load.
            MigrationError: something did not start; naming it.
        """
        with ThreadPoolExecutor() as pool:
            started = [
                pool.submit(self.databases.start_source, self.plan.rows, self.plan.seed),
                pool.submit(self.databases.start_target),
            ]
            self.aws.start()
            if self.dms:
                self.dms.start()
            for database in started:
                database.result()
        rows = sum(self.databases.rows_made.values())
        event(f"two PostgreSQL 16 servers; {rows:,} rows in the monolith's database")
        config = self.configure()
        event(f"preflight of the account: {self.look_at_account()} checks, none failed")
        self._deploy(config)
        event(f"pulumi program deployed on emulated AWS ({self.engine} engine), canaryWeight 0")
        users = self.databases.users(self.plan.users)
        self._start_applications(config)
        self._give_tokens(config, users)
        event("monolith, Task Service and gateway serve; users have tokens of the emulated Cognito")

    def start_load(self) -> None:
        """The plan's load, through the gateway; returns when all users are at work."""
        self._loaded_at = self._loaded_at or time.time()
        self.load.start(self.gateway, self.plan.users, self.plan.rate, self.task_group)

    def under_load(self) -> MachineShare | None:
        """What the machine gave since there was a load; None without one."""
        return None if self._loaded_at is None else self.machine.share(self._loaded_at)

    def _named(self) -> dict[str, int | None]:
        """The processes whose CPU is told apart."""
        servers = {f"postgres {side}": self.databases.server(side).pid for side in BOTH}
        return {**self.processes.pids(), **servers, "emulated AWS": self.aws.pid}

    def stats(self, since: float, period: float = 0.0) -> dict[str, Any]:
        """The gateway's figures: :func:`gateway_figures`."""
        return gateway_figures(self.gateway, since, period)

    def schedule_on(self, *guises: str) -> None:
        """From now on these applications run their schedulers, and no other does."""
        private.write(self.directory / "scheduler", " ".join(guises))

    def neighbours(self) -> dict[str, int]:
        """For the API's checks, by option: a user of the group that the first token's user is in, and one of another."""
        member, stranger = self.databases.neighbours(self._api_user)
        found = {"--member-id": member, "--stranger-id": stranger}
        return {option: user for option, user in found.items() if user is not None}

    def look_at_account(self) -> int:
        """What `preflight --account` finds, before the first `up` or after it; the number of its checks.

        Raises:
            MigrationError: one failed, with its remedy.
        """
        config = parse(StackConfig, read_stack_file(self.stack_file), self.stack_file.name)
        found = account.checks(config, self.aws.client)
        if failed := [f"{check.name}: {check.detail}; {check.remedy}" for check in found if check.status == "fail"]:
            raise MigrationError(f"preflight of the account: {'; '.join(failed)}")
        return len(found)

    def configure(self) -> dict[str, Any]:
        """Staging's own configuration with the emulated account's values and compressed time, written as a stack file."""
        watch = self.plan.watch
        config: dict[str, Any] = {
            **read_stack_file(PROJECT_ROOT / "Pulumi.staging.yaml"),
            **build_world(self.aws),
            "serviceImageTag": "rehearsal",
            "replicationEngine": self.plan.replication,
            "watchSeconds": watch,
            # Seconds instead of 30 minutes, and of metrics that come a minute or two late.
            "periodSeconds": self.minute,
            "metricDelaySeconds": self.minute + 1.0,
            "gates": {
                # A fifth of the requests that 5 % should bring, or the split itself is wrong.
                "minimumRequests": max(3, int(watch * self.plan.rate * 0.05 / 5)),
                "minimumPeriodRequests": 3,
                "comparisonPeriods": 5,
                # Each row is asked for some times a minute, so the load itself puts off a large share of the tags.
                "deleteMinimumRows": max(100, int(60 * self.plan.rate)),
                # What this machine has left is not what is rehearsed.
                "databaseFreeStorageGb": 0.1,
                **(PATIENT if self.plan.drill or self.plan.scenario else {}),
            },
            **wrong.in_file(self.plan.wrong),
        }
        if self.plan.sticky is not None:
            config["canaryStickySeconds"] = self.plan.sticky
        elif self.plan.replication == "native":
            config["canaryStickySeconds"] = 0  # the file's is for DMS

        config = {key: value for key, value in config.items() if value not in ("", None)}
        self.sticky = int(config.get("canaryStickySeconds", 0))
        self._write(config)
        wrong.in_account(self.plan.wrong, self.aws, config)
        return config

    def _write(self, config: Mapping[str, Any]) -> None:
        file = {f"{PROJECT}:{key}": value for key, value in config.items()}
        private.write(self.stack_file, yaml.safe_dump({"config": file}, allow_unicode=True))

    def _deploy(self, config: Mapping[str, Any]) -> None:
        """Carry the program out, at weight 0; put in what the service needs, and ask for its tasks."""
        secret = secrets.token_urlsafe(18)
        remember_secret(secret)
        directory, given = self.directory / "engine", {**config, "smokeHeaderValue": secret}
        deployer = make_deployer(self.plan.engine, directory, given, self.aws.environment())
        self.engine = "pulumi" if isinstance(deployer, PulumiDeployer) else "embedded"
        self._running = {
            "engine_dir": str(directory),
            "config": given,
            "engine": self.engine,
        }
        deployer.up({})
        if self.plan.wrong != "image":
            push_image(self.aws, str(config["serviceImageTag"]))
        password = None if self.plan.wrong == "secret" else self.databases.service_password()
        put_values(self.aws, password, {"userPoolId": config["cognitoUserPoolId"]})
        wrong.after_up(self.plan.wrong, self.aws, str(config["environment"]))
        self._write({**config, "serviceEnabled": True})
        self.look_at_account()
        self.outputs = deployer.up({"serviceEnabled": True}).outputs
        if self.dms:
            # The target's gets its value by `schema role --replication`.
            role = MigrationConfig().replication_role
            self.dms.put_secrets(str(config["sourceSecretArn"]), self.databases.source_url, role)

    def _start_applications(self, config: Mapping[str, Any]) -> None:
        """The monolith, the Task Service and the gateway in front of both; returns when all three serve."""
        pool, audience = str(config["cognitoUserPoolId"]), ",".join(config["cognitoClientIds"])
        shared = {
            **self.aws.environment(),
            "PYTHONPATH": str(PROJECT_ROOT),
            "JWKS_URL": f"{self.aws.endpoint_url}/{pool}/.well-known/jwks.json",
            "ISSUER": f"https://cognito-idp.{self.aws.region}.amazonaws.com/{pool}",
            "AUDIENCE": audience,
            "APP_JOBS_LEDGER": str(self.load.ledger),
            "APP_SCHEDULER_FILE": str(self.directory / "scheduler"),
        }
        (service,) = self.aws.client("ecs").describe_services(
            cluster=str(self.outputs["clusterArn"]), services=[str(self.outputs["serviceName"])]
        )["services"]
        groups = service["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"]
        source, target = self.databases.monolith_url(), self.by_groups("target", self.databases.service_url(), groups)
        urls = {name: f"http://127.0.0.1:{free_port()}" for name in ("monolith", "task-service", "gateway")}
        self.gateway = urls["gateway"]
        targets = {
            self.outputs["monolithTargetGroupArn"]: urls["monolith"],
            self.outputs["taskTargetGroupArn"]: urls["task-service"],
        }
        own = {
            "monolith": {"DATABASE_URL": source},
            "task-service": {
                "DATABASE_URL": target,
                "MONOLITH_DATABASE_URL": source,
                "APP_FAULT_FILE": str(self.fault_file),
            },
            "gateway": {
                "GATEWAY_API": str(self.outputs["apiId"]),
                "GATEWAY_TARGETS": json.dumps(targets),
            },
        }
        for name, variables in own.items():
            which = (
                ["scripts.rehearsal.gateway.server"]
                if name == "gateway"
                else ["scripts.rehearsal.app.server", "--guise", name]
            )
            command = [sys.executable, "-m", *which, "--port", urls[name].rpartition(":")[2]]
            self._commands[name] = (urls[name], command, {**shared, **variables})
        self._running["gateway"] = self.gateway
        private.write(self.directory / "running.json", json.dumps(self._running))
        self.start(*own)

    def start(self, *names: str) -> None:
        """Start these of `monolith`, `task-service` and `gateway`, for the first time or again; returns when they serve."""
        pids = {name: self.processes.start(name, *self._commands[name][1:]) for name in names}
        for name in names:
            self.processes.serves(name, f"{self._commands[name][0]}/health")
        if (pid := pids.get("task-service")) is not None:
            # ECS's and RDS's metrics are published from now on.
            if self._meters is not None:
                self._meters.stop()
            task = (pid, int(read_stack_file(self.stack_file)["serviceMemoryMb"]))
            cloudwatch, cpu = self.aws.client("cloudwatch"), self.machine.percent
            self._meters = Meters(cloudwatch, self.minute, self.outputs, task, self.databases, cpu)

    def _give_tokens(self, config: Mapping[str, Any], users: Mapping[int, int]) -> None:
        """Users (with their groups) of the emulated Cognito with tokens: all for the load, the last two for the API's checks."""
        user_ids = list(users)
        cognito = self.aws.client("cognito-idp")
        password = f"Aa1!{secrets.token_urlsafe(12)}"
        tokens.create_users(cognito, str(config["cognitoUserPoolId"]), user_ids, password)
        given = tokens.tokens_for(cognito, config["cognitoClientIds"][0], user_ids, password)
        tokens.write_tokens_file(self.load.tokens, given, users)
        private.write(self.users_file, "\n".join(given.values()))
        self._api_user = user_ids[-2]
        refused = tokens.refused(cognito, given[self._api_user])
        kept = [*(given[user] for user in user_ids[-2:]), *refused.values()]
        self.refused_files = tuple(self.directory / f"token-{name}" for name in refused)
        for file, token in zip((*self.token_files, *self.refused_files), kept, strict=True):
            private.write(file, token)
