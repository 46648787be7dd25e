"""Secrets: whether they are there and have a value; of those that AWS DMS logs in with, whether it can use it. No value is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from components import dms_settings
from components.config_stack import StackConfig
from components.naming import OPERATOR_SECRET, REPLICATION_SECRET
from scripts.preflight.account.asking import Clients, tried
from scripts.preflight.documents import Check, Status
from scripts.support.redact import remember_secret

FIELDS = ("host", "password", "port", "username")


def checks(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """The operator's, which the commands log in with; those of AWS DMS where it is the engine, as nothing else reads them."""
    fill = "`task-migration schema role --operator`"
    yield from tried("secrets: operator", partial(holds_value, "secrets: operator", OPERATOR_SECRET, "warn", fill, aws))
    if config.replication_engine == "dms":
        for side, secret in (("source", config.source_secret_arn), ("target", REPLICATION_SECRET)):
            yield from tried(f"secrets: {side}", partial(_one, config, aws, side, secret))


def holds_value(check: str, name: str, missing: Status, fill: str, aws: Clients) -> Iterator[Check]:
    """Whether a secret has a value, by its description: the value is not read.

    Args:
        missing: what it is when there is none yet.
        fill: what puts one in.
    """
    manager = aws("secretsmanager")
    try:
        found = manager.describe_secret(SecretId=name)
    except manager.exceptions.ResourceNotFoundException:
        yield Check(check, missing, f"{name} does not exist", f"the first `pulumi up` makes it; then {fill}")
        return
    if found.get("DeletedDate"):
        yield Check(
            check,
            "fail",
            f"{name} is being deleted (DeletedDate {found['DeletedDate']:%Y-%m-%d}): nothing reads it, and `pulumi up` makes none of a name "
            "that is taken",
            f"aws secretsmanager restore-secret --secret-id {name}, then its ARN into `import` (docs/runbook.md, 'What exists already'); or, "
            f"where nobody needs it, aws secretsmanager delete-secret --secret-id {name} --force-delete-without-recovery",
        )
    elif "AWSCURRENT" in {stage for stages in found.get("VersionIdsToStages", {}).values() for stage in stages}:
        yield Check(check, "pass", f"{name} has a value")
    else:
        yield Check(check, missing, f"{name} has no value", fill)


def _one(config: StackConfig, aws: Clients, side: str, secret: str) -> Iterator[Check]:
    manager, name = aws("secretsmanager"), f"secrets: {side}"
    make = "`task-migration schema role --replication` puts its value in, after the first `pulumi up`"
    try:
        text = str(manager.get_secret_value(SecretId=secret).get("SecretString") or "")
    except manager.exceptions.ResourceNotFoundException:
        # It does not exist, or has no value: for who reads it the same.
        here = f"{secret} has no value"
        if side == "target":
            yield Check(name, "warn", here, make)
        else:
            yield Check(name, "fail", here, f"put a JSON object with {', '.join(FIELDS)} in")
        return
    except manager.exceptions.InvalidRequestException as error:
        yield Check(name, "fail", f"{secret}: {error}", f"aws secretsmanager restore-secret --secret-id {secret}")
        return
    wrong = list(_wrong(config, side, text))
    yield Check(
        name,
        "fail" if wrong else "pass",
        "; ".join(wrong) or f"{', '.join(FIELDS)}, of {config.replication_role}",
        "put a corrected value in (aws secretsmanager put-secret-value), then `task-migration schema role --replication`",
    )


def _wrong(config: StackConfig, side: str, text: str) -> Iterator[str]:
    """What of a secret's value AWS DMS cannot use (AWS DMS, 'Using secrets', 'Creating source and target endpoints')."""
    try:
        values: Any = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        yield "it is no JSON object"
        return
    missing = [field for field in FIELDS if not values.get(field)]
    if missing:
        yield f"it has no {', '.join(missing)}"
    password = str(values.get("password") or "")
    remember_secret(password or None)
    if found := dms_settings.refused_characters(password):
        yield (
            f"its password holds {' '.join(found)}; limit: none of {' '.join(dms_settings.REFUSED_IN_PASSWORDS)}, which DMS takes in no "
            "password of PostgreSQL"
        )
    if values.get("username") not in (None, "", config.replication_role):
        yield f"its username is {values['username']}; limit: replicationRole, {config.replication_role}"
    if side == "source" and values.get("host") not in (None, "", config.source_host):
        yield f"its host is {values['host']}; limit: sourceHost, {config.source_host}, the name in the server's certificate"
