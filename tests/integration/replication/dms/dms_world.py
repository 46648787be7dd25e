"""An AWS account with the declared DMS in it, the stand-in in front, and a pair of databases between which it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from components import dms_settings
from scripts.database.connections import parameters
from scripts.embedded import decoding
from scripts.rehearsal.world import EmulatedAws
from scripts.replication import run as replicate
from scripts.replication.directions import DIRECTIONS
from scripts.replication.dms.engine import RECORDS
from scripts.replication.dms.observe import ENDPOINTS, TASKS
from scripts.support.process import free_port
from scripts.support.wait import wait_until
from tests.conftest import Pair


def _pascal(settings: dict[str, Any]) -> dict[str, Any]:
    return {key[0].upper() + key[1:]: value for key, value in settings.items()}


class DmsWorld:
    """One test's DMS; leave it by :meth:`stop`."""

    def __init__(self, aws: EmulatedAws, directory: Path) -> None:
        self.aws, self.directory, self.port = aws, directory, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """What leads boto3 to the account, and its DMS calls to the stand-in."""
        return {
            **self.aws.environment(),
            "AWS_ENDPOINT_URL_DATABASE_MIGRATION_SERVICE": f"http://127.0.0.1:{self.port}",
        }

    def declare(self, pair: Pair, *, lob_max_size_kb: int = 4096, filled: bool = True) -> None:
        """Instance, endpoints and tasks as the program declares them, and the databases' secrets; the target's is as the program
        declares it, without a value, unless ``filled``."""
        config, dms, secrets = pair.settings.config, self.aws.client("dms"), self.aws.client("secretsmanager")
        databases, names = {}, {}
        for side, url in (("source", pair.settings.source()), ("target", pair.settings.target())):
            values = parameters(url, side)
            secret: dict[str, str | int] = {"username": config.replication_role, "password": f"made-up-{side}"}
            secret |= {"host": values["host"], "port": int(values["port"])}
            value = {"SecretString": json.dumps(secret)} if filled or side == "source" else {}
            names[side] = secrets.create_secret(Name=f"{side}/dms", **value)["ARN"]
            databases[side] = values["dbname"]
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET dynamic_library_path = {}").format(
                        sql.Identifier(values["dbname"]), sql.Literal(decoding.search_path())
                    )
                )
                # The pair's own sessions are older than the setting.
        for connection in (pair.source, pair.target):
            connection.execute(sql.SQL("SET dynamic_library_path = {}").format(sql.Literal(decoding.search_path())))
        instance = dms.create_replication_instance(
            ReplicationInstanceIdentifier=dms_settings.INSTANCE_ID,
            ReplicationInstanceClass="dms.t3.medium",
            AllocatedStorage=50,
        )["ReplicationInstance"]["ReplicationInstanceArn"]
        for direction in DIRECTIONS:
            here, there = ("source", "target") if direction == "forward" else ("target", "source")
            slot = config.subscription if direction == "forward" else config.reverse_subscription
            arns = []
            for name, side, kind, settings in (
                (ENDPOINTS[direction][0], here, "source", dms_settings.reader_settings(slot)),
                (ENDPOINTS[direction][1], there, "target", dms_settings.writer_settings()),
            ):
                arns.append(
                    dms.create_endpoint(
                        EndpointIdentifier=name,
                        EndpointType=kind,
                        EngineName="postgres",
                        DatabaseName=databases[side],
                        PostgreSQLSettings={**_pascal(settings), "SecretsManagerSecretId": names[side]},
                    )["Endpoint"]["EndpointArn"]
                )
            dms.create_replication_task(
                ReplicationTaskIdentifier=TASKS[direction],
                SourceEndpointArn=arns[0],
                TargetEndpointArn=arns[1],
                ReplicationInstanceArn=instance,
                MigrationType="cdc",
                TableMappings=dms_settings.table_mappings(RECORDS[direction]),
                ReplicationTaskSettings=dms_settings.task_settings(lob_max_size_kb=lob_max_size_kb),
            )
        replicate.make_roles(pair.settings)

    def start(self) -> None:
        """Start the stand-in, or start it again: it goes on with the tasks that ran."""
        log = self.directory / "dms.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "scripts.rehearsal.dms.server", "--port", str(self.port)),
                    *("--upstream", self.aws.endpoint_url, "--state", str(self.directory / "dms.json")),
                ],
                env={**os.environ, **self.aws.environment()},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        wait_until(self._answers, bool, what=f"the stand-in to answer; {log.read_text()[-500:]}", timeout=60)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the stand-in."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=30)
