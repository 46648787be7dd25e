"""Whether the Task Service's tasks could start is seen before anybody asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from components.config_stack import StackConfig
from components.config_values import parse
from components.naming import COGNITO_SECRET, DATABASE_PASSWORD_SECRET, REPOSITORY_NAME
from scripts.preflight.account import service
from scripts.preflight.account.asking import clients
from scripts.preflight.documents import Check
from scripts.rehearsal.release import push_image, put_values
from scripts.rehearsal.world import EmulatedAws
from tests.unit.components.declared_helpers import FILLED

IMAGE, PASSWORD, COGNITO = "service: image", f"service: secret {DATABASE_PASSWORD_SECRET}", f"service: secret {COGNITO_SECRET}"  # fmt: skip


@pytest.fixture
def deployed(aws: EmulatedAws, in_account: None) -> Iterator[EmulatedAws]:
    """What the first `up` makes of it."""
    ecr, secrets = aws.client("ecr"), aws.client("secretsmanager")
    ecr.create_repository(repositoryName=REPOSITORY_NAME)
    for name in (DATABASE_PASSWORD_SECRET, COGNITO_SECRET):
        secrets.create_secret(Name=name)
    yield aws
    ecr.delete_repository(repositoryName=REPOSITORY_NAME, force=True)
    for name in (DATABASE_PASSWORD_SECRET, COGNITO_SECRET):
        secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def found(enabled: bool) -> dict[str, Check]:
    config = parse(StackConfig, {**FILLED, "environment": "staging", "serviceEnabled": enabled})
    return {check.name: check for check in service.checks(config, clients(config.region))}


def test_before_the_first_up_there_is_nothing_to_fail_on(in_account: None) -> None:
    """Prevents a check that stops the very `up` which makes what it misses."""
    seen = found(enabled=False)
    assert {check.status for check in seen.values()} == {"warn"}
    assert "the first `pulumi up` makes the repository" in seen[IMAGE].remedy


@pytest.mark.parametrize(("enabled", "status"), [(False, "warn"), (True, "fail")])
def test_an_image_or_a_value_that_is_missing_is_named_with_what_puts_it_there(
    deployed: EmulatedAws, enabled: bool, status: str
) -> None:
    seen = found(enabled)
    assert {name: check.status for name, check in seen.items()} == {IMAGE: status, PASSWORD: status, COGNITO: status}
    assert "myteacher-task-service:3f2c1a9 is not in the repository" in seen[IMAGE].detail
    assert f"put-secret-value --secret-id {DATABASE_PASSWORD_SECRET}" in seen[PASSWORD].remedy


def test_a_service_that_can_start_passes_and_one_whose_secret_is_being_deleted_does_not(deployed: EmulatedAws) -> None:
    push_image(deployed, "3f2c1a9")
    put_values(deployed, "secret", {})
    assert {check.status for check in found(enabled=True).values()} == {"pass"}
    deployed.client("secretsmanager").delete_secret(SecretId=COGNITO_SECRET, RecoveryWindowInDays=7)
    gone = found(enabled=True)[COGNITO]
    assert gone.status == "fail"
    assert "restore-secret" in gone.remedy
