"""Reads the selected stack's configuration into the validated model."""

from __future__ import annotations

import pulumi

from components.config import PROJECT, SECRET_KEYS, ConfigError
from components.config_stack import StackConfig
from components.config_values import check_smoke_value, parse, typed


def _configured() -> set[str]:
    """The keys of this project's namespace that are set, without the namespace."""
    everything = {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    prefix = f"{PROJECT}:"
    return {key.removeprefix(prefix) for key in everything if key.startswith(prefix)}


def read_stack_config() -> StackConfig:
    """The stack's configuration.

    Raises:
        pulumi.RunError: naming each wrong key, its value, the limit and the remedy; Pulumi shows it without a trace.
    """
    config = pulumi.Config(PROJECT)
    origin = f"Pulumi.{pulumi.get_stack()}.yaml"
    values = {key: typed(key, raw) for key in sorted(_configured() - SECRET_KEYS) if (raw := config.get(key))}
    region = pulumi.Config("aws").get("region")
    if region and values.setdefault("region", region) != region:
        # Before all else: each ARN is compared with the region.
        raise pulumi.RunError(
            f"{origin} is not usable:\n  region: value {values['region']!r}; limit: aws:region, {region!r}. Set "
            "both to the region of the stack's resources"
        )
    try:
        parsed = parse(StackConfig, values, origin)
    except ConfigError as error:
        raise pulumi.RunError(str(error)) from None
    allowed = pulumi.Config("aws").get_object("allowedAccountIds")
    account = parsed.cluster_arn.split(":")[4]
    if allowed and account not in {str(one) for one in allowed}:
        raise pulumi.RunError(
            f"{origin} is not usable:\n  clusterArn: its account is {account}; limit: aws:allowedAccountIds, "
            f"{', '.join(map(str, allowed))}. Correct the one that is wrong"
        )
    if not parsed.alarm_emails:
        pulumi.warn(
            f"alarmEmails: none, so nobody is told by an alarm; set it in {origin}, or subscribe to the topic by hand"
        )
    if not parsed.operator_security_group_ids:
        pulumi.warn(
            "operatorSecurityGroupIds: none, so no shell and no runner reaches the target database, and no command of the migration "
            f"works; name the security groups that commands run in, in {origin}"
        )
    return parsed


def read_smoke_header_value() -> pulumi.Output[str]:
    """The secret value of the smoke header.

    Raises:
        pulumi.RunError: it is not set, is kept as plain text, or could be guessed; the text has the command that sets it.
    """
    value = pulumi.Config(PROJECT).require_secret("smokeHeaderValue")
    key = f"{PROJECT}:smokeHeaderValue"
    try:
        # The value itself, now: a fault found inside an Output would come after the first resources were made.
        check_smoke_value(str(pulumi.runtime.get_config(key)), secret=pulumi.runtime.is_config_secret(key))
    except ConfigError as error:
        raise pulumi.RunError(f"Pulumi.{pulumi.get_stack()}.yaml is not usable:\n  {error}") from None
    return value
