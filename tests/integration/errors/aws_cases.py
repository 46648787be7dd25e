"""AWS that refuses or is away, a stack that is not deployed, a Pulumi that cannot work."""

from __future__ import annotations

from collections.abc import Mapping

from tests.integration.errors.case import Case, Given

_KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "Hidden-pw1",
    "AWS_REGION": "ap-northeast-1",
    "AWS_DEFAULT_REGION": "ap-northeast-1",
    "AWS_ENDPOINT_URL": "{aws}",
}
#: The CLI as far as a command asks it, with outputs of our own.
_CLI = """#!/bin/sh
case "$*" in
*version*) echo v3.250.0 ;;
*output*) cat "{dir}/outputs.json" ;;
*) [ -z "$SAYS" ] || { echo "error: $SAYS" >&2; exit 255; } ;;
esac
"""
_ARN = "arn:aws:secretsmanager:ap-northeast-1:123456789012:secret:"
_LISTENER = '"listenerArn": "arn:aws:elasticloadbalancing:ap-northeast-1:123456789012:listener/app/a/1/2"'


def _s3(
    name: str,
    bucket: str,
    exits: int,
    *says: str,
    command: str = "canary status --explain",
    env: Mapping[str, str | None] | None = None,
) -> Case:
    """The journal in a bucket that refuses so."""
    place = {"TASK_MIGRATION_STATE_DIR": f"s3://{bucket}/state"}
    mend = Given(env={"TASK_MIGRATION_STATE_DIR": "{dir}/state"})
    return Case(name, Given(command, env={**_KEYS, **place, **(env or {})}), exits, says, mend)


def _stack(
    name: str,
    line: str,
    outputs: str,
    exits: int,
    *says: str,
    env: Mapping[str, str | None] | None = None,
    mend: Given | None = None,
) -> Case:
    """A command that asks a stack with these outputs, without URLs in the environment."""
    away = {"SOURCE_DATABASE_URL": None, "TARGET_DATABASE_URL": None, "PATH": "{dir}:/usr/bin:/bin"}
    files = {"pulumi": _CLI, "outputs.json": outputs, "Pulumi.yaml": "name: task-migration\nruntime: python\n"}
    return Case(name, Given(line, env={**_KEYS, **away, **(env or {})}, files=files), exits, says, mend)


CASES: list[Case] = [
    _s3(
        "credentials that have expired",
        "expiredtoken",
        2,
        "the journal s3://expiredtoken/state/journal cannot be used",
        "ExpiredToken",
        "log in again (aws sso login)",
    ),
    _s3(
        "credentials that AWS does not know",
        "invalidaccesskeyid",
        2,
        "InvalidAccessKeyId",
        "AWS does not know these credentials: aws sts get-caller-identity",
    ),
    _s3(
        "a bucket of others",
        "accessdenied",
        10,
        "AccessDenied",
        "the credentials lack this right",
        "docs/runbook.md has each command",
        command="canary status --explain",
    ),
    _s3(
        "a bucket that is not there",
        "nosuchbucket",
        2,
        "NoSuchBucket",
        "there is no bucket of this name: correct it, or make it",
    ),
    _s3(
        "a bucket of another region",
        "permanentredirect",
        2,
        "it stands in another region: export AWS_REGION=<that region>",
    ),
    _s3(
        "a bucket that cannot be",
        "invalidbucketname",
        2,
        "InvalidBucketName",
        "there is no bucket of this name: correct it, or make it",
    ),
    _s3(
        "no credentials",
        "bucket",
        2,
        "Unable to locate credentials",
        "no credentials were found: log in (aws sso login), or export AWS_PROFILE",
        env={"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
    ),
    _s3(
        "half of the credentials",
        "bucket",
        2,
        "Partial credentials",
        "no credentials were found",
        env={"AWS_SECRET_ACCESS_KEY": None},
    ),
    _s3(
        "a profile that is not there",
        "bucket",
        2,
        "The config profile (night) could not be found",
        "AWS_PROFILE",
        env={"AWS_PROFILE": "night", "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
    ),
    _s3(
        "AWS that is away",
        "bucket",
        1,
        "Could not connect to the endpoint URL",
        "AWS was not reached: see to the way there",
        env={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
    ),
    _s3(
        "an endpoint that is none", "bucket", 2, "not-a-url", "AWS_ENDPOINT_URL", env={"AWS_ENDPOINT_URL": "not-a-url"}
    ),
    Case(
        "a backup to a bucket that is not there",
        Given("backup --output s3://nosuchbucket/night", env=_KEYS),
        2,
        ("s3://nosuchbucket failed", "NoSuchBucket", "there is no bucket of this name"),
        state="new",
    ),
    Case(
        "a manifest in a bucket of others",
        Given("backup restore s3://accessdenied/night.json", env=_KEYS),
        10,
        ("reading night.json from s3://accessdenied failed", "AccessDenied", "the credentials lack this right"),
        state="new",
    ),
    _stack(
        "a stack that was never deployed",
        "verify",
        "{}",
        10,
        "the stack has no output sourceSecretArn",
        "deploy it: pulumi up",
    ),
    _stack(
        "a stack without a listener",
        "canary status",
        "{}",
        10,
        "the stack has no output listenerArn",
        "deploy it: pulumi up",
    ),
    _stack(
        "a stack without a rule",
        "canary step",
        "{" + _LISTENER + "}",
        10,
        "the stack has no output liveRuleArn",
        "deploy it: pulumi up",
    ),
    _stack(
        "an empty output",
        "preflight",
        '{"sourceSecretArn": ""}',
        10,
        "the stack has no output sourceSecretArn",
        "pulumi up",
    ),
    _stack(
        "a secret that is not there",
        "schema diff",
        f'{{"sourceSecretArn": "{_ARN}ResourceNotFoundException"}}',
        10,
        "secret:ResourceNotFoundException of the source's operator cannot be read",
        "put username and password in",
    ),
    _stack(
        "a secret that may not be read",
        "copy",
        f'{{"sourceSecretArn": "{_ARN}AccessDeniedException"}}',
        10,
        "AccessDeniedException",
        "the credentials lack this right",
    ),
    _stack(
        "an operator of a stack without a master",
        "schema role --operator",
        f'{{{_LISTENER}, "targetSecretArn": "x"}}',
        10,
        "the stack has no output liveRuleArn",
    ),
    _stack(
        "a stack that is not there",
        "rollback",
        "{}",
        10,
        "stack errors does not exist; make it with `pulumi stack init`",
        env={"SAYS": "no stack named 'errors' found"},
    ),
    _stack(
        "a backend that is away",
        "canary run",
        "{}",
        10,
        "does not answer or refuses us",
        "pulumi whoami -v",
        "rollback --emergency",
        env={"SAYS": "could not open backend: dial tcp 192.0.2.1:443: i/o timeout"},
    ),
    _stack(
        "a Pulumi that is nobody's",
        "canary status",
        "{}",
        10,
        "PULUMI_ACCESS_TOKEN must be set",
        "pulumi whoami -v",
        env={"SAYS": "PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions"},
    ),
]
