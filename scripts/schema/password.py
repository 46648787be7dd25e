"""Where the password of the Task Service's role comes from: the environment, else the stack's secret."""

from __future__ import annotations

from pydantic import SecretStr

from scripts.database.sides import open_side
from scripts.support.errors import Refused
from scripts.support.redact import remember_secret
from scripts.support.settings import Environment, Settings, stack_file


def find(settings: Settings) -> SecretStr | None:
    """``TARGET_ROLE_PASSWORD``, else, while the role is missing and a stack is selected, its secret's value.

    A role that exists is left alone unless the variable is set, so that with both URLs set no AWS and no Pulumi CLI is
    needed once the role is there.

    Raises:
        MigrationError: the stack's secret cannot be read or has no value.
    """
    given = Environment().target_role_password
    if given is not None and given.get_secret_value():
        remember_secret(given.get_secret_value())
        return given
    if settings.stack is None or settings.stage is not None or _role_exists(settings):
        return None
    from scripts.deployment.cli_deployer import CliDeployer  # only here: the other ways need nothing of Pulumi

    try:
        outputs = CliDeployer(settings.stack, stack_file(settings.stack).parent).outputs()
    except Refused:
        # No CLI here: `apply` says what to export.
        return None
    return read_secret(str(outputs["servicePasswordSecretArn"]))


def _role_exists(settings: Settings) -> bool:
    with open_side(settings, "target", "schema") as target:
        query = "SELECT 1 FROM pg_roles WHERE rolname = %s"
        return target.execute(query, (settings.config.target_role,)).fetchone() is not None


def read_secret(arn: str) -> SecretStr:
    """The secret's value, which is the plain password: ECS hands it to the service as it stands.

    Raises:
        MigrationError: it cannot be read or is empty; its value is in no message.
    """
    from scripts.support.aws import secret_text  # only here: with the password given nothing of AWS is needed

    value = secret_text(arn)
    if not value:
        raise Refused(f"the secret {arn} is empty; put the role's password in, as plain text")
    remember_secret(value)
    return SecretStr(value)
