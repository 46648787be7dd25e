"""AWS DMS in a rehearsal: the stand-in as a process, what leads to it, and what the databases need for it."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

from scripts.database.connections import parameters
from scripts.embedded import decoding
from scripts.rehearsal.processes import Processes
from scripts.rehearsal.world import EmulatedAws
from scripts.support.process import free_port
from scripts.support.redact import remember_secret
from scripts.support.settings import PROJECT_ROOT


class Dms:
    """The stand-in of a rehearsal. The constructor starts nothing."""

    def __init__(self, aws: EmulatedAws, processes: Processes, directory: Path, lag: float) -> None:
        self._aws, self._processes, self._directory, self._port = aws, processes, directory, free_port()
        self._lag = lag

    @staticmethod
    def server_settings() -> dict[str, str]:
        """What both PostgreSQL servers need: the plugin that DMS reads a slot with. Raises MigrationError without it."""
        return {"dynamic_library_path": decoding.search_path()}

    def environment(self) -> dict[str, str]:
        """The variable that leads boto3's DMS calls to the stand-in (AWS SDKs, 'Service-specific endpoints')."""
        return {"AWS_ENDPOINT_URL_DATABASE_MIGRATION_SERVICE": f"http://127.0.0.1:{self._port}"}

    def start(self) -> None:
        """Start the stand-in in front of the emulated account, and lead this process to both, as it reads DMS's status."""
        self._processes.start(
            "dms",
            [
                *(sys.executable, "-m", "scripts.rehearsal.dms.server", "--port", str(self._port)),
                *("--upstream", self._aws.endpoint_url, "--state", str(self._directory / "dms.json")),
                *("--lag", str(self._lag)),
            ],
            {**self._aws.environment(), "PYTHONPATH": str(PROJECT_ROOT)},
        )
        os.environ.update({**self._aws.environment(), **self.environment()})
        self._processes.serves("dms", f"http://127.0.0.1:{self._port}/")

    def put_secrets(self, arn: str, url: str, role: str) -> None:
        """The value that an operator puts into a database's secret: host and port, the role of replication and its password."""
        values = parameters(url, "a database's URL")
        secret: dict[str, str | int] = {"username": role, "password": secrets.token_urlsafe(18)}
        remember_secret(str(secret["password"]))
        secret |= {"host": values["host"], "port": int(values["port"])}
        self._aws.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(secret))
