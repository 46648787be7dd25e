"""AWS DMS by boto3: its tasks started, stopped and deleted. Every wait has a deadline and says what it saw last."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal

from pydantic import SecretStr

from components import dms_settings
from components.config_values import read_stack_file
from scripts.replication.directions import Direction, Login
from scripts.replication.dms import answers
from scripts.replication.dms.observe import TASKS, Observer, asking
from scripts.support import aws
from scripts.support.errors import MigrationError, Refused, TimedOut
from scripts.support.settings import Settings, stack_file
from scripts.support.wait import wait_until

#: What starting a task came to.
Outcome = Literal["running-already", "started", "resumed"]
#: What may lead boto3 elsewhere while this process runs.
_LED_BY = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DATABASE_MIGRATION_SERVICE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
)
#: A task of this size starts in 20 to 60 s; a stop waits for the transactions under way.
START_SECONDS = 300.0
STOP_SECONDS = 300.0
TEST_SECONDS = 180.0
DELETE_SECONDS = 300.0


def region(settings: Settings) -> str | None:
    """The stack's region; None without a stack: boto3 then takes the environment's."""
    if settings.stack is None:
        return None
    path = stack_file(settings.stack)
    found = read_stack_file(path).get("region") if path.exists() else None
    return str(found) if found else None


def build(settings: Settings) -> Dms:
    """What operates the DMS of these settings."""
    with asking("reaching AWS DMS"):
        return _dms(region(settings), tuple(os.environ.get(name) for name in _LED_BY))


@lru_cache(maxsize=4)
def _dms(where: str | None, _led: tuple[str | None, ...]) -> Dms:
    # Making a client reads the service's whole model, and a fence asks for one each time.
    return Dms(aws.client("dms", where, patient=True), aws.client("cloudwatch", where, patient=True))


class Dms(Observer):
    """The two tasks, their endpoints and their instance, operated.

    Args:
        client: boto3 client of `dms`.
        cloudwatch: boto3 client of `cloudwatch`.
        interval: seconds between two looks in a wait.
    """

    def __init__(self, client: Any, cloudwatch: Any, interval: float = 1.0) -> None:
        super().__init__(client, cloudwatch)
        self._interval = interval

    def _secret(self, endpoint: str) -> str:
        """The ARN of an endpoint's secret."""
        return str((self.endpoint(endpoint).get("PostgreSQLSettings") or {}).get("SecretsManagerSecretId", ""))

    def has_value(self, endpoint: str) -> bool:
        """Whether anything was ever put into the secret of an endpoint."""
        return bool(aws.secret_text(self._secret(endpoint), may_lack=True))

    def put_login(self, endpoint: str, role: str, host: str, port: int) -> None:
        """Put a new password for ``role`` into the secret of an endpoint, with where the database is; nobody else knows it."""
        # Of letters, digits, - and _, which AWS DMS takes all.
        aws.put_login(self._secret(endpoint), role, secrets.token_urlsafe(32), host, port)

    def login(self, endpoint: str) -> Login:
        """The role and password in the secret of an endpoint.

        Raises:
            MigrationError: it cannot be read or is no such secret.
            Refused: AWS DMS could not log in with that password.
        """
        arn = self._secret(endpoint)
        user, password = aws.login_of(aws.secret_text(arn), arn)
        if found := dms_settings.refused_characters(password):
            raise Refused(
                f"the password in the secret {arn} holds {' '.join(found)}, the limit is none of {' '.join(dms_settings.REFUSED_IN_PASSWORDS)}: "
                "AWS DMS takes these in no password of PostgreSQL ('Creating source and target endpoints'); put another one in, then "
                "`task-migration schema role --replication`"
            )
        return Login(user, SecretStr(password))

    def check_instance(self) -> dict[str, Any]:
        """The instance, which must be able to work. Raises Refused with what to do."""
        found = self.instance()
        problem = answers.instance_problem(found, self.free_storage_gb())
        if problem:
            raise Refused(problem)
        return found

    def test_connections(self, endpoints: Sequence[str], timeout: float = TEST_SECONDS) -> dict[str, str]:
        """Have the instance connect to each endpoint; ``{identifier: "successful"}``.

        Raises:
            Refused: one cannot be reached; all of them are named, with what DMS said.
            TimedOut: a test did not end.
        """
        instance = str(self.check_instance()["ReplicationInstanceArn"])
        arns = {name: str(self.endpoint(name)["EndpointArn"]) for name in endpoints}
        for name, arn in arns.items():
            # A test that is under way already is as good as one of ours.
            under_way = suppress(self._client.exceptions.InvalidResourceStateFault)
            with asking(f"testing the endpoint {name}"), under_way:
                self._client.test_connection(ReplicationInstanceArn=instance, EndpointArn=arn)

        def observe() -> dict[str, Mapping[str, Any] | None]:
            return {name: self.connection(instance, arn) for name, arn in arns.items()}

        seen = wait_until(
            observe,
            lambda found: all(entry is not None and entry["Status"] != "testing" for entry in found.values()),
            what="the tests of the endpoints to end",
            timeout=timeout,
            interval=self._interval,
        )
        problems = [answers.connection_problem(name, entry) for name, entry in seen.items()]
        if any(problems):
            raise Refused("; ".join(problem for problem in problems if problem))
        return {name: str(entry["Status"]) for name, entry in seen.items() if entry}

    def start(self, direction: Direction, position: str | None, timeout: float = START_SECONDS) -> Outcome:
        """Start a task at the LSN ``position``, or resume it where it was when that is None; wait until it runs.

        Raises:
            MigrationError: it failed; with what DMS says and what to do.
            TimedOut: it does not run after ``timeout`` seconds.
        """
        task = self._steady(direction, timeout)
        if task["Status"] == "running":
            return "running-already"
        arguments: dict[str, Any] = {"StartReplicationTaskType": "resume-processing"}
        if position is not None:
            arguments = {"StartReplicationTaskType": "start-replication", "CdcStartPosition": position}
        with asking(f"starting the task {TASKS[direction]}"):
            self._client.start_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"], **arguments)
        seen = self._wait(
            direction,
            lambda found: found["Status"] in ("running", "failed", "stopped"),
            f"the task {TASKS[direction]} to run",
            timeout,
        )
        if seen["Status"] != "running":
            raise MigrationError(answers.task_problem(seen))
        return "resumed" if position is None else "started"

    def stop(self, direction: Direction, timeout: float = STOP_SECONDS) -> bool:
        """Stop a task and confirm it; returns whether it ran. Raises TimedOut."""
        if self.find(direction) is None:
            return False
        task = self._steady(direction, timeout)
        if task["Status"] != "running":
            return False
        with asking(f"stopping the task {TASKS[direction]}"):
            self._client.stop_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"])
        self._wait(
            direction,
            lambda found: found["Status"] in ("stopped", "failed"),
            f"the task {TASKS[direction]} to stop",
            timeout,
        )
        return True

    def delete(self, direction: Direction, timeout: float = DELETE_SECONDS) -> bool:
        """Stop and delete a task, with the checkpoint it would resume from; returns whether there was one."""
        found = self.find(direction)
        if found is None:
            return False
        self.stop(direction, timeout)
        with asking(f"deleting the task {TASKS[direction]}"):
            self._client.delete_replication_task(ReplicationTaskArn=found["ReplicationTaskArn"])
        wait_until(
            lambda: self.find(direction),
            lambda task: task is None,
            what=f"the task {TASKS[direction]} to be deleted",
            timeout=timeout,
            interval=self._interval,
        )
        return True

    def _steady(self, direction: Direction, timeout: float) -> dict[str, Any]:
        """The task once it is in no passing status."""
        return self._wait(
            direction,
            lambda found: found["Status"] not in answers.PASSING,
            f"the task {TASKS[direction]} to leave its passing status",
            timeout,
        )

    def _wait(
        self, direction: Direction, done: Callable[[dict[str, Any]], bool], what: str, timeout: float
    ) -> dict[str, Any]:
        def observe() -> dict[str, Any]:
            return self.task(direction)

        last: dict[str, Any] = {}

        def judge(found: dict[str, Any]) -> bool:
            last.clear()
            # The settings and mappings are long and say nothing here.
            last.update({key: found.get(key) for key in ("Status", "StopReason", "LastFailureMessage")})
            return done(found)

        try:
            return wait_until(observe, judge, what=what, timeout=timeout, interval=self._interval)
        except TimedOut:
            raise TimedOut(
                f"{what}: not so after {timeout:g} s (the limit); last seen: {last}; look at the task in the DMS console and its log, "
                "then run the command again"
            ) from None
