"""Where the credentials are at home, against where the stack's file puts everything."""

from __future__ import annotations

from collections.abc import Iterator

from components.config_stack import StackConfig
from scripts.preflight.account.asking import Clients
from scripts.preflight.documents import Check


def checks(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """Whether the credentials are of the account that the file's ARNs name; they are all of one, and of the stack's region."""
    account = config.cluster_arn.split(":")[4]
    caller = aws("sts").get_caller_identity()
    yield Check(
        "place: account",
        "pass" if caller["Account"] == account else "fail",
        f"the credentials are {caller['Arn']}, of account {caller['Account']}; limit: {account}, which the stack's ARNs name",
        "take credentials of that account (AWS_PROFILE), or correct the ARNs; `pulumi config set --path "
        "'aws:allowedAccountIds[0]' ACCOUNT` keeps `up` from any other",
    )
