"""What a rehearsal happens in: two databases, an AWS account, two applications, a gateway, users with tokens."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx
import psycopg
import yaml
from psycopg import sql
from pydantic import SecretStr

from components.config import PROJECT, MigrationConfig, migration_config, read_stack_file
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.fill import create_source_schema, populate
from scripts.rehearsal.dms.run import Dms
from scripts.rehearsal.engine.pulumi_cli import EngineName, PulumiDeployer, make_deployer
from scripts.rehearsal.gateway import tokens
from scripts.rehearsal.processes import Processes
from scripts.rehearsal.stage import REHEARSAL_VARIABLE, STAGE, gateway_figures
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.replication import status as replicate_status
from scripts.support.errors import MigrationError, Refused
from scripts.support.process import free_port
from scripts.support.redact import remember_secret
from scripts.support.settings import PROJECT_ROOT, STAGE_VARIABLE, Settings
from scripts.support.wait import wait_until

STACK = "rehearsal"
#: `replicationEngine` of the rehearsed stack.
ReplicationName = Literal["native", "dms"]
LOAD_TEST = PROJECT_ROOT / "tests" / "load" / "task_service_load_test.py"
SUMMED = ("requests", "failed", "acknowledged_writes", "lag_misses", "stale_reads")
SOURCE_DATABASE, TARGET_DATABASE = "myteacher_production", "task_service_production"
#: Limits of the gate for a drill of rollbacks, in milliseconds.
PATIENT = {"p50Ms": 10_000.0, "p95Ms": 20_000.0, "worseLatencyMs": 10_000.0}


class Setting:
    """A context manager: leaving it stops every process and removes the databases; logs and reports stay."""

    def __init__(
        self, directory: Path, *, rows: int, seed: int, engine: EngineName, replication: ReplicationName = "native"
    ) -> None:
        self.directory, self.rows, self.seed, self.engine = directory, rows, seed, engine
        self.replication = replication
        self.logs = directory / "logs"
        self.processes = Processes(self.logs)
        self.aws = EmulatedAws(log=self.logs / "moto.log")
        self.dms = Dms(self.aws, self.processes, directory) if replication == "dms" else None
        servers = self.dms.server_settings() if self.dms else None
        self.source = EmbeddedPostgres(directory / "postgres", "source", settings=servers)
        self.target = EmbeddedPostgres(directory / "postgres", "target", settings=servers)
        self.outputs: dict[str, Any] = {}
        self.rows_made: dict[str, int] = {}
        self.gateway = ""
        self.loading = False
        self.token_files = (directory / "token-1", directory / "token-2")
        self.ledger = directory / "ledger.jsonl"
        self._load_file = directory / "load.json"
        self._load: dict[str, Any] = {}
        self._loads: list[dict[str, Any]] = []
        self._settings: Settings | None = None
        self._running: dict[str, Any] = {}

    def __enter__(self) -> Setting:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.processes.stop_all()
        self.aws.stop()
        for server in (self.source, self.target):
            server.stop()
            if server.log.exists():
                shutil.copyfile(server.log, self.logs / f"postgres-{server.name}.log")
            server.remove()
        shutil.rmtree(self.directory / "postgres", ignore_errors=True)

    @property
    def source_url(self) -> str:
        """The source as the migration's role sees it."""
        return self.source.url(SOURCE_DATABASE)

    @property
    def target_url(self) -> str:
        """The target as the migration's role sees it."""
        return self.target.url(TARGET_DATABASE)

    @property
    def bucket(self) -> str:
        """The declared bucket of the backups."""
        return str(self.outputs["backupBucket"])

    def environment(self) -> dict[str, str]:
        """What the commands get in their environment."""
        return {
            **self.aws.environment(),
            **(self.dms.environment() if self.dms else {}),
            "SOURCE_DATABASE_URL": self.source_url,
            "TARGET_DATABASE_URL": self.target_url,
            "PULUMI_STACK": STACK,
            "TASK_MIGRATION_STATE_DIR": str(self.directory / "state"),
            STAGE_VARIABLE: STAGE,
            REHEARSAL_VARIABLE: str(self.directory / "running.json"),
            "PYTHONPATH": str(PROJECT_ROOT),
        }

    def prepare(
        self, event: Callable[[str], None], *, users: int, rate: float, watch: float, patient: bool = False
    ) -> None:
        """Start and fill everything, deploy the program at weight 0, give the users their tokens.

        Args:
            patient: latency limits that a busy machine does not reach, where it is not latency that is rehearsed.

        Raises:
            Refused: the generated data has fewer users than the load.
            MigrationError: something did not start; naming it.
        """
        with ThreadPoolExecutor() as pool:
            databases = [pool.submit(self._source), pool.submit(self._target)]
            self.aws.start()
            if self.dms:
                self.dms.start()
            for started in databases:
                started.result()
        event(f"two PostgreSQL 16 servers; {sum(self.rows_made.values()):,} rows in the monolith's database")
        config = self._deploy(watch, rate, PATIENT if patient else {})
        event(f"pulumi program deployed on emulated AWS ({self.engine} engine), canaryWeight 0")
        user_ids = self._user_ids(users)
        self._applications(config)
        self._tokens(config, user_ids)
        event("monolith, Task Service and gateway serve; users have tokens of the emulated Cognito")

    def _source(self) -> None:
        self.source.start()
        self.source.execute(f"CREATE DATABASE {SOURCE_DATABASE}")
        with psycopg.connect(self.source_url, autocommit=True) as connection:
            create_source_schema(connection)
            self.rows_made = populate(connection, self.rows, self.seed)
            self._source_password = self._role(connection, MigrationConfig().source_role)
            connection.execute("ANALYZE")

    def _target(self) -> None:
        self.target.start()
        self.target.execute(f"CREATE DATABASE {TARGET_DATABASE}")
        with psycopg.connect(self.target_url, autocommit=True) as connection:
            self._target_password = self._role(connection, MigrationConfig().target_role)

    @staticmethod
    def _role(connection: psycopg.Connection[Any], name: str) -> str:
        """Make an application's role with a random password and what Laravel's role has: rows, no DDL."""
        password = secrets.token_urlsafe(18)
        remember_secret(password)
        role = sql.Identifier(name)
        for statement in (
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)),
            sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role),
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(role),
            sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(role),
        ):
            connection.execute(statement)
        return password

    def _deploy(self, watch: float, rate: float, limits: Mapping[str, float]) -> dict[str, Any]:
        """Staging's own configuration with the emulated account's values and compressed time."""
        world = build_world(self.aws)
        config: dict[str, Any] = {
            **read_stack_file(PROJECT_ROOT / "Pulumi.staging.yaml"),
            **world,
            "serviceImageTag": "rehearsal",
            "replicationEngine": self.replication,
            "watchSeconds": watch,
            # Seconds instead of 30 minutes: a watch has six periods, and the gateway's figures are complete at once.
            "periodSeconds": watch / 6,
            "metricDelaySeconds": 0.2,
            "gates": {
                # A fifth of the requests that 5 % should bring, or the split itself is wrong.
                "minimumRequests": max(3, int(watch * rate * 0.05 / 5)),
                "minimumPeriodRequests": 3,
                "comparisonPeriods": 5,
                # What this machine has left is not what is rehearsed.
                "databaseFreeStorageGb": 0.1,
                **limits,
            },
        }
        config = {key: value for key, value in config.items() if value not in ("", [], None)}
        file = {f"{PROJECT}:{key}": value for key, value in config.items()}
        (self.directory / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": file}, allow_unicode=True))
        secret = secrets.token_urlsafe(18)
        remember_secret(secret)
        directory = self.directory / "engine"
        self._running = {
            "engine_dir": str(directory),
            "config": {**config, "smokeHeaderValue": secret},
            "memory_mb": int(config["serviceMemoryMb"]),
        }
        deployer = make_deployer(self.engine, directory, self._running["config"], self.aws.environment())
        self.engine = "pulumi" if isinstance(deployer, PulumiDeployer) else "embedded"
        self._running["engine"] = self.engine
        self.outputs = deployer.up({}).outputs
        if self.dms:
            self.dms.put_secrets(str(self.outputs["sourceSecretArn"]), self.source_url)
            self.dms.put_secrets(str(self.outputs["dmsTargetSecretArn"]), self.target_url)
        return config

    def _user_ids(self, users: int) -> list[int]:
        with psycopg.connect(self.source_url) as connection:
            found = [
                row[0] for row in connection.execute("SELECT id FROM users ORDER BY id LIMIT %s", (max(users, 2),))
            ]
        if len(found) < users:
            raise Refused(f"the load has {users} users, the generated data {len(found)}; lower --users or raise --rows")
        return found

    def _applications(self, config: Mapping[str, Any]) -> None:
        pool, audience = str(config["cognitoUserPoolId"]), ",".join(config["cognitoClientIds"])
        shared = {
            **self.aws.environment(),
            "PYTHONPATH": str(PROJECT_ROOT),
            "JWKS_URL": f"{self.aws.endpoint_url}/{pool}/.well-known/jwks.json",
            "ISSUER": f"https://cognito-idp.{self.aws.region}.amazonaws.com/{pool}",
            "AUDIENCE": audience,
        }
        own = MigrationConfig()
        source = self.source.url(SOURCE_DATABASE, own.source_role, self._source_password)
        target = self.target.url(TARGET_DATABASE, own.target_role, self._target_password)
        ports = {name: free_port() for name in ("monolith", "task-service", "gateway")}
        guises = {
            "monolith": {"DATABASE_URL": source},
            "task-service": {"DATABASE_URL": target, "MONOLITH_DATABASE_URL": source},
        }
        pids = {}
        for name, variables in guises.items():
            pids[name] = self.processes.start(
                name,
                [sys.executable, "-m", "scripts.rehearsal.app.server", "--guise", name, "--port", str(ports[name])],
                {**shared, **variables},
            )
        targets = {
            self.outputs["monolithTargetGroupArn"]: f"http://127.0.0.1:{ports['monolith']}",
            self.outputs["taskTargetGroupArn"]: f"http://127.0.0.1:{ports['task-service']}",
        }
        self.gateway = f"http://127.0.0.1:{ports['gateway']}"
        self.processes.start(
            "gateway",
            [sys.executable, "-m", "scripts.rehearsal.gateway.server", "--port", str(ports["gateway"])],
            {
                **shared,
                "GATEWAY_API": str(self.outputs["apiId"]),
                "GATEWAY_TARGETS": json.dumps(targets),
                "LISTENER_ARN": str(self.outputs["listenerArn"]),
            },
        )
        self._running |= {
            "gateway": self.gateway,
            "task_service_pid": pids["task-service"],
            "target_pid": self.target.pid,
            "target_directory": str(self.target.data),
        }
        file = self.directory / "running.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(self._running))
        for name in ports:
            wait_until(
                lambda name=name: self._answers(f"http://127.0.0.1:{ports[name]}/health"),  # type: ignore[misc]
                lambda status: status == 200,
                what=f"{name} serves",
                timeout=30.0,
            )

    def _answers(self, url: str) -> int | str:
        self.processes.check()
        try:
            return httpx.get(url, timeout=2.0, trust_env=False).status_code
        except httpx.HTTPError as error:
            return type(error).__name__

    def _tokens(self, config: Mapping[str, Any], user_ids: list[int]) -> None:
        cognito = self.aws.client("cognito-idp")
        password = f"Aa1!{secrets.token_urlsafe(12)}"
        tokens.create_users(cognito, str(config["cognitoUserPoolId"]), user_ids, password)
        given = tokens.tokens_for(cognito, config["cognitoClientIds"][0], user_ids, password)
        tokens.write_tokens_file(self.directory / "tokens.json", given)
        self.api_user = user_ids[-2]
        for file, user in zip(self.token_files, user_ids[-2:], strict=True):
            file.touch(mode=0o600)
            file.write_text(given[user])

    def neighbours(self) -> dict[str, int]:
        """For the API's checks, by option: a user of the group that the first token's user is in, and one of another."""
        query = """
            SELECT (SELECT min(o.id) FROM users o WHERE o.group_id = u.group_id AND o.id <> u.id),
                   (SELECT min(o.id) FROM users o WHERE o.group_id <> u.group_id) FROM users u WHERE u.id = %s
        """
        with psycopg.connect(self.source_url) as connection:
            row = connection.execute(query, (self.api_user,)).fetchone() or (None, None)
        found = {"--member-id": row[0], "--stranger-id": row[1]}
        return {option: int(user) for option, user in found.items() if user is not None}

    def start_load(self, users: int, rate: float) -> None:
        """Start Locust with the same file that a team runs against staging, and wait until all users are at work."""
        options = ("--headless", "--only-summary", "-u", str(users), "-r", str(users), "--host", self.gateway)
        self.processes.start(
            "locust",
            [sys.executable, "-m", "locust", "-f", str(LOAD_TEST), *options],
            {
                "PYTHONPATH": str(PROJECT_ROOT),
                "TASK_LOAD_TOKENS_FILE": str(self.directory / "tokens.json"),
                "TASK_LOAD_LEDGER": str(self.ledger),
                "TASK_LOAD_STATS": str(self._load_file),
                "TASK_LOAD_RATE": str(rate / users),
                "TASK_LOAD_SEED": str(self.seed),
            },
            cwd=PROJECT_ROOT,
        )
        self.loading = True
        wait_until(
            self._at_work,
            lambda at_work: at_work >= users,
            what=f"{users} users of the load are at work",
            timeout=30.0,
        )
        self._load_began = time.time()
        self._requests_before = int(self._load.get("requests", 0))

    def stop_load(self) -> None:
        """End the load, requests under way included, and keep its figures."""
        self.processes.stop("locust", timeout=30.0, how=signal.SIGINT)
        self.loading = False
        figures = self.load_figures()
        elapsed = float(figures["at"]) - self._load_began
        rate = (figures["requests"] - self._requests_before) / elapsed if elapsed > 0 else 0.0
        self._loads.append({**figures, "users": self._users, "seconds": elapsed, "rate": rate})
        self._load_file.unlink()

    def load_total(self) -> dict[str, Any] | None:
        """All loads together: sums, the rate over their time; of percentiles the worse. None without a load."""
        if not self._loads:
            return None
        seconds = sum(load["seconds"] for load in self._loads)
        sums = {key: sum(load[key] for load in self._loads) for key in SUMMED}
        worst = {
            key: max((load[key] for load in self._loads if load[key] is not None), default=None)
            for key in ("p50_ms", "p95_ms")
        }
        rate = sum(load["rate"] * load["seconds"] for load in self._loads) / seconds if seconds else 0.0
        users = min(load["users"] for load in self._loads)
        return {**sums, **worst, "users": users, "rate": round(rate, 2), "seconds": round(seconds, 1)}

    def _at_work(self) -> int:
        self.processes.check()
        self.load_figures()
        self._users = int(self._load.get("users", 0))
        return self._users

    def load_figures(self) -> dict[str, Any]:
        """What the running load measured so far: requests, failed, percentiles in ms."""
        try:
            self._load = json.loads(self._load_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise MigrationError(f"{self._load_file.name} is no JSON: {error}; see locust.log") from None
        return {**self._load, "failed": self._load.get("failures", 0)}

    def stats(self, since: float) -> dict[str, Any]:
        """The gateway's figures from ``since`` (epoch seconds). Raises MigrationError when it does not answer."""
        return gateway_figures(self.gateway, since)

    def lag(self) -> dict[str, Any]:
        """How replication stands, for the live view."""
        if self._settings is None:
            file = self.directory / f"Pulumi.{STACK}.yaml"
            self._settings = Settings(
                # The stack's own, as the engine is in it.
                config=migration_config(read_stack_file(file), file.name),
                stack=None,
                source_url=SecretStr(self.source_url),
                target_url=SecretStr(self.target_url),
                state_dir=self.directory / "state",
            )
        return replicate_status.read(self._settings, fence_timeout=2.0).plain()
